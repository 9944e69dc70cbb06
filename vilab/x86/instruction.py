"""The record of one decoded instruction: what a monitor needs to know, and no more.

::

    66 c7 44 24 08 34 12      mov word ptr [esp + 8], 0x1234
    |  |  |        |
    |  |  |        immediate_at 5
    |  |  modrm_at 2
    |  opcode c7
    prefixes OPSIZE

Operands are worked out when somebody asks, text comes from capstone and only then.
"""

from __future__ import annotations

import msgspec

from vilab.x86.modrm import DS, MemoryOperand, memory_operand
from vilab.x86.opcodes import Kind
from vilab.x86.text import instruction_text

OPSIZE, ADDRSIZE, LOCK, REP, REPNE = 1, 2, 4, 8, 16
SEGMENT_SHIFT = 8
"""Bits of ``Instruction.prefixes``; from ``SEGMENT_SHIFT`` on: 0 no override, else 1 + segment."""


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
    def inhibits_interrupts(self) -> bool:
        """STI, MOV SS, POP SS: no interrupt before the next instruction is done."""
        return (
            self.op == "sti"
            or (self.op == "mov to seg" and self.reg == 2)
            or (self.op == "pop seg" and self.opcode == 0x17)
        )

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
        """The explicit memory operand, ``None`` where there is none. String instructions' is implicit: not here.

        Neither has an undefined instruction one: nobody says where its operands would begin.
        """
        if self.kind is Kind.UNDEFINED:
            return None
        override, bits = self.segment_override, self.address_bits
        if 0xA0 <= self.opcode <= 0xA3:
            address = int.from_bytes(self.code[self.immediate_at :], "little")
            return MemoryOperand(DS if override is None else override, -1, -1, 1, address, bits)
        if self.modrm < 0 or self.modrm >= 0xC0 or 0x0F20 <= self.opcode <= 0x0F23:
            return None
        return memory_operand(self.code, self.modrm_at, bits, override)

    def __repr__(self) -> str:
        return f"<Instruction {self.address:08x} {self.code.hex()} {self.kind.name} {self.text}>"
