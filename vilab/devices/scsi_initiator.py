"""Commands that a host adapter has under way, whatever its registers look like.

::

    request in guest memory ──adapter──> begin ──bus──> due_ns ... its time comes ──> data out is read from memory
                                           │                                          bus.finish
                                           │                                          data in is written to memory
                                           └── abort, reset ──> ended                 completed(command, outcome)

All of a command's data moves at the end of its time. Until then memory is not touched, so a command under way is
nothing but its record: a machine can be suspended in the middle of it and resumed elsewhere.

A command whose disk is away stays under way, with another time; the driver decides how long it waits.

MODEL: a target that is not there is noticed after ``NO_ANSWER_NS``; a real selection times out after 250 ms.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.devices.bus_master import BusMaster, Segment
from vilab.devices.scsi_events import CommandCompleted, RequestFetched
from vilab.events import EventLog
from vilab.protocols import ScsiBus

NO_ANSWER_NS = 250_000


class UnderWay(msgspec.Struct):
    """One command. ``to_memory``: ``True`` for data in, ``False`` for data out, ``None``: the command decides.

    ``size_bytes``: how much data the driver expects at most. ``request``: what the adapter needs to answer.
    """

    tag: int
    target: int
    lun: int
    cdb: bytes
    to_memory: bool | None
    segments: list[Segment]
    size_bytes: int
    request: bytes
    begun_ns: int
    due_ns: int = 0
    data_out_bytes: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """How it has ended. ``wanted_bytes``: how much the target had to send or to take.

    ``failure`` is empty if the target has answered: then ``status`` and ``sense`` are its answer.
    """

    status: int = 0
    sense: bytes = b""
    moved_bytes: int = 0
    wanted_bytes: int = 0
    failure: str = ""


ABSENT, ABORTED, UNREACHABLE = "no target answers", "aborted", "memory cannot be reached"

Completed = Callable[[UnderWay, Outcome], int]
"""The adapter answers the driver; returns its own status word, for the log."""


class ScsiInitiator:
    """The adapter's side of the bus.

    Parameters
    ----------
    completed : called for every command that has ended by itself, in the order in which they end.
    """

    def __init__(
        self, clock: VirtualClock, log: EventLog, bus: ScsiBus, master: BusMaster, completed: Completed
    ) -> None:
        self._clock, self._log, self._bus, self._master = clock, log, bus, master
        self._completed = completed
        self.commands: list[UnderWay] = []
        self._timers: dict[int, Timer] = {}

    def free_tag(self) -> int:
        """The smallest number that no command under way has."""
        taken = {command.tag for command in self.commands}
        return next(tag for tag in range(len(taken) + 1) if tag not in taken)

    def begin(self, command: UnderWay, gpa: int) -> None:
        """``gpa``: where the request was, for the log. ``due_ns`` and ``data_out_bytes`` are filled in here."""
        if self._log.active:
            self._log.emit(
                RequestFetched(
                    self._clock.now_ns, self._master.slot, gpa, command.tag, command.target, command.lun, command.cdb,
                    len(command.segments), command.size_bytes,
                )
            )  # fmt: skip
        if self._bus.present(command.target):
            command.data_out_bytes, command.due_ns = self._bus.begin(
                command.target, command.lun, command.tag, command.cdb
            )
        else:
            command.due_ns = self._clock.now_ns + NO_ANSWER_NS
        self.commands.append(command)
        self._schedule(command)

    def _schedule(self, command: UnderWay) -> None:
        self._timers[command.tag] = self._clock.at(command.due_ns, lambda: self._finish(command))

    def _finish(self, command: UnderWay) -> None:
        del self._timers[command.tag]
        outcome = self._carry_out(command)
        if isinstance(outcome, int):
            command.due_ns = outcome
            self._schedule(command)
            return
        self.commands.remove(command)
        self._report(command, outcome)

    def _report(self, command: UnderWay, outcome: Outcome) -> None:
        word = self._completed(command, outcome)
        if self._log.active:
            now_ns = self._clock.now_ns
            self._log.emit(
                CommandCompleted(
                    now_ns, self._master.slot, command.tag, command.target, outcome.status, word, outcome.moved_bytes,
                    now_ns - command.begun_ns,
                )
            )  # fmt: skip

    def _carry_out(self, command: UnderWay) -> Outcome | int:
        """Data to the target, the command itself, data back; or the time at which that is tried again."""
        bus = self._bus
        if not bus.present(command.target):
            return Outcome(failure=ABSENT)
        data_out = b""
        wanted = command.data_out_bytes
        if wanted and command.to_memory is not True:
            gathered = self._master.gather(command.segments, min(wanted, command.size_bytes))
            if gathered is None:
                bus.abort(command.target, command.tag)
                return Outcome(failure=UNREACHABLE)
            data_out = gathered
        answer = bus.finish(command.target, command.tag, data_out)
        if answer is None:
            return Outcome(failure=ABORTED)
        if isinstance(answer, int):
            return answer
        moved = len(data_out)
        if answer.data_in:
            wanted = len(answer.data_in)
            room = 0 if command.to_memory is False else command.size_bytes
            scattered = self._master.scatter(command.segments, answer.data_in[:room])
            if scattered is None:
                return Outcome(failure=UNREACHABLE)
            moved = scattered
        return Outcome(int(answer.status), answer.sense_bytes, moved, wanted)

    def abort(self, chosen: Callable[[UnderWay], bool], tell: bool = True) -> int:
        """End commands before their time; how many. ``tell``: each is reported as ``ABORTED``."""
        ended = [command for command in self.commands if chosen(command)]
        for command in ended:
            self._timers.pop(command.tag).cancel()
            self.commands.remove(command)
            self._bus.abort(command.target, command.tag)
        if tell:
            for command in ended:
                self._report(command, Outcome(failure=ABORTED))
        return len(ended)

    def drop(self) -> None:
        """Nothing is under way any more, and nobody is told."""
        self.abort(lambda _: True, tell=False)

    def load(self, commands: list[UnderWay]) -> None:
        """From a state record; the clock has its time already. Those due at one instant keep their order."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.commands = commands
        for command in commands:
            self._schedule(command)
