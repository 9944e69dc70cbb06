"""The pictures of lesson 18. Needs Jupyter."""

from __future__ import annotations

from functools import partial

from vilab.course.predictions_vmotion import rule_questions
from vilab.course.vmotion_rules import COMPARED, LINK_MBIT, SHOWN, copies, outcome
from vilab.course.vmotion_runs import Moved, moved
from vilab.migration.dirty_traces import workload
from vilab.view.bars import Bar, Bars, BarsTrack, Part
from vilab.view.vmotion_ask import vmotion_questions
from vilab.view.vmotion_player import VMotionPlayer
from vilab.view.vmotion_track import VMotionTrack
from vilab.view.widget import Player


def rounds(question: str, run: Moved | None = None, ask: bool = False) -> VMotionPlayer:
    """A migration, a round a step; without ``run``, the one of the lesson."""
    events = (run or moved()).events
    return VMotionPlayer(events, question, vmotion_questions(VMotionTrack(events, question)) if ask else None)


def rules(question: str, ask: bool = False) -> Player:
    """Downtimes by rule; a step is the next workload."""
    names = [(name, f"rule {rule}") for name, rule in COMPARED.items()]
    empty = f"Nothing has been moved yet. Press Step for an idle machine over {LINK_MBIT} Mbit/s."
    track = BarsTrack(question, [partial(_scene, name) for name in SHOWN], names, empty)
    return Player(track, rule_questions() if ask else None)


def _scene(name: str) -> Bars:
    found = {rule: outcome(name, written) for rule, written in COMPARED.items()}
    least = min(each.downtime_ns for each in found.values())
    bars = tuple(
        Bar(rule, (Part(round(each.downtime_ns / 1e6), "vmm"),), best=each.downtime_ns == least)
        for rule, each in found.items()
    )
    trace = workload(name)
    size_mb = trace.pages * trace.divisor // 256
    at_once_s = outcome(name, "stop-and-copy").downtime_ns / 1e9
    sent = ", ".join(
        f"{rule} {len(each.rounds) - 1} ({copies(name, COMPARED[rule]):.2f})" for rule, each in found.items()
    )
    say = (
        f"{name}, {size_mb} MB. Without pre-copy it would stand still for **{at_once_s:.1f} s**. Rounds, and how many "
        f"times its memory was sent: {sent}."
    )
    return Bars(name, "how long it stands still", "ms", bars, say)


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, VMotionTrack | BarsTrack)
    last = track.total if last is None else min(last, track.total)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))
