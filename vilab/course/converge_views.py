"""The pictures of lesson 19. Needs Jupyter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from vilab.course.converge_rates import RatesTrack
from vilab.course.converge_runs import FIVE, LINKS_MBIT, MS, WAYS, Moved, moved, predicted_ns
from vilab.course.predictions_converge import link_questions, remedy_questions, rogue_questions, steady_questions
from vilab.view.bars import Bar, Bars, BarsTrack, Part, write
from vilab.view.memory_players import KnobPlayer
from vilab.view.vmotion_player import VMotionPlayer
from vilab.view.vmotion_track import VMotionTrack
from vilab.view.widget import Player


def rounds(question: str, guest: str = "rogue", way: str = "plain", ask: bool = False) -> VMotionPlayer:
    """A move of the lesson, a round a step."""
    events = moved(guest, way).events
    asked = rogue_questions(VMotionTrack(events, question)) if ask else None
    return VMotionPlayer(events, question, asked)


def by_link(question: str, ask: bool = False) -> Player:
    """How long the rogue stands still, a link a step; dashed: what is left at the speed of the link."""
    names = [(f"{link} Mbit/s", "") for link in LINKS_MBIT]
    scenes = [partial(_by_link, at) for at in range(1, len(LINKS_MBIT) + 1)]
    track = BarsTrack(question, scenes, names, "Nothing has been moved yet. Press Step.")
    return Player(track, link_questions() if ask else None)


def _by_link(count: int) -> Bars:
    bars = tuple(_link_bar(link) for link in LINKS_MBIT[:count])
    link = LINKS_MBIT[count - 1]
    found = moved("rogue", "plain", link)
    due = predicted_ns(found.left_pages, link)
    say = (
        f"{link} Mbit/s: {found.left_pages:,} pages are left, which should take {due / MS:,.0f} ms. The machine stood "
        f"still for **{found.downtime_ns / MS:,.0f} ms**."
    )
    return Bars(f"{link} Mbit/s", "how long the rogue stands still", "ms", bars, say)


def _link_bar(link: int) -> Bar:
    found = moved("rogue", "plain", link)
    due = predicted_ns(found.left_pages, link) / MS
    return Bar(f"{link} Mbit/s", (Part(round(found.downtime_ns / MS), "vmm"),), "", round(due), "predicted")


Quantity = tuple[str, str, str, Callable[[Moved], float], str]

QUANTITIES: tuple[Quantity, ...] = (
    ("stood still", "how long the machine stands still", "ms", lambda m: m.downtime_ns / MS, "vmm"),
    ("bytes", "what was sent, in millions of bytes", "MB", lambda m: m.sent_bytes / 1e6, "host"),
    ("slowest answer", "how long the client waits for the slowest answer", "ms", lambda m: m.heard.slowest_ns / MS,
     "vmm"),
    ("own work", "what the writer gets done meanwhile, of what it would have", "%", lambda m: 100 * (m.done or 0.0),
     "guest"),
)  # fmt: skip


def remedies(question: str, ways: Sequence[str] = FIVE, guest: str = "rogue", ask: bool = False) -> Player:
    """The ways beside each other: a step is another thing that is measured."""
    names = [(WAYS[way].name, WAYS[way].note) for way in ways]
    shown = QUANTITIES if guest == "rogue" else QUANTITIES[:-1]  # who else reports how much is done?
    scenes = [partial(_remedies, tuple(ways), guest, quantity) for quantity in shown]
    empty = "Nothing has been measured yet. Press Step."
    asked = remedy_questions() if guest == "rogue" else steady_questions()
    return Player(BarsTrack(question, scenes, names, empty), asked if ask else None)


def _remedies(ways: tuple[str, ...], guest: str, quantity: Quantity) -> Bars:
    name, what, unit, measure, who = quantity
    values = {way: round(measure(moved(guest, way)), 1) for way in ways}
    bars = tuple(Bar(WAYS[way].name, (Part(value, who),)) for way, value in values.items())
    listed = ", ".join(f"{WAYS[way].name} **{write(value)}**" for way, value in values.items())
    return Bars(name, what, unit, bars, f"{what[0].upper()}{what[1:]} ({unit}): {listed}.")


def rates(question: str, machine: str = "specweb") -> KnobPlayer:
    """Clark's rule on a trace at the paper's size, its limits and the machine as sliders."""
    return KnobPlayer(RatesTrack(question, machine))


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, VMotionTrack | BarsTrack)
    last = track.total if last is None else min(last, track.total)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))
