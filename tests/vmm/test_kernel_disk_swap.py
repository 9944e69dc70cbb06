"""The teaching kernel's swap on a SCSI disk: same output as on the RAM disk, and nothing goes to that."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from tests.vmm.disk_guest import BOOTED, DISK_BYTES, ENGINES, DiskGuest, RefusingDisk, filling, session
from tests.vmm.test_kernel_disk import files_on
from vilab.devices.scsi_events import RequestFetched
from vilab.events import EventLog
from vilab.guests.tinyfs import BLOCK_BYTES, SECTORS_A_BLOCK, read_volume
from vilab.storage.block import MemoryDisk
from vilab.vmm.vm import VmState

SMALL_BYTES = 4 << 20
RAMDISK_BYTES = SWAP_BYTES = 4 << 20
WITH_SWAP = [engine for engine in ENGINES if engine != "para"]
"""The paravirtual kernel has disks and files, but no swap on any kind of disk."""
CHECKSUM = "checksum 740 1 20 0 7"
RIGHT = (
    "checksum: 740 pages filled, seed 7\nchecksum: round 1 ok\nkernel: checksum has ended with status 0, power off\n"
)


def swapping(command_line: str, *disks: MemoryDisk, engine: str = "bare", log: EventLog | None = None) -> DiskGuest:
    return DiskGuest(
        command_line, disks=disks, engine=engine, memory_bytes=SMALL_BYTES, ramdisk_bytes=RAMDISK_BYTES, log=log
    )


def ramdisk_transfers(guest: DiskGuest) -> int:
    assert guest.vm.pc.ramdisk is not None
    return guest.vm.pc.ramdisk.reads + guest.vm.pc.ramdisk.writes


@pytest.mark.parametrize("engine", WITH_SWAP)
def test_a_program_larger_than_memory_finds_every_word_again_from_the_scsi_disk(engine: str) -> None:
    log = EventLog(keep=True)
    guest = swapping(
        f"swapon=1 init={CHECKSUM}", MemoryDisk(DISK_BYTES), MemoryDisk(SWAP_BYTES), engine=engine, log=log
    )
    assert guest.run() == RIGHT
    assert ramdisk_transfers(guest) == 0
    moved = Counter(event.cdb[0] for event in log.events if isinstance(event, RequestFetched) and event.target == 1)
    assert moved[0x2A] > 20
    assert moved[0x28] > 20


def test_on_the_ram_disk_it_says_the_same_and_that_stays_the_default() -> None:
    disk = MemoryDisk(DISK_BYTES)
    on_ramdisk = swapping(f"init={CHECKSUM}", disk)
    assert on_ramdisk.run() == RIGHT
    assert ramdisk_transfers(on_ramdisk) > 40
    assert disk.content == bytes(DISK_BYTES)


def test_parent_and_children_keep_apart_what_they_share_on_the_scsi_disk() -> None:
    guest = swapping("swapon=0 init=family 340 2", MemoryDisk(SWAP_BYTES))
    assert "family: 340 pages, 2 of 2 children ended well, parent ok\n" in guest.run()


def test_a_range_of_the_first_disk_is_for_swap_and_the_file_system_keeps_its_blocks() -> None:
    blocks, first = 1024, 200
    disk = MemoryDisk(blocks * BLOCK_BYTES)
    line = f"swapon=0:{first}+600"
    guest = swapping(f"{line} init=mkfs", disk)
    guest.run()
    assert f"swap: scsi 0, 600 blocks from {first} on\n" in guest.output
    assert f"mkfs: {first} blocks of 4 KB\n" in guest.output
    assert read_volume(disk).blocks == first
    again = swapping(f"{line} init=together checksum 740 1 20 0 7 + fill large 100000 1", disk)
    assert "checksum: round 1 ok\n" in again.run()
    assert files_on(disk) == {"large": filling(100_000, 1)}
    assert any(disk.content[first * BLOCK_BYTES : (first + 600) * BLOCK_BYTES])
    assert not any(disk.content[(first + 600) * BLOCK_BYTES :])


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("swapon=3", "swap: there is no disk scsi 3\n"),
        ("swapon=1:400+200", "swap: scsi 1 has 512 blocks of 4 KB, and no 200 from 400 on\n"),
        ("swapon=1:512", "swap: scsi 1 has 512 blocks of 4 KB, and no 0 from 512 on\n"),
        ("swapon=1:10+0", "swap: scsi 1 has 512 blocks of 4 KB, and no 0 from 10 on\n"),
        ("swapon=0", "swap: a file system has block 0 of scsi 0\n"),
        ("swapon=0:511+1", "swap: a file system has block 511 of scsi 0\n"),
        ("swapon=1:4294967295+2", "swap: scsi 1 has 512 blocks of 4 KB, and no 2 from 4294967295 on\n"),
    ],
)
def test_what_cannot_be_is_one_line_and_the_ram_disk_is_taken(option: str, sentence: str) -> None:
    disk, other = MemoryDisk(DISK_BYTES), MemoryDisk(512 * BLOCK_BYTES)
    session(disk, "mkfs", "write kept here")
    guest = swapping(f"{option} init=isprime 7", disk, other)
    assert guest.run().startswith("isPrime(7) = 1\n")
    boot = guest.output.partition(BOOTED)[0]
    assert sentence in boot
    assert "ramdisk: 1024 blocks, 512 for swap, 512 for files\n" in boot
    assert files_on(disk) == {"kept": b"here\n"}
    assert not any(other.content)


def test_a_disk_that_cannot_be_read_is_no_swap() -> None:
    disk = RefusingDisk(SWAP_BYTES)
    disk.bad_reads = {0}
    guest = swapping("swapon=0 init=isprime 7", disk)
    guest.run()
    assert "MEDIUM ERROR, unrecovered read error (3/11/00)\nswap: scsi 0 cannot be read\n" in guest.output


def test_a_guest_suspended_while_it_swaps_to_scsi_goes_on_elsewhere() -> None:
    line = "swapon=0 init=checksum 740 1 20 0 7"
    disk = MemoryDisk(SWAP_BYTES)
    guest = swapping(line, disk)
    adapter = guest.vm.pc.adapters[16]
    guest.run_until(lambda: guest.vm.clock.now_ns > 200_000_000 and bool(adapter.save_state().commands), 777_777)
    carried = msgspec.msgpack.decode(msgspec.msgpack.encode(guest.vm.save_state()), type=VmState)
    said, moved = guest.output, MemoryDisk(bytes(disk.content))
    other = swapping("", moved)
    other.vm.load_state(carried)
    other.vm.engine.run()
    assert (said + other.output).partition(BOOTED)[2] == RIGHT


def test_a_bad_sector_of_the_swap_is_one_line_and_the_page_goes_elsewhere() -> None:
    disk = RefusingDisk(SWAP_BYTES)
    disk.bad_writes = {5 * SECTORS_A_BLOCK, 9 * SECTORS_A_BLOCK + 7}
    guest = swapping(f"swapon=0 init={CHECKSUM}", disk)
    assert "checksum: round 1 ok\n" in guest.run()
    refused = [line for line in guest.output.splitlines() if line.endswith("MEDIUM ERROR, write error (3/0c/00)")]
    assert [line.split("sectors ")[1].split(":")[0] for line in refused] == ["40 to 47", "72 to 79"]


def test_shared_pages_survive_bad_sectors_too() -> None:
    disk = RefusingDisk(SWAP_BYTES)
    disk.bad_writes = {slot * SECTORS_A_BLOCK for slot in range(0, 300, 7)}
    guest = swapping("swapon=0 init=family 340 2", disk)
    assert "family: 340 pages, 2 of 2 children ended well, parent ok\n" in guest.run()
    assert guest.output.count("MEDIUM ERROR, write error") > 10


def test_a_page_that_cannot_be_read_back_ends_its_program_and_not_the_kernel() -> None:
    disk = RefusingDisk(SWAP_BYTES)
    disk.bad_reads = {slot * SECTORS_A_BLOCK for slot in range(20, 30)}
    guest = swapping("swapon=0 init=shell", disk)
    guest.console.type(CHECKSUM)
    guest.console.type("isprime 7")
    guest.console.type("poweroff")
    output = guest.run()
    assert output.count("MEDIUM ERROR, unrecovered read error (3/11/00)\n") == 1
    assert "kernel: checksum (pid 2) killed: page fault" in output
    assert "isPrime(7) = 1\n" in output
