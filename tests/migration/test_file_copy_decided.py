"""Whose the machine is after the last word was not heard: asked, asked late, asked twice, and decided by a person."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.migration.file_copies import NUMBER, WEB, Pair, Site, ask, can_power_on, files, home, make
from vilab.errors import AdminError
from vilab.host.vm_departure import (
    Departure,
    State,
    claim_here,
    departure_path,
    keep_here,
    read_departure,
    write_departure,
)
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_move import ArrivingHome
from vilab.migration import file_copy_messages as say
from vilab.migration.cold_migration import cold_migrate_now
from vilab.migration.file_copy_decision import FileCopyInquiry, decide, unfinished


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _number: None)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, hosts=3)
    yield made
    made.close()


def cut_at(site: Site, kind: type[say.CopyMessage], dead: str = "") -> Pair:
    """A move whose link is cut when this is about to be heard, and never is; ``dead``: and that host dies."""
    make(site["esx1"])
    pair = Pair(site["esx1"], site["esx2"])

    def cut(who: str, message: msgspec.Struct) -> None:
        if isinstance(message, kind):
            pair.link.cut()
            ears = pair.there if who == "destination" else pair.here
            ears.open = False
            raise _NotHeard

    pair.before = cut
    pair.source.start()
    with pytest.raises(_NotHeard):
        pair.go_on()
    pair.before = lambda _who, _message: None
    pair.source.lost("The link was cut.")
    if dead:
        pair.dead = dead
    else:
        pair.destination.lost("The link was cut.")
    return pair


class _NotHeard(Exception):
    pass


def asked(site: Site, **more: object) -> say.CopyDecided:
    """As ``esx1`` would ask, of ``esx2``."""
    finish, withdraw = bool(more.get("finish", False)), bool(more.get("withdraw", False))
    return decide(
        site["esx2"].storage, str(more.get("host", "esx1")), say.CopyDecide(NUMBER, WEB, WEB, finish, withdraw)
    )


@pytest.mark.parametrize("finish", [True, False])
def test_nothing_was_decided_and_the_source_says_what_it_wants(site: Site, finish: bool) -> None:
    pair = cut_at(site, say.CopyCommit)
    assert (pair.source.phase, pair.destination.phase) == ("undecided", "undecided")
    assert pair.destination.why.startswith(
        "web is on esx2 as a whole, and esx1 has not said that it is to count here. The connection between esx1 and "
        "esx2 has ended: "
    )
    assert unfinished(site["esx1"].storage) == [(WEB, read_departure(home(site["esx1"])))]
    inquiry = ask(site["esx1"], site["esx2"], finish=finish)
    assert inquiry.phase == ("moved" if finish else "here")
    assert inquiry.why == (
        f"{WEB} has moved to {WEB} on esx2."
        if finish
        else f"{WEB} is here, on esx1: it has not moved to {WEB} on esx2."
    )
    assert can_power_on(site["esx2" if finish else "esx1"]) == ""
    assert files(site["esx1" if finish else "esx2"]) == {}
    assert unfinished(site["esx1"].storage) == []
    with pytest.raises(AdminError, match="there is nothing to ask"):
        ask(site["esx1"], site["esx2"])


def test_it_had_arrived_and_is_asked_twice(site: Site) -> None:
    pair = cut_at(site, say.CopyDecided)
    assert (pair.source.phase, pair.destination.phase) == ("undecided", "moved")
    assert can_power_on(site["esx2"]) == ""
    for _ in range(2):
        assert asked(site, finish=False).decision == "moved"
    assert ask(site["esx1"], site["esx2"], finish=False).phase == "moved"
    assert files(site["esx1"]) == {}
    assert b"vilab.move" not in files(site["esx2"])["web.vmx"]


def test_the_source_asks_again_where_it_could_not_remove_its_folder(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(site["esx1"])
    pair = Pair(site["esx1"], site["esx2"])
    datastore = site["esx1"].storage.mounted("local").datastore
    remove, stuck = datastore.remove, ["web/web.nvram"]

    def some(path: str) -> None:
        if path in stuck:
            raise AdminError("Input/output error.")
        remove(path)

    monkeypatch.setattr(datastore, "remove", some)
    assert pair.run().phase == "moved"
    assert "not all of [local] web/web.vmx on esx1 could be removed (Input/output error.)" in pair.source.left
    assert can_power_on(site["esx2"]) == ""
    assert can_power_on(site["esx1"]) != ""
    assert {"web.nvram", "web.vmx.leaving"} <= files(site["esx1"]).keys()
    stuck.clear()
    assert ask(site["esx1"], site["esx2"]).phase == "moved"
    assert files(site["esx1"]) == {}


def test_a_commit_that_comes_after_it_was_withdrawn_does_nothing(site: Site) -> None:
    """The old connection was only slow."""
    pair = cut_at(site, say.CopyCommit, dead="esx1")
    assert pair.destination.phase == "whole"
    assert ask(site["esx1"], site["esx2"], finish=False).phase == "here"
    assert can_power_on(site["esx1"]) == ""
    pair.destination.received(say.CopyCommit(NUMBER), memoryview(b""))
    assert pair.destination.phase in ("failed", "undecided")
    assert "web.vmx" not in files(site["esx2"])
    assert "web.vmx.moving" not in files(site["esx2"])
    assert can_power_on(site["esx1"]) == ""
    assert Pair(site["esx1"], site["esx2"], number="second").run().phase == "moved"


def test_who_asks_has_to_be_the_source_and_to_know_the_number(site: Site) -> None:
    cut_at(site, say.CopyCommit)
    before = files(site["esx2"])
    assert asked(site, host="esx3").decision == "unknown"
    other = say.CopyDecide("another", WEB, WEB, True)
    answer = decide(site["esx2"].storage, "esx1", other)
    assert (answer.decision, answer.why) == (
        "unknown", "esx2 has nothing at [local] web/web.vmx that says how move another from esx1 has ended.",
    )  # fmt: skip
    gone = say.CopyDecide(NUMBER, WEB, "[ds9] web/web.vmx", True)
    assert "esx2 has no datastore 'ds9'" in decide(site["esx2"].storage, "esx1", gone).why
    assert files(site["esx2"]) == before
    inquiry = FileCopyInquiry(home(site["esx1"]), lambda _m, _b: None, now=lambda: 0)
    with pytest.raises(AdminError, match=r"esx3 was asked, and .* was on its way to esx2"):
        inquiry.start("esx3")


def test_where_it_went_on_from_there_nobody_knows_and_it_stays_off(site: Site) -> None:
    cut_at(site, say.CopyDecided)
    assert Pair(site["esx2"], site["esx3"], number="onwards").run().phase == "moved"
    inquiry = ask(site["esx1"], site["esx2"])
    assert inquiry.phase == "undecided"
    assert inquiry.why.startswith(f"{WEB} stays off on esx1: it was on its way to {WEB} on esx2")
    assert "stays off on esx1" in can_power_on(site["esx1"])
    assert can_power_on(site["esx3"]) == ""


# --- a person ---------------------------------------------------------------------------------------------------------


def test_a_person_says_that_it_is_at_the_source(site: Site) -> None:
    cut_at(site, say.CopyCommit)
    keep_here(home(site["esx1"]))
    assert can_power_on(site["esx1"]) == ""
    with pytest.raises(AdminError, match="has to be withdrawn there first; let esx1 ask esx2"):
        Pair(site["esx1"], site["esx2"], number="second").source.start()
    disks = VmDisks(home(site["esx1"]), site.clock, site["esx1"].log)  # it is on
    inquiry = ask(site["esx1"], site["esx2"])
    assert inquiry.phase == "here"
    assert disks.close() == []
    assert "web.vmx.kept" not in files(site["esx1"])
    assert "web.vmx.withdrawn" in files(site["esx2"])
    assert Pair(site["esx1"], site["esx2"], number="second").run().phase == "moved"


def test_what_has_still_to_be_withdrawn_is_not_forgotten_by_a_move(site: Site) -> None:
    cut_at(site, say.CopyCommit)
    keep_here(home(site["esx1"]))
    (site.folder / "other").mkdir()
    site["esx1"].storage.add_local("other", site.folder / "other")
    with pytest.raises(AdminError, match=r"on esx2 has still to be withdrawn; let esx1 ask that host first"):
        cold_migrate_now(site["esx1"], WEB, "other")
    assert "web.vmx.kept" in files(site["esx1"])


def test_what_had_arrived_is_withdrawn_unless_it_runs_there(site: Site) -> None:
    cut_at(site, say.CopyDecided)
    keep_here(home(site["esx1"]))
    running = VmDisks(home(site["esx2"]), site.clock, site["esx2"].log)
    inquiry = ask(site["esx1"], site["esx2"])
    assert inquiry.phase == "undecided"
    assert "could not be withdrawn" in inquiry.why
    assert "is powered on already, on host esx2" in inquiry.why
    assert running.close() == []
    assert ask(site["esx1"], site["esx2"]).phase == "here"
    assert can_power_on(site["esx2"]) != ""
    assert "web-flat.vmdk" in files(site["esx2"]), "it stays there to be looked at"
    assert can_power_on(site["esx1"]) == ""


def test_a_person_says_that_it_is_at_the_destination(site: Site) -> None:
    cut_at(site, say.CopyCommit)
    claim_here(ArrivingHome(site["esx2"].storage, WEB))
    assert can_power_on(site["esx2"]) == ""
    assert ask(site["esx1"], site["esx2"], finish=False).phase == "moved"
    assert files(site["esx1"]) == {}


def test_persons_at_both_hosts_say_so(site: Site) -> None:
    cut_at(site, say.CopyCommit)
    claim_here(ArrivingHome(site["esx2"].storage, WEB))
    keep_here(home(site["esx1"]))
    inquiry = ask(site["esx1"], site["esx2"])
    assert inquiry.phase == "undecided"
    assert inquiry.why.endswith(
        f"A person has said on esx2, too, that {WEB} is there: power one of the two off and delete it."
    )


def test_there_is_nothing_to_be_said(site: Site) -> None:
    make(site["esx1"])
    with pytest.raises(AdminError, match="there is nothing to decide"):
        keep_here(home(site["esx1"]))
    with pytest.raises(AdminError, match="there is nothing to decide"):
        claim_here(ArrivingHome(site["esx2"].storage, WEB))
    pair = Pair(site["esx1"], site["esx2"])
    pair.source.start()
    for _ in range(4):
        pair.step()
    with pytest.raises(AdminError, match="has not come from esx1 as a whole: power it on there"):
        claim_here(ArrivingHome(site["esx2"].storage, WEB))
    assert pair.go_on().phase == "moved"


def test_a_note_that_cannot_be_read_says_what_to_do(site: Site) -> None:
    cut_at(site, say.CopyCommit)
    path = departure_path(home(site["esx1"]))
    home(site["esx1"]).files.replace(path, b'move.number = "1"\n')
    assert can_power_on(site["esx1"]) == (
        f"{path} is damaged: it does not say to which host web was on its way. If the machine is at no other host, "
        "delete that file."
    )


def test_a_note_is_what_was_written(site: Site) -> None:
    make(site["esx1"])
    states: tuple[State, ...] = ("leaving", "kept")
    for state in states:
        wanted = Departure("12ab", 'esx "2"', "[ds 2] web/web.vmx", "[::1]:902", state)
        write_departure(home(site["esx1"]), wanted)
        assert read_departure(home(site["esx1"])) == wanted
        home(site["esx1"]).files.remove(departure_path(home(site["esx1"]), wanted.state))
