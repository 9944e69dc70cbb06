"""Which encodings are undefined although their opcode exists: #UD wherever they run.

LOCK is allowed only before a read-modify-write of memory (SDM volume 2, "LOCK"); a group has holes; some instructions
want memory, some a register; an SSE opcode exists only with certain mandatory prefixes. Instructions of extensions that
the processor may lack are not refused here: it raises #UD by itself.

Sources: Intel SDM volume 2, appendix A; AMD APM volume 3, appendix A.
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
    0x0F71: (_NONE, frozenset((2, 4, 6))), 0x0F72: (_NONE, frozenset((2, 4, 6))),
    0x0F73: (_NONE, frozenset((2, 3, 6, 7))), 0x0F0D: (_ALL, _NONE), 0x0F13: (_ALL, _NONE), 0x0F17: (_ALL, _NONE),
    0x0F50: (_NONE, _ALL), 0x0FC5: (_NONE, _ALL), 0x0FD7: (_NONE, _ALL), 0x0FF7: (_NONE, _ALL), 0x0FF0: (_ALL, _NONE),
    0x0FC3: (_ALL, _NONE), 0x0FE7: (_ALL, _NONE), 0x0F2B: (_ALL, _NONE),
    0x0FC7: (frozenset((1, 3, 4, 5, 6, 7)), frozenset((6, 7))),
}  # fmt: skip
"""opcode -> (values of modrm.reg that exist with memory, those that exist with a register)"""


X87: dict[int, str] = {
    0xD9: "08 d1-d7 e2-e3 e6-e7 ef", 0xDA: "e0-e8 ea-ff", 0xDB: "20 30 e5-e7 f8-ff", 0xDD: "28 f0-ff",
    0xDE: "d8 da-df", 0xDF: "e1-e7 f8-ff",
}  # fmt: skip
"""Floating-point opcodes: the modrm bytes that are undefined; below c0 one stands for all with that /reg. The aliases
that every processor runs and no manual names (``dc d0``, ``dd c8``, ``df c8``) are not among them."""


def _expand(ranges: str) -> frozenset[int]:
    out: set[int] = set()
    for word in ranges.split():
        first, _, last = word.partition("-")
        out.update(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(out)


_X87 = {opcode: _expand(ranges) for opcode, ranges in X87.items()}

SSE_DEFAULT = "n6"
SSE: dict[str, str] = {
    "n623": "10 11 12 2a 2b 2c 2d 51 58 59 5a 5c 5d 5e 5f 70 c2",
    "n63": "16 5b 6f 7e 7f", "n62": "78 79", "n3": "52 53", "n": "77 c3", "6": "6c 6d", "62": "7c 7d d0",
    "623": "d6 e6", "2": "f0",
    "n6": "13 14 15 17 28 29 2e 2f 50 54-57 60-6b 6e 71-73 74-76 c4-c6 d1-d5 d7-df e0-e5 e7-ef f1-fe",
}  # fmt: skip
"""Two-byte opcodes by the mandatory prefixes with which they exist: n none, 6 66, 2 f2, 3 f3."""

SSE_38: dict[str, str] = {
    "n6": "00-0b 1c-1e", "6": "10 14 15 17 20-25 28-2b 30-35 37-41 80-82 cf db-df f5", "n62": "f0 f1",
    "n": "c8-cd", "n63": "f6", "6 ": "f8", "n ": "f9",
}  # fmt: skip
SSE_3A: dict[str, str] = {
    "6": "08-0e 14-17 20-22 40-42 44 60-63 ce cf df", "n6": "0f", "n": "cc",
}  # fmt: skip
"""The same for the maps 0f 38 and 0f 3a; every other opcode there is undefined."""


def _by_prefix(table: dict[str, str], page: int) -> dict[int, frozenset[str]]:
    return {page | opcode: frozenset(letters) for letters, ranges in table.items() for opcode in _expand(ranges)}


_MANDATORY = _by_prefix(SSE, 0x0F00) | _by_prefix(SSE_38, 0x0F3800) | _by_prefix(SSE_3A, 0x0F3A00)

NOW_3D = _expand("0c-0d 1c-1d 8a 8e 90 94 96 97 9a 9e a0 a4 a6 a7 aa ae b0 b4 b6 b7 bb bf")
"""3DNow!: the suffix byte after ``0f 0f`` that says what it does."""


def undefined_form(opcode: int, modrm: int, prefixes: int) -> bool:
    """Is this opcode undefined with this modrm byte (-1: none) and these ``Instruction.prefixes``?"""
    register, reg = modrm >= 0xC0, modrm >> 3 & 7
    if opcode in GROUPS and reg not in GROUPS[opcode][register]:
        return True
    mandatory = "3" if prefixes & 8 else "2" if prefixes & 16 else "6" if prefixes & 1 else "n"
    if 0x0F10 <= opcode <= 0x0FFE or opcode > 0xFFFF:
        if opcode in _MANDATORY:
            if mandatory not in _MANDATORY[opcode]:
                return True
        elif opcode > 0xFFFF:
            return True
    match opcode:
        case 0xD8 | 0xD9 | 0xDA | 0xDB | 0xDC | 0xDD | 0xDE | 0xDF:
            return (modrm if register else modrm & 0x38) in _X87.get(opcode, ())
        case 0x0F12 | 0x0F16:
            return register and mandatory == "6"
        case 0x0FD6:
            return not register and mandatory != "6"
        case 0x0F73:
            return reg & 3 == 3 and mandatory != "6"
        case 0x0F78 | 0x0F79:
            return not register and mandatory != "n"
        case 0x0FAE:
            if register:
                return reg < 4 or (reg == 4 and mandatory != "3")
            return reg in {"n": (), "6": (4, 5), "2": (4, 5, 6, 7), "3": (5, 7)}[mandatory]
        case 0x0FB8:
            return mandatory != "3"
        case 0x0FC7:
            if register:
                return mandatory == "2" or (mandatory == "3" and reg == 6)
            return (reg == 6 and mandatory == "2") or (reg == 7 and mandatory != "n")
        case 0x0F38F0 | 0x0F38F1:
            return register and mandatory in "n6"
        case 0x0F382A | 0x0F38F8 | 0x0F38F9 | 0x0F3880 | 0x0F3881 | 0x0F3882:
            return register
    return False
