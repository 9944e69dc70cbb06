"""What two hosts tell each other before a machine moves: values, small enough to be sent.

::

    Host ──describe_host──> HostDescription      datastores, networks, VMkernel ports, CPU, memory, machines
    HostedVm ──describe_vm──> VmDescription      files, cards, engine, memory, what is being done to it
                                  └── both ──> ``compatibility.check``

The same datastore has the same identity on every host that sees it, whatever its name there::

    vmfs:44b2c0e8-5d4f16cc-...      the volume's UUID
    nfs:filer/export                server and export
    local:COMPUTER:/srv/vms         a folder of this computer: hosts of other computers have another one of that name

Reading a machine's description reads its configuration file and its disks' descriptors.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from vilab.errors import AdminError
from vilab.host.cpu_features import NO_MASK, CpuFeatures, CpuMask, host_features, vm_features
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.mounted import Mounted, MountedLocal, MountedNfs, MountedVmfs
from vilab.host.vm_disks import VmDisks
from vilab.host.vmx_disks import DiskSettings, Mode, adapters_of
from vilab.memory.client import MemoryConfig
from vilab.network.policies import SecurityPolicy
from vilab.storage.datastore import LocalDatastore
from vilab.storage.disk_file import Files
from vilab.storage.disks.descriptor import PHYSICAL_MAPPING, VIRTUAL_MAPPING
from vilab.storage.disks.rdm import MOST_BYTES, parse_mapping
from vilab.storage.disks.vmdk import read_descriptor
from vilab.storage.nfs.mount import parse_url
from vilab.storage.vmfs.layout import uuid_text
from vilab.vmm.vm import ENGINES

Mapping = Literal["", "virtual", "physical"]
Count = Annotated[int, msgspec.Meta(ge=0)]
IpAddress = Annotated[bytes, msgspec.Meta(min_length=4, max_length=4)]
Prefix = Annotated[int, msgspec.Meta(ge=0, le=32)]
"""What comes from another host and is nothing of the kind is refused where it is decoded."""


class DatastoreSeen(msgspec.Struct, frozen=True):
    """``name``: on this host. ``identity``: the same on every host. ``device``: LUN, URL or folder."""

    name: str
    kind: str
    identity: str
    device: str = ""
    state: str = "active"


class NetworkSeen(msgspec.Struct, frozen=True):
    """A port group. ``uplinks``: physical cards that its switch has. ``free_ports``: of the switch."""

    name: str
    switch: str
    vlan: Count = 0
    uplinks: tuple[str, ...] = ()
    mtu_bytes: Count = 1500
    free_ports: Count = 0
    security: SecurityPolicy = SecurityPolicy()


class VmkernelPort(msgspec.Struct, frozen=True):
    """``ip``: four bytes; ``prefix``: of its network, in bits."""

    name: str
    ip: IpAddress
    prefix: Prefix
    vmotion: bool = False


class HostDescription(msgspec.Struct, frozen=True):
    """``machines``: names that are taken, of those that are on their way to it too. ``migrations``: that it takes part
    in now. ``luns``: names of those that it sees. ``swap_room_pages``: for .vswp files."""

    name: str
    datastores: tuple[DatastoreSeen, ...]
    networks: tuple[NetworkSeen, ...]
    vmkernel: tuple[VmkernelPort, ...]
    cpu: CpuFeatures
    unreserved_pages: int
    swap_room_pages: int
    engines: tuple[str, ...] = ENGINES
    luns: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    migrations: Count = 0

    def datastore(self, identity: str) -> DatastoreSeen | None:
        return next((each for each in self.datastores if each.identity == identity), None)

    def network(self, name: str) -> NetworkSeen | None:
        return next((each for each in self.networks if each.name == name), None)

    @property
    def vmotion_port(self) -> VmkernelPort | None:
        return next((each for each in self.vmkernel if each.vmotion), None)


class DiskBacking(msgspec.Struct, frozen=True):
    """``file_name``: as the configuration has it. ``datastore``: identity; empty for a file in no datastore.
    ``mapping``: of a LUN, whose name is ``lun``."""

    node: str
    file_name: str
    datastore: str
    mode: Mode = "persistent"
    mapping: Mapping = ""
    lun: str = ""


class CardBacking(msgspec.Struct, frozen=True):
    """``connected``: the cable is in a port. What the guest relies on there: ``other_address``, it uses another address
    than the card was made with; ``promiscuous``, it has asked for every frame."""

    number: Count
    network: str
    connected: bool = True
    other_address: bool = False
    promiscuous: bool = False


class VmDescription(msgspec.Struct, frozen=True):
    """``home``: the configuration file, empty if there is none; ``datastore``: the identity of where it is, empty if
    it is in none. ``why_off``: empty while it runs. ``merging``: snapshots, or its folder is moved. ``console``: a
    person's ``terminal``, or nobody's."""

    name: str
    home: str
    datastore: str
    config: MemoryConfig
    overhead_pages: Count
    engine: str
    engine_options: dict[str, bool | int | float | str]
    cpu: CpuFeatures
    cards: tuple[CardBacking, ...] = ()
    disks: tuple[DiskBacking, ...] = ()
    ramdisk_bytes: Count = 0
    console: Literal["quiet", "terminal"] = "quiet"
    merging: bool = False
    why_off: str = ""


# --- hosts ------------------------------------------------------------------------------------------------------------


def describe_host(host: Host, mask: CpuMask = NO_MASK, migrations: int | None = None) -> HostDescription:
    """``mask``: what its processors do not have, or are to hide. ``migrations``: that it takes part in, if that is not
    what the host knows."""
    memory = host.memory
    return HostDescription(
        host.name, _datastores(host), _networks(host), _vmkernel(host), host_features(host.costs, mask),
        memory.unreserved_pages(), memory.swap_room(), ENGINES, tuple(sorted(host.storage.luns)),
        tuple(sorted({*host.vms, *host.arrivals})),
        len(host.arrivals) + len(host.departures) if migrations is None else migrations,
    )  # fmt: skip


def _datastores(host: Host) -> tuple[DatastoreSeen, ...]:
    storage = host.storage
    names = [info.name for info in storage.datastores()]
    mounted = [storage.mounted(name) for name in names]
    return tuple(DatastoreSeen(each.name, each.kind, identity_of(each), each.device, each.state) for each in mounted)


def identity_of(mounted: Mounted) -> str:
    """The same on every host that sees this datastore."""
    if isinstance(mounted, MountedVmfs):
        return f"vmfs:{uuid_text(mounted.member.volume.fs.uuid)}"
    if isinstance(mounted, MountedNfs):
        address = parse_url(mounted.device)
        return f"nfs:{address.server.lower()}{address.export.rstrip('/') or '/'}"
    if isinstance(mounted, MountedLocal) and isinstance(mounted.datastore, LocalDatastore):
        return f"local:{this_computer()}:{mounted.datastore.root}"
    return f"unknown:{mounted.device}"


def this_computer() -> str:
    """The same for all programs here, another one on another computer."""
    number = ""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            number = path.read_text().strip()
            break
        except OSError:
            continue
    return hashlib.sha256(f"{platform.node()} {number}".encode()).hexdigest()[:16]


def _networks(host: Host) -> tuple[NetworkSeen, ...]:
    seen = []
    for switch in host.network.switches:
        machines = sum(not port.is_uplink for port in switch.ports.values())
        for group in switch.groups.values():
            policies = switch.policies_of(group.name)
            order = policies.teaming.active + policies.teaming.standby
            seen.append(
                NetworkSeen(
                    group.name, switch.name, group.vlan, tuple(name for name in switch.nics if name in order),
                    switch.mtu_bytes, switch.num_ports - machines, policies.security,
                )
            )  # fmt: skip
    return tuple(seen)


def _vmkernel(host: Host) -> tuple[VmkernelPort, ...]:
    network = host.network
    return tuple(
        VmkernelPort(name, peer.ip, peer.prefix, name == network.vmotion) for name, peer in network.vmkernel.items()
    )


# --- machines ---------------------------------------------------------------------------------------------------------


def describe_vm(hosted: HostedVm) -> VmDescription:
    """Raises ``AdminError``: its configuration file or a disk's descriptor cannot be read now."""
    disks, options = hosted.disks, hosted.engine_options
    where = None if disks is None else disks.home.mounted
    return VmDescription(
        hosted.name, "" if disks is None else disks.home.where, "" if where is None else identity_of(where),
        hosted.config, len(hosted.client.overhead), hosted.vm.engine.name,
        {key: value for key, value in options.items() if isinstance(value, bool | int | float | str)},
        vm_features(hosted.vm), _cards(hosted), () if disks is None else _disks(disks), hosted.ramdisk_bytes,
        "terminal" if getattr(hosted.vm.console, "interactive", False) else "quiet",
        hosted.merge is not None, "" if hosted.runs else hosted.stopped or f"{hosted.name} does not run.",
    )  # fmt: skip


