"""Migrations as their events would be: runs of Clark et al. 2005, a writer that never rests, and some that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.events import Event
from vilab.migration.migration_events import (
    DirtySampled,
    HandedOver,
    MachineResumed,
    MachineStunned,
    MigrationBegan,
    MigrationEnded,
    RoundBegan,
    RoundSent,
    StateSent,
    WriterStunned,
)

MB = 1 << 20
MS = 1_000_000
SPECWEB_MB = (676.8, 126.7, 39.0, 28.4, 24.2, 16.7, 14.2, 15.3, 18.2)
"""Clark et al. 2005, figure 9."""
SPECWEB_MBIT = (100.1, 100.1, 100.1, 123.5, 154.6, 157.5, 183.0, 246.6, 724.4)
"""Figure 9 gives the first and the last; the others follow from its rule (dirtied in the round before, and 50)."""
QUAKE_MB = (56.3, 20.4, 4.6, 1.6, 1.2, 0.9, 1.2, 1.1, 0.8, 0.2, 0.1)
"""Figure 11."""
MUNCHER_MB = (255.4, 44.0, 116.0, 222.5)
"""Figure 12."""


def pages(megabytes: float) -> int:
    return max(1, round(megabytes * MB / 4096)) if megabytes else 0


class Teller:
    """Events one behind the other, with a clock."""

    def __init__(self, vm_mb: float, vm: str = "web1", source: str = "esx1", destination: str = "esx2",
                 rule: str = "clark", tracking: str = "traces") -> None:  # fmt: skip
        self.vm, self.source, self.destination = vm, source, destination
        self.now, self.began = 5_000 * MS, 5_000 * MS
        self.events: list[Event] = [MigrationBegan(self.now, vm, source, destination, pages(vm_mb), tracking, rule)]
        self.number, self.sent_bytes, self.down = 0, 0, 0
        self.left = pages(vm_mb)

    def begin(self, limit: int = 0) -> None:
        self.number += 1
        self.events.append(RoundBegan(self.now, self.vm, self.number, self.left, limit))

    def sample(self, after_ns: int, dirty: int, sent: int) -> None:
        self.now += after_ns
        self.events.append(DirtySampled(self.now, self.vm, self.number, dirty, sent))

    def round(self, sent_mb: float, mbit: float, dirtied_mb: float, stopped: bool = False, zero: int = 0,
              skipped: int = 0, limit: int = 0, begun: bool = False) -> None:  # fmt: skip
        if not begun:
            self.begin(limit)
        size = round(sent_mb * MB)
        took = round(size * 8 / (mbit * 1e6) * 1e9) if size else 0
        self.now += took
        self.left = pages(dirtied_mb)
        self.sent_bytes += size
        self.down += took if stopped else 0
        traces = 0 if stopped else self.left
        self.events.append(RoundSent(self.now, self.vm, self.number, pages(sent_mb), zero, skipped, size, took,
                                     self.left, traces, stopped))  # fmt: skip

    def stun(self, why: str) -> None:
        self.events.append(MachineStunned(self.now, self.vm, self.left, why))

    def move(self, resume_ns: int = 9 * MS, state_bytes: int = 48_000) -> list[Event]:
        self.events.append(StateSent(self.now, self.vm, state_bytes))
        self.events.append(HandedOver(self.now, self.vm))
        self.now += resume_ns
        self.down += resume_ns
        self.events.append(MachineResumed(self.now, self.vm, self.destination, self.down, True))
        return self.end(True, "")

    def back(self, after_ns: int, why: str) -> list[Event]:
        """It goes on at the source."""
        self.now += after_ns
        self.down += after_ns
        self.events.append(MachineResumed(self.now, self.vm, self.source, self.down, False))
        return self.end(False, why)

    def end(self, ok: bool, why: str) -> list[Event]:
        took = self.now - self.began
        self.events.append(MigrationEnded(self.now, self.vm, ok, why, self.sent_bytes, took, self.down))
        return self.events


def tell(sizes: Sequence[float], mbit: Sequence[float], vm_mb: float, why: str, **names: str) -> Teller:
    """Rounds of so many megabytes; each dirties what the next one sends. The last is sent with the machine stopped."""
    told = Teller(vm_mb, **names)
    for at, (size, rate) in enumerate(zip(sizes, mbit, strict=True)):
        last = at == len(sizes) - 1
        if last:
            told.stun(why)
        told.round(size, rate, 0 if last else sizes[at + 1], last, limit=0 if last else round(rate * 1e6 / 8))
    return told


def specweb() -> list[Event]:
    return tell(SPECWEB_MB, SPECWEB_MBIT, 800, "the rate needed, 344 Mbit/s, wins nothing: round 8 leaves more than it "
                "had").move()  # fmt: skip


def quake() -> list[Event]:
    mbit = [100, 100, 120, 105, 104, 103, 102, 101, 100, 100, 40]
    return tell(QUAKE_MB, mbit, 64, "26 pages are left, no more than 64", vm="quake").move(40 * MS)


def muncher() -> list[Event]:
    return tell(MUNCHER_MB, (200, 300, 500, 520), 512, "too little progress: round 3 had 29696 pages to send and "
                "leaves 56960", vm="muncher", rule="nelson").move()  # fmt: skip


def constant(rounds: int = 30, vm_mb: float = 256, hot_mb: float = 96) -> list[Event]:
    """A writer as fast as the link: every round leaves the same."""
    sizes = [vm_mb, *([hot_mb] * (rounds - 1))]
    return tell(sizes, [930] * rounds, vm_mb, f"{rounds - 1} rounds have not been enough", vm="writer").move(11 * MS)


def skipped() -> list[Event]:
    """A writer that is faster than the link: most of a round is written again before its turn."""
    told = Teller(8, vm="muncher", rule="downtime")
    told.round(0.5, 15, 1.2, zero=12)
    for _ in range(17):
        told.round(0.25, 14, 1.2, skipped=pages(0.95))
    told.stun("the goal of 20 ms is out of reach: 1251 pages are sent and 308 are left")
    told.round(1.2, 16, 0, True)
    return told.move(4 * MS)


def aborted() -> list[Event]:
    """The link is cut in the middle of round 3."""
    told = Teller(64, vm="db1")
    told.round(64, 900, 12)
    told.round(12, 900, 4)
    told.begin()
    told.sample(9 * MS, 210, 300)
    told.now += 4 * MS
    return told.end(False, "the connection between esx1 and esx2 was cut in round 3: the source goes on.")


def given_back() -> list[Event]:
    """The destination refuses when the machine stands still already."""
    told = Teller(64, vm="db1")
    told.round(64, 900, 6)
    told.round(6, 900, 0.5)
    told.stun("128 pages are left, no more than 256")
    told.round(0.5, 900, 0, True)
    return told.back(31 * MS, "esx2 has lost the datastore san1, which esx1 still reaches: look at the paths of esx2.")


def refused() -> list[Event]:
    """No round at all."""
    return Teller(64, vm="db1").end(False, "Host esx2 has no VMkernel port for VMotion, esx1 has vmk1: add one.")


def stunned_writers() -> list[Event]:
    """Clark's figure 7: writers are stopped from round 12 on."""
    counts = (12000, 5396, 3094, 3929, 3065, 3297, 3471, 3166, 4190, 2941, 1743, 4343, 421, 225, 73, 87)
    told = Teller(512, vm="build")
    for at, count in enumerate(counts):
        last = at == len(counts) - 1
        if last:
            told.stun("87 pages are left, no more than 256")
        if at == 11:
            told.begin()
            for process in range(3):
                told.now += MS
                told.events.append(WriterStunned(told.now, "build", told.number, 0x00A41000 + process * 4096, 40))
        dirtied = 0 if last else counts[at + 1] / 256
        told.round(count / 256, 600 + 10 * at, dirtied, last, begun=at == 11)
    return told.move()


