"""A file, read from front to back in steps: what of it is not zero, and a digest of all of it.

::

    |  64 KB  |  64 KB  |  hole ...  |  64 KB  |  64 KB | 3 KB |         a piece begins at a multiple of 64 KB
       data      zeros                  data      data    data
       sent                             └──── one extent ───┘

    digest = SHA-256 of   offset (8 bytes, little-endian), bytes   for each piece that is not all zeros, in order;
                          then the file's size (8 bytes)

So a hole costs nothing, neither on the wire nor in the digest, and the digest does not depend on who has read the file
in which steps, nor on whether zeros are a hole.
"""

from __future__ import annotations

import hashlib

import msgspec

from vilab.migration.file_copy_messages import PIECE_BYTES
from vilab.migration.storage_copy import nonzero_runs
from vilab.storage.disk_file import DiskFile


class Extent(msgspec.Struct, frozen=True):
    offset_bytes: int
    data: memoryview


class FileReading:
    """``size_bytes``: what was said of the file before; what is behind that is another file's business to find out.
    ``step_bytes``: a multiple of a piece."""

    def __init__(self, file: DiskFile, size_bytes: int, step_bytes: int) -> None:
        assert step_bytes % PIECE_BYTES == 0
        self.file, self.size_bytes, self._step_bytes = file, size_bytes, step_bytes
        self.at_bytes = 0
        """Everything before it was read, or is a hole."""
        self._hash = hashlib.sha256()
        self.digest = b""
        """Of the whole file, when it is ``ended``."""

    @property
    def ended(self) -> bool:
        return bool(self.digest)

    def step(self) -> list[Extent]:
        """The next bytes that are not zero, if there are some in this step. ``AdminError``: it cannot be read, or is
        shorter than was said."""
        found: list[Extent] = []
        at = self.at_bytes
        if at < self.size_bytes:
            at = min(max(at, self.file.next_data(at) // PIECE_BYTES * PIECE_BYTES), self.size_bytes)
        if at < self.size_bytes:
            data = self.file.read(at, min(self._step_bytes, self.size_bytes - at))
            view = memoryview(data)
            for first, size in nonzero_runs(data):
                run = view[first : first + size]
                for piece in range(0, size, PIECE_BYTES):
                    self._hash.update((at + first + piece).to_bytes(8, "little"))
                    self._hash.update(run[piece : piece + PIECE_BYTES])
                found.append(Extent(at + first, run))
            at += len(data)
        self.at_bytes = at
        if at >= self.size_bytes:
            self._hash.update(self.size_bytes.to_bytes(8, "little"))
            self.digest = self._hash.digest()
        return found


def data_bytes(file: DiskFile) -> int:
    """About so many bytes of the file are in no hole."""
    size, at, found = file.size_bytes, 0, 0
    while at < size:
        data = file.next_data(at)
        if data >= size:
            break
        at = max(at, data // PIECE_BYTES * PIECE_BYTES)
        step = min(PIECE_BYTES, size - at)
        found, at = found + step, at + step
    return found
