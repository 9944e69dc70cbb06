"""Frames of a host that takes memory back, made by hand: every kind of page, every state, machines that come and go."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tests.view.memory_samples import SECOND_NS, two_guests
from vilab.memory.free_states import FreeState
from vilab.memory.memory_events import FreeStateChanged
from vilab.view.memory_frame import MemoryFrame, VmFrame
from vilab.view.memory_track import MemoryTrack


def vm_frame(vm: VmFrame, untouched: int, private: int, shared: int, ballooned: int, swapped: int, **rest: object) -> (
    VmFrame
):  # fmt: skip
    counts = (untouched, private, shared, ballooned, swapped)
    assert sum(counts) == vm.pages
    return msgspec.structs.replace(vm, counts=counts, charged=private + shared // 2, **rest)


def made_up() -> MemoryTrack:
    """Seven frames: vm2 comes at the third and goes at the sixth; free memory falls to low and rises again."""
    track = MemoryTrack(two_guests(), SECOND_NS)
    first, second = track.newest.vms
    plan: Sequence[tuple[FreeState, float, VmFrame, VmFrame | None]] = (
        (FreeState.HIGH, 12.0, vm_frame(first, 2048, 0, 0, 0, 0, target=2048, active=2048), None),
        (FreeState.HIGH, 9.0, vm_frame(first, 400, 1448, 200, 0, 0, target=2000, active=2048), None),
        (FreeState.SOFT, 3.5, vm_frame(first, 400, 1400, 200, 48, 0, target=1500, active=900),
         vm_frame(second, 100, 1948, 0, 0, 0, target=1500, active=1900)),
        (FreeState.LOW, 0.9, vm_frame(first, 400, 900, 200, 448, 100, target=1100, active=400, double_paged=3),
         vm_frame(second, 100, 1748, 0, 0, 200, target=1500, active=1900, blocked=True)),
        (FreeState.HARD, 2.6, vm_frame(first, 400, 800, 200, 448, 200, target=1000, active=300, double_paged=3),
         vm_frame(second, 100, 1648, 0, 100, 200, target=1500, active=1900)),
        (FreeState.HIGH, 30.0, vm_frame(first, 400, 800, 200, 448, 200, target=2048, active=200, double_paged=3), None),
        (FreeState.HIGH, 31.0, vm_frame(first, 600, 800, 200, 248, 200, target=2048, active=200, double_paged=3), None),
    )  # fmt: skip
    frames: list[MemoryFrame] = []
    for number, (state, percent, one, two) in enumerate(plan):
        total = track.newest.total_pages
        free = int(total * percent / 100)
        was = frames[-1].state if frames else state
        happened = () if was is state else (FreeStateChanged(number * SECOND_NS, str(was), str(state), free, total),)
        frames.append(
            msgspec.structs.replace(
                track.newest, number=number, at_ns=number * SECOND_NS, state=state, free_pages=free,
                vms=(one,) if two is None else (one, two), events=happened,
            )
        )  # fmt: skip
    track.frames[:] = frames
    return track
