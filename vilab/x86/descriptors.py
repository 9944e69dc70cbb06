"""Selectors, segment descriptors, gates and the task state segment.

::

    selector      15                3   2  1 0
                 +-------------------+---+-----+
                 | index             |TI | RPL |     TI 0: GDT, 1: LDT
                 +-------------------+---+-----+

    segment       31        24 23 22  21 20 19     16 15 14 13 12 11     8 7            0
                 +------------+--+---+--+---+--------+--+-----+--+--------+--------------+
            +4   | base 31-24 | G|D/B| L|AVL|limit   | P| DPL | S| type   | base 23-16   |
                 +------------+--+---+--+---+--19-16-+--+-----+--+--------+--------------+
            +0   | base 15-0                         | limit 15-0                        |
                 +-----------------------------------+-----------------------------------+
                  G: limit counts 4 KB pages.  D/B: 32-bit.  S 1: code or data, 0: system.

    type, S = 1   code: 1 C R A     data: 0 E W A     C conforming, R readable, E expand down, W writable, A accessed
    type, S = 0   1 TSS16  2 LDT  3 busy TSS16  4 call gate 16  5 task gate  6, 7 interrupt, trap gate 16
                  9 TSS32        b busy TSS32  c call gate 32               e, f interrupt, trap gate 32

    gate          31                               16 15 14 13 12 11     8 7     5 4     0
                 +-----------------------------------+--+-----+--+--------+-------+-------+
            +4   | offset 31-16                      | P| DPL | 0| type   | 0 0 0 | count |
                 +-----------------------------------+--+-----+--+--------+-------+-------+
            +0   | selector                          | offset 15-0                        |
                 +-----------------------------------+------------------------------------+
                  count: dwords that a call gate copies to the inner stack

Source: Intel SDM volume 3, sections 3.4, 5.8, 6.11, 7.2.
"""

from __future__ import annotations

import struct

import msgspec

DESCRIPTOR_BYTES = 8

TSS16, LDT, TSS16_BUSY, CALL_GATE16, TASK_GATE, INTERRUPT_GATE16, TRAP_GATE16 = 1, 2, 3, 4, 5, 6, 7
TSS32, TSS32_BUSY, CALL_GATE32, INTERRUPT_GATE32, TRAP_GATE32 = 0x9, 0xB, 0xC, 0xE, 0xF

SYSTEM_TYPES = {
    TSS16: "TSS16", LDT: "LDT", TSS16_BUSY: "TSS16 busy", CALL_GATE16: "call gate 16", TASK_GATE: "task gate",
    INTERRUPT_GATE16: "interrupt gate 16", TRAP_GATE16: "trap gate 16", TSS32: "TSS32", TSS32_BUSY: "TSS32 busy",
    CALL_GATE32: "call gate 32", INTERRUPT_GATE32: "interrupt gate 32", TRAP_GATE32: "trap gate 32",
}  # fmt: skip

CODE_R_A = 0xB
"""Type of accessed, readable code."""
DATA_W_A = 0x3
"""Type of accessed, writable data."""

LAR_MASK = 0x00F0_FF00
"""LAR gives the second dword of a descriptor under this mask. SDM volume 2 leaves bits 19 to 16 undefined; here they
read 0, as on this processor."""
HIDDEN_MASK = 0x00FF_FF00
"""What of the second dword a segment register keeps as its flags."""
LAR_TYPES = frozenset((1, 2, 3, 4, 5, 9, 0xB, 0xC))
LSL_TYPES = frozenset((1, 2, 3, 9, 0xB))
"""System types that LAR and LSL accept. SDM volume 2."""


class Selector(msgspec.Struct, frozen=True):
    """A 16-bit selector: ``<Selector 0061 gdt[12] rpl 1>``."""

    value: int

    @classmethod
    def build(cls, index: int, rpl: int = 0, local: bool = False) -> Selector:
        return cls(index << 3 | (4 if local else 0) | rpl)

    @property
    def index(self) -> int:
        return self.value >> 3

    @property
    def rpl(self) -> int:
        return self.value & 3

    @property
    def local(self) -> bool:
        """From the LDT?"""
        return bool(self.value & 4)

    @property
    def null(self) -> bool:
        return self.value & 0xFFFC == 0

    @property
    def error_code(self) -> int:
        """What a fault on this selector pushes: without the RPL."""
        return self.value & 0xFFFC

    def __repr__(self) -> str:
        return f"<Selector {self.value:04x} {'ldt' if self.local else 'gdt'}[{self.index}] rpl {self.rpl}>"


