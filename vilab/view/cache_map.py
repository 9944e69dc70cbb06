"""The translation cache from above: one block a fragment, as wide as it is long, and an arc for each chained jump.

Blocks stand in the order of their addresses. The current fragment is solid. Above 40 fragments only the current one's
arcs are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

from vilab.view.cache import CacheState, Link
from vilab.view.frame import WIDTH
from vilab.view.svg import number, text
from vilab.view.words import counted, hex8

MOST_ARCS = 40
LEAST_BYTES = 128
_TITLE_Y, _TOP, _HEIGHT, _UNDER = 372.0, 434.0, 28.0, 478.0
_GAP = 3.0


def draw(state: CacheState, current: int | None, letters: Mapping[int, str]) -> str:
    """SVG between y = 356 and 484. ``letters`` names the fragments that the rows above speak of."""
    parts = [text(0, _TITLE_Y, "Translation cache", "l b vmm")]
    starts = state.starts()
    if not starts:
        parts.append(text(182, _TITLE_Y, "empty: nothing has been translated", "soft"))
        parts.append(f'<path d="M0 {number(_TOP + _HEIGHT)}H{WIDTH}" class="axis"/>')
        return "".join(parts)
    places = _places(state, starts)
    drawn = [link for link in state.links.values() if link.how != "fall_through"]
    if len(starts) > MOST_ARCS:
        drawn = [link for link in drawn if current is not None and state.owner_of(link) == current]
        note = f"arcs are the chained jumps of {letters.get(current or 0, 'the current fragment')}"
    else:
        note = "arcs are chained jumps"
    parts.append(
        text(182, _TITLE_Y, f"{counted(len(starts), 'fragment')}, {counted(state.size_bytes, 'byte')}; {note}", "soft")
    )
    loud = [link for link in drawn if current is not None and state.owner_of(link) == current]
    for link in [link for link in drawn if link not in loud] + loud:
        parts.append(_arc(state, places, link, link in loud))
    for start in starts:
        parts.append(_block(places[start], start == current, letters.get(start, "")))
    used = max(x + width for x, width in places.values())
    if used < WIDTH - 1:
        parts.append(f'<path d="M{number(used + _GAP)} {number(_TOP + _HEIGHT)}H{WIDTH}" class="axis"/>')
    parts.append(_addresses(state, places, letters))
    return "".join(parts)


def _places(state: CacheState, starts: list[int]) -> dict[int, tuple[float, float]]:
    """(x, width) of each block."""
    gap = _GAP if len(starts) <= 100 else 0.0
    room = WIDTH - gap * (len(starts) - 1)
    scale = room / capacity(state.size_bytes)
    places, x = {}, 0.0
    for start in starts:
        width = scale * (state.end_of(start) - start)
        places[start] = (x, width)
        x += width + gap
    return places


def capacity(size_bytes: int) -> int:
    """How many bytes the map is wide: it fills up, and when it is full its scale halves."""
    wide = LEAST_BYTES
    while wide < size_bytes:
        wide *= 2
    return wide


def _arc(state: CacheState, places: Mapping[int, tuple[float, float]], link: Link, loud: bool) -> str:
    owner = state.owner_of(link)
    if owner is None or link.target not in places:
        return ""
    left, width = places[owner]
    start = left + width * 0.8
    to_left, to_width = places[link.target]
    end = to_left + min(to_width * 0.2, 12.0)
    rise = min(46.8, 16 + abs(end - start) * 0.14)
    top = number(_TOP - rise)
    tip = number(_TOP - 5)
    css = "arc loud" if loud else "arc"
    path = f"M{number(start)} {number(_TOP)}C{number(start)} {top} {number(end)} {top} {number(end)} {tip}"
    head = (
        f"M{number(end - 4)} {number(_TOP - 8)}L{number(end + 4)} {number(_TOP - 8)}L{number(end)} {number(_TOP - 1)}Z"
    )
    return f'<path d="{path}" class="{css}"/><path d="{head}" class="head{" loud" if loud else ""}"/>'


def _block(place: tuple[float, float], current: bool, letter: str) -> str:
    x, width = place
    box = f'x="{number(x)}" y="{number(_TOP)}" width="{number(max(width, 1.0))}" height="{number(_HEIGHT)}"'
    block = f'<rect {box} class="fragment{" now" if current else ""}"/>'
    if letter and width >= 14:
        block += text(x + width / 2, _TOP + 19, letter, f"mid b {'on-vmm' if current else 'vmm'}")
    return block


def _addresses(state: CacheState, places: Mapping[int, tuple[float, float]], letters: Mapping[int, str]) -> str:
    """The address under each named block, where there is room."""
    parts = []
    free = -1.0
    for start in sorted(letters):
        if start not in places:
            continue
        x = min(places[start][0], WIDTH - 64.0)
        if x >= free:
            parts.append(text(x, _UNDER, hex8(start), "ms soft"))
            free = x + 72
    return "".join(parts)
