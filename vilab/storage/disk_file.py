"""Files that disks are kept in: positioned reads and writes, and the few operations that a crash cannot split.

::

    write, write, sync     after a crash: what stood before the sync is there; of the rest, anything may be
    replace                after a crash: the old content or the new one, never a mixture
    remove

``Files`` is the door to the file system: a test that cuts the power puts another one in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from vilab.errors import AdminError
from vilab.protocols import Lun, ReadableBytes
from vilab.storage.block import BlockError

WRITE_BEHIND_BYTES = 32 << 20


class DiskFile:
    """One open file.

    Raises
    ------
    BlockError : the file cannot be opened, read, or written.
    """

    write_behind = False
    """It is written from front to back: the system may begin while the rest is still being made."""
    _direct = False
    """The operating system reads into a buffer of ours; not so for files that are elsewhere."""

    def __init__(self, path: Path, writable: bool = False, create: bool = False) -> None:
        self.path, self.writable = path, writable or create
        self._behind_bytes = 0
        self._direct = hasattr(os, "preadv")
        flags = os.O_RDWR if self.writable else os.O_RDONLY
        flags |= (os.O_CREAT | os.O_EXCL) if create else 0
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        flags |= getattr(os, "O_NONBLOCK", 0)  # a pipe in a file's place is not waited for, it is refused
        try:
            self._fd = os.open(path, flags, 0o644)
            if not create and not os.path.isfile(path):
                os.close(self._fd)
                raise OSError(errno.EINVAL, "it is not a file")
        except (OSError, ValueError) as error:
            raise BlockError(
                "medium", f"{path} cannot be {'made' if create else 'opened'}: {_reason(error)}."
            ) from None
        self.pread: Callable[[int, int], bytes]
        """(bytes, offset) -> what is there: fewer bytes at the end of the file."""
        self.pread = partial(os.pread, self._fd) if hasattr(os, "pread") else self._seek_and_read

    def _seek_and_read(self, size_bytes: int, offset_bytes: int) -> bytes:
        os.lseek(self._fd, offset_bytes, os.SEEK_SET)
        return os.read(self._fd, size_bytes)

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._fd).st_size

    def read_some(self, offset_bytes: int, size_bytes: int) -> bytes:
        """As many of the bytes as the file has."""
        try:
            data = self.pread(size_bytes, offset_bytes)
            while len(data) < size_bytes:
                more = self.pread(size_bytes - len(data), offset_bytes + len(data))
                if not more:
                    break
                data += more
        except (OSError, OverflowError) as error:
            raise BlockError(
                "medium", f"{self.path} cannot be read at byte {offset_bytes}: {_reason(error)}."
            ) from None
        return data

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Exactly these bytes."""
        data = self.read_some(offset_bytes, size_bytes)
        if len(data) != size_bytes:
            raise BlockError(
                "medium",
                f"{self.path} is too short: {size_bytes} bytes at {offset_bytes} belong to the disk, the file ends at "
                f"{self.size_bytes}. It was truncated, or copied incompletely.",
            )
        return data

    def fill(self, offset_bytes: int, view: memoryview) -> int:
        """Read into ``view``, as far as the file goes; so many bytes."""
        if not self._direct:
            data = self.read_some(offset_bytes, view.nbytes)
            view[: len(data)] = data
            return len(data)
        done = 0
        try:
            while done < view.nbytes:
                some = os.preadv(self._fd, [view[done:]], offset_bytes + done)
                if not some:
                    break
                done += some
        except (OSError, OverflowError) as error:
            raise BlockError(
                "medium", f"{self.path} cannot be read at byte {offset_bytes}: {_reason(error)}."
            ) from None
        return done

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        view = memoryview(data).cast("B")
        if self.write_behind:
            self._write_behind(offset_bytes)
        try:
            while view.nbytes:
                if hasattr(os, "pwrite"):
                    done = os.pwrite(self._fd, view, offset_bytes)
                else:
                    os.lseek(self._fd, offset_bytes, os.SEEK_SET)
                    done = os.write(self._fd, view)
                view, offset_bytes = view[done:], offset_bytes + done
        except OSError as error:
            raise self._refused("written", error) from None

    def _write_behind(self, end_bytes: int) -> None:
        """Everything before ``end_bytes`` was written: tell the system to begin with the last of it, not to wait.

        Linux begins to write dirty pages that it is told are not needed any more, and keeps them until it has.
        """
        size = end_bytes - self._behind_bytes
        if size >= WRITE_BEHIND_BYTES and hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, self._behind_bytes, size, os.POSIX_FADV_DONTNEED)
            self._behind_bytes = end_bytes

    def resize(self, size_bytes: int) -> None:
        """Cut off, or let grow by zeros that take no space."""
        try:
            os.ftruncate(self._fd, size_bytes)
        except (OSError, OverflowError) as error:
            raise self._refused("resized", error) from None

    def allocate(self, size_bytes: int) -> None:
        """Take the space for so many bytes now."""
        try:
            if size_bytes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, 0, size_bytes)
            else:
                os.ftruncate(self._fd, size_bytes)
        except (OSError, OverflowError) as error:
            raise self._refused("made that large", error) from None

    def next_data(self, offset_bytes: int) -> int:
        """The first byte, that one on, which is not in a hole of the file; its size if there is none."""
        if not hasattr(os, "SEEK_DATA"):
            return offset_bytes
        try:
            return os.lseek(self._fd, offset_bytes, os.SEEK_DATA)
        except OSError as error:
            return self.size_bytes if error.errno == errno.ENXIO else offset_bytes

    def sync(self) -> None:
        """Nothing written before can be lost afterwards."""
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:
            raise self._refused("written", error) from None

    def lock(self) -> None:
        """One writer or many readers, among programs that ask. Raises ``AdminError`` where another one is there."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_EX if self.writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise BlockError(
                    "read_only" if self.writable else "medium",
                    f"{self.path} is in use: another virtual machine or command has this disk open"
                    f"{'' if self.writable else ' and writes to it'}. Power it off or wait for it.",
                ) from None
            # a file system without locks: go on without

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _refused(self, what: str, error: Exception) -> BlockError:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return BlockError("no_space" if full else "medium", f"{self.path} cannot be {what}: {_reason(error)}.")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class Files:
    """The file system, as far as disks need it."""

    def open(self, path: Path, writable: bool = False) -> DiskFile:
        return DiskFile(path, writable)

    def create(self, path: Path) -> DiskFile:
        """A new, empty file. Refused where there is one."""
        return DiskFile(path, create=True)

    def open_lun(self, path: Path) -> Lun:
        """The LUN that a raw device mapping stands for. Here there are none; ``rdm`` has others."""
        raise AdminError(f"{path} stands for a LUN, and no LUNs are at hand here: it can be opened on its host only.")

    def exists(self, path: Path) -> bool:
        return path.exists()

    def names(self, folder: Path) -> list[str]:
        """What is in the folder, in order."""
        return sorted(entry.name for entry in folder.iterdir())

    def resolve(self, path: Path) -> Path:
        """The one name of a file: no ``..``, links followed."""
        return path.resolve()

    def replace(self, path: Path, content: bytes) -> None:
        """All of the file's content, in one step that a crash cannot split."""
        number, name = tempfile.mkstemp(prefix=".vilab-", dir=path.parent)
        os.close(number)
        temporary = Path(name)
        try:
            if path.exists():
                os.chmod(temporary, path.stat().st_mode & 0o777)
            else:
                os.chmod(temporary, 0o644)
            file = DiskFile(temporary, writable=True)
            try:
                file.write(0, content)
                file.sync()
            finally:
                file.close()
            self.rename(temporary, path)
        except (BlockError, OSError) as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise BlockError("medium", f"{path} cannot be written: {_reason(error)}.") from None

    def rename(self, path: Path, to: Path) -> None:
        """Take the place of what is there, if anything is."""
        os.replace(path, to)
        self.sync_folder(to.parent)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.sync_folder(path.parent)

    def sync_folder(self, folder: Path) -> None:
        """Names that were made or changed here are not lost."""
        with contextlib.suppress(OSError):  # Windows does not open folders
            number = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)


REAL_FILES = Files()


class UnsyncedFile(DiskFile):
    """A file that nobody waits for: the system writes it when it likes."""

    def sync(self) -> None:
        """Nothing is promised here."""


class UnsyncedFiles(Files):
    """For what can be made again: faster, and lost if the power fails now."""

    def open(self, path: Path, writable: bool = False) -> DiskFile:
        return UnsyncedFile(path, writable)

    def create(self, path: Path) -> DiskFile:
        return UnsyncedFile(path, create=True)

    def sync_folder(self, folder: Path) -> None:
        """Names can be made again, too."""


UNSYNCED_FILES = UnsyncedFiles()
