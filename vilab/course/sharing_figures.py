"""Figure 4 of Waldspurger 2002, measured: how much of N equal guests is shared, and how much is saved.

::

    every guest: the same booted kernel and the same 700 blocks of files in its cache (cloned from one snapshot),
                 and 400 pages that its program fills with words of its own (another seed in each)

    shared     pages on shared frames / pages touched          -> C / T
    reclaimed  pages that need no frame of their own / touched  -> (N - 1) / N * C / T, and the zero pages

In the paper: Red Hat 7.2, 40 MB each, SPEC95. MODEL: the workload here was chosen so that about two thirds are common,
as was measured there; what is to be seen is how the curves come to their limits. Percentages are of the pages that
the guests have touched: the paper's guests had touched all of theirs.
"""

from __future__ import annotations

import msgspec

from vilab.course.memory_runs import new_host, power_on, run_until_said
from vilab.host.host import Host
from vilab.host.hosted_vm import Snapshot

GUEST_MB, CACHED, OWN = 16, 700, 400
SCANS = 2
"""Every page is looked at twice: once for hints, once to find them."""

PAPER_SHARED = (17, 61, 65, 66, 67, 67, 66, 67, 67, 67)
PAPER_RECLAIMED = (13, 37, 46, 51, 54, 56, 57, 58, 59, 60)
"""Percent, for 1 to 10 guests; read from the figure."""


class Point(msgspec.Struct, frozen=True):
    """Pages of all guests together. ``wrong``: what the guests said about their own memory."""

    guests: int
    touched: int
    shared: int
    saved: int
    zero: int
    frames: int
    wrong: int

    @property
    def shared_percent(self) -> float:
        return 100 * self.shared / self.touched

    @property
    def saved_percent(self) -> float:
        return 100 * self.saved / self.touched


class Clones:
    """A host to which one clone after another is added; every point is measured once and kept."""

    def __init__(self, most: int = 10) -> None:
        self.most = most
        self.points: list[Point] = []
        self._host: Host | None = None
        self._snapshot: Snapshot | None = None

    def point(self, guests: int) -> Point:
        """With so many guests."""
        while len(self.points) < guests:
            self._add()
        return self.points[guests - 1]

    def _add(self) -> None:
        name = f"vm{len(self.points) + 1}"
        if self._host is None:
            self._host = new_host(16 + self.most * (8 + 6))
            power_on(self._host, name, GUEST_MB, f"filecache 2000 {CACHED} 1")
            run_until_said(self._host, name, "ticks of")
            self._snapshot = self._host.vms[name].snapshot()
        else:
            assert self._snapshot is not None
            self._host.resume(self._snapshot, name)
        host = self._host
        host.vms[name].console.type(f"checksum {OWN} 0 16 10 {len(self.points) + 1}")
        run_until_said(host, name, "round 1")
        for _ in range(SCANS):
            host.memory.scanner.scan_all()
        self.points.append(self._measure(host))

    def _measure(self, host: Host) -> Point:
        counts = host.memory.sharing.counts()
        pmaps = [vm.client.pmap for vm in host.vms.values()]
        touched = sum(int((pmap.states != 0).sum()) for pmap in pmaps)
        wrong = sum(vm.console.said.count("wrong words") for vm in host.vms.values())
        used = touched - counts.saved_frames
        return Point(len(pmaps), touched, counts.shared_pages, counts.saved_frames, counts.zero_pages, used, wrong)
