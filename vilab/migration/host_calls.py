"""Connections of a host's agent: who has called, and where a machine of this host goes.

::

    Call        somebody ──>  asks (agent_requests), or brings a machine (messages, destination), or its folder
                              (file_copy_messages, file_copy_destination)
    Departure   this host ──> another one's agent: a machine that was asked to move (source)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError
from vilab.host.hosted_vm import HostedVm
from vilab.migration import agent_requests as ask
from vilab.migration import agent_tcp
from vilab.migration import messages as say
from vilab.migration.agent_port import AgentPort
from vilab.migration.agent_session import Received
from vilab.migration.destination import MigrationDestination
from vilab.migration.file_copy_destination import FileCopyDestination
from vilab.migration.file_copy_messages import CopyMessage
from vilab.migration.line import Line
from vilab.migration.options import MigrationOptions
from vilab.migration.source import MigrationSource
from vilab.migration.termination import policy_named
from vilab.protocols import ReadableBytes

if TYPE_CHECKING:
    from vilab.migration.host_agent import HostAgent

BATCH_PAGES = 1024
"""In one message, and neighbours in memory if they can be. Another one is begun when nothing waits for the socket: what
it does not take at once has to be copied."""
PROGRESS_NS = 200_000_000
ANNOUNCE_NS = 100_000
"""What a frame needs from a virtual switch to the other end of a physical card's cable, and more."""
SILENCE_NS = 10_000_000_000
"""So long somebody who calls, or is called, may take to say who it is."""


class Call:
    """Somebody who has called: a host that brings a machine, or a person who asks."""

    def __init__(self, agent: HostAgent, link: agent_tcp.TcpLink) -> None:
        self.agent, self.link = agent, link
        self.destination: MigrationDestination | None = None
        self.copy: FileCopyDestination | None = None
        self._since_ns = time.monotonic_ns()
        self.port = AgentPort(agent.session(initiator=False), link, self._take, self._lost)

    def pump(self) -> bool:
        """Time has passed. True: there is more to do at once."""
        if self.copy is not None:
            return self.copy.pump()
        if self.destination is not None:
            self._with_announcement(self.destination, self.destination.pump)
        elif not self.port.session.established and time.monotonic_ns() - self._since_ns > SILENCE_NS:
            self.port.refuse(f"{self.agent.host.name} was called, and was not told by whom for {SILENCE_NS / 1e9:g} s.")
        return False

    def _take(self, got: Received) -> None:
        message = got.message
        if isinstance(message, say.Message):
            if self.destination is None:
                self.agent.mount_again()
                self.destination = MigrationDestination(
                    self.agent.host, self.port.session.peer, self.port.send, console=lambda _name: Line(),
                    now=time.monotonic_ns, steps=True,
                )  # fmt: skip
            destination = self.destination
            self._with_announcement(destination, lambda: destination.received(message, got.body, got.hashes))
        elif isinstance(message, CopyMessage):
            if self.copy is None:
                self.agent.mount_again()
                self.copy = FileCopyDestination(
                    self.agent.host, self.port.session.peer, self.port.send, now=time.monotonic_ns
                )
            self.copy.received(message, got.body)
        elif isinstance(message, ask.Request):
            self.agent.requests.answer(self, message)

    def _with_announcement(self, destination: MigrationDestination, action: Callable[[], None]) -> None:
        """If the machine runs here by that, before its first quantum, which is slow because nothing is translated yet:
        until physical switches have heard of its new place, what is sent to it is lost."""
        before = destination.phase
        action()
        if destination.phase == "running" != before:
            host = self.agent.host
            host.pass_to(host.now_ns + ANNOUNCE_NS)

    def _lost(self, why: str) -> None:
        if self.destination is not None:
            self.destination.lost(why)
        if self.copy is not None:
            self.copy.lost(why)

    def give_up(self, why: str, tell: bool = False) -> None:
        """The call ends, with what it has brought. ``tell``: say so to who has called, whatever he is at."""
        try:
            if self.destination is not None:
                self.destination.give_up(why)
            if self.copy is not None:
                self.copy.give_up(why)
        finally:
            if tell:
                self.port.refuse(why)
            self.port.close()

    def answer(self, message: ask.Request, body: Sequence[ReadableBytes] = ()) -> None:
        self.port.send(ask.readable(message), body)


