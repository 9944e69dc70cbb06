"""The cable between a machine's card and a port: two clocks, frames on their way, and how many of them there may be."""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.network.cable import CABLE_NS, MOST_ARRIVING, VirtualCable
from vilab.protocols import NetworkInterface


class Port:
    """Keeps what is sent, with the network's time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.sent, self.link_up = clock, [], True

    def plug(self, interface: NetworkInterface) -> None: ...

    def listen(self, address: bytes, promiscuous: bool) -> None: ...

    def transmit(self, frame: bytes) -> None:
        self.sent.append((self.clock.now_ns, frame))


class Card:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.got = clock, []

    def receive(self, frame: bytes) -> None:
        self.got.append((self.clock.now_ns, frame))

    def link_changed(self, up: bool) -> None: ...

    def wants_multicast(self, destination: bytes) -> bool:
        return False


def plugged(offset_ns: int = 0) -> tuple[VirtualCable, Port, Card, VirtualClock, VirtualClock]:
    machine, network = VirtualClock(), VirtualClock()
    port, card = Port(network), Card(machine)
    cable = VirtualCable(port, machine, network, lambda: offset_ns)
    cable.plug(card)
    return cable, port, card, machine, network


def test_what_machines_send_reaches_the_switch_in_the_order_of_time() -> None:
    """The first machine runs its slice before the second one, which sends earlier in the same slice."""
    first, port, _, machine, network = plugged()
    other = VirtualClock()
    second = VirtualCable(port, other, network, lambda: 1_000_000)
    machine.now_ns = 1_700_000
    first.transmit(b"late")
    other.now_ns = 300_000
    second.transmit(b"early")
    network.run_to(2_000_000)
    assert port.sent == [(1_300_000 + CABLE_NS, b"early"), (1_700_000 + CABLE_NS, b"late")]


def test_a_frame_is_received_after_it_was_sent_whatever_the_clocks_show() -> None:
    cable, _, card, machine, network = plugged(offset_ns=500)
    network.now_ns = 10_000
    cable.receive(b"ahead")
    machine.run_to(9_499 + CABLE_NS)
    assert card.got == []
    machine.run_to(50_000)
    cable.receive(b"behind")
    machine.run_due()
    assert card.got == [(9_500 + CABLE_NS, b"ahead"), (50_000, b"behind")]


def test_frames_on_their_way_are_state() -> None:
    cable, _, card, _, network = plugged()
    network.now_ns = 1000
    cable.receive(b"one")
    cable.receive(b"two")
    saved = cable.save_state()
    again, _, other, machine, _ = plugged()
    again.load_state(saved)
    machine.run_to(10_000)
    assert [frame for _, frame in other.got] == [b"one", b"two"]
    assert card.got == []
    assert again.save_state() != saved


def test_a_flood_for_a_machine_that_does_not_run_ends() -> None:
    cable, _, card, machine, _ = plugged()
    for number in range(MOST_ARRIVING + 100):
        cable.receive(number.to_bytes(4, "big"))
    machine.run_to(1_000_000)
    assert len(card.got) == MOST_ARRIVING
    assert card.got[-1][1] == (MOST_ARRIVING - 1).to_bytes(4, "big")
