"""Whatever happens on the way, at whatever moment: in the end one host runs the machine, or it is off and it is said
why; its files have one owner, and what it had written is there.

``VILAB_MIGRATION_FAULTS``: how many random moments (default: some of each kind).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.storage_helpers import to_prompt, type_line
from tests.migration.two_hosts import TwoHosts
from vilab.errors import AdminError
from vilab.host.host import Host, run_together
from vilab.host.registered import power_on_file
from vilab.host.storage_time import pass_time
from vilab.migration.agent_link import LinkEnd
from vilab.migration.vmotion import Migration
from vilab.protocols import ReadableBytes
from vilab.storage.luns.fc_hba import HostBusAdapter
from vilab.vmm.vm import QuietConsole

FAULTS = int(os.environ.get("VILAB_MIGRATION_FAULTS", "0"))
SECOND = 1_000_000_000
WEB = "[san1] web/web.vmx"
AWAY = {"source's paths": (0,), "destination's paths": (1,), "all paths": (0, 1)}
"""To the datastore: they are gone, and there again before any heartbeat is overdue."""
AWAY_NS = 8 * SECOND
KINDS = ("cut", "stall", "corrupt", "drop", "truncate", "repeat", "destination dies", "source dies", *AWAY)


class At:
    """At the byte with this number, in this direction, something happens."""

    def __init__(self, end: LinkEnd, byte: int, action: Callable[[bytes, int], bytes]) -> None:
        self.left, self.action, self.done = byte, action, False
        end.faults = self

    def __call__(self, chunk: ReadableBytes) -> bytes:
        data = bytes(chunk)
        at, self.left = self.left, self.left - len(data)
        if self.done or at >= len(data):
            return data
        self.done = True
        return self.action(data, at)


class Journey:
    """A machine, two hosts, and what its guest has written down so far."""

    def __init__(self, folder: Path) -> None:
        self.lab = TwoHosts(folder)
        self.here, self.there = self.lab.esx1, self.lab.esx2
        self.vm = self.lab.power_on()
        to_prompt(self.here, self.vm)
        type_line(self.here, self.vm, "mkfs")
        self.notes, self.cut = 0, False
        self.ends: Counter[str] = Counter()
        self.sizes = self.measure()

    def measure(self) -> tuple[int, int]:
        """Bytes there and back of a migration without faults."""
        migration = Migration(self.here, self.vm, self.there)
        self.vm = migration.run()
        self.here, self.there = self.there, self.here
        return migration.link.a.sent_bytes, migration.link.b.sent_bytes

    def fault(self, kind: str, migration: Migration) -> Callable[[bytes, int], bytes]:
        def act(data: bytes, at: int) -> bytes:
            self.cut = True
            if kind == "cut":
                migration.link.cut()
            elif kind == "stall":
                migration.link.stall()
            elif kind == "corrupt":
                return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
            elif kind == "drop":
                return b""
            elif kind == "truncate":
                return data[:at]
            elif kind == "repeat":
                return data + data
            elif kind in AWAY:
                self.take_paths([(self.here, self.there)[number] for number in AWAY[kind]])
            else:
                migration.link.cut()
                (self.there if kind == "destination dies" else self.here).cut_power()
                return b""
            return data

        return act

    def take_paths(self, hosts: list[Host]) -> None:
        adapters = [
            each for host in hosts for each in host.storage.adapters.adapters if isinstance(each, HostBusAdapter)
        ]

        def link(up: bool) -> None:
            for adapter in adapters:
                adapter.fabric.link(adapter.wwpn, up)

        link(False)
        self.lab.clock.at(self.lab.clock.now_ns + AWAY_NS, lambda: link(True))

    def attempt(self, kind: str, there: bool, byte: int) -> None:
        self.notes += 1
        type_line(self.here, self.vm, f"put note{self.notes % 8} {self.notes}")
        migration = Migration(self.here, self.vm, self.there)
        At(migration.link.a if there else migration.link.b, byte, self.fault(kind, migration))
        self.cut, dead = False, None
        if kind == "source dies":
            while not migration.over and not self.cut:
                migration.step()
            if self.cut:
                dead = self.here
                run_together([self.there], SECOND)
        else:
            for _ in migration.steps():
                pass
            if self.cut and kind == "destination dies":
                dead = self.there
        self.judge(kind, migration, dead)

    def judge(self, kind: str, migration: Migration, dead: Host | None) -> None:
        if kind in AWAY:
            run_together([self.here, self.there], 2 * AWAY_NS)
        run_together([host for host in (self.here, self.there) if host is not dead], 10_000_000)
        runners = [(h, h.vms["web"]) for h in (self.here, self.there) if h is not dead and "web" in h.vms]
        assert len(runners) <= 1
        assert not self.here.arrivals
        assert not self.there.arrivals
        if runners:
            host, self.vm = runners[0]
            self.ends["moved" if host is self.there else "resumed"] += 1
            if host is self.there:
                self.here, self.there = self.there, self.here
        else:
            said = "its host has died" if dead is self.here else migration.source.why
            assert said, kind
            self.ends["off"] += 1
            assert dead is not None or kind in AWAY
        if dead is not None:
            self.replace(dead)
        if not runners:
            pass_time(self.lab.clock, 60 * SECOND)
            self.vm = power_on_file(self.here, WEB, console=QuietConsole())
            to_prompt(self.here, self.vm)
        if migration.source.phase == "failed":
            assert migration.source.why.endswith(".")
        assert type_line(self.here, self.vm, f"cat note{self.notes % 8}") == f"{self.notes}\n"
        with pytest.raises(AdminError, match=f"on host {self.here.name}|in use|locked"):
            power_on_file(self.there, WEB)
        self.here.memory.check()
        self.there.memory.check()

    def replace(self, dead: Host) -> None:
        """Another host comes in the place of one that has died."""
        new = self.lab.add()
        self.lab.hosts.remove(dead)
        if dead is self.here:
            self.here = new
        else:
            self.there = new


@pytest.mark.parametrize("kind", KINDS)
def test_at_random_moments(kind: str, tmp_path: Path) -> None:
    journey, lot = Journey(tmp_path), random.Random(f"faults {kind}")
    out, back = journey.sizes
    count = FAULTS // len(KINDS) or (3 if kind in AWAY else 6)
    for number in range(count):
        there = number % 3 != 2
        if there:
            byte = lot.randrange(out) if number % 2 else out - 1 - lot.randrange(9000)
        else:
            byte = lot.randrange(back)
        journey.attempt(kind, there, byte)
    journey.lab.close()
    print(kind, dict(journey.ends), journey.sizes)
    assert sum(journey.ends.values()) == count
