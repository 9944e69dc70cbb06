"""Stock Debian with VMware's own card: its vmxnet3 driver finds it, and talks through it to a peer in the test.

::

    guest 10.0.0.2 ── vmxnet3 ── card ── cable ── RecordingPort ── Peer 10.0.0.1: ARP, echo, UDP echo
                                                            └── Streams: TCP port 5000 takes, TCP port 5001 gives

Every packet that the guest sends is read with ``vilab.network.packets``: a wrong checksum is an error of the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.devices.recording_port import RecordingPort
from tests.vmm.network_session import GUEST_ADDRESS, NetworkSession
from vilab.devices.vmxnet3 import Vmxnet3
from vilab.network.ethernet import IPV4, MAX_FRAME_BYTES, frame_of, tagged, untagged, vlan_of
from vilab.network.packets import ACK, FIN, SYN, TCP, Ipv4, Tcp, ip_of, parse_ipv4, parse_tcp
from vilab.network.peer import Datagram, Peer
from vilab.protocols import NetworkInterface

pytestmark = pytest.mark.interop

SLOT = 24
MAC, PEER_IP, GUEST_IP = bytes.fromhex("0050560000fe"), ip_of("10.0.0.1"), ip_of("10.0.0.2")
TAKES, GIVES = 5000, 5001
MSS = 1460
PRECIOUS = b"".join(b"%d\n" % number for number in range(1000)) * 24
MAKE_IT = (
    "seq 0 999 > /tmp/n; cat /tmp/n /tmp/n /tmp/n /tmp/n > /tmp/m; cat /tmp/m /tmp/m > /tmp/n; "
    "cat /tmp/n /tmp/n /tmp/n > /tmp/numbers"
)
"""93,360 bytes."""
MOVES = 3
SLOW_NS = 2_000_000
"""How long the peer takes over an answer while a stream is to pile up in the guest."""


class PeerPort:
    """What the peer is plugged into."""

    link_up = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def plug(self, interface: NetworkInterface) -> None:
        pass

    def listen(self, address: bytes, promiscuous: bool) -> None:
        pass

    def transmit(self, frame: bytes) -> None:
        self.sent.append(frame)

    def save_state(self) -> bytes:
        return b""

    def load_state(self, state: bytes) -> None:
        pass


class Streams:
    """Two TCP services without loss, timers or more than one connection each at a time."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.given = 0
        self.expected = 0

    def answer(self, ip: Ipv4) -> list[Tcp]:
        tcp = parse_tcp(ip.payload, ip.source, ip.destination)
        if tcp.flags & SYN:
            self.expected, self.given = tcp.sequence + 1 & 0xFFFF_FFFF, 0
            return [self._segment(tcp, SYN | ACK, 1000, options=b"\2\4" + MSS.to_bytes(2, "big"))]
        if tcp.destination_port == GIVES:
            return self._give(tcp)
        if tcp.sequence == self.expected:
            self.taken += tcp.data
            self.expected = self.expected + len(tcp.data) + bool(tcp.flags & FIN) & 0xFFFF_FFFF
        if tcp.flags & FIN:
            return [self._segment(tcp, ACK | FIN, 1001)]
        return [self._segment(tcp, ACK, tcp.acknowledgement)] if tcp.data else []

    def _give(self, tcp: Tcp) -> list[Tcp]:
        made = []
        if tcp.flags & FIN:
            self.expected = tcp.sequence + 1 & 0xFFFF_FFFF
            made.append(self._segment(tcp, ACK, 1001 + self.given))
        room = tcp.acknowledgement - 1001 + min(8 * MSS, tcp.window)
        while self.given < len(PRECIOUS) and self.given + MSS <= room:
            data = PRECIOUS[self.given : self.given + MSS]
            last = self.given + MSS >= len(PRECIOUS)
            made.append(self._segment(tcp, ACK | FIN * last, 1001 + self.given, data))
            self.given += len(data)
        return made

    def _segment(self, to: Tcp, flags: int, sequence: int, data: bytes = b"", options: bytes = b"") -> Tcp:
        return Tcp(
            to.destination_port, to.source_port, sequence, self.expected, flags, 65535, data=data, options=options
        )  # fmt: skip


