"""The privileged instructions: outside ring 0 they raise #GP(0) and so hand control to a monitor.

::

    CPL 0           runs
    CPL 1, 2, 3     #GP(0), EIP on the instruction      those of ``IOPL``: only where CPL > IOPL

This is what trap-and-emulate lives from. What it cannot see is in ``critical``.
Source: Intel SDM volume 3, section 5.9; for CLI, STI and port access volume 1, section 19.5 (I/O privilege).
"""

from __future__ import annotations

import msgspec

CPL_0 = "CPL 0"
IOPL = "CPL <= IOPL"


class PrivilegedInstruction(msgspec.Struct, frozen=True):
    """``example`` is one encoding; ``needs`` is ``CPL_0`` or ``IOPL``; ``does`` in a few words."""

    name: str
    example: bytes
    does: str
    needs: str = CPL_0


def _row(name: str, code: str, does: str, needs: str = CPL_0) -> PrivilegedInstruction:
    return PrivilegedInstruction(name, bytes.fromhex(code), does, needs)


PRIVILEGED: tuple[PrivilegedInstruction, ...] = (
    _row("hlt", "f4", "waits for an interrupt"),
    _row("cli", "fa", "turns interrupts off", IOPL),
    _row("sti", "fb", "turns interrupts on", IOPL),
    _row("in", "ec", "reads a port", IOPL),
    _row("out", "ee", "writes a port", IOPL),
    _row("ins", "6c", "reads a port into memory", IOPL),
    _row("outs", "6e", "writes a port from memory", IOPL),
    _row("lgdt", "0f0110", "says where the global descriptor table is"),
    _row("lidt", "0f0118", "says where the interrupt table is"),
    _row("lldt", "0f00d0", "chooses the local descriptor table"),
    _row("ltr", "0f00d8", "chooses the task state segment"),
    _row("mov from cr", "0f20c0", "reads a control register"),
    _row("mov to cr", "0f22d8", "writes a control register: paging, address space, modes"),
    _row("mov from dr", "0f21f8", "reads a debug register"),
    _row("mov to dr", "0f23f8", "writes a debug register"),
    _row("lmsw", "0f01f0", "writes the low four bits of CR0"),
    _row("clts", "0f06", "clears CR0.TS"),
    _row("invlpg", "0f0138", "forgets one page's translation"),
    _row("invd", "0f08", "empties the caches, unwritten"),
    _row("wbinvd", "0f09", "writes the caches back and empties them"),
    _row("rdmsr", "0f32", "reads a model-specific register"),
    _row("wrmsr", "0f30", "writes a model-specific register"),
)  # fmt: skip

PRIVILEGED_OPS = frozenset(row.name for row in PRIVILEGED)
"""``Instruction.op`` of all of them."""


def traps(op: str, cpl: int, iopl: int) -> bool:
    """Does the instruction raise #GP for its privilege alone? Port access also asks the TSS's I/O map."""
    row = _BY_NAME.get(op)
    if row is None:
        return False
    return cpl > iopl if row.needs == IOPL else cpl > 0


_BY_NAME = {row.name: row for row in PRIVILEGED}
