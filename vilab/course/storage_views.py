"""The pictures of lessons 12 and 13. Needs Jupyter."""

from __future__ import annotations

from vilab.course.one_write import OneWrite
from vilab.course.predictions_storage import story_questions
from vilab.course.snapshot_runs import ChainCosts, story
from vilab.view.chain_cost import ChainCostTrack
from vilab.view.disk_map import DiskTrack
from vilab.view.disk_run import DiskRun
from vilab.view.playback import Playback
from vilab.view.widget import Player
from vilab.view.write_path_track import WritePathTrack


def disk_map(question: str, run: DiskRun | None = None, ask: bool = False, rows: int = 3) -> Player:
    """A disk and its redo logs, a deed a step; without ``run``, the story of the lesson."""
    run = run or story()
    return Player(Playback(DiskTrack(run, question, rows), story_questions(run) if ask else None))


def chain_costs(question: str, most: int = 8, ask: bool = True) -> Player:
    """A snapshot a step, measured; the last step deletes them all."""
    track = ChainCostTrack(ChainCosts(most), question, "one pass over 8 MB")
    return Player(Playback(track, track.ask if ask else None))


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, DiskTrack | ChainCostTrack | WritePathTrack)
    last = track.total if last is None else min(last, track.total)
    for position in range(last + 1):
        track.go(position)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))


def one_write(question: str, run: OneWrite | None = None, ask: bool = False) -> Player:
    """One line of text on its way to the LUN, an event a step."""
    track = WritePathTrack(run or OneWrite(), question)
    return Player(Playback(track, track.ask if ask else None))


def same_write(view: Player, question: str) -> Player:
    """Another view of the same run."""
    track = view.playback.track
    assert isinstance(track, WritePathTrack)
    again = WritePathTrack(track.source, question)
    return Player(Playback(again))


def run_of(view: Player) -> OneWrite:
    """The run that a picture of ``one_write`` shows."""
    track = view.playback.track
    assert isinstance(track, WritePathTrack)
    assert isinstance(track.source, OneWrite)
    return track.source
