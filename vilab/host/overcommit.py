"""More memory promised than there is: guests that check their own, on half of what they were configured with.

::

    configured   | 16 | 16 | 16 | 16 | 16 | 16 | 16 | 16 | 16 | 16 |  MB
    the machine  |            80 MB            |  monitors  |
    touched      | zeros, pages that others have too, and pages that are written and checked at random |

Every guest counts its rounds and says ``wrong`` if a word is not what it wrote. Each is busy for a few thousand
instructions a second and halted otherwise, so that an hour takes minutes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from vilab.events import Event, EventLog
from vilab.guests.load import load
from vilab.host.host import SVM_MONITOR_BYTES, Host
from vilab.memory.client import MemoryConfig
from vilab.memory.memory_events import FreeStateChanged, PageSwappedIn, PageSwappedOut

SIZE_MB = 16
DISK_BYTES = 16 << 20
HZ = 2
MINUTE_NS = 60_000_000_000
POWER_ON_NS = 10_000_000_000
"""From one power-on to the next."""
QUANTUM_NS = 100_000_000


class Overcommitted(msgspec.Struct, frozen=True):
    """What an overcommitted host has been through.

    ``rounds``, ``wrong``: of every guest's own checking. ``high_percent``: of the time. ``lowest_free_pages`` of
    ``total_pages``. ``code_bytes_a_second``: executed by each guest; an instruction has between 3 and 4.
    ``shared_pages``, ``saved_frames``: at the end. ``stopped``: sentences of guests that ended.
    """

    virtual_s: float
    configured_mb: int
    machine_mb: int
    rounds: list[int]
    wrong: int
    stopped: list[str]
    states: dict[str, int]
    high_percent: float
    state_at_end: str
    lowest_free_pages: int
    free_pages: int
    total_pages: int
    swapped_out: int
    swapped_in: int
    ballooned_pages: int
    shared_pages: int
    saved_frames: int
    code_bytes_a_second: float


def program(number: int) -> str:
    """What a guest runs: pages that it writes and checks, in every other guest the same at first, and zeros."""
    seed = 1 if number % 2 else number
    return f"together checksum {1900 + 40 * number} 0 1 {3 + number % 3} {seed} 0 + zeros 900 0 1200"


def overcommit(minutes: float, folder: Path | None = None, guests: int = 10, seed: int = 1) -> Overcommitted:
    """Run so many guests for so long."""
    machine_mb = guests * SIZE_MB // 2 + guests * SVM_MONITOR_BYTES // (1 << 20)
    log = EventLog()
    seen: Counter[str] = Counter()

    def count(event: Event) -> None:
        if isinstance(event, (PageSwappedOut, PageSwappedIn)):
            seen[type(event).__name__] += 1
        elif isinstance(event, FreeStateChanged):
            seen[event.state] += 1

    log.listen(count)
    host = Host(machine_mb, swap_directory=folder, quantum_ns=QUANTUM_NS, log=log, seed=seed)
    vms = []
    for number in range(1, guests + 1):
        image = load("kernel-memory", memory_bytes=SIZE_MB << 20, append=f"hz={HZ} init={program(number)}")
        vms.append(host.power_on(f"vm{number}", image, MemoryConfig(SIZE_MB), ramdisk_bytes=DISK_BYTES))
        host.run_for(POWER_ON_NS)
    memory, high, steps, lowest = host.memory, 0, 0, host.memory.free_pages
    while host.now_ns < minutes * MINUTE_NS:
        host.run_for(10 * QUANTUM_NS)
        steps += 1
        high += memory.reclaimer.state == "high"
        lowest = min(lowest, memory.free_pages)
    memory.check()
    counts = memory.sharing.counts()
    seconds = host.now_ns / 1e9
    result = Overcommitted(
        virtual_s=seconds, configured_mb=guests * SIZE_MB, machine_mb=machine_mb,
        rounds=[vm.console.said.count(" ok") for vm in vms], wrong=sum(vm.console.said.count("wrong") for vm in vms),
        stopped=[vm.stopped for vm in vms if vm.stopped],
        states={state: seen[state] for state in ("high", "soft", "hard", "low")},
        high_percent=100 * high / steps, state_at_end=str(memory.reclaimer.state), lowest_free_pages=lowest,
        free_pages=memory.free_pages, total_pages=memory.total_pages, swapped_out=seen["PageSwappedOut"],
        swapped_in=seen["PageSwappedIn"], ballooned_pages=sum(vm.client.balloon.locked_pages for vm in vms),
        shared_pages=counts.shared_pages, saved_frames=counts.saved_frames,
        code_bytes_a_second=sum(vm.vm.cpu.executed_bytes for vm in vms) / guests / seconds,
    )  # fmt: skip
    host.close()
    return result
