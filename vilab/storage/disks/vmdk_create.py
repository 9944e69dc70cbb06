"""New virtual disks, empty: the files, their headers and tables, and the descriptor last.

=======================  ====================================================  =============================
createType               files                                                 extent lines
=======================  ====================================================  =============================
``monolithicSparse``     ``vm.vmdk``                                           SPARSE, itself
``monolithicFlat``       ``vm.vmdk``, ``vm-flat.vmdk``                         FLAT, offset 0
``twoGbMaxExtentSparse`` ``vm.vmdk``, ``vm-s001.vmdk``, ``vm-s002.vmdk``, ...  SPARSE, of 2,047 MB at most
``twoGbMaxExtentFlat``   ``vm.vmdk``, ``vm-f001.vmdk``, ``vm-f002.vmdk``, ...  FLAT, of 2,047 MB at most
``vmfs``                 ``vm.vmdk``, ``vm-flat.vmdk``                         VMFS
``vmfsSparse``           ``vm.vmdk``, ``vm-delta.vmdk``                        VMFSSPARSE, a redo log
=======================  ====================================================  =============================

All tables of a sparse extent are there from the beginning, as a hole in the file: where one is missing, QEMU 7.2 takes
sector 0 for the grain and writes over the header.
"""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import Literal

import numpy as np

from vilab.errors import AdminError
from vilab.protocols import Geometry
from vilab.storage.block import SECTOR_BYTES, write_zeros
from vilab.storage.disk_file import REAL_FILES, DiskFile, Files
from vilab.storage.disks import descriptor as text
from vilab.storage.disks.descriptor import NO_PARENT, Descriptor, ExtentLine
from vilab.storage.disks.vmdk import new_cid
from vilab.storage.disks.vmdk_layout import (
    COWD_FLAGS,
    COWD_GRAIN_SECTORS,
    COWD_HEADER_SECTORS,
    COWD_TABLE_ENTRIES,
    COWD_VERSION,
    DESCRIPTOR_SECTORS,
    FLAG_NEWLINES,
    FLAG_REDUNDANT,
    FLAG_ZERO_GRAINS,
    KDMV_GRAIN_SECTORS,
    KDMV_TABLE_ENTRIES,
    KDMV_VERSION,
    KDMV_VERSION_ZERO_GRAINS,
    CowdHeader,
    KdmvHeader,
)
from vilab.storage.geometry import geometry_of

CREATE_TYPES = (
    "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized", "vmfs",
    "vmfsSparse",
)  # fmt: skip
TWO_GB_SECTORS = 2047 << 11
MOST_COWD_SECTORS = (1 << 32) - 1

Space = Literal["thin", "thick", "eager"]
"""How a flat extent takes its space: as it is written, at once, at once and filled with zeros."""


def create(
    path: Path,
    sectors: int,
    create_type: str,
    space: Space = "thin",
    zero_grains: bool = False,
    adapter: str = "lsilogic",
    parent: tuple[int, str] | None = None,
    cid: int | None = None,
    most_sectors: int = TWO_GB_SECTORS,
    files: Files = REAL_FILES,
    geometry: Geometry | None = None,
) -> Descriptor:
    """Make an empty disk. Refused where a file of it exists; a failure leaves nothing behind.

    Parameters
    ----------
    parent : the parent's CID and its name as the child's folder sees it.
    most_sectors : of one extent, where the type cuts the disk into several.
    geometry : of the disk that this is a copy or a redo log of; without it by size and adapter.
    """
    lines = extent_lines(path, sectors, create_type, most_sectors)
    described = describe(sectors, create_type, lines, space, adapter, parent, cid, geometry)
    made: list[Path] = []
    try:
        for line in lines:
            assert line.file is not None
            extent = path.parent / line.file
            file = files.create(extent)
            made.append(extent)
            try:
                if line.kind == "SPARSE":
                    embedded = text.write(described) if extent == path else None
                    write_kdmv(file, line.sectors, embedded, zero_grains)
                elif line.kind == "VMFSSPARSE":
                    write_cowd(file, line.sectors)
                else:
                    _write_flat(file, line.sectors, space)
                file.sync()
            finally:
                file.close()
        if path not in made:
            if files.exists(path):
                raise AdminError(f"{path} exists already.")
            files.replace(path, text.write(described))
        files.sync_folder(path.parent)
    except BaseException:
        for extent in made:
            with contextlib.suppress(OSError):
                files.remove(extent)
        raise
    return described


def extent_lines(path: Path, sectors: int, create_type: str, most_sectors: int = TWO_GB_SECTORS) -> list[ExtentLine]:
    """Which extents a disk of that type at ``path`` has."""
    stem = path.name.removesuffix(".vmdk")
    if not 0 < sectors <= text.MOST_SECTORS:
        raise AdminError(f"A disk of {sectors} sectors cannot be made; 1 to {text.MOST_SECTORS} are possible.")
    if create_type in ("monolithicSparse", "streamOptimized"):
        return [ExtentLine("RW", sectors, "SPARSE", path.name)]
    if create_type == "monolithicFlat":
        return [ExtentLine("RW", sectors, "FLAT", f"{stem}-flat.vmdk", 0)]
    if create_type == "vmfs":
        return [ExtentLine("RW", sectors, "VMFS", f"{stem}-flat.vmdk")]
    if create_type == "vmfsSparse":
        if sectors > MOST_COWD_SECTORS:
            raise AdminError(f"A redo log of {sectors} sectors cannot be made: its header counts to 2 TB.")
        return [ExtentLine("RW", sectors, "VMFSSPARSE", f"{stem}-delta.vmdk")]
    if create_type not in ("twoGbMaxExtentSparse", "twoGbMaxExtentFlat"):
        raise AdminError(f"There is no disk of type {create_type!r}; there are {', '.join(CREATE_TYPES)}.")
    sparse = create_type.endswith("Sparse")
    sizes = [min(most_sectors, sectors - start) for start in range(0, sectors, most_sectors)]
    return [
        ExtentLine("RW", size, "SPARSE", f"{stem}-s{number:03}.vmdk")
        if sparse
        else ExtentLine("RW", size, "FLAT", f"{stem}-f{number:03}.vmdk", 0)
        for number, size in enumerate(sizes, 1)
    ]


