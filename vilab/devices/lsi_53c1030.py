"""LSI Logic 53C1030: the adapter. Its registers are in ``lsi_registers``, its messages in ``lsi_messages``.

::

    REQUEST <- address ─> | posted | ─FIRMWARE_NS─> frame fetched ─┬─ SCSI IO ──> bus ── its time ──┐
                                                                  └─ any other ────────────────────┤
    REPLY <- address ───> | free |  ──────────────> a frame, if there is more to say than "well" ──┤
    REPLY -> value <───── | replies |  <── context or frame address ───────────────────────────────┘
                             └── not empty, not masked: interrupt

Timing, the interrupt pin and the saved record are those of every adapter here: ``scsi_adapter``.

A guest that breaks the rules (an address that leads nowhere, no empty frame for a reply, more requests than IOCFacts
allow) finds the adapter in the state *fault*, with a code in the doorbell; a reset brings it back.
"""

from __future__ import annotations

import msgspec

from vilab.clock import VirtualClock
from vilab.devices import lsi_doorbell, lsi_messages
from vilab.devices.bus_master import SizedMemory
from vilab.devices.lsi_doorbell import DoorbellState
from vilab.devices.lsi_firmware import Firmware, FirmwareState
from vilab.devices.lsi_registers import (
    CLASS_SCSI,
    DEVICE,
    DIAGNOSTIC,
    DIAGNOSTIC_OPEN,
    DOORBELL,
    DOORBELL_INTERRUPT,
    FAULT,
    FAULT_NO_REPLY_FRAME,
    FAULT_REPLY_BUS,
    FAULT_REQUEST_BUS,
    FAULT_TOO_MANY,
    FRAME_ADDRESS,
    FUNCTION_SHIFT,
    IN_USE,
    INT_MASK,
    INT_STATUS,
    INTERRUPTS,
    IO_BYTES,
    IS_FRAME,
    KEYS,
    MEMORY_BYTES,
    NAMES,
    NOTHING,
    OPERATIONAL,
    READY,
    REPLY,
    REPLY_INTERRUPT,
    REQUEST,
    RESET_ADAPTER,
    REVISION,
    STATE_SHIFT,
    SUBSYSTEM,
    VENDOR,
    WAS_RESET,
    WHO_SHIFT,
    WRITE_SEQ,
)
from vilab.devices.pci_adapter import Chip
from vilab.devices.pci_function import Bar
from vilab.devices.scsi_adapter import AdapterState, ScsiHostAdapter
from vilab.devices.scsi_initiator import Outcome, UnderWay
from vilab.events import EventLog
from vilab.protocols import InterruptLine, ScsiBus

MOST_POSTED = lsi_messages.CREDITS
MOST_FREE = lsi_messages.REPLY_FRAMES


class LsiState(AdapterState):
    """``posted``: requests that wait to be fetched, since ``look_ns`` is not over; ``free``: empty reply frames;
    ``replies``: what REPLY reads next."""

    state: int = READY
    fault: int = 0
    doorbell: DoorbellState = msgspec.field(default_factory=DoorbellState)
    firmware: FirmwareState = msgspec.field(default_factory=FirmwareState)
    interrupt_mask: int = INTERRUPTS
    keys: int = 0
    diagnostic: int = 0
    posted: list[int] = msgspec.field(default_factory=list)
    free: list[int] = msgspec.field(default_factory=list)
    replies: list[int] = msgspec.field(default_factory=list)


