"""Which pages a machine writes, and when: a trace, to try a rule on in milliseconds.

::

    ppn      x   x     x        x   x    x      cold: another page each time
     ▲     x       x      x   x        x
     │   ············································   hot: the same pages over and over
     └──────────────────────────────────────────► time

    workload          here                 in the paper (Clark et al. 2005)
    idle              32 MB                not in it: a machine that only keeps time
    quake             64 MB                64 MB, Quake 3 with 6 players
    static-web        50 MB                800 MB, Apache, one file of 512 KB, 100 clients
    specweb           50 MB                800 MB, SPECweb99, 350 connections
    constant-writer   32 MB                512 MB, MMuncher: 256 MB written all the time
    kernel-compile    32 MB                512 MB, a Linux kernel is built

A trace that is ``divisor`` times smaller than the paper's machine, over a link that is as many times slower, takes the
paper's time: ``Trace.scaled`` gives that rate. A trace repeats when it is over.

MODEL: a workload is a few parts, each some pages that are written at random (Poisson), at one rate a page. Sizes and
rates were fitted to the bytes a round of Clark's figures 9, 11 and 12, sent by Clark's rule with peeking; what cannot
be read from a figure (an idle machine, the compile's time a round, the static server's later rounds) was chosen for its
shape. Real guests have phases and bursts, a trace has none: its rounds only shrink, the paper's waver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from vilab.errors import AdminError

PAGES_A_MB = 256
SECOND_NS = 1_000_000_000

Times = NDArray[np.int64]
Pages = NDArray[np.int32]
Writers = NDArray[np.int16]


class Writes(msgspec.Struct, frozen=True, eq=False):
    """Stores in order of time: ``ppns[i]`` was written at ``times_ns[i]`` by process ``writers[i]`` (0: the kernel)."""

    times_ns: Times
    ppns: Pages
    writers: Writers

    def __len__(self) -> int:
        return len(self.times_ns)

    def only(self, keep: NDArray[np.bool_]) -> Writes:
        return Writes(self.times_ns[keep], self.ppns[keep], self.writers[keep])


class Trace(msgspec.Struct, frozen=True, eq=False):
    """What a machine of ``pages`` pages writes in ``duration_ns``; after that, the same again.

    ``divisor``: so many times larger was the paper's machine. ``fitted_to``: in a sentence. ``AdminError`` for writes
    out of order, outside of the machine's memory or of the duration.
    """

    name: str
    pages: int
    duration_ns: int
    writes: Writes
    divisor: int = 1
    fitted_to: str = ""

    def __post_init__(self) -> None:
        w = self.writes
        if self.pages <= 0 or self.duration_ns <= 0:
            size = f"{self.pages} pages and {self.duration_ns} ns"
            raise AdminError(f"The trace {self.name} has {size}: give more than 0 of both.")
        if not len(w.times_ns) == len(w.ppns) == len(w.writers):
            raise AdminError(f"The trace {self.name} does not say for every write when, where and by whom it was.")
        if not len(w):
            return
        if w.ppns.min() < 0 or w.ppns.max() >= self.pages:
            raise AdminError(f"The trace {self.name} writes outside of the {self.pages} pages of its machine.")
        if w.times_ns[0] < 0 or w.times_ns[-1] >= self.duration_ns or (np.diff(w.times_ns) < 0).any():
            raise AdminError(f"The writes of the trace {self.name} are not in order, or not within its duration.")

    def scaled(self, bytes_per_s: int) -> int:
        """The paper's rate for a machine of this size. Bytes a second."""
        return max(1, bytes_per_s // self.divisor)

    def between(self, start_ns: int, end_ns: int) -> Writes:
        """The writes of ``[start_ns, end_ns)``."""
        w, parts = self.writes, []
        for turn in range(start_ns // self.duration_ns, -(-end_ns // self.duration_ns)):
            offset = turn * self.duration_ns
            low, high = np.searchsorted(w.times_ns, (start_ns - offset, end_ns - offset))
            parts.append((w.times_ns[low:high] + offset, w.ppns[low:high], w.writers[low:high]))
        if len(parts) == 1:
            return Writes(*parts[0])
        empty = (w.times_ns[:0], w.ppns[:0], w.writers[:0])
        times, ppns, writers = zip(*parts, strict=True) if parts else ((each,) for each in empty)
        return Writes(np.concatenate(times), np.concatenate(ppns), np.concatenate(writers))


class Part(msgspec.Struct, frozen=True):
    """``pages`` pages, each written ``per_page_hz`` times a second by ``writer``.

    ``run_pages``: so many lie side by side, as dirty pages do. ``sweep``: one page after the other, at an even pace.
    """

    pages: int
    per_page_hz: float
    writer: int = 0
    run_pages: int = 8
    sweep: bool = False


def synthetic(
    name: str, pages: int, parts: Sequence[Part], duration_ns: int, seed: int, *, divisor: int = 1, fitted_to: str = ""
) -> Trace:  # fmt: skip
    """A trace made of parts, which share no pages. The same seed gives the same trace.

    ``AdminError`` if the parts need more pages than the machine has.
    """
    wanted = sum(part.pages for part in parts)
    if wanted > pages:
        raise AdminError(f"The parts of the trace {name} have {wanted} pages, its machine only {pages}.")
    random = np.random.Generator(np.random.PCG64(seed))
    free = np.ones(pages, dtype=np.bool_)
    pieces = [_writes_of(part, _place(part, free, random), duration_ns, random) for part in parts]
    times = np.concatenate([np.empty(0, np.int64), *(each.times_ns for each in pieces)])
    ppns = np.concatenate([np.empty(0, np.int32), *(each.ppns for each in pieces)])
    writers = np.concatenate([np.empty(0, np.int16), *(each.writers for each in pieces)])
    order = np.argsort(times, kind="stable")
    writes = Writes(times[order], ppns[order], writers[order])
    for each in (writes.times_ns, writes.ppns, writes.writers):
        each.setflags(write=False)
    return Trace(name, pages, duration_ns, writes, divisor, fitted_to)


def _place(part: Part, free: NDArray[np.bool_], random: np.random.Generator) -> Pages:
    """Where the part lies: in runs, at random. Takes its pages out of ``free``."""
    run = max(1, part.run_pages)
    starts = random.permutation(-(-len(free) // run)) * run
    candidates = (starts[:, None] + np.arange(run)).ravel()
    candidates = candidates[candidates < len(free)]
    chosen = candidates[free[candidates]][: part.pages]
    free[chosen] = False
    return np.asarray(chosen, np.int32)


def _writes_of(part: Part, ppns: Pages, duration_ns: int, random: np.random.Generator) -> Writes:
    expected = part.pages * part.per_page_hz * duration_ns / SECOND_NS
    if part.sweep:
        count = int(expected)
        times = np.arange(count, dtype=np.int64) * duration_ns // max(1, count)
        where = np.sort(ppns)[np.arange(count) % max(1, len(ppns))]
    else:
        count = int(random.poisson(expected))
        times = random.integers(0, duration_ns, count, dtype=np.int64)
        where = ppns[random.integers(0, max(1, len(ppns)), count)]
    return Writes(times, where.astype(np.int32), np.full(count, part.writer, np.int16))


def idle(seed: int = 1) -> Trace:
    """Timer, logs, a daemon that wakes: 40 pages, and a few others now and then."""
    parts = (Part(40, 10.0), Part(400, 0.005))
    why = "a second round below 5 % of the machine; the paper has no idle machine"
    return synthetic("idle", 32 * PAGES_A_MB, parts, 30 * SECOND_NS, seed, divisor=16, fitted_to=why)


def quake(seed: int = 1) -> Trace:
    """A small set that each frame of the game writes, and a slow walk through the rest."""
    parts = (Part(162, 17.3), Part(876, 0.37), Part(12_800, 0.079))
    why = "Clark's figure 11: 56.3, 20.4, 4.6, 1.6, 1.2, 0.9, 1.2, 1.1, 0.8, 0.2, 0.1 MB, and 60 ms of downtime"
    return synthetic("quake", 64 * PAGES_A_MB, parts, 15 * SECOND_NS, seed, fitted_to=why)


def static_web(seed: int = 1) -> Trace:
    """Reading a file makes nothing dirty, sending it does: buffers and the stack of the network, and some logs."""
    parts = (Part(225, 20.0), Part(5_000, 0.0016))
    why = "Clark's figure 8: 776 MB in the first round, 9.8 s for all others, 165 ms of downtime"
    return synthetic("static-web", 50 * PAGES_A_MB, parts, 80 * SECOND_NS, seed, divisor=16, fitted_to=why)


def specweb(seed: int = 1) -> Trace:
    """A set that every request writes, one that some write, and a walk through the rest."""
    parts = (Part(391, 5.8, writer=1), Part(434, 0.68, writer=2), Part(10_540, 0.0038))
    why = "Clark's figure 9: 676.8, 126.7, 39.0, 28.4, 24.2, 16.7, 14.2, 15.3, 18.2 MB, and 210 ms of downtime"
    return synthetic("specweb", 50 * PAGES_A_MB, parts, 80 * SECOND_NS, seed, divisor=16, fitted_to=why)


WRITER_SWEEP_S = 2.2


def constant_writer(seed: int = 1) -> Trace:
    """Half of the memory from end to end, once in 2.2 s: faster than the link that it was moved over."""
    parts = (Part(16 * PAGES_A_MB, 1 / WRITER_SWEEP_S, writer=1, run_pages=16 * PAGES_A_MB, sweep=True),)
    why = "Clark's figure 12: 255.4, 44.0, 116.0, 222.5 MB, and 3.5 s of downtime"
    return synthetic("constant-writer", 32 * PAGES_A_MB, parts, 22 * SECOND_NS, seed, divisor=16, fitted_to=why)


def kernel_compile(seed: int = 1) -> Trace:
    """Four compilers that write much, and a kernel that writes little."""
    hot = tuple(Part(60, 20.0, writer=n) for n in (1, 2, 3, 4))
    cold = tuple(Part(400, 0.02, writer=n) for n in (1, 2, 3, 4))
    parts = (*hot, *cold, Part(6, 3.0), Part(100, 0.02))
    why = "Clark's figure 7: about 3300 pages a round, 421, 225, 73, 87 after its writers were stunned"
    return synthetic("kernel-compile", 32 * PAGES_A_MB, parts, 60 * SECOND_NS, seed, divisor=16, fitted_to=why)


WORKLOADS: dict[str, Callable[[int], Trace]] = {
    "idle": idle,
    "quake": quake,
    "static-web": static_web,
    "specweb": specweb,
    "constant-writer": constant_writer,
    "kernel-compile": kernel_compile,
}
"""By name, in the order of the table above."""


@lru_cache(maxsize=16)
def workload(name: str, seed: int = 1) -> Trace:
    """A trace by name, made once. ``AdminError`` for a name that is not known."""
    if name not in WORKLOADS:
        raise AdminError(f"There is no workload {name!r}; there are: {', '.join(WORKLOADS)}.")
    return WORKLOADS[name](seed)
