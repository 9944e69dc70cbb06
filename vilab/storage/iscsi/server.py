"""An iSCSI target on TCP: asyncio around ``TargetConnection``.

::

    socket ── data_received ──> TargetConnection ── take_output ──> socket
              paused while the peer does not take what it has asked for

One event loop serves everybody: a command is carried out where it arrives, so that no two ever overlap.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable

from vilab.errors import AdminError
from vilab.storage.iscsi.connection import TargetConnection
from vilab.storage.iscsi.session import Portal
from vilab.storage.iscsi.target import IscsiTarget

LOGIN_S = 15.0
"""So long may a login take."""
LINGER_S = 5.0
"""So long may a peer take the last words."""
BUFFER_BYTES = 1 << 20


class PortalProtocol(asyncio.Protocol):
    """One connection. ``report`` hears of defects: a sentence."""

    def __init__(self, node: IscsiTarget, portal: Portal, report: Callable[[str], None]) -> None:
        self._node = node
        self._portal = portal
        self._report = report
        self._transport: asyncio.Transport
        self._connection: TargetConnection | None = None
        self._full = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connection = self._node.connect(self._portal)
        if self._connection is None:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        connected: socket.socket = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._timer = asyncio.get_running_loop().call_later(LOGIN_S, self._check_login)
        self._connection.notify = self.flush

    def _check_login(self) -> None:
        if self._connection is not None and self._connection.session is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.receive(data)
            self.flush()
        except Exception as error:  # a defect must not take the other sessions along
            self._report(f"a defect of vilab itself ended a connection: {type(error).__name__}: {error}")
            self._transport.abort()

    def flush(self) -> None:
        """Send what there is, and go on with what was held back because of it."""
        connection = self._connection
        if connection is None:
            return
        while True:
            output = connection.take_output()
            if output:
                self._transport.write(output)
            if self._full or not connection.stalled:
                break
            connection.run()
        if connection.closing and not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)

    def pause_writing(self) -> None:
        self._full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if self._connection is not None and not self._connection.closing:
            self._transport.resume_reading()
            self.data_received(b"")

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost()


class IscsiServer:
    """A target at its portals: ``start``, then ``stop``."""

    def __init__(self, node: IscsiTarget, report: Callable[[str], None] | None = None) -> None:
        self.node = node
        self._report = report or (lambda sentence: print(f"vilab: {sentence}", file=sys.stderr))  # noqa: T201
        self._servers: list[asyncio.Server] = []

    async def start(self, host: str, port: int, group: int = 1) -> Portal:
        """Listen; ``port`` 0: any that is free. What discovery will say is the portal returned."""
        loop = asyncio.get_running_loop()
        made: list[Portal] = []
        try:
            server = await loop.create_server(lambda: PortalProtocol(self.node, made[0], self._report), host, port)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise AdminError(f"Portal {host}:{port} cannot be opened: {reason}.") from None
        address = server.sockets[0].getsockname()
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        portal = Portal(f"{name}:{address[1]}", group)
        made.append(portal)
        self.node.portals.append(portal)
        self._servers.append(server)
        return portal

    async def stop(self, grace_s: float = 1.0) -> None:
        """Ask the initiators to log out, give them a moment, end what is left, flush the disks.

        Raises ``AdminError`` if a disk could not be flushed, after the others were.
        """
        for server in self._servers:
            server.close()
        self.node.ask_for_logout(int(grace_s))
        deadline = asyncio.get_running_loop().time() + grace_s
        while self.node.sessions and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        self.node.end_all("the target was shut down")
        await asyncio.sleep(0)
        failed = None
        for unit in self.node.scsi.units.values():
            try:
                if not unit.device.read_only:
                    unit.device.flush()
            except AdminError as error:
                failed = error
        if failed is not None:
            raise failed
