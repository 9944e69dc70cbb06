"""Instructions that any program has: arithmetic, moves, strings, floating point."""

from __future__ import annotations

from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Digits
from vilab.vmm.differential_code.operands import POINTERS, WORK, immediate, memory, rm, work
from vilab.vmm.differential_code.place import Place, address, u32
from vilab.x86 import encode as e
from vilab.x86.encode import EBX, ECX, EDX
from vilab.x86.validity import lock_allowed

_BY_RM = (
    *(bytes((op * 8 + form,)) for op in range(8) for form in range(4)),
    b"\x84", b"\x85", b"\x86", b"\x87", b"\x88", b"\x89", b"\x8a", b"\x8b", b"\x8a", b"\x8b", b"\x89", b"\x88",
    b"\x0f\xaf", b"\x0f\xb6", b"\x0f\xb7", b"\x0f\xbe", b"\x0f\xbf", *(bytes((0x0F, 0x40 | cc)) for cc in range(16)),
    b"\x0f\xa3", b"\x0f\xab", b"\x0f\xb3", b"\x0f\xbb", b"\x0f\xa5", b"\x0f\xad", b"\x0f\xbc", b"\x0f\xbd",
    b"\x0f\xc0", b"\x0f\xc1", b"\x0f\xb0", b"\x0f\xb1", b"\x63",
)  # fmt: skip
_NOT_BIT_INDEX = frozenset((b"\x0f\xa3", b"\x0f\xab", b"\x0f\xb3", b"\x0f\xbb"))
_BY_GROUP: tuple[tuple[bytes, tuple[int, ...], int], ...] = (
    (b"\x80", tuple(range(8)), 1), (b"\x81", tuple(range(8)), 4), (b"\x83", tuple(range(8)), 1),
    (b"\xc0", tuple(range(8)), 1), (b"\xc1", tuple(range(8)), 1), (b"\xd0", tuple(range(8)), 0),
    (b"\xd1", tuple(range(8)), 0), (b"\xd2", tuple(range(8)), 0), (b"\xd3", tuple(range(8)), 0),
    (b"\xf6", (0,), 1), (b"\xf7", (0,), 4), (b"\xf6", tuple(range(2, 8)), 0), (b"\xf7", tuple(range(2, 8)), 0),
    (b"\xfe", (0, 1), 0), (b"\xff", (0, 1), 0), (b"\xff", (6,), 0), (b"\x8f", (0,), 0), (b"\xc6", (0,), 1),
    (b"\xc7", (0,), 4), (b"\x69", tuple(range(8)), 4), (b"\x6b", tuple(range(8)), 1), (b"\x0f\xba", (4, 5, 6, 7), 1),
    (b"\x0f\xa4", tuple(range(8)), 1), (b"\x0f\xac", tuple(range(8)), 1), (b"\x0f\x90", (0,), 0),
    (b"\x0f\x9c", (0,), 0),
    (b"\x0f\x96", (0,), 0), (b"\x0f\x1f", (0,), 0),
)  # fmt: skip
_SHIFTS = frozenset(bytes((opcode,)) for opcode in (0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3))
_PLAIN = tuple(bytes.fromhex(code) for code in (
    "90", "40", "41", "42", "4b", "4d", "f8", "f9", "f5", "98", "99", "9f", "9e", "27", "2f", "37", "3f", "d6",
    "fc", "d7", "91", "92", "93", "50", "51", "52", "58", "59", "5a", "53", "5b", "60", "61", "c9", "9b", "6698",
    "6699", "6640", "0fc8", "0fc9", "0fca", "d40a", "d50a", "d400", "d510", "c8080000", "c8040001", "c8100002",
    "f390", "54", "6650", "6658", "0fa2",
))  # fmt: skip


def plain(d: Digits, _p: Place) -> bytes:
    return _PLAIN[d.below(len(_PLAIN))]


