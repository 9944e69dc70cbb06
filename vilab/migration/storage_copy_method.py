"""Iterative copy with changed-block tracking: the disks are copied while they are written, round after round.

::

    round 1    everything that is allocated      meanwhile the guest changes   #  ## #
    round 2    #  ## #                           meanwhile                     #
    stopped    #                                 then both are the same, and the guest goes on at the destination

    stop when   left <= little_bytes,  or  left >= what the round before left,  or  after most_rounds

Nothing is added to the source, so there is nothing to take away again if the move is given up. Source: Mashtizadeh,
Celebi, Garfinkel, Cai, "The Design and Evolution of Live Storage Migration in VMware ESX" (USENIX ATC 2011), on dirty
block tracking.
"""

from __future__ import annotations

from collections.abc import Iterator

from vilab.host.hosted_disk import HostedDisk
from vilab.migration.changed_blocks import GRAIN_BYTES, ChangedBlocks
from vilab.migration.storage_copy import Copier, Pair
from vilab.storage.disks.disk_chain import DiskChain


class CopyMethod:
    name = "changed blocks"

    def __init__(self, copier: Copier) -> None:
        self.copier = copier
        self.changed = {pair.node: ChangedBlocks(pair.source.size_bytes) for pair in copier.pairs}
        for pair in copier.pairs:
            mark_allocated(self.changed[pair.node], pair.source)
            pair.source.watchers.append(self.changed[pair.node].mark)

    @property
    def left_bytes(self) -> int:
        return sum(each.changed_bytes for each in self.changed.values())

    def steps(self) -> Iterator[int]:
        options, before = self.copier.options, self.copier.disk_bytes + 1
        while self.copier.number < options.most_rounds:
            left = self.left_bytes
            if self.copier.number and (left <= options.little_bytes or left >= before):
                return
            before = left if self.copier.number else before
            yield from self._round()
            self.copier.end_round(self.left_bytes)

    def last(self) -> int:
        copied = sum(self._round())
        self.copier.end_round(self.left_bytes, stopped=True)
        return copied

    def _round(self) -> Iterator[int]:
        self.copier.begin_round(self.left_bytes)
        empty = self.copier.number == 1
        for pair in self.copier.pairs:
            changed = self.changed[pair.node]
            for offset, size in changed.runs(self.copier.options.step_bytes):
                self._copy(pair, changed, offset, size, empty)
                yield size

    def _copy(self, pair: Pair, changed: ChangedBlocks, offset: int, size: int, empty: bool) -> None:
        changed.clear(offset, size)
        self.copier.copy(pair.node, pair.source.read(offset, size), offset, pair.target.write, empty)

    def end(self) -> None:
        for pair in self.copier.pairs:
            mark = self.changed[pair.node].mark
            if mark in pair.source.watchers:
                pair.source.watchers.remove(mark)

    def undo_steps(self) -> Iterator[int]:
        yield from ()


def mark_allocated(changed: ChangedBlocks, disk: HostedDisk) -> None:
    """What is in no file reads as zeros, and does so at the destination already."""
    if isinstance(disk.device, DiskChain):
        for offset, size in disk.device.allocated(GRAIN_BYTES):
            changed.mark(offset, size)
    else:
        changed.mark(0, disk.size_bytes)
