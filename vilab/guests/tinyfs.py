"""Reads the teaching kernel's file system from the host's side: which files, what is in them, where they lie.

::

    block  0        1        2 .. 7        8 .. 13       14 ...                  a block is 4 KB, 8 sectors
         +--------+--------+-------------+-------------+--------------------------+
         | super- | super- | metadata,   | metadata,   | data: blocks of files    |
         | block 0| block 1| copy 0      | copy 1      |                          |
         +--------+--------+-------------+-------------+--------------------------+

    superblock   "tinyfs1\\0" | blocks | generation | first metadata block | its checksum | checksum of these
    metadata     +0 bitmap    +1 directory: 128 x (inode, name)
                 +2 .. +5 inodes: 128 x (used, size, generation, reserved, 28 blocks)

Superblock and metadata copy ``generation % 2`` describe a generation. The volume is the highest one whose checksums
are right. The layout is defined, and the reason for it given, in ``vilab/guests/kernel/tinyfs.h``.
"""

from __future__ import annotations

import struct

import msgspec

from vilab.errors import AdminError
from vilab.protocols import BlockDevice

MAGIC = b"tinyfs1\0"
BLOCK_BYTES, SECTOR_BYTES = 4096, 512
SECTORS_A_BLOCK = BLOCK_BYTES // SECTOR_BYTES
METADATA_FIRST, METADATA_BLOCKS = 2, 6
DATA_FIRST = METADATA_FIRST + 2 * METADATA_BLOCKS
LEAST_BLOCKS, MOST_BLOCKS = DATA_FIRST + 2, 8 * BLOCK_BYTES
FILES, NAME_BYTES, FILE_BLOCKS = 128, 28, 28

_SUPERBLOCK = struct.Struct("<8sIIIII")
_ENTRY = struct.Struct(f"<I{NAME_BYTES}s")
_INODE = struct.Struct(f"<4I{FILE_BLOCKS}I")


