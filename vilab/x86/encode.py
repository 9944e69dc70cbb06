"""The machine code that a translator emits, one function an instruction, each returning bytes.

Registers are numbers 0 to 7: EAX ECX EDX EBX ESP EBP ESI EDI. Monitor words are reached as ``ss:[address]``: a
de-privileged guest kernel may have changed DS, never so SS. Relative jumps take ``at``, the address where they will
stand. None of these but ``alu_*``, ``bt_mem`` and ``popfd`` changes a flag.

    opcode    prefix 36 is SS:    modrm 05 + reg * 8 is [disp32]    modrm 04 + sib is [base + index * scale]
"""

from __future__ import annotations

import struct

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)

ADD, OR, ADC, SBB, AND, SUB, XOR, CMP = range(8)
"""``operation`` of the ``alu_*`` functions."""


def _u32(value: int) -> bytes:
    return (value & 0xFFFF_FFFF).to_bytes(4, "little")


def _rel32(at: int, size: int, target: int) -> bytes:
    return _u32(target - at - size)


def _rel8(at: int, target: int) -> bytes:
    distance = target - at - 2 & 0xFFFF_FFFF
    if distance >= 1 << 31:
        distance -= 1 << 32
    if not -128 <= distance <= 127:
        raise ValueError(f"a short jump at {at:08x} cannot reach {target:08x}, {distance} bytes away (-128 to 127)")
    return struct.pack("b", distance)


# Monitor words, ss:[address]


def store_reg(address: int, reg: int) -> bytes:
    """``mov dword ptr ss:[address], reg``"""
    if reg == EAX:
        return b"\x36\xa3" + _u32(address)
    return bytes((0x36, 0x89, 0x05 | reg << 3)) + _u32(address)


def store_imm(address: int, value: int) -> bytes:
    """``mov dword ptr ss:[address], value``"""
    return b"\x36\xc7\x05" + _u32(address) + _u32(value)


def store_byte_imm(address: int, value: int) -> bytes:
    """``mov byte ptr ss:[address], value``"""
    return b"\x36\xc6\x05" + _u32(address) + bytes((value & 0xFF,))


def load_reg(reg: int, address: int) -> bytes:
    """``mov reg, dword ptr ss:[address]``"""
    if reg == EAX:
        return b"\x36\xa1" + _u32(address)
    return bytes((0x36, 0x8B, 0x05 | reg << 3)) + _u32(address)


def load_table(reg: int, address: int, index: int) -> bytes:
    """``mov reg, dword ptr ss:[index * 4 + address]``"""
    return bytes((0x36, 0x8B, 0x04 | reg << 3, _sib(index, 4, 5))) + _u32(address)


def load_zero_extended_word(reg: int, address: int) -> bytes:
    """``movzx reg, word ptr ss:[address]``"""
    return bytes((0x36, 0x0F, 0xB7, 0x05 | reg << 3)) + _u32(address)


def push_mem(address: int) -> bytes:
    """``push dword ptr ss:[address]``"""
    return b"\x36\xff\x35" + _u32(address)


def pop_mem(address: int) -> bytes:
    """``pop dword ptr ss:[address]``"""
    return b"\x36\x8f\x05" + _u32(address)


def alu_mem_imm(operation: int, address: int, value: int) -> bytes:
    """``add|or|...|cmp dword ptr ss:[address], value``"""
    if -128 <= value <= 127:
        return bytes((0x36, 0x83, 0x05 | operation << 3)) + _u32(address) + struct.pack("b", value)
    return bytes((0x36, 0x81, 0x05 | operation << 3)) + _u32(address) + _u32(value)


def alu_byte_mem_imm(operation: int, address: int, value: int) -> bytes:
    """``add|or|...|cmp byte ptr ss:[address], value``"""
    return bytes((0x36, 0x80, 0x05 | operation << 3)) + _u32(address) + bytes((value & 0xFF,))


def alu_mem_reg(operation: int, address: int, reg: int) -> bytes:
    """``add|or|...|cmp dword ptr ss:[address], reg``"""
    return bytes((0x36, operation << 3 | 1, 0x05 | reg << 3)) + _u32(address)


