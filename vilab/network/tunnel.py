"""A cable between two processes: frames over TCP.

::

    process A   port <── TunnelLink ── TCP ── TunnelLink ──> port   process B
                 ^          │                                         each has its own clock: a frame arrives
                 └─ poll() ─┘ what has come goes to the port          when the other side polls

Nothing blocks and no thread runs: whoever drives the network calls ``poll``, and may wait for ``fileno()`` in between.
The link is up from the other side's hello until the connection ends. A frame is dropped if more than
``MAX_BUFFERED_BYTES`` wait for the other side.

There is neither a password nor encryption: listen on the loopback interface, or in a network of one's own.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import msgspec

from vilab.errors import AdminError
from vilab.network.tunnel_codec import TunnelCodec, TunnelError
from vilab.protocols import NetworkPort

MAX_BUFFERED_BYTES = 1 << 20
READ_BYTES = 65_536


class TunnelStatistics(msgspec.Struct):
    """``dropped``: the other side was not there, does not take frames of this size, or was too slow."""

    frames_out: int = 0
    frames_in: int = 0
    dropped: int = 0


class TunnelLink:
    """A ``NetworkInterface`` for ``port``.

    Parameters
    ----------
    connection : connected; belongs to the link from now on.
    carrier : told when the link goes up or down.
    """

    def __init__(
        self, port: NetworkPort, connection: socket.socket, carrier: Callable[[bool], None] | None = None
    ) -> None:
        self.port, self._socket, self._carrier = port, connection, carrier
        self._codec = TunnelCodec()
        self._out = bytearray(self._codec.hello())
        self.statistics = TunnelStatistics()
        self.link_up, self.open = False, True
        self.error: str | None = None
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # a UNIX socket has no such option
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port.plug(self)
        self._flush()

    def fileno(self) -> int:
        return self._socket.fileno()

    # --- for the port -------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        packed = self._codec.encode(frame) if self.open else None
        if packed is None or len(self._out) + len(packed) > MAX_BUFFERED_BYTES:
            self.statistics.dropped += 1
            return
        self._out += packed
        self.statistics.frames_out += 1
        self._flush()

    def link_changed(self, up: bool) -> None:
        """MODEL: the other side is not told."""

    def wants_multicast(self, destination: bytes) -> bool:
        return True

    # --- the connection -----------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """Send what waits, take what has come: at most ``READ_BYTES``. Returns the number of frames."""
        if not self.open:
            return 0
        self._flush()
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._end(str(error))
            return 0
        if not data:
            self._end(None)
            return 0
        try:
            frames = self._codec.feed(data)
        except TunnelError as error:
            self._end(str(error))
            return 0
        if not self.link_up and self._codec.peer_takes is not None:
            self._set_link(True)
        for frame in frames:
            self.statistics.frames_in += 1
            self.port.transmit(frame)
        return len(frames)

    def close(self) -> None:
        self._end(None)

    def _flush(self) -> None:
        try:
            while self.open and self._out:
                sent = self._socket.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(str(error))

    def _end(self, error: str | None) -> None:
        if not self.open:
            return
        self.open, self.error = False, error
        self._out.clear()
        self._socket.close()
        if self.link_up:
            self._set_link(False)

    def _set_link(self, up: bool) -> None:
        self.link_up = up
        if self._carrier is not None:
            self._carrier(up)


class TunnelListener:
    """Waits for the other side. ``port`` 0: any that is free; ``address`` says which."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            self._socket = socket.create_server((host, port))
        except (OSError, OverflowError) as error:
            raise AdminError(f"Nobody can be waited for at {host}, TCP port {port}: {error}.") from None
        self._socket.setblocking(False)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return host, port

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> socket.socket | None:
        """A connection for a ``TunnelLink``, if somebody has come."""
        try:
            return self._socket.accept()[0]
        except BlockingIOError:
            return None

    def close(self) -> None:
        self._socket.close()


def connect(host: str, port: int, timeout_s: float = 5.0) -> socket.socket:
    """A connection for a ``TunnelLink``. Raises ``AdminError``."""
    try:
        return socket.create_connection((host, port), timeout_s)
    except (OSError, OverflowError) as error:
        raise AdminError(f"There is no tunnel to {host}, TCP port {port}: {error}.") from None
