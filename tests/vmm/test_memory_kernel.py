"""The teaching kernel when memory is short: pages on the disk, the same under every engine; and how often it ticks."""

from __future__ import annotations

import re
from collections import Counter

import msgspec
import pytest

from tests.vmm.memory_guest import DISK_BYTES, ENGINES, SMALL_BYTES, Guest, counters
from vilab.devices.ramdisk import BlockTransferred
from vilab.events import EventLog, Halted
from vilab.guests.load import load
from vilab.vmm.vm import QuietConsole, VirtualMachine, VmState


def after_boot(output: str) -> str:
    return output.partition("timer: 3 ticks\n")[2]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_larger_than_memory_finds_every_word_of_it_again(engine: str) -> None:
    log = EventLog(keep=True)
    guest = Guest("init=checksum 740 1 20 0 7", engine, log=log)
    assert after_boot(guest.run()) == (
        "checksum: 740 pages filled, seed 7\nchecksum: round 1 ok\n"
        "kernel: checksum has ended with status 0, power off\n"
    )
    moved = Counter(event.direction for event in log.events if isinstance(event, BlockTransferred))
    disk = guest.vm.pc.ramdisk
    assert disk is not None
    assert (disk.reads, disk.writes) == (moved["read"], moved["write"])
    assert moved["write"] >= 100
    assert moved["read"] >= 100


@pytest.mark.parametrize("engine", ENGINES)
def test_parent_and_children_keep_apart_what_they_share_on_the_disk(engine: str) -> None:
    guest = Guest("init=family 360 2", engine)
    assert "family: 360 pages, 2 of 2 children ended well, parent ok\n" in guest.run()
    disk = guest.vm.pc.ramdisk
    assert disk is not None
    assert disk.writes > 50


@pytest.mark.parametrize("engine", ENGINES)
def test_programs_of_every_kernel_do_the_same_here(engine: str) -> None:
    guest = Guest("init=calls", engine)
    assert "calls: 23 checks, 0 wrong\n" in guest.run()
    output = Guest("init=cow", engine).run()
    assert "cow: parent still has 16; the child's status was 7\n" in output


def test_every_slot_and_frame_is_free_again_when_programs_have_ended() -> None:
    def after(command: str) -> dict[str, int]:
        image = load("kernel-memory", memory_bytes=SMALL_BYTES, append="")
        console = QuietConsole(f"{command}\nmemory\npoweroff\n".encode())
        vm = VirtualMachine(image, "bare", SMALL_BYTES, console=console, ramdisk_bytes=DISK_BYTES)
        assert vm.engine.run().reason == "powered_off"
        return counters(console.output.decode().replace("\r\n", "\n"))

    quiet, busy = after("isprime 7"), after("family 360 2")
    assert busy["page_outs"] > 50
    assert busy["swapped_pages"] == 0
    assert busy["free_pages"] == quiet["free_pages"]


def test_a_guest_suspended_while_it_swaps_goes_on_elsewhere_with_its_disk() -> None:
    guest = Guest("init=checksum 740 1 20 0 7")
    disk = guest.vm.pc.ramdisk
    assert disk is not None
    guest.run_until(lambda: disk.writes > 60 and disk.reads > 20, step_ns=7_777_777)
    carried = msgspec.msgpack.decode(msgspec.msgpack.encode(guest.vm.save_state()), type=VmState)
    said = guest.output
    other = Guest("init=checksum 1 1", disk_bytes=0)
    other.vm.load_state(carried)
    assert other.run().endswith("checksum: round 1 ok\nkernel: checksum has ended with status 0, power off\n")
    assert said + other.output == guest.run()


def test_without_a_disk_a_program_too_large_is_ended_as_ever() -> None:
    output = Guest("init=checksum 850 1", disk_bytes=0).run()
    assert re.search(r"kernel: checksum \(pid 1\) killed: page fault at eip [0-9a-f]{8}, writing address", output)


def test_when_the_swap_is_full_the_program_is_ended_and_the_kernel_goes_on() -> None:
    output = Guest("swap=20 init=together checksum 850 1 + checksum 10 3").run()
    assert "killed: page fault" in output
    assert "panic" not in output


@pytest.mark.parametrize(("asked", "ticks"), [("100", 100), ("19", 19), ("10", 8), ("2", 2), ("1", 2), ("5000", 1000)])
def test_boot_option_says_how_often_the_timer_ticks(asked: str, ticks: int) -> None:
    guest = Guest(f"hz={asked} init=checksum 1 1 0 {10 * ticks}")
    guest.run()
    seconds = guest.vm.clock.now_ns / 1e9
    # Ten seconds of sleep and 3 ticks at the start, each ending at a tick.
    assert 10 <= seconds - 3 / ticks + 2 / ticks <= 10 + 3 / ticks


def test_a_slow_timer_makes_an_idle_guest_cheap() -> None:
    def stops(hz: int) -> int:
        log = EventLog(keep=True)
        guest = Guest(f"hz={hz} init=checksum 1 1 0 {20 * hz}", log=log)
        guest.run()
        return sum(isinstance(event, Halted) for event in log.events)

    assert stops(2) * 20 < stops(100)
