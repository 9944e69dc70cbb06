"""PERSISTENT RESERVE IN and OUT: the bytes around ``reservation``.

Data of PERSISTENT RESERVE OUT, 24 bytes (SPC-4, 6.16.3)::

    0-7 the initiator's key | 8-15 service action key | 16-19 obsolete | 20: SPEC_I_PT 3, ALL_TG_PT 2, APTPL 0 | 21-23
"""

from __future__ import annotations

from vilab.storage.scsi import reservation as rules
from vilab.storage.scsi.request import Request
from vilab.storage.scsi.sense import bad_cdb, bad_data, illegal
from vilab.storage.scsi.state import Nexus

PARAMETER_BYTES = 24
TYPE_MASK = bytes((0xEA, 0x01))
"""Types 7, 6, 5, 3, 1 and 8 (SPC-4, table 213)."""


def persistent_reserve_in(request: Request) -> bytes:
    state, action = request.state, request.cdb.command.service_action
    generation = (state.generation & 0xFFFF_FFFF).to_bytes(4, "big")
    if action == 2:
        # no CRH, SIP, ATP, PTPL; TMV; TEST UNIT READY and the like pass under any type (ALLOW COMMANDS 001b)
        return request.answer(bytes((0, 8, 0, 0x80 | 0x10)) + TYPE_MASK + bytes(2))
    if action == 0:
        body = b"".join(r.key.to_bytes(8, "big") for r in state.registrations)
    elif action == 1:
        body = _reservation(request)
    else:
        body = b"".join(_full_status(request, r.nexus, r.key) for r in state.registrations)
    return request.answer(generation + len(body).to_bytes(4, "big") + body)


def _reservation(request: Request) -> bytes:
    """16 bytes if there is a reservation; key 0 where all registrants hold it."""
    state = request.state
    if not state.type:
        return b""
    shared = state.type in (rules.WRITE_EXCLUSIVE_ALL, rules.EXCLUSIVE_ACCESS_ALL)
    key = 0 if shared or state.holder is None else rules.key_of(state, state.holder) or 0
    return key.to_bytes(8, "big") + bytes((0, 0, 0, 0, 0, state.type, 0, 0))


def _full_status(request: Request, nexus: Nexus, key: int) -> bytes:
    """MODEL: every initiator's name is shown as an iSCSI TransportID (SPC-4, 7.6.4.6), whatever brought it here."""
    held = rules.holds(request.state, nexus)
    name = nexus.initiator.encode()[:220] + b"\0"
    name = name.ljust(max(20, (len(name) + 3) // 4 * 4), b"\0")
    identifier = bytes((0x45 if ",i,0x" in nexus.initiator else 0x05, 0)) + len(name).to_bytes(2, "big") + name
    head = key.to_bytes(8, "big") + bytes((0, 0, 0, 0, held, request.state.type if held else 0, 0, 0, 0, 0))
    return head + (nexus.port & 0xFFFF).to_bytes(2, "big") + len(identifier).to_bytes(4, "big") + identifier


def persistent_reserve_out(request: Request) -> bytes:
    cdb, state, nexus = request.cdb, request.state, request.nexus
    action, kind = cdb.command.service_action, cdb.value("type")
    if cdb.value("parameter_bytes") != PARAMETER_BYTES or len(request.data) < PARAMETER_BYTES:
        raise illegal(0x1A00)
    if action not in (0, 6, 3) and cdb.value("scope"):
        raise bad_cdb(2, 7)
    data = bytes(request.data[:PARAMETER_BYTES])
    key, action_key = int.from_bytes(data[0:8], "big"), int.from_bytes(data[8:16], "big")
    for bit in (3, 2, 0):
        if data[20] & 1 << bit and (bit != 0 or action in (0, 6)):
            raise bad_data(20, bit)
    if action in (0, 6):
        rules.register(state, nexus, key, action_key, ignore=action == 6)
    elif action == 1:
        rules.reserve(state, nexus, key, kind)
    elif action == 2:
        rules.release(state, nexus, key, kind)
    elif action == 3:
        rules.clear(state, nexus, key)
    else:
        removed = rules.preempt(state, nexus, key, action_key, kind)
        if action == 5:
            request.abort(removed)
    return b""


def _refuse_parts(request: Request) -> None:
    """Reserving for somebody else, or a part of the disk, is long obsolete."""
    for name in ("third_party", "extent"):
        if request.cdb.value(name):
            raise request.cdb.refuse(name)


def reserve6(request: Request) -> bytes:
    _refuse_parts(request)
    rules.reserve6(request.state, request.nexus)
    return b""


def release6(request: Request) -> bytes:
    _refuse_parts(request)
    rules.release6(request.state, request.nexus)
    return b""