def alu_reg_mem(operation: int, reg: int, address: int) -> bytes:
    """``add|or|...|cmp reg, dword ptr ss:[address]``"""
    return bytes((0x36, operation << 3 | 3, 0x05 | reg << 3)) + _u32(address)


def bt_mem(address: int, bit: int) -> bytes:
    """``bt dword ptr ss:[address], bit``: CF = that bit."""
    return b"\x36\x0f\xba\x25" + _u32(address) + bytes((bit,))


def xchg_mem(address: int, reg: int) -> bytes:
    """``xchg dword ptr ss:[address], reg``"""
    return bytes((0x36, 0x87, 0x05 | reg << 3)) + _u32(address)


# The guest's stack, [esp + displacement]


def load_stack(reg: int, displacement: int = 0) -> bytes:
    """``mov reg, dword ptr [esp + displacement]``"""
    return b"\x8b" + _stack(reg, displacement)


def store_stack(displacement: int, reg: int) -> bytes:
    """``mov dword ptr [esp + displacement], reg``"""
    return b"\x89" + _stack(reg, displacement)


def store_stack_imm(displacement: int, value: int) -> bytes:
    """``mov dword ptr [esp + displacement], value``"""
    return b"\xc7" + _stack(0, displacement) + _u32(value)


def load_stack_byte(reg: int, displacement: int = 0) -> bytes:
    """``movzx reg, byte ptr [esp + displacement]``"""
    return b"\x0f\xb6" + _stack(reg, displacement)


def alu_stack_imm(operation: int, displacement: int, value: int) -> bytes:
    """``add|or|...|cmp dword ptr [esp + displacement], value``"""
    return b"\x81" + _stack(operation, displacement) + _u32(value)


def alu_stack_reg(operation: int, displacement: int, reg: int) -> bytes:
    """``add|or|...|cmp dword ptr [esp + displacement], reg``"""
    return bytes((operation << 3 | 1,)) + _stack(reg, displacement)


def pop_stack(displacement: int) -> bytes:
    """``pop dword ptr [esp + displacement]``: the displacement counts from ESP after the pop."""
    return b"\x8f" + _stack(0, displacement)


def push_stack(displacement: int) -> bytes:
    """``push dword ptr [esp + displacement]``: the displacement counts from ESP before the push."""
    return b"\xff" + _stack(6, displacement)


def _stack(reg: int, displacement: int) -> bytes:
    if displacement == 0:
        return bytes((0x04 | reg << 3, 0x24))
    if -128 <= displacement <= 127:
        return bytes((0x44 | reg << 3, 0x24)) + struct.pack("b", displacement)
    return bytes((0x84 | reg << 3, 0x24)) + _u32(displacement)


def _sib(index: int, scale: int, base: int) -> int:
    if index == ESP:
        raise ValueError("ESP cannot be an index register: its number means none")
    return {1: 0, 2: 1, 4: 2, 8: 3}[scale] << 6 | index << 3 | base


def push_reg(reg: int) -> bytes:
    return bytes((0x50 | reg,))


def pop_reg(reg: int) -> bytes:
    return bytes((0x58 | reg,))


def push_imm(value: int) -> bytes:
    """``push value``, always five bytes: a dword."""
    return b"\x68" + _u32(value)


def pushfd() -> bytes:
    return b"\x9c"


def popfd() -> bytes:
    return b"\x9d"


# Registers


def mov_reg_imm(reg: int, value: int) -> bytes:
    """``mov reg, value``, five bytes."""
    return bytes((0xB8 | reg,)) + _u32(value)


def mov_reg(to: int, source: int) -> bytes:
    """``mov to, source``"""
    return bytes((0x89, 0xC0 | source << 3 | to))


def movzx_byte(to: int, source: int) -> bytes:
    """``movzx to, low byte of source``; source EAX, ECX, EDX or EBX."""
    if source > EBX:
        raise ValueError("only EAX, ECX, EDX and EBX have a low byte of their own")
    return bytes((0x0F, 0xB6, 0xC0 | to << 3 | source))


def lea(reg: int, base: int, displacement: int) -> bytes:
    """``lea reg, [base + displacement]``: an addition that leaves the flags alone."""
    if base == ESP:
        return b"\x8d" + _stack(reg, displacement)
    if -128 <= displacement <= 127:
        return bytes((0x8D, 0x40 | reg << 3 | base)) + struct.pack("b", displacement)
    return bytes((0x8D, 0x80 | reg << 3 | base)) + _u32(displacement)


