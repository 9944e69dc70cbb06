"""A small file system in memory for an NFS server: numbered files, names that lead to them, and a memory to lose.

::

    names    root "vm1" ──> folder 2 "vm1.vmdk" ──> file 3          two names may lead to one file (LINK)
    a file   durable   what is on the disk
             pending   writes since, in order: a restart may lose those that were not asked to be stable
             content   both: what a reader sees
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.storage.nfs.layout import FOLDER, REGULAR

NOENT, EXIST, NOTDIR, ISDIR, FBIG, NOSPC, NOTEMPTY, STALE, INVAL = 2, 17, 20, 21, 27, 28, 66, 70, 22
MOST_FILE_BYTES = 1 << 30


class Refused(Exception):
    """The number of an NFS status."""

    def __init__(self, status: int) -> None:
        self.status = status


class Inode(msgspec.Struct):
    """A file or a folder. ``changed``: counts changes, the server's notion of time."""

    fileid: int
    kind: int
    mode: int
    links: int = 0
    changed: int = 0
    content: bytearray = msgspec.field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes, bool]] = msgspec.field(default_factory=list)
    names: dict[str, int] = msgspec.field(default_factory=dict)
    identity: bytes = b""
    """Of the exclusive CREATE that has made it."""

    def put(self, offset_bytes: int, data: bytes) -> None:
        overlay(self.content, offset_bytes, data)

    def settle(self) -> None:
        """Everything is on the disk."""
        self.durable, self.pending = bytes(self.content), []


def overlay(content: bytearray, offset_bytes: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset_bytes + len(data) - len(content))))
    content[offset_bytes : offset_bytes + len(data)] = data


class MemoryVolume:
    """Every method that is refused raises ``Refused`` and has changed nothing."""

    ROOT = 1

    def __init__(self, capacity_bytes: int = 1 << 30) -> None:
        self.capacity_bytes = capacity_bytes
        self.inodes = {self.ROOT: Inode(self.ROOT, FOLDER, 0o755, links=2)}
        self._next = 0x934
        self._changes = 0

    def used_bytes(self) -> int:
        return sum(len(inode.content) for inode in self.inodes.values())

    def inode(self, fileid: int) -> Inode:
        found = self.inodes.get(fileid)
        if found is None:
            raise Refused(STALE)
        return found

    def folder(self, fileid: int) -> Inode:
        found = self.inode(fileid)
        if found.kind != FOLDER:
            raise Refused(NOTDIR)
        return found

    def touch(self, inode: Inode) -> None:
        self._changes += 1
        inode.changed = self._changes

    def lookup(self, folder: int, name: str) -> Inode:
        here = self.folder(folder)
        if name == ".":
            return here
        if name not in here.names:
            raise Refused(NOENT)
        return self.inode(here.names[name])

    def make(self, folder: int, name: str, kind: int, mode: int, identity: bytes = b"") -> Inode:
        here = self.folder(folder)
        if name in here.names:
            found = self.inode(here.names[name])
            if identity and found.identity == identity:
                return found
            raise Refused(EXIST)
        inode = Inode(self._next, kind, mode, links=1 if kind == REGULAR else 2, identity=identity)
        self._next += 1
        self.inodes[inode.fileid] = inode
        here.names[name] = inode.fileid
        self.touch(inode)
        self.touch(here)
        return inode

    def link(self, fileid: int, folder: int, name: str) -> None:
        inode, here = self.inode(fileid), self.folder(folder)
        if inode.kind == FOLDER:
            raise Refused(ISDIR)
        if name in here.names:
            raise Refused(EXIST)
        here.names[name] = fileid
        inode.links += 1
        self.touch(inode)

    def remove(self, folder: int, name: str, kind: int) -> None:
        here, inode = self.folder(folder), self.lookup(folder, name)
        if inode.kind != kind:
            raise Refused(ISDIR if inode.kind == FOLDER else NOTDIR)
        if inode.names:
            raise Refused(NOTEMPTY)
        del here.names[name]
        self._unlinked(inode)
        self.touch(here)

    def _unlinked(self, inode: Inode) -> None:
        inode.links -= 1
        if inode.kind == FOLDER or not inode.links:
            del self.inodes[inode.fileid]

    def rename(self, folder: int, name: str, to_folder: int, to: str) -> None:
        inode, here, there = self.lookup(folder, name), self.folder(folder), self.folder(to_folder)
        if to in there.names:
            old = self.inode(there.names[to])
            if old is inode:
                return
            if old.kind != inode.kind:
                raise Refused(ISDIR if old.kind == FOLDER else NOTDIR)
            if old.names:
                raise Refused(NOTEMPTY)
            self._unlinked(old)
        del here.names[name]
        there.names[to] = inode.fileid
        self.touch(inode)

    def write(self, fileid: int, offset_bytes: int, data: bytes, stable: bool) -> None:
        inode = self.inode(fileid)
        self._room(inode, max(len(inode.content), offset_bytes + len(data)))
        inode.put(offset_bytes, data)
        inode.pending.append((offset_bytes, data, stable))
        self.touch(inode)

    def resize(self, fileid: int, size_bytes: int) -> None:
        inode = self.inode(fileid)
        self._room(inode, size_bytes)
        del inode.content[size_bytes:]
        inode.content.extend(bytes(size_bytes - len(inode.content)))
        inode.settle()
        self.touch(inode)

    def _room(self, inode: Inode, size_bytes: int) -> None:
        if inode.kind == FOLDER:
            raise Refused(ISDIR)
        if size_bytes > MOST_FILE_BYTES:
            raise Refused(FBIG)
        grows_bytes = size_bytes - len(inode.content)
        if grows_bytes > 0 and self.used_bytes() + grows_bytes > self.capacity_bytes:
            raise Refused(NOSPC)

    def lose_memory(self, survives: Callable[[], bool] = lambda: False) -> int:
        """A power cut: of the pending writes only those are on the disk for which ``survives()``. How many were not."""
        lost = 0
        for inode in self.inodes.values():
            if inode.pending:
                content = bytearray(inode.durable)
                for offset, data, stable in inode.pending:
                    if stable or survives():
                        overlay(content, offset, data)
                    else:
                        lost += 1
                inode.content = content
                inode.settle()
        return lost
