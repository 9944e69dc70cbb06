"""A frame taken apart: which octets are which field, layer by layer, and the whole in two words or one sentence.

::

    | destination | source | [8100 TCI]* | type | ARP or RARP
                                                | IPv4 | ICMP
                                                       | UDP, data
                                                       | TCP, options, data
                                                | anything else: data; then padding

The fields are cut by the formats' own lengths; checksums and lengths are judged by ``vilab.network.packets``, whose
sentence stands in a field ``damaged`` where it refuses a packet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from vilab.network import packets
from vilab.network.ethernet import ARP, BROADCAST, IPV4, RARP, TAG_TYPE, text_of, type_of, vlan_of
from vilab.network.packets import PacketError, ip_text

TYPES = {ARP: "ARP", IPV4: "IPv4", RARP: "RARP", 0x8100: "802.1Q", 0x86DD: "IPv6", 0x88B5: "experimental"}
PROTOCOLS = {packets.ICMP: "ICMP", packets.TCP: "TCP", packets.UDP: "UDP"}
OPERATIONS = {1: "who has", 2: "is at", 3: "RARP: who am I", 4: "RARP: you are"}
ECHO = {packets.ECHO_REPLY: "echo reply", packets.ECHO_REQUEST: "echo request", packets.UNREACHABLE: "unreachable"}
FLAGS = ((packets.SYN, "SYN"), (packets.ACK, "ACK"), (packets.PSH, "PSH"), (packets.FIN, "FIN"), (packets.RST, "RST"),
         (packets.URG, "URG"))  # fmt: skip


class Field(msgspec.Struct, frozen=True):
    """``at``: its first octet. ``words``: what it says; ``data`` has it as it is."""

    layer: str
    name: str
    at: int
    data: bytes
    words: str

    @property
    def end(self) -> int:
        return self.at + len(self.data)


Table = tuple[tuple[str, int, Callable[[bytes], str]], ...]


def _number(data: bytes) -> str:
    return f"{int.from_bytes(data, 'big'):,}"


def _hex(data: bytes) -> str:
    return data.hex()


def _type(data: bytes) -> str:
    return TYPES.get(int.from_bytes(data, "big"), "unknown")


def _operation(data: bytes) -> str:
    return f"{int.from_bytes(data, 'big')}, {OPERATIONS.get(int.from_bytes(data, 'big'), 'unknown')}"


def _protocol(data: bytes) -> str:
    return f"{data[0]}, {PROTOCOLS.get(data[0], 'unknown')}"


def _fragment(data: bytes) -> str:
    value = int.from_bytes(data, "big")
    flags = " ".join(
        name for bit, name in ((packets.DO_NOT_FRAGMENT, "DF"), (packets.MORE_FRAGMENTS, "MF")) if value & bit
    )
    return f"{flags or 'none'}, offset {(value & 0x1FFF) * 8}"


def _flags(data: bytes) -> str:
    return ", ".join(name for bit, name in FLAGS if data[0] & bit) or "none"


def _tci(data: bytes) -> str:
    value = int.from_bytes(data, "big")
    return f"VLAN {value & 0xFFF}, priority {value >> 13}"


ETHERNET: Table = (("destination", 6, lambda d: "everybody" if d == BROADCAST else text_of(d)), ("source", 6, text_of))
ARP_FIELDS: Table = (
    ("hardware", 2, lambda d: "Ethernet" if d == b"\0\1" else _number(d)), ("protocol", 2, _type),
    ("address sizes", 2, lambda d: f"{d[0]} and {d[1]} octets"), ("operation", 2, _operation),
    ("sender MAC", 6, text_of), ("sender IP", 4, ip_text), ("target MAC", 6, text_of), ("target IP", 4, ip_text),
)  # fmt: skip
IPV4_FIELDS: Table = (
    ("version, header", 1, lambda d: f"{d[0] >> 4}, {(d[0] & 15) * 4} octets"), ("service", 1, _number),
    ("total length", 2, _number), ("identification", 2, _number), ("fragment", 2, _fragment), ("TTL", 1, _number),
    ("protocol", 1, _protocol), ("checksum", 2, _hex), ("source IP", 4, ip_text), ("destination IP", 4, ip_text),
)  # fmt: skip
ICMP_FIELDS: Table = (
    ("type", 1, lambda d: f"{d[0]}, {ECHO.get(d[0], 'unknown')}"), ("code", 1, _number), ("checksum", 2, _hex),
    ("identifier", 2, _number), ("sequence", 2, _number),
)  # fmt: skip
OTHER_ICMP_FIELDS: Table = (*ICMP_FIELDS[:3], ("rest", 4, _hex))
UDP_FIELDS: Table = (("source port", 2, _number), ("destination port", 2, _number), ("length", 2, _number),
                     ("checksum", 2, _hex))  # fmt: skip
TCP_FIELDS: Table = (
    ("source port", 2, _number), ("destination port", 2, _number), ("sequence", 4, _number),
    ("acknowledgement", 4, _number), ("header", 1, lambda d: f"{(d[0] >> 4) * 4} octets"), ("flags", 1, _flags),
    ("window", 2, _number), ("checksum", 2, _hex), ("urgent", 2, _number),
)  # fmt: skip


def fields(frame: bytes) -> tuple[Field, ...]:
    """From the first octet to the last one, without a gap; a frame that is cut off ends within a field."""
    return tuple(_fields(frame))


def _cut(layer: str, table: Table, frame: bytes, at: int) -> Iterator[Field]:
    for name, size, words in table:
        data = frame[at : at + size]
        if len(data) < size:
            if data:
                yield Field(layer, name, at, data, "cut off")
            return
        yield Field(layer, name, at, data, words(data))
        at += size


def _fields(frame: bytes) -> Iterator[Field]:
    yield from _cut("Ethernet", ETHERNET, frame, 0)
    at = 12
    while frame[at : at + 2] == TAG_TYPE and len(frame) >= at + 4:
        yield Field("802.1Q", "tag", at, frame[at : at + 4], _tci(frame[at + 2 : at + 4]))
        at += 4
    yield from _cut("Ethernet", (("type", 2, _type),), frame, at)
    kind, at = type_of(frame), at + 2
    if at >= len(frame):
        return
    if kind in (ARP, RARP):
        yield from _cut(TYPES[kind], ARP_FIELDS, frame, at)
        yield from _rest("padding", frame, at + 28, len(frame))
    elif kind == IPV4:
        yield from _ipv4(frame, at)
    else:
        yield from _rest("data", frame, at, len(frame))


def _rest(name: str, frame: bytes, at: int, end: int, layer: str = "") -> Iterator[Field]:
    data = frame[at:end]
    if data:
        shown = "".join(chr(octet) if 32 <= octet < 127 else "·" for octet in data[:24])
        text = f": {shown}{'…' * (len(data) > 24)}" if shown.count("·") * 2 < len(shown) else ""
        yield Field(layer or name, name, at, data, f"{len(data)} octets{text}")


def _ipv4(frame: bytes, at: int) -> Iterator[Field]:
    yield from _cut("IPv4", IPV4_FIELDS, frame, at)
    try:
        packet = packets.parse_ipv4(frame[at:])
    except PacketError as error:
        yield from _damaged(frame, at + 20, len(frame), error)
        return
    end = at + 20 + len(packet.options) + len(packet.payload)
    yield from _rest("options", frame, at + 20, at + 20 + len(packet.options), "IPv4")
    at += 20 + len(packet.options)
    table = {packets.ICMP: ICMP_FIELDS, packets.UDP: UDP_FIELDS, packets.TCP: TCP_FIELDS}.get(packet.protocol)
    if table is None or packet.is_fragment:
        yield from _rest("data", frame, at, end)
    else:
        layer, body = PROTOCOLS[packet.protocol], frame[:end]
        if packet.protocol == packets.ICMP and body[at : at + 1] not in (b"\0", b"\x08"):
            table = OTHER_ICMP_FIELDS
        size = sum(size for _, size, _ in table)
        yield from _cut(layer, table, body, at)
        if packet.protocol == packets.TCP and len(body) > at + 12:
            options = max(size, (body[at + 12] >> 4) * 4)
            yield from _rest("options", body, at + size, at + options, layer)
            size = options
        yield from _rest("data", body, at + size, end)
    yield from _rest("padding", frame, end, len(frame))


def _damaged(frame: bytes, at: int, end: int, error: PacketError) -> Iterator[Field]:
    if frame[at:end]:
        yield Field("IPv4", "damaged", at, frame[at:end], str(error))


# --- the whole --------------------------------------------------------------------------------------------------------


def brief(frame: bytes) -> str:
    """What it is, in one or two words."""
    found = {(f.layer, f.name): f for f in fields(frame)}
    if operation := found.get(("ARP", "operation")):
        mine = found[("ARP", "sender IP")].data == found.get(("ARP", "target IP"), operation).data
        return {1: "I am" if mine else "who has?", 2: "is at"}.get(operation.data[1], "ARP")
    if ("RARP", "operation") in found:
        return "RARP"
    if kind := found.get(("ICMP", "type")):
        return {packets.ECHO_REQUEST: "ping?", packets.ECHO_REPLY: "ping!"}.get(kind.data[0], "ICMP")
    return next((name for name in ("UDP", "TCP") if (name, "source port") in found), TYPES.get(type_of(frame), "frame"))


def sentence(frame: bytes) -> str:
    """What it says, with its addresses."""
    found = {(f.layer, f.name): f.words for f in fields(frame)}
    data = {(f.layer, f.name): f.data for f in fields(frame)}
    if ("ARP", "target IP") in found:
        sender, target = found[("ARP", "sender IP")], found[("ARP", "target IP")]
        if data[("ARP", "operation")] == b"\0\2":
            return f"ARP: {sender} is at {found[('ARP', 'sender MAC')]}"
        return f"ARP: {sender} is mine" if sender == target else f"ARP: who has {target}? tell {sender}"
    if ("RARP", "target IP") in found:
        return f"RARP: {text_of(frame[6:12])} is here"
    if ("IPv4", "destination IP") in found:
        way = f"{found[('IPv4', 'source IP')]} to {found[('IPv4', 'destination IP')]}"
        if ("ICMP", "type") in found:
            kind, number = data[("ICMP", "type")][0], found.get(("ICMP", "sequence"), "")
            if number:
                return f"{ECHO[kind].capitalize()} {number}, {way}"
            return f"ICMP {ECHO.get(kind, f'type {kind}')}, {way}"
        for name in ("UDP", "TCP"):
            if (name, "destination port") in found:
                port = int.from_bytes(data[(name, "destination port")], "big")
                return f"{name}: {way}, port {port}"
        return f"IPv4: {way}"
    return f"{TYPES.get(type_of(frame), 'type ' + format(type_of(frame), '04x'))}: {len(frame)} octets"


def tag_words(frame: bytes) -> str:
    """``untagged`` or ``VLAN 10``."""
    vlan = vlan_of(frame)
    return "untagged" if vlan is None else f"VLAN {vlan}"
