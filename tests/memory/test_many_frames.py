"""Many frames at once: the same ones as one after the other, and none twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Mpn, Ppn
from vilab.errors import AdminError, VmmBug
from vilab.machine.memory import FrameAllocator, MachineMemory
from vilab.memory.client import MemoryConfig
from vilab.memory.manager import FLOOR_PAGES, MemoryManager
from vilab.memory.page_state import PageState

FRAMES = 24
STEPS = st.lists(st.tuples(st.sampled_from(["take", "free", "run", "free run"]), st.integers(0, 9)), max_size=30)


@given(STEPS)
def test_many_frames_are_those_that_one_after_the_other_would_be(steps: list[tuple[str, int]]) -> None:
    one, many = (FrameAllocator(MachineMemory(FRAMES * PAGE_BYTES)) for _ in range(2))
    held: list[int] = []
    runs: list[tuple[int, int]] = []
    for what, count in steps:
        if what == "take":
            if count > one.free_frames:
                with pytest.raises(AdminError):
                    many.allocate_many(count)
                continue
            taken = many.allocate_many(count).tolist()
            assert taken == [one.allocate() for _ in range(count)]
            held += taken
        elif what == "free":
            gone, held = held[:count], held[count:]
            many.free_many(np.array(gone, np.int64))
            for mpn in gone:
                one.free(mpn)
        elif what == "run" and count:
            try:
                first = one.allocate_run(count)
            except AdminError:
                continue
            assert many.allocate_run(count) == first
            runs.append((first, count))
        elif what == "free run" and runs:
            one.free_run(Mpn(runs[0][0]), runs[0][1])
            first, count = runs.pop(0)
            many.free_run(Mpn(first), count)
        assert many.free_frames == one.free_frames
        assert many.used_frames == one.used_frames


@pytest.mark.parametrize("mpns", [[3, 3], [0], [2, 9]])
def test_a_frame_is_not_freed_twice(mpns: list[int]) -> None:
    allocator = FrameAllocator(MachineMemory(FRAMES * PAGE_BYTES))
    allocator.allocate_many(5)
    allocator.free_many(np.array([0, 1]))
    with pytest.raises(VmmBug):
        allocator.free_many(np.array(mpns))
    assert allocator.free_frames == FRAMES - 3


def test_pages_get_frames_of_their_own_until_the_floor(tmp_path: Path) -> None:
    manager = MemoryManager(MachineMemory(4 << 20), tmp_path)
    client = manager.admit("web", MemoryConfig(4), 1 << 16)
    pmap = client.pmap
    pmap.write(5 << PAGE_SHIFT, b"x")
    ppns = np.delete(np.arange(1024), 5)
    given_pages = manager.pages_needed(pmap, ppns)
    assert given_pages == 1024 - 16 - 1 - FLOOR_PAGES
    assert manager.free_pages == FLOOR_PAGES
    assert manager.pages_needed(pmap, ppns[given_pages:]) == 0
    assert pmap.count(PageState.PRIVATE) == given_pages + 1
    manager.check()
    with pytest.raises(VmmBug, match="already has a frame"):
        pmap.give_many(np.array([5]), np.array([7]))


def test_a_guest_that_ends_leaves_nothing_wherever_its_pages_were(tmp_path: Path) -> None:
    manager = MemoryManager(MachineMemory(8 << 20), tmp_path)
    web, db = (manager.admit(name, MemoryConfig(2), 1 << 16) for name in ("web", "db"))
    for ppn in range(200):
        for client in (web, db):
            client.pmap.write(ppn << PAGE_SHIFT, bytes([ppn % 5 + 1]) * PAGE_BYTES)
    manager.sharing.scan(np.repeat([web.vm_id, db.vm_id], 100), np.tile(np.arange(100), 2))
    assert web.pmap.count(PageState.SHARED) > 0
    for ppn in range(150, 160):
        assert manager.swap_out(web, Ppn(ppn))
    manager.release(web.pmap, Ppn(170), PageState.UNTOUCHED)
    manager.check()
    manager.power_off(web)
    manager.check()
    assert all(db.pmap.page(ppn) == bytes([ppn % 5 + 1]) * PAGE_BYTES for ppn in range(200))
    manager.power_off(db)
    manager.check()
    assert manager.free_pages == manager.total_pages