class Departure:
    """A machine that this host sends to another one, and who has asked for it."""

    def __init__(self, agent: HostAgent, hosted: HostedVm, request: ask.Move, asked_by: Call) -> None:
        host, port = parse_address(request.address)
        options = MigrationOptions(
            policy=policy_named(request.rule), kind=request.kind, batch_pages=BATCH_PAGES, order_run_pages=BATCH_PAGES,
            copies=False, verify=request.verify,
        )  # fmt: skip
        self.request, self.asked_by, self._agent = request, asked_by, agent
        self.link = agent_tcp.connect(agent.host.name, host, port, agent.tls_calling)
        self.source: MigrationSource | None = None
        self.hosted, self._options = hosted, options
        self._since_ns, self._told_ns = time.monotonic_ns(), 0
        self.failed = ""
        self.port = AgentPort(agent.session(initiator=True), self.link, self._take, self._lost)

    @property
    def over(self) -> bool:
        return bool(self.failed) or (self.source is not None and self.source.over)

    def pump(self) -> None:
        if self.source is None:
            self._begin()
        else:
            self.source.pump(0 if self.link.waiting_bytes else BATCH_PAGES * PAGE_BYTES)
            self.link.settle()  # what has not left yet is machine memory, and others have their turn now
        now_ns = time.monotonic_ns()
        if self.source is not None and not self.over and now_ns - self._told_ns > PROGRESS_NS:
            self._told_ns = now_ns
            p = self.source.progress
            self.asked_by.answer(
                ask.Moving(self.request.number, p.phase, p.round, p.percent, p.sent_bytes, p.bytes_per_s, p.left_ns)
            )

    def give_up(self, why: str) -> None:
        """It stays; what both hosts have written down decides already if it was being handed over."""
        if self.source is None or self.source.phase != "deciding":
            self.failed = self.failed or why
        if self.source is not None:
            self.source.give_up(why)

    def _begin(self) -> None:
        """The other host has to be known first: it is named in every sentence."""
        if self.failed:
            return
        if not self.port.session.established:
            if time.monotonic_ns() - self._since_ns > SILENCE_NS:
                self.failed = (
                    f"{self.request.address} has not said for {SILENCE_NS / 1e9:g} s who it is: look whether an agent "
                    f"listens there. {self.hosted.name} runs on here."
                )
            return
        self.source = MigrationSource(
            self._agent.host, self.hosted, self.port.session.peer,
            lambda message, body: self.port.send(message, body, unchanging=True), secrets.token_hex(8), self._options,
            time.monotonic_ns, steps=True,
        )  # fmt: skip
        try:
            self.source.start()
        except AdminError as error:
            self.source, self.failed = None, str(error)

    def _take(self, got: Received) -> None:
        if self.source is None:
            self.failed = f"{self.request.address} spoke before it was asked: it is no agent of this version."
        else:
            self.source.received(got.message)

    def _lost(self, why: str) -> None:
        if self.source is None:
            self.failed = why
        else:
            self.source.lost(why)

    def end(self) -> None:
        """Tell who has asked."""
        self.port.close()
        source, number = self.source, self.request.number
        if source is not None and source.phase == "moved":
            self.asked_by.answer(
                ask.Done(
                    number,
                    f"{self.hosted.name} runs on {source.destination}: {len(source.rounds)} rounds, "
                    f"{source.sent_bytes / 1e6:.1f} MB, stopped for {source.downtime_ns / 1e6:.1f} ms.",
                )
            )
        else:
            self.asked_by.answer(ask.Refused(number, ("" if source is None else source.why) or self.failed))


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[HOST]:PORT``."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise AdminError(f"{text!r} is no address of an agent; one looks like 127.0.0.1:902.")
    return host, int(port)
