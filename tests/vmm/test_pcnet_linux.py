"""Stock Debian with a PCnet card ("vlance"): its pcnet32 driver finds the card and talks through it to a peer.

::

    guest 10.0.0.1 ── pcnet32 ── Am79C970A ── cable ── RecordingPort ── Peer 10.0.0.2: answers ARP and echo requests
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.devices.recording_port import RecordingPort
from tests.vmm.network_session import GUEST_ADDRESS, NetworkSession
from vilab.network.peer import Peer
from vilab.protocols import NetworkInterface

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

PEER_ADDRESS = bytes.fromhex("0050560000fe")
GUEST_IP, PEER_IP = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
SLOT, RECEIVE_RING, MISSED = 24, 32, 112
COMPLAINTS = re.compile(
    r"timed out|failure|error|WARNING|Call Trace|nobody cared|Impossible|out-of-sync", re.IGNORECASE
)


class PeerPort:
    """Where the peer is plugged in: what it sends waits in ``waiting``."""

    link_up = True

    def __init__(self) -> None:
        self.waiting: list[bytes] = []

    def plug(self, interface: NetworkInterface) -> None:
        pass

    def listen(self, address: bytes, promiscuous: bool) -> None:
        pass

    def transmit(self, frame: bytes) -> None:
        self.waiting.append(frame)

    def taken(self) -> list[bytes]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def save_state(self) -> bytes:
        return b""

    def load_state(self, state: bytes) -> None:
        pass


class Guest:
    """A booted guest, the port of its card, the peer behind it."""

    def __init__(self, engine: str) -> None:
        self.peer_port = PeerPort()
        self.peer = Peer(self.peer_port, PEER_ADDRESS, PEER_IP)
        self.port = RecordingPort(self.answer)
        self.session = NetworkSession.boot_with(engine, ["vlance"], [self.port])
        self.card = self.session.vm.pc.cards[SLOT]

    def answer(self, frame: bytes) -> list[bytes]:
        self.peer.receive(frame)
        return self.peer_port.taken()

    def up(self) -> None:
        self.session.succeed("ifconfig eth0 10.0.0.1 netmask 255.255.255.0 up")

    def ping(self, options: str = "-c 2 -i 0.05") -> None:
        said = self.session.succeed(f"ping -q {options} 10.0.0.2")
        assert " 0% packet loss" in said, said

    def count(self, name: str) -> int:
        return int(self.session.succeed(f"cat /sys/class/net/eth0/statistics/{name}"))


@pytest.fixture(scope="module", params=["bt", "svm"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    guest = Guest(request.param)
    guest.up()
    yield guest
    said = guest.session.run("dmesg | grep -E 'pcnet|eth0|irq'")
    guest.session.close()
    assert not COMPLAINTS.search(said), said


def test_the_driver_finds_the_card_its_address_and_the_link(guest: Guest) -> None:
    said = guest.session.run("dmesg | grep pcnet32")
    assert "PCnet/PCI II 79C970A" in said
    assert "00:50:56:00:00:01" in said
    assert "eth0: link up" in said
    assert "warning" not in said  # CSR12 to 14 and the APROM agree
    assert "eth0" in guest.session.run("cat /proc/interrupts")


def test_pings_are_answered_and_nothing_is_counted_as_an_error(guest: Guest) -> None:
    for size in (0, 56, 1472):
        guest.ping(f"-c 2 -i 0.05 -s {size}")
    for name in ("rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "collisions", "rx_length_errors"):
        assert guest.count(name) == 0, name
    assert min(map(len, guest.port.sent)) >= 60  # the driver leaves padding to the card
    assert guest.peer.statistics.malformed == 0


def test_promiscuous_mode_and_groups_reach_the_card(guest: Guest) -> None:
    guest.session.succeed("ifconfig eth0 promisc")
    assert guest.port.listens[-1] == (GUEST_ADDRESS, True)
    guest.session.succeed("ifconfig eth0 -promisc")
    assert guest.port.listens[-1] == (GUEST_ADDRESS, False)
    assert guest.card.wants_multicast(bytes.fromhex("3333ff000001"))  # its solicited-node address
    assert not guest.card.wants_multicast(bytes.fromhex("3333ff654321"))
    guest.ping()


def test_frames_that_find_no_descriptor_are_known_to_the_driver(guest: Guest) -> None:
    """More echo requests at one moment than the ring has descriptors: Linux answers what it got, counts the rest."""
    guest.ping()
    before, missed = guest.count("rx_packets"), guest.count("rx_missed_errors")
    guest.peer.replies.clear()
    for number in range(100):
        guest.peer.ping(GUEST_IP, number)
    requests = guest.peer_port.taken()
    assert len(requests) == 100
    for each in requests:
        guest.port.send(each)
    guest.session.succeed("sleep 0.1")
    lost = guest.count("rx_missed_errors") - missed
    assert lost == guest.card.save_state().csr[MISSED] - missed
    assert guest.count("rx_packets") - before == len(guest.peer.replies) == 100 - lost
    assert 0 < lost <= 100 - RECEIVE_RING
    guest.ping()


def test_a_pulled_cable_is_noticed_at_the_next_look(guest: Guest) -> None:
    carrier = "for i in $(seq 50); do grep -q {0} /sys/class/net/eth0/carrier && break; sleep 0.1; done"
    for up in (False, True):
        guest.port.pull(up)
        guest.session.succeed(carrier.format(int(up)))
        assert guest.session.run("dmesg | tail -n 1").endswith(f"link {'up' if up else 'down'}")
    guest.ping()


def test_a_machine_that_is_saved_and_loaded_under_way_loses_no_ping(guest: Guest) -> None:
    line = "ping -q -c 100 -i 0.01 10.0.0.2"
    guest.session.type(line)
    for ns in (30_000_000, 1_003_000, 2_000_700, 7_000_011, 213_000_000):
        guest.session.slice(ns)
        guest.session.vm.load_state(guest.session.vm.save_state())
    assert "100 packets received, 0% packet loss" in guest.session.answer(line)


def test_the_module_is_unloaded_and_loaded_ten_times(guest: Guest) -> None:
    said = guest.session.succeed(
        "for i in 1 2 3 4 5 6 7 8 9 10; do ifconfig eth0 down; rmmod pcnet32 && ! test -e /sys/class/net/eth0 && "
        "modprobe pcnet32 && ifconfig eth0 10.0.0.1 up && ping -q -c 1 -W 1 10.0.0.2 > /dev/null && echo -n ok; done"
    )
    assert said == "ok" * 10
    assert guest.session.run("dmesg | grep -c 'registered as PCnet'") == "11"
