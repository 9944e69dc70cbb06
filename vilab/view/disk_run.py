"""A disk to which things are done, one a step, and remembered (``deed_run``): what the disk map is drawn from.

::

    deeds      write A to 0..29, snapshot, write B to 4..9, ...
    moments    0 ── 1 ── 2 ── 3        all files of the chain, what a guest reads, and what the storage has said
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from vilab.errors import AdminError
from vilab.events import Event, EventLog
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_create import create
from vilab.view.deed_run import DeedRun
from vilab.view.disk_frame import Access, DiskMoment, capture

BLOCK_SECTORS = 8
BLOCK_BYTES = BLOCK_SECTORS * SECTOR_BYTES
MOST_BLOCKS = 64


class Deed(msgspec.Struct, frozen=True):
    """``words``: what is done, in the present tense. ``do`` does it. ``access``: if it is the guest that does it."""

    words: str
    do: Callable[[DiskRun], object]
    access: Access | None = None


def write(letter: str, first: int, blocks: int) -> Deed:
    """The guest fills blocks with one letter."""
    data = letter.encode() * (blocks * BLOCK_BYTES)
    return Deed(
        f"The guest writes **{letter}** to {span(first, blocks)}",
        lambda run: run.disk.chain.write(first * BLOCK_BYTES, data), Access("write", first, blocks),
    )  # fmt: skip


def read(first: int, blocks: int) -> Deed:
    """The guest reads blocks at one go."""
    return Deed(
        f"The guest reads {span(first, blocks)} at one go",
        lambda run: run.disk.chain.read(first * BLOCK_BYTES, blocks * BLOCK_BYTES), Access("read", first, blocks),
    )  # fmt: skip


def snapshot() -> Deed:
    return Deed("A snapshot is taken", lambda run: run.disk.snapshot())


def revert() -> Deed:
    return Deed("The disk goes back to its last snapshot", lambda run: run.disk.revert())


def delete(link: int) -> Deed:
    """Delete the snapshot under link number ``link`` (1: the first redo log): its blocks go one down."""
    return Deed(f"Snapshot {link} is deleted", lambda run: run.disk.commit(link))


def delete_all(meanwhile: Deed | None = None) -> Deed:
    """Delete all snapshots; between two steps of it the guest may do something."""
    words = "All snapshots are deleted"
    if meanwhile is None:
        return Deed(words, lambda run: run.disk.consolidate())
    during = meanwhile.words[0].lower() + meanwhile.words[1:]
    return Deed(f"{words}, and meanwhile {during}", lambda run: _between(run, meanwhile), meanwhile.access)


def _between(run: DiskRun, meanwhile: Deed) -> None:
    steps: Iterator[int] = run.disk.consolidate_steps()
    next(steps)
    meanwhile.do(run)
    for _ in steps:
        pass


def span(first: int, blocks: int) -> str:
    return f"block {first}" if blocks == 1 else f"blocks {first} to {first + blocks - 1}"


class DiskRun(DeedRun[Deed, DiskMoment]):
    """A new disk in a folder of its own, and what is to be done to it.

    Parameters
    ----------
    blocks : of 4 KB, 64 at most.
    create_type : of the base; ``vmfs`` is a flat file, as on ESX.
    """

    def __init__(self, deeds: list[Deed], blocks: int = 40, create_type: str = "vmfs") -> None:
        if not 1 <= blocks <= MOST_BLOCKS:
            raise AdminError(f"A disk of {blocks} blocks cannot be drawn: 1 to {MOST_BLOCKS} can.")
        super().__init__(deeds)
        self.blocks = blocks
        self._events: list[Event] = []
        log = EventLog()
        log.listen(self._events.append)
        self._folder = tempfile.TemporaryDirectory(prefix="vilab-disk-")
        self.path = Path(self._folder.name) / "vm.vmdk"
        create(self.path, blocks * BLOCK_SECTORS, create_type)
        self.disk = SnapshotDisk(self.path, log=log)
        self.moments.append(self._moment("A new disk", None))

    def close(self) -> None:
        self.disk.close()
        self._folder.cleanup()

    def _do(self, deed: Deed) -> DiskMoment:
        deed.do(self)
        return self._moment(deed.words, deed.access)

    def _moment(self, words: str, access: Access | None) -> DiskMoment:
        found = capture(self.disk.chain, BLOCK_SECTORS, words, access, tuple(self._events))
        self._events.clear()
        return found
