"""The picture of pre-copy: areas are bytes, places are those of the slider, words say what the picture shows."""

from __future__ import annotations

import re

import pytest

from tests.view import vmotion_samples as samples
from vilab.events import Event
from vilab.migration.migration_events import MachineStunned, MigrationBegan
from vilab.view import still
from vilab.view.vmotion_clock import clock
from vilab.view.vmotion_labels import Place, Space, width
from vilab.view.vmotion_run import MigrationRun
from vilab.view.vmotion_scale import HIGH, RIGHT, squares, ticks
from vilab.view.vmotion_text import reason
from vilab.view.vmotion_track import VMotionPlayback, VMotionTrack
from vilab.view.vmotion_units import in_unit, memory, rate, size, square, time

NBSP = "\u00a0"
TOKENS = re.compile(r"(?:fill|stroke):(?!none|var\(--vl-)")


def track(name: str = "specweb") -> VMotionTrack:
    return VMotionTrack(samples.ALL[name](), "When should pre-copy give up?")


def filled(svg: str) -> list[tuple[int, float, str]]:
    """(bytes, area in units of the stage, hue) of each round's squares: the shoelace formula on their outlines."""
    found = []
    for path, size_bytes, hue in re.findall(
        r'<path d="([^"]*)" data-bytes="(\d+)" style="fill:var\(--vl-(\w+)-fill\)"', svg
    ):
        area = 0.0
        for part in path.split("Z"):
            points, x, y = [], 0.0, 0.0
            for letter, numbers in re.findall(r"([MHV])([-\d. ]*)", part):
                if letter == "M":
                    x, y = (float(each) for each in numbers.split())
                elif letter == "H":
                    x = float(numbers)
                else:
                    y = float(numbers)
                points.append((x, y))
            area += abs(
                sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, [*points[1:], *points[:1]], strict=True)) / 2
            )
        found.append((int(size_bytes), area, hue))
    return found


# Areas ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in samples.ALL if name != "refused"])
def test_an_area_is_a_number_of_bytes(name: str) -> None:
    shown = track(name)
    made = filled(shown.picture(shown.total).stage.under)
    scale = shown.layout.scale
    assert shown.run is not None
    assert [size_bytes for size_bytes, _, _ in made] == [each.bytes for each in shown.run.seen.rounds if each.bytes]
    for size_bytes, area, _ in made:
        assert area / scale.side**2 == pytest.approx(size_bytes / scale.unit_bytes, rel=0.01, abs=0.05)


def test_only_what_was_sent_with_the_machine_stopped_is_orange() -> None:
    made = filled(track().picture(10).stage.under)
    assert [hue for _, _, hue in made] == ["guest"] * 8 + ["vmm"]


def test_what_was_written_again_before_its_turn_is_hollow_and_belongs_to_the_round() -> None:
    shown = track("skipped")
    assert shown.run is not None
    svg = shown.picture(shown.total).stage.under
    due = [int(found) for found in re.findall(r'data-due="(\d+)"', svg)]
    assert due == [each.due_bytes for each in shown.run.seen.rounds[1:-1]]
    assert "written again before their turn" in svg
    assert "written again" not in track("specweb").picture(9).stage.under
    assert shown.describe(10) == (
        "Round 10 sends 256 KB of the 1,228 KB that round 9 left; the rest was written again first. Meanwhile the "
        "guest writes to 1,228 KB: faster than pages go."
    )
    assert ">512\u00a0KB</text>" in svg


def test_sizes_of_one_picture_have_one_unit_and_the_twin_has_it_too() -> None:
    shown = track("quake")
    texts = re.findall(r'<text [^>]*class="(?:xl )?b mid tab[^>]*>([^<]*)<', shown.picture(11).stage.under)
    assert {*texts} == {f"56.3{NBSP}MB", "20.4", "4.6", "1.6", "1.2", "0.9", "1.1", "0.8", "0.2", "0.1"}
    assert "4.6 MB in" in shown.describe(3)
    assert "0.9 MB in" in shown.describe(6)


