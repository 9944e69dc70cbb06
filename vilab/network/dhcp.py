"""A DHCP server on a peer: addresses for guests, and what a network card's boot ROM wants to know.

::

    DISCOVER ──> an address is kept back for OFFER_NS ──> OFFER
    REQUEST  ──> with our server id: the one offered    ──> ACK, leased for lease_s; another one ──> NAK
                 without, "I had this one" (option 50)  ──> ACK, or NAK; of an unknown client: silence
                 without, "I have this one" (ciaddr)    ──> ACK: renewed
    RELEASE  ──> free again        DECLINE ──> somebody else has it: not given out for lease_s
    INFORM   ──> ACK without an address

    which address    the client's own of last time, the one that it asks for, one that nobody has had, the one that
                     has been free for longest; none: silence
    answer goes to   ciaddr, if there is one; everybody, if the client says so or for NAK; else straight to its MAC

A client is its client identifier (option 61), or its MAC address. Leases are a record and last in virtual time.

MODEL: no relays, no ping before an offer, no BOOTP. Sources: RFC 2131, section 4.3; RFC 2132.
"""

from __future__ import annotations

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.network import dhcp_message as dhcp
from vilab.network.dhcp_message import DhcpError, DhcpMessage, parse_dhcp
from vilab.network.ethernet import BROADCAST, is_group
from vilab.network.packets import ANY_IP, BROADCAST_IP, Udp
from vilab.network.peer import Datagram, Peer

SERVER_PORT, CLIENT_PORT = 67, 68
OFFER_NS = 30_000_000_000
SECOND_NS = 1_000_000_000
MAX_CLIENT_BYTES = 255
MAX_ADDRESSES = 65_536


class DhcpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``first`` to ``last`` are given out. ``boot_file``: for a boot ROM; ``ipxe_file``: for one whose user class is
    iPXE, and that needs no second iPXE."""

    first: bytes
    last: bytes
    router: bytes | None = None
    dns: tuple[bytes, ...] = ()
    domain: str = ""
    lease_s: int = 3600
    next_server: bytes | None = None
    boot_file: str = ""
    ipxe_file: str = ""


class Lease(msgspec.Struct):
    """``client``: empty for an address that somebody has without asking. ``offered``: not taken yet."""

    client: bytes
    mac: bytes
    until_ns: int
    offered: bool


class DhcpStatistics(msgspec.Struct):
    offers: int = 0
    acks: int = 0
    naks: int = 0
    exhausted: int = 0
    malformed: int = 0


class DhcpState(msgspec.Struct):
    """``leases``: by address; those that are over are kept until the address is needed."""

    leases: dict[bytes, Lease] = {}
    statistics: DhcpStatistics = msgspec.field(default_factory=DhcpStatistics)


class DhcpServer:
    """Takes port 67 of ``peer``, whose address and prefix are the server's."""

    def __init__(self, peer: Peer, clock: VirtualClock, settings: DhcpSettings) -> None:
        first, last = (int.from_bytes(ip, "big") for ip in (settings.first, settings.last))
        network = int.from_bytes(peer.ip, "big") >> 32 - peer.prefix
        if first > last or {first >> 32 - peer.prefix, last >> 32 - peer.prefix} != {network}:
            raise AdminError("The addresses to be given out have to be a range of the server's own network.")
        if last - first >= MAX_ADDRESSES:
            raise AdminError(f"A DHCP server gives out {MAX_ADDRESSES} addresses at most.")
        if not 60 <= settings.lease_s < 1 << 32 or max(len(settings.boot_file), len(settings.ipxe_file)) > 127:
            raise AdminError("A lease lasts at least 60 seconds, and the name of a boot file has at most 127 octets.")
        self.settings = settings
        self._peer, self._clock = peer, clock
        self._range = range(first, last + 1)
        self.state = DhcpState()
        peer.services[SERVER_PORT] = self.serve

    def lease_of(self, mac: bytes) -> bytes | None:
        """The address that a card has now."""
        now_ns = self._clock.now_ns
        return next(
            (
                ip for ip, lease in self.state.leases.items()
                if lease.mac == mac and lease.client and not lease.offered and lease.until_ns > now_ns
            ),
            None,
        )  # fmt: skip

    def serve(self, datagram: Datagram) -> None:
        """What has come in at port 67; answers are sent from here."""
        try:
            message = parse_dhcp(datagram.data)
        except DhcpError:
            self.state.statistics.malformed += 1
            return
        if message.op != dhcp.REQUEST or message.relay != ANY_IP or is_group(message.mac):
            return
        client = message.options.get(dhcp.CLIENT_ID) or b"\1" + message.mac
        if len(client) > MAX_CLIENT_BYTES:
            return
        kind = message.kind
        if kind == dhcp.DISCOVER:
            self._discover(message, client)
        elif kind == dhcp.DHCP_REQUEST:
            self._request(message, client)
        elif kind == dhcp.RELEASE:
            self._free(message.client_ip, client)
        elif kind == dhcp.DECLINE and message.options.get(dhcp.SERVER) == self._peer.ip:
            address = message.options.get(dhcp.REQUESTED_IP, b"")
            if self._holds(address, client):
                until_ns = self._clock.now_ns + self.settings.lease_s * SECOND_NS
                self.state.leases[address] = Lease(b"", message.mac, until_ns, False)
        elif kind == dhcp.INFORM:
            self._answer(message, dhcp.ACK, ANY_IP)

    # --- what clients ask for -----------------------------------------------------------------------------------------

    def _discover(self, message: DhcpMessage, client: bytes) -> None:
        address = self._choose(client, message.options.get(dhcp.REQUESTED_IP, b""))
        if address is None:
            self.state.statistics.exhausted += 1
            return
        lease = self.state.leases.get(address)
        if lease is None or lease.client != client or lease.until_ns <= self._clock.now_ns:
            self.state.leases[address] = Lease(client, message.mac, self._clock.now_ns + OFFER_NS, True)
        self.state.statistics.offers += 1
        self._answer(message, dhcp.OFFER, address)

    def _request(self, message: DhcpMessage, client: bytes) -> None:
        server, wanted = message.options.get(dhcp.SERVER), message.options.get(dhcp.REQUESTED_IP)
        if server is not None and server != self._peer.ip:
            for address, lease in list(self.state.leases.items()):
                if lease.client == client and lease.offered:  # another server's offer was better
                    del self.state.leases[address]
            return
        address = wanted if wanted is not None else message.client_ip
        if self._holds(address, client):
            until_ns = self._clock.now_ns + self.settings.lease_s * SECOND_NS
            self.state.leases[address] = Lease(client, message.mac, until_ns, False)
            self.state.statistics.acks += 1
            self._answer(message, dhcp.ACK, address)
            return
        known = any(lease.client == client for lease in self.state.leases.values())
        elsewhere = wanted is not None and int.from_bytes(wanted, "big") not in self._range
        if server is not None or known or elsewhere:
            self.state.statistics.naks += 1
            self._answer(message, dhcp.NAK, ANY_IP)

    # --- addresses ----------------------------------------------------------------------------------------------------

    def _holds(self, address: bytes, client: bytes) -> bool:
        """Offered or leased to this client; also if that is over, and nobody else has got it meanwhile."""
        lease = self.state.leases.get(address)
        return lease is not None and lease.client == client

    def _free(self, address: bytes, client: bytes) -> None:
        if self._holds(address, client):
            self.state.leases[address].until_ns = self._clock.now_ns

    def _choose(self, client: bytes, wanted: bytes) -> bytes | None:
        leases, now_ns = self.state.leases, self._clock.now_ns
        own = next((ip for ip, lease in leases.items() if lease.client == client), None)
        if own is not None:
            return own
        if len(wanted) == 4 and int.from_bytes(wanted, "big") in self._range and wanted != self._peer.ip:
            lease = leases.get(wanted)
            if lease is None or lease.until_ns <= now_ns:
                return wanted
        for number in self._range:
            address = number.to_bytes(4, "big")
            if address not in leases and address != self._peer.ip:
                return address
        over = [(lease.until_ns, ip) for ip, lease in leases.items() if lease.until_ns <= now_ns]
        return min(over)[1] if over else None

    # --- answers ------------------------------------------------------------------------------------------------------

    def _answer(self, message: DhcpMessage, kind: int, address: bytes) -> None:
        settings, nak = self.settings, kind == dhcp.NAK
        options = {dhcp.KIND: bytes([kind]), dhcp.SERVER: self._peer.ip}
        if kind in (dhcp.OFFER, dhcp.ACK):
            options |= self._settings_for(message, timed=address != ANY_IP)
        if dhcp.CLIENT_ID in message.options:
            options[dhcp.CLIENT_ID] = message.options[dhcp.CLIENT_ID]  # RFC 6842
        file = "" if nak else self._file_for(message)
        answer = DhcpMessage(
            op=dhcp.REPLY, transaction=message.transaction, mac=message.mac, options=options, flags=message.flags,
            client_ip=ANY_IP if nak or kind == dhcp.OFFER else message.client_ip, your_ip=address,
            next_server=(settings.next_server or self._peer.ip) if file else ANY_IP, boot_file=file.encode(),
        )  # fmt: skip
        datagram = Udp(SERVER_PORT, CLIENT_PORT, answer.encode())
        if message.client_ip != ANY_IP and not nak:
            self._peer.transmit_udp(message.mac, self._peer.ip, message.client_ip, datagram)
        elif nak or message.flags & dhcp.BROADCAST_FLAG:
            self._peer.transmit_udp(BROADCAST, self._peer.ip, BROADCAST_IP, datagram)
        else:
            self._peer.transmit_udp(message.mac, self._peer.ip, address, datagram)

    def _settings_for(self, message: DhcpMessage, timed: bool) -> dict[int, bytes]:
        settings, prefix = self.settings, self._peer.prefix
        options: dict[int, bytes] = {}
        if timed:
            lease_s = settings.lease_s
            for code, seconds in (
                (dhcp.LEASE_S, lease_s),
                (dhcp.RENEW_S, lease_s // 2),
                (dhcp.REBIND_S, lease_s * 7 // 8),
            ):
                options[code] = seconds.to_bytes(4, "big")
        options[dhcp.MASK] = ((0xFFFFFFFF << 32 - prefix) & 0xFFFFFFFF).to_bytes(4, "big")
        if settings.router is not None:
            options[dhcp.ROUTER] = settings.router
        if settings.dns:
            options[dhcp.DNS] = b"".join(settings.dns)
        if settings.domain:
            options[dhcp.DOMAIN] = settings.domain.encode()
        return options

    def _file_for(self, message: DhcpMessage) -> str:
        is_ipxe = b"iPXE" in message.options.get(dhcp.USER_CLASS, b"")
        return self.settings.ipxe_file if is_ipxe and self.settings.ipxe_file else self.settings.boot_file

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> bytes:
        return msgspec.msgpack.encode(self.state)

    def load_state(self, state: bytes) -> None:
        self.state = msgspec.msgpack.decode(state, type=DhcpState)
