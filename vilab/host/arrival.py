"""A machine that is about to go on here: made from what another host says of it, without its files and its memory.

::

    MachineDescription ──> Arrival      memory admitted, devices in place, cables and disks not plugged in
    pages, again and again ──>          into its pmap; nobody runs
    state ──────────────────> load      vCPU, devices, what is behind each page
    the files' locks ───────> start     disks behind the adapters, cables in: it runs in the next quantum
                              discard   nothing of it is left

``describe`` is the other end: what the host that has the machine says of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.addresses import Ppn
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.guests.image import LoadedImage
from vilab.host.hosted_disk import HostedDisk
from vilab.host.hosted_vm import HostedVm
from vilab.host.vm_disks import VmDisks
from vilab.host.vmx_network import CardSettings
from vilab.memory.balloon import BalloonState
from vilab.memory.client import MemoryConfig
from vilab.memory.managed_pmap import PmapState
from vilab.memory.page_state import PageState
from vilab.network.held_port import HeldPort
from vilab.protocols import Console, Geometry, ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.scsi.state import Identity
from vilab.vmm.scsi_disks import AttachedDisk, ScsiAdapter
from vilab.vmm.vm import VirtualMachine, VmState

if TYPE_CHECKING:
    from vilab.host.host import Host

WITHOUT_FRAME = (int(PageState.UNTOUCHED), int(PageState.BALLOONED))


class DiskDescription(msgspec.Struct, frozen=True):
    """One disk of an adapter. ``node``: ``scsi0:0``. ``label``: what the machine's state calls it."""

    node: str
    target: int
    size_bytes: int
    sector_bytes: int
    geometry: Geometry
    identity: Identity
    label: str


class AdapterDescription(msgspec.Struct, frozen=True):
    controller: str
    disks: tuple[DiskDescription, ...]


class MachineDescription(msgspec.Struct, frozen=True):
    """What has to be known before a machine can be made. ``image`` without its bytes: they are in the memory."""

    name: str
    image: LoadedImage
    engine: str
    engine_options: dict[str, Any]
    config: MemoryConfig
    ramdisk_bytes: int
    cards: tuple[CardSettings, ...]
    adapters: tuple[AdapterDescription, ...]
    home: str


def describe(hosted: HostedVm) -> MachineDescription:
    """Raises ``AdminError``: it has no configuration file, or a disk that is a LUN itself."""
    if hosted.disks is None:
        raise AdminError(f"{hosted.name} has no configuration file on a datastore: only its host knows of it.")
    nodes = {id(device): node for node, device in hosted.disks.devices().items()}
    adapters = []
    for adapter in hosted.vm.adapters:
        disks = []
        for disk in adapter.disks:
            device = disk.device
            if not isinstance(device, HostedDisk):
                raise AdminError(
                    f"{disk.path} of {hosted.name} is a LUN in physical compatibility mode: commands that are under "
                    "way in it cannot go along. Power the machine off to move it."
                )
            disks.append(
                DiskDescription(
                    nodes[id(device)], disk.target, device.size_bytes, device.sector_bytes, device.geometry,
                    disk.identity, disk.path,
                )
            )  # fmt: skip
        adapters.append(AdapterDescription(adapter.controller, tuple(disks)))
    return MachineDescription(
        hosted.name, msgspec.structs.replace(hosted.vm.image, segments=(), zeroed=()), hosted.vm.engine.name,
        hosted.engine_options, hosted.config, hosted.ramdisk_bytes, hosted.cables.settings, tuple(adapters),
        hosted.disks.home.where,
    )  # fmt: skip


class AbsentDisk:
    """A ``BlockDevice`` of the right size, whose files another host still has."""

    read_only = False

    def __init__(self, disk: DiskDescription) -> None:
        self._label = disk.label
        self.size_bytes, self.sector_bytes, self.geometry = disk.size_bytes, disk.sector_bytes, disk.geometry

    def _refuse(self) -> BlockError:
        return BlockError("medium", f"{self._label} is not here yet: the machine has not arrived.")

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        raise self._refuse()

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        raise self._refuse()

    def flush(self) -> None:
        raise self._refuse()

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        raise self._refuse()


