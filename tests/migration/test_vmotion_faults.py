"""Whatever happens on the way, at whatever moment: in the end one host runs the machine, or it is off and it is said
why; its files have one owner, and what it had written is there.

``VILAB_MIGRATION_FAULTS``: how many random moments (default: some of each kind).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.migration.vmotion_journey import SECOND, At, Journey, flipped
from vilab.host.host import run_together
from vilab.migration.agent_link import MemoryLink
from vilab.migration.vmotion import Migration

FAULTS = int(os.environ.get("VILAB_MIGRATION_FAULTS", "0"))
AWAY = {"source's paths": (0,), "destination's paths": (1,), "all paths": (0, 1)}
"""To the datastore: they are gone, and there again before any heartbeat is overdue."""
AWAY_NS = 8 * SECOND
MOST_HOSTS = 150
KINDS = ("cut", "stall", "corrupt", "drop", "truncate", "repeat", "destination dies", "source dies", *AWAY)


class Disturbed(Journey):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cut = False
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
                assert isinstance(migration.link, MemoryLink)
                migration.link.stall()
            elif kind == "corrupt":
                return flipped(data, at)
            elif kind == "drop":
                return b""
            elif kind == "truncate":
                return data[:at]
            elif kind == "repeat":
                return data + data
            elif kind in AWAY:
                self.take_paths([(self.here, self.there)[number] for number in AWAY[kind]], AWAY_NS)
            else:
                migration.link.cut()
                (self.there if kind == "destination dies" else self.here).cut_power()
                return b""
            return data

        return act

    def attempt(self, kind: str, there: bool, byte: int) -> None:
        self.put_note()
        migration = Migration(self.here, self.vm, self.there)
        assert isinstance(migration.link, MemoryLink)
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
        end = self.judge(migration, dead, 2 * AWAY_NS if kind in AWAY else 10_000_000)
        assert end != "off" or dead is not None or kind in AWAY


@pytest.mark.parametrize("kind", KINDS)
def test_at_random_moments(kind: str, tmp_path: Path) -> None:
    journey, lot = Disturbed(tmp_path), random.Random(f"faults {kind}")
    out, back = journey.sizes
    count = FAULTS // len(KINDS) or (3 if kind in AWAY else 6)
    for number in range(count):
        if number % MOST_HOSTS == MOST_HOSTS - 1:  # the physical switch has no port left for another one
            journey.close()
            ends = journey.ends
            journey = Disturbed(tmp_path / str(number))
            journey.ends = ends
        there = number % 3 != 2
        if there:
            byte = lot.randrange(out) if number % 2 else out - 1 - lot.randrange(9000)
        else:
            byte = lot.randrange(back)
        journey.attempt(kind, there, byte)
    journey.close()
    print(kind, dict(journey.ends), journey.sizes)
    assert sum(journey.ends.values()) == count
