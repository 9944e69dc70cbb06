"""What stands around a SCSI host adapter in its tests: memory that ends, a bus with disks in memory, a clock."""

from __future__ import annotations

from tests.devices.helpers import FakeConsole, run_to
from vilab.clock import VirtualClock
from vilab.devices.pc import Pc
from vilab.events import EventLog
from vilab.storage.block import MemoryDisk
from vilab.storage.scsi.parallel import ParallelBus
from vilab.storage.scsi.state import Identity
from vilab.storage.timed import Latency

MEMORY_BYTES = 1 << 20
DISK_BYTES = 1 << 20
SLOT = 16
IRQ = 11
LATENCY = Latency(position_ns=1_000_000, sequential_ns=100_000, flush_ns=500_000, ns_per_kilobyte=1000)

TEST_UNIT_READY = bytes(6)
INQUIRY = bytes((0x12, 0, 0, 0, 36, 0))


def read10(lba: int, blocks: int) -> bytes:
    return bytes((0x28, 0)) + lba.to_bytes(4, "big") + bytes((0,)) + blocks.to_bytes(2, "big") + bytes((0,))


def write10(lba: int, blocks: int) -> bytes:
    return bytes((0x2A,)) + read10(lba, blocks)[1:]


class Memory:
    """Guest physical memory. An access outside it is the adapter's defect, and an error here."""

    size_bytes = MEMORY_BYTES

    def __init__(self) -> None:
        self.content = bytearray(MEMORY_BYTES)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        assert 0 <= gpa <= gpa + size_bytes <= MEMORY_BYTES, (hex(gpa), size_bytes)
        return bytes(self.content[gpa : gpa + size_bytes])

    def write(self, gpa: int, data: bytes) -> None:
        assert 0 <= gpa <= gpa + len(data) <= MEMORY_BYTES, (hex(gpa), len(data))
        self.content[gpa : gpa + len(data)] = data

    def u32(self, gpa: int) -> int:
        return int.from_bytes(self.read(gpa, 4), "little")


class Bench:
    """A PC with one adapter and disks at the SCSI ids 0 and 3; its windows are where the firmware puts them."""

    io, window = 0x1400, 0xE800_0000

    def __init__(self, kind: str, memory: Memory | None = None, disks: dict[int, MemoryDisk] | None = None) -> None:
        self.kind = kind
        self.clock, self.log = VirtualClock(), EventLog(keep=True)
        self.memory = memory or Memory()
        self.disks = disks or {0: MemoryDisk(DISK_BYTES), 3: MemoryDisk(DISK_BYTES)}
        attached = {number: (disk, Identity(f"disk{number}")) for number, disk in self.disks.items()}
        self.bus = ParallelBus(attached, self.clock, self.log, LATENCY)
        self.pc = Pc(
            self.clock, self.log, FakeConsole(), MEMORY_BYTES, memory=self.memory, scsi=[(kind, self.bus)],
        )  # fmt: skip
        self.pc.assign_pci()
        self.adapter = self.pc.adapters[SLOT]

    @property
    def line(self) -> bool:
        """Is the adapter's interrupt pin held?"""
        return bool(self.pc.isa_bridge.asserted[SLOT - 1 & 3])

    def wait(self, ns: int) -> None:
        run_to(self.clock, self.clock.now_ns + ns)

    def wait_for_line(self, most_ns: int = 100_000_000) -> None:
        """Until the adapter interrupts."""
        end_ns = self.clock.now_ns + most_ns
        while not self.line:
            assert self.clock.next_ns() <= end_ns, "no interrupt came"
            run_to(self.clock, self.clock.next_ns())

    def settle(self) -> None:
        """Let everything happen that is to happen: nothing here takes as long as two seconds."""
        self.wait(2_000_000_000)
