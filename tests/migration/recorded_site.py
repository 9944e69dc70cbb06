"""Two datastores in folders of this computer, of which every change is recorded; a disk whose writes are remembered."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tests.migration.storage_moves import idle
from tests.storage.power_cut import Platter, RecordedFile, Step
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.host import Host
from vilab.host.mounted import MountedLocal
from vilab.host.storage import HostStorage
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vmx_disks import DiskSettings
from vilab.protocols import BlockDevice
from vilab.storage.datastore import LocalDatastore
from vilab.storage.disk_file import DiskFile

SECTORS = 640
SIZE = SECTORS * 512
RANDOM_POINTS = 100


class RecordedDatastore(LocalDatastore):
    """A folder of this computer, of which every change is written down."""

    def __init__(self, root: Path, name: str, steps: list[Step]) -> None:
        super().__init__(root, name)
        self.steps = steps

    def open(self, path: str, writable: bool = False) -> DiskFile:
        return RecordedFile(self.place(path), writable, False, self.steps)

    def create(self, path: str) -> DiskFile:
        return RecordedFile(self.place(path), True, True, self.steps)

    def rename(self, path: str, to: str) -> None:
        place, new = self.place(path), self.place(to)
        super().rename(path, to)
        self.steps.append(Step("rename", place, to=new))

    def remove(self, path: str) -> None:
        place = self.place(path)
        is_file = place.is_file()
        super().remove(path)
        if is_file:
            self.steps.append(Step("remove", place))


class Disks(Platter):
    """Of both datastores."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certain = {path: bytearray(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}

    def lay_out(self, files: dict[Path, bytearray], at: Path) -> Path:
        shutil.rmtree(at, ignore_errors=True)
        for name in ("ds1", "ds2"):
            (at / name).mkdir(parents=True)
        for path, content in files.items():
            place = at / path.relative_to(self.folder)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
        return at


class Model:
    """What each sector may read as: what was flushed last, or anything that was written since. By flush."""

    def __init__(self, device: BlockDevice, seed: int) -> None:
        self.device, self.lot = device, random.Random(seed)
        self.now = [bytes(512)] * SECTORS
        self.held: list[list[bytes]] = []
        self.since: list[dict[int, set[bytes]]] = [{}]

    def write(self) -> None:
        first = self.lot.randrange(SECTORS)
        data = self.lot.randbytes(512 * self.lot.randint(1, min(24, SECTORS - first)))
        for n in range(len(data) // 512):
            self.now[first + n] = data[512 * n : 512 * n + 512]
            self.since[-1].setdefault(first + n, set()).add(self.now[first + n])
        self.device.write(512 * first, data)

    def flush(self) -> int:
        """The number of this flush, which counts once it has returned."""
        self.device.flush()
        self.held.append(list(self.now))
        self.since.append({})
        return len(self.held) - 1

    def fits(self, content: bytes, flush: int) -> bool:
        held, later = self.held[flush], self.since[flush + 1]
        return len(content) == SIZE and all(
            content[512 * n : 512 * n + 512] == held[n] or content[512 * n : 512 * n + 512] in later.get(n, ())
            for n in range(SECTORS)
        )


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


class RecordedMachine:
    """One that is on, on the first of two recorded datastores. ``others``: ending of a file beside its own -> content.
    ``steps``: every write; they count from ``start`` on, which ``record`` sets, with ``disks``."""

    def __init__(self, folder: Path, kind: str = "vmfs", **others: bytes) -> None:
        self.folder, self.steps = folder / "site", list[Step]()
        self.host = host = Host(40, "esx1", swap_directory=made(folder / "swap"))
        for name in ("ds1", "ds2"):
            datastore = RecordedDatastore(made(self.folder / name), name, self.steps)
            host.storage._mounted[name] = MountedLocal(datastore, host.storage.luns)
        host.storage.create_disk("[ds1] web/web.vmdk", SIZE, kind)
        for ending, data in others.items():
            host.storage.write_file(f"[ds1] web/web.{ending}", data)
        self.vm = idle(host, "[ds1] web/web.vmx", DiskSettings("scsi0:0", "web.vmdk"))
        assert self.vm.disks is not None
        self.model = Model(self.vm.disks.devices()["scsi0:0"], 5)

    def flush(self) -> None:
        """The disk; it counts from here on."""
        self.steps.append(Step("mark", Path(), self.model.flush()))

    def record(self) -> None:
        """From now on."""
        self.disks, self.start = Disks(self.folder), len(self.steps)


def storage_of(at: Path, steps: list[Step] | None = None) -> HostStorage:
    """Another host, which sees both datastores."""
    storage = HostStorage("esx2", VirtualClock(), EventLog())
    for name in ("ds1", "ds2"):
        if steps is None:
            storage.add_local(name, at / name)
        else:
            storage._mounted[name] = MountedLocal(RecordedDatastore(at / name, name, steps), storage.luns)
    return storage


def files_of(storage: HostStorage) -> list[str]:
    return [
        f"{name}/{each}"
        for name in ("ds1", "ds2")
        if storage.mounted(name).datastore.exists("web")
        for each in storage.mounted(name).datastore.names("web")
    ]


def power_on(storage: HostStorage, first: str, second: str) -> tuple[str, bytes]:
    """Which of the two can be powered on, and what its disk holds. The other one is refused, whichever is tried
    first."""
    found: list[tuple[str, bytes]] = []
    for where in (first, second):
        try:
            disks = VmDisks(VmHome(storage, where), storage.clock, storage.log)
        except AdminError:
            continue
        disk = disks.devices()["scsi0:0"]
        found.append((where, disk.read(0, disk.size_bytes)))
        assert disks.close() == []
    assert len(found) == 1, (found, sorted(path for path in files_of(storage)))
    return found[0]


class RecordedRun(Protocol):
    """Something that was done on two recorded datastores: its ``steps`` count from ``start`` on."""

    steps: list[Step]
    start: int
    disks: Disks


def cuts(
    recorded: RecordedRun, lot: random.Random, points: int = RANDOM_POINTS, moment: str = ".switching",
    after: int | None = None,
) -> Iterator[dict[Path, bytearray]]:  # fmt: skip
    """At 100 random steps, and at every one around the moment (the first file that gets such a name) and ``after`` it,
    all of them if it is not given: all that was written, or less than that."""
    steps, disks = recorded.steps[recorded.start :], recorded.disks
    switch = min((n for n, each in enumerate(steps) if each.to and each.to.name.endswith(moment)), default=len(steps))
    near = range(switch - 10, len(steps) if after is None else switch + after)
    chosen = set(lot.sample(range(len(steps)), min(points, len(steps))))
    for number, step in enumerate(steps):
        disks.apply(step)
        if number in near or number in chosen:
            yield from list(disks.outcomes(lot, 1))[:: 1 if number in near else lot.randint(1, 2)]
