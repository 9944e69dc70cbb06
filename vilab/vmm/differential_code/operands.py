"""Registers, memory operands and immediates: what stands behind an opcode."""

from __future__ import annotations

from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Digits
from vilab.vmm.differential_code.place import Place, address, u16, u32
from vilab.x86.encode import EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP

POINTERS = (EBX, ESI, EDI, EBP)
WORK = (EAX, ECX, EDX, EAX, EBX, EDX, ESI, EDI, EBP)
_IMMEDIATES = (0, 1, 0xFF, 0x7F, 0x80, 0x8000, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 31, 32, 33, 0x1234)


def work(d: Digits) -> int:
    """A register, seldom ESP."""
    return ESP if d.one_in(60) else d.of(WORK)


def memory(d: Digits, p: Place, reg: int) -> tuple[bytes, bytes]:
    """(prefix, modrm and what follows) of a memory operand with ``reg`` in the middle."""
    kind = d.below(12)
    field = reg << 3
    prefix = b""
    if d.one_in(12):
        prefix = bytes((d.of((0x3E, 0x36, 0x26, 0x64, 0x65, 0x2E)),))
    if kind < 5:
        return prefix, bytes((0x05 | field,)) + u32(address(d, p))
    if kind < 8:
        return prefix, bytes((0x40 | field | d.of(POINTERS), d.below(256)))
    if kind == 8:
        return prefix, bytes((0x44 | field, 0x24, d.below(32) * 4 & 0x7F))
    if kind == 9:
        base, index = d.of(POINTERS), d.of((EAX, ECX, EDX, ESI))
        return prefix, bytes((0x44 | field, d.below(4) << 6 | index << 3 | base, d.below(256)))
    if kind == 10:
        return b"\x67" + prefix, bytes((0x06 | field,)) + u16(
            d.of((g.LOW_DATA, 0x9000, 0xC800, 0xE000)) + d.below(1024)
        )
    return prefix, bytes((0x80 | field | d.of((*POINTERS, EAX, ECX)),)) + u32(d.below(64) * 4 - 128)


def rm(d: Digits, p: Place, reg: int, register_one_in: int = 2) -> tuple[bytes, bytes, bool]:
    """(prefix, modrm..., is memory)"""
    if d.below(register_one_in):
        return *memory(d, p, reg), True
    return b"", bytes((0xC0 | reg << 3 | work(d),)), False


def immediate(d: Digits, size_bytes: int) -> bytes:
    value = d.of(_IMMEDIATES) if d.below(3) else d.below(1 << 32)
    return (value & (1 << 8 * size_bytes) - 1).to_bytes(size_bytes, "little")
