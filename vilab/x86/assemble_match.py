"""Does a form of the table take these operands? And if none does: which operand is to blame, and what it should be.

The first thing is the operand size: a register or a written size settles it for all operands of 16 or 32 bits. Memory
of no written size fits only where a register beside it tells.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.x86.assemble_forms import Form
from vilab.x86.assemble_text import FAR, FarPointer, Memory, Number, Register, Statement

REGISTER_8, REGISTER_V, MEMORY = "a byte register", "a {bits}-bit register", "memory"
BYTE, WORD, NUMBER = "a number from -128 to 255", "a number from -32768 to 65535", "a number of {bits} bits"

PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "r8": (REGISTER_8,), "al": (REGISTER_8,), "rm8": (REGISTER_8, MEMORY), "rmb": (REGISTER_8, MEMORY),
    "r16": ("a 16-bit register",), "R16": ("a 16-bit register",), "rm16": ("a 16-bit register", MEMORY),
    "r32": ("a 32-bit register",), "R32": ("a 32-bit register",),
    "rv": (REGISTER_V,), "av": (REGISTER_V,), "rmv": (REGISTER_V, MEMORY), "rmV": (REGISTER_V, MEMORY),
    "m": (MEMORY,), "m8": (MEMORY,), "m16": (MEMORY,), "m64": (MEMORY,), "m48": ("far [memory]",),
    "moffs8": (MEMORY,), "moffsv": (MEMORY,), "imm8": (BYTE,), "imm16": (WORD,), "immv": (NUMBER,), "simm8": (NUMBER,),
    "rel8": ("a place to go to",), "rel32": ("a place to go to",), "far": ("selector:offset",),
    "sreg": ("a segment register",), "cr": ("a control register",), "dr": ("a debug register",),
}  # fmt: skip
"""What a pattern takes, in words; a pattern that is not here is a register or number by its own name."""


class Context(msgspec.Struct, frozen=True):
    """Where a statement stands, and what its symbols are worth."""

    here: int
    lookup: Callable[[str], int]


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def fit(form: Form, operands: tuple[object, ...], context: Context) -> int | None:
    """The operand size in bits (32 where it does not matter) if the form can take the operands, else ``None``."""
    misfit, bits = _compare(form, operands, context)
    return bits if misfit is None else None


def _compare(form: Form, operands: tuple[object, ...], context: Context) -> tuple[int | None, int]:
    """(index of the first operand that does not fit, or ``None``; operand size in bits)."""
    if len(operands) != len(form.operands):
        return min(len(operands), len(form.operands)), 32
    bits = 0
    for index, (pattern, operand) in enumerate(zip(form.operands, operands, strict=True)):
        if pattern.endswith(("v", "V")) or pattern == "simm8":
            size = _operand_bits(operand)
            if size and bits and size != bits:
                return index, bits
            bits = bits or size
    byte_register = any(pattern in ("r8", "al") for pattern in form.operands)
    for index, (pattern, operand) in enumerate(zip(form.operands, operands, strict=True)):
        sized = bits != 0 if pattern.endswith("v") else byte_register
        if not _fits(pattern, operand, bits or 32, sized, context):
            return index, bits or 32
    return None, bits or 32


def _operand_bits(operand: object) -> int:
    """16 or 32 where an operand says so, else 0."""
    if isinstance(operand, Register):
        return {"r16": 16, "r32": 32}.get(operand.kind, 0)
    if isinstance(operand, Memory | Number) and operand.size in (2, 4):
        return operand.size * 8
    return 0


def _fits(pattern: str, operand: object, bits: int, sized: bool, context: Context) -> bool:
    if isinstance(operand, Register):
        match pattern:
            case "r8" | "r16" | "r32" | "sreg" | "cr" | "dr":
                return operand.kind == pattern
            case "rm8" | "rmb":
                return operand.kind == "r8"
            case "rm16":
                return operand.kind == "r16"
            case "R16" | "R32":
                return operand.kind == pattern.lower()
            case "rv" | "rmv" | "rmV":
                return operand.kind == f"r{bits}"
            case "av":
                return operand.name == ("ax" if bits == 16 else "eax")
            case _:
                return operand.name == pattern
    if isinstance(operand, Memory):
        size = operand.size
        match pattern:
            case "m":
                return True
            case "rmb" | "m8":
                return size in (1, None)
            case "m16" | "rm16":
                return size in (2, None)
            case "m48":
                return size == FAR
            case "m64":
                return size in (8, None)
            case "rm8":
                return size == 1 or (size is None and sized)
            case "rmv":
                return size == bits // 8 or (size is None and sized)
            case "rmV":
                return size in (bits // 8, None)
            case "moffs8":
                return not operand.place.registers and (size == 1 or (size is None and sized))
            case "moffsv":
                return not operand.place.registers and (size == bits // 8 or (size is None and sized))
        return False
    if isinstance(operand, Number):
        if pattern == "rel8":
            return operand.distance != "near"
        if pattern == "rel32":
            return operand.distance != "short"
        if operand.distance is not None:
            return False
        value = operand.amount.value(context.lookup)
        match pattern:
            case "1":
                return value == 1 and not operand.amount.symbols
            case "imm8":
                return -0x80 <= value <= 0xFF
            case "imm16":
                return -0x8000 <= value <= 0xFFFF
            case "immv":
                return -(1 << bits - 1) <= value < 1 << bits
            case "simm8":
                return -(1 << bits - 1) <= value < 1 << bits and -128 <= signed(value, bits) <= 127
        return False
    return isinstance(operand, FarPointer) and pattern == "far"


def refusal(statement: Statement, forms: tuple[Form, ...], context: Context) -> tuple[int, str]:
    """(column, sentence): why none of the forms takes the operands."""
    name, operands = statement.operation, statement.operands
    unsized = [o for o in operands if isinstance(o, Memory) and o.size is None]
    if unsized:
        for size in (1, 2, 4):
            guess = tuple(
                Memory(size, o.segment, o.place, o.column) if isinstance(o, Memory) and o.size is None else o
                for o in operands
            )
            if any(fit(form, guess, context) for form in forms):
                return unsized[0].column, "how big is it? Write 'byte ptr', 'word ptr' or 'dword ptr' before it"
    counts = sorted({len(form.operands) for form in forms})
    if len(operands) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        column = operands[-1].column if operands else statement.column
        return column, f"{name} takes {wanted} operand{'s' * (wanted != '1')}, here are {len(operands)}"
    misfits: dict[int, dict[str, None]] = {}
    for form in forms:
        misfit, bits = _compare(form, operands, context)
        if misfit is not None and misfit < len(form.operands) == len(operands):
            pattern = form.operands[misfit]
            width = str(bits) if misfit else "16 or 32"
            for words in PATTERN_WORDS.get(pattern, (pattern,)):
                misfits.setdefault(misfit, {})[words.format(bits=width)] = None
    worst = max(misfits)
    *most, last = misfits[worst]
    expected = f"{', '.join(most)} or {last}" if most else last
    return operands[worst].column, f"operand {worst + 1} of {name} must be {expected}"
