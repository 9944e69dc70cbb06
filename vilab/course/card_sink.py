"""A host that takes everything that is sent to it over TCP, and says so: the other end of a stream that is measured.

::

    SYN ──> SYN ACK, largest segment 1,460          data ──> ACK, for every second segment and for a pushed one
    FIN ──> ACK, FIN                                 out of order ──> ACK of what is there, the segment is dropped

MODEL: it never sends data, never waits, and its window is 65,535 bytes for ever. Source: RFC 793, 3.4 and 3.9; RFC
1122, 4.2.3.2 (at least every second segment).
"""

from __future__ import annotations

import msgspec

from vilab.network import packets
from vilab.network.packets import Ipv4, Tcp
from vilab.network.peer import Peer

FIRST_SEQUENCE, WINDOW_BYTES = 1_000, 0xFFFF
LARGEST_SEGMENT = bytes((2, 4)) + (1460).to_bytes(2, "big")
_ALL = 0xFFFF_FFFF


class _Stream(msgspec.Struct):
    """``due``: the next octet's number. ``unsaid``: segments that were not acknowledged yet."""

    due: int
    unsaid: int = 0
    closed: bool = False


class Sink(Peer):
    """A peer with all TCP ports open. ``taken_bytes``: what has come over all streams, in order."""

    taken_bytes = 0

    def _refuse(self, packet: Ipv4, segment: Tcp) -> None:
        """It does not."""
        streams: dict[tuple[bytes, int, int], _Stream] = self.__dict__.setdefault("_streams", {})
        key = packet.source, segment.source_port, segment.destination_port
        if segment.flags & packets.SYN:
            streams[key] = _Stream(segment.sequence + 1 & _ALL)
            self._say(packet, segment, packets.SYN | packets.ACK, FIRST_SEQUENCE, streams[key].due, LARGEST_SEGMENT)
            return
        stream = streams.get(key)
        if stream is None:
            super()._refuse(packet, segment)
        elif segment.flags & packets.RST:
            del streams[key]
        else:
            self._take(packet, segment, stream)

    def _take(self, packet: Ipv4, segment: Tcp, stream: _Stream) -> None:
        in_order = segment.sequence == stream.due
        if in_order:
            self.taken_bytes += len(segment.data)
            stream.due = stream.due + len(segment.data) & _ALL
            stream.unsaid += bool(segment.data)
        own = FIRST_SEQUENCE + 1 + stream.closed
        if in_order and segment.flags & packets.FIN and not stream.closed:
            stream.due = stream.due + 1 & _ALL
            stream.closed = True
            self._say(packet, segment, packets.FIN | packets.ACK, own, stream.due)
        elif stream.unsaid >= 2 or segment.flags & packets.PSH or (not in_order and segment.data):
            stream.unsaid = 0
            self._say(packet, segment, packets.ACK, own, stream.due)

    def _say(
        self, packet: Ipv4, segment: Tcp, flags: int, sequence: int, acknowledgement: int, options: bytes = b""
    ) -> None:
        ports = segment.destination_port, segment.source_port
        answer = Tcp(*ports, sequence, acknowledgement, flags, WINDOW_BYTES, options=options)
        self._send(packet.source, packets.TCP, answer.encode(self.ip, packet.source))
