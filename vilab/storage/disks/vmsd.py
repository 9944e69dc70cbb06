"""The snapshot list of a virtual machine: ``vm.vmsd``, a dictionary file as ESX writes it.

::

    .encoding = "UTF-8"
    snapshot.lastUID = "3"                        the highest number given so far
    snapshot.numSnapshots = "2"
    snapshot.current = "3"                        what the machine runs on is a child of this one; absent: of none
    snapshot0.uid = "1"
    snapshot0.filename = "vm-Snapshot1.vmsn"      the machine's state
    snapshot0.displayName = "installed"
    snapshot0.createTimeHigh = "273612"           microseconds since 1970, two halves, each a signed number
    snapshot0.createTimeLow = "-1190311024"
    snapshot0.numDisks = "2"
    snapshot0.disk0.fileName = "vm.vmdk"          the disk as it was then: read-only since
    snapshot0.disk0.node = "scsi0:0"
    snapshot1.uid = "3"
    snapshot1.parent = "1"                        a tree: several may have the same parent

In a value, ``|`` and two hexadecimal digits stand for a byte that could not stand there itself: ``|22`` is a quotation
mark, ``|0A`` a new line.

Ours, only while an operation is under way (``vm_snapshots`` says how they are used)::

    vilab.change0.node = "scsi0:0"                the machine's configuration has to name another disk there
    vilab.change0.from = "vm-000001.vmdk"
    vilab.change0.to = "vm-000002.vmdk"
    vilab.merged0 = "vm-000001.vmdk"              a disk whose parent holds all of it, and which is to go
    vilab.doomed0 = "vm-000001-delta.vmdk"        a file that belongs to nothing

Source: VMware, Virtual Disk API Programming Guide, and files that ESX has written.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from vilab.errors import AdminError

MOST_BYTES: Final = 1 << 20
MOST_LISTED: Final = 1000
MOST_DISKS: Final = 60
"""Four controllers with 15 disks each."""
MOST_NUMBER: Final = (1 << 31) - 1
KNOWN: Final = ("uid", "filename", "parent", "displayName", "description", "type", "createTimeHigh", "createTimeLow")

_LINE = re.compile(r'([A-Za-z.][\w.:\-]{0,99})\s*=\s*"([^"]*)"\s*\Z', re.ASCII)
_NODE = re.compile(r"(scsi|ide)[0-3]:\d{1,2}\Z", re.ASCII)
_ESCAPED = re.compile(r"\|([0-9A-Fa-f]{2})")


class DiskAt(msgspec.Struct, frozen=True):
    """A disk of the machine: where it is attached, and its file in the machine's folder."""

    node: str
    file: str


class Snapshot(msgspec.Struct, frozen=True):
    """One moment. ``state_file`` is empty where only the disks were kept."""

    uid: int
    name: str
    disks: tuple[DiskAt, ...]
    state_file: str = ""
    parent: int | None = None
    description: str = ""
    created_us: int = 0
    other: tuple[tuple[str, str], ...] = ()


class Change(msgspec.Struct, frozen=True):
    """The configuration names ``before`` at ``node`` and shall name ``after``."""

    node: str
    before: str
    after: str


class SnapshotList(msgspec.Struct, frozen=True):
    """The whole file as a value. ``other`` are settings that this version does not know; they are kept."""

    snapshots: tuple[Snapshot, ...] = ()
    current: int | None = None
    last_uid: int = 0
    needs_consolidation: bool = False
    changes: tuple[Change, ...] = ()
    merged: tuple[str, ...] = ()
    doomed: tuple[str, ...] = ()
    other: tuple[tuple[str, str], ...] = ()

    def find(self, uid: int) -> Snapshot:
        for snapshot in self.snapshots:
            if snapshot.uid == uid:
                return snapshot
        raise AdminError(f"There is no snapshot {uid}; there are {[s.uid for s in self.snapshots]}.")

    def children(self, uid: int | None) -> list[Snapshot]:
        return [snapshot for snapshot in self.snapshots if snapshot.parent == uid]

    def depth(self, uid: int | None) -> int:
        """How many snapshots lead to this one, itself included."""
        steps = 0
        while uid is not None:
            steps, uid = steps + 1, self.find(uid).parent
        return steps

    def describe(self) -> str:
        """The tree, a line a snapshot, and where the machine is."""
        lines: list[str] = []

        def show(parent: int | None, indent: int) -> None:
            for snapshot in self.children(parent):
                lines.append(f"{'  ' * indent}{snapshot.uid}  {snapshot.name}")
                show(snapshot.uid, indent + 1)
            if self.current == parent:
                lines.append(f"{'  ' * indent}*  you are here")

        show(None, 0)
        return "\n".join(lines)