def by_rm(d: Digits, p: Place) -> bytes:
    """An instruction with a register and a register or memory operand."""
    opcode = _BY_RM[d.below(len(_BY_RM))]
    reg = work(d)
    prefix, operand, in_memory = rm(d, p, reg)
    if in_memory and opcode in _NOT_BIT_INDEX and d.below(4):
        return prefix + b"\x0f\xba" + bytes((operand[0] | 0x20,)) + operand[1:] + b"\x05"
    if d.one_in(8):
        prefix += b"\x66"
    if in_memory and d.one_in(12) and lock_allowed(int.from_bytes(opcode, "big"), operand[0]):
        prefix += b"\xf0"
    return prefix + opcode + operand


def by_group(d: Digits, p: Place) -> bytes:
    opcode, regs, size = _BY_GROUP[d.below(len(_BY_GROUP))]
    reg = d.of(regs)
    through_carry = opcode in _SHIFTS and reg in (2, 3)  # see ACCEPTED: with memory the processor itself is wrong
    prefix, operand, in_memory = rm(d, p, reg, 1 if through_carry else 2)
    if d.one_in(8):
        prefix += b"\x66"
        size = min(size, 2)
    if in_memory and d.one_in(16) and lock_allowed(int.from_bytes(opcode, "big"), operand[0]):
        prefix += b"\xf0"
    return prefix + opcode + operand + immediate(d, size)


def load_immediate(d: Digits, _p: Place) -> bytes:
    return bytes((0xB8 | d.of(WORK),)) + immediate(d, 4)


def load_pointer(d: Digits, p: Place) -> bytes:
    return bytes((0xB8 | d.of(POINTERS),)) + u32(address(d, p))


def absolute(d: Digits, p: Place) -> bytes:
    prefix = b"\x66" if d.one_in(6) else b""
    return prefix + bytes((0xA0 | d.below(4),)) + u32(address(d, p))


def lea(d: Digits, p: Place) -> bytes:
    prefix, operand = memory(d, p, d.of(WORK))
    return prefix + b"\x8d" + operand


def string(d: Digits, p: Place) -> bytes:
    """Pointers, a small counter, a direction, and a string instruction with or without repetition."""
    code = bytearray()
    code += b"\xbe" + u32(address(d, p)) + b"\xbf" + u32(address(d, p))
    code += e.mov_reg_imm(ECX, (2, 0, 1, 3, 5, 17)[d.below(6)])
    code += (b"", b"\xfc", b"\xfd")[d.below(3)]
    code += (b"\xf3", b"", b"\xf2", b"\xf3\x66", b"\x66")[d.below(5)]
    code += bytes((d.of((0xA4, 0xA5, 0xAA, 0xAB, 0xA6, 0xA7, 0xAC, 0xAD, 0xAE, 0xAF)),))
    if code[-1] in (0xA6, 0xA7, 0xAE, 0xAF) or d.below(2):
        code += b"\xfc"
    return bytes(code)


def divide(d: Digits, _p: Place) -> bytes:
    """Small dividends, so that not every division faults."""
    code = e.mov_reg_imm(EDX, d.below(3)) + e.mov_reg_imm(EBX, d.below(5))
    return code + bytes((0xF7, 0xF0 | d.below(2) << 3 | EBX))


def floating(d: Digits, p: Place) -> bytes:
    at = g.DATA_USER + 0x380
    return (
        b"\xdb\xe3\xd9\xe8\xd9\xeb\xde\xc1\xdf\xe0",
        b"\xdb\xe3\xd9\xee\xd9\x3d" + u32(at),
        b"\xdb\xe3\xdb\x05" + u32(address(d, p)) + b"\xdd\x1d" + u32(at),
        b"\x0f\x6e\xc8\x0f\xfe\xc9\x0f\x7e\xca\x0f\x77",
        b"\x66\x0f\x6e\xc0\x66\x0f\xfe\xc0\x66\x0f\x7e\xc2",
        b"\x0f\x57\xc0",
    )[d.below(6)]