def test_the_mock_ups_squares() -> None:
    scale = track().layout.scale
    assert scale.unit_bytes == samples.MB
    assert scale.across == 5
    assert [block.columns for block in scale.blocks] == [6, 1, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("most", [1, 4096, 60_000, 1 << 20, 800 << 20, 64 << 30, 3 << 40])
@pytest.mark.parametrize("rounds", [1, 2, 9, 30, 61, 300])
@pytest.mark.parametrize("shape", ["falling", "level"])
def test_every_size_and_number_of_rounds_has_room(most: int, rounds: int, shape: str) -> None:
    sizes = [max(1, most >> (2 * at if shape == "falling" else 0)) for at in range(rounds)]
    scale = squares(sizes)
    assert len(scale.blocks) == rounds
    assert scale.blocks[-1].x + scale.blocks[-1].width <= RIGHT + 0.01
    for before, after in zip(scale.blocks, scale.blocks[1:], strict=False):
        assert before.x + before.width < after.x
    for size_bytes, block in zip(sizes, scale.blocks, strict=True):
        assert size_bytes <= scale.unit_bytes * scale.column_squares * block.columns
        assert scale.height(size_bytes) <= HIGH * scale.side + 1e-9
    assert scale.unit_bytes & (scale.unit_bytes - 1) == 0


def test_small_and_large_machines_get_squares_that_can_be_counted() -> None:
    assert square(squares([64 * 4096]).unit_bytes) == f"1{NBSP}KB sent"
    assert square(squares([16 << 20, 1 << 20, 80_000]).unit_bytes) == f"32{NBSP}KB sent"
    assert square(4096) == f"4{NBSP}KB sent, a page"
    assert square(squares([64 << 30, 8 << 30]).unit_bytes) == f"128{NBSP}MB sent"


@pytest.mark.parametrize(
    ("most", "wanted"), [(724, (0, 200, 400, 600, 800)), (9.3, (0, 2.5, 5, 7.5, 10)), (1, (0, 0.25, 0.5, 0.75, 1))]
)
def test_ticks_are_round_and_reach_the_top(most: float, wanted: tuple[float, ...]) -> None:
    assert ticks(most) == pytest.approx(wanted)


@pytest.mark.parametrize("most", [0.001, 0.37, 3, 12.5, 99, 101, 12345, 7e9])
def test_the_last_tick_is_not_below_the_value_and_not_far_above(most: float) -> None:
    made = ticks(most)
    assert made[0] == 0
    assert most <= made[-1] <= 2.6 * most
    assert 3 <= len(made) <= 5


# Words ---------------------------------------------------------------------------------------------------------------


def test_quantities_are_written_as_the_field_writes_them() -> None:
    assert size(676.8 * samples.MB) == f"676.8{NBSP}MB"
    assert size(148 * 1024) == f"148{NBSP}KB"
    assert size(0) == f"0{NBSP}KB"
    assert size(1 << 40) == f"1.0{NBSP}TB"
    assert memory(800 << 20) == f"800{NBSP}MB"
    assert memory(192 * 1024) == f"192{NBSP}KB"
    assert in_unit(39 << 20, 1 << 20) == "39.0"
    assert rate(100.1e6 / 8) == f"100{NBSP}Mb/s"
    assert rate(1.25e9) == f"10{NBSP}Gb/s"
    assert rate(0) == f"0.0{NBSP}kb/s"
    assert time(201e6) == f"201{NBSP}ms"
    assert time(71e9) == f"71.0{NBSP}s"
    assert time(999_990_000) == f"1.0{NBSP}s"
    assert time(0) == f"0{NBSP}s"
    assert reason("esx2 is full", ("esx2",)) == "esx2 is full."
    assert reason("the link was cut.") == "The link was cut."


SAYS = {
    ("specweb", 0): (
        "Nothing is sent yet. web1 runs on esx1 and has 800 MB, 204,800 pages. It is to run on esx2. Step "
        "sends the first round."
    ),
    ("specweb", 1): (
        "Round 1 sends all memory: 676.8 MB in 56.7 s, at 100 Mb/s. Meanwhile the guest writes to 126.7 MB, at 19 Mb/s."
    ),
    ("specweb", 8): (
        "Round 8 sends what round 7 left: 15.3 MB in 520 ms, at 247 Mb/s. Meanwhile the guest writes to 18.2 "
        "MB: faster than pages go."
    ),
    ("specweb", 9): (
        "Stop after round 8: the rate needed, 344 Mbit/s, wins nothing: round 8 leaves more than it had. "
        "Round 9 goes with the VM stopped: 18.2 MB in 211 ms."
    ),
    ("specweb", 10): (
        "web1 runs on esx2. It stood still for 220 ms of 76.1 s, 211 ms of them for the last copy. 959.5 MB "
        "were sent, 1.20 times its memory."
    ),
    ("one", 1): (
        "Stop at once: all 4096 pages are sent while the machine stands still. Round 1 goes with the VM "
        "stopped: 16.0 MB in 143 ms."
    ),
    ("writers", 12): (
        "3 processes are stopped in round 12: with 120 write faults they write faster than pages go. They run"
        " on when the VM has moved."
    ),
    ("live", 4): "Round 4 is under way: 11.3 MB of 28.4 MB are sent. Meanwhile the guest has written to 11.7 MB.",
    ("aborted", 3): (
        "Not moved: db1 runs on at esx1. The connection between esx1 and esx2 was cut in round 3: the source "
        "goes on. It never stood still."
    ),
    ("given_back", 4): (
        "Not moved: db1 runs on at esx1. esx2 has lost the datastore san1, which esx1 still reaches: look at "
        "the paths of esx2. It stood still for 36 ms."
    ),
    (
        "refused",
        1,
    ): "Not moved: db1 runs on at esx1. Host esx2 has no VMkernel port for VMotion, esx1 has vmk1: add one.",
}


@pytest.mark.parametrize(("name", "position"), SAYS)
def test_the_text_twin(name: str, position: int) -> None:
    assert track(name).describe(position) == SAYS[(name, position)]


def test_off_is_said_with_its_reason() -> None:
    told = samples.Teller(16)
    told.stun("post")
    told.end(False, "both hosts lost the datastore: the VM is off, its disk is clean.")
    shown = VMotionTrack(told.events, "?")
    assert shown.describe(1) == (
        "web1 does not run any more. Both hosts lost the datastore: the VM is off, its disk is clean."
    )
    assert "✕ does not run" in shown.picture(1).stage.under


def test_one_writer_is_named_by_its_address_space() -> None:
    events = [event for event in samples.stunned_writers() if getattr(event, "address_space", 0xA41000) == 0xA41000]
    assert "The process with CR3 00a41000 is stopped in round 12: 40 write faults" in (
        VMotionTrack(events, "?").describe(12)
    )


def test_zero_pages_and_a_guest_at_rest() -> None:
    told = samples.Teller(8)
    told.round(2, 900, 0, zero=1536)
    assert "1,536 pages of zeros took no content. Meanwhile the guest has written nothing." in (
        VMotionTrack(told.events, "?").describe(1)
    )


@pytest.mark.parametrize("name", samples.ALL)
def test_the_twin_fits_its_place_and_says_what_the_picture_shows(name: str) -> None:
    shown = track(name)
    for position in range(shown.total + 1):
        made = shown.picture(position)
        assert len(shown.describe(position)) <= 185
        assert made.stage.label.startswith("When should pre-copy give up?")
        assert "**" not in made.value_text
        assert NBSP not in made.stage.label
        assert made.fault == (position > 0 and shown.kind_of(position) == "failed")


# The picture ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", samples.ALL)
def test_every_colour_is_a_token_and_the_height_stays(name: str) -> None:
    shown = track(name)
    stages = [shown.picture(position).stage for position in range(shown.total + 1)]
    assert len({(stage.height, stage.lecture_height) for stage in stages}) == 1
    for stage in stages:
        assert not TOKENS.search(stage.under)
        assert stage.lecture_height < stage.height
        assert "vl-second" in stage.under


def test_the_future_is_not_drawn() -> None:
    shown = track()
    for position in range(shown.total):
        drawn = shown.picture(position)
        for at in range(position, 9):
            assert f">{samples.SPECWEB_MB[at]}<" not in drawn.stage.under
        assert drawn.timeline.svg.count("data-kind") == position
        assert "runs on esx2" not in drawn.stage.under
    assert "another round would gain nothing" not in shown.picture(8).stage.under
    assert "another round would gain nothing" in shown.picture(9).stage.under


def test_places_do_not_move_while_it_is_stepped_through() -> None:
    shown = track()
    first = [re.search(r'<path d="(M44[^"]*)" data-bytes', shown.picture(at).stage.under) for at in range(1, 11)]
    assert len({found[1] for found in first if found}) == 1
    keys = [re.search(r'<text x="([\d.]+)" y="([\d.]+)" class="s soft" >1 square', shown.picture(at).stage.under)
            for at in range(11)]  # fmt: skip
    assert len({found.groups() for found in keys if found}) == 1


@pytest.mark.parametrize("name", [*samples.ALL])
def test_the_knob_stands_under_its_round(name: str) -> None:
    """The page reckons ``left + (right - left) * n / total``."""
    shown = track(name)
    stops = shown.stops()
    assert stops == sorted(stops)
    assert len(set(stops)) == len(stops)
    for position in range(shown.total + 1):
        line = shown.picture(position).timeline
        assert line.left + (line.right - line.left) * position / max(shown.total, 1) == pytest.approx(stops[position])
        assert f'data-stops="{" ".join(f"{x:.2f}".rstrip("0").rstrip(".") for x in stops)}"' in line.svg
    for at, step in enumerate(shown.run.steps if shown.run else (), 1):
        if step.kind in ("round", "stopped", "open"):
            assert stops[at] == shown.layout.scale.blocks[len(step.seen.rounds) - 1].middle


def test_glyphs_tell_the_kinds_apart() -> None:
    svg = track("writers").picture(18).timeline.svg
    assert svg.count('data-kind="round"') == 15
    assert svg.count("g-trap") == 1
    assert "g-error" in track("aborted").picture(3).timeline.svg


def test_a_thin_standstill_is_a_mark_on_the_clock() -> None:
    run = MigrationRun.of(samples.specweb())
    assert run is not None
    bars = re.findall(r'd="M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)[^"]*" data-clock="(\w+)"', clock(run.seen, run.seen))
    assert [bar[4] for bar in bars] == ["guest"] * 8 + ["vmm"]
    assert float(bars[-1][2]) == 3
    assert float(bars[-1][3]) > float(bars[0][3])
    lengths = [float(bar[2]) for bar in bars[:8]]
    took = [each.sent.duration_ns for each in run.seen.rounds[:8] if each.sent]
    assert [x / sum(lengths) for x in lengths] == pytest.approx([x / sum(took) for x in took], abs=1e-4)


def test_a_label_is_left_out_rather_than_put_upon_another() -> None:
    space = Space(0, 0, 200, 40)
    wide = width("126.7 MB", 14, True)
    assert space.put(wide, 14, [Place(10, 20)]) == Place(10, 20)
    assert space.put(wide, 14, [Place(20, 22)]) is None
    assert space.put(wide, 14, [Place(20, 22), Place(110, 22)]) == Place(110, 22)
    assert space.put(300, 14, [Place(0, 20)]) is None


def test_panels_say_what_the_log_says() -> None:
    state, log = track("quake").picture(12).panels
    assert [row.cells[0].text for row in log.rows] == [str(number) for number in range(1, 12)]
    assert log.rows[0].cells[1].text == f"56.3{NBSP}MB"
    assert [row.goto for row in log.rows] == list(range(1, 12))
    facts = {row.cells[0].text: row.cells[1].text for row in state.rows}
    assert facts["way"] == "esx1 → esx2"
    assert facts["memory"] == f"64{NBSP}MB"
    assert facts["sent"] == f"88.4{NBSP}MB, 1.38 times its memory"
    _, writers = track("writers").picture(13).panels
    assert writers.rows[11].cells[1].text == "3 processes stopped"


def test_the_stored_picture_needs_no_page() -> None:
    svg = still.svg(track().picture(9))
    assert svg.startswith("<svg")
    assert "VM stopped" in svg
    assert "Stop after round 8" in svg


# While it runs -------------------------------------------------------------------------------------------------------


def test_nothing_has_begun() -> None:
    shown = VMotionTrack([], "?")
    assert shown.total == 0
    assert shown.describe(0).startswith("No migration has begun.")
    assert shown.picture(0).stage.under


def test_who_stands_at_the_end_goes_on_with_the_log() -> None:
    events = samples.specweb()
    playback = VMotionPlayback(VMotionTrack([], "?"))
    for at in range(1, len(events) + 1):
        playback.take(events[:at])
        assert playback.position == playback.track.total
    assert playback.describe().startswith("web1 runs on esx2.")
    playback.seek(3)
    playback.take(events)
    assert playback.position == 3


def test_event_by_event_is_the_same_as_the_whole_log() -> None:
    for make in samples.ALL.values():
        events = make()
        playback = VMotionPlayback(VMotionTrack([], "?"))
        for event in events:
            assert playback.add(event)
        whole = VMotionTrack(events, "?")
        assert playback.picture() == whole.picture(whole.total)


def test_an_open_question_is_not_taken_away_by_an_event() -> None:
    from vilab.view.predict import Prediction

    events = samples.specweb()
    asked = Prediction("How much?", ("a", "b"), lambda: 0, "so.")
    playback = VMotionPlayback(VMotionTrack(events[:6], "?"), lambda position: asked, 1)
    playback.step()
    playback.take(events)
    assert playback.asked is not None
    assert playback.position == 1


def test_room_for_nine_rounds_while_nobody_knows_how_many_there_will_be() -> None:
    events = samples.constant(14)
    began = next(event for event in events if isinstance(event, MigrationBegan))
    places = set()
    for at in range(3, 19):
        shown = VMotionTrack(events[:at], "?")
        assert shown.run is not None
        places.add(len(shown.layout.scale.blocks))
    assert places == {9}
    assert VMotionTrack([began], "?").layout.scale.unit_bytes == squares([256 << 20], 9).unit_bytes
    running: list[Event] = [event for event in events if not isinstance(event, MachineStunned)][:25]
    assert len(VMotionTrack(running, "?").layout.scale.blocks) == 15
