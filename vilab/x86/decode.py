"""One instruction, taken apart far enough for a monitor.

``decode`` finds the length, what to do with the instruction (``Kind``), and where the operands are. The maps are in
``opcodes``, the holes in them in ``validity``; capstone is the judge of both in the tests.

    >>> decode(bytes.fromhex("7509"), 0x1000)
    <Instruction 00001000 7509 JCC jne 0x100b>
"""

from __future__ import annotations

from vilab.errors import VilabError
from vilab.x86 import opcodes as maps
from vilab.x86.instruction import ADDRSIZE, LOCK, OPSIZE, REP, REPNE, SEGMENT_SHIFT, Instruction
from vilab.x86.modrm import (
    CS,
    DISPLACEMENT_16,
    DISPLACEMENT_32,
    DS,
    ES,
    FS,
    GS,
    IMMEDIATE_BYTES,
    SIB,
    SS,
    MemoryOperand,
)
from vilab.x86.opcodes import Kind
from vilab.x86.validity import NOW_3D, lock_allowed, undefined_form

__all__ = [
    "ADDRSIZE", "CS", "DS", "ES", "FS", "GS", "LOCK", "MAX_BYTES", "OPSIZE", "REP", "REPNE", "SEGMENT_SHIFT", "SS",
    "Instruction", "Kind", "MemoryOperand", "Truncated", "decode", "disassemble",
]  # fmt: skip

MAX_BYTES = 15


class Truncated(VilabError):
    """The bytes end inside the instruction: the next page is needed. Nothing is wrong with it yet."""

    def __init__(self, address: int, have_bytes: int) -> None:
        self.address = address
        self.have_bytes = have_bytes
        super().__init__(f"the instruction at {address:08x} goes on past the {have_bytes} bytes that there are")


_ONE = maps.parse_map(maps.ONE_BYTE_MAP)
_TWO = maps.parse_map(maps.TWO_BYTE_MAP)
_ONE_KIND = tuple(maps.ONE_BYTE_KINDS.get(i, (Kind.IDENT, "")) for i in range(256))
_TWO_KIND = tuple(maps.TWO_BYTE_KINDS.get(i, (Kind.IDENT, "")) for i in range(256))

_PREFIX_BITS = {
    0x66: OPSIZE, 0x67: ADDRSIZE, 0xF0: LOCK, 0xF2: REPNE, 0xF3: REP,
    0x26: 1 << 8, 0x2E: 2 << 8, 0x36: 3 << 8, 0x3E: 4 << 8, 0x64: 5 << 8, 0x65: 6 << 8,
}  # fmt: skip

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
    immediate = IMMEDIATE_BYTES[(size16 & ADDRSIZE) + (size16 & OPSIZE)][cell >> maps.IMMEDIATE_SHIFT]
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
            end += DISPLACEMENT_16[modrm]
        else:
            extra = DISPLACEMENT_32[modrm]
            if extra >= SIB:
                extra -= SIB - 1
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
