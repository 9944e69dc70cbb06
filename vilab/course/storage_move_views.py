"""The pictures of lesson 20. Needs Jupyter.

=====================================  ================================================================================
``storage_move(question, method)``     one move, a piece a step
``compare(*views)``                    the bytes of several moves side by side
``death(question, view)``              the same move; before every step esx1 may die, and esx2 powers the machine on
``die(view)``                          esx1 dies at the moment that a view shows
=====================================  ================================================================================
"""

from __future__ import annotations

from functools import cache

import msgspec

from vilab.course.feedback import columns
from vilab.course.predictions_storage_move import changed_questions, death_questions, snapshot_questions
from vilab.course.storage_move_death import Found, die_after
from vilab.course.storage_move_lab import FILES_WRITTEN, OPTIONS, StorageMove
from vilab.errors import AdminError
from vilab.events import Event
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName
from vilab.view.playback import Playback
from vilab.view.storage_move_run import StorageMoveRun
from vilab.view.storage_move_says import kilobytes
from vilab.view.storage_move_track import StorageMoveTrack
from vilab.view.widget import Player

LITTLE_KB = OPTIONS.little_bytes >> 10


@cache
def events_of(method: MethodName, writes: int = FILES_WRITTEN, options: CopyOptions = OPTIONS) -> tuple[Event, ...]:
    """What happens in a move: the same each time. Arguments as of ``StorageMove``."""
    move = StorageMove(method, writes, options)
    move.close()
    return tuple(move.events)


class LabTrack(StorageMoveTrack):
    """A move of the lab, which can be made again."""

    def __init__(self, question: str, method: MethodName, writes: int, options: CopyOptions) -> None:
        super().__init__(events_of(method, writes, options), question)
        self.method, self.writes, self.options = method, writes, options
        self._found: dict[int, Found] = {}

    def die(self, position: int) -> Found:
        """esx1 dies at this step of the same move. What esx2 finds."""
        if not position:
            raise AdminError("Nothing has happened yet at step 0: go to the moment at which esx1 is to die.")
        if position not in self._found:
            events = self.run.steps[position - 1].events
            self._found[position] = die_after(self.method, events, self.writes, self.options)
        return self._found[position]


def _lab_track(question: str, method: MethodName, writes: int, little_kb: int) -> LabTrack:
    return LabTrack(question, method, writes, msgspec.structs.replace(OPTIONS, little_bytes=little_kb << 10))


def storage_move(
    question: str, method: MethodName = "changed blocks", ask: bool = False, writes: int = FILES_WRITTEN,
    little_kb: int = LITTLE_KB,
) -> Player:  # fmt: skip
    """A piece a step, and every file that comes or goes. ``writes``: files that the guest writes meanwhile.
    ``little_kb``: so much may be copied while it stands still."""
    track = _lab_track(question, method, writes, little_kb)
    if not ask:
        return Player(Playback(track))
    if method == "snapshot":
        other = StorageMoveRun(events_of("changed blocks", writes, track.options))
        return Player(Playback(track, snapshot_questions(track.run, other)))
    return Player(Playback(track, changed_questions(track.run)))


def death(question: str, method: MethodName = "changed blocks", position: int = 0) -> Player:
    """Go to a moment, press Step, and say what happens if the host dies there."""
    track = _lab_track(question, method, FILES_WRITTEN, LITTLE_KB)
    return Player(Playback(track, death_questions(track.run, track.die), position))


def die(view: Player) -> Found:
    """The host dies at the moment that the view shows. A new host, a new move, the same events: the view stays."""
    return _track(view).die(view.playback.position)


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered."""
    track = _track(view)
    last = track.total if last is None else min(last, track.total)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))


def compare(*views: Player) -> str:
    """A column a view."""
    ends = [_track(view).run.at(_track(view).total) for view in views]
    rounds = max(len(end.rounds) for end in ends)
    rows = [("", *(end.began.method for end in ends))]
    for at in range(rounds):
        row = [end.rounds[at] if at < len(end.rounds) else None for end in ends]
        cells = [
            "" if each is None else kilobytes(each.copied_bytes) + (", stopped" if each.stopped else "") for each in row
        ]
        rows.append((f"round {at + 1}", *cells))
    rows.append(("copied in all", *(kilobytes(end.copied_bytes) for end in ends)))
    rows.append(("written by the guest", *(kilobytes(end.written_bytes) for end in ends)))
    logs = [sum(each.copied_bytes for each in end.rounds[1:]) if end.redo_logs else 0 for end in ends]
    rows.append(("space for redo logs", *(kilobytes(size) for size in logs)))
    return "\n".join(columns(rows)).replace("\xa0", " ")


def _track(view: Player) -> LabTrack:
    track = view.playback.track
    assert isinstance(track, LabTrack)
    return track
