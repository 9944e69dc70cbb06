"""The rounds of a migration as SVG: squares of bytes, rates, and the rounds on a clock.

::

    676.8 MB                                    sizes        an area is a number of bytes, the same everywhere
    ██████ ██  126.7                            ┄┄┄┄┄┄┄┄     the writable working set, once the rounds show it
    ██████ ██   ██    39.0  ...  15.3  18.2     ▪ 18.2       orange: sent with the machine stopped
    round 1     2     3          8     9        runs on esx2
    Mb/s        ─●────●───────────●─────        link and guest (``vmotion_rates``)
    ████████████████████▌███▌██▌▌▌▌             the clock: second rank, not in a lecture
"""

from __future__ import annotations

import msgspec

from vilab.view.frame import WIDTH, Stage
from vilab.view.svg import number, text
from vilab.view.vmotion_clock import clock
from vilab.view.vmotion_labels import Place, Space, width
from vilab.view.vmotion_rates import rates
from vilab.view.vmotion_scale import END, LEFT, Squares, squares
from vilab.view.vmotion_seen import Migration, Round
from vilab.view.vmotion_squares import BASE, TOP, blocks, high
from vilab.view.vmotion_text import label
from vilab.view.vmotion_units import amount, in_unit, square, time, unit_of
from vilab.view.words import NBSP

NAMES, UNDER_NAMES, LAST_NAMES = BASE + 18, BASE + 34, BASE + 50
HEIGHT, LECTURE_HEIGHT = 528.0, 456.0
END_MIDDLE = 864.0
_END_ROOM, _END_WORDS, _NAME_LETTERS = 112.0, 144.0, 14


class Layout(msgspec.Struct, frozen=True):
    """What stays where it is while a run is stepped through. ``whole``: the last that is known of the migration."""

    scale: Squares
    whole: Migration

    @property
    def stops(self) -> tuple[float, ...]:
        """The middle of each round's squares."""
        return tuple(block.middle for block in self.scale.blocks)


def layout(whole: Migration, rounds: int = 0) -> Layout:
    """``rounds``: for how many there is to be room, where more may come."""
    sizes = [each.due_bytes for each in whole.rounds]
    return Layout(squares(sizes or [whole.memory_bytes], rounds), whole)


def draw(where: Layout, seen: Migration, question: str) -> Stage:
    """What was known at one moment, in the places of the whole run."""
    parts = [blocks(where.scale, seen.rounds), f'<path d="M{number(LEFT)} {BASE}H{number(END)}" class="axis"/>']
    if not seen.rounds:
        words = "each round is drawn here when it has been sent" if seen.ended is None else "no round was sent"
        parts.append(text((LEFT + END) / 2, TOP + 84, words, "mid soft"))
    parts.append(_words(where, seen))
    parts.append(rates(where.whole, seen, where.stops))
    under = "".join(parts) + f'<g class="vl-second">{clock(where.whole, seen)}</g>'
    return Stage(label=label(seen, question), height=HEIGHT, lecture_height=LECTURE_HEIGHT, under=under)


def stage_of_nothing(question: str) -> Stage:
    """Nothing has begun: the frame stands."""
    axis = f'<path d="M{number(LEFT)} {BASE}H{number(END)}" class="axis"/>'
    words = text((LEFT + END) / 2, TOP + 84, "no migration has begun", "mid soft")
    return Stage(label=question, height=HEIGHT, lecture_height=LECTURE_HEIGHT, under=axis + words)


# Words about them ----------------------------------------------------------------------------------------------------


def _words(where: Layout, seen: Migration) -> str:
    """Sizes above the squares, numbers below, the unit, the working set, and how it ended."""
    scale, whole = where.scale, where.whole
    space = Space(0, 0, WIDTH, BASE - 2)
    for each, block in zip(whole.rounds, scale.blocks, strict=False):
        space.take(block.x, BASE - high(scale, each), block.x + block.width, BASE)
    parts = [_sizes(where, seen, space), _unit(where), _working_set(where, seen, space)]
    parts.append(_numbers(where, seen))
    return "".join(parts)