class Guest:
    """A booted guest, and all that it talks to. ``vlan``: where the peer is. ``slow``: it takes its time."""

    def __init__(self, engine: str) -> None:
        self.port, self.peer_port, self.streams = RecordingPort(self.answer), PeerPort(), Streams()
        self.asked: list[bytes] = []
        self.peer = Peer(self.peer_port, MAC, PEER_IP, services={53: self._name})
        self.vlan: int | None = None
        self.slow = False
        self.session = NetworkSession.boot_with(engine, ["vmxnet3"], [self.port])

    @property
    def card(self) -> Vmxnet3:
        card = self.session.vm.pc.cards[SLOT]
        assert isinstance(card, Vmxnet3)
        return card

    def answer(self, frame: bytes) -> list[bytes]:
        if vlan_of(frame) != self.vlan:
            return []
        answers = self._answer(frame if self.vlan is None else untagged(frame))
        if self.slow:
            clock = self.session.vm.clock
            for each in answers:
                clock.at(clock.now_ns + SLOW_NS, partial(self.port.send, each))
            return []
        return answers if self.vlan is None else [tagged(each, self.vlan) for each in answers]

    def _name(self, query: Datagram) -> bytes:
        """Every name is 10.1.2.3 (RFC 1035)."""
        self.asked.append(query.data)
        question = query.data[12:]
        kind = question[-4:-2]
        answer = b"\xc0\x0c" + question[-4:] + bytes((0, 0, 0, 60, 0, 4, 10, 1, 2, 3))
        known = kind == b"\0\1"
        return query.data[:2] + b"\x81\x80\0\1\0" + bytes([known]) + bytes(4) + question + (answer if known else b"")

    def _answer(self, frame: bytes) -> list[bytes]:
        if frame[:6] == MAC and int.from_bytes(frame[12:14], "big") == IPV4:
            ip = parse_ipv4(frame[14:])
            if ip.protocol == TCP:
                made = self.streams.answer(ip)
                packets = [Ipv4(PEER_IP, ip.source, TCP, each.encode(PEER_IP, ip.source)) for each in made]
                return [frame_of(frame[6:12], MAC, IPV4, each.encode()) for each in packets]
        self.peer.receive(frame)
        answers, self.peer_port.sent = self.peer_port.sent, []
        return answers

    def up(self, device: str = "eth0") -> None:
        self.session.succeed(
            f"ip addr flush dev {device}; ip addr add 10.0.0.2/24 dev {device}; ip link set {device} up"
        )
        self.session.succeed(f"until grep -q 1 /sys/class/net/{device}/carrier; do sleep 0.02; done")

    def ping(self, options: str = "") -> None:
        said = self.session.succeed(f"ping -c 2 -i 0.1 {options} 10.0.0.1")
        assert "2 packets received, 0% packet loss" in said, said


ONCE = pytest.mark.parametrize("guest", ["svm"], indirect=True)
"""With one engine is enough: the rest is the card's alone."""