def one_round(vm_mb: float = 16) -> list[Event]:
    """Stop and copy."""
    told = Teller(vm_mb, vm="tiny", rule="stop-and-copy")
    told.stun(f"all {pages(vm_mb)} pages are sent while the machine stands still")
    told.round(vm_mb, 940, 0, True)
    return told.move()


def small() -> list[Event]:
    """A guest of the lessons: 192 KB, three rounds."""
    sizes = (192 / 1024, 32 / 1024, 8 / 1024)
    return tell(sizes, (9.2, 9.1, 8.8), sizes[0], "2 pages are left, no more than 4", vm="ring").move(2 * MS, 3_400)


def large() -> list[Event]:
    """64 GB over 10 Gb/s, with hosts that have long names."""
    sizes = [65536, 9011, 2300, 812.4, 640.2, 655.5, 598.3]
    return tell(
        sizes, [9100, 9000, 8800, 8700, 8650, 8700, 9300], 65536, "too little progress: round 6 had 167808 pages "
        "to send and leaves 153164", vm="warehouse-db-01", source="esx-production-04.example.com",
        destination="esx-production-17.example.com",
    ).move(212 * MS)  # fmt: skip


def live(events: Sequence[Event] | None = None, rounds: int = 3) -> list[Event]:
    """A log in the middle of round ``rounds`` + 1."""
    told = Teller(800)
    for at in range(rounds):
        told.round(SPECWEB_MB[at], SPECWEB_MBIT[at], SPECWEB_MB[at + 1])
    told.begin()
    told.sample(800 * MS, 3000, 2900)
    return told.events


ALL: dict[str, Callable[[], list[Event]]] = {
    "specweb": specweb, "quake": quake, "muncher": muncher, "constant": constant, "aborted": aborted,
    "given_back": given_back, "refused": refused, "writers": stunned_writers, "one": one_round, "small": small,
    "large": large, "skipped": skipped, "live": live,
    "many": lambda: constant(100, 256, 20), "tiny": lambda: one_round(0.0156),
}  # fmt: skip
