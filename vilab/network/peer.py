"""A small IPv4 host without a processor: somebody to talk to for guests, and a client for tests.

::

    receive ─> for my MAC? ─> ARP      learn the sender if it asks for me; answer
                              IPv4 ──> ICMP   echo reply; ``replies`` has those to my own pings
                                       UDP    the service of the port ─> what it returns is sent back
                                       TCP    who has the connection (``connections``); nobody: RST

    send_udp, send_tcp, ping ─> the destination's MAC is known ─> transmit
                      unknown: ARP request, the packet waits (at most 16) until the answer comes

A peer answers at once, within ``receive``; what time that takes is up to the wire and the switch between, and it needs
no clock of its own. It is plugged straight into a wire or a physical switch; into a virtual switch with a cable:
nobody may send there from within ``receive``.

MODEL: fragments are dropped; a lost ARP request is repeated by the next packet to the same place only; there is no
TCP beyond refusing; one address, one network, one gateway.

Sources: RFC 1122 (what a host answers), RFC 862 (echo), RFC 826 (ARP).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.network import packets
from vilab.network.ethernet import ARP, BROADCAST, HEADER_BYTES, IPV4, frame_of, is_group
from vilab.network.packets import Arp, Icmp, Ipv4, PacketError, Tcp, Udp
from vilab.protocols import NetworkPort

ECHO_PORT = 7
MAX_WAITING, MAX_NEIGHBOURS, MAX_REPLIES = 16, 256, 1024


class Datagram(msgspec.Struct, frozen=True):
    """A UDP datagram as a service gets it. ``source``, ``destination``: IPv4 addresses."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    data: bytes
    source_mac: bytes


Service = Callable[[Datagram], bytes | None]
"""What is returned goes back to the sender; ``None``: nothing does."""


class EchoReply(msgspec.Struct, frozen=True):
    source: bytes
    identifier: int
    sequence: int
    data: bytes


class PeerStatistics(msgspec.Struct):
    """``malformed``: frames for this peer whose contents were none; dropped."""

    frames_in: int = 0
    frames_out: int = 0
    echoes_answered: int = 0
    datagrams_in: int = 0
    malformed: int = 0


class PeerState(msgspec.Struct):
    """``waiting``: (the next hop's address, the packet), oldest first."""

    neighbours: dict[bytes, bytes] = {}
    waiting: list[tuple[bytes, bytes]] = []
    replies: list[EchoReply] = []
    identification: int = 0
    statistics: PeerStatistics = msgspec.field(default_factory=PeerStatistics)


