"""Machine code as a person reads it: capstone, behind one function."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import capstone


@cache
def _engine(bits: int) -> capstone.Cs:
    import capstone  # takes a tenth of a second, and runs without views never ask

    return capstone.Cs(capstone.CS_ARCH_X86, {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32}[bits])


@lru_cache(maxsize=65536)
def instruction_text(code: bytes, address: int, bits: int = 32) -> tuple[str, str]:
    """Mnemonic and operands, Intel syntax, of the one instruction in ``code``.

    What capstone does not know reads ``db``, with its bytes as operands.
    """
    for _, size, mnemonic, operands in _engine(bits).disasm_lite(code, address, 1):
        if size == len(code):
            return mnemonic, operands
    return "db", ", ".join(f"0x{byte:02x}" for byte in code)
