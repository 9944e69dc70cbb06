"""A power-on that an agent was asked for: where a dead host still has the machine's files, its locks are watched while
this host's machines run and its agent answers.

::

    PowerOn ──> held by esx1, silent for 0 s ──> ... 15 s ──> its locks are broken ──> Done
                        └── a look a second                └── esx1 has renewed them ──> Refused: it is powered on there
"""

from __future__ import annotations

import time

from vilab.errors import VilabError
from vilab.host.host import Host
from vilab.host.powering_on import PoweringOn
from vilab.migration import agent_requests as ask
from vilab.migration.host_tasks import Answer
from vilab.migration.line import Line
from vilab.storage.nfs.locks import LockedError


class PowerOnTask:
    """A ``Task``. Its machine has a serial line that can go along."""

    doing = "is being powered on"

    def __init__(self, host: Host, request: ask.PowerOn, answer: Answer) -> None:
        self.about, self._host = request.home, host
        self._steps = PoweringOn(host, request.home, Line(), discard_suspended=request.discard_suspended)
        self._number, self._answer = request.number, answer
        self._again_ns = 0
        self._done = self._failed = ""

    @property
    def over(self) -> bool:
        return bool(self._done or self._failed)

    def pump(self) -> bool:
        """Never more to do at once: there is nothing to be seen before the next look."""
        if not self.over and time.monotonic_ns() >= self._again_ns:
            try:
                self._look()
            except VilabError as error:
                self._failed = str(error)
            except OSError as error:
                self._failed = f"{self.about} was not powered on: {error.strerror or error}."
        return False

    def _look(self) -> None:
        hosted, held = self._steps.step(), self._steps.held
        if hosted is not None:
            self._done = f"{hosted.name} is powered on on {self._host.name}."
            return
        assert held is not None
        if isinstance(held, LockedError) and held.alive:
            raise held
        self._again_ns = time.monotonic_ns() + held.again_ns
        self._answer(ask.Copying(self._number, str(held), 0.0, 0))

    def end(self) -> None:
        if self._failed:
            self._answer(ask.Refused(self._number, self._failed))
        else:
            self._answer(ask.Done(self._number, self._done))

    def give_up(self, why: str) -> None:
        self._failed = f"{self.about} was not powered on: {why}"
        self._steps.give_up()
