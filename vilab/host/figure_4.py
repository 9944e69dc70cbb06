"""Figure 4 of the paper with a stock Linux: clones of one booted Debian, and what they can share.

::

    boot once ──snapshot──> clone 1, clone 2, ... clone N       each then works for itself
                                                 scan everything: real hashes over real pages

Each clone is typed commands of its own, which write pages of its own. What the search for equal pages finds is counted
in pages that guests have touched; every guest's memory is compared before and after. Waldspurger 2002, section 4.6.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.errors import VmmBug
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm, Snapshot
from vilab.memory.client import MemoryConfig
from vilab.memory.page_state import PageState
from vilab.memory.scanner import Rate, ScanLimits
from vilab.vmm.choices import usual_for
from vilab.vmm.runner import RunOptions, choose

SIZE_MB = 64
STEP_NS, MOST_S = 1_000_000_000, 120
FILES = 6
SCANS = 2
"""Once for hints, once to find what was hinted."""
NO_SCAN = ScanLimits(vm=Rate(0))


class SharedAmong(msgspec.Struct, frozen=True):
    """``touched_pages``: of all guests; parts of them in percent."""

    guests: int
    touched_pages: int
    shared_percent: float
    reclaimed_percent: float
    zero_pages: int


def booted(host: Host, image: str = "debian") -> HostedVm:
    """A guest at its prompt. Raises ``AdminError`` where the Debian guest was not fetched."""
    chosen = choose(RunOptions(image, "svm", SIZE_MB << 20))
    vm = host.power_on("original", chosen.image, MemoryConfig(SIZE_MB), engine_options=usual_for("linux", "svm", {}))
    for _ in range(MOST_S):
        host.run_for(STEP_NS)
        if chosen.prompt and chosen.prompt.decode() in vm.console.said:
            return vm
    raise VmmBug(f"The guest has not come to its prompt: {vm.console.said[-200:]}")


def work(number: int) -> str:
    """What a clone is told to do: a program that all have at hand, and files that nobody else has.

    The files are the shell's own, shifted by another number of bytes each: no page is equal to another's.
    """
    return (
        f"mount -t tmpfs none /tmp; i=1; while [ $i -le {FILES} ]; do tail -c +$(({FILES} * {number} + i)) /bin/busybox"
        f" >/tmp/$i; i=$((i+1)); done; ls -lR /bin | md5sum; echo done''{number}"
    )


def shared_among(snapshot: Snapshot, guests: int) -> SharedAmong:
    """So many clones that do their work, and what they share then."""
    host = Host(guests * (SIZE_MB + 8) + 64, quantum_ns=20_000_000)
    host.memory.scanner.limits = NO_SCAN
    vms = []
    for number in range(guests):
        vms.append(host.resume(snapshot, f"clone{number}"))
        vms[-1].console.type(work(number))
    try:
        while not all(f"done{number}" in vm.console.said for number, vm in enumerate(vms)):
            host.run_for(STEP_NS // 10)
            if host.now_ns > MOST_S * STEP_NS or any(vm.stopped for vm in vms):
                raise VmmBug(f"A clone has not done its work: {vms[0].console.said[-200:]}")
        before = [vm.client.pmap.content() for vm in vms]
        for _ in range(SCANS):
            host.memory.scanner.scan_all()
        host.memory.check()
        if [vm.client.pmap.content() for vm in vms] != before:
            raise VmmBug("A guest's memory has changed by being shared.")
        counts = host.memory.sharing.counts()
        touched = sum(vm.client.pmap.count(PageState.PRIVATE) + vm.client.pmap.count(PageState.SHARED) for vm in vms)
        return SharedAmong(
            guests, touched, 100 * counts.shared_pages / touched, 100 * counts.saved_frames / touched,
            counts.zero_pages,
        )  # fmt: skip
    finally:
        host.close()


def figure_4(numbers: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)) -> list[SharedAmong]:
    """The whole curve."""
    host = Host(SIZE_MB + 32, quantum_ns=100_000_000)
    try:
        snapshot = booted(host).snapshot()
    finally:
        host.close()
    return [shared_among(snapshot, number) for number in numbers]
