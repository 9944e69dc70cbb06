"""The teaching kernel's SCSI driver and its file system: the same under every engine, and what a crash leaves."""

from __future__ import annotations

import random
import re
from functools import cache

import msgspec
import pytest

from tests.vmm.disk_guest import (
    BOOTED,
    DISK_BYTES,
    ENGINES,
    SECTOR,
    DiskGuest,
    Model,
    RecordingDisk,
    filling,
    session,
)
from vilab.devices.scsi_events import CommandCompleted, RequestFetched
from vilab.events import EventLog
from vilab.guests.tinyfs import BLOCK_BYTES, DATA_FIRST, TinyVolume, read_content, read_volume
from vilab.storage.block import MemoryDisk
from vilab.vmm.vm import VmState

SESSION = (
    "mkfs", "put greeting hello world", "cat greeting", "fill large 50000 3", "write second a line", "ls", "sync",
    "rm greeting", "fill large 9000 4", "cat greeting", "ls", "trace sync", "poweroff",
)  # fmt: skip


def files_on(disk: MemoryDisk) -> dict[str, bytes]:
    volume = read_volume(disk)
    return {each.name: read_content(disk, each) for each in volume.files}


@cache
def on_the_bare_machine() -> tuple[str, bytearray]:
    disk = MemoryDisk(DISK_BYTES)
    guest = DiskGuest("", *SESSION, disks=[disk])
    guest.run()
    return guest.output, disk.content


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_says_the_same_and_leaves_the_same_bytes(engine: str) -> None:
    disk = MemoryDisk(DISK_BYTES)
    guest = DiskGuest("", *SESSION, disks=[disk], engine=engine)
    guest.run()
    assert (guest.output, disk.content) == on_the_bare_machine()
    assert files_on(disk) == {"second": b"a line\n", "large": filling(9000, 4)}


@pytest.mark.parametrize("engine", ["bare", "bt mirrored", "svm nested"])
def test_a_run_is_the_same_event_for_event(engine: str) -> None:
    def events() -> list[object]:
        log = EventLog(keep=True)
        DiskGuest("", "mkfs", "put a b", "poweroff", disks=[MemoryDisk(DISK_BYTES)], engine=engine, log=log).run()
        return [each for each in log.events if isinstance(each, RequestFetched | CommandCompleted)]

    first = events()
    assert len(first) >= 12
    assert first == events()


