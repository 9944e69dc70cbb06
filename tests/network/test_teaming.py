"""Teams of cards: how frames are spread, what happens when links fail, no frame twice and none lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.network.captures import captured, tshark
from tests.network.ends import KIND, Listener, mac, number_of, numbered
from tests.network.site import OUTSIDE, OUTSIDE_IP, Site
from vilab.clock import VirtualClock
from vilab.network.balancing import ip_hash
from vilab.network.ethernet import BROADCAST, IPV4, frame_of, tagged, type_of
from vilab.network.failover import choose, places_of
from vilab.network.notify import notify_frame
from vilab.network.packets import UDP, Ipv4, Udp
from vilab.network.physical_events import UplinkMoved
from vilab.network.physical_nic import PhysicalNic
from vilab.network.policies import Balancing, Policies, TeamingPolicy
from vilab.network.teaming import DUPLICATE_NS, REMEMBERED, Team, TeamPort
from vilab.network.wire import Wire

CRITICAL = {1: 10.83, 2: 13.82, 3: 16.27, 7: 24.32}
"""Chi-square, by degrees of freedom: an even spread is beyond it once in a thousand."""


def chi_square(counts: Sequence[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def policy(cards: int = 2, balancing: Balancing = "port_id", standby: int = 0, failback: bool = True) -> TeamingPolicy:
    names = tuple(f"vmnic{number}" for number in range(cards + standby))
    return TeamingPolicy(balancing=balancing, active=names[:cards], standby=names[cards:], failback=failback)


def team_of(wanted: TeamingPolicy, ports: Sequence[TeamPort] = ()) -> tuple[VirtualClock, Team, list[Wire]]:
    clock = VirtualClock()
    wires = [Wire(clock) for _ in wanted.active + wanted.standby]
    names = wanted.active + wanted.standby
    nics = [PhysicalNic(name, mac(0xF0), wire.a, clock) for name, wire in zip(names, wires, strict=True)]
    return clock, Team(wanted, nics, clock, lambda: ports), wires


def names_chosen(team: Team, frames: Sequence[tuple[int, bytes]]) -> list[str]:
    nics = [team.uplink_for(port, frame) for port, frame in frames]
    return [nic.name for nic in nics if nic is not None]


def packet(source: bytes, destination: bytes, from_mac: bytes = mac(1)) -> bytes:
    return frame_of(
        mac(2), from_mac, IPV4, Ipv4(source, destination, UDP, Udp(1, 2, b"").encode(source, destination)).encode()
    )


# --- how frames are spread --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cards", [2, 3, 4, 8])
@pytest.mark.parametrize("balancing", ["port_id", "mac_hash", "ip_hash"])
def test_frames_are_spread_evenly(balancing: Balancing, cards: int) -> None:
    dice = random.Random(20070521)
    _, team, _ = team_of(policy(cards, balancing))
    frames = [
        (dice.randrange(1, 1024), packet(dice.randbytes(4), dice.randbytes(4), b"\0\x50\x56" + dice.randbytes(3)))
        for _ in range(4000)
    ]
    counts = Counter(names_chosen(team, frames))
    assert len(counts) == cards
    assert chi_square(list(counts.values())) < CRITICAL[cards - 1]


def test_the_judge_notices_an_uneven_spread() -> None:
    assert chi_square([2200, 1800]) > CRITICAL[1]
    assert chi_square([1100, 1000, 950, 950]) > 10


def test_machines_in_a_row_take_the_cards_in_turn() -> None:
    _, team, _ = team_of(policy(3))
    names = names_chosen(team, [(port, numbered(0, BROADCAST, mac(port))) for port in range(9, 15)])
    assert names == ["vmnic0", "vmnic1", "vmnic2"] * 2


def test_what_decides_is_the_policys_and_nothing_else() -> None:
    """Judge: the definition, for each policy: what may change without the card changing."""
    frames = {
        (port, last, source, destination): (
            port, packet(bytes([10, 0, 0, source]), bytes([10, 0, 0, destination]), b"\0\x50\x56\0\0" + bytes([last]))
        )
        for port in (9, 10, 11) for last in (1, 2, 3) for source in (1, 2) for destination in (5, 6, 7)
    }  # fmt: skip
    for balancing, key in (
        ("port_id", lambda it: it[0] % 3), ("mac_hash", lambda it: it[1] % 3),
        ("ip_hash", lambda it: (it[2] ^ it[3]) % 3), ("explicit", lambda it: 0),
    ):  # fmt: skip
        _, team, _ = team_of(policy(3, balancing))
        for it, (port, frame) in frames.items():
            assert names_chosen(team, [(port, frame)]) == [f"vmnic{key(it)}"]


def test_the_hash_of_addresses_is_that_of_the_last_octets_also_behind_a_tag_and_in_no_ip_at_all() -> None:
    frame = packet(b"\x0a\1\2\x0c", b"\xc0\xa8\1\5")
    assert ip_hash(frame) == 0x0C ^ 5
    assert ip_hash(tagged(frame, 100)) == 0x0C ^ 5
    assert ip_hash(tagged(tagged(frame, 100), 5)) == 0x0C ^ 5
    other = frame_of(mac(1), mac(2), 0x88B5, bytes(15) + b"\x33" + bytes(3) + b"\x11")
    assert ip_hash(other) == 0x22
    assert ip_hash(b"short") == 0


# --- failover: who is in use ------------------------------------------------------------------------------------------


def test_a_standby_card_takes_the_place_of_a_failed_one_and_the_others_keep_theirs() -> None:
    _, team, wires = team_of(policy(2, standby=1))
    frames = [(port, numbered(0, BROADCAST, mac(port))) for port in range(8)]
    assert names_chosen(team, frames) == ["vmnic0", "vmnic1"] * 4
    wires[0].pull()
    assert names_chosen(team, frames) == ["vmnic2", "vmnic1"] * 4
    wires[2].pull()
    assert names_chosen(team, frames) == ["vmnic1"] * 8
    wires[1].pull()
    assert names_chosen(team, frames) == []
    wires[0].plug_in()
    assert names_chosen(team, frames) == ["vmnic0"] * 8


def test_without_failback_a_card_waits_until_another_one_fails() -> None:
    _, team, wires = team_of(policy(2, standby=1, failback=False))
    wires[0].pull()
    wires[0].plug_in()
    assert team.in_use == ("vmnic2", "vmnic1")
    wires[1].pull()
    assert team.in_use == ("vmnic2", "vmnic0")
    for wire in wires:
        wire.pull()
    assert team.in_use == ()
    wires[1].plug_in()
    assert team.in_use == ("vmnic1",)


def test_the_explicit_order_is_the_first_card_that_is_well() -> None:
    _, team, wires = team_of(policy(2, "explicit", standby=1))
    seen = [team.in_use]
    for step in (wires[0].pull, wires[1].pull, wires[2].pull, wires[1].plug_in, wires[0].plug_in):
        step()
        seen.append(team.in_use)
    assert seen == [("vmnic0",), ("vmnic1",), ("vmnic2",), (), ("vmnic1",), ("vmnic0",)]


@given(
    st.lists(st.sets(st.sampled_from(["a", "b", "c", "d"])), min_size=1, max_size=12), st.booleans(),
    st.sampled_from(["port_id", "explicit"]), st.integers(0, 4),
)  # fmt: skip
def test_whatever_fails_only_cards_that_are_well_are_used_and_as_many_as_can_be(
    history: list[set[str]], failback: bool, balancing: Balancing, active: int
) -> None:
    names = ("a", "b", "c", "d")
    wanted = TeamingPolicy(balancing=balancing, active=names[:active], standby=names[active:], failback=failback)
    size = 1 if balancing == "explicit" else max(active, 1)
    places = None
    for well in history:
        before, places = places, places_of(wanted, places, well)
        used = [name for name in places if name is not None]
        assert len(places) == size
        assert len(set(used)) == len(used)
        assert set(used) <= well
        assert bool(used) == bool(well & set(names)), "a card that is well is used if no other is"
        if failback:
            assert len(used) == min(size, len(well & set(names))) or len(used) >= len(well & set(names[:active]))
        for number in range(20):
            name = choose(places, number)
            assert (name in well) if used else (name is None)
            if before is not None and not failback and choose(before, number) in well:
                assert before[number % size] is None or name == choose(before, number), "no move without need"


# --- failover: on the network -----------------------------------------------------------------------------------------


def test_a_pulled_cable_moves_the_machine_and_the_switches_know_at_once() -> None:
    site = Site(policy(2))
    machines = [site.peer(number) for number in (1, 2)]  # ports 9 and 10
    for machine in machines:
        machine.ping(OUTSIDE_IP)
    site.run(0.01)
    assert [len(machine.replies) for machine in machines] == [1, 1]
    assert site.core.where(mac(1)) == "1", "port 9, second card"
    already = len(site.notified())
    at_ns = site.clock.now_ns
    site.wires[1].pull()
    site.run(0.001)
    (told,) = site.notified()[already:]
    assert told[1:] == (mac(1), None)
    assert told[0] - at_ns < 10_000
    assert site.core.where(mac(1)) == "0"
    site.outside.ping(machines[0].ip)
    site.run(0.01)
    assert len(site.outside.replies) == 1
    site.wires[1].plug_in()
    site.run(0.001)
    assert site.core.where(mac(1)) == "1"
    moves = [(m.mac, m.from_nic, m.to_nic, m.why) for m in site.log.of(UplinkMoved)]
    assert moves == [
        (mac(1), None, "vmnic1", "connected"), (mac(2), None, "vmnic0", "connected"),
        (mac(1), "vmnic1", "vmnic0", "link"), (mac(1), "vmnic0", "vmnic1", "failback"),
    ]  # fmt: skip


def test_a_machine_that_arrives_is_announced_in_its_vlan() -> None:
    site = Site(policy(2), vlan=105)
    site.connect(1)
    site.run(0.001)
    assert [it[1:] for it in site.notified()] == [(mac(1), 105)]
    assert site.core.where(mac(1), vlan=105) == "1"


def test_another_failover_order_moves_machines_and_the_switches_hear_of_it() -> None:
    site = Site(policy(2), flat=True, vlan=7)
    for number in (1, 2, 3):
        site.connect(number)
    site.run(0.001)
    already = len(site.notified())
    site.switch.set_policies(Policies(teaming=TeamingPolicy(active=("vmnic0",), standby=("vmnic1",))))
    site.run(0.001)
    assert [it[1:] for it in site.notified()[already:]] == [(mac(1), 7), (mac(3), 7)], (
        "the second one was there already"
    )
    assert {site.core.where(mac(number), vlan=7) for number in (1, 2, 3)} == {"0"}
    site.switch.remove_uplink("vmnic0")
    site.run(0.001)
    assert {site.core.where(mac(number), vlan=7) for number in (1, 2, 3)} == {"1"}
    assert len(site.notified()) == already + 2 + 3


def test_without_notification_switches_go_on_sending_to_where_the_machine_was() -> None:
    site = Site(TeamingPolicy(active=("vmnic0", "vmnic1"), notify_switches=False))
    machine = site.peer(1)
    machine.ping(OUTSIDE_IP)
    site.run(0.01)
    site.wires[1].pull()
    site.outside.ping(machine.ip)
    site.run(0.01)
    assert site.outside.replies == [], "the core knows the switch behind which the machine was"
    machine.ping(OUTSIDE_IP)
    site.run(0.01)
    site.outside.ping(machine.ip)
    site.run(0.01)
    assert len(site.outside.replies) == 1, "it has spoken in the meantime"
    assert site.notified() == []


def test_the_frame_is_what_tshark_calls_rarp(tmp_path: Path) -> None:
    path = captured(tmp_path, [notify_frame(mac(1)), notify_frame(mac(1), 105)])
    fields = ("eth.dst", "eth.src", "vlan.id", "arp.opcode", "arp.src.hw_mac", "arp.dst.hw_mac", "_ws.malformed")
    text = "02:00:00:00:00:01"
    assert tshark(path, *fields) == [
        ["ff:ff:ff:ff:ff:ff", text, "", "3", text, text, ""],
        ["ff:ff:ff:ff:ff:ff", text, "105", "3", text, text, ""],
    ]
    assert tshark(path, "frame.protocols")[0] == ["eth:ethertype:arp"]


def test_with_ip_hash_and_a_group_of_links_one_machine_uses_all_cards_and_nothing_comes_twice() -> None:
    site = Site(policy(2, "ip_hash"), flat=True)
    site.core.aggregate("po1", "0", "1")
    machine = site.listener(1)
    for number in range(8):
        machine.port.transmit(packet(b"\x0a\0\0\1", bytes([10, 0, 0, number])))
        site.outside.port.transmit(numbered(number, BROADCAST, OUTSIDE))
    site.run(0.01)
    assert site.sent_over() == [4, 4]
    assert [number_of(f) for f in machine.frames] == list(range(8))
    site.wires[0].pull()
    site.outside.port.transmit(numbered(9, mac(1), OUTSIDE))
    machine.port.transmit(packet(b"\x0a\0\0\1", b"\x0a\0\0\1"))
    site.run(0.01)
    assert number_of(machine.frames[-1]) == 9
    assert site.sent_over() == [4, 5]
    assert site.notified() == []


# --- no frame twice, none lost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("balancing", ["port_id", "mac_hash", "explicit"])
def test_a_broadcast_comes_in_once_and_ones_own_never(balancing: Balancing) -> None:
    site = Site(policy(3, balancing), cards=3, flat=True)
    machines = [site.listener(number) for number in range(1, 5)]
    site.outside.port.transmit(numbered(7, BROADCAST, OUTSIDE))
    site.run(0.01)
    assert [[number_of(f) for f in m.frames] for m in machines] == [[7]] * 4
    machines[0].port.transmit(numbered(8, BROADCAST, mac(1)))
    site.run(0.01)
    assert [[number_of(f) for f in m.frames] for m in machines] == [[7], [7, 8], [7, 8], [7, 8]]
    assert [number_of(f) for f in site.monitor.frames if type_of(f) == KIND] == [7, 8]


def test_a_frame_that_is_flooded_because_nobody_knows_the_machine_reaches_it_once() -> None:
    site = Site(policy(3), cards=3, flat=True)
    machine = site.listener(1)
    site.run(300.001)
    assert site.core.where(mac(1)) is None
    site.outside.port.transmit(numbered(7, mac(1), OUTSIDE))
    site.run(0.01)
    assert sum(nic.statistics.frames_in for nic in site.nics) >= 3, "it has come in over all of them"
    assert [number_of(f) for f in machine.frames] == [7]


Flap = tuple[str, int, int]


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["flap", "in", "out"]), st.integers(0, 2),
            st.sampled_from([0, 700, 3_000, 5_000, 50_000, 1_000_000, 2 * DUPLICATE_NS]),
        ),
        min_size=1, max_size=40,
    ),
    st.sampled_from(["port_id", "mac_hash", "explicit"]), st.booleans(),
)  # fmt: skip
def test_with_random_flaps_a_frame_is_delivered_at_most_once_and_once_if_a_path_lasts(
    steps: list[Flap], balancing: Balancing, failback: bool
) -> None:
    wanted = policy(2, balancing, standby=1, failback=failback)
    site = Site(wanted, cards=3, flat=True)
    machine = site.listener(1)
    site.run(0.001)
    sends: list[tuple[int, str, bool]] = []
    flaps: list[int] = []
    for number, (what, card, pause_ns) in enumerate(steps):
        site.clock.run_for(pause_ns)
        wire, now_ns = site.wires[card], site.clock.now_ns
        if what == "flap":
            flaps.append(now_ns)
            (wire.pull if wire.link_up else wire.plug_in)()
            continue
        sends.append((now_ns, what, any(it.link_up for it in site.wires)))
        if what == "in":
            site.outside.port.transmit(numbered(number, BROADCAST, OUTSIDE))
        else:
            machine.port.transmit(numbered(number, BROADCAST, mac(1)))
    numbers = [number for number, step in enumerate(steps) if step[0] != "flap"]
    site.run(0.1)
    got = {
        "in": Counter(number_of(f) for f in machine.frames if type_of(f) == KIND),
        "out": Counter(number_of(f) for f in site.monitor.frames if type_of(f) == KIND and f[6:12] == mac(1)),
    }
    for number, (at_ns, what, path) in zip(numbers, sends, strict=True):
        count = got[what][number]
        assert count <= 1
        undisturbed = not any(at_ns - 1_000 <= flap <= at_ns + 100_000 for flap in flaps)
        if path and undisturbed:
            assert count == 1


def test_every_frame_of_a_machine_gets_out_once_while_links_flap_between_them() -> None:
    site = Site(policy(3), cards=3, flat=True)
    machine = site.listener(1)
    dice = random.Random(3)
    for number in range(200):
        wire = dice.choice(site.wires)
        if wire.link_up and sum(it.link_up for it in site.wires) > 1:
            wire.pull()
        elif not wire.link_up:
            wire.plug_in()
        site.run(0.001)
        machine.port.transmit(numbered(number, BROADCAST, mac(1)))
        site.run(0.001)
    numbers = [number_of(f) for f in site.monitor.frames if type_of(f) == KIND]
    assert numbers == list(range(200))
    assert machine.frames == []


def test_a_copy_that_comes_over_the_new_card_after_the_change_is_not_taken_again() -> None:
    clock, team, wires = team_of(policy(2), [TeamPort(0, mac(1))])
    first, second = team.nics.values()
    frame = numbered(1, BROADCAST, OUTSIDE)
    assert team.accepts(first, 0, frame)
    assert not team.accepts(second, 0, frame)
    wires[0].pull()
    assert not team.accepts(second, 0, frame)
    assert team.accepts(second, 0, numbered(2, BROADCAST, OUTSIDE))
    clock.run_for(DUPLICATE_NS + 1)
    assert team.accepts(second, 0, frame), "the same contents, but a frame of its own"


def test_a_flooded_unicast_frame_is_taken_once_from_whichever_card_brings_it_first() -> None:
    clock, team, _ = team_of(policy(2), [TeamPort(0, mac(1))])
    first, second = team.nics.values()
    for number, (one, other) in enumerate(((first, second), (second, first))):
        frame = numbered(number, mac(1), OUTSIDE)
        assert team.accepts(one, 0, frame)
        assert not team.accepts(other, 0, frame)
        assert team.accepts(one, 0, frame), "sent twice, the same way"
    clock.run_for(DUPLICATE_NS + 1)
    assert team.accepts(second, 0, numbered(0, mac(1), OUTSIDE))


def test_ip_hash_without_a_group_of_links_brings_no_frame_twice_but_confuses_the_switch() -> None:
    site = Site(policy(2, "ip_hash"), flat=True)
    machine = site.listener(1)
    site.outside.port.transmit(numbered(1, BROADCAST, OUTSIDE))
    places = []
    for number in range(4):
        machine.port.transmit(packet(b"\x0a\0\0\1", bytes([10, 0, 0, number]), mac(1)))
        site.run(0.001)
        places.append(site.core.where(mac(1)))
    assert [number_of(f) for f in machine.frames] == [1]
    assert places == ["1", "0", "1", "0"], "one address, two ports"


def test_what_was_under_way_to_the_old_card_is_not_lost_at_failback() -> None:
    clock, team, wires = team_of(policy(2), [TeamPort(0, mac(1))])
    first, second = team.nics.values()
    wires[0].pull()
    clock.run_for(DUPLICATE_NS + 1)
    wires[0].plug_in()
    frame = numbered(1, BROADCAST, OUTSIDE)
    assert team.accepts(second, 0, frame)
    assert not team.accepts(first, 0, frame)
    clock.run_for(DUPLICATE_NS + 1)
    assert not team.accepts(second, 0, numbered(2, BROADCAST, OUTSIDE))


def test_what_a_team_remembers_is_bounded() -> None:
    clock, team, _ = team_of(policy(2))
    nic = team.nics["vmnic0"]
    for number in range(3 * REMEMBERED):
        assert team.accepts(nic, 0, numbered(number, BROADCAST, OUTSIDE))
    assert len(team.state.taken[0][nic.name]) == REMEMBERED
    clock.run_for(DUPLICATE_NS + 1)
    assert team.accepts(nic, 0, numbered(0, BROADCAST, OUTSIDE))
    assert len(team.state.taken[0][nic.name]) == 1


def test_state_goes_on_elsewhere() -> None:
    _, team, wires = team_of(policy(2, failback=False), [TeamPort(0, mac(1))])
    wires[0].pull()
    wires[0].plug_in()
    _, other, _ = team_of(policy(2, failback=False), [TeamPort(0, mac(1))])
    assert other.in_use == ("vmnic0", "vmnic1")
    other.load_state(team.save_state())
    assert other.in_use == team.in_use == ("vmnic1",)
    assert other.state == team.state
    _, third, wires = team_of(policy(2, failback=False), [TeamPort(0, mac(1))])
    wires[1].pull()
    third.load_state(team.save_state())
    assert third.in_use == ("vmnic0",), "where it goes on, the other link is up"


def test_a_stopped_team_hears_of_nothing() -> None:
    _, team, wires = team_of(policy(2), [TeamPort(0, mac(1))])
    end = Listener(wires[1].b, team._clock)
    team.stop()
    wires[0].pull()
    assert team.in_use == ("vmnic0", "vmnic1")
    assert end.frames == []
