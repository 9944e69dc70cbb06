"""BusLogic BT-958: the adapter. Registers in ``buslogic_registers``, commands in ``buslogic_commands``, and what is
passed in memory in ``buslogic_ccb``.

::

    COMMAND <- code, parameters ──> answer ──DATA_IN──> the last byte was read: complete, interrupt

    COMMAND <- 02 ─FIRMWARE_NS─> outgoing mailboxes, from the one behind the last ─┬─ CCB ──> bus ── its time ──┐
                                                                                  └─ abort ────────────────────┤
                      incoming mailbox <─ if it is free, else it waits for the next interrupt reset <──────────┘

Timing, the interrupt pin and the saved record are those of every adapter here: ``scsi_adapter``.
"""

from __future__ import annotations

import msgspec

from vilab.devices import buslogic_ccb, buslogic_commands
from vilab.devices.buslogic_registers import (
    BUS_RESET,
    CLASS_SCSI,
    COMMAND,
    COMPLETE,
    CONTROL,
    DATA_READY,
    DEVICE,
    DIAGNOSIS,
    EXTENDED_TRANSLATION,
    GEOMETRY,
    HARD_RESET,
    INTERRUPT,
    INTERRUPT_RESET,
    INVALID,
    LOADED,
    MAILBOXES_NEEDED,
    READY,
    REVISION,
    SOFT_RESET,
    SUBSYSTEM,
    VALID,
    VENDOR,
    WINDOW_BYTES,
    WRITTEN,
)
from vilab.devices.pci_adapter import Chip
from vilab.devices.pci_function import INTERRUPT_LINE, Bar
from vilab.devices.scsi_adapter import AdapterState, ScsiHostAdapter
from vilab.devices.scsi_initiator import ABORTED, ABSENT, Outcome, UnderWay

DIAGNOSIS_NS = 1_000_000
"""MODEL: how long it looks after itself when it was reset."""
QUEUE_DEPTH = 192
"""Commands that the adapter can have under way."""


class BuslogicState(AdapterState):
    """``code``: a command whose parameters or answer are on their way, ``None`` between commands.

    ``boxes``, ``boxes_gpa``: outgoing mailboxes; the incoming ones follow them in memory. ``out_next``, ``in_next``:
    which comes next. ``waiting``: incoming mailboxes that found no room.
    """

    code: int | None = None
    parameters: bytes = b""
    answer: bytes = b""
    invalid: bool = False
    interrupt: int = 0
    interrupts_on: bool = True
    diagnosis_ns: int = 0
    boxes: int = 0
    boxes_gpa: int = 0
    out_next: int = 0
    in_next: int = 0
    strict: bool = False
    extended_lun: bool = False
    waiting: list[bytes] = msgspec.field(default_factory=list)


