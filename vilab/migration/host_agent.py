"""A host as a process: its machines run, its agent listens, and both take turns in one loop.

::

    ┌─> a quantum of every machine ──> links: what has come, what can go ──> migrations: more pages ──> tasks: a step ─┐
    └────────────────── ahead of the wall's clock? wait until something comes, or it is time ──────────────────────────┘

Virtual time does not run ahead of the wall's, since others wait for answers; where the machines need longer than their
virtual time, it falls behind.

Who calls proves first that it knows the secret of the datacenter (``agent_session``). A host asks for a machine to be
taken (``destination``); a person, or VirtualCenter, asks for what is in ``agent_requests``, and ``host_requests``
answers. What takes longer than a turn is a ``Task`` (``host_tasks``), and goes on when who has asked for it hangs up.

A request, a task or a connection that fails, even by a defect of vilab, ends alone: the machines run on.
"""

from __future__ import annotations

import contextlib
import selectors
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from vilab.errors import VilabError, VmmBug
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.migration import agent_requests as ask
from vilab.migration import agent_tcp
from vilab.migration import messages as say
from vilab.migration.agent_session import AgentSession
from vilab.migration.file_copy_messages import FileCopyMessage
from vilab.migration.file_copy_tasks import CallingTask
from vilab.migration.host_calls import Call, Departure
from vilab.migration.host_requests import Requests
from vilab.migration.host_tasks import Task
from vilab.migration.line import Line

MESSAGES = say.MigrationMessage | ask.AgentRequest | FileCopyMessage
LINKS_NS = 10_000_000
"""So long the links have their turn while a migration is under way, before the machines run again."""
IDLE_S = 0.05


class Pollable(Protocol):
    """A network link to another process that the loop has to serve."""

    def fileno(self) -> int: ...

    def poll(self) -> int: ...


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
        self.requests = Requests(self)
        self.wires: list[Pollable] = []
        self.on_defect: Callable[[Exception], None] = lambda _error: None
        """Hears what has gone wrong that nobody has foreseen, while it is being handled."""
        self._last_defect = ""
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
        for hosted in host.vms.values():
            take_typed(hosted)
        if ahead_ns <= 0:
            quantum_ns = host.step_ns
            host.run_for(quantum_ns)
            if ahead_ns < -quantum_ns:  # it cannot keep up, or had nothing to do: what is lost is not caught up
                self._base_ns = wall_ns - host.now_ns
        moved = self._serve()
        if not moved and (ahead_ns > 0 or not runs):
            self._wait(min(IDLE_S, max(ahead_ns, 0) / 1e9 if runs else IDLE_S))

    def _serve(self) -> bool:
        """Everybody once; migrations as long as there is something to do and it is their turn. True: there was."""
        moved = self._serve_departures()
        while (link := self.listener.accept()) is not None:
            self._calls.append(Call(self, link))
            moved = True
        for wire in self.wires:
            moved |= wire.poll() > 0
        moved |= self._serve_calls(self._calls)
        moved |= self._serve_tasks()
        busy, until_ns = moved, time.monotonic_ns() + LINKS_NS
        while moved and (self.requests.departures or self.host.arrivals) and time.monotonic_ns() < until_ns:
            moved = self._serve_departures()
            moved |= self._serve_calls([call for call in self._calls if call.destination is not None])
            busy |= moved
        return busy

    def _serve_departures(self) -> bool:
        moved = False
        for departure in list(self.requests.departures):
            before = departure.link.sent_bytes
            with self.guarded(f"the move of {departure.hosted.name}", departure.give_up):
                departure.pump()
                moved |= departure.link.poll() > 0 or departure.link.sent_bytes != before
            if departure.over:
                self.requests.departures.remove(departure)
                departure.end()
        return moved

    def _serve_calls(self, calls: Sequence[Call]) -> bool:
        moved = False
        for call in list(calls):
            with self.guarded("the connection", partial(call.give_up, tell=True)):
                moved |= call.link.poll() > 0
                moved |= call.pump()
            if not call.port.open:
                self._calls.remove(call)
        return moved

    def _serve_tasks(self) -> bool:
        moved = False
        for task in list(self.requests.tasks):
            with self.guarded(f"what was being done with {task.about}", task.give_up):
                moved |= task.pump()
            if task.over:
                self.requests.tasks.remove(task)
                task.end()
        return moved

    def _wait(self, most_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            calling = [task.link for task in self.requests.tasks if isinstance(task, CallingTask)]
            for link in (
                [call.link for call in self._calls] + [each.link for each in self.requests.departures] + calling
            ):
                if link.open:
                    events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.wants_write else 0)
                    selector.register(link, events)
            for wire in self.wires:
                if wire.fileno() >= 0:
                    selector.register(wire, selectors.EVENT_READ)
            selector.select(most_s)

    def close(self) -> None:
        """Machines are powered off, datastores left, calls ended. What cannot be done in order is left to who comes
        next, as if the power had failed there."""
        why = f"{self.host.name} is being shut down."
        under_way: list[Task | Departure] = [*self.requests.departures, *self.requests.tasks]
        for each in under_way:
            with self.guarded("the end", lambda _why: None):
                each.give_up(why)
                each.end()
        for call in self._calls:
            with self.guarded("the end", lambda _why: None):
                call.give_up(why)
        self.listener.close()
        self.host.close()

    @contextlib.contextmanager
    def guarded(self, what: str, failed: Callable[[str], None]) -> Iterator[None]:
        """What fails in there fails alone: ``failed`` gets the sentence, and the loop goes on. What ``failed`` itself
        cannot do is left as it is."""
        try:
            yield
        except Exception as error:
            try:
                failed(self._sentence(what, error))
            except Exception as another:
                self.on_defect(another)

    def _sentence(self, what: str, error: Exception) -> str:
        if isinstance(error, VilabError) and not isinstance(error, VmmBug):
            return str(error)
        if isinstance(error, OSError):
            return f"{self.host.name}: {error.strerror or error}{f': {error.filename}' * bool(error.filename)}."
        sentence = (
            f"A defect of vilab on {self.host.name} has ended {what}: {type(error).__name__}: {error}. Everything else "
            f"there goes on; {self.host.name} has said on its standard error where it was."
        )
        if sentence != self._last_defect:  # the same one again and again is said once
            self._last_defect = sentence
            self.on_defect(error)
        return sentence

    def power_on(self, home: str) -> HostedVm:
        """A machine from its configuration file, with a serial line that can go along, before the loop begins: whoever
        has to be waited for is. Raises ``AdminError``."""
        self.mount_again()
        return power_on_file(self.host, home, console=Line())

    def mount_again(self) -> None:
        """Volumes that were lost to this host, because it had stood still, unless machines that were lost with them are
        there still."""
        if any(info.state == "fenced" and not info.users for info in self.host.storage.datastores()):
            self.host.storage.rescan()


def take_typed(hosted: HostedVm) -> None:
    """A guest looks by itself when it is idle; who types at one that is not need not wait."""
    if hosted.runs and not hosted.stunned and isinstance(hosted.vm.console, Line) and hosted.vm.console.is_typed:
        hosted.vm.pc.uart.poll_input()
