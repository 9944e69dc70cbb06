"""What the teaching kernel says when a disk, its file system or the adapter is not as it should be: a line, no hang."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from tests.vmm.disk_guest import DISK_BYTES, PROMPT, SECTOR, DiskGuest, RefusingDisk, filling, session
from tests.vmm.test_kernel_disk import files_on
from vilab.errors import AdminError
from vilab.guests.tinyfs import BLOCK_BYTES, METADATA_BLOCKS, METADATA_FIRST, SECTORS_A_BLOCK, checksum, read_volume
from vilab.storage.block import MemoryDisk
from vilab.storage.scsi.state import Nexus


def test_calls_that_cannot_be_are_refused_with_a_reason() -> None:
    disk = MemoryDisk(DISK_BYTES)
    output = session(
        disk, "ls", "mkfs 15", "mkfs 100000", "mkfs", "cat nothing", "rm nothing", "cat", "write",
        f"write {'n' * 28} x", f"write {'m' * 27} x", "fill big 114689 1", "fill fits 114688 1", "ls",
    )  # fmt: skip
    for line in (
        "ls: the disk has no file system; mkfs makes one",
        "cat: nothing: no such file",
        "rm: nothing: no such file",
        "cat: no such file",
        "write: a name has 1 to 27 characters",
        f"write: {'n' * 28}: a name has 1 to 27 characters",
        "fill: big: a file has 112 KB at most",
    ):
        assert output.count(f"{line}\n") == 1, line
    assert output.count("mkfs: a file system has 16 to 32768 blocks of 4 KB, and the disk has to have them\n") == 2
    assert files_on(disk)["fits"] == filling(114_688, 1)
    assert files_on(disk)["m" * 27] == b"x\n"


def test_more_files_than_there_are_inodes_is_no_room_and_the_others_stay() -> None:
    def many(metadata: bytearray) -> None:
        for number in range(1, 126):
            struct.pack_into("<I28s", metadata, BLOCK_BYTES + 32 * number, number, f"f{number}".encode())
            struct.pack_into("<I", metadata, 2 * BLOCK_BYTES + 128 * number, 1)

    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs")
    disk = forged(disk, many)
    output = session(disk, *(f"write more{n} {n}" for n in range(4)))
    assert output.count(": no room\n") == 2
    old = {f"f{number}": b"" for number in range(1, 126)}
    assert files_on(disk) == old | {"more0": b"0\n", "more1": b"1\n"}
    session(disk, "rm f7", "write more2 2")
    assert files_on(disk)["more2"] == b"2\n"


def test_a_disk_that_is_too_small_gets_no_file_system() -> None:
    disk = MemoryDisk(15 * BLOCK_BYTES + SECTOR)
    assert "mkfs: a file system has 16" in session(disk, "mkfs")
    assert not any(disk.content)


def test_a_write_protected_disk_says_so_and_the_kernel_goes_on() -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs", "write kept here")
    before, disk.read_only = bytes(disk.content), True
    output = session(disk, "put kept there", "cat kept", "isprime 7")
    assert "WRITE(10), sectors 120 to 127: DATA PROTECT, write protected (7/27/00)\n" in output
    assert "put: kept: the disk refuses\n" in output
    assert "isPrime(7) = 1\n" in output
    assert "kernel: what was not synced is lost\n" in output
    assert disk.content == before


def test_a_sector_that_cannot_be_read_is_an_error_of_that_file_only() -> None:
    disk = RefusingDisk(DISK_BYTES)
    session(disk, "mkfs", "write first one", "write second two")
    block = read_volume(disk).file("first").blocks[0]
    disk.bad_reads = {block * SECTORS_A_BLOCK + 3}
    output = session(disk, "cat first", "cat second")
    first = block * SECTORS_A_BLOCK
    assert f"READ(10), sectors {first} to {first + 7}: MEDIUM ERROR, unrecovered read error (3/11/00)\n" in output
    assert "cat: first: the disk refuses\n" in output
    assert f"{PROMPT}cat second\ntwo\n" in output


@pytest.mark.parametrize("where", ["data", "metadata", "superblock"])
def test_a_sync_that_fails_anywhere_leaves_the_last_one_and_succeeds_when_the_disk_does(where: str) -> None:
    disk = RefusingDisk(DISK_BYTES)
    session(disk, "mkfs", "write kept one")
    generation = read_volume(disk).generation
    which = (generation + 1) % 2
    disk.bad_writes = {
        "data": set(range(16 * SECTORS_A_BLOCK, 30 * SECTORS_A_BLOCK)),
        "metadata": {(METADATA_FIRST + which * METADATA_BLOCKS) * SECTORS_A_BLOCK + 20},
        "superblock": {which * SECTORS_A_BLOCK},
    }[where]
    guest = DiskGuest("", "write kept two", "write new 3", "sync", "sync", "cat kept", disks=[disk])
    guest.run_until(lambda: guest.output.endswith(f"cat kept\ntwo\n{PROMPT}"))
    assert guest.output.count("sync: the disk refuses\n") == 2
    assert guest.output.count("MEDIUM ERROR, write error (3/0c/00)\n") == 2
    assert files_on(disk) == {"kept": b"one\n"}
    disk.bad_writes = set()
    guest.console.type("sync")
    guest.run_until(lambda: guest.output.count(PROMPT) == 7)
    assert files_on(disk) == {"kept": b"two\n", "new": b"3\n"}
    assert read_volume(disk).generation == generation + 1


def damaged(disk: MemoryDisk, lot: random.Random, first: int, last: int) -> MemoryDisk:
    content = bytearray(disk.content)
    for _ in range(lot.randrange(1, 8)):
        content[lot.randrange(first, last)] ^= 1 << lot.randrange(8)
    return MemoryDisk(content)


def test_a_damaged_generation_is_named_and_the_one_before_is_used() -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs", "write a one", "sync", "write a two", "sync")
    volume = read_volume(disk)
    bad = damaged(
        disk, random.Random(1), volume.metadata_block * BLOCK_BYTES, (volume.metadata_block + 6) * BLOCK_BYTES
    )
    assert files_on(bad) == {"a": b"one\n"}
    output = session(bad, "cat a", "write b three")
    assert f"tinyfs: generation {volume.generation} on scsi 0 is damaged\n" in output
    assert "is damaged\none\n" in output
    assert files_on(bad) == {"a": b"one\n", "b": b"three\n"}


@pytest.mark.parametrize("seed", range(8))
def test_kernel_and_reader_agree_about_any_damage(seed: int) -> None:
    """Bits flipped anywhere before the data: both find the same files or none, and nothing is written."""
    lot = random.Random(seed)
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs", "fill a 9000 1", "sync", "write b two", "sync")
    bad = damaged(disk, lot, 0, 14 * BLOCK_BYTES)
    if seed % 2:
        bad = damaged(bad, lot, 0, 40)
    before = bytes(bad.content)
    output = session(bad, "ls", "cat b")
    try:
        found = files_on(bad)
    except AdminError:
        assert "ls: the file system is damaged\n" in output or "ls: the disk has no file system" in output
    else:
        for name, data in found.items():
            assert f"\n{name}: {len(data)} bytes" in output
        assert output.count(" bytes, inode") == len(found)
    assert bad.content == before


Change = Callable[[bytearray], None]


def forged(disk: MemoryDisk, change: Change) -> MemoryDisk:
    """A disk whose newest metadata were changed by somebody who knows about checksums."""
    content = bytearray(disk.content)
    volume = read_volume(disk)
    at, size = volume.metadata_block * BLOCK_BYTES, METADATA_BLOCKS * BLOCK_BYTES
    metadata = content[at : at + size]
    change(metadata)
    content[at : at + size] = metadata
    super_at = volume.generation % 2 * BLOCK_BYTES
    struct.pack_into("<I", content, super_at + 20, checksum(bytes(metadata)))
    struct.pack_into("<I", content, super_at + 24, checksum(bytes(content[super_at : super_at + 24])))
    # The generation before must not help.
    content[(1 - volume.generation % 2) * BLOCK_BYTES] ^= 1
    return MemoryDisk(content)


def set_word(offset: int, value: int) -> Change:
    def change(metadata: bytearray) -> None:
        metadata[offset : offset + 4] = value.to_bytes(4, "little")

    return change


INODE_1 = 2 * BLOCK_BYTES + 128


@pytest.mark.parametrize(
    "change",
    [
        set_word(INODE_1 + 4, 0xFFFFFFFF),  # its size
        set_word(INODE_1 + 4, 28 * BLOCK_BYTES + 1),
        set_word(INODE_1 + 16, 0),  # a block that is a superblock
        set_word(INODE_1 + 16, 0x7FFFFFFF),
        set_word(INODE_1 + 16, 511 + 1),
        set_word(INODE_1 + 20, 14),  # the same block twice
        set_word(BLOCK_BYTES, 128),  # an entry with an inode that there is not
        set_word(BLOCK_BYTES, 77),  # and one that is not used
        set_word(BLOCK_BYTES + 28, 0x78787878),  # a name without an end
        set_word(BLOCK_BYTES + 32, 1),  # a second name for the same inode
        set_word(0, 0),  # the bitmap
        set_word(INODE_1, 0),  # an inode that is not used, with a name
    ],
)
def test_metadata_of_somebody_malicious_are_refused_by_both(change: Change) -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs", "fill a 9000 1")
    assert "a: 9000 bytes" in session(forged(disk, lambda metadata: None), "ls")
    bad = forged(disk, change)
    with pytest.raises(AdminError, match="damaged"):
        read_volume(bad)
    assert "ls: the file system is damaged\n" in session(bad, "ls")


def test_an_adapter_that_fails_is_one_line_and_the_kernel_goes_on_without_disks() -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs", "write kept one")
    guest = DiskGuest("", "put kept two", "cat kept", "isprime 7", "poweroff", disks=[disk])
    adapter = guest.vm.pc.adapters[16]
    guest.run_until(lambda: any(c.cdb[0] == 0x2A for c in adapter.save_state().commands))
    adapter._fail(0x2651)  # type: ignore[union-attr]
    output = guest.run()
    assert output.count("lsi: the adapter has failed, code 00002651; its disks are gone\n") == 1
    assert "put: kept: the disk refuses\n" in output
    assert "isPrime(7) = 1\n" in output
    assert guest.vm.clock.now_ns < 15_000_000_000
    assert files_on(disk) == {"kept": b"one\n"}


def test_an_adapter_that_never_answers_is_given_up_after_ten_seconds() -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs", "write kept one")
    guest = DiskGuest("", "put kept two", "isprime 7", "poweroff", disks=[disk])
    adapter = guest.vm.pc.adapters[16]
    guest.run_until(lambda: any(c.cdb[0] == 0x2A for c in adapter.save_state().commands))
    adapter.firmware.reset()  # type: ignore[union-attr]
    output = guest.run()
    assert output.count("lsi: the adapter does not answer; its disks are gone\n") == 1
    assert "isPrime(7) = 1\n" in output
    assert 10_000_000_000 < guest.vm.clock.now_ns < 11_000_000_000


def test_a_disk_that_another_host_has_reserved_says_so_until_it_is_released() -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs", "write kept one")
    guest = DiskGuest("", "cat kept", disks=[disk])
    guest.run_until(lambda: guest.output.endswith(f"one\n{PROMPT}"))
    target, other = guest.vm.buses[0].targets[0], Nexus("another host")
    target.connect(other)
    target.execute(other, 0, bytes(6))  # it has been switched on, too
    assert target.execute(other, 0, bytes((0x16, 0, 0, 0, 0, 0))).status == 0
    guest.console.type("put kept two")
    guest.run_until(lambda: guest.output.count(PROMPT) == 3)
    assert "WRITE(10), sectors 120 to 127: reserved by another host\nput: kept: the disk refuses\n" in guest.output
    assert files_on(disk) == {"kept": b"one\n"}
    assert target.execute(other, 0, bytes((0x17, 0, 0, 0, 0, 0))).status == 0
    guest.console.type("sync")
    guest.run_until(lambda: guest.output.count(PROMPT) == 4)
    assert files_on(disk) == {"kept": b"two\n"}


def test_a_bus_reset_under_a_write_is_an_error_of_that_command() -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs", "write kept one")
    guest = DiskGuest("", "put kept two", "sync", "poweroff", disks=[disk])
    adapter = guest.vm.pc.adapters[16]
    guest.run_until(lambda: any(c.cdb[0] == 0x2A for c in adapter.save_state().commands))
    guest.vm.buses[0].reset()
    output = guest.run()
    assert "WRITE(10), sectors 120 to 127: the adapter refuses, status 00000048\n" in output
    assert "WRITE(10), sectors 120 to 127: UNIT ATTENTION, power on or reset (6/29/02)\n" in output
    assert files_on(disk) == {"kept": b"two\n"}


def test_an_adapter_that_does_not_come_up_is_one_line_and_there_is_no_disk() -> None:
    guest = DiskGuest("", "ls", "isprime 7", "poweroff", disks=[MemoryDisk(DISK_BYTES)])
    adapter = guest.vm.pc.adapters[16]
    adapter._look_soon = lambda: None  # type: ignore[method-assign, union-attr]
    output = guest.run()
    assert guest.output.count("lsi: no answer to IOCFacts\n") == 1
    assert "ls: there is no disk\n" in output
    assert "isPrime(7) = 1\n" in output
