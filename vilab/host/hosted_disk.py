"""A disk as a running machine has it: one that can be taken from it.

::

    adapter ── HostedDisk ── SnapshotDisk's chain, or a LUN behind a mapping
                  │
                  ├─ another host has taken over (VMFS heartbeat broken, NFS lock lost):
                  │  from then on every command fails, and nothing of it reaches the files
                  └─ ``device`` may become another one between two commands, and the guest does not notice
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from vilab.protocols import BlockDevice, Geometry, ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.scsi.passthrough import PassthroughDisk
from vilab.storage.vmfs.errors import HostFenced


class HostedDisk:
    """A block device. ``on_fenced``: told, in a sentence, that the volume below is lost to this host.

    ``watchers``: told, by offset and size in bytes, what is about to be changed, whether that succeeds or not.
    """

    def __init__(self, device: BlockDevice, on_fenced: Callable[[str], None]) -> None:
        self.device, self.on_fenced = device, on_fenced
        self.lost = ""
        self.watchers: list[Callable[[int, int], None]] = []

    @property
    def size_bytes(self) -> int:
        return self.device.size_bytes

    @property
    def sector_bytes(self) -> int:
        return self.device.sector_bytes

    @property
    def geometry(self) -> Geometry:
        return self.device.geometry

    @property
    def read_only(self) -> bool:
        return self.device.read_only

    def _check(self) -> None:
        if self.lost:
            raise BlockError("medium", self.lost)

    def _tell(self, offset_bytes: int, size_bytes: int) -> None:
        for watcher in self.watchers:
            watcher(offset_bytes, size_bytes)

    def _fenced(self, error: HostFenced) -> NoReturn:
        self.on_fenced(str(error))
        raise BlockError("medium", str(error)) from None

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self._check()
        try:
            return self.device.read(offset_bytes, size_bytes)
        except HostFenced as error:
            self._fenced(error)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        self._check()
        if self.watchers:
            self._tell(offset_bytes, memoryview(data).nbytes)
        try:
            self.device.write(offset_bytes, data)
        except HostFenced as error:
            self._fenced(error)

    def flush(self) -> None:
        self._check()
        try:
            self.device.flush()
        except HostFenced as error:
            self._fenced(error)

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        self._check()
        self._tell(offset_bytes, size_bytes)
        try:
            self.device.unmap(offset_bytes, size_bytes)
        except HostFenced as error:
            self._fenced(error)


class HostedPassthrough(PassthroughDisk):
    """A LUN behind a physical mapping, which can be taken from the machine as well."""

    def __init__(self, disk: PassthroughDisk) -> None:
        super().__init__(disk.lun)
        self.lost = ""

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> tuple[int, bytes, bytes]:
        if self.lost:
            raise BlockError("medium", self.lost)
        return super().submit(cdb, data_out)
