"""A file on a server, as disks use files: written behind, and nothing lost when the server starts again.

::

    write   ── WRITE, unstable ──> the server's memory         and kept here, with the server's verifier
    write   ── WRITE, unstable ──> the server's memory         and kept here
    sync    ── COMMIT ───────────> the server's disk           same verifier: nothing needs to be kept any more
                                                               another one: the server has lost its memory meanwhile;
                                                               all that is kept is written again, in order, and
                                                               COMMIT asked for anew

A read shows what was written whatever the server has forgotten: what is kept lies over what the server says.

A long write is several windows of WRITE calls, and may take longer than a lock is trusted::

    before_write ── window ── before_write ── window ── before_write: somebody else has the file: the rest is not sent
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.disk_file import DiskFile
from vilab.storage.nfs.client import NfsClient
from vilab.storage.nfs.errors import NfsError, disk_error

KEEP_BYTES = 16 << 20
"""After so much COMMIT is asked for without being told to."""
BLOCK_SHIFT = 16
MOST_REPEATS = 5
"""A server that forgets between every WRITE and COMMIT is not worth more attempts."""


class Kept(msgspec.Struct):
    """A write that may be in the server's memory only."""

    offset_bytes: int
    data: bytes
    verifiers: list[bytes]

    @property
    def end(self) -> int:
        return self.offset_bytes + len(self.data)


class WriteBehind:
    """The writes of one file that are not certain yet, in order."""

    def __init__(self) -> None:
        self.writes: list[Kept] = []
        self.size_bytes = 0
        self._blocks: dict[int, list[Kept]] = {}

    def keep(self, write: Kept) -> None:
        self.writes.append(write)
        self.size_bytes += len(write.data)
        for block in range(write.offset_bytes >> BLOCK_SHIFT, ((write.end - 1) >> BLOCK_SHIFT) + 1):
            self._blocks.setdefault(block, []).append(write)

    def forget(self) -> None:
        self.writes.clear()
        self._blocks.clear()
        self.size_bytes = 0

    def all_have(self, verifier: bytes) -> bool:
        return all(seen == verifier for write in self.writes for seen in write.verifiers)

    def end(self) -> int:
        return max((write.end for write in self.writes), default=0)

    def over(self, offset_bytes: int, size_bytes: int, data: bytes) -> bytes:
        """``data`` (perhaps short, at the end of the file) with what is kept of the range over it."""
        if not self.writes or not size_bytes:
            return data
        content: bytearray | None = None
        end = offset_bytes + size_bytes
        for block in range(offset_bytes >> BLOCK_SHIFT, ((end - 1) >> BLOCK_SHIFT) + 1):
            first, last = max(offset_bytes, block << BLOCK_SHIFT), min(end, (block + 1) << BLOCK_SHIFT)
            for write in self._blocks.get(block, ()):  # a block's writes are in their order
                low, high = max(first, write.offset_bytes), min(last, write.end)
                if low < high:
                    content = bytearray(data) if content is None else content
                    content.extend(bytes(max(0, high - offset_bytes - len(content))))
                    part = write.data[low - write.offset_bytes : high - write.offset_bytes]
                    content[low - offset_bytes : high - offset_bytes] = part
        return data if content is None else bytes(content)


class FileHooks:
    """What a file asks and tells its datastore. These do nothing."""

    def before(self) -> None:
        """Anything is about to be asked of the server. May raise ``NfsError``."""

    def before_write(self, path: Path) -> None:
        """A window of calls is about to change the file. May raise ``BlockError``: it is somebody else's by now."""

    def heard(self) -> None:
        """The server has answered."""

    def repeated(self, path: Path, writes: int, size_bytes: int) -> None:
        """The server had lost these; it has them again."""


