"""Copies of folders between hosts, as tasks of an agent: each with a connection of its own to the other one's agent.

::

    MoveFolder   ──> FileCopyTask   folder ──────────> the other host (``file_copy_source``)
    AskFolder    ──> InquiryTask    where is it? ────> the other host (``file_copy_decision``)
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from vilab.errors import AdminError
from vilab.host.off_folder import FolderLock
from vilab.host.vm_departure import claim_here, keep_here, read_departure
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import ArrivingHome
from vilab.migration import agent_requests as ask
from vilab.migration import agent_tcp
from vilab.migration.agent_port import AgentPort
from vilab.migration.agent_session import Received
from vilab.migration.clone_config import file_name_of
from vilab.migration.file_copy_decision import FileCopyInquiry
from vilab.migration.file_copy_source import FileCopySource
from vilab.migration.host_calls import SILENCE_NS, parse_address
from vilab.migration.host_tasks import Answer, Progress, Teller

if TYPE_CHECKING:
    from vilab.migration.host_agent import HostAgent

WINDOW_BYTES = 4 << 20
"""At most so much waits in a socket's queue."""


class CallingTask:
    """What needs another host's agent: called, and known by its name, before anything begins.

    Raises
    ------
    AdminError : the address is none.
    """

    doing = ""

    def __init__(self, agent: HostAgent, about: str, address: str, number: int, answer: Answer) -> None:
        self.agent, self.about, self.address = agent, about, address
        self.teller = Teller(number, answer)
        self.failed = ""
        self._since_ns = time.monotonic_ns()
        self.link = agent_tcp.connect(agent.host.name, *parse_address(address), agent.tls_calling)
        self.port = AgentPort(agent.session(initiator=True), self.link, self.heard, self.lost)

    def known(self) -> bool:
        """Has it said who it is? If it takes too long over that, it has ``failed``."""
        if not self.port.session.established and time.monotonic_ns() - self._since_ns > SILENCE_NS:
            self.failed = self.failed or (
                f"{self.address} has not said for {SILENCE_NS / 1e9:g} s who it is: look whether an agent listens "
                "there."
            )
        return self.port.session.established

    def heard(self, got: Received) -> None:
        raise NotImplementedError

    def lost(self, why: str) -> None:
        raise NotImplementedError


class FileCopyTask(CallingTask):
    def __init__(self, agent: HostAgent, request: ask.MoveFolder, answer: Answer) -> None:
        self.source: FileCopySource | None = None
        self.request, self.home = request, VmHome(agent.host.storage, request.home)
        self.doing = f"is being sent to {request.address}"
        clone = request.clone_name
        self._to = f"{file_name_of(clone)}/{file_name_of(clone)}.vmx" if clone else ""
        super().__init__(agent, request.home, request.address, request.number, answer)

    @property
    def over(self) -> bool:
        return bool(self.failed) or (self.source is not None and self.source.over)

    def pump(self) -> bool:
        moved = self.link.poll() > 0
        if self.source is None:
            if not self.failed and self.known():
                self._begin()
            return moved
        moved |= self.source.pump(WINDOW_BYTES - self.link.waiting_bytes)
        if not self.source.over:
            now = self.source.progress
            self.teller.tell(Progress(now.percent, now.sent_bytes, f"{now.phase} {now.file}".strip()))
        return moved

    def _begin(self) -> None:
        home, clone = self.home, self.request.clone_name
        folder = "" if home.mounted is None else home.mounted.path_of(home.folder)
        where = f"[{self.request.datastore}] {self._to or f'{folder}/{home.config.name}'}"
        self.source = FileCopySource(
            self.agent.host, home, self.port.session.peer, where,
            lambda message, body: self.port.send(message, body, unchanging=True), secrets.token_hex(8),
            clone_name=clone, address=self.address, now=time.monotonic_ns,
        )  # fmt: skip
        try:
            self.source.start()
        except AdminError as error:
            self.source, self.failed = None, str(error)

    def heard(self, got: Received) -> None:
        if self.source is not None:
            self.source.received(got.message)
        else:
            self.failed = f"{self.address} spoke before it was asked: it is no agent of this version."

    def lost(self, why: str) -> None:
        if self.source is not None:
            self.source.lost(why)
        else:
            self.failed = why

    def give_up(self, why: str) -> None:
        self.failed = self.failed or why
        if self.source is not None:
            self.source.give_up(why)

    def end(self) -> None:
        self.port.close()
        source = self.source
        if source is None or source.phase not in ("moved", "copied"):
            self.teller.refused((source.why if source is not None else "") or self.failed)
            return
        what = f"was cloned as {source.clone_name}" if source.clone_name else "has moved"
        self.teller.done(
            f"{source.name} {what} to {source.where} on {source.destination}: {source.sent_bytes / 1e6:.1f} MB. "
            f"{source.left}".strip()
        )


class InquiryTask(CallingTask):
    """Raises ``AdminError``: it is not on its way to another host."""

    def __init__(self, agent: HostAgent, request: ask.AskFolder, answer: Answer) -> None:
        self.inquiry: FileCopyInquiry | None = None
        self.request, self.home = request, VmHome(agent.host.storage, request.home)
        departure = read_departure(self.home)
        if departure is None:
            raise AdminError(f"{self.home.where} is not on its way to another host: there is nothing to ask.")
        self.kept = departure.state == "kept"
        super().__init__(agent, request.home, request.address or departure.address, request.number, answer)

    @property
    def over(self) -> bool:
        return bool(self.failed) or (self.inquiry is not None and self.inquiry.over)

    def pump(self) -> bool:
        moved = self.link.poll() > 0
        try:
            if self.inquiry is not None:
                self.inquiry.pump()
            elif not self.failed and self.known():
                self.inquiry = FileCopyInquiry(self.home, self.port.send, self.request.finish, now=time.monotonic_ns)
                self.inquiry.start(self.port.session.peer)
        except AdminError as error:
            self.failed = str(error)
        return moved

    def heard(self, got: Received) -> None:
        if self.inquiry is not None:
            self.inquiry.received(got.message)

    def lost(self, why: str) -> None:
        if self.inquiry is not None:
            self.inquiry.lost(why)
        self.failed = self.failed or why

    def give_up(self, why: str) -> None:
        self.lost(why)

    def end(self) -> None:
        self.port.close()
        if self.inquiry is not None and self.inquiry.phase in ("moved", "here"):
            self.teller.done(self.inquiry.why)
        elif self.kept:
            why = self.failed if self.inquiry is None else self.inquiry.why
            self.teller.done(f"{self.home.where} is here. What is at the other host is to be withdrawn yet: {why}")
        else:
            self.teller.refused(self.failed if self.inquiry is None else self.inquiry.why)


def say_here(agent: HostAgent, where: str) -> str:
    """A person says that the machine is at this host. Returns what is to be done yet; empty: ask the other host.
    ``AdminError``: there is nothing to decide, or somebody has it."""
    home = VmHome(agent.host.storage, where)
    if read_departure(home) is not None:
        lock = FolderLock(home, home.name)
        try:
            keep_here(home)
        finally:
            lock.close()
        return ""
    mark = claim_here(ArrivingHome(agent.host.storage, where))
    return (
        f"{where} is here, on {agent.host.name}. See to it that {mark.home} is not powered on on {mark.host} before "
        f"that has asked {agent.host.name}."
    )
