"""The SCSI commands of one step as chips: what a host has asked of the LUN, in its order.

::

    RESERVE | read slot 1, folders, lock of db.vmx, slot 0 | write lock of db.vmx | RELEASE

Reads in a row are one chip that names what was read; a host's own heartbeat (read the slot, write the slot) is left
out, unless there is nothing else. What is written is a chip each: its order is the point.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from vilab.view.frame import WIDTH
from vilab.view.lock_frame import Command
from vilab.view.svg import rect, text
from vilab.view.vmfs_frame import VolumeMoment

ROWS, PITCH, HEIGHT = 3, 26.0, 20.0
_CHARACTER = 6.7
"""Units of one character of the small face, with some air."""


class Chip(msgspec.Struct, frozen=True):
    """``kind``: read, write, alone (RESERVE, RELEASE), conflict."""

    kind: str
    words: str

    @property
    def width(self) -> float:
        return len(self.words) * (_CHARACTER + (2.2 if self.kind == "alone" else 0)) + 14


def chips(commands: Sequence[Command], volume: VolumeMoment, own_slot: int) -> list[Chip]:
    found: list[tuple[str, list[str]]] = []
    kept = without_heartbeats(commands, volume, own_slot)
    for command in kept or commands:
        kind, words = _name(command, volume)
        if found and found[-1][0] == kind and (kind in ("read", "conflict") or found[-1][1][0] == words):
            found[-1][1].append(words)
        else:
            found.append((kind, [words]))
    return [Chip(kind, _together(kind, words)) for kind, words in found]


def without_heartbeats(commands: Sequence[Command], volume: VolumeMoment, own_slot: int) -> list[Command]:
    kept: list[Command] = []
    own = f"slot {own_slot}"
    for command in commands:
        beat = command.name == "WRITE" and volume.where(command.pos) == own
        if beat and kept and kept[-1].name == "READ" and volume.where(kept[-1].pos) == own:
            kept.pop()
        else:
            kept.append(command)
    return kept


def _name(command: Command, volume: VolumeMoment) -> tuple[str, str]:
    if command.conflict:
        return "conflict", command.name
    if command.name in ("RESERVE", "RELEASE"):
        return "alone", command.name
    if command.name == "FLUSH":
        return "write", "flush"
    where = "LVM" if command.pos < 0 else volume.where(command.pos, command.sectors)
    if where.startswith("folder") or (where.startswith("inode of") and command.name == "READ"):
        where = "names"
    elif command.name == "READ" and (where.endswith(".sf") or where in ("LVM", "volume descriptor")):
        where = "volume"
    elif command.name == "READ" and where.startswith("lock of bitmap"):
        where = where.removeprefix("lock of ")
    return ("write" if command.name != "READ" else "read"), where


def _together(kind: str, words: list[str]) -> str:
    times = f" ×{len(words)}" if len(words) > 1 else ""
    if kind == "conflict":
        return f"{words[0]} ✕ conflict{times}"
    if kind == "read":
        return "read " + ", ".join(_counted(words))
    return f"write {words[0]}{times}" if kind == "write" and words[0] != "flush" else words[0] + times


def _counted(words: list[str]) -> list[str]:
    """Each thing once, in the order of its first time; numbered ones that follow each other as a range."""
    order = list(dict.fromkeys(words))
    found: list[str] = []
    for kind in ("slot", "journal"):
        numbers = [int(w.split()[1]) for w in order if re.fullmatch(rf"{kind} \d+", w)]
        if len(numbers) > 2:
            first = f"{kind} {numbers[0]}"
            order = [w for w in order if w == first or not re.fullmatch(rf"{kind} \d+", w)]
            order[order.index(first)] = f"{kind}s {min(numbers)} to {max(numbers)}"
    for word in order:
        times = words.count(word)
        repeated = times > 1 and (word.startswith("slot") or len(order) == 1)
        found.append(f"{word} ×{times}" if repeated else word)
    return found


def draw(found: Sequence[Chip], top: float) -> str:
    """As many as have room in the rows; the rest is counted."""
    drawn, x, row = [], 0.0, 0
    for at, chip in enumerate(found):
        width = min(chip.width, float(WIDTH))
        if x and x + width > WIDTH:
            x, row = 0.0, row + 1
        left = len(found) - at
        if row >= ROWS or (row == ROWS - 1 and left > 1 and x + width > WIDTH - 90):
            drawn.append(text(min(x, WIDTH - 80.0), top + PITCH * min(row, ROWS - 1) + 14, f"… {left} more", "s soft"))
            break
        drawn.append(_chip(chip, x, top + PITCH * row, width))
        x += width + 6
    return "".join(drawn)


def _chip(chip: Chip, x: float, y: float, width: float) -> str:
    middle = text(x + width / 2, y + 14, chip.words, f"s mid{_INK[chip.kind]}", _ON.get(chip.kind, ""))
    return rect(x, y, width, HEIGHT, _FILL[chip.kind], _EDGE.get(chip.kind, "")) + middle


_FILL = {
    "alone": "var(--vl-host-fill)", "read": "none", "write": "var(--vl-host-wash)", "conflict": "var(--vl-fault-wash)",
}  # fmt: skip
_EDGE = {
    "read": 'stroke="var(--vl-line-strong)" stroke-width="1"', "write": 'stroke="var(--vl-host-ink)" stroke-width="1"',
    "conflict": 'stroke="var(--vl-fault-ink)" stroke-width="1"',
}  # fmt: skip
_INK = {"alone": " b", "read": " soft", "write": "", "conflict": " b fault"}
_ON = {"alone": 'style="fill:var(--vl-host-on)"'}
