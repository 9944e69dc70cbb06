"""A new volume: LVM, file system descriptor, free heartbeats, four resource files, the root directory.

::

    block   0 ...              n        n + 1   n + 2 ...                                     (n = 4 with 1 MiB blocks)
            | .vh.sf: journals,| .fdc.sf| root  | .fbb.sf | .pbc.sf | .sbc.sf | the rest of .fdc.sf | free ...
            | descriptor,      | first  |
            | heartbeats       | block  |

Only what is not zero is written: a new file reads as zeros anyway; ``erase`` sees to it where something was before.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable

import msgspec

from vilab.errors import AdminError
from vilab.protocols import BlockDevice
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, INODE, POINTER_BLOCK, SUB_BLOCK, block_id
from vilab.storage.vmfs.layout import (
    BitmapEntry,
    DirectoryRecord,
    FileSystem,
    Header,
    Heartbeat,
    Inode,
    LvmDevice,
    LvmExtent,
    LvmVolume,
    ResourceHeader,
)
from vilab.storage.vmfs.resource import FILE_NAMES, MAGICS

PER_ENTRY = {FILE_BLOCK: 200, SUB_BLOCK: 16, POINTER_BLOCK: 16, INODE: 32}
PER_AREA = 32
ITEM_BYTES = {FILE_BLOCK: 0, SUB_BLOCK: on_disk.SUB_BLOCK_BYTES, POINTER_BLOCK: 4096, INODE: on_disk.INODE_BYTES}
OVERHEAD_BYTES = on_disk.LVM_AT + on_disk.DATA_AFTER_LVM
"""What a device has in front of its first extent."""
DEFAULT_FILES = 1024


class Plan(msgspec.Struct, frozen=True):
    """What a new volume will consist of."""

    extents: int
    block_bytes: int
    items: dict[int, int]

    @property
    def blocks(self) -> int:
        return self.extents * on_disk.EXTENT_BYTES // self.block_bytes

    def file_bytes(self, kind: int) -> int:
        """The size of a resource file: its last area only as far as there are items."""
        per_area = PER_AREA * PER_ENTRY[kind]
        full, rest = divmod(self.items[kind], per_area)
        size = on_disk.RESOURCE_HEADER_BYTES + full * self.area_bytes(kind)
        return size + (PER_AREA * on_disk.ENTRY_BYTES + rest * ITEM_BYTES[kind] if rest else 0)

    def area_bytes(self, kind: int) -> int:
        return PER_AREA * (on_disk.ENTRY_BYTES + PER_ENTRY[kind] * ITEM_BYTES[kind])

    def file_blocks(self, kind: int) -> int:
        return -(-self.file_bytes(kind) // self.block_bytes)

    def header(self, kind: int) -> ResourceHeader:
        return ResourceHeader(
            per_entry=PER_ENTRY[kind],
            per_area=PER_AREA,
            item_bytes=ITEM_BYTES[kind],
            area_bytes=self.area_bytes(kind),
            items=self.items[kind],
            areas=-(-self.items[kind] // (PER_AREA * PER_ENTRY[kind])),
        )


def plan(size_bytes: int, block_bytes: int = on_disk.MIB, files: int = DEFAULT_FILES) -> Plan:
    """For a logical volume of ``size_bytes``, or a little more: it consists of whole extents of 256 MiB."""
    extents = -(-size_bytes // on_disk.EXTENT_BYTES)
    if block_bytes not in on_disk.BLOCK_SIZES:
        raise AdminError("A VMFS-3 volume has blocks of 1, 2, 4 or 8 MiB.")
    if size_bytes < on_disk.EXTENT_BYTES:
        raise AdminError(
            f"A volume of {size_bytes} bytes cannot be made; the smallest has {on_disk.EXTENT_BYTES} bytes, which is "
            f"{on_disk.EXTENT_BYTES >> 20}M."
        )
    if extents > on_disk.MOST_EXTENTS:
        most = on_disk.MOST_EXTENTS * on_disk.EXTENT_BYTES >> 40
        raise AdminError(f"A volume of {size_bytes} bytes cannot be made; it can have up to {most} TiB.")
    if not 32 <= files <= 30720:
        raise AdminError(f"A volume for {files} files cannot be made; 32 to 30720 are possible.")
    blocks = extents * on_disk.EXTENT_BYTES // block_bytes
    sub_blocks = min(3072, max(256, blocks // 16 * 16))
    return Plan(
        extents,
        block_bytes,
        {
            FILE_BLOCK: blocks,
            SUB_BLOCK: min(sub_blocks, extents * 256),
            POINTER_BLOCK: max(64, -(-blocks // 1024 + 64) // 16 * 16),
            INODE: -(-files // 32) * 32,
        },
    )


def new_uuid(unix_s: int) -> bytes:
    return struct.pack("<II", unix_s, secrets.randbits(32)) + secrets.token_bytes(8)


def make(
    device: BlockDevice,
    unix_s: int,
    label: str = "datastore",
    block_bytes: int = on_disk.MIB,
    files: int = DEFAULT_FILES,
    uuid: Callable[[int], bytes] = new_uuid,
    erase: bool = True,
) -> Plan:
    """Make a volume on all of a device. The LVM's sector comes last.

    Parameters
    ----------
    erase : the device may hold something; ``False`` for a new file.
    """
    room = device.size_bytes - OVERHEAD_BYTES
    if room < on_disk.EXTENT_BYTES:
        least = OVERHEAD_BYTES + on_disk.EXTENT_BYTES
        raise AdminError(f"A disk of {device.size_bytes} bytes is too small for VMFS-3, which needs {least}.")
    name = label.encode()
    if not 0 < len(name) < 128 or "/" in label or not label.isprintable():
        raise AdminError(f"{label!r} cannot be the name of a datastore: 1 to 127 bytes, no slash.")
    planned = plan(min(room // on_disk.EXTENT_BYTES, on_disk.MOST_EXTENTS) * on_disk.EXTENT_BYTES, block_bytes, files)
    lvm_uuid, fs_uuid, device_uuid = uuid(unix_s), uuid(unix_s), uuid(unix_s)
    maker = _Maker(device, planned, unix_s)
    if erase:
        device.unmap(0, OVERHEAD_BYTES + maker.used_blocks * block_bytes)
        device.flush()
    maker.write(lvm_uuid, fs_uuid, name)
    device.flush()
    _write_lvm(device, planned, unix_s, lvm_uuid, device_uuid)
    device.flush()
    return planned


class _Maker:
    def __init__(self, device: BlockDevice, planned: Plan, unix_s: int) -> None:
        self.device, self.plan, self.unix_s = device, planned, unix_s
        bs = planned.block_bytes
        base = max(1, on_disk.FDC_BASE_AT // bs)
        self.header_blocks = list(range(base))
        self.root_block = base + 1
        at = base + 2
        self.file_blocks: dict[int, list[int]] = {}
        for kind in (FILE_BLOCK, POINTER_BLOCK, SUB_BLOCK, INODE):
            count = planned.file_blocks(kind) - (kind == INODE)
            self.file_blocks[kind] = list(range(at, at + count))
            at += count
        self.file_blocks[INODE].insert(0, base)
        self.used_blocks = at
        if any(len(blocks) > on_disk.INODE_BLOCKS for blocks in self.file_blocks.values()):
            raise AdminError("The volume cannot be made: one of its resource files would need pointer blocks.")

    def put(self, pos: int, data: bytes) -> None:
        self.device.write(OVERHEAD_BYTES + pos, data)

    def put_in_file(self, kind: int, offset: int, data: bytes) -> None:
        """Sectors of a resource file; none of these pieces crosses a block."""
        index, inside = divmod(offset, self.plan.block_bytes)
        self.put(self.file_blocks[kind][index] * self.plan.block_bytes + inside, data)

    def pos_in_file(self, kind: int, offset: int) -> int:
        index, inside = divmod(offset, self.plan.block_bytes)
        return self.file_blocks[kind][index] * self.plan.block_bytes + inside

    def write(self, lvm_uuid: bytes, fs_uuid: bytes, label: bytes) -> None:
        self.put(0, bytes(on_disk.FS_AT))
        slots = [
            Heartbeat(pos=on_disk.HEARTBEATS_AT + n * on_disk.SECTOR).encode() for n in range(on_disk.HEARTBEAT_SLOTS)
        ]
        self.put(on_disk.HEARTBEATS_AT, b"".join(slots))
        for kind in FILE_NAMES:
            self.put_in_file(kind, 0, self.plan.header(kind).encode())
        self._bitmap(FILE_BLOCK, self.used_blocks)
        self._bitmap(SUB_BLOCK, 0)
        self._bitmap(POINTER_BLOCK, 0)
        self._bitmap(INODE, 6)
        self._inodes()
        fs = FileSystem(
            uuid=fs_uuid,
            label=label,
            block_bytes=self.plan.block_bytes,
            made_s=self.unix_s,
            lvm_uuid=lvm_uuid,
        )
        self.put(on_disk.FS_AT, fs.encode())

    def _bitmap(self, kind: int, used: int) -> None:
        """All entries; the first ``used`` items are taken."""
        per_entry, items = PER_ENTRY[kind], self.plan.items[kind]
        for number in range(-(-items // per_entry)):
            area, inside = divmod(number, PER_AREA)
            offset = on_disk.RESOURCE_HEADER_BYTES + area * self.plan.area_bytes(kind) + inside * on_disk.ENTRY_BYTES
            total = min(per_entry, items - number * per_entry)
            taken = min(total, max(0, used - number * per_entry))
            free = (1 << total) - (1 << taken)
            entry = BitmapEntry(
                id=number,
                total=total,
                free=total - taken,
                first_free=taken if taken < total else 0,
                bitmap=free.to_bytes(on_disk.BITMAP_BYTES, "little"),
            )
            header = Header(magic=MAGICS[kind], pos=self.pos_in_file(kind, offset))
            self.put_in_file(kind, offset, header.encode() + entry.encode()[on_disk.ENTRY_BODY_AT :])

    def _inodes(self) -> None:
        bs = self.plan.block_bytes
        system = [(FILE_NAMES[kind], self.plan.file_bytes(kind), self.file_blocks[kind]) for kind in _ORDER]
        system.append((".vh.sf", len(self.header_blocks) * bs, self.header_blocks))
        records = [(b".", on_disk.DIRECTORY, 0), (b"..", on_disk.DIRECTORY, 0)]
        records += [(name.encode(), on_disk.SYSTEM, number) for number, (name, _, _) in enumerate(system, 1)]
        data = b"".join(
            DirectoryRecord(type=kind, inode=block_id(INODE, number), generation=number + 1, name=name).encode()
            for name, kind, number in records
        )
        self.put(self.root_block * bs, data.ljust(-(-len(data) // on_disk.SECTOR) * on_disk.SECTOR, b"\0"))
        self._inode(0, on_disk.DIRECTORY, len(data), [self.root_block], 0o1755, 2)
        for number, (_, size, blocks) in enumerate(system, 1):
            self._inode(number, on_disk.SYSTEM, size, blocks, 0o400, 1)

    def _inode(self, number: int, kind: int, size: int, blocks: list[int], mode: int, links: int) -> None:
        offset = on_disk.RESOURCE_HEADER_BYTES + PER_AREA * on_disk.ENTRY_BYTES + number * on_disk.INODE_BYTES
        ids = [block_id(FILE_BLOCK, block) for block in blocks]
        inode = Inode(
            id=block_id(INODE, number),
            generation=number + 1,
            links=links,
            type=kind,
            size=size,
            block_bytes=self.plan.block_bytes,
            block_count=len(blocks),
            changed_s=self.unix_s,
            made_s=self.unix_s,
            accessed_s=self.unix_s,
            mode=mode,
            kind=FILE_BLOCK,
            block_shift=self.plan.block_bytes.bit_length() - 1,
            blocks=tuple(ids) + (0,) * (on_disk.INODE_BLOCKS - len(ids)),
        )
        header = Header(magic=on_disk.INODE_MAGIC, pos=self.pos_in_file(INODE, offset))
        self.put_in_file(INODE, offset, header.encode() + inode.encode()[on_disk.INODE_BODY_AT :])


_ORDER = (FILE_BLOCK, INODE, POINTER_BLOCK, SUB_BLOCK)
"""Of the system files' inodes, from 1 on."""


