"""A virtual disk with its parents, as a block device: reads fall through the redo logs, writes go to the top one.

::

    sector              0    1    2    3    4    5
    vm-000002.vmdk      .    C    .    .    .    .     writes go here
    vm-000001.vmdk      .    B    B    .    .    .
    vm.vmdk             A    A    A    A    .    .     the base
    what is read        A    C    B    A    0    0

Looking from the top down for every sector would cost more the longer the chain. Instead the answer is kept, for a
region of 4,096 sectors at a time, as *places* (see ``extent``) from the base up, with the end of the run that each
sector is in: a read inside one run is one ``pread``, whatever the length of the chain.

The first write after opening gives the top disk a new CID, so that a child made before no longer fits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from vilab.errors import AdminError
from vilab.protocols import Geometry, ReadableBytes
from vilab.storage.block import SECTOR_BYTES, BlockError, check_range
from vilab.storage.disk_file import REAL_FILES, Files
from vilab.storage.disks.extent import SECTOR_MASK, SLOT_SHIFT, Filler, Places, Reader, runs
from vilab.storage.disks.vmdk import VirtualDisk, new_cid
from vilab.storage.geometry import geometry_in, geometry_of

REGION_SHIFT = 12
REGION_SECTORS = 1 << REGION_SHIFT
KEPT_REGIONS = 2048
"""About 40 KB each: the answers for 4 GB of disk."""

MOST_SNAPSHOTS = 32
"""The most that ESX 3 supported above a base disk."""


class Region:
    """Where 4,096 sectors lie. ``place`` and ``end`` are the same arrays, quick to index."""

    __slots__ = ("end", "place", "places", "stale")

    def __init__(self, places: Places) -> None:
        self.places = places
        self.place = memoryview(places)  # type: ignore[arg-type]
        self.refresh()

    def refresh(self) -> None:
        """The runs anew, after places have changed."""
        cuts = runs(self.places)
        ends = np.repeat(np.array([high for _, high in cuts], np.int32), [high - low for low, high in cuts])
        self.end = memoryview(ends)  # type: ignore[arg-type]
        self.stale = False


class DiskChain:
    """The block device. ``links`` from the base up; only the last one is written.

    Parameters
    ----------
    links : open disks, which are closed with this.
    new_content : whether a first write changes the top disk's CID (not while a redo log is merged).
    """

    sector_bytes = SECTOR_BYTES

    def __init__(self, links: list[VirtualDisk], new_content: bool = True) -> None:
        self.links = links
        self.new_content = new_content
        self.sectors = links[-1].sectors
        self.rebuild()

    def rebuild(self) -> None:
        """Forget all places: the links are other ones."""
        self._regions: dict[int, Region] = {}
        self._readers: list[Reader] = [lambda size, _offset: bytes(size)]
        self._fillers: list[Filler] = [_fill_zeros]
        for link in self.links:
            for extent in link.extents:
                reader, filler = extent.reader(), extent.filler()
                if reader is not None and filler is not None:
                    extent.slot = len(self._readers)
                    self._readers.append(reader)
                    self._fillers.append(filler)
        self.cid_changed = not self.new_content

    @property
    def top(self) -> VirtualDisk:
        return self.links[-1]

    @property
    def size_bytes(self) -> int:
        return self.sectors * SECTOR_BYTES

    @property
    def geometry(self) -> Geometry:
        return self.geometry_at(len(self.links) - 1)

    def geometry_at(self, link: int) -> Geometry:
        """Of the disk that ends with link number ``link``: what the nearest descriptor says that says anything."""
        for each in reversed(self.links[: link + 1]):
            said = geometry_in(each.descriptor.database)
            if said is not None:
                return said
        return geometry_of(self.sectors)

    @property
    def read_only(self) -> bool:
        return not self.top.writable

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        first, sectors = offset_bytes >> 9, size_bytes >> 9
        if not (offset_bytes | size_bytes) & 511 and first >= 0 and sectors > 0:
            region = self._regions.get(first >> REGION_SHIFT)
            if region is not None and not region.stale:
                at = first & (REGION_SECTORS - 1)
                if at + sectors <= region.end[at]:
                    place = region.place[at]
                    try:
                        data = self._readers[place >> SLOT_SHIFT](size_bytes, (place & SECTOR_MASK) << 9)
                    except OSError:  # once more, and said in a sentence
                        data = b""
                    if len(data) == size_bytes:
                        return data
        return self._read_slowly(offset_bytes, size_bytes)

    def _read_slowly(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        first, left = offset_bytes // SECTOR_BYTES, size_bytes // SECTOR_BYTES
        parts = []
        while left:
            region = self._region(first >> REGION_SHIFT)
            at = first & (REGION_SECTORS - 1)
            some = min(left, region.end[at] - at)
            place = region.place[at]
            parts.append(self._read_run(place >> SLOT_SHIFT, place & SECTOR_MASK, some, first))
            first, left = first + some, left - some
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, offset_bytes: int, view: memoryview) -> None:
        """``read`` for whoever has a buffer: much is read over and over into the same memory."""
        check_range(self, offset_bytes, view.nbytes)
        first, at, end = offset_bytes // SECTOR_BYTES, 0, view.nbytes
        while at < end:
            region = self._region(first >> REGION_SHIFT)
            within = first & (REGION_SECTORS - 1)
            size = min(end - at, (region.end[within] - within) * SECTOR_BYTES)
            place, part = region.place[within], view[at : at + size]
            done = self._fillers[place >> SLOT_SHIFT]((place & SECTOR_MASK) * SECTOR_BYTES, part)
            if done < size:
                raise self._ended(first + done // SECTOR_BYTES)
            first, at = first + size // SECTOR_BYTES, at + size

    def _read_run(self, slot: int, sector: int, sectors: int, first: int) -> bytes:
        size, offset = sectors * SECTOR_BYTES, sector * SECTOR_BYTES
        try:
            data = self._readers[slot](size, offset)
            while len(data) < size:
                more = self._readers[slot](size - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise BlockError("medium", f"Sector {first} of {self.top.path} cannot be read: {error.strerror}.") from None
        if len(data) < size:
            raise self._ended(first + len(data) // SECTOR_BYTES)
        return data

    def _ended(self, sector: int) -> BlockError:
        return BlockError(
            "medium",
            f"Sector {sector} of {self.top.path} cannot be read: a table puts it where its file has ended already. "
            "vilab vmdk check says which file is damaged.",
        )

    def _region(self, number: int) -> Region:
        region = self._regions.get(number)
        if region is None:
            first = number << REGION_SHIFT
            places = np.arange(min(REGION_SECTORS, self.sectors - first), dtype=np.int64)
            for link in self.links:
                link.locate(first, places)
            if len(self._regions) >= KEPT_REGIONS:
                del self._regions[next(iter(self._regions))]
            region = self._regions[number] = Region(places)
        elif region.stale:
            region.refresh()
        return region

    # --- writing ------------------------------------------------------------------------------------------------------

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        view = memoryview(data).cast("B")
        self._begin_writing(offset_bytes, view.nbytes)
        if view.nbytes and self.top.write(offset_bytes // SECTOR_BYTES, view, self._old):
            self._moved(offset_bytes // SECTOR_BYTES, view.nbytes // SECTOR_BYTES, [self.top])

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        self._begin_writing(offset_bytes, size_bytes)
        if size_bytes and self.top.unmap(offset_bytes // SECTOR_BYTES, size_bytes // SECTOR_BYTES, self._old):
            self._moved(offset_bytes // SECTOR_BYTES, size_bytes // SECTOR_BYTES, self.links)

    def _begin_writing(self, offset_bytes: int, size_bytes: int) -> None:
        check_range(self, offset_bytes, size_bytes)
        if self.read_only:
            raise BlockError("read_only", f"{self.top.path} was opened for reading only.")
        if not self.cid_changed and size_bytes:
            self.top.set_cid(new_cid(self.top.descriptor.cid, self.top.descriptor.parent_cid))
            self.cid_changed = True

    def _old(self, first: int, sectors: int) -> bytes:
        return self._read_slowly(first * SECTOR_BYTES, sectors * SECTOR_BYTES)

    def _moved(self, first: int, sectors: int, links: list[VirtualDisk]) -> None:
        """Sectors lie elsewhere now, and with them the rest of their grains: ask ``links`` where, from the base up.

        What was written can only have come to the top; what was unmapped may be anybody's.
        """
        grain = max(extent.grain_sectors for extent in self.top.extents)
        first, end = max(0, first - grain + 1), min(self.sectors, first + sectors + grain - 1)
        for number in range(first >> REGION_SHIFT, ((end - 1) >> REGION_SHIFT) + 1):
            region = self._regions.get(number)
            if region is not None:
                base = number << REGION_SHIFT
                low, high = max(first, base), min(end, base + len(region.places))
                places = region.places[low - base : high - base]
                if links is self.links:
                    places[:] = np.arange(low - base, high - base)
                for link in links:
                    link.locate(low, places)
                region.stale = True

    def allocated(self, chunk_bytes: int) -> Iterator[tuple[int, int]]:
        """(offset, size) of the chunks of which at least one sector is in some file."""
        offset = 0
        while offset < self.size_bytes:
            known = min(link.next_known(offset // SECTOR_BYTES) for link in self.links) * SECTOR_BYTES
            offset = max(offset, known // chunk_bytes * chunk_bytes)
            if offset >= self.size_bytes:
                return
            size = min(chunk_bytes, self.size_bytes - offset)
            if self._anything(offset // SECTOR_BYTES, (offset + size) // SECTOR_BYTES):
                yield offset, size
            offset += chunk_bytes

    def _anything(self, first: int, end: int) -> bool:
        for number in range(first >> REGION_SHIFT, ((end - 1) >> REGION_SHIFT) + 1):
            base = number << REGION_SHIFT
            places = self._region(number).places[max(0, first - base) : end - base]
            if places[0] > SECTOR_MASK or places[-1] > SECTOR_MASK or (places > SECTOR_MASK).any():
                return True
        return False

    def top_is_empty(self) -> bool:
        """Does the top hold nothing of its own?"""
        first = self.top.next_known(0)
        while first < self.sectors:
            places = np.full(min(REGION_SECTORS, self.sectors - first), -1, np.int64)
            self.top.locate(first, places)
            if (places >= 0).any():
                return False
            first = self.top.next_known(first + REGION_SECTORS)
        return True

    def flush(self) -> None:
        if self.top.writable:
            self.top.flush()

    def close(self) -> None:
        with contextlib.ExitStack() as all_of_them:  # where one refuses, too; the top first
            for link in self.links:
                all_of_them.callback(link.close)

    def __enter__(self) -> DiskChain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _fill_zeros(_offset_bytes: int, view: memoryview) -> int:
    view[:] = bytes(view.nbytes)
    return view.nbytes


def parent_path(link: VirtualDisk) -> Path | None:
    """Where the parent's descriptor is; ``None`` for a base."""
    if not link.descriptor.has_parent:
        return None
    hint = link.descriptor.parent_hint
    if not hint:
        raise AdminError(f"{link.path} has a parent (parentCID) but does not say which: parentFileNameHint is missing.")
    return link.path.parent / hint


