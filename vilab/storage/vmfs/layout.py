"""VMFS-3 on disk, a datasheet. Everything is little-endian. Behaviour is elsewhere: here are tables only.

::

    device      0         B = 1 MiB                       D = B + 16 MiB = 0x1100000
                | MBR, if | LVM: device, volume, extents | logical volume ...
                                                          in physical extents of 256 MiB

    logical     0        0x200000        0x300000            0x400000  (with blocks of 1 MiB)
    volume      | (ours: | file system   | heartbeats:       | .fdc.sf | root      | .fbb.sf | .pbc.sf | .sbc.sf ...
                | journal)| descriptor   | 2,048 slots       |         | directory |         |         |
                └──────────── .vh.sf ────────────────────────┘

Everything that hosts change under a lock begins with one sector, the *metadata header*, that holds the lock: file
descriptors (inodes) and the entries of the four resource files. "Logical" positions count from D.

MODEL: ESX's journal is not documented. Ours lies in the first 2 MiB of the logical volume, which ESX leaves zero and
which belong to ``.vh.sf``, so that it takes no block from anybody (``journal``).

Sources: the public vmfs-tools and dissect.vmfs as readers, a genuine ESX 3 volume as their subject.
"""

from __future__ import annotations

from typing import ClassVar, Final

from vilab.storage.vmfs.record import Field, Record

SECTOR: Final = 512
MIB: Final = 1 << 20
UNOWNED: Final = bytes(16)
"""The UUID of nobody."""

# --- the device -------------------------------------------------------------------------------------------------------

LVM_AT: Final = MIB
LVM_MAGIC: Final = 0xC001_D00D
LVM_VOLUME_AT: Final = LVM_AT + 0x200
LVM_BITMAP_AT: Final = LVM_AT + 0x80200
LVM_BITMAP_BYTES: Final = 1024
LVM_EXTENTS_AT: Final = LVM_AT + 0x80600
LVM_EXTENT_STRIDE: Final = 128
DATA_AFTER_LVM: Final = 16 * MIB
EXTENT_BYTES: Final = 256 * MIB
MOST_EXTENTS: Final = LVM_BITMAP_BYTES * 8
PARTITION_VMFS: Final = 0xFB


class LvmDevice(Record, frozen=True, kw_only=True):
    """The device as a member of a logical volume."""

    magic: int = LVM_MAGIC
    major: int = 3
    minor: int = 16
    scsi_id: bytes = b""
    sector_bytes: int = SECTOR
    total_bytes: int = 0
    volumes: int = 1
    extents: int = 0
    last_extent: int = 0
    generation: int = 0
    data_offset: int = 0
    device_uuid: bytes = UNOWNED
    made_us: int = 0
    changed_us: int = 0
    locked_by: bytes = UNOWNED
    locked_us: int = 0

    SIZE_BYTES: ClassVar[int] = SECTOR
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("magic", 0x00, "I", "0xc001d00d"),
        Field("major", 0x04, "I", "3"),
        Field("minor", 0x08, "I", ""),
        Field("scsi_id", 0x0C, "78s", "type, LUN, vendor, model, revision, name"),
        Field("sector_bytes", 0x5A, "I", "512"),
        Field("total_bytes", 0x5E, "Q", "of the device"),
        Field("volumes", 0x66, "I", "logical volumes that have extents here: 1"),
        Field("extents", 0x6A, "I", "physical extents of 256 MiB"),
        Field("last_extent", 0x6E, "I", "index of the last one"),
        Field("generation", 0x72, "Q", ""),
        Field("data_offset", 0x7A, "Q", "where the first extent lies, from the partition's beginning"),
        Field("device_uuid", 0x82, "16s", ""),
        Field("made_us", 0x92, "Q", "since 1970"),
        Field("changed_us", 0x9A, "Q", "since 1970"),
        Field("locked_by", 0xA2, "16s", "UUID of a host"),
        Field("locked_us", 0xB2, "Q", ""),
    )


