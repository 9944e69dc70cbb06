"""Frames through a stream of bytes: what two processes of a laboratory say to each other. No socket is needed for it.

::

    each side first     | "vilabnet" | version, 2 | largest frame that it takes, 2 |        12 octets
    then, any number    | length, 2 | frame |                                               length 0: "I am here"

All numbers are big-endian. A frame that the other side does not take is not sent. A reader holds at most one frame that
is not complete. What cannot be read raises ``TunnelError``; the connection has to end then.
"""

from __future__ import annotations

from vilab.errors import VilabError
from vilab.network.ethernet import HEADER_BYTES

MAGIC = b"vilabnet"
VERSION = 1
HELLO_BYTES = len(MAGIC) + 4
MAX_FRAME_BYTES = HEADER_BYTES + 4 + 9000
"""A jumbo frame with a tag."""


class TunnelError(VilabError):
    """The other side does not speak this protocol, or has broken it."""


class TunnelCodec:
    """One side. ``peer_takes``: the other side's limit; ``None`` until its hello has come."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.peer_takes: int | None = None
        self._rest = b""

    @property
    def held_bytes(self) -> int:
        return len(self._rest)

    def hello(self) -> bytes:
        return MAGIC + VERSION.to_bytes(2, "big") + self.max_frame_bytes.to_bytes(2, "big")

    def encode(self, frame: bytes) -> bytes | None:
        """``None``: too short, or too long for the other side, or it has not said hello yet."""
        if self.peer_takes is None or not HEADER_BYTES <= len(frame) <= self.peer_takes:
            return None
        return len(frame).to_bytes(2, "big") + frame

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now. Raises ``TunnelError``."""
        data, at = self._rest + data, 0
        if self.peer_takes is None:
            if not MAGIC.startswith(data[: len(MAGIC)]):
                raise TunnelError("The other side does not send frames of vilab.")
            if len(data) < HELLO_BYTES:
                self._rest = data
                return []
            version, self.peer_takes = (int.from_bytes(data[n : n + 2], "big") for n in (8, 10))
            if version != VERSION:
                raise TunnelError(f"The other side speaks version {version} of the tunnel, this one {VERSION}.")
            at = HELLO_BYTES
        frames = []
        while len(data) - at >= 2:
            length = int.from_bytes(data[at : at + 2], "big")
            if length and not HEADER_BYTES <= length <= self.max_frame_bytes:
                raise TunnelError(f"The other side announces a frame of {length} octets.")
            if len(data) - at < 2 + length:
                break
            if length:
                frames.append(data[at + 2 : at + 2 + length])
            at += 2 + length
        self._rest = data[at:]
        return frames
