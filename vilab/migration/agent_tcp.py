"""The end of a link between hosts that is a TCP connection, with TLS or without.

::

    send ──> what the socket does not take waits │ poll() sends it, and hands on what has come
    room <── where the next bytes are received: in their place, without a copy; or on_data gets them

Nothing blocks and no thread runs: whoever drives the host calls ``poll`` again as long as it returns more than 0, and
may then wait until ``fileno()`` can be read, or written while ``wants_write``. The same methods as a ``LinkEnd`` has.

Back-pressure: ``waiting_bytes`` is what the other side has not taken. Who sends without looking at it uses memory.

Between machines give both sides a context of ``agent_tls``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal

from vilab.errors import AdminError
from vilab.migration.agent_batch import Batch
from vilab.migration.agent_tls import cause
from vilab.protocols import ReadableBytes

READ_BYTES = 1 << 18
"""At once: so much stays in the processor's cache until it is looked at."""
SEND_BUFFER_BYTES = 1 << 21
"""For the kernel, which doubles it if it may. Both sides have work of some milliseconds in hand before one has to wait
for the other: a smaller buffer stays in the processor's cache, and is slower wherever a processor is shared."""
POLL_BYTES = 8 << 20
"""At most in one ``poll``."""
MOST_PARTS = 128
TLS_PIECE_BYTES = 1 << 16
DRAIN_BYTES = 16 << 20

HOST_HINT = "look what has become of its agent"
TLS_HINT = "look at the certificates that both sides have and trust"

Stage = Literal["connecting", "connected", "tls", "up"]


class TcpLink:
    """One end of a connection, which belongs to it from now on.

    Parameters
    ----------
    name, peer : this host, and the address of the other side, for the sentences.
    stage : ``connecting`` if ``connection`` is not there yet.

    ``on_data`` gets bytes that are valid during the call. Instead, ``room`` may say where they are to be received and
    ``on_received`` hear how many they were. ``on_end``: a sentence, once, when no more will come; not after ``close``.
    """

    def __init__(
        self, connection: socket.socket, name: str, peer: str, tls: ssl.SSLContext | None = None,
        *, listened: bool = False, stage: Stage = "connected",
    ) -> None:  # fmt: skip
        self.name, self.peer = name, peer
        self.on_data: Callable[[ReadableBytes], None] = lambda _data: None
        self.on_end: Callable[[str], None] = lambda _why: None
        self.room: Callable[[], memoryview] | None = None
        self.on_received: Callable[[int], None] = lambda _count: None
        self.open = True
        self.made = stage != "connecting"
        """Has there been a connection?"""
        self.sent_bytes = 0
        self._socket = connection
        self._tls: ssl.SSLSocket | None = None
        self._context, self._listened = tls, listened
        self._stage: Stage = "up" if stage == "connected" and tls is None else stage
        self._tls_writes = False
        self._queue: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._send_error = ""
        self._buffer: memoryview | None = None
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # a UNIX socket has no such option
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def waiting_bytes(self) -> int:
        return self._waiting_bytes

    @property
    def up(self) -> bool:
        """Connected, and agreed on TLS if it is to be: what is sent leaves."""
        return self.open and self._stage == "up"

    @property
    def wants_write(self) -> bool:
        """Is it worth to wait until ``fileno()`` can be written?"""
        waits = {"connecting": True, "connected": False, "tls": self._tls_writes, "up": bool(self._queue)}
        return self.open and waits[self._stage]

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, buffers: Iterable[ReadableBytes], unchanging: bool = False) -> None:
        """In order. What the socket does not take at once is copied if it is not ``bytes``.

        ``unchanging``: it need not be, because its owner leaves it alone until ``waiting_bytes`` is 0, or ``settle``.
        """
        if not self.open or self._send_error:
            return
        batch = Batch(buffers)
        if batch.left_bytes:
            self._queue.append(batch)
            self._waiting_bytes += batch.left_bytes
            self._flush()
            if not unchanging and batch.left_bytes:
                batch.settle()

    def settle(self) -> None:
        """Copy what still waits: its owner may change it from now on."""
        for batch in self._queue:
            batch.settle()

    def _flush(self) -> None:
        if self._stage != "up" or self._send_error:
            return
        try:
            while self._queue:
                self._sent(self._send_some(self._queue[0]))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:  # what the other side said last may still be read
            self._send_error = cause(error)
            self._queue.clear()
            self._waiting_bytes = 0

    def _send_some(self, batch: Batch) -> int:
        if self._tls is not None:
            return self._tls.send(batch.next(1)[0].cast("B")[:TLS_PIECE_BYTES])
        return self._socket.sendmsg(batch.next(MOST_PARTS))

    def _sent(self, count: int) -> None:
        self.sent_bytes += count
        self._waiting_bytes -= count
        batch = self._queue[0]
        batch.sent_bytes += count
        if not batch.left_bytes:
            self._queue.popleft()

    # --- receiving ----------------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """Send what waits, hand on what has come. How many bytes that was: call it again if it was any."""
        if not self.open or not self._ready():
            return 0
        self._flush()
        total = 0
        while self.open and total < POLL_BYTES:
            room = self._room()
            try:
                count = self._socket.recv_into(room[:READ_BYTES])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if self._send_error:
                    self._end(f"was lost ({self._send_error}): {HOST_HINT}")
                break
            except OSError as error:
                hint = TLS_HINT if isinstance(error, ssl.SSLError) else HOST_HINT
                self._end(f"was lost ({cause(error)}): {hint}")
                break
            if not count:
                why = f"was lost ({self._send_error})" if self._send_error else "was closed by the other side"
                self._end(f"{why}: {HOST_HINT}")
                break
            total += count
            drained = count < min(READ_BYTES, len(room)) and self._tls is None
            if self.room is None:
                self.on_data(room[:count])
            else:
                del room
                self.on_received(count)
            if drained:
                break
        return total

    def _room(self) -> memoryview:
        if self.room is not None:
            return self.room()
        if self._buffer is None:
            self._buffer = memoryview(bytearray(READ_BYTES))
        return self._buffer

    # --- beginning and end --------------------------------------------------------------------------------------------

    def _ready(self) -> bool:
        """Go on with what has to be done first."""
        try:
            if self._stage == "connecting":
                failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed:
                    raise OSError(failed, os.strerror(failed))
                self._socket.getpeername()
                self.made = True
                self._stage = "connected" if self._context else "up"
            if self._stage == "connected":
                assert self._context is not None
                self._tls = self._context.wrap_socket(
                    self._socket, server_side=self._listened, do_handshake_on_connect=False
                )
                self._socket, self._stage = self._tls, "tls"
            if self._stage == "tls":
                assert self._tls is not None
                self._tls_writes = False
                self._tls.do_handshake()
                self._stage = "up"
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._tls_writes = True
            return False
        except ssl.SSLError as error:
            self._end(f"could not agree on TLS ({cause(error)}): {TLS_HINT}")
            return False
        except OSError as error:
            if error.errno == errno.ENOTCONN and self._stage == "connecting":
                return False
            self._end(f"could not be made ({cause(error)}): look whether an agent listens there")
            return False
        return True

    def close(self) -> None:
        """What waits is sent as far as the socket takes it; ``on_end`` hears nothing."""
        if not self.open:
            return
        self._flush()
        self.open = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        # Unread bytes would make the kernel tear down what was sent last.
        with contextlib.suppress(OSError, ValueError):
            left = DRAIN_BYTES
            while left > 0 and (got := len(self._socket.recv(READ_BYTES))):
                left -= got
        self._forget()

    def _end(self, what: str) -> None:
        self.open = False
        self._forget()
        self.on_end(f"The connection of host {self.name} with {self.peer} {what}.")

    def _forget(self) -> None:
        self._queue.clear()
        self._waiting_bytes = 0
        self._socket.close()


