"""Writes a cpio archive in the "newc" format, which Linux unpacks into its first root file system.

::

    entry     070701 | 13 numbers, 8 hex digits each | name, 0 | padding to 4 | data | padding to 4
                       inode mode uid gid nlink mtime size major minor rmajor rminor name-bytes check
    archive   entry, entry, ..., an entry with the name TRAILER!!!, padding to 512

The same entries give the same bytes: every time is 0, every owner is root, and gzip is told no time and no name.
Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux 6.1.
"""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterable

import msgspec

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
BLOCK_BYTES = 512


class Entry(msgspec.Struct, frozen=True):
    """One file of the archive. ``path`` has no slash in front; ``mode`` is that of stat, with its kind of file.

    ``device``: (major, minor) of a device node.
    """

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(path: str) -> Entry:
    return Entry(path, stat.S_IFDIR | 0o755)


def file(path: str, data: bytes, executable: bool = False) -> Entry:
    return Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), data)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int) -> Entry:
    return Entry(path, stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive, in the order of the entries: a folder comes before what is in it."""
    out = bytearray()
    for inode, entry in enumerate(entries, 1):
        _add(out, inode, entry)
    _add(out, 0, Entry(TRAILER, 0))
    out += bytes(-len(out) % BLOCK_BYTES)
    return bytes(out)


def joined(archives: Iterable[bytes]) -> bytes:
    """One after the other, compressed or not, each on a boundary of 4 bytes as the kernel wants it."""
    out = bytearray()
    for each in archives:
        out += bytes(-len(out) % 4) + each
    return bytes(out)


def compressed(data: bytes) -> bytes:
    """Under gzip, the same bytes for the same data."""
    return gzip.compress(data, compresslevel=6, mtime=0)


def _add(out: bytearray, inode: int, entry: Entry) -> None:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    out += MAGIC + b"".join(b"%08x" % number for number in numbers) + name
    out += bytes(-len(out) % 4)
    out += entry.data
    out += bytes(-len(out) % 4)
