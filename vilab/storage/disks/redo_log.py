"""Snapshots: redo logs put on top of a disk, taken off again, or merged into what is below them.

::

    snapshot        vm <- vm-000001             writes go to an empty redo log, what is below stays as it is
    revert          vm <- vm-000001 (empty)     what was written since is thrown away
    commit          vm (with 000001 in it)      one redo log is merged into its parent, and is gone
    consolidate     vm (with all in it)         every redo log is merged; the virtual machine goes on writing

Committing while a virtual machine writes::

    vm <- 000001 <- 000002                the running chain
    vm <- 000001 <- 000002 <- 000003      a helper takes the writes
    vm <============ 000003               the others are merged a piece at a time: what they hide may change below
    vm                                    writes stop for the moment that the helper itself takes

A crash at any moment leaves a chain that opens and reads the same. While a parent is written its CID stays; only when
the merged child is out of the way does it change, and since that is two files, the child above says beforehand what
the new one will be: either is right (``descriptor.PENDING``)::

    merge all, sync | child above: parent, "parentCID becomes N" | parent: CID=N | child above: parentCID=N | remove

``redo_log_child`` makes the new ones, ``redo_log_merge`` moves the grains. Source: VMware, Virtual Disk Format 1.1,
"Delta links".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.storage.disk_file import REAL_FILES, Files
from vilab.storage.disks import descriptor as text
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.redo_log_child import new_child
from vilab.storage.disks.redo_log_merge import branches, merge
from vilab.storage.disks.sparse_extent import SparseExtent
from vilab.storage.disks.vmdk import VirtualDisk, new_cid
from vilab.storage.disks.vmdk_create import write_cowd, write_kdmv
from vilab.storage.storage_events import GrainsAllocated, SnapshotCommitted, SnapshotReverted, SnapshotTaken


class SnapshotDisk:
    """A disk that a virtual machine writes to, with what can be done to its snapshots meanwhile.

    ``chain`` is the block device; it stays the same object whatever happens below it. ``top`` is the file that the
    virtual machine's configuration has to name.
    """

    def __init__(
        self, path: Path, files: Files = REAL_FILES, log: EventLog | None = None, clock: VirtualClock | None = None
    ) -> None:
        self.files, self.log, self.clock = files, log, clock or VirtualClock()
        self.chain = open_chain(path, writable=True, files=files)
        self._listen(self.chain.top)

    @property
    def top(self) -> Path:
        return self.chain.top.path

    def __enter__(self) -> SnapshotDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.chain.close()

    # --- up -----------------------------------------------------------------------------------------------------------

    def snapshot(self, helper: bool = False) -> Path:
        """What there is now stays; a new redo log takes the writes. Its path."""
        self.chain.flush()
        return self._branch(len(self.chain.links) - 1, helper)

    def revert_to(self, link: int) -> Path:
        """Go on from link number ``link`` of the chain (0: the base) with a new redo log; the others stay as files."""
        if not 0 <= link < len(self.chain.links):
            raise AdminError(f"{self.top} has no link {link}: there are {len(self.chain.links)}, counted from 0.")
        self.chain.flush()
        return self._branch(link)

    def make_child(self, path: Path, helper: bool = False) -> None:
        """An empty redo log above the top, for ``adopt``; nothing goes there yet. What was written is on the disk."""
        self.chain.flush()
        new_child(self.chain, len(self.chain.links) - 1, self.files, helper, path)

    def make_child_of(self, parent: Path, path: Path) -> None:
        """The same above another disk, for ``switch_to``: of this chain, or one that nobody has open for writing."""
        self.chain.flush()
        for link, each in enumerate(self.chain.links):
            if self.files.resolve(each.path) == self.files.resolve(parent):
                new_child(self.chain, link, self.files, path=path)
                return
        with open_chain(parent, files=self.files) as chain:
            new_child(chain, len(chain.links) - 1, self.files, path=path)

    def adopt(self, path: Path) -> None:
        """A child of the top, which takes the writes from now on."""
        self._go_on(len(self.chain.links) - 1, path)

    def switch_to(self, path: Path) -> None:
        """Another disk altogether, behind the same block device."""
        self.chain.close()
        self.chain.links = open_chain(path, writable=True, files=self.files).links
        self.chain.sectors = self.chain.top.sectors
        self.chain.rebuild()
        self._listen(self.chain.top)

    def _branch(self, below: int, helper: bool = False) -> Path:
        path = new_child(self.chain, below, self.files, helper)
        self._go_on(below, path)
        return path

    def _go_on(self, below: int, path: Path) -> None:
        chain = self.chain
        kept, dropped = chain.links[: below + 1], chain.links[below + 1 :]
        for link in reversed(dropped):
            link.close()
        if kept[-1].writable:  # the snapshot is read-only from now on
            parent = kept[-1].path
            kept[-1].close()
            kept[-1] = VirtualDisk(parent, files=self.files)
        chain.links = [*kept, VirtualDisk(path, True, self.files)]
        chain.rebuild()
        self._listen(chain.top)
        self._say(SnapshotTaken(self.clock.now_ns, kept[-1].path.name, path.name))

    def revert(self) -> None:
        """Throw away what was written since the last snapshot."""
        top = self.chain.top
        if len(self.chain.links) < 2:
            raise AdminError(f"{top.path} has no snapshot to go back to.")
        path, descriptor, sectors, parent = top.path, top.descriptor, top.sectors, self.chain.links[-2]
        top.set_cid(new_cid(descriptor.cid, descriptor.parent_cid))
        descriptor = top.descriptor
        extent, embedded = top.files_of()[0], top.embedded
        empty = extent.with_name(f".{extent.name}.new")
        self.files.remove(empty)
        file = self.files.create(empty)
        try:
            if embedded:
                write_kdmv(file, sectors, text.write(descriptor), zero_grains=False)
            elif descriptor.extents[0].kind == "VMFSSPARSE" and len(descriptor.extents) == 1:
                write_cowd(file, sectors)
            else:
                raise AdminError(f"{path} cannot be reverted: a redo log of type {descriptor.create_type} is not ours.")
            file.sync()
        except BaseException:
            file.close()
            self.files.remove(empty)
            raise
        file.close()
        top.close()
        self.files.rename(empty, extent)
        self.chain.links[-1] = VirtualDisk(path, True, self.files)
        self.chain.rebuild()
        self._listen(self.chain.top)
        self._say(SnapshotReverted(self.clock.now_ns, parent.path.name, path.name))

    # --- down ---------------------------------------------------------------------------------------------------------

    def commit(self, link: int, before_removal: Callable[[Path], None] | None = None) -> None:
        """Delete a snapshot: merge link number ``link`` (1: the first above the base) into the one below, at one go."""
        for _ in self.commit_steps(link, before_removal):
            pass

    def consolidate(self, before_removal: Callable[[Path], None] | None = None) -> None:
        """Merge everything into the base, at one go."""
        for _ in self.consolidate_steps(before_removal):
            pass

    def consolidate_steps(self, before_removal: Callable[[Path], None] | None = None) -> Iterator[int]:
        """Merge everything into the base; between two steps the disk may be read and written.

        ``before_removal`` is told the new top before the files of the old one go: whoever has written its name down
        must write another. Yields the sectors of each step.
        """
        if len(self.chain.links) < 2:
            return
        self.snapshot(helper=True)
        while len(self.chain.links) > 2:
            yield from self.commit_steps(1)
        for _ in self.commit_steps(1, before_removal):  # writes stop for this
            pass

    def commit_steps(self, link: int, before_removal: Callable[[Path], None] | None = None) -> Iterator[int]:
        """``commit``, a step at a time. If ``link`` is the top, the disk must not be written between the steps.

        ``before_removal`` is told the parent's name before the files of the merged one go.
        """
        chain, merged = self.chain, 0
        for sectors in self.merge_steps(link):
            merged += sectors
            yield sectors
        child = chain.links[link]
        self.finish_merge(link, before_removal)
        for file in reversed(child.files_of()):
            with contextlib.suppress(OSError):
                self.files.remove(file)
        self._say(SnapshotCommitted(self.clock.now_ns, chain.links[link - 1].path.name, child.path.name, merged))

    def merge_steps(self, link: int) -> Iterator[int]:
        """The first half: the parent of ``link`` comes to hold all of it, too. Everything reads as before."""
        chain = self.chain
        if not 1 <= link < len(chain.links):
            raise AdminError(f"{self.top} has no snapshot {link}: there are {len(chain.links) - 1}.")
        chain.flush()
        child, old_parent = chain.links[link], chain.links[link - 1]
        branches(chain, old_parent.path, child.path, self.files)
        self._writable(link - 1)
        yield from merge(chain.links[:link], chain.links[link])

    def finish_merge(self, link: int, before_removal: Callable[[Path], None] | None = None) -> None:
        """The second half: what stood on ``link`` stands on its parent, and the files of ``link`` are free to go."""
        chain = self.chain
        child = chain.links[link]
        branching = branches(chain, chain.links[link - 1].path, child.path, self.files)
        parent = self._writable(link - 1)
        child = self._writable(link)
        self._rewire(link, branching)
        if before_removal is not None:
            before_removal(parent.path)
        chain.links.remove(child)
        child.close()
        if chain.top is not parent:
            path = parent.path
            parent.close()
            chain.links[link - 1] = VirtualDisk(path, files=self.files)
        self._renew()

    def _writable(self, link: int) -> VirtualDisk:
        """Open a link for writing, if it is not."""
        chain = self.chain
        if not chain.links[link].writable:
            chain.links[link].close()
            chain.links[link] = VirtualDisk(chain.links[link].path, True, self.files)
            self._listen(chain.links[link])
            self._renew()
        return chain.links[link]

    def _renew(self) -> None:
        """New places; the top's CID has changed already if it had before."""
        changed = self.chain.cid_changed
        self.chain.rebuild()
        self.chain.cid_changed = changed

    def _rewire(self, link: int, branching: list[Path]) -> None:
        """The order of the picture above, for the link above and for the other branches that stand on ``link``."""
        chain = self.chain
        parent, child = chain.links[link - 1], chain.links[link]
        above = [self._writable(link + 1)] if link + 1 < len(chain.links) else []
        others: list[VirtualDisk] = []
        try:
            others += [VirtualDisk(path, True, self.files) for path in branching]
            movers = above + others
            cid = new_cid(*(each.descriptor.cid for each in (*chain.links, *others)))
            # It holds the same as the parent now, and may be named somewhere still.
            child.replace_descriptor(msgspec.structs.replace(child.descriptor, pending_parent_cid=cid))
            for each in movers:
                hint = os.path.relpath(parent.path, each.path.parent)
                before = parent.descriptor.cid
                each.replace_descriptor(
                    msgspec.structs.replace(
                        each.descriptor, parent_hint=hint, parent_cid=before, pending_parent_cid=cid
                    )
                )
            parent.set_cid(cid)
            for each in movers:
                each.replace_descriptor(
                    msgspec.structs.replace(each.descriptor, parent_cid=cid, pending_parent_cid=None)
                )
        finally:
            for other in others:
                other.close()
        if not above:
            chain.cid_changed = True
        elif above[0] is not chain.top:
            above[0].close()
            chain.links[link + 1] = VirtualDisk(above[0].path, files=self.files)

    def _listen(self, link: VirtualDisk) -> None:
        """Have grains that a link gets reported."""
        if self.log is None:
            return
        for extent, start in zip(link.extents, link.starts, strict=True):
            if isinstance(extent, SparseExtent):
                name = extent.file.path.name
                extent.on_allocated = lambda first, sectors, at, start=start, name=name: self._grew(
                    name, start + first, sectors, at
                )

    def _grew(self, name: str, first: int, sectors: int, at: int) -> None:
        if self.log is not None and self.log.active:
            self.log.emit(GrainsAllocated(self.clock.now_ns, name, first, sectors, at))

    def _say(self, event: SnapshotTaken | SnapshotReverted | SnapshotCommitted) -> None:
        if self.log is not None and self.log.active:
            self.log.emit(event)
