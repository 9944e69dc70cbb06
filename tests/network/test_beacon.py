"""Beacon probing: three cards find the one that the network does not reach, two cannot tell."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.network.ends import mac, number_of, numbered
from tests.network.site import OUTSIDE, OUTSIDE_IP, Site
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.network.beacon import BEACON, MISSED, Beacon, BeaconError, BeaconProber, Verdict, parse_beacon
from vilab.network.ethernet import BROADCAST, frame_of, type_of, untagged, vlan_of
from vilab.network.physical_events import BeaconVerdict, UplinkMoved
from vilab.network.physical_nic import PhysicalNic
from vilab.network.policies import Policies, TeamingPolicy
from vilab.network.wire import Wire

SECOND = 1_000_000_000


def policy(cards: int, failback: bool = True, standby: int = 0) -> TeamingPolicy:
    names = tuple(f"vmnic{number}" for number in range(cards))
    active, rest = names[: cards - standby], names[cards - standby :]
    return TeamingPolicy(active=active, standby=rest, detection="beacon", failback=failback)


@pytest.mark.parametrize("missed", [1, MISSED])
def test_a_failure_behind_the_switch_is_found_in_time_and_the_machine_moves(missed: int) -> None:
    """The link of the card stays up: only beacons can tell. With one missed beacon, within its period."""
    site = Site(policy(3), cards=3, missed=missed)
    machine = site.peer(1)  # port 9: the first card
    site.run(2.2)
    machine.ping(OUTSIDE_IP)
    site.run(0.1)
    assert len(machine.replies) == 1
    already, at_ns = len(site.notified()), site.clock.now_ns
    site.upstream[0].pull()
    assert site.nics[0].link_up
    site.run(site.teams.prober.detection_ns / SECOND)
    (verdict,) = site.log.of(BeaconVerdict)
    assert (verdict.failed, verdict.shotgun) == (("vmnic0",), False)
    (told,) = site.notified()[already:]
    assert told[1:] == (mac(1), None)
    assert 0 < told[0] - at_ns <= missed * SECOND
    machine.ping(OUTSIDE_IP, sequence=2)
    site.outside.ping(machine.ip)
    site.run(0.1)
    assert len(machine.replies) == 2
    assert len(site.outside.replies) == 1


@pytest.mark.parametrize("failback", [True, False])
def test_a_repaired_network_is_used_again_if_failback_says_so(failback: bool) -> None:
    site = Site(policy(3, failback), cards=3)
    machine = site.peer(1)
    site.run(1)
    site.upstream[0].pull()
    site.run(4)
    site.upstream[0].plug_in()
    site.run(1.5)
    machine.ping(OUTSIDE_IP)
    site.run(0.1)
    assert len(machine.replies) == 1
    moves = [(move.to_nic, move.why) for move in site.log.of(UplinkMoved)]
    spread = moves[1][0]
    assert moves == [("vmnic0", "connected"), (spread, "beacon"), *([("vmnic0", "failback")] if failback else [])]
    assert site.core.where(mac(1)) == ("0" if failback else str(spread)[-1])


def test_a_standby_card_is_probed_too_and_takes_over() -> None:
    site = Site(policy(3, standby=1), cards=3)
    for number in (1, 2):  # ports 9 and 10: the second card, the first
        site.connect(number)
    site.run(1)
    site.upstream[0].pull()
    site.run(4)
    assert (site.core.where(mac(1)), site.core.where(mac(2))) == ("1", "2")


@pytest.mark.parametrize("broken", [0, 1])
def test_two_cards_cannot_tell_and_everything_goes_over_both(broken: int) -> None:
    site = Site(policy(2), cards=2)
    machine = site.peer(1)
    site.run(1)
    site.upstream[broken].pull()
    site.run(4)
    assert [(v.failed, v.shotgun) for v in site.log.of(BeaconVerdict)] == [((), True)]
    assert [told[1] for told in site.notified()[1:]] == [mac(1)], "over both, and one of them gets through"
    before = site.sent_over()
    machine.ping(OUTSIDE_IP)
    site.run(0.1)
    assert len(machine.replies) == 1, "one of the two ways is one"
    sent = [now - then for now, then in zip(site.sent_over(), before, strict=True)]
    assert sent[0] == sent[1] >= 2
    site.upstream[broken].plug_in()
    site.run(1.5)
    assert site.log.of(BeaconVerdict)[-1].shotgun is False


def test_shotgun_delivers_no_broadcast_twice() -> None:
    """Both ways reach the outside, but no beacon gets from one card to the other."""
    site = Site(policy(2), cards=2)
    for number in "01":  # beacons, and nothing else, are lost on their way
        port = site.core.port(number)
        deliver = port.transmit
        port.transmit = lambda frame, deliver=deliver: None if type_of(frame) == BEACON else deliver(frame)  # type: ignore[method-assign]
        (site.upstream[int(number)]).b.attach(port, port.carrier_changed)
    machine = site.listener(1)
    site.run(4)
    assert site.log.of(BeaconVerdict)[-1].shotgun
    for number in range(20):
        site.outside.port.transmit(numbered(number, BROADCAST, OUTSIDE))
        site.run(0.001)
    assert Counter(number_of(f) for f in machine.frames) == dict.fromkeys(range(20), 1)


def test_a_clock_that_leaps_fails_no_card() -> None:
    site = Site(policy(3), cards=3)
    for _ in range(20):
        site.clock.advance(7 * SECOND)
        site.clock.run_due()
    assert site.log.of(BeaconVerdict) == []
    assert site.sent_over()[0] > 3


def test_a_link_that_is_down_is_no_riddle() -> None:
    site = Site(policy(2), cards=2)
    site.connect(1)
    site.run(1)
    site.wires[0].pull()
    site.run(5)
    assert site.log.of(BeaconVerdict) == []
    assert site.core.where(mac(1)) == "1"


def test_beacons_get_to_no_machine_and_go_out_in_every_vlan_that_ports_are_in() -> None:
    site = Site(policy(3), cards=3, flat=True, vlan=105)
    machine = site.listener(1)
    site.run(3.2)
    assert [f for f in machine.frames if type_of(f) == BEACON] == []
    beacons = [f for f in site.monitor.frames if type_of(f) == BEACON]
    assert len(beacons) == 4 * 3
    assert {vlan_of(f) for f in beacons} == {105}
    assert {f[:6] for f in beacons} == {BROADCAST}
    assert Counter(parse_beacon(untagged(f)[14:]).nic for f in beacons) == {"vmnic0": 4, "vmnic1": 4, "vmnic2": 4}


def test_a_team_that_goes_by_links_sends_no_beacons_and_one_that_ends_stops_them() -> None:
    site = Site(policy(2), cards=2, flat=True)
    site.run(2.2)
    site.switch.set_policies(Policies(teaming=TeamingPolicy(active=("vmnic0", "vmnic1"))))
    seen = len(site.monitor.frames)
    assert seen > 0
    site.run(3)
    assert len(site.monitor.frames) == seen
    assert all(nic.intercept is None for nic in site.nics)


def test_another_switchs_beacons_count_for_nothing() -> None:
    site = Site(policy(2), cards=2)
    site.run(1)
    site.upstream[0].pull()
    for _ in range(8):
        for number, nic in enumerate(site.nics):
            foreign = frame_of(BROADCAST, mac(0xAA), BEACON, Beacon("host2/vSwitch0", f"vmnic{1 - number}").encode())
            nic.receive(foreign)
        site.run(0.5)
    assert site.log.of(BeaconVerdict)[-1].shotgun


def prober_with(up: list[bool], silent: set[tuple[int, int]]) -> BeaconProber:
    """``silent``: (sender, who does not hear it)."""
    clock = VirtualClock()
    prober = BeaconProber("s", clock)
    wires = [Wire(clock) for _ in up]
    nics = [PhysicalNic(f"n{number}", mac(number), wire.a, clock) for number, wire in enumerate(wires)]
    for wire, is_up in zip(wires, up, strict=True):
        if not is_up:
            wire.pull()
    prober.watch(prober, nics)
    for sender, hearer in silent:
        prober.state.silent.setdefault(f"n{sender}", {})[f"n{hearer}"] = MISSED
    return prober


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_the_verdict_is_that_of_a_search_for_who_reaches_whom(up: list[bool], silent: set[tuple[int, int]]) -> None:
    """Judge: repeated relaxation over the matrix."""
    count = len(up)
    reach = [
        [
            a == b or (up[a] and up[b] and (a, b) not in silent and (b, a) not in silent)
            for b in range(count)
        ]
        for a in range(count)
    ]  # fmt: skip
    for middle in range(count):
        for a in range(count):
            for b in range(count):
                reach[a][b] = reach[a][b] or (reach[a][middle] and reach[middle][b])
    sizes = [sum(row) if up[a] else 0 for a, row in enumerate(reach)]
    failed = {f"n{a}" for a in range(count) if up[a] and sizes[a] < max(sizes)}
    largest = max(sizes)
    shotgun = sum(size == largest for size in sizes) > largest > 0
    inside = {pair for pair in silent if max(pair) < count and pair[0] != pair[1]}
    verdict = prober_with(up, inside).verdict([f"n{number}" for number in range(count)])
    assert (set(verdict.failed), verdict.shotgun) == (failed, shotgun)


def test_one_failed_card_of_three_is_found_and_two_of_three_are_a_riddle() -> None:
    names = ["n0", "n1", "n2"]
    assert prober_with([True] * 3, {(0, 1), (0, 2)}).verdict(names) == Verdict(("n0",))
    assert prober_with([True] * 3, {(0, 1), (0, 2), (1, 2)}).verdict(names) == Verdict((), True)
    assert prober_with([True] * 3, {(0, 1)}).verdict(names) == Verdict(), "the third one hears both"


@given(st.binary(max_size=80))
def test_any_bytes_are_a_beacon_or_refused(data: bytes) -> None:
    try:
        beacon = parse_beacon(data)
    except BeaconError:
        return
    assert parse_beacon(beacon.encode()) == beacon


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_beacon_is_read_back_from_a_padded_frame(switch: str, nic: str) -> None:
    assert parse_beacon(Beacon(switch, nic).encode() + bytes(30)) == Beacon(switch, nic)


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(AdminError, match="255"):
        Beacon("s" * 256, "vmnic0").encode()


def test_state_goes_on_elsewhere() -> None:
    site, other = Site(policy(3), cards=3), Site(policy(3), cards=3)
    site.run(1)
    site.upstream[0].pull()
    site.run(4)
    other.clock.now_ns = site.clock.now_ns
    other.teams.prober.load_state(site.teams.prober.save_state())
    assert other.teams.prober.state == site.teams.prober.state
    assert other.teams.prober.verdict(["vmnic0", "vmnic1", "vmnic2"]) == Verdict(("vmnic0",))
    other.run(1.5)
    assert other.teams.prober.verdict(["vmnic0", "vmnic1", "vmnic2"]) == Verdict(), "here the network is whole"
