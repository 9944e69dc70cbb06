"""Lines of assembly text into statements and tokens, and the error that says where something is wrong.

Statements end at the end of a line or at ``;``; comments begin with ``#`` or ``//``.
"""

from __future__ import annotations

import re

import msgspec

from vilab.errors import AdminError


class AssemblyError(AdminError):
    """Text that cannot be assembled. ``line`` and ``column`` count from 1; ``problem`` is the sentence without them."""

    def __init__(self, line: int, column: int, problem: str) -> None:
        self.line = line
        self.column = column
        self.problem = problem
        super().__init__(f"line {line}, column {column}: {problem}")


class Token(msgspec.Struct, frozen=True):
    """``kind``: name, number, text, mark, end."""

    kind: str
    text: str
    column: int


_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<number>0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9a-fA-F_]*[hH]|[0-9][0-9_]*)
    |(?P<name>[A-Za-z_.$?@][\w.$?@]*)|(?P<text>'[^']*'|"[^"]*")|(?P<mark>[-+*:,\[\]()=])""",
    re.VERBOSE,
)
_WORD_AFTER_NUMBER = re.compile(r"\w")


def split_statements(line: str) -> list[tuple[int, str]]:
    """(offset, text) of the statements in a line, comment removed."""
    out, start, at, quote = [], 0, 0, ""
    while at < len(line):
        letter = line[at]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" or line.startswith("//", at):
            line = line[:at]
            break
        elif letter == ";":
            out.append((start, line[start:at]))
            start = at + 1
        at += 1
    out.append((start, line[start:]))
    return out


def tokenize(text: str, line: int, offset: int) -> list[Token]:
    """Tokens of one statement; ``offset`` is where it begins in its line. The last is an ``end``."""
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            problem = f"{text[at]!r} means nothing here"
            if text[at] in "'\"":
                problem = "the quotation is not closed"
            elif text[at] == "%":
                problem = "registers are written without '%': this is Intel syntax"
            raise AssemblyError(line, offset + at + 1, problem)
        kind = match.lastgroup or ""
        if kind == "number" and _WORD_AFTER_NUMBER.match(text, match.end()):
            word = re.match(r"\w+", text[at:])
            bad = word.group() if word else match.group()
            raise AssemblyError(line, offset + at + 1, f"{bad!r} is no number; they look like 12, 0x1f, 1fh, 0b101")
        if kind != "space":
            tokens.append(Token(kind, match.group(), offset + at + 1))
        at = match.end()
    return [*tokens, Token("end", "", offset + len(text.rstrip()) + 1)]


def number_value(text: str) -> int:
    text = text.replace("_", "")
    if text[-1] in "hH":
        return int(text[:-1], 16)
    return int(text, 10) if text.isdigit() else int(text, 0)
