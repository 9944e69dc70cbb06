"""A Storage VMotion as steps: a pure value, read off events and nothing else.

::

    events     GuestWrote  StorageBytesCopied  StorageRoundCopied   FolderChanged   StorageSwitched   StorageMoveEnded
                    └──────────────┴─────────────────┘                   │                │                  │
    steps                       "copied"                             "folder"        "switched"      "moved" | "failed"

A step is one piece copied, with all that the guest has written before it; or one file that has come, gone, or got
another name; or the moment of the switch. ``Seen`` is what there is then, square by square (64 KB each)::

    source    everything that the guest reads, until the switch
    target    not there | there | old: the guest has written to that square since
    redo logs the squares that each one holds, and which of them were copied (method ``snapshot``)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from vilab.errors import AdminError
from vilab.events import Event
from vilab.migration.changed_blocks import GRAIN_BYTES
from vilab.migration.storage_vmotion_events import (
    StorageBytesCopied,
    StorageMoveBegan,
    StorageMoveEnded,
    StorageRoundBegan,
    StorageRoundCopied,
    StorageSwitched,
)
from vilab.view.words import counted, grouped

SQUARE_BYTES = GRAIN_BYTES
"""What one bit of changed-block tracking stands for."""
MOST_SQUARES = 64

Kind = Literal["copied", "folder", "switched", "moved", "failed"]
REDO_LOG = re.compile(r"-\d{6}\.vmdk$")


class GuestWrote(Event, frozen=True, tag=True):
    """The guest's adapter has given this to its disk."""

    vm: str
    offset_bytes: int
    size_bytes: int


class FolderChanged(Event, frozen=True, tag=True):
    """Configurations, records and descriptors in the machine's folder, at the source and at the destination."""

    vm: str
    source: tuple[str, ...]
    destination: tuple[str, ...]


MOVE_EVENTS = (
    StorageMoveBegan, StorageRoundBegan, StorageBytesCopied, StorageRoundCopied, StorageSwitched, StorageMoveEnded,
    GuestWrote, FolderChanged,
)  # fmt: skip


class Round(msgspec.Struct, frozen=True):
    """``left_bytes``: to be copied again, when it is over; ``None`` before that. ``stopped``: the guest stood still."""

    number: int
    todo_bytes: int
    copied_bytes: int = 0
    left_bytes: int | None = None
    stopped: bool = False


class RedoLog(msgspec.Struct, frozen=True):
    """``held``: squares that were written to; ``copied``: those of them that are at the destination."""

    name: str
    held: frozenset[int] = frozenset()
    copied: frozenset[int] = frozenset()


