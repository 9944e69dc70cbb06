"""The squares and rows of ``vmfs_map`` as SVG."""

from __future__ import annotations

from vilab.storage.vmfs.layout import SUB_BLOCK_BYTES
from vilab.view.frame import WIDTH, Stage
from vilab.view.svg import rect, text
from vilab.view.vmfs_frame import DESCRIPTOR, FREE, HEARTBEATS, JOURNALS, STALE, UNUSED, FileMoment, VolumeMoment
from vilab.view.vmfs_map_says import megabytes, spans
from vilab.view.vmfs_run import MapMoment

COLUMNS, PITCH, LEFT, TOP = 32, 20.0, 36.0, 24.0
SIDE = LEFT + COLUMNS * PITCH + 28
_ROW = 22.0
SYSTEM = {
    JOURNALS: "j", DESCRIPTOR: "v", HEARTBEATS: "h", ".fdc.sf": "i", "/": "r", ".fbb.sf": "b", ".pbc.sf": "p",
    ".sbc.sf": "s",
}  # fmt: skip
KEY = (
    ("j", "journals"), ("v", "volume"), ("h", "heartbeats"), ("i", "inodes"), ("r", "root"), ("b", "bitmap"),
    ("p", "pointers"), ("s", "sub-blocks"),
)  # fmt: skip


def letters(volume: VolumeMoment, before: VolumeMoment | None) -> dict[str, str]:
    """A capital for each file that is too large for a sub-block: its own first one, if no other file has it."""
    found: dict[str, str] = {}
    paths = [file.path for each in (before, volume) if each is not None for file in each.files if has_letter(file)]
    for path in dict.fromkeys(paths):
        name = path.rsplit("/", 1)[-1].upper()
        options = [c for c in name + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c.isalpha() and c not in found.values()]
        found[path] = options[0] if options else "?"
    return found


def drawn(file: FileMoment) -> bool:
    return file.path != "/" and not file.is_system


def has_letter(file: FileMoment) -> bool:
    return drawn(file) and (bool(file.blocks) or file.size_bytes > SUB_BLOCK_BYTES)


