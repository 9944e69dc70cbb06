"""A host as a process: its machines run, its agent listens, and both take turns in one loop.

::

    ┌─> a quantum of every machine ──> links: what has come, what can go ──> migrations: more pages ──> tasks: a step ─┐
    └────────────────── ahead of the wall's clock? wait until something comes, or it is time ──────────────────────────┘

Virtual time does not run ahead of the wall's, since others wait for answers; where the machines need longer than their
virtual time, it falls behind.

Who calls proves first that it knows the secret of the datacenter (``agent_session``). A host asks for a machine to be
taken (``destination``); a person, or VirtualCenter, asks for what is in ``agent_requests``. What takes longer than a
turn is a ``Task`` (``host_tasks``), and goes on when who has asked for it hangs up.
"""

from __future__ import annotations

import selectors
import ssl
import time
from collections.abc import Sequence
from typing import Protocol

from vilab.errors import AdminError, VilabError
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.suspended import suspend_file
from vilab.migration import agent_requests as ask
from vilab.migration import agent_tcp
from vilab.migration import messages as say
from vilab.migration.agent_session import AgentSession
from vilab.migration.cold_tasks import clone, relocate
from vilab.migration.file_copy_messages import FileCopyMessage
from vilab.migration.file_copy_tasks import CallingTask, FileCopyTask, InquiryTask, say_here
from vilab.migration.host_calls import Call, Departure
from vilab.migration.host_tasks import Stepwise, StorageMove, Task
from vilab.migration.line import Line
from vilab.migration.options import MOST_MIGRATIONS
from vilab.migration.power_on_task import PowerOnTask

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
        self._departures: list[Departure] = []
        self._tasks: list[Task] = []
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
        while moved and (self._departures or self.host.arrivals) and time.monotonic_ns() < until_ns:
            moved = self._serve_departures()
            moved |= self._serve_calls([call for call in self._calls if call.destination is not None])
            busy |= moved
        return busy

    def _serve_departures(self) -> bool:
        moved = False
        for departure in list(self._departures):
            before = departure.link.sent_bytes
            departure.pump()
            moved |= departure.link.poll() > 0 or departure.link.sent_bytes != before
            if departure.over:
                self._departures.remove(departure)
                departure.end()
        return moved

    def _serve_calls(self, calls: Sequence[Call]) -> bool:
        moved = False
        for call in list(calls):
            moved |= call.link.poll() > 0
            moved |= call.pump()
            if not call.port.open:
                self._calls.remove(call)
        return moved

    def _serve_tasks(self) -> bool:
        moved = False
        for task in list(self._tasks):
            moved |= task.pump()
            if task.over:
                self._tasks.remove(task)
                task.end()
        return moved

    def _wait(self, most_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            calling = [task.link for task in self._tasks if isinstance(task, CallingTask)]
            for link in [call.link for call in self._calls] + [each.link for each in self._departures] + calling:
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
        for task in self._tasks:
            task.give_up(f"{self.host.name} is being shut down.")
            task.end()
        for call in self._calls:
            if call.destination is not None:
                call.destination.give_up(f"{self.host.name} is being shut down.")
            if call.copy is not None:
                call.copy.give_up(f"{self.host.name} is being shut down.")
            call.port.close()
        self.listener.close()
        self.host.close()

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
                self.mount_again()
                self._tasks.append(PowerOnTask(self.host, request, call.answer))
            case ask.PowerOff():
                self._power_off(request.name)
                call.answer(ask.Done(number, f"{request.name} is powered off."))
            case ask.Read():
                line = self._line(request.name)
                call.answer(ask.Said(number, line.total_bytes), [line.after(request.after)])
            case ask.Type():
                self._line(request.name).type_bytes(request.data)
                call.answer(ask.Done(number, f"{request.name} was typed at."))
            case ask.Move():
                self._move(call, request)
            case ask.MoveStorage():
                hosted = self._here_to_stay(request.name)
                self._tasks.append(StorageMove(self.host, hosted, request, call.answer))
            case ask.Suspend():
                where = suspend_file(self.host, self._here_to_stay(request.name))
                call.answer(ask.Done(number, f"{request.name} is suspended; its state is in {where}."))
            case ask.Relocate():
                steps = relocate(self.host, request.home, request.datastore)
                self._tasks.append(Stepwise(request.home, number, steps, call.answer))
            case ask.MoveFolder():
                self.mount_again()
                self._tasks.append(FileCopyTask(self, request, call.answer))
            case ask.AskFolder():
                self.mount_again()
                done = say_here(self, request.home) if request.here else ""
                if done:
                    call.answer(ask.Done(number, done))
                else:
                    self._tasks.append(InquiryTask(self, request, call.answer))
            case ask.Clone():
                steps = clone(self.host, request.source, self._here_to_stay, request.name, request.datastore)
                self._tasks.append(Stepwise(request.source, number, steps, call.answer))
            case ask.Quit():
                call.answer(ask.Done(number, f"{self.host.name} is being shut down."))
                self.stop()
            case _:
                raise AdminError(f"{type(request).__name__} is an answer, and {self.host.name} has asked nothing.")

    def _here_to_stay(self, name: str) -> HostedVm:
        """``AdminError``: there is no such machine, or it is on its way to another host."""
        hosted = self._machine(name)
        if any(departure.hosted is hosted for departure in self._departures):
            raise AdminError(f"{name} is on its way to another host: ask again when it has arrived.")
        return hosted

    def _power_off(self, name: str) -> None:
        hosted = self._machine(name)
        if any(departure.hosted is hosted for departure in self._departures):
            raise AdminError(f"{name} is on its way to another host: power it off when it has arrived.")
        self.host.power_off(hosted)

    def _move(self, call: Call, request: ask.Move) -> None:
        hosted = self._machine(request.name)
        if not hosted.runs:
            raise AdminError(f"{request.name} does not run on {self.host.name}: {hosted.stopped}")
        if any(departure.hosted is hosted for departure in self._departures):
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
    stopped = hosted.stopped or ("It stands still: it is on its way to another host." if hosted.stunned else "")
    return ask.Machine(hosted.name, home, hosted.config.size_mb, hosted.vm.engine.name, stopped, hosted.vm.clock.now_ns)


def take_typed(hosted: HostedVm) -> None:
    """A guest looks by itself when it is idle; who types at one that is not need not wait."""
    if hosted.runs and not hosted.stunned and isinstance(hosted.vm.console, Line) and hosted.vm.console.is_typed:
        hosted.vm.pc.uart.poll_input()
