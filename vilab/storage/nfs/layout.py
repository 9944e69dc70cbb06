"""NFS version 3, a datasheet: programs, procedures, attributes, and how they are laid out.

::

    fattr3, 84 bytes
     0 type        4 mode       8 nlink     12 uid      16 gid     20 size:8     28 used:8    36 rdev:8
    44 fsid:8     52 fileid:8  60 atime:8   68 mtime:8  76 ctime:8          (a time: seconds:4, nanoseconds:4)

    post_op_attr   | 0 |  or  | 1 | fattr3 |
    wcc_data       | 0 |  or  | 1 | size:8 | mtime:8 | ctime:8 |  then a post_op_attr: before and after a change

==  ===========  ==========================================  ========================================================
nr  procedure    arguments                                   results, if status is 0
==  ===========  ==========================================  ========================================================
0   NULL
1   GETATTR      handle                                      fattr3
2   SETATTR      handle, sattr3, guard                       wcc
3   LOOKUP       folder, name                                handle, attr, attr of the folder
4   ACCESS       handle, bits                                attr, bits
6   READ         handle, offset:8, count                     attr, count, end of file, data
7   WRITE        handle, offset:8, count, stable, data       wcc, count, committed, verifier
8   CREATE       folder, name, how, sattr3 or verifier       handle?, attr, wcc of the folder
9   MKDIR        folder, name, sattr3                        handle?, attr, wcc of the folder
12  REMOVE       folder, name                                wcc of the folder
13  RMDIR        folder, name                                wcc of the folder
14  RENAME       folder, name, folder, name                  wcc of both folders
15  LINK         handle, folder, name                        attr, wcc of the folder
17  READDIRPLUS  folder, cookie:8, verifier, bytes, bytes    attr, verifier, entries, end of list
18  FSSTAT       handle                                      attr, total:8, free:8, available:8, files ...
19  FSINFO       handle                                      attr, rtmax, rtpref, rtmult, wtmax, wtpref, wtmult, ...
21  COMMIT       handle, offset:8, count                     wcc, verifier
==  ===========  ==========================================  ========================================================

The *write verifier* is another one whenever the server has lost what it had not yet written to its disk: an UNSTABLE
write counts once COMMIT has answered with the verifier that the write had answered with.

Source: RFC 1813; MOUNT in its appendix I.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.xdr import XdrReader, u32, u64

PORTMAP: Final = 100000
PORTMAP_VERSION: Final = 2
GETPORT: Final = 3
PORTMAP_PORT: Final = 111
TCP: Final = 6

MOUNT: Final = 100005
MOUNT_VERSION: Final = 3
MNT, UMNT, EXPORT = 1, 3, 5
MOUNT_STATUS = {
    1: "the server does not allow it",
    2: "the server has no such folder",
    5: "the server's own disk has failed",
    13: "the export is not for this host",
    20: "that is not a folder",
    22: "the name is not valid there",
    63: "the name is too long",
    10004: "the server does not support that",
    10006: "the server has a fault of its own",
}

NFS: Final = 100003
NFS_VERSION: Final = 3
NFS_PORT: Final = 2049

NULL, GETATTR, SETATTR, LOOKUP, ACCESS = 0, 1, 2, 3, 4
READ, WRITE, CREATE, MKDIR, REMOVE, RMDIR, RENAME, LINK = 6, 7, 8, 9, 12, 13, 14, 15
READDIRPLUS, FSSTAT, FSINFO, COMMIT = 17, 18, 19, 21

REPEATABLE = frozenset({NULL, GETATTR, SETATTR, LOOKUP, ACCESS, READ, WRITE, READDIRPLUS, FSSTAT, FSINFO, COMMIT})
"""Doing them twice is doing them once; the others may only be sent again when it is certain that they were not done."""

UNSTABLE, DATA_SYNC, FILE_SYNC = 0, 1, 2
UNCHECKED, GUARDED, EXCLUSIVE = 0, 1, 2
REGULAR, FOLDER = 1, 2

MOST_HANDLE_BYTES = 64
MOST_NAME_BYTES = 255
VERIFIER_BYTES = 8
MOST_DATA_BYTES = 1 << 20

ATTRIBUTES = struct.Struct(">5I2Q2I2Q6I")


class Attributes(msgspec.Struct, frozen=True):
    """What the server says of a file. Times in nanoseconds of the server's clock: never compared with another's."""

    kind: int
    mode: int
    links: int
    uid: int
    gid: int
    size_bytes: int
    used_bytes: int
    fsid: int
    fileid: int
    changed_ns: int

    @property
    def is_folder(self) -> bool:
        return self.kind == FOLDER


class NewAttributes(msgspec.Struct, frozen=True):
    """sattr3: what is to change. ``None``: nothing."""

    mode: int | None = None
    size_bytes: int | None = None
    touch: bool = False
    """Both times become the server's present."""


def attributes(reader: XdrReader) -> Attributes:
    fields = ATTRIBUTES.unpack(reader.fixed(ATTRIBUTES.size))
    kind, mode, links, uid, gid, size, used, _major, _minor, fsid, fileid = fields[:11]
    if not 1 <= kind <= 7:
        raise NfsError("protocol", f"A message of the file server is damaged: there is no file of type {kind}.")
    return Attributes(kind, mode, links, uid, gid, size, used, fsid, fileid, fields[15] * 1_000_000_000 + fields[16])


def maybe_attributes(reader: XdrReader) -> Attributes | None:
    """post_op_attr"""
    return attributes(reader) if reader.flag() else None


def skip_changes(reader: XdrReader) -> Attributes | None:
    """wcc_data: only what is there afterwards."""
    if reader.flag():
        reader.fixed(24)
    return maybe_attributes(reader)


def new_attributes(new: NewAttributes) -> bytes:
    mode = u32(0) if new.mode is None else u32(1) + u32(new.mode)
    size = u32(0) if new.size_bytes is None else u32(1) + u64(new.size_bytes)
    times = u32(1) if new.touch else u32(0)
    return mode + u32(0) + u32(0) + size + times + times
