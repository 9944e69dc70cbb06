"""Which encodings are undefined although their opcode exists: #UD wherever they run.

LOCK is allowed only before a read-modify-write of memory (SDM volume 2, "LOCK"); a group has holes; some instructions
want memory, some a register; SSE opcodes exist only with certain mandatory prefixes.
"""

from __future__ import annotations

LOCKABLE_ALL = frozenset(
    [row + column for row in (0x00, 0x10, 0x20, 0x30) for column in (0x0, 0x1, 0x8, 0x9)]
) - {0x38, 0x39} | {0x86, 0x87, 0x0FAB, 0x0FB3, 0x0FBB, 0x0FB0, 0x0FB1, 0x0FC0, 0x0FC1}  # fmt: skip
"""ADD OR ADC SBB AND SUB XOR to memory (CMP does not write), XCHG, BTS, BTR, BTC, CMPXCHG, XADD."""

LOCKABLE_REG: dict[int, frozenset[int]] = {
    **{opcode: frozenset(range(7)) for opcode in (0x80, 0x81, 0x82, 0x83)},
    0xF6: frozenset((2, 3)), 0xF7: frozenset((2, 3)), 0xFE: frozenset((0, 1)), 0xFF: frozenset((0, 1)),
    0x0FBA: frozenset((5, 6, 7)), 0x0FC7: frozenset((1,)),
}  # fmt: skip
"""Those whose modrm.reg decides."""


def lock_allowed(opcode: int, modrm: int) -> bool:
    """May LOCK stand before this opcode with this modrm byte (-1: none)?"""
    if modrm < 0 or modrm >= 0xC0:
        return False
    return opcode in LOCKABLE_ALL or (modrm >> 3 & 7) in LOCKABLE_REG.get(opcode, ())


_ALL = frozenset(range(8))
_NONE: frozenset[int] = frozenset()

GROUPS: dict[int, tuple[frozenset[int], frozenset[int]]] = {
    0x8C: (frozenset(range(6)), frozenset(range(6))),
    0x8E: (frozenset((0, 2, 3, 4, 5)), frozenset((0, 2, 3, 4, 5))),
    0x8D: (_ALL, _NONE),
    0x8F: (frozenset((0,)), frozenset((0,))),
    0xC6: (frozenset((0,)), frozenset((0,))),
    0xC7: (frozenset((0,)), frozenset((0,))),
    0xFE: (frozenset((0, 1)), frozenset((0, 1))),
    0xFF: (frozenset(range(7)), frozenset((0, 1, 2, 4, 6))),
    0x0F00: (frozenset(range(6)), frozenset(range(6))),
    0x0F20: (frozenset((0, 2, 3, 4)), frozenset((0, 2, 3, 4))),
    0x0F22: (frozenset((0, 2, 3, 4)), frozenset((0, 2, 3, 4))),
    0x0FB2: (_ALL, _NONE), 0x0FB4: (_ALL, _NONE), 0x0FB5: (_ALL, _NONE),
    0x0FBA: (frozenset((4, 5, 6, 7)), frozenset((4, 5, 6, 7))),
    0x0F71: (_NONE, frozenset((2, 4, 6))),
    0x0F72: (_NONE, frozenset((2, 4, 6))),
    0x0F73: (_NONE, frozenset((2, 3, 6, 7))),
    0x0FC3: (_ALL, _NONE), 0x0FE7: (_ALL, _NONE), 0x0F2B: (_ALL, _NONE),
    0x0FC7: (frozenset((1, 3, 4, 5, 6, 7)), frozenset((6, 7))),
}  # fmt: skip
"""opcode -> (values of modrm.reg that exist with memory, those that exist with a register)"""


def undefined_form(opcode: int, modrm: int, prefixes: int) -> bool:
    """Is this opcode undefined with this modrm byte (-1: none) and these prefixes?"""
    if opcode in GROUPS:
        memory, register = GROUPS[opcode]
        return (modrm >> 3 & 7) not in (register if modrm >= 0xC0 else memory)
    return False
