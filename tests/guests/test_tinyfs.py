"""The reader of the teaching kernel's file system, on volumes made by hand: places, damage, hostility."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.guests.tinyfs import (
    BLOCK_BYTES,
    DATA_FIRST,
    MAGIC,
    METADATA_BLOCKS,
    METADATA_FIRST,
    TinyVolume,
    checksum,
    read_content,
    read_volume,
)
from vilab.storage.block import MemoryDisk

BLOCKS = 32


def metadata(files: dict[str, tuple[int, list[int]]]) -> bytearray:
    """Bitmap, directory, inodes of files: name -> (size, blocks)."""
    made = bytearray(METADATA_BLOCKS * BLOCK_BYTES)
    for block in (*range(DATA_FIRST), *(block for _, blocks in files.values() for block in blocks)):
        made[block // 8] |= 1 << block % 8
    for number, (name, (size_bytes, blocks)) in enumerate(files.items(), 1):
        struct.pack_into("<I28s", made, BLOCK_BYTES + 32 * number, number, name.encode())
        padded = blocks + [0] * (28 - len(blocks))
        struct.pack_into("<4I28I", made, 2 * BLOCK_BYTES + 128 * number, 1, size_bytes, 1, 0, *padded)
    return made


def put_generation(disk: MemoryDisk, generation: int, content: bytes) -> None:
    which = generation % 2
    first = METADATA_FIRST + which * METADATA_BLOCKS
    head = struct.pack("<8sIIII", MAGIC, BLOCKS, generation, first, checksum(content))
    disk.write(first * BLOCK_BYTES, content)
    disk.write(which * BLOCK_BYTES, (head + struct.pack("<I", checksum(head))).ljust(512, b"\0"))


def volume_of_two_files() -> MemoryDisk:
    disk = MemoryDisk(BLOCKS * BLOCK_BYTES)
    for block in range(DATA_FIRST, BLOCKS):
        disk.write(block * BLOCK_BYTES, bytes([block]) * BLOCK_BYTES)
    put_generation(disk, 6, bytes(metadata({"old": (10, [20])})))
    put_generation(disk, 7, bytes(metadata({"one": (5000, [17, 15]), "none": (0, [])})))
    return disk


def test_files_are_where_the_inodes_say() -> None:
    disk = volume_of_two_files()
    volume = read_volume(disk)
    one = volume.file("one")
    assert (volume.generation, volume.names(), volume.used_blocks()) == (7, ["one", "none"], 16)
    assert read_content(disk, one) == bytes([17]) * 4096 + bytes([15]) * 904
    assert read_content(disk, volume.file("none")) == b""
    assert (one.sector_of(0), one.sector_of(511), one.sector_of(512), one.sector_of(4999)) == (136, 136, 137, 121)
    assert one.sectors() == [*range(136, 144), *range(120, 128)]
    assert [volume.what_is_in(block) for block in (0, 2, 8, 14, 15, 17, 32)] == [
        "superblock 0", "metadata copy 0, not in use", "metadata copy 1, generation 7", "free",
        "one, bytes 4096 to 4999", "one, bytes 0 to 4095", "outside the file system",
    ]  # fmt: skip


@pytest.mark.parametrize("offset", [-1, 5000])
def test_a_byte_that_there_is_not_has_no_sector(offset: int) -> None:
    with pytest.raises(AdminError, match="5000 bytes"):
        read_volume(volume_of_two_files()).file("one").sector_of(offset)


def test_an_unknown_name_is_one_sentence() -> None:
    with pytest.raises(AdminError, match="no file 'three' in this file system"):
        read_volume(volume_of_two_files()).file("three")


@pytest.mark.parametrize("size_bytes", [512, 15 * BLOCK_BYTES, 64 * BLOCK_BYTES])
def test_a_disk_without_one_is_one_sentence(size_bytes: int) -> None:
    with pytest.raises(AdminError, match="no tinyfs"):
        read_volume(MemoryDisk(size_bytes))


@given(bit=st.integers(0, 8 * METADATA_BLOCKS * BLOCK_BYTES - 1))
def test_any_flipped_bit_of_the_newest_metadata_brings_the_generation_before(bit: int) -> None:
    disk = volume_of_two_files()
    disk.content[(METADATA_FIRST + METADATA_BLOCKS) * BLOCK_BYTES + bit // 8] ^= 1 << bit % 8
    assert read_volume(disk).names() == ["old"]


@given(
    changes=st.lists(
        st.tuples(st.integers(0, METADATA_BLOCKS * BLOCK_BYTES // 4 - 1), st.integers(0, 2**32 - 1)), max_size=8
    ),
    sizes=st.lists(st.tuples(st.integers(1, 127), st.integers(0, 2**32 - 1)), max_size=3),
)
def test_metadata_of_somebody_malicious_are_a_volume_or_a_sentence(
    changes: list[tuple[int, int]], sizes: list[tuple[int, int]]
) -> None:
    """With right checksums: what is read stays on the disk, and no two files have a block in common."""
    content = metadata({"one": (5000, [17, 15]), "two": (1, [16])})
    for word, value in changes:
        struct.pack_into("<I", content, 4 * word, value)
    for inode, size in sizes:
        struct.pack_into("<II", content, 2 * BLOCK_BYTES + 128 * inode, 1, size)
    disk = MemoryDisk(BLOCKS * BLOCK_BYTES)
    put_generation(disk, 7, bytes(content))
    try:
        volume: TinyVolume = read_volume(disk)
    except AdminError:
        return
    blocks = [block for each in volume.files for block in each.blocks]
    assert len(set(blocks)) == len(blocks)
    assert all(DATA_FIRST <= block < BLOCKS for block in blocks)
    assert all(len(read_content(disk, each)) == each.size_bytes for each in volume.files)
