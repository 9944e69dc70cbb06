"""vmxnet3, VMware's own network card: the card. Registers are in ``vmxnet3_registers``, the rest of the interface in
``vmxnet3_layout``.

::

    CMD ──> commands: read memory at once ──> due ─at once──> _look ──> counters, events, thresholds into memory
    TXPROD ────────────────────────────FIRMWARE_NS──────────> _look ──> transmit queues ──> port
                                                              ^    │
                                            POLL_NS later ────┴────┘  while frames come one behind the other

    port ──> receive ──> filter ──> tag out, checksums ──> receive queue ──> interrupt

How exits are saved: a frame that comes soon after the one before raises the threshold in shared memory. The driver then
fills descriptors and does not write TXPROD; the card looks at the ring by itself, until nothing came for ``IDLE_NS``::

    threshold  1 ──(two packets within IDLE_NS)──> BUSY_THRESHOLD ──(nothing for IDLE_NS)──> 1

Nothing is lost in between: the driver reads the threshold after it has handed its descriptor over.

Interrupts, by the pin::

    happens ──> pending ──(not masked)──> asserted ──> pin high       auto-mask: masked as well, in the same moment
                   ^ waits while masked      └── ICR read: pin low    the driver unmasks when it has polled enough
"""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.devices import vmxnet3_layout as layout
from vilab.devices import vmxnet3_registers as registers
from vilab.devices import vmxnet3_rx
from vilab.devices.bus_master import SizedMemory
from vilab.devices.network_adapter import NetworkAdapter
from vilab.devices.network_events import Refusal
from vilab.devices.pci_adapter import FIRMWARE_NS, Chip
from vilab.devices.pci_function import Bar
from vilab.devices.vmxnet3_commands import DUE_EVENTS, DUE_THRESHOLDS, Commands, Vmxnet3State, pay_dues, quiesce
from vilab.devices.vmxnet3_filter import Filter
from vilab.devices.vmxnet3_offload import checks
from vilab.devices.vmxnet3_tx import Transmitter
from vilab.events import EventLog
from vilab.network import ethernet
from vilab.network.ethernet import HEADER_BYTES, TAG_BYTES
from vilab.protocols import InterruptLine, NetworkPort

POLL_NS, IDLE_NS = 40_000, 160_000
"""MODEL: how often the card looks at a ring that has something to send, and when it stops looking."""
BUSY_THRESHOLD = 256
"""Frames: more than come within POLL_NS."""


