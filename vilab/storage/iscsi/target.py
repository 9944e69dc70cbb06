"""An iSCSI target: a name, portals at which it is reached, and the sessions that initiators have with it.

::

    initiator port ══ session (TSIH) ══ connection ══ portal (group 1) ══╗
    iqn...,i,0xISID     nexus: commands, RESERVE(6), unit attentions     ╠══ IscsiTarget iqn... ══ scsi_target.Target
    another         ══ session       ══ connection ══ portal (group 2) ══╝                          LUN 0, LUN 1, ...

A session is one connection here (MaxConnections=1, ErrorRecoveryLevel=0): when that is lost the session is over, and
what hung on its nexus with it. A login from an initiator port that has a session already ends the old one (RFC 7143,
6.3.5), once it has shown that it may.

What a peer can make this side hold is bounded by ``Limits.session_bytes`` for each session, whatever it sends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.iscsi.connection import TargetConnection
from vilab.storage.iscsi.events import IscsiLoggedIn, IscsiSessionEnded
from vilab.storage.iscsi.keys import Agreement
from vilab.storage.iscsi.layout import LoginStatus
from vilab.storage.iscsi.session import Limits, LoginRequest, Portal, Session
from vilab.storage.scsi.state import Nexus
from vilab.storage.scsi.target import Target, TaskFunction

MAX_TSIH = 0xFFFF
MAX_NAME_CHARACTERS = 223


def check_iscsi_name(name: str) -> None:
    """``AdminError`` unless it is an iSCSI name: ``iqn.YYYY-MM.domain``, ``eui.``, ``naa.`` (RFC 7143, 4.2)."""
    kind, dot, rest = name.partition(".")
    fits = kind in ("iqn", "eui", "naa") and dot and rest and len(name) <= MAX_NAME_CHARACTERS
    if not fits or not all(c.isalnum() or c in "-.:" for c in name) or not name.isprintable():
        raise AdminError(f"{name!r} is no iSCSI name; one looks like iqn.2006-06.org.example:storage.")


class IscsiTarget:
    """Everything behind the portals.

    Parameters
    ----------
    name : of the target, ``iqn...``. scsi : the logical units.
    portals : where discovery says that the target is to be found.
    credentials : what an initiator has to prove; ``None``: nothing. mutual : what this target proves when asked.
    random : so many random bytes, for challenges.
    """

    def __init__(
        self,
        name: str,
        scsi: Target,
        portals: Sequence[Portal] = (),
        credentials: Credentials | None = None,
        mutual: Credentials | None = None,
        limits: Limits | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        check_iscsi_name(name)
        for each in (credentials, mutual):
            if each is not None:
                each.refuse_short_secret()
        if mutual is not None and credentials is None:
            raise AdminError("A target that proves itself must ask for proof, too: give CHAP credentials of both.")
        if mutual is not None and credentials is not None and mutual.secret == credentials.secret:
            raise AdminError("The two CHAP secrets must differ, or either side could mirror the other's proof.")
        self.name = name
        self.scsi = scsi
        self.portals = list(portals)
        self.credentials = credentials
        self.mutual = mutual
        self.limits = limits or Limits()
        self.random = random
        self.sessions: dict[int, Session] = {}
        self.connections: list[TargetConnection] = []
        self._last_tsih = 0

    @property
    def log(self) -> EventLog:
        return self.scsi.log

    def connect(self, portal: Portal) -> TargetConnection | None:
        """Somebody has connected to a portal; ``None``: there are too many already, hang up."""
        if len(self.connections) >= self.limits.connections:
            return None
        connection = TargetConnection(self, portal)
        self.connections.append(connection)
        return connection

    def admit(self, request: LoginRequest, connection: TargetConnection) -> Session | LoginStatus:
        """A login has succeeded; its session, or why there is none."""
        nexus = Nexus(f"{request.initiator},i,0x{request.isid.hex()}", request.group)
        old = next(
            (s for s in self.sessions.values() if s.nexus == nexus and not (request.discovery or s.discovery)), None
        )
        if request.tsih:
            return self._rejoin(old, request, connection)
        if old is not None:
            self.end(old, "its initiator port has logged in anew")
        elif len(self.sessions) >= self.limits.sessions:
            return LoginStatus.OUT_OF_RESOURCES
        session = Session(self._new_tsih(), nexus, request.initiator, request.discovery, connection)
        self.sessions[session.tsih] = session
        if not request.discovery:
            self.scsi.connect(nexus)
        if self.log.active:
            now = self.scsi.clock.now_ns
            self.log.emit(
                IscsiLoggedIn(now, request.initiator, self.name, session.tsih, request.discovery, old is not None)
            )
        return session

    def _rejoin(
        self, old: Session | None, request: LoginRequest, connection: TargetConnection
    ) -> Session | LoginStatus:
        """A login into a session that there is: the same connection again takes it over, another one is too many."""
        if old is None or old.tsih != request.tsih:
            return LoginStatus.NO_SUCH_SESSION
        if old.cid != request.cid:
            return LoginStatus.TOO_MANY_CONNECTIONS
        for lun in self.scsi.units:
            self.scsi.manage(old.nexus, TaskFunction.ABORT_TASK_SET, lun)
        if old.connection is not None:
            old.connection.drop()
        old.connection = connection
        return old

    def _new_tsih(self) -> int:
        while True:
            self._last_tsih = self._last_tsih % MAX_TSIH + 1
            if self._last_tsih not in self.sessions:
                return self._last_tsih

    def end(self, session: Session, why: str) -> None:
        """The session is over: commands, RESERVE(6) and attentions of its nexus are gone, its connection is closed."""
        if self.sessions.pop(session.tsih, None) is None:
            return
        connection, session.connection = session.connection, None
        if not session.discovery:
            self.scsi.disconnect(session.nexus)
        if connection is not None:
            connection.drop()
        if self.log.active:
            now = self.scsi.clock.now_ns
            self.log.emit(IscsiSessionEnded(now, session.initiator, session.tsih, why))

    def lost(self, connection: TargetConnection, why: str) -> None:
        """A connection is closed; its session, if it still is its session's, with it."""
        if connection in self.connections:
            self.connections.remove(connection)
        session = connection.session
        if session is not None and session.connection is connection:
            session.connection = None
            self.end(session, why)

    def end_all(self, why: str) -> None:
        for session in list(self.sessions.values()):
            self.end(session, why)

    def ask_for_logout(self, within_s: int) -> None:
        """Tell every initiator that this target is about to go."""
        for session in list(self.sessions.values()):
            if session.connection is not None:
                session.connection.ask_for_logout(within_s)

    def drop_aborted(self) -> None:
        """Some command has ended others: forget what has come of their data."""
        for session in list(self.sessions.values()):
            if session.connection is not None:
                session.connection.drop_aborted()

    def offered(self) -> Agreement:
        """What this side would choose at login."""
        limits = self.limits
        return Agreement(
            header_digest=True,
            data_digest=True,
            initial_r2t=False,
            max_burst_bytes=limits.burst_bytes,
            first_burst_bytes=limits.first_burst_bytes,
            max_outstanding_r2t=limits.outstanding_r2t,
            retain_s=0,
        )

    def addresses(self) -> list[tuple[str, str]]:
        """The answer to SendTargets."""
        return [("TargetName", self.name), *(("TargetAddress", f"{p.address},{p.group}") for p in self.portals)]
