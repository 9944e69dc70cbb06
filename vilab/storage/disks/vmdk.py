"""One virtual disk without its parents: a descriptor and the extents it names.

::

    vm.vmdk            # Disk DescriptorFile ... RW 8192 VMFS "vm-flat.vmdk"
    vm-flat.vmdk       sector 0 ... 8191

    small.vmdk         KDMV header | the descriptor | tables | grains          both in one file

The layout is ``vmdk_layout``; a disk with its parents, the thing to read and write, is ``disk_chain``.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import struct
from pathlib import Path

import msgspec

from vilab.errors import AdminError
from vilab.storage.block import SECTOR_BYTES, BlockError
from vilab.storage.disk_file import REAL_FILES, DiskFile, Files
from vilab.storage.disks import descriptor as text
from vilab.storage.disks.descriptor import Descriptor
from vilab.storage.disks.extent import Extent, FlatExtent, OldContent, Places, ZeroExtent
from vilab.storage.disks.lun_extent import LunExtent
from vilab.storage.disks.sparse_extent import SparseExtent
from vilab.storage.disks.sparse_open import open_cowd, open_kdmv, read_kdmv
from vilab.storage.disks.stream_extent import StreamExtent
from vilab.storage.disks.vmdk_layout import (
    DESCRIPTOR_HOME,
    DESCRIPTOR_SECTORS,
    KDMV_DESCRIPTOR_PLACE_AT,
    KDMV_MAGIC,
)

_CID_LINE = re.compile(rb"^CID=([0-9a-fA-F]{8})\s*$", re.MULTILINE)


def is_vmdk(path: Path) -> bool:
    """Is this a virtual disk, or else something raw?"""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
            raise ValueError("it is not a file")
        with path.open("rb") as file:
            start = file.read(64)
    except (OSError, ValueError) as error:
        raise AdminError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    return start[:4] in (KDMV_MAGIC, b"COWD") or text.is_descriptor(start)


def new_cid(*but: int) -> int:
    """A content identifier that is none of these, nor one of the two with a meaning."""
    while True:
        cid = secrets.randbits(32)
        if cid < 0xFFFF_FFFE and cid not in but:
            return cid


def _descriptor_of(file: DiskFile) -> tuple[Descriptor, bytes, int]:
    """The descriptor, its bytes, and where in the file they are."""
    start = file.read_some(0, SECTOR_BYTES)
    at, data = 0, b""
    if start[:4] == KDMV_MAGIC:
        header = read_kdmv(file)
        at, size = header.descriptor_offset * SECTOR_BYTES, header.descriptor_sectors * SECTOR_BYTES
        if not at:
            raise AdminError(f"{file.path} is an extent of a virtual disk: open the descriptor (.vmdk) that names it.")
        if size > text.MOST_BYTES or at >= file.size_bytes:
            raise AdminError(f"{file.path} is damaged: its descriptor is not where the header says.")
        data = file.read_some(at, size)
    elif start[:4] == b"COWD":
        raise AdminError(f"{file.path} is the redo log of a virtual disk: open the descriptor (.vmdk) that names it.")
    else:
        data = file.read_some(0, text.MOST_BYTES + 1)
    return text.parse(data, str(file.path)), data.split(b"\0", 1)[0], at


def read_descriptor(path: Path, files: Files = REAL_FILES) -> Descriptor:
    """Only look: no lock, no extent is opened."""
    file = files.open(path)
    try:
        return _descriptor_of(file)[0]
    finally:
        file.close()


class VirtualDisk:
    """One link of a chain, open.

    Raises
    ------
    AdminError : it is no disk, an extent is missing, damaged, outside of the folder, or someone else writes to it.
    """

    def __init__(self, path: Path, writable: bool = False, files: Files = REAL_FILES) -> None:
        self.path, self.writable, self.files = path, writable, files
        self.extents: list[Extent] = []
        self.starts: list[int] = []
        self._file = files.open(path, writable)
        try:
            self._file.lock()
            self.descriptor, self._text, self._at = _descriptor_of(self._file)
            self._open_extents()
        except BaseException:
            for extent in self.extents:
                extent.close()
            self._file.close()
            raise
        self.sectors = self.descriptor.sectors

    @property
    def embedded(self) -> bool:
        """Is the descriptor inside of the only extent?"""
        return self._at != 0

    def _open_extents(self) -> None:
        start = 0
        lines = self.descriptor.extents
        if self.embedded and len(lines) != 1:
            raise AdminError(f"{self.path} is damaged: it holds one extent and names {len(lines)}.")
        for line in lines:
            if line.kind == "VMFSRAW" or line.access == "NOACCESS":
                raise AdminError(
                    f"{self.path} cannot be opened as a virtual disk: its extent of type {line.kind} "
                    f"({line.access}) is not in a file."
                )
            extent = self._open_extent(line)
            self.extents.append(extent)
            self.starts.append(start)
            start += line.sectors
            if extent.sectors < line.sectors:
                raise AdminError(
                    f"{self.path} is damaged: its extent {line.file!r} has {extent.sectors} sectors, {line.sectors} "
                    "are promised."
                )
            extent.sectors = line.sectors
            fixed = isinstance(extent, ZeroExtent | StreamExtent) or line.access == "RDONLY"
            if self.writable and fixed:
                raise BlockError(
                    "read_only",
                    f"{self.path} cannot be written: an extent of it is compressed, made of zeros or marked RDONLY. "
                    "Convert it, or take a snapshot and write to that.",
                )

    def _open_extent(self, line: text.ExtentLine) -> Extent:
        if line.kind == "ZERO":
            return ZeroExtent(line.sectors)
        assert line.file is not None
        # A file with its own descriptor is its extent whatever it is called now.
        path = self.path if self.embedded else text.extent_path(self.path.parent, line.file, self.files.resolve)
        if line.kind == "VMFSRDM":
            lun = self.files.open_lun(path)
            return LunExtent(lun, min(line.sectors, lun.size_bytes // SECTOR_BYTES))
        file = self.files.open(path, self.writable)
        try:
            if line.kind == "SPARSE":
                return open_kdmv(file)
            if line.kind == "VMFSSPARSE":
                return open_cowd(file)
            offset = line.offset or 0
            if file.size_bytes < (offset + line.sectors) * SECTOR_BYTES:
                raise BlockError(
                    "medium",
                    f"{path} is too short: {line.sectors} sectors of the disk are promised there, the file has "
                    f"{file.size_bytes} bytes. It was truncated, or copied incompletely.",
                )
            return FlatExtent(file, line.sectors, offset)
        except BaseException:
            file.close()
            raise

    def files_of(self) -> list[Path]:
        """All files of this disk, the descriptor last."""
        if self.embedded:
            return [self.path]
        names = [line.file for line in self.descriptor.extents if line.file is not None]
        return [*(text.extent_path(self.path.parent, name, self.files.resolve) for name in names), self.path]

    # --- content ------------------------------------------------------------------------------------------------------

    def _pieces(self, first: int, sectors: int) -> list[tuple[Extent, int, int, int]]:
        """(extent, first sector in it, sectors, its start) for each extent that the range touches."""
        pieces = []
        for extent, start in zip(self.extents, self.starts, strict=True):
            low, high = max(first, start), min(first + sectors, start + extent.sectors)
            if low < high:
                pieces.append((extent, low - start, high - low, start))
        return pieces

    def locate(self, first: int, places: Places) -> None:
        """Overwrite the places of those sectors that are here. Zeros get slot 0 and their index."""
        for extent, at, sectors, start in self._pieces(first, len(places)):
            skip = start + at - first
            extent.locate(at, places[skip : skip + sectors])

    def next_known(self, first: int) -> int:
        """The first sector, that one on, which could be here; ``sectors`` if there is none."""
        for extent, start in zip(self.extents, self.starts, strict=True):
            if first < start + extent.sectors:
                found = extent.next_known(max(0, first - start))
                if found < extent.sectors:
                    return start + found
        return self.sectors

    def write(self, first: int, data: memoryview, old: OldContent) -> bool:
        moved = False
        for extent, at, sectors, start in self._pieces(first, data.nbytes // SECTOR_BYTES):
            skip = (start + at - first) * SECTOR_BYTES
            part = data[skip : skip + sectors * SECTOR_BYTES]
            moved |= extent.write(at, part, lambda f, n, start=start: old(start + f, n))  # type: ignore[misc]
        return moved

    def unmap(self, first: int, sectors: int, old: OldContent) -> bool:
        moved = False
        for extent, at, some, start in self._pieces(first, sectors):
            below = lambda f, n, start=start: old(start + f, n)  # noqa: E731
            moved |= extent.unmap(at, some, self.descriptor.has_parent, below)
        return moved

    def flush(self) -> None:
        for extent in self.extents:
            extent.flush()

    # --- the descriptor -----------------------------------------------------------------------------------------------

    def set_cid(self, cid: int) -> None:
        """Eight bytes in place: a crash leaves the old CID or another one, never no descriptor."""
        match = _CID_LINE.search(self._text)
        changed = msgspec.structs.replace(self.descriptor, cid=cid)
        if match is None:  # written by a program that leaves leading zeros out
            self.replace_descriptor(changed)
            return
        digits = b"%08x" % cid
        self._file.write(self._at + match.start(1), digits)
        self._file.sync()
        self._text = self._text[: match.start(1)] + digits + self._text[match.end(1) :]
        self.descriptor = changed

    def replace_descriptor(self, changed: Descriptor) -> None:
        """Another descriptor in one step that a crash cannot split."""
        data = text.write(changed)
        if self.embedded:
            self._move_descriptor(data)
        else:
            self.files.replace(self.path, data)
            self._file.close()
            self._file = self.files.open(self.path, self.writable)
            self._file.lock()
        self._text, self.descriptor = data, changed

    def _move_descriptor(self, data: bytes) -> None:
        """Behind the end of the file first, then in its home; the header, one sector, says which of the two counts.

        Other programs look in the home alone, whatever the header says.
        """
        extent = self.extents[0]
        assert isinstance(extent, SparseExtent)
        sectors, grain = -(-len(data) // SECTOR_BYTES), extent.shape.grain_sectors
        spare = extent.free_sector
        extent.free_sector += -(-sectors // grain) * grain
        self._put_descriptor(data, spare, extent.free_sector - spare)
        self._descriptor_counts(spare, sectors)
        tables = filter(None, (extent.shape.redundant_gd_offset, extent.shape.gd_offset, extent.shape.first_data))
        room = min(DESCRIPTOR_SECTORS, min(tables) - DESCRIPTOR_HOME)
        if sectors <= room:
            self._put_descriptor(data, DESCRIPTOR_HOME, room)
            self._descriptor_counts(DESCRIPTOR_HOME, room)

    def _put_descriptor(self, data: bytes, at: int, sectors: int) -> None:
        self._file.write(at * SECTOR_BYTES, data.ljust(sectors * SECTOR_BYTES, b"\0"))
        self._file.sync()

    def _descriptor_counts(self, at: int, sectors: int) -> None:
        self._file.write(KDMV_DESCRIPTOR_PLACE_AT, struct.pack("<QQ", at, sectors))
        self._file.sync()
        self._at = at * SECTOR_BYTES

    def close(self) -> None:
        with contextlib.ExitStack() as all_of_them:  # where one refuses, too
            all_of_them.callback(self._file.close)
            for extent in reversed(self.extents):
                all_of_them.callback(extent.close)
