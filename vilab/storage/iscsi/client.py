"""A session with an iSCSI target for callers that wait: ``Initiator`` over a link, logged in again when it breaks.

::

    IscsiSession ── Initiator ── Link ══ SocketLink ══ TCP ══ any target
                                    ╚══ MemoryLink ══ TargetConnection of an ``IscsiTarget`` in this process

A broken link shows as ``SessionLostError`` to whoever waited; the next call logs in again, a few times if need be.
What hung on the old session (a reservation, unit attentions) is gone then.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Protocol

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.protocols import ReadableBytes
from vilab.storage.iscsi.errors import IscsiError, LoginRefusedError, SessionLostError
from vilab.storage.iscsi.initiator import Initiator
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.layout import ISCSI_PORT, TaskCode
from vilab.storage.iscsi.pending import Command, Management, Question
from vilab.storage.iscsi.session import Portal
from vilab.storage.iscsi.target import IscsiTarget
from vilab.storage.scsi.request import Response

ATTEMPTS = 6
FIRST_PAUSE_S = 0.05
"""Before the second attempt to log in; twice as long before each further one."""


class Link(Protocol):
    """Bytes there and back. Either raises ``OSError`` when the link is broken."""

    def send(self, data: bytes) -> None: ...

    def receive(self) -> bytes:
        """What has come, waiting for it; empty when the other side has hung up."""
        ...

    def close(self) -> None: ...


class SocketLink:
    """TCP. ``timeout_s``: so long may the other side be silent while something is awaited."""

    def __init__(self, host: str, port: int = ISCSI_PORT, timeout_s: float = 30.0) -> None:
        self._socket = socket.create_connection((host, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        return self._socket.recv(1 << 18)

    def close(self) -> None:
        self._socket.close()


class MemoryLink:
    """A connection to a target in this process. The bytes are those that would go over TCP, and are counted."""

    def __init__(self, node: IscsiTarget, portal: Portal) -> None:
        self.sent_bytes = self.received_bytes = self.turns = 0
        connection = node.connect(portal)
        if connection is None:
            raise OSError(f"{node.name} takes no more connections")
        self._connection = connection

    def send(self, data: bytes) -> None:
        if self._connection.closing:
            raise OSError("the target has closed the connection")
        self.sent_bytes += len(data)
        self.turns += 1
        self._connection.receive(data)

    def receive(self) -> bytes:
        connection = self._connection
        data = connection.take_output()
        if connection.stalled:
            connection.run()
        if not data and not connection.closing:
            raise OSError("the target does not answer")
        self.received_bytes += len(data)
        return data

    def close(self) -> None:
        self._connection.lost()


class IscsiSession:
    """Parameters
    ----------
    connect : makes a link: ``lambda: SocketLink("10.0.0.1")``.
    config : who logs in, and where.
    attempts : to log in, until it is given up. sleep : pauses in between, by so many seconds.
    """

    def __init__(
        self,
        connect: Callable[[], Link],
        config: InitiatorConfig,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], None] = time.sleep,
        clock: VirtualClock | None = None,
        log: EventLog | None = None,
    ) -> None:
        self.config = config
        self.logins = 0
        """How often this session has been logged in: more than once means that it was lost in between."""
        self._connect = connect
        self._attempts = attempts
        self._sleep = sleep
        self._clock = clock
        self._log = log
        self._link: Link | None = None
        self._initiator: Initiator | None = None

    @property
    def name(self) -> str:
        return self.config.target or "the portal"

    @property
    def alive(self) -> bool:
        """Logged in, as far as is known: a link that has broken shows with the next use."""
        initiator = self._initiator
        return initiator is not None and not initiator.closed and not initiator.logout_requested

    def open(self) -> Initiator:
        """Log in, if that is not done. Raises ``IscsiError`` when it cannot be."""
        if self.alive and self._initiator is not None:
            return self._initiator
        self._hang_up()
        pause_s, last = FIRST_PAUSE_S, ""
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(pause_s)
                pause_s *= 2
            try:
                return self._log_in()
            except LoginRefusedError as error:
                if error.lasting:
                    raise
                last = str(error)
            except IscsiError as error:
                last = str(error)
            except OSError as error:
                last = f"{error.strerror or error}."
        raise IscsiError(f"{self.name} cannot be reached, tried {self._attempts} times: {last}")

    def _log_in(self) -> Initiator:
        self._link = self._connect()
        self._initiator = initiator = Initiator(self.config, self._clock, self._log)
        initiator.start()
        try:
            self._pump(lambda: initiator.logged_in)
        except BaseException:
            self._hang_up()
            raise
        self.logins += 1
        return initiator

    def _hang_up(self) -> None:
        link, self._link, self._initiator = self._link, None, None
        if link is not None:
            link.close()

    def _pump(self, finished: Callable[[], bool]) -> None:
        """Carry bytes until something has come to pass. The link is closed if it never will."""
        link, initiator = self._link, self._initiator
        assert link is not None
        assert initiator is not None
        while not finished():
            if initiator.closed:
                error = initiator.error or SessionLostError(f"{self.name} has ended the session.")
                self._hang_up()
                raise error
            try:
                output = initiator.take_output()
                if output:
                    link.send(output)
                data = link.receive()
            except OSError as error:
                self._hang_up()
                raise SessionLostError(f"The connection to {self.name} broke: {error.strerror or error}.") from None
            if data:
                initiator.receive(data)
            else:
                initiator.fail(f"{self.name} has closed the connection.")

    def _wait_for(self, one: Command | Management | Question) -> None:
        self._pump(lambda: one.done)

    # what can be asked ------------------------------------------------------------------------------------------------

    def execute(self, lun: int, cdb: bytes, data_out: ReadableBytes = b"", data_in_bytes: int = 0) -> Response:
        """One SCSI command to its end. ``SessionLostError``: whether it was carried out is not known."""
        command = self.open().submit(lun, cdb, data_out, data_in_bytes)
        self._wait_for(command)
        if command.response is None:
            raise SessionLostError(f"A command to {self.name} was aborted.")
        return command.response

    def manage(self, code: TaskCode, lun: int = 0) -> int:
        """A task management function; its result (``TaskResult``)."""
        management = self.open().manage(code, lun)
        self._wait_for(management)
        assert management.result is not None
        return management.result

    def ping(self) -> None:
        """NOP: raises ``SessionLostError`` if the target is not there any more."""
        self._wait_for(self.open().ping())

    def targets(self) -> list[tuple[str, list[str]]]:
        """SendTargets: names, each with its addresses ``host:port,group``."""
        question = self.open().ask([("SendTargets", "All" if self.config.target is None else "")])
        self._wait_for(question)
        found: list[tuple[str, list[str]]] = []
        for key, value in question.answer or []:
            if key == "TargetName":
                found.append((value, []))
            elif key == "TargetAddress" and found:
                found[-1][1].append(value)
        return found

    def break_off(self) -> None:
        """Hang up without a word, as a host that has crashed would."""
        self._hang_up()

    def close(self) -> None:
        """Log out, if there is somebody to tell."""
        initiator = self._initiator
        if initiator is not None and initiator.logged_in and not initiator.closed:
            with contextlib.suppress(AdminError):
                self._wait_for(initiator.log_out())
        self._hang_up()

    def __enter__(self) -> IscsiSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def discover(connect: Callable[[], Link], config: InitiatorConfig) -> list[tuple[str, list[str]]]:
    """The targets behind a portal. ``config`` names no target."""
    with IscsiSession(connect, config, attempts=1) as session:
        return session.targets()
