"""What a migration reports. Events are of the source unless they say otherwise; times are of its host's clock.

::

    MigrationBegan                                                          MigrationEnded
     │  RoundBegan  DirtySampled ...  RoundSent      (again and again)           │
     │                                RoundSent ──> MachineStunned ──> StateSent ──> MachineResumed (destination)
"""

from __future__ import annotations

from vilab.events import Event


class MigrationBegan(Event, frozen=True, tag=True):
    """``pages``: configured. ``tracking``: ``traces`` or ``dirty_bits``. ``rule``: who decides when to stop it."""

    vm: str
    source: str
    destination: str
    pages: int
    tracking: str
    rule: str


class RoundBegan(Event, frozen=True, tag=True):
    """Rounds count from 1. ``pages`` are to be sent, at most at ``limit_bytes_per_s`` (0: as fast as the link is)."""

    vm: str
    number: int
    pages: int
    limit_bytes_per_s: int


class DirtySampled(Event, frozen=True, tag=True):
    """In the middle of a round: ``dirty_pages`` were written since it began, each once; ``sent_pages`` were sent."""

    vm: str
    number: int
    dirty_pages: int
    sent_pages: int


class RoundSent(Event, frozen=True, tag=True):
    """A round is over.

    ``sent_pages`` of which ``zero_pages`` took no content; ``skipped_pages`` were written again before their turn and
    are left to the next round; ``dirtied_pages``: different pages written in this round, the next one's work.
    ``sent_bytes``: on the wire. ``stopped``: the machine stood still, this was the last copy. ``traces``: write faults
    that finding dirty pages has cost the guest in this round.
    """

    vm: str
    number: int
    sent_pages: int
    zero_pages: int
    skipped_pages: int
    sent_bytes: int
    duration_ns: int
    dirtied_pages: int
    traces: int
    stopped: bool = False

    @property
    def sent_bytes_per_s(self) -> float:
        return self.sent_bytes * 1e9 / self.duration_ns if self.duration_ns else 0.0

    @property
    def dirtied_bytes_per_s(self) -> float:
        return self.dirtied_pages * 4096 * 1e9 / self.duration_ns if self.duration_ns else 0.0


class WriterStunned(Event, frozen=True, tag=True):
    """A process of the guest wrote faster than pages can be sent, and does not run until the machine has moved.

    ``address_space``: its CR3. ``faults``: write faults of it in this round.
    """

    vm: str
    number: int
    address_space: int
    faults: int


class MachineStunned(Event, frozen=True, tag=True):
    """The machine stands still. ``pages``: what is left to send. ``why``: the rule's sentence."""

    vm: str
    pages: int
    why: str


class StateSent(Event, frozen=True, tag=True):
    """vCPU, devices, page states and the digest of everything are on their way, in so many bytes."""

    vm: str
    state_bytes: int


class HandedOver(Event, frozen=True, tag=True):
    """The locks of the machine's files were given back for the destination to take: the commitment."""

    vm: str


class MachineResumed(Event, frozen=True, tag=True):
    """It runs again, on ``host``. ``downtime_ns``: since it was stunned; 0 on the destination, which was not told when:
    ``MigrationEnded`` of the source has it then. ``moved``: on the destination."""

    vm: str
    host: str
    downtime_ns: int
    moved: bool


class PostCopyEnded(Event, frozen=True, tag=True):
    """Every page is at the destination, after the machine has run there for ``duration_ns``. ``asked_pages`` were
    waited for, ``pushed_pages`` came before they were."""

    vm: str
    asked_pages: int
    pushed_pages: int
    duration_ns: int


class MigrationEnded(Event, frozen=True, tag=True):
    """``why`` is empty after a success, and says in a sentence what has happened otherwise."""

    vm: str
    ok: bool
    why: str
    sent_bytes: int
    duration_ns: int
    downtime_ns: int