class Seen(msgspec.Struct, frozen=True):
    """What is known at a step. Sets are numbers of squares.

    ``now_written``, ``now_copied``: (offset, size) in bytes, in this step. ``there``: copied at least once; ``old``:
    written since. ``written_bytes``: by the guest since the move began, whether to the same place or not.
    """

    began: StorageMoveBegan
    there: frozenset[int] = frozenset()
    old: frozenset[int] = frozenset()
    redo_logs: tuple[RedoLog, ...] = ()
    rounds: tuple[Round, ...] = ()
    source: tuple[str, ...] = ()
    destination: tuple[str, ...] = ()
    written_bytes: int = 0
    now_written: tuple[tuple[int, int], ...] = ()
    now_copied: tuple[tuple[int, int], ...] = ()
    switched: StorageSwitched | None = None
    ended: StorageMoveEnded | None = None
    at_ns: int = 0

    @property
    def squares(self) -> int:
        return -(-self.began.disk_bytes // SQUARE_BYTES)

    @property
    def copied_bytes(self) -> int:
        return sum(each.copied_bytes for each in self.rounds)

    @property
    def again(self) -> frozenset[int]:
        """Squares that have to be copied again, as long as anything is copied."""
        over = self.switched is not None or (self.ended is not None and not self.ended.ok)
        return frozenset() if over else self.old

    @property
    def same(self) -> bool:
        """Does the destination hold what the guest reads?"""
        return not self.old and len(self.there) == self.squares


class Step(msgspec.Struct, frozen=True):
    """``events``: how many of the move's events have happened when it is over."""

    kind: Kind
    seen: Seen
    events: int


class StorageMoveRun:
    """The steps of the first move of a log; other events are left aside.

    Raises
    ------
    AdminError : no move begins in it, or it is one that cannot be drawn: of several disks, or of a large one.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        of_move: list[Event] = [event for event in events if isinstance(event, MOVE_EVENTS)]
        at = next((at for at, event in enumerate(of_move) if isinstance(event, StorageMoveBegan)), None)
        if at is None:
            raise AdminError("There is no Storage VMotion in these events: move a machine first.")
        began = of_move[at]
        assert isinstance(began, StorageMoveBegan)
        if began.disks != 1 or began.disk_bytes > MOST_SQUARES * SQUARE_BYTES:
            raise AdminError(
                f"The move of {began.vm} cannot be drawn: it has {counted(began.disks, 'disk')} and "
                f"{grouped(began.disk_bytes >> 10)} KB, and one disk of "
                f"{grouped(MOST_SQUARES * SQUARE_BYTES >> 10)} KB is the most."
            )
        folders = [event for event in of_move[:at] if isinstance(event, FolderChanged)]
        self.begin = Seen(began, at_ns=began.at_ns)
        if folders:
            self.begin = _folder(self.begin, folders[-1])
        self.steps: list[Step] = []
        self._fold(of_move, at + 1)

    def at(self, position: int) -> Seen:
        return self.steps[position - 1].seen if position else self.begin

    def _fold(self, events: list[Event], first: int) -> None:
        seen, open_copy = self.begin, False
        for at in range(first, len(events)):
            event = events[at]
            if _is_copy(event) and not seen.rounds:
                continue  # another file of the folder; disks come after those
            same_piece = _is_copy(event) and event.at_ns == seen.at_ns
            if open_copy and not same_piece and not isinstance(event, StorageRoundCopied):
                self._close("copied", seen, at)
                seen, open_copy = _fresh(seen), False
            seen = msgspec.structs.replace(_after(seen, event), at_ns=event.at_ns)
            if isinstance(event, StorageRoundCopied) and open_copy:
                self._close("copied", seen, at + 1)
                seen, open_copy = _fresh(seen), False
            elif _is_copy(event):
                open_copy = True
            elif (kind := _kind_of(event)) is not None:
                self._close(kind, seen, at + 1)
                seen = _fresh(seen)

    def _close(self, kind: Kind, seen: Seen, events: int) -> None:
        self.steps.append(Step(kind, seen, events))


def _kind_of(event: Event) -> Kind | None:
    """Of an event that is a step by itself."""
    if isinstance(event, StorageMoveEnded):
        return "moved" if event.ok else "failed"
    return "folder" if isinstance(event, FolderChanged) else "switched" if isinstance(event, StorageSwitched) else None


def _is_copy(event: Event) -> bool:
    return isinstance(event, StorageBytesCopied)


def _fresh(seen: Seen) -> Seen:
    return msgspec.structs.replace(seen, now_written=(), now_copied=())


def squares_of(offset_bytes: int, size_bytes: int) -> frozenset[int]:
    """Those that hold a byte of it."""
    return frozenset(range(offset_bytes // SQUARE_BYTES, -(-(offset_bytes + size_bytes) // SQUARE_BYTES)))


def _after(seen: Seen, event: Event) -> Seen:
    if isinstance(event, GuestWrote):
        return _written(seen, event)
    if isinstance(event, StorageBytesCopied):
        return _copied(seen, event)
    if isinstance(event, FolderChanged):
        return _folder(seen, event)
    replace = msgspec.structs.replace
    if isinstance(event, StorageRoundBegan):
        return replace(seen, rounds=(*seen.rounds, Round(event.number, event.todo_bytes)))
    if isinstance(event, StorageRoundCopied):
        over = replace(
            seen.rounds[-1], copied_bytes=event.copied_bytes, left_bytes=event.changed_bytes, stopped=event.stopped
        )
        return replace(seen, rounds=(*seen.rounds[:-1], over))
    if isinstance(event, StorageSwitched):
        return replace(seen, switched=event)
    assert isinstance(event, StorageMoveEnded)
    return replace(seen, ended=event)


def _written(seen: Seen, event: GuestWrote) -> Seen:
    if not event.size_bytes:
        return seen
    squares, logs = squares_of(event.offset_bytes, event.size_bytes), seen.redo_logs
    old = seen.old
    if seen.switched is None and seen.began.method == "snapshot" and logs:
        top = logs[-1]
        logs = (*logs[:-1], RedoLog(top.name, top.held | squares, top.copied - squares))
        old |= squares & seen.there
    elif seen.switched is None:
        old |= squares & seen.there
    return msgspec.structs.replace(
        seen, old=old, redo_logs=logs, written_bytes=seen.written_bytes + event.size_bytes,
        now_written=(*seen.now_written, (event.offset_bytes, event.size_bytes)),
    )  # fmt: skip


def _copied(seen: Seen, event: StorageBytesCopied) -> Seen:
    """A whole square, or from a redo log only the sectors that it holds: then the square is good when no redo log has
    more for it."""
    squares, logs = squares_of(event.offset_bytes, event.size_bytes), seen.redo_logs
    if event.number > 1:
        which = min(event.number - 2, len(logs) - 1)
        if which >= 0:
            log = logs[which]
            logs = (*logs[:which], RedoLog(log.name, log.held, log.copied | (squares & log.held)), *logs[which + 1 :])
    waiting = frozenset().union(*(log.held - log.copied for log in logs)) if logs else frozenset()
    there = seen.there | squares
    old = waiting & there if seen.began.method == "snapshot" else seen.old - squares
    last = seen.rounds[-1]
    last = msgspec.structs.replace(last, copied_bytes=last.copied_bytes + event.size_bytes)
    return msgspec.structs.replace(
        seen, there=there, old=old, redo_logs=logs, rounds=(*seen.rounds[:-1], last),
        now_copied=(*seen.now_copied, (event.offset_bytes, event.size_bytes)),
    )  # fmt: skip


def _folder(seen: Seen, event: FolderChanged) -> Seen:
    logs = seen.redo_logs
    if seen.switched is None:
        known = {log.name for log in logs}
        logs = (*logs, *(RedoLog(name) for name in event.source if REDO_LOG.search(name) and name not in known))
    return msgspec.structs.replace(seen, source=event.source, destination=event.destination, redo_logs=logs)
