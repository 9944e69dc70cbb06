"""The picture of lesson 18's wire for two: the same move over three networks, a measure a step. Needs Jupyter.

::

    1  mail answers     99 % of its answers come within so many µs         dashed: while nothing moves
    2  web moves        so many ms from the first page to the last word
    3  web stands still so many ms of them
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.course.predictions_vmotion import wire_questions
from vilab.course.shared_link_runs import LIMIT_PERCENT, NETWORKS, WIRE_MBIT, Beside, beside, percentile
from vilab.view.bars import Bar, Bars, BarsTrack, Part
from vilab.view.widget import Player

NOTES = {"own": "a second card", "shared": "the card of mail", "limited": f"the same, {LIMIT_PERCENT} % at most"}


def wires(question: str, ask: bool = False) -> Player:
    """Answers of the neighbour, the move, the standstill: three steps of three bars."""
    names = [(name, NOTES[network]) for network, name in NETWORKS.items()]
    empty = f"Nothing has been moved yet. Every wire carries {WIRE_MBIT} Mbit/s. Press Step for the answers of mail."
    track = BarsTrack(question, (_answers, _move, _standstill), names, empty)
    return Player(track, wire_questions() if ask else None)


def _answers() -> Bars:
    own, shared, limited = map(_slow_us, _runs())
    return _scene(
        "mail answers", "99 % of its answers come within", "µs", "guest", _slow_us,
        f"Over a wire of its own, web's move is nothing to mail. Over mail's wire, 99 % of the answers come within "
        f"**{shared:,.0f} µs** instead of {own:,.0f}; with a shaper, within {limited:,.0f}.",
        lambda run: percentile(run.quiet_ns, 99) / 1e3,
    )  # fmt: skip


def _move() -> Bars:
    own, shared, limited = map(_took_ms, _runs())
    return _scene(
        "web moves", "how long it takes", "ms", "host", _took_ms,
        f"web does not mind mail: {shared:,.0f} ms instead of {own:,.0f}. It minds the shaper: **{limited:,.0f} ms**.",
    )  # fmt: skip


def _standstill() -> Bars:
    own, shared, limited = map(_stood_ms, _runs())
    return _scene(
        "web stands still", "how long", "ms", "vmm", _stood_ms,
        f"Longer rounds leave more, and it goes more slowly: **{limited:,.0f} ms** with the shaper, {shared:,.0f} "
        f"without, {own:,.0f} over a wire of its own.",
    )  # fmt: skip


def _runs() -> list[Beside]:
    return [beside(network) for network in NETWORKS]


def _slow_us(run: Beside) -> float:
    return percentile(run.replies_ns, 99) / 1e3


def _took_ms(run: Beside) -> float:
    return run.duration_ns / 1e6


def _stood_ms(run: Beside) -> float:
    return run.downtime_ns / 1e6


def _scene(
    name: str, what: str, unit: str, who: str, measure: Callable[[Beside], float], say: str,
    before: Callable[[Beside], float] | None = None,
) -> Bars:  # fmt: skip
    runs = _runs()
    least = min(map(measure, runs))
    bars = tuple(
        Bar(
            NETWORKS[run.network], (Part(round(measure(run)), who),), other_name="nothing moves",
            other=None if before is None else round(before(run)), best=measure(run) == least,
        )
        for run in runs
    )  # fmt: skip
    return Bars(name, what, unit, bars, say)