class BusLogic958(ScsiHostAdapter[BuslogicState]):
    """The adapter."""

    chip = Chip(VENDOR, DEVICE, CLASS_SCSI, REVISION, SUBSYSTEM, (Bar(WINDOW_BYTES), Bar(WINDOW_BYTES, is_memory=True)))
    state_type = BuslogicState

    # --- registers ----------------------------------------------------------------------------------------------------

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        return int.from_bytes(bytes(self._read(offset + at) for at in range(size_bytes)), "little")

    def _read(self, register: int) -> int:
        s = self._state
        if register == CONTROL:
            return self._status()
        if register == COMMAND:
            return self._next_byte()
        if register == INTERRUPT:
            return s.interrupt
        return EXTENDED_TRANSLATION if register == GEOMETRY else 0xFF

    def _status(self) -> int:
        s = self._state
        if self._clock.now_ns < s.diagnosis_ns:
            return DIAGNOSIS
        return (
            (0 if s.boxes else MAILBOXES_NEEDED) | (READY if s.code is None else 0)
            | (DATA_READY if s.answer else 0) | (INVALID if s.invalid else 0)
        )  # fmt: skip

    def _next_byte(self) -> int:
        s = self._state
        if not s.answer:
            return 0
        value, s.answer = s.answer[0], s.answer[1:]
        if not s.answer:
            self._command_complete()
        return value

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        for at in range(size_bytes):
            self._write(offset + at, value >> 8 * at & 0xFF)

    def _write(self, register: int, value: int) -> None:
        if register not in WRITTEN:
            return
        self._report_write(WRITTEN[register], value)
        if register == CONTROL:
            self._control(value)
        elif self._clock.now_ns >= self._state.diagnosis_ns:
            self._take(value)

    def _control(self, value: int) -> None:
        if value & (HARD_RESET | SOFT_RESET):
            self._reset()
        elif value & BUS_RESET:
            self._initiator.drop()
            self.bus.reset()
        elif value & INTERRUPT_RESET:
            self._state.interrupt, self._state.invalid = 0, False
            if self._state.waiting:
                self._look_soon()
        self._drive()

    def _reset(self) -> None:
        self._initiator.drop()
        self.bus.reset()
        self._stop_looking()
        self._state = BuslogicState(diagnosis_ns=self._clock.now_ns + DIAGNOSIS_NS, line=self._state.line)

    def _interrupting(self) -> bool:
        return bool(self._state.interrupt & VALID) and self._state.interrupts_on

    def _interrupt(self, why: int) -> None:
        self._state.interrupt |= VALID | why
        self._drive()

    # --- commands -----------------------------------------------------------------------------------------------------

    def _take(self, value: int) -> None:
        """A byte in the COMMAND register."""
        s = self._state
        if s.code is None:
            s.invalid = False
            if value == buslogic_commands.EXECUTE_MAILBOX:
                if s.boxes:
                    self._look_soon()
                return
            s.code, s.parameters, s.answer = value, b"", b""
        elif not s.answer:
            s.parameters += bytes((value,))
        else:
            return  # it is giving an answer
        wanted = buslogic_commands.PARAMETERS.get(s.code)
        if wanted is None:
            self._command_complete(invalid=True)
        elif len(s.parameters) == wanted:
            self._execute(s.code, s.parameters)

    def _execute(self, code: int, parameters: bytes) -> None:
        s = self._state
        if code == buslogic_commands.MODIFY_ADDRESS:
            s.code = None
        elif code == buslogic_commands.SET_MAILBOXES:
            if parameters[0]:
                s.boxes, s.boxes_gpa = parameters[0], int.from_bytes(parameters[1:], "little")
                s.out_next = s.in_next = 0
                s.waiting.clear()
            self._command_complete(invalid=not parameters[0])
        else:
            if code == buslogic_commands.STRICT_ROUND_ROBIN:
                s.strict = bool(parameters[0])
            elif code == buslogic_commands.CCB_FORMAT:
                s.extended_lun = bool(parameters[0])
            elif code == buslogic_commands.ENABLE_INTERRUPTS:
                s.interrupts_on = bool(parameters[0])
            s.answer = buslogic_commands.answer(
                code, parameters, self._targets(), self.config[INTERRUPT_LINE], (s.boxes, s.boxes_gpa),
                buslogic_commands.WIDE_ULTRA,
            )  # fmt: skip
            if not s.answer:
                self._command_complete()

    def _targets(self) -> frozenset[int]:
        return frozenset(target for target in range(buslogic_commands.TARGETS) if self.bus.present(target))

    def _command_complete(self, invalid: bool = False) -> None:
        s = self._state
        s.code, s.parameters, s.invalid = None, b"", invalid
        self._interrupt(COMPLETE)

    # --- mailboxes ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """First what waits to go in, then what is to come out: at most once around."""
        s = self._state
        self._fill_waiting()
        for _ in range(s.boxes):
            if s.waiting or len(self._initiator.commands) >= QUEUE_DEPTH:
                return  # an interrupt reset, or the end of a command, goes on from here
            box_gpa = s.boxes_gpa + s.out_next * buslogic_ccb.MAILBOX_BYTES
            box = self._master.read(box_gpa, buslogic_ccb.MAILBOX_BYTES)
            if box is None:
                return
            if box[7] == buslogic_ccb.FREE:
                if s.strict:
                    return
                s.out_next = (s.out_next + 1) % s.boxes
                continue
            self._master.write(box_gpa + 7, bytes((buslogic_ccb.FREE,)))
            s.out_next = (s.out_next + 1) % s.boxes
            self._start(int.from_bytes(box[:4], "little"), box[7])

    def _start(self, gpa: int, action: int) -> None:
        """An outgoing mailbox has something in it."""
        if action == buslogic_ccb.ABORT:
            found = self._initiator.abort(lambda c: int.from_bytes(c.request[:4], "little") == gpa)
            if not found:
                self._post(gpa, buslogic_ccb.COMPLETED, 0, buslogic_ccb.NOT_FOUND)
            return
        raw = self._master.read(gpa, buslogic_ccb.CCB_BYTES) if action == buslogic_ccb.START else None
        if raw is None:
            status = buslogic_ccb.BAD_ACTION if action != buslogic_ccb.START else buslogic_ccb.BAD_PARAMETER
            self._post(gpa, status, 0, buslogic_ccb.ERROR)
            return
        ccb = buslogic_ccb.parse(raw, self._state.extended_lun)
        if ccb.operation == buslogic_ccb.RESET_TARGET:
            self._reset_target(gpa, ccb.target)
            return
        status, segments = self._refusal(ccb), None
        if status == buslogic_ccb.COMPLETED:
            segments = buslogic_ccb.segments_of(ccb, self._master)
            status = buslogic_ccb.BAD_PARAMETER if segments is None else status
        if segments is None:
            self._conclude(gpa, status, 0)
            return
        self._initiator.begin(
            UnderWay(
                self._initiator.free_tag(), ccb.target, ccb.lun, ccb.cdb,
                {buslogic_ccb.INTO_MEMORY: True, buslogic_ccb.FROM_MEMORY: False}.get(ccb.direction), segments,
                sum(size for _, size in segments), gpa.to_bytes(4, "little") + raw, self._clock.now_ns,
            ),
            gpa,
        )  # fmt: skip

    @staticmethod
    def _refusal(ccb: buslogic_ccb.Ccb) -> int:
        known = (
            buslogic_ccb.PLAIN, buslogic_ccb.SEGMENTED, buslogic_ccb.PLAIN_RESIDUAL, buslogic_ccb.SEGMENTED_RESIDUAL,
        )  # fmt: skip
        if ccb.operation not in known:
            return buslogic_ccb.BAD_OPERATION
        if not 1 <= ccb.cdb_bytes <= buslogic_ccb.MOST_CDB or ccb.target >= buslogic_commands.TARGETS:
            return buslogic_ccb.BAD_PARAMETER
        return buslogic_ccb.NO_SELECTION if ccb.target == buslogic_commands.ADAPTER_ID else buslogic_ccb.COMPLETED

    def _reset_target(self, gpa: int, target: int) -> None:
        """The commands that were under way there come back first."""
        ended = [c for c in self._initiator.commands if c.target == target]
        self._initiator.abort(lambda c: c in ended, tell=False)
        self.bus.reset(target)
        for command in ended:
            self._conclude(int.from_bytes(command.request[:4], "little"), buslogic_ccb.TARGET_WAS_RESET, 0)
        self._conclude(gpa, buslogic_ccb.COMPLETED, 0)

    def _ended(self, command: UnderWay, outcome: Outcome) -> int:
        """A command is over; the adapter status."""
        gpa = int.from_bytes(command.request[:4], "little")
        ccb = buslogic_ccb.parse(command.request[4:], self._state.extended_lun)
        status = buslogic_ccb.COMPLETED
        if outcome.failure == ABORTED:
            self._conclude(gpa, buslogic_ccb.ABORTED, 0, buslogic_ccb.ABORTED_BY_HOST)
            return buslogic_ccb.ABORTED
        if outcome.failure:
            status = buslogic_ccb.NO_SELECTION if outcome.failure == ABSENT else buslogic_ccb.BAD_PARAMETER
        elif outcome.sense:
            self._master.write(ccb.sense_gpa, outcome.sense[: ccb.sense_bytes], "sense")
        elif ccb.direction in (buslogic_ccb.INTO_MEMORY, buslogic_ccb.FROM_MEMORY) and not (
            outcome.wanted_bytes == outcome.moved_bytes == command.size_bytes
        ):
            status = buslogic_ccb.COMPLETED if ccb.wants_residual else buslogic_ccb.RUN_ERROR
        if ccb.wants_residual:
            left = max(0, command.size_bytes - outcome.moved_bytes) & 0xFFFF_FFFF
            self._master.write(gpa + buslogic_ccb.RESIDUAL_AT, left.to_bytes(4, "little"))
        self._conclude(gpa, status, outcome.status)
        if len(self._initiator.commands) == QUEUE_DEPTH - 1:
            self._look_soon()  # it was full, and mailboxes may have been left as they were
        return status

    def _conclude(self, gpa: int, adapter_status: int, target_status: int, completion: int = 0) -> None:
        """The CCB and an incoming mailbox say how it went."""
        if not completion:
            completion = buslogic_ccb.ERROR if adapter_status or target_status else buslogic_ccb.WELL
        self._master.write(gpa + buslogic_ccb.STATUS_AT, bytes((adapter_status, target_status)))
        self._post(gpa, adapter_status, target_status, completion)

    def _post(self, gpa: int, adapter_status: int, target_status: int, completion: int) -> None:
        self._state.waiting.append(buslogic_ccb.incoming(gpa, adapter_status, target_status, completion))
        self._fill_waiting()

    def _fill_waiting(self) -> None:
        """Into the next incoming mailboxes, as long as they are free."""
        s = self._state
        if not s.boxes:
            s.waiting.clear()
        while s.waiting:
            box_gpa = s.boxes_gpa + (s.boxes + s.in_next) * buslogic_ccb.MAILBOX_BYTES
            box = self._master.read(box_gpa, buslogic_ccb.MAILBOX_BYTES)
            if box is None or box[7] != buslogic_ccb.FREE:
                return
            self._master.write(box_gpa, s.waiting.pop(0))
            s.in_next = (s.in_next + 1) % s.boxes
            self._interrupt(LOADED)
