"""Disks for a virtual machine: files behind a SCSI adapter.

::

    --disk a.vmdk --disk b.img --controller lsilogic

    a.vmdk ──DiskChain──> SCSI id 0 ─┐
    b.img  ──RawDisk────> SCSI id 1 ─┼─ ParallelBus ── Lsi53c1030 in PCI slot 16
                              (id 7) ┘
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from vilab.errors import AdminError
from vilab.protocols import BlockDevice
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.disk_chain import DiskChain, open_chain
from vilab.storage.disks.vmdk import is_vmdk
from vilab.storage.raw_disk import RawDisk
from vilab.storage.scsi.parallel import ADAPTER_ID, MOST_DISKS
from vilab.storage.scsi.state import Identity
from vilab.storage.timed import Latency

CONTROLLERS = ("lsilogic", "buslogic")
MOST_ADAPTERS = 4


class OpenDisk(BlockDevice, Protocol):
    def close(self) -> None: ...


class AttachedDisk(msgspec.Struct, frozen=True):
    """A disk with its SCSI id. ``path``: where it was opened; empty if it is in no file."""

    target: int
    device: BlockDevice
    identity: Identity
    path: str = ""

    @property
    def place(self) -> str:
        """The file to open for this disk now: snapshots may have given a chain another top."""
        if isinstance(self.device, DiskChain):
            return str(self.device.top.path.absolute())
        return self.path


class DiskRecord(msgspec.Struct, frozen=True):
    """What a suspended machine says of one of its disks."""

    controller: str
    target: int
    path: str
    size_bytes: int


class ScsiAdapter(msgspec.Struct, frozen=True):
    """An adapter and the disks behind it. Whoever has made it closes it, when the machine is gone."""

    controller: str
    disks: tuple[AttachedDisk, ...]
    latency: Latency = Latency()

    def records(self) -> list[DiskRecord]:
        return [DiskRecord(self.controller, each.target, each.place, each.device.size_bytes) for each in self.disks]

    def close(self) -> None:
        for each in self.disks:
            close = getattr(each.device, "close", None)
            if close is not None:
                close()


def serial_of(device: BlockDevice, path: Path) -> str:
    """A serial number that a disk keeps as long as it stays where it is, whatever snapshots are above its base."""
    if isinstance(device, DiskChain):
        path = device.links[0].path
    return hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:20]


def open_disk(path: Path) -> OpenDisk:
    """A VMDK with its parents, or a raw file. Raises ``AdminError``."""
    disk: OpenDisk = open_chain(path, writable=True) if is_vmdk(path) else RawDisk(path, writable=True)
    if disk.size_bytes % SECTOR_BYTES or not disk.size_bytes:
        disk.close()
        raise AdminError(f"{path} has {disk.size_bytes} bytes, which is no disk.")
    return disk


def attach(paths: Sequence[Path], controller: str = "lsilogic") -> tuple[ScsiAdapter, ...]:
    """The adapters for these disks: 15 each, from SCSI id 0 on. Raises ``AdminError``; nothing stays open then."""
    if controller not in CONTROLLERS:
        raise AdminError(f"There is no controller {controller!r}; there are {' and '.join(CONTROLLERS)}.")
    if len(paths) > MOST_DISKS:
        raise AdminError(f"{len(paths)} disks are more than the {MOST_DISKS} that one SCSI adapter has numbers for.")
    if not paths:
        return ()
    targets = [number for number in range(MOST_DISKS + 1) if number != ADAPTER_ID]
    return (_adapter(controller, list(zip(targets, paths, strict=False))),)


def reattach(records: Sequence[DiskRecord], name: str) -> tuple[ScsiAdapter, ...]:
    """The disks of a suspended machine. Raises ``AdminError`` if one is gone or another one."""
    if not records:
        return ()
    if any(not record.path for record in records):
        raise AdminError(f"{name} had a disk that is in no file; it cannot be resumed.")
    adapter = _adapter(records[0].controller, [(record.target, Path(record.path)) for record in records])
    for record, disk in zip(records, adapter.disks, strict=True):
        if disk.device.size_bytes != record.size_bytes:
            adapter.close()
            raise AdminError(
                f"{record.path} has {disk.device.size_bytes} bytes, and had {record.size_bytes} when {name} was "
                "suspended: it is another disk."
            )
    return (adapter,)


def _adapter(controller: str, places: Sequence[tuple[int, Path]]) -> ScsiAdapter:
    disks: list[AttachedDisk] = []
    try:
        for target, path in places:
            disk = open_disk(path)
            disks.append(AttachedDisk(target, disk, Identity(serial_of(disk, path)), str(path.absolute())))
    except BaseException:
        ScsiAdapter(controller, tuple(disks)).close()
        raise
    return ScsiAdapter(controller, tuple(disks))
