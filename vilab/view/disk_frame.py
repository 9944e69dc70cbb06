"""A disk and its redo logs at one moment: what each file holds, what the guest reads, and where that lies.

::

    blocks        0 1 2 3 4 5        one letter a block: what its bytes are
    vm-000001     . C C . . .        .  not in this file
    vm            A A A A 0 0        0  zeros
    seen          A C C A 0 0        what ``DiskChain.read`` gives
    source        0 1 1 0 0 0        the file that it comes from, counted from the base

Everything is read from the chain and its files, nothing is remembered.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from vilab.events import Event
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.disk_chain import DiskChain
from vilab.storage.disks.extent import runs
from vilab.storage.disks.vmdk import VirtualDisk

ABSENT, ZEROS, MIXED = ".", "0", "?"


class LinkMoment(msgspec.Struct, frozen=True):
    """One file of the chain. ``cells``: a letter a block; ``file_bytes``: as long as its files are."""

    name: str
    cells: str
    file_bytes: int

    @property
    def held(self) -> int:
        """Blocks of which something is in this file."""
        return len(self.cells) - self.cells.count(ABSENT)


class Access(msgspec.Struct, frozen=True):
    """What the guest does: ``kind`` is ``read`` or ``write``; blocks."""

    kind: str
    first: int
    blocks: int


class DiskMoment(msgspec.Struct, frozen=True):
    """``links`` from the base up. ``pieces``: (link, first block, blocks) of what a read of ``access`` consists of."""

    words: str
    access: Access | None
    links: tuple[LinkMoment, ...]
    seen: str
    source: tuple[int, ...]
    pieces: tuple[tuple[int, int, int], ...]
    events: tuple[Event, ...]

    @property
    def file_bytes(self) -> int:
        return sum(link.file_bytes for link in self.links)

    def hidden(self, link: int) -> int:
        """Blocks that are in this file and that nobody reads there."""
        cells = self.links[link].cells
        return sum(cell != ABSENT and self.source[at] != link for at, cell in enumerate(cells))


def letter(data: bytes) -> str:
    """What a block holds, if it is all the same."""
    if data.count(data[:1]) != len(data):
        return MIXED
    return chr(data[0]) if data[0] else ZEROS


def capture(
    chain: DiskChain, block_sectors: int, words: str, access: Access | None, events: tuple[Event, ...]
) -> DiskMoment:
    """Look at a disk. Its blocks have ``block_sectors`` sectors."""
    size = block_sectors * SECTOR_BYTES
    blocks = chain.sectors // block_sectors
    whole = chain.read(0, blocks * size)
    seen = "".join(letter(whole[at * size : (at + 1) * size]) for at in range(blocks))
    links = tuple(_look(link, block_sectors) for link in chain.links)
    source = tuple(
        max((n for n, link in enumerate(links) if link.cells[at] != ABSENT), default=0) for at in range(blocks)
    )
    pieces = () if access is None or access.kind != "read" else _pieces(chain, access, block_sectors)
    return DiskMoment(words, access, links, seen, source, pieces, events)


def _look(link: VirtualDisk, block_sectors: int) -> LinkMoment:
    """What lies in this file alone."""
    places = np.full(link.sectors, -1, np.int64)
    link.locate(0, places)
    readers = {extent.slot: extent.reader() for extent in link.extents}
    cells = []
    for first in range(0, link.sectors, block_sectors):
        found = [int(place) for place in places[first : first + block_sectors] if place >= 0]
        parts = []
        for place in found:
            read = readers.get(place >> 40)
            parts.append(bytes(SECTOR_BYTES) if read is None else read(SECTOR_BYTES, (place & (1 << 40) - 1) * 512))
        cells.append(letter(b"".join(parts)) if found else ABSENT)
    return LinkMoment(link.path.stem, "".join(cells), sum(_length(path) for path in link.files_of()))


def _length(path: Path) -> int:
    return path.stat().st_size


def _pieces(chain: DiskChain, access: Access, block_sectors: int) -> tuple[tuple[int, int, int], ...]:
    """A read at one go: as many pieces as there are runs of sectors that lie one behind the other in one file."""
    first, count = access.first * block_sectors, access.blocks * block_sectors
    places = np.arange(first, first + count, dtype=np.int64)
    owner = np.zeros(count, np.int64)
    for number, link in enumerate(chain.links):
        own = np.full(count, -1, np.int64)
        link.locate(first, own)
        here = own >= 0
        places[here], owner[here] = own[here], number
    return tuple(
        (int(owner[low]), access.first + low // block_sectors, -(-high // block_sectors) - low // block_sectors)
        for low, high in runs(places)
    )
