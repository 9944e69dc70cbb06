"""Host processes are killed, put to sleep or cut off while a machine moves: one of them runs it in the end with all
that it had written, or it is off, it was said why, and it can be powered on elsewhere.

``VILAB_MIGRATION_KILLS``: how many random moments (default: a handful). A dead host's locks are free after 16 s.
"""

from __future__ import annotations

import os
import random
import signal
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
LOCKS_LIVE_S, SETTLE_S = 18.0, 120.0
NOTES, LAST_BYTES = 8, 9_000

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
        """A dead host's locks are waited for."""
        end_s, refused = time.monotonic() + SETTLE_S, "not tried"
        while refused:
            assert time.monotonic() < end_s, refused
            refused = self._try_to_power_on(host)
        terminal = Terminal(host, "web", b"shell> ")
        terminal.until_prompt()
        return terminal

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
        direction: Direction = "out" if lot.random() < 0.6 else "back"
        size = self.sizes[direction]
        byte = lot.randrange(size)
        if direction == "out" and lot.random() < 0.6:
            byte = size - 1 - lot.randrange(LAST_BYTES)
        began_s, victim = time.monotonic(), self.there if kind.startswith("destination") else self.here
        said = self._move_with(kind, victim, direction, byte)
        dead = victim if kind.endswith("dies") and victim.process.poll() is not None else None
        if kind == "source sleeps" and "stopped" in said:
            self._wake_up_later(victim)
        elif kind == "destination sleeps":
            time.sleep(max(0.0, LOCKS_LIVE_S - (time.monotonic() - began_s)))
            victim.signal(signal.SIGCONT)
        end = self._judge(said, dead)
        self.ends[f"{kind}: {end}"] += 1
        print(f"{number} {kind} at byte {byte} of {direction}: {end} after {time.monotonic() - began_s:.1f} s. {said}")

    def _move_with(self, kind: str, victim: HostProcess, direction: Direction, byte: int) -> str:
        """What was said at its end."""
        actions: dict[str, Action] = {"cut": "cut", "stall": "stall", "corrupt": "corrupt"}
        if kind.endswith("dies"):
            actions[kind] = victim.process.kill
        elif kind.endswith("sleeps"):
            actions[kind] = lambda: victim.signal(signal.SIGSTOP)
        if kind == "source sleeps":
            self.here.client.patience_s = 2.0  # it will not answer
        with Proxy(self.there.address, direction, byte, actions[kind]) as proxy:
            try:
                said = self.here.client.move("web", proxy.address)
            except AdminError as error:
                said = str(error)
                if kind == "source sleeps" and proxy.done:
                    said = f"stopped: {said}"
            if kind.endswith("dies") and proxy.done:
                victim.process.wait(20)
        if kind.startswith("source"):
            self.here.forget_client()
        return said

    def _wake_up_later(self, sleeper: HostProcess) -> None:
        """Meanwhile the other host has the machine: by itself, or because somebody powers it on there."""
        time.sleep(LOCKS_LIVE_S)
        if self.there.names() != {"web": ""}:
            self.power_on(self.there)
        sleeper.signal(signal.SIGCONT)

    def _judge(self, said: str, dead: HostProcess | None) -> str:
        assert said
        alive = [host for host in (self.here, self.there) if host is not dead]
        runners = self._runners(alive)
        assert len(runners) <= 1, said
        end = "off" if not runners else "runs on" if runners[0] is self.here else "moved"
        if dead is not None:
            dead.kill()
            fresh = self.site.start(dead.name)
            self.here, self.there = (fresh, self.there) if dead is self.here else (self.here, fresh)
        if not runners:
            self.here, self.there = (self.there, self.here) if dead is not self.there else (self.here, self.there)
            self.terminal = self.power_on(self.here)
        elif runners[0] is self.there:
            self.here, self.there = self.there, self.here
        assert self.here.names() == {"web": ""}
        self.terminal = Terminal(self.here, "web", b"shell> ")
        self.terminal.read()
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
    lot = random.Random("processes")
    journey = Journey(tmp_path)
    try:
        kinds = [KINDS[number % len(KINDS)] for number in range(KILLS)] or HANDFUL
        for number, kind in enumerate(kinds, 1):
            journey.attempt(number, kind, lot)
    finally:
        print(dict(journey.ends), journey.sizes)
        journey.site.close()
