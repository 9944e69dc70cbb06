"""What becomes of an instruction in a mirror: it stands as it is, it is emulated, or it is run in place."""

from __future__ import annotations

from vilab.vmm.mirror import LINEAR
from vilab.vmm.translator import DATA_SELECTOR_READS, PASSED_THROUGH, VEX
from vilab.x86.decode import CS, Instruction, Kind, decode

EMULATED, IN_PLACE = 0, 1
"""What becomes of a callout."""
HALF = 1 << 31
PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
CS_PREFIX = 0x2E
VEX_STARTS = frozenset((0xC4, 0xC5, 0x62))
JUMPS = frozenset((0x0F, 0xE8, 0xE9, 0xEB, *range(0x70, 0x80), *range(0xE0, 0xE4)))
"""First opcode bytes of direct jumps and calls, and of others."""
NO_ACCESS = frozenset((0x8D, *range(0x0F18, 0x0F20)))
"""LEA and the long NOPs name memory and do not touch it."""
IMPLICIT_MEMORY = frozenset((0xA4, 0xA5, 0xA6, 0xA7, 0xAC, 0xAD, 0xD7, 0x6E, 0x6F))
ENDS = frozenset((Kind.JMP_REL, Kind.JMP_IND, Kind.RET, Kind.FAR, Kind.UNDEFINED))
SHORT = {
    **dict.fromkeys((*range(112, 128), *range(224, 228)), (2, Kind.JCC)),
    0xEB: (2, Kind.JMP_REL), 0xE9: (5, Kind.JMP_REL), 0xE8: (5, Kind.CALL_REL), 0xC3: (1, Kind.RET),
}  # fmt: skip
"""Control flow without prefixes: size and kind."""


def look(code: bytes, eip: int) -> tuple[Kind, int, int | None, Instruction | None]:
    """Kind, size, a direct jump's target relative to the instruction, and the instruction itself if it was decoded.

    Raises ``Truncated``.
    """
    first = code[0]
    size, kind = SHORT.get(first, (0, Kind.IDENT))
    if first == 0x0F and len(code) > 1 and code[1] >> 4 == 8:
        size, kind = 6, Kind.JCC
    if size and size <= len(code):
        if kind is Kind.RET:
            return kind, size, None, None
        rel = code[size - (1 if size == 2 else 4) : size]
        return kind, size, size + int.from_bytes(rel, "little", signed=True), None
    i = decode(code, eip)
    if i.kind is Kind.IDENT and not _is_odd(code[: i.size]):
        return i.kind, i.size, None, None
    return i.kind, i.size, None if i.target is None else (i.target - eip + HALF & LINEAR) - HALF, i


def _is_odd(code: bytes) -> bool:
    """Does it begin with prefixes, and is that more than operand size, LOCK, REP or a segment that is not CS?"""
    for byte in code:
        if byte == CS_PREFIX or byte in VEX_STARTS or byte in JUMPS:
            return True
        if byte not in PREFIXES:
            return False
    return True


def treatment(i: Instruction, how: int) -> int:
    """-1 as it is, EMULATED, or IN_PLACE. ``how``: what it would be if it were harmless."""
    kind = i.kind
    if kind is Kind.FAR or kind is Kind.UNDEFINED or i.opcode >= VEX:
        return EMULATED
    if kind is Kind.SENSITIVE and not _harmless(i):
        return EMULATED
    reads_memory = i.opcode not in NO_ACCESS and (i.memory is not None or i.opcode in IMPLICIT_MEMORY)
    return IN_PLACE if reads_memory and i.segment_override == CS else how


def _harmless(i: Instruction) -> bool:
    """Of the sensitive instructions those that find in the processor what the guest expects."""
    if i.op == "pushf" or i.op in PASSED_THROUGH:
        return True
    if i.op == "push seg":
        return i.opcode in DATA_SELECTOR_READS
    return i.op == "mov from seg" and i.reg in (0, 3, 4, 5)