class LvmVolume(Record, frozen=True, kw_only=True):
    """The logical volume that has extents on the device."""

    size_bytes: int = 0
    generation: int = 0
    state: int = 1
    name: bytes = b""
    uuid: bytes = UNOWNED
    snapshot_id: int = 1
    made_us: int = 0
    index: int = 0
    extents: int = 0
    first_extent: int = 0
    last_extent: int = 0
    changed_us: int = 0
    devices: int = 1

    SIZE_BYTES: ClassVar[int] = SECTOR
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("size_bytes", 0x00, "Q", "of the logical volume"),
        Field("generation", 0x08, "Q", ""),
        Field("state", 0x10, "I", "1: normal"),
        Field("name", 0x14, "64s", "the UUID as text"),
        Field("uuid", 0x54, "16s", ""),
        Field("snapshot_id", 0x64, "I", ""),
        Field("made_us", 0x68, "Q", "since 1970"),
        Field("index", 0x70, "I", ""),
        Field("extents", 0x74, "I", "on this device"),
        Field("first_extent", 0x78, "Q", "of the logical volume, on this device"),
        Field("last_extent", 0x80, "Q", ""),
        Field("changed_us", 0x88, "Q", ""),
        Field("devices", 0x90, "I", "that the logical volume lies on"),
    )


class LvmExtent(Record, frozen=True, kw_only=True):
    """Where one physical extent lies in the logical volume."""

    used: int = 1
    number: int = 0
    volume: int = 0
    device_offset: int = 0
    logical_offset: int = 0
    size_bytes: int = EXTENT_BYTES
    version: int = 1

    SIZE_BYTES: ClassVar[int] = LVM_EXTENT_STRIDE
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("used", 0x00, "B", "1"),
        Field("number", 0x01, "I", ""),
        Field("volume", 0x05, "I", "index of the logical volume"),
        Field("device_offset", 0x09, "Q", "bytes, with the LVM's own"),
        Field("logical_offset", 0x11, "Q", ""),
        Field("size_bytes", 0x19, "Q", ""),
        Field("version", 0x21, "I", ""),
    )


# --- the file system --------------------------------------------------------------------------------------------------

FS_AT: Final = 0x200000
FS_MAGIC: Final = 0x2FAB_F15E
HEARTBEATS_AT: Final = 0x300000
HEARTBEAT_SLOTS: Final = 2048
HEARTBEAT_FREE: Final = 0xABCD_EF01
HEARTBEAT_LIVE: Final = 0xABCD_EF02
FDC_BASE_AT: Final = HEARTBEATS_AT + HEARTBEAT_SLOTS * SECTOR
BLOCK_SIZES: Final = (1 * MIB, 2 * MIB, 4 * MIB, 8 * MIB)
SUB_BLOCK_BYTES: Final = 65536


class FileSystem(Record, frozen=True, kw_only=True):
    """The file system descriptor, at logical 0x200000."""

    magic: int = FS_MAGIC
    major: int = 4
    minor: int = 31
    uuid: bytes = UNOWNED
    mode: int = 1
    label: bytes = b""
    sector_bytes: int = SECTOR
    block_bytes: int = MIB
    made_s: int = 0
    snapshot_id: int = 1
    lvm_uuid: bytes = UNOWNED
    lvm_members: int = 1
    fdc_header_bytes: int = 65536
    fdc_entries_per_area: int = 32
    sub_block_bytes: int = SUB_BLOCK_BYTES

    SIZE_BYTES: ClassVar[int] = SECTOR
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("magic", 0x00, "I", "0x2fabf15e"),
        Field("major", 0x04, "I", ""),
        Field("minor", 0x08, "B", "31: VMFS 3.31"),
        Field("uuid", 0x09, "16s", ""),
        Field("mode", 0x19, "I", "0 private, 1 shared, 2 public; bit 2: other sub-block ids, VMFS-5 only"),
        Field("label", 0x1D, "128s", ""),
        Field("sector_bytes", 0x9D, "I", "512"),
        Field("block_bytes", 0xA1, "Q", "1, 2, 4 or 8 MiB"),
        Field("made_s", 0xA9, "I", "since 1970"),
        Field("snapshot_id", 0xAD, "I", ""),
        Field("lvm_uuid", 0xB1, "16s", "of the logical volume it was made on"),
        Field("lvm_members", 0xC1, "I", ""),
        Field("fdc_header_bytes", 0xD1, "I", "header of .fdc.sf"),
        Field("fdc_entries_per_area", 0xD5, "I", ""),
        Field("sub_block_bytes", 0xD9, "I", "65536"),
    )


