"""A parallel SCSI bus with disks on it: what a host adapter's registers lead to.

::

    SCSI id    0      1      2    ...    7    ...   15
               |      |      |           |
    ═══════════╪══════╪══════╪═══════════╪═══════════════
             disk   disk   nobody     the adapter

Each disk is a target of its own with one logical unit, LUN 0. A command takes the time that ``Latency`` says, and
commands to one disk wait for each other::

    begin at 0   |== read 8 blocks ==|                         done: 5.6 ms
    begin at 1                       |== write, sequential ==|  done: 5.8 ms
    begin at 2   INQUIRY: no arm has to move, 20 us             done: 2.02 ms

The disk is touched when the adapter says that the time has come (``finish``) and at no other moment, so a command
that was withdrawn has not happened at all. Where the disk is *away* (a file server or the last path to a LUN does not
answer) reads, writes and flushes are tried again every second: the guest sees a disk that takes long.

A LUN behind a physical raw device mapping gets the guest's commands as they are.

``statistics`` has for each disk what its arm has done, from power-on, from the resumption of a saved
machine, or from ``restart_statistics``.

MODEL: when a command is withdrawn, those behind it do not move forward.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disk_statistics import DiskStatistics, Ending, Operation
from vilab.storage.scsi.blocks import MAX_TRANSFER_BYTES
from vilab.storage.scsi.cdb import decode
from vilab.storage.scsi.passthrough import PassthroughDisk, PassthroughUnit
from vilab.storage.scsi.request import Response
from vilab.storage.scsi.sense import ScsiError, Status
from vilab.storage.scsi.state import Identity, Nexus, TargetState
from vilab.storage.scsi.target import Target, TaskFunction
from vilab.storage.scsi.unit import AWAY
from vilab.storage.timed import AWAY_RETRY_NS, Latency

TARGETS = 16
ADAPTER_ID = 7
MOST_DISKS = TARGETS - 1
ELECTRONICS_NS = 20_000
"""MODEL: a command that moves no arm and waits for no other: INQUIRY, MODE SENSE, TEST UNIT READY."""

READS, WRITES = frozenset({0x08, 0x28, 0xA8, 0x88}), frozenset({0x0A, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE, 0x8E})
FLUSHES, UNMAPS = frozenset({0x35, 0x91}), frozenset({0x42})


INQUIRY = b"\x12"
VERSION_AT, SCSI_2 = 2, 0x02
TRANSFER_AT, SYNCHRONOUS_WIDE = 7, 0x30
CLOCKING_AT, ULTRA320 = 56, 0x0F
"""INQUIRY, SPC-2 7.3.2: SYNC and WBUS16 in byte 7; in byte 56 clocking on both edges, QAS, information units."""


class DiskQueue(msgspec.Struct):
    """``free_ns``: when each lane has served what it was given; ``arm_bytes``: where the last request ends."""

    free_ns: list[int]
    arm_bytes: int = -1


class ParallelState(msgspec.Struct):
    targets: dict[int, TargetState]
    queues: dict[int, DiskQueue]


class Movement(msgspec.Struct, frozen=True):
    """What a CDB means to the disk's mechanics."""

    operation: Operation
    offset_bytes: int
    size_bytes: int


class Served(msgspec.Struct, frozen=True):
    """A command that the mechanics have to do with, as long as it is under way."""

    movement: Movement
    submitted_ns: int
    begun_ns: int


def movement(cdb: bytes) -> Movement | None:
    """``None`` for what no arm has to move for, and for what is not a command at all."""
    opcode = cdb[0] if cdb else 0
    if opcode in FLUSHES:
        return Movement("flush", 0, 0)
    if opcode in UNMAPS:
        return Movement("unmap", 0, 0)
    if opcode not in READS and opcode not in WRITES:
        return None
    try:
        decoded = decode(cdb)
    except ScsiError:
        return None
    blocks = decoded.value("blocks")
    if not blocks and decoded.command.length == 6:
        blocks = 256
    if blocks * SECTOR_BYTES > MAX_TRANSFER_BYTES:
        return None  # it will be refused
    operation: Operation = "read" if opcode in READS else "write"
    return Movement(operation, decoded.value("lba") * SECTOR_BYTES, blocks * SECTOR_BYTES)


