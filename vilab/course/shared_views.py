"""The pictures of lesson 14. Needs Jupyter."""

from __future__ import annotations

from vilab.course.lock_runs import TwoHosts, story
from vilab.course.predictions_shared import lock_questions, volume_questions
from vilab.course.volume_runs import volume_story
from vilab.view.lock_lanes import LockLanesTrack
from vilab.view.playback import Playback
from vilab.view.vmfs_map import VmfsMapTrack
from vilab.view.vmfs_run import VolumeRun
from vilab.view.widget import Player


def lock_lanes(question: str, run: TwoHosts | None = None, ask: bool = False) -> Player:
    """Two hosts and a LUN over seconds; without ``run``, the story of the lesson."""
    told = (run or story()).story
    return Player(Playback(LockLanesTrack(told, question), lock_questions(told) if ask else None))


def vmfs_map(question: str, run: VolumeRun | None = None, ask: bool = False, rows: int = 3) -> Player:
    """A volume's blocks, a deed a step; without ``run``, the story of the lesson."""
    run = run or volume_story()
    return Player(Playback(VmfsMapTrack(run, question, rows), volume_questions(run) if ask else None))


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, LockLanesTrack | VmfsMapTrack)
    last = track.total if last is None else min(last, track.total)
    for position in range(last + 1):
        track.go(position)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))
