"""A host on a folder of this computer whose changes are written down, or fail, one by one; and what a machine is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.host.storage_helpers import QUANTUM
from tests.storage.power_cut import RecordedFile, Step
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.mounted import MountedLocal
from vilab.host.storage import StorageOptions
from vilab.migration.machine_state import state_of
from vilab.migration.state_digest import MemoryDigest, state_digest
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.datastore import LocalDatastore
from vilab.storage.disk_file import DiskFile

WEB = "[ds1] web/web.vmx"


class Faults:
    """Change number ``fail_at``, counted from now, is refused: ``before`` it is made, or ``after`` it. ``lasting``: all
    later ones are refused, too."""

    def __init__(self) -> None:
        self.fail_at: int | None = None
        self.after = self.lasting = False
        self.count = 0
        self.on_fault: Callable[[], None] = lambda: None

    def begin(self, fail_at: int | None, after: bool = False, lasting: bool = False) -> None:
        self.fail_at, self.after, self.lasting, self.count = fail_at, after, lasting, 0

    def change(self, what: str, make: Callable[[], None]) -> None:
        number, self.count = self.count, self.count + 1
        fails = self.fail_at is not None and (number == self.fail_at or (self.lasting and number > self.fail_at))
        if not fails or self.after:
            make()
        if fails:
            self.on_fault()
            raise BlockError("no_space", f"{what} cannot be written: No space left on device.")


class TroubledFile(RecordedFile):
    def __init__(self, path: Path, writable: bool, create: bool, steps: list[Step], faults: Faults) -> None:
        self.faults = faults
        super().__init__(path, writable, create, steps)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        write = super().write
        self.faults.change(self.path.name, lambda: write(offset_bytes, data))

    def resize(self, size_bytes: int) -> None:
        resize = super().resize
        self.faults.change(self.path.name, lambda: resize(size_bytes))

    def sync(self) -> None:
        self.faults.change(self.path.name, super().sync)


class TroubledDatastore(LocalDatastore):
    """Of every change ``steps`` knows, and ``faults`` may refuse it."""

    def __init__(self, root: Path, steps: list[Step], faults: Faults) -> None:
        super().__init__(root, "ds1")
        self.steps, self.faults = steps, faults

    def open(self, path: str, writable: bool = False) -> DiskFile:
        return TroubledFile(self.place(path), writable, False, self.steps, self.faults)

    def create(self, path: str) -> DiskFile:
        made: list[DiskFile] = []
        place = self.place(path)
        self.faults.change(path, lambda: made.append(TroubledFile(place, True, True, self.steps, self.faults)))
        return made[0]

    def rename(self, path: str, to: str) -> None:
        def make() -> None:
            place, new = self.place(path), self.place(to)
            LocalDatastore.rename(self, path, to)
            self.steps.append(Step("rename", place, to=new))

        self.faults.change(path, make)

    def remove(self, path: str) -> None:
        def make() -> None:
            place = self.place(path)
            is_file = place.is_file()
            LocalDatastore.remove(self, path)
            if is_file:
                self.steps.append(Step("remove", place))

        self.faults.change(path, make)


def new_host(folder: Path, name: str = "esx1", memory_mb: int = 40) -> Host:
    """Its datastore ``ds1`` is ``folder / "ds1"``, and nothing special."""
    (folder / "ds1").mkdir(exist_ok=True)
    (folder / name).mkdir(exist_ok=True)
    host = Host(memory_mb, name, swap_directory=folder / name, quantum_ns=QUANTUM, storage=StorageOptions())
    host.storage.add_local("ds1", folder / "ds1")
    return host


def troubled_host(folder: Path, steps: list[Step], faults: Faults, name: str = "esx1") -> Host:
    """The same, on a ``TroubledDatastore``."""
    (folder / "ds1").mkdir(exist_ok=True)
    (folder / name).mkdir(exist_ok=True)
    host = Host(40, name, swap_directory=folder / name, quantum_ns=QUANTUM, storage=StorageOptions())
    host.storage._mounted["ds1"] = MountedLocal(TroubledDatastore(folder / "ds1", steps, faults), host.storage.luns)
    return host


def digest(vm: HostedVm) -> dict[str, bytes]:
    """All of a machine."""
    return state_digest(MemoryDigest(vm.client.pmap), state_of(vm))


def names(folder: Path) -> set[str]:
    """Of the machine's folder, without swap files, and without what a replacement has left that failed."""
    found = {path.name for path in (folder / "ds1" / "web").iterdir() if path.suffix != ".vswp"}
    return {name for name in found if not re.fullmatch(r"\.vilab-[0-9a-f]{12}", name)}
