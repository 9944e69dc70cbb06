"""Hosted against bare metal: the same guest in all of them, its accesses counted, every crossing an event."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vilab.devices import pcnet_registers as r
from vilab.events import Event, EventLog, PortRead, PortWritten
from vilab.host.hosted_lance import Access
from vilab.host.hosted_machine import GUEST_IP, PRODUCTS, HostedMachine, ProductName
from vilab.host.hosted_product import ALL
from vilab.host.world_costs import WORLD_COSTS
from vilab.host.world_events import Crossed, FrameOnWire, LanceAccessed, Worked, WorldSwitched

OURS = (LanceAccessed, WorldSwitched, Crossed, Worked, FrameOnWire)
VMM_WORLD = ("guest", "VMM", "vmkernel")


class Recorded:
    """A run with its log."""

    def __init__(self, product: ProductName, packets: int = 60, size_bytes: int = 1000, answer_each: int = 2) -> None:
        self.log = EventLog(keep=True)
        self.machine = HostedMachine(product, log=self.log)
        self.machine.send(packets, size_bytes, answer_each)


@cache
def recorded(product: ProductName, answer_each: int = 2) -> Recorded:
    return Recorded(product, answer_each=answer_each)


def check_crossings(events: list[Event]) -> None:
    """Control is in one place at a time, and goes from there: the log is one path, in the order of time."""
    here, at_ns = "guest", 0
    for event in events:
        if not isinstance(event, LanceAccessed | WorldSwitched | Crossed | Worked):
            continue
        assert event.at_ns >= at_ns, event
        at_ns = event.at_ns
        if isinstance(event, LanceAccessed):
            assert here == "guest", event
        elif isinstance(event, Worked):
            assert event.where == here, (here, event)
        elif isinstance(event, WorldSwitched):
            assert {event.origin, event.to} == {"VMM", "VMDriver"}, event
            assert event.origin == here or (here == "guest" and event.origin == "VMM"), (here, event)
            here = event.to
        else:
            assert event.origin == here, (here, event)
            assert (event.origin in VMM_WORLD) == (event.to in VMM_WORLD), "a crossing has changed worlds"
            here = event.to
    assert here == "guest"


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_log_is_one_path_through_the_worlds(product: ProductName) -> None:
    check_crossings(recorded(product).log.events)


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_accesses_are_those_that_the_machine_has_seen_at_the_cards_ports(product: ProductName) -> None:
    """The judge: the PC's own log of port accesses, which knows no product."""
    run = recorded(product)
    base = next(first for _, first, _, memory in run.machine.product.card.windows() if not memory)
    ports = Counter(
        (isinstance(each, PortWritten), "address" if each.port == base + 0x12 else "data")
        for each in run.log.events
        if isinstance(each, PortRead | PortWritten) and base <= each.port < base + 32
    )
    ours = Counter[tuple[bool, str]]()
    for (what, way, _), n in run.machine.product.accesses.items():
        ours[way == "write", what] += n
    assert ours == ports
    assert len(run.log.of(LanceAccessed)) == sum(ours.values())


@pytest.mark.parametrize("product", PRODUCTS)
def test_what_was_charged_is_counts_times_costs_and_what_the_events_say(product: ProductName) -> None:
    run = recorded(product)
    worlds = run.machine.product.worlds
    switched = run.log.of(WorldSwitched)
    assert len(switched) == sum(n for (field, _), n in worlds.counts.items() if field == "switch_ns")
    said = sum(each.ns for each in switched) + sum(each.ns for each in run.log.of(Worked))
    assert said == sum(n * getattr(WORLD_COSTS, field) for (field, _), n in worlds.counts.items())
    in_vmm = sum(n for (_, _, place), n in run.machine.product.accesses.items() if place == "VMM")
    assert said - in_vmm * run.machine.vm.costs.ns(run.machine.vm.costs.callout) <= worlds.charged_ns <= said


def test_all_products_send_the_same_frames_and_the_guest_says_the_same() -> None:
    def frames(product: ProductName) -> list[bytes]:
        return [each.frame for each in recorded(product, 0).log.of(FrameOnWire) if each.sent]

    first = frames("native")
    assert len(first) == 61
    for product in PRODUCTS:
        assert frames(product) == first, product
        assert recorded(product, 0).machine.console.said == recorded("native", 0).machine.console.said


def test_a_run_is_the_same_event_for_event() -> None:
    assert Recorded("flag").log.events == recorded("flag").log.events


def test_one_access_of_the_data_register_in_three_sends() -> None:
    accesses = recorded("none", 0).log.of(LanceAccessed)
    assert sum(each.sends for each in accesses) == 61
    assert sum(not each.register.startswith("RAP") for each in accesses[-6 * 40 :]) == 3 * 40


