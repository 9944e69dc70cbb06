"""Where a machine is after the connection broke between ``CopyCommit`` and its answer: asked for, and done.

::

    at the source              at the destination         finish    answer       then, at the source
    web.vmx.leaving            web.vmx.moving, whole      yes       moved        its folder goes
    web.vmx.leaving            web.vmx.moving             no        withdrawn    web.vmx.leaving goes: it is here
    web.vmx.leaving            web.vmx                    -         moved        its folder goes
    web.vmx.leaving            web.vmx.withdrawn          -         withdrawn    it is here
    web.vmx.leaving            nothing of that number     -         unknown      as before: a person decides
    web.vmx.kept (a person)    web.vmx, off               -         withdrawn    web.vmx.kept goes
    web.vmx.kept (a person)    web.vmx, claimed           -         claimed      as before: one of both has to go
    web.vmx.kept (a person)    web.vmx, on                -         unknown      as before

What was decided at the destination stays decided: each answer is one renaming there, done before it is sent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Literal

import msgspec

from vilab.errors import AdminError
from vilab.host.off_folder import FolderLock
from vilab.host.storage import HostStorage
from vilab.host.vm_departure import (
    Departure,
    Mark,
    clear_departed,
    departure_path,
    read_departure,
    read_mark,
    undecided,
    unmark,
)
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import ArrivingHome
from vilab.migration import file_copy_messages as say
from vilab.migration.options import PATIENCE_NS
from vilab.migration.round_sender import Send

Phase = Literal["asked", "moved", "here", "undecided"]

# --- the destination answers ------------------------------------------------------------------------------------------


def decide(storage: HostStorage, source: str, asked: say.CopyDecide) -> say.CopyDecided:
    """``source``: the host that asks, as it has proved it."""
    try:
        return _decide(storage, source, asked)
    except (AdminError, OSError) as error:
        return _answer(asked, "unknown", f"{storage.host} cannot say now whether {asked.where} has arrived: {error}")


def _answer(asked: say.CopyDecide, decision: say.Decision, why: str = "") -> say.CopyDecided:
    return say.CopyDecided(asked.number, decision, why)


def _decide(storage: HostStorage, source: str, asked: say.CopyDecide) -> say.CopyDecided:
    arriving = ArrivingHome(storage, asked.where)
    mark = _mark_of(arriving, source, asked.number, asked.home)
    if mark is None:
        return _answer(
            asked, "unknown",
            f"{storage.host} has nothing at {asked.where} that says how move {asked.number} from {source} has ended.",
        )  # fmt: skip
    if mark.state == "withdrawn":
        return _answer(asked, "withdrawn")
    if mark.state == "arrived":
        return _withdraw_arrived(arriving, mark, asked) if asked.withdraw else _answer(asked, "moved")
    if asked.finish and mark.whole and not asked.withdraw and not arriving.files.exists(arriving.config):
        arriving.arrive()
        return _answer(asked, "moved")
    arriving.withdraw()
    return _answer(asked, "withdrawn")


def _mark_of(arriving: ArrivingHome, source: str, number: str, home: str) -> Mark | None:
    mark = read_mark(arriving)
    return mark if mark is not None and (mark.number, mark.host, mark.home) == (number, source, home) else None


def _withdraw_arrived(arriving: ArrivingHome, mark: Mark, asked: say.CopyDecide) -> say.CopyDecided:
    host = arriving.storage.host
    if mark.claimed:
        return _answer(
            asked, "claimed",
            f"A person has said on {host}, too, that {asked.where} is there: power one of the two off and delete it.",
        )  # fmt: skip
    lock = FolderLock(arriving, arriving.name)
    try:
        arriving.files.rename(arriving.config, arriving.withdrawn)
    finally:
        lock.close()
    return _answer(asked, "withdrawn")


def settle_here(storage: HostStorage, source: str, settled: say.CopySettled) -> None:
    """The source has done what was decided: what reminds of the move goes, as far as it can."""
    with contextlib.suppress(AdminError, OSError):
        arriving = ArrivingHome(storage, settled.where)
        mark = read_mark(arriving)
        if mark is None or (mark.number, mark.host) != (settled.number, source):
            return
        lock = FolderLock(arriving, arriving.name)
        try:
            if mark.state == "arrived":
                arriving.arrived = True
                config = arriving.read()
                unmark(config)
                arriving.write(config)
        finally:
            lock.close()
        if mark.state == "withdrawn":
            arriving.clear()


# --- the source asks --------------------------------------------------------------------------------------------------


class FileCopyInquiry:
    """Asks the other host, and does what it says. Driven as ``FileCopySource`` is.

    Parameters
    ----------
    home : of a machine that was on its way, with a note that says so.
    finish : what is wanted where nothing was decided: the machine is there, or here.

    Raises
    ------
    AdminError : there is no such note, or somebody has the folder.
    """

    def __init__(
        self, home: VmHome, send: Send, finish: bool = True, *, now: Callable[[], int], patience_ns: int = PATIENCE_NS
    ) -> None:
        departure = read_departure(home)
        if departure is None:
            raise AdminError(f"{home.where} is not on its way to another host: there is nothing to ask.")
        self.home, self.departure, self._send = home, departure, send
        self._now, self._asked_ns, self._patience_ns = now, now(), patience_ns
        self._finish = finish
        self.phase: Phase = "asked"
        self.why = ""
        """What it has come to, in a sentence."""
        self._lock: FolderLock | None = None
        if departure.state == "leaving":  # otherwise the machine may be on
            self._lock = FolderLock(home, home.name)

    @property
    def over(self) -> bool:
        return self.phase != "asked"

    def start(self, host: str) -> None:
        """``host``: who has been reached, as it has proved it. ``AdminError``: another one."""
        asked = self.departure
        if host != asked.host:
            self._end("undecided", f"{host} was asked, and {self.home.where} was on its way to {asked.host}.")
            raise AdminError(self.why)
        kept = asked.state == "kept"
        self._send(say.CopyDecide(asked.number, self.home.where, asked.to, self._finish and not kept, kept), ())

    def received(self, message: msgspec.Struct, _body: memoryview | None = None) -> None:
        if self.over:
            return
        if not isinstance(message, say.CopyDecided) or message.number != self.departure.number:
            self._undecided(f"{self.departure.host} has answered something else: look at the agents' versions.")
            return
        try:
            self._do(message)
        except (AdminError, OSError) as error:
            self._undecided(str(error))

    def pump(self, _room_bytes: int = 0) -> None:
        if not self.over and self._now() - self._asked_ns > self._patience_ns:
            self._undecided(f"{self.departure.host} has said nothing for {self._patience_ns / 1e9:g} s.")

    def lost(self, why: str) -> None:
        if not self.over:
            self._undecided(why)

    def _do(self, message: say.CopyDecided) -> None:
        asked, home = self.departure, self.home
        there = f"{asked.to} on {asked.host}"
        if message.decision == "moved" and asked.state == "leaving":
            if self._lock is not None and self._lock.lost:
                raise AdminError(self._lock.lost)
            home.files.remove(home.config)
            self._close()
            clear_departed(home)
            self._settle()
            self._end("moved", f"{home.where} has moved to {there}.")
        elif message.decision == "withdrawn":
            home.files.remove(departure_path(home, asked.state))
            if asked.state == "leaving":  # what a person has withdrawn stays there to be looked at
                self._settle()
            self._end("here", f"{home.where} is here, on {home.storage.host}: it has not moved to {there}.")
        else:
            self._undecided(message.why)

    def _settle(self) -> None:
        self._send(say.CopySettled(self.departure.number, self.departure.to), ())

    def _undecided(self, why: str) -> None:
        if self.departure.state == "kept":
            self._end("undecided", f"{self.departure.to} on {self.departure.host} could not be withdrawn. {why}")
        else:
            self._end("undecided", f"{undecided(self.home, self.departure)} {why}")

    def _end(self, phase: Phase, why: str) -> None:
        self.phase, self.why = phase, why
        self._close()

    def _close(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(AdminError, OSError):
                lock.close()


def unfinished(storage: HostStorage) -> list[tuple[str, Departure]]:
    """The configuration files on this host's datastores, active ones, that have a note of a move to another host."""
    found = []
    for info in storage.datastores():
        datastore = storage.mounted(info.name).datastore
        if info.state != "active":
            continue
        for folder in datastore.names():
            if not datastore.is_folder(folder):
                continue
            for name in datastore.names(folder):
                stem, _, state = name.rpartition(".")
                if state in ("leaving", "kept") and stem.endswith(".vmx"):
                    where = f"[{info.name}] {folder}/{stem}"
                    departure = read_departure(VmHome(storage, where))
                    if departure is not None:
                        found.append((where, departure))
    return found
