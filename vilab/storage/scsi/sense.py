"""Status and sense data: how a target says what became of a command.

Fixed format (SPC-4, 4.5.3), 18 bytes::

    byte   0        2      3-6           7     8-11               12    13     15-17
          +--------+------+-------------+-----+------------------+-----+------+---------------+
          |V 70/71 | key  | information | 10  | command-specific | ASC | ASCQ | key-specific  |
          +--------+------+-------------+-----+------------------+-----+------+---------------+

Descriptor format (4.5.2): response code 72/73, key, ASC, ASCQ, length at byte 7, then descriptors of their own type
(0 information, 1 command-specific, 2 key-specific), which have room for 64-bit block addresses. The D_SENSE bit of
the control mode page chooses.

Key-specific, for ILLEGAL REQUEST: which byte and bit was wrong::

    15: SKSV 0x80 | C/D 0x40 (1: in the CDB, 0: in the data) | BPV 0x08 | bit     16-17: byte
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class Status(IntEnum):
    """SAM-4, 5.3."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class SenseKey(IntEnum):
    """SPC-4, 4.5.6."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


ADDITIONAL = {
    0x0000: "no additional sense information",
    0x0402: "not ready: START UNIT is needed",
    0x0C00: "write error",
    0x0E03: "invalid field in command information unit",
    0x1100: "unrecovered read error",
    0x1A00: "parameter list length error",
    0x1D00: "miscompare during verify",
    0x2000: "invalid operation code",
    0x2100: "block address out of range",
    0x2400: "invalid field in CDB",
    0x2500: "logical unit not supported",
    0x2600: "invalid field in parameter list",
    0x2604: "invalid release of persistent reservation",
    0x2700: "write protected",
    0x2702: "write protected by software (SWP)",
    0x2707: "space allocation failed: write protected",
    0x2900: "power on, reset, or bus device reset",
    0x2901: "power on",
    0x2902: "SCSI bus reset",
    0x2903: "bus device reset function",
    0x2907: "I_T nexus loss",
    0x2A01: "mode parameters changed",
    0x2A03: "reservations preempted",
    0x2A04: "reservations released",
    0x2A05: "registrations preempted",
    0x2A09: "capacity data has changed",
    0x2F00: "commands cleared by another initiator",
    0x3900: "saving parameters not supported",
    0x3F0E: "reported LUNs data has changed",
    0x5504: "insufficient registration resources",
    0x4400: "internal target failure",
}
"""ASC << 8 | ASCQ in words: those that this target uses (SPC-4, annex D.2)."""


class Sense(msgspec.Struct, frozen=True):
    """One piece of sense data, whatever its format on the wire.

    ``code`` is ASC << 8 | ASCQ. ``information`` is most often a block address or an offset. ``byte`` (and ``bit``)
    point at the field that was refused, in the CDB if ``in_cdb``, else in the parameter data.
    """

    key: SenseKey
    code: int
    information: int | None = None
    command_specific: int | None = None
    byte: int | None = None
    bit: int | None = None
    in_cdb: bool = True

    @property
    def asc(self) -> int:
        return self.code >> 8

    @property
    def ascq(self) -> int:
        return self.code & 0xFF

    def _key_specific(self) -> bytes:
        if self.byte is None:
            return bytes(3)
        bit = 0 if self.bit is None else 0x08 | self.bit
        return bytes((0x80 | (0x40 if self.in_cdb else 0) | bit,)) + self.byte.to_bytes(2, "big")

    def fixed(self) -> bytes:
        """18 bytes. Information that needs more than 32 bits is left out (VALID 0), as SPC-4 4.5.3 has it."""
        information = self.information
        valid = information is not None and information < 1 << 32
        return (
            bytes((0xF0 if valid else 0x70, 0, self.key))
            + (information if valid and information is not None else 0).to_bytes(4, "big")
            + bytes((10,))
            + ((self.command_specific or 0) & 0xFFFF_FFFF).to_bytes(4, "big")
            + bytes((self.asc, self.ascq, 0))
            + self._key_specific()
        )

    def descriptor(self) -> bytes:
        rest = b""
        if self.information is not None:
            rest += b"\x00\x0a\x80\x00" + self.information.to_bytes(8, "big")
        if self.command_specific is not None:
            rest += b"\x01\x0a\x00\x00" + self.command_specific.to_bytes(8, "big")
        if self.byte is not None:
            rest += b"\x02\x06\x00\x00" + self._key_specific() + b"\x00"
        return bytes((0x72, self.key, self.asc, self.ascq, 0, 0, 0, len(rest))) + rest

    def describe(self) -> str:
        """In words: ``ILLEGAL REQUEST 24/00: invalid field in CDB (byte 1, bit 7)``."""
        text = f"{self.key.name.replace('_', ' ')} {self.asc:02x}/{self.ascq:02x}"
        text += f": {ADDITIONAL.get(self.code, 'unknown additional sense code')}"
        if self.byte is not None:
            where = f"byte {self.byte}" + ("" if self.bit is None else f", bit {self.bit}")
            text += f" ({where}{'' if self.in_cdb else ' of the data'})"
        if self.information is not None:
            text += f" (information {self.information:#x})"
        return text


def _pointer(data: bytes) -> tuple[int | None, int | None, bool]:
    if len(data) < 3 or not data[0] & 0x80:
        return None, None, True
    return int.from_bytes(data[1:3], "big"), data[0] & 7 if data[0] & 8 else None, bool(data[0] & 0x40)


def parse_sense(data: bytes) -> Sense | None:
    """Sense data of either format; ``None`` for anything else."""
    if len(data) >= 14 and data[0] & 0x7E == 0x70:
        byte, bit, in_cdb = _pointer(data[15:18])
        return Sense(
            key=SenseKey(data[2] & 0xF) if data[2] & 0xF != 0xC else SenseKey.NO_SENSE,
            code=data[12] << 8 | data[13],
            information=int.from_bytes(data[3:7], "big") if data[0] & 0x80 else None,
            command_specific=int.from_bytes(data[8:12], "big") or None,
            byte=byte,
            bit=bit,
            in_cdb=in_cdb,
        )
    if len(data) < 8 or data[0] & 0x7E != 0x72:
        return None
    information = command_specific = None
    byte, bit, in_cdb = None, None, True
    rest = data[8 : 8 + data[7]]
    while len(rest) >= 2:
        body = rest[2 : 2 + rest[1]]
        if rest[0] == 0 and len(body) >= 10:
            information = int.from_bytes(body[2:10], "big")
        elif rest[0] == 1 and len(body) >= 10:
            command_specific = int.from_bytes(body[2:10], "big")
        elif rest[0] == 2:
            byte, bit, in_cdb = _pointer(body[2:5])
        rest = rest[2 + rest[1] :]
    key = SenseKey(data[1] & 0xF) if data[1] & 0xF != 0xC else SenseKey.NO_SENSE
    return Sense(key, data[2] << 8 | data[3], information, command_specific, byte, bit, in_cdb)


class ScsiError(Exception):
    """A command ends with CHECK CONDITION and this sense data, or with another status. Never leaves the target."""

    def __init__(self, sense: Sense | None, status: Status = Status.CHECK_CONDITION) -> None:
        self.sense = sense
        self.status = status
        super().__init__(sense.describe() if sense else status.name)


def illegal(code: int, byte: int | None = None, bit: int | None = None, in_cdb: bool = True) -> ScsiError:
    """ILLEGAL REQUEST, with the place of the field that was refused."""
    return ScsiError(Sense(SenseKey.ILLEGAL_REQUEST, code, byte=byte, bit=bit, in_cdb=in_cdb))


def bad_cdb(byte: int, bit: int | None = None) -> ScsiError:
    return illegal(0x2400, byte, bit)


def bad_data(byte: int, bit: int | None = None) -> ScsiError:
    return illegal(0x2600, byte, bit, in_cdb=False)


def conflict() -> ScsiError:
    """Somebody else's reservation is in the way: a status of its own, no sense data."""
    return ScsiError(None, Status.RESERVATION_CONFLICT)