def draw(moment: MapMoment, before: VolumeMoment | None, rows: int, label: str) -> Stage:
    volume = moment.volume
    named = letters(volume, before)
    lines = -(-len(volume.used) // COLUMNS)
    bottom = TOP + lines * PITCH
    parts = [text(LEFT + PITCH * at + PITCH / 2, TOP - 8, str(at), "s soft mid") for at in range(0, COLUMNS, 8)]
    for row in range(lines):
        parts.append(text(LEFT - 8, TOP + PITCH * row + 14, str(row * COLUMNS), "s soft end"))
    for block, owner in enumerate(volume.owners):
        was = before.owners[block] if before is not None else owner
        parts.append(_cell(block, owner, was, moment if before is not None else None, named))
    parts.append(_key(volume, bottom + 20))
    parts.append(_side(volume, before))
    files_at = bottom + 48
    parts.append(_files(moment, before, named, files_at, rows))
    return Stage(label=label, height=files_at + _ROW * (rows + 1) + 4, under="".join(parts))


def _cell(block: int, owner: str, was: str, moment: MapMoment | None, named: dict[str, str]) -> str:
    x, y = LEFT + PITCH * (block % COLUMNS) + 1, TOP + PITCH * (block // COLUMNS) + 1
    size = PITCH - 2
    touched = moment is not None and moment.sectors_in(block) > 0
    kind = SYSTEM.get(owner) or SYSTEM.get(owner.rsplit("/", 1)[-1])
    middle, base = x + size / 2, y + 13.5
    if owner == UNUSED:
        if was != UNUSED and was in named:
            edge = 'stroke="var(--vl-vmm-ink)" stroke-width="1.5" stroke-dasharray="3 2"'
            return rect(x + 0.75, y + 0.75, size - 1.5, size - 1.5, "none", edge) + text(
                middle, base, named[was], "ms mid vmm"
            )
        return rect(x + 0.5, y + 0.5, size - 1, size - 1, "none", 'stroke="var(--vl-line-strong)" stroke-width="1"')
    if kind is not None:
        edge = 'stroke="var(--vl-vmm-ink)" stroke-width="2.5"' if touched else ""
        inset = 1.25 if touched else 0.0
        box = rect(x + inset, y + inset, size - 2 * inset, size - 2 * inset, "var(--vl-host-wash)", edge)
        return box + text(middle, base, kind, "ms mid b vmm" if touched else "ms mid soft")
    hue = "vmm" if touched or owner != was else "guest"
    letter = f'style="fill:var(--vl-{hue}-on)"'
    return rect(x, y, size, size, f"var(--vl-{hue}-fill)") + text(
        middle, base, named.get(owner, "?"), "ms mid b", letter
    )


def _key(volume: VolumeMoment, y: float) -> str:
    """One line: the letters of the metadata, with counts."""
    counts: dict[str, int] = {}
    for owner in volume.owners:
        kind = SYSTEM.get(owner) or SYSTEM.get(owner.rsplit("/", 1)[-1])
        if kind is not None:
            counts[kind] = counts.get(kind, 0) + 1
    words = "   ".join(f"{letter} {name} {counts[letter]}" for letter, name in KEY if letter in counts)
    return text(LEFT, y, words, "s soft", 'xml:space="preserve"')


def _side(volume: VolumeMoment, before: VolumeMoment | None) -> str:
    parts = [text(SIDE, TOP + 12, "free", "soft")]
    free = megabytes(volume.free_blocks * volume.block_bytes)
    parts.append(text(SIDE, TOP + 44, free, "xl b tab"))
    if before is not None and before.free_blocks != volume.free_blocks:
        parts.append(text(SIDE, TOP + 64, f"was {megabytes(before.free_blocks * before.block_bytes)}", "s soft"))
    y = TOP + 100
    parts.append(text(SIDE, y, "heartbeat slots", "soft"))
    for slot in volume.slots[:2]:
        y += 22
        changed = before is not None and (before.slots[slot.slot].live, before.slots[slot.slot].seq) != (
            slot.live,
            slot.seq,
        )
        hue = "vmm" if changed else "" if slot.live else "soft"
        parts.append(text(SIDE, y, f"{slot.slot}", "m soft"))
        words = f"{slot.host}, seq {slot.seq}" if slot.live else "free"
        parts.append(text(SIDE + 20, y, words, f"{hue} {'b' if slot.live else ''}"))
    return "".join(parts)


_AT = (LEFT, LEFT + 28, LEFT + 210, LEFT + 290, SIDE)
"""Columns of the rows of files: letter, name, size (end), where, lock."""


def _files(moment: MapMoment, before: VolumeMoment | None, named: dict[str, str], top: float, rows: int) -> str:
    volume = moment.volume
    parts = [
        text(_AT[1], top + 12, "file", "s soft"), text(_AT[2] + 50, top + 12, "size", "s soft end"),
        text(_AT[3], top + 12, "its data lie in", "s soft"), text(_AT[4], top + 12, "its lock", "s soft"),
    ]  # fmt: skip
    files = [file for file in volume.files if drawn(file)]
    if not files:
        parts.append(text(_AT[1], top + _ROW + 14, "There is no file yet.", "soft"))
    for row, file in enumerate(files[:rows]):
        y = top + _ROW * (row + 1)
        was = before.file(file.path) if before is not None else None
        if before is not None and (was is None or was != file):
            parts.append(rect(LEFT - 8, y, WIDTH - LEFT + 8, _ROW - 2, "var(--vl-vmm-wash)"))
        parts.append(_row(file, was if before is not None else file, named.get(file.path, ""), y + 15))
    return "".join(parts)


def _row(file: FileMoment, was: FileMoment | None, letter: str, y: float) -> str:
    blocks = "block" if len(file.blocks) == 1 else "blocks"
    where = f"{blocks} {spans(file.blocks, 3)}" if file.blocks else "no block"
    if file.sub_blocks:
        where = f"sub-block {spans(file.sub_blocks)}"
    if file.pointer_blocks:
        where += f", by pointer block {spans(file.pointer_blocks)}"
    lock = "free"
    if file.lock != FREE:
        lock = f"{file.owner}, slot {file.slot}, seq {file.seq}" + (", stale" if file.lock == STALE else "")
    changed = was is None or was.lock != file.lock or was.owner != file.owner
    has = bool(file.blocks or file.sub_blocks)
    grown = was is None or (was.blocks, was.sub_blocks) != (file.blocks, file.sub_blocks)
    return (
        text(_AT[0] + 9, y, letter, "m b mid") + text(_AT[1], y, file.name, "m")
        + text(_AT[2] + 50, y, megabytes(file.size_bytes), "end tab")
        + text(_AT[3], y, where, "b vmm" if grown and has else "" if has else "soft")
        + text(_AT[4], y, lock, "b vmm" if changed and file.lock != FREE else "" if file.lock != FREE else "soft")
    )  # fmt: skip