def _write_lvm(device: BlockDevice, planned: Plan, unix_s: int, uuid: bytes, device_uuid: bytes) -> None:
    now, last = unix_s * 1_000_000, planned.extents - 1
    for n in range(planned.extents):
        extent = LvmExtent(
            number=n,
            device_offset=OVERHEAD_BYTES + n * on_disk.EXTENT_BYTES,
            logical_offset=n * on_disk.EXTENT_BYTES,
        )
        at = on_disk.LVM_EXTENTS_AT + n * on_disk.LVM_EXTENT_STRIDE
        sector = at // on_disk.SECTOR * on_disk.SECTOR
        data = bytearray(device.read(sector, on_disk.SECTOR))
        data[at - sector : at - sector + on_disk.LVM_EXTENT_STRIDE] = extent.encode()
        device.write(sector, data)
    used = ((1 << planned.extents) - 1).to_bytes(on_disk.LVM_BITMAP_BYTES, "little")
    device.write(on_disk.LVM_BITMAP_AT, used)
    volume = LvmVolume(
        size_bytes=planned.extents * on_disk.EXTENT_BYTES,
        generation=1,
        name=on_disk.uuid_text(uuid).encode(),
        uuid=uuid,
        made_us=now,
        extents=planned.extents,
        last_extent=last,
        changed_us=now,
    )
    device.write(on_disk.LVM_VOLUME_AT, volume.encode())
    name = b"vmhba0:C0:T0:L0"
    described = LvmDevice(
        scsi_id=struct.pack(
            "<BBHBB8s16s4s44s", 0, len(name), 0, 0, 3, b"VMware  ", b"Virtual disk".ljust(16), b"1.0 ", name
        ),
        total_bytes=device.size_bytes,
        extents=planned.extents,
        last_extent=last,
        generation=1,
        data_offset=OVERHEAD_BYTES,
        device_uuid=device_uuid,
        made_us=now,
        changed_us=now,
    )
    device.write(on_disk.LVM_AT, described.encode())
