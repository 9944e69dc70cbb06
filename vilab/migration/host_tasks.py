"""What an agent is at for longer than one turn of its loop: a machine's disks that move, or any other row of steps.

::

    asked ──> Task ──> pump, pump, pump ... over ──> end: Done, or Refused
                          └── Copying, five times a second, to who has asked; who has hung up misses it, no more

    StorageMove   of a machine that runs: its host takes a step after each quantum, and this one only looks on
    Stepwise      anything that is a generator: this one takes the steps, as many as there is time for in a turn
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from typing import Protocol, TypeAlias, TypeVar, cast

import msgspec

from vilab.errors import VilabError
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.migration import agent_requests as ask
from vilab.migration.storage_vmotion import MethodName, StorageVmotion

TELL_NS = 200_000_000
TURN_NS = 10_000_000
"""So long steps are taken, before machines and links have their turn again."""

Answer = Callable[[ask.Request], None]
"""To who has asked. Does nothing when they have gone."""


class Task(Protocol):
    """``about``: the machine, or the configuration file, that has to be left alone meanwhile. ``doing``: what is being
    done with that file, ``is being moved to ds2``; empty if others may try."""

    about: str
    doing: str

    @property
    def over(self) -> bool: ...

    def pump(self) -> bool:
        """A turn. True: there is more to do at once, and the loop should not wait for anything."""
        ...

    def end(self) -> None:
        """It is over: tell who has asked."""
        ...

    def give_up(self, why: str) -> None:
        """The host is being shut down, or there is a defect. It is over then, even if clearing up fails."""
        ...


class Progress(msgspec.Struct, frozen=True):
    """Where a row of steps stands. ``percent``: of ``phase``, which is a word or two."""

    percent: float
    copied_bytes: int
    phase: str


Result = TypeVar("Result")
Steps: TypeAlias = Generator[Progress | None, None, Result]
"""``None``: there is nothing to do just now."""


class Teller:
    """Says where something stands, but not too often. ``number``: of the request."""

    def __init__(self, number: int, answer: Answer) -> None:
        self.number, self.answer = number, answer
        self._told_ns = 0

    def tell(self, progress: Progress) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._told_ns > TELL_NS:
            self._told_ns = now_ns
            self.answer(ask.Copying(self.number, progress.phase, progress.percent, progress.copied_bytes))

    def done(self, what: str) -> None:
        self.answer(ask.Done(self.number, what))

    def refused(self, why: str) -> None:
        self.answer(ask.Refused(self.number, why))


class StorageMove:
    """Raises ``AdminError`` where it cannot be moved there."""

    doing = ""

    def __init__(self, host: Host, hosted: HostedVm, request: ask.MoveStorage, answer: Answer) -> None:
        self.about, self.datastore = hosted.name, request.datastore
        self.move = StorageVmotion(host, hosted, request.datastore, cast(MethodName, request.method))
        self._teller = Teller(request.number, answer)
        self._given_up = ""

    @property
    def over(self) -> bool:
        return bool(self._given_up) or self.move.over

    def pump(self) -> bool:
        if not self.over:
            self._teller.tell(self._progress())
        return False

    def _progress(self) -> Progress:
        copier = self.move.copier
        if not self.move.running:
            return Progress(0.0, copier.copied_bytes, "given up: its redo logs are merged")
        phase = f"round {copier.number}" if copier.number else "other files"
        return Progress(100 * copier.round_bytes / max(1, copier.todo_bytes), copier.copied_bytes, phase)

    def end(self) -> None:
        move, copier = self.move, self.move.copier
        if move.state != "moved":
            self._teller.refused(self._given_up or move.why)
            return
        self._teller.done(
            f"{self.about} is on {self.datastore} now: {copier.number} rounds, {copier.copied_bytes / 1e6:.1f} MB, "
            f"{copier.round_bytes / 1e3:.0f} KB of them while it stood still.{f' {move.left}' * bool(move.left)}"
        )

    def give_up(self, why: str) -> None:
        """The machine goes off with its host, and that ends the move itself."""
        self._given_up = f"{self.about} was not moved to {self.datastore}: {why}"


class Stepwise:
    """Parameters
    ----------
    steps : does the work, piece by piece; its value is the sentence with which it has succeeded. ``VilabError`` or
        ``OSError``: it has failed, and has cleared up. When it is closed before its end, it clears up too.
    """

    def __init__(self, about: str, number: int, steps: Steps[str], answer: Answer, doing: str = "") -> None:
        self.about, self.doing, self._steps = about, doing, steps
        self._teller = Teller(number, answer)
        self._done = self._failed = ""

    @property
    def over(self) -> bool:
        return bool(self._done or self._failed)

    def pump(self) -> bool:
        until_ns = time.monotonic_ns() + TURN_NS
        try:
            while not self.over and time.monotonic_ns() < until_ns:
                progress = next(self._steps)
                if progress is None:
                    return False
                self._teller.tell(progress)
        except StopIteration as ended:
            self._done = ended.value
        except VilabError as error:
            self._failed = str(error)
        except OSError as error:
            self._failed = f"{self.about}: {error.strerror or error}."
        return not self.over

    def end(self) -> None:
        if self._failed:
            self._teller.refused(self._failed)
        else:
            self._teller.done(self._done)

    def give_up(self, why: str) -> None:
        self._failed = f"{self.about} {self.doing}, which was given up. {why}" if self.doing else f"{self.about}: {why}"
        with contextlib.suppress(VilabError, OSError):  # what it could not clear up is found later
            self._steps.close()
