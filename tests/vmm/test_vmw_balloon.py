"""Stock Linux with ``vmw_balloon``: what the guest counts and what its host counts are the same, page for page.

One boot for all tests. Each goes on from there on a machine of its own, where the driver first hears RESET.

Free memory is what the buddy allocator has (``nr_free_pages``, MemFree) and what the processor's own lists have
(``count:`` in zoneinfo, at most a few hundred pages, moved to and from the buddy allocator in batches). Their sum goes
down by exactly one a page in the balloon. The guest reads its counters with the shell's own ``read``: any other program
would need pages itself.
"""

from __future__ import annotations

from functools import cache

import msgspec
import pytest

from tests import tools
from vilab.events import EventLog
from vilab.memory import memory_events as events
from vilab.memory.balloon import CAN_DO
from vilab.memory.balloon_protocol import BATCH_ENTRIES, Capability
from vilab.memory.page_state import FrameUse, PageState
from vilab.vmm import bench_balloon
from vilab.vmm.bench_balloon import SLACK_PAGES, BalloonedGuest, Booted

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

MEMORY_BYTES = 128 << 20
COUNTING = (
    "v() { read a b </proc/vmstat; echo $a $b; while read a b; do case $a in balloon_*) echo $a $b;; esac; done "
    "</proc/vmstat; }",
    "z() { while read a b c; do case $a$b in pagesfree) echo free $c;; count:*) echo lists $b;; esac; done "
    "</proc/zoneinfo; }",
    "m() { while read a b c; do case $a in MemFree:) echo $a $b; return;; esac; done </proc/meminfo; }",
)


class Counts(msgspec.Struct):
    """The guest's own, in pages."""

    buddy: int
    lists: int
    inflated: int
    deflated: int

    @property
    def free(self) -> int:
        return self.buddy + self.lists

    @property
    def ballooned(self) -> int:
        return self.inflated - self.deflated


@cache
def booted() -> Booted:
    tools.debian()
    return bench_balloon.boot(MEMORY_BYTES)


def guest_on(engine: str, offered: Capability = CAN_DO) -> BalloonedGuest:
    """A clone whose driver has started."""
    guest = bench_balloon.clone(booted(), engine, offered)
    assert guest.run_until(lambda: guest.host.balloon.active)
    for line in COUNTING:
        guest.ask(line)
    return guest


def counts(guest: BalloonedGuest) -> Counts:
    answer = guest.ask("v; z; m")
    found: dict[str, int] = {}
    for line in answer.splitlines():
        name, number = line.split()
        found[name] = found.get(name, 0) + int(number)
    assert found["nr_free_pages"] == found["free"] == found["MemFree:"] // 4
    return Counts(found["free"], found["lists"], found["balloon_inflate"], found["balloon_deflate"])


def check(guest: BalloonedGuest) -> int:
    """The host's counts agree with each other and with the guest's; how many pages are in the balloon."""
    host = guest.host
    inside = host.balloon.locked_pages
    assert host.pmap.count(PageState.BALLOONED) == inside
    owned = int((host.frames.use == FrameUse.PRIVATE).sum())
    assert owned == host.pmap.count(PageState.PRIVATE)
    assert host.balloon.state.lies == 0
    return inside


