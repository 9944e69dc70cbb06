"""Entries, ribbons, pmap and counters of ``tables`` as SVG."""

from __future__ import annotations

from vilab.view import tables
from vilab.view.frame import WIDTH, Stage
from vilab.view.svg import glyph, number, rect, text
from vilab.view.tables import Change, Moment, Slot, TablesScene
from vilab.view.words import escape, hex8, plain
from vilab.vmm import translation_path as tp
from vilab.x86 import paging as pg

HEIGHT = 416
_LEFT, _LEFT_END, _RIGHT = 0.0, 352.0, 560.0
_SIDE = _LEFT_END - _LEFT
_DIRECTORY, _TABLE, _PITCH, _ROW = 66.0, 116.0, 24.0, 22.0
_PMAP, _FOOT = 346.0, 406.0
_BITS = (("P", pg.PRESENT, 122), ("RW", pg.WRITABLE, 138), ("U", pg.USER, 164), ("A", pg.ACCESSED, 180),
         ("D", pg.DIRTY, 196))  # fmt: skip
"""Name, mask, x within a side."""
_INDEX, _ENTRY, _WAS = 6, 44, 222
_CELLS, _CELL = 8, 114.0
_COUNT = 124.0

_LABELS = {
    tables.NOT_YET: ("not yet", "soft"), tables.FOLLOWS: ("follows", "host"), tables.CLEAN: ("no store yet", "host"),
    tables.WATCHED: ("watched", "vmm b"), tables.STALE: ("✕ stale", "fault b"),
}  # fmt: skip
_HEADS = {
    tp.SHADOW: ("Shadow tables", "gva → mpa, what the CPU walks"),
    tp.NESTED: ("Nested tables", "gpa → mpa, walked by the CPU as well"),
    "": ("No other tables", "the CPU walks the guest's own"),
}


def draw(picture: TablesScene) -> Stage:
    """The scene as SVG; its rows can be walked with the cursor, and Enter follows one."""
    now = picture.moment
    side = _right_side(now)
    by_page: dict[tuple[int, bool], Change] = {(each.gva, each.side == tp.GUEST): each for each in picture.changes}
    parts = [_heads(side), _captions(picture, side), _directories(now, side, picture.switched)]
    for index, slot in enumerate(now.slots):
        parts.append(_slot(slot, index, now, side, by_page))
    parts += [_brackets(now, side), _pmap(now), _foot(now, side)]
    return Stage(
        label=f"The guest's page tables beside the VMM's, step {picture.position} of {picture.total}. "
        f"{plain(picture.say)}",
        height=HEIGHT,
        over="".join(parts),
        rows=len(now.slots),
    )


def _right_side(now: Moment) -> str:
    return tp.SHADOW if now.path.shadow is not None else tp.NESTED if now.path.nested is not None else ""


def _heads(side: str) -> str:
    title, what = _HEADS[side]
    return (
        text(_LEFT, 16, "Guest's tables", "l b guest")
        + text(_LEFT, 36, "gva → gpa, what the kernel wrote", "soft")
        + text(_RIGHT, 16, title, "l b vmm" if side else "l b host")
        + text(_RIGHT, 36, what, "soft")
    )


def _captions(picture: TablesScene, side: str) -> str:
    now = picture.moment
    found = []
    for level, y, name in ((0, _DIRECTORY, "directory"), (1, _TABLE, "table")):
        for x, which in ((_LEFT, tp.GUEST), (_RIGHT, side)):
            entry = now.entry(which, level) if which else None
            if entry is None:
                words = f"no {name}" if which else ""
            else:
                words = f"{name} at {hex8(entry.table)}"
                if which == tp.GUEST and level == 0:
                    words += ", CR3"
            found.append(text(x, y - 5, words, "s soft"))
            if which == tp.GUEST and now.watched[level] and entry is not None:
                found.append(
                    glyph("trace_fault", _LEFT_END - 64, y - 9, 5) + text(_LEFT_END, y - 5, "watched", "s vmm end")
                )
    return "".join(found)