class Heartbeat(Record, frozen=True, kw_only=True):
    """One slot: a host that uses the volume renews ``stamp_us`` every few seconds."""

    magic: int = HEARTBEAT_FREE
    pos: int = 0
    seq: int = 0
    stamp_us: int = 0
    host: bytes = UNOWNED
    journal: int = 0
    fs_major: int = 4
    fs_minor: int = 31

    SIZE_BYTES: ClassVar[int] = SECTOR
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("magic", 0x00, "I", "0xabcdef01 free, 0xabcdef02 live"),
        Field("pos", 0x04, "Q", "logical, of this slot"),
        Field("seq", 0x0C, "Q", "+1 whenever a host takes the slot, or its locks are broken"),
        Field("stamp_us", 0x14, "Q", "the host's uptime when it last wrote"),
        Field("host", 0x1C, "16s", "UUID, zeros if free"),
        Field("journal", 0x2C, "I", "block id of the file block with the journal"),
        Field("fs_major", 0x30, "I", ""),
        Field("fs_minor", 0x34, "I", ""),
    )

    @property
    def live(self) -> bool:
        return self.magic == HEARTBEAT_LIVE


# --- what is locked ---------------------------------------------------------------------------------------------------

INODE_MAGIC: Final = 0x10C0_0001
FBB_MAGIC: Final = 0x10C0_0002
SBC_MAGIC: Final = 0x10C0_0003
PBC_MAGIC: Final = 0x10C0_0004
FDC_MAGIC: Final = 0x10C0_0005
LOCK_FREE: Final = 0
LOCK_EXCLUSIVE: Final = 1


class Header(Record, frozen=True, kw_only=True):
    """The metadata header: what this is, and the lock on it."""

    magic: int = 0
    pos: int = 0
    hb_pos: int = 0
    hb_seq: int = 0
    obj_seq: int = 0
    lock: int = LOCK_FREE
    owner: bytes = UNOWNED
    changed_us: int = 0

    SIZE_BYTES: ClassVar[int] = SECTOR
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("magic", 0x00, "I", "0x10c00001 inode, 2 FBB, 3 SBC, 4 PBC, 5 FDC entry"),
        Field("pos", 0x04, "Q", "logical, of this header"),
        Field("hb_pos", 0x0C, "Q", "the owner's heartbeat slot; stays when the lock is given back"),
        Field("hb_seq", 0x14, "Q", "the slot's seq when the lock was taken"),
        Field("obj_seq", 0x1C, "Q", "+1 whenever the lock is taken or the object is changed"),
        Field("lock", 0x24, "I", "0 free, 1 exclusive"),
        Field("owner", 0x28, "16s", "UUID of the host, zeros if free"),
        Field("changed_us", 0x38, "Q", "the owner's uptime"),
    )


INODE_BYTES: Final = 2048
INODE_BLOCKS: Final = 256
INODE_BODY_AT: Final = SECTOR
DIRECTORY, FILE, SYMLINK, SYSTEM, RDM = 2, 3, 4, 5, 6
TYPE_NAMES: Final = {DIRECTORY: "directory", FILE: "file", SYMLINK: "symbolic link", SYSTEM: "system file", RDM: "RDM"}