# --- writing ----------------------------------------------------------------------------------------------------------


def write(listed: SnapshotList) -> bytes:
    """The file's bytes."""
    rows: list[tuple[str, str]] = [(".encoding", "UTF-8"), ("snapshot.lastUID", str(listed.last_uid))]
    rows.append(("snapshot.numSnapshots", str(len(listed.snapshots))))
    if listed.current is not None:
        rows.append(("snapshot.current", str(listed.current)))
    if listed.needs_consolidation:
        rows.append(("snapshot.needConsolidate", "TRUE"))
    rows += listed.other
    for number, snapshot in enumerate(listed.snapshots):
        rows += [(f"snapshot{number}.{key}", value) for key, value in _rows_of(snapshot)]
    for number, change in enumerate(listed.changes):
        rows += [
            (f"vilab.change{number}.{key}", value)
            for key, value in (("node", change.node), ("from", change.before), ("to", change.after))
        ]
    rows += [(f"vilab.merged{number}", name) for number, name in enumerate(listed.merged)]
    rows += [(f"vilab.doomed{number}", name) for number, name in enumerate(listed.doomed)]
    return "".join(f'{key} = "{_escape(value)}"\n' for key, value in rows).encode("utf-8", "surrogateescape")


def _rows_of(snapshot: Snapshot) -> list[tuple[str, str]]:
    high, low = (_signed(half) for half in divmod(snapshot.created_us, 1 << 32))
    rows = [("uid", str(snapshot.uid)), ("filename", snapshot.state_file)]
    if snapshot.parent is not None:
        rows.append(("parent", str(snapshot.parent)))
    rows.append(("displayName", snapshot.name))
    if snapshot.description:
        rows.append(("description", snapshot.description))
    rows += [("createTimeHigh", str(high)), ("createTimeLow", str(low)), ("numDisks", str(len(snapshot.disks)))]
    for number, disk in enumerate(snapshot.disks):
        rows += [(f"disk{number}.fileName", disk.file), (f"disk{number}.node", disk.node)]
    return rows + list(snapshot.other)


def _signed(half: int) -> int:
    half &= 0xFFFF_FFFF
    return half - (1 << 32) if half >> 31 else half


def _escape(value: str) -> str:
    return re.sub(r'[|"\x00-\x1f\x7f\x85\u2028\u2029]', lambda m: "".join(f"|{b:02X}" for b in m[0].encode()), value)


