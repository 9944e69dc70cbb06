"""A moment of a Storage VMotion as SVG: the guest's writes, both folders, what goes from one to the other, the rounds.

::

    the guest writes              ▬▬▬     ▬                        where on its disk, to scale
    ┌ [san1] web   web.vmx  web.vmx.copying ───────────────────┐
    │ web          ■ ■ ■ ◪ ■ ■ ■ ◪ ■ ■                         │   ◪ written since it was copied: has to go again
    └───────────────────────┼──────────────────────────────────┘
                            ▼ copied in this step
    ┌ web          □ □ □ ┆ □ □                                 ┐   □ there   ┆ there, and old   · nothing yet
    └ [nfs1] web   web.vmx.moving ─────────────────────────────┘
    round 1        ▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬                          bytes, to the scale of the disk
"""

from __future__ import annotations

from collections.abc import Iterable

from vilab.view.frame import WIDTH, Stage
from vilab.view.storage_move_run import SQUARE_BYTES, RedoLog, Round, Seen
from vilab.view.storage_move_says import datastore, kilobytes
from vilab.view.svg import line, number, rect, text

LEFT, RIGHT = 148.0, WIDTH - 84.0
AXIS, GUEST_Y, SOURCE_Y = 14.0, 26.0, 58.0
HEAD, BOX, PITCH, PAD, GAP = 30.0, 22.0, 30.0, 8.0, 40.0
ROUND_PITCH, BAR = 26.0, 18.0
LANE_LEFT = 12.0
BASE = "web.vmdk"
LABEL_INSIDE = 360.0
MONO = 8.0


class Places:
    """Where the rows are, the same at every moment: room for so many redo logs and rounds."""

    def __init__(self, logs: int, rounds: int) -> None:
        self.logs = logs
        self.source_bottom = SOURCE_Y + HEAD + PITCH * (logs + 1)
        self.target_top = self.source_bottom + GAP
        self.target_bottom = self.target_top + PAD + PITCH + HEAD - PAD
        self.rounds_top = self.target_bottom + 34
        self.height = self.rounds_top + ROUND_PITCH * rounds + 4

    def source_row(self, row: int) -> float:
        """Row 0 is the disk; redo logs stand above it, the newest on top."""
        return SOURCE_Y + HEAD + PITCH * (self.logs - row)

    @property
    def target_row(self) -> float:
        return self.target_top + PAD


def draw(seen: Seen, before: Seen, places: Places, question: str, says: str) -> Stage:
    """``before``: a step ago; files that have come since are loud."""
    under = [*_axis(seen), *_lanes(seen, before, places)]
    over = [*_guest(seen), *_source(seen, places), *_target(seen, places), *_copies(seen, places)]
    over += _rounds(seen, places)
    return Stage(
        label=f"{question} {says}", height=places.height, under="".join(under), over="".join(over),
    )  # fmt: skip


def x_of(seen: Seen, offset_bytes: float) -> float:
    return LEFT + (RIGHT - LEFT) * offset_bytes / seen.began.disk_bytes


