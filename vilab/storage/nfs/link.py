"""A connection to a file server that may go away: calls in, results out, within a time.

::

    exchange ── dial ──> send ──> receive ──> results
                  │       │          │
                  │       └──────────┴─ the stream broke: dial anew; what is repeatable is sent once more,
                  │                     what is not is "uncertain"
                  └─ nobody listens: "away"          no answer in time: "away", or "uncertain"

After a timeout the stream is kept: a server that was merely busy works off what it was sent in the order in which it
was sent, so that an old write cannot overtake a new one on another stream.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.layout import NFS, NFS_VERSION, NULL, REPEATABLE
from vilab.storage.nfs.rpc import RpcClient
from vilab.storage.nfs.xdr import XdrReader

WINDOW = 8
"""Calls that are under way at once."""
IDLE_S = 1.0
"""Before a change is asked for over a stream that was silent for so long, the server is asked whether it is there."""


class LinkLost(Exception):
    """The stream broke, or could not be made."""


class LinkSilent(Exception):
    """Nothing came in the time."""


class Link(Protocol):
    """A stream of bytes in both directions."""

    def send(self, data: bytes) -> None:
        """All of it. ``LinkLost``."""
        ...

    def receive(self, timeout_s: float) -> bytes:
        """At least one byte. ``LinkLost``, ``LinkSilent``."""
        ...

    def close(self) -> None: ...


Dial = Callable[[float], Link]
"""timeout_s -> a new stream. ``LinkLost``."""


class TcpLink:
    """Over TCP. ``reserved``: from a port below 1024, which some exports ask for and only root can have."""

    def __init__(self, host: str, port: int, timeout_s: float, reserved: bool = False) -> None:
        self.socket = self._connect(host, port, timeout_s, reserved)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a machine that vanished breaks the stream instead of holding it
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
        self.send_timeout_s = timeout_s

    @staticmethod
    def _connect(host: str, port: int, timeout_s: float, reserved: bool) -> socket.socket:
        for source in range(1023, 600, -1) if reserved else (0,):
            try:
                return socket.create_connection((host, port), timeout_s, ("", source) if source else None)
            except PermissionError as error:
                raise LinkLost(f"a port below 1024 is not to be had: {error.strerror}") from None
            except OSError as error:
                if not (reserved and error.errno in (98, 99, 48, 10048)):  # in use
                    raise LinkLost(error.strerror or str(error)) from None
        raise LinkLost("every port below 1024 is in use")

    def send(self, data: bytes) -> None:
        try:
            self.socket.settimeout(self.send_timeout_s)
            self.socket.sendall(data)
        except OSError as error:  # half a message may be out: the stream is of no use any more
            raise LinkLost(error.strerror or str(error)) from None

    def receive(self, timeout_s: float) -> bytes:
        try:
            self.socket.settimeout(max(timeout_s, 0.001))
            data = self.socket.recv(1 << 18)
        except TimeoutError:
            raise LinkSilent from None
        except OSError as error:
            raise LinkLost(error.strerror or str(error)) from None
        if not data:
            raise LinkLost("the server has closed the connection")
        return data

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()


class Call(msgspec.Struct, frozen=True):
    procedure: int
    arguments: bytes
    program: int = NFS
    version: int = NFS_VERSION

    @property
    def repeatable(self) -> bool:
        return self.program != NFS or self.procedure in REPEATABLE


class Connection:
    """Calls to one server, whatever becomes of the stream meanwhile."""

    def __init__(
        self, dial: Dial, credential: bytes, name: str = "the file server", timeout_s: float = 5.0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.dial, self.name, self.timeout_s, self.now_s = dial, name, timeout_s, now_s
        # Numbers of an earlier run must not be taken for these by a server that remembers its last replies.
        self.rpc = RpcClient(credential, first_xid=time.time_ns() >> 10)
        self.link: Link | None = None
        self.heard_s = 0.0

    def call(self, procedure: int, arguments: bytes, timeout_s: float | None = None) -> XdrReader:
        return self.exchange([Call(procedure, arguments)], timeout_s)[0]

    def exchange(self, calls: Sequence[Call], timeout_s: float | None = None) -> list[XdrReader]:
        """All results, in the order of the calls.

        Raises
        ------
        NfsError : ``away``, ``uncertain``, or what the RPC layer of the server has to say.
        """
        deadline_s = self.now_s() + (self.timeout_s if timeout_s is None else timeout_s)
        repeatable = all(call.repeatable for call in calls)
        if not repeatable and self.link is not None and self.now_s() - self.heard_s > IDLE_S:
            self._try(lambda: self._run([Call(NULL, b"")], deadline_s), True)
        return self._try(lambda: self._run(calls, deadline_s), repeatable)

    def _try(self, run: Callable[[], list[XdrReader]], repeatable: bool) -> list[XdrReader]:
        for last in (False, True):
            fresh = self.link is None
            try:
                return run()
            except LinkLost as error:
                dialled = self.link is not None
                self.hang_up()
                if dialled and not repeatable:
                    raise self._uncertain(str(error)) from None
                if last or fresh:
                    raise NfsError("away", f"{self.name} is not to be reached: {error}.") from None
            except LinkSilent:
                if not repeatable:
                    raise self._uncertain("no answer in time") from None
                raise NfsError("away", f"{self.name} does not answer.") from None
            except NfsError as error:
                if error.kind == "protocol":  # nobody knows where in the stream the next message begins
                    self.hang_up()
                raise
        raise AssertionError

    def _uncertain(self, why: str) -> NfsError:
        return NfsError("uncertain", f"{self.name} was asked for a change and may or may not have made it: {why}.")

    def _run(self, calls: Sequence[Call], deadline_s: float) -> list[XdrReader]:
        if self.link is None:
            self.link = self.dial(max(0.001, deadline_s - self.now_s()))
            self.rpc.begin_connection()
        xids: list[int] = []
        open_xids: set[int] = set()
        try:
            while len(xids) < len(calls) or open_xids:
                while len(xids) < len(calls) and len(open_xids) < WINDOW:
                    call = calls[len(xids)]
                    xid, data = self.rpc.call(call.program, call.version, call.procedure, call.arguments)
                    xids.append(xid)
                    open_xids.add(xid)
                    self.link.send(data)
                left_s = deadline_s - self.now_s()
                if left_s <= 0:
                    raise LinkSilent
                self.rpc.receive(self.link.receive(left_s))
                answered = {xid for xid in open_xids if self.rpc.answered(xid)}
                if answered:
                    open_xids -= answered
                    self.heard_s = self.now_s()
            return [self.rpc.result(xid) for xid in xids]
        finally:
            for xid in xids:
                self.rpc.forget(xid)

    def hang_up(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