class Segment(msgspec.Struct, frozen=True):
    """A segment descriptor, unpacked. Also serves for LDT and TSS descriptors (``system`` true).

    base : linear address. limit : last valid offset in bytes, granularity already applied.
    type : the four type bits. dpl : 0 to 3. big : D/B. granular : G as stored.
    """

    base: int
    limit: int
    type: int
    dpl: int = 0
    system: bool = False
    present: bool = True
    big: bool = True
    granular: bool = True
    available: bool = False
    long: bool = False

    @classmethod
    def parse(cls, raw: int | bytes) -> Segment:
        """From the descriptor's 8 bytes, or the same as one number."""
        if isinstance(raw, bytes | bytearray | memoryview):
            raw = int.from_bytes(raw[:8], "little")
        limit = raw & 0xFFFF | raw >> 32 & 0xF_0000
        granular = bool(raw >> 55 & 1)
        return cls(
            base=raw >> 16 & 0xFF_FFFF | raw >> 32 & 0xFF00_0000,
            limit=limit << 12 | 0xFFF if granular else limit,
            type=raw >> 40 & 15,
            dpl=raw >> 45 & 3,
            system=not raw >> 44 & 1,
            present=bool(raw >> 47 & 1),
            big=bool(raw >> 54 & 1),
            granular=granular,
            available=bool(raw >> 52 & 1),
            long=bool(raw >> 53 & 1),
        )

    def pack(self) -> int:
        """The descriptor as one 64-bit number. Raises ``ValueError`` for a limit that G cannot express."""
        if self.granular:
            if self.limit & 0xFFF != 0xFFF:
                raise ValueError(f"limit {self.limit:#x} is not a whole number of 4 KB pages, as G demands")
            limit = self.limit >> 12
        elif self.limit > 0xF_FFFF:
            raise ValueError(f"limit {self.limit:#x} needs G: without it the limit ends at 0xfffff")
        else:
            limit = self.limit
        return (
            limit & 0xFFFF | (limit >> 16) << 48 | (self.base & 0xFF_FFFF) << 16 | (self.base >> 24) << 56
            | self.type << 40 | (0 if self.system else 1 << 44) | self.dpl << 45 | self.present << 47
            | self.available << 52 | self.long << 53 | self.big << 54 | self.granular << 55
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        return self.pack().to_bytes(8, "little")

    @property
    def code(self) -> bool:
        return not self.system and bool(self.type & 8)

    @property
    def data(self) -> bool:
        return not self.system and not self.type & 8

    @property
    def conforming(self) -> bool:
        return self.code and bool(self.type & 4)

    @property
    def expand_down(self) -> bool:
        return self.data and bool(self.type & 4)

    @property
    def readable(self) -> bool:
        return self.data or (self.code and bool(self.type & 2))

    @property
    def writable(self) -> bool:
        return self.data and bool(self.type & 2)

    @property
    def accessed(self) -> bool:
        return not self.system and bool(self.type & 1)

    @property
    def flat(self) -> bool:
        """Base 0 and limit 4 GB."""
        return self.base == 0 and self.limit == 0xFFFF_FFFF

    @property
    def access_rights(self) -> int:
        """What LAR returns for it."""
        return self.pack() >> 32 & LAR_MASK

    @property
    def hidden_flags(self) -> int:
        """What a segment register that holds it keeps of the descriptor's second dword."""
        return self.pack() >> 32 & HIDDEN_MASK

    def contains(self, offset: int, size_bytes: int) -> bool:
        """Does an access of this size at this offset stay inside the limit? SDM volume 3, section 5.3."""
        last = offset + size_bytes - 1
        if self.expand_down:
            return offset > self.limit and last <= (0xFFFF_FFFF if self.big else 0xFFFF)
        return last <= self.limit

    @property
    def kind(self) -> str:
        """``code RA``, ``data WA``, ``TSS32 busy``"""
        if self.system:
            return SYSTEM_TYPES.get(self.type, f"reserved type {self.type:x}")
        letters = "CRA" if self.code else "EWA"
        on = "".join(letter for letter, bit in zip(letters, (4, 2, 1), strict=True) if self.type & bit)
        return ("code " if self.code else "data ") + (on or "-")

    def __repr__(self) -> str:
        state = "" if self.present else " not present"
        where = f"base {self.base:08x} limit {self.limit:08x}"
        return f"<Segment 0x{self.pack():016x} {self.kind} {where} dpl {self.dpl}{state}>"


class Gate(msgspec.Struct, frozen=True):
    """A call, interrupt, trap or task gate. ``count`` only for call gates."""

    selector: int
    offset: int
    type: int
    dpl: int = 0
    present: bool = True
    count: int = 0

    @classmethod
    def parse(cls, raw: int | bytes) -> Gate:
        if isinstance(raw, bytes | bytearray | memoryview):
            raw = int.from_bytes(raw[:8], "little")
        wide = raw >> 40 & 15 in (CALL_GATE32, INTERRUPT_GATE32, TRAP_GATE32)
        return cls(
            selector=raw >> 16 & 0xFFFF,
            offset=raw & 0xFFFF | (raw >> 32 & 0xFFFF_0000 if wide else 0),
            type=raw >> 40 & 15,
            dpl=raw >> 45 & 3,
            present=bool(raw >> 47 & 1),
            count=raw >> 32 & 31,
        )

    def pack(self) -> int:
        return (
            self.offset & 0xFFFF | self.selector << 16 | self.count << 32 | self.type << 40 | self.dpl << 45
            | self.present << 47 | (self.offset >> 16) << 48
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        return self.pack().to_bytes(8, "little")

    @property
    def is_gate(self) -> bool:
        return self.type in (4, 5, 6, 7, 0xC, 0xE, 0xF)

    @property
    def wide(self) -> bool:
        """32-bit: pushes dwords."""
        return self.type in (CALL_GATE32, INTERRUPT_GATE32, TRAP_GATE32)

    @property
    def clears_if(self) -> bool:
        """An interrupt gate turns interrupts off, a trap gate does not."""
        return self.type in (INTERRUPT_GATE16, INTERRUPT_GATE32)

    def __repr__(self) -> str:
        name = SYSTEM_TYPES.get(self.type, f"type {self.type:x}")
        state = "" if self.present else " not present"
        return f"<Gate 0x{self.pack():016x} {name} to {self.selector:04x}:{self.offset:08x} dpl {self.dpl}{state}>"


def is_system(raw: int) -> bool:
    """Is this 64-bit descriptor a system one (S = 0): LDT, TSS or gate?"""
    return not raw >> 44 & 1


TSS32_FIELDS: tuple[tuple[str, int, int], ...] = (
    ("link", 0, 2), ("esp0", 4, 4), ("ss0", 8, 2), ("esp1", 12, 4), ("ss1", 16, 2), ("esp2", 20, 4), ("ss2", 24, 2),
    ("cr3", 28, 4), ("eip", 32, 4), ("eflags", 36, 4), ("eax", 40, 4), ("ecx", 44, 4), ("edx", 48, 4), ("ebx", 52, 4),
    ("esp", 56, 4), ("ebp", 60, 4), ("esi", 64, 4), ("edi", 68, 4), ("es", 72, 2), ("cs", 76, 2), ("ss", 80, 2),
    ("ds", 84, 2), ("fs", 88, 2), ("gs", 92, 2), ("ldtr", 96, 2), ("trap", 100, 2), ("io_map", 102, 2),
)  # fmt: skip
"""(field, byte offset, size) of the 32-bit task state segment; 104 bytes in all. SDM volume 3, figure 7-2."""

TSS32_BYTES = 104
_TSS_OFFSETS = {name: (offset, size) for name, offset, size in TSS32_FIELDS}


def tss_field(name: str) -> tuple[int, int]:
    """(byte offset, size) of a field of the 32-bit TSS."""
    return _TSS_OFFSETS[name]


def build_tss(**fields: int) -> bytes:
    """A 32-bit TSS of 104 bytes with these fields, all others 0; ``io_map`` is past the end unless given: no ports."""
    fields.setdefault("io_map", TSS32_BYTES)
    raw = bytearray(TSS32_BYTES)
    for name, value in fields.items():
        offset, size = _TSS_OFFSETS[name]
        raw[offset : offset + size] = value.to_bytes(size, "little")
    return bytes(raw)


def parse_tss(raw: bytes) -> dict[str, int]:
    """All fields of a 32-bit TSS by name."""
    return {name: int.from_bytes(raw[offset : offset + size], "little") for name, offset, size in TSS32_FIELDS}


def pseudo_descriptor(base: int, limit: int) -> bytes:
    """The six bytes that LGDT and LIDT read and SGDT and SIDT write: 16-bit limit, 32-bit base."""
    return struct.pack("<HI", limit, base)


def parse_pseudo_descriptor(raw: bytes) -> tuple[int, int]:
    """(base, limit) from those six bytes."""
    limit, base = struct.unpack("<HI", raw[:6])
    return base, limit


def flat_segment(code: bool, dpl: int = 0) -> Segment:
    """The segment every 32-bit kernel uses: 0 to 4 GB, code readable or data writable, Accessed already set."""
    return Segment(base=0, limit=0xFFFF_FFFF, type=CODE_R_A if code else DATA_W_A, dpl=dpl)
