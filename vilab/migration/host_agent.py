"""A host as a process: its machines run, its agent listens, and both take turns in one loop.

::

    ┌─> a quantum of every machine ──> links: what has come, what can go ──> migrations: more pages ──┐
    └────────────────── ahead of the wall's clock? wait until something comes, or it is time ─────────┘

Virtual time does not run ahead of the wall's, since others wait for answers; where the machines need longer than their
virtual time, it falls behind.

Who calls proves first that it knows the secret of the datacenter (``agent_session``). A host asks for a machine to be
taken (``destination``); a person, or VirtualCenter, asks for what is in ``agent_requests``.
"""

from __future__ import annotations

import secrets
import selectors
import ssl
import time
from collections.abc import Sequence
from typing import Protocol

from vilab.errors import AdminError, VilabError
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.migration import agent_requests as ask
from vilab.migration import agent_tcp
from vilab.migration import messages as say
from vilab.migration.agent_port import AgentPort
from vilab.migration.agent_session import AgentSession, Received
from vilab.migration.destination import MigrationDestination
from vilab.migration.line import Line
from vilab.migration.options import MOST_MIGRATIONS, MigrationOptions
from vilab.migration.source import MigrationSource
from vilab.migration.termination import policy_named
from vilab.protocols import ReadableBytes

MESSAGES = say.MigrationMessage | ask.AgentRequest
WINDOW_BYTES = 4 << 20
"""At most so much waits in a socket's queue."""
LINKS_NS = 10_000_000
"""So long the links have their turn while a migration is under way, before the machines run again."""
IDLE_S = 0.05
PROGRESS_NS = 200_000_000


class Pollable(Protocol):
    """A network link to another process that the loop has to serve."""

    def fileno(self) -> int: ...

    def poll(self) -> int: ...


class Call:
    """Somebody who has called: a host that brings a machine, or a person who asks."""

    def __init__(self, agent: HostAgent, link: agent_tcp.TcpLink) -> None:
        self.agent, self.link = agent, link
        self.destination: MigrationDestination | None = None
        self.port = AgentPort(agent.session(initiator=False), link, self._take, self._lost)

    def _take(self, got: Received) -> None:
        message = got.message
        if isinstance(message, say.Message):
            if self.destination is None:
                self.destination = MigrationDestination(
                    self.agent.host, self.port.session.peer, self.port.send, console=lambda _name: Line(),
                    now=time.monotonic_ns,
                )  # fmt: skip
            self.destination.received(message, got.body)
        elif isinstance(message, ask.Request):
            self.agent.answer(self, message)

    def _lost(self, why: str) -> None:
        if self.destination is not None:
            self.destination.lost(why)

    def answer(self, message: ask.Request, body: Sequence[ReadableBytes] = ()) -> None:
        self.port.send(message, body)


class Departure:
    """A machine that this host sends to another one, and who has asked for it."""

    def __init__(self, agent: HostAgent, hosted: HostedVm, request: ask.Move, asked_by: Call) -> None:
        host, port = parse_address(request.address)
        options = MigrationOptions(policy=policy_named(request.rule), kind=request.kind)
        self.request, self.asked_by, self._agent = request, asked_by, agent
        self.link = agent_tcp.connect(agent.host.name, host, port, agent.tls_calling)
        self.source: MigrationSource | None = None
        self._hosted, self._options = hosted, options
        self._told_ns = 0
        self.failed = ""
        self.port = AgentPort(agent.session(initiator=True), self.link, self._take, self._lost)

    @property
    def over(self) -> bool:
        return bool(self.failed) or (self.source is not None and self.source.over)

    def pump(self) -> None:
        if self.source is None:
            self._begin()
        else:
            self.source.pump(WINDOW_BYTES - self.link.waiting_bytes)
        now_ns = time.monotonic_ns()
        if self.source is not None and not self.over and now_ns - self._told_ns > PROGRESS_NS:
            self._told_ns = now_ns
            p = self.source.progress
            self.asked_by.answer(
                ask.Moving(self.request.number, p.phase, p.round, p.percent, p.sent_bytes, p.bytes_per_s)
            )

    def _begin(self) -> None:
        """The other host has to be known first: it is named in every sentence."""
        if not self.port.session.established or self.failed:
            return
        self.source = MigrationSource(
            self._agent.host, self._hosted, self.port.session.peer,
            lambda message, body: self.port.send(message, body, unchanging=True), secrets.token_hex(8), self._options,
            time.monotonic_ns,
        )  # fmt: skip
        self.source.start()

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
                    f"{self._hosted.name} runs on {source.destination}: {len(source.rounds)} rounds, "
                    f"{source.sent_bytes / 1e6:.1f} MB, stopped for {source.downtime_ns / 1e6:.1f} ms.",
                )
            )
        else:
            self.asked_by.answer(ask.Refused(number, self.failed or (source.why if source is not None else "")))


