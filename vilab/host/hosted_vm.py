"""One virtual machine on a host: its guest, its part of the memory, and what has become of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vilab.errors import AdminError, GuestStopped
from vilab.host.host_network import MachineCables
from vilab.host.vm_disks import VmDisks
from vilab.host.vmx_network import CardSettings
from vilab.memory.balloon import BalloonState
from vilab.memory.client import MemoryClient, MemoryConfig
from vilab.memory.managed_pmap import PmapState
from vilab.vmm.records import Ended
from vilab.vmm.vm import QuietConsole, VirtualMachine, VmState


class Snapshot(msgspec.Struct, frozen=True):
    """A virtual machine as a value: what a clone, a resumed or a moved one begins with.

    ``vm``: vCPU, devices, time, and the content of guest memory, in order. ``pages``: what was behind each page;
    ``balloon``: the host's end of the driver's channel. ``home``: the configuration file, where there is one; disks are
    opened again from there. ``cids``: what each of them held, by node. ``cards``: its network cards, with the port
    groups that their cables were in.
    """

    name: str
    image: Any
    engine_options: dict[str, Any]
    config: MemoryConfig
    ramdisk_bytes: int
    vm: VmState
    pages: PmapState
    balloon: BalloonState
    home: str = ""
    cids: dict[str, int | None] = {}
    cards: tuple[CardSettings, ...] = ()


@dataclass
class HostedVm:
    """``started_ns``: the host's time when the guest's clock stood at 0. ``stopped``: why it runs no more, in a
    sentence; empty while it does. ``disks``: its files, until it stops. ``merge``: snapshots that are being merged
    while it runs; ``merge_problem``: why that was given up. ``stunned``: it stands still while it is moved."""

    name: str
    config: MemoryConfig
    client: MemoryClient
    vm: VirtualMachine
    engine_options: dict[str, Any]
    started_ns: int
    ramdisk_bytes: int = 0
    stopped: str = field(default="")
    ended: Ended | None = None
    disks: VmDisks | None = None
    merge: Iterator[int] | None = None
    merge_problem: str = ""
    stunned: bool = False
    cables: MachineCables = field(default_factory=MachineCables)

    @property
    def runs(self) -> bool:
        return not self.stopped and self.ended is None

    @property
    def id(self) -> int:
        """As in the frame table and in events."""
        return self.client.vm_id

    @property
    def console(self) -> QuietConsole:
        """Its serial line, if nobody sits at it. Raises ``AdminError`` where somebody does."""
        if not isinstance(self.vm.console, QuietConsole):
            raise AdminError(f"The console of {self.name} is somebody's terminal: read and type there.")
        return self.vm.console

    def stop(self, sentence: str) -> None:
        """It runs no more, and leaves the processor at the next boundary."""
        self.stopped = self.stopped or sentence
        self.vm.engine.pause()

    def merge_step(self) -> None:
        """One piece more, if snapshots are being merged. A failure ends that; what is left is consolidated later."""
        if self.merge is None:
            return
        try:
            next(self.merge)
        except StopIteration:
            self.merge = None
        except AdminError as error:
            self.merge, self.merge_problem = None, str(error)

    def give_back_disks(self) -> None:
        """Its files are free for others. What could not be given back is said with why it has stopped."""
        self.merge, disks, self.disks = None, self.disks, None
        if disks is not None:
            self.stopped = " ".join([self.stopped, *disks.close()]).strip()

    def run_to(self, host_ns: int) -> None:
        """Run until it is this late on the host. It may be earlier where the host has to do something first."""
        try:
            self.ended = self.vm.engine.run(host_ns - self.started_ns)
        except GuestStopped as stopped:
            self.stopped = str(stopped)
        if self.ended is not None and not self.stopped:
            self.stopped = self.ended.sentence

    def is_at(self, host_ns: int) -> bool:
        return not self.runs or self.vm.clock.now_ns + self.started_ns >= host_ns

    def snapshot(self) -> Snapshot:
        """Everything of it, at this moment; it goes on as if nothing had been."""
        image = msgspec.structs.replace(self.vm.image, segments=(), zeroed=())
        return Snapshot(
            self.name, image, self.engine_options, self.config, self.ramdisk_bytes, self.vm.save_state(),
            self.client.pmap.save_state(), self.client.balloon.save_state(),
            "" if self.disks is None else self.disks.home.where, {} if self.disks is None else self.disks.seal(),
            self.cables.settings,
        )  # fmt: skip
