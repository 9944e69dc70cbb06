"""PDUs out of a stream of bytes and into one, with their digests.

::

    bytes as TCP brings them ── feed ──> | header | data | header | da...     next ──> (header, data), ... None: wait
                                                              length checked before any of the data is waited for

A reader holds at most one PDU that is not complete (``max_data_bytes`` and the headers) and what was fed to it last.
"""

from __future__ import annotations

import google_crc32c

from vilab.protocols import ReadableBytes
from vilab.storage.iscsi.layout import HEADER, HEADER_BYTES, LENGTH_MASK, WORDS, Opcode
from vilab.storage.scsi.cdb import describe_cdb

PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
"""By the last two bits of a length."""


class PduError(Exception):
    """The stream cannot be read on: the connection has to end. Never leaves a state machine."""


class DataDigestError(PduError):
    """The data of ``header`` came broken."""

    def __init__(self, header: bytes) -> None:
        self.header = header
        super().__init__("the data digest is wrong")


def digest(data: ReadableBytes, *more: ReadableBytes) -> bytes:
    """CRC32C as it goes over the wire: least significant byte first (RFC 7143, 13.1).

    >>> digest(b"123456789").hex()
    '839206e3'
    """
    value: int = google_crc32c.value(bytes(data))
    for piece in more:
        value = google_crc32c.extend(value, bytes(piece))
    return value.to_bytes(4, "little")


class PduReader:
    """``header_digest``, ``data_digest`` and ``max_data_bytes`` count for the next PDU on."""

    def __init__(self, max_data_bytes: int) -> None:
        self.max_data_bytes = max_data_bytes
        self.header_digest = False
        self.data_digest = False
        self._chunk: bytes = b""
        self._at = 0
        self._rest = bytearray()
        self._need = HEADER_BYTES

    @property
    def held_bytes(self) -> int:
        return len(self._chunk) - self._at + len(self._rest)

    def feed(self, data: bytes) -> None:
        if self._at < len(self._chunk):
            self._chunk = self._chunk[self._at :] + data
        elif self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            self._chunk = bytes(self._rest)
            self._rest = bytearray()
        else:
            self._chunk = data
        self._at = 0

    def next(self) -> tuple[bytes, bytes] | None:
        """The next header (without additional ones) and its data; ``None`` until more bytes come."""
        chunk, at = self._chunk, self._at
        have = len(chunk) - at
        if have < HEADER_BYTES:
            self._wait(HEADER_BYTES)
            return None
        header = chunk[at : at + HEADER_BYTES]
        head = HEADER_BYTES + 4 * header[4]
        length = int.from_bytes(header[5:8], "big")
        if length > self.max_data_bytes:
            raise PduError(f"a PDU has {length} bytes of data, more than {self.max_data_bytes}")
        start = head + 4 if self.header_digest else head
        size = start + ((length + 3) & ~3)
        if self.data_digest and length:
            size += 4
        if have < size:
            self._wait(size)
            return None
        if self.header_digest and digest(chunk[at : at + head]) != chunk[at + head : at + start]:
            raise PduError("the header digest is wrong")
        self._at = at + size
        if not length:
            return header, b""
        at += start
        if self.data_digest:
            end = self._at - 4
            if digest(chunk[at:end]) != chunk[end : self._at]:
                raise DataDigestError(header)
        return header, chunk[at : at + length]

    def _wait(self, need: int) -> None:
        if self._at < len(self._chunk):
            self._rest += self._chunk[self._at :] if self._at else self._chunk
        self._chunk, self._at = b"", 0
        self._need = need


class PduWriter:
    """Collects PDUs as pieces of bytes; ``take`` hands over what has come together."""

    def __init__(self) -> None:
        self.header_digest = False
        self.data_digest = False
        self.pieces: list[ReadableBytes] = []
        self.held_bytes = 0

    def add(self, header: bytes, data: ReadableBytes = b"") -> None:
        """``header`` says how long the data are."""
        pieces = self.pieces
        pieces.append(header)
        size = len(data)
        if self.header_digest:
            pieces.append(digest(header))
        if size:
            pieces.append(data)
            padding = PADDING[size & 3]
            if padding:
                pieces.append(padding)
            if self.data_digest:
                pieces.append(digest(data, padding))
        self.held_bytes += 60 + size

    def take(self) -> bytes:
        if not self.pieces:
            return b""
        data = b"".join(self.pieces)
        self.pieces.clear()
        self.held_bytes = 0
        return data


def describe_pdu(header: bytes) -> str:
    """One line of a trace: ``SCSI_COMMAND itt=0x5 ... READ(10) lba=0x0 blocks=8``."""
    byte0, flags, byte2, byte3, lengths, lun, *words = HEADER.unpack(header)
    kind = byte0 & 0x3F
    if kind not in WORDS:
        return f"unknown PDU {kind:#04x}"
    text = Opcode(kind).name + (" immediate" if byte0 & 0x40 and kind < 0x20 else "")
    text += f" flags={flags:#04x}"
    if byte2 or byte3:
        text += f" {byte2:02x} {byte3:02x}"
    if lengths & LENGTH_MASK:
        text += f" data={lengths & LENGTH_MASK}"
    if any(lun):
        text += f" lun={lun.hex()}"
    named = zip(WORDS[kind], words, strict=False)
    text += "".join(f" {name}={word:#x}" for name, word in named if name)
    return text + (f" {describe_cdb(header[32:48])}" if kind == Opcode.SCSI_COMMAND else "")