def _directories(now: Moment, side: str, switched: bool) -> str:
    parts = []
    left, right = now.entry(tp.GUEST, 0), now.entry(side, 0) if side else None
    parts.append(
        _entry(
            _LEFT, _DIRECTORY, "guest", None if left is None else left.index, None if left is None else left.value, None
        )
    )
    if side:
        parts.append(
            _entry(
                _RIGHT,
                _DIRECTORY,
                "vmm",
                None if right is None else right.index,
                None if right is None else right.value,
                None,
            )
        )
    if switched:
        parts.append(_box(_LEFT, _DIRECTORY - 1))
        parts.append(_box(_RIGHT, _DIRECTORY - 1) if side == tp.SHADOW else "")
    return "".join(parts)


def _slot(slot: Slot, index: int, now: Moment, side: str, changed: dict[tuple[int, bool], Change]) -> str:
    y = _TABLE + _PITCH * index
    parts = []
    hue = "fault" if slot.relation == tables.STALE else "vmm"
    if side:
        parts.append(_ribbon(slot, y))
    mine, theirs = changed.get((slot.gva, True)), changed.get((slot.gva, False))
    weight = " b" if slot.gva == now.focus else ""
    parts.append(_entry(_LEFT, y, "guest", pg.table_index(slot.gva), slot.left, mine, weight))
    if side:
        other = slot.right_index if side == tp.NESTED and slot.right is not None else pg.table_index(slot.gva)
        if side == tp.NESTED and slot.right is None:
            other = -1
        parts.append(_entry(_RIGHT, y, hue, other, slot.right, theirs, weight, slot.left))
    for x, change in ((_LEFT, mine), (_RIGHT, theirs)):
        parts.append(_box(x, y - 1) if change is not None else "")
    parts.append(f'<g class="vl-cursor">{_box(_LEFT, y - 1)}</g>')
    return f'<g data-row="{index}" aria-label="{escape(_spoken(slot, side))}">{"".join(parts)}</g>'


def _spoken(slot: Slot, side: str) -> str:
    """The row for those who cannot see it."""
    left = "no table" if slot.left is None else f"{hex8(slot.left)} {pg.PTE(slot.left).flags or 'not present'}"
    words = f"page {hex8(slot.gva)}: guest {left}"
    if side:
        right = "nothing" if not slot.right else f"{hex8(slot.right)} {pg.PTE(slot.right).flags}"
        words += f"; {side} {right}; {slot.relation}"
    return words


def _entry(x: float, y: float, hue: str, index: int | None, value: int | None, change: Change | None,
           weight: str = "", other: int | None = None) -> str:  # fmt: skip
    """One entry: index, value, bits; and what it was before this step."""
    present = value is not None and bool(value & pg.PRESENT)
    wash = f"var(--vl-{hue}-wash)" if present else "none"
    parts = [rect(x, y, _SIDE, _ROW, wash)]
    if index is not None and index >= 0:
        parts.append(text(x + _INDEX, y + 16, f"{index:03x}", "ms soft"))
    if value is None or not value:
        parts.append(text(x + _ENTRY, y + 16, "–", f"m soft{weight}"))
    else:
        parts.append(text(x + _ENTRY, y + 16, hex8(value), f"m{weight}"))
        for name, mask, at in _BITS:
            if value & mask:
                parts.append(text(x + at, y + 16, name, f"ms{weight}"))
            else:
                withheld = other is not None and present and bool(other & mask)
                parts.append(text(x + at, y + 16, "–" if withheld else "·", "ms b vmm" if withheld else "ms soft"))
    if change is not None:
        parts.append(text(x + _WAS, y + 16, f"was {hex8(change.old) if change.old else '–'}", "ms soft"))
    return "".join(parts)


