"""Raw device mappings: a file on a datastore that stands for a whole LUN.

::

    vm.vmdk        createType="vmfsRawDeviceMap"    RW 8192 VMFSRDM "vm-rdm.vmdk"       virtual compatibility
                   "vmfsPassthroughRawDeviceMap"    RW 8192 VMFSRDM "vm-rdmp.vmdk"      physical
    vm-rdm.vmdk    which LUN: its name by INQUIRY page 83
    LUN            naa.6000c29...                   the sectors

                                virtual                              physical
    the guest sees              a virtual disk                       the LUN itself: every command goes to it,
                                                                     but REPORT LUNS, which would show others
    the LUN gets                reads, writes, flushes, unmappings   whatever the guest sends
    snapshots                   yes: redo logs above the mapping     no: the guest changes the LUN behind their back

``RdmFiles`` puts LUNs behind a ``Files``: whoever opens disks through it opens mappings too (chains, snapshots,
conversions).

MODEL: VMFS keeps the name in the mapping file's inode, which has no content of its own; here it is the content.
Sources: VMware, Raw Device Mapping (ESX 3), "Characteristics"; Virtual Disk Format 1.1 for the types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vilab.errors import AdminError
from vilab.protocols import Lun
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disk_file import REAL_FILES, DiskFile, Files
from vilab.storage.disks import descriptor as text
from vilab.storage.disks.descriptor import PHYSICAL_MAPPING, VIRTUAL_MAPPING, Descriptor, ExtentLine
from vilab.storage.disks.vmdk import read_descriptor
from vilab.storage.disks.vmdk_create import describe
from vilab.storage.scsi.passthrough import PassthroughDisk

FIRST_LINE: Final = b"# vilab raw device mapping\n"
MOST_BYTES: Final = 1024

_LUN_LINE = re.compile(rb'lun = "([!-~ ]{1,223})"\n\Z')


def write_mapping(name: str) -> bytes:
    """The content of a mapping file."""
    data = FIRST_LINE + b'lun = "' + name.encode("ascii", "replace") + b'"\n'
    parse_mapping(data, "The mapping")
    return data


def parse_mapping(data: bytes, where: str) -> str:
    """The LUN's name. ``AdminError`` for anything that is no mapping file."""
    match = _LUN_LINE.match(data[len(FIRST_LINE) :]) if data.startswith(FIRST_LINE) else None
    if match is None or b'"' in match[1] or len(data) > MOST_BYTES:
        raise AdminError(f"{where} is no raw device mapping, or damaged: it does not say which LUN it stands for.")
    return match[1].decode()


def create_mapping(path: Path, name: str, lun: Lun, physical: bool = False, files: Files = REAL_FILES) -> Descriptor:
    """Make a mapping for a LUN. Refused where a file of it exists; a failure leaves nothing behind."""
    sectors = lun.size_bytes // SECTOR_BYTES
    if lun.sector_bytes != SECTOR_BYTES:
        raise AdminError(f"{name} cannot be mapped: it has sectors of {lun.sector_bytes} bytes, not of {SECTOR_BYTES}.")
    extent = path.with_name(path.name.removesuffix(".vmdk") + ("-rdmp.vmdk" if physical else "-rdm.vmdk"))
    kind = PHYSICAL_MAPPING if physical else VIRTUAL_MAPPING
    described = describe(sectors, kind, [ExtentLine("RW", sectors, "VMFSRDM", extent.name)], geometry=lun.geometry)
    content = write_mapping(name)
    if files.exists(path):
        raise AdminError(f"{path} exists already.")
    file = files.create(extent)
    try:
        try:
            file.write(0, content)
            file.sync()
        finally:
            file.close()
        files.replace(path, text.write(described))
    except BaseException:
        files.remove(extent)
        raise
    return described


class RdmFiles(Files):
    """Another ``Files``, with LUNs by name behind it."""

    def __init__(self, luns: Mapping[str, Lun], files: Files = REAL_FILES) -> None:
        self.luns, self.files = luns, files

    def open_lun(self, path: Path) -> Lun:
        """The LUN that a mapping file stands for. ``AdminError`` where this host does not see it."""
        file = self.files.open(path)
        try:
            name = parse_mapping(file.read_some(0, MOST_BYTES + 1), str(path))
        finally:
            file.close()
        found = self.luns.get(name)
        if found is None:
            raise AdminError(
                f"{path} stands for LUN {name}, which this host does not see. Check zoning and masking, then rescan."
            )
        return found

    def open(self, path: Path, writable: bool = False) -> DiskFile:
        return self.files.open(path, writable)

    def create(self, path: Path) -> DiskFile:
        return self.files.create(path)

    def exists(self, path: Path) -> bool:
        return self.files.exists(path)

    def names(self, folder: Path) -> list[str]:
        return self.files.names(folder)

    def resolve(self, path: Path) -> Path:
        return self.files.resolve(path)

    def replace(self, path: Path, content: bytes) -> None:
        self.files.replace(path, content)

    def rename(self, path: Path, to: Path) -> None:
        self.files.rename(path, to)

    def remove(self, path: Path) -> None:
        self.files.remove(path)

    def sync_folder(self, folder: Path) -> None:
        self.files.sync_folder(folder)


def open_passthrough(path: Path, files: Files) -> PassthroughDisk:
    """The LUN behind a mapping in physical compatibility mode."""
    described = read_descriptor(path, files)
    if described.create_type != PHYSICAL_MAPPING:
        raise AdminError(
            f"{path} is a disk of type {described.create_type}: commands of the guest go through to a LUN only with a "
            f"mapping in physical compatibility mode ({PHYSICAL_MAPPING})."
        )
    extent = described.extents[0]
    if len(described.extents) != 1 or extent.kind != "VMFSRDM" or extent.file is None:
        raise AdminError(f"{path} is damaged: a mapping has one extent, of type VMFSRDM.")
    lun = files.open_lun(text.extent_path(path.parent, extent.file, files.resolve))
    if lun.size_bytes < extent.sectors * SECTOR_BYTES:
        raise AdminError(
            f"{path} is damaged: its LUN has {lun.size_bytes} bytes, {extent.sectors} sectors are promised."
        )
    return PassthroughDisk(lun)
