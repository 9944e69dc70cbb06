"""Who may do what: RESERVE(6) and persistent reservations.

The six types and what a nexus may do that is not the holder (SPC-4, 5.12.3)::

    type                                registered     not registered    holder
    1  write exclusive                  read           read              who reserved
    3  exclusive access                 nothing        nothing           who reserved
    5  write exclusive, registrants     everything     read              who reserved
    6  exclusive access, registrants    everything     nothing           who reserved
    7  write exclusive, all             everything     read              every registrant
    8  exclusive access, all            everything     nothing           every registrant

A nexus registers a key of 8 bytes first; all it does later it does under that key. A wrong key is RESERVATION
CONFLICT and changes nothing. A registration outlives sessions and resets. MODEL: nothing is kept through a loss of
power (APTPL is refused), as for most disks of the time.
"""

from __future__ import annotations

from collections.abc import Iterable

from vilab.storage.scsi.cdb import Cdb
from vilab.storage.scsi.commands import Access
from vilab.storage.scsi.sense import bad_cdb, bad_data, conflict, illegal
from vilab.storage.scsi.state import Nexus, Registration, UnitState

WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS = 1, 3
WRITE_EXCLUSIVE_REGISTRANTS, EXCLUSIVE_ACCESS_REGISTRANTS = 5, 6
WRITE_EXCLUSIVE_ALL, EXCLUSIVE_ACCESS_ALL = 7, 8
TYPES = frozenset({1, 3, 5, 6, 7, 8})
_FOR_REGISTRANTS = frozenset({5, 6, 7, 8})
_ALL_HOLD = frozenset({7, 8})
_WRITE_EXCLUSIVE = frozenset({1, 5, 7})
MAX_REGISTRATIONS = 1024

PREEMPTED, RELEASED, REGISTRATIONS_PREEMPTED = 0x2A03, 0x2A04, 0x2A05


def key_of(state: UnitState, nexus: Nexus) -> int | None:
    return next((r.key for r in state.registrations if r.nexus == nexus), None)


def holds(state: UnitState, nexus: Nexus) -> bool:
    if state.type in _ALL_HOLD:
        return key_of(state, nexus) is not None
    return state.type != 0 and state.holder == nexus


def check_access(state: UnitState, nexus: Nexus, cdb: Cdb) -> None:
    """``RESERVATION CONFLICT`` if somebody else's reservation keeps this command out."""
    command = cdb.command
    opcode = command.opcode
    if state.reserved_by is not None:
        # SPC-2, table 10. Persistent reservations and the old ones exclude each other, even for the holder.
        passes = command.reserve6_passes or (opcode == 0x1E and not cdb.value("prevent"))
        if (state.reserved_by != nexus or opcode in (0x5E, 0x5F)) and not passes:
            raise conflict()
    elif opcode in (0x16, 0x17) and state.registrations:
        raise conflict()  # SPC-4, 5.12.3: CRH is 0
    if not state.type or holds(state, nexus):
        return
    access: Access = command.access
    starts = opcode == 0x1B and cdb.value("start") and not cdb.value("power")
    if (opcode == 0x1B and not starts) or (opcode == 0x1E and cdb.value("prevent")):
        access = "write"
    if access == "always" or (state.type in _FOR_REGISTRANTS and key_of(state, nexus) is not None):
        return
    if access == "write" or state.type not in _WRITE_EXCLUSIVE:
        raise conflict()


def reserve6(state: UnitState, nexus: Nexus) -> None:
    state.reserved_by = nexus


def release6(state: UnitState, nexus: Nexus) -> None:
    if state.reserved_by == nexus:
        state.reserved_by = None


def _set_key(state: UnitState, nexus: Nexus, key: int) -> None:
    """Register (new), change, or with key 0 unregister, which gives up what the nexus held."""
    registrations = state.registrations
    index = next((i for i, r in enumerate(registrations) if r.nexus == nexus), None)
    if key:
        if index is None:
            if len(registrations) >= MAX_REGISTRATIONS:
                raise illegal(0x5504)
            registrations.append(Registration(nexus, key))
        else:
            registrations[index] = Registration(nexus, key)
        return
    if index is None:
        return
    held = holds(state, nexus)
    del registrations[index]
    if held and (state.type not in _ALL_HOLD or not registrations):
        _end(state, nexus)


def _end(state: UnitState, nexus: Nexus) -> None:
    """There is no reservation any more; whoever had a share in it is told."""
    shared = state.type in _FOR_REGISTRANTS
    state.type, state.holder = 0, None
    if shared:
        _tell(state, (r.nexus for r in state.registrations if r.nexus != nexus), RELEASED)


def _tell(state: UnitState, nexuses: Iterable[Nexus], code: int) -> None:
    for nexus in nexuses:
        state.attend(nexus, code)


def _check_key(state: UnitState, nexus: Nexus, key: int) -> None:
    if key_of(state, nexus) != key or not state.registrations:
        raise conflict()


def register(state: UnitState, nexus: Nexus, key: int, new_key: int, ignore: bool = False) -> None:
    """REGISTER, and REGISTER AND IGNORE EXISTING KEY (``ignore``)."""
    if not ignore and (key_of(state, nexus) or 0) != key:
        raise conflict()
    _set_key(state, nexus, new_key)
    state.generation += 1


def reserve(state: UnitState, nexus: Nexus, key: int, kind: int) -> None:
    _check_key(state, nexus, key)
    if kind not in TYPES:
        raise bad_cdb(2, 3)
    if state.type and not (holds(state, nexus) and state.type == kind):
        raise conflict()
    if not state.type:
        state.type, state.holder = kind, nexus


def release(state: UnitState, nexus: Nexus, key: int, kind: int) -> None:
    """Without a reservation, or by one who does not hold it, nothing happens, and that is GOOD."""
    _check_key(state, nexus, key)
    if not holds(state, nexus):
        return
    if kind != state.type:
        raise illegal(0x2604)
    _end(state, nexus)


def clear(state: UnitState, nexus: Nexus, key: int) -> None:
    _check_key(state, nexus, key)
    others = [r.nexus for r in state.registrations if r.nexus != nexus]
    state.registrations.clear()
    state.type, state.holder = 0, None
    state.generation += 1
    _tell(state, others, PREEMPTED)


def preempt(state: UnitState, nexus: Nexus, key: int, victim: int, kind: int) -> list[Nexus]:
    """Remove the registrations under the key ``victim``, and take the reservation if that key held it.

    Returns the nexuses that were removed, the caller not among them (PREEMPT AND ABORT ends their commands).
    """
    _check_key(state, nexus, key)
    all_hold = state.type in _ALL_HOLD
    takes = state.type != 0 and (not victim if all_hold else victim == key_of(state, state.holder or nexus))
    if takes and kind not in TYPES:
        raise bad_cdb(2, 3)
    if not victim and not takes:
        raise bad_data(8)
    removed = [r.nexus for r in state.registrations if r.key == victim or (takes and all_hold)]
    if not removed:
        raise conflict()
    if not takes and nexus in removed:
        _set_key(state, nexus, 0)
    others = [n for n in removed if n != nexus]
    state.registrations = [r for r in state.registrations if r.nexus not in others]
    state.generation += 1
    _tell(state, others, REGISTRATIONS_PREEMPTED)
    if takes:
        if state.type != kind:
            _tell(state, (r.nexus for r in state.registrations if r.nexus != nexus), RELEASED)
        state.type, state.holder = kind, nexus
    elif all_hold and not state.registrations:
        state.type, state.holder = 0, None
    return others
