"""A machine moves from one host to another of the same program, and its guest notices nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.storage_helpers import PROMPT, to_prompt, type_line
from tests.migration.two_hosts import TwoHosts
from vilab.host.host import run_together
from vilab.migration.migration_events import MigrationEnded, RoundSent
from vilab.migration.vmotion import Migration


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[TwoHosts]:
    made = TwoHosts(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_a_machine_moves_with_its_memory_its_disk_and_its_console(lab: TwoHosts, engine: str) -> None:
    web = lab.power_on(engine=engine)
    to_prompt(lab.esx1, web)
    type_line(lab.esx1, web, "mkfs")
    type_line(lab.esx1, web, "put note first")
    migration = Migration(lab.esx1, web, lab.esx2)
    moved = migration.run()
    assert moved is not web
    assert lab.esx2.vms == {"web": moved}
    assert not lab.esx1.vms
    assert web.stopped == "web has moved to esx2."
    assert type_line(lab.esx2, moved, "isprime 49") == "isPrime(49) = 0\n"
    assert type_line(lab.esx2, moved, "cat note") == "first\n"
    type_line(lab.esx2, moved, "put note second")
    lab.esx1.memory.check()
    lab.esx2.memory.check()
    assert lab.esx1.memory.free_pages == lab.esx1.memory.total_pages
    (ended,) = (event for event in lab.esx1.log.events if isinstance(event, MigrationEnded))
    rounds = [event for event in lab.esx1.log.events if isinstance(event, RoundSent)]
    assert ended.ok
    assert ended.sent_bytes > sum(each.sent_bytes for each in rounds) > 100_000
    assert [each.stopped for each in rounds] == [False] * (len(rounds) - 1) + [True]
    again = Migration(lab.esx2, moved, lab.esx1).run()
    assert type_line(lab.esx1, again, "cat note") == "second\n"


def test_what_the_guest_computes_while_it_moves_back_and_forth_is_right(lab: TwoHosts) -> None:
    web = lab.power_on()
    to_prompt(lab.esx1, web)
    expected = type_line(lab.esx1, web, "forkwait 900")
    begun = len(web.console.said)
    web.console.type("forkwait 900")
    here, there, moves = lab.esx1, lab.esx2, 0
    while not web.console.said[begun:].endswith(PROMPT):
        web = Migration(here, web, there).run()
        here, there, moves = there, here, moves + 1
        run_together([here, there], 10_000_000)
    assert moves >= 3
    assert web.console.said[begun:].partition("\n")[2].removesuffix(PROMPT) == expected
