"""An ESX host: one machine, a memory manager, and virtual machines that take turns.

::

    time ──────────────────────────────────────────────────────────────────>
          | vm 1 | vm 2 | vm 3 | tick | vm 1 | vm 2 | vm 3 | tick | ...
          └────── one quantum ─────────┘

Within a quantum every VM runs from its beginning to its end, one after another, in virtual time side by side.
MODEL: as many physical CPUs as there are virtual ones; who waits for a CPU is the scheduler's affair, later. At the
quantum's end the memory manager does what is due, and the host's clock makes its calls: heartbeats, renewals of locks,
and the switching of the frames that were sent meanwhile, each at its own time. While machines send, quanta are
``NETWORK_QUANTUM_NS``: an answer does not wait longer than that. (The first frame after 50 ms of silence may.)

``now_ns`` is how far the machines have run. The clock may be ahead: who waits for another host's lock (16 s or more)
makes it go on, and the machines run on from where they are. Hosts that share storage in one program share a clock, and
run side by side with ``run_together``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vilab.addresses import PAGE_BYTES
from vilab.clock import VirtualClock
from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.errors import AdminError, VmmBug
from vilab.events import EventLog
from vilab.guests.image import LoadedImage
from vilab.host.host_network import HostNetwork, MachineCables
from vilab.host.hosted_vm import HostedVm, Snapshot
from vilab.host.machine_snapshots import MachineSnapshots
from vilab.host.storage import HostStorage, StorageOptions
from vilab.host.storage_time import WALL, pass_time
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vmx_network import CardSettings
from vilab.machine.memory import MachineMemory
from vilab.memory.client import MemoryClient, MemoryConfig
from vilab.memory.grant import MemoryGrant
from vilab.memory.manager import FLOOR_PAGES, MemoryManager
from vilab.memory.swap_file import SEEK_NS
from vilab.protocols import Console
from vilab.vmm.vm import MONITOR_BYTES, VirtualMachine

if TYPE_CHECKING:
    from vilab.host.arrival import Arrival

QUANTUM_NS = 10_000_000
NETWORK_QUANTUM_NS = 200_000
SVM_MONITOR_BYTES = 1152 * PAGE_BYTES
"""Control block and nested tables need this at most: a page for each 4 MB of the 4 GB that a guest can reach."""


class Host:
    """One machine.

    Parameters
    ----------
    memory_mb : of the machine; reserved_mb : the vmkernel's own part of it.
    swap_directory : where .vswp files go; a temporary one if it is not given.
    swap_room_mb : how much there is for them; ``None``: as much as the disk has.
    quantum_ns : how long a VM runs before the next one does.
    page_in_ns : what it waits for a page from the swap file.
    clock : shared with other hosts of this program; one of its own if it is not given.
    storage : of ``self.storage``, the datastores and LUNs. ``self.network``: switches, port groups, physical cards.
    """

    def __init__(
        self, memory_mb: int, name: str = "esx1", *, reserved_mb: int = 0, swap_directory: Path | None = None,
        swap_room_mb: int | None = None, seed: int = 0, log: EventLog | None = None, quantum_ns: int = QUANTUM_NS,
        costs: CostModel = DEFAULT_COSTS, page_in_ns: int = SEEK_NS, clock: VirtualClock | None = None,
        storage: StorageOptions | None = None,
    ) -> None:  # fmt: skip
        self.name, self.quantum_ns, self.costs = name, quantum_ns, costs
        self.log = log if log is not None else EventLog()
        self._temporary = tempfile.TemporaryDirectory(prefix="vilab-") if swap_directory is None else None
        directory = Path(self._temporary.name) if self._temporary is not None else swap_directory
        assert directory is not None
        self.memory = MemoryManager(
            MachineMemory(memory_mb << 20), directory, reserved_mb=reserved_mb, seed=seed, log=self.log,
            swap_room_pages=None if swap_room_mb is None else swap_room_mb << 8, page_in_ns=page_in_ns,
        )  # fmt: skip
        self.vms: dict[str, HostedVm] = {}
        self.arrivals: dict[str, Arrival] = {}
        """Machines that are about to go on here."""
        self.departures: set[str] = set()
        """Machines that are about to go on elsewhere."""
        self.clock = clock if clock is not None else VirtualClock()
        self.now_ns = self.clock.now_ns
        self.storage = HostStorage(name, self.clock, self.log, storage)
        self.network = HostNetwork(name, self.clock, self.log)

    # Virtual machines --------------------------------------------------------------------------------------------

    def power_on(
        self, name: str, image: LoadedImage, config: MemoryConfig, *, engine: str = "svm",
        engine_options: dict[str, Any] | None = None, console: Console | None = None, ramdisk_bytes: int = 0,
        log: EventLog | None = None, swap_path: Path | None = None, disks: VmDisks | None = None,
        cards: Sequence[CardSettings] = (),
    ) -> HostedVm:  # fmt: skip
        """Start a guest. ``swap_path``: its .vswp file, if not in the host's directory. ``disks``: its files, the
        machine's from now on, and closed when it stops. ``cards``: network cards, and the port groups of their cables.

        Raises ``AdminError``: the name is taken, or memory or swap space is short.
        """
        options = engine_options or {}
        hosted = self._load(name, image, config, engine, options, console, ramdisk_bytes, log, swap_path, disks, cards)
        self.memory.start_sampling(hosted.client)
        self.network.announce(hosted.cables)
        return hosted

    def _load(
        self, name: str, image: LoadedImage, config: MemoryConfig, engine: str, options: dict[str, Any],
        console: Console | None, ramdisk_bytes: int, log: EventLog | None, swap_path: Path | None = None,
        disks: VmDisks | None = None, cards: Sequence[CardSettings] = (),
    ) -> HostedVm:  # fmt: skip
        """Admitted, and with its first memory content."""
        client = self.admit(name, config, engine, options, swap_path)
        clock, cables = VirtualClock(), MachineCables()
        try:
            cables = self.network.connect(name, cards, clock)
            grant = self.grant(client, image)
            vm = VirtualMachine(
                image, engine, config.size_mb << 20, console=console, log=log, costs=self.costs, grant=grant,
                engine_options=dict(options), ramdisk_bytes=ramdisk_bytes,
                adapters=() if disks is None else disks.adapters, cards=cables.cards, clock=clock,
            )  # fmt: skip
        except BaseException:
            cables.unplug()
            self.memory.power_off(client)
            raise
        hosted = HostedVm(name, config, client, vm, options, self.now_ns, ramdisk_bytes, disks=disks, cables=cables)
        cables.offset_ns = lambda: hosted.started_ns
        if disks is not None:
            disks.name, disks.on_lost = name, hosted.stop
        self.vms[name] = hosted
        return hosted

    def resume(
        self, snapshot: Snapshot, name: str | None = None, *, console: Console | None = None,
        config: MemoryConfig | None = None, log: EventLog | None = None, disks: VmDisks | None = None,
        swap_path: Path | None = None,
    ) -> HostedVm:  # fmt: skip
        """A virtual machine that goes on from a snapshot: a clone under another name, or the suspended one itself.

        Its clock goes on from where it stood. Pages that were never touched stay so. Where it had disks, their locks
        are taken again; refused if somebody has written to them meanwhile. ``disks``: locked, opened and compared by
        the caller already. ``swap_path``: as for ``power_on``.
        """
        config = snapshot.config if config is None else config
        if config.size_mb != snapshot.config.size_mb:
            raise AdminError(
                f"A snapshot of {snapshot.config.size_mb} MB does not fit a machine of {config.size_mb} MB."
            )
        copied = name is not None and name != snapshot.name and not snapshot.cids  # its file stays the original's
        if disks is None and not copied:
            disks = self._disks_of(snapshot)
        try:
            hosted = self._load(
                name or snapshot.name, snapshot.image, config, snapshot.vm.engine_name, snapshot.engine_options,
                console, snapshot.ramdisk_bytes, log, swap_path, disks, self._cards_of(snapshot, name),
            )  # fmt: skip
        except BaseException:
            if disks is not None:
                disks.close()
            raise
        self._restore(hosted, snapshot)
        self.network.announce(hosted.cables)
        return hosted

    def power_off(self, hosted: HostedVm) -> None:
        """All that it had is free; its swap file is gone. Raises ``AdminError`` where it is off already."""
        if self.vms.get(hosted.name) is not hosted:
            raise AdminError(f"{hosted.name} is not powered on on {self.name} any more: {hosted.stopped}")
        del self.vms[hosted.name]
        hosted.vm.close()
        hosted.cables.unplug()
        self.memory.power_off(hosted.client)
        hosted.stopped = hosted.stopped or f"{hosted.name} was powered off."
        hosted.give_back_disks()

    def snapshots(self, hosted: HostedVm) -> MachineSnapshots:
        """What can be done to the snapshots of a machine that was powered on from a file."""
        return MachineSnapshots(self, hosted)

    def replace(self, hosted: HostedVm, state: Snapshot) -> None:
        """The machine goes on as another moment of itself, on the disks that it has open.

        Raises ``AdminError`` where that cannot be: it is off then, and says why.
        """
        disks, name, console, log = hosted.disks, hosted.name, hosted.vm.console, hosted.vm.log
        swap_path = hosted.client.swap.path
        hosted.disks = None
        self.power_off(hosted)
        try:
            new = self._load(
                name, state.image, state.config, state.vm.engine_name, state.engine_options, console,
                state.ramdisk_bytes, log, swap_path, disks, state.cards,
            )  # fmt: skip
        except BaseException as error:
            hosted.disks, hosted.stopped = disks, f"{name} was powered off: {error}"
            hosted.give_back_disks()
            raise
        hosted.client, hosted.vm, hosted.engine_options = new.client, new.vm, new.engine_options
        hosted.disks, hosted.stopped, hosted.ended = disks, "", None
        self.vms[name] = hosted
        if disks is not None:
            disks.on_lost = hosted.stop
        self._restore(hosted, state)

    def _restore(self, hosted: HostedVm, state: Snapshot) -> None:
        try:
            hosted.vm.load_state(state.vm)
            self.memory.restore(hosted.client, state.pages, state.balloon)
        except BaseException:
            self.power_off(hosted)
            raise
        hosted.started_ns = self.now_ns - hosted.vm.clock.now_ns
        self.memory.start_sampling(hosted.client)

    def _cards_of(self, snapshot: Snapshot, name: str | None) -> tuple[CardSettings, ...]:
        """A clone has the cards that its memory knows, but their cables are in nothing: the addresses are another's."""
        if name is None or name == snapshot.name:
            return snapshot.cards
        return tuple(msgspec.structs.replace(card, connected=False) for card in snapshot.cards)

    def _disks_of(self, snapshot: Snapshot) -> VmDisks | None:
        if not snapshot.home:
            return None
        disks = VmDisks(VmHome(self.storage, snapshot.home), self.storage.clock, self.log)
        if disks.seal() != snapshot.cids:
            disks.close()
            raise AdminError(
                f"{snapshot.name} was not resumed: its disks were written to since, and its memory no longer fits "
                f"them. Power it on from {snapshot.home} instead."
            )
        return disks

    def suspend(self, hosted: HostedVm) -> Snapshot:
        """Off the machine, and a value to resume from. Its files are given back, as ESX does: another host may resume
        it, if it sees the same datastore. (``suspended``: as a file there.)"""
        snapshot = self.capture(hosted)
        self.power_off(hosted)
        return snapshot

    def capture(self, hosted: HostedVm) -> Snapshot:
        """What a suspended machine is made of; what its guest has written is on its disks. It is as it was."""
        if hosted.disks is not None and hosted.disks.thrown_away:
            raise AdminError(
                f"{hosted.name} was not suspended: what it has written to {' and '.join(hosted.disks.thrown_away)} "
                "(independent-nonpersistent) is thrown away when it goes off, and its memory relies on it."
            )
        if hosted.disks is not None:
            for bus in hosted.vm.buses:
                bus.flush()
        return hosted.snapshot()

    def clone(self, hosted: HostedVm, *names: str) -> list[HostedVm]:
        """More machines like this one as it is now. Refused for one with disks: all would write to the same ones."""
        if hosted.disks is not None and hosted.disks.adapters:
            raise AdminError(
                f"{hosted.name} was not cloned: it has disks, and its clones would write to them as well. Make "
                "a clone of its folder (vilab.migration.cloning.clone_now), which copies the disks, and power that on."
            )
        snapshot = hosted.snapshot()
        return [self.resume(snapshot, name) for name in names]

    def admit(
        self, name: str, config: MemoryConfig, engine: str, options: dict[str, Any], swap_path: Path | None = None
    ) -> MemoryClient:
        """Memory for a machine of that name. Raises ``AdminError``: the name is taken, or memory is short."""
        if name in self.vms or name in self.arrivals:
            raise AdminError(
                f"There is a virtual machine {name} on {self.name} already; give the new one another name."
            )
        small = engine == "svm" and options.get("paging", "nested") == "nested"
        return self.memory.admit(name, config, SVM_MONITOR_BYTES if small else MONITOR_BYTES, swap_path)

    def grant(self, client: MemoryClient, image: LoadedImage) -> MemoryGrant:
        """Its part of this machine. Raises ``AdminError`` for a BIOS."""
        if image.rom:
            raise AdminError(f"{image.name} is a BIOS, which a host does not start yet: run it with vilab run.")
        monitor = client.overhead
        # No table lies at machine address 0.
        first = monitor[1:] if monitor.start == 0 else monitor
        return MemoryGrant(self.memory.memory, first, client.pmap, range(0), client.balloon)

    # Time --------------------------------------------------------------------------------------------------------

    def run_for(self, ns: int) -> None:
        """Let so much virtual time pass."""
        self.run_until(self.now_ns + ns)

    def run_until(self, until_ns: int) -> None:
        """Let virtual time pass until then. A VM that stops does not stop the others."""
        while self.now_ns < until_ns:
            end_ns = min(self.now_ns + self.step_ns, until_ns)
            self.run_quantum(end_ns)
            self.pass_to(end_ns)

    @property
    def step_ns(self) -> int:
        """How long a quantum is now."""
        if any(hosted.runs and hosted.cables.busy(self.now_ns) for hosted in self.vms.values()):
            return min(self.quantum_ns, NETWORK_QUANTUM_NS)
        return self.quantum_ns

    def run_quantum(self, end_ns: int) -> None:
        """Every machine until then. One from a file that has stopped goes off: its files and its memory are free."""
        for hosted in list(self.vms.values()):
            if hosted.runs:
                self._slice(hosted, end_ns)
            if hosted.runs:
                if not hosted.stunned:
                    hosted.merge_step()
            elif hosted.disks is not None:
                self.power_off(hosted)

    def pass_to(self, end_ns: int) -> None:
        """What is due at the end of a quantum."""
        self.now_ns = end_ns
        self.clock.run_to(max(end_ns, self.clock.now_ns))
        WALL.run_due()
        self.memory.tick(end_ns)

    def wait(self, for_ns: int) -> None:
        """Let time pass on the clock of the host's storage, while its machines stand still: heartbeats go on."""
        pass_time(self.storage.clock, for_ns)

    def catch_up(self) -> None:
        """The clock is ahead after a wait: the machines have stood still meanwhile, and go on at its time."""
        behind_ns = self.clock.now_ns - self.now_ns
        if behind_ns > 0:
            for hosted in self.vms.values():
                hosted.started_ns += behind_ns
            self.now_ns = self.clock.now_ns

    def _slice(self, hosted: HostedVm, end_ns: int) -> None:
        if hosted.client.failed:
            hosted.stopped = hosted.client.failed
            return
        if hosted.client.blocked or hosted.stunned:
            # MODEL: time stands still for a blocked guest, and for one that is moved.
            hosted.started_ns += end_ns - self.now_ns
            return
        memory = self.memory
        while not hosted.is_at(end_ns):
            memory.running, memory.pause = hosted.id, hosted.vm.engine.pause
            try:
                hosted.run_to(end_ns)
            finally:
                memory.running = memory.pause = None
            if hosted.is_at(end_ns):
                break
            # What was promised is given to the last frame: only without any there is no going on.
            if not memory.reclaimer.make_room(2 * FLOOR_PAGES) and not memory.free_pages:
                hosted.stopped = (
                    f"{hosted.name} was stopped: {self.name} has no memory left for it, and nothing could be paged out."
                )
        memory.vm_ran(hosted.client, end_ns - self.now_ns)

    def close(self) -> None:
        """Everything off, every datastore left."""
        for arrival in list(self.arrivals.values()):
            arrival.discard()
        for hosted in list(self.vms.values()):
            self.power_off(hosted)
        try:
            self.storage.close()
        finally:
            if self._temporary is not None:
                self._temporary.cleanup()

    def cut_power(self) -> None:
        """The machine has no power any more: nothing is flushed, no lock is given back, no heartbeat is sent."""
        for arrival in list(self.arrivals.values()):
            arrival.discard()
        for hosted in list(self.vms.values()):
            disks, hosted.disks = hosted.disks, None
            if disks is not None:
                disks.abandon()
            hosted.stopped = hosted.stopped or f"{hosted.name} has stopped: {self.name} has no power any more."
            self.power_off(hosted)
        self.storage.cut_power()


def run_together(hosts: Sequence[Host], for_ns: int) -> None:
    """Hosts that share a clock, side by side: the shortest one's quantum at a time."""
    clock = hosts[0].clock
    if any(host.clock is not clock for host in hosts):
        raise VmmBug("Hosts that run side by side share a clock: give each of them the same one.")
    ends = [host.now_ns + for_ns for host in hosts]
    while any(host.now_ns < end_ns for host, end_ns in zip(hosts, ends, strict=True)):
        quantum_ns = min(host.step_ns for host in hosts)
        steps = [min(host.now_ns + quantum_ns, end) for host, end in zip(hosts, ends, strict=True)]
        for host, end_ns in zip(hosts, steps, strict=True):
            host.run_quantum(end_ns)
        for host, end_ns in zip(hosts, steps, strict=True):
            host.pass_to(end_ns)
