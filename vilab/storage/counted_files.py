"""Files that count what is asked of them: how many reads and writes a disk really costs.

::

    files = CountedFiles()
    with open_chain(path, files=files) as chain:
        files.counts.clear()
        chain.read(0, 1 << 20)
    files.counts     [FileAccess("vm-000001-delta.vmdk", "read", 4096, 512), ...]     in their order
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from vilab.protocols import ReadableBytes
from vilab.storage.disk_file import DiskFile, Files


class FileAccess(msgspec.Struct, frozen=True):
    """One read or write of a file, where and how much."""

    file: str
    operation: Literal["read", "write"]
    offset_bytes: int
    size_bytes: int


class CountedFile(DiskFile):
    """A file whose reads and writes are noted."""

    def __init__(self, path: Path, writable: bool, create: bool, note: Callable[[FileAccess], None]) -> None:
        super().__init__(path, writable, create)
        self._note = note
        self._direct = False
        uncounted = self.pread

        def pread(size_bytes: int, offset_bytes: int) -> bytes:
            note(FileAccess(path.name, "read", offset_bytes, size_bytes))
            return uncounted(size_bytes, offset_bytes)

        self.pread = pread

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        self._note(FileAccess(self.path.name, "write", offset_bytes, memoryview(data).nbytes))
        super().write(offset_bytes, data)


class CountedFiles(Files):
    """The file system, with a list of what was done."""

    def __init__(self) -> None:
        self.counts: list[FileAccess] = []

    def open(self, path: Path, writable: bool = False) -> DiskFile:
        return CountedFile(path, writable, False, self.counts.append)

    def create(self, path: Path) -> DiskFile:
        return CountedFile(path, True, True, self.counts.append)

    def take(self) -> list[FileAccess]:
        """What was done since this was asked last."""
        found = self.counts[:]
        self.counts.clear()
        return found
