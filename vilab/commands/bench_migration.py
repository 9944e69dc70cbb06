"""What moving a machine costs: what ``vilab bench migration`` measures.

======================  ====================================================  ========================================
entry                   value                                                 baseline
======================  ====================================================  ========================================
throughput_64mb         MB a second of VMotion's first round between two      ``socket.sendall`` of as many bytes
throughput_512mb        host processes over loopback TCP, a guest of 64 MB    between two processes
                        or 512 MB that has filled it
idle_downtime_64mb      milliseconds that an idle guest stood still, by the   30, the limit
idle_downtime_512mb     wall's clock, in the same moves
tracking_traces         seconds of processor time for a guest's work while    the same work, and nobody tracks it
                        its writes are traced, begun anew every 100 ms
tracking_traces_bt      the same with shadow page tables, in binary           the same
                        translation
tracking_dirty_bits     and there by Dirty bits, which are read every 100 ms  the same
sent_zero               MB sent for a busy guest on a link of 100 Mbit/s,     ``raw`` pages
sent_delta              without pages of zeros; also as what has changed
shared_link_total       virtual milliseconds that a move takes over the       the same over a wire of its own
                        guests' wire of 100 Mbit/s
shared_link_reply       virtual microseconds within which 99 % of the         the same
                        answers of a guest on that wire come meanwhile
qemu_downtime           milliseconds that a stock Debian which writes all     QEMU's migration of the same kernel,
qemu_total              the time stood still; that the whole move took        initramfs and shell loop on this computer
======================  ====================================================  ========================================

``throughput`` has ``processor``: MB a second of the busier host's processor time, which says more than the wall's clock
on a computer that does other things, and ``ratios``, of each move. ``tracking`` has ``exits`` of both runs and the
dirty pages found. ``sent`` has ``page_mb``, of the pages as they are, and rounds and downtime in virtual time.
``shared_link`` has ``limited`` too, with a shaper at VMotion's port group; its lists are of a wire of its own, of the
shared one, and of the limited; ``before_us`` is the same 99 % before anything moves. It is the same in every run.
``qemu`` has rounds and MB of ours and of QEMU's, and the dirty pages a second of our first round (QEMU counts them once
a second, and is done by then). Where QEMU is not there, its entries have ``missing``, a sentence, and no baseline.
MODEL: the guest's loop is the same; what it writes in a second depends on how fast each of the two runs it.

Throughput and downtime are of the same moves: each a pair with the baseline, back and forth between the same processes.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec

from vilab.course import shared_link_runs
from vilab.course.shared_link_runs import NETWORKS, Beside, beside, percentile
from vilab.errors import AdminError
from vilab.guests import debian, debian_root
from vilab.migration import bench_qemu
from vilab.migration.bench_hosts import HostPair, Moved
from vilab.migration.bench_migration import PAGES, TRACKED, Tracked, sent, tracked
from vilab.migration.bench_socket import Receiver
from vilab.migration.page_stream import Kind
from vilab.vmm.bench_measure import Figure, paired

Entry = dict[str, Any]

DOWNTIME_LIMIT_MS = 30.0
IDLE = "writer {} 0 0 0 1000000"
"""Fills its pages, and then sleeps."""
MB = 1e6
DEBIAN_WORK = "while :; do cat /bin/busybox >/tmp/d; usleep 100000; done & echo at''work"
"""Two megabytes that are written anew, ten times a second."""
AT_WORK = b"atwork"


class Amount(msgspec.Struct, frozen=True):
    """How much is measured. ``divisor``: of the idle guests' sizes."""

    moves: int
    divisor: int
    pages: int
    reports: int
    pairs: int
    shared_pages: int


FULL, QUICK = Amount(9, 1, PAGES, 40, 7, shared_link_runs.PAGES), Amount(1, 20, 256, 1, 1, 300)
LEAST_MB = 16


class Move(msgspec.Struct, frozen=True):
    """One move of an idle guest, beside the baseline measured before or after it: bytes a second."""

    moved: Moved
    socket_rate: float


