"""Machine frames: every one is handed out once, zeroed, until it is given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError, VmmBug
from vilab.machine.memory import FrameAllocator, MachineMemory


@given(st.lists(st.booleans(), max_size=60))
def test_no_frame_is_ever_handed_out_twice(choices: list[bool]):
    memory = MachineMemory(16 * 4096)
    frames = FrameAllocator(memory)
    held: list[int] = []
    for take in choices:
        if take and frames.free_frames:
            mpn = frames.allocate()
            assert mpn not in held
            assert not memory.frame(mpn).any()
            memory.write(frames.mpa(mpn), b"\xff" * 4096)
            held.append(mpn)
        elif not take and held:
            frames.free(held.pop(0))  # type: ignore[arg-type]
        assert frames.free_frames + len(held) == memory.frames


def test_a_full_machine_says_so():
    frames = FrameAllocator(MachineMemory(2 * 4096))
    frames.allocate_run(2)
    with pytest.raises(AdminError, match="all in use"):
        frames.allocate()
    with pytest.raises(AdminError, match="in one piece"):
        frames.allocate_run(1)


def test_freeing_twice_is_a_bug():
    frames = FrameAllocator(MachineMemory(4 * 4096))
    mpn = frames.allocate()
    frames.free(mpn)
    with pytest.raises(VmmBug):
        frames.free(mpn)


def test_a_view_of_a_frame_cannot_be_written():
    memory = MachineMemory(4096)
    with pytest.raises(ValueError, match="read-only"):
        memory.frame(0)[0] = 1
    memory.write(0, b"x")
    assert memory.frame(0)[0] == ord("x")


def test_odd_sizes_are_refused():
    with pytest.raises(AdminError, match="whole number"):
        MachineMemory(4095)
