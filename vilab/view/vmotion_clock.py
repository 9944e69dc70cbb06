"""The same rounds as long as they took: one strip of time, and at its end how long the machine stood still.

::

    The nine rounds on a clock                                       stopped for 210 ms of 71.0 s
    ███████████████████████████████████████████████▏████████▏███▏██▏█▏▏▏
    round 1, 54.1 s                                 round 2, 10.1 s  3   4 to 9

A standstill that would be too thin to be seen is 3 units wide, and stands out above and below the strip: it is a mark.
"""

from __future__ import annotations

from vilab.view.svg import number, text
from vilab.view.vmotion_labels import width
from vilab.view.vmotion_scale import END, LEFT
from vilab.view.vmotion_seen import Migration
from vilab.view.vmotion_units import time

NAME, TOP, HEIGHT, BELOW = 473.0, 487.0, 18.0, 521.0
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_MARK = 3.0


def clock(whole: Migration, seen: Migration) -> str:
    """``whole``: what the strip is as long as; drawn is what has been ``seen``."""
    total = max(whole.duration_ns, _stop(whole)[1], 1)
    unit = (END - LEFT) / total
    parts = [text(LEFT, NAME, _title(whole), "b"), _frame()]
    lines = []
    for each in seen.rounds:
        if each.sent is not None and not each.stopped:
            x, wide = LEFT + each.began_ns * unit, each.sent.duration_ns * unit
            parts.append(_bar(x, wide, "guest"))
            lines.append(x + wide)
        elif each.sent is None:
            end_ns = seen.duration_ns
            wide = max(end_ns - each.began_ns, 0) * unit
            parts.append(_bar(LEFT + each.began_ns * unit, wide, "guest", part="wash"))
    if lines:
        cuts = "".join(f"M{number(x)} {TOP}v{HEIGHT}" for x in lines)
        parts.append(f'<path d="{cuts}" style="fill:none;stroke:var(--vl-surface);stroke-width:1.2"/>')
    begin, end = _stop(seen)
    if end > begin:
        wide = max((end - begin) * unit, _MARK)
        x = min(LEFT + begin * unit, END - wide)
        over = 6 if wide <= 2 * _MARK else 0
        parts.append(_bar(x, wide, "vmm", over))
    parts.append(_under(seen, unit))
    parts.append(_told(seen))
    return "".join(parts)


def _title(whole: Migration) -> str:
    count = len(whole.rounds)
    if whole.ended is None or not count:
        return "The rounds on a clock"
    name = _WORDS[count] if count < len(_WORDS) else f"{count}"
    return f"The {name} rounds on a clock" if count > 1 else "The round on a clock"


def _frame() -> str:
    return f'<path d="M{number(LEFT)} {TOP + HEIGHT}H{number(END)}" class="axis"/>'


def _bar(x: float, wide: float, hue: str, over: float = 0, part: str = "fill") -> str:
    high = number(HEIGHT + 2 * over)
    box = f"M{number(x)} {number(TOP - over)}h{number(wide)}v{high}h{number(-wide)}Z"
    return f'<path d="{box}" data-clock="{hue}" style="fill:var(--vl-{hue}-{part})"/>'


def _stop(seen: Migration) -> tuple[int, int]:
    """From when to when it stood still, as far as is known."""
    begin = seen.stunned_ns
    if begin is None:
        return 0, 0
    if seen.downtime_ns is not None:
        return begin, begin + seen.downtime_ns
    return begin, max((each.ended_ns for each in seen.rounds if each.stopped), default=begin)


def _told(seen: Migration) -> str:
    if seen.downtime_ns is not None and (seen.downtime_ns or seen.stun is not None):
        words = f"stopped for {time(seen.downtime_ns)} of {time(seen.duration_ns)}"
        return text(END, NAME, words, "b vmm end")
    begin, end = _stop(seen)
    if end > begin:
        return text(END, NAME, f"stopped for {time(end - begin)} so far", "b vmm end")
    if seen.ended is not None:
        return text(END, NAME, "never stopped", "b end")
    return ""


def _under(seen: Migration, unit: float) -> str:
    """What a round took where there is room, its number where there is less; the thin ones at the end together."""
    done = [each for each in seen.rounds if each.sent is not None]
    named: list[tuple[float, str, float]] = []
    free = LEFT
    before = "checks, room" if seen.rounds and width("checks, room", 12) + 6 <= seen.rounds[0].began_ns * unit else ""
    first = text(LEFT, BELOW, before, "s soft") if before else ""
    for at, each in enumerate(done):
        assert each.sent is not None
        x, room = LEFT + each.began_ns * unit, each.sent.duration_ns * unit
        long = f"round {each.number}, {time(each.sent.duration_ns)}"
        words = next((words for words in (long, str(each.number)) if width(words, 12) + 4 <= room), "")
        if at == len(done) - 1 and x + width(long, 12) <= END:
            words = long
        if not words or x < free:
            break
        named.append((x, words, free))
        free = x + width(words, 12) + 6
    while True:
        rest = done[len(named) :]
        if not rest:
            return first + "".join(text(x, BELOW, words, "s soft") for x, words, _ in named)
        words = f"{rest[0].number} to {rest[-1].number}" if len(rest) > 1 else f"{rest[0].number}"
        right = min(max(LEFT + rest[-1].ended_ns * unit, free + width(words, 12)), END)
        if right - width(words, 12) >= free or not named:
            made = first + "".join(text(x, BELOW, words, "s soft") for x, words, _ in named)
            return made + text(right, BELOW, words, "s soft end")
        free = named.pop()[2]