def _cards(hosted: HostedVm) -> tuple[CardBacking, ...]:
    cards = []
    for card in hosted.cables.settings:
        port = hosted.cables.ports.get(card.number)
        if port is None:
            cards.append(CardBacking(card.number, card.network, False))
            continue
        state = port.state
        other = state.initial is not None and state.effective != state.initial
        cards.append(CardBacking(card.number, state.group, state.connected, other, state.promiscuous))
    return tuple(cards)


def _disks(disks: VmDisks) -> tuple[DiskBacking, ...]:
    settings = adapters_of(disks.home.read())
    return tuple(_disk(disks, disk) for adapter in settings for disk in adapter.disks)


def _disk(disks: VmDisks, disk: DiskSettings) -> DiskBacking:
    mounted, files, path = disks.home.find(disk.file_name)
    mapping, lun = mapped_lun(_base(path, files), files)
    datastore = "" if mounted is None else identity_of(mounted)
    return DiskBacking(disk.node, disk.file_name, datastore, disk.mode, mapping, lun)


def _base(path: Path, files: Files) -> Path:
    """The disk below its redo logs."""
    for _ in range(256):
        described = read_descriptor(path, files)
        if not described.has_parent or not described.parent_hint:
            return path
        path = path.with_name(Path(described.parent_hint).name)
    raise AdminError(f"{path} has a parent that has a parent, and so on without an end: look at it with vilab vmdk.")


def mapped_lun(path: Path, files: Files) -> tuple[Mapping, str]:
    """What kind of a raw device mapping a disk is, and of which LUN."""
    described = read_descriptor(path, files)
    kinds: dict[str, Mapping] = {VIRTUAL_MAPPING: "virtual", PHYSICAL_MAPPING: "physical"}
    mapping = kinds.get(described.create_type, "")
    if not mapping or described.extents[0].file is None:
        return "", ""
    file = files.open(path.with_name(described.extents[0].file))
    try:
        return mapping, parse_mapping(file.read_some(0, MOST_BYTES + 1), str(path))
    finally:
        file.close()
