"""A new redo log above a disk: which kind, what it is called, and what it says of its parent.

::

    vm.vmdk                     vm-000001.vmdk                        vm-000002.vmdk
    CID=9f3a11c2    <────────   parentCID=9f3a11c2    <────────       ...
                                parentFileNameHint="vm.vmdk"

It is empty: everything in it is what the parent has. ESX 3 names the files this way.
"""

from __future__ import annotations

import re
from pathlib import Path

from vilab.errors import AdminError
from vilab.storage.disk_file import REAL_FILES, Files
from vilab.storage.disks import descriptor as text
from vilab.storage.disks.disk_chain import MOST_SNAPSHOTS, DiskChain, open_chain
from vilab.storage.disks.vmdk_create import create

_NUMBERED = re.compile(r"(.*)-(\d{6})\Z")
_HOSTED = ("monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized")


def next_name(path: Path, files: Files = REAL_FILES) -> Path:
    """``vm-000001.vmdk`` for ``vm.vmdk``: the first number that no file of the folder uses, counting from the top."""
    stem = path.name.removesuffix(".vmdk")
    match = _NUMBERED.match(stem)
    base = match[1] if match else stem
    used = [int(match[2]) if match else 0]
    for name in files.names(path.parent):
        found = re.fullmatch(re.escape(base) + r"-(\d{6})(-delta)?\.vmdk", name)
        if found:
            used.append(int(found[1]))
    if max(used) >= 999_999:
        raise AdminError(f"There is no name left for another snapshot of {path}.")
    return path.with_name(f"{base}-{max(used) + 1:06}.vmdk")


def child_type(parent: text.Descriptor) -> str:
    """What kind of redo log stands above a disk: ESX's, or a hosted one."""
    return "monolithicSparse" if parent.create_type in _HOSTED else "vmfsSparse"


def snapshot_file(path: Path, files: Files = REAL_FILES) -> Path:
    """Take a snapshot of a disk that nobody has open; the new top."""
    with open_chain(path, files=files) as chain:
        return new_child(chain, len(chain.links) - 1, files)


def new_child(chain: DiskChain, below: int, files: Files, helper: bool = False, path: Path | None = None) -> Path:
    """An empty redo log above link number ``below``."""
    if below + 1 > MOST_SNAPSHOTS + helper:
        raise AdminError(
            f"No snapshot of {chain.links[below].path} was taken: there are {MOST_SNAPSHOTS} in a row, the most "
            "that are possible. Delete some of them first."
        )
    parent = chain.links[below]
    if parent.descriptor.create_type == text.PHYSICAL_MAPPING:
        raise AdminError(
            f"No snapshot of {parent.path} was taken: it is a raw device mapping in physical compatibility mode, and "
            "what its guest does to the LUN cannot be kept apart. Map the LUN in virtual compatibility mode."
        )
    path = path or next_name(parent.path, files)
    create(
        path,
        parent.sectors,
        child_type(parent.descriptor),
        adapter=parent.descriptor.database("ddb.adapterType") or "lsilogic",
        parent=(parent.descriptor.cid, parent.path.name),
        cid=parent.descriptor.cid,
        files=files,
        geometry=chain.geometry_at(below),
    )
    return path