class HostAgent:
    """Parameters
    ----------
    host : whose storage keeps the wall's time (``StorageOptions.keeps``).
    secret : of the datacenter. ``tls_called``, ``tls_calling``: for who calls, and for calling others.

    Raises
    ------
    AdminError : it cannot listen there.
    """

    def __init__(
        self, host: Host, secret: bytes, address: str = "127.0.0.1", port: int = 0, *, datacenter: str = "datacenter",
        tls_called: ssl.SSLContext | None = None, tls_calling: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self.host, self.datacenter = host, datacenter
        self.tls_calling = tls_calling
        self._secret = secret
        self.listener = agent_tcp.TcpListener(host.name, address, port, tls_called)
        self._calls: list[Call] = []
        self._departures: list[Departure] = []
        self.wires: list[Pollable] = []
        self._stopping = False
        self._base_ns = time.monotonic_ns() - host.now_ns

    @property
    def address(self) -> str:
        return f"{self.listener.address}:{self.listener.port}"

    def session(self, initiator: bool) -> AgentSession:
        return AgentSession(self.host.name, self._secret, MESSAGES, initiator=initiator, datacenter=self.datacenter)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until ``stop``, or ``Quit``."""
        while not self._stopping:
            self.step()
        self.close()

    def stop(self) -> None:
        self._stopping = True

    def step(self) -> None:
        """One turn of everything."""
        host = self.host
        host.catch_up()
        wall_ns = time.monotonic_ns()
        runs = any(hosted.runs and not hosted.stunned for hosted in host.vms.values())
        ahead_ns = self._base_ns + host.now_ns - wall_ns
        if ahead_ns <= 0:
            quantum_ns = host.step_ns
            host.run_for(quantum_ns)
            if ahead_ns < -quantum_ns:  # it cannot keep up, or had nothing to do: what is lost is not caught up
                self._base_ns = wall_ns - host.now_ns
        moved = self._serve(wall_ns)
        if not moved and (ahead_ns > 0 or not runs):
            self._wait(min(IDLE_S, max(ahead_ns, 0) / 1e9 if runs else IDLE_S))

    def _serve(self, since_ns: int) -> bool:
        """Links and migrations; as long as there is something to do and it is their turn. True: there was."""
        busy = False
        while True:
            moved = self._serve_once()
            busy |= moved
            if not moved or not (self._departures or self.host.arrivals):
                return busy
            if time.monotonic_ns() - since_ns > LINKS_NS:
                return busy

    def _serve_once(self) -> bool:
        moved = False
        while (link := self.listener.accept()) is not None:
            self._calls.append(Call(self, link))
            moved = True
        for wire in self.wires:
            moved |= wire.poll() > 0
        for departure in list(self._departures):
            before = departure.link.sent_bytes
            departure.pump()
            moved |= departure.link.poll() > 0 or departure.link.sent_bytes != before
            if departure.over:
                self._departures.remove(departure)
                departure.end()
        for call in list(self._calls):
            moved |= call.link.poll() > 0
            if call.destination is not None:
                call.destination.pump()
            if not call.port.open:
                self._calls.remove(call)
        return moved

    def _wait(self, most_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            for link in [call.link for call in self._calls] + [each.link for each in self._departures]:
                if link.open:
                    events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.wants_write else 0)
                    selector.register(link, events)
            for wire in self.wires:
                if wire.fileno() >= 0:
                    selector.register(wire, selectors.EVENT_READ)
            selector.select(most_s)

    def close(self) -> None:
        """Machines are powered off, datastores left, calls ended."""
        for departure in self._departures:
            if departure.source is not None:
                departure.source.give_up(f"{self.host.name} is being shut down.")
            departure.end()
        for call in self._calls:
            if call.destination is not None:
                call.destination.give_up(f"{self.host.name} is being shut down.")
            call.port.close()
        self.listener.close()
        self.host.close()

    def power_on(self, home: str) -> HostedVm:
        """A machine from its configuration file, with a serial line that can go along. Raises ``AdminError``."""
        return power_on_file(self.host, home, console=Line())

    # --- what is asked ------------------------------------------------------------------------------------------------

    def answer(self, call: Call, request: ask.Request) -> None:
        """One request of somebody who has proved that they know the secret."""
        try:
            self._answer(call, request)
        except VilabError as error:
            call.answer(ask.Refused(request.number, str(error)))

    def _answer(self, call: Call, request: ask.Request) -> None:
        number = request.number
        match request:
            case ask.ListMachines():
                call.answer(ask.Machines(number, self.host.name, tuple(map(_machine, self.host.vms.values()))))
            case ask.PowerOn():
                hosted = self.power_on(request.home)
                call.answer(ask.Done(number, f"{hosted.name} is powered on on {self.host.name}."))
            case ask.PowerOff():
                self.host.power_off(self._machine(request.name))
                call.answer(ask.Done(number, f"{request.name} is powered off."))
            case ask.Read():
                line = self._line(request.name)
                call.answer(ask.Said(number, line.total_bytes), [line.after(request.after)])
            case ask.Type():
                self._line(request.name).type_bytes(request.data)
                call.answer(ask.Done(number, f"{request.name} was typed at."))
            case ask.Move():
                self._move(call, request)
            case ask.Quit():
                call.answer(ask.Done(number, f"{self.host.name} is being shut down."))
                self.stop()
            case _:
                raise AdminError(f"{type(request).__name__} is an answer, and {self.host.name} has asked nothing.")

    def _move(self, call: Call, request: ask.Move) -> None:
        hosted = self._machine(request.name)
        if not hosted.runs:
            raise AdminError(f"{request.name} does not run on {self.host.name}: {hosted.stopped}")
        if any(departure._hosted is hosted for departure in self._departures):
            raise AdminError(f"{request.name} is on its way to another host already.")
        if len(self._departures) >= MOST_MIGRATIONS:
            raise AdminError(
                f"{MOST_MIGRATIONS} machines are on their way from {self.host.name} already: wait until one has moved."
            )
        self._departures.append(Departure(self, hosted, request, call))

    def _machine(self, name: str) -> HostedVm:
        if name not in self.host.vms:
            raise AdminError(f"There is no virtual machine {name} on {self.host.name}.")
        return self.host.vms[name]

    def _line(self, name: str) -> Line:
        console = self._machine(name).vm.console
        if not isinstance(console, Line):
            raise AdminError(f"The serial line of {name} ends in somebody's terminal.")
        return console


def _machine(hosted: HostedVm) -> ask.Machine:
    home = "" if hosted.disks is None else hosted.disks.home.where
    return ask.Machine(
        hosted.name, home, hosted.config.size_mb, hosted.vm.engine.name, hosted.stopped, hosted.vm.clock.now_ns
    )


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[HOST]:PORT``."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise AdminError(f"{text!r} is no address of an agent; one looks like 127.0.0.1:902.")
    return host, int(port)