@pytest.mark.parametrize(
    ("engine", "offered", "pages"), [("svm", CAN_DO, 6000), ("svm", Capability.BASIC, 1500), ("bt", CAN_DO, 1500)],
    ids=["svm", "basic", "bt"],
)  # fmt: skip
def test_guest_and_host_agree_page_for_page(engine: str, offered: Capability, pages: int):
    fewer = pages // 6
    guest = guest_on(engine, offered)
    balloon = guest.host.balloon
    try:
        assert balloon.state.guest_id == 1
        assert balloon.state.capabilities == offered
        empty = counts(guest)
        assert empty.ballooned == check(guest) == 0
        calls = balloon.state.calls
        assert guest.reach(pages)
        made = balloon.state.calls - calls
        batch = BATCH_ENTRIES if offered & Capability.BATCHED else 1
        assert -(-pages // batch) <= made <= -(-pages // batch) + 4  # and a question a second
        full = counts(guest)
        assert full.ballooned == check(guest) == pages
        assert empty.free - full.free == pages
        free_frames = guest.host.frames.free_frames
        assert guest.reach(fewer)
        less = counts(guest)
        assert fewer <= less.ballooned == check(guest) < fewer + SLACK_PAGES
        assert empty.free - less.free == less.ballooned
        assert free_frames - guest.host.frames.free_frames < 1000  # what came back has no frames before it is used
        assert guest.reach(0)
        last = counts(guest)
        assert last.ballooned == check(guest) == 0
        assert last.free == empty.free
        assert (balloon.state.locked, balloon.state.unlocked) == (last.inflated, last.deflated) == (pages, pages)
    finally:
        guest.vm.close()


def test_a_target_above_what_the_guest_can_give_takes_all_it_can_and_the_guest_lives():
    """Nothing is asked of the guest meanwhile: without swap, whatever then needs a page costs a process its life."""
    guest = guest_on("svm")
    balloon = guest.host.balloon
    try:
        guest.ask("mount -t tmpfs -o size=90% none /tmp; dd if=/dev/zero of=/tmp/x bs=1M count=60")
        before = counts(guest)
        assert not guest.reach(1 << 20, most_s=4)
        assert balloon.target_pages == balloon.maximum_pages == 32768 * 65 // 100
        assert before.free * 3 // 4 < check(guest) < min(before.free, balloon.target_pages)
        assert guest.reach(0)
        after = counts(guest)
        assert after.ballooned == check(guest) == 0
        assert (balloon.state.locked, balloon.state.unlocked) == (after.inflated, after.deflated)
        assert guest.ask("dmesg | grep -c 'Out of memory'; ls /tmp").split() == ["0", "x"]
    finally:
        guest.vm.close()


def test_no_more_than_65_percent_is_taken_however_much_is_free():
    guest = guest_on("svm")
    try:
        guest.host.balloon.set_target(30_000)
        assert guest.run_until(lambda: guest.host.balloon.locked_pages == 32768 * 65 // 100)
        guest.run_until(lambda: False, most_s=3)
        assert counts(guest).ballooned == check(guest) == 32768 * 65 // 100
    finally:
        guest.vm.close()


@pytest.mark.parametrize(("offered", "lost"), [(CAN_DO, 1), (Capability.BASIC, 0)], ids=["batched", "basic"])
def test_a_page_that_was_touched_makes_the_driver_give_up_its_balloon_and_start_again(offered: Capability, lost: int):
    """The host reads a page in the balloon, as a device would whose transfer goes there.

    Whenever it starts with batches, this driver takes a new page for them and never gives back the old one.
    """
    log = EventLog(keep=True)
    guest = guest_on("svm", offered)
    guest.host.balloon.connect(guest.host.release, lambda _: None, log, guest.vm.engine.now_ns)
    balloon = guest.host.balloon
    try:
        empty = counts(guest)
        assert guest.reach(2000)
        starts = balloon.state.starts
        inside = [ppn for ppn in range(guest.host.pmap.pages) if guest.host.pmap.state_of(ppn) is PageState.BALLOONED]
        assert guest.host.pmap.read(inside[7] << 12, 4096) == bytes(4096)
        assert not balloon.active
        assert [event.ppn for event in log.of(events.BalloonPopped)] == [inside[7]]
        assert guest.run_until(lambda: balloon.state.starts > starts)
        assert log.of(events.BalloonReset)[-1].released_pages == 1999
        assert guest.run_until(lambda: balloon.locked_pages == 2000)
        again = counts(guest)
        assert again.ballooned == check(guest) == 2000
        assert (again.inflated, again.deflated) == (4000, 2000)
        assert empty.free - again.free == 2000 + lost
    finally:
        guest.vm.close()


def test_less_than_4_megabytes_too_many_stay_in_the_balloon():
    guest = guest_on("svm")
    try:
        assert guest.reach(2000)
        guest.host.balloon.set_target(2000 - SLACK_PAGES + 1)
        guest.run_until(lambda: False, most_s=3)
        assert guest.host.balloon.locked_pages == 2000
        guest.host.balloon.set_target(2000 - SLACK_PAGES)
        assert guest.run_until(lambda: guest.host.balloon.locked_pages < 2000)
        assert check(guest) == counts(guest).ballooned
    finally:
        guest.vm.close()


def test_a_driver_that_is_unloaded_gives_everything_back():
    guest = guest_on("svm")
    balloon = guest.host.balloon
    try:
        empty = counts(guest)
        assert guest.reach(1500)
        guest.ask("rmmod vmw_balloon")
        assert not balloon.active
        assert check(guest) == 0
        assert counts(guest).ballooned == 0
        assert counts(guest).free >= empty.free
    finally:
        guest.vm.close()
