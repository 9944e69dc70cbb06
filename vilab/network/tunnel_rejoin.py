"""A cable to another process that ends, and comes again: the process is called until it answers.

::

    joined ──connection ends──> away ──back-off──> connecting ──> greeting ──hello──> joined
      ^  link up                 │  link down         │ refused, or silent   │ no hello, or somebody else
      └──────────────────────────┴────────<───────────┴──────────────────────┘   twice as long as before, up to 5 s

Nothing blocks: whoever drives the network calls ``poll``. The link is down until the other side has said hello, so that
a team of cards uses another one meanwhile, and tells the physical switches when this one carries its ports again.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Callable

from vilab.network.tunnel import TunnelLink, connect
from vilab.protocols import NetworkPort

FIRST_BACK_OFF_NS, LONGEST_BACK_OFF_NS = 100_000_000, 5_000_000_000
SILENCE_NS = 5_000_000_000
"""So long a call may stay unanswered, and so long the other side may take to say hello."""
GOES_ON = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)


class RejoiningTunnel:
    """Parameters
    ----------
    port : as of ``TunnelLink``. carrier : told when the link goes up or down.
    host, tcp_port : of the other process, which has to be there now. now : wall time in ns.

    Raises
    ------
    AdminError : nobody is there.
    """

    def __init__(
        self, port: NetworkPort, host: str, tcp_port: int, carrier: Callable[[bool], None],
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:  # fmt: skip
        self.port, self._carrier, self._now = port, carrier, now
        self.joined = 0
        """How often the other side has said hello."""
        self._open = True
        self._calling: socket.socket | None = None
        self._back_off_ns, self._since_ns, self._call_ns = FIRST_BACK_OFF_NS, now(), 0
        connection = connect(host, tcp_port)
        self._family, self._address = connection.family, connection.getpeername()
        self.link: TunnelLink | None = TunnelLink(port, connection, self._link_changed)

    @property
    def link_up(self) -> bool:
        return self.link is not None and self.link.link_up

    def fileno(self) -> int:
        """To wait for what comes; -1 while there is nothing to be waited for but time."""
        return -1 if self.link is None or not self.link.open else self.link.fileno()

    def poll(self) -> int:
        """What has come goes to the port, and what is due is tried. Returns the number of frames."""
        if not self._open:
            return 0
        frames, now_ns = 0, self._now()
        if self.link is not None:
            frames = self.link.poll()
            if self.link.open and not self.link.link_up and now_ns - self._since_ns > SILENCE_NS:
                self.link.close()
            if not self.link.open:
                self.link = None
                self._try_later(now_ns)
        elif self._calling is not None:
            self._look(self._calling, now_ns)
        elif now_ns >= self._call_ns:
            self._call(now_ns)
        return frames

    def close(self) -> None:
        self._open = False
        if self.link is not None:
            self.link.close()
        if self._calling is not None:
            self._calling.close()
            self._calling = None

    # --- calling ------------------------------------------------------------------------------------------------------

    def _call(self, now_ns: int) -> None:
        calling = socket.socket(self._family, socket.SOCK_STREAM)
        calling.setblocking(False)
        self._since_ns = now_ns
        if calling.connect_ex(self._address) in GOES_ON:
            self._calling = calling
        else:
            calling.close()
            self._try_later(now_ns)

    def _look(self, calling: socket.socket, now_ns: int) -> None:
        _, writable, failed = select.select([], [calling], [calling], 0)
        if not (writable or failed):
            if now_ns - self._since_ns > SILENCE_NS:
                self._hang_up(now_ns)
            return
        if calling.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _is_itself(calling):
            self._hang_up(now_ns)
            return
        self._calling, self._since_ns = None, now_ns
        self.link = TunnelLink(self.port, calling, self._link_changed)

    def _hang_up(self, now_ns: int) -> None:
        if self._calling is not None:
            self._calling.close()
            self._calling = None
        self._try_later(now_ns)

    def _try_later(self, now_ns: int) -> None:
        self._call_ns = now_ns + self._back_off_ns
        self._back_off_ns = min(2 * self._back_off_ns, LONGEST_BACK_OFF_NS)

    def _link_changed(self, up: bool) -> None:
        if up:
            self.joined += 1
            self._back_off_ns = FIRST_BACK_OFF_NS
        self._carrier(up)


def _is_itself(connection: socket.socket) -> bool:
    """On the loopback interface a call to a port at which nobody listens can be answered by itself (RFC 793, 3.4,
    simultaneous open), and would keep the port from whoever is to listen there."""
    with contextlib.suppress(OSError):
        return bool(connection.getsockname() == connection.getpeername())
    return True
