"""The commands that the target knows, as a table: the datasheet that decoding, checks and lessons share.

A command descriptor block (CDB) is a byte string whose first byte, the operation code, says how long it is: group
code (the upper three bits) 0: 6 bytes, 1 and 2: 10, 4: 16, 5: 12 (SPC-4, 4.2.5). Some operation codes are families
whose members the *service action* tells apart. ::

    READ(10)   byte 0      1                          2 .. 5     6       7 .. 8    9
              +------+-----------+-----+-----+------+-----------+-------+---------+---------+
              |  28  | RDPROTECT | DPO | FUA |      | LBA       | group | blocks  | control |
              +------+-----------+-----+-----+------+-----------+-------+---------+---------+
                        7 .. 5      4     3

A field is written ``name byte.bit`` or ``name byte.high-byte.low``, whole bytes ``name first:last``:
``"protect 1.7-1.5 dpo 1.4 lba 2:5"``. Sources: SPC-4 chapter 6 and SBC-3 chapter 5 for the layouts, SPC-4 table 13,
SPC-2 table 10 and SBC-3 tables 13-14 for what a reservation does to each.

MODEL: what is not here gets 20/00, also where SBC-3 asks for it: FORMAT UNIT, SANITIZE, WRITE ATOMIC, EXTENDED COPY
and RECEIVE COPY RESULTS (a disk file cannot promise the first three, and nobody here needs the others).
"""

from __future__ import annotations

from typing import Literal

import msgspec

Access = Literal["always", "read", "write"]
"""Under somebody's persistent reservation, for those outside it: ``always`` lets pass, ``read`` is refused under
exclusive access, ``write`` also under write exclusive."""

DataOut = Literal["", "blocks", "one block", "twice the blocks", "if compared", "parameter list"]
"""What the initiator sends along. ``if compared``: as BYTCHK says."""


class Field(msgspec.Struct, frozen=True):
    """Bits ``high`` of byte ``first`` down to ``low`` of byte ``last``, most significant first; ``most``: all set."""

    name: str
    first: int
    high: int
    last: int
    low: int
    most: int

    def of(self, raw: bytes) -> int:
        return int.from_bytes(raw[self.first : self.last + 1], "big") >> self.low & self.most

    def mask(self, length: int) -> int:
        """The field's bits set, in a number that has the CDB's bytes big-endian."""
        return self.most << self.low + 8 * (length - 1 - self.last)


def _field(name: str, where: str) -> Field:
    if ":" in where:
        where = "{}.7-{}.0".format(*where.split(":"))
    start, _, end = where.partition("-")
    first, high = (int(n) for n in start.split("."))
    last, low = (int(n) for n in (end or start).split("."))
    return Field(name, first, high, last, low, (1 << (last - first) * 8 + high - low + 1) - 1)


class Command(msgspec.Struct, frozen=True):
    """One row. ``service_action`` is ``None`` where the operation code alone names the command.

    ``reserve6_passes``: even under another initiator's RESERVE(6). ``needs_media``: refused while the unit is stopped.
    """

    opcode: int
    name: str
    length: int
    fields: dict[str, Field]
    service_action: int | None = None
    data_out: DataOut = ""
    access: Access = "always"
    reserve6_passes: bool = False
    needs_media: bool = False

    def usage_map(self) -> bytes:
        """CDB usage data (SPC-4, 6.33.3): every bit that is looked at, and the operation code and service action."""
        usage = self.opcode << 8 * (self.length - 1) | 0x04  # control: NACA is looked at
        for field in self.fields.values():
            usage |= field.mask(self.length)
        raw = bytearray(usage.to_bytes(self.length, "big"))
        if self.service_action is not None:
            raw[1] = raw[1] & 0xE0 | self.service_action
        return bytes(raw)


def _row(
    opcode: int,
    name: str,
    length: int,
    fields: str = "",
    service_action: int | None = None,
    out: DataOut = "",
    access: Access = "always",
    passes: bool = False,
    media: bool = False,
) -> Command:
    words = fields.split()
    table = {n: _field(n, w) for n, w in zip(words[::2], words[1::2], strict=True)}
    return Command(opcode, name, length, table, service_action, out, access, passes, media)


