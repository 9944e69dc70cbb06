"""One instruction, taken apart far enough for a monitor.

``decode`` finds the length, what to do with the instruction (``Kind``), and where the operands are; text comes from
capstone and only when somebody asks. The maps are in ``opcodes``, the holes in them in ``validity``; capstone is the
judge of both in the tests.

    >>> decode(bytes.fromhex("7509"), 0x1000)
    <Instruction 00001000 7509 JCC jne 0x100b>
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.errors import VilabError
from vilab.x86 import opcodes as maps
from vilab.x86.opcodes import Kind
from vilab.x86.text import instruction_text
from vilab.x86.validity import NOW_3D, lock_allowed, undefined_form

__all__ = ["Instruction", "Kind", "MemoryOperand", "Truncated", "decode", "disassemble"]

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
ES, CS, SS, DS, FS, GS = range(6)

OPSIZE, ADDRSIZE, LOCK, REP, REPNE = 1, 2, 4, 8, 16
SEGMENT_SHIFT = 8
"""Bits of ``Instruction.prefixes``; from ``SEGMENT_SHIFT`` on: 0 no override, else 1 + segment."""

MAX_BYTES = 15


class Truncated(VilabError):
    """The bytes end inside the instruction: the next page is needed. Nothing is wrong with it yet."""

    def __init__(self, address: int, have_bytes: int) -> None:
        self.address = address
        self.have_bytes = have_bytes
        super().__init__(f"the instruction at {address:08x} goes on past the {have_bytes} bytes that there are")


class MemoryOperand(msgspec.Struct, frozen=True, gc=False):
    """``segment:[base + index * scale + displacement]``; -1 stands for no register.

    ``segment`` is the one that counts: an override, else SS for bases EBP and ESP, else DS. ``bits`` is the address
    size; with 16 the registers are the low halves and the sum wraps at 64 KB.
    """

    segment: int
    base: int
    index: int
    scale: int
    displacement: int
    bits: int

    def offset(self, gpr: Sequence[int]) -> int:
        """The effective address (an offset into the segment) for registers EAX ECX EDX EBX ESP EBP ESI EDI."""
        total = self.displacement
        if self.base >= 0:
            total += gpr[self.base]
        if self.index >= 0:
            total += gpr[self.index] * self.scale
        return total & (0xFFFF_FFFF if self.bits == 32 else 0xFFFF)


class Instruction(msgspec.Struct, frozen=True, gc=False, repr_omit_defaults=True):
    """What is known of one instruction.

    address : where it stands; wraps at 4 GB.
    code : its bytes, prefixes included.
    kind, op : what a translator does, and for everything that is not IDENT a short name (``cli``, ``mov to cr``,
        ``jcc``, ``ret far``): see ``opcodes``. With UNDEFINED it is ``ud2`` and the like, ``lock`` where LOCK is not
        allowed, ``too long`` for more than 15 bytes (which is #GP(0), not #UD), else empty.
    opcode : 0x00-0xff, 0x0f00-0x0fff, 0x0f3800-, 0x0f3a00-; VEX and EVEX as the map they use, with bit 24 set.
    modrm, modrm_at : that byte and its place in ``code``; -1 where there is none.
    immediate_at : the immediate's place in ``code``; equals ``size`` where there is none.
    prefixes : bits OPSIZE ADDRSIZE LOCK REP REPNE and the segment override.
    target : of direct control flow, else ``None``.
    bits : 32, or 16 for code in a 16-bit segment.
    """

    address: int
    code: bytes
    kind: Kind
    op: str
    opcode: int
    modrm: int
    modrm_at: int
    immediate_at: int
    prefixes: int
    target: int | None
    bits: int

    @property
    def size(self) -> int:
        return len(self.code)

    @property
    def end(self) -> int:
        """The address of the next instruction."""
        return (self.address + len(self.code)) & 0xFFFF_FFFF

    @property
    def mnemonic(self) -> str:
        return instruction_text(self.code, self.address, self.bits)[0]

    @property
    def operands(self) -> str:
        return instruction_text(self.code, self.address, self.bits)[1]

    @property
    def text(self) -> str:
        """``mov eax, cs``"""
        return " ".join(instruction_text(self.code, self.address, self.bits)).rstrip()

    @property
    def operand_bits(self) -> int:
        """16 or 32: size of a full operand here. Byte instructions have their own opcodes."""
        return 48 - self.bits if self.prefixes & OPSIZE else self.bits

    @property
    def address_bits(self) -> int:
        return 48 - self.bits if self.prefixes & ADDRSIZE else self.bits

    @property
    def segment_override(self) -> int | None:
        """ES CS SS DS FS GS = 0 to 5, or ``None``."""
        value = self.prefixes >> SEGMENT_SHIFT
        return value - 1 if value else None

    @property
    def lock(self) -> bool:
        return bool(self.prefixes & LOCK)

    @property
    def repeat(self) -> str:
        """``rep``, ``repne`` or empty: the last such prefix."""
        return "rep" if self.prefixes & REP else "repne" if self.prefixes & REPNE else ""

    @property
    def mod(self) -> int:
        return self.modrm >> 6

    @property
    def reg(self) -> int:
        return self.modrm >> 3 & 7

    @property
    def rm(self) -> int:
        return self.modrm & 7

    @property
    def condition(self) -> int:
        """Of a Jcc: 0 to 15 as in the opcode's low digit (4 = equal); odd ones negate."""
        return self.opcode & 15

    @property
    def immediate(self) -> int | None:
        """The immediate as an unsigned number of its own width; the offset part of a far pointer; ENTER's size."""
        data = self._immediate_bytes
        if not data:
            return None
        if self.opcode in (0x9A, 0xEA):
            data = data[:-2]
        elif self.opcode == 0xC8:
            data = data[:2]
        return int.from_bytes(data, "little")

    @property
    def signed_immediate(self) -> int | None:
        data = self._immediate_bytes
        return int.from_bytes(data, "little", signed=True) if data else None

    @property
    def selector(self) -> int | None:
        """The selector in a direct far CALL or JMP."""
        return int.from_bytes(self.code[-2:], "little") if self.opcode in (0x9A, 0xEA) else None

    @property
    def _immediate_bytes(self) -> bytes:
        return b"" if 0xA0 <= self.opcode <= 0xA3 else self.code[self.immediate_at :]

    @property
    def memory(self) -> MemoryOperand | None:
        """The explicit memory operand, ``None`` where there is none. String instructions' is implicit: not here."""
        return _memory_operand(self)

    def __repr__(self) -> str:
        return f"<Instruction {self.address:08x} {self.code.hex()} {self.kind.name} {self.text}>"


def _memory_operand(instruction: Instruction) -> MemoryOperand | None:
    code, bits = instruction.code, instruction.address_bits
    override = instruction.segment_override
    if 0xA0 <= instruction.opcode <= 0xA3:
        address = int.from_bytes(code[instruction.immediate_at :], "little")
        return MemoryOperand(DS if override is None else override, -1, -1, 1, address, bits)
    if instruction.modrm < 0 or instruction.modrm >= 0xC0 or instruction.opcode in (0x0F20, 0x0F21, 0x0F22, 0x0F23):
        return None
    mod, rm, at = instruction.modrm >> 6, instruction.modrm & 7, instruction.modrm_at + 1
    index, scale = -1, 1
    if bits == 16:
        base, index = _BASES_16[rm]
        if mod == 0 and rm == 6:
            base, width = -1, 2
        else:
            width = (0, 1, 2)[mod]
    else:
        base, width = rm, (0, 1, 4)[mod]
        if rm == 4:
            sib = code[at]
            at += 1
            base, index, scale = sib & 7, sib >> 3 & 7, 1 << (sib >> 6)
            if index == 4:
                index = -1
        if mod == 0 and base == 5:
            base, width = -1, 4
    displacement = int.from_bytes(code[at : at + width], "little", signed=True)
    if override is None:
        override = SS if base in (ESP, EBP) else DS
    return MemoryOperand(override, base, index, scale, displacement, bits)


_BASES_16 = ((EBX, ESI), (EBX, EDI), (EBP, ESI), (EBP, EDI), (ESI, -1), (EDI, -1), (EBP, -1), (EBX, -1))
"""What rm stands for with 16-bit addresses."""

_ONE = maps.parse_map(maps.ONE_BYTE_MAP)
_TWO = maps.parse_map(maps.TWO_BYTE_MAP)
_ONE_KIND = tuple(maps.ONE_BYTE_KINDS.get(i, (Kind.IDENT, "")) for i in range(256))
_TWO_KIND = tuple(maps.TWO_BYTE_KINDS.get(i, (Kind.IDENT, "")) for i in range(256))

_PREFIX_BITS = {
    0x66: OPSIZE, 0x67: ADDRSIZE, 0xF0: LOCK, 0xF2: REPNE, 0xF3: REP,
    0x26: 1 << 8, 0x2E: 2 << 8, 0x36: 3 << 8, 0x3E: 4 << 8, 0x64: 5 << 8, 0x65: 6 << 8,
}  # fmt: skip

_IMMEDIATE_BYTES = tuple(
    tuple({"-": 0, "b": 1, "w": 2, "z": z, "o": o, "p": z + 2, "e": 3}[letter] for letter in maps.IMMEDIATES)
    for o in (4, 2)
    for z in (4, 2)
)
"""[address size 16] * 2 + [operand size 16] -> bytes by the index in ``IMMEDIATES``"""

_SIB = 64
_DISPLACEMENT_32 = tuple(
    0 if mod == 3 else (_SIB if rm == 4 else 0) + (0, 1, 4)[mod] + (4 if mod == 0 and rm == 5 else 0)
    for mod in range(4)
    for _ in range(8)
    for rm in range(8)
)
_DISPLACEMENT_16 = tuple(
    0 if mod == 3 else (0, 1, 2)[mod] + (2 if mod == 0 and rm == 6 else 0)
    for mod in range(4)
    for _ in range(8)
    for rm in range(8)
)
"""Bytes of displacement after a modrm byte; ``_SIB`` is added where a SIB byte comes first."""

_VEX_IMMEDIATE = frozenset((0x70, 0x71, 0x72, 0x73, 0xC2, 0xC4, 0xC5, 0xC6))
_VEX = 1 << 24
_MODRM_B = maps.MODRM | maps.IMMEDIATES.index("b") << maps.IMMEDIATE_SHIFT
_KIND_BY_MODRM = frozenset((0xFF, 0x0F00, 0x0F01, 0x0F78, 0x0F79, 0x0FC7))
_RELATIVE = frozenset((Kind.JCC, Kind.JMP_REL, Kind.CALL_REL))


def decode(code: bytes | bytearray | memoryview, address: int, bits: int = 32) -> Instruction:
    """The instruction at the start of ``code``, which stands at ``address``.

    An undefined encoding comes back with ``kind`` UNDEFINED and as many bytes as had to be looked at.

    Raises ``Truncated`` where ``code`` ends before the instruction does.
    """
    try:
        return _decode(code, address, bits)
    except IndexError:
        raise Truncated(address, len(code)) from None


def _decode(code: bytes | bytearray | memoryview, address: int, bits: int) -> Instruction:
    opcode = code[0]
    at = 1
    cell = _ONE[opcode]
    prefixes = 0
    while cell & maps.PREFIX:
        bit = _PREFIX_BITS[opcode]
        if bit >= 1 << SEGMENT_SHIFT:
            prefixes &= (1 << SEGMENT_SHIFT) - 1
        elif bit >= REP:
            prefixes &= ~(REP | REPNE)
        prefixes |= bit
        if at == MAX_BYTES:
            return _undefined(code, at, address, opcode, -1, prefixes, bits, "too long")
        opcode = code[at]
        at += 1
        cell = _ONE[opcode]
    kind, op = _ONE_KIND[opcode]
    if cell & maps.ESCAPE:
        if opcode == 0x0F:
            second = code[at]
            at += 1
            opcode, cell = 0x0F00 | second, _TWO[second]
            kind, op = _TWO_KIND[second]
            if cell & maps.ESCAPE:
                opcode = opcode << 8 | code[at]
                at += 1
                cell = (maps.MODRM if second == 0x38 else _MODRM_B) | maps.CHECK
                kind, op = maps.THREE_BYTE_KINDS.get(opcode, (Kind.IDENT, ""))
        elif code[at] < 0xC0:
            cell = maps.MODRM
        else:
            vex = _vex(code, at, opcode, prefixes)
            if vex is None:
                return _undefined(code, at + 1, address, opcode, -1, prefixes, bits)
            at, opcode, cell = vex
            kind, op = Kind.IDENT, ""
    if cell & maps.UNDEFINED_OPCODE:
        return _undefined(code, at, address, opcode, -1, prefixes, bits)
    size16 = prefixes & 3
    if bits == 16:
        size16 ^= 3
    immediate = _IMMEDIATE_BYTES[(size16 & ADDRSIZE) + (size16 & OPSIZE)][cell >> maps.IMMEDIATE_SHIFT]
    modrm = modrm_at = -1
    end = at
    if cell & maps.MODRM:
        modrm = code[at]
        modrm_at = at
        end = at + 1
        if opcode in _KIND_BY_MODRM:
            kind, op = _group(opcode, modrm, prefixes)
            if opcode == 0x0F78 and kind is Kind.IDENT:
                immediate = 2
        elif opcode & ~1 == 0xF6 and modrm & 0x30 == 0:  # TEST r/m, imm is /0 and /1 of a group of six without one
            immediate = 1 if opcode == 0xF6 else 2 if size16 & OPSIZE else 4
        if 0x0F20 <= opcode <= 0x0F23:
            pass  # MOV CR and DR ignore mod: always a register, never a displacement
        elif size16 & ADDRSIZE:
            end += _DISPLACEMENT_16[modrm]
        else:
            extra = _DISPLACEMENT_32[modrm]
            if extra >= _SIB:
                extra -= _SIB - 1
                if code[end] & 7 == 5 and modrm < 0x40:
                    extra += 4
            end += extra
    if kind is Kind.UNDEFINED:
        return _undefined(code, end, address, opcode, modrm, prefixes, bits, op)
    if cell & maps.CHECK and undefined_form(opcode, modrm, prefixes):
        return _undefined(code, end, address, opcode, modrm, prefixes, bits)
    if prefixes & LOCK and not lock_allowed(opcode, modrm):
        return _undefined(code, end, address, opcode, modrm, prefixes, bits, "lock")
    immediate_at = end
    end += immediate
    if end > len(code):
        if len(code) >= MAX_BYTES:
            return _undefined(code, MAX_BYTES, address, opcode, modrm, prefixes, bits, "too long")
        raise IndexError
    if end > MAX_BYTES:
        return _undefined(code, MAX_BYTES, address, opcode, modrm, prefixes, bits, "too long")
    whole = bytes(code[:end])
    target = None
    if opcode == 0x0F0F and whole[-1] not in NOW_3D:
        return _undefined(code, end, address, opcode, modrm, prefixes, bits)
    if kind in _RELATIVE:
        target = address + end + int.from_bytes(whole[immediate_at:], "little", signed=True)
        target &= 0xFFFF if size16 & OPSIZE else 0xFFFF_FFFF
    return Instruction(address, whole, kind, op, opcode, modrm, modrm_at, immediate_at, prefixes, target, bits)


def _group(opcode: int, modrm: int, prefixes: int) -> tuple[Kind, str]:
    if opcode == 0xFF:
        return maps.GROUP_5[modrm >> 3 & 7]
    if opcode == 0x0F00:
        return Kind.SENSITIVE, maps.GROUP_6[modrm >> 3 & 7]
    if opcode == 0x0F78 or opcode == 0x0F79:  # with 66 or f2 they are AMD's EXTRQ and INSERTQ, two immediates after 78
        return (Kind.IDENT, "") if prefixes & (OPSIZE | REPNE) else maps.TWO_BYTE_KINDS[opcode & 0xFF]
    if opcode == 0x0FC7:
        op = maps.GROUP_9.get(modrm >> 3 & 7, "") if modrm < 0xC0 else ""
        return (Kind.SENSITIVE, op) if op else (Kind.IDENT, "")
    if modrm >= 0xC0:
        return maps.GROUP_7_REGISTER.get(modrm, (Kind.UNDEFINED, ""))
    op = maps.GROUP_7_MEMORY[modrm >> 3 & 7]
    return (Kind.SENSITIVE, op) if op else (Kind.UNDEFINED, "")


def _vex(code: bytes | bytearray | memoryview, at: int, opcode: int, prefixes: int) -> tuple[int, int, int] | None:
    """VEX (c5, c4) and EVEX (62): (place after the opcode, opcode with bit 24, cell), ``None`` where undefined."""
    if prefixes & (LOCK | REP | REPNE | OPSIZE):
        return None
    if opcode == 0xC5:
        page, at = 1, at + 1
    elif opcode == 0xC4:
        page, at = code[at] & 31, at + 2
    else:
        page, at = code[at] & 15, at + 3
    if not 1 <= page <= 3:
        return None
    second = code[at]
    at += 1
    if page == 3:
        return at, _VEX | 0x0F3A00 | second, _MODRM_B
    if page == 2:
        return at, _VEX | 0x0F3800 | second, maps.MODRM
    if second == 0x77:
        return at, _VEX | 0x0F77, 0
    return at, _VEX | 0x0F00 | second, _MODRM_B if second in _VEX_IMMEDIATE else maps.MODRM


def _undefined(
    code: bytes | bytearray | memoryview, end: int, address: int, opcode: int, modrm: int, prefixes: int, bits: int,
    op: str = "",
) -> Instruction:  # fmt: skip
    if end > len(code):
        raise IndexError
    whole = bytes(code[: min(end, MAX_BYTES)])
    return Instruction(address, whole, Kind.UNDEFINED, op, opcode, modrm, -1, len(whole), prefixes, None, bits)


def disassemble(code: bytes | bytearray | memoryview, address: int, bits: int = 32) -> list[Instruction]:
    """All instructions of ``code``, one after another; stops before one that is cut off at the end."""
    instructions = []
    at = 0
    view = memoryview(code)
    while at < len(code):
        try:
            instruction = decode(view[at : at + MAX_BYTES], (address + at) & 0xFFFF_FFFF, bits)
        except Truncated:
            break
        instructions.append(instruction)
        at += instruction.size
    return instructions
