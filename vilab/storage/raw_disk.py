"""A raw disk: a file whose bytes are the disk's. What is missing to a whole last sector reads as zeros."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vilab.errors import AdminError
from vilab.protocols import ReadableBytes
from vilab.storage.block import SECTOR_BYTES, BlockError, check_range, write_zeros
from vilab.storage.disk_file import DiskFile
from vilab.storage.geometry import ShapedBySize


class RawDisk(ShapedBySize):
    """A block device on one file."""

    sector_bytes = SECTOR_BYTES

    def __init__(self, path: Path, writable: bool = False, size_bytes: int | None = None) -> None:
        """``size_bytes``: only so many of the file, else all."""
        self._take(DiskFile(path, writable), size_bytes)
        try:
            self.file.lock()
            if not self.size_bytes:
                raise AdminError(f"{path} is empty: that is no disk.")
        except BaseException:
            self.close()
            raise

    def _take(self, file: DiskFile, size_bytes: int | None) -> None:
        self.file = file
        self.size_bytes = -(-(file.size_bytes if size_bytes is None else size_bytes) // SECTOR_BYTES) * SECTOR_BYTES

    @classmethod
    def of(cls, file: DiskFile) -> RawDisk:
        """On a file that is open."""
        disk = cls.__new__(cls)
        disk._take(file, None)
        return disk

    @property
    def read_only(self) -> bool:
        return not self.file.writable

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        return self.file.read_some(offset_bytes, size_bytes).ljust(size_bytes, b"\0")

    def read_into(self, offset_bytes: int, view: memoryview) -> None:
        check_range(self, offset_bytes, view.nbytes)
        done = self.file.fill(offset_bytes, view)
        view[done:] = bytes(view.nbytes - done)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        view = memoryview(data).cast("B")
        check_range(self, offset_bytes, view.nbytes)
        if self.read_only:
            raise BlockError("read_only", f"{self.file.path} was opened for reading only.")
        self.file.write(offset_bytes, view)

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        write_zeros(self.write, offset_bytes, size_bytes)

    def flush(self) -> None:
        if self.file.writable:
            self.file.sync()

    def close(self) -> None:
        self.file.close()

    def allocated(self, chunk_bytes: int) -> Iterator[tuple[int, int]]:
        """(offset, size) of the chunks in which the file is not a hole."""
        offset = 0
        while offset < self.size_bytes:
            offset = self.file.next_data(offset) // chunk_bytes * chunk_bytes
            if offset >= self.size_bytes:
                return
            yield offset, min(chunk_bytes, self.size_bytes - offset)
            offset += chunk_bytes

    def __enter__(self) -> RawDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
