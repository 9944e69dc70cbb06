"""The pictures of lesson 15. Needs Jupyter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vilab.course.card_breaks import Burst
from vilab.course.card_figures import Costs, measured, stream_after
from vilab.course.feedback import columns
from vilab.course.one_packet import OnePacket
from vilab.course.predictions_cards import least, packet_questions, stream_questions
from vilab.devices.pcnet_registers import REGISTERS
from vilab.view.bars import Bar, Bars, BarsTrack, Part
from vilab.view.packet_path_beside import Beat, BesideTrack, Way, fewest
from vilab.view.packet_path_track import PacketPathTrack
from vilab.view.playback import Playback
from vilab.view.predict import Prediction
from vilab.view.predict import measured as about
from vilab.view.widget import Player

KINDS = ("vlance", "e1000", "vmxnet3")
CHIPS = {"vlance": "AMD Am79C970A", "e1000": "Intel 82545EM", "vmxnet3": "VMware's, no chip"}


def one_packet(question: str, run: OnePacket | None = None, ask: bool = False) -> Player:
    """One ping through the PCnet card of the teaching kernel, an event a step."""
    track = PacketPathTrack(run or OnePacket(), question)
    return Player(Playback(track, packet_questions(track) if ask else None))


def same_packet(view: Player, question: str) -> Player:
    """Another view of the same run."""
    track = view.playback.track
    assert isinstance(track, PacketPathTrack)
    return Player(Playback(PacketPathTrack(track.source, question)))


def run_of(view: Player) -> OnePacket:
    """The run that a picture of ``one_packet`` shows."""
    track = view.playback.track
    assert isinstance(track, PacketPathTrack)
    assert isinstance(track.source, OnePacket)
    return track.source


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, PacketPathTrack | BesideTrack | BarsTrack)
    last = track.total if last is None else min(last, track.total)
    return "\n".join(f"{at:3}  {track.describe(at)}" for at in range(first, last + 1))


def registers(run: OnePacket | None = None, every: bool = False) -> str:
    """The datasheet's table, with how often a ping has accessed each; ``every``: those that it has not, too."""
    counts: dict[str, int] = {}
    for stop in run.stops() if run is not None else ():
        if stop.exit == "card":
            name = stop.name.split(" ")[0]
            counts[name] = counts.get(name, 0) + 1
    rows: list[tuple[str, ...]] = [("where", "", "name", "accesses", "meaning")]
    for each in REGISTERS:
        shown = f"CSR{each.index}" if each.port == 0x10 and each.index is not None else each.name
        count = counts.get(shown, 0)
        if each.name == "RDP":
            count = sum(n for name, n in counts.items() if name.startswith("CSR"))
        if every or count:
            rows.append((each.where, each.access, each.name, str(count) if count else "", each.meaning))
    return "\n".join(columns(rows))


# Three cards -----------------------------------------------------------------------------------------------------


def _ways() -> list[Way]:
    """Of all three; one that is not here has no events."""
    found = measured().pings
    return [Way(kind, CHIPS[kind], tuple(Beat(each.kind, each.name) for each in found.get(kind, ()))) for kind in KINDS]


def beside(question: str, ask: bool = False) -> Player:
    """The same ping through each card that is here, one below the other."""
    track = BesideTrack(_ways, question)

    def before(position: int) -> Prediction | None:
        return fewest(track.ways) if position == 0 and not measured().note else None

    return Player(Playback(track, before if ask else None))


def ping_table() -> str:
    """Exits, transfers and interrupts of one ping, by card."""
    rows: list[tuple[str, ...]] = [("one ping", "reads", "writes", "PIC", "exits", "transfers", "interrupts")]
    for way in filter(lambda each: each.beats, _ways()):
        n = len(way.beats)
        rows.append((
            way.card, *(str(way.count(n, kind)) for kind in ("read", "write", "pic")), str(way.exits(n)),
            str(way.count(n, "dma")), str(way.count(n, "interrupt")),
        ))  # fmt: skip
    return "\n".join([*columns(rows), *([measured().note] if measured().note else [])])


def stream_again(card: str, *lines: str) -> str:
    """The megabyte in large pieces once more, after these lines at Debian's prompt; what it was before stands above."""
    if measured().note:
        return measured().note
    made = (("before", measured().large[card]), ("now", stream_after(card, *lines)))
    rows: list[tuple[str, ...]] = [(card, "interrupts", "registers", "PIC", "exits for it")]
    for name, each in made:
        counts = (each.interrupts, each.accesses, each.pic, each.for_the_card)
        rows.append((name, *(f"{each.per_mb(count):,.0f}" for count in counts)))
    return "\n".join(columns(rows))


def stream_table() -> str:
    """A megabyte by card, in large pieces and in small ones."""
    rows: list[tuple[str, ...]] = [
        ("a MB", "", "packets", "frames out", "interrupts", "registers", "PIC", "exits for it", "all exits")
    ]
    for name, costs in (("large pieces", measured().large), ("small pieces", measured().small)):
        for each in costs.values():
            counts = (each.requests, each.frames_out, each.interrupts, each.accesses, each.pic, each.for_the_card,
                      each.exits)  # fmt: skip
            rows.append((name, each.card, *(f"{each.per_mb(count):,.0f}" for count in counts)))
            name = ""
    return "\n".join([*columns(rows), *([measured().note] if measured().note else [])])