def _unescape(value: str) -> str:
    """Bytes, not characters: a letter beyond ASCII may have been escaped byte by byte."""
    data = value.encode("utf-8", "surrogateescape")
    return re.sub(rb"\|([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), data).decode("utf-8", "surrogateescape")


# --- reading ----------------------------------------------------------------------------------------------------------


class _Reader:
    """Settings by name; what was asked for is taken out."""

    def __init__(self, rows: dict[str, str], where: str) -> None:
        self.rows, self.where = rows, where

    def bad(self, why: str) -> AdminError:
        return AdminError(f"{self.where} is damaged: {why}.")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.rows.pop(key, default)
        if value is None:
            raise self.bad(f"{key} is missing")
        return value

    def number(self, key: str, default: int | None = None, most: int = MOST_NUMBER, least: int = 0) -> int:
        value = self.text(key, None if default is None else str(default))
        if not re.fullmatch(r"-?\d{1,12}", value, re.ASCII) or not least <= int(value) <= most:
            raise self.bad(f"{key} is {value[:20]!r}, not a number from {least} to {most}")
        return int(value)

    def file(self, key: str) -> str:
        """A name in the machine's folder, nothing that leads out of it."""
        name = self.text(key)
        if not is_plain_name(name):
            raise self.bad(f"{key} is {name[:60]!r}, which is no file of the virtual machine's folder")
        return name

    def files(self, prefix: str) -> tuple[str, ...]:
        found: list[str] = []
        while f"{prefix}{len(found)}" in self.rows:
            found.append(self.file(f"{prefix}{len(found)}"))
        return tuple(found)

    def node(self, key: str) -> str:
        node = self.text(key)
        if not _NODE.match(node):
            raise self.bad(f"{key} is {node[:20]!r}; a disk is attached at scsi0:0, for instance")
        return node


def is_plain_name(name: str) -> bool:
    """One that a file can have. Bytes that are no UTF-8 are names as well, as ``surrogateescape`` reads them."""
    plain = bool(name) and name not in (".", "..") and not re.search(r"[/\\\x00]", name)
    return plain and len(name.encode("utf-8", "surrogateescape")) <= 255


def parse(data: bytes, where: str = "The snapshot list") -> SnapshotList:
    """The value. ``AdminError`` with one sentence for anything that is no snapshot list."""
    if len(data) > MOST_BYTES:
        raise AdminError(f"{where} is no snapshot list: {len(data)} bytes are too many, {MOST_BYTES} the most.")
    rows: dict[str, str] = {}
    for number, raw in enumerate(re.split(r"\r\n|\n|\r", data.decode("utf-8", "surrogateescape")), 1):
        line = raw.strip(" \t")
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise AdminError(f"{where} is damaged in line {number}: {line[:60]!r} is no setting.")
        if match[1] in rows:
            raise AdminError(f"{where} is damaged in line {number}: {match[1]} is set a second time.")
        rows[match[1]] = _unescape(match[2])
    return _build(_Reader(rows, where))


def _build(reader: _Reader) -> SnapshotList:
    encoding = reader.text(".encoding", "UTF-8")
    if encoding.upper() != "UTF-8":
        raise reader.bad(f"its encoding is {encoding[:20]!r}; only UTF-8 can be read")
    last = reader.number("snapshot.lastUID", 0)
    count = reader.number("snapshot.numSnapshots", 0, MOST_LISTED)
    current = reader.number("snapshot.current", 0)
    needs = reader.text("snapshot.needConsolidate", "FALSE").upper() == "TRUE"
    snapshots = tuple(_snapshot(reader, number) for number in range(count))
    changes = _changes(reader)
    merged, doomed = reader.files("vilab.merged"), reader.files("vilab.doomed")
    other = tuple(reader.rows.items())
    listed = SnapshotList(snapshots, current or None, last, needs, changes, merged, doomed, other)
    _judge(listed, reader)
    return listed


def _snapshot(reader: _Reader, number: int) -> Snapshot:
    at = f"snapshot{number}."
    uid = reader.number(at + "uid", least=1)
    parent = reader.number(at + "parent", 0)
    high = reader.number(at + "createTimeHigh", 0, least=-1 << 31)
    low = reader.number(at + "createTimeLow", 0, least=-1 << 31)
    disks = []
    for which in range(reader.number(at + "numDisks", 0, MOST_DISKS)):
        disk = f"{at}disk{which}."
        disks.append(DiskAt(reader.node(disk + "node"), reader.file(disk + "fileName")))
    state = reader.file(at + "filename") if reader.rows.get(at + "filename") else reader.text(at + "filename", "")
    name, description = reader.text(at + "displayName", ""), reader.text(at + "description", "")
    other = [(key[len(at) :], reader.rows.pop(key)) for key in list(reader.rows) if key.startswith(at)]
    created_us = (high & 0xFFFF_FFFF) << 32 | low & 0xFFFF_FFFF
    return Snapshot(uid, name, tuple(disks), state, parent or None, description, created_us, tuple(other))


def _changes(reader: _Reader) -> tuple[Change, ...]:
    found: list[Change] = []
    while (at := f"vilab.change{len(found)}.") + "node" in reader.rows:
        if len(found) >= MOST_DISKS:
            raise reader.bad(f"more than {MOST_DISKS} disks are to change")
        found.append(Change(reader.node(at + "node"), reader.file(at + "from"), reader.file(at + "to")))
    return tuple(found)


def _judge(listed: SnapshotList, reader: _Reader) -> None:
    """Numbers are given once, parents are there, and nobody is his own ancestor."""
    parents = {snapshot.uid: snapshot.parent for snapshot in listed.snapshots}
    if len(parents) != len(listed.snapshots):
        raise reader.bad("two snapshots have the same uid")
    if listed.current is not None and listed.current not in parents:
        raise reader.bad(f"the current snapshot {listed.current} is not in the list")
    sound: set[int | None] = {None}
    for uid in parents:
        way: list[int] = []
        at: int | None = uid
        while at not in sound:
            assert at is not None
            if at not in parents:
                raise reader.bad(f"snapshot {at} is a parent and not in the list")
            if at in way:
                raise reader.bad(f"snapshot {at} is its own ancestor")
            way.append(at)
            at = parents[at]
        sound.update(way)
    for snapshot in listed.snapshots:
        if len({disk.node for disk in snapshot.disks}) != len(snapshot.disks):
            raise reader.bad(f"snapshot {snapshot.uid} has two disks at one place")
