"""What the link carries and what the guest writes, round by round, over the middles of the rounds' squares.

::

    Mb/s
     750 ┤                              ● last copy 724
     250 ┤            dirtying 294 overtakes sending 247
       0 ┤ ●━━━━━●━━━━━●━━━━●   ■┅┅┅┅■┅┅┅┅■              link solid with circles, guest dashed with squares
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view.frame import WIDTH
from vilab.view.svg import number, text
from vilab.view.vmotion_labels import LEADING, Place, Space, width
from vilab.view.vmotion_scale import END, LEFT, ticks
from vilab.view.vmotion_seen import Migration, Round
from vilab.view.vmotion_units import rate, rate_unit

TOP, BASE = 278.0, 434.0
Point = tuple[float, float]


class _Axis:
    def __init__(self, whole: Migration) -> None:
        most = max((_most(each) for each in whole.rounds), default=0.0)
        self.name, self.unit = rate_unit(most * 8) if most else rate_unit(1e6)
        self.ticks = ticks(most * 8 / self.unit) if most else (0.0, 1.0)
        self.known = bool(most)
        self.scale = (BASE - TOP) / self.ticks[-1]

    def y(self, bytes_per_s: float) -> float:
        return BASE - bytes_per_s * 8 / self.unit * self.scale

    def words(self, bytes_per_s: float) -> str:
        amount = bytes_per_s * 8 / self.unit
        return f"{amount:,.1f}" if self.ticks[-1] < 20 else f"{amount:,.0f}"


def _left(seen: Migration) -> int:
    """Pages that were left when the last live round was over."""
    return next((each.dirty_pages for each in reversed(seen.rounds) if each.sent and not each.stopped), 0)


def _most(each: Round) -> float:
    if each.sent is None:
        return 0.0
    return max(each.sent.sent_bytes_per_s, 0.0 if each.stopped else each.sent.dirtied_bytes_per_s)


def rates(whole: Migration, seen: Migration, stops: Sequence[float]) -> str:
    axis = _Axis(whole)
    parts = [text(36, TOP - 16, axis.name, "s soft end")]
    for at, value in enumerate(axis.ticks if axis.known else axis.ticks[:1]):
        y = BASE - value * axis.scale
        parts.append(f'<path d="M{number(LEFT)} {number(y)}H{number(END)}" class="axis"'
                     f'{"" if not at else " style=" + chr(34) + "stroke:var(--vl-line)" + chr(34)}/>')  # fmt: skip
        parts.append(text(36, y + 4, _tick(value), "s soft end"))
    done = [(x, each) for x, each in zip(stops, seen.rounds, strict=False) if each.sent is not None]
    link = [(x, axis.y(each.sent.sent_bytes_per_s)) for x, each in done if each.sent is not None]
    guest = [(x, axis.y(each.sent.dirtied_bytes_per_s)) for x, each in done if each.sent and not each.stopped]
    parts.append(_line(link, "guest", "none") + _line(guest, "vmm", "6 4"))
    small = len(stops) > 24
    parts.extend(_circle(point, small) for point in link)
    parts.extend(_square(point, small) for point in guest)
    space = Space(LEFT, TOP - 22, WIDTH, BASE + 24)
    space.line(link)
    space.line(guest)
    space.take(LEFT, BASE - 0.5, END, BASE + 0.5)
    worth = seen.plateau is not None or seen.began.pages < 100 * _left(seen)
    parts.append(_labels(axis, [each for _, each in done], link, guest, space, worth))
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def _line(points: Sequence[Point], hue: str, dash: str) -> str:
    if len(points) < 2:
        return ""
    path = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
    style = f"fill:none;stroke:var(--vl-{hue}-ink);stroke-width:2.5;stroke-linejoin:round;stroke-dasharray:{dash}"
    return f'<path d="{path}" style="{style}"/>'


def _circle(point: Point, small: bool) -> str:
    x, y = point
    return f'<circle cx="{number(x)}" cy="{number(y)}" r="{3 if small else 4.2}" style="fill:var(--vl-guest-ink)"/>'


def _square(point: Point, small: bool) -> str:
    half = 2.6 if small else 3.7
    x, y = point
    box = f"M{number(x - half)} {number(y - half)}h{2 * half}v{2 * half}h{-2 * half}Z"
    return f'<path d="{box}" style="fill:var(--vl-vmm-ink)"/>'


# Words ---------------------------------------------------------------------------------------------------------------


def _labels(
    axis: _Axis, rounds: Sequence[Round], link: Sequence[Point], guest: Sequence[Point], space: Space,
    wins_nothing: bool,
) -> str:  # fmt: skip
    if not rounds:
        return ""
    made = []
    first, last = rounds[0].sent, rounds[-1].sent
    assert first is not None
    assert last is not None
    stopped = rounds[-1].stopped
    if stopped and len(rounds) > 1:
        words = f"last copy {axis.words(last.sent_bytes_per_s)}"
        made.append(_put(space, words, "b guest", _beside(link[-1])))
    names = [("link: sending", first.sent_bytes_per_s, "b guest", link)]
    if guest:
        names.append(("guest: dirtying", first.dirtied_bytes_per_s, "b vmm", guest))
    upper = not guest or link[0][1] <= guest[0][1]
    for at, (name, value, css, points) in enumerate(names):
        made.append(_name(space, name, value, css, points, upper == (at == 0)))
    live = [each for each in rounds if not each.stopped]
    if stopped and live and live[-1].overtaken and wins_nothing:
        made.append(_overtakes(axis, live[-1], guest[-1], space))
    if len(rounds) > 1 and not stopped:
        above = link[-1][1] <= guest[-1][1] if guest else True
        made.append(_put(space, axis.words(last.sent_bytes_per_s), "b guest", _near(link[-1], above)))
        made.append(_put(space, axis.words(last.dirtied_bytes_per_s), "b vmm", _near(guest[-1], not above)))
    return "".join(made)


def _name(space: Space, name: str, value: float, css: str, points: Sequence[Point], above: bool) -> str:
    """Beside the first point with the value there; elsewhere on the line without it."""
    x, y = points[0]
    near, far = (-12.0, 22.0) if above else (22.0, -12.0)
    place = None
    for words in (f"{name} at {rate(value)}", f"{name.split(':')[0]}: {rate(value)}"):
        wide = width(words, 14, True)
        start = max(LEFT + 18, x - wide / 2)
        places = [Place(start, y + near)]
        if not above and BASE - y < 80:
            places.append(Place(start, BASE + 18))
        places += [Place(start, y + near + (-5 if above else 5) * step) for step in range(1, 8)]
        places += [Place(max(LEFT + 4, x - wide + 12), y + near + (-5 if above else 5) * step) for step in range(6)]
        places += [Place(start, y + far)]
        place = space.put(wide, 14, places)
        if place is not None:
            break
    if place is None:
        words = name
        others = [
            Place(px + dx, py + off, anchor)
            for px, py in (*points[1:], points[0])
            for off in (near, far, near * 1.4, far * 1.4)
            for dx, anchor in ((0, "mid"), (6, "start"), (-6, "end"))
        ]
        place = space.put(width(words, 14, True), 14, others) or Place(start, y + near)
    return text(place.x, place.y, words, f"{css} {place.css} halo")


def _put(space: Space, words: str, css: str, places: Sequence[Place]) -> str:
    place = space.put(width(words, 14, True), 14, places)
    return text(place.x, place.y, words, f"{css} {place.css} halo") if place is not None else ""


def _overtakes(axis: _Axis, live: Round, point: Point, space: Space) -> str:
    assert live.sent is not None
    sending, dirtying = axis.words(live.sent.sent_bytes_per_s), axis.words(live.sent.dirtied_bytes_per_s)
    over = f"dirtying {dirtying} overtakes sending {sending}:"
    if sending == dirtying:
        over = f"dirtying is as fast as sending, {sending}:"
    why = "another round would gain nothing"
    x, y = point
    wide = max(width(over, 14, True), width(why))
    places = [Place(x - 10, y - 14 - LEADING - 6 * at, "end") for at in range(14)]
    places += [Place(x - 10, y + 26 + 6 * at, "end") for at in range(14)]
    places += [Place(x + 14, y + 5 + side * 6 * at) for at in range(9) for side in (1, -1)]
    place = space.put(wide, 14, places, 2)
    if place is None:
        return ""
    return text(place.x, place.y, over, f"b vmm {place.css} halo") + text(
        place.x, place.y + LEADING, why, f"{place.css} halo"
    )


def _beside(point: Point) -> list[Place]:
    x, y = point
    return [Place(x - 12, y + 5, "end"), Place(x + 12, y + 5), Place(x, y - 12, "mid"), Place(x, y + 22, "mid"),
            Place(x - 8, y - 12, "end"), Place(x - 12, y + 22, "end")]  # fmt: skip


def _near(point: Point, above: bool) -> list[Place]:
    x, y = point
    high, low = Place(x, y - 11, "mid"), Place(x, y + 21, "mid")
    return [high, low, Place(x + 10, y + 5)] if above else [low, high, Place(x + 10, y + 5)]