def exits_per_mb(question: str, ask: bool = False) -> Player:
    """Bars: exits for a megabyte, and the two counts that explain them."""
    scenes = (
        lambda: _exits("In large pieces", measured().large),
        lambda: _exits("In small pieces", measured().small),
        lambda: _count("Packets", "from the driver for a megabyte in large pieces", lambda each: each.requests,
                       "A packet that the card cuts into frames, or the monitor for it, is given once."),
        lambda: _count("Interrupts", "for a megabyte in large pieces", lambda each: each.interrupts,
                       "Each is asked about, acknowledged, and passed on by two interrupt controllers."),
    )  # fmt: skip
    names = [(kind, CHIPS[kind]) for kind in KINDS]
    empty = "Nothing has been sent yet. Each step is one way of counting a megabyte."
    track = BarsTrack(question, scenes, names, empty)
    return Player(Playback(track, stream_questions(measured) if ask else None))


def _exits(name: str, costs: dict[str, Costs]) -> Bars:
    best = least(costs)
    bars = tuple(
        Bar(each.card, (Part(each.per_mb(each.accesses), "vmm"), Part(each.per_mb(each.pic), "host")),
            best=each is best and len(costs) > 1)
        for each in costs.values()
    )  # fmt: skip
    each = ", ".join(
        f"{each.card} {each.per_mb(each.accesses):,.0f} and {each.per_mb(each.pic):,.0f}" for each in costs.values()
    )
    say = (
        f"Exits for registers of the card (orange) and for the interrupt controllers (grey): {each}. {measured().note}"
    )
    return Bars(name, "orange: registers of the card, grey: interrupt controllers", "exits a MB", bars, say.strip())


def _count(name: str, what: str, count: Callable[[Costs], int], why: str) -> Bars:
    costs = measured().large
    fewest_of = min(costs.values(), key=count)
    bars = tuple(
        Bar(each.card, (Part(each.per_mb(count(each)), "guest"),), best=each is fewest_of and len(costs) > 1)
        for each in costs.values()
    )
    each = ", ".join(f"{each.card} {each.per_mb(count(each)):,.0f}" for each in costs.values())
    return Bars(name, what, f"{name.lower()} a MB", bars, f"{name}: {each}. {why}", "fewest")


# Broken ----------------------------------------------------------------------------------------------------------

BREAKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("8 at once", "the whole ring", {"frames": 8}),
    ("12 at once", "the whole ring", {"frames": 12}),
    ("12, one each 200 µs", "the whole ring", {"frames": 12, "gap_us": 200}),
    ("12 at once", "one descriptor is the card's", {"frames": 12, "owned": 1}),
    ("12, one each 200 µs", "the card must not interrupt", {"frames": 12, "gap_us": 200, "masked": True}),
)


def bursts(question: str, ask: bool = False) -> Player:
    """Frames that arrive, with something taken away: stored, missed, answered."""
    names = [("stored", "in the ring"), ("missed", "MISS, CSR112"), ("answered", "by the guest")]
    track = BarsTrack(
        question,
        [_burst_scene(*each) for each in BREAKS],
        names,
        "Nothing has come yet. Each step is a burst of pings.",
    )

    def before(position: int) -> Prediction | None:
        if position == 1:
            return about(
                "The receive ring has 8 descriptors, all of them the card's. 12 frames come at once. How many of them "
                "are lost?",
                ("None: the card waits for the driver.", "1 to 4.", "5 to 11.", "All: the ring is broken then."),
                (1, 5, 12), lambda: Burst(**BREAKS[1][2]).missed,
                lambda n: f"{n}. A card without a descriptor has nowhere to put a frame: it counts it and forgets it.",
            )  # fmt: skip
        if position == 4:
            return about(
                "12 frames, slow enough for the driver, but nobody tells it that they are there. How many are lost?",
                ("None.", "1 to 4.", "5 to 11.", "All."),
                (1, 5, 12), lambda: Burst(**BREAKS[4][2]).missed,
                lambda n: f"{n}. Time does not help: without an interrupt no descriptor is given back.",
            )  # fmt: skip
        return None

    return Player(Playback(track, before if ask else None))


def _burst_scene(name: str, what: str, options: dict[str, Any]) -> Callable[[], Bars]:
    def scene() -> Bars:
        burst = Burst(**options)
        say = f"{name}, {what}: {burst.describe().split(': ', 1)[1]}"
        bars = (
            Bar("stored", (Part(burst.stored, "guest"),)), Bar("missed", (Part(burst.missed, "vmm"),)),
            Bar("answered", (Part(burst.answers, "host"),)),
        )  # fmt: skip
        return Bars(name, what, "frames", bars, say)

    return scene
