"""How VI 3.5 did it: a redo log on top, copy the frozen disk below it, consolidate the redo log into the copy.

::

    source        web <- 000001                web is frozen, the guest writes to 000001
    copy          web ──────────> web'         all of it, at leisure
    consolidate   web <- 000001 <- 000002      000001 is frozen in its turn
                  000001 ───────> web'         what it holds, and no more
    stopped       000002 ───────> web'         the last redo log; then the guest goes on at the destination

The redo logs are the record of what has changed. That takes space at the source for everything that the guest writes
meanwhile, and they have to be merged into the source again if the move is given up. Sources: VMware, Basic System
Administration (VI 3.5), "Migration with Storage VMotion"; Mashtizadeh et al., USENIX ATC 2011, on snapshotting.

MODEL: VI 3.5 put the redo log on the destination, and moved the configuration first. Here it stays on the source until
the end, so that one datastore holds all that counts at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vilab.host.held_snapshots import HeldSnapshots
from vilab.migration.storage_copy import Copier, Pair
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.disk_chain import REGION_SECTORS, DiskChain, open_chain
from vilab.storage.disks.vmdk import VirtualDisk


class SnapshotMethod:
    name = "snapshot"

    def __init__(self, copier: Copier, snapshots: HeldSnapshots) -> None:
        self.copier, self.snapshots = copier, snapshots
        self._frozen: dict[str, Path] = {}
        self._freeze()

    def _freeze(self) -> None:
        self._frozen = self.snapshots.freeze()

    @property
    def left_bytes(self) -> int:
        """What the guest has written to the redo logs on top."""
        return sum(
            size for disk in self.snapshots.disks.values() for _, size in held_runs(disk.chain.top, disk.chain.sectors)
        )

    def steps(self) -> Iterator[int]:
        options = self.copier.options
        yield from self._base_round()
        before = self.copier.disk_bytes
        while self.copier.number < options.most_rounds and options.little_bytes < (left := self.left_bytes) < before:
            before = left
            self._freeze()
            yield from self._redo_round(left)

    def _base_round(self) -> Iterator[int]:
        copier = self.copier
        copier.begin_round(copier.disk_bytes)
        for pair in copier.pairs:
            with open_chain(self._frozen[pair.node], files=self.snapshots.files) as chain:
                for offset, size in chain.allocated(copier.options.step_bytes):
                    copier.copy(pair.node, chain.read(offset, size), offset, pair.target.write, empty=True)
                    yield size
        copier.end_round(self.left_bytes)

    def _redo_round(self, left_bytes: int) -> Iterator[int]:
        self.copier.begin_round(left_bytes)
        for pair in self.copier.pairs:
            with open_chain(self._frozen[pair.node], files=self.snapshots.files) as chain:
                yield from self._consolidate(pair, chain)
        self.copier.end_round(self.left_bytes)

    def _consolidate(self, pair: Pair, chain: DiskChain) -> Iterator[int]:
        """What the top of the chain holds itself, into the copy: as many runs as a step has room for, and of a longer
        one a part."""
        options = self.copier.options
        most = max(SECTOR_BYTES, (options.redo_step_bytes or options.step_bytes) // SECTOR_BYTES * SECTOR_BYTES)
        step = 0
        for first, size in held_runs(chain.top, chain.sectors):
            for offset in range(first, first + size, most):
                part = min(most, first + size - offset)
                if step + part > most:
                    yield step
                    step = 0
                self.copier.copy(pair.node, chain.read(offset, part), offset, pair.target.write, empty=False)
                step += part
        if step:
            yield step

    def last(self) -> int:
        self.copier.begin_round(self.left_bytes)
        copied = 0
        for pair in self.copier.pairs:
            copied += sum(self._consolidate(pair, self.snapshots.disks[pair.node].chain))
        self.copier.end_round(0, stopped=True)
        return copied

    def end(self) -> None:
        """Nothing watches: the redo logs are what is written to."""

    def undo_steps(self) -> Iterator[int]:
        yield from self.snapshots.merge_frozen()


def held_runs(link: VirtualDisk, sectors: int) -> Iterator[tuple[int, int]]:
    """(offset, size) in bytes of what a redo log holds itself, in order, a region's worth at most at a time."""
    first = link.next_known(0)
    while first < sectors:
        places = np.full(min(REGION_SECTORS, sectors - first), -1, np.int64)
        link.locate(first, places)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], places >= 0, [False])).astype(np.int8))).tolist()
        for low, high in zip(edges[::2], edges[1::2], strict=True):
            yield (first + low) * SECTOR_BYTES, (high - low) * SECTOR_BYTES
        first = link.next_known(first + REGION_SECTORS) if first + REGION_SECTORS < sectors else sectors
