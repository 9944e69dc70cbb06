"""A migration as steps: what its events have said so far, one round of pre-copy a step.

::

    position   0        1          2        ...   8          9            10
               begun    round 1    round 2        round 8    last copy    it runs on esx2
    kind                round      round          round      stopped      moved

    other kinds   writers   processes of the guest are stopped because they write too fast
                  open      a round is under way: only at the end of a log that goes on
                  failed    it was given up: the reason is a sentence of the events

Every step keeps the ``Migration`` as it was known then, so that a picture cannot show anything of what comes later.
Events may arrive while the migration runs: ``add`` takes one, ``of`` those of a whole log.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import msgspec

from vilab.events import Event
from vilab.migration.migration_events import (
    DirtySampled,
    HandedOver,
    MachineResumed,
    MachineStunned,
    MigrationBegan,
    MigrationEnded,
    RoundBegan,
    RoundSent,
    StateSent,
    WriterStunned,
)
from vilab.view.vmotion_seen import Migration, Round

MigrationEvent = (
    MigrationBegan | RoundBegan | DirtySampled | RoundSent | WriterStunned | MachineStunned | StateSent | HandedOver
    | MachineResumed | MigrationEnded
)  # fmt: skip
ROUND, OPEN, STOPPED, WRITERS, MOVED, FAILED = "round", "open", "stopped", "writers", "moved", "failed"


class Step(msgspec.Struct, frozen=True):
    """One position of the slider: its kind, and what was known then."""

    kind: str
    seen: Migration


class MigrationRun:
    """One migration, event by event."""

    def __init__(self, began: MigrationBegan) -> None:
        self.begin = Migration(began)
        self.seen = self.begin
        self._steps: list[Step] = []

    @classmethod
    def of(cls, events: Iterable[Event], vm: str = "", which: int = -1) -> MigrationRun | None:
        """That of a log: the last one, or another in the order in which they began. ``None`` if there is none."""
        runs = migrations(events, vm)
        return runs[which] if -len(runs) <= which < len(runs) else None

    @property
    def steps(self) -> Sequence[Step]:
        """From position 1 on."""
        if self.seen.ended is None and self.seen.rounds and self.seen.rounds[-1].sent is None and not self._over:
            return [*self._steps, Step(OPEN, self.seen)]
        return self._steps

    @property
    def _over(self) -> bool:
        return bool(self._steps) and self._steps[-1].kind in (MOVED, FAILED)

    def at(self, position: int) -> Migration:
        """What was known at a position."""
        return self.steps[position - 1].seen if position else self.begin

    def add(self, event: Event) -> bool:
        """What comes next in the log; says whether it belongs to this migration."""
        if not isinstance(event, MigrationEvent) or isinstance(event, MigrationBegan):
            return False
        if event.vm != self.begin.began.vm or not self._expects(event):
            return False
        seen = self.seen
        now = event.at_ns - seen.began.at_ns
        elsewhere = isinstance(event, MachineResumed) and event.host != seen.began.source
        self.seen = msgspec.structs.replace(
            _after(seen, event, now), now_ns=seen.now_ns if elsewhere else max(seen.now_ns, now)
        )
        self._step(event)
        return True

    def _expects(self, event: Event) -> bool:
        """A host's log has what it heard of other migrations of the machine, too: that it runs there again, later."""
        if not isinstance(event, MachineResumed):
            return self.seen.ended is None
        began = self.begin.began
        again = self.seen.resumed is not None
        return event.host == (began.destination if event.moved else began.source) and not again

    def _step(self, event: Event) -> None:
        if isinstance(event, RoundSent):
            over = [self._steps.pop()] if self._over else []  # post-copy: it runs already; how it ends stays the last
            self._steps.append(Step(STOPPED if self.seen.rounds[-1].stopped else ROUND, self.seen))
            self._steps.extend(Step(each.kind, self.seen) for each in over)
        elif isinstance(event, WriterStunned):
            last = self._steps[-1] if self._steps else None
            if last is not None and last.kind == WRITERS and last.seen.writers[-1].number == event.number:
                self._steps.pop()
            self._steps.append(Step(WRITERS, self.seen))
        elif isinstance(event, MachineResumed | MigrationEnded) or self._over:
            if self._over:
                self._steps.pop()
            self._steps.append(Step(MOVED if self.seen.moved else FAILED, self.seen))


def _after(seen: Migration, event: Event, now: int) -> Migration:
    replace = msgspec.structs.replace
    if isinstance(event, RoundBegan):
        begun = Round(event.number, event.pages, event.limit_bytes_per_s, now, stopped=seen.stun is not None)
        return replace(seen, rounds=(*seen.rounds, begun))
    if isinstance(event, DirtySampled) and seen.rounds and seen.rounds[-1].sent is None:
        last = replace(seen.rounds[-1], dirty_pages=event.dirty_pages, sent_pages=event.sent_pages)
        return replace(seen, rounds=(*seen.rounds[:-1], last))
    if isinstance(event, RoundSent):
        return replace(seen, rounds=_closed(seen.rounds, event, now))
    if isinstance(event, WriterStunned):
        return replace(seen, writers=(*seen.writers, event))
    if isinstance(event, MachineStunned):
        return replace(seen, stun=event)
    if isinstance(event, StateSent):
        return replace(seen, state_bytes=event.state_bytes)
    if isinstance(event, HandedOver):
        return replace(seen, handed_over=True)
    if isinstance(event, MachineResumed):
        return replace(seen, resumed=event)
    if isinstance(event, MigrationEnded):
        return replace(seen, ended=event)
    return seen


def _closed(rounds: tuple[Round, ...], event: RoundSent, now: int) -> tuple[Round, ...]:
    """The round that is under way is over; one of which nobody has said that it began has, at the right time."""
    if rounds and rounds[-1].sent is None and rounds[-1].number == event.number:
        before, open_round = rounds[:-1], rounds[-1]
    else:
        pages = event.sent_pages + event.skipped_pages
        before, open_round = rounds, Round(event.number, pages, 0, now - event.duration_ns)
    closed = msgspec.structs.replace(
        open_round, sent=event, sent_pages=event.sent_pages, dirty_pages=event.dirtied_pages, stopped=event.stopped
    )
    return (*before, closed)


def merged(*logs: Iterable[Event]) -> list[Event]:
    """The logs of hosts that share a clock as one. Of hosts that do not, the source's alone says all that is needed."""
    return list(heapq.merge(*logs, key=lambda event: event.at_ns))


def migrations(events: Iterable[Event], vm: str = "") -> list[MigrationRun]:
    """All migrations in a log, of one machine if it is named, in the order in which they began."""
    found: list[MigrationRun] = []
    for event in events:
        if isinstance(event, MigrationBegan):
            if not vm or event.vm == vm:
                found.append(MigrationRun(event))
        else:
            for run in reversed(found):
                if run.add(event):
                    break
    return found