class Run:
    """One run of the benchmark: what more than one entry needs is measured once."""

    def __init__(self, amount: Amount) -> None:
        self.amount = amount
        self._moves_of = cache(self._idle_moves)
        self.debian_moves = cache(self._debian_moves)

    def idle_moves(self, guest_mb: int) -> list[Move]:
        return self._moves_of(max(LEAST_MB, guest_mb // self.amount.divisor & ~3))

    def _idle_moves(self, guest_mb: int) -> list[Move]:
        """The first one of a pair of processes, which loads modules and touches memory, is not counted."""
        found = []
        with tempfile.TemporaryDirectory(prefix="vilab-") as folder, HostPair(guest_mb, Path(folder)) as pair:
            pair.power_on(IDLE.format(pair.most_pages))
            receiver = Receiver(pair.most_pages << 12)
            try:
                for number in range(-2 if self.amount.moves > 1 else 0, self.amount.moves):
                    rate = receiver.rate() if number % 2 else 0.0
                    moved = pair.move()
                    rate = rate or receiver.rate()
                    if number >= 0:
                        found.append(Move(moved, rate))
            finally:
                receiver.close()
        return found

    def _debian_moves(self) -> tuple[list[Moved], list[bench_qemu.QemuMoved], str]:
        """Ours and QEMU's in turn; and why there are none of QEMU's."""
        missing = bench_qemu.missing()
        if missing:
            return [], [], missing
        moves, memory_mb, prompt = self.amount.pairs, debian.MEMORY_BYTES >> 20, debian_root.PROMPT
        ours, theirs = [], []
        with (
            tempfile.TemporaryDirectory(prefix="vilab-") as folder,
            tempfile.TemporaryDirectory(prefix="vilab-") as other,
            bench_qemu.QemuGuest(Path(other), memory_mb, "quiet", prompt, DEBIAN_WORK, AT_WORK) as guest,
            HostPair(memory_mb, Path(folder), debian.NAME, "quiet") as pair,
        ):
            pair.power_on(DEBIAN_WORK, AT_WORK, prompt)
            for number in range(-1 if moves > 1 else 0, moves):
                found, other_found = pair.move(), guest.move()
                if number >= 0:
                    ours.append(found)
                    theirs.append(other_found)
        return ours, theirs, ""


def _throughput(guest_mb: int, run: Run) -> Entry:
    moves = sorted(run.idle_moves(guest_mb), key=lambda m: m.moved.first_round_rate / m.socket_rate)
    middle = moves[len(moves) // 2]
    value, base = middle.moved.first_round_rate / MB, middle.socket_rate / MB
    return _entry(value, "MB/s", base, len(moves)) | {
        "processor": _digits(statistics.median(each.moved.processor_rate for each in moves) / MB),
        "ratios": [round(each.moved.first_round_rate / each.socket_rate, 3) for each in moves],
    }


def _idle_downtime(guest_mb: int, run: Run) -> Entry:
    times = sorted(each.moved.downtime_ms for each in run.idle_moves(guest_mb))
    found = _entry(statistics.median(times), "ms", DOWNTIME_LIMIT_MS, len(times))
    return found | {"least": _digits(times[0]), "most": _digits(times[-1])}


def _tracking(method: str, engine: str, run: Run) -> Entry:
    amount = run.amount
    last: dict[str | None, Tracked] = {}

    def seconds(how: str | None) -> float:
        last[how] = tracked(how, amount.reports, amount.pages, engine)
        return last[how].cpu_s

    figure = paired(lambda: seconds(method), lambda: seconds(None), "s", amount.pairs)
    entry: Entry = msgspec.to_builtins(figure)
    with_it, without = last[method], last[None]
    return entry | {
        "exits": with_it.all_exits, "exits_without": without.all_exits, "dirty_pages": with_it.dirty_pages,
        "rounds": with_it.rounds,
    }  # fmt: skip


def _sent(kind: Kind, run: Run) -> Entry:
    found, raw = sent(kind, run.amount.pages), sent("raw", run.amount.pages)
    return _entry(found.sent_bytes / MB, "MB", raw.sent_bytes / MB, 1) | {
        "page_mb": _digits(found.page_bytes / MB), "rounds": found.rounds, "rounds_raw": raw.rounds,
        "downtime_ms": found.downtime_ns / 1e6, "downtime_ms_raw": raw.downtime_ns / 1e6,
    }  # fmt: skip


def _shared_total(run: Run) -> Entry:
    own, shared, limited = _shared_runs(run)
    return _entry(shared.duration_ns / 1e6, "ms", own.duration_ns / 1e6, 1) | {
        "limited": _digits(limited.duration_ns / 1e6), "limit_percent": limited.limit_percent,
        "downtime_ms": [_digits(each.downtime_ns / 1e6) for each in (own, shared, limited)],
        "rounds": [each.rounds for each in (own, shared, limited)],
    }  # fmt: skip


def _shared_reply(run: Run) -> Entry:
    runs = _shared_runs(run)
    own, shared, limited = (percentile(each.replies_ns, 99) / 1e3 for each in runs)
    return _entry(shared, "µs", own, 1) | {
        "limited": _digits(limited), "limit_percent": runs[2].limit_percent,
        "median_us": [_digits(percentile(each.replies_ns, 50) / 1e3) for each in runs],
        "before_us": _digits(percentile(runs[1].quiet_ns, 99) / 1e3),
        "asked": [each.asked for each in runs], "lost": [each.lost for each in runs],
    }  # fmt: skip


def _shared_runs(run: Run) -> list[Beside]:
    """Own, shared, limited; each is done once."""
    return [beside(network, pages=run.amount.shared_pages) for network in NETWORKS]


def _qemu(ours_of: Callable[[Moved], float], theirs_of: Callable[[bench_qemu.QemuMoved], float], run: Run) -> Entry:
    ours, theirs, missing = run.debian_moves()
    if missing:
        return {"value": None, "unit": "ms", "baseline": None, "ratio": None, "median_of": 0, "missing": missing}
    value, base = statistics.median(map(ours_of, ours)), statistics.median(map(theirs_of, theirs))
    rounds = [each.rounds[0] for each in ours]
    return _entry(value, "ms", max(base, 0.5), len(ours)) | {
        "dirty_pages_per_s": round(statistics.median(r.dirtied_pages * 1e9 / r.duration_ns for r in rounds)),
        "rounds": [statistics.median(len(each.rounds) for each in ours), statistics.median(m.rounds for m in theirs)],
        "sent_mb": [
            _digits(statistics.median(each.ended.sent_bytes for each in ours) / MB),
            _digits(statistics.median(each.sent_bytes for each in theirs) / MB),
        ],
    }  # fmt: skip


def _entry(value: float, unit: str, baseline: float, median_of: int) -> Entry:
    value, baseline = _digits(value), _digits(baseline)
    entry: Entry = msgspec.to_builtins(Figure(value, unit, baseline, value / baseline, median_of))
    return entry


def _digits(value: float) -> float:
    return float(f"{value:.5g}")


ENTRIES: dict[str, Callable[[Run], Entry]] = {
    "throughput_64mb": partial(_throughput, 64),
    "throughput_512mb": partial(_throughput, 512),
    "idle_downtime_64mb": partial(_idle_downtime, 64),
    "idle_downtime_512mb": partial(_idle_downtime, 512),
    **{f"tracking_{name}": partial(_tracking, *how) for name, how in TRACKED.items()},
    "sent_zero": partial(_sent, "zero"),
    "sent_delta": partial(_sent, "delta"),
    "shared_link_total": _shared_total,
    "shared_link_reply": _shared_reply,
    "qemu_downtime": partial(_qemu, lambda moved: moved.downtime_ms, lambda moved: moved.downtime_ms),
    "qemu_total": partial(_qemu, lambda moved: moved.total_ms, lambda moved: moved.total_ms),
}
"""In the order of the output."""


def bench_migration(quick: bool = False, only: Sequence[str] = ()) -> dict[str, Entry]:
    """Measure everything, or what ``only`` names.

    Parameters
    ----------
    quick : as little work as shows that it works; the figures mean nothing.

    Returns entry -> value, unit, baseline, ratio, median_of, and what else an entry has.
    """
    unknown = [name for name in only if name not in ENTRIES]
    if unknown:
        raise AdminError(f"There is no entry {unknown[0]!r} in migration; there are {', '.join(ENTRIES)}.")
    run = Run(QUICK if quick else FULL)
    return {name: measure(run) for name, measure in ENTRIES.items() if name in (only or ENTRIES)}
