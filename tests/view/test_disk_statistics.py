"""Where a disk's time goes: bars as long as what was counted, a block a request, and nothing of the future."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vilab.course import storage_views as views
from vilab.course.disk_time import AtOnce
from vilab.course.one_write import OneWrite
from vilab.storage.disk_statistics import OPERATIONS, DiskStatistics, Operation
from vilab.storage.scsi.request import ScsiCommand
from vilab.storage.timed import Latency
from vilab.view import still
from vilab.view.disk_statistics import BAR, LEFT, RIGHT, DiskStatisticsTrack, Moment
from vilab.view.frame import WIDTH

MS = 1_000_000


class Disk:
    """Serves what it is told in the order in which it is told."""

    lanes = 1

    def __init__(self, *requests: tuple[Operation, int, int]) -> None:
        """Each: what, when it is given, how long it takes."""
        self.made: list[Moment] = []
        counted, free_ns = DiskStatistics(), 0
        for number, (operation, given_ns, takes_ns) in enumerate(requests):
            begun_ns = max(given_ns, free_ns)
            free_ns = begun_ns + takes_ns
            counted.queued(1 + sum(given_ns < moment.at_ns for moment in self.made))
            counted.ended(operation, 4096, given_ns, begun_ns, free_ns, "done")
            self.made.append(Moment(f"request {number}", free_ns, counted.copy()))

    def moments(self) -> list[Moment]:
        return self.made


def bars(drawn: str) -> list[float]:
    """Widths, from left to right and top to bottom."""
    return [float(each) for each in re.findall(rf'width="([\d.]+)" height="{BAR:g}"', drawn)]


@cache
def run() -> OneWrite:
    return OneWrite()


def test_what_is_served_is_as_long_as_the_disk_works_and_waiting_comes_on_top():
    track = DiskStatisticsTrack(Disk(("write", 0, 6 * MS), ("flush", 0, 2 * MS), ("read", 10 * MS, 4 * MS)), "Where?")
    works, idle, served, waiting = bars(track.picture(3).stage.over)
    unit = (RIGHT - LEFT) / 18  # 12 ms worked, 2 idle; 12 served, 6 waited
    assert [works, idle, served, waiting] == pytest.approx([12 * unit, 2 * unit, 12 * unit, 6 * unit], abs=0.1)
    assert track.describe(3) == (
        "request 2 was served at once, for 4.0 ms. So far the disk works 86 % of the time, and its requests wait "
        "33 % of theirs."
    )
    assert track.describe(2).startswith(
        "request 1 waited for 6.0 ms and was served for 2.0 ms. So far the disk works 100 %"
    )


def test_each_request_is_a_block_in_the_column_of_its_latency():
    track = DiskStatisticsTrack(
        Disk(*[("read", 20 * MS * at, 3 * MS) for at in range(3)], ("read", 90 * MS, 9 * MS)), ""
    )
    drawn = track.picture(4).stage.over
    assert [float(each) for each in re.findall(r'width="36.96" height="([\d.]+)" style="fill:var', drawn)] == [72, 24]
    assert drawn.count("stroke-width:1.5") == 1, "blocks that stand on each other are cut apart"
    labels = re.findall(r">([\d.]+\xa0.s)</text>", drawn)
    assert labels == ["128.0\xa0µs", "512.0\xa0µs", "2.0\xa0ms", "8.2\xa0ms", "32.8\xa0ms", "131.1\xa0ms"]


@pytest.mark.parametrize("takes_ns", [500, 20_000, 5 * MS, 2_000 * MS, 10_000_000 * MS])
def test_a_request_of_any_length_has_its_column_in_the_picture(takes_ns: int):
    drawn = DiskStatisticsTrack(Disk(("read", 0, takes_ns)), "").picture(1).stage.over
    (x,) = re.findall(r'<rect x="([\d.]+)"[^>]*height="24" style="fill:var\(--vl-host-fill\)', drawn)
    assert LEFT < float(x) < RIGHT


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 100 * MS), st.integers(1, 50 * MS)),
        min_size=1,
        max_size=9,
    )
)
def test_a_moment_does_not_know_what_comes_after_it(requests: list[tuple[Operation, int, int]]):
    whole, begun = DiskStatisticsTrack(Disk(*requests), ""), len(requests) // 2
    part = DiskStatisticsTrack(Disk(*requests[:begun]), "")
    assert whole.picture(begun).stage == part.picture(begun).stage
    assert whole.describe(begun) == part.describe(begun)
    drawn = whole.picture(whole.total).stage.over
    assert all(width <= RIGHT - LEFT + 0.1 for width in bars(drawn))
    for x, anchored in re.findall(r'<text x="([\d.]+)"[^>]*class="([^"]*)"', drawn):
        assert float(x) <= WIDTH if "end" in anchored else float(x) < WIDTH
    counted = whole.figures(whole.total)
    assert counted.latency_ns == counted.waited_ns + counted.busy_ns
    assert sum(counted.latency_histogram) == counted.requests == len(requests)


def test_the_disk_of_the_lesson_counts_the_commands_of_the_log():
    commands = [event for event in run().events if isinstance(event, ScsiCommand) and event.nexus == "vmhba0"]
    moments = run().requests.moments()
    assert len(moments) == len(commands) == 6
    counted = moments[-1].statistics
    assert counted.write.bytes == sum(event.data_out_bytes for event in commands)
    assert (counted.write.requests, counted.flush.requests, counted.read.requests) == (3, 3, 0)
    assert (counted.waited_ns, counted.deepest_queue) == (0, 1), "its driver waits for each"


def test_all_at_once_works_as_long_and_waits_for_what_is_before():
    one_by_one = run().requests.moments()
    once = AtOnce(run().requests.cdbs, Latency(), 8 << 20).moments()
    assert [moment.name for moment in once] == [moment.name for moment in one_by_one]
    last, before = once[-1].statistics, one_by_one[-1].statistics
    assert (last.busy_ns, last.deepest_queue) == (before.busy_ns, 6)
    assert last.busy_ns == once[-1].at_ns < one_by_one[-1].at_ns
    assert last.waited_ns == sum(moment.at_ns for moment in once[:-1]), "each begins when the one before has ended"


def test_the_questions_know_what_was_measured():
    for view, right in ((views.disk_time("", run(), ask=True), 2), (views.all_at_once("", run(), ask=True), 1)):
        playback = view.playback
        playback.step()
        assert playback.asked is not None
        assert playback.asked.card.right is None
        assert playback.picture().position == 0
        playback.reveal(0)
        assert playback.asked.card.right == right
        assert re.search(r"\d %", playback.asked.card.why)


def test_panels_say_what_is_not_drawn():
    counts, log = DiskStatisticsTrack(run().requests, "").picture(6).panels
    assert [[cell.text for cell in row.cells[:3]] for row in counts.rows] == [
        ["read", "0", "0"], ["write", "3", "29,184"], ["flush", "3", "0"], ["unmap", "0", "0"],
    ]  # fmt: skip
    assert [row.mark for row in counts.rows] == ["", "", "now", ""]
    assert len(log.rows) == 6
    assert log.rows[0].cells[1].text == "WRITE(10), sectors 112 to 119"


def test_before_the_first_request_the_frame_stands():
    track = DiskStatisticsTrack(Disk(("read", 0, MS)), "Where?")
    picture = track.picture(0)
    assert "Step until the first request has ended." in picture.stage.over
    assert not bars(picture.stage.over)
    assert "deepest queue" in still.svg(picture)
