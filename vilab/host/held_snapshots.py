"""The snapshots of a machine whose disks are being moved: nobody else changes them, and a disk can be frozen.

::

    freeze      web <- web-000001           what there is now stays as it is, a redo log takes the writes
                └ copied somewhere else     the list of snapshots knows nothing of it
    again       web <- 000001 <- 000002     the first redo log stays as it is now
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vilab.errors import AdminError
from vilab.storage.disks.vm_snapshots import VmSnapshots


class HeldSnapshots(VmSnapshots):
    """``held``: why nothing may be done to them now, in a sentence; empty while everything may."""

    held = ""

    def _not_merging(self) -> None:
        if self.held:
            raise AdminError(self.held)
        super()._not_merging()

    def freeze(self) -> dict[str, Path]:
        """A redo log above every disk, which takes the writes from now on. Node -> the disk that stays as it is.

        Raises
        ------
        AdminError : a redo log could not be made. Those disks that have one already go on with it.
        """
        frozen: dict[str, Path] = {}
        for node, disk in self.disks.items():
            disk.chain.flush()
            frozen[node] = disk.top
            self._add_helper(node)
        return frozen

    def merge_frozen(self) -> Iterator[int]:
        """They are held no more, and what ``freeze`` has made melts into the disks again, a step at a time."""
        self.held = ""
        yield from self.consolidate_steps()
