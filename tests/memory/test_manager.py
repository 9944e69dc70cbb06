"""The memory manager at its edges: promises, limits, balloons that give nothing, swap files that are another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Ppn
from vilab.errors import AdminError
from vilab.machine.memory import MachineMemory
from vilab.memory.balloon_protocol import Capability, Command
from vilab.memory.client import MemoryClient, MemoryConfig
from vilab.memory.free_states import FreeState
from vilab.memory.manager import MOST_IDS, MemoryManager
from vilab.memory.page_state import PageState
from vilab.memory.sharing import PageSharing

MB, SECOND = 1 << 20, 1_000_000_000
MONITOR_BYTES = 16 * PAGE_BYTES
Make = Callable[[int], MemoryManager]


@pytest.fixture
def machine(tmp_path: Path) -> Make:
    def make(megabytes: int) -> MemoryManager:
        manager = MemoryManager(MachineMemory(megabytes * MB), tmp_path, seed=3)
        manager.scanner.limits = type(manager.scanner.limits)(whole_vm_ns=1 << 62)
        return manager

    return make


def touch(client: MemoryClient, first: int, end: int) -> None:
    """Each page with a content of its own."""
    for ppn in range(first, end):
        client.pmap.write(ppn << PAGE_SHIFT, (client.vm_id << 20 | ppn).to_bytes(8, "little"))


def let_pass(manager: MemoryManager, seconds: int) -> None:
    for _ in range(10 * seconds):
        manager.tick(manager.now_ns + SECOND // 10)


# Sampling ------------------------------------------------------------------------------------------------------------


def sampled(manager: MemoryManager) -> MemoryClient:
    """A guest of which every page that it has touched is watched."""
    client = manager.admit("vm1", MemoryConfig(1), MONITOR_BYTES)
    touch(client, 0, client.pmap.pages)
    manager.start_sampling(client)
    return client


def test_a_page_that_is_swapped_out_while_it_is_watched_counts_when_it_comes_back(machine: Make) -> None:
    manager = machine(8)
    client = sampled(manager)
    for ppn in client.sampler.untouched:
        assert manager.swap_out(client, Ppn(ppn))
    touch(client, 0, client.pmap.pages)
    assert client.sampler.touched == client.sampler.drawn


def test_a_page_that_was_in_the_balloon_while_it_is_watched_counts_when_it_is_used_again(machine: Make) -> None:
    manager = machine(8)
    client = sampled(manager)
    client.balloon.call(Command.START, Capability.BASIC, 0, client.pmap)
    client.balloon.set_target(client.pmap.pages)
    sample = list(client.sampler.untouched)
    for command in (Command.LOCK, Command.UNLOCK):
        for ppn in sample:
            assert client.balloon.call(command, ppn, 0, client.pmap)[0] == 0
    assert client.sampler.touched == 0
    touch(client, 0, client.pmap.pages)
    assert client.sampler.touched == client.sampler.drawn


# Promises ------------------------------------------------------------------------------------------------------------


def test_a_reservation_is_kept_where_reservations_leave_hardly_a_page_free(machine: Make) -> None:
    manager = machine(16)
    clients = [
        manager.admit(f"vm{n}", MemoryConfig(8, reservation_mb=size), MONITOR_BYTES) for n, size in ((1, 8), (2, 7))
    ]
    touch(clients[1], 0, clients[1].pmap.pages)
    touch(clients[0], 0, clients[0].pmap.pages)
    let_pass(manager, 60)
    for client in clients:
        assert client.target_pages >= client.config.min_pages
        assert manager.charged_pages(client) >= client.config.min_pages
        assert not client.blocked or manager.charged_pages(client) > client.config.min_pages
    assert clients[0].swapped_out == 0
    manager.check()


def test_a_limit_is_kept_where_there_is_no_balloon_and_much_memory_is_free(machine: Make) -> None:
    manager = machine(32)
    client = manager.admit("vm1", MemoryConfig(8, limit_mb=6), MONITOR_BYTES)
    touch(client, 0, client.pmap.pages)
    let_pass(manager, 5)
    assert manager.reclaimer.state is FreeState.HIGH
    assert manager.charged_pages(client) == client.config.max_pages
    manager.check()


def test_a_limit_is_left_to_the_balloon_where_there_is_one(machine: Make) -> None:
    manager = machine(32)
    client = manager.admit("vm1", MemoryConfig(8, limit_mb=6), MONITOR_BYTES)
    client.balloon.call(Command.START, Capability.BASIC, 0, client.pmap)
    touch(client, 0, client.pmap.pages)
    let_pass(manager, 5)
    assert client.swapped_out == 0


# Balloons that give nothing ------------------------------------------------------------------------------------------


def short_of_memory(manager: MemoryManager) -> MemoryClient:
    """Two guests, of which one has a driver; between 2 and 4 % are free."""
    client = manager.admit("vm1", MemoryConfig(40), MONITOR_BYTES)
    manager.admit("idle", MemoryConfig(40), MONITOR_BYTES)
    client.balloon.call(Command.START, Capability.BASIC, 0, client.pmap)
    touch(client, 0, client.pmap.pages)
    idle = manager.clients[2]
    touch(idle, 0, manager.free_pages - 3 * manager.total_pages // 100)
    # The one without a driver gives nothing, so that it depends on the other.
    manager.configure(idle, MemoryConfig(40, reservation_mb=7))
    return client


def test_a_guest_whose_balloon_gives_nothing_is_paged_out_in_the_soft_state(machine: Make) -> None:
    manager = machine(48)
    client = short_of_memory(manager)
    let_pass(manager, 2)
    assert manager.reclaimer.state is FreeState.SOFT
    assert client.balloon.target_pages > 0
    assert client.swapped_out == 0
    let_pass(manager, 20)
    assert client.swapped_out > 0
    assert manager.reclaimer.state is FreeState.HIGH
    manager.check()


def test_a_guest_whose_balloon_grows_is_not_paged_out(machine: Make) -> None:
    manager = machine(48)
    client = short_of_memory(manager)
    ppn = 0
    for _ in range(40):
        if client.balloon.locked_pages < client.balloon.target_pages:
            client.balloon.call(Command.LOCK, ppn, 0, client.pmap)
            ppn += 1
        let_pass(manager, 1)
    assert client.balloon.locked_pages > 0
    assert client.swapped_out == 0


def test_what_a_full_balloon_cannot_give_is_paged_out(machine: Make) -> None:
    manager = machine(48)
    client = short_of_memory(manager)
    client.balloon.maximum_pages = 10
    let_pass(manager, 1)
    for ppn in range(10):
        assert client.balloon.call(Command.LOCK, ppn, 0, client.pmap)[0] == 0
    let_pass(manager, 5)
    assert client.swapped_out > 0
    assert manager.reclaimer.state is FreeState.HIGH


# In the middle of a slice --------------------------------------------------------------------------------------------


def test_nothing_is_done_to_the_running_guests_pages_in_the_middle_of_its_slice(machine: Make) -> None:
    manager = machine(8)
    running, other = (manager.admit(f"vm{n}", MemoryConfig(2), MONITOR_BYTES) for n in (1, 2))
    for client in (running, other):
        client.pmap.write(0, b"the same")
    sharing: PageSharing = manager.sharing
    sharing.scan(*(_numbers(n) for n in ((running.vm_id,), (0,))))
    assert sharing.table.hints == 1
    manager.running = running.vm_id
    mpn = running.pmap.resolve(0, True)
    assert manager.swap_out(other, Ppn(0))
    # The monitor has the frame's number still, and stores there.
    assert mpn is not None
    manager.memory.write(mpn << PAGE_SHIFT, b"changed!")
    manager.running = None
    assert running.pmap.read(0, 8) == b"changed!"
    assert other.pmap.read(0, 8) == b"the same"


def _numbers(values: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


# Numbers and files ---------------------------------------------------------------------------------------------------


def test_numbers_of_virtual_machines_go_round_and_miss_those_in_use(machine: Make) -> None:
    manager = machine(8)
    first = manager.admit("first", MemoryConfig(1), MONITOR_BYTES)
    manager._next_id = MOST_IDS
    last = manager.admit("last", MemoryConfig(1), MONITOR_BYTES)
    third = manager.admit("third", MemoryConfig(1), MONITOR_BYTES)
    assert (first.vm_id, last.vm_id, third.vm_id) == (1, MOST_IDS, 2)
    for client in (first, last, third):
        touch(client, 0, 10)
    manager.check()


@pytest.mark.parametrize("name", ["a/b", "../up", "nul\0", "50 %", "back\\slash", "Überraschung"])
def test_a_name_of_any_letters_has_its_swap_file_in_the_directory(machine: Make, tmp_path: Path, name: str) -> None:
    manager = machine(8)
    client = manager.admit(name, MemoryConfig(1), MONITOR_BYTES)
    assert list(tmp_path.iterdir()) == [client.swap.path]
    manager.power_off(client)
    assert not list(tmp_path.iterdir())


def test_the_swap_file_of_a_guest_that_runs_is_not_anothers(machine: Make, tmp_path: Path) -> None:
    manager, path = machine(8), tmp_path / "one.vswp"
    client = manager.admit("vm1", MemoryConfig(1), MONITOR_BYTES, path)
    touch(client, 0, 200)
    manager.page_out(client, 200)
    free = manager.free_pages
    with pytest.raises(AdminError, match=r"vm2 cannot be powered on: its swap file .*one\.vswp is in use"):
        manager.admit("vm2", MemoryConfig(1), MONITOR_BYTES, path)
    assert manager.free_pages == free
    assert all(client.pmap.read(ppn << PAGE_SHIFT, 4) for ppn in range(200))
    manager.power_off(client)
    assert not path.exists()


def test_a_swap_file_that_was_left_behind_is_taken_over(machine: Make, tmp_path: Path) -> None:
    path = tmp_path / "one.vswp"
    path.write_bytes(b"old" * 1_000_000)
    client = machine(8).admit("vm1", MemoryConfig(1), MONITOR_BYTES, path)
    assert path.stat().st_size == client.swap.pages * PAGE_BYTES
    assert not path.read_bytes().strip(b"\0")


def test_a_file_that_is_no_swap_file_stays_as_it_is(machine: Make, tmp_path: Path) -> None:
    path = tmp_path / "web.vmx"
    path.write_text("memsize = 4")
    with pytest.raises(AdminError, match=r"web\.vmx, its swap file, exists and does not look like one"):
        machine(8).admit("vm1", MemoryConfig(1), MONITOR_BYTES, path)
    assert path.read_text() == "memsize = 4"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    manager = MemoryManager(MachineMemory(8 * MB), tmp_path / "nowhere")
    with pytest.raises(AdminError, match=r"No swap file can be made in .*nowhere \(No such file or directory\)"):
        manager.admit("vm1", MemoryConfig(1), MONITOR_BYTES)


def test_a_guest_whose_swap_file_is_full_is_only_shared(machine: Make) -> None:
    manager = machine(16)
    client = manager.admit("vm1", MemoryConfig(4, reservation_mb=3), MONITOR_BYTES)
    touch(client, 0, client.pmap.pages)
    assert manager.page_out(client, client.pmap.pages) == client.swap.pages == 256
    assert client.pmap.count(PageState.SWAPPED) == 256
    assert manager.page_out(client, client.pmap.pages) == 0
    manager.check()
