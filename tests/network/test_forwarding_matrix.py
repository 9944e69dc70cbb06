"""Who gets which frame, and with which tag: each case against an independent model of what is documented."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.network import reference_switch as reference
from tests.network.switches import Card, FirstWithLink, Outside, address, security
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.ethernet import BROADCAST, frame_of, tagged
from vilab.network.network_events import FrameDropped, FrameForwarded
from vilab.network.virtual_switch import VirtualSwitch

WANTED, UNWANTED = bytes.fromhex("01005e000001"), bytes.fromhex("01005e000002")
ELSEWHERE, FORGED = address(0x777), address(0x888)
CHANGED = address(0x999)

GROUPS = {"est": 0, "est2": 0, "v10": 10, "v10b": 10, "v20": 20, "vgt": 4095, "vgt2": 4095}
"""Two ports of each kind that can talk to each other, and one that is alone."""


class Bench:
    """The switch and the model, with the same cards."""

    def __init__(self, machines: list[reference.Machine], uplink: bool) -> None:
        self.machines, self.uplink = machines, uplink
        self.log = EventLog(keep=True)
        self.switch = VirtualSwitch("vSwitch0", VirtualClock(), self.log, FirstWithLink)
        self.outside = Outside("vmnic0")
        if uplink:
            self.switch.add_uplink(self.outside)
        self.cards: dict[str, Card] = {}
        for m in machines:
            policy = security(
                promiscuous=m.accept_promiscuous, mac_changes=m.accept_mac_changes, forged_transmits=m.accept_forged
            )
            self.switch.add_port_group(m.name, m.group_vlan, policy)
            port = self.switch.connect(m.name, m.name, address=m.made_with)
            card = self.cards[m.name] = Card(port, m.listens_to, m.asks_for_all)
            card.multicast = m.multicast
            port.set_connected(m.plugged)

    def send(self, entry: str, frame: bytes) -> None:
        """The frame goes in twice, watched and unwatched: the second time it may take a shorter way."""
        expected = reference.switch(self.machines, self.uplink, entry, frame)
        for watched in (True, False):
            self.log.active = watched
            for card in self.cards.values():
                card.frames.clear()
            self.outside.frames.clear()
            self.log.events.clear()
            before = self._drops()
            if entry == "uplink":
                self.outside.on_receive(frame)
            else:
                self.cards[entry].send(frame)
            got = {name: card.frames for name, card in self.cards.items() if card.frames}
            if self.outside.frames:
                got["uplink"] = self.outside.frames
            assert got == {name: [f] for name, f in expected.delivered.items()}, (entry, frame.hex(), expected)
            new = {reason: n - before.get(reason, 0) for reason, n in self._drops().items()}
            fresh = {reason for reason, n in new.items() if n}
            assert fresh <= {expected.reason, "address changed"}, (entry, frame.hex(), expected, fresh)
            assert expected.reason is None or expected.reason in fresh
            if watched:
                self._events(entry, frame, expected)

    def _drops(self) -> dict[str, int]:
        drops: dict[str, int] = {}
        for port in self.switch.ports.values():
            for reason, n in port.statistics.dropped.items():
                drops[reason] = drops.get(reason, 0) + n
        return drops

    def _events(self, entry: str, frame: bytes, expected: reference.Outcome) -> None:
        forwarded, dropped = self.log.of(FrameForwarded), self.log.of(FrameDropped)
        if expected.reason is not None:
            assert not forwarded
            assert dropped[-1].reason == expected.reason
            assert dropped[-1].vlan == (-1 if expected.vlan is None else expected.vlan)
        else:
            names = {p.number: p.state.client for p in self.switch.ports.values()}
            [event] = forwarded
            assert (event.vlan, event.frame) == (expected.vlan, frame)
            got = {names[n] for n in event.to_ports}
            assert {"uplink" if n == "vmnic0" else n for n in got} == set(expected.delivered)


def machines_with(**policy: bool) -> list[reference.Machine]:
    return [
        reference.Machine(name, vlan, address(n), address(n), multicast={WANTED}, **policy)
        for n, (name, vlan) in enumerate(GROUPS.items(), 1)
    ]


def tags_of(frame: bytes) -> list[bytes]:
    """The frame with all that can be in front of its type."""
    return [
        frame, tagged(frame, 0, 5), tagged(frame, 10), tagged(frame, 20, 3), tagged(frame, 30), tagged(frame, 4095),
        tagged(tagged(frame, 20), 10), tagged(tagged(frame, 10), 0), tagged(tagged(frame, 0), 10),
        frame[:12] + b"\x81\0",
        frame[:12] + b"\x81\0\0", frame[:12] + b"\x88\xa8\0\x0a" + frame[12:],
    ]  # fmt: skip


POLICIES = list(itertools.product((False, True), repeat=3))


@pytest.mark.parametrize("uplink", [False, True], ids=["alone", "uplink"])
@pytest.mark.parametrize(("promiscuous", "mac_changes", "forged"), POLICIES)
def test_every_pair_of_ports_under_every_policy(
    promiscuous: bool, mac_changes: bool, forged: bool, uplink: bool
) -> None:
    policy = {"accept_promiscuous": promiscuous, "accept_mac_changes": mac_changes, "accept_forged": forged}
    machines = machines_with(**policy)
    for m in machines:
        m.asks_for_all = m.name in ("est2", "v10b", "vgt2")
        m.listens_to = CHANGED if m.name in ("est2", "v20") else m.made_with
    bench = Bench(machines, uplink)
    destinations = [m.made_with for m in machines] + [ELSEWHERE, CHANGED, BROADCAST, WANTED, UNWANTED, bytes(6)]
    entries = [(m.name, source) for m in machines for source in (m.listens_to, FORGED)]
    if uplink:
        entries += [("uplink", source) for source in (ELSEWHERE, *(m.made_with for m in machines))]
    for entry, source in entries:
        for to in destinations:
            for frame in tags_of(frame_of(to, source, 0x88B5, bytes(46))):
                bench.send(entry, frame)


@pytest.mark.parametrize("uplink", [False, True], ids=["alone", "uplink"])
def test_every_pair_of_ports_as_a_switch_is_when_it_is_new(uplink: bool) -> None:
    machines = machines_with()
    bench = Bench(machines, uplink)
    for m in machines:
        for to in [*(other.made_with for other in machines), ELSEWHERE, BROADCAST, WANTED, UNWANTED]:
            for frame in tags_of(frame_of(to, m.made_with, 0x88B5, bytes(46))):
                bench.send(m.name, frame)


ADDRESSES = [address(n) for n in range(1, 5)] + [bytes(6)]
some_machine = st.builds(
    reference.Machine,
    name=st.just(""),
    group_vlan=st.sampled_from([0, 0, 10, 10, 20, 4094, 4095]),
    made_with=st.sampled_from(ADDRESSES[:4]),
    listens_to=st.sampled_from([*ADDRESSES, BROADCAST, WANTED]),
    asks_for_all=st.booleans(),
    multicast=st.sets(st.sampled_from([WANTED, UNWANTED])),
    accept_promiscuous=st.booleans(),
    accept_mac_changes=st.booleans(),
    accept_forged=st.booleans(),
    plugged=st.sampled_from([True, True, True, False]),
)
some_tag = st.tuples(st.sampled_from([0, 1, 10, 20, 4094, 4095]), st.integers(0, 7))
some_address = st.sampled_from([*ADDRESSES, ELSEWHERE, BROADCAST, WANTED, UNWANTED])


@st.composite
def some_frame(draw: st.DrawFn) -> bytes:
    frame = draw(some_address) + draw(some_address) + b"\x88\xb5"
    if draw(st.booleans()):
        return frame + bytes(46)
    frame += bytes(draw(st.sampled_from([0, 1, 45, 46, 1500, 1501, 70_000])))
    for vlan, priority in draw(st.lists(some_tag, max_size=3)):
        frame = tagged(frame, vlan, priority)
    return frame[: draw(st.sampled_from([None] * 8 + [0, 1, 6, 12, 13, 14, 15, 16, 17, 18, 20]))]


@settings(max_examples=400, deadline=None)
@given(st.lists(some_machine, min_size=1, max_size=6), st.booleans(), st.booleans(), st.data())
def test_any_cards_any_frame(
    machines: list[reference.Machine], uplink: bool, watched: bool, data: st.DataObject
) -> None:
    named = [replace(m, name=f"m{n}") for n, m in enumerate(machines)]
    bench = Bench(named, uplink)
    entries = [m.name for m in named] + (["uplink"] if uplink else [])
    for _ in range(8):
        bench.send(data.draw(st.sampled_from(entries)), data.draw(some_frame()))
