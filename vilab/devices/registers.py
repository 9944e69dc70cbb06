"""A device's datasheet as data: the table that its docstring shows and that a lesson can render."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec


class Register(msgspec.Struct, frozen=True):
    """One line of a register table.

    port : I/O port, or guest physical address of a register in memory. ``index`` : for registers behind an index/data
        pair, the number to select, else ``None``.
    access : ``R``, ``W`` or ``RW``. source : manual and section.
    """

    port: int
    access: str
    name: str
    meaning: str
    source: str
    index: int | None = None

    @property
    def where(self) -> str:
        return f"{self.port:#06x}" + ("" if self.index is None else f"[{self.index:02x}]")


def render(registers: Iterable[Register]) -> str:
    """The table as text, one register a line, the way that the docstrings show it."""
    return "\n".join(f"{r.where:<10} {r.access:<3}{r.name:<14}{r.meaning}" for r in registers)


State = TypeVar("State", bound=msgspec.Struct)


def copied(state: State) -> State:
    """An independent copy of a state record, by way of bytes: what travels to another host is what is copied here."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=type(state))
