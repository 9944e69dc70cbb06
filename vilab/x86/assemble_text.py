"""From a line of assembly text to labels, a mnemonic and operands.

::

    again:  rep movsd  dword ptr es:[edi], [esi + ecx*4 - 8]   # comment
    label   prefix     operand             operand

Numbers are 12, 0x1f, 1fh, 0b101 or a character in quotes; ``$`` is the address of the statement.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.x86.assemble_tokens import AssemblyError, Token, number_value, tokenize

GPR32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
GPR16 = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
GPR8 = ("al", "cl", "dl", "bl", "ah", "ch", "dh", "bh")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
SIZES = {"byte": 1, "word": 2, "dword": 4, "fword": 6, "qword": 8}
FAR = 6
"""A size of six bytes: offset and selector."""

REGISTERS: dict[str, tuple[str, int]] = {
    name: (kind, number)
    for kind, names in (
        ("r32", GPR32), ("r16", GPR16), ("r8", GPR8), ("sreg", SEGMENTS),
        ("cr", tuple(f"cr{n}" for n in range(8))), ("dr", tuple(f"dr{n}" for n in range(8))),
    )
    for number, name in enumerate(names)
}  # fmt: skip


SIZE_WORDS = frozenset((*SIZES, "ptr", "far", "short", "near"))
KEYWORDS = SIZE_WORDS | {"times", "equ"}


class Linear(msgspec.Struct):
    """``constant + sum(factor * symbol) + sum(factor * register)``: all that an address or a number can be."""

    constant: int = 0
    symbols: dict[str, int] = {}
    registers: tuple[tuple[str, int], ...] = ()

    def value(self, lookup: Callable[[str], int]) -> int:
        return self.constant + sum(factor * lookup(name) for name, factor in self.symbols.items())


class Register(msgspec.Struct, frozen=True):
    name: str
    kind: str
    number: int
    column: int


class Memory(msgspec.Struct, frozen=True):
    """``size`` in bytes, ``None`` where it is not written; ``place`` the sum between the brackets."""

    size: int | None
    segment: str | None
    place: Linear
    column: int


class Number(msgspec.Struct, frozen=True):
    """An immediate or a jump's target. ``distance``: ``short`` or ``near`` where it is written."""

    amount: Linear
    column: int
    size: int | None = None
    distance: str | None = None


class FarPointer(msgspec.Struct, frozen=True):
    selector: Linear
    offset: Linear
    column: int


class Text(msgspec.Struct, frozen=True):
    """A string, for ``db``."""

    data: bytes
    column: int


Operand = Register | Memory | Number | FarPointer | Text


class Statement(msgspec.Struct, frozen=True):
    """``operation`` is a mnemonic, a directive, ``=`` for a definition, or empty for labels alone."""

    line: int
    column: int
    source: str
    labels: tuple[str, ...]
    prefixes: tuple[str, ...]
    operation: str
    operands: tuple[Operand, ...]
    times: int = 1