@pytest.mark.parametrize("product", PRODUCTS)
def test_it_does_not_matter_in_which_slices_a_run_is_made(product: ProductName) -> None:
    def events(slice_ns: int) -> list[Event]:
        lines = ("netsend 10.0.0.9 5001 30 600", "ping 10.0.0.9 2 56 1", "poweroff")
        machine = HostedMachine(product, *lines, log=EventLog(keep=True))
        machine.peer.services[5001] = lambda datagram: b""
        ended = None
        while ended is None:
            ended = machine.vm.engine.run(machine.vm.engine.now_ns() + slice_ns)
        return [each for each in machine.log.events if isinstance(each, OURS)]

    whole = events(1 << 50)
    assert len(whole) > 500
    assert events(77_777) == whole
    assert events(9_001) == whole


@pytest.mark.parametrize("product", ["none", "ports", "combining", "flag", "esx"])
def test_a_burst_that_is_longer_than_the_guests_ring_waits_and_is_not_lost(product: ProductName) -> None:
    machine = HostedMachine(product, log=EventLog(keep=True))
    machine.type("netsink 5001 100 50")
    machine.run_until(lambda: "netsink: port 5001\n" in machine.console.said)
    before = machine.product.frames_in
    for number in range(40):
        machine.peer.send_udp(GUEST_IP, 5001, 40000, number.to_bytes(4, "big") + bytes(60))
    machine.run_until(lambda: "missing between them" in machine.console.said)
    assert machine.product.frames_in - before >= 40
    assert not machine.product.arrived
    assert machine.product.lost == 0
    check_crossings(machine.log.events)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_lone_packet_does_not_wait_for_company(product: ProductName) -> None:
    machine = HostedMachine(product, "ping 10.0.0.9 3 56 1", "poweroff")
    ended = machine.vm.engine.run()
    assert ended is not None
    assert "ping: 3 of 3 answered" in machine.console.said


def test_a_backlog_forces_a_switch() -> None:
    """Allowed to queue none, every send switches; the processor is faster than small frames, so three are too few."""

    def backlog(most_queued: int) -> float:
        machine = HostedMachine("flag", options=replace(ALL, most_queued=most_queued))
        machine.send(100, 64, answer_each=0)
        return machine.product.worlds.counts["switch_ns", "backlog"] / 100

    assert backlog(0) > backlog(1) >= backlog(7)


VALUES = st.one_of(st.integers(0, 0xFFFF), st.sampled_from([r.TDMD | r.IENA, r.STOP, r.INIT, r.STRT]))
ACCESSES = st.tuples(st.booleans(), st.sampled_from([0, 0x10, 0x12, 0x14, 0x16, 0x18]), st.sampled_from([1, 2, 4]),
                     VALUES)  # fmt: skip
DEEDS = st.lists(st.one_of(ACCESSES, st.binary(min_size=60, max_size=80), st.integers(1, 3_000_000)), max_size=40)


@cache
def at_the_prompt(product: ProductName) -> HostedMachine:
    machine = HostedMachine(product, log=EventLog(keep=True))
    machine.run_until(lambda: machine.console.said.endswith("shell> "))
    return machine


@pytest.mark.parametrize("product", ["none", "ports", "flag", "esx"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds=DEEDS)
def test_whatever_is_done_to_the_card_the_log_stays_one_path(product: ProductName, deeds: list[object]) -> None:
    """Any accesses, frames at any time: no access in two places, no lost switch, no loop without end."""
    machine = at_the_prompt(product)
    card, engine = machine.product.card, machine.vm.engine
    machine.log.events.clear()
    before, waiting, lost = machine.product.frames_in, len(machine.product.arrived), machine.product.lost
    for deed in deeds:
        if isinstance(deed, bytes):
            machine.product.nic.transmit(b"\xff" * 6 + deed[6:])
        elif isinstance(deed, int):
            engine.run(engine.now_ns() + deed)
        elif isinstance(deed, tuple):
            write, offset, size, value = deed
            if write:
                card.write_bar(0, offset, size, value)
            else:
                card.read_bar(0, offset, size)
            engine.run(engine.now_ns() + 1)
    engine.run(engine.now_ns() + 5_000_000)
    assert engine.ended is None
    product_of = machine.product
    came = sum(not each.sent for each in machine.log.of(FrameOnWire))
    assert came == product_of.frames_in - before + len(product_of.arrived) - waiting + product_of.lost - lost
    check_crossings(machine.log.events)


@pytest.mark.parametrize(
    ("access", "sends", "changes"),
    [
        (Access("CSR0", True, r.TDMD | r.IENA), True, False),
        (Access("CSR0", True, r.TDMD, on=False), False, False),
        (Access("CSR0", False, r.TDMD), False, False),
        (Access("CSR0", True, r.TINT | r.IENA), False, False),
        (Access("CSR0", True, r.INIT), False, True),
        (Access("CSR4", True, 0xFFFF), False, False),
        (Access("BCR20", True, 2), False, True),
        (Access("RAP", True, r.TDMD), False, False),
    ],
)
def test_which_accesses_send_and_which_change_what_is_delivered(access: Access, sends: bool, changes: bool) -> None:
    assert (access.sends, access.starts_or_stops) == (sends, changes)