@pytest.fixture(scope="module", params=["bt", "svm"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    guest = Guest(request.param)
    guest.up()
    yield guest
    said = guest.session.run("dmesg")
    for complaint in ("WARNING", "BUG", "Call Trace", "tx hang", "resetting", "rror 0x", "nobody cared", "Failed"):
        assert complaint not in said, said
    assert guest.peer.statistics.malformed == 0
    guest.session.close()


def test_the_driver_finds_the_card_and_a_link(guest: Guest) -> None:
    said = guest.session.run("dmesg | grep vmxnet3")
    assert "NIC Link is Up 10000 Mbps" in said
    assert "intr type 1, mode 0, 1 vectors allocated" in said
    assert guest.session.run("cat /sys/class/net/eth0/address") == GUEST_ADDRESS.hex(":")
    assert guest.card.save_state().version == 3
    assert "eth0" in guest.session.run("cat /proc/interrupts")


def test_pings_are_answered(guest: Guest) -> None:
    for options in ("", "-s 1472"):
        guest.ping(options)
    assert guest.peer.statistics.echoes_answered == 4
    guest.peer.ping(GUEST_IP)
    frames, guest.peer_port.sent = guest.peer_port.sent, []
    for frame in frames:
        guest.port.send(frame)
    guest.session.succeed("sleep 0.05")
    assert [reply.source for reply in guest.peer.replies] == [GUEST_IP]


def test_a_name_is_asked_for_and_told_over_udp(guest: Guest) -> None:
    assert "10.1.2.3" in guest.session.run("nslookup lab.test 10.0.0.1")
    assert guest.asked


def test_a_stream_out_is_cut_by_the_card_and_costs_few_exits(guest: Guest) -> None:
    exits = guest.session.vm.engine.exits
    guest.streams.taken.clear()
    guest.session.succeed(MAKE_IT)
    before, sent, cut = exits["mmio"], len(guest.port.sent), guest.card.save_state().tx[0].counters[0]
    guest.slow = True
    guest.session.succeed("nc 10.0.0.1 5000 < /tmp/numbers")
    guest.slow = False
    assert bytes(guest.streams.taken) == PRECIOUS
    frames = guest.port.sent[sent:]
    assert max(map(len, frames)) <= MAX_FRAME_BYTES
    assert guest.card.save_state().tx[0].counters[0] - cut > len(frames) // 2
    assert exits["mmio"] - before < 2 * len(frames)


def test_a_stream_in_arrives_whole(guest: Guest) -> None:
    assert guest.session.succeed("nc 10.0.0.1 5001 < /dev/null > /tmp/got; cmp /tmp/got /tmp/numbers") == ""
    assert guest.session.run("ifconfig eth0 | grep -c 'errors:0 dropped:0'") == "2"


@ONCE
def test_a_machine_that_is_saved_in_the_middle_of_traffic_goes_on(guest: Guest) -> None:
    session = guest.session
    guest.streams.taken.clear()
    line = "nc 10.0.0.1 5000 < /tmp/numbers; echo =$?"
    session.type(line)
    while not guest.streams.taken:
        session.slice(500_000)
    for _ in range(MOVES):
        session.vm.load_state(session.vm.save_state())
        session.slice(700_000)
    assert len(guest.streams.taken) < len(PRECIOUS)
    assert session.answer(line).endswith("=0")
    assert bytes(guest.streams.taken) == PRECIOUS


def test_promiscuous_mode_reaches_the_port(guest: Guest) -> None:
    for word, on in (("on", True), ("off", False)):
        guest.session.succeed(f"ip link set eth0 promisc {word}")
        assert guest.port.listens[-1] == (GUEST_ADDRESS, on)


def test_multicast_groups_are_heard_once_the_guest_has_joined(guest: Guest) -> None:
    assert guest.card.wants_multicast(bytes.fromhex("01005e000001"))
    assert not guest.card.wants_multicast(bytes.fromhex("01005e000105"))


@ONCE
def test_an_mtu_of_9000_needs_several_buffers_a_frame(guest: Guest) -> None:
    guest.session.succeed("ip link set eth0 mtu 9000")
    guest.up()
    guest.ping("-s 8900")
    assert max(map(len, guest.port.sent)) == 14 + 20 + 8 + 8900
    guest.session.succeed("ip link set eth0 mtu 1500")
    guest.up()
    guest.ping()


@ONCE
def test_vlans_are_tagged_and_untagged_by_the_card(guest: Guest) -> None:
    guest.session.succeed("modprobe 8021q; vconfig add eth0 42 > /dev/null; ip addr flush dev eth0")
    guest.up("eth0.42")
    guest.vlan = 42
    guest.ping()
    assert guest.card.save_state().filter.vlans[42 >> 3] >> (42 & 7) & 1
    guest.vlan = None
    guest.session.succeed("ip addr flush dev eth0.42; vconfig rem eth0.42 > /dev/null")
    guest.up()


def test_a_pulled_cable_is_noticed(guest: Guest) -> None:
    for plugged in (False, True):
        guest.port.pull(plugged)
        guest.session.succeed(f"until grep -q {int(plugged)} /sys/class/net/eth0/carrier; do sleep 0.02; done")
    guest.ping()


def test_the_driver_can_be_taken_out_and_put_in_again(guest: Guest) -> None:
    guest.session.succeed("rmmod vmxnet3; modprobe vmxnet3")
    guest.up()
    guest.ping()
