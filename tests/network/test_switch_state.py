"""The state of a virtual switch is a value: saved, loaded, it goes on as if nothing had been."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.network.switches import Card, FirstWithLink, Outside, address, card, new_switch
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network.ethernet import BROADCAST, frame_of, tagged
from vilab.network.policies import Overrides, SecurityOverride, ShapingOverride
from vilab.network.statistics import TrafficCounts
from vilab.network.switch_state import SwitchState, decoded
from vilab.network.uplinks import Nic
from vilab.network.virtual_switch import VirtualSwitch
from vilab.network.virtual_switches import VirtualSwitches

GROUPS = ("est", "v10", "v20", "vgt")
EARLY = ("port down", "too short", "too long", "guest tag", "reserved VLAN")
"""A frame that is dropped for one of these is in no VLAN's counters."""


class Twins(RuleBasedStateMachine):
    """Two switches that are told the same; one of them is saved and loaded again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.switches = [VirtualSwitch("vSwitch0", VirtualClock(), EventLog(), FirstWithLink, 12) for _ in range(2)]
        self.outsides = [Outside("vmnic0") for _ in self.switches]
        self.cards: list[list[Card]] = [[], []]
        for switch, outside in zip(self.switches, self.outsides, strict=True):
            for name, vlan in zip(GROUPS, (0, 10, 20, 4095), strict=True):
                switch.add_port_group(name, vlan)
            switch.add_uplink(outside)

    @rule(group=st.sampled_from(GROUPS), number=st.integers(1, 5), promiscuous=st.booleans())
    def connect(self, group: str, number: int, promiscuous: bool) -> None:
        if len(self.cards[0]) < 6:
            for switch, cards in zip(self.switches, self.cards, strict=True):
                cards.append(card(switch, group, number, promiscuous))

    @rule(which=st.integers(0, 5))
    def disconnect(self, which: int) -> None:
        if which < len(self.cards[0]):
            for switch, cards in zip(self.switches, self.cards, strict=True):
                switch.disconnect(cards.pop(which).port)

    @rule(which=st.integers(0, 5), connected=st.booleans())
    def link(self, which: int, connected: bool) -> None:
        for cards in self.cards:
            if which < len(cards):
                cards[which].port.set_connected(connected)

    @rule(which=st.integers(0, 5), number=st.integers(1, 5))
    def change_address(self, which: int, number: int) -> None:
        for cards in self.cards:
            if which < len(cards):
                cards[which].port.listen(address(number), False)

    @rule(
        group=st.sampled_from(GROUPS), promiscuous=st.sampled_from([None, True, False]),
        mac_changes=st.sampled_from([None, False]), forged=st.sampled_from([None, False]), shaped=st.booleans(),
    )  # fmt: skip
    def configure(
        self, group: str, promiscuous: bool | None, mac_changes: bool | None, forged: bool | None, shaped: bool
    ) -> None:
        overrides = Overrides(
            security=SecurityOverride(promiscuous=promiscuous, mac_changes=mac_changes, forged_transmits=forged),
            shaping=ShapingOverride(enabled=shaped, average_kbps=1000, peak_kbps=2000, burst_kb=2),
        )
        for switch in self.switches:
            switch.set_port_group(group, overrides=overrides)

    @rule(
        which=st.integers(-1, 5), to=st.integers(0, 6), source=st.integers(1, 7),
        vlan=st.sampled_from([None, None, 0, 10, 20, 4095]), size_bytes=st.sampled_from([60, 800, 1514, 1515]),
    )  # fmt: skip
    def send(self, which: int, to: int, source: int, vlan: int | None, size_bytes: int) -> None:
        frame = frame_of(address(to) if to else BROADCAST, address(source), 0x88B5, bytes(size_bytes - 14))
        if vlan is not None:
            frame = tagged(frame, vlan)
        for outside, cards in zip(self.outsides, self.cards, strict=True):
            if which < 0:
                outside.on_receive(frame)
            elif which < len(cards):
                cards[which].send(frame)

    @rule(by_ns=st.sampled_from([1, 1_000_000, 20_000_000]))
    def wait(self, by_ns: int) -> None:
        for switch in self.switches:
            clock = switch._clock
            end_ns = clock.now_ns + by_ns
            while clock.next_ns() <= end_ns:
                clock.skip_to_next()
                clock.run_due()
            clock.now_ns = end_ns

    @rule()
    def save_and_load(self) -> None:
        state = self.switches[1].save_state()
        self.switches[1].load_state(state)
        assert self.switches[1].save_state() == state

    @rule()
    def move_to_a_new_switch(self) -> None:
        old = self.switches[1]
        state = old.save_state()
        new = VirtualSwitch("other", VirtualClock(), EventLog(), FirstWithLink, 3)
        new._clock.forget_all(old._clock.now_ns)
        new.load_state(state, {"vmnic0": self.outsides[1]})
        for one in self.cards[1]:
            promiscuous = one.port.state.promiscuous
            effective = one.port.state.effective
            one.port = new.ports[one.port.number]
            one.port.plug(one)
            one.port.listen(effective, promiscuous)
        self.switches[1] = new
        assert new.save_state() == state

    @invariant()
    def both_are_alike(self) -> None:
        assert self.switches[0].save_state() == self.switches[1].save_state()
        assert [c.frames for c in self.cards[0]] == [c.frames for c in self.cards[1]]
        assert self.outsides[0].frames == self.outsides[1].frames


Twins.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTwins = Twins.TestCase


def test_every_frame_is_counted_once_in_its_vlan_or_dropped_before() -> None:
    switch = new_switch(est=0, v10=10, vgt=4095)
    outside = Outside("vmnic0")
    switch.add_uplink(outside)
    cards = [card(switch, group, n, promiscuous=True) for n, group in enumerate(("est", "v10", "v10", "vgt"), 1)]
    sent = 0
    for one in cards:
        for to in (*(c.address for c in cards), BROADCAST, address(9)):
            for vlan in (None, 0, 10, 4095):
                frame = frame_of(to, one.address, 0x88B5, bytes(46))
                frame = frame if vlan is None else tagged(frame, vlan)
                one.send(frame)
                outside.on_receive(frame)
                sent += 2
    ports = switch.ports.values()
    early = sum(p.statistics.dropped.get(reason, 0) for p in ports for reason in EARLY)  # type: ignore[call-overload]
    in_vlans = sum(v.forwarded.frames + sum(v.dropped.values()) for v in switch.vlans.values())
    assert sum(p.statistics.sent.frames for p in ports) == sent == early + in_vlans


def test_frames_are_counted_by_their_kind_with_the_octets_that_are_on_each_port() -> None:
    switch = new_switch(v10=10)
    uplink = switch.add_uplink(Outside("vmnic0"))
    a, b = card(switch, "v10", 1), card(switch, "v10", 2)
    b.multicast = {bytes.fromhex("01005e000001")}
    for to in (b.address, b.address, b.address, *b.multicast, *b.multicast, BROADCAST):
        a.send(frame_of(to, a.address, 0x88B5, bytes(46)))
    kinds = TrafficCounts(unicast=3, multicast=2, broadcast=1, octets=360)
    assert a.port.statistics.sent == b.port.statistics.received == switch.vlans[10].forwarded == kinds
    assert uplink.statistics.received == TrafficCounts(multicast=2, broadcast=1, octets=3 * 64)
    assert uplink.statistics.received_in == {10: uplink.statistics.received}


def test_a_state_whose_uplink_is_missing_is_refused_and_nothing_changes() -> None:
    switch = new_switch(net=0)
    switch.add_uplink(Outside("vmnic0"))
    state = switch.save_state()
    other = new_switch(elsewhere=5)
    a = card(other, "elsewhere", 1)
    before = other.save_state()
    with pytest.raises(AdminError, match="had the uplink vmnic0, and there is no such physical card here"):
        other.load_state(state)
    with pytest.raises(AdminError, match="not the state of a virtual switch"):
        other.load_state(b"\xc1 nonsense")
    assert other.save_state() == before
    assert a.port.link_up
    record = decoded(state)
    assert isinstance(record, SwitchState)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=SwitchState) == record


def test_all_switches_of_a_host_are_one_value() -> None:
    host = VirtualSwitches(VirtualClock(), EventLog(), lambda name: FirstWithLink)
    for n in range(2):
        host.add(f"vSwitch{n}").add_port_group(f"net{n}", n)
    nic = Outside("vmnic0")
    host.switch("vSwitch0").add_uplink(nic)
    a = card(host.switch("vSwitch0"), "net0", 1)
    state = host.save_state()
    host.switch("vSwitch0").remove_uplink("vmnic0")
    host.switch("vSwitch1").add_uplink(nic)
    host.add("vSwitch2").add_port_group("net2")
    host.load_state(state)
    assert host.save_state() == state
    assert [s.name for s in host] == ["vSwitch0", "vSwitch1"]
    nic.on_receive(frame_of(a.address, address(2), 0x88B5, bytes(46)))
    assert len(a.frames) == 1


class Rotating(FirstWithLink):
    """A team that remembers something: each frame takes the next card."""

    turn = 0

    def uplink_for(self, port_id: int, frame: bytes) -> Nic | None:
        self.turn += 1
        return self._nics[self.turn % len(self._nics)]

    def save_state(self) -> bytes:
        return self.turn.to_bytes(4, "big")

    def load_state(self, state: bytes) -> None:
        self.turn = int.from_bytes(state, "big")


def test_what_a_team_remembers_is_in_the_state_of_its_switch() -> None:
    switch = VirtualSwitch("vSwitch0", VirtualClock(), EventLog(), Rotating)
    switch.add_port_group("net")
    nics = {name: Outside(name) for name in ("vmnic0", "vmnic1", "vmnic2")}
    for nic in nics.values():
        switch.add_uplink(nic)
    a = card(switch, "net", 1)
    a.send(frame_of(BROADCAST, a.address, 0x88B5, bytes(46)))
    assert [len(n.frames) for n in nics.values()] == [0, 1, 0]
    other = VirtualSwitch("other", VirtualClock(), EventLog(), Rotating)
    other.load_state(switch.save_state(), nics)
    other.ports[9].transmit(frame_of(BROADCAST, a.address, 0x88B5, bytes(46)))
    assert [len(n.frames) for n in nics.values()] == [0, 1, 1]
