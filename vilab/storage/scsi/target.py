"""A SCSI target: logical units, the initiators that see them, and the commands on their way.

::

    nexus ── begin(lun, tag, cdb) ──> Task, waits for its data ── finish(task, data) ──> Response
                                        │  ABORT TASK, a reset, PREEMPT AND ABORT, a lost nexus
                                        └──> aborted: nothing of it happens, there is no response

``execute`` is both steps in one, for whoever has the data at hand. Transports (a controller's registers, iSCSI, Fibre
Channel) differ in how bytes travel; from ``begin`` on they are alike.

What task management leaves behind (SAM-4, 7; SPC-4, D.2 for the codes)::

    ABORT TASK            that command                       nothing
    ABORT TASK SET        all commands of the nexus          nothing
    CLEAR TASK SET        all commands on the unit           2F/00 for the other nexuses that lost some
    LOGICAL UNIT RESET    all, RESERVE(6), mode pages        29/03 for everybody
    TARGET RESET          the same on all units              29/02 for everybody
    I_T NEXUS RESET       what hangs on the nexus            29/07 for it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from vilab.clock import VirtualClock
from vilab.errors import AdminError, VmmBug
from vilab.events import EventLog
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.scsi.missing import execute_without_unit
from vilab.storage.scsi.request import Response, ScsiCommand, TaskManaged
from vilab.storage.scsi.state import (
    LUNS_CHANGED,
    Identity,
    Nexus,
    TargetState,
    Task,
    UnitState,
    decode_target_state,
    encode_state,
)
from vilab.storage.scsi.unit import LogicalUnit

MOST_LUNS = 1 << 14
"""What flat space addressing reaches."""


class TaskFunction(Enum):
    """SAM-4, 7.1."""

    ABORT_TASK = "abort task"
    ABORT_TASK_SET = "abort task set"
    CLEAR_TASK_SET = "clear task set"
    LOGICAL_UNIT_RESET = "logical unit reset"
    TARGET_RESET = "target reset"
    QUERY_TASK = "query task"
    NEXUS_RESET = "I_T nexus reset"


class TaskAnswer(Enum):
    """What a task management function returns. ``SUCCEEDED`` only for QUERY TASK: the task is there."""

    COMPLETE = "function complete"
    SUCCEEDED = "function succeeded"
    NO_TASK = "task does not exist"
    NO_UNIT = "incorrect logical unit number"


BUS_RESET, UNIT_RESET, NEXUS_LOSS, CLEARED_BY_ANOTHER = 0x2902, 0x2903, 0x2907, 0x2F00


class Target:
    """LUNs, nexuses and tasks. Everything it does is at once; when, is the transport's and the disk's matter."""

    def __init__(self, clock: VirtualClock | None = None, log: EventLog | None = None) -> None:
        self.clock = clock or VirtualClock()
        self.log = log or EventLog()
        self.units: dict[int, LogicalUnit] = {}
        self.nexuses: list[Nexus] = []
        self.tasks: list[Task] = []

    def add(self, lun: int, device: BlockDevice, identity: Identity, thin: bool = True) -> LogicalUnit:
        """Put a disk under a LUN; initiators that are there are told that the list has changed (3F/0E)."""
        if not 0 <= lun < MOST_LUNS:
            raise AdminError(f"There is no LUN {lun}: LUNs go from 0 to {MOST_LUNS - 1}.")
        if lun in self.units:
            raise AdminError(f"LUN {lun} is taken by disk {self.units[lun].identity.serial}; choose another one.")
        self._tell_luns_changed()
        unit = LogicalUnit(device, identity, lun, thin, self.clock, self.log)
        unit.abort = lambda nexuses: self._abort_of(lun, nexuses)
        self.units[lun] = unit
        self._list_luns()
        for nexus in self.nexuses:
            unit.connect(nexus)
        return unit

    def remove(self, lun: int) -> None:
        if lun not in self.units:
            raise AdminError(f"There is no LUN {lun} to take away; there are {sorted(self.units)}.")
        self._abort(lambda t: t.lun == lun)
        del self.units[lun]
        self._list_luns()
        self._tell_luns_changed()

    def _list_luns(self) -> None:
        luns = tuple(sorted(self.units))
        for unit in self.units.values():
            unit.luns = luns

    def _tell_luns_changed(self) -> None:
        for unit in self.units.values():
            for nexus in self.nexuses:
                unit.state.attend(nexus, LUNS_CHANGED)

    def connect(self, nexus: Nexus) -> None:
        """An initiator port has logged in; with its first command to each unit it hears 29/00."""
        if nexus in self.nexuses:
            return
        self.nexuses.append(nexus)
        for unit in self.units.values():
            unit.connect(nexus)

    def disconnect(self, nexus: Nexus) -> None:
        """The initiator port is gone: its commands and its RESERVE(6) too; its registrations stay."""
        if nexus not in self.nexuses:
            return
        aborted = self._abort(lambda t: t.nexus == nexus)
        self.nexuses.remove(nexus)
        for unit in self.units.values():
            unit.disconnect(nexus)
        self._managed(nexus, None, "I_T nexus loss", aborted)

    def begin(self, nexus: Nexus, lun: int, tag: int, cdb: bytes) -> Task:
        """A command has arrived. ``data_out_bytes`` of the task says how much data to fetch for it."""
        unit = self.units.get(lun)
        task = Task(nexus, lun, tag, bytes(cdb), unit.data_out_bytes(cdb) if unit else 0)
        self.tasks.append(task)
        return task

    def finish(self, task: Task, data_out: ReadableBytes = b"") -> Response | None:
        """Carry the command out; ``None`` if it was aborted: then the initiator gets no response."""
        if task.aborted:
            return None
        index = next((i for i, t in enumerate(self.tasks) if t is task), None)
        if index is None:
            raise VmmBug(f"Task {task.tag:#x} of {task.nexus} has been finished before, or is another target's.")
        del self.tasks[index]
        return self.execute(task.nexus, task.lun, task.cdb, data_out)

    def execute(self, nexus: Nexus, lun: int, cdb: bytes, data_out: ReadableBytes = b"") -> Response:
        """A command with its data, from beginning to end."""
        unit = self.units.get(lun)
        if unit is not None:
            return unit.execute(nexus, cdb, data_out)
        response = execute_without_unit(cdb, tuple(sorted(self.units)))
        if self.log.active:
            count = len(response.data_in)
            sense = response.sense_bytes
            self.log.emit(
                ScsiCommand(
                    self.clock.now_ns, str(nexus), lun, bytes(cdb), response.status, sense, count, len(data_out)
                )
            )
        return response

    def manage(
        self, nexus: Nexus, function: TaskFunction, lun: int | None = None, tag: int | None = None
    ) -> TaskAnswer:
        """A task management function. ``lun`` for all but the last two resets, ``tag`` where one task is meant."""
        whole = function in (TaskFunction.TARGET_RESET, TaskFunction.NEXUS_RESET)
        unit = None if lun is None else self.units.get(lun)
        if not whole and unit is None:
            return TaskAnswer.NO_UNIT
        answer, aborted = TaskAnswer.COMPLETE, 0
        match function:
            case TaskFunction.ABORT_TASK | TaskFunction.QUERY_TASK:
                found = any(t.nexus == nexus and t.lun == lun and t.tag == tag for t in self.tasks)
                if not found:
                    answer = TaskAnswer.NO_TASK
                elif function is TaskFunction.QUERY_TASK:
                    answer = TaskAnswer.SUCCEEDED
                else:
                    aborted = self._abort(lambda t: t.nexus == nexus and t.lun == lun and t.tag == tag)
            case TaskFunction.ABORT_TASK_SET:
                aborted = self._abort(lambda t: t.nexus == nexus and t.lun == lun)
            case TaskFunction.CLEAR_TASK_SET:
                losers = {t.nexus for t in self.tasks if t.lun == lun and t.nexus != nexus}
                aborted = self._abort(lambda t: t.lun == lun)
                for loser in sorted(losers):
                    self.units[lun or 0].state.attend(loser, CLEARED_BY_ANOTHER)
            case TaskFunction.LOGICAL_UNIT_RESET:
                aborted = self._abort(lambda t: t.lun == lun)
                self.units[lun or 0].reset(UNIT_RESET)
            case TaskFunction.TARGET_RESET:
                aborted = self._abort(lambda t: True)
                for each in self.units.values():
                    each.reset(BUS_RESET)
            case TaskFunction.NEXUS_RESET:
                aborted = self._abort(lambda t: t.nexus == nexus)
                for each in self.units.values():
                    each.disconnect(nexus)
                    each.connect(nexus, NEXUS_LOSS)
        self._managed(nexus, lun, function.value, aborted)
        return answer

    def _abort_of(self, lun: int, nexuses: Sequence[Nexus]) -> None:
        self._abort(lambda t: t.lun == lun and t.nexus in nexuses)

    def _abort(self, chosen: Callable[[Task], bool]) -> int:
        ended = [t for t in self.tasks if chosen(t)]
        for task in ended:
            task.aborted = True
        self.tasks = [t for t in self.tasks if not t.aborted]
        return len(ended)

    def _managed(self, nexus: Nexus, lun: int | None, function: str, aborted: int) -> None:
        if self.log.active:
            self.log.emit(TaskManaged(self.clock.now_ns, str(nexus), lun, function, aborted))

    def save_state(self) -> TargetState:
        units: dict[int, UnitState] = {lun: unit.save_state() for lun, unit in self.units.items()}
        return decode_target_state(encode_state(TargetState(self.nexuses, units, self.tasks)))

    def load_state(self, state: TargetState) -> None:
        """The state of a target with the same LUNs (``AdminError`` otherwise). Tasks are in ``tasks`` to go on with."""
        if state.units.keys() != self.units.keys():
            raise AdminError(
                f"The saved target has LUNs {sorted(state.units)}, this one {sorted(self.units)}: "
                "add the same disks before loading its state."
            )
        copy = decode_target_state(encode_state(state))
        self.nexuses, self.tasks = copy.nexuses, copy.tasks
        for lun, unit in self.units.items():
            unit.load_state(copy.units[lun])
