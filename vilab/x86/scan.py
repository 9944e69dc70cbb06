"""Finding where instructions begin and end at the speed of translation.

Most instructions are IDENT and their length follows from two bytes: a table has it for each pair (opcode, next byte),
a second one for each pair after the escape 0f. Only the others (prefixes, control flow, sensitive) take the full
decoder.

    entry   0 ask the decoder     1 to 15 length     + 16 a SIB byte follows the modrm byte: base 5 adds 4
"""

from __future__ import annotations

from functools import cache

from vilab.x86 import opcodes as maps
from vilab.x86.decode import Kind, Truncated, decode
from vilab.x86.modrm import DISPLACEMENT_32, IMMEDIATE_BYTES, SIB

NO_BASE = 16
"""In an entry: a SIB byte follows the modrm byte, and base 5 in it adds a displacement of 4."""
_WHOLE_MODRM = frozenset((b"\x0f\x01", *(bytes((opcode,)) for opcode in range(0xD8, 0xE0))))
"""Where a register form means something else for each modrm byte, not for each /reg."""


@cache
def length_tables() -> tuple[bytes, bytes]:
    """The two tables, 64 KB each, indexed ``opcode << 8 | next byte``."""
    one = _table(maps.parse_map(maps.ONE_BYTE_MAP), maps.ONE_BYTE_KINDS, b"")
    two = _table(maps.parse_map(maps.TWO_BYTE_MAP), maps.TWO_BYTE_KINDS, b"\x0f")
    return one, two


def _table(cells: tuple[int, ...], kinds: dict[int, tuple[Kind, str]], escape: bytes) -> bytes:
    refused = maps.PREFIX | maps.ESCAPE | maps.UNDEFINED_OPCODE
    rows = []
    for opcode, cell in enumerate(cells):
        if opcode in kinds or cell & refused:
            rows.append(bytes(256))
            continue
        size = len(escape) + 1 + IMMEDIATE_BYTES[0][cell >> maps.IMMEDIATE_SHIFT]
        if not cell & maps.MODRM:
            rows.append(bytes((size if not cell & maps.CHECK else 0,)) * 256)
            continue
        start = escape + bytes((opcode,))
        depends = cell & maps.CHECK or opcode in (0xF6, 0xF7) or (escape and opcode < 2)
        rows.append(bytes(_row(start, size + 1, bool(depends))))
    return b"".join(rows)


def _row(start: bytes, size: int, depends: bool) -> list[int]:
    """Entries for the 256 modrm bytes after ``start``; ``depends``: ask the decoder what /reg and mod 3 allow."""
    row = []
    known: dict[int, int] = {}
    for modrm in range(256):
        if depends:
            form = modrm & 0x38 | (0xC0 if modrm >= 0xC0 else 0)
            if modrm >= 0xC0 and start in _WHOLE_MODRM:
                form = modrm
            if form not in known:
                instruction = decode(start + bytes((form,)) + bytes(12), 0)
                ident = instruction.kind is Kind.IDENT
                known[form] = instruction.size - (DISPLACEMENT_32[form] & ~SIB) if ident else 0
            if not known[form]:
                row.append(0)
                continue
            size = known[form]
        extra = DISPLACEMENT_32[modrm]
        if extra >= SIB:
            row.append(size + extra - SIB + 1 + (NO_BASE if modrm < 0x40 else 0))
        else:
            row.append(size + extra)
    return row


def scan(
    code: bytes | bytearray | memoryview, address: int, limit: int = 12, bits: int = 32, past_sensitive: bool = False
) -> list[tuple[int, int, Kind]]:
    """The run of instructions at the start of ``code``: (offset, size, kind) for each.

    It ends with the first one that is not IDENT, after ``limit`` instructions, or before one that ``code`` cuts off.
    With ``past_sensitive`` SENSITIVE ones do not end it (control flow and UNDEFINED do).

    Raises ``Truncated`` where not even the first instruction is complete.
    """
    one, two = length_tables()
    run: list[tuple[int, int, Kind]] = []
    ident = Kind.IDENT
    at, have = 0, len(code)
    fast = bits == 32
    while len(run) < limit:
        size = 0
        if fast and have - at > 3:
            first = code[at]
            if first == 0x0F:
                size = two[code[at + 1] << 8 | code[at + 2]]
                if size > NO_BASE:
                    size -= NO_BASE - 4 if code[at + 3] & 7 == 5 else NO_BASE
            else:
                size = one[first << 8 | code[at + 1]]
                if size > NO_BASE:
                    size -= NO_BASE - 4 if code[at + 2] & 7 == 5 else NO_BASE
        if size and at + size <= have:
            run.append((at, size, ident))
            at += size
            continue
        try:
            instruction = decode(code[at : at + 15], address + at, bits)
        except Truncated:
            if not run:
                raise
            return run
        kind, size = instruction.kind, instruction.size
        run.append((at, size, kind))
        at += size
        if kind is not ident and not (past_sensitive and kind is Kind.SENSITIVE):
            return run
    return run