class Vmxnet3(NetworkAdapter[Vmxnet3State]):
    """The card."""

    chip = Chip(
        registers.VENDOR, registers.DEVICE, registers.CLASS_ETHERNET, registers.REVISION, registers.SUBSYSTEM,
        (Bar(registers.WINDOW_BYTES, is_memory=True), Bar(registers.WINDOW_BYTES, is_memory=True)),
    )  # fmt: skip
    state_type = Vmxnet3State

    def __init__(
        self, clock: VirtualClock, log: EventLog, line: InterruptLine, memory: SizedMemory, port: NetworkPort,
        address: bytes, slot: int,
    ) -> None:  # fmt: skip
        super().__init__(clock, log, line, memory, port, address, slot)
        self._state.mac, self._state.link_up = address, port.link_up
        self._filter = Filter(self._state.filter)
        self._commands = Commands(self._master, self._reset, self._listen)
        self._transmitter = Transmitter(
            self._master,
            lambda gpa, descriptors, frames: self._send(gpa, descriptors, *frames),
            lambda why, size_bytes: self._refused(why, size_bytes, received=False),
        )
        self._receiver = vmxnet3_rx.Receiver(self._master)

    # --- registers ----------------------------------------------------------------------------------------------------

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        register = offset & ~3
        value = 0
        if offset + size_bytes <= register + 4:
            value = self._read_setup(register) if index else self._read_data(register)
        return value >> 8 * (offset & 3) & (1 << 8 * size_bytes) - 1

    def _read_data(self, register: int) -> int:
        number = register // registers.STEP_BYTES
        return self._state.masked >> number & 1 if not register & 7 and number < registers.MOST_INTERRUPTS else 0

    def _read_setup(self, register: int) -> int:
        s = self._state
        if register == registers.ICR:
            asserted, s.asserted = s.asserted, 0
            self._drive()
            return int(asserted != 0)
        return {
            registers.VRRS: registers.VERSIONS,
            registers.UVRS: registers.LAYOUT_VERSIONS,
            registers.DSAL: s.shared_gpa & 0xFFFF_FFFF,
            registers.DSAH: s.shared_gpa >> 32,
            registers.CMD: s.answer,
            registers.MACL: int.from_bytes(s.mac[:4], "little"),
            registers.MACH: int.from_bytes(s.mac[4:], "little"),
        }.get(register, 0)

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        """Only whole registers can be written."""
        if size_bytes != 4 or offset & 7:
            return
        if index:
            self._write_setup(offset, value)
        else:
            self._write_data(offset, value)

    def _write_data(self, offset: int, value: int) -> None:
        number = offset // registers.STEP_BYTES
        if number < registers.MOST_INTERRUPTS:
            self._report_write(f"IMR{number}", value)
            self._mask(number, bool(value & 1))
        elif registers.TXPROD <= offset < registers.TXPROD + registers.STEP_BYTES * registers.MOST_TX_QUEUES:
            self._report_write(f"TXPROD{(offset - registers.TXPROD) // registers.STEP_BYTES}", value)
            if self._state.active:
                self._look_by(self._clock.now_ns + FIRMWARE_NS)

    def _write_setup(self, offset: int, value: int) -> None:
        s = self._state
        if offset not in registers.SETUP_NAMES:
            return
        self._report_write(registers.SETUP_NAMES[offset], value)
        if offset == registers.CMD:
            s.answer = self._commands.carry_out(s, value, self._filter, self.address)
            self._state.answer = s.answer
        elif offset == registers.ECR:
            s.events &= ~value
            s.due |= DUE_EVENTS if s.active else 0
        elif offset == registers.VRRS and value.bit_count() == 1 and value & registers.VERSIONS:
            s.version = value.bit_length()
        elif offset == registers.DSAL:
            if not value:
                quiesce(s)
                s.due = 0
                self._listen()
            s.shared_gpa = s.shared_gpa & ~0xFFFF_FFFF | value
        elif offset == registers.DSAH:
            s.shared_gpa = s.shared_gpa & 0xFFFF_FFFF | value << 32
        elif offset == registers.MACL:
            s.mac = value.to_bytes(4, "little") + s.mac[4:]
            self._listen()
        elif offset == registers.MACH:
            s.mac = s.mac[:4] + (value & 0xFFFF).to_bytes(2, "little")
            self._listen()
        if self._state.due:
            self._look_by(self._clock.now_ns)
        self._drive()

    def _reset(self) -> None:
        """As after power-on, but for version and place of what is shared; the pin follows when CMD has been written."""
        before = self._state
        self._stop_looking()
        self._state = Vmxnet3State(
            address=self.address, mac=self.address, shared_gpa=before.shared_gpa, version=before.version,
            link_up=self.port.link_up, line=before.line,
        )  # fmt: skip
        self._filter.load(self._state.filter)
        self._listen()

    # --- interrupts ---------------------------------------------------------------------------------------------------

    def _mask(self, number: int, masked: bool) -> None:
        s, bit = self._state, 1 << number
        s.masked = s.masked | bit if masked else s.masked & ~bit
        if masked and s.asserted & bit:
            s.asserted, s.pending = s.asserted & ~bit, s.pending | bit
        self._interrupt(0)

    def _interrupt(self, bits: int) -> None:
        s = self._state
        s.pending |= bits
        ready = s.pending & ~s.masked
        s.pending, s.asserted = s.pending & ~ready, s.asserted | ready
        if s.auto_mask:
            s.masked |= ready
        self._drive()

    def _interrupting(self) -> bool:
        return bool(self._state.asserted)

    # --- the card's own processor -------------------------------------------------------------------------------------

    def _look_by(self, at_ns: int) -> None:
        """Look then, or earlier if that was agreed already."""
        at_ns = max(at_ns, 1)
        if self._timer is not None:
            if self._state.look_ns <= at_ns:
                return
            self._timer.cancel()
        self._look_at(at_ns)

    def _look(self) -> None:
        s = self._state
        if s.active:
            self._transmit()
        if s.raised:
            s.events, s.due = s.events | s.raised, s.due | DUE_EVENTS
        if s.due:
            pay_dues(s, self._master.write)
        if s.raised:
            s.raised = 0
            self._interrupt(1 << s.event_interrupt)

    def _transmit(self) -> None:
        s, now_ns, interrupts, again_ns = self._state, self._clock.now_ns, 0, 0
        for queue in s.tx:
            if queue.error:
                continue
            done = self._transmitter.work(queue, s.mtu, s.link_up)
            interrupts |= done.completed << queue.interrupt
            if done.failed:
                s.raised |= registers.TQERR
                continue
            busy = bool(queue.sent_ns) and now_ns - queue.sent_ns < IDLE_NS
            if done.packets:
                queue.sent_ns = now_ns
            threshold = BUSY_THRESHOLD if busy else 1
            if threshold != queue.threshold:
                queue.threshold = threshold
                s.due |= DUE_THRESHOLDS
            if done.more or busy:
                at_ns = now_ns + (FIRMWARE_NS if done.more else POLL_NS)
                again_ns = min(again_ns or at_ns, at_ns)
        if again_ns:
            self._look_by(again_ns)
        if interrupts:
            self._interrupt(interrupts)

    # --- the port -----------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        why = self._receive(frame)
        if why is not None:
            self._refused(why, len(frame))

    def _receive(self, frame: bytes) -> Refusal | None:
        s, queue = self._state, self._state.rx
        if not s.active or queue is None or queue.stopped() or not s.link_up:
            return "off"
        if len(frame) < HEADER_BYTES:
            queue.counters[vmxnet3_rx.ERRORS] += 1
            return "too_short"
        if not self._filter.takes(frame, s.mac):
            return "filter"
        if len(frame) > HEADER_BYTES + TAG_BYTES + s.mtu:
            queue.counters[vmxnet3_rx.ERRORS] += 1
            return "too_long"
        tag, inner = None, frame
        if s.features & layout.F_RX_VLAN and ethernet.vlan_of(frame) is not None:
            tag, inner = frame[14] << 8 | frame[15], ethernet.untagged(frame)
        verdict = checks(inner) if s.features & layout.F_RX_CHECKSUM else None
        stored = self._receiver.store(queue, inner, tag, verdict)
        if isinstance(stored, str):
            if queue.stopped():
                s.raised |= registers.RQERR
                self._look_by(self._clock.now_ns)
            elif stored == "bad_descriptor":
                self._interrupt(1 << queue.interrupt)
            return stored
        _count(queue.counters, frame)
        self._stored(*stored, frame)
        self._interrupt(1 << queue.interrupt)
        return None

    def link_changed(self, up: bool) -> None:
        s = self._state
        if up == s.link_up:
            return
        s.link_up = up
        if s.active:
            s.raised |= registers.LINK
            self._look_by(self._clock.now_ns)

    def wants_multicast(self, destination: bytes) -> bool:
        return self._state.active and self._filter.wants_group(destination)

    def _listening(self) -> tuple[bytes, bool]:
        s = self._state
        return s.mac, s.active and self._filter.promiscuous

    # --- state --------------------------------------------------------------------------------------------------------

    def _loaded(self) -> None:
        s = self._state
        self._filter.load(s.filter)
        super()._loaded()
        if s.link_up != self.port.link_up:
            s.link_up = self.port.link_up
            if s.active:
                s.raised |= registers.LINK
                s.look_ns = max(1, self._clock.now_ns)


def _count(counters: list[int], frame: bytes) -> None:
    kind = vmxnet3_rx.UNICAST_FRAMES
    if ethernet.is_group(frame):
        kind = vmxnet3_rx.BROADCAST_FRAMES if frame[:6] == ethernet.BROADCAST else vmxnet3_rx.MULTICAST_FRAMES
    counters[kind] += 1
    counters[kind + 1] += len(frame)
