"""Captures in the format of libpcap, which tcpdump and Wireshark read; a tap on any port writes one.

::

    octet 0       4       6       8        12       16       20       24
    | magic       | major | minor | zone   | sigfigs| snaplen| link   |  file: 2, 4, 0, 0, longest frame, 1 = Ethernet
    | seconds     | fraction      | kept   | length | frame ...          each record: 16 octets and what is kept

    magic a1b2c3d4   fraction in microseconds      written in the byte order of the machine that did it
          a1b23c4d   fraction in nanoseconds

A port's tap sees frames exactly as they are on that port, in both directions: without the tag that the switch puts on
for an uplink, with it on the uplink. Source: the tcpdump group's pcap-savefile(5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from vilab.errors import AdminError

MICROSECONDS, NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
ETHERNET = 1
SNAPLEN_BYTES = 262_144
FILE_BYTES, RECORD_BYTES = 24, 16
BILLION = 1_000_000_000

_RECORD = struct.Struct("<IIII")


class Packet(msgspec.Struct, frozen=True):
    """``length_bytes``: on the wire; more than ``frame`` has if the capture kept only its beginning."""

    at_ns: int
    frame: bytes
    length_bytes: int


class PcapWriter:
    """Writes frames to a file that is open for writing in binary mode; a tap when it is called.

    Parameters
    ----------
    nanoseconds : the newer magic; otherwise the fraction is cut to microseconds. snaplen_bytes : kept of a frame.
    """

    def __init__(self, file: BinaryIO, nanoseconds: bool = False, snaplen_bytes: int = SNAPLEN_BYTES) -> None:
        if not 1 <= snaplen_bytes <= SNAPLEN_BYTES:
            raise AdminError(f"A capture keeps 1 to {SNAPLEN_BYTES} octets of a frame, not {snaplen_bytes}.")
        self._file, self._snaplen_bytes = file, snaplen_bytes
        self._unit_ns = 1 if nanoseconds else 1000
        self.frames = 0
        magic = NANOSECONDS if nanoseconds else MICROSECONDS
        file.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, snaplen_bytes, ETHERNET))

    def __call__(self, at_ns: int, frame: bytes) -> None:
        seconds, rest_ns = divmod(at_ns, BILLION)
        kept = frame[: self._snaplen_bytes]
        self._file.write(_RECORD.pack(seconds & 0xFFFFFFFF, rest_ns // self._unit_ns, len(kept), len(frame)) + kept)
        self.frames += 1


def packets_of(file: BinaryIO) -> Iterator[Packet]:
    """The frames of a capture. Raises ``AdminError`` where it is none, or is cut off or damaged."""
    header = file.read(FILE_BYTES)
    order, unit_ns = _form(header)
    snaplen_bytes, link = struct.unpack_from(order + "II", header, 16)
    if link & 0x0FFFFFFF != ETHERNET:
        raise AdminError(f"The capture is not of an Ethernet: its link type is {link & 0x0FFFFFFF}, not {ETHERNET}.")
    record = struct.Struct(order + "IIII")
    longest_bytes = max(SNAPLEN_BYTES, min(snaplen_bytes, 1 << 24))
    number = 0
    while head := file.read(RECORD_BYTES):
        number += 1
        if len(head) < RECORD_BYTES:
            raise AdminError(f"The capture ends within the header of frame {number}.")
        seconds, fraction, kept_bytes, length_bytes = record.unpack(head)
        if kept_bytes > longest_bytes or kept_bytes > length_bytes or fraction * unit_ns >= BILLION:
            raise AdminError(f"Frame {number} of the capture cannot be: {kept_bytes} octets kept of {length_bytes}.")
        frame = file.read(kept_bytes)
        if len(frame) < kept_bytes:
            raise AdminError(f"The capture ends within frame {number}.")
        yield Packet(seconds * BILLION + fraction * unit_ns, frame, length_bytes)


def _form(header: bytes) -> tuple[str, int]:
    """Byte order, and how many nanoseconds the fraction counts in."""
    if len(header) == FILE_BYTES:
        for order in "<>":
            magic, major, minor = struct.unpack_from(order + "IHH", header)
            if magic in (MICROSECONDS, NANOSECONDS):
                if (major, minor) != (2, 4):
                    raise AdminError(f"The capture is in version {major}.{minor} of its format; 2.4 can be read.")
                return order, 1 if magic == NANOSECONDS else 1000
    raise AdminError(
        "This is no capture: it does not begin with the 24 octets of a pcap file (pcapng is another format)."
    )
