"""Disks inside of the host: image files as SCSI disks of its own adapter.

::

    vmhba0:0:0   first image that was attached
    vmhba0:1:0   second
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.protocols import ReadableBytes
from vilab.storage.raw_disk import RawDisk
from vilab.storage.scsi.lun_identity import Answer
from vilab.storage.scsi.state import Identity, Nexus
from vilab.storage.scsi.target import Target, TaskFunction


class LocalPath:
    """The way to one of them; the Protocol ``vilab.storage.luns.paths.Path``."""

    connected = True

    def __init__(self, name: str, target: Target, nexus: Nexus) -> None:
        self.name, self.target, self.nexus = name, target, nexus

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        response = self.target.execute(self.nexus, 0, cdb, data_out)
        return response.status, response.data_in, response.sense_bytes

    def reset_unit(self) -> None:
        self.target.manage(self.nexus, TaskFunction.LOGICAL_UNIT_RESET, 0)


class LocalAdapter:
    """The adapter inside of the host."""

    def __init__(self, name: str, host: str, clock: VirtualClock, log: EventLog) -> None:
        self.name, self.nexus = name, Nexus(f"{host} {name}")
        self.clock, self.log = clock, log
        self._disks: dict[Path, tuple[RawDisk, LocalPath]] = {}

    def attach(self, image: Path) -> str:
        """A file as a disk, this host's alone; the name of its path. ``AdminError``: in use, empty, not there."""
        place = image.absolute()
        if place in self._disks:
            raise AdminError(f"{image} is a disk of this host already, {self._disks[place][1].name}.")
        disk = RawDisk(place, writable=True)
        serial = hashlib.sha256(str(place).encode()).hexdigest()[:20]
        target = Target(self.clock, self.log)
        target.add(0, disk, Identity(serial, product="Local disk"))
        target.connect(self.nexus)
        path = LocalPath(f"{self.name}:{len(self._disks)}:0", target, self.nexus)
        self._disks[place] = disk, path
        return path.name

    def rescan(self) -> list[LocalPath]:
        return [path for _, path in self._disks.values()]

    def close(self) -> None:
        for disk, _ in self._disks.values():
            disk.close()
        self._disks.clear()

    cut_power = close