class TinyFile(msgspec.Struct, frozen=True):
    """A file. ``generation``: the first one that has it as it is now. ``blocks``: of the disk, in the file's order."""

    name: str
    inode: int
    size_bytes: int
    generation: int
    blocks: tuple[int, ...]

    def sectors(self) -> list[int]:
        """Every sector that the file has, in its order, the last block to its end."""
        return [block * SECTORS_A_BLOCK + i for block in self.blocks for i in range(SECTORS_A_BLOCK)]

    def sector_of(self, offset_bytes: int) -> int:
        """Where on the disk a byte of the file is. Raises ``AdminError`` if the file is shorter."""
        if not 0 <= offset_bytes < self.size_bytes:
            raise AdminError(f"{self.name} has {self.size_bytes} bytes, and none with the number {offset_bytes}.")
        block = self.blocks[offset_bytes // BLOCK_BYTES]
        return block * SECTORS_A_BLOCK + offset_bytes % BLOCK_BYTES // SECTOR_BYTES


class TinyVolume(msgspec.Struct, frozen=True):
    """One generation of a volume. ``files``: in the order of the directory."""

    blocks: int
    generation: int
    metadata_block: int
    files: tuple[TinyFile, ...]

    def file(self, name: str) -> TinyFile:
        """Raises ``AdminError`` if there is none with this name."""
        for each in self.files:
            if each.name == name:
                return each
        raise AdminError(f"There is no file {name!r} in this file system; there are {self.names() or 'none'}.")

    def names(self) -> list[str]:
        return [each.name for each in self.files]

    def used_blocks(self) -> int:
        return DATA_FIRST + sum(len(each.blocks) for each in self.files)

    def what_is_in(self, block: int) -> str:
        """A block of the disk, in words."""
        now = f"metadata copy {self.generation % 2}, generation {self.generation}"
        if block < METADATA_FIRST:
            return f"superblock {block}"
        if block < DATA_FIRST:
            copy = (block - METADATA_FIRST) // METADATA_BLOCKS
            return now if copy == self.generation % 2 else f"metadata copy {copy}, not in use"
        for each in self.files:
            if block in each.blocks:
                first = each.blocks.index(block) * BLOCK_BYTES
                return f"{each.name}, bytes {first} to {min(first + BLOCK_BYTES, each.size_bytes) - 1}"
        return "free" if block < self.blocks else "outside the file system"


def read_content(disk: BlockDevice, file: TinyFile) -> bytes:
    """All bytes of a file."""
    whole = b"".join(disk.read(block * BLOCK_BYTES, BLOCK_BYTES) for block in file.blocks)
    return whole[: file.size_bytes]


def read_volume(disk: BlockDevice) -> TinyVolume:
    """What the guest's kernel would find now.

    Raises
    ------
    AdminError : there is no such file system on the disk, or both of its generations are damaged.
    """
    found = [each for each in (_superblock(disk, which) for which in (0, 1)) if each is not None]
    if not found:
        raise AdminError("There is no tinyfs on this disk: neither superblock is one. The guest's mkfs makes one.")
    for superblock in sorted(found, key=lambda each: each.generation, reverse=True):
        volume = _volume(disk, superblock)
        if volume is not None:
            return volume
    raise AdminError("The tinyfs on this disk is damaged: no superblock has metadata that agrees with it.")


class _Superblock(msgspec.Struct, frozen=True):
    blocks: int
    generation: int
    metadata_block: int
    metadata_checksum: int


def checksum(data: bytes) -> int:
    """FNV-1a by words of 32 bits."""
    value = 2166136261
    for (word,) in struct.iter_unpack("<I", data):
        value = (value ^ word) * 16777619 & 0xFFFFFFFF
    return value


def _superblock(disk: BlockDevice, which: int) -> _Superblock | None:
    if disk.size_bytes < LEAST_BLOCKS * BLOCK_BYTES:
        return None
    sector = disk.read(which * BLOCK_BYTES, SECTOR_BYTES)[: _SUPERBLOCK.size]
    magic, blocks, generation, metadata_block, metadata_checksum, own = _SUPERBLOCK.unpack(sector)
    right = (
        magic == MAGIC
        and own == checksum(sector[:-4])
        and generation % 2 == which
        and metadata_block == METADATA_FIRST + which * METADATA_BLOCKS
        and LEAST_BLOCKS <= blocks <= min(MOST_BLOCKS, disk.size_bytes // BLOCK_BYTES)
    )
    return _Superblock(blocks, generation, metadata_block, metadata_checksum) if right else None


def _volume(disk: BlockDevice, superblock: _Superblock) -> TinyVolume | None:
    """``None``: its metadata are not what they should be."""
    data = disk.read(superblock.metadata_block * BLOCK_BYTES, METADATA_BLOCKS * BLOCK_BYTES)
    if checksum(data) != superblock.metadata_checksum:
        return None
    bitmap, directory, inodes = data[:BLOCK_BYTES], data[BLOCK_BYTES : 2 * BLOCK_BYTES], data[2 * BLOCK_BYTES :]
    used = _blocks_by_inode(inodes, superblock.blocks)
    if used is None or _bitmap_of([block for blocks in used.values() for block in blocks]) != bitmap:
        return None
    files: list[TinyFile] = []
    for number, name in _ENTRY.iter_unpack(directory):
        if number >= FILES or name[-1] or (number and number not in used):
            return None
        if number and any(each.inode == number for each in files):
            return None
        if number:
            _, size_bytes, generation, *_ = _INODE.unpack_from(inodes, number * _INODE.size)
            text = name.split(b"\0")[0].decode("latin-1")
            files.append(TinyFile(text, number, size_bytes, generation, used[number]))
    return TinyVolume(superblock.blocks, superblock.generation, superblock.metadata_block, tuple(files))


def _blocks_by_inode(inodes: bytes, most: int) -> dict[int, tuple[int, ...]] | None:
    """Of each inode that is used. ``None``: one leaves the data area, or two want the same block."""
    used: dict[int, tuple[int, ...]] = {}
    seen: set[int] = set()
    for number, (in_use, size_bytes, _, _, *blocks) in enumerate(_INODE.iter_unpack(inodes)):
        if not in_use or not number:
            continue
        count = -(-size_bytes // BLOCK_BYTES)
        mine = blocks[:count]
        if count > FILE_BLOCKS or any(not DATA_FIRST <= block < most for block in mine):
            return None
        if len(set(mine)) < count or seen.intersection(mine):
            return None
        seen.update(mine)
        used[number] = tuple(mine)
    return used


def _bitmap_of(data_blocks: list[int]) -> bytes:
    bitmap = bytearray(BLOCK_BYTES)
    for block in (*range(DATA_FIRST), *data_blocks):
        bitmap[block // 8] |= 1 << block % 8
    return bytes(bitmap)
