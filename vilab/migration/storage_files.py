"""A folder for a machine's files, and files copied into it: what moves and clones between datastores have in common.

::

    [nfs1] prod/web            free?  made, with the folders above it
           web.nvram           copied a step at a time; what is a hole, or zeros, takes no space
           web-flat.vmdk       of a disk that has taken all of its space: so has the copy
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from vilab.errors import AdminError
from vilab.host.mounted import Mounted
from vilab.migration.storage_copy import Copier
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.datastore import inside
from vilab.storage.disk_file import DiskFile, Files
from vilab.storage.disks.descriptor import Descriptor
from vilab.storage.disks.disk_chain import DiskChain
from vilab.storage.disks.vmdk import VirtualDisk, new_cid
from vilab.storage.disks.vmdk_create import Space, create
from vilab.storage.still_held import StillHeld

SAME_KIND = ("vmfs", "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat")
"""What a disk stays; anything else becomes ``vmfs``."""
IDENTITY = ("ddb.uuid", "ddb.longContentID")
"""What no two disks have in common."""


class CopyProgress(msgspec.Struct, frozen=True):
    """How far a move or a clone is. ``what``: the file, or the disk, that was copied last. ``done_bytes`` of
    ``total_bytes`` have been gone through; ``copied_bytes``: those that were not in a hole."""

    what: str
    done_bytes: int
    total_bytes: int
    copied_bytes: int

    @property
    def percent(self) -> int:
        return min(100, 100 * self.done_bytes // self.total_bytes) if self.total_bytes else 100


def because(error: Exception, sentence: str) -> AdminError:
    """The same refusal in a sentence of its own. A lock whose owner may be dead stays one that can be asked for again
    (``StillHeld``)."""
    return StillHeld(sentence, error.again_ns) if isinstance(error, StillHeld) else AdminError(sentence)


def check_free(mounted: Mounted, folder: str, pending: str, refused: Callable[[str], AdminError]) -> None:
    """Nothing is there. ``pending``: what an unfinished copy of this machine is called."""
    datastore = mounted.datastore
    if not datastore.exists(folder):
        return
    if not datastore.is_folder(folder):
        raise refused("there is a file with the name of its folder.")
    names = datastore.names(folder)
    if pending in names:
        raise refused("its folder is there already, the unfinished copy of a machine that is being moved.")
    if names:
        raise refused(f"its folder is there already, with {names[0]} in it; rename or remove that.")


def make_folders(mounted: Mounted, folder: str) -> None:
    """A folder of a datastore, and those above it."""
    at = ""
    for name in inside(folder):
        at = f"{at}/{name}" if at else name
        if not mounted.datastore.exists(at):
            mounted.datastore.make_folder(at)


def is_thick(descriptor: Descriptor) -> bool:
    """Has the disk taken all of its space?"""
    return descriptor.create_type == "vmfs" and descriptor.database("ddb.thinProvisioned") != "1"


def make_disk_like(chain: DiskChain, path: Path, files: Files, same_identity: bool = True) -> None:
    """An empty disk of the same kind and size: one, whatever chain it was. ``same_identity``: it takes its place, and
    is no second one."""
    base = chain.links[0].descriptor
    kind = base.create_type if base.create_type in SAME_KIND else "vmfs"
    thin = not is_thick(base)
    space: Space = "thin" if thin else "thick"
    cid = new_cid(*(link.descriptor.cid for link in chain.links))
    create(path, chain.size_bytes // SECTOR_BYTES, kind, space, cid=cid, files=files, geometry=chain.geometry)
    disk = VirtualDisk(path, True, files)
    try:
        known = dict(base.ddb)
        if not same_identity:
            new = dict(disk.descriptor.ddb)
            known = {key: new.get(key, value) for key, value in known.items() if key not in IDENTITY or key in new}
        if thin and kind == "vmfs":
            known["ddb.thinProvisioned"] = "1"
        disk.replace_descriptor(
            msgspec.structs.replace(disk.descriptor, ddb=tuple(known.items()), other=base.other)
        )  # fmt: skip
    finally:
        disk.close()


def copy_file(copier: Copier, name: str, file: DiskFile, new: DiskFile, thick: bool = False) -> Iterator[int]:
    """All of a file into an empty one, and synced. Yields how many bytes it has gone on by, holes included."""
    size, step = file.size_bytes, copier.options.step_bytes
    if thick:
        new.allocate(size)
    else:
        new.resize(size)
    at = 0
    while at < size:
        begin = max(at, min(file.next_data(at), size) // step * step)
        if begin < size:
            data = file.read_some(begin, min(step, size - begin))
            copier.copy_file(name, data, begin, new.write)
        end = min(begin + step, size)
        yield end - at
        at = end
    new.sync()
