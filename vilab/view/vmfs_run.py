"""A volume to which hosts do things, one a step, and remembered (``deed_run``): what its map is drawn from.

::

    deeds      esx1 mounts, esx1 creates db-flat.vmdk, its guest writes 3 MB, esx2 mounts, ...
    moments    0 ── 1 ── 2 ── 3        the volume's bytes, read after each deed

What is written is heard at the disk, so that a moment knows which of its sectors a deed has touched.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.protocols import ReadableBytes
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.vmfs.file import VmfsFile
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import EXTENT_BYTES, MIB, SECTOR
from vilab.storage.vmfs.lun import SharedDisk
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES, make
from vilab.storage.vmfs.time import VIRTUAL_EPOCH_S, VirtualTime
from vilab.view.deed_run import DeedRun
from vilab.view.vmfs_frame import VolumeMoment, capture


class Deed(msgspec.Struct, frozen=True):
    """``words``: what is done, in the present tense; ``path``: to which file, if to one."""

    words: str
    do: Callable[[VolumeRun], object]
    path: str = ""


class MapMoment(msgspec.Struct, frozen=True):
    """``written``: (logical position, bytes) of every write since the moment before, in order."""

    words: str
    path: str
    volume: VolumeMoment
    written: tuple[tuple[int, int], ...]

    def sectors_in(self, block: int) -> int:
        """How many sectors of a block were written in this step."""
        size = self.volume.block_bytes
        low, high = block * size, (block + 1) * size
        return sum(max(0, min(high, pos + count) - max(low, pos)) // SECTOR for pos, count in self.written)


def mount(host: str) -> Deed:
    return Deed(f"{host} mounts the volume", lambda run: run.host(host))


def create(host: str, path: str, megabytes: int = 0) -> Deed:
    """A new file, open on that host; ``megabytes``: so large, thin."""
    size = f", {megabytes} MB, thin" if megabytes else ""

    def do(run: VolumeRun) -> None:
        file = run.files[path] = run.host(host).create(path)
        if megabytes:
            file.truncate(megabytes * MIB)

    return Deed(f"{host} creates {name(path)}{size}", do, path)


def create_thick(host: str, path: str, megabytes: int) -> Deed:
    """All blocks have their place from the beginning."""

    def do(run: VolumeRun) -> None:
        run.files[path] = run.host(host).create(path)
        run.files[path].allocate(megabytes * MIB)

    return Deed(f"{host} creates {name(path)}, {megabytes} MB, thick", do, path)


def write(path: str, at_mb: float, megabytes: float) -> Deed:
    """Whoever has the file open writes into it."""
    size = f"{megabytes:g} MB" if megabytes >= 1 else f"{megabytes * 1024:g} KB"
    verb = "is" if megabytes == 1 else "are"
    where = "" if not at_mb else f", from its megabyte {at_mb:g} on"
    return Deed(f"{size} {verb} written to {name(path)}{where}", lambda run: run.write(path, at_mb, megabytes), path)


def close(path: str) -> Deed:
    def do(run: VolumeRun) -> None:
        run.files.pop(path).close()

    return Deed(f"{name(path)} is closed", do, path)


def remove(host: str, path: str) -> Deed:
    return Deed(f"{host} deletes {name(path)}", lambda run: run.host(host).remove(path), path)


def name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


class WatchedDisk(PagedDisk):
    """Remembers where it was written."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.written: list[tuple[int, int]] = []

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        super().write(offset_bytes, data)
        size = memoryview(data).nbytes
        if size:
            self.written.append((offset_bytes - OVERHEAD_BYTES, size))

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        heard = len(self.written)
        super().unmap(offset_bytes, size_bytes)
        del self.written[heard:]
        self.written.append((offset_bytes - OVERHEAD_BYTES, size_bytes))

    def take(self) -> tuple[tuple[int, int], ...]:
        found, self.written = tuple(self.written), []
        return found


class VolumeRun(DeedRun[Deed, MapMoment]):
    """A new volume of 256 blocks of 1 MB, and what is to be done to it. ``uuids`` by name of the host."""

    def __init__(self, deeds: list[Deed], uuids: dict[str, bytes]) -> None:
        super().__init__(deeds)
        self.uuids = uuids
        self.disk = WatchedDisk(OVERHEAD_BYTES + EXTENT_BYTES)
        make(self.disk, VIRTUAL_EPOCH_S, "san1", uuid=lambda at: at.to_bytes(16, "little"), erase=False)
        self.files: dict[str, VmfsFile] = {}
        self._shared, self._time = SharedDisk(self.disk), VirtualTime(VirtualClock())
        self._hosts: dict[str, Host] = {}
        self._writes = 0
        self.moments.append(self._moment("A new volume", ""))

    def host(self, host: str) -> Host:
        if host not in self.uuids:
            raise AdminError(f"There is no host {host} here; there are {', '.join(self.uuids)}.")
        if host not in self._hosts:
            self._hosts[host] = Host(self._shared.port(host), self.uuids[host], self._time)
        return self._hosts[host]

    def write(self, path: str, at_mb: float, megabytes: float) -> None:
        """Data that no other write has."""
        if path not in self.files:
            raise AdminError(f"{path} is open on no host: create it first, and do not close it.")
        self._writes += 1
        data = self._writes.to_bytes(4, "little") * (int(megabytes * MIB) // 4)
        self.files[path].write(int(at_mb * MIB), data)

    def _do(self, deed: Deed) -> MapMoment:
        deed.do(self)
        return self._moment(deed.words, deed.path)

    def _moment(self, words: str, path: str) -> MapMoment:
        names = {uuid: host for host, uuid in self.uuids.items()}
        return MapMoment(words, path, capture(self.disk, names), self.disk.take())
