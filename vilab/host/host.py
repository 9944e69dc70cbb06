"""An ESX host: one machine, a memory manager, and virtual machines that take turns.

::

    time ──────────────────────────────────────────────────────────────────>
          | vm 1 | vm 2 | vm 3 | tick | vm 1 | vm 2 | vm 3 | tick | ...
          └────── one quantum ─────────┘

Within a quantum every VM runs from its beginning to its end, one after another, in virtual time side by side.
MODEL: as many physical CPUs as there are virtual ones; who waits for a CPU is the scheduler's affair, later. At the
quantum's end the memory manager does what is due.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from vilab.addresses import PAGE_BYTES
from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.guests.image import LoadedImage
from vilab.host.hosted_vm import HostedVm, Snapshot
from vilab.machine.memory import MachineMemory
from vilab.memory.client import MemoryClient, MemoryConfig
from vilab.memory.grant import MemoryGrant
from vilab.memory.manager import FLOOR_PAGES, MemoryManager
from vilab.memory.swap_file import SEEK_NS
from vilab.protocols import Console
from vilab.vmm.vm import MONITOR_BYTES, VirtualMachine

QUANTUM_NS = 10_000_000
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
    """

    def __init__(
        self, memory_mb: int, name: str = "esx1", *, reserved_mb: int = 0, swap_directory: Path | None = None,
        swap_room_mb: int | None = None, seed: int = 0, log: EventLog | None = None, quantum_ns: int = QUANTUM_NS,
        costs: CostModel = DEFAULT_COSTS, page_in_ns: int = SEEK_NS,
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
        self.now_ns = 0

    # Virtual machines --------------------------------------------------------------------------------------------

    def power_on(
        self, name: str, image: LoadedImage, config: MemoryConfig, *, engine: str = "svm",
        engine_options: dict[str, Any] | None = None, console: Console | None = None, ramdisk_bytes: int = 0,
        log: EventLog | None = None, swap_path: Path | None = None,
    ) -> HostedVm:  # fmt: skip
        """Start a guest. ``swap_path``: its .vswp file, if not in the host's directory.

        Raises ``AdminError``: the name is taken, or memory or swap space is short.
        """
        hosted = self._load(name, image, config, engine, engine_options or {}, console, ramdisk_bytes, log, swap_path)
        self.memory.start_sampling(hosted.client)
        return hosted

    def _load(
        self, name: str, image: LoadedImage, config: MemoryConfig, engine: str, options: dict[str, Any],
        console: Console | None, ramdisk_bytes: int, log: EventLog | None, swap_path: Path | None = None,
    ) -> HostedVm:  # fmt: skip
        """Admitted, and with its first memory content."""
        client = self._admit(name, config, engine, options, swap_path)
        try:
            grant = self._grant(client, image)
            vm = VirtualMachine(
                image, engine, config.size_mb << 20, console=console, log=log, costs=self.costs, grant=grant,
                engine_options=dict(options), ramdisk_bytes=ramdisk_bytes,
            )  # fmt: skip
        except BaseException:
            self.memory.power_off(client)
            raise
        hosted = HostedVm(name, config, client, vm, options, self.now_ns, ramdisk_bytes)
        self.vms[name] = hosted
        return hosted

    def resume(
        self, snapshot: Snapshot, name: str | None = None, *, console: Console | None = None,
        config: MemoryConfig | None = None, log: EventLog | None = None,
    ) -> HostedVm:  # fmt: skip
        """A virtual machine that goes on from a snapshot: a clone under another name, or the suspended one itself.

        Its clock goes on from where it stood. Pages that were never touched stay so.
        """
        config = snapshot.config if config is None else config
        if config.size_mb != snapshot.config.size_mb:
            raise AdminError(
                f"A snapshot of {snapshot.config.size_mb} MB does not fit a machine of {config.size_mb} MB."
            )
        hosted = self._load(
            name or snapshot.name, snapshot.image, config, snapshot.vm.engine_name, snapshot.engine_options, console,
            snapshot.ramdisk_bytes, log,
        )  # fmt: skip
        try:
            hosted.vm.load_state(snapshot.vm)
            self.memory.restore(hosted.client, snapshot.pages, snapshot.balloon)
        except BaseException:
            self.power_off(hosted)
            raise
        hosted.started_ns = self.now_ns - hosted.vm.clock.now_ns
        self.memory.start_sampling(hosted.client)
        return hosted

    def power_off(self, hosted: HostedVm) -> None:
        """All that it had is free; its swap file is gone. Raises ``AdminError`` where it is off already."""
        if self.vms.get(hosted.name) is not hosted:
            raise AdminError(f"{hosted.name} is not powered on on {self.name} any more: {hosted.stopped}")
        del self.vms[hosted.name]
        hosted.vm.close()
        self.memory.power_off(hosted.client)
        hosted.stopped = hosted.stopped or f"{hosted.name} was powered off."

    def suspend(self, hosted: HostedVm) -> Snapshot:
        """Off the machine, and a value to resume from."""
        snapshot = hosted.snapshot()
        self.power_off(hosted)
        return snapshot

    def clone(self, hosted: HostedVm, *names: str) -> list[HostedVm]:
        """More machines like this one as it is now."""
        snapshot = hosted.snapshot()
        return [self.resume(snapshot, name) for name in names]

    def _admit(
        self, name: str, config: MemoryConfig, engine: str, options: dict[str, Any], swap_path: Path | None
    ) -> MemoryClient:
        if name in self.vms:
            raise AdminError(
                f"There is a virtual machine {name} on {self.name} already; give the new one another name."
            )
        small = engine == "svm" and options.get("paging", "nested") == "nested"
        return self.memory.admit(name, config, SVM_MONITOR_BYTES if small else MONITOR_BYTES, swap_path)

    def _grant(self, client: MemoryClient, image: LoadedImage) -> MemoryGrant:
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
            end_ns = min(self.now_ns + self.quantum_ns, until_ns)
            for hosted in list(self.vms.values()):
                if hosted.runs:
                    self._slice(hosted, end_ns)
            self.now_ns = end_ns
            self.memory.tick(end_ns)

    def _slice(self, hosted: HostedVm, end_ns: int) -> None:
        if hosted.client.failed:
            hosted.stopped = hosted.client.failed
            return
        if hosted.client.blocked:
            # MODEL: time stands still for a blocked guest.
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
        """Everything off."""
        for hosted in list(self.vms.values()):
            self.power_off(hosted)
        if self._temporary is not None:
            self._temporary.cleanup()
