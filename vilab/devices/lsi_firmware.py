"""What the processor inside a 53C1030 does with a message.

::

    function              how it comes          answer
    00 SCSI IO            frame                 context, or a reply frame (lsi_messages.py)
    01 task management    either                first every command that it ends, then its own
    02 IOCInit            doorbell              sizes and upper address halves are taken; operational from now on
    03 IOCFacts  05 PortFacts  06 PortEnable    either
    04 configuration      frame                 a page (lsi_config.py) to memory or from it
    07 event notification frame                 events come with this context from now on
    08 event acknowledge  frame
    any other             either                status "invalid function"
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.clock import VirtualClock
from vilab.devices import lsi_config, lsi_messages
from vilab.devices.bus_master import BusMaster
from vilab.devices.lsi_config import Parameters
from vilab.devices.lsi_messages import ScsiIo
from vilab.devices.lsi_sgl import SglError, walk
from vilab.devices.scsi_initiator import ABORTED, ABSENT, Outcome, ScsiInitiator, UnderWay
from vilab.protocols import ScsiBus

CONFIG_HEADER_AT, CONFIG_ADDRESS_AT, CONFIG_SGE_AT = 0x14, 0x18, 0x1C
TASK_CONTEXT_AT = 0x30
PAGE_HEADER, PAGE_READ, PAGE_WRITE, PAGE_DEFAULT, PAGE_WRITE_NVRAM, PAGE_READ_DEFAULT, PAGE_READ_NVRAM = range(7)
CHECK_CONDITION = 2


class FirmwareState(msgspec.Struct):
    """``who``: who has initialized the adapter; ``parameters``: what was asked for each target;
    ``event_context``: ``None`` while events are switched off."""

    who: int = 0
    reply_bytes: int = 0
    frames_high: int = 0
    sense_high: int = 0
    event_context: int | None = None
    parameters: dict[int, Parameters] = msgspec.field(default_factory=dict)


class Firmware:
    """Carries messages out.

    Parameters
    ----------
    initiator : has the commands under way; the adapter passes those that are over to ``ended``.
    answer : takes a reply that needs a frame. complete : takes the context of what went well.
    """

    def __init__(
        self,
        clock: VirtualClock,
        bus: ScsiBus,
        master: BusMaster,
        initiator: ScsiInitiator,
        answer: Callable[[bytes], None],
        complete: Callable[[int], None],
    ) -> None:
        self._clock, self._bus, self._master, self._initiator = clock, bus, master, initiator
        self._answer, self._complete = answer, complete
        self.state = FirmwareState()
        self.initialized = False
        """IOCInit has just been carried out."""

    def reset(self) -> None:
        """Nothing is under way any more, and nobody is told."""
        self._initiator.drop()

    # --- messages -----------------------------------------------------------------------------------------------------

    def execute_handshake(self, message: bytes, operational: bool) -> bytes | None:
        """A message that came through the doorbell, with zeros behind it; the reply. ``None``: it is in a frame."""
        function = message[3]
        if function == lsi_messages.IOC_INIT:
            return self._initialize(message)
        if function == lsi_messages.TASK_MANAGEMENT and operational:
            self._manage(message)
            return None
        reply = self._tell(message)
        return lsi_messages.reply(message, status=lsi_messages.INVALID_FUNCTION) if reply is None else reply

    def execute(self, frame: bytes, gpa: int, operational: bool) -> None:
        """A message that came in a frame at ``gpa``."""
        function = frame[3]
        if not operational and function not in (lsi_messages.IOC_FACTS, lsi_messages.PORT_FACTS):
            self._answer(lsi_messages.reply(frame, status=lsi_messages.INVALID_STATE))
        elif function == lsi_messages.SCSI_IO:
            self._begin(frame, gpa)
        elif function == lsi_messages.TASK_MANAGEMENT:
            self._manage(frame)
        elif function == lsi_messages.EVENT_NOTIFICATION:
            self._notify(frame)
        else:
            reply = self._tell(frame)
            if reply is None:
                reply = lsi_messages.reply(frame, status=lsi_messages.INVALID_FUNCTION)
            self._answer(reply)

    def _initialize(self, message: bytes) -> bytes:
        s = self.state
        s.who = message[0] & 7
        s.reply_bytes = int.from_bytes(message[0x0C:0x0E], "little")
        s.frames_high = int.from_bytes(message[0x10:0x14], "little")
        s.sense_high = int.from_bytes(message[0x14:0x18], "little")
        self.initialized = True
        second = int.from_bytes(message[4:8], "little")
        return lsi_messages.reply(message, first=message[0], second=second)

    def _tell(self, message: bytes) -> bytes | None:
        """Messages that are answered at once; ``None``: there is no such one."""
        s = self.state
        function = message[3]
        if function == lsi_messages.IOC_FACTS:
            high = (s.frames_high, s.sense_high)
            return lsi_messages.ioc_facts(message, s.who, s.reply_bytes, s.event_context is not None, high)
        if function == lsi_messages.PORT_FACTS:
            return lsi_messages.port_facts(message)
        if function == lsi_messages.PORT_ENABLE:
            status = lsi_messages.SUCCESS if message[6] < lsi_messages.PORTS else lsi_messages.INVALID_FIELD
            return lsi_messages.reply(message, status=status, second=message[6] << 16)
        if function == lsi_messages.CONFIG:
            return self._configure(message)
        if function == lsi_messages.EVENT_ACK:
            return lsi_messages.reply(message)
        return None

    def _notify(self, frame: bytes) -> None:
        context = lsi_messages.context_of(frame)
        on = bool(frame[0] & 1)
        self.state.event_context = context if on else None
        flags = lsi_messages.CONTINUES if on else 0
        self._answer(lsi_messages.event(context, lsi_messages.EVENT_EVENT_CHANGE, int(on), flags))

    def _bus_was_reset(self) -> None:
        context = self.state.event_context
        if context is not None:
            self._answer(lsi_messages.event(context, lsi_messages.EVENT_IOC_BUS_RESET, 0, lsi_messages.CONTINUES))

    # --- configuration pages ------------------------------------------------------------------------------------------

    def _configure(self, message: bytes) -> bytes:
        action, number, type_ = message[0], message[CONFIG_HEADER_AT + 2], message[CONFIG_HEADER_AT + 3] & 0x0F
        target = message[CONFIG_ADDRESS_AT]
        parameters = self.state.parameters.get(target, Parameters())
        page = lsi_config.page(type_, number, target, parameters, self._bus.present(target))
        header = message[CONFIG_HEADER_AT : CONFIG_HEADER_AT + 4]
        if page is None:
            known = lsi_config.known_type(type_)
            status = lsi_messages.CONFIG_INVALID_PAGE if known else lsi_messages.CONFIG_INVALID_TYPE
        else:
            header = page.header
            status = self._do_page(action, page, target, message)
        return lsi_messages.reply(message, header, status, first=action)

    def _do_page(self, action: int, page: lsi_config.Page, target: int, message: bytes) -> int:
        """The IOC status."""
        if action == PAGE_HEADER:
            return lsi_messages.SUCCESS
        if action in (PAGE_READ, PAGE_READ_DEFAULT, PAGE_READ_NVRAM):
            return self._move_page(message, page.content)
        if action not in (PAGE_WRITE, PAGE_WRITE_NVRAM, PAGE_DEFAULT) or not page.changeable:
            return lsi_messages.CONFIG_INVALID_ACTION
        if action == PAGE_DEFAULT:
            self.state.parameters.pop(target, None)
            return lsi_messages.SUCCESS
        try:
            segments = walk(message, CONFIG_SGE_AT, 0, self._master)
        except SglError:
            return lsi_messages.INVALID_SGL
        content = self._master.gather(segments, len(page.content))
        if content is None or len(content) < len(page.content):
            return lsi_messages.CONFIG_INVALID_DATA
        self.state.parameters[target] = lsi_config.parameters_from(content)
        return lsi_messages.SUCCESS

    def _move_page(self, message: bytes, content: bytes) -> int:
        try:
            segments = walk(message, CONFIG_SGE_AT, 0, self._master)
        except SglError:
            return lsi_messages.INVALID_SGL
        moved = self._master.scatter(segments, content)
        return lsi_messages.INVALID_SGL if moved is None else lsi_messages.SUCCESS

    # --- SCSI ---------------------------------------------------------------------------------------------------------

    def _begin(self, frame: bytes, gpa: int) -> None:
        request = lsi_messages.parse_scsi_io(frame)
        status = self._refusal(request)
        segments = []
        if status == lsi_messages.SUCCESS and request.data_bytes:
            try:
                segments = walk(frame, lsi_messages.SGL_AT, request.chain_offset, self._master)
            except SglError:
                status = lsi_messages.INVALID_SGL
            if sum(size for _, size in segments) < request.data_bytes:
                status = lsi_messages.INVALID_SGL
        if status != lsi_messages.SUCCESS:
            self._answer(lsi_messages.scsi_io_reply(frame, 0, lsi_messages.NO_SCSI_STATUS, status, 0, 0))
            return
        to_memory = {lsi_messages.DIRECTION_READ: True, lsi_messages.DIRECTION_WRITE: False}.get(request.direction)
        self._initiator.begin(
            UnderWay(
                self._initiator.free_tag(), request.target, request.lun, request.cdb, to_memory, segments,
                request.data_bytes, frame[: lsi_messages.SGL_AT], self._clock.now_ns,
            ),
            gpa,
        )  # fmt: skip

    def _refusal(self, request: ScsiIo) -> int:
        if request.bus >= lsi_messages.BUSES:
            return lsi_messages.SCSI_INVALID_BUS
        if request.target >= lsi_messages.TARGETS or request.target == lsi_messages.ADAPTER_ID:
            return lsi_messages.SCSI_INVALID_TARGET
        if not 1 <= request.cdb_bytes <= 16:
            return lsi_messages.INVALID_FIELD
        if request.direction == 3 or (request.data_bytes and not request.direction):
            return lsi_messages.INVALID_FIELD
        return lsi_messages.SUCCESS

    def ended(self, command: UnderWay, outcome: Outcome) -> int:
        """A command is over; the IOC status."""
        frame = command.request
        status, state, sense_bytes = lsi_messages.SUCCESS, 0, 0
        if outcome.failure:
            state = lsi_messages.NO_SCSI_STATUS
            status = lsi_messages.SCSI_DATA_ERROR
            if outcome.failure == ABSENT:
                status = lsi_messages.SCSI_NOT_THERE
            elif outcome.failure == ABORTED:
                status, state = lsi_messages.SCSI_TASK_TERMINATED, state | lsi_messages.TERMINATED
        else:
            if outcome.wanted_bytes > command.size_bytes:
                status = lsi_messages.SCSI_OVERRUN
            elif outcome.moved_bytes < command.size_bytes:
                status = lsi_messages.SCSI_UNDERRUN
            sense_bytes = self._write_sense(frame, outcome.sense)
            state = lsi_messages.SENSE_VALID if sense_bytes else 0
        context = lsi_messages.context_of(frame)
        if not (status or outcome.status or state or context >> 31):
            self._complete(context)
            return 0
        self._answer(lsi_messages.scsi_io_reply(frame, outcome.status, state, status, outcome.moved_bytes, sense_bytes))
        return status

    def _write_sense(self, frame: bytes, sense: bytes) -> int:
        """How many bytes of sense data the driver has got."""
        request = lsi_messages.parse_scsi_io(frame)
        part = sense[: request.sense_bytes]
        if not part or not self._master.write(request.sense_gpa | self.state.sense_high << 32, part, "sense"):
            return 0
        return len(part)

    def _manage(self, frame: bytes) -> None:
        target, kind = frame[0], frame[5]
        lun = frame[13] | (frame[12] & 0x3F) << 8
        context = int.from_bytes(frame[TASK_CONTEXT_AT : TASK_CONTEXT_AT + 4], "little")
        abort = self._initiator.abort
        ended, response = 0, lsi_messages.TM_COMPLETE
        if kind == lsi_messages.ABORT_TASK:
            ended = abort(lambda c: c.target == target and lsi_messages.context_of(c.request) == context)
        elif kind == lsi_messages.ABORT_TASK_SET:
            ended = abort(lambda c: c.target == target and c.lun == lun)
        elif kind == lsi_messages.TARGET_RESET:
            ended = abort(lambda c: c.target == target)
            self._bus.reset(target)
        elif kind == lsi_messages.UNIT_RESET:
            ended = abort(lambda c: c.target == target and c.lun == lun)
            self._bus.reset(target, lun)
        elif kind == lsi_messages.BUS_RESET:
            ended = abort(lambda c: True)
            self._bus.reset()
        elif kind == lsi_messages.QUERY_TASK:
            there = any(lsi_messages.context_of(c.request) == context for c in self._initiator.commands)
            response = lsi_messages.TM_SUCCEEDED if there else lsi_messages.TM_COMPLETE
        else:
            response = lsi_messages.TM_NOT_SUPPORTED
        self._answer(lsi_messages.task_reply(frame, response, ended))
        if kind == lsi_messages.BUS_RESET:
            self._bus_was_reset()
