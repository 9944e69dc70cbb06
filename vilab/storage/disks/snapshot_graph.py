"""Which disk of a folder stands on which: read from the descriptors, from the named disks down to their bases.

::

    vm-000003 ─> vm-000001 ─> vm <─ vm-000002            parents = {vm-000003: vm-000001, vm-000001: vm,
                                                                    vm-000002: vm, vm: None}
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vilab.errors import AdminError
from vilab.storage.disk_file import Files
from vilab.storage.disks import descriptor as text
from vilab.storage.disks.disk_chain import MOST_SNAPSHOTS
from vilab.storage.disks.vmdk import read_descriptor


class DiskGraph:
    """``parents``: file -> the file that it stands on, ``None`` for a base or where that is in another folder."""

    def __init__(self, folder: Path, files: Files, named: Iterable[str]) -> None:
        self.folder, self.files = folder, files
        self.parents: dict[str, str | None] = {}
        for name in named:
            at: str | None = name
            steps = 0
            while at is not None and at not in self.parents:
                self.parents[at] = self._parent(at)
                at, steps = self.parents[at], steps + 1
                if steps > MOST_SNAPSHOTS + 2:
                    raise AdminError(f"{folder / name} stands on more than {MOST_SNAPSHOTS} disks, or on itself.")

    def _parent(self, name: str) -> str | None:
        described = read_descriptor(self.folder / name, self.files)
        if not described.has_parent or not described.parent_hint:
            return None
        path = self.files.resolve(self.folder / described.parent_hint)
        return path.name if path.parent == self.files.resolve(self.folder) else None

    def mergeable(self, named: set[str]) -> tuple[str, str] | None:
        """A parent that nobody has named with its only child; the lowest pair in the chain."""
        children: dict[str, list[str]] = {}
        for name, parent in self.parents.items():
            if parent is not None:
                children.setdefault(parent, []).append(name)
        pairs = [(p, c[0]) for p, c in children.items() if len(c) == 1 and p not in named]
        return min(pairs, key=lambda pair: (self._height(pair[0]), pair), default=None)

    def _height(self, name: str) -> int:
        steps, at = 0, self.parents.get(name)
        while at is not None:
            steps, at = steps + 1, self.parents.get(at)
        return steps

    def children_of(self, name: str) -> list[str]:
        """Every disk of the folder that stands on this one, named or not."""
        found = []
        for other in self.files.names(self.folder):
            if other.endswith(".vmdk") and other != name:
                try:
                    if self._parent(other) == name:
                        found.append(other)
                except AdminError:
                    continue  # an extent, or no disk at all
        return found


def files_of(path: Path, files: Files) -> list[str]:
    """The names of all files of a disk, its extents first: while they go, the descriptor still says which they are."""
    lines = read_descriptor(path, files).extents
    extents = [line.file for line in lines if line.file is not None and line.kind not in text.RAW_DEVICE_KINDS]
    inside = [text.extent_path(path.parent, name, files.resolve).name for name in extents if name != path.name]
    return [*inside, path.name]