_P = "protect 1.7-1.5"
_G10 = "lba 2:5 group 6.4-6.0 blocks 7:8"
_G12 = "lba 2:5 blocks 6:9 group 10.4-10.0"
_G16 = "lba 2:9 blocks 10:13 group 14.4-14.0"
_RESERVATION_OUT = "scope 2.7-2.4 type 2.3-2.0 parameter_bytes 5:8"


def _family(
    names: dict[int, tuple[str, int]],
    flags: str,
    out: DataOut,
    access: Access,
) -> tuple[Command, ...]:
    layouts = {10: _G10, 12: _G12, 16: _G16}
    return tuple(
        _row(op, name, length, f"{flags} {layouts[length]}", None, out, access, media=True)
        for op, (name, length) in names.items()
    )


COMMANDS: tuple[Command, ...] = (
    _row(0x00, "TEST UNIT READY", 6, media=True),
    _row(0x03, "REQUEST SENSE", 6, "desc 1.0 allocation 4:4", passes=True),
    _row(0x08, "READ(6)", 6, "lba 1.4-3.0 blocks 4:4", access="read", media=True),
    _row(0x0A, "WRITE(6)", 6, "lba 1.4-3.0 blocks 4:4", out="blocks", access="write", media=True),
    _row(0x12, "INQUIRY", 6, "evpd 1.0 page 2:2 allocation 3:4", passes=True),
    _row(0x15, "MODE SELECT(6)", 6, "pf 1.4 sp 1.0 parameter_bytes 4:4", out="parameter list", access="write"),
    _row(0x16, "RESERVE(6)", 6, "third_party 1.4 extent 1.0"),
    _row(0x17, "RELEASE(6)", 6, "third_party 1.4 extent 1.0", passes=True),
    _row(0x1A, "MODE SENSE(6)", 6, "dbd 1.3 pc 2.7-2.6 page 2.5-2.0 subpage 3:3 allocation 4:4", access="read"),
    _row(0x1B, "START STOP UNIT", 6, "immed 1.0 modifier 3.3-3.0 power 4.7-4.4 no_flush 4.2 loej 4.1 start 4.0"),
    _row(0x1D, "SEND DIAGNOSTIC", 6, "code 1.7-1.5 pf 1.4 self_test 1.2 parameter_bytes 3:4", access="write"),
    _row(0x1E, "PREVENT ALLOW MEDIUM REMOVAL", 6, "prevent 4.1-4.0"),
    _row(0x25, "READ CAPACITY(10)", 10, "lba 2:5 pmi 8.0", media=True),
    *_family(
        {0x28: ("READ(10)", 10), 0xA8: ("READ(12)", 12), 0x88: ("READ(16)", 16)},
        f"{_P} dpo 1.4 fua 1.3", "", "read",
    ),
    *_family(
        {0x2A: ("WRITE(10)", 10), 0xAA: ("WRITE(12)", 12), 0x8A: ("WRITE(16)", 16)},
        f"{_P} dpo 1.4 fua 1.3", "blocks", "write",
    ),
    *_family(
        {0x2E: ("WRITE AND VERIFY(10)", 10), 0xAE: ("WRITE AND VERIFY(12)", 12), 0x8E: ("WRITE AND VERIFY(16)", 16)},
        f"{_P} dpo 1.4 bytchk 1.2-1.1", "blocks", "write",
    ),
    *_family(
        {0x2F: ("VERIFY(10)", 10), 0xAF: ("VERIFY(12)", 12), 0x8F: ("VERIFY(16)", 16)},
        f"{_P} dpo 1.4 bytchk 1.2-1.1", "if compared", "read",
    ),
    *_family({0x34: ("PRE-FETCH(10)", 10), 0x90: ("PRE-FETCH(16)", 16)}, "immed 1.1", "", "read"),
    *_family({0x35: ("SYNCHRONIZE CACHE(10)", 10), 0x91: ("SYNCHRONIZE CACHE(16)", 16)}, "immed 1.1", "", "write"),
    _row(0x37, "READ DEFECT DATA(10)", 10, "plist 2.4 glist 2.3 format 2.2-2.0 allocation 7:8", access="read",
         media=True),
    _row(0xB7, "READ DEFECT DATA(12)", 12, "plist 1.4 glist 1.3 format 1.2-1.0 allocation 6:9", access="read",
         media=True),
    _row(0x41, "WRITE SAME(10)", 10, f"{_P} anchor 1.4 unmap 1.3 pbdata 1.2 lbdata 1.1 {_G10}", None, "one block",
         "write", media=True),
    _row(0x93, "WRITE SAME(16)", 16, f"{_P} anchor 1.4 unmap 1.3 pbdata 1.2 lbdata 1.1 ndob 1.0 {_G16}", None,
         "one block", "write", media=True),
    _row(0x42, "UNMAP", 10, "anchor 1.0 group 6.4-6.0 parameter_bytes 7:8", None, "parameter list", "write",
         media=True),
    _row(0x55, "MODE SELECT(10)", 10, "pf 1.4 sp 1.0 parameter_bytes 7:8", out="parameter list", access="write"),
    _row(0x5A, "MODE SENSE(10)", 10, "llbaa 1.4 dbd 1.3 pc 2.7-2.6 page 2.5-2.0 subpage 3:3 allocation 7:8",
         access="read"),
    _row(0x5E, "PERSISTENT RESERVE IN: READ KEYS", 10, "allocation 7:8", 0),
    _row(0x5E, "PERSISTENT RESERVE IN: READ RESERVATION", 10, "allocation 7:8", 1),
    _row(0x5E, "PERSISTENT RESERVE IN: REPORT CAPABILITIES", 10, "allocation 7:8", 2),
    _row(0x5E, "PERSISTENT RESERVE IN: READ FULL STATUS", 10, "allocation 7:8", 3),
    _row(0x5F, "PERSISTENT RESERVE OUT: REGISTER", 10, _RESERVATION_OUT, 0, "parameter list"),
    _row(0x5F, "PERSISTENT RESERVE OUT: RESERVE", 10, _RESERVATION_OUT, 1, "parameter list"),
    _row(0x5F, "PERSISTENT RESERVE OUT: RELEASE", 10, _RESERVATION_OUT, 2, "parameter list"),
    _row(0x5F, "PERSISTENT RESERVE OUT: CLEAR", 10, _RESERVATION_OUT, 3, "parameter list"),
    _row(0x5F, "PERSISTENT RESERVE OUT: PREEMPT", 10, _RESERVATION_OUT, 4, "parameter list"),
    _row(0x5F, "PERSISTENT RESERVE OUT: PREEMPT AND ABORT", 10, _RESERVATION_OUT, 5, "parameter list"),
    _row(0x5F, "PERSISTENT RESERVE OUT: REGISTER AND IGNORE EXISTING KEY", 10, _RESERVATION_OUT, 6, "parameter list"),
    _row(0x89, "COMPARE AND WRITE", 16, f"{_P} dpo 1.4 fua 1.3 lba 2:9 blocks 13:13 group 14.4-14.0", None,
         "twice the blocks", "write", media=True),
    *_family({0x8B: ("ORWRITE(16)", 16)}, f"{_P} dpo 1.4 fua 1.3", "blocks", "write"),
    _row(0x9E, "READ CAPACITY(16)", 16, "lba 2:9 allocation 10:13 pmi 14.0", 0x10, media=True),
    _row(0x9E, "GET LBA STATUS", 16, "lba 2:9 allocation 10:13", 0x12, media=True),
    _row(0xA0, "REPORT LUNS", 12, "select 2:2 allocation 6:9", passes=True),
    _row(0xA3, "REPORT SUPPORTED OPERATION CODES", 12,
         "rctd 2.7 options 2.2-2.0 requested 3:3 requested_action 4:5 allocation 6:9", 0x0C),
    _row(0xA3, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", 12, "repd 2.7 allocation 6:9", 0x0D),
)  # fmt: skip

BY_CODE: dict[tuple[int, int | None], Command] = {(c.opcode, c.service_action): c for c in COMMANDS}
PLAIN: tuple[Command | None, ...] = tuple(BY_CODE.get((op, None)) for op in range(256))
"""By operation code alone: the short way for everything that has no service actions."""
FAMILIES = frozenset(c.opcode for c in COMMANDS if c.service_action is not None)


def cdb_bytes(opcode: int) -> int:
    """How long a CDB with this operation code is; 0 if only its own definition tells (groups 3, 6 and 7)."""
    return (6, 10, 10, 0, 16, 12, 0, 0)[opcode >> 5]
