"""The runs of lesson 11: figure 7 of the paper in small, four states, and a host that refuses.

::

    vm1   16 MB, all of it touched long ago, idle          W1: its kernel and the pages it still looks at
    vm2   16 MB, goes through three quarters of them       W2: 12 MB, as 195 of 256 in the paper
    the machine leaves both together 342/512 of what they think they have

    minutes   0 ─────── tax 0: 11 + 11 MB ─────── 75 %: 6 + 15 MB ───────>

MODEL: a sixteenth of the paper's memory. Sampling periods and balancing periods are the paper's, so the run takes as
long as theirs in virtual time.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from vilab.course.feedback import columns
from vilab.course.reclaim_runs import HZ, QUANTUM_NS, SECOND, start
from vilab.errors import AdminError
from vilab.host.host import SVM_MONITOR_BYTES, Host
from vilab.memory.client import MemoryConfig
from vilab.memory.free_states import MARGIN_PERCENT, THRESHOLD_PERCENT, FreeState
from vilab.memory.memory_events import WorkingSetSampled
from vilab.view.memory_track import MemoryTrack

SIZE_MB = 16
IDLE = "together checksum 3700 0 4 80 1 0 + memory 15"
BUSY = "together checksum 3120 0 600 16 2 0 + memory 15"
STEP_NS = 15 * SECOND
TAX_AT, TAX = 8, 0.75
"""The step at whose beginning the tax is raised."""
RESTED_S = 450
"""So long vm1 has been alone, and idle, when vm2 is switched on."""
SETTLED_S = 60
"""So long the pages need to follow the targets."""


def host_mb() -> int:
    """Machine memory of which 342/512 of both guests' is left: monitors and what should be free come on top."""
    guests, monitors = 2 * SIZE_MB * 342 / 512, 2 * SVM_MONITOR_BYTES / (1 << 20)
    free_percent = THRESHOLD_PERCENT[FreeState.HIGH] + MARGIN_PERCENT
    return round((guests + monitors) / (1 - free_percent / 100))


def idle_and_busy(tax: float = 0.0, tax_at: int | None = TAX_AT) -> MemoryTrack:
    """Two guests of one size and equal shares. ``tax_at``: ``None`` leaves the tax to a person."""
    host = Host(host_mb(), quantum_ns=QUANTUM_NS)
    host.memory.reclaimer.set_tax(tax)
    start(host, "vm1", IDLE, SIZE_MB, disk_mb=16)
    host.run_for(RESTED_S * SECOND)
    start(host, "vm2", BUSY, SIZE_MB, disk_mb=16)
    plan = {} if tax_at is None else {tax_at: lambda track: track.set_tax(TAX)}
    return MemoryTrack(host, STEP_NS, plan)


def rounds_text(track: MemoryTrack, name: str, step: int) -> str:
    """How many rounds a minute a guest made before a step and after it, by its own clock and its own words."""
    at: list[tuple[float, int]] = []
    done = 0
    for line in track.host.vms[name].console.said.splitlines():
        if re.search(r"round \d+ ok", line):
            done += 1
        elif found := re.fullmatch(r"ticks (\d+)", line):
            at.append((int(found[1]) / HZ, done))
    change_s = (track.frames[step - 1].at_ns - track.host.vms[name].started_ns) / SECOND
    before = [point for point in at if point[0] <= change_s]
    after = [point for point in at if point[0] >= change_s + SETTLED_S]
    first, second = _a_minute(before[len(before) // 2 :]), _a_minute(after)
    return (
        f"{name} made {first:.1f} rounds a minute before step {step}, and {second:.1f} from a minute after it on: "
        f"{100 * (second / first - 1):+.0f} %."
    )


def _a_minute(points: list[tuple[float, int]]) -> float:
    (start, did), (end, has) = points[0], points[-1]
    return 60 * (has - did) / (end - start)


def samples_text(track: MemoryTrack, name: str) -> str:
    """Every sample of a machine: t of n, both averages, and what is believed."""
    rows = [("second", "t of n", "slow", "fast", "estimate")]
    for frame in track.frames:
        vm = frame.vm(name)
        for event in frame.events:
            if vm is not None and isinstance(event, WorkingSetSampled) and event.vm == vm.vm_id:
                rows.append((
                    f"{event.at_ns / 1e9:.0f}", f"{event.touched} of {event.sampled}", f"{event.slow:.2f}",
                    f"{event.fast:.2f}", f"{event.active_pages / 256:.1f} MB",
                ))  # fmt: skip
    return "\n".join(columns(rows))


# Pressure, and admission --------------------------------------------------------------------------------------------

CROWD, CROWD_SIZE_MB, CROWD_PAGES, CROWD_MB = 5, 20, 4_300, 120


def crowd() -> MemoryTrack:
    """Five guests of 20 MB that use most of it, on a machine that has little more. A step is one quantum."""
    host = Host(CROWD_MB, quantum_ns=QUANTUM_NS)
    for number in range(1, CROWD + 1):
        start(host, f"vm{number}", f"checksum {CROWD_PAGES} 0 16 8 {number} 0", CROWD_SIZE_MB)
    host.run_for(2 * SECOND)
    return MemoryTrack(host, QUANTUM_NS)


def refusals() -> str:
    """Virtual machines on a machine of 48 MB with 40 MB of disk: who is powered on, and why others are not."""
    said = []
    with tempfile.TemporaryDirectory() as folder:
        host = Host(48, swap_directory=Path(folder), swap_room_mb=40, quantum_ns=QUANTUM_NS)
        for name, config in (
            ("db", MemoryConfig(32, reservation_mb=24)), ("web", MemoryConfig(32, reservation_mb=24)),
            ("mail", MemoryConfig(48)), ("test", MemoryConfig(16, reservation_mb=20)),
        ):  # fmt: skip
            try:
                start(host, name, "checksum 10 0", config=config)
                said.append(f"{name} is on: {config.reservation_mb} MB promised, and a swap file for the rest.")
            except AdminError as error:
                said.append(str(error).replace(folder, DATASTORE))
        host.close()
    return "\n".join(said)


DATASTORE = "swap1"
