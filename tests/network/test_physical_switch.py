"""The physical switch: VLANs, learning, ageing, groups of links; loops do not stop the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.network.ends import Listener, mac, number_of, numbered
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network.ethernet import BROADCAST, tagged, vlan_of
from vilab.network.forwarding_table import AGEING_NS, MAX_ENTRIES, ForwardingTable
from vilab.network.physical_events import AddressLearned, StormControlled
from vilab.network.physical_port import Access, PortSettings, Trunk
from vilab.network.physical_switch import FORWARD_NS, PhysicalSwitch
from vilab.network.wire import Wire

SECOND = 1_000_000_000


def bench(ports: dict[str, PortSettings]) -> tuple[VirtualClock, PhysicalSwitch, dict[str, Listener]]:
    clock = VirtualClock()
    switch = PhysicalSwitch("sw", clock, ports)
    return clock, switch, {name: Listener(switch.port(name), clock) for name in ports}


def test_a_frame_for_an_unknown_address_goes_to_all_and_the_answer_to_one() -> None:
    clock, switch, ends = bench({"1": Access(), "2": Access(), "3": Access()})
    switch.port("1").transmit(numbered(1, mac(2), mac(1)))
    clock.run_for(10_000)
    switch.port("2").transmit(numbered(2, mac(1), mac(2)))
    clock.run_for(10_000)
    seen = {name: [number_of(f) for f in end.frames] for name, end in ends.items()}
    assert seen == {"1": [2], "2": [1], "3": [1]}
    assert ends["1"].got[0][0] == 10_000 + FORWARD_NS
    assert switch.where(mac(1)) == "1"


def test_an_address_is_forgotten_after_300_seconds_of_silence() -> None:
    clock, switch, _ = bench({"1": Access(), "2": Access()})
    switch.port("1").transmit(numbered(1, mac(2), mac(1)))
    clock.run_for(AGEING_NS - 1)
    assert switch.where(mac(1)) == "1"
    clock.run_for(1)
    assert switch.where(mac(1)) is None


def test_a_trunk_shows_the_tag_and_keeps_the_priority() -> None:
    clock, switch, ends = bench({"a": Access(10), "t": Trunk(native=1), "u": Trunk(native=10), "n": Access(1)})
    switch.port("a").transmit(numbered(1, BROADCAST, mac(1)))
    clock.run_for(10_000)
    assert vlan_of(ends["t"].frames[0]) == 10
    assert vlan_of(ends["u"].frames[0]) is None
    assert ends["n"].frames == []
    switch.port("t").transmit(tagged(numbered(2, BROADCAST, mac(2)), 20, priority=5))
    clock.run_for(10_000)
    assert ends["u"].frames[-1][14:16] == bytes([5 << 5, 20])
    assert len(ends["a"].frames) == 0


def test_a_tagged_frame_does_not_get_into_an_access_port() -> None:
    clock, switch, ends = bench({"a": Access(10), "b": Access(20), "c": Access(10)})
    switch.port("a").transmit(tagged(numbered(1, BROADCAST, mac(1)), 20))
    switch.port("a").transmit(tagged(numbered(2, BROADCAST, mac(1)), 10))
    switch.port("a").transmit(tagged(numbered(3, BROADCAST, mac(1)), 0, priority=3))
    clock.run_for(10_000)
    assert ends["b"].frames == []
    assert [number_of(f) for f in ends["c"].frames] == [3], "VLAN 0 is a priority only"
    assert switch.port("a").statistics.filtered == 2


def test_two_links_as_a_group_are_one_port() -> None:
    clock, switch, ends = bench({"1": Access(), "2": Access(), "3": Access()})
    switch.aggregate("po1", "1", "2")
    for number in range(16):
        frame = bytearray(numbered(number, mac(9), mac(5)))
        frame[29] = number
        switch.port("3").transmit(bytes(frame))
    switch.port("1").transmit(numbered(99, BROADCAST, mac(7)))
    clock.run_for(10_000)
    first, second = ([number_of(f) for f in ends[name].frames] for name in "12")
    assert sorted(first + second) == list(range(16)), "each frame once, the group's own broadcast not at all"
    assert (len(first), len(second)) == (8, 8)
    assert switch.where(mac(7)) == "po1"
    switch.shut("1")
    assert switch.where(mac(7)) == "po1", "the other link is up"
    switch.port("3").transmit(numbered(100, mac(7), mac(5)))
    clock.run_for(10_000)
    assert number_of(ends["2"].frames[-1]) == 100


def test_a_shut_port_takes_the_link_away_and_what_was_learned() -> None:
    clock = VirtualClock()
    switch = PhysicalSwitch("sw", clock, {"1": Access(), "2": Access()})
    wire = Wire(clock)
    card = Listener(wire.a, clock)
    switch.connect("1", wire.b)
    wire.a.transmit(numbered(1, BROADCAST, mac(1)))
    clock.run_for(10_000)
    assert switch.where(mac(1)) == "1"
    switch.shut("1")
    assert (card.link, wire.a.link_up, switch.where(mac(1))) == ([False], False, None)
    switch.open("1")
    assert (card.link, switch.port("1").link_up) == ([False, True], True)
    wire.pull()
    assert not switch.port("1").link_up


def test_a_loop_does_not_stop_the_clock() -> None:
    """Two switches, two wires between them, one broadcast: round it goes until both ways are full for now."""
    clock, log = VirtualClock(), EventLog(keep=True)
    names: dict[str, PortSettings] = {"x": Access(), "y": Access(), "host": Access()}
    first = PhysicalSwitch("first", clock, names, log, storm_frames=50)
    second = PhysicalSwitch("second", clock, names, log, storm_frames=50)
    for name in "xy":
        wire = Wire(clock)
        first.connect(name, wire.a)
        second.connect(name, wire.b)
    host = Listener(first.port("host"), clock)
    first.port("host").transmit(numbered(1, BROADCAST, mac(1)))
    clock.run_for(SECOND)
    assert len(host.frames) == 2 * 50, "as many as the two ports to the other switch may bring"
    assert len(log.events) < 1_000
    assert {event.port for event in log.of(StormControlled)} == {"x", "y"}
    assert {event.from_port for event in log.of(AddressLearned)} >= {"x", "y"}, "the address seems to move"


def test_reserved_addresses_and_group_sources_are_not_forwarded() -> None:
    clock, switch, ends = bench({"1": Access(), "2": Access()})
    switch.port("1").transmit(numbered(1, bytes.fromhex("0180c2000000"), mac(1)))
    switch.port("1").transmit(numbered(2, mac(2), BROADCAST))
    switch.port("1").transmit(b"short")
    switch.port("1").transmit(numbered(3, mac(2), mac(1), 1515))
    clock.run_for(10_000)
    assert ends["2"].frames == []
    assert (switch.port("1").statistics.filtered, switch.port("1").statistics.malformed) == (1, 3)


def test_the_table_is_bounded_and_a_flood_of_addresses_does_not_push_others_out() -> None:
    table = ForwardingTable()
    table.learn(1, mac(1), "1", 0)
    for number in range(2, MAX_ENTRIES + 50):
        table.learn(1, mac(number), "2", 1000)
    assert table.count == MAX_ENTRIES == len(table.known(1000))
    assert table.find(1, mac(1), 1000) == "1"
    assert table.learn(1, mac(1), "3", 2000) == "1"
    late = AGEING_NS + 1500
    table.learn(1, mac(99_999), "3", late)
    assert table.known(late) == [(1, mac(1), "3", 2000), (1, mac(99_999), "3", late)]


@pytest.mark.parametrize("vlan", [0, 4095, -1])
def test_what_is_no_vlan_is_refused(vlan: int) -> None:
    for build in (lambda: Access(vlan), lambda: Trunk(vlan), lambda: Trunk(1, frozenset({vlan}))):
        with pytest.raises(AdminError):
            build()


def test_what_cannot_be_a_group_is_refused() -> None:
    _, switch, _ = bench({"1": Access(), "2": Access(5), "3": Access()})
    switch.aggregate("po1", "3")
    for name, members in (("po1", "1"), ("po2", ""), ("po2", "12"), ("po2", "11"), ("po2", "3"), ("po2", "9")):
        with pytest.raises(AdminError):
            switch.aggregate(name, *members)
    with pytest.raises(AdminError):
        switch.configure("3", Access(7))


# --- an independent model: a list of what was seen, searched from the end ---------------------------------------------

MODEL_PORTS: dict[str, PortSettings] = {
    "a1": Access(10), "a2": Access(10), "b": Access(20), "t": Trunk(10, frozenset({10, 20})), "all": Trunk(None),
}  # fmt: skip
CARRIED = {"a1": {10}, "a2": {10}, "b": {20}, "t": {10, 20}, "all": set(range(1, 4095))}
BARE = {"a1": 10, "a2": 10, "b": 20, "t": 10, "all": None}

Step = tuple[str, int, int, int | None, int]


def model(steps: list[Step]) -> dict[str, list[tuple[int, int | None]]]:
    """Per port: (number of the step, VLAN tag) of what comes out."""
    out: dict[str, list[tuple[int, int | None]]] = {name: [] for name in MODEL_PORTS}
    seen: list[tuple[int, int, int, str]] = []
    now = 0
    for number, (name, source, destination, tag, pause) in enumerate(steps):
        now += pause
        vlan = tag or BARE[name]
        if vlan is None or vlan not in CARRIED[name] or (tag and name in ("a1", "a2", "b")):
            continue
        places = [it[3] for it in seen if it[1] == vlan and it[2] == destination and now - it[0] < AGEING_NS]
        targets = list(MODEL_PORTS) if destination == 0 or not places else [places[-1]]
        seen.append((now, vlan, source, name))
        for target in targets:
            if target != name and vlan in CARRIED[target]:
                out[target].append((number, None if BARE[target] == vlan else vlan))
    return out


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(MODEL_PORTS)), st.integers(1, 4), st.integers(0, 4),
            st.sampled_from([None, None, 0, 10, 20, 30]), st.sampled_from([0, 1, SECOND, AGEING_NS - 1, AGEING_NS]),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_every_frame_comes_out_where_the_model_says(steps: list[Step]) -> None:
    clock, switch, ends = bench(MODEL_PORTS)
    for number, (name, source, destination, tag, pause) in enumerate(steps):
        clock.run_for(pause)
        frame = numbered(number, mac(destination) if destination else BROADCAST, mac(source))
        switch.port(name).transmit(frame if tag is None else tagged(frame, tag))
    clock.run_for(SECOND)

    def plain(frame: bytes) -> tuple[int, int | None]:
        vlan = vlan_of(frame)
        return number_of(frame if vlan is None else frame[4:]), vlan

    assert {name: [plain(f) for f in end.frames] for name, end in ends.items()} == model(steps)


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_end_the_switch(frames: list[bytes]) -> None:
    clock, switch, _ = bench(MODEL_PORTS)
    for frame in frames:
        for name in MODEL_PORTS:
            switch.port(name).transmit(frame)
    clock.run_for(SECOND)


def test_state_goes_on_elsewhere_with_what_is_on_its_way() -> None:
    _, switch, _ = bench({"1": Access(), "2": Access()})
    switch.port("1").transmit(numbered(1, mac(2), mac(1)))
    other_clock, other, ends = bench({"1": Access(), "2": Access()})
    other.load_state(switch.save_state())
    assert other.state == switch.state
    other_clock.run_for(10_000)
    assert [number_of(f) for f in ends["2"].frames] == [1]
    assert other.where(mac(1)) == "1"
