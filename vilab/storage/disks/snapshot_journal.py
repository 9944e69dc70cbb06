"""The list of a machine's snapshots is its journal: what it says holds, whenever the program is killed.

An operation changes several files. So each has one moment at which it happens, the replacement of ``vm.vmsd``, and what
goes before or after can be done again::

    take, revert    list: doomed = the new files │ make them │ LIST: snapshot, changes │ configuration │ list: done
    merge           child into parent │ LIST: names, merged, doomed │ configuration │ others off the child │ remove
                    └─ killed here: as if nothing had been       └─ killed here: finished when it is opened again

    in the code     _make │ _happen: the list, then the configuration │ _settle: doomed files go │ _finish: what is left

MODEL: ``vm.vmsd.lock`` keeps a second program out; ESX has the lock of its file system for that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import Event, EventLog
from vilab.storage.disk_file import DiskFile, Files
from vilab.storage.disks import vmsd
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.snapshot_graph import DiskGraph, files_of
from vilab.storage.disks.vmsd import Change, SnapshotList

Configure = Callable[[Mapping[str, str]], None]
"""Node -> file of the disk there: what the configuration shall say."""


class SnapshotJournal:
    """``name.vmsd`` in a folder, locked, and the configuration that follows it: what ``VmSnapshots`` builds on.

    Parameters
    ----------
    config : node -> file, as the configuration has it.
    """

    def __init__(
        self, folder: Path, name: str, config: Mapping[str, str], configure: Configure, files: Files,
        clock: VirtualClock, log: EventLog | None,
    ) -> None:  # fmt: skip
        self.folder, self.name, self.configure, self.files = folder, name, configure, files
        self.clock, self.log = clock, log
        self.path = folder / f"{name}.vmsd"
        self.config = dict(config)
        self._lock = self._take_lock()
        try:
            self.list = self._read_list()
            self._finish()
        except BaseException:
            self._lock.close()
            raise

    def _take_lock(self) -> DiskFile:
        path = self.folder / f"{self.name}.vmsd.lock"
        if not self.files.exists(path):
            with contextlib.suppress(AdminError):
                self.files.create(path).close()
        file = self.files.open(path, writable=True)
        try:
            file.lock()
        except BaseException:
            file.close()
            raise
        return file

    def _read_list(self) -> SnapshotList:
        if not self.files.exists(self.path):
            return SnapshotList()
        file = self.files.open(self.path)
        try:
            return vmsd.parse(file.read_some(0, vmsd.MOST_BYTES + 1), str(self.path))
        finally:
            file.close()

    def _make(self, names: list[str], make: Callable[[], None]) -> None:
        """New files, of which the list knows before they are there that they belong to nothing yet."""
        self._catch_up()
        self._write(msgspec.structs.replace(self.list, doomed=tuple(names)))
        try:
            make()
        except BaseException:
            self._finish()
            raise

    def _write(self, listed: SnapshotList) -> None:
        self.files.replace(self.path, vmsd.write(listed))
        self.list = listed

    def _happen(
        self,
        listed: SnapshotList,
        moved: Mapping[str, Path],
        doomed: list[str] | None = None,
        merged: tuple[str, ...] = (),
        follow: Callable[[], None] = lambda: None,
    ) -> None:
        """Write the list, which makes it so; then the configuration. ``follow``: the open disks do so, too, even where
        the configuration cannot be written now; the next operation tries that again."""
        changes = tuple(Change(node, self.config[node], path.name) for node, path in moved.items())
        self._write(msgspec.structs.replace(listed, changes=changes, doomed=tuple(doomed or ()), merged=tuple(merged)))
        try:
            self._apply_changes()
        finally:
            follow()

    def _apply_changes(self) -> None:
        after = dict(self.config)
        for change in self.list.changes:
            if after.get(change.node) == change.before:
                after[change.node] = change.after
        if after != self.config:
            self.configure(after)
            self.config = after

    def _settle(self) -> None:
        """Everything has happened: remove what is doomed, and be done."""
        for name in self.list.doomed:
            self.files.remove(self.folder / name)
        if self.list.changes or self.list.doomed or self.list.merged:
            self._write(msgspec.structs.replace(self.list, changes=(), doomed=(), merged=()))

    def _catch_up(self) -> None:
        """What the last operation could not do."""
        if self.list.changes or self.list.doomed or self.list.merged:
            self._finish()

    def _finish(self) -> None:
        """What an operation that was cut short has left to do."""
        self._apply_changes()
        for name in self.list.merged:
            if all(self.files.exists(self.folder / each) for each in self.list.doomed):
                graph = DiskGraph(self.folder, self.files, [])
                if graph.children_of(name):
                    with SnapshotDisk(self.folder / name, self.files, self.log, self.clock) as disk:
                        disk.finish_merge(len(disk.chain.links) - 1)
        self._settle()

    def _graph(self, listed: SnapshotList) -> DiskGraph:
        """All disks that the snapshots and the machine itself are made of."""
        return DiskGraph(self.folder, self.files, [*disks_named(listed), *self.config.values()])

    def _files_of(self, names: Iterable[str]) -> list[str]:
        return [file for name in sorted(names) for file in files_of(self.folder / name, self.files)]

    def _say(self, event: Event) -> None:
        if self.log is not None and self.log.active:
            self.log.emit(event)


def disks_named(listed: SnapshotList) -> list[str]:
    return [disk.file for snapshot in listed.snapshots for disk in snapshot.disks]