def test_boot_names_the_adapter_and_the_disks_and_prints_sense_data_in_words() -> None:
    guest = DiskGuest("", "poweroff", disks=[MemoryDisk(DISK_BYTES), MemoryDisk(2 * DISK_BYTES)])
    guest.run()
    lines = guest.output.splitlines()
    assert (
        "lsi: PCI device 16, ports at 00001400, IRQ 11, firmware 1.3.41.32, 128 requests of 128 bytes" in lines
    )  # as lsi_messages.py has it
    for number, sectors in ((0, DISK_BYTES // SECTOR), (1, 2 * DISK_BYTES // SECTOR)):
        assert f"scsi {number}: VMware Virtual disk, {sectors} sectors of 512 bytes" in lines
        sense = "TEST UNIT READY: UNIT ATTENTION, power on or reset (6/29/00)"
        assert f"scsi {number}: 00 00 00 00 00 00 {sense}" in lines


def test_what_put_prints_is_what_the_adapter_saw_and_where_the_bytes_are() -> None:
    disk, log = MemoryDisk(DISK_BYTES), EventLog(keep=True)
    session(disk, "mkfs")
    output = DiskGuest("", "put greeting hello world", "poweroff", disks=[disk], log=log).run()
    printed = [bytes.fromhex(cdb) for cdb in re.findall(r"^scsi 0: ((?:[0-9a-f]{2} )+)", output, re.MULTILINE)]
    fetched = [event for event in log.events if isinstance(event, RequestFetched)]
    # Before put switches the trace off and after it switches it on: all commands from there to the end of the sync.
    assert printed == [event.cdb for event in fetched][-len(printed) :]
    assert [cdb[0] for cdb in printed[-6:]] == [0x2A, 0x35, 0x2A, 0x35, 0x2A, 0x35]
    found = re.search(r"put: greeting is inode (\d+), 12 bytes in block (\d+) = sectors (\d+) to (\d+)", output)
    assert found
    inode, block, first, last = map(int, found.groups())
    file = read_volume(disk).file("greeting")
    assert (file.inode, file.blocks, file.sector_of(0), file.sectors()[-1]) == (inode, (block,), first, last)
    assert disk.read(first * SECTOR, SECTOR).rstrip(b"\0") == b"hello world\n"
    assert printed[-6] == bytes((0x2A, 0)) + first.to_bytes(4, "big") + bytes((0, 0, 8, 0))
    assert output.count(": good\n") == len(printed)


@pytest.mark.parametrize("seed", range(4))
def test_files_hold_what_a_model_says_after_any_operations(seed: int) -> None:
    model = Model(random.Random(seed))
    disk = MemoryDisk(DISK_BYTES)
    lines = [model.next_line() for _ in range(25)]
    output = session(disk, "mkfs", *lines, "ls")  # and switching off syncs
    assert files_on(disk) == model.files
    listed = re.findall(r"^(file\d): (\d+) bytes, inode \d+, blocks", output, re.MULTILINE)
    assert {name: int(size) for name, size in listed} == {name: len(data) for name, data in model.files.items()}
    again = session(
        disk, *(f"cat {name}" for name, data in model.files.items() if data.isascii() and data[-1:] == b"\n")
    )
    assert all(data.decode() in again for data in model.files.values() if data.isascii() and data[-1:] == b"\n")


@pytest.mark.parametrize("seed", range(2))
def test_a_power_cut_between_any_two_writes_loses_only_what_was_not_synced(seed: int) -> None:
    """Every moment, with all of what was not flushed, and with any sectors of it: the volume is that of a sync, the
    last one that has ended or the one under way."""
    model, made = Model(random.Random(seed)), MemoryDisk(DISK_BYTES // 2)
    session(made, "mkfs")
    disk = RecordingDisk(made.content)
    session(disk, *(model.next_line() for _ in range(20)), model.sync())
    generations: list[dict[str, bytes]] = [{}, *model.synced]
    assert len(generations) >= 4
    lot, seen = random.Random(seed), set[int]()
    for at in range(len(disk.steps) + 1):
        ended = sum(step.data is None for step in disk.steps[:at]) // 3  # flushes: after data, metadata, superblock
        for left in (disk.cut(at, None), *(disk.cut(at, lot) for _ in range(4))):
            found = read_volume(left).generation - 1
            assert ended <= found <= ended + 1
            assert files_on(left) == generations[found]
            seen.add(found)
    assert seen == set(range(len(generations)))


def test_the_kernel_finds_after_a_power_cut_what_the_reader_finds() -> None:
    model, made = Model(random.Random(9)), MemoryDisk(DISK_BYTES)
    session(made, "mkfs")
    disk = RecordingDisk(made.content)
    session(disk, *(model.next_line() for _ in range(20)), model.sync())
    lot = random.Random(1)
    for at in sorted(lot.sample(range(len(disk.steps)), 6)):
        left = disk.cut(at, lot)
        volume = read_volume(left)
        output = session(left, "ls", "write file0 later", "sync")
        assert dict(re.findall(r"^(file\d): (\d+) bytes", output, re.MULTILINE)) == {
            each.name: str(each.size_bytes) for each in volume.files
        }
        assert files_on(left)["file0"] == b"later\n"
        assert read_volume(left).generation == volume.generation + 1


def test_what_was_not_synced_is_lost_when_the_machine_is_switched_off_at_once() -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs", "write kept one")
    guest = DiskGuest("", "write kept two", "write new three", "cat new", disks=[disk])
    guest.run_until(lambda: "three\n" in guest.output.partition("cat new")[2])
    assert files_on(disk) == {"kept": b"one\n"}
    assert files_on(MemoryDisk(bytes(disk.content))) == {"kept": b"one\n"}


def test_a_guest_suspended_in_the_middle_of_a_write_goes_on_elsewhere() -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs")
    guest = DiskGuest("", "put greeting hello", "fill large 60000 1", "sync", "poweroff", disks=[disk])
    adapter = guest.vm.pc.adapters[16]
    guest.run_until(
        lambda: any(c.cdb[0] == 0x2A for c in adapter.save_state().commands), step_ns=777_777
    )  # a WRITE is under way
    carried = msgspec.msgpack.decode(msgspec.msgpack.encode(guest.vm.save_state()), type=VmState)
    said, moved = guest.output, MemoryDisk(bytes(disk.content))
    other = DiskGuest(disks=[moved])
    other.vm.load_state(carried)
    other.vm.engine.run()
    guest.run()
    assert said + other.output == guest.output
    assert moved.content == disk.content
    assert files_on(moved) == {"greeting": b"hello\n", "large": filling(60_000, 1)}


def test_two_programs_at_the_same_time_do_not_disturb_each_other() -> None:
    disk = MemoryDisk(DISK_BYTES)
    session(disk, "mkfs")
    DiskGuest("init=together fill one 90000 1 + fill two 80000 2 + fill three 70000 3", disks=[disk]).run()
    # It ends with the first, and switches off: what the others had by then is a beginning of theirs.
    found = files_on(disk)
    assert found["one"] == filling(90_000, 1)
    for name, size, seed in (("two", 80_000, 2), ("three", 70_000, 3)):
        assert len(found[name]) > size // 2
        assert filling(size, seed).startswith(found[name])


def test_a_block_that_the_disk_knows_of_is_never_written_over() -> None:
    """Between two syncs, no write goes to a block of the generation that is on the disk."""
    model, made = Model(random.Random(5), most_files=3), MemoryDisk(DISK_BYTES)
    session(made, "mkfs")
    disk = RecordingDisk(made.content)
    session(disk, *(model.next_line() for _ in range(40)))
    now: TinyVolume = read_volume(MemoryDisk(disk.base))
    state = MemoryDisk(disk.base)
    writes = 0
    for step in disk.steps:
        if step.data is None:
            continue
        block = step.offset // BLOCK_BYTES
        if block >= DATA_FIRST:
            assert now.what_is_in(block) == "free"
            writes += 1
        state.write(step.offset, step.data)
        now = read_volume(state)
    assert writes > 20


def test_blocks_of_removed_files_come_back_after_the_next_sync() -> None:
    disk = MemoryDisk(40 * BLOCK_BYTES)  # 26 blocks for data
    output = session(
        disk, "mkfs", "fill a 60000 1", "sync", "rm a", "fill b 60000 2", "rm b", "sync", "fill b 60000 2", "ls"
    )
    assert "fill: b: no room\n" in output
    assert output.count("no room") == 1
    assert files_on(disk) == {"b": filling(60_000, 2)}


def test_without_an_adapter_every_program_does_what_it_does_in_the_kernel_without_disks() -> None:
    output = DiskGuest(
        "", "calls", "cow", "ls", "mkfs", "put a b", "poweroff", disks=[], ramdisk_bytes=DISK_BYTES
    ).run()
    assert "calls: 23 checks, 0 wrong\n" in output
    assert "cow: parent still has 16; the child's status was 7\n" in output
    for program in ("ls: ", "mkfs: ", "put: a: "):
        assert f"{program}there is no disk\n" in output


def test_the_boot_line_is_the_same_but_for_the_disks() -> None:
    guest = DiskGuest("", "poweroff", disks=[MemoryDisk(DISK_BYTES)])
    guest.run()
    without = DiskGuest("", "poweroff", disks=[])
    without.run()
    lines = [line for line in guest.output.splitlines() if not line.startswith(("lsi: ", "scsi "))]
    assert lines == without.output.splitlines()
    assert BOOTED in guest.output
