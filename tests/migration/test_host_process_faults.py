"""Host processes are killed, put to sleep or cut off while a machine moves: one of them runs it in the end with all
that it had written, or it is off, it was said why, and it can be powered on elsewhere.

``VILAB_MIGRATION_KILLS``: how many random moments (default: a handful). A dead host's locks are free after 16 s.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.migration.cutting_proxy import Action, Direction, Proxy
from tests.migration.host_processes import HostProcess, Site, Terminal, refusal
from vilab.errors import AdminError

KILLS = int(os.environ.get("VILAB_MIGRATION_KILLS", "0"))
HANDFUL = ("cut", "corrupt", "cut", "corrupt", "destination dies", "cut", "source dies", "source sleeps")
KINDS = (
    "cut", "corrupt", "stall", "cut", "destination dies", "corrupt", "source dies", "source sleeps",
    "destination sleeps",
)  # fmt: skip
LOCKS_LIVE_S, SETTLE_S = 18.0, 60.0
NOTES, LAST_BYTES = 8, 2_000
MOST_LATER_S = 0.15

pytestmark = pytest.mark.timeout(120 + KILLS * 60)


class Journey:
    """A machine with notes on its disk, and two hosts."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.where = self.site.register("web", 2, memsize="8", vilab_image="kernel-disk", vilab_engine="svm")
        self.site.open()
        self.here, self.there = self.site.start("esx1"), self.site.start("esx2")
        self.notes: dict[str, str] = {}
        self.ends: Counter[str] = Counter()
        self.terminal = self.power_on(self.here)
        self.terminal.run("mkfs")
        with Proxy(self.there.address) as proxy:
            self.here.client.move("web", proxy.address)
        self.here, self.there = self.there, self.here
        self.terminal.host = self.here
        self.sizes = dict(proxy.passed)

    def power_on(self, host: HostProcess) -> Terminal:
        refused = self._power_on(host)
        assert not refused
        terminal = Terminal(host, "web", b"shell> ")
        terminal.until_prompt()
        return terminal

    def _power_on(self, host: HostProcess) -> str:
        """A dead host's locks are waited for. Why it could not be done for so long."""
        end_s, refused = time.monotonic() + SETTLE_S, "not tried"
        while refused and time.monotonic() < end_s:
            refused = self._try_to_power_on(host)
        return refused

    def _try_to_power_on(self, host: HostProcess) -> str:
        try:
            host.client.power_on(self.where)
        except AdminError as error:
            time.sleep(0.5)
            return str(error)
        return ""

    def write_note(self, number: int) -> None:
        name = f"note{number % NOTES}"
        assert "it is on the disk" in self.terminal.run(f"put {name} {number}")
        self.notes[name] = str(number)

    def attempt(self, number: int, kind: str, lot: random.Random) -> None:
        self.write_note(number)
        direction: Direction = "out" if lot.random() < 0.7 else "back"
        size = self.sizes[direction]
        byte = lot.randrange(size)
        if direction == "out" and lot.random() < 0.7:
            byte = size - 1 - lot.randrange(LAST_BYTES)
        later_s = lot.random() * MOST_LATER_S
        began_s, victim = time.monotonic(), self.there if kind.startswith("destination") else self.here
        said = self._move_with(kind, victim, direction, byte, later_s)
        dead = victim if kind.endswith("dies") else None
        if kind.endswith("sleeps"):
            self._wake_up_later(victim, self.here if victim is self.there else self.there)
        end = self._judge(said, dead, lot.random() < 0.5)
        self.ends[f"{kind}: {end}"] += 1
        took_s = time.monotonic() - began_s
        when = f" and {1000 * later_s:.0f} ms" if " " in kind else ""
        print(f"{number} {kind} at byte {byte} of {direction}{when}: {end} after {took_s:.1f} s. {said}")

    def _move_with(self, kind: str, victim: HostProcess, direction: Direction, byte: int, later_s: float) -> str:
        """What was said at its end."""
        number = signal.SIGKILL if kind.endswith("dies") else signal.SIGSTOP
        timer = threading.Timer(later_s, victim.signal, (number,))
        actions: dict[str, Action] = {"cut": "cut", "stall": "stall", "corrupt": "corrupt"}
        if kind == "source sleeps":
            self.here.client.patience_s = 2.0  # it will not answer
        with Proxy(self.there.address, direction, byte, actions.get(kind, timer.start)) as proxy:
            try:
                said = self.here.client.move("web", proxy.address)
            except AdminError as error:
                said = str(error)
            if kind not in actions:
                if not proxy.done:
                    timer.start()
                timer.join()
        if kind.startswith("source"):
            self.here.forget_client()
        return said

    def _wake_up_later(self, sleeper: HostProcess, other: HostProcess) -> None:
        """Meanwhile the other host has the machine: by itself, or because somebody powers it on there. Who sleeps in
        the middle of a change to the volume has reserved it: nobody can have the machine then before he wakes up."""
        until_s = time.monotonic() + LOCKS_LIVE_S
        if other.names() != {"web": ""}:
            refused = self._power_on(other)
            assert not refused or "reserved by another host" in refused
        time.sleep(max(0.0, until_s - time.monotonic()))
        sleeper.signal(signal.SIGCONT)

    def _judge(self, said: str, dead: HostProcess | None, at_once: bool) -> str:
        """``at_once``: a machine whose host has died is powered on elsewhere before that host is there again."""
        assert said
        alive = [host for host in (self.here, self.there) if host is not dead]
        runners = self._runners(alive)
        assert len(runners) <= 1, said
        end = "off" if not runners else "runs on" if runners[0] is self.here else "moved"
        if dead is not None and not runners and at_once:
            self.power_on(next(iter(alive)))
            runners = alive
        if dead is not None:
            dead.kill()
            fresh = self.site.start(dead.name)
            self.here, self.there = (fresh, self.there) if dead is self.here else (self.here, fresh)
        if not runners:
            self.here, self.there = self.there, self.here
            self.power_on(self.here)
        elif runners[0] is self.there:
            self.here, self.there = self.there, self.here
        assert self.here.names() == {"web": ""}
        self.terminal = Terminal(self.here, "web", b"shell> ")
        self.terminal.until_prompt()  # it may just be starting
        for name, text in self.notes.items():
            assert self.terminal.run(f"cat {name}") == f"{text}\n"
        assert "web" in refusal(self.there.client.power_on, self.where)
        return end

    def _runners(self, alive: Sequence[HostProcess]) -> list[HostProcess]:
        """Who runs it, when nobody has anything left to find out."""
        end_s = time.monotonic() + SETTLE_S
        while True:
            time.sleep(0.1)
            found = [host.names() for host in alive]
            if not any(why for names in found for why in names.values()) or time.monotonic() > end_s:
                return [host for host, names in zip(alive, found, strict=True) if names.get("web") == ""]


def test_in_the_end_one_process_runs_it(tmp_path: Path) -> None:
    lot = random.Random(f"processes {KILLS}")
    journey = Journey(tmp_path)
    try:
        kinds = [KINDS[number % len(KINDS)] for number in range(KILLS)] or HANDFUL
        for number, kind in enumerate(kinds, 1):
            journey.attempt(number, kind, lot)
    finally:
        print(dict(journey.ends), journey.sizes)
        journey.site.close()
