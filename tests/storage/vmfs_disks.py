"""Disks for the tests of VMFS: one that is mostly holes, one that remembers what was written in which order.

::

    write 1   write 2   flush   write 3   unmap 4   write 5   flush
                                └───────── cut here ─────────┘
    on the disk: 1 and 2 for certain; of 3, 4, 5: any, each sector of them whole or not at all
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from vilab.clock import VirtualClock
from vilab.protocols import ReadableBytes
from vilab.storage.block import check_range
from vilab.storage.geometry import ShapedBySize
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import MIB
from vilab.storage.vmfs.lun import SharedDisk
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES, make
from vilab.storage.vmfs.time import VIRTUAL_EPOCH_S, VirtualTime

PAGE = 4096
SECTOR = 512
SIZE = OVERHEAD_BYTES + 256 * MIB


class SparseDisk(ShapedBySize):
    """A disk in memory whose copies share what none of them has changed."""

    sector_bytes = SECTOR
    read_only = False

    def __init__(self, size_bytes: int = SIZE, pages: dict[int, bytes] | None = None) -> None:
        self.size_bytes = size_bytes
        self.pages = {} if pages is None else pages

    def copy(self) -> SparseDisk:
        return SparseDisk(self.size_bytes, dict(self.pages))

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        if not size_bytes:
            return b""
        first, last = offset_bytes // PAGE, (offset_bytes + size_bytes - 1) // PAGE
        data = b"".join(self.pages.get(page) or bytes(PAGE) for page in range(first, last + 1))
        return data[offset_bytes - first * PAGE :][:size_bytes]

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        content = bytes(data)
        check_range(self, offset_bytes, len(content))
        while content:
            page, inside = divmod(offset_bytes, PAGE)
            some = min(PAGE - inside, len(content))
            if some == PAGE:
                new = content[:PAGE]
            else:
                old = self.pages.get(page) or bytes(PAGE)
                new = old[:inside] + content[:some] + old[inside + some :]
            if new.count(0) == PAGE:
                self.pages.pop(page, None)
            else:
                self.pages[page] = new
            offset_bytes, content = offset_bytes + some, content[some:]

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        self.write(offset_bytes, bytes(size_bytes))

    def flush(self) -> None:
        pass

    def save(self, image: Path) -> Path:
        """As an image file with holes."""
        with image.open("wb") as file:
            for page, data in sorted(self.pages.items()):
                file.seek(page * PAGE)
                file.write(data)
            file.truncate(self.size_bytes)
        return image


class Step(msgspec.Struct, frozen=True):
    """A write; or a flush, where ``data`` is ``None``."""

    offset: int = 0
    data: bytes | None = None


class RecordingDisk(SparseDisk):
    """Remembers every write and flush since it was made."""

    def __init__(self, disk: SparseDisk) -> None:
        super().__init__(disk.size_bytes, dict(disk.pages))
        self.base, self.steps = disk.copy(), list[Step]()

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        super().write(offset_bytes, data)
        self.steps.append(Step(offset_bytes, bytes(data)))

    def flush(self) -> None:
        self.steps.append(Step())


def some_sectors(disk: SparseDisk, pending: list[Step], lot: random.Random) -> SparseDisk:
    """What the power leaves of writes that were not flushed: each sector's last write, an earlier one, or none."""
    found = disk.copy()
    for step in pending:
        assert step.data is not None
        for at in range(0, len(step.data), SECTOR):
            if lot.random() < 0.5:
                found.write(step.offset + at, step.data[at : at + SECTOR])
    return found


class Volume:
    """A fresh volume, a virtual clock, and hosts on it."""

    def __init__(self, disk: SparseDisk | None = None, block_bytes: int = MIB) -> None:
        self.clock = VirtualClock()
        self.time = VirtualTime(self.clock)
        if disk is None:
            disk = SparseDisk()
            make(disk, VIRTUAL_EPOCH_S, "test", block_bytes, uuid=lambda at: at.to_bytes(16, "little"), erase=False)
        self.disk = disk
        self.shared = SharedDisk(disk)

    def host(self, name: str = "A") -> Host:
        return Host(self.shared.port(name), name.encode().ljust(16, b"."), self.time)

    def kill(self, host: Host) -> None:
        """It does nothing any more; its nexus is gone."""
        self.shared.drop(host.member.uuid.rstrip(b".").decode())
