"""The bytes that may stand before an opcode: segment, operand and address size, LOCK, REPNE, REP."""

from __future__ import annotations

PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
REP_PREFIXES = frozenset((0xF2, 0xF3))