def _ribbon(slot: Slot, y: float) -> str:
    middle = (_LEFT_END + _RIGHT) / 2
    if slot.relation not in _LABELS:
        return ""
    words, css = _LABELS[slot.relation]
    label = text(middle, y + 16, words, f"mid {css}")
    if slot.relation == tables.NOT_YET:
        wide = 44
        y += 11
        start, end = number(middle - wide), number(middle + wide)
        path = f"M{number(_LEFT_END)} {number(y)}H{start}M{end} {number(y)}H{number(_RIGHT)}"
        return f'<path d="{path}" class="not-there"/>{label}'
    wash = {tables.STALE: "fault", tables.WATCHED: "vmm"}.get(slot.relation, "host")
    return rect(_LEFT_END, y, _RIGHT - _LEFT_END, _ROW, f"var(--vl-{wash}-wash)", 'class="ribbon"') + label


def _brackets(now: Moment, side: str) -> str:
    """The path that is followed: from the directory's entry to the table's, on both sides."""
    index = next(at for at, slot in enumerate(now.slots) if slot.gva == now.focus)
    top, low = _DIRECTORY + 11, _TABLE + _PITCH * index + 11
    parts = []
    if now.entry(tp.GUEST, 1) is not None:
        parts.append(f'<path d="M-1 {number(top)}H-5V{number(low)}H-1" class="path-guest"/>')
    if side == tp.SHADOW and now.entry(side, 1) is not None:
        x = WIDTH + 1
        parts.append(f'<path d="M{x} {number(top)}H{x + 4}V{number(low)}H{x}" class="path-vmm"/>')
    return "".join(parts)


def _pmap(now: Moment) -> str:
    """The frames behind the guest pages that stand above, each once."""
    parts = [
        text(_LEFT, _PMAP - 12, "pmap", "l b host"),
        text(60, _PMAP - 12, "which machine frame is behind a guest page: gpa → mpa", "soft"),
    ]
    seen: dict[int, int | None] = {}
    for slot in now.slots:
        if slot.ppn is not None:
            seen[slot.ppn] = slot.mpn
    for at, (ppn, mpn) in enumerate(list(seen.items())[:_CELLS]):
        x = _CELL * at
        width = _CELL - 6
        parts.append(rect(x, _PMAP, width, _ROW, "var(--vl-host-wash)"))
        frame = "none" if mpn is None else f"{mpn:05x}"
        here = now.path.gpa is not None and now.path.gpa >> 12 == ppn
        parts.append(text(x + width / 2, _PMAP + 16, f"{ppn:05x} → {frame}", "ms mid b" if here else "ms mid"))
    if not seen:
        parts.append(text(_LEFT, _PMAP + 16, "none of these pages is present", "soft"))
    return "".join(parts)


def _foot(now: Moment, side: str) -> str:
    """The followed address, and the counters."""
    path = now.path
    mpa = "–" if path.mpa is None else hex8(path.mpa)
    gpa = "–" if path.gpa is None else hex8(path.gpa)
    wrong = " fault" if path.stale else ""
    x, parts = 0.0, []
    for words, css, width in (
        ("gva", "soft", 32), (hex8(path.gva), "m b", 72), ("→ gpa", "soft", 56), (gpa, "m b guest", 72),
        ("→ mpa", "soft", 60), (mpa, f"m b{wrong or ' vmm'}", 72),
    ):  # fmt: skip
        parts.append(text(x, _FOOT, words, css))
        x += width
    counts = now.counts
    shown = [("true_fault", counts.true, "true", "guest")]
    if side:
        shown.insert(0, ("hidden_fault", counts.hidden, "hidden", "vmm"))
    if side == tp.SHADOW:
        shown.append(("trace_fault", counts.trace, "trace", "vmm"))
    for at, (kind, count, words, css) in enumerate(shown):
        x = _RIGHT + _COUNT * at
        parts.append(glyph(kind, x + 8, _FOOT - 5, 7) + text(x + 22, _FOOT, f"{count} {words}", f"l b {css}"))
    return "".join(parts)


def _box(x: float, y: float) -> str:
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(_SIDE)}" height="{number(_ROW + 2)}" class="current"/>'
    )