class Arrival:
    """Parameters
    ----------
    host : where it is to run. Its name, its memory and its ports are taken from now on.

    Raises
    ------
    AdminError : the name is taken, or memory, swap space, a port group or a port is short. Nothing is taken then.
    """

    def __init__(
        self, host: Host, machine: MachineDescription, *, console: Console | None = None, log: EventLog | None = None
    ) -> None:
        self.host, self.machine = host, machine
        self._disks: dict[str, HostedDisk] = {}
        client = host.admit(machine.name, machine.config, machine.engine, machine.engine_options)
        clock = VirtualClock()
        try:
            cables = host.network.connect(machine.name, machine.cards, clock)
            try:
                self._held = [HeldPort(card.port, card.port.link_up) for card in cables.cards]
                cards = [card._replace(port=port) for card, port in zip(cables.cards, self._held, strict=True)]
                vm = VirtualMachine(
                    machine.image, machine.engine, machine.config.size_mb << 20, console=console, log=log,
                    costs=host.costs, grant=host.grant(client, machine.image),
                    engine_options=dict(machine.engine_options), ramdisk_bytes=machine.ramdisk_bytes,
                    adapters=[self._adapter(each) for each in machine.adapters], cards=cards, clock=clock,
                )  # fmt: skip
            except BaseException:
                cables.unplug()
                raise
        except BaseException:
            host.memory.power_off(client)
            raise
        self.hosted = HostedVm(
            machine.name, machine.config, client, vm, dict(machine.engine_options), host.now_ns,
            machine.ramdisk_bytes, cables=cables,
        )  # fmt: skip
        cables.offset_ns = lambda: self.hosted.started_ns
        self._forget_what_was_loaded()
        host.arrivals[machine.name] = self

    def _adapter(self, adapter: AdapterDescription) -> ScsiAdapter:
        disks = []
        for disk in adapter.disks:
            hosted = self._disks[disk.node] = HostedDisk(AbsentDisk(disk), lambda _sentence: None)
            disks.append(AttachedDisk(disk.target, hosted, disk.identity, disk.label))
        return ScsiAdapter(adapter.controller, tuple(disks))

    def _forget_what_was_loaded(self) -> None:
        """A machine that is made has tables in its memory; this one has what it brings."""
        memory, pmap = self.host.memory, self.hosted.client.pmap
        for ppn in np.flatnonzero(pmap.states != PageState.UNTOUCHED).tolist():
            memory.release(pmap, Ppn(ppn), PageState.UNTOUCHED)

    # --- state --------------------------------------------------------------------------------------------------------

    def load(self, vm: VmState, pages: PmapState, balloon: BalloonState) -> npt.NDArray[np.int64]:
        """vCPU and devices; what is behind each page. The content of memory was put there before; the pages that have
        another state now are returned. ``AdminError``: another machine's."""
        hosted, memory = self.hosted, self.host.memory
        pmap = hosted.client.pmap
        wanted = np.frombuffer(pages.states, np.uint8)
        if len(wanted) != pmap.pages:
            raise AdminError(
                f"{hosted.name} was said to have {pmap.pages} pages, and {len(wanted)} arrived: the state is another "
                "machine's."
            )
        now = pmap.states
        others = np.flatnonzero(wanted != now)
        for ppn in others.tolist():
            state = PageState(int(wanted[ppn]))
            if int(state) in WITHOUT_FRAME:
                memory.release(pmap, Ppn(ppn), state)
            elif now[ppn] in WITHOUT_FRAME:
                memory.page_needed(pmap, Ppn(ppn), False)
        hosted.client.balloon.load_state(balloon)
        hosted.vm.load_state(vm, memory=False)
        return others

    # --- the end ------------------------------------------------------------------------------------------------------

    def start(self, disks: VmDisks) -> HostedVm:
        """The files are this host's, and the machine runs from the next quantum on."""
        hosted, host = self.hosted, self.host
        disks.stand_behind(self._disks)
        disks.name, disks.on_lost, hosted.disks = hosted.name, hosted.stop, disks
        hosted.started_ns = host.now_ns - hosted.vm.clock.now_ns
        for port in self._held:
            port.release()
        del host.arrivals[hosted.name]
        host.vms[hosted.name] = hosted
        host.memory.start_sampling(hosted.client)
        host.network.announce(hosted.cables)
        return hosted

    def discard(self) -> None:
        """It does not come. Again: nothing happens."""
        if self.host.arrivals.get(self.machine.name) is not self:
            return
        del self.host.arrivals[self.machine.name]
        self.hosted.vm.close()
        self.hosted.cables.unplug()
        self.host.memory.power_off(self.hosted.client)
