"""What a host's agent is asked, request by request: answered at once, or begun as a task.

::

    request ──> Requests.answer ──┬──> Done, Machines, Said: at once
                                  ├──> Task (``host_tasks``), Departure (``host_calls``): answered when it is over
                                  └──> Refused, with a sentence

Whatever a request is, the host's loop goes on: its machines have nothing to do with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from vilab.errors import AdminError
from vilab.host.datastore_path import is_datastore_path
from vilab.host.hosted_vm import HostedVm
from vilab.host.suspended import suspend_file
from vilab.host.vm_home import VmHome
from vilab.migration import agent_requests as ask
from vilab.migration.cold_tasks import clone, relocate
from vilab.migration.file_copy_tasks import FileCopyTask, InquiryTask, say_here
from vilab.migration.host_calls import Call, Departure, parse_address
from vilab.migration.host_tasks import Stepwise, StorageMove, Task
from vilab.migration.line import MOST_TYPED_BYTES, Line
from vilab.migration.options import MOST_MIGRATIONS
from vilab.migration.power_on_task import PowerOnTask

if TYPE_CHECKING:
    from vilab.migration.host_agent import HostAgent

OfFolder = TypeVar("OfFolder", ask.PowerOn, ask.MoveFolder)


class Requests:
    """Those of who has proved that they know the secret. ``tasks``, ``departures``: what has been begun and is not over
    yet; the loop serves them."""

    def __init__(self, agent: HostAgent) -> None:
        self.agent, self.host = agent, agent.host
        self.tasks: list[Task] = []
        self.departures: list[Departure] = []

    def answer(self, call: Call, request: ask.Request) -> None:
        """One request, whatever comes of it."""
        why: list[str] = []
        with self.agent.guarded(request_words(request), why.append):
            self._answer(call, request)
        if why:
            call.answer(ask.Refused(request.number, why[0]))

    def _answer(self, call: Call, request: ask.Request) -> None:
        number, host = request.number, self.host
        match request:
            case ask.ListMachines():
                call.answer(ask.Machines(number, host.name, tuple(map(_machine, host.vms.values()))))
            case ask.PowerOn():
                request = self._at_rest(request)
                self.tasks.append(PowerOnTask(host, request, call.answer))
            case ask.PowerOff():
                host.power_off(self._here_to_stay(request.name))
                call.answer(ask.Done(number, f"{request.name} is powered off."))
            case ask.Read():
                line = self._line(request.name)
                call.answer(ask.Said(number, line.total_bytes), [line.after(request.after)])
            case ask.Type():
                self._type(request)
                call.answer(ask.Done(number, f"{request.name} was typed at."))
            case ask.Move():
                self._move(call, request)
            case ask.MoveStorage():
                self.agent.mount_again()
                hosted = self._here_to_stay(request.name)
                self.tasks.append(StorageMove(host, hosted, request, call.answer))
            case ask.Suspend():
                where = suspend_file(host, self._here_to_stay(request.name))
                call.answer(ask.Done(number, f"{request.name} is suspended; its state is in {where}."))
            case ask.Relocate():
                self.agent.mount_again()
                home = self._left_alone(request.home)
                steps = relocate(host, home, request.datastore)
                self.tasks.append(Stepwise(home, number, steps, call.answer, f"is being moved to {request.datastore}"))
            case ask.MoveFolder():
                request = self._at_rest(request)
                self._check_other(request.address, "relocate and clone are for datastores of one host")
                self.tasks.append(FileCopyTask(self.agent, request, call.answer))
            case ask.AskFolder():
                self.agent.mount_again()
                done = say_here(self.agent, request.home) if request.here else ""
                if done:
                    call.answer(ask.Done(number, done))
                else:
                    self.tasks.append(InquiryTask(self.agent, request, call.answer))
            case ask.Clone():
                self.agent.mount_again()
                source = self._left_alone(request.source) if is_datastore_path(request.source) else request.source
                steps = clone(host, source, self._here_to_stay, request.name, request.datastore)
                self.tasks.append(Stepwise(source, number, steps, call.answer, f"is being cloned as {request.name}"))
            case ask.Quit():
                call.answer(ask.Done(number, f"{host.name} is being shut down."))
                self.agent.stop()
            case _:
                raise AdminError(f"{type(request).__name__} is an answer, and {host.name} has asked nothing.")

    def _at_rest(self, request: OfFolder) -> OfFolder:
        """About a machine that is off, and that nothing is being done with."""
        self.agent.mount_again()
        home = self._left_alone(request.home)
        for hosted in self.host.vms.values():
            if hosted.disks is not None and hosted.disks.home.where == home:
                raise AdminError(
                    f"{home} is powered on already, on host {self.host.name}: ask for {hosted.name} by its name, or "
                    "power it off."
                )
        return msgspec.structs.replace(request, home=home)

    def _left_alone(self, where: str) -> str:
        """The configuration file, as it is always written. ``AdminError``: this host is at something with it already;
        the locks would say that too, but not what it is."""
        if not (is_datastore_path(where) or where.startswith("/")):
            raise AdminError(f"{where!r} is not the configuration file of a machine; one is [datastore1] web/web.vmx.")
        home = VmHome(self.host.storage, where).where
        for task in self.tasks:
            if task.doing and task.about == home:
                raise AdminError(f"{home} {task.doing} by {self.host.name}: ask again when that is over.")
        return home

    def _check_other(self, address: str, otherwise: str) -> None:
        """``AdminError``: it is our own."""
        if parse_address(address) == (self.agent.listener.address, self.agent.listener.port):
            raise AdminError(f"{address} is {self.host.name} itself: {otherwise}.")

    def _here_to_stay(self, name: str) -> HostedVm:
        """``AdminError``: there is no such machine, or it is on its way to another host."""
        hosted = self._machine(name)
        if any(departure.hosted is hosted for departure in self.departures):
            raise AdminError(f"{name} is on its way to another host: ask again when it has arrived.")
        return hosted

    def _move(self, call: Call, request: ask.Move) -> None:
        hosted = self._here_to_stay(request.name)
        self._check_other(request.address, "say the address of another host")
        if not hosted.runs:
            raise AdminError(f"{request.name} does not run on {self.host.name}: {hosted.stopped}")
        if hosted.disks is not None and hosted.disks.snapshots is not None and hosted.disks.snapshots.held:
            raise AdminError(f"{request.name} does not move to another host now: {hosted.disks.snapshots.held}")
        if len(self.departures) >= MOST_MIGRATIONS:
            raise AdminError(
                f"{MOST_MIGRATIONS} machines are on their way from {self.host.name} already: wait until one has moved."
            )
        self.departures.append(Departure(self.agent, hosted, request, call))

    def _machine(self, name: str) -> HostedVm:
        if name not in self.host.vms:
            raise AdminError(f"There is no virtual machine {name} on {self.host.name} that is powered on.")
        return self.host.vms[name]

    def _type(self, request: ask.Type) -> None:
        line = self._line(request.name)
        if line.typed_bytes + len(request.data) > MOST_TYPED_BYTES:
            raise AdminError(
                f"{request.name} was not typed at: {len(request.data)} bytes, and {line.typed_bytes} that it has not "
                f"read yet, are more than {MOST_TYPED_BYTES}. Type less at once, or look why it does not read."
            )
        line.type_bytes(request.data)

    def _line(self, name: str) -> Line:
        console = self._machine(name).vm.console
        if not isinstance(console, Line):
            raise AdminError(f"The serial line of {name} ends in somebody's terminal.")
        return console


def request_words(request: ask.Request) -> str:
    """How a person says it: ``power off``."""
    name = type(request).__name__
    return "".join(f" {each.lower()}" if each.isupper() else each for each in name).strip()


def _machine(hosted: HostedVm) -> ask.Machine:
    home = "" if hosted.disks is None else hosted.disks.home.where
    stopped = hosted.stopped or ("It stands still: it is on its way to another host." if hosted.stunned else "")
    return ask.Machine(hosted.name, home, hosted.config.size_mb, hosted.vm.engine.name, stopped, hosted.vm.clock.now_ns)