class Lsi53c1030(ScsiHostAdapter[LsiState]):
    """The adapter. Its messages are carried out by ``firmware``."""

    kind = "lsilogic"
    chip = Chip(VENDOR, DEVICE, CLASS_SCSI, REVISION, SUBSYSTEM, (Bar(IO_BYTES), Bar(MEMORY_BYTES, is_memory=True)))
    state_type = LsiState

    def __init__(
        self, clock: VirtualClock, log: EventLog, line: InterruptLine, memory: SizedMemory, bus: ScsiBus, slot: int
    ) -> None:
        super().__init__(clock, log, line, memory, bus, slot)
        self.firmware = Firmware(clock, bus, self._master, self._initiator, self._answer, self._complete)
        self.firmware.state = self._state.firmware

    # --- registers ----------------------------------------------------------------------------------------------------

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        register = offset & ~3
        value = self._read(register) if offset + size_bytes <= register + 4 else NOTHING
        return value >> 8 * (offset & 3) & (1 << 8 * size_bytes) - 1

    def _read(self, register: int) -> int:
        s = self._state
        if register == DOORBELL:
            data = s.fault if s.state == FAULT else lsi_doorbell.read(s.doorbell)
            in_use = IN_USE if s.doorbell.in_use else 0
            return s.state << STATE_SHIFT | in_use | s.firmware.who << WHO_SHIFT | data
        if register == INT_STATUS:
            return self._pending()
        if register == INT_MASK:
            return s.interrupt_mask
        if register == DIAGNOSTIC:
            return s.diagnostic
        if register == REPLY:
            return self._next_reply()
        return 0 if register not in NAMES else NOTHING

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        """Only whole registers can be written."""
        if size_bytes != 4 or offset not in NAMES:
            return
        self._report_write(NAMES[offset], value)
        s = self._state
        if offset == DOORBELL:
            self._ring(value)
        elif offset == INT_STATUS:
            lsi_doorbell.acknowledge(s.doorbell)
        elif offset == INT_MASK:
            s.interrupt_mask = value & INTERRUPTS
        elif offset == REQUEST:
            self._post(value & FRAME_ADDRESS)
        elif offset == REPLY:
            self._take_frame(value)
        elif offset == WRITE_SEQ:
            self._key(value & 0xF)
        elif offset == DIAGNOSTIC and s.diagnostic & DIAGNOSTIC_OPEN:
            self._diagnose(value)
        self._drive()

    def _pending(self) -> int:
        s = self._state
        return (DOORBELL_INTERRUPT if s.doorbell.interrupt else 0) | (REPLY_INTERRUPT if s.replies else 0)

    def _interrupting(self) -> bool:
        return bool(self._pending() & ~self._state.interrupt_mask)

    def _next_reply(self) -> int:
        s = self._state
        if not s.replies:
            return NOTHING
        value = s.replies.pop(0)
        self._drive()
        return value

    def _key(self, key: int) -> None:
        s = self._state
        s.keys = s.keys + 1 if key == KEYS[s.keys] else int(key == KEYS[0])
        s.diagnostic &= ~DIAGNOSTIC_OPEN
        if s.keys == len(KEYS):
            s.keys = 0
            s.diagnostic |= DIAGNOSTIC_OPEN

    def _diagnose(self, value: int) -> None:
        s = self._state
        if value & RESET_ADAPTER:
            self._reset()
            self._state.diagnostic = WAS_RESET
        elif not value & WAS_RESET:
            s.diagnostic &= ~WAS_RESET

    # --- the doorbell -------------------------------------------------------------------------------------------------

    def _ring(self, value: int) -> None:
        s = self._state
        if s.doorbell.expected:
            if lsi_doorbell.take(s.doorbell, value):
                self._look_soon()
            return
        function = value >> FUNCTION_SHIFT
        if function == lsi_messages.HANDSHAKE:
            lsi_doorbell.begin(s.doorbell, value >> 16 & 0xFF)
        elif function in (lsi_messages.UNIT_RESET_MESSAGE, lsi_messages.IO_UNIT_RESET):
            self._reset()
        elif function == lsi_messages.REMOVE_REPLY_FRAMES:
            s.free.clear()

    def _reset(self) -> None:
        """Ready, with nothing under way and nothing in any queue."""
        self.firmware.reset()
        parameters = self._state.firmware.parameters
        line = self._state.line
        self._state = LsiState(firmware=FirmwareState(parameters=parameters), line=line)
        self.firmware.state = self._state.firmware
        self._stop_looking()

    def _fail(self, code: int) -> None:
        """Fault: the adapter does nothing any more until it is reset."""
        s = self._state
        self.firmware.reset()
        s.state, s.fault = FAULT, code
        s.posted.clear()
        self._stop_looking()

    # --- the queues ---------------------------------------------------------------------------------------------------

    def _post(self, gpa: int) -> None:
        s = self._state
        if s.state == FAULT:
            return
        if len(s.posted) + len(self._initiator.commands) >= MOST_POSTED:
            self._fail(FAULT_TOO_MANY)
            return
        s.posted.append(gpa)
        self._look_soon()

    def _take_frame(self, gpa: int) -> None:
        s = self._state
        if s.state == FAULT:
            return
        if len(s.free) >= MOST_FREE:
            self._fail(FAULT_TOO_MANY)
            return
        s.free.append(gpa)

    def _look(self) -> None:
        s = self._state
        if s.doorbell.message and not s.doorbell.expected:
            self._handshake()
        posted, s.posted = s.posted, []
        for gpa in posted:
            if self._state.state == FAULT:
                break
            frame = self._master.read(gpa | s.firmware.frames_high << 32, lsi_messages.FRAME_BYTES)
            if frame is None:
                self._fail(FAULT_REQUEST_BUS)
            else:
                self.firmware.execute(frame, gpa, operational=s.state == OPERATIONAL)
        self._drive()

    def _handshake(self) -> None:
        s = self._state
        message = s.doorbell.message.ljust(lsi_messages.FRAME_BYTES, b"\0")
        reply = self.firmware.execute_handshake(message, s.state == OPERATIONAL)
        if reply is None:
            lsi_doorbell.close(s.doorbell)
            return
        if self.firmware.initialized:
            s.state, self.firmware.initialized = OPERATIONAL, False
        lsi_doorbell.answer(s.doorbell, reply)

    def _ended(self, command: UnderWay, outcome: Outcome) -> int:
        return self.firmware.ended(command, outcome)

    def _complete(self, context: int) -> None:
        """It went well: the context is the whole answer."""
        s = self._state
        if len(s.replies) >= MOST_FREE:
            self._fail(FAULT_TOO_MANY)
        elif s.state != FAULT:
            s.replies.append(context)
        self._drive()

    def _answer(self, message: bytes) -> None:
        """A reply that needs a frame."""
        s = self._state
        if s.state == FAULT:
            return
        if not s.free:
            self._fail(FAULT_NO_REPLY_FRAME)
        elif len(s.replies) >= MOST_FREE:
            self._fail(FAULT_TOO_MANY)
        else:
            gpa = s.free.pop(0)
            room = s.firmware.reply_bytes or len(message)
            if self._master.write(gpa | s.firmware.frames_high << 32, message[:room]):
                s.replies.append(IS_FRAME | gpa >> 1)
            else:
                self._fail(FAULT_REPLY_BUS)
        self._drive()

    # --- state --------------------------------------------------------------------------------------------------------

    def load_state(self, state: LsiState) -> None:
        super().load_state(state)
        self.firmware.state = self._state.firmware
