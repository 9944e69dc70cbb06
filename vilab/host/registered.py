"""A virtual machine from its .vmx file, and its settings back into it.

::

    web.vmx ──settings──> size, reservation, limit, shares, image, engine ──> Host.power_on
       ^                                                                          │
       └──── sched.swap.derivedName: where its .vswp is ──────────────────────────┘

    web.vmdk, [ds2] db.vmdk ──> locked, opened: see ``vm_disks``

The file is on a datastore, ``[datastore1] web/web.vmx``, or anywhere on this computer.

Beside the keys of ESX: ``vilab.image`` and ``vilab.engine``, what to run and how; ``vilab.append``, the kernel's
command line; ``vilab.ramdiskMB``, the size of a RAM disk.

MODEL: a .vswp file is a file of this computer. Of a machine on a VMFS volume or a file server it is in the host's own
folder, which ESX calls host-local swap, and ``sched.swap.derivedName`` stays as it is.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import msgspec

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host import vmx
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import read_config
from vilab.host.vmx_disks import adapters_of
from vilab.host.vmx_network import cards_of, write_addresses
from vilab.host.vmx_settings import VmSettings, apply_settings, settings_of, swap_path
from vilab.memory.client import MemoryConfig
from vilab.protocols import Console
from vilab.storage.nfs.lock import LockSettings
from vilab.storage.nfs.locks import LockedError
from vilab.vmm.choices import usual_for
from vilab.vmm.runner import RunOptions, choose
from vilab.vmm.scsi_disks import CONTROLLERS

MOST_RAMDISK_MB = 1024


def memory_config(settings: VmSettings) -> MemoryConfig:
    """What the memory manager has to know. A limit above the configured size is none."""
    limit_mb = settings.limit_mb
    if limit_mb is not None and limit_mb >= settings.memsize_mb:
        limit_mb = None
    return MemoryConfig(settings.memsize_mb, settings.reservation_mb, limit_mb, settings.shares)


def power_on_file(
    host: Host, where: Path | str, *, console: Console | None = None, log: EventLog | None = None, patience_ns: int = 0
) -> HostedVm:
    """Start what a .vmx file describes; the file then says where the swap file is,
    and which addresses its network cards have.

    Parameters
    ----------
    where : ``[datastore1] web/web.vmx``, or a file of this computer.
    patience_ns : for so long it is tried again where the machine's locks on a file server are another host's: those of
        a dead host become free after 30 s. On VMFS a silent host is always waited for, 16 s.

    Raises
    ------
    AdminError : the file cannot be read, has a value that cannot be, or names what vilab does not have; another host
        or program has the machine powered on; or the host refuses. The file is as it was, and nothing stays open.
    """
    home = VmHome(host.storage, where)
    config = read_config(home)
    settings = settings_of(config)
    if settings.vcpus != 1:
        raise AdminError(
            f"{home.where}: numvcpus is {settings.vcpus}; a virtual machine has one processor here so far."
        )
    if settings.image is None:
        raise AdminError(
            f"{home.where} does not say what to run: set vilab.image to a bundled program, debian or a path."
        )
    engine = settings.engine or "svm"
    adapters, cards = adapters_of(config), cards_of(config, settings.display_name)
    chosen = choose(
        RunOptions(
            settings.image, engine, settings.memsize_mb << 20, config.get("vilab.append") or "",
            disks=tuple(Path(disk.file_name) for adapter in adapters for disk in adapter.disks),
            controller=adapters[0].controller if adapters else CONTROLLERS[0], cards=tuple(card.kind for card in cards),
        )
    )  # fmt: skip
    ramdisk_bytes = _ramdisk_mb(config, home.where) << 20
    local = home.local_path()
    swap = None if local is None else swap_path(settings, PurePosixPath(local.as_posix()))
    disks = _locked(host, home, patience_ns)
    try:
        hosted = host.power_on(
            settings.display_name, chosen.image, memory_config(settings), engine=engine,
            engine_options=usual_for(chosen.image.kind, engine, {}), console=console, log=log,
            ramdisk_bytes=ramdisk_bytes, swap_path=None if swap is None else Path(swap), disks=disks,
            cards=cards,
        )  # fmt: skip
    except BaseException:
        disks.close()
        raise
    try:
        config = home.read()
        new = write_addresses(config, cards)
        if swap is not None:
            apply_settings(config, msgspec.structs.replace(settings_of(config), swap_name=swap.name))
        if new or swap is not None:
            home.write(config)
    except BaseException:
        host.power_off(hosted)
        raise
    return hosted


def _locked(host: Host, home: VmHome, patience_ns: int) -> VmDisks:
    """The machine's files, this host's now."""
    clock = host.storage.clock
    until_ns = clock.now_ns + patience_ns
    while True:
        try:
            return VmDisks(home, clock, host.log)
        except LockedError:
            interval_ns = (host.storage.options.locks or LockSettings()).update_ns
            if clock.now_ns + interval_ns > until_ns:
                raise
            host.wait(interval_ns)


def save_settings(hosted: HostedVm, path: Path | None = None) -> None:
    """Make the file say what the machine is configured with now; all other lines stay. ``path``: another file of this
    computer than the one that it was powered on from."""
    home = hosted.disks.home if hosted.disks is not None and path is None else None
    if home is None and path is None:
        raise AdminError(f"{hosted.name} was not powered on from a file, or is off: say which file is meant.")
    config = home.read() if home is not None else vmx.load(path or Path())
    memory = hosted.client.config
    settings = msgspec.structs.replace(
        settings_of(config), memsize_mb=memory.size_mb, reservation_mb=memory.reservation_mb,
        limit_mb=memory.limit_mb, shares=memory.shares,
    )  # fmt: skip
    apply_settings(config, settings)
    if home is not None:
        home.write(config)
    else:
        vmx.save(config, path or Path())


def _ramdisk_mb(config: vmx.Vmx, where: str) -> int:
    said = config.get("vilab.ramdiskMB") or "0"
    if not said.isdecimal() or int(said) > MOST_RAMDISK_MB:
        raise AdminError(f"{where}: vilab.ramdiskMB is {said!r}; it has to be a number from 0 to {MOST_RAMDISK_MB}.")
    return int(said)