class TcpListener:
    """Where a host's agent is called. ``port`` 0: any that is free. Raises ``AdminError``."""

    def __init__(self, name: str, address: str, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.name, self._context = name, tls
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self._socket = socket.create_server((address, port), family=family, backlog=16)
        except (OSError, OverflowError) as error:
            why = cause(error)
            raise AdminError(f"The agent of host {name} cannot listen on {_at(address, port)}: {why}.") from None
        self._socket.setblocking(False)
        self.address, self.port = self._socket.getsockname()[:2]

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> TcpLink | None:
        """Somebody has called, whoever it is. ``None``: nobody, or not any more."""
        try:
            connection, address = self._socket.accept()
        except OSError:
            return None
        return TcpLink(connection, self.name, _at(*address[:2]), self._context, listened=True)

    def close(self) -> None:
        self._socket.close()


def connect(name: str, address: str, port: int, tls: ssl.SSLContext | None = None) -> TcpLink:
    """Call another host's agent. Whether it answers, ``poll`` will find. An address that is a name is looked up now.

    Raises ``AdminError`` if there is no such address, or no way to it.
    """
    try:
        if not 0 < port < 65_536:
            raise OverflowError("a port is a number from 1 to 65535")
        family, kind, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        connection = socket.socket(family, kind)
    except (OSError, OverflowError, UnicodeError) as error:
        why = cause(error)
        raise AdminError(f"Host {name} cannot call the agent at {_at(address, port)}: {why}.") from None
    connection.setblocking(False)
    failed = connection.connect_ex(target)
    if failed not in (0, errno.EINPROGRESS):
        connection.close()
        why = os.strerror(failed)
        raise AdminError(f"Host {name} cannot call the agent at {_at(address, port)}: {why}.")
    return TcpLink(connection, name, _at(address, port), tls, stage="connecting")


def _at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
