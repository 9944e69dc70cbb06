"""What cloning reports, beside the pieces that are copied (``StorageBytesCopied``). Times are of the host's clock."""

from __future__ import annotations

from vilab.events import Event


class CloneBegan(Event, frozen=True, tag=True):
    """``source``, ``clone``: configuration files. ``running``: the original is on, and redo logs take its writes."""

    vm: str
    source: str
    clone: str
    name: str
    running: bool
    disks: int
    disk_bytes: int


class CloneEnded(Event, frozen=True, tag=True):
    """``why`` is empty after a success, and says in a sentence what has happened otherwise. ``left``: what has to be
    done yet at the original after a success, and when that will be."""

    vm: str
    clone: str
    ok: bool
    why: str
    left: str
    copied_bytes: int
    duration_ns: int