def _sizes(where: Layout, seen: Migration, space: Space) -> str:
    """The newest first, then those that were stopped, the first and the largest; others where there is room."""
    whole, scale = where.whole, where.scale
    rounds = seen.rounds
    if not rounds:
        return ""
    unit = unit_of(whole)
    largest = max(range(len(rounds)), key=lambda at: rounds[at].bytes)
    newest = len(rounds) - 1
    order = sorted(range(len(rounds)), key=lambda at: (at != 0, at != newest, not rounds[at].stopped, at != largest))
    made = []
    for at in order:
        each, block = rounds[at], scale.blocks[at]
        loud = at == 0 and block.columns > 2
        words = _size_words(each, unit, at == 0)
        if loud:
            px, css = 20.0, "xl b"
        elif at == newest or scale.gap + block.width > 30:
            px, css = 14.0, "b"
        else:
            px, css = 12.0, "s"
        hue = " vmm" if each.stopped else ""
        y = BASE - high(scale, each) - 7
        wide = width(words, px, "b" in css.split())
        middle = max(block.middle, wide / 2)
        places = [Place(middle, y, "mid")]
        if at == newest or not at:
            places += [Place(middle, y - 16, "mid"), Place(middle, TOP - 7, "mid")]
        place = space.put(wide, px, places)
        if place is not None:
            made.append(text(place.x, place.y, words, f"{css} mid tab{hue}"))
    return "".join(made)


def _size_words(each: Round, unit: tuple[str, int], first: bool) -> str:
    """The unit stands once, at the first."""
    words = amount(each.bytes, unit)
    if each.sent is None:
        words = f"{in_unit(each.bytes, unit[1])} of {amount(each.due_bytes, unit)}"
    return words if first else words.removesuffix(f"{NBSP}{unit[0]}")


def _unit(where: Layout) -> str:
    """The key: one line, where no round and no size will ever stand."""
    space = Space(0, 0, WIDTH, BASE)
    for each, block in zip(where.whole.rounds, where.scale.blocks, strict=False):
        space.take(block.x - 14, BASE - high(where.scale, each) - 26, block.x + block.width + 14, BASE)
    if not where.whole.rounds and where.whole.finished:
        return ""
    words = f"1 square = {square(where.scale.unit_bytes)}"
    skipped = any(each.sent is not None and each.sent.skipped_pages for each in where.whole.rounds)
    more = "written again before their turn" if skipped else ""
    wide = width(words, 12) + 14 + (width(more, 12) + 32 if more else 0)
    xs = [LEFT + 12.0 * at for at in range(int((END - LEFT - wide) / 12) + 1)]
    after = where.scale.blocks[0].x + where.scale.blocks[0].width + 16
    places = [Place(x, y) for y in (TOP + 8, TOP - 12, TOP + 40, TOP + 80) for x in xs if x >= after]
    place = space.put(wide, 12, places)
    if place is None:
        place = Place(LEFT, UNDER_NAMES)
    side = where.scale.side
    box = f"M{number(place.x)} {number(place.y - 9)}h{number(side)}v{number(side)}h{number(-side)}Z"
    made = f'<path d="{box}" style="fill:var(--vl-guest-fill)"/>' + text(place.x + 12, place.y, words, "s soft")
    if more:
        x = place.x + width(words, 12) + 32
        box = f"M{number(x)} {number(place.y - 9)}h9v9h-9Z"
        dashed = "fill:none;stroke:var(--vl-guest-ink);stroke-width:1.2;stroke-dasharray:3 1.5"
        made += f'<path d="{box}" style="{dashed}"/>' + text(x + 14, place.y, more, "s soft")
    return made


