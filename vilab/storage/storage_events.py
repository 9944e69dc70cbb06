"""What disks report: the events of the block layer and of virtual disks."""

from __future__ import annotations

from vilab.events import Event


class DiskRequestDone(Event, frozen=True, tag=True):
    """A disk has completed a request. ``took_ns`` from its submission; ``error`` is empty if it went well."""

    disk: str
    operation: str
    offset_bytes: int
    size_bytes: int
    took_ns: int
    error: str


class GrainsAllocated(Event, frozen=True, tag=True):
    """A sparse disk has grown: sectors ``first_sector`` on now lie in ``file`` at ``file_sector``."""

    file: str
    first_sector: int
    sectors: int
    file_sector: int


class SnapshotTaken(Event, frozen=True, tag=True):
    """``parent`` is read-only from now on; ``child`` takes the writes."""

    parent: str
    child: str


class SnapshotReverted(Event, frozen=True, tag=True):
    """What ``child`` held was thrown away: the disk is what ``parent`` holds."""

    parent: str
    child: str


class SnapshotCommitted(Event, frozen=True, tag=True):
    """What ``child`` held is in ``parent`` now, and ``child`` is gone."""

    parent: str
    child: str
    sectors: int


class VmSnapshotTaken(Event, frozen=True, tag=True):
    """All disks of a virtual machine, and its state if it was kept, as they were at one moment."""

    vm: str
    uid: int
    name: str
    disks: int


class VmSnapshotReverted(Event, frozen=True, tag=True):
    """A virtual machine goes on from one of its snapshots."""

    vm: str
    uid: int
    name: str


class VmSnapshotDeleted(Event, frozen=True, tag=True):
    """A snapshot is forgotten; its redo logs are merged next."""

    vm: str
    uid: int
    name: str


class PathStateChanged(Event, frozen=True, tag=True):
    """A path to a LUN is ``active`` (in use), ``standby`` (works), ``dead`` or ``disabled`` now."""

    lun: str
    path: str
    before: str
    after: str
    why: str


class PathSwitched(Event, frozen=True, tag=True):
    """Commands to a LUN go another way. ``from_path`` is empty where there was none."""

    lun: str
    from_path: str
    to_path: str
    why: str


class PathsLost(Event, frozen=True, tag=True):
    """No path to a LUN works."""

    lun: str


class ReservationMoved(Event, frozen=True, tag=True):
    """RESERVE(6) was repeated over another path; ``kept`` is false where another host was quicker."""

    lun: str
    from_path: str
    to_path: str
    kept: bool
