"""A virtual machine with disks in a folder, as a configuration file names them, and a flat model of its snapshots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from vilab.events import EventLog
from vilab.storage.disk_file import REAL_FILES, Files
from vilab.storage.disks.vm_snapshots import VmSnapshots
from vilab.storage.disks.vmdk_create import create

NODES = ("scsi0:0", "scsi0:1")
SECTORS = 320
SIZE = SECTORS * 512


class Machine:
    """``vm.json`` stands for the configuration: replaced in one step, as that of a real one has to be."""

    def __init__(self, folder: Path, files: Files = REAL_FILES, log: EventLog | None = None) -> None:
        self.folder, self.files, self.log = folder, files, log

    def make(self, base: str = "vmfs", sectors: int = SECTORS) -> None:
        for name in ("vm.vmdk", "vm_1.vmdk"):
            create(self.folder / name, sectors, base)
        self.configure(dict(zip(NODES, ("vm.vmdk", "vm_1.vmdk"), strict=True)))

    def configure(self, disks: Mapping[str, str]) -> None:
        self.files.replace(self.folder / "vm.json", json.dumps(dict(disks)).encode())

    def disks(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / "vm.json").read_bytes())
        return found

    def open(self) -> VmSnapshots:
        return VmSnapshots(self.folder, "vm", self.disks(), self.configure, self.files, None, self.log)

    def names(self) -> list[str]:
        """The disks' files, without what they always have beside them."""
        return sorted(path.name for path in self.folder.iterdir() if path.suffix in (".vmdk", ".vmsn"))


def content(vm: VmSnapshots, size: int = SIZE) -> list[bytes]:
    return [vm.chain(node).read(0, size) for node in NODES]


def quick_folder() -> str | None:
    """Where files that are synced often do not wait for a disk; ``None``: the usual place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
