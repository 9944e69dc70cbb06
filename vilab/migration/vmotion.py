"""VMotion between two hosts of one program: they share a clock, and a link with a bandwidth joins them.

::

    ┌ source host ┐  pump   ┌ link ┐   ┌ destination host ┐
    │ machine runs│ ──────> │ in   │ ─>│ takes, answers   │      each quantum: both hosts run, what the link has
    └─────────────┘ <────── │ time │ <─└──────────────────┘      carried meanwhile arrives, more is sent

Quanta are short meanwhile, and shorter while the machine stands still: rounds and downtime are measured that finely.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

from vilab.errors import AdminError, VmmBug
from vilab.events import EventLog
from vilab.host.host import Host, run_together
from vilab.host.hosted_vm import HostedVm
from vilab.migration.agent_link import LinkSettings, MemoryLink
from vilab.migration.agent_port import AgentPort
from vilab.migration.agent_session import AgentSession
from vilab.migration.destination import MigrationDestination
from vilab.migration.messages import MigrationMessage
from vilab.migration.options import DEFAULT, MigrationOptions
from vilab.migration.source import MigrationSource, Progress
from vilab.migration.vmkernel_link import VmkernelLink
from vilab.protocols import Console

GIGABIT = LinkSettings(125_000_000, 100_000)
"""A dedicated Gigabit Ethernet, as VI3 recommends."""
QUANTUM_NS, STUNNED_QUANTUM_NS = 1_000_000, 250_000
AHEAD_NS = 1_000_000
"""So much of the link's time is queued on it beyond the next quantum."""


class Migration:
    """One machine on its way: a task. ``steps`` or ``run`` makes it go on.

    Parameters
    ----------
    hosted : a machine of ``source``. console : what its serial line ends in afterwards; its own console by default.
    beside : other hosts that share the clock and run meanwhile. link : one that joins both hosts already, such as one
    through their VMkernel ports; ``settings`` are of one that is made here.

    Raises
    ------
    AdminError : it cannot begin; nothing was touched.
    """

    def __init__(
        self, source: Host, hosted: HostedVm, destination: Host, settings: LinkSettings = GIGABIT,
        options: MigrationOptions = DEFAULT, *, secret: bytes | None = None, beside: Sequence[Host] = (),
        console: Console | None = None, log: EventLog | None = None, link: MemoryLink | VmkernelLink | None = None,
    ) -> None:  # fmt: skip
        if source.clock is not destination.clock:
            raise VmmBug("Two hosts of one program share a clock when a machine moves between them.")
        if source.vms.get(hosted.name) is not hosted or not hosted.runs:
            raise AdminError(f"{hosted.name} does not run on {source.name}: there is nothing to move. {hosted.stopped}")
        self.hosts = [source, destination, *beside]
        for host in self.hosts:
            host.catch_up()
        self.link = link if link is not None else MemoryLink(source.clock, settings, (source.name, destination.name))
        key = secret if secret is not None else secrets.token_bytes(32)
        ends = console if console is not None else hosted.vm.console
        self.destination = MigrationDestination(
            destination, source.name, lambda message, body: there.send(message, body),
            console=lambda _name: ends, log=log if log is not None else hosted.vm.log, wait=self._wait,
        )  # fmt: skip
        self.source = MigrationSource(
            source, hosted, destination.name, lambda message, body: here.send(message, body), secrets.token_hex(8),
            options,
        )  # fmt: skip
        there = AgentPort(
            AgentSession(destination.name, key, MigrationMessage, initiator=False), self.link.b,
            lambda got: self.destination.received(got.message, got.body, got.hashes), self.destination.lost,
        )  # fmt: skip
        here = AgentPort(
            AgentSession(source.name, key, MigrationMessage, initiator=True), self.link.a,
            lambda got: self.source.received(got.message), self.source.lost,
        )  # fmt: skip
        self._here = here
        self.source.start()

    def _wait(self) -> None:
        """The destination's machine waits for a page: the link carries it meanwhile."""
        clock = self.link.clock
        clock.run_to(clock.next_ns())

    @property
    def over(self) -> bool:
        return self.source.over and self.destination.over

    @property
    def progress(self) -> Progress:
        return self.source.progress

    @property
    def hosted(self) -> HostedVm:
        """The machine, where it is now. Raises ``AdminError`` if it is nowhere."""
        if self.source.phase == "moved":
            arrived = self.destination.hosted
            assert arrived is not None
            return arrived
        if self.source.phase == "lost":
            raise AdminError(self.source.why)
        return self.source.hosted

    def step(self) -> None:
        """Both hosts run for a quantum, and so does the link."""
        source = self.source
        for host in self.hosts:
            host.catch_up()
        quantum_ns = STUNNED_QUANTUM_NS if source.hosted.stunned else QUANTUM_NS
        quantum_ns = min(quantum_ns, *(host.step_ns for host in self.hosts))
        ahead = self.link.bandwidth_bytes_per_s * (quantum_ns + AHEAD_NS) // 1_000_000_000
        source.pump(ahead - self._here.waiting_bytes)
        self.destination.pump()
        if source.over:
            self._here.close()
        run_together(self.hosts, quantum_ns)

    def steps(self) -> Iterator[Progress]:
        """Until it is over: moved, or as before."""
        while not self.over:
            self.step()
            yield self.progress
        self._here.close()

    def run(self, watch: Callable[[Progress], None] = lambda _progress: None) -> HostedVm:
        """To the end; the machine, where it is then. Raises ``AdminError``: it was not moved, and why."""
        for progress in self.steps():
            watch(progress)
        if self.source.phase != "moved":
            raise AdminError(self.source.why)
        return self.hosted
