"""Several guests on one machine: they get what they need, keep what is theirs, and notice nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from vilab.errors import AdminError
from vilab.events import EventDigest
from vilab.guests.load import load
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.memory.client import MemoryConfig
from vilab.memory.page_state import PageState
from vilab.vmm.vm import MONITOR_WINDOW, QuietConsole

MB, SECOND = 1 << 20, 1_000_000_000
ENGINES = ("svm", "bt")


def start(host: Host, name: str, typed: bytes, *, engine: str = "svm", config: MemoryConfig | None = None) -> HostedVm:
    config = config or MemoryConfig(16)
    reserved = MONITOR_WINDOW if engine == "bt" else None
    image = load("kernel-memory", memory_bytes=config.size_mb << 20, append="hz=10", reserved=reserved)
    return host.power_on(name, image, config, engine=engine, console=QuietConsole(typed), ramdisk_bytes=8 * MB)


def said(hosted: HostedVm) -> str:
    return hosted.console.said


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(128, swap_directory=tmp_path, quantum_ns=50_000_000)
    yield made
    made.memory.check()
    made.close()


def test_a_page_has_a_frame_only_once_it_was_touched(host: Host) -> None:
    vm = start(host, "vm1", b"")
    host.run_for(SECOND)
    pmap = vm.client.pmap
    assert pmap.count(PageState.UNTOUCHED) > pmap.pages // 2
    before = host.memory.free_pages
    host.power_off(vm)
    assert host.memory.free_pages == host.memory.total_pages > before


@pytest.mark.parametrize("engine", ENGINES)
def test_guests_that_check_their_memory_find_it_right_while_it_is_paged_out(tmp_path: Path, engine: str) -> None:
    host = Host({"svm": 44, "bt": 164}[engine], swap_directory=tmp_path, quantum_ns=50_000_000, page_in_ns=200_000)
    host.memory.reclaimer.ballooning = False
    vms = [start(host, f"vm{n}", b"checksum 2500 12\n", engine=engine) for n in range(3)]
    host.run_for(8 * SECOND)
    host.memory.check()
    assert sum(vm.client.swapped_out for vm in vms) > 500
    assert sum(vm.client.swapped_in for vm in vms) > 100
    for vm in vms:
        assert not vm.stopped
        assert len(re.findall(r"round \d+ ok", said(vm))) >= 3
        assert "wrong" not in said(vm)
    host.close()
    assert not list(tmp_path.iterdir())


def test_a_clone_goes_on_where_its_original_stood(host: Host) -> None:
    vm = start(host, "vm1", b"isprime 49\nisprime 53\n")
    host.run_for(2 * SECOND)
    text = said(vm)
    assert text.count("isPrime") == 2
    clone = host.resume(vm.snapshot(), "vm2", console=QuietConsole(b"isprime 8\n"))
    assert clone.client.pmap.content() == vm.client.pmap.content()
    assert clone.client.pmap.save_state() == vm.client.pmap.save_state()
    third = host.clone(vm, "vm3")[0]
    host.run_for(2 * SECOND)
    assert "isPrime(8) = 0" in said(clone)
    assert said(vm) == text
    assert third.runs


def test_suspended_and_resumed_with_pages_in_the_balloon_and_in_the_swap_file(host: Host) -> None:
    vm = start(host, "vm1", b"checksum 1200 30\n")
    host.run_for(4 * SECOND)
    vm.client.balloon.set_target(600)
    host.run_for(3 * SECOND)
    assert vm.client.balloon.locked_pages > 100
    assert host.memory.reclaimer.page_out(vm.client, 300) == 300
    ballooned, content = vm.client.balloon.locked_pages, vm.client.pmap.content()
    snapshot = host.suspend(vm)
    assert host.memory.free_pages == host.memory.total_pages
    again = host.resume(snapshot)
    assert again.client.balloon.locked_pages == ballooned
    assert again.client.pmap.content() == content
    host.run_for(5 * SECOND)
    assert len(re.findall(r"round \d+ ok", said(again))) >= 1
    assert "wrong" not in said(again)


def test_the_same_seed_gives_the_same_events(tmp_path: Path) -> None:
    def run(folder: Path) -> tuple[str, str]:
        folder.mkdir()
        host = Host(44, swap_directory=folder, quantum_ns=50_000_000, seed=3)
        digest = EventDigest()
        host.log.listen(digest)
        vms = [start(host, f"vm{n}", b"checksum 2500 4\n") for n in range(3)]
        host.run_for(8 * SECOND)
        result = digest.hexdigest(), "".join(map(said, vms))
        host.close()
        return result

    assert run(tmp_path / "a") == run(tmp_path / "b")


def test_power_on_is_refused_with_what_is_short(host: Host) -> None:
    start(host, "vm1", b"", config=MemoryConfig(64, reservation_mb=64))
    with pytest.raises(AdminError, match=r"vm2 cannot be powered on: its reservation of 64 MB"):
        start(host, "vm2", b"", config=MemoryConfig(64, reservation_mb=64))
    assert list(host.vms) == ["vm1"]
    with pytest.raises(AdminError, match="already"):
        start(host, "vm1", b"")


def test_power_on_is_refused_where_there_is_no_room_for_the_swap_file(tmp_path: Path) -> None:
    host = Host(128, swap_directory=tmp_path, swap_room_mb=20)
    start(host, "vm1", b"")
    with pytest.raises(AdminError, match=r"swap file needs 16 MB .* 4 MB are free, 12 MB too little"):
        start(host, "vm2", b"")
    start(host, "vm3", b"", config=MemoryConfig(16, reservation_mb=12))
    host.close()


def test_what_is_loaded_into_a_guest_is_no_access_of_its_own(host: Host) -> None:
    vm = start(host, "vm1", b"checksum 2000 1000\n")
    assert vm.client.sampler.touched == 0
    host.run_for(3 * SECOND)
    clone = host.clone(vm, "clone")[0]
    assert clone.client.sampler.drawn == len(clone.client.sampler.untouched) == 100
    host.run_for(3 * SECOND)
    assert 0 < clone.client.sampler.touched < 100


def test_an_image_that_is_refused_leaves_nothing_behind(host: Host, tmp_path: Path) -> None:
    image = msgspec.structs.replace(load("kernel-memory", memory_bytes=16 * MB), rom=b"\xf4" * 4096)
    with pytest.raises(AdminError, match="is a BIOS"):
        host.power_on("vm1", image, MemoryConfig(16))
    assert host.memory.free_pages == host.memory.total_pages
    assert not host.memory.clients
    assert not list(tmp_path.iterdir())


def test_a_machine_that_is_off_cannot_take_one_of_its_name_with_it(host: Host) -> None:
    vm = start(host, "vm1", b"")
    again = host.resume(host.suspend(vm))
    with pytest.raises(AdminError, match="vm1 is not powered on on esx1 any more: vm1 was powered off"):
        host.power_off(vm)
    assert host.vms == {"vm1": again}


def test_a_guest_gets_all_that_it_was_promised(tmp_path: Path) -> None:
    host = Host(15, swap_directory=tmp_path, quantum_ns=50_000_000)
    vm = start(host, "vm1", b"zeros 4000 0 10\n", config=MemoryConfig(10, reservation_mb=10))
    host.run_for(3 * SECOND)
    other = host.memory.admit("other", MemoryConfig(4), 16 * 4096)
    for ppn in range(other.pmap.pages):
        other.pmap.write(ppn << 12, ppn.to_bytes(4, "little") * 2)
    host.run_for(5 * SECOND)
    assert vm.runs
    assert vm.client.swapped_out == 0
    host.close()
