"""The pictures of lesson 17. Needs Jupyter."""

from __future__ import annotations

from functools import partial

from vilab.course.hosted_runs import Direction, account, packet
from vilab.course.predictions_hosted import one_packet_question, switch_questions, time_questions
from vilab.host.hosted_account import FOR_IO
from vilab.host.hosted_machine import HOSTED, MOST_BYTES, PRODUCTS, ProductName
from vilab.view.bars import Bar, Bars, BarsTrack, Part
from vilab.view.memory_players import KnobPlayer
from vilab.view.playback import Playback
from vilab.view.widget import Player
from vilab.view.world_lanes import LanesTrack
from vilab.view.world_stops import ESX_LANES, LANES, stops
from vilab.view.world_time import NAMES, TimeTrack

SHOWN: tuple[ProductName, ...] = (*HOSTED, "esx")


def one_packet(question: str, product: ProductName = "none", ask: bool = False) -> Player:
    """One packet through the worlds, an event a step."""
    lanes = ESX_LANES if product == "esx" else LANES
    track = LanesTrack(stops(packet(product)), question, lanes, one_packet_question() if ask else None)
    return Player(Playback(track, track.ask))


def switches(question: str, direction: Direction = "sending", ask: bool = False) -> Player:
    """World switches a packet; a step is the next optimization."""
    scenes = [partial(_scene, at, direction) for at in range(1, len(SHOWN) + 1)]
    names = [NAMES[name] for name in SHOWN]
    track = BarsTrack(question, scenes, names, "Nothing has been counted yet. Press Step for the hosted product.")
    return Player(track, switch_questions() if ask and direction == "sending" else None)


def _scene(count: int, direction: Direction) -> Bars:
    bars = tuple(_bar(name, direction) for name in SHOWN[:count])
    name, found = SHOWN[count - 1], account(SHOWN[count - 1], direction)
    io, other = found.switches(*FOR_IO), found.switches() - found.switches(*FOR_IO)
    say = f"{NAMES[name][0]}, {direction}: **{found.switches():.1f} world switches** a packet"
    if found.switches():
        say += f", {io:.1f} for the guest's I/O and {other:.1f} for what the host wants"
    if count > 1:
        before = account(SHOWN[count - 2], direction).switches()
        say += f"; before it were {before:.1f}"
    what = "world switches, one way each: orange for the guest's I/O, grey for the host"
    return Bars(NAMES[name][0], what, "a packet", bars, f"{say}.")


def _bar(name: ProductName, direction: Direction) -> Bar:
    found = account(name, direction)
    io = found.switches(*FOR_IO)
    return Bar(NAMES[name][0], (Part(round(io, 1), "vmm"), Part(round(found.switches() - io, 1), "host")))


def where_time_goes(
    question: str, direction: Direction = "sending", size_bytes: int = MOST_BYTES, ask: bool = False
) -> KnobPlayer:
    """Counts times costs, with sliders for the costs; a step is the next product."""
    track = TimeTrack([partial(account, name, direction, size_bytes) for name in PRODUCTS], PRODUCTS, question)
    return KnobPlayer(track, time_questions() if ask else None)


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, LanesTrack | BarsTrack | TimeTrack)
    last = track.total if last is None else min(last, track.total)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))
