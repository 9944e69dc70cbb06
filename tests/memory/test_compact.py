"""Adjacent frames out of scattered ones: nobody's page changes, and the books balance."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Ppn
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.machine.memory import MachineMemory
from vilab.memory.client import MemoryClient, MemoryConfig
from vilab.memory.manager import MemoryManager
from vilab.memory.memory_events import MemoryCompacted
from vilab.memory.page_state import PageState

MB = 1 << 20
MONITOR_BYTES = 4 * PAGE_BYTES


def full_of_holes(folder: Path, seed: int) -> tuple[MemoryManager, list[MemoryClient], list[bytes]]:
    """3 MB; two guests of 1 MB whose pages lie in turn, two thirds of them shared, and every third given back."""
    manager = MemoryManager(MachineMemory(3 * MB), folder, log=EventLog(keep=True), seed=seed)
    clients = [manager.admit(f"vm{number}", MemoryConfig(1), MONITOR_BYTES) for number in range(2)]
    for ppn in range(256):
        for client in clients:
            fill = ppn if (ppn + seed) % 3 else ppn * 2 + 1000 + client.vm_id
            client.pmap.write(ppn << PAGE_SHIFT, fill.to_bytes(4, "little") * (PAGE_BYTES // 4))
    manager.scanner.scan_all()
    for ppn in range(seed % 3, 256, 3):
        for client in clients:
            manager.release(client.pmap, Ppn(ppn), PageState.UNTOUCHED)
    return manager, clients, [client.pmap.content() for client in clients]


@given(seed=st.integers(0, 1000), frames=st.integers(150, 420))
@settings(max_examples=40, deadline=None)
def test_a_monitor_gets_its_piece_and_the_guests_keep_their_pages(
    tmp_path_factory: pytest.TempPathFactory, seed: int, frames: int
) -> None:
    manager, clients, contents = full_of_holes(tmp_path_factory.mktemp("swap"), seed)
    try:
        other = manager.admit("other", MemoryConfig(1), frames * PAGE_BYTES)
    except AdminError:  # there are not so many, or not elsewhere
        other = None
    assert [client.pmap.content() for client in clients] == contents
    manager.check()
    if other is not None:
        assert len(other.overhead) == frames
        manager.power_off(other)
    for client in clients:
        manager.power_off(client)
    assert manager.free_pages == manager.total_pages


def test_private_and_shared_pages_have_moved(tmp_path: Path) -> None:
    manager, clients, contents = full_of_holes(tmp_path, 1)
    shared = manager.sharing.shared_frames
    before = [list(client.pmap.mpn_of) for client in clients]
    manager.admit("other", MemoryConfig(1), 400 * PAGE_BYTES)
    assert [event.moved_pages > 20 for event in manager.log.of(MemoryCompacted)] == [True]
    moved = [
        client.pmap.state_of(ppn)
        for client, mpns in zip(clients, before, strict=True)
        for ppn, mpn in enumerate(mpns)
        if client.pmap.mpn_of[ppn] not in (mpn, -1)
    ]
    assert {PageState.PRIVATE, PageState.SHARED} == set(moved)
    assert manager.sharing.shared_frames == shared
    assert [client.pmap.content() for client in clients] == contents
    clients[0].pmap.write(0, b"a store to a page that was shared")
    manager.check()


def test_between_monitors_there_is_no_piece(tmp_path: Path) -> None:
    manager = MemoryManager(MachineMemory(2 * MB), tmp_path)
    small = [manager.admit(f"vm{number}", MemoryConfig(1), 128 * PAGE_BYTES) for number in range(3)]
    manager.power_off(small[0])
    manager.power_off(small[2])
    with pytest.raises(AdminError, match="power one off"):
        manager.admit("other", MemoryConfig(1), 300 * PAGE_BYTES)
    manager.admit("fits", MemoryConfig(1), 256 * PAGE_BYTES)
    manager.check()
