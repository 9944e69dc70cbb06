"""Snapshots of a virtual machine: all of its disks and its state, at one moment, in a tree.

::

    vm.vmsd  1 installed                     vm.vmdk         vm_1.vmdk          read-only: what 1 holds
               2 updated                     vm-000001.vmdk  vm_1-000001.vmdk   what 2 holds
                 *  you are here             vm-000003.vmdk  vm_1-000003.vmdk   the machine writes here
               3 other way                   vm-000002.vmdk  vm_1-000002.vmdk   stands on vm.vmdk too

    take      a child above every disk, then the list           revert   new children above the disks of a snapshot
    delete    out of the list, then its redo logs are merged    delete all, consolidate

An operation changes several files, and the program may be killed between any two: ``snapshot_journal`` sees to it that
it has happened, or has not. ``configure`` writes the machine's configuration, in which its disks are named
(``vm.vmx``), and does it in one step.

Source: VMware, Basic System Administration (VI3), "Managing Virtual Machines: Using Snapshots".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.protocols import ReadableBytes
from vilab.storage.disk_file import REAL_FILES, Files
from vilab.storage.disks import vmsd, vmsn
from vilab.storage.disks.disk_chain import MOST_SNAPSHOTS, DiskChain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.redo_log_child import child_type, next_name
from vilab.storage.disks.snapshot_graph import DiskGraph
from vilab.storage.disks.snapshot_journal import Configure, SnapshotJournal, disks_named
from vilab.storage.disks.vmdk_create import extent_lines
from vilab.storage.disks.vmsd import DiskAt, Snapshot, SnapshotList
from vilab.storage.storage_events import SnapshotCommitted, VmSnapshotDeleted, VmSnapshotReverted, VmSnapshotTaken


class VmSnapshots(SnapshotJournal):
    """The disks of one virtual machine, open, and its snapshots.

    Parameters
    ----------
    folder, name : where ``name.vmsd`` and the disks are.
    disks : what the configuration says: node (``scsi0:0``) -> file in ``folder``.
    configure : called with the same mapping when a disk has got another name.

    Raises
    ------
    AdminError : the list or a disk is damaged, or another program has this machine.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        disks: Mapping[str, str],
        configure: Configure,
        files: Files = REAL_FILES,
        clock: VirtualClock | None = None,
        log: EventLog | None = None,
    ) -> None:
        self.disks: dict[str, SnapshotDisk] = {}
        self._merging = False
        super().__init__(folder, name, disks, configure, files, clock or VirtualClock(), log)
        try:
            for node in sorted(self.config):
                self.disks[node] = SnapshotDisk(folder / self.config[node], files, log, self.clock)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> VmSnapshots:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        disks, self.disks = self.disks, {}
        with contextlib.ExitStack() as all_of_them:  # where one refuses, too
            all_of_them.callback(self._lock.close)
            for disk in disks.values():
                all_of_them.callback(disk.close)

    def chain(self, node: str) -> DiskChain:
        """The block device at a node; it stays the same object whatever happens below."""
        return self.disks[node].chain

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        return self.list.snapshots

    # --- up -----------------------------------------------------------------------------------------------------------

    def take(
        self,
        name: str,
        description: str = "",
        state: Mapping[str, ReadableBytes] | None = None,
        created_us: int = 0,
    ) -> Snapshot:
        """Keep what there is now. ``state``: the machine's own, in parts; without it only the disks are kept."""
        self._not_merging()
        if len(self.list.snapshots) >= vmsd.MOST_LISTED:
            raise AdminError(f"No snapshot of {self.name} was taken: it has {vmsd.MOST_LISTED}, the most possible.")
        for disk in self.disks.values():
            if len(disk.chain.links) > MOST_SNAPSHOTS:
                raise AdminError(
                    f"No snapshot of {self.name} was taken: {disk.top.name} has {MOST_SNAPSHOTS} in a row, the most "
                    "that are possible. Delete some of them first."
                )
        uid = self.list.last_uid + 1
        state_file = "" if state is None else self._state_name(uid)
        children = {node: next_name(disk.top, self.files) for node, disk in self.disks.items()}
        snapshot = Snapshot(
            uid=uid,
            name=name,
            disks=tuple(DiskAt(node, disk.top.name) for node, disk in self.disks.items()),
            state_file=state_file,
            parent=self.list.current,
            description=description,
            created_us=created_us,
        )
        after = msgspec.structs.replace(
            self.list, snapshots=(*self.list.snapshots, snapshot), current=uid, last_uid=uid
        )
        vmsd.parse(vmsd.write(after))  # what cannot be read again is not begun
        for disk in self.disks.values():
            disk.chain.flush()

        def make() -> None:
            for node, disk in self.disks.items():
                disk.make_child(children[node])
            if state is not None:
                vmsn.write(self.folder / state_file, uid, state, self.files)

        new = [name for node, path in children.items() for name in self._child_files(node, path)]
        self._make([*new, *([state_file] if state_file else [])], make)
        self._happen(after, children, follow=lambda: self._each(SnapshotDisk.adopt, children))
        self._settle()
        self._say(VmSnapshotTaken(self.clock.now_ns, self.name, uid, name, len(children)))
        return snapshot

    def _each(self, follow: Callable[[SnapshotDisk, Path], None], paths: Mapping[str, Path]) -> None:
        for node, path in paths.items():
            follow(self.disks[node], path)

    def _state_name(self, uid: int) -> str:
        name = f"{self.name}-Snapshot{uid}.vmsn"
        if self.files.exists(self.folder / name):
            raise AdminError(f"{self.folder / name} exists already, though the list of snapshots does not know it.")
        return name

    def _child_files(self, node: str, path: Path) -> list[str]:
        """What a redo log above that disk will consist of."""
        top = self.disks[node].chain.top
        lines = extent_lines(path, top.sectors, child_type(top.descriptor))
        return sorted({path.name, *(line.file for line in lines if line.file is not None)})

    def revert(self, uid: int) -> dict[str, bytes]:
        """Go on from a snapshot; what was written since the last one is gone. Its state, by parts."""
        self._not_merging()
        snapshot = self.list.find(uid)
        if {disk.node for disk in snapshot.disks} != set(self.config):
            raise AdminError(
                f"{self.name} was not reverted to snapshot {uid}: it had disks at "
                f"{', '.join(sorted(disk.node for disk in snapshot.disks)) or 'no place'} then, and has some at "
                f"{', '.join(sorted(self.config)) or 'no place'} now. Attach or detach disks first."
            )
        state = vmsn.read(self.folder / snapshot.state_file, uid, self.files) if snapshot.state_file else {}
        graph = self._graph(self.list)
        bases = {disk.node: disk.file for disk in snapshot.disks}
        children = {node: next_name(self.folder / file, self.files) for node, file in bases.items()}
        new: list[str] = []
        for node, path in children.items():
            new += self._child_files(node, path)

        def make() -> None:
            for node, path in children.items():
                self.disks[node].make_child_of(self.folder / bases[node], path)

        self._make(new, make)
        after = msgspec.structs.replace(self.list, current=uid)
        kept = DiskGraph(self.folder, self.files, [*disks_named(after), *(path.name for path in children.values())])
        gone = graph.parents.keys() - kept.parents.keys()
        doomed = self._files_of(gone)
        self._happen(after, children, doomed, follow=lambda: self._each(SnapshotDisk.switch_to, children))
        self._settle()
        self._say(VmSnapshotReverted(self.clock.now_ns, self.name, uid, snapshot.name))
        return state

    # --- down ---------------------------------------------------------------------------------------------------------

    def delete(self, uid: int, subtree: bool = False) -> None:
        """``delete_steps`` at one go."""
        for _ in self.delete_steps(uid, subtree):
            pass

    def delete_all(self) -> None:
        """Forget every snapshot; the machine stays as it is."""
        for _ in self.delete_steps(None, subtree=True):
            pass

    def delete_steps(self, uid: int | None, subtree: bool = False) -> Iterator[int]:
        """Forget a snapshot (with ``subtree``: and all that came from it); then merge what is not needed any more.

        Its children become those of its parent. Between two steps the machine may read and write. Yields the sectors
        of each step.
        """
        self._not_merging()
        going = [s.uid for s in self.list.snapshots] if uid is None else [self.list.find(uid).uid]
        for one in going:
            if subtree:
                going += [child.uid for child in self.list.children(one) if child.uid not in going]
        names = {one: self.list.find(one).name for one in going}
        before = self._graph(self.list)
        after = self._without(set(going))
        gone = before.parents.keys() - self._graph(after).parents.keys()
        states = [s.state_file for s in self.list.snapshots if s.uid in names and s.state_file]
        self._happen(after, {}, doomed=[*self._files_of(gone), *states])
        self._settle()
        for one, name in names.items():
            self._say(VmSnapshotDeleted(self.clock.now_ns, self.name, one, name))
        yield from self.consolidate_steps()

    def _without(self, going: set[int]) -> SnapshotList:
        """The list without some; their children stand on the next one above that stays."""

        def stays(uid: int | None) -> int | None:
            while uid is not None and uid in going:
                uid = self.list.find(uid).parent
            return uid

        kept = tuple(
            msgspec.structs.replace(s, parent=stays(s.parent)) for s in self.list.snapshots if s.uid not in going
        )
        return msgspec.structs.replace(
            self.list, snapshots=kept, current=stays(self.list.current), needs_consolidation=True
        )

    def consolidate(self) -> None:
        for _ in self.consolidate_steps():
            pass

    def consolidate_steps(self) -> Iterator[int]:
        """Merge every redo log into its parent where no snapshot is between them, and no other branch on the parent."""
        self._not_merging()
        self._merging = True
        try:
            yield from self._consolidate()
        finally:
            self._merging = False

    def _not_merging(self) -> None:
        if self._merging:
            raise AdminError(f"The snapshots of {self.name} are being merged; wait until that has been done.")

    def _consolidate(self) -> Iterator[int]:
        self._catch_up()
        helped: set[str] = set()
        while True:
            pair = self._graph(self.list).mergeable(set(disks_named(self.list)) | set(self.config.values()))
            if pair is None:
                break
            parent, child = pair
            node = next((node for node, name in self.config.items() if name == child), None)
            if node is not None and node not in helped and not self._is_empty(node):
                helped.add(node)
                self._add_helper(node)  # the machine goes on writing, above what is merged
                continue
            yield from self._merge(parent, child, stopped=node is not None)
        if self.list.needs_consolidation:
            self._write(msgspec.structs.replace(self.list, needs_consolidation=False))

    def _is_empty(self, node: str) -> bool:
        return self.disks[node].chain.top_is_empty()

    def _add_helper(self, node: str) -> None:
        disk = self.disks[node]
        path = next_name(disk.top, self.files)
        self._make(self._child_files(node, path), lambda: disk.make_child(path, helper=True))
        self._happen(self.list, {node: path}, follow=lambda: disk.adopt(path))
        self._settle()

    def _merge(self, parent: str, child: str, stopped: bool) -> Iterator[int]:
        """One redo log into its parent, at one go where the machine writes to it (``stopped``)."""
        disk, link, lent = self._open_with(child)
        try:
            merged = 0
            for sectors in disk.merge_steps(link):
                merged += sectors
                if not stopped:
                    yield sectors
            link = [each.path.name for each in disk.chain.links].index(child)
            renamed = self._renamed(child, parent)
            changes = {node: self.folder / parent for node, name in self.config.items() if name == child}
            doomed = self._files_of([child])
            self._happen(renamed, changes, doomed, merged=(child,))
            disk.finish_merge(link)
            self._say(SnapshotCommitted(self.clock.now_ns, parent, child, merged))
        finally:
            if lent:
                disk.close()
        self._settle()

    def _open_with(self, child: str) -> tuple[SnapshotDisk, int, bool]:
        """A disk whose chain has the child, and at which place; the last is true where it has to be closed again."""
        for disk in self.disks.values():
            for link, each in enumerate(disk.chain.links):
                if each.path.name == child:
                    return disk, link, False
        disk = SnapshotDisk(self.folder / child, self.files, self.log, self.clock)
        return disk, len(disk.chain.links) - 1, True

    def _renamed(self, child: str, parent: str) -> SnapshotList:
        def disks(snapshot: Snapshot) -> tuple[DiskAt, ...]:
            return tuple(DiskAt(d.node, parent if d.file == child else d.file) for d in snapshot.disks)

        return msgspec.structs.replace(
            self.list, snapshots=tuple(msgspec.structs.replace(s, disks=disks(s)) for s in self.list.snapshots)
        )
