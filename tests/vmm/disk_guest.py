"""A guest with the teaching kernel that has SCSI disks, and disks that remember or refuse."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vilab.events import EventLog
from vilab.guests.load import load
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.block import BlockError, MemoryDisk
from vilab.storage.scsi.state import Identity
from vilab.vmm.scsi_disks import AttachedDisk, ScsiAdapter
from vilab.vmm.vm import QuietConsole, VirtualMachine

ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "bare": ("bare", {}),
    "bt packed": ("bt", {}),
    "bt mirrored": ("bt", {"placement": "mirrored"}),
    "svm nested": ("svm", {}),
    "svm shadow": ("svm", {"paging": "shadow"}),
    "para": ("para", {}),
}
DISK_BYTES = 2 << 20
MEMORY_BYTES = 16 << 20
SECTOR = 512
BOOTED = "timer: 3 ticks\n"
PROMPT = "shell> "


class DiskGuest:
    """A kernel-disk with these disks, from SCSI id 0 on. ``typed``: lines for its shell."""

    def __init__(
        self, command_line: str = "", *lines: str, disks: Sequence[BlockDevice], engine: str = "bare",
        log: EventLog | None = None, memory_bytes: int = MEMORY_BYTES, ramdisk_bytes: int = 0,
    ) -> None:  # fmt: skip
        name, options = ENGINES[engine]
        self.image = load("kernel-disk", memory_bytes=memory_bytes, append=command_line, paravirtual=name == "para")
        self.console = QuietConsole("".join(f"{line}\n" for line in lines).encode())
        attached = tuple(AttachedDisk(n, disk, Identity(f"disk{n}")) for n, disk in enumerate(disks))
        self.vm = VirtualMachine(
            self.image, name, memory_bytes, console=self.console, log=log, engine_options=options,
            adapters=(ScsiAdapter("lsilogic", attached),) if disks else (), ramdisk_bytes=ramdisk_bytes,
        )  # fmt: skip

    @property
    def output(self) -> str:
        return self.console.said

    def run(self) -> str:
        """Until it has switched itself off; what it said after the boot."""
        ended = self.vm.engine.run()
        assert ended.reason == "powered_off", self.output
        return self.output.partition(BOOTED)[2]

    def run_until(self, condition: Callable[[], bool], step_ns: int = 1_000_000, most_steps: int = 20_000) -> None:
        """In steps of virtual time."""
        for _ in range(most_steps):
            if condition():
                return
            stop = self.vm.clock.at(self.vm.clock.now_ns + step_ns, self.vm.engine.pause)
            ended = self.vm.engine.run()
            stop.cancel()
            assert ended is None or ended.reason == "paused", (ended, self.output)
        raise AssertionError(f"it has not come to that: {self.output[-2000:]}")


def session(disk: BlockDevice, *lines: str, engine: str = "bare") -> str:
    """What a shell session shows that ends with ``poweroff``."""
    return DiskGuest("", *lines, "poweroff", disks=[disk], engine=engine).run()


class Step(msgspec.Struct, frozen=True):
    """A write; or a flush, where ``data`` is ``None``."""

    offset: int = 0
    data: bytes | None = None


class RecordingDisk(MemoryDisk):
    """Remembers every write and flush since it was made. ``base``: what it held then."""

    def __init__(self, content: ReadableBytes | int) -> None:
        super().__init__(content)
        self.base, self.steps = bytes(self.content), list[Step]()

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        super().write(offset_bytes, data)
        self.steps.append(Step(offset_bytes, bytes(data)))

    def flush(self) -> None:
        self.steps.append(Step())

    def flushes(self) -> int:
        return sum(step.data is None for step in self.steps)

    def cut(self, at: int, lot: random.Random | None) -> MemoryDisk:
        """What the power leaves when it goes before step ``at``: what was flushed, and of the rest each sector's last
        write, an earlier one or none; without ``lot`` all of it."""
        found = MemoryDisk(self.base)
        last_flush = max((n for n in range(at) if self.steps[n].data is None), default=-1)
        for number, step in enumerate(self.steps[:at]):
            for first in range(0, len(step.data or b""), SECTOR):
                if number < last_flush or lot is None or lot.random() < 0.5:
                    found.write(step.offset + first, (step.data or b"")[first : first + SECTOR])
        return found


class RefusingDisk(MemoryDisk):
    """Has sectors that cannot be read or written."""

    def __init__(self, content: ReadableBytes | int) -> None:
        super().__init__(content)
        self.bad_reads: set[int] = set()
        self.bad_writes: set[int] = set()

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        if self.bad_reads.intersection(range(offset_bytes // SECTOR, (offset_bytes + size_bytes) // SECTOR)):
            raise BlockError("medium", "A sector cannot be read.")
        return super().read(offset_bytes, size_bytes)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        size_bytes = memoryview(data).nbytes
        if self.bad_writes.intersection(range(offset_bytes // SECTOR, (offset_bytes + size_bytes) // SECTOR)):
            raise BlockError("medium", "A sector cannot be written.")
        super().write(offset_bytes, data)


def filling(size_bytes: int, seed: int) -> bytes:
    """What ``fill`` writes."""
    return bytes((i + seed) * 2654435761 % 2**32 >> 8 & 0xFF for i in range(size_bytes))


class Model:
    """Files as a dictionary, and the shell lines that make them. ``synced``: what each sync had, oldest first."""

    def __init__(self, lot: random.Random, most_files: int = 6, most_bytes: int = 30_000) -> None:
        self.lot, self.most_bytes = lot, most_bytes
        self.names = [f"file{n}" for n in range(most_files)]
        self.files: dict[str, bytes] = {}
        self.synced: list[dict[str, bytes]] = []
        self._changed = False

    def next_line(self) -> str:
        """A random operation, done here and typed there."""
        name = self.lot.choice(self.names)
        what = self.lot.choice(("write", "fill", "fill", "rm", "sync"))
        if what == "sync" or (what == "rm" and name not in self.files):
            return self.sync()
        self._changed = True
        if what == "rm":
            del self.files[name]
            return f"rm {name}"
        if what == "fill":
            size, seed = self.lot.randrange(self.most_bytes), self.lot.randrange(1000)
            self.files[name] = filling(size, seed)
            return f"fill {name} {size} {seed}"
        words = f"{self.lot.randrange(10**6)} words"
        self.files[name] = f"{words}\n".encode()
        return f"write {name} {words}"

    def sync(self) -> str:
        if self._changed:
            self.synced.append(dict(self.files))
        self._changed = False
        return "sync"
