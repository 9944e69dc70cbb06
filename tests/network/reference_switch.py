"""What a virtual switch of ESX 3 has to do with one frame, as documented: asked port by port, without tables.

Written from the guide's sentences (each in short beside its rule), not from the switch's code. Slow and obvious. One
uplink at most; no shaping.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

ALL_VLANS = 4095
EVERYBODY = bytes([255] * 6)


@dataclass
class Machine:
    """A connected card. ``accept_*``: what the policy of its port group says after overrides."""

    name: str
    group_vlan: int
    made_with: bytes
    listens_to: bytes
    asks_for_all: bool = False
    multicast: set[bytes] = field(default_factory=set)
    accept_promiscuous: bool = False
    accept_mac_changes: bool = True
    accept_forged: bool = True
    plugged: bool = True


class Parsed(NamedTuple):
    to: bytes
    source: bytes
    tags: list[int]
    """Tag control information, outer first."""
    rest: bytes


def parse(frame: bytes) -> Parsed | None:
    """``None``: the frame ends within a header or its first tag."""
    if len(frame) < 14:
        return None
    to, source, rest, tags = frame[0:6], frame[6:12], frame[12:], []
    while rest[:2] == b"\x81\x00":
        if len(rest) < 6:
            if not tags:
                return None
            break
        tags.append(rest[2] * 256 + rest[3])
        rest = rest[4:]
    return Parsed(to, source, tags, rest)


def build(to: bytes, source: bytes, tags: list[int], rest: bytes) -> bytes:
    return to + source + b"".join(b"\x81\x00" + bytes([tci >> 8, tci & 255]) for tci in tags) + rest


class Outcome(NamedTuple):
    """``delivered``: by name, ``uplink`` for the outside. ``reason``: nobody got it. ``vlan`` ``None``: unknown yet."""

    delivered: dict[str, bytes]
    reason: str | None
    vlan: int | None


def nobody(reason: str, vlan: int | None = None) -> Outcome:
    return Outcome({}, reason, vlan)


def switch(machines: list[Machine], uplink: bool, entry: str, frame: bytes, mtu: int = 1500) -> Outcome:
    """``entry``: the name of the machine that sends, or ``uplink``."""
    sender = next((m for m in machines if m.name == entry), None)
    if sender is not None and not sender.plugged:
        return nobody("port down")
    if len(frame) < 14:
        return nobody("too short")
    # A frame with a tag may be four octets longer than one without (802.3ac).
    if len(frame) > 14 + mtu + 4 * (frame[12:14] == b"\x81\x00"):
        return nobody("too long")
    p = parse(frame)
    if p is None:
        return nobody("too short")
    ids = [tci & 0xFFF for tci in p.tags]

    # "4095: the port group sees traffic on any VLAN, leaving the tags intact." An uplink is such a trunk too.
    # "0: the port group sees only untagged traffic." "1 to 4094: the switch tags what goes out, untags what comes in";
    # a frame that a machine has tagged itself would be encapsulated twice, and is dropped. Id 0 is no VLAN.
    if sender is None or sender.group_vlan == ALL_VLANS:
        if ids and ids[0] == 4095:
            return nobody("reserved VLAN")
        vlan = ids[0] if ids else 0
    else:
        if any(ids) or len(ids) > 1 or p.rest[:2] == b"\x81\x00":
            return nobody("guest tag")
        vlan = sender.group_vlan

    # "Forged transmits, reject: frames whose source is not the address set on the adapter are dropped."
    if sender is not None and not sender.accept_forged and p.source != sender.listens_to:
        return nobody("forged source", vlan)

    def belongs(m: Machine) -> bool:
        return m.plugged and m.group_vlan in (vlan, ALL_VLANS)

    def has(m: Machine, address: bytes) -> bool:
        return belongs(m) and m.listens_to == address and address[0] % 2 == 0 and address != bytes(6)

    # "A virtual machine does not receive a copy of what it has sent", nor a second copy of anything.
    if sender is None and any(has(m, p.source) for m in machines):
        return nobody("came back", vlan)

    group = p.to[0] % 2 == 1
    delivered: dict[str, bytes] = {}
    blocked = False
    for m in machines:
        if m is sender or not belongs(m):
            continue
        # "Promiscuous mode, accept: the adapter detects all frames that are allowed under the VLAN policy."
        sniffs = m.asks_for_all and m.accept_promiscuous
        wanted = sniffs or has(m, p.to) or p.to == EVERYBODY or (group and p.to != EVERYBODY and p.to in m.multicast)
        if not wanted:
            continue
        # "MAC address changes, reject: all inbound frames are dropped", until the address is the first one again.
        if not m.accept_mac_changes and m.listens_to != m.made_with:
            blocked = True
            continue
        delivered[m.name] = seen_in(m.group_vlan, vlan, frame, p)

    # "The switch knows its own ports' addresses. Anything else is outside." "No frame goes from uplink to uplink."
    known = any(has(m, p.to) for m in machines)
    if sender is not None and uplink and (group or not known):
        delivered["uplink"] = seen_in(ALL_VLANS, vlan, frame, p)

    if delivered:
        return Outcome(delivered, None, vlan)
    if blocked:
        return nobody("address changed", vlan)
    if group:
        return nobody("no receiver", vlan)
    if known:
        return nobody("own address", vlan)
    return nobody("unknown address" if sender is None else "no uplink", vlan)


def seen_in(group_vlan: int, vlan: int, frame: bytes, p: Parsed) -> bytes:
    """The frame on a port whose group has that number."""
    if vlan == 0:
        return frame
    outer = p.tags[0] if p.tags else 0
    inner = p.tags[1:]
    if group_vlan == ALL_VLANS:
        return build(p.to, p.source, [(outer & 0xF000) + vlan, *inner], p.rest)
    bare = build(p.to, p.source, inner, p.rest)
    return bare + bytes(max(0, 60 - len(bare))) if p.tags else bare
