"""A small host for the tests of pictures of memory, and a large one that is only arrays."""

from __future__ import annotations

import numpy as np

from vilab.course import memory_runs as runs
from vilab.host.host import Host
from vilab.memory.page_state import FrameUse
from vilab.view.memory_frame import Packed
from vilab.view.memory_grid_track import copy_of
from vilab.view.memory_track import MemoryTrack

SECOND_NS = 1_000_000_000


def two_guests(scan_pages: int = 4000) -> Host:
    """Two guests of 8 MB, the same to the last byte for now."""
    host = runs.new_host(40, runs.pages_a_second(scan_pages))
    for name in ("vm1", "vm2"):
        runs.power_on(host, name, 8, "checksum 60 0 16 10 1")
    return host


def million_pages() -> MemoryTrack:
    """4 GiB: a frame of all kinds in every square, the state of an empty host for the rest."""
    track = MemoryTrack(runs.new_host(8), SECOND_NS)
    rng = np.random.default_rng(4)
    use = rng.choice(np.array([FrameUse.FREE, FrameUse.PRIVATE, FrameUse.SHARED], np.uint8), 1 << 20)
    use[:40_000], use[-50_000:] = FrameUse.OVERHEAD, FrameUse.FREE
    owner = (use == FrameUse.PRIVATE).astype(np.uint16)
    who = rng.integers(0, 1 << 18, 1 << 20).astype(np.int32)
    track.frames[0] = copy_of(
        track.newest, machine_pages=1 << 20, total_pages=1 << 20, free_pages=int((use == FrameUse.FREE).sum()),
        use=Packed.of(use), owner=Packed.of(owner), who=Packed.of(who),
    )  # fmt: skip
    return track
