"""What a vmxnet3 does to frames so that its driver does not have to: checksums, segments, the VLAN tag.

::

    transmit  CHECKSUM      | headers | .. sum of the pseudo header .. |  ──>  | headers | .. checksum .. |
                                      ^ header length     ^ offset
    transmit  SEGMENTATION  | headers |        up to 64 KB         |
                            | headers | MSS | | headers | MSS | | headers | rest |
                               IP: length, identification + n, checksum (v4); payload length (v6)
                               TCP: sequence + n * MSS, checksum; FIN and PSH in the last, CWR in the first only
    receive                 what the IP header and the TCP or UDP header are worth, as bits of a completion

The one's complement sum of 16-bit words is a remainder: 2^16 = 1 modulo ffff, so the words need not be taken apart.
``checksum = ffff - n mod ffff``, where 0 and ffff are the same sum (RFC 1071, 2). Sources: RFC 791, 768, 793, 2460.
"""

from __future__ import annotations

import struct

from vilab.devices.vmxnet3_layout import FRAGMENT, IP_GOOD, L4_GOOD, TCP, UDP, V4, V6
from vilab.network.ethernet import HEADER_BYTES, TAG_BYTES, TAG_TYPE

MOST_SEGMENTS = 2048
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_TCP, _UDP = 6, 17
_FIN_PSH, _CWR = 0x09, 0x80
_TCP_BYTES, _UDP_BYTES, _IPV6_BYTES = 20, 8, 40


def _sum(data: bytes) -> int:
    """One's complement sum modulo ffff: 0 where the sum is 0 or ffff."""
    return int.from_bytes(data if len(data) % 2 == 0 else data + b"\0", "big") % 0xFFFF


def _network_at(frame: bytes) -> int:
    """Where the network header begins, behind the tags."""
    at = HEADER_BYTES
    while frame[at - 2 : at] == TAG_TYPE and at < HEADER_BYTES + 2 * TAG_BYTES:
        at += TAG_BYTES
    return at


def checksummed(frame: bytes, start: int, offset: int) -> bytes | None:
    """The frame with the checksum of everything from ``start`` on at ``offset``. ``None``: it is not inside."""
    if not start <= offset <= len(frame) - 2:
        return None
    check = 0xFFFF - _sum(frame[start:])  # never 0, which UDP takes for none
    return frame[:offset] + check.to_bytes(2, "big") + frame[offset + 2 :]


def segmented(frame: bytes, header_bytes: int, mss: int) -> list[bytes] | None:
    """TCP segments with at most ``mss`` bytes of data each. ``None``: it is no TCP with headers of that length, or
    would be more than ``MOST_SEGMENTS``."""
    ip = _network_at(frame)
    kind = frame[ip - 2 : ip]
    if kind == _IPV4 and len(frame) >= ip + 20:
        tcp, protocol = ip + (frame[ip] & 0xF) * 4, frame[ip + 9]
        version = 4 if tcp >= ip + 20 else 0
    elif kind == _IPV6 and len(frame) >= ip + _IPV6_BYTES:
        tcp, protocol, version = ip + _IPV6_BYTES, frame[ip + 6], 6
    else:
        return None
    if frame[ip] >> 4 != version or protocol != _TCP or len(frame) < tcp + _TCP_BYTES or not mss:
        return None
    offset_bytes = (frame[tcp + 12] >> 4) * 4
    data = frame[header_bytes:]
    bad_header = offset_bytes < _TCP_BYTES or tcp + offset_bytes != header_bytes or header_bytes > len(frame)
    if bad_header or len(data) > mss * MOST_SEGMENTS:
        return None
    header = bytearray(frame[:header_bytes])
    addresses = bytes(header[ip + 12 : ip + 20] if version == 4 else header[ip + 8 : ip + _IPV6_BYTES])
    identification = int.from_bytes(header[ip + 4 : ip + 6], "big")
    sequence, flags = int.from_bytes(header[tcp + 4 : tcp + 8], "big"), header[tcp + 13]
    made = []
    starts = range(0, len(data), mss) or range(1)
    for number, start in enumerate(starts):
        piece = data[start : start + mss]
        length = offset_bytes + len(piece)
        if version == 4:
            struct.pack_into(">HH", header, ip + 2, tcp - ip + length, identification + number & 0xFFFF)
            header[ip + 10 : ip + 12] = b"\0\0"
            struct.pack_into(">H", header, ip + 10, 0xFFFF - (_sum(bytes(header[ip:tcp])) or 0xFFFF))
        else:
            struct.pack_into(">H", header, ip + 4, length)
        struct.pack_into(">I", header, tcp + 4, sequence + start & 0xFFFF_FFFF)
        last = start + mss >= len(data)
        header[tcp + 13] = flags & ~(0 if last else _FIN_PSH) & ~(_CWR if number else 0)
        header[tcp + 16 : tcp + 18] = b"\0\0"
        total = _sum(addresses) + _TCP + length + _sum(bytes(header[tcp:])) + _sum(piece)
        struct.pack_into(">H", header, tcp + 16, 0xFFFF - (total % 0xFFFF or 0xFFFF))
        made.append(bytes(header) + piece)
    return made


def checks(frame: bytes) -> int:
    """Bits of an rx completion: what it is, and which of its checksums are right; 0 for what is not IP.

    MODEL: UDP without a checksum, fragments, and IPv6 with extension headers are left to the driver.
    """
    at = _network_at(frame)
    kind = frame[at - 2 : at]
    if kind == _IPV4:
        return _checks_v4(frame, at)
    return _checks_v6(frame, at) if kind == _IPV6 else 0


def _checks_v4(frame: bytes, at: int) -> int:
    if len(frame) < at + 20 or frame[at] >> 4 != 4:
        return 0
    head, total = (frame[at] & 0xF) * 4, int.from_bytes(frame[at + 2 : at + 4], "big")
    if head < 20 or not head <= total <= len(frame) - at or _sum(frame[at : at + head]):
        return V4
    if int.from_bytes(frame[at + 6 : at + 8], "big") & 0x3FFF:
        return V4 | IP_GOOD | FRAGMENT
    return V4 | IP_GOOD | _checks_l4(frame[at + 9], frame[at + 12 : at + 20], frame[at + head : at + total])


def _checks_v6(frame: bytes, at: int) -> int:
    if len(frame) < at + _IPV6_BYTES or frame[at] >> 4 != 6:
        return 0
    start = at + _IPV6_BYTES
    length = int.from_bytes(frame[at + 4 : at + 6], "big")
    if length > len(frame) - start:
        return V6
    return V6 | _checks_l4(frame[at + 6], frame[at + 8 : start], frame[start : start + length])


def _checks_l4(protocol: int, addresses: bytes, data: bytes) -> int:
    if protocol == _TCP and len(data) >= _TCP_BYTES:
        return TCP | _good(protocol, addresses, data)
    if protocol == _UDP and len(data) >= _UDP_BYTES:
        length = int.from_bytes(data[4:6], "big")
        if _UDP_BYTES <= length <= len(data) and data[6:8] != b"\0\0":
            return UDP | _good(protocol, addresses, data[:length])
        return UDP
    return 0


def _good(protocol: int, addresses: bytes, data: bytes) -> int:
    return 0 if (_sum(addresses) + protocol + len(data) + _sum(data)) % 0xFFFF else L4_GOOD