class Parser:
    """One statement. ``parse`` is the only entry."""

    def __init__(self, source: str, line: int, offset: int, is_operation: Callable[[str], bool],
                 is_prefix: Callable[[str], bool]) -> None:  # fmt: skip
        self.source, self.line = source, line
        self.tokens = tokenize(source, line, offset)
        self.at = 0
        self.is_operation, self.is_prefix = is_operation, is_prefix

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def fail(self, problem: str, token: Token | None = None) -> AssemblyError:
        return AssemblyError(self.line, (token or self.token).column, problem)

    def found(self) -> str:
        return repr(self.token.text) if self.token.kind != "end" else "the end of the instruction"

    def is_mark(self, mark: str) -> bool:
        return self.token.kind == "mark" and self.token.text == mark

    def take(self, mark: str, after: str) -> None:
        if not self.is_mark(mark):
            raise self.fail(f"expected {mark!r} {after}, found {self.found()}")
        self.at += 1

    def word(self) -> str:
        return self.token.text.lower() if self.token.kind == "name" else ""

    def parse(self) -> Statement:
        labels: list[str] = []
        while self.token.kind == "name" and self.tokens[self.at + 1].text == ":" and self.word() not in SEGMENTS:
            self.check_name(self.token)
            labels.append(self.token.text)
            self.at += 2
        times = 1
        if self.word() == "times":
            self.at += 1
            times = self.plain_number("how many times")
        prefixes: list[str] = []
        while self.is_prefix(self.word()):
            prefixes.append(self.word())
            self.at += 1
        first = self.token
        operation, operands = "", []
        following = self.tokens[self.at + 1].text.lower() if first.kind == "name" else ""
        if following in ("=", "equ"):
            self.check_name(first)
            labels.append(first.text)
            self.at += 2
            operation, operands = "=", [self.operand()]
        elif first.kind != "end":
            if first.kind != "name":
                raise self.fail(f"expected an instruction, found {self.found()}")
            operation = first.text.lower()
            if not self.is_operation(operation):
                raise UnknownOperation(self.line, first.column, operation)
            self.at += 1
            operands = self.operand_list()
            match operands:
                case [Number() as selector, Number() as offset] if operation in ("lcall", "ljmp"):
                    operands = [FarPointer(selector.amount, offset.amount, selector.column)]  # capstone's way
        elif prefixes:
            raise self.fail(f"expected an instruction after {prefixes[-1]!r}")
        if self.token.kind != "end":
            raise self.fail(f"expected ',' or the end of the instruction, found {self.found()}")
        return Statement(self.line, first.column, self.source.strip(), tuple(labels), tuple(prefixes), operation,
                         tuple(operands), times)  # fmt: skip

    def check_name(self, token: Token) -> None:
        word = token.text.lower()
        if word in REGISTERS or word in KEYWORDS:
            what = "a register" if word in REGISTERS else "a word of the language"
            raise self.fail(f"{token.text!r} is {what} and cannot be a label", token)

    def plain_number(self, what: str) -> int:
        token = self.token
        amount = self.sum(registers=False)
        if amount.symbols:
            raise self.fail(f"expected a plain number for {what}, not a label", token)
        if amount.constant < 0:
            raise self.fail(f"expected a number from 0 for {what}", token)
        return amount.constant

    def operand_list(self) -> list[Operand]:
        if self.token.kind == "end":
            return []
        operands = [self.operand()]
        while self.is_mark(","):
            self.at += 1
            operands.append(self.operand())
        return operands

    def operand(self) -> Operand:
        start = self.token
        size: int | None = None
        distance = None
        while self.word() in SIZE_WORDS:
            word = self.word()
            self.at += 1
            if word in SIZES:
                size = SIZES[word]
            elif word in ("short", "near"):
                distance = word
            elif word == "far" or (word == "ptr" and size is None):
                size = FAR
        segment = None
        if self.word() in SEGMENTS and self.tokens[self.at + 1].text == ":":
            segment = self.word()
            self.at += 2
            if not self.is_mark("["):
                raise self.fail(f"expected '[' after '{segment}:', found {self.found()}")
        if self.is_mark("["):
            self.at += 1
            if self.word() in SEGMENTS and self.tokens[self.at + 1].text == ":":
                segment = self.word()
                self.at += 2
            place = self.sum(registers=True)
            self.take("]", "to close the address")
            return Memory(size, segment, place, start.column)
        if self.word() in REGISTERS:
            kind, number = REGISTERS[self.word()]
            self.at += 1
            return Register(start.text.lower(), kind, number, start.column)
        if self.token.kind == "text" and len(self.token.text) != 3:
            self.at += 1
            return Text(start.text[1:-1].encode("utf-8"), start.column)
        amount = self.sum(registers=False)
        if self.is_mark(":"):
            self.at += 1
            return FarPointer(amount, self.sum(registers=False), start.column)
        return Number(amount, start.column, size, distance)

    # Sums and products of numbers, labels and (in an address) registers.

    def sum(self, registers: bool) -> Linear:
        total = self.product(registers)
        while self.is_mark("+") or self.is_mark("-"):
            sign = 1 if self.token.text == "+" else -1
            self.at += 1
            total = _add(total, self.product(registers), sign)
        return total

    def product(self, registers: bool) -> Linear:
        total = self.term(registers)
        while self.is_mark("*"):
            token = self.token
            self.at += 1
            other = self.term(registers)
            if not (_is_plain(total) or _is_plain(other)):
                raise self.fail("expected a plain number on one side of '*'", token)
            total = _scale(total, other.constant) if _is_plain(other) else _scale(other, total.constant)
        return total

    def term(self, registers: bool) -> Linear:
        token = self.token
        if self.is_mark("-") or self.is_mark("+"):
            self.at += 1
            return _scale(self.term(registers), -1 if token.text == "-" else 1)
        if self.is_mark("("):
            self.at += 1
            inside = self.sum(registers)
            self.take(")", "to close the sum")
            return inside
        if token.kind == "number":
            self.at += 1
            return Linear(number_value(token.text))
        if token.kind == "text" and len(token.text) == 3:
            self.at += 1
            return Linear(ord(token.text[1]))
        if token.kind == "name":
            self.at += 1
            name = token.text.lower()
            if name in REGISTERS:
                if not registers or REGISTERS[name][0] not in ("r32", "r16"):
                    raise self.fail(f"the register {token.text!r} cannot be part of this", token)
                return Linear(registers=((name, 1),))
            return Linear(symbols={token.text: 1})
        what = "a register, a number or a label" if registers else "a register, [memory], a number or a label"
        raise self.fail(f"expected {what}, found {self.found()}")


class UnknownOperation(AssemblyError):
    """The first word is no instruction."""

    def __init__(self, line: int, column: int, operation: str) -> None:
        self.operation = operation
        super().__init__(line, column, f"{operation!r} is no instruction that this assembler knows")


def _is_plain(amount: Linear) -> bool:
    return not amount.symbols and not amount.registers


def _scale(amount: Linear, factor: int) -> Linear:
    return Linear(
        amount.constant * factor,
        {name: n * factor for name, n in amount.symbols.items()},
        tuple((name, n * factor) for name, n in amount.registers),
    )


def _add(one: Linear, other: Linear, sign: int) -> Linear:
    symbols = dict(one.symbols)
    for name, n in other.symbols.items():
        symbols[name] = symbols.get(name, 0) + sign * n
    registers = one.registers + tuple((name, sign * n) for name, n in other.registers)
    return Linear(one.constant + sign * other.constant, symbols, registers)
