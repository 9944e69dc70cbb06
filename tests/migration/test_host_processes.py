"""A stock Debian guest under load moves between two host processes by TCP, and who talks to it hardly notices.

``VILAB_MIGRATION_MOVES``: how often (default: twice under AMD-V, once under binary translation).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests import tools
from tests.migration import debian_guest
from tests.migration.host_processes import BOOT_S, Site, Terminal
from tests.migration.outside_network import EVERY_NS, OutsideNetwork

pytestmark = pytest.mark.interop
MOVES = os.environ.get("VILAB_MIGRATION_MOVES")
SOAK = pytest.mark.timeout(36_000 if MOVES else 600)
LOAD_S = 1.5
"""Between two moves."""


class Moved(msgspec.Struct, frozen=True):
    """What the agent says, and what the client has seen: what was never answered, and how long answers took."""

    took_s: float
    megabytes: float
    downtime_ms: float
    lost_ms: float
    gap_ms: float
    delay_ms: float


@pytest.fixture
def network() -> Iterator[OutsideNetwork]:
    made = OutsideNetwork(2)
    yield made
    made.close()


def move(site: Site, network: OutsideNetwork, terminal: Terminal) -> Moved:
    network.ask(debian_guest.ADDRESS)
    time.sleep(LOAD_S / 2)
    here = terminal.host
    there = next(host for host in site.hosts.values() if host is not here)
    began_s = time.monotonic()
    said = here.client.move("deb", there.address, verify=True)
    took_s, moved_ns = time.monotonic() - began_s, time.monotonic_ns()
    terminal.host = there
    assert here.names() == {}
    assert there.names() == {"deb": ""}
    time.sleep(LOAD_S / 2)
    seen = network.hear()
    assert seen.wrong == 0
    assert seen.twice == 0
    assert seen.sent_ns[seen.last_answered] > moved_ns
    found = re.search(r"([\d.]+) MB, stopped for ([\d.]+) ms", said)
    assert found, said
    delays = seen.delays_ms()
    return Moved(
        round(took_s, 2), float(found[1]), float(found[2]), seen.lost * EVERY_NS / 1e6,
        round(seen.longest_gap_ns() / 1e6), round(delays[len(delays) // 2], 1),
    )  # fmt: skip


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    return f"least {ordered[0]:g} ms, median {ordered[len(ordered) // 2]:g} ms, most {ordered[-1]:g} ms"


def move_under_load(folder: Path, network: OutsideNetwork, engine: str, moves: int) -> None:
    site = Site(folder)
    try:
        where = debian_guest.register(site, engine)
        site.open()
        for number in (1, 2):
            site.start(f"esx{number}", 128, *network.uplink(number))
        first = site.hosts["esx1"]
        first.client.power_on(where)
        terminal = Terminal(first, "deb")
        debian_guest.prepare(terminal, BOOT_S)
        began = debian_guest.start_load(terminal)
        moved = [move(site, network, terminal) for _ in range(moves)]
        rounds = debian_guest.end_load(terminal, began)
        print(f"\n{engine}: {rounds} rounds of load")
        for each in moved:
            print(each)
        if len(moved) > 2:
            print(f"downtime {spread([each.downtime_ms for each in moved])}, lost {spread([m.lost_ms for m in moved])}")
        assert rounds >= 1
        for each in moved:  # on a machine that is shared it may stand still for long
            assert each.lost_ms < each.downtime_ms + 1000
        if moves > 2:  # a soak, run by somebody who looks
            assert min(each.lost_ms for each in moved) < 1000
        terminal.host.client.power_off("deb")
        assert site.close() == {"esx1": 0, "esx2": 0}
    finally:
        site.close()
    for host in site.hosts.values():
        assert host.complaints.read_text() == ""


@SOAK
def test_linux_moves_between_processes_under_load(tmp_path: Path, network: OutsideNetwork) -> None:
    tools.debian()
    move_under_load(tmp_path, network, "svm", int(MOVES or 2))


@SOAK
def test_linux_moves_under_binary_translation(tmp_path: Path, network: OutsideNetwork) -> None:
    tools.debian()
    move_under_load(tmp_path, network, "bt", int(MOVES or 1))
