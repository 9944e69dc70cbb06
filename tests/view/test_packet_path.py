"""One packet through a PCnet card: the steps are the log's events, exits are counted once, rings are what memory is."""

from __future__ import annotations

from functools import cache

import pytest

from vilab.course.one_packet import SLOT, OnePacket, PcnetGuest
from vilab.course.predictions_cards import packet_questions
from vilab.devices import pcnet_registers as r
from vilab.devices.adapter_events import AdapterRegisterWritten, DmaMoved
from vilab.devices.network_events import FrameFetched
from vilab.events import Event, PortRead, VmExit
from vilab.network import packets
from vilab.view.packet_path import CARD, DRIVER, MEMORY, MONITOR, PORT, exits, status_words, transfers
from vilab.view.packet_path_beside import Beat, BesideTrack, Way, fewest
from vilab.view.packet_path_rings import Owner, Rings, changes
from vilab.view.packet_path_track import PacketPathTrack


@cache
def run() -> OnePacket:
    made = OnePacket()
    made.stops()
    return made


def events() -> list[Event]:
    return [moment.event for moment in run().moments]


def test_the_program_has_its_answer() -> None:
    assert "ping: 1 of 1 answered" in run().said


def test_every_vm_exit_of_the_log_is_counted_once() -> None:
    made = run().stops()
    assert exits(made) == sum(isinstance(event, VmExit) for event in events())
    accesses = sum(isinstance(event, AdapterRegisterWritten) for event in events())
    reads = sum(isinstance(event, PortRead) for event in events())
    assert exits(made, "card") == accesses + reads


def test_every_transfer_is_a_step() -> None:
    assert transfers(run().stops()) == sum(isinstance(event, DmaMoved) and event.slot == SLOT for event in events())


def test_the_packet_goes_down_and_comes_back() -> None:
    lanes = [stop.lane for stop in run().stops()]
    once = [lane for at, lane in enumerate(lanes) if not at or lane != lanes[at - 1]]
    assert once[:5] == [DRIVER, MONITOR, MEMORY, PORT, MEMORY]
    assert once[-3:] == [DRIVER, MONITOR, DRIVER]
    assert CARD in once


def test_the_bell_is_rung_after_the_descriptor_was_given() -> None:
    made = run().stops()
    given = next(at for at, stop in enumerate(made) if stop.name.endswith("OWN <- 1"))
    rung = next(at for at, stop in enumerate(made) if stop.status is not None and stop.status & r.TDMD)
    assert given < rung
    assert not made[given].exit


def test_own_is_given_back_after_the_message() -> None:
    names = [stop.name.split(" ")[0] for stop in run().stops() if stop.lane == MEMORY]
    assert names == ["descriptor", "frame", "message", "OWN", "descriptor", "descriptor", "frame", "message", "OWN"]


def test_the_frame_on_the_port_is_the_ping_that_was_typed() -> None:
    frame = next(event.frame for event in events() if isinstance(event, FrameFetched))
    packet = packets.parse_ipv4(frame[14:])
    assert packet.destination == bytes((10, 0, 0, 1))
    assert packets.parse_icmp(packet.payload).kind == packets.ECHO_REQUEST
    assert any(stop.frame == frame and stop.lane == PORT for stop in run().stops())


def test_the_rings_are_as_the_driver_has_made_them() -> None:
    rings = PcnetGuest().rings()
    assert [owner.card for owner in rings.receive] == [True] * 8
    assert [owner.card for owner in rings.send] == [False] * 8


def test_changes_of_hands() -> None:
    before = Rings((Owner(False), Owner(True)), (Owner(True),))
    after = Rings((Owner(True), Owner(True)), (Owner(False, 64),))
    assert changes(before, after) == [("send", 0, True), ("receive", 0, False)]


@pytest.mark.parametrize(("value", "words"), [(0, "nothing"), (0x0048, "IENA TDMD"), (0x8000, "ERR")])
def test_status_in_words(value: int, words: str) -> None:
    assert status_words(value) == words


def test_the_questions_are_judged_by_the_run() -> None:
    track = PacketPathTrack(run(), "?")
    ask = packet_questions(track)
    asked = [question for at in range(track.total) if (question := ask(at))]
    assert [question.options[question.right()] for question in asked] == [
        "9 to 20 times.", "None.", "3 times: frame, length, flags.",
    ]  # fmt: skip


def test_pictures_hold_nothing_of_what_comes() -> None:
    track = PacketPathTrack(run(), "?")
    assert "INTA" not in track.picture(8).stage.over
    assert "INTA high" in track.picture(12).stage.over
    heights = {track.picture(at).stage.height for at in range(track.total + 1)}
    assert len(heights) == 1


def test_while_a_frame_is_there_its_fields_are_shown() -> None:
    track = PacketPathTrack(run(), "?")
    at = next(at for at, stop in enumerate(track.made, 1) if stop.frame)
    assert track.picture(at).panels[0].title == "The frame"
    assert track.picture(at + 1).panels[0].title == "Status register"


def ways() -> list[Way]:
    few = (Beat("write", "TDT"), Beat("dma", "frame read"), Beat("frame", "out"))
    many = (*few, Beat("interrupt", "INTA"), Beat("pic", "20"), Beat("read", "ICR"))
    return [Way("a", "one", many), Way("b", "two", few), Way("c", "none", ())]


def test_ways_beside_each_other_end_when_they_end() -> None:
    track = BesideTrack(ways, "?")
    assert track.total == 6
    assert track.describe(3) == "a: the frame leaves; b is done, 1 exit."
    assert track.describe(6) == "a is done, 3 exits; b is done, 1 exit."
    assert track.next_like(1, 1) == 3
    assert "ICR" not in str(track.picture(5))


def test_which_needs_fewest() -> None:
    question = fewest(ways()[:2])
    assert question.options[question.right()] == "b"
