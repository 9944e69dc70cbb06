"""An assembler for what a student types: Intel syntax, the integer instructions of 32-bit x86, kernel mode included.

    >>> assemble("start: mov ecx, 3; again: dec ecx; jne again; ret", 0x1000).code.hex()
    'b9030000004975fdc3'

::

    text ──> statements ──> a form for each operand list ──> bytes, with the labels of the last round ──┐
                                   ^                                                                    │
                                   └─── again, while a label has moved (a jump may need its long form) ─┘

A form once left for a longer one is not taken again, so the rounds come to an end. Reads what capstone prints, except
that ``pushf``, ``popf`` and ``iret`` are the 32-bit ones (``pushfw``, ``popfw``, ``iretw`` are the others).

Directives: ``db dw dd``, ``align N``, ``resb N``, ``NAME equ N`` or ``NAME = N``, ``times N instruction``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

import msgspec

from vilab.x86.assemble_encode import OutOfReach, encode, string_prefixes
from vilab.x86.assemble_forms import PREFIXES, STRING_INSTRUCTIONS, TABLE
from vilab.x86.assemble_match import Context, fit, refusal
from vilab.x86.assemble_text import (
    Linear,
    Memory,
    Number,
    Parser,
    Register,
    Statement,
    Text,
    UnknownOperation,
)
from vilab.x86.assemble_tokens import AssemblyError, split_statements
from vilab.x86.decode import Kind, decode

__all__ = ["AssembledLine", "Assembly", "AssemblyError", "assemble"]

DIRECTIVES = ("db", "dw", "dd", "align", "resb")
MAX_BYTES = 1 << 20
MAX_ROUNDS = 64


class AssembledLine(msgspec.Struct, frozen=True):
    """Where one statement went: ``line`` of the text (from 1), ``offset`` and ``size`` in the code."""

    line: int
    offset: int
    size: int
    source: str


class Assembly(msgspec.Struct, frozen=True):
    """The result: code that is to stand at ``address``, and where each statement and label is."""

    address: int
    code: bytes
    lines: tuple[AssembledLine, ...]
    labels: dict[str, int]


def assemble(text: str, address: int = 0) -> Assembly:
    """Machine code of ``text``, to stand at ``address``.

    Raises ``AssemblyError``, which names line, column and what was expected there; nothing is half done.
    """
    return _Assembler(_parse(text), address).run()


def _parse(text: str) -> list[Statement]:
    statements = []
    for number, line in enumerate(text.splitlines(), 1):
        for offset, part in split_statements(line):
            try:
                statement = Parser(part, number, offset, _is_operation, PREFIXES.__contains__).parse()
            except UnknownOperation as error:
                raise AssemblyError(number, error.column, error.problem + _suggestion(error.operation)) from None
            if statement.operation or statement.labels:
                statements.append(statement)
    return statements


def _is_operation(name: str) -> bool:
    return name in TABLE or name in DIRECTIVES


def _suggestion(name: str) -> str:
    if name[:-1] in TABLE and name[-1] in "bwlq":
        return f": in Intel syntax it is {name[:-1]!r}, and the size is written before the memory operand"
    close = difflib.get_close_matches(name, [*TABLE, *DIRECTIVES], 3, 0.6)
    return f": did you mean {' or '.join(repr(word) for word in close)}?" if close else ""


class _Assembler:
    def __init__(self, statements: list[Statement], address: int) -> None:
        self.statements = statements
        self.address = address
        self.symbols: dict[str, int] = {}
        self.first_form = [0] * len(statements)
        self.out_of_reach: AssemblyError | None = None
        self._check_names()

    def _check_names(self) -> None:
        defined: dict[str, int] = {}
        for statement in self.statements:
            for name in statement.labels:
                if name in defined:
                    problem = f"{name!r} is defined a second time; the first is in line {defined[name]}"
                    raise AssemblyError(statement.line, statement.column, problem)
                defined[name] = statement.line
        for statement in self.statements:
            for operand in statement.operands:
                for name in _symbols(operand):
                    if name != "$" and name not in defined:
                        close = difflib.get_close_matches(name, [*defined], 1)
                        hint = f"; did you mean {close[0]!r}?" if close else " as a label, and it is no register"
                        raise AssemblyError(statement.line, operand.column, f"{name!r} is not defined{hint}")

    def run(self) -> Assembly:
        for _ in range(MAX_ROUNDS):
            before = dict(self.symbols)
            self.out_of_reach = None
            code, lines = self._round()
            if self.symbols == before:
                if self.out_of_reach is not None:
                    raise self.out_of_reach
                labels = {name: value & 0xFFFF_FFFF for name, value in self.symbols.items()}
                return Assembly(self.address, code, tuple(lines), labels)
        raise AssemblyError(1, 1, "the labels depend on one another in a circle: no addresses fit them all")

    def _round(self) -> tuple[bytes, list[AssembledLine]]:
        code = bytearray()
        lines = []
        for index, statement in enumerate(self.statements):
            here = self.address + len(code)

            def lookup(name: str, here: int = here) -> int:
                return here if name == "$" else self.symbols.get(name, here)

            if statement.operation == "=":
                self.symbols[statement.labels[-1]] = _number(statement, statement.operands[0]).value(lookup)
                for name in statement.labels[:-1]:
                    self.symbols[name] = here
                continue
            for name in statement.labels:
                self.symbols[name] = here
            start = len(code)
            for _ in range(statement.times):
                once = self._one(index, statement, self.address + len(code))
                if len(code) + len(once) * statement.times > MAX_BYTES:
                    raise AssemblyError(statement.line, statement.column, "the program grows beyond 1 MB here")
                code += once
            if len(code) > start:
                lines.append(AssembledLine(statement.line, start, len(code) - start, statement.source))
        return bytes(code), lines

    def _one(self, index: int, statement: Statement, here: int) -> bytes:
        """The bytes of a statement, once."""

        def lookup(name: str) -> int:
            return here if name == "$" else self.symbols.get(name, here)

        if statement.operation in DIRECTIVES:
            return _data(statement, lookup, here)
        if not statement.operation:
            return b""
        prefixes = bytes(PREFIXES[name] for name in statement.prefixes)
        operands = statement.operands
        if statement.operation in STRING_INSTRUCTIONS and operands:
            prefixes += string_prefixes(statement)
            operands = ()
        forms = TABLE[statement.operation]
        context = Context(here, lookup)
        miss: OutOfReach | None = None
        for number in range(self.first_form[index], len(forms)):
            operand_bits = fit(forms[number], operands, context)
            if operand_bits is None:
                continue
            try:
                code = encode(forms[number], statement, operands, operand_bits, context, prefixes)
            except OutOfReach as error:
                miss = error
                continue
            self.first_form[index] = number
            _check_defined(statement, code)
            return code
        if miss is not None:  # final only if it is still so when the labels have settled
            problem = f"{statement.operation} reaches -128 to 127 bytes here, and this is {miss.distance} away"
            self.out_of_reach = AssemblyError(statement.line, operands[0].column, problem)
            return bytes(miss.size)
        column, problem = refusal(statement, forms, context)
        raise AssemblyError(statement.line, column, problem)


def _check_defined(statement: Statement, code: bytes) -> None:
    """Some encodings can be written and are undefined all the same: LOCK before a load, MOV to CS, CR1."""
    instruction = decode(code.ljust(15, b"\0"), 0)
    if instruction.kind is not Kind.UNDEFINED or instruction.op.startswith("ud"):
        return
    problem = "the processor has no such instruction: it would raise #UD"
    if instruction.op == "lock":
        problem = "LOCK is only allowed before an instruction that reads and writes memory"
    elif instruction.op == "too long":
        problem = "the instruction would be longer than 15 bytes"
    raise AssemblyError(statement.line, statement.column, problem)


def _symbols(operand: object) -> list[str]:
    match operand:
        case Number(amount=amount):
            return [*amount.symbols]
        case Memory(place=place):
            return [*place.symbols]
        case Register() | Text():
            return []
        case _:
            return [*operand.selector.symbols, *operand.offset.symbols]  # type: ignore[attr-defined]


def _number(statement: Statement, operand: object) -> Linear:
    if not isinstance(operand, Number):
        column = getattr(operand, "column", statement.column)
        raise AssemblyError(statement.line, column, f"expected a number after {statement.operation!r}")
    return operand.amount


def _data(statement: Statement, lookup: Callable[[str], int], here: int) -> bytes:
    """The bytes of a directive."""
    operation = statement.operation
    if not statement.operands:
        raise AssemblyError(statement.line, statement.column, f"expected a number after {operation!r}")
    if operation in ("align", "resb"):
        count = _number(statement, statement.operands[0]).value(lookup)
        if not 0 < count <= MAX_BYTES or len(statement.operands) > 1:
            problem = f"expected one number from 1 to {MAX_BYTES} after {operation!r}"
            raise AssemblyError(statement.line, statement.operands[0].column, problem)
        return bytes(count) if operation == "resb" else b"\x90" * (-here % count)
    width = {"db": 1, "dw": 2, "dd": 4}[operation]
    out = bytearray()
    for operand in statement.operands:
        if isinstance(operand, Text):
            out += operand.data + bytes(-len(operand.data) % width)
            continue
        value = _number(statement, operand).value(lookup)
        if not -(1 << 8 * width - 1) <= value < 1 << 8 * width:
            problem = f"{value} does not fit into {width} byte{'s' * (width > 1)}"
            raise AssemblyError(statement.line, operand.column, problem)
        out += (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    return bytes(out)
