"""A machine moves from one host to another of the same program, and its guest notices nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.storage_helpers import PROMPT, to_prompt, type_line
from tests.migration.two_hosts import TwoHosts
from vilab.errors import AdminError
from vilab.host.host import run_together
from vilab.host.registered import power_on_file
from vilab.migration.agent_link import LinkSettings
from vilab.migration.migration_events import MigrationEnded, PostCopyEnded, RoundSent
from vilab.migration.options import MigrationOptions
from vilab.migration.termination import FixedRounds
from vilab.migration.vmotion import Migration
from vilab.vmm.vm import QuietConsole


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


def test_a_machine_that_may_not_move_is_told_why_and_nothing_is_touched(lab: TwoHosts) -> None:
    web = lab.power_on()
    to_prompt(lab.esx1, web)
    lab.esx2.network.enable_vmotion("")
    free = lab.esx2.memory.free_pages
    with pytest.raises(AdminError, match=r"esx2 has no VMkernel port for VMotion.* esx1: enable vmk0 for VMotion"):
        Migration(lab.esx1, web, lab.esx2).run()
    assert lab.esx2.memory.free_pages == free
    assert not lab.esx2.arrivals
    assert not lab.esx1.departures
    assert type_line(lab.esx1, web, "isprime 49") == "isPrime(49) = 0\n"


def test_a_process_that_writes_faster_than_the_link_is_stunned(tmp_path: Path) -> None:
    left, downtime_ns = {}, {}
    for stun_after in (0, 40):
        (folder := tmp_path / str(stun_after)).mkdir()
        lab = TwoHosts(folder)
        vm = lab.power_on(image="kernel-writer", memory_mb=16)
        to_prompt(lab.esx1, vm)
        vm.console.type("writer-muncher 1500 400 20")
        lab.esx1.run_for(200_000_000)
        options = MigrationOptions(policy=FixedRounds(4), stun_after=stun_after)
        migration = Migration(lab.esx1, vm, lab.esx2, LinkSettings(12_500_000, 100_000), options)
        moved = migration.run()
        left[stun_after] = [each.dirtied_pages for each in migration.source.rounds if not each.stopped]
        downtime_ns[stun_after] = migration.source.downtime_ns
        said = to_prompt(lab.esx2, moved)
        assert "writer-muncher" in said
        assert "wrong" not in moved.console.said
        lab.close()
    assert min(left[0]) > 1400, "it does not converge"
    assert left[40][-1] * 10 < min(left[0])
    assert downtime_ns[40] * 10 < downtime_ns[0]
    assert downtime_ns[0] == pytest.approx(left[0][-1] * 4096 / 12_500_000 * 1e9, rel=0.1)


def test_dirty_bits_find_the_same_pages_without_a_fault(lab: TwoHosts) -> None:
    vm = lab.power_on(image="kernel-writer", memory_mb=16, engine="bt")
    to_prompt(lab.esx1, vm)
    vm.console.type("writer 600 64 16 2 20 40")
    lab.esx1.run_for(200_000_000)
    options = MigrationOptions(policy=FixedRounds(3), tracking="dirty_bits")
    migration = Migration(lab.esx1, vm, lab.esx2, LinkSettings(12_500_000, 100_000), options)
    moved = migration.run()
    assert all(each.traces == 0 for each in migration.source.rounds)
    assert migration.source.rounds[0].dirtied_pages > 64
    said = to_prompt(lab.esx2, moved)
    assert "wrong" not in said


def test_nested_paging_and_dirty_bits_do_not_go_together(lab: TwoHosts) -> None:
    web = lab.power_on()
    to_prompt(lab.esx1, web)
    with pytest.raises(AdminError, match="no Dirty bits"):
        Migration(lab.esx1, web, lab.esx2, options=MigrationOptions(tracking="dirty_bits")).run()
    assert type_line(lab.esx1, web, "isprime 49") == "isPrime(49) = 0\n"
    assert Migration(lab.esx1, web, lab.esx2).run().runs


def test_two_machines_move_at_a_time_and_a_third_one_waits(lab: TwoHosts) -> None:
    vms = [lab.power_on(name) for name in ("web", "db", "mail")]
    for vm in vms:
        to_prompt(lab.esx1, vm)
    tasks = [Migration(lab.esx1, vm, lab.esx2) for vm in vms[:2]]
    with pytest.raises(AdminError, match="esx1 takes part in 2 migrations already"):
        Migration(lab.esx1, vms[2], lab.esx2)
    while not all(task.over for task in tasks):
        for task in tasks:
            if not task.over:
                task.step()
    assert sorted(lab.esx2.vms) == ["db", "web"]
    assert Migration(lab.esx1, vms[2], lab.esx2).run().name == "mail"


@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_post_copy_runs_there_while_its_memory_is_still_here(lab: TwoHosts, engine: str) -> None:
    vm = lab.power_on(image="kernel-writer", memory_mb=16, engine=engine)
    to_prompt(lab.esx1, vm)
    vm.console.type("writer-muncher 1500 400 20")
    lab.esx1.run_for(200_000_000)
    options = MigrationOptions(policy=FixedRounds(1), post_copy=True)
    migration = Migration(lab.esx1, vm, lab.esx2, LinkSettings(12_500_000, 100_000), options)
    moved = migration.run()
    (ended,) = (each for each in lab.esx1.log.events if isinstance(each, PostCopyEnded))
    assert ended.asked_pages > 5
    assert ended.asked_pages + ended.pushed_pages > 1400
    assert migration.source.downtime_ns < 30_000_000, "that of the state, whatever is written"
    assert moved.client.pmap.supply is lab.esx2.memory
    said = to_prompt(lab.esx2, moved)
    assert "wrong" not in said
    assert type_line(lab.esx2, moved, "isprime 49") == "isPrime(49) = 0\n"
    Migration(lab.esx2, moved, lab.esx1).run()


def test_a_link_that_is_cut_in_post_copy_ends_the_machine_on_both_sides(lab: TwoHosts) -> None:
    vm = lab.power_on(image="kernel-writer", memory_mb=16)
    to_prompt(lab.esx1, vm)
    vm.console.type("writer-muncher 1500 400 20")
    lab.esx1.run_for(200_000_000)
    options = MigrationOptions(policy=FixedRounds(1), post_copy=True)
    migration = Migration(lab.esx1, vm, lab.esx2, LinkSettings(2_500_000, 100_000), options)
    while migration.source.phase != "pushing":
        assert not migration.source.over, migration.source.why
        migration.step()
    arrived = migration.destination.hosted
    assert arrived is not None
    assert arrived.runs
    migration.link.cut()
    while not migration.over:
        migration.step()
    run_together([lab.esx1, lab.esx2], 10_000_000)
    assert not lab.esx1.vms
    assert not lab.esx2.vms
    assert "pages of its memory were still on esx1" in arrived.stopped
    assert "had not left yet" in migration.source.why
    with pytest.raises(AdminError, match="had not left yet"):
        _ = migration.hosted
    again = power_on_file(lab.esx1, "[san1] web/web.vmx", console=QuietConsole())
    to_prompt(lab.esx1, again)
