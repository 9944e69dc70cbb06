"""The modrm byte, and what of an instruction follows from it.

::

     7 6   5 4 3   2 1 0          7 6     5 4 3   2 1 0
    +-----+-------+-------+      +-------+-------+-------+
    | mod |  reg  |  rm   |      | scale | index | base  |    SIB: only where rm = 4 and mod is not 3
    +-----+-------+-------+      +-------+-------+-------+

    mod 0  [rm]; but rm (or base) 5: no register, a displacement of 32 bits       index 4: none
    mod 1  [rm + 8 bits]       mod 2  [rm + 32 bits]       mod 3  the register rm itself

With 16-bit addresses rm names a pair of registers (``BASES_16``), there is no SIB byte, and displacements have 16 bits.
Source: Intel SDM volume 2, section 2.1.5.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.x86.opcodes import IMMEDIATES

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
ES, CS, SS, DS, FS, GS = range(6)


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


def memory_operand(code: bytes, modrm_at: int, bits: int, override: int | None) -> MemoryOperand:
    """The operand that the modrm byte at ``modrm_at`` describes, mod not being 3.

    ``bits`` is the address size, ``override`` the segment that a prefix names.
    """
    mod, rm, at = code[modrm_at] >> 6, code[modrm_at] & 7, modrm_at + 1
    index, scale = -1, 1
    if bits == 16:
        base, index = BASES_16[rm]
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


BASES_16 = ((EBX, ESI), (EBX, EDI), (EBP, ESI), (EBP, EDI), (ESI, -1), (EDI, -1), (EBP, -1), (EBX, -1))
"""What rm stands for with 16-bit addresses."""

IMMEDIATE_BYTES = tuple(
    tuple({"-": 0, "b": 1, "w": 2, "z": z, "o": o, "p": z + 2, "e": 3}[letter] for letter in IMMEDIATES)
    for o in (4, 2)
    for z in (4, 2)
)
"""[address size 16] * 2 + [operand size 16] -> bytes by the index in ``IMMEDIATES``"""

SIB = 64
DISPLACEMENT_32 = tuple(
    0 if mod == 3 else (SIB if rm == 4 else 0) + (0, 1, 4)[mod] + (4 if mod == 0 and rm == 5 else 0)
    for mod in range(4)
    for _ in range(8)
    for rm in range(8)
)
DISPLACEMENT_16 = tuple(
    0 if mod == 3 else (0, 1, 2)[mod] + (2 if mod == 0 and rm == 6 else 0)
    for mod in range(4)
    for _ in range(8)
    for rm in range(8)
)
"""Bytes of displacement after a modrm byte; ``SIB`` is added where a SIB byte comes first."""