def _working_set(where: Layout, seen: Migration, space: Space) -> str:
    found = seen.plateau
    if found is None:
        return ""
    first = min(found[0], len(where.scale.blocks) - 1)
    level = where.scale.level(found[1])
    if level is None:
        return ""
    y = BASE - level
    x = where.scale.blocks[first].x - min(where.scale.gap / 2, 12)
    made = [
        f'<path d="M{number(x)} {number(y)}H{number(END)}" data-line="working-set" '
        'style="fill:none;stroke:var(--vl-text-strong);stroke-width:1.2;stroke-dasharray:4 3"/>'
    ]
    words = amount(found[1], unit_of(where.whole))
    over, name = f"never much below {words}:", "the writable working set"
    wide = max(width(over), width(name, bold=True))
    top = y - 40
    places = [Place(END, top - 12 * at, "end") for at in range(int((top - 14) // 12) + 1)]
    place = space.put(wide, 14, places, 2)
    if place is not None:
        leader = f"M{number(END - 8)} {number(place.y + 25)}V{number(y - 3)}"
        made.append(f'<path d="{leader}" class="axis" style="stroke:var(--vl-text)"/>')
        made.append(text(place.x, place.y, over, "end") + text(place.x, place.y + 18, name, "end b"))
        return "".join(made)
    lines = (f"{words}:", "the writable", "working set")  # beside the rounds, under the line or above it
    below = y + 16 + 2 * 16 < BASE
    for at, line in enumerate(lines):
        made.append(text(END, (y + 18 if below else y - 42) + 16 * at, line, "s end" if not at else "s end b"))
    return "".join(made)


def _numbers(where: Layout, seen: Migration) -> str:
    """Under the axis: the rounds' numbers, what happened to them, and where the machine runs in the end."""
    scale, rounds = where.scale, seen.rounds
    space = Space(0, BASE, WIDTH, UNDER_NAMES + 8)
    made = _end(seen, space)
    newest = len(rounds) - 1
    for at in sorted(range(len(rounds)), key=lambda at: (at != newest, at != 0, not rounds[at].stopped, at % 5 != 4)):
        each, block = rounds[at], scale.blocks[at]
        words = f"round {each.number}" if at == 0 else str(each.number)
        bold = at == newest and not _over(seen)
        wide = width(words, 14, bold)
        place = space.put(wide + 4, 14, (Place(max(block.middle, wide / 2), NAMES, "mid"),))
        if place is not None:
            made.append(text(place.x, place.y, words, "mid b" if bold else "mid soft"))
        below, hue = _below(seen, each, at == newest)
        if below:
            wide = width(below, 12, True)
            place = space.put(wide, 12, (Place(max(block.middle, wide / 2), UNDER_NAMES, "mid"),
                                         Place(block.x + block.width, UNDER_NAMES, "end")))  # fmt: skip
            if place is not None:
                made.append(text(place.x, place.y, below, f"s b {place.css} {hue}"))
    return "".join(made)


def _below(seen: Migration, each: Round, newest: bool) -> tuple[str, str]:
    """What is to be said of a round: it was cut off, the machine stood still, or processes were stopped."""
    if each.sent is None and newest and seen.finished:
        return "✕ cut off", "fault"
    if each.stopped:
        return "VM stopped", "vmm"
    stopped = sum(writer.number == each.number for writer in seen.writers)
    if stopped:
        return f"▼ {stopped} stopped", "vmm"
    return "", ""


def _over(seen: Migration) -> bool:
    return seen.ended is not None or seen.resumed is not None


def _end(seen: Migration, space: Space) -> list[str]:
    """Where it runs in the end, and after which standstill, at the right. Its place is kept free from the beginning."""
    lines: list[tuple[str, str]] = []
    if _over(seen):
        host = _short(seen.runs_on)
        verb, css = ("runs on", "end b guest") if seen.moved else ("✕ stays on", "end b fault")
        lines = [(f"{verb} {host}", css)] if host else [("✕ does not run", css)]
        if width(lines[0][0], bold=True) > _END_WORDS:
            lines = [(verb, css), (host, css)]
        if seen.downtime_ns:
            lines.append((f"after {time(seen.downtime_ns)}", "end s b vmm"))
    room = max(_END_ROOM, *(width(words, 12 if " s " in css else 14, True) for words, css in lines), 0)
    space.take(END - room, BASE, END, UNDER_NAMES + 8)
    return [text(END, y, words, css) for y, (words, css) in zip((NAMES, UNDER_NAMES, LAST_NAMES), lines, strict=False)]


def _short(host: str) -> str:
    """A host's name without its domain, and no longer than there is room for; its end, often a number, stays."""
    name = host.split(".")[0]
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 8]}…{name[-7:]}"
