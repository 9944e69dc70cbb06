"""What is known of a migration at one moment: its rounds, and how it ended if it has.

::

    Migration
      +-- began     who, from where to where, how many pages, by which rule
      +-- rounds    Round, Round, ...      the last one may be under way, or cut off
      +-- writers   processes of the guest that were stopped because they write too fast
      +-- stun, state_bytes, handed_over, resumed, ended      missing: it has not happened

A value: nothing here changes, and what follows from it is reckoned when it is asked for.
"""

from __future__ import annotations

import statistics

import msgspec

from vilab.migration.migration_events import (
    MachineResumed,
    MachineStunned,
    MigrationBegan,
    MigrationEnded,
    RoundSent,
    WriterStunned,
)

PAGE_BYTES = 4096
PLATEAU_ROUNDS, PLATEAU_SPREAD, PLATEAU_FALL = 3, 1.75, 0.9
"""MODEL: rounds show the writable working set where three in a row or more leave alike, none more than 1.75 times as
large as another, and the last of them is not clearly the smallest: then they shrink no more. Clark et al. 2005,
section 4, measure it instead; their SPECweb99 shows it from round 5 on (figure 9)."""


class Round(msgspec.Struct, frozen=True):
    """``sent`` is missing while the round is under way, and for ever if it was cut off; times count from the begin."""

    number: int
    pages: int
    limit_bytes_per_s: int
    began_ns: int
    sent: RoundSent | None = None
    dirty_pages: int = 0
    sent_pages: int = 0
    stopped: bool = False

    @property
    def bytes(self) -> int:
        """On the wire. MODEL: of a round that is under way, its pages without headers and as they are."""
        return self.sent.sent_bytes if self.sent else self.sent_pages * PAGE_BYTES

    @property
    def due_bytes(self) -> int:
        """What it had to send: what was skipped is its work, too; all pages where it is not over."""
        if self.sent is None:
            return max(self.pages * PAGE_BYTES, self.bytes)
        return self.bytes + self.sent.skipped_pages * PAGE_BYTES

    @property
    def ended_ns(self) -> int:
        return self.began_ns + (self.sent.duration_ns if self.sent else 0)

    @property
    def overtaken(self) -> bool:
        """The guest has written as fast as pages were sent, or faster."""
        sent = self.sent
        return sent is not None and not self.stopped and 0 < sent.sent_bytes_per_s <= sent.dirtied_bytes_per_s


class Migration(msgspec.Struct, frozen=True):
    """What is known of one migration. Times in nanoseconds from its begin; what is missing has not happened."""

    began: MigrationBegan
    rounds: tuple[Round, ...] = ()
    writers: tuple[WriterStunned, ...] = ()
    stun: MachineStunned | None = None
    state_bytes: int | None = None
    handed_over: bool = False
    resumed: MachineResumed | None = None
    ended: MigrationEnded | None = None
    now_ns: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.began.pages * PAGE_BYTES

    @property
    def sent_bytes(self) -> int:
        return sum(each.bytes for each in self.rounds)

    @property
    def left_pages(self) -> int:
        """What another round, or the last copy, would have to send."""
        if not self.rounds:
            return self.began.pages
        last = self.rounds[-1]
        if last.sent is None:
            return last.pages - last.sent_pages + last.dirty_pages
        return last.sent.dirtied_pages

    @property
    def finished(self) -> bool:
        """Nothing more is to be expected but what the other host has to say."""
        return self.ended is not None

    @property
    def moved(self) -> bool:
        if self.ended is not None:
            return self.ended.ok
        return self.resumed is not None and self.resumed.moved

    @property
    def runs_on(self) -> str:
        """The host; empty if it runs nowhere, or if nobody has said so yet."""
        if self.resumed is not None:
            return self.resumed.host
        if self.ended is not None and self.ended.ok:
            return self.began.destination
        return "" if self.stun is not None or self.handed_over else self.began.source

    @property
    def downtime_ns(self) -> int | None:
        """``None``: it was not stunned, or nobody has said yet. Clocks of hosts may differ, so it is a duration of one
        of them; the destination knows none (0) where it has only been told to go on."""
        told = [self.resumed.downtime_ns] if self.resumed is not None else []
        if self.ended is not None and (self.stun is not None or self.ended.downtime_ns):
            return max(self.ended.downtime_ns, *told, 0)
        return max(told, default=0) or None

    @property
    def stunned_ns(self) -> int | None:
        """When it was stunned."""
        if self.stun is not None:
            return self.stun.at_ns - self.began.at_ns
        return next((each.began_ns for each in self.rounds if each.stopped), None)

    @property
    def duration_ns(self) -> int:
        """Of everything so far."""
        if self.ended is not None:
            return max(self.ended.duration_ns, *(each.ended_ns for each in self.rounds), 0)
        return max(self.now_ns, *(each.ended_ns for each in self.rounds), 0)

    @property
    def plateau(self) -> tuple[int, int] | None:
        """The writable working set as rounds show it: the first that has it to send, counted from 0, and its bytes.

        It is what rounds leave, not what they send: what was skipped belongs to it. The bytes are the median.
        """
        left = [each.sent.dirtied_pages for each in self.rounds if each.sent is not None and not each.stopped]
        first = len(left)
        while first and min(left[first - 1 :]) * PLATEAU_SPREAD >= max(left[first - 1 :]):
            first -= 1
        if len(left) - first < PLATEAU_ROUNDS or not min(left[first:]):
            return None
        if left[-1] < PLATEAU_FALL * min(left[first:-1]):
            return None
        return first + 1, round(statistics.median(left[first:])) * PAGE_BYTES
