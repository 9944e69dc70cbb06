"""``vilab vmfs``: make VMFS-3 volumes in image files, look into them, copy in and out, check them.

::

    vilab vmfs mkfs --size 1G IMAGE            a new image with an empty volume of (at least) that size
    vilab vmfs ls [-l] IMAGE[:/path]           what is there
    vilab vmfs cp FROM... TO                   in, out and inside; a path inside is IMAGE:/path
    vilab vmfs rm [-r] IMAGE:/path...          delete
    vilab vmfs check IMAGE                     is it damaged? 0: no; 1: yes

Whatever changes a volume is a host on it, beside others that have the same image mounted.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.storage.block import BlockError
from vilab.storage.disk_file import REAL_FILES, DiskFile
from vilab.storage.raw_disk import RawDisk
from vilab.storage.vmfs.block_id import INODE
from vilab.storage.vmfs.check import check
from vilab.storage.vmfs.datastore import VmfsDiskFile
from vilab.storage.vmfs.errors import NoSuchFile
from vilab.storage.vmfs.file import open_to_read
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import DIRECTORY, EXTENT_BYTES, MIB, SYMLINK, SYSTEM, UNOWNED, uuid_text
from vilab.storage.vmfs.lun import FileLun, PatientLun
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES, make, new_uuid, plan
from vilab.storage.vmfs.namespace import Entry, Namespace, ReadOnlyVolume
from vilab.storage.vmfs.time import Timing, WallTime

DAMAGED = 1
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
COPY_BYTES = 4 << 20


def size_of(text: str) -> int:
    """Bytes from ``1G``, ``300M``, ``286261248``."""
    found = re.fullmatch(r"([0-9]{1,15})([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise AdminError(f"{text!r} is not a size; write for instance 300M or 1G.")
    return int(found[1]) << _UNITS[found[2]]


def inside(text: str) -> tuple[Path, str] | None:
    """Image and path of ``IMAGE:/path``; ``None`` for a file of this computer."""
    image, colon, path = text.rpartition(":/")
    return (Path(image), "/" + path) if colon and image else None


# --- opening ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reading(image: Path) -> Iterator[ReadOnlyVolume]:
    """To look only: nothing is written, not even a heartbeat."""
    lun = FileLun(image, writable=False)
    try:
        yield ReadOnlyVolume(PatientLun(lun, WallTime(), Timing(), EventLog(), "reader"))
    finally:
        lun.close()


@contextlib.contextmanager
def changing(image: Path) -> Iterator[Host]:
    """As a host on the volume, for as long as the command takes."""
    lun = FileLun(image)
    try:
        host = Host(lun, new_uuid(int(time.time())), WallTime())
        try:
            yield host
        finally:
            host.leave()
    finally:
        lun.close()


# --- mkfs, ls, check --------------------------------------------------------------------------------------------------


def make_image(image: Path, size: str, label: str, block_size: str, files: int) -> int:
    planned = plan(size_of(size), size_of(block_size), files)
    with contextlib.closing(DiskFile(image, create=True)) as file:
        try:
            file.resize(OVERHEAD_BYTES + planned.extents * EXTENT_BYTES)
            make(RawDisk.of(file), int(time.time()), label, planned.block_bytes, files, erase=False)
        except BaseException:
            image.unlink(missing_ok=True)
            raise
    print(
        f"{image}: VMFS-3 volume {label!r}, {planned.blocks * planned.block_bytes >> 20} MiB in blocks of "
        f"{planned.block_bytes >> 20} MiB, up to {planned.items[INODE] - 6} files"
    )
    return 0


def show(place: str, hidden: bool) -> int:
    image, path = inside(place) or (Path(place), "/")
    with reading(image) as volume:
        entry = volume.stat(path)
        found = volume.list(path) if entry.is_directory else [entry]
        for each in found:
            if hidden or each.type != SYSTEM:
                print(_line(each))
    return 0


def _line(entry: Entry) -> str:
    kind = {DIRECTORY: stat.S_IFDIR, SYMLINK: stat.S_IFLNK}.get(entry.type, stat.S_IFREG)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.changed_s))
    name = "".join(letter if letter.isprintable() else "?" for letter in entry.name)
    locked = "" if entry.owner == UNOWNED else f"  (locked by {uuid_text(entry.owner)})"
    return f"{stat.filemode(kind | entry.mode & 0o7777)} {entry.links:3} {entry.size_bytes:12} {when} {name}{locked}"


def examine(image: Path) -> int:
    """Errors to standard error, then one line of summary."""
    lun = FileLun(image, writable=False)
    try:
        report = check(PatientLun(lun, WallTime(), Timing(), EventLog(), "reader"))
    finally:
        lun.close()
    for note in report.notes:
        print(f"note: {note}")
    for error in report.errors:
        print(f"error: {error}", file=sys.stderr)
    if report.errors:
        print(f"{image} is damaged: {len(report.errors)} error(s).")
        return DAMAGED
    print(f"{image}: no errors; {report.directories} director(ies), {report.files} file(s).")
    return 0


# --- rm ---------------------------------------------------------------------------------------------------------------


def delete(places: list[str], recursive: bool) -> int:
    found = [(place, inside(place)) for place in places]
    for place, at in found:
        if at is None:
            raise AdminError(f"{place} is no path on a volume: write IMAGE:/path.")
    for image in dict.fromkeys(at[0] for _, at in found if at is not None):
        with changing(image) as host:
            for _, at in found:
                if at is not None and at[0] == image:
                    _delete(host, at[1], recursive)
    return 0


def _delete(host: Host, path: str, recursive: bool) -> None:
    if not host.stat(path).is_directory:
        host.remove(path)
        return
    if not recursive:
        raise AdminError(f"{path} is a directory: it is removed with everything in it by vilab vmfs rm -r.")
    for entry in host.list(path):
        _delete(host, f"{path.rstrip('/')}/{entry.name}", recursive)
    host.rmdir(path)


# --- cp ---------------------------------------------------------------------------------------------------------------


class Side(Protocol):
    """Where something is copied from or to."""

    def kind(self, path: str) -> str:
        """``file``, ``directory`` or nothing."""
        ...

    def names(self, path: str) -> list[str]: ...

    def open(self, path: str) -> DiskFile: ...

    def make_directory(self, path: str) -> None: ...

    def put(self, path: str, source: DiskFile) -> None:
        """A file with the content of the source, in the place of the one that was there."""
        ...


class LocalSide:
    def kind(self, path: str) -> str:
        return "directory" if Path(path).is_dir() else "file" if Path(path).exists() else ""

    def names(self, path: str) -> list[str]:
        return sorted(entry.name for entry in Path(path).iterdir())

    def open(self, path: str) -> DiskFile:
        return DiskFile(Path(path))

    def make_directory(self, path: str) -> None:
        try:
            Path(path).mkdir()
        except OSError as error:
            raise AdminError(f"{path} cannot be made: {error.strerror}.") from None

    def put(self, path: str, source: DiskFile) -> None:
        target = Path(path)
        if not target.parent.is_dir():
            raise AdminError(f"{path} cannot be made: there is no folder {target.parent}.")
        temporary = target.with_name(f".{target.name[:40]}.{os.getpid()}")
        try:
            with contextlib.closing(DiskFile(temporary, create=True)) as file:
                pour(source, file)
            REAL_FILES.rename(temporary, target)
        except BlockError as error:
            raise BlockError(error.kind, str(error).replace(str(temporary), path)) from None
        except OSError as error:
            raise AdminError(f"{path} cannot be written: {error.strerror}.") from None
        finally:
            temporary.unlink(missing_ok=True)


class VolumeSide:
    def __init__(self, volume: Namespace) -> None:
        self.volume = volume

    def kind(self, path: str) -> str:
        try:
            return "directory" if self.volume.stat(path).is_directory else "file"
        except NoSuchFile:
            return ""

    def names(self, path: str) -> list[str]:
        return [entry.name for entry in self.volume.list(path) if entry.type != SYSTEM]

    def open(self, path: str) -> DiskFile:
        return VmfsDiskFile(open_to_read(self.volume, path), Path(path))

    def _host(self) -> Host:
        assert isinstance(self.volume, Host)
        return self.volume

    def make_directory(self, path: str) -> None:
        self._host().mkdir(path)

    def put(self, path: str, source: DiskFile) -> None:
        host = self._host()
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name[:100]}.{os.getpid()}"
        file = host.create(temporary)
        try:
            pour(source, VmfsDiskFile(file, Path(path)))
            file.close()
            host.rename(temporary, path)
        except BaseException:
            file.close()
            with contextlib.suppress(AdminError):
                host.remove(temporary)
            raise


def pour(source: DiskFile, target: DiskFile) -> None:
    """Copy the content; what is zeros stays a hole."""
    size, at = source.size_bytes, 0
    while (found := source.next_data(at)) < size:
        at = max(at, found // MIB * MIB)
        data = source.read(at, min(COPY_BYTES, size - at))
        for begin in range(0, len(data), MIB):
            piece = data[begin : begin + MIB]
            if piece.count(0) != len(piece):
                target.write(at + begin, piece)
        at += len(data)
    target.resize(size)
    target.sync()


def copy(sources: list[str], target: str, recursive: bool) -> int:
    with contextlib.ExitStack() as stack:
        opened: dict[tuple[Path, bool], Namespace] = {}

        def side(text: str, written: bool) -> tuple[Side, str]:
            at = inside(text)
            if at is None:
                return LocalSide(), text
            if not at[0].is_file():
                if Path(f"{at[0]}:").is_dir():
                    return LocalSide(), text
                raise AdminError(f"{at[0]} cannot be opened: there is no such image. A path inside is IMAGE:/path.")
            image = at[0].resolve()
            if (image, True) in opened:
                return VolumeSide(opened[image, True]), at[1]
            if (image, written) not in opened:
                opened[image, written] = stack.enter_context(changing(image) if written else reading(image))
            return VolumeSide(opened[image, written]), at[1]

        there, to = side(target, written=True)
        into = there.kind(to) == "directory"
        if len(sources) > 1 and not into:
            raise AdminError(f"Several files can only be copied into a directory; {target} is none.")
        for source in sources:
            here, path = side(source, written=False)
            name = path.rstrip("/").rsplit("/", 1)[-1]
            if not name and into:
                raise AdminError(f"{source} cannot be copied as a whole into a directory: name the target.")
            _copy(here, path, there, f"{to.rstrip('/')}/{name}" if into else to, recursive)
    return 0


def _copy(here: Side, path: str, there: Side, to: str, recursive: bool) -> None:
    kind = here.kind(path)
    if not kind:
        raise NoSuchFile(f"There is no {path}.")
    if kind == "file":
        if there.kind(to) == "directory":
            raise AdminError(f"{to} is a directory: {path} cannot take its place.")
        with contextlib.closing(here.open(path)) as source:
            there.put(to, source)
        return
    if not recursive:
        raise AdminError(f"{path} is a directory: it is copied with everything in it by vilab vmfs cp -r.")
    names = here.names(path)  # before the target is made: it may lie in the source
    if there.kind(to) != "directory":
        there.make_directory(to)
    for name in names:
        _copy(here, f"{path.rstrip('/')}/{name}", there, f"{to.rstrip('/')}/{name}", recursive)