class Peer:
    """A ``NetworkInterface`` with one IPv4 address.

    Parameters
    ----------
    port : is plugged into at once.
    mac, ip : six and four octets.
    prefix : length of the network's prefix in bits.
    gateway : next hop for all other networks; without one they cannot be reached.
    services : by UDP port; the echo service is there unless another one takes port 7.
    """

    def __init__(
        self, port: NetworkPort, mac: bytes, ip: bytes, prefix: int = 24, gateway: bytes | None = None,
        services: dict[int, Service] | None = None,
    ) -> None:  # fmt: skip
        self.port, self.mac, self.ip, self.prefix, self.gateway = port, mac, ip, prefix, gateway
        self.services: dict[int, Service] = {ECHO_PORT: _echo, **(services or {})}
        self.connections: dict[tuple[bytes, int, int], Callable[[Tcp], None]] = {}
        """TCP, by the other's address and port and the own port: who takes the segments."""
        self.state = PeerState()
        port.plug(self)
        port.listen(mac, False)

    @property
    def replies(self) -> list[EchoReply]:
        """Answers to own pings, oldest first; no more are kept than ``MAX_REPLIES``."""
        return self.state.replies

    @property
    def statistics(self) -> PeerStatistics:
        return self.state.statistics

    @property
    def broadcast_ip(self) -> bytes:
        """The broadcast address of its own network."""
        hosts = (1 << 32 - self.prefix) - 1
        return (int.from_bytes(self.ip, "big") | hosts).to_bytes(4, "big")

    # --- the port's side ----------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        if len(frame) < HEADER_BYTES or frame[:6] not in (self.mac, BROADCAST):
            return
        self.statistics.frames_in += 1
        kind = int.from_bytes(frame[12:14], "big")
        try:
            if kind == ARP:
                self._arp(packets.parse_arp(frame[HEADER_BYTES:]))
            elif kind == IPV4:
                self._ipv4(packets.parse_ipv4(frame[HEADER_BYTES:]), frame[6:12])
        except PacketError:
            self.statistics.malformed += 1

    def link_changed(self, up: bool) -> None:
        pass

    def wants_multicast(self, destination: bytes) -> bool:
        return False

    # --- sending ------------------------------------------------------------------------------------------------------

    def ping(self, destination: bytes, sequence: int = 1, identifier: int = 1, data: bytes = b"vilab" * 8) -> None:
        rest = identifier.to_bytes(2, "big") + sequence.to_bytes(2, "big")
        self._send(destination, packets.ICMP, Icmp(packets.ECHO_REQUEST, 0, rest, data).encode())

    def send_udp(self, destination: bytes, destination_port: int, source_port: int, data: bytes) -> None:
        self._send(destination, packets.UDP, Udp(source_port, destination_port, data).encode(self.ip, destination))

    def send_tcp(self, destination: bytes, segment: Tcp) -> None:
        self._send(destination, packets.TCP, segment.encode(self.ip, destination))

    def announce(self) -> None:
        """Gratuitous ARP: everybody learns where this address is."""
        self._transmit(BROADCAST, ARP, Arp(packets.ARP_REQUEST, self.mac, self.ip, bytes(6), self.ip).encode())

    def transmit_udp(self, mac: bytes, source: bytes, destination: bytes, datagram: Udp) -> None:
        """A datagram to a MAC address that needs no asking, as a DHCP server sends it."""
        packet = Ipv4(source, destination, packets.UDP, datagram.encode(source, destination))
        self._transmit(mac, IPV4, packet.encode())

    def _send(self, destination: bytes, protocol: int, payload: bytes) -> None:
        state = self.state
        state.identification = state.identification + 1 & 0xFFFF
        packet = Ipv4(self.ip, destination, protocol, payload, identification=state.identification).encode()
        if destination in (packets.BROADCAST_IP, self.broadcast_ip):
            self._transmit(BROADCAST, IPV4, packet)
            return
        hop = destination if self._is_near(destination) else self.gateway
        if hop is None:
            return
        mac = state.neighbours.get(hop)
        if mac is not None:
            self._transmit(mac, IPV4, packet)
            return
        if len(state.waiting) >= MAX_WAITING:
            del state.waiting[0]
        state.waiting.append((hop, packet))
        self._transmit(BROADCAST, ARP, Arp(packets.ARP_REQUEST, self.mac, self.ip, bytes(6), hop).encode())

    def _transmit(self, destination: bytes, kind: int, data: bytes) -> None:
        self.statistics.frames_out += 1
        self.port.transmit(frame_of(destination, self.mac, kind, data))

    def _is_near(self, address: bytes) -> bool:
        shift = 32 - self.prefix
        return int.from_bytes(address, "big") >> shift == int.from_bytes(self.ip, "big") >> shift

    # --- receiving ----------------------------------------------------------------------------------------------------

    def _arp(self, message: Arp) -> None:
        """RFC 826, "Packet reception": known ones are updated by anything, others learned when they ask for us."""
        if message.operation not in (packets.ARP_REQUEST, packets.ARP_REPLY) or is_group(message.sender_mac):
            return
        neighbours, sender = self.state.neighbours, message.sender_ip
        for_me = message.target_ip == self.ip
        if sender not in (packets.ANY_IP, self.ip) and (for_me or sender in neighbours):
            if sender not in neighbours and len(neighbours) >= MAX_NEIGHBOURS:
                del neighbours[next(iter(neighbours))]
            neighbours[sender] = message.sender_mac
        if for_me and message.operation == packets.ARP_REQUEST and sender != self.ip:
            answer = Arp(packets.ARP_REPLY, self.mac, self.ip, message.sender_mac, sender)
            self._transmit(message.sender_mac, ARP, answer.encode())
        self._send_waiting(sender)

    def _send_waiting(self, hop: bytes) -> None:
        mac = self.state.neighbours.get(hop)
        if mac is None or not self.state.waiting:
            return
        due = [packet for waits_for, packet in self.state.waiting if waits_for == hop]
        self.state.waiting = [entry for entry in self.state.waiting if entry[0] != hop]
        for packet in due:
            self._transmit(mac, IPV4, packet)

    def _ipv4(self, packet: Ipv4, source_mac: bytes) -> None:
        mine = packet.destination == self.ip
        if packet.is_fragment or not (mine or packet.destination in (packets.BROADCAST_IP, self.broadcast_ip)):
            return
        if packet.protocol == packets.ICMP:
            self._icmp(packet, packets.parse_icmp(packet.payload), mine)
        elif packet.protocol == packets.UDP:
            self._udp(packet, packets.parse_udp(packet.payload, packet.source, packet.destination), mine, source_mac)
        elif packet.protocol == packets.TCP and mine:
            segment = packets.parse_tcp(packet.payload, packet.source, packet.destination)
            take = self.connections.get((packet.source, segment.source_port, segment.destination_port))
            if take is not None:
                take(segment)
            else:
                self._refuse(packet, segment)

    def _icmp(self, packet: Ipv4, message: Icmp, mine: bool) -> None:
        if message.kind == packets.ECHO_REQUEST and mine:
            self.statistics.echoes_answered += 1
            answer = Icmp(packets.ECHO_REPLY, 0, message.rest, message.data)
            self._send(packet.source, packets.ICMP, answer.encode())
        elif message.kind == packets.ECHO_REPLY and mine:
            identifier, sequence = int.from_bytes(message.rest[:2], "big"), int.from_bytes(message.rest[2:], "big")
            self.replies.append(EchoReply(packet.source, identifier, sequence, message.data))
            del self.replies[:-MAX_REPLIES]

    def _udp(self, packet: Ipv4, datagram: Udp, mine: bool, source_mac: bytes) -> None:
        self.statistics.datagrams_in += 1
        service = self.services.get(datagram.destination_port)
        if service is None:
            if mine:  # RFC 1122, 3.2.2: no ICMP error about a broadcast
                about = packet.encode()[: 20 + len(packet.options) + 8]
                error = Icmp(packets.UNREACHABLE, packets.PORT_UNREACHABLE, bytes(4), about)
                self._send(packet.source, packets.ICMP, error.encode())
            return
        answer = service(
            Datagram(
                packet.source, datagram.source_port, packet.destination, datagram.destination_port, datagram.data,
                source_mac,
            )
        )  # fmt: skip
        if answer is not None and packet.source != packets.ANY_IP:
            self.send_udp(packet.source, datagram.source_port, datagram.destination_port, answer)

    def _refuse(self, packet: Ipv4, segment: Tcp) -> None:
        """RFC 793, 3.4: a segment that belongs to no connection is answered with a reset, a reset with nothing."""
        if segment.flags & packets.RST:
            return
        ports = segment.destination_port, segment.source_port
        if segment.flags & packets.ACK:
            answer = Tcp(*ports, segment.acknowledgement, 0, packets.RST)
        else:
            octets = len(segment.data) + bool(segment.flags & packets.SYN) + bool(segment.flags & packets.FIN)
            answer = Tcp(*ports, 0, segment.sequence + octets & 0xFFFFFFFF, packets.RST | packets.ACK)
        self._send(packet.source, packets.TCP, answer.encode(self.ip, packet.source))

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> bytes:
        return msgspec.msgpack.encode(self.state)

    def load_state(self, state: bytes) -> None:
        self.state = msgspec.msgpack.decode(state, type=PeerState)


def _echo(datagram: Datagram) -> bytes | None:
    """RFC 862; never back to an echo port, which would answer for ever."""
    return None if datagram.source_port == ECHO_PORT else datagram.data
