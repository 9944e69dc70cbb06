"""The commands of a vmxnet3: what the driver writes to CMD, and what it reads there at once.

::

    CMD <- cafe0000 + n    change something:  0 is the answer, or FAILED
    CMD <- f00d0000 + n    tell something:    in CMD, or in memory: counters, the status of queues

    ACTIVATE_DEV    | DriverShared | ──> | queue descriptors | ──> rings, all checked ──> active
    QUIESCE_DEV     no ring is touched any more; counters stay
    RESET_DEV       as after power-on, but for the version that was agreed on

A driver reads CMD in the next instruction, and frees the table of multicast addresses after that: what a command needs
is read from memory at once, in the middle of the access to CMD, as no other adapter here does it. What a command writes
is written before the processor's next block of code (``due``).

MODEL: wake-up packets, receive-side scaling, plug-ins and interrupt moderation are taken and have no effect.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.devices import vmxnet3_layout as layout
from vilab.devices import vmxnet3_registers as registers
from vilab.devices import vmxnet3_rx, vmxnet3_tx
from vilab.devices.bus_master import BusMaster
from vilab.devices.network_adapter import NetworkAdapterState
from vilab.devices.vmxnet3_filter import Filter, FilterState
from vilab.devices.vmxnet3_registers import FAILED, UNKNOWN

DUE_EVENTS, DUE_STATUS, DUE_COUNTERS, DUE_THRESHOLDS, DUE_COALESCING = (1 << bit for bit in range(5))
COALESCING_BYTES, MOST_COALESCING_MODES = 16, 4


class Vmxnet3State(NetworkAdapterState):
    """``mac``: what the driver has programmed. ``answer``: what CMD reads. ``masked``, ``pending``, ``asserted``: a
    bit for each interrupt. ``raised``: events that are not in memory yet, ``events``: those that are. ``due``: what is
    to be written to memory. ``link_up``: as the driver was told."""

    mac: bytes = b""
    shared_gpa: int = 0
    version: int = 1
    answer: int = 0
    active: bool = False
    features: int = 0
    mtu: int = 1500
    filter: FilterState = msgspec.field(default_factory=FilterState)
    tx: list[vmxnet3_tx.TxState] = msgspec.field(default_factory=list)
    rx: vmxnet3_rx.RxState | None = None
    auto_mask: bool = False
    event_interrupt: int = 0
    masked: int = (1 << registers.MOST_INTERRUPTS) - 1
    pending: int = 0
    asserted: int = 0
    raised: int = 0
    events: int = 0
    due: int = 0
    coalescing: bytes = bytes(COALESCING_BYTES)
    coalescing_gpa: int = 0
    link_up: bool = False


def activate(s: Vmxnet3State, filtering: Filter, master: BusMaster) -> bool:
    """Take everything from DriverShared. False: something there is out of range or reach, and nothing has changed."""
    data = master.read(s.shared_gpa, layout.SHARED_BYTES) if s.shared_gpa else None
    shared = layout.parse_shared(data) if data is not None else None
    if data is None or shared is None:
        return False
    table = master.read(shared.queues_gpa, (shared.tx_queues + shared.rx_queues) * layout.QUEUE_BYTES)
    if table is None:
        return False
    confs = [layout.parse_queue(table[at : at + layout.QUEUE_BYTES]) for at in range(0, len(table), layout.QUEUE_BYTES)]
    places = range(shared.queues_gpa, shared.queues_gpa + len(table), layout.QUEUE_BYTES)
    tx = [
        vmxnet3_tx.queue_of(conf, gpa, shared.interrupts, master)
        for conf, gpa in zip(confs[: shared.tx_queues], places, strict=False)
    ]
    rx = vmxnet3_rx.queue_of(
        confs[shared.tx_queues], places[shared.tx_queues], shared.rx_queues, shared.interrupts, shared.most_buffers,
        s.version, master,
    )  # fmt: skip
    good = [queue for queue in tx if queue is not None]
    if rx is None or len(good) < len(tx) or not filtering.take_multicast(data, master):
        return False
    for queue, before in zip(good, s.tx, strict=False):
        queue.counters = before.counters
    rx.counters = s.rx.counters if s.rx is not None else rx.counters
    filtering.take_mode(data)
    filtering.take_vlans(data)
    s.features, s.mtu, s.auto_mask = shared.features, shared.mtu, shared.auto_mask
    s.event_interrupt = shared.event_interrupt
    s.tx, s.rx, s.active = good, rx, True
    s.raised = s.events = s.pending = s.asserted = 0
    return True


def quiesce(s: Vmxnet3State) -> None:
    s.active = False
    s.raised = s.pending = s.asserted = 0
    s.due &= ~(DUE_EVENTS | DUE_THRESHOLDS)


def pay_dues(s: Vmxnet3State, write: Callable[[int, bytes], bool]) -> None:
    """Write to memory what is to be written there."""
    due, s.due = s.due, 0
    if due & DUE_EVENTS:
        write(s.shared_gpa + layout.ECR_AT, s.events.to_bytes(4, "little"))
    if due & DUE_THRESHOLDS:
        for each in s.tx:
            write(each.conf_gpa + layout.THRESHOLD_AT, each.threshold.to_bytes(4, "little"))
    queues: list[vmxnet3_tx.TxState | vmxnet3_rx.RxState] = [*s.tx, *([s.rx] if s.rx is not None else [])]
    for queue in queues:
        if due & DUE_STATUS:
            write(queue.conf_gpa + layout.STATUS_AT, layout.queue_status(queue.error))
        if due & DUE_COUNTERS:
            write(queue.conf_gpa + layout.COUNTERS_AT, layout.COUNTERS.pack(*queue.counters))
    if due & DUE_COALESCING:
        write(s.coalescing_gpa, s.coalescing)


class Commands:
    """Carries commands out. ``reset``: RESET_DEV; ``changed``: the filter is another one."""

    def __init__(self, master: BusMaster, reset: Callable[[], None], changed: Callable[[], None]) -> None:
        self._master, self._reset, self._changed = master, reset, changed

    def carry_out(self, s: Vmxnet3State, command: int, filtering: Filter, address: bytes) -> int:
        """The answer. ``address``: the one burnt in."""
        if command >= registers.GET:
            return self._get(s, command, address)
        if command == registers.ACTIVATE_DEV:
            done = activate(s, filtering, self._master)
            s.due |= DUE_EVENTS | DUE_STATUS | DUE_THRESHOLDS if done else 0
            self._changed()
            return 0 if done else FAILED
        if command == registers.QUIESCE_DEV:
            quiesce(s)
            self._changed()
            return 0
        if command == registers.RESET_DEV:
            self._reset()
            return 0
        if command == registers.SET_COALESCE:
            return self._set_coalescing(s)
        if command in range(registers.UPDATE_RX_MODE, registers.UPDATE_FEATURE + 1):
            return self._update(s, command, filtering) if s.active else 0  # activation reads all of it
        return 0 if command == registers.LOAD_PLUGIN else UNKNOWN

    def _update(self, s: Vmxnet3State, command: int, filtering: Filter) -> int:
        shared = self._master.read(s.shared_gpa, layout.SHARED_BYTES)
        if shared is None:
            return FAILED
        if command == registers.UPDATE_RX_MODE:
            filtering.take_mode(shared)
        elif command == registers.UPDATE_VLAN_FILTERS:
            filtering.take_vlans(shared)
        elif command == registers.UPDATE_FEATURE:
            s.features = int.from_bytes(shared[layout.FEATURES_AT : layout.FEATURES_AT + 8], "little")
        elif command == registers.UPDATE_MAC_FILTERS and not filtering.take_multicast(shared, self._master):
            return FAILED
        self._changed()
        return 0

    def _get(self, s: Vmxnet3State, command: int, address: bytes) -> int:
        if command == registers.GET_QUEUE_STATUS:
            s.due |= DUE_STATUS
        elif command == registers.GET_STATS:
            s.due |= DUE_COUNTERS
        elif command == registers.GET_COALESCE:
            return self._get_coalescing(s)
        return {
            registers.GET_QUEUE_STATUS: 0,
            registers.GET_STATS: 0,
            registers.GET_LINK: registers.LINK_UP if s.link_up else 0,
            registers.GET_PERM_MAC_LO: int.from_bytes(address[:4], "little"),
            registers.GET_PERM_MAC_HI: int.from_bytes(address[4:], "little"),
            registers.GET_DID_LO: registers.DEVICE,
            registers.GET_DID_HI: registers.REVISION,
            registers.GET_DEV_EXTRA_INFO: 0,
            registers.GET_CONF_INTR: registers.INTX_AUTO_MASK,
            registers.GET_TXDATA_DESC_SIZE: registers.TX_DATA_BYTES,
        }.get(command, UNKNOWN)

    def _variable(self, s: Vmxnet3State) -> int | None:
        """Address of what a command carries."""
        data = self._master.read(s.shared_gpa + layout.COMMAND_AT, layout.VARIABLE.size) if s.shared_gpa else None
        if data is None:
            return None
        _, size_bytes, gpa = layout.VARIABLE.unpack(data)
        good = size_bytes >= COALESCING_BYTES and self._master.reaches(gpa, COALESCING_BYTES)
        return int(gpa) if good else None

    def _set_coalescing(self, s: Vmxnet3State) -> int:
        gpa = self._variable(s)
        data = self._master.read(gpa, COALESCING_BYTES) if gpa is not None else None
        if s.version < 3 or data is None or int.from_bytes(data[:4], "little") >= MOST_COALESCING_MODES:
            return FAILED
        s.coalescing = data
        return 0

    def _get_coalescing(self, s: Vmxnet3State) -> int:
        gpa = self._variable(s)
        if s.version < 3 or gpa is None:
            return UNKNOWN
        s.coalescing_gpa, s.due = gpa, s.due | DUE_COALESCING
        return 0
