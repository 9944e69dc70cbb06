"""Something at the end of a link that keeps what it gets."""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.network.ethernet import frame_of
from vilab.protocols import NetworkPort

KIND = 0x88B5
"""IEEE 802 local experimental: nobody interprets it."""


class Listener:
    """A ``NetworkInterface``: ``got`` has (when, frame), ``link`` what it was told."""

    def __init__(self, port: NetworkPort, clock: VirtualClock) -> None:
        self.port, self._clock = port, clock
        self.got: list[tuple[int, bytes]] = []
        self.link: list[bool] = []
        port.plug(self)

    @property
    def frames(self) -> list[bytes]:
        return [frame for _, frame in self.got]

    def receive(self, frame: bytes) -> None:
        self.got.append((self._clock.now_ns, frame))

    def link_changed(self, up: bool) -> None:
        self.link.append(up)

    def wants_multicast(self, destination: bytes) -> bool:
        return True


def mac(number: int) -> bytes:
    return b"\x02" + number.to_bytes(5, "big")


def numbered(number: int, destination: bytes, source: bytes, size_bytes: int = 60) -> bytes:
    """A frame that is like no other one."""
    return frame_of(destination, source, KIND, number.to_bytes(4, "big").ljust(size_bytes - 14, b"\0"))


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[14:18], "big")