class NfsFile(DiskFile):
    """One open file. ``sync`` is the promise: what was written before it survives the server's restart."""

    def __init__(self, client: NfsClient, path: Path, handle: bytes, writable: bool, hooks: FileHooks) -> None:
        self.path, self.writable = path, writable
        self.client, self.handle, self.hooks = client, handle, hooks
        self.behind = WriteBehind()
        self._suspect = False
        self._closed = False
        self._what = path.as_posix()
        self.pread: Callable[[int, int], bytes] = self._pread

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        if self._closed:
            raise BlockError("medium", f"{self._what} is closed.")
        with asking(self.hooks):
            yield

    @property
    def size_bytes(self) -> int:
        with self._asking():
            return max(self.client.getattr(self.handle, self._what).size_bytes, self.behind.end())

    def _pread(self, size_bytes: int, offset_bytes: int) -> bytes:
        with self._asking():
            data = self.client.read(self.handle, offset_bytes, size_bytes, self._what)
            if self.behind.writes and len(data) < size_bytes:
                data = self._grown(offset_bytes, size_bytes, data)
            return self.behind.over(offset_bytes, size_bytes, data)

    def _grown(self, offset_bytes: int, size_bytes: int, data: bytes) -> bytes:
        """Zeros up to where the file ends, had the server not forgotten."""
        return data.ljust(max(len(data), min(size_bytes, self.behind.end() - offset_bytes)), b"\0")

    def read_some(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self._pread(size_bytes, offset_bytes)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        content = bytes(data)
        if not content:
            return
        with self._asking():
            try:
                self._send(Kept(offset_bytes, content, []))
            except (NfsError, BlockError):
                self._suspect = True  # the server may have some of it, over something older that is kept
                raise
        if self.behind.size_bytes > KEEP_BYTES:
            self.sync()

    def _put(self, write: Kept) -> None:
        """All of it is at the server, each window sent only as long as the file is ours."""
        done = self.client.write(
            self.handle, write.offset_bytes, write.data, what=self._what,
            before=lambda: self.hooks.before_write(self.path),
        )  # fmt: skip
        write.verifiers = list({written.verifier for written in done if not written.stable})

    def _send(self, write: Kept) -> None:
        self._put(write)
        # What is stable at once is kept too while older writes are: they may have to be repeated below it.
        if write.verifiers or self.behind.writes:
            self.behind.keep(write)

    def sync(self) -> None:
        if not self.behind.writes:
            return
        with self._asking():
            for _ in range(MOST_REPEATS):
                lost = not self.behind.all_have(self.client.commit(self.handle, self._what))
                if not lost and not self._suspect:
                    self.behind.forget()
                    return
                self._repeat(lost)
        raise BlockError(
            "medium", f"{self._what} cannot be written: the file server loses its memory again and again (NFS write "
            "verifier). What was written is kept; look at the server's log."
        )  # fmt: skip

    def _repeat(self, lost: bool) -> None:
        for write in self.behind.writes:
            self._put(write)
        self._suspect = False
        if lost:
            self.hooks.repeated(self.path, len(self.behind.writes), self.behind.size_bytes)

    def resize(self, size_bytes: int) -> None:
        self.sync()
        with self._asking():
            self.hooks.before_write(self.path)
            self.client.truncate(self.handle, size_bytes, self._what)

    def allocate(self, size_bytes: int) -> None:
        """MODEL: NFS version 3 cannot reserve space; whether the file is thin is the server's affair, as for ESX."""
        self.resize(size_bytes)

    def next_data(self, offset_bytes: int) -> int:
        return offset_bytes

    def lock(self) -> None:
        """Nothing: who may write is settled by the lock files (``locks``)."""

    def close(self) -> None:
        if not self._closed:
            try:
                self.sync()
            finally:
                self._closed = True


@contextlib.contextmanager
def asking(hooks: FileHooks) -> Iterator[None]:
    """Whatever the server says no to becomes a disk's error."""
    try:
        hooks.before()
        yield
    except NfsError as error:
        raise disk_error(error) from None
    hooks.heard()