def _axis(seen: Seen) -> list[str]:
    disk = seen.began.disk_bytes
    parts = [text(x_of(seen, disk * part / 4), AXIS, kilobytes(disk * part // 4), "s soft") for part in range(4)]
    parts.append(text(RIGHT, AXIS, kilobytes(disk), "s soft end"))
    parts.append(text(0, GUEST_Y + 14, "the guest writes", "b guest"))
    parts.append(line(f"M{number(LEFT)} {number(GUEST_Y + 18)}H{number(RIGHT)}", "axis"))
    return parts


def _guest(seen: Seen) -> list[str]:
    """Its writes of this step, as long as they are."""
    parts = []
    for low, high in _joined(seen.now_written):
        x, width = x_of(seen, low), max(1.5, x_of(seen, high) - x_of(seen, low))
        parts.append(rect(x, GUEST_Y + 4, width, 14, "var(--vl-guest-fill)"))
    size = sum(size for _, size in seen.now_written)
    parts.append(
        text(WIDTH, GUEST_Y + 14, kilobytes(size) if size else "nothing", "end guest b" if size else "s end soft")
    )
    return parts


def _lanes(seen: Seen, before: Seen, places: Places) -> list[str]:
    height = places.source_bottom - SOURCE_Y
    return [
        rect(0, SOURCE_Y, WIDTH, height, "var(--vl-host-wash)"),
        rect(0, places.target_top, WIDTH, places.target_bottom - places.target_top, "var(--vl-host-wash)"),
        text(LANE_LEFT, SOURCE_Y + 20, f"[{datastore(seen.began.source)}] web", "b host"),
        text(LANE_LEFT, places.target_bottom - 10, f"[{datastore(seen.began.destination)}] web", "b host"),
        _files(seen.source, before.source, SOURCE_Y + 20),
        _files(seen.destination, before.destination, places.target_bottom - 10),
    ]


def _files(names: Iterable[str], before: Iterable[str], y: float) -> str:
    """Configurations and records; disks have rows of their own."""
    shown = [name for name in names if not name.endswith(".vmdk")]
    if not shown:
        return text(LEFT, y, "no configuration", "s soft")
    parts, x = [], LEFT
    for name in shown:
        parts.append(text(x, y, name, "m" if name in before else "m b vmm"))
        x += MONO * len(name) + 24
    return "".join(parts)


def _source(seen: Seen, places: Places) -> list[str]:
    """The disk and its redo logs. After the switch nobody reads them."""
    gone = seen.switched is not None
    parts = []
    disks = [name for name in seen.source if name.endswith(".vmdk")]
    if not disks:
        return [text(LEFT, places.source_row(0) + 16, "no disk", "s soft")]
    y, snapshot = places.source_row(0), bool(seen.redo_logs)
    if BASE in disks:
        words = "web, read-only" if snapshot and not gone else "web"
        parts.append(text(LANE_LEFT, y + 16, words, "m" if snapshot or gone else "m b guest"))
        for at in range(seen.squares):
            how = "gone" if gone else "again" if at in seen.again and not snapshot else "data"
            parts.append(_square(seen, at, y, how))
    for row, log in enumerate(seen.redo_logs, 1):
        if log.name in disks:
            parts += _redo_log(seen, log, places.source_row(row), row == len(seen.redo_logs) and not gone, gone)
    if seen.again:
        y = places.source_row(len(seen.redo_logs))
        parts.append(text(WIDTH - 8, y + 16, f"{len(seen.again)} again", "end b vmm"))
    return parts


def _redo_log(seen: Seen, log: RedoLog, y: float, top: bool, gone: bool) -> list[str]:
    name = log.name.removesuffix(".vmdk").removeprefix("web-")
    parts = [text(LANE_LEFT, y + 16, name, "m b guest" if top else "m")]
    for at in range(seen.squares):
        how = "none" if at not in log.held else "gone" if gone else "there" if at in log.copied else "again"
        parts.append(_square(seen, at, y, how))
    return parts


def _target(seen: Seen, places: Places) -> list[str]:
    y = places.target_row
    if not any(name.endswith(".vmdk") for name in seen.destination):
        return [text(LEFT, y + 16, "no disk", "s soft")]
    parts = [text(LANE_LEFT, y + 16, "web", "m" if seen.switched is None else "m b guest")]
    for at in range(seen.squares):
        how = "none" if at not in seen.there else "old" if at in seen.old else "there"
        parts.append(_square(seen, at, y, "data" if seen.switched is not None else how))
    words = f"{len(seen.there)} of {seen.squares}"
    parts.append(text(WIDTH - 8, y + 16, words, "end"))
    return parts


def _square(seen: Seen, at: int, y: float, how: str) -> str:
    x = x_of(seen, at * SQUARE_BYTES)
    width = x_of(seen, min((at + 1) * SQUARE_BYTES, seen.began.disk_bytes)) - x - 2
    if how == "none":
        middle = x + width / 2
        return f'<circle cx="{number(middle)}" cy="{number(y + BOX / 2)}" r="1.2" style="fill:var(--vl-line-strong)"/>'
    if how == "data":
        return rect(x, y, width, BOX, "var(--vl-guest-fill)")
    if how == "again":
        side = min(9.0, width)
        corner = f"M{number(x + width - side)} {number(y)}h{number(side)}v{number(side)}Z"
        return rect(x, y, width, BOX, "var(--vl-vmm-fill)") + f'<path d="{corner}" style="fill:var(--vl-vmm-on)"/>'
    if how == "there":
        edge = 'stroke="var(--vl-guest-ink)" stroke-width="1.5"'
        return rect(x + 0.75, y + 0.75, width - 1.5, BOX - 1.5, "var(--vl-guest-wash)", edge)
    hue = "vmm" if how == "old" else "host"
    edge = f'stroke="var(--vl-{hue}-ink)" stroke-width="1.5" stroke-dasharray="3 3"'
    return rect(x + 0.75, y + 0.75, width - 1.5, BOX - 1.5, "var(--vl-surface)", edge)


def _copies(seen: Seen, places: Places) -> list[str]:
    """From where it was read to the destination."""
    last = seen.rounds[-1].number if seen.rounds else 1
    row = 0 if last == 1 or not seen.redo_logs else min(last - 1, len(seen.redo_logs))
    top, bottom = places.source_row(row) + BOX, places.target_row
    parts = []
    whole = [
        (low // SQUARE_BYTES * SQUARE_BYTES, -(-high // SQUARE_BYTES) * SQUARE_BYTES)
        for low, high in _joined(seen.now_copied)
    ]
    for low, high in _joined((low, high - low) for low, high in whole):
        left, right = x_of(seen, low) + 1, max(x_of(seen, high) - 3, x_of(seen, low) + 4)
        middle = (left + right) / 2
        across = f"M{number(left)} {number(top + 4)}H{number(right)}"
        parts.append(line(f"{across}M{number(middle)} {number(top + 4)}V{number(bottom - 10)}", "path-vmm"))
        head = f"M{number(middle - 7)} {number(bottom - 12)}h14l-7 10Z"
        parts.append(f'<path d="{head}" class="head loud"/>')
    return parts


def _rounds(seen: Seen, places: Places) -> list[str]:
    parts = [text(0, places.rounds_top - 12, "copied", "b"), text(LEFT, places.rounds_top - 12,
             "each round as long as its bytes, to the scale of the disk", "s soft")]  # fmt: skip
    if seen.rounds:
        parts.append(text(WIDTH, places.rounds_top - 12, f"{kilobytes(seen.copied_bytes)} in all", "end b"))
    for row, each in enumerate(seen.rounds):
        parts += _round(seen, each, places.rounds_top + ROUND_PITCH * row, each is seen.rounds[-1])
    return parts


def _round(seen: Seen, each: Round, y: float, last: bool) -> list[str]:
    now = last and each.left_bytes is None
    words = kilobytes(each.copied_bytes)
    if each.stopped:
        words += ", the guest stands still"
    elif each.left_bytes is not None:
        words += f", and {kilobytes(each.left_bytes)} are to be copied again"
    width = x_of(seen, each.copied_bytes) - LEFT
    hue = "vmm" if now else "guest"
    edge = f'stroke="var(--vl-{hue}-ink)" stroke-width="1"'
    parts = [text(0, y + 14, f"round {each.number}", "b vmm" if now else "")]
    if width > 0:
        parts.append(rect(LEFT, y, max(width, 1.5), BAR, f"var(--vl-{hue}-wash)", edge))
    inside = width > LABEL_INSIDE
    parts.append(text(LEFT + 8 if inside else LEFT + max(width, 0) + 8, y + 14, words, "vmm b" if now else ""))
    return parts


def _joined(pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(begin, end) of what lies side by side or one upon the other."""
    found: list[tuple[int, int]] = []
    for offset, size in sorted(pieces):
        if size and found and offset <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], offset + size)
        elif size:
            found.append((offset, offset + size))
    return found