def open_chain(path: Path, writable: bool = False, files: Files = REAL_FILES) -> DiskChain:
    """Open a disk with all its parents.

    Raises
    ------
    AdminError : a link is missing or damaged, or a parent was written after its child was made.
    """
    links: list[VirtualDisk] = []
    seen: set[Path] = set()
    at: Path | None = path
    try:
        while at is not None:
            if files.resolve(at) in seen:
                raise AdminError(f"{path} cannot be opened: {at} is its own ancestor.")
            if len(links) > MOST_SNAPSHOTS + 1:
                raise AdminError(f"{path} cannot be opened: more than {MOST_SNAPSHOTS} snapshots above a base disk.")
            seen.add(files.resolve(at))
            link = VirtualDisk(at, writable and not links, files)
            links.append(link)
            if len(links) > 1:
                _check_parent(links[-2], link)
            at = parent_path(link)
    except BaseException:
        for link in links:
            link.close()
        raise
    return DiskChain(links[::-1])


def _check_parent(child: VirtualDisk, parent: VirtualDisk) -> None:
    expected, pending = child.descriptor.parent_cid, child.descriptor.pending_parent_cid
    cid = parent.descriptor.cid
    if cid not in (expected, pending):
        raise AdminError(
            f"{child.path} is refused: its parent {parent.path} has CID {cid:08x}, but had {expected:08x} when the "
            "snapshot was taken. The parent was written since; what the child holds no longer fits. Restore the "
            "parent, or use it without this child."
        )
    if pending is not None and child.writable:
        child.replace_descriptor(msgspec.structs.replace(child.descriptor, parent_cid=cid, pending_parent_cid=None))
