"""Somebody else takes a host's memory while a machine moves: its pages go to the swap file there, or it is refused.

::

    destination   hog: 4 MB less than is left, all reserved     the pages that have arrived go to the swap file,
                                                                and come back for the digest, and for the guest
                  its disk is full                              they cannot go: it is not taken there
    source        the same                                      pages are read from its swap file, and sent
                  its swap file is damaged                      it stops where it is, and says so
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import pytest

from tests.migration.vmotion_journey import Journey
from tests.migration.vmotion_steps import PATIENCE_NS, TENTH, Step, Steps, Way, begin, go, in_tenths
from vilab.errors import GuestStopped
from vilab.host.host import Host
from vilab.memory.client import MB_PAGES, MemoryClient, MemoryConfig

STEPS: tuple[tuple[Way, str], ...] = (
    ("out", "Pages"),
    ("out", "last Pages"),
    ("out", "State"),
    ("back", "Loaded"),
    ("out", "HandOver"),
)
MACHINE = 36
"""MB of each host: the machine, its monitor, and not much else."""


@pytest.fixture(autouse=True)
def tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    in_tenths(monkeypatch)


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    made = Journey(tmp_path, TENTH, memory_mb=MACHINE)
    yield made
    made.close()


class Hog:
    """Another machine with a reservation for all that is not promised yet, and it uses that."""

    def __init__(self, host: Host) -> None:
        self.host = host
        size_mb = (host.memory.unreserved_pages() - 64) // MB_PAGES
        self.client = host.memory.admit("hog", MemoryConfig(size_mb, size_mb), 4096)
        with contextlib.suppress(GuestStopped):  # somebody has more than there is room for, and cannot give it
            for ppn in range(self.client.pmap.pages):
                self.client.pmap.write(ppn << 12, b"hog")


def free(journey: Journey) -> None:
    for host in journey.lab.hosts:
        for client in list(host.memory.clients.values()):
            if client.name == "hog":
                host.memory.power_off(client)


def full(client: MemoryClient) -> None:
    """The disk of its swap file."""
    assert client.swap._file is not None
    client.swap._file.close()
    client.swap._file = FileIO("/dev/full", "r+")


def damaged(client: MemoryClient) -> None:
    """Its swap file: somebody has written to it."""
    with client.swap.path.open("r+b") as file:
        file.write(b"?" * (client.swap.pages << 12))


def move(journey: Journey, way: Way, message: str, where: str, then: Callable[[MemoryClient], None] | None) -> Steps:
    """With a hog there from this step on; ``then``: something happens to the machine's swap file there, too."""

    def act(steps: Steps) -> None:
        host = journey.here if where == "source" else journey.there
        machine = host.vms["web"] if where == "source" else host.arrivals["web"].hosted
        if then is full:
            full(machine.client)
        Hog(host)
        if then is damaged:
            assert machine.client.swap.used_pages > 10, "nothing of it is there"
            damaged(machine.client)

    steps = begin(journey, Step("sent", way, message), act)
    go(steps)
    assert steps.reached
    return steps


@pytest.mark.parametrize("where", ["source", "destination"])
def test_pages_go_to_the_swap_file_and_the_machine_moves(where: str, journey: Journey) -> None:
    for way, message in STEPS:
        steps = move(journey, way, message, where, None)
        client = steps.migration.source.hosted.client if where == "source" else steps.migration.hosted.client
        assert client.swapped_out > 10
        assert journey.judge(steps.migration) == "moved"
        free(journey)


def test_the_disk_of_the_destinations_swap_file_is_full(journey: Journey) -> None:
    for way, message in STEPS:
        steps = move(journey, way, message, "destination", full)
        assert journey.judge(steps.migration) == "resumed", (way, message)
        assert "swap file" in steps.migration.source.why
        free(journey)


def test_the_disk_of_the_sources_swap_file_is_full(journey: Journey) -> None:
    """It is stopped there, unless all of it is at the destination by then."""
    for way, message in STEPS:
        steps = move(journey, way, message, "source", full)
        free(journey)
        end = journey.judge(steps.migration)
        after = {"State": {"moved", "off"}, "Loaded": {"moved"}, "HandOver": {"moved"}}  # State: who is quicker
        assert end in after.get(message, {"off"}), (message, end)
        assert "swap file" in steps.migration.source.hosted.stopped or end == "moved"


def test_it_stops_at_the_source_and_its_files_come_back_there(journey: Journey) -> None:
    """They are handed over, nothing is heard, and the machine that they belong to cannot go on: they are free."""

    def act(steps: Steps) -> None:
        full(steps.migration.source.hosted.client)
        Hog(journey.here)
        steps.link.stall()

    steps = begin(journey, Step("sent", "out", "HandOver"), act)
    go(steps)
    free(journey)
    assert steps.migration.source.phase == "lost"
    assert "its disks are clean. web has stopped while it was on its way" in steps.migration.source.why
    assert journey.judge(steps.migration) == "off"


def test_pages_that_are_gone_at_the_source_are_not_sent_as_zeros(journey: Journey) -> None:
    """Post-copy: the machine runs there, and the one that still has some of its pages is off."""
    journey.put_note()
    steps = Steps(
        journey, Step("taken", "back", "Runs"), lambda _steps: journey.here.power_off(journey.vm), PATIENCE_NS, True
    )
    go(steps, pages=200)
    assert steps.reached
    assert steps.migration.source.phase == "lost"
    assert journey.judge(steps.migration) == "off"
    assert steps.migration.destination.hosted is not None
    assert "pages" in steps.migration.destination.hosted.stopped


def test_the_sources_swap_file_is_damaged(journey: Journey) -> None:
    """Pages that have not left yet cannot be read: the machine stays, and stops there when it wants one of them."""
    ends = {}
    for way, message in STEPS:
        steps = move(journey, way, message, "source", damaged)
        free(journey)
        ends[message] = journey.judge(steps.migration)
        assert ends[message] == "moved" or "damaged" in steps.migration.source.why
    assert ends["Pages"] in ("off", "resumed")
    assert ends["Loaded"] == ends["HandOver"] == "moved"