def lea_scaled(reg: int, base: int, index: int, scale: int, displacement: int = 0) -> bytes:
    """``lea reg, [base + index * scale + displacement]``"""
    return bytes((0x8D, 0x84 | reg << 3, _sib(index, scale, base))) + _u32(displacement)


def alu_reg_imm(operation: int, reg: int, value: int) -> bytes:
    """``add|or|...|cmp reg, value``"""
    if -128 <= value <= 127:
        return bytes((0x83, 0xC0 | operation << 3 | reg)) + struct.pack("b", value)
    return bytes((0x81, 0xC0 | operation << 3 | reg)) + _u32(value)


def alu_reg(operation: int, to: int, source: int) -> bytes:
    """``add|or|...|cmp to, source``"""
    return bytes((operation << 3 | 1, 0xC0 | source << 3 | to))


def xchg_reg(one: int, other: int) -> bytes:
    return bytes((0x87, 0xC0 | other << 3 | one))


# Control


def jmp(at: int, target: int) -> bytes:
    """``jmp target``, five bytes."""
    return b"\xe9" + _rel32(at, 5, target)


def jmp_short(at: int, target: int) -> bytes:
    """``jmp target``, two bytes. Raises ``ValueError`` out of reach."""
    return b"\xeb" + _rel8(at, target)


def jcc(condition: int, at: int, target: int) -> bytes:
    """``jcc target``, six bytes; ``condition`` 0 to 15 as in ``Instruction.condition``."""
    return bytes((0x0F, 0x80 | condition)) + _rel32(at, 6, target)


def jcc_short(condition: int, at: int, target: int) -> bytes:
    """``jcc target``, two bytes. Raises ``ValueError`` out of reach."""
    return bytes((0x70 | condition,)) + _rel8(at, target)


def jecxz(at: int, target: int) -> bytes:
    """``jecxz target``: jump where ECX is 0; only short. Raises ``ValueError`` out of reach."""
    return b"\xe3" + _rel8(at, target)


def loop(opcode: int, at: int, target: int) -> bytes:
    """LOOPNE (0xe0), LOOPE (0xe1), LOOP (0xe2) or JECXZ (0xe3). Raises ``ValueError`` out of reach."""
    if not 0xE0 <= opcode <= 0xE3:
        raise ValueError(f"opcode {opcode:#x} is none of LOOPNE, LOOPE, LOOP, JECXZ (0xe0 to 0xe3)")
    return bytes((opcode,)) + _rel8(at, target)


def jmp_mem(address: int) -> bytes:
    """``jmp dword ptr ss:[address]``"""
    return b"\x36\xff\x25" + _u32(address)


def jmp_table(address: int, reg: int) -> bytes:
    """``jmp dword ptr ss:[reg * 4 + address]``"""
    return bytes((0x36, 0xFF, 0x24, _sib(reg, 4, 5))) + _u32(address)


def jmp_reg(reg: int) -> bytes:
    return bytes((0xFF, 0xE0 | reg))


def call(at: int, target: int) -> bytes:
    """``call target``, five bytes."""
    return b"\xe8" + _rel32(at, 5, target)


def ret() -> bytes:
    return b"\xc3"


def ret_imm(size_bytes: int) -> bytes:
    """``ret size_bytes``"""
    return b"\xc2" + size_bytes.to_bytes(2, "little")


def int_n(vector: int) -> bytes:
    """``int vector``, two bytes: a callout."""
    return bytes((0xCD, vector))


def int3() -> bytes:
    return b"\xcc"


_NOPS = (
    "", "90", "6690", "0f1f00", "0f1f4000", "0f1f440000", "660f1f440000", "0f1f8000000000", "0f1f840000000000",
)  # fmt: skip
"""SDM volume 2, "NOP", table 4-12: the recommended one for each length."""


def nop(size_bytes: int) -> bytes:
    """So many bytes of NOPs, as few instructions as possible."""
    whole, rest = divmod(size_bytes, 8)
    return bytes.fromhex(_NOPS[8]) * whole + bytes.fromhex(_NOPS[rest])
