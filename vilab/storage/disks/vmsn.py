"""The state of a virtual machine in a file, ``vm-Snapshot1.vmsn`` or ``vm.vmss``: a container of our own.

::

    offset   0          8        12          16
            +----------+--------+-----------+--------------------------------------+
            | vilabSN1 | uid    | parts     | a row a part: name 24, offset u64,   |
            |          | u32    | u32       | size u64, XXH3-128 of the part 16    |
            +----------+--------+-----------+--------------------------------------+
            | XXH3-128 of all that 16 | the parts, one after the other             |
            +--------------------------------------------------------------------- +

Little endian. ``uid`` is the snapshot's number. A suspended machine's mark is ``vilabSS1``, and its configuration has
the ``uid`` as well. What a part holds is the business of whoever suspends the machine (``vm``: its state record,
``memory``: its pages); the disks are beside, in the chain that the configuration or the snapshot list names.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import xxhash

from vilab.errors import AdminError
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.disk_file import REAL_FILES, Files


class Kind(msgspec.Struct, frozen=True):
    """``mark``: 8 bytes. ``what``, ``owner``: in sentences."""

    mark: bytes
    what: str
    owner: str


SNAPSHOT: Final = Kind(b"vilabSN1", "snapshot's state", "snapshot")
SUSPENDED: Final = Kind(b"vilabSS1", "suspended machine of vilab", "suspension")
MOST_PARTS: Final = 64
DIGEST_BYTES: Final = 16

_HEAD = struct.Struct("<8s I I")
_ROW = struct.Struct("<24s Q Q 16s")


def _digest(data: ReadableBytes) -> bytes:
    return xxhash.xxh3_128_digest(data)


def write(
    path: Path, uid: int, parts: Mapping[str, ReadableBytes], files: Files = REAL_FILES, kind: Kind = SNAPSHOT
) -> None:
    """A new file, on the disk when this returns. Refused where there is one."""
    if len(parts) > MOST_PARTS or any(not 0 < len(name.encode()) <= 24 for name in parts):
        raise AdminError(f"{path} cannot be made: at most {MOST_PARTS} parts with names of 1 to 24 bytes.")
    head = bytearray(_HEAD.pack(kind.mark, uid, len(parts)))
    at = len(head) + len(parts) * _ROW.size + DIGEST_BYTES
    for name, data in parts.items():
        head += _ROW.pack(name.encode(), at, memoryview(data).nbytes, _digest(data))
        at += memoryview(data).nbytes
    head += _digest(head)
    file = files.create(path)
    try:
        file.write(0, head)
        at = len(head)
        for data in parts.values():
            file.write(at, data)
            at += memoryview(data).nbytes
        file.sync()
    finally:
        file.close()
    files.sync_folder(path.parent)


def read(path: Path, uid: int, files: Files = REAL_FILES, kind: Kind = SNAPSHOT) -> dict[str, bytes]:
    """The parts. ``AdminError`` where a byte is not as it was written, or it is another snapshot's."""

    def damaged(why: str) -> AdminError:
        return BlockError("medium", f"{path} is no {kind.what}, or damaged: {why}.")

    file = files.open(path)
    try:
        start = file.read_some(0, _HEAD.size)
        if len(start) < _HEAD.size or start[:8] != kind.mark:
            raise damaged("it does not begin with its mark")
        _, found, count = _HEAD.unpack(start)
        if count > MOST_PARTS:
            raise damaged(f"{count} parts are too many")
        head = file.read_some(0, _HEAD.size + count * _ROW.size + DIGEST_BYTES)
        if head[-DIGEST_BYTES:] != _digest(head[:-DIGEST_BYTES]):
            raise damaged("its table has changed")
        if found != uid:
            raise damaged(f"it belongs to {kind.owner} {found}, not to {uid}")
        parts: dict[str, bytes] = {}
        next_at = len(head)
        for name, at, size, digest in _ROW.iter_unpack(head[_HEAD.size : -DIGEST_BYTES]):
            if at != next_at or at + size > file.size_bytes:
                raise damaged("it ends too early, or its parts are not one after the other")
            next_at += size
            data = file.read_some(at, size)
            if _digest(data) != digest:
                raise damaged(f"its part {name.rstrip(bytes(1))!r} has changed")
            parts[name.rstrip(b"\0").decode("utf-8", "replace")] = data
        return parts
    finally:
        file.close()
