"""The small IPv4 host: ARP, echo, UDP, refusals. Two of them on a cord that carries frames at once."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.network import packets
from vilab.network.ethernet import ARP, BROADCAST, IPV4, frame_of, type_of
from vilab.network.packets import Arp, Icmp, Ipv4, Tcp, Udp, ip_of
from vilab.network.peer import ECHO_PORT, MAX_WAITING, Datagram, Peer, PeerState
from vilab.protocols import NetworkInterface

MAC_A, MAC_B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
IP_A, IP_B = ip_of("10.0.0.1"), ip_of("10.0.0.2")


class Cord:
    """One end of the shortest cable there is; what has been sent into it is kept."""

    link_up = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.other: Cord | None = None
        self.interface: NetworkInterface | None = None

    def plug(self, interface: NetworkInterface) -> None:
        self.interface = interface

    def listen(self, address: bytes, promiscuous: bool) -> None:
        pass

    def transmit(self, frame: bytes) -> None:
        self.sent.append(frame)
        if self.other is not None and self.other.interface is not None:
            self.other.interface.receive(frame)

    def save_state(self) -> bytes:
        return b""

    def load_state(self, state: bytes) -> None:
        pass


def cords() -> tuple[Cord, Cord]:
    first, second = Cord(), Cord()
    first.other, second.other = second, first
    return first, second


def two_peers() -> tuple[Peer, Peer, Cord, Cord]:
    first, second = cords()
    return Peer(first, MAC_A, IP_A), Peer(second, MAC_B, IP_B), first, second


def test_a_ping_asks_for_the_address_first_and_is_answered() -> None:
    a, b, cord, _ = two_peers()
    a.ping(IP_B, sequence=5, identifier=9, data=b"x" * 100)
    assert [(r.source, r.sequence, r.identifier, r.data) for r in a.replies] == [(IP_B, 5, 9, b"x" * 100)]
    a.ping(IP_B, sequence=6)
    assert [type_of(frame) for frame in cord.sent] == [ARP, IPV4, IPV4]
    assert b.statistics.echoes_answered == 2


def test_whoever_asks_is_learned() -> None:
    a, b, _, cord = two_peers()
    a.ping(IP_B)
    b.ping(IP_A)
    assert [r.source for r in b.replies] == [IP_A]
    assert not [frame for frame in cord.sent if frame[:6] == BROADCAST], "no question of its own was needed"


def test_udp_is_echoed_and_a_closed_port_said_so() -> None:
    a, _, _, cord = two_peers()
    heard: list[Datagram] = []
    a.services[4000] = lambda datagram: heard.append(datagram)
    a.send_udp(IP_B, ECHO_PORT, 4000, b"again")
    assert [(d.source, d.source_port, d.data, d.source_mac) for d in heard] == [(IP_B, ECHO_PORT, b"again", MAC_B)]
    a.send_udp(IP_B, 9, 4000, b"nobody")
    error = packets.parse_icmp(packets.parse_ipv4(cord.sent[-1][14:]).payload)
    assert (error.kind, error.code) == (packets.UNREACHABLE, packets.PORT_UNREACHABLE)
    assert packets.parse_ipv4(cord.sent[-1][14:]).destination == IP_A
    assert packets.parse_udp(error.data[20:28] + b"nobody", IP_A, IP_B).destination_port == 9


def test_two_echo_ports_do_not_talk_for_ever() -> None:
    a, _, _, cord = two_peers()
    a.send_udp(IP_B, ECHO_PORT, ECHO_PORT, b"round")
    assert not [frame for frame in cord.sent if type_of(frame) == IPV4]


def test_tcp_is_refused_with_the_numbers_that_the_other_side_expects() -> None:
    a, b, _, cord = two_peers()
    a.ping(IP_B)
    syn = Tcp(5000, 80, 0xFFFFFFFF, 0, packets.SYN)
    b.receive(frame_of(MAC_B, MAC_A, IPV4, Ipv4(IP_A, IP_B, packets.TCP, syn.encode(IP_A, IP_B)).encode()))
    answer = packets.parse_tcp(packets.parse_ipv4(cord.sent[-1][14:]).payload, IP_B, IP_A)
    assert (answer.source_port, answer.destination_port) == (80, 5000)
    assert (answer.flags, answer.acknowledgement) == (packets.RST | packets.ACK, 0)
    said = len(cord.sent)
    reset = answer.encode(IP_B, IP_A)
    a.receive(frame_of(MAC_A, MAC_B, IPV4, Ipv4(IP_B, IP_A, packets.TCP, reset).encode()))
    assert len(cord.sent) == said


def test_what_is_elsewhere_goes_to_the_gateway() -> None:
    first, second = cords()
    a, router = Peer(first, MAC_A, IP_A, gateway=IP_B), Peer(second, MAC_B, IP_B)
    a.ping(ip_of("192.0.2.7"))
    assert first.sent[-1][:6] == MAC_B
    assert packets.parse_ipv4(first.sent[-1][14:]).destination == ip_of("192.0.2.7")
    router.ping(ip_of("192.0.2.7"))
    assert all(frame[:6] != BROADCAST for frame in second.sent), "without a gateway there is nobody to ask"


def test_a_broadcast_is_sent_to_all_and_a_ping_to_it_not_answered() -> None:
    a, _, cord, _ = two_peers()
    a.ping(ip_of("10.0.0.255"))
    a.ping(packets.BROADCAST_IP)
    assert [frame[:6] for frame in cord.sent] == [BROADCAST] * 2
    assert a.replies == []


def test_packets_for_a_silent_neighbour_are_bounded() -> None:
    cord = Cord()
    a = Peer(cord, MAC_A, IP_A)
    for sequence in range(MAX_WAITING + 5):
        a.ping(IP_B, sequence)
    a.receive(frame_of(MAC_A, MAC_B, ARP, Arp(packets.ARP_REPLY, MAC_B, IP_B, MAC_A, IP_A).encode()))
    assert not a.state.waiting, "an answer that was asked for counts as one, known or not"
    sent = [packets.parse_icmp(packets.parse_ipv4(f[14:]).payload) for f in cord.sent if type_of(f) == IPV4]
    assert [int.from_bytes(message.rest[2:], "big") for message in sent] == list(range(5, MAX_WAITING + 5))


def test_state_goes_on_elsewhere() -> None:
    cord = Cord()
    a = Peer(cord, MAC_A, IP_A)
    a.ping(IP_B)
    other_cord = Cord()
    moved = Peer(other_cord, MAC_A, IP_A)
    moved.load_state(a.save_state())
    assert moved.state == a.state
    moved.receive(frame_of(MAC_A, MAC_B, ARP, Arp(packets.ARP_REPLY, MAC_B, IP_B, MAC_A, IP_A).encode()))
    assert [type_of(frame) for frame in other_cord.sent] == [IPV4]
    assert msgspec.msgpack.decode(moved.save_state(), type=PeerState) == moved.state


@given(st.lists(st.binary(max_size=80), max_size=20), st.sampled_from([ARP, IPV4, 0x86DD]))
def test_no_frame_ends_a_peer(bodies: list[bytes], kind: int) -> None:
    cord = Cord()
    peer = Peer(cord, MAC_A, IP_A)
    for body in bodies:
        peer.receive(frame_of(MAC_A, MAC_B, kind, body))
        peer.receive(body)
    assert len(cord.sent) <= len(bodies)


@pytest.mark.parametrize("fragment", [packets.MORE_FRAGMENTS, 1])
def test_a_fragment_is_dropped(fragment: int) -> None:
    cord = Cord()
    peer = Peer(cord, MAC_A, IP_A)
    message = Icmp(packets.ECHO_REQUEST, 0, bytes(4), b"")
    packet = Ipv4(IP_B, IP_A, packets.ICMP, message.encode(), fragment=fragment)
    peer.receive(frame_of(MAC_A, MAC_B, IPV4, packet.encode()))
    assert cord.sent == []


def test_a_datagram_from_nowhere_is_heard_and_not_answered() -> None:
    cord = Cord()
    peer = Peer(cord, MAC_A, IP_A, services={67: lambda datagram: b"answer"})
    datagram = Udp(68, 67, b"discover").encode(packets.ANY_IP, packets.BROADCAST_IP)
    packet = Ipv4(packets.ANY_IP, packets.BROADCAST_IP, packets.UDP, datagram)
    peer.receive(frame_of(BROADCAST, MAC_B, IPV4, packet.encode()))
    assert peer.statistics.datagrams_in == 1
    assert cord.sent == []