def describe(
    sectors: int,
    create_type: str,
    lines: list[ExtentLine],
    space: Space = "thin",
    adapter: str = "lsilogic",
    parent: tuple[int, str] | None = None,
    cid: int | None = None,
    geometry: Geometry | None = None,
) -> Descriptor:
    """The descriptor of a new disk."""
    shape = geometry or geometry_of(sectors, adapter)
    identity = b"\x60\x00\xc2\x90" + uuid.uuid4().bytes[:12]
    database = [
        ("ddb.virtualHWVersion", "4"),
        ("ddb.geometry.cylinders", str(shape.cylinders)),
        ("ddb.geometry.heads", str(shape.heads)),
        ("ddb.geometry.sectors", str(shape.sectors)),
        ("ddb.adapterType", adapter),
    ]
    if parent is None:
        spelled = identity.hex(" ")
        database.append(("ddb.uuid", f"{spelled[:23]}-{spelled[24:]}"))
    if create_type == "vmfs" and space == "thin":
        database.append(("ddb.thinProvisioned", "1"))
    return Descriptor(
        cid=new_cid() if cid is None else cid,
        create_type=create_type,
        extents=tuple(lines),
        parent_cid=NO_PARENT if parent is None else parent[0],
        parent_hint=None if parent is None else parent[1],
        ddb=tuple(database),
    )


def _write_flat(file: DiskFile, sectors: int, space: Space) -> None:
    size = sectors * SECTOR_BYTES
    if space == "thin":
        file.resize(size)
    elif space == "thick":
        file.allocate(size)
    else:
        write_zeros(file.write, 0, size)


def write_kdmv(file: DiskFile, sectors: int, embedded: bytes | None, zero_grains: bool) -> None:
    """A sparse extent without grains into an empty file; ``embedded``: its own descriptor."""
    grains = -(-sectors // KDMV_GRAIN_SECTORS)
    tables = -(-grains // KDMV_TABLE_ENTRIES)
    directory_sectors = -(-tables * 4 // SECTOR_BYTES)
    table_sectors = KDMV_TABLE_ENTRIES * 4 // SECTOR_BYTES
    redundant_at = 1 + (DESCRIPTOR_SECTORS if embedded is not None else 0)
    primary_at = redundant_at + directory_sectors + tables * table_sectors
    end = primary_at + directory_sectors + tables * table_sectors
    overhead = -(-end // KDMV_GRAIN_SECTORS) * KDMV_GRAIN_SECTORS
    if embedded is not None and len(embedded) > DESCRIPTOR_SECTORS * SECTOR_BYTES:
        raise AdminError(f"{file.path} cannot be made: its descriptor is too long to stand inside of the disk.")
    header = KdmvHeader(
        version=KDMV_VERSION_ZERO_GRAINS if zero_grains else KDMV_VERSION,
        flags=FLAG_NEWLINES | FLAG_REDUNDANT | (FLAG_ZERO_GRAINS if zero_grains else 0),
        capacity=sectors,
        grain_sectors=KDMV_GRAIN_SECTORS,
        descriptor_offset=0 if embedded is None else 1,
        descriptor_sectors=0 if embedded is None else DESCRIPTOR_SECTORS,
        table_entries=KDMV_TABLE_ENTRIES,
        redundant_gd_offset=redundant_at,
        gd_offset=primary_at,
        overhead=overhead,
    )
    file.resize(overhead * SECTOR_BYTES)
    for at in (redundant_at, primary_at):
        first = at + directory_sectors
        directory = np.arange(first, first + tables * table_sectors, table_sectors, dtype="<u4")
        file.write(at * SECTOR_BYTES, directory.tobytes())
    if embedded is not None:
        file.write(SECTOR_BYTES, embedded)
    file.write(0, header.pack())


def write_cowd(file: DiskFile, sectors: int) -> None:
    """An empty redo log into an empty file."""
    tables = -(-sectors // (COWD_GRAIN_SECTORS * COWD_TABLE_ENTRIES))
    table_sectors = COWD_TABLE_ENTRIES * 4 // SECTOR_BYTES
    first = COWD_HEADER_SECTORS + -(-tables * 4 // SECTOR_BYTES)
    free = first + tables * table_sectors
    header = CowdHeader(
        version=COWD_VERSION,
        flags=COWD_FLAGS,
        capacity=sectors,
        grain_sectors=COWD_GRAIN_SECTORS,
        gd_offset=COWD_HEADER_SECTORS,
        gd_entries=tables,
        free_sector=free,
    )
    file.resize(free * SECTOR_BYTES)
    directory = np.arange(first, free, table_sectors, dtype="<u4")
    file.write(COWD_HEADER_SECTORS * SECTOR_BYTES, directory.tobytes())
    file.write(0, header.pack())
