"""The software iSCSI initiator of a host: sessions over TCP or in memory, and the paths that a rescan finds.

::

    vmhba40 : 1 : 3      adapter, session (a target through one portal), LUN
                         two portals of one target are two sessions, and so two paths

    add_portal ── SendTargets ──> targets and their portals ── login, CHAP ──> REPORT LUNS ──> paths

A session that breaks is made again with the next command; what was under way is *away* for whoever has sent it, who
tries the next path (``vilab.storage.luns.paths``). A portal that says nothing costs time that the whole host spends
waiting: after that it is left alone for four times as long, so that the host's other datastores get theirs.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.iscsi.client import IscsiSession, Link, SocketLink, discover
from vilab.storage.iscsi.errors import IscsiError
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.layout import ISCSI_PORT, TaskCode
from vilab.storage.iscsi.session_lun import SessionLun
from vilab.storage.scsi.lun_identity import REPORT_LUNS, Answer, ask, luns_of
from vilab.storage.scsi.sense import Status

SILENCE_S = 5.0
"""So long a portal may say nothing before its path counts as dead."""
LONG_S, PAUSE_FACTOR = 0.5, 4

Dial = Callable[[str], Link]
"""``HOST:PORT`` -> a link. ``OSError``."""


def dial_tcp(portal: str) -> Link:
    host, _, port = portal.rpartition(":")
    return SocketLink(host.removeprefix("[").removesuffix("]"), int(port), SILENCE_S)


class Pause:
    """Leaves a portal alone that has made everybody wait."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.now_s = now_s
        self._until_s, self._why = 0.0, ""

    def check(self) -> None:
        if self.now_s() < self._until_s:
            raise BlockError("away", self._why)

    def failed(self, since_s: float, why: str) -> None:
        now_s = self.now_s()
        if now_s - since_s > LONG_S:
            self._until_s, self._why = now_s + PAUSE_FACTOR * (now_s - since_s), why


class IscsiPath:
    """One LUN through one session; the Protocol ``vilab.storage.luns.paths.Path``."""

    def __init__(self, name: str, session: IscsiSession, lun: int, pause: Pause | None = None) -> None:
        self.name, self.session, self.lun, self.pause = name, session, lun, pause or Pause()
        self._transport = SessionLun(session, lun)

    @property
    def connected(self) -> bool:
        return self.session.alive

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        """``BlockError`` (away) where there is no session, or it broke before the answer came."""
        self.pause.check()
        since_s = self.pause.now_s()
        try:
            return self._transport.submit(cdb, data_out)
        except IscsiError as error:
            self.pause.failed(since_s, str(error))
            raise BlockError("away", str(error)) from None

    def reset_unit(self) -> None:
        with contextlib.suppress(IscsiError):
            self.session.manage(TaskCode.LOGICAL_UNIT_RESET, self.lun)


class TargetPortal(msgspec.Struct, frozen=True):
    """A target as an administrator has added it, or discovery has found it. ``dial``: how it is reached."""

    target: str
    portal: str
    credentials: Credentials | None
    mutual: Credentials | None
    dial: Dial


class SoftwareInitiator:
    """``iqn``: the host's own name."""

    def __init__(self, name: str, iqn: str, clock: VirtualClock, log: EventLog) -> None:
        self.name, self.iqn, self.clock, self.log = name, iqn, clock, log
        self._sessions: dict[tuple[str, str], IscsiSession] = {}
        self._pauses: dict[int, Pause] = {}
        self._paths: dict[tuple[int, int], IscsiPath] = {}
        self.problems: list[str] = []

    def add_portal(
        self,
        portal: str,
        target: str | None = None,
        credentials: Credentials | None = None,
        mutual: Credentials | None = None,
        dial: Dial | None = None,
    ) -> list[str]:
        """Targets behind a portal, for the next rescan; their names. Without ``target`` the portal is asked.

        Raises
        ------
        AdminError : no portal, nobody there, or nothing offered.
        """
        host, colon, port = portal.rpartition(":")
        if not colon or not port.isdigit():
            host, port = portal, str(ISCSI_PORT)
        portal, dial = f"{host}:{port}", dial or dial_tcp
        chosen = dial
        if target is not None:
            found = [(target, [portal])]
        else:
            asked = InitiatorConfig(self.iqn, None, credentials, mutual)
            try:
                found = discover(lambda: chosen(portal), asked)
            except OSError as error:
                raise IscsiError(f"The portal {portal} cannot be reached: {error.strerror or error}.") from None
        if not found:
            raise AdminError(f"The portal {portal} offers no targets to {self.iqn}.")
        for name, addresses in found:
            for address in addresses or [portal]:
                at = address.partition(",")[0]
                # Who listens everywhere cannot say where: the portal that was asked will do.
                at = portal if at.startswith(("0.0.0.0:", "[::]:")) else at
                self._add(TargetPortal(name, at, credentials, mutual, dial))
        return [name for name, _ in found]

    def _add(self, wanted: TargetPortal) -> None:
        """Sessions through different portals have different ISIDs: one initiator port each (RFC 7143, 4.4.3)."""
        key = wanted.target, wanted.portal
        if key in self._sessions:
            return
        isid = b"\x80" + hashlib.sha256(" ".join((self.iqn, *key)).encode()).digest()[:5]
        config = InitiatorConfig(self.iqn, wanted.target, wanted.credentials, wanted.mutual, isid=isid)
        self._sessions[key] = IscsiSession(
            lambda: wanted.dial(wanted.portal), config, attempts=1, clock=self.clock, log=self.log
        )

    def rescan(self) -> list[IscsiPath]:
        """The paths that there are now, by session and LUN. ``problems``: sessions that could not be made."""
        self.problems = []
        found: list[IscsiPath] = []
        for number, session in enumerate(self._sessions.values()):
            pause = self._pauses.setdefault(number, Pause())
            try:
                status, data, _ = ask(IscsiPath("", session, 0, pause).submit, REPORT_LUNS)
            except BlockError as error:
                self.problems.append(str(error))
                continue
            for lun in luns_of(data) if status == Status.GOOD else ():
                path = IscsiPath(f"{self.name}:{number}:{lun}", session, lun, pause)
                found.append(self._paths.setdefault((number, lun), path))
        return found

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def cut_power(self) -> None:
        """As a host that has no power any more: nothing is said to anybody."""
        for session in self._sessions.values():
            session.break_off()
