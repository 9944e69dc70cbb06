"""The NFS procedures of a server over a volume in memory: arguments off the reader, results as bytes.

The table of arguments and results is in ``layout``. Each function gives what follows status 0; a refusal is
``volume.Refused``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from vilab.storage.nfs import layout as nfs
from vilab.storage.nfs.layout import FOLDER, REGULAR
from vilab.storage.nfs.volume import INVAL, Inode, MemoryVolume, Refused
from vilab.storage.nfs.xdr import XdrReader, opaque, string, u32, u64

BADHANDLE = 10001
TRANSFER_BYTES = 1 << 16
ENTRIES_A_REPLY = 64


def fileid_of(reader: XdrReader) -> int:
    handle = reader.opaque(nfs.MOST_HANDLE_BYTES)
    if len(handle) != 16 or handle[:8] != b"vilabfh\0":
        raise Refused(BADHANDLE)
    return int.from_bytes(handle[8:], "big")


def name_of(reader: XdrReader) -> str:
    name = reader.string(nfs.MOST_NAME_BYTES)
    if not name or "/" in name or "\0" in name or name == "..":
        raise Refused(INVAL)
    return name


def apply(volume: MemoryVolume, reader: XdrReader, inode: Inode) -> None:
    """sattr3: mode and size; owner and times are not kept."""
    mode = reader.u32() if reader.flag() else None
    for _ in ("uid", "gid"):
        if reader.flag():
            reader.u32()
    size = reader.u64() if reader.flag() else None
    for _ in ("atime", "mtime"):
        if reader.u32() == 2:
            reader.u64()
    if size is not None:
        volume.resize(inode.fileid, size)
    if mode is not None:
        inode.mode = mode


def handle_of(fileid: int) -> bytes:
    return opaque(b"vilabfh\0" + u64(fileid))


def about(inode: Inode) -> bytes:
    """fattr3"""
    time = struct.pack(">II", inode.changed // 1000, inode.changed % 1000 * 1_000_000)
    size = len(inode.content)
    head = struct.pack(">5I2Q2I2Q", inode.kind, inode.mode, inode.links, 0, 0, size, size, 0, 0, 1, inode.fileid)
    return head + time * 3


def maybe(inode: Inode) -> bytes:
    return u32(1) + about(inode)


NOTHING = u32(0)
NO_CHANGES = u32(0) + u32(0)


def getattr_(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    return about(volume.inode(fileid_of(reader)))


def setattr_(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    apply(volume, reader, volume.inode(fileid_of(reader)))
    return NO_CHANGES


def lookup(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    inode = volume.lookup(fileid_of(reader), name_of(reader))
    return handle_of(inode.fileid) + maybe(inode) + NOTHING


def access(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    volume.inode(fileid_of(reader))
    return NOTHING + u32(reader.u32())


def read(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    inode = volume.inode(fileid_of(reader))
    at, size = reader.u64(), min(reader.u32(), TRANSFER_BYTES)
    data = bytes(inode.content[at : at + size])
    return maybe(inode) + u32(len(data)) + u32(at + len(data) >= len(inode.content)) + opaque(data)


def write(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    fileid, at, size, how = fileid_of(reader), reader.u64(), reader.u32(), reader.u32()
    data = reader.opaque(nfs.MOST_DATA_BYTES)[: min(size, TRANSFER_BYTES)]
    volume.write(fileid, at, data, how != nfs.UNSTABLE)
    committed = nfs.UNSTABLE if how == nfs.UNSTABLE else nfs.FILE_SYNC
    return NO_CHANGES + u32(len(data)) + u32(committed) + u64(verifier)


def commit(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    volume.inode(fileid_of(reader)).settle()
    return NO_CHANGES + u64(verifier)


def create(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    folder, name, how = fileid_of(reader), name_of(reader), reader.u32()
    if how == nfs.EXCLUSIVE:
        inode = volume.make(folder, name, REGULAR, 0, reader.fixed(8))
    else:
        names = volume.folder(folder).names
        if how == nfs.UNCHECKED and name in names:
            inode = volume.inode(names[name])
        else:
            inode = volume.make(folder, name, REGULAR, 0o644)
        apply(volume, reader, inode)
    return u32(1) + handle_of(inode.fileid) + maybe(inode) + NO_CHANGES


def mkdir(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    inode = volume.make(fileid_of(reader), name_of(reader), FOLDER, 0o755)
    apply(volume, reader, inode)
    return u32(1) + handle_of(inode.fileid) + maybe(inode) + NO_CHANGES


def remove(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    volume.remove(fileid_of(reader), name_of(reader), REGULAR)
    return NO_CHANGES


def rmdir(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    volume.remove(fileid_of(reader), name_of(reader), FOLDER)
    return NO_CHANGES


def rename(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    folder, name = fileid_of(reader), name_of(reader)
    volume.rename(folder, name, fileid_of(reader), name_of(reader))
    return NO_CHANGES * 2


def link(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    volume.link(fileid_of(reader), fileid_of(reader), name_of(reader))
    return NOTHING + NO_CHANGES


def readdirplus(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    """A cookie is the number of the file that was listed last: it holds while others come and go."""
    folder, cookie = volume.folder(fileid_of(reader)), reader.u64()
    names = sorted(folder.names.items(), key=lambda item: (item[1], item[0]))
    inodes = {name: volume.inode(number) for name, number in names}
    # Two names of one file share its number: the second is told apart by the top bits.
    keyed: list[tuple[int, str]] = []
    for name, number in names:
        again = sum(1 for key, _ in keyed if key & 0xFFFF_FFFF == number)
        keyed.append((number | again << 32, name))
    left = [(key, name) for key, name in sorted(keyed) if key > cookie]
    parts = [NOTHING, bytes(8)]
    for key, name in left[:ENTRIES_A_REPLY]:
        inode = inodes[name]
        entry = u32(1) + u64(inode.fileid) + string(name) + u64(key) + maybe(inode) + u32(1) + handle_of(inode.fileid)
        parts.append(entry)
    return b"".join(parts) + u32(0) + u32(len(left) <= ENTRIES_A_REPLY)


def fsstat(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    volume.inode(fileid_of(reader))
    total, free = volume.capacity_bytes, volume.capacity_bytes - volume.used_bytes()
    return NOTHING + u64(total) + u64(free) * 2 + u64(1 << 20) * 3 + u32(0)


def fsinfo(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    volume.inode(fileid_of(reader))
    sizes = u32(TRANSFER_BYTES) * 2 + u32(1)
    return NOTHING + sizes * 2 + u32(TRANSFER_BYTES) + u64(1 << 30) + u32(0) + u32(1_000_000) + u32(0x1B)


def pathconf(volume: MemoryVolume, verifier: int, reader: XdrReader) -> bytes:
    volume.inode(fileid_of(reader))
    return NOTHING + u32(32000) + u32(nfs.MOST_NAME_BYTES) + u32(1) * 2 + u32(0) + u32(1)


PROCEDURES: dict[int, Callable[[MemoryVolume, int, XdrReader], bytes]] = {
    nfs.GETATTR: getattr_,
    nfs.SETATTR: setattr_,
    nfs.LOOKUP: lookup,
    nfs.ACCESS: access,
    nfs.READ: read,
    nfs.WRITE: write,
    nfs.CREATE: create,
    nfs.MKDIR: mkdir,
    nfs.REMOVE: remove,
    nfs.RMDIR: rmdir,
    nfs.RENAME: rename,
    nfs.LINK: link,
    nfs.READDIRPLUS: readdirplus,
    nfs.FSSTAT: fsstat,
    nfs.FSINFO: fsinfo,
    20: pathconf,
    nfs.COMMIT: commit,
}

FAILURE_TAIL: dict[int, bytes] = {
    nfs.GETATTR: b"",
    nfs.RENAME: NO_CHANGES * 2,
    nfs.LINK: NOTHING + NO_CHANGES,
    **dict.fromkeys((2, 7, 8, 9, 12, 13, 21), NO_CHANGES),
}
"""What follows a status that is not 0, where it is more than one absent attribute."""
