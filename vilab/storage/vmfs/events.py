"""What hosts on a VMFS volume report. ``host`` is the UUID as text; block ids and positions as on disk."""

from __future__ import annotations

from vilab.events import Event


class VmfsBlocksAllocated(Event, frozen=True, tag=True):
    """``kind``: file block, sub-block, pointer block, inode; ``numbers`` of the items in their resource file; ``what``:
    the change that needed them."""

    host: str
    kind: str
    numbers: tuple[int, ...]
    what: str


class VmfsBlocksFreed(Event, frozen=True, tag=True):
    host: str
    kind: str
    numbers: tuple[int, ...]
    what: str


class VmfsLockTaken(Event, frozen=True, tag=True):
    """The lock in the metadata header at ``pos`` is this host's. ``held``: for as long as the file is open; else for
    one change. ``broken``: its last owner did not give it back and is dead."""

    host: str
    pos: int
    what: str
    held: bool
    broken: bool


class VmfsLockReleased(Event, frozen=True, tag=True):
    host: str
    pos: int
    what: str


class VmfsHeartbeat(Event, frozen=True, tag=True):
    """A slot was written. ``action``: acquired, renewed, released."""

    host: str
    slot: int
    seq: int
    action: str


class VmfsHeartbeatBroken(Event, frozen=True, tag=True):
    """``dead``'s stamp had not changed for so long that ``host`` has ended it: none of its locks counts any more."""

    host: str
    dead: str
    slot: int
    silent_ns: int


class VmfsReservation(Event, frozen=True, tag=True):
    """RESERVE(6) and RELEASE(6) of the LUN. ``action``: reserved, released, conflict; ``held_ns`` when released."""

    host: str
    action: str
    held_ns: int


class VmfsJournalWritten(Event, frozen=True, tag=True):
    """A change is certain from now on, though its sectors are not in their places yet."""

    host: str
    slot: int
    sectors: int
    what: str


class VmfsJournalReplayed(Event, frozen=True, tag=True):
    """A change that a host had begun was finished by ``host`` after that one's death (or its own)."""

    host: str
    slot: int
    sectors: int
