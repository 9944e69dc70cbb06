"""An open volume: from the device's bytes to logical positions, checked so far that a reader can rely on it.

::

    device ── LVM at B ── extents ──> logical volume ── FS descriptor, heartbeats, blocks
              (B = 1 MiB, or that behind the start of a partition of type 0xfb)

Nothing is written here but what is asked for, and nothing is kept in memory but the descriptors.
"""

from __future__ import annotations

import struct
from typing import Protocol

from vilab.errors import AdminError
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.errors import VmfsDamage
from vilab.storage.vmfs.layout import SECTOR, FileSystem, LvmDevice, LvmVolume


class Readable(Protocol):
    """Logical positions to bytes: a volume, or a volume with changes that are not written yet."""

    def read(self, pos: int, size_bytes: int) -> bytes: ...


class Volume:
    """The logical volume on one device.

    Raises
    ------
    AdminError : there is no VMFS-3 on the device, or what describes it is damaged.
    """

    def __init__(self, device: BlockDevice) -> None:
        self.device = device
        self.overlay: dict[int, bytes] = {}
        """Sectors that a reader sees instead of those on disk: changes that a dead host had made certain."""
        start = _partition_bytes(device)
        self.lvm = LvmDevice.decode(self._device_read(start + on_disk.LVM_AT))
        if self.lvm.magic != on_disk.LVM_MAGIC:
            raise AdminError("There is no VMFS volume on this disk: vilab vmfs mkfs makes one.")
        if self.lvm.major != 3:
            raise AdminError(f"This volume has version {self.lvm.major} of the logical volume manager; VMFS-3 has 3.")
        self.member = LvmVolume.decode(self._device_read(start + on_disk.LVM_VOLUME_AT))
        if self.member.devices != 1 or self.member.first_extent or self.lvm.volumes != 1:
            raise AdminError("This volume lies on several disks, or shares this one; only a single one can be opened.")
        if self.lvm.sector_bytes != SECTOR:
            raise VmfsDamage(f"The volume is damaged: it claims sectors of {self.lvm.sector_bytes} bytes.")
        self.base = start + on_disk.LVM_AT + on_disk.DATA_AFTER_LVM
        if self.lvm.data_offset not in (0, on_disk.LVM_AT + on_disk.DATA_AFTER_LVM):
            raise VmfsDamage(f"The volume is damaged: its data is said to begin at {self.lvm.data_offset:#x}.")
        self.size_bytes = min(self.member.extents * on_disk.EXTENT_BYTES, self.member.size_bytes)
        if not 0 < self.member.extents <= on_disk.MOST_EXTENTS or self.size_bytes < on_disk.EXTENT_BYTES:
            raise VmfsDamage(f"The volume is damaged: it claims {self.member.extents} extents.")
        if self.base + self.size_bytes > device.size_bytes:
            raise VmfsDamage(
                f"The volume needs {self.base + self.size_bytes} bytes, the disk has {device.size_bytes}: "
                "it is a copy that was cut off, or the disk has shrunk."
            )
        self._open_file_system()

    def _open_file_system(self) -> None:
        self.fs = FileSystem.decode(self.read(on_disk.FS_AT, SECTOR))
        if self.fs.magic != on_disk.FS_MAGIC:
            raise VmfsDamage("The volume is damaged: the file system's descriptor is not there.")
        if self.fs.lvm_uuid != self.member.uuid:
            raise AdminError(
                f"The file system was made on volume {on_disk.uuid_text(self.fs.lvm_uuid)}, this is "
                f"{on_disk.uuid_text(self.member.uuid)}: a copy that has to be given a new signature first."
            )
        if self.fs.block_bytes not in on_disk.BLOCK_SIZES or self.fs.sub_block_bytes != on_disk.SUB_BLOCK_BYTES:
            raise VmfsDamage(
                f"The volume is damaged: blocks of {self.fs.block_bytes} and sub-blocks of {self.fs.sub_block_bytes} "
                "bytes cannot be."
            )
        if self.fs.mode & 4:
            raise AdminError("This volume numbers its sub-blocks as VMFS-5 does; only VMFS-3 can be opened.")
        self.block_bytes = self.fs.block_bytes
        self.blocks = self.size_bytes // self.block_bytes

    @property
    def label(self) -> str:
        return self.fs.label.split(b"\0", 1)[0].decode("utf-8", "replace")

    def _device_read(self, offset_bytes: int) -> bytes:
        if offset_bytes + SECTOR > self.device.size_bytes:
            return bytes(SECTOR)
        return self.device.read(offset_bytes, SECTOR)

    def check(self, pos: int, size_bytes: int) -> None:
        if pos < 0 or size_bytes < 0 or pos + size_bytes > self.size_bytes:
            raise VmfsDamage(f"The volume is damaged: {size_bytes} bytes at {pos:#x} would lie outside of it.")

    def read(self, pos: int, size_bytes: int) -> bytes:
        """Any bytes of the logical volume."""
        self.check(pos, size_bytes)
        first = pos // SECTOR * SECTOR
        last = -(-(pos + size_bytes) // SECTOR) * SECTOR
        data = self.device.read(self.base + first, last - first)
        if self.overlay:
            data = laid_over(data, first, self.overlay)
        return data[pos - first : pos - first + size_bytes]

    def write(self, pos: int, data: ReadableBytes) -> None:
        """Whole sectors."""
        self.check(pos, memoryview(data).nbytes)
        self.device.write(self.base + pos, data)

    def unmap(self, pos: int, size_bytes: int) -> None:
        """Whole sectors that read as zeros from now on."""
        self.check(pos, size_bytes)
        self.device.unmap(self.base + pos, size_bytes)

    def flush(self) -> None:
        self.device.flush()


def laid_over(data: bytes, first: int, sectors: dict[int, bytes]) -> bytes:
    """``data``, whole sectors from position ``first`` on, with those that ``sectors`` has."""
    hits = [at for at in range(first, first + len(data), SECTOR) if at in sectors]
    if not hits:
        return data
    changed = bytearray(data)
    for at in hits:
        changed[at - first : at - first + SECTOR] = sectors[at]
    return bytes(changed)


def _partition_bytes(device: BlockDevice) -> int:
    """Where the VMFS partition begins; 0 on a disk that has no partition table."""
    if device.size_bytes < SECTOR:
        return 0
    boot = device.read(0, SECTOR)
    if boot[510:] != b"\x55\xaa":
        return 0
    for at in range(446, 510, 16):
        first: int = struct.unpack_from("<I", boot, at + 8)[0]
        if boot[at + 4] == on_disk.PARTITION_VMFS:
            return first * SECTOR
    return 0
