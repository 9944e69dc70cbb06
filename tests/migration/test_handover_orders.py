"""A machine changes hands: in whatever order things happen, and whoever dies or sleeps, one of two hosts runs it, or
none and it is said why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.migration.handover_site import ENOUGH, Kind, Site
from tests.migration.handover_world import Side, World, explore

KINDS: tuple[Kind, ...] = ("local", "vmfs", "nfs")
SECOND = 1_000_000_000


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(request.param, tmp_path)


def ended(world: World) -> tuple[str, str]:
    """(who runs it, what the source was told)"""
    runner = world.runner()
    return "nobody" if runner is None else runner.host.name, type(world.answer).__name__


# --- every order ------------------------------------------------------------------------------------------------------


def test_in_every_order_one_of_them_runs_it(tmp_path: Path) -> None:
    site = Site("local", tmp_path)
    ends: Counter[tuple[str, str]] = Counter()

    def judge(world: World, _order: list[str]) -> None:
        world.judge()
        ends[ended(world)] += 1

    assert explore(lambda: World(site), judge, disturbances=False) == sum(ends.values()) > 50
    assert set(ends) == {("esx2", "TakenOver"), ("esx1", "Reclaimed")}, "while both live, it never goes off"


def test_whoever_dies_or_sleeps_at_whatever_point_two_never_run_it(site: Site) -> None:
    ends: Counter[tuple[str, str]] = Counter()
    orders: list[str] = []

    def judge(world: World, order: list[str]) -> None:
        world.judge()
        ends[ended(world)] += 1
        disturbed = [choice for choice in order if " " in choice]
        orders.extend(disturbed)
        assert disturbed or world.runner() is not None

    explore(lambda: World(site), judge, disturbances=True)
    whats = ("dies",) if site.kind == "local" else ("dies", "sleeps")
    assert set(orders) == {f"{side} {what}" for side in ("source", "destination") for what in whats}
    assert {("esx1", "Reclaimed"), ("nobody", "Lost"), ("esx2", "NoneType")} <= set(ends)


def test_the_same_where_the_source_does_not_wait_but_asks_again(tmp_path: Path) -> None:
    site = Site("vmfs", tmp_path)
    ends: Counter[tuple[str, str]] = Counter()
    waits: Counter[str] = Counter()

    def judge(world: World, order: list[str]) -> None:
        waits.update(name for name in world.source.steps if name == "refused")
        world.judge()
        ends[ended(world)] += 1
        assert any(" " in choice for choice in order) or world.runner() is not None

    explore(lambda: World(site, steps=True), judge, disturbances=True)
    assert waits["refused"] > 5, "it has never had to ask again"
    assert {("esx1", "Reclaimed"), ("nobody", "Lost"), ("esx2", "NoneType")} <= set(ends)


# --- a death within a step --------------------------------------------------------------------------------------------


def disturbed(site: Site, prepare: int, name: str, stride: int, naps: bool = False) -> Counter[tuple[str, str]]:
    """Let a side die at one of the commands that it has for the storage: every ``stride``-th, and each of the last six.

    ``prepare``: steps of the source before that. ``naps``: it stands still instead, before the command is sent.
    """
    ends: Counter[tuple[str, str]] = Counter()

    def run(commands: int) -> int:
        """How many there were."""
        world = World(site)
        world.patience = 5 if naps else 0
        try:
            while len(world.source.steps) < prepare:
                world.source.step()
            side: Side = getattr(world, name)
            side.fuse.left = commands
            if naps:
                side.fuse.nap = lambda: world.nap(side)
            while not side.done:
                side.step()
                world.at_most_one()
            used, side.fuse.left, side.fuse.nap = commands - side.fuse.left, ENOUGH, None
            assert side.dead == (commands < ENOUGH and not naps)
            world.finish()
            world.judge()
            ends[ended(world)] += 1
            return used
        except BaseException as error:
            error.add_note(f"{name} dies or naps at command {commands}")
            raise
        finally:
            world.close()

    count = run(ENOUGH)
    ends.clear()
    for commands in sorted({*range(1, count, stride), *range(max(0, count - 6), count)}):
        run(commands)
    return ends


GIVEN_BACK = 4
STRIDES: dict[Kind, int] = {"vmfs": 17, "nfs": 21}
"""Odd: on NFS a call is one command, and its answer the next."""


@pytest.mark.parametrize("kind", STRIDES)
def test_a_source_that_dies_within_a_step(kind: Kind, tmp_path: Path) -> None:
    """Once the locks are given back the destination may have the machine; ``judge``: else anybody may, with all that
    was flushed."""
    ends = disturbed(Site(kind, tmp_path), 0, "source", STRIDES[kind])
    assert set(ends) == {("esx2", "NoneType"), ("nobody", "NoneType")}


@pytest.mark.parametrize("kind", STRIDES)
def test_a_destination_that_dies_within_a_step(kind: Kind, tmp_path: Path) -> None:
    ends = disturbed(Site(kind, tmp_path), GIVEN_BACK, "destination", STRIDES[kind])
    assert ends[("esx1", "Reclaimed")] > 5, "nothing was committed"
    assert ends[("nobody", "Lost")] >= 1, "it was"
    assert set(ends) == {("esx1", "Reclaimed"), ("nobody", "Lost")}


@pytest.mark.parametrize("kind", STRIDES)
@pytest.mark.parametrize("name", ["source", "destination"])
def test_who_stands_still_within_a_step_and_goes_on_later_finds_that_out(kind: Kind, name: str, tmp_path: Path) -> None:
    """Its locks are the other one's by then, and what it still writes to the record comes late."""
    ends = disturbed(Site(kind, tmp_path), GIVEN_BACK, name, STRIDES[kind], naps=True)
    assert set(ends) <= {
        ("esx1", "Reclaimed"), ("esx2", "TakenOver"), ("esx2", "Lost"), ("nobody", "Lost"), ("nobody", "TakenOver")
    }  # fmt: skip
    assert ends[("esx1", "Reclaimed")] >= 1
    if name == "source":
        assert ends[("esx2", "TakenOver")] >= 5
        assert not ends[("nobody", "Lost")], "the destination was patient"
