"""What a Storage VMotion reports. Times are of the host's clock.

::

    StorageMoveBegan                                                                 StorageMoveEnded
     │  StorageRoundBegan  StorageBytesCopied ...  StorageRoundCopied  (again and again)  │
     │                             StorageRoundCopied (stopped) ──> StorageSwitched ──────┘
"""

from __future__ import annotations

from vilab.events import Event


class StorageMoveBegan(Event, frozen=True, tag=True):
    """``source``, ``destination``: configuration files. ``method``: ``snapshot``, ``changed blocks``, ``cold``.
    ``disk_bytes``: what the guest sees of all its disks."""

    vm: str
    source: str
    destination: str
    method: str
    disks: int
    disk_bytes: int


class StorageRoundBegan(Event, frozen=True, tag=True):
    """Rounds count from 1, which copies everything; a later one copies what was written in the one before."""

    vm: str
    number: int
    todo_bytes: int


class StorageBytesCopied(Event, frozen=True, tag=True):
    """A piece of a disk, or of another file of the folder (``what``: a node, or the file's name; ``number`` is 0 for
    those), was looked at; ``written_bytes`` of it are at the destination: zeros take no space there."""

    vm: str
    what: str
    number: int
    offset_bytes: int
    size_bytes: int
    written_bytes: int


class StorageRoundCopied(Event, frozen=True, tag=True):
    """``changed_bytes``: written by the guest meanwhile, the next round's work. ``stopped``: the guest stood still."""

    vm: str
    number: int
    copied_bytes: int
    changed_bytes: int
    stopped: bool = False


class StorageSwitched(Event, frozen=True, tag=True):
    """The commitment: what the guest writes goes to the destination. ``stopped_bytes`` were copied while it stood
    still."""

    vm: str
    source: str
    destination: str
    stopped_bytes: int


class StorageMoveEnded(Event, frozen=True, tag=True):
    """``why`` is empty after a success, and says in a sentence what has happened otherwise. ``left``: what could not be
    removed from the source after a success, and when that will be done. ``copied_bytes``: of the disks, in all rounds;
    ``other_files_bytes``: of the other files of the folder."""

    vm: str
    ok: bool
    why: str
    left: str
    copied_bytes: int
    rounds: int
    duration_ns: int
    other_files_bytes: int = 0
