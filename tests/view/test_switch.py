"""A frame's way through a virtual switch: the picture shows what the switch did, octet by octet, and says why not."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from vilab.course.switch_guests import GuestLab
from vilab.course.switch_runs import FIVE, GATEWAY, conversation, office
from vilab.errors import AdminError
from vilab.network.cable import CABLE_NS
from vilab.network.ethernet import BROADCAST, tagged, untagged, vlan_of
from vilab.network.vlan_tagging import TRUNK
from vilab.view.frame_bytes import pieces
from vilab.view.switch_bench import VLANS, Bench, BenchPlayback
from vilab.view.switch_draw import rows
from vilab.view.switch_frame import SwitchStep
from vilab.view.switch_track import SwitchTrack


@pytest.fixture(scope="module")
def lab() -> GuestLab:
    return conversation()


@pytest.fixture(scope="module")
def track(lab: GuestLab) -> SwitchTrack:
    return SwitchTrack(lab.recorder.steps, "Who hears it?")


def places(step: SwitchStep) -> set[str]:
    return {copy.place for copy in step.copies}


def first(steps: list[SwitchStep], kind: str) -> SwitchStep:
    return next(step for step in steps if step.kind == kind)


# The first picture ---------------------------------------------------------------------------------------------------


def test_the_broadcast_gets_to_its_vlan_and_to_the_uplink_of_its_sender(lab: GuestLab) -> None:
    step = first(lab.recorder.steps, "forwards")
    assert step.frame[:6] == BROADCAST
    assert places(step) == {"web2", lab.uplink_of("web1")}
    assert {name for name, why in step.refused if why == "not VLAN 10"} == {"db1", "test1", "vmk0"}


def test_everybody_on_the_switch_has_a_copy_or_a_reason_in_two_words(lab: GuestLab) -> None:
    for step in lab.recorder.steps:
        if step.kind != "forwards":
            continue
        names = {m.name for m in step.scene.machines}
        inside = step.origin in names
        everybody = names | ({u.name for u in step.scene.uplinks} if inside else set())
        assert places(step) | {name for name, _ in step.refused} == everybody - {step.origin}
        assert all(1 <= len(why.split()) <= 3 for _, why in step.refused)


def test_copies_are_the_octets_that_were_on_the_ports(lab: GuestLab) -> None:
    seen = {name: {packet.frame for packet in kept} for name, kept in lab.captures.items()}
    for step in lab.recorder.steps:
        if step.kind == "forwards":
            for copy in step.copies:
                assert copy.frame in seen[copy.place]


def test_the_tag_is_there_on_uplinks_and_nowhere_else(lab: GuestLab) -> None:
    machines = {w.name for w in FIVE}
    for step in lab.recorder.steps:
        for copy in step.copies:
            assert (vlan_of(copy.frame) == 10) == (copy.place not in machines and copy.place != GATEWAY.name)


def test_what_comes_back_by_the_other_uplink_is_dropped(lab: GuestLab) -> None:
    back = [step for step in lab.recorder.steps if step.kind == "drops"]
    assert [step.reason for step in back] == ["came back", "came back"]
    assert {step.origin for step in back} == {"vmnic1"}


def test_two_machines_of_one_host_use_no_uplink(lab: GuestLab) -> None:
    pair = {lab.cards[name].mac for name in ("web1", "web2")}
    for name in lab.wires:
        assert not [p for p in lab.captures[name] if {p.frame[:6], p.frame[6:12]} == pair]
    assert lab.said.count("1 of 1 answered") == 2
    assert "56 bytes from 10.0.0.19" in lab.said
    assert "56 bytes from 10.0.0.254" in lab.said


def test_the_rows_are_one_frame_without_and_with_its_tag(lab: GuestLab) -> None:
    step = first(lab.recorder.steps, "forwards")
    inside, outside = rows(step)
    assert (inside.where, outside.where) == ("on web2's port", "on vmnic0")
    assert tagged(inside.frame, 10) == outside.frame
    assert untagged(outside.frame) == inside.frame
    assert pieces(outside.frame)["tag"] == "8100 000a"
    assert {k: v for k, v in pieces(outside.frame).items() if k != "tag"} == pieces(inside.frame)


def test_every_step_looks_and_reads_otherwise_than_the_one_before(track: SwitchTrack) -> None:
    pictures = [track.picture(position) for position in range(track.total + 1)]
    for one, other in pairwise(pictures):
        assert one.stage.under + one.stage.over != other.stage.under + other.stage.over
        assert one.say != other.say
    assert len({picture.stage.height for picture in pictures}) == 1


def test_the_sentences_name_every_copy(track: SwitchTrack) -> None:
    for position, step in enumerate(track.steps):
        for copy in step.copies:
            assert copy.place in track.describe(position)


def test_the_slider_shows_nothing_that_comes_later(track: SwitchTrack) -> None:
    for position in range(track.total + 1):
        assert track.picture(position).timeline.svg.count("g-error") == sum(
            step.kind == "drops" for step in track.steps[: position + 1]
        )


def test_time_goes_on_from_step_to_step(track: SwitchTrack) -> None:
    times = [track.elapsed_ns(position) for position in range(track.total + 1)]
    assert times == sorted(times)
    assert times[2] - times[1] == CABLE_NS


# A switch to be wired ------------------------------------------------------------------------------------------------


@pytest.fixture
def bench() -> Bench:
    return office()


def answered(bench: Bench, who: str, whom: str) -> bool:
    bench.send(who, "ping", whom)
    return "has its answer" in bench.steps[-1].words


ALL = str(TRUNK)
CARRIES = {
    ("0", "0"), ("10", "10"), ("20", "20"), ("10", f"{ALL}:10"), (f"{ALL}:10", "10"), (f"{ALL}:10", f"{ALL}:10"),
    ("0", ALL), (ALL, "0"), (ALL, ALL),
}  # fmt: skip


@pytest.mark.parametrize("one", VLANS)
@pytest.mark.parametrize("other", VLANS)
def test_two_machines_talk_if_their_guests_mean_the_same_vlan(bench: Bench, one: str, other: str) -> None:
    bench.set("vlan", "web1", one)
    bench.set("vlan", "db1", other)
    assert answered(bench, "web1", "db1") == ((one, other) in CARRIES)


def test_a_machine_keeps_its_port_number_and_is_announced_where_it_is_connected(bench: Bench) -> None:
    before = bench.lab.ports["db1"].number
    bench.set("vlan", "db1", "10")
    assert bench.lab.ports["db1"].number == before
    assert [step.kind for step in bench.steps[:3]] == ["begin", "set", "tells"]


def test_a_guest_cannot_choose_its_vlan_unless_its_port_carries_all(bench: Bench) -> None:
    bench.send("web1", "tag")
    assert (bench.steps[2].kind, bench.steps[2].reason) == ("drops", "guest tag")
    bench.set("vlan", "web1", str(TRUNK))
    bench.send("web1", "tag")
    assert "db1" in places(bench.steps[2])


def test_forged_transmits(bench: Bench) -> None:
    bench.send("web1", "forge", "db1")
    assert "web2" in places(bench.steps[2])
    bench.set("policy", "forged_transmits", "reject")
    bench.send("web1", "forge", "db1")
    assert (bench.steps[2].kind, bench.steps[2].reason) == ("drops", "forged source")
    assert rows(bench.steps[2])[0].bad == "source"


def test_mac_changes(bench: Bench) -> None:
    bench.set("policy", "mac_changes", "reject")
    bench.send("web2", "mac")
    assert not answered(bench, "web1", "web2")
    assert ("web2", "address changed") in bench.steps[2].refused
    bench.send("web2", "mac")
    assert answered(bench, "web1", "web2")


def test_promiscuous_mode_needs_a_driver_that_asks_and_a_policy_that_accepts(bench: Bench) -> None:
    def spied() -> bool:
        assert answered(bench, "web1", "web2")
        return any(
            "spy" in places(step) for step in bench.steps if step.kind == "forwards" and step.frame[:6] != BROADCAST
        )

    assert not spied()
    bench.send("spy", "listen")
    assert not spied()
    bench.set("policy", "promiscuous", "accept")
    assert spied()
    bench.set("vlan", "spy", "20")
    assert not spied()


def test_a_pulled_cable_moves_ports_and_the_physical_switch_is_told(bench: Bench) -> None:
    lost = bench.lab.uplink_of("web1")
    bench.set("cable", lost, "out")
    assert [s.kind for s in bench.steps[:3]] == ["begin", "set", "link"]
    moved = [s.origin for s in bench.steps if s.kind == "moves"]
    told = [s.scene.name_of(s.frame[6:12]) for s in bench.steps if s.kind == "tells"]
    assert moved == told
    assert "web1" in moved
    learned = " ".join(s.words for s in bench.steps if s.kind == "outside")
    other = bench.lab.uplink_of("web1")
    assert other != lost
    assert f"web1 is at {other}" in learned
    assert answered(bench, "web1", "gw")


def test_what_cannot_be_is_refused_and_the_last_picture_stays(bench: Bench) -> None:
    playback = BenchPlayback(bench, "?")
    playback.act({"what": "send", "who": "web1", "how": "ping", "whom": "web2"})
    before = list(bench.steps)
    for wish in ({"what": "vlan", "name": "web1", "to": "7"}, {"what": "vlan", "name": "web9", "to": "10"},
                 {"what": "cable", "name": "vmnic7", "to": "out"},
                 {"what": "send", "who": "web1", "how": "ping", "whom": "web1"},
                 {"what": "team", "to": "load"}, {"what": "price", "to": "1"}):  # fmt: skip
        playback.handle({"do": "bench", **wish})
        assert playback.notice is not None, wish
        assert "invariant" not in playback.notice[0], wish
        assert bench.steps == before
    with pytest.raises(AdminError):
        bench.set("policy", "honesty", "accept")


def test_pressing_a_port_in_the_picture_goes_through_all_port_groups(bench: Bench) -> None:
    playback = BenchPlayback(bench, "?")
    seen = []
    for _ in VLANS:
        playback.act({"what": "next", "kind": "vlan", "name": "web1"})
        seen.append(playback.frame()["bench"]["machines"][0][1])
    assert sorted(seen) == sorted(VLANS)
    assert seen[-1] == "10"


def test_a_broadcast_is_asked_about_and_the_answer_is_not_in_the_page(bench: Bench) -> None:
    playback = BenchPlayback(bench, "?")
    playback.act({"what": "send", "who": "web1", "how": "broadcast"})
    playback.step()
    playback.step()
    assert playback.asked is not None
    frame = playback.frame()
    assert not frame["revealed"]
    assert "web2 and spy" not in str(frame)
    playback.reveal(2)
    assert playback.asked.card.right == 2
    assert "web2 and spy" in playback.asked.card.why


def test_words_of_a_guest_are_escaped(bench: Bench) -> None:
    track = SwitchTrack(bench.steps, "<who> & why?")
    assert "<who>" not in re.sub(r"<(/?[a-z]+)[^>]*>", "", track.picture(0).stage.label).replace("<who>", "", 1)
