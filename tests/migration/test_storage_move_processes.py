"""Host processes die by SIGKILL in the middle of a Storage VMotion, and while that is cleared up after: another one
powers the machine on, from one good folder, with every record that its guest had said was on the disk.

``VILAB_STORAGE_KILLS``: how many moments (default: a handful), half of them near the switch. Every fifth is of a disk
of another kind, and every fifth of a machine between a VMFS volume and a folder, where a dead host's locks are waited
for.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.migration.host_processes import SECRET, HostProcess
from tests.migration.storage_moves import METHODS
from tests.migration.storage_processes import NAMES, Mover, Records, Site, judge
from vilab.errors import AdminError
from vilab.migration.agent_client import AgentClient

KILLS = int(os.environ.get("VILAB_STORAGE_KILLS", "0"))
HANDFUL = 3
SETTLE_S = 60.0
CLEAN_UP_S, DEAD_S = 0.2, 8.0
MOST_SLICE_NS = 600_000
BATCH = 200

pytestmark = pytest.mark.timeout(120 + KILLS * 40)


class Journey:
    """A machine that is moved to and fro between two datastores, by hosts that die."""

    def __init__(self, folder: Path, lot: random.Random, kind: str, san: bool = False) -> None:
        self.site, self.lot = Site(folder, kind=kind, san=san), lot
        self.ends: Counter[str] = Counter()
        self.number, self.clean_up_s = 0, DEAD_S if san else CLEAN_UP_S
        self.at = "ds1"
        self.here, self.there = self.start(), self.start()
        self.here.client.power_on("[ds1] web/web.vmx")
        self.records = Records(self.here)
        self.records.terminal.run("mkfs")

    def start(self) -> HostProcess:
        self.number += 1
        return self.site.start(f"esx{self.number}")

    def attempt(self, number: int) -> None:
        lot = self.lot
        method, to = METHODS[number // 2 % 2], self.other(self.at)
        near, twice = number % 2 == 1, number % 3 == 2
        self.records.type(BATCH - (self.records.typed - self.records.on_disk))
        mover = Mover(self.here, to, method)
        on_disk = self._wait(mover, to, near)
        self.here.kill()
        mover.join(30)
        phase = self._phase(to)
        first, second = lot.sample(NAMES, 2)
        if twice:
            phase += f", then {self._kill_again(first)}"
        refused = self._power_on(first, second)
        fresh = self.start()
        count = judge(self.site, self.at, on_disk, self.records.typed)
        end = f"{'new' if self.at == to else 'old'} folder"
        print(f"{number} {method} to {to}, killed when {phase}: {end}, {on_disk}..{count} records. {refused}")
        self.ends[f"{method}, {phase}: {end}"] += 1
        self.here, self.there = self.there, fresh
        self.records = Records(self.here, count)

    def other(self, datastore: str) -> str:
        return NAMES[1 - NAMES.index(datastore)]

    def _wait(self, mover: Mover, to: str, near: bool) -> int:
        """Until the moment. How many records are on the disk, as far as was said."""
        site, part = self.site, 0.95 if near else self.lot.random() ** 2
        on_disk, look_s = self.records.on_disk, 0.0
        while mover.is_alive() and site.copied(to) < part:
            if time.monotonic() > look_s:
                on_disk, look_s = self.records.on_disk, time.monotonic() + 0.05
        if near:
            moments: Sequence[Callable[[], bool]] = (
                lambda: site.has(self.at, "web.vmx.switching"),
                lambda: site.has(to, "web.vmx"),
                lambda: not site.has(self.at, "web.vmx"),
                lambda: not site.has(self.at, "web.vmdk"),
            )
            moment = self.lot.choice(moments)
            slices(self.here, self.lot, lambda: moment() or not mover.is_alive())
        return on_disk

    def _phase(self, to: str) -> str:
        """By what the dead host has left."""
        old, new = self.site.names(self.at), self.site.names(to)
        record = next((each for each in ("copying", "switching", "staying") if f"web.vmx.{each}" in old), "")
        if record != "switching":
            return record or ("nothing was done" if "web.vmx" in old else "all was done")
        if "web.vmx.moving" in new:
            return "switching"
        return "switched" if "web.vmx" in old else "clearing"

    def _kill_again(self, first: str) -> str:
        """The next host dies, too, while it powers the machine on, and another one takes its place."""
        host, names = self.there, self.site.names
        before = [names(name) for name in NAMES]
        asked = PowerOn(host, first)
        if self.lot.random() < 0.7:
            slices(host, self.lot, lambda: not asked.is_alive() or [names(name) for name in NAMES] != before)
            few = iter(range(self.lot.randrange(10)))
            slices(host, self.lot, lambda: next(few, None) is None)
        else:
            asked.join(self.lot.random() * self.clean_up_s)
        host.kill()
        asked.join(30)
        self.there = self.start()
        if asked.said or asked.refused.startswith("["):
            return "powered on" if asked.said else "refused"
        return "cleared up after" if [names(name) for name in NAMES] != before else "looked at"

    def _power_on(self, first: str, second: str) -> str:
        """By the host that is left; a dead host's locks are waited for. What was refused meanwhile."""
        end_s, sentences = time.monotonic() + SETTLE_S, list[str]()
        while True:
            for datastore in (first, second):
                try:
                    self.there.client.power_on(f"[{datastore}] web/web.vmx")
                except AdminError as error:
                    sentences.append(str(error))
                else:
                    self.at = datastore
                    return " ".join(dict.fromkeys(sentences))
            assert time.monotonic() < end_s, sentences[-2:]
            time.sleep(0.5)


class PowerOn(threading.Thread):
    """Asks for a machine to be powered on. ``said``, or ``refused``, also if its host has died."""

    def __init__(self, host: HostProcess, datastore: str) -> None:
        super().__init__()
        self._client, self._where = AgentClient(host.address, SECRET), f"[{datastore}] web/web.vmx"
        self.said = self.refused = ""
        self.start()

    def run(self) -> None:
        try:
            self.said = self._client.power_on(self._where)
        except AdminError as error:
            self.refused = str(error)
        self._client.close()


def slices(host: HostProcess, lot: random.Random, there: Callable[[], bool]) -> None:
    """Let it run for less than a millisecond again and again, until it has come to that; it stands still then."""
    host.signal(signal.SIGSTOP)
    while not there():
        host.signal(signal.SIGCONT)
        until_ns = time.perf_counter_ns() + lot.randrange(MOST_SLICE_NS)
        while time.perf_counter_ns() < until_ns:
            pass
        host.signal(signal.SIGSTOP)


def travel(folder: Path, kills: int, kind: str, san: bool = False) -> Counter[str]:
    folder.mkdir()
    journey = Journey(folder, random.Random(f"{kind} {san} {kills}"), kind, san)
    try:
        for number in range(kills):
            journey.attempt(number)
    finally:
        for end, count in sorted(journey.ends.items()):
            print(f"{count:4} {end}")
        journey.site.close()
    return journey.ends


def test_one_good_folder_after_a_kill_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    kills = KILLS * 4 // 5 or HANDFUL
    ends = travel(tmp_path / "flat", kills - KILLS // 5, "vmfs")
    if KILLS:
        ends += travel(tmp_path / "sparse", KILLS // 5, "monolithicSparse")
    assert ends.total() == kills


def test_the_same_between_a_volume_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    kills = KILLS // 5 or 1
    assert travel(tmp_path / "san", kills, "vmfs", san=True).total() == kills
