"""A machine on a port, for pictures: a small IPv4 host, a driver that may tag, lie or listen to all, and a cable.

::

    Peer ──untagged──> driver ──tag of its own?──> cable, 5 µs ──> port of a virtual switch
         <─its VLAN──         <──everything─────                   (or a wire to a physical one)

The driver is what an administrator of the guest has in hand: ``tag`` (frames of that VLAN are its own, VGT),
``curious`` (it asks the card for every frame), ``mac`` (another address than the card was made with).
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.network.ethernet import BROADCAST, IPV4, frame_of, tagged, untagged, vlan_of
from vilab.network.packets import UDP, Ipv4, Udp
from vilab.network.peer import Peer
from vilab.protocols import NetworkInterface, NetworkPort

DISCARD_PORT = 9


class Station:
    """A ``NetworkPort`` for its host and a ``NetworkInterface`` for what it is plugged into.

    Parameters
    ----------
    sent : called with each frame as it leaves the card.
    """

    def __init__(
        self, name: str, port: NetworkPort, mac: bytes, ip: bytes, sent: Callable[[str, bytes], None],
        tag: int | None = None, curious: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.mac, self.own_mac, self.ip = name, mac, mac, ip
        self.tag, self.curious = tag, curious
        self._sent = sent
        self._port = port
        self._host: NetworkInterface | None = None
        self.peer = Peer(self, mac, ip, services={DISCARD_PORT: lambda _: None})
        port.plug(self)

    def move(self, port: NetworkPort) -> None:
        """The card is plugged in somewhere else."""
        self._port = port
        port.plug(self)
        port.listen(self.mac, self.curious)

    def set_address(self, mac: bytes) -> None:
        """The guest's administrator gives the card another address."""
        self.mac = self.peer.mac = mac
        self._port.listen(mac, self.curious)

    def listen_to_all(self, curious: bool) -> None:
        self.curious = curious
        self._port.listen(self.mac, curious)

    # --- what it sends beside what its host sends ---------------------------------------------------------------------

    def send_as(self, source: bytes, destination: bytes, ip: bytes) -> None:
        """A datagram with somebody's source address. ``ip``: where it claims to go to."""
        datagram = Udp(1024, DISCARD_PORT, b"vilab").encode(self.ip, ip)
        self.transmit(frame_of(destination, source, IPV4, Ipv4(self.ip, ip, UDP, datagram).encode()))

    def send_tagged(self, vlan: int, ip: bytes) -> None:
        """A broadcast datagram with a tag that the guest has put on, whatever its driver does otherwise."""
        datagram = Udp(1024, DISCARD_PORT, b"vilab").encode(self.ip, ip)
        self._out(tagged(frame_of(BROADCAST, self.mac, IPV4, Ipv4(self.ip, ip, UDP, datagram).encode()), vlan))

    # --- for its host -------------------------------------------------------------------------------------------------

    @property
    def link_up(self) -> bool:
        return self._port.link_up

    def plug(self, interface: NetworkInterface) -> None:
        self._host = interface

    def listen(self, address: bytes, promiscuous: bool) -> None:
        self._port.listen(address, promiscuous or self.curious)

    def transmit(self, frame: bytes) -> None:
        self._out(frame if self.tag is None else tagged(frame, self.tag))

    def _out(self, frame: bytes) -> None:
        self._sent(self.name, frame)
        self._port.transmit(frame)

    def save_state(self) -> bytes:
        return self.peer.save_state()

    def load_state(self, state: bytes) -> None:
        self.peer.load_state(state)

    # --- for its port -------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        vlan = vlan_of(frame)
        if vlan != self.tag or self._host is None:
            return
        self._host.receive(frame if vlan is None else untagged(frame))

    def link_changed(self, up: bool) -> None:
        pass

    def wants_multicast(self, destination: bytes) -> bool:
        return False
