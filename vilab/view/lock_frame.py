"""Two hosts and one LUN over time: what was seen of them, step by step. Recorded, and never changed afterwards.

::

    LockStory ── steps ── LockStep: when, what kind, whose, the volume's bytes read at that moment
              ├─ commands      every SCSI command of every host, with its time and its status
              ├─ events        what the hosts have said (``vmfs.events``)
              └─ deaths        when a host lost its power

=========  ==========================================  =========  ==================================================
kind       what has just happened                      kind       what has just happened
=========  ==========================================  =========  ==================================================
mounts     a host has a heartbeat slot                 dies       a host has lost its power
on         a VM's files are locked and open            silent     the one that waits has seen no change for so long
grows      a guest's write needed blocks               replayed   a dead host's change was finished by another
meets      RESERVATION CONFLICT                        broken     its heartbeat was ended
asks       a host wants files that have an owner       stolen     a lock that named it is another's
refused    the owner is alive                          fenced     a host hears that it was taken for dead
off        locks given back                            stuck      the LUN stayed reserved for too long
=========  ==========================================  =========  ==================================================
"""

from __future__ import annotations

import msgspec

from vilab.events import Event
from vilab.view.vmfs_frame import VolumeMoment

SECOND_NS = 1_000_000_000


class Command(msgspec.Struct, frozen=True):
    """One SCSI command as the LUN has answered it. ``pos``: byte of the logical volume, for reads and writes."""

    at_ns: int
    host: str
    name: str
    pos: int
    sectors: int
    conflict: bool


class Said(msgspec.Struct, frozen=True):
    """An event and the host that it is from."""

    host: str
    event: Event


class LockStep(msgspec.Struct, frozen=True):
    """``subject``: the virtual machine that it is about; ``words``: what an error said. ``commands`` and ``said``: how
    many there were by then. ``agrees``: what the owner before had acknowledged was read back, byte for byte."""

    at_ns: int
    kind: str
    host: str
    subject: str
    words: str
    volume: VolumeMoment
    commands: int
    said: int
    agrees: bool | None = None
    megabytes: int = 0

    @property
    def seconds(self) -> float:
        return self.at_ns / SECOND_NS


class LockStory(msgspec.Struct):
    """``hosts``: two names. ``paths``: the files that have a row. ``asked_ns`` by host: when it began to wait."""

    hosts: tuple[str, str]
    paths: tuple[str, ...]
    names: dict[str, str] = {}
    """By UUID as text."""
    steps: list[LockStep] = []
    commands: list[Command] = []
    said: list[Said] = []
    deaths: dict[str, int] = {}

    @property
    def end_ns(self) -> int:
        return self.steps[-1].at_ns if self.steps else 0

    def before(self, position: int) -> LockStep | None:
        """The step before of the same host."""
        host = self.steps[position].host
        return next((step for step in reversed(self.steps[:position]) if step.host == host), None)

    def commands_of(self, position: int) -> list[Command]:
        """What the host of this step has sent since its step before."""
        step, before = self.steps[position], self.before(position)
        first = 0 if before is None else before.commands
        return [each for each in self.commands[first : step.commands] if each.host == step.host]

    def said_of(self, position: int) -> list[Event]:
        """What it has said since then."""
        step, before = self.steps[position], self.before(position)
        first = 0 if before is None else before.said
        return [each.event for each in self.said[first : step.said] if each.host == step.host]

    def said_by(self, position: int) -> list[Said]:
        """Everything up to a step."""
        return self.said[: self.steps[position].said]

    def asked(self, position: int) -> LockStep | None:
        """The question that this step, or one before it, is about: the last one of the same host."""
        host = self.steps[position].host
        found = (step for step in reversed(self.steps[: position + 1]) if step.kind == "asks" and step.host == host)
        return next(found, None)