class Inode(Record, frozen=True, kw_only=True):
    """A file descriptor, 2,048 bytes; the first 512 are its metadata header, a record of its own."""

    id: int = 0
    generation: int = 0
    links: int = 0
    type: int = FILE
    flags: int = 0
    size: int = 0
    block_bytes: int = SUB_BLOCK_BYTES
    block_count: int = 0
    changed_s: int = 0
    made_s: int = 0
    accessed_s: int = 0
    uid: int = 0
    gid: int = 0
    mode: int = 0o100600
    kind: int = 2
    tbz_count: int = 0
    cow_count: int = 0
    block_shift: int = 0
    blocks: tuple[int, ...] = (0,) * INODE_BLOCKS

    SIZE_BYTES: ClassVar[int] = INODE_BYTES
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("id", 0x200, "I", "its own block id, of type 4"),
        Field("generation", 0x204, "I", "another one each time the descriptor is used anew"),
        Field("links", 0x208, "I", "0: deleted"),
        Field("type", 0x20C, "I", "2 directory, 3 file, 4 symbolic link, 5 system, 6 RDM"),
        Field("flags", 0x210, "I", ""),
        Field("size", 0x214, "Q", "bytes"),
        Field("block_bytes", 0x21C, "Q", "what an entry of blocks stands for"),
        Field("block_count", 0x224, "Q", "blocks that are allocated"),
        Field("changed_s", 0x22C, "I", "since 1970"),
        Field("made_s", 0x230, "I", ""),
        Field("accessed_s", 0x234, "I", ""),
        Field("uid", 0x238, "I", ""),
        Field("gid", 0x23C, "I", ""),
        Field("mode", 0x240, "I", "as in UNIX"),
        Field("kind", 0x244, "I", "zero level address: blocks are 1 file blocks, 2 sub-blocks, 3 pointer blocks"),
        Field("tbz_count", 0x248, "I", "blocks to be zeroed"),
        Field("cow_count", 0x24C, "I", ""),
        Field("block_shift", 0x289, "B", "log2 of block_bytes; ESX 3 leaves 0"),
        Field("blocks", 0x400, "256I", "block ids; 0: a hole"),
    )


# --- resource files ---------------------------------------------------------------------------------------------------

RESOURCE_HEADER_BYTES: Final = 65536
ENTRY_BYTES: Final = 1024
ENTRY_BODY_AT: Final = SECTOR
BITMAP_BYTES: Final = 0x1F0
POINTERS: Final = 1024
"""Ids in a pointer block."""


class ResourceHeader(Record, frozen=True, kw_only=True):
    """The beginning of .fbb.sf, .sbc.sf, .pbc.sf, .fdc.sf."""

    per_entry: int = 0
    per_area: int = 0
    header_bytes: int = RESOURCE_HEADER_BYTES
    item_bytes: int = 0
    area_bytes: int = 0
    items: int = 0
    areas: int = 0

    SIZE_BYTES: ClassVar[int] = SECTOR
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("per_entry", 0x00, "I", "items that one entry counts"),
        Field("per_area", 0x04, "I", "entries of an area"),
        Field("header_bytes", 0x08, "I", "where the first area begins"),
        Field("item_bytes", 0x0C, "I", "0: the items are elsewhere (file blocks)"),
        Field("area_bytes", 0x10, "I", "per_area * (1024 + per_entry * item_bytes)"),
        Field("items", 0x14, "I", "in all"),
        Field("areas", 0x18, "I", ""),
    )


class BitmapEntry(Record, frozen=True, kw_only=True):
    """Which items are free; 1,024 bytes with the metadata header in front, a record of its own."""

    id: int = 0
    total: int = 0
    free: int = 0
    first_free: int = 0
    bitmap: bytes = b""

    SIZE_BYTES: ClassVar[int] = ENTRY_BYTES
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("id", 0x200, "I", "0, 1, 2 ... through all areas"),
        Field("total", 0x204, "I", "items"),
        Field("free", 0x208, "I", "as many bits are set"),
        Field("first_free", 0x20C, "I", "where to look first"),
        Field("bitmap", 0x210, "496s", "1: free; least significant bit first"),
    )


# --- directories ------------------------------------------------------------------------------------------------------

RECORD_BYTES: Final = 140
NAME_BYTES: Final = 128


class DirectoryRecord(Record, frozen=True, kw_only=True):
    """One name in a directory."""

    type: int = FILE
    inode: int = 0
    generation: int = 0
    name: bytes = b""

    SIZE_BYTES: ClassVar[int] = RECORD_BYTES
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("type", 0x00, "I", "as in the inode"),
        Field("inode", 0x04, "I", "block id"),
        Field("generation", 0x08, "I", "the inode's"),
        Field("name", 0x0C, "128s", "zeros behind it"),
    )


def uuid_text(uuid: bytes) -> str:
    """``4b0e2b4c-1c2d3e4f-a5b6-001122334455``: time, counter, random, MAC address."""
    first, second, third = (int.from_bytes(uuid[a:b], "little") for a, b in ((0, 4), (4, 8), (8, 10)))
    return f"{first:08x}-{second:08x}-{third:04x}-{uuid[10:].hex()}"