def _of_parallel_scsi(cdb: bytes, response: Response) -> Response:
    """Standard INQUIRY data as VMware's disks behind an adapter have it: SCSI-2, and what only a parallel bus has.

    A guest does not ask a SCSI-2 disk for VPD pages, and so finds no thin provisioning: commands of 16 bytes, which
    not every adapter can send, stay away.
    """
    data = bytearray(response.data_in)
    if len(cdb) < 2 or cdb[1] & 1 or not data or data[0] & 0xE0:
        return response  # a page of vital product data, or nobody is there
    if len(data) > VERSION_AT:
        data[VERSION_AT] = SCSI_2
    for at, bits in ((TRANSFER_AT, SYNCHRONOUS_WIDE), (CLOCKING_AT, ULTRA320)):
        if at < len(data):
            data[at] |= bits
    return msgspec.structs.replace(response, data_in=bytes(data))


class ParallelBus:
    """The bus, ``vilab.protocols.ScsiBus`` to its adapter.

    Parameters
    ----------
    disks : SCSI id -> (disk, what INQUIRY says of it).
    latency : of each disk.
    """

    def __init__(
        self,
        disks: Mapping[int, tuple[BlockDevice, Identity]],
        clock: VirtualClock,
        log: EventLog,
        latency: Latency | None = None,
        initiator: str = "vmhba0",
    ) -> None:
        self.clock, self.latency = clock, latency or Latency()
        self.nexus = Nexus(initiator)
        self.targets: dict[int, Target] = {}
        self.statistics: dict[int, DiskStatistics] = {}
        self._queues: dict[int, DiskQueue] = {}
        self._served: dict[int, dict[int, Served]] = {}
        for number, (device, identity) in disks.items():
            if not 0 <= number < TARGETS or number == ADAPTER_ID:
                raise AdminError(f"No disk can have the SCSI id {number}: 0 to 15 are possible, {ADAPTER_ID} is taken.")
            self.targets[number] = Target(clock, log)
            self.targets[number].add(0, device, identity, thin=False)
            if isinstance(device, PassthroughDisk):
                PassthroughUnit(device, self.targets[number])
            self.targets[number].connect(self.nexus)
            self._queues[number] = DiskQueue([0] * self.latency.lanes)
            self.statistics[number], self._served[number] = DiskStatistics(), {}

    def restart_statistics(self) -> None:
        """Count from zero; what is under way will still be counted."""
        self.statistics = {number: DiskStatistics() for number in self.targets}

    def present(self, target: int) -> bool:
        return target in self.targets

    def begin(self, target: int, lun: int, tag: int, cdb: bytes) -> tuple[int, int]:
        task = self.targets[target].begin(self.nexus, lun, tag, cdb)
        moved = movement(cdb) if lun == 0 else None
        if moved is None:
            return task.data_out_bytes, self.clock.now_ns + ELECTRONICS_NS
        begun_ns, due_ns = self._serve(self._queues[target], moved)
        self._served[target][tag] = Served(moved, self.clock.now_ns, begun_ns)
        self.statistics[target].queued(len(self._served[target]))
        return task.data_out_bytes, due_ns

    def _serve(self, queue: DiskQueue, moved: Movement) -> tuple[int, int]:
        """When the disk begins with it and when it will be done; the queue knows of it from now on."""
        sequential = moved.offset_bytes == queue.arm_bytes
        duration_ns = self.latency.duration_ns(moved.operation, moved.size_bytes, sequential)
        if moved.operation == "flush":  # waits for all before it, and all after it wait
            begun_ns = max(self.clock.now_ns, *queue.free_ns)
            queue.free_ns = [begun_ns + duration_ns] * len(queue.free_ns)
            return begun_ns, begun_ns + duration_ns
        lane = queue.free_ns.index(min(queue.free_ns))
        begun_ns = max(self.clock.now_ns, queue.free_ns[lane])
        queue.free_ns[lane] = begun_ns + duration_ns
        if moved.operation != "unmap":
            queue.arm_bytes = moved.offset_bytes + moved.size_bytes
        return begun_ns, begun_ns + duration_ns

    def _ended(self, target: int, tag: int, how: Ending) -> None:
        served = self._served.get(target, {}).pop(tag, None)
        if served is not None:
            moved = served.movement
            self.statistics[target].ended(
                moved.operation, moved.size_bytes, served.submitted_ns, served.begun_ns, self.clock.now_ns, how
            )

    def finish(self, target: int, tag: int, data_out: ReadableBytes) -> Response | int | None:
        task = next((t for t in self.targets[target].tasks if t.tag == tag and t.nexus == self.nexus), None)
        if task is None:
            self._ended(target, tag, "cancelled")
            return None
        response = self.targets[target].finish(task, data_out)
        if response is not None and response.sense is AWAY and movement(task.cdb) is not None:
            self.targets[target].tasks.append(task)
            return self.clock.now_ns + AWAY_RETRY_NS
        good = response is not None and response.status == Status.GOOD
        self._ended(target, tag, "done" if good else "cancelled" if response is None else "failed")
        return response if response is None or task.cdb[:1] != INQUIRY else _of_parallel_scsi(task.cdb, response)

    def abort(self, target: int, tag: int) -> bool:
        there = self.targets.get(target)
        task = None if there is None else next((t for t in there.tasks if t.tag == tag), None)
        if there is None or task is None:
            return False
        there.manage(self.nexus, TaskFunction.ABORT_TASK, task.lun, tag)
        self._ended(target, tag, "cancelled")
        return True

    def reset(self, target: int | None = None, lun: int | None = None) -> None:
        chosen = [target] if target is not None else list(self.targets)
        for number in chosen:
            there = self.targets.get(number)
            if there is None:
                continue
            function = TaskFunction.TARGET_RESET if lun is None else TaskFunction.LOGICAL_UNIT_RESET
            there.manage(self.nexus, function, lun)
            if lun in (None, 0):
                for tag in list(self._served[number]):
                    self._ended(number, tag, "cancelled")
                self._queues[number].free_ns = [0] * self.latency.lanes

    def flush(self) -> None:
        """Whatever the guest has written is on the disks: before the machine becomes a file."""
        for target in self.targets.values():
            for unit in target.units.values():
                if not unit.device.read_only:
                    unit.device.flush()

    def save_state(self) -> bytes:
        targets = {number: target.save_state() for number, target in self.targets.items()}
        return msgspec.msgpack.encode(ParallelState(targets, self._queues))

    def load_state(self, state: bytes) -> None:
        """Raises ``AdminError`` if the disks are not those that it is of."""
        try:
            saved = msgspec.msgpack.decode(state, type=ParallelState)
        except msgspec.DecodeError as error:
            raise AdminError(f"The saved state of a SCSI bus cannot be read: {str(error).rstrip('.')}.") from None
        if saved.targets.keys() != self.targets.keys() or saved.queues.keys() != self.targets.keys():
            raise AdminError(
                f"The saved machine has disks with the SCSI ids {sorted(saved.targets)}, this one "
                f"{sorted(self.targets)}: attach the same disks."
            )
        for number, each in saved.targets.items():
            self.targets[number].load_state(each)
        self._queues = saved.queues
        self.restart_statistics()
        self._served = {number: {} for number in self.targets}
        for queue in self._queues.values():
            if len(queue.free_ns) != self.latency.lanes:
                raise AdminError("The saved machine's disks serve another number of requests at a time.")
