"""A virtual machine from its .vmx file, and its settings back into it.

::

    web.vmx ──settings──> size, reservation, limit, shares, image, engine ──> Host.power_on
       ^                                                                          │
       └──── sched.swap.derivedName: where its .vswp is ──────────────────────────┘

Beside the keys of ESX: ``vilab.image`` and ``vilab.engine``, what to run and how; ``vilab.append``, the kernel's
command line; ``vilab.ramdiskMB``, the size of a RAM disk.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import msgspec

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host import vmx
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.vmx_settings import VmSettings, apply_settings, settings_of, swap_path
from vilab.memory.client import MemoryConfig
from vilab.protocols import Console
from vilab.vmm.choices import usual_for
from vilab.vmm.runner import RunOptions, choose

MOST_RAMDISK_MB = 1024


def memory_config(settings: VmSettings) -> MemoryConfig:
    """What the memory manager has to know. A limit above the configured size is none."""
    limit_mb = settings.limit_mb
    if limit_mb is not None and limit_mb >= settings.memsize_mb:
        limit_mb = None
    return MemoryConfig(settings.memsize_mb, settings.reservation_mb, limit_mb, settings.shares)


def power_on_file(host: Host, path: Path, *, console: Console | None = None, log: EventLog | None = None) -> HostedVm:
    """Start what a .vmx file describes; the file then says where the swap file is.

    Raises
    ------
    AdminError : the file cannot be read, has a value that cannot be, or names what vilab does not have; or the host
        refuses. The file is as it was.
    """
    config = vmx.load(path)
    settings = settings_of(config)
    if settings.vcpus != 1:
        raise AdminError(f"{path}: numvcpus is {settings.vcpus}; a virtual machine has one processor here so far.")
    if settings.image is None:
        raise AdminError(f"{path} does not say what to run: set vilab.image to a bundled program, debian or a path.")
    engine = settings.engine or "svm"
    chosen = choose(RunOptions(settings.image, engine, settings.memsize_mb << 20, config.get("vilab.append") or ""))
    swap = swap_path(settings, PurePosixPath(path.as_posix()))
    hosted = host.power_on(
        settings.display_name, chosen.image, memory_config(settings), engine=engine,
        engine_options=usual_for(chosen.image.kind, engine, {}), console=console, log=log,
        ramdisk_bytes=_ramdisk_mb(config, path) << 20, swap_path=Path(swap),
    )  # fmt: skip
    apply_settings(config, msgspec.structs.replace(settings, swap_name=swap.name))
    vmx.save(config, path)
    return hosted


def save_settings(hosted: HostedVm, path: Path) -> None:
    """Make the file say what the machine is configured with now; all other lines stay."""
    config = vmx.load(path)
    memory = hosted.client.config
    settings = msgspec.structs.replace(
        settings_of(config), memsize_mb=memory.size_mb, reservation_mb=memory.reservation_mb,
        limit_mb=memory.limit_mb, shares=memory.shares,
    )  # fmt: skip
    apply_settings(config, settings)
    vmx.save(config, path)


def _ramdisk_mb(config: vmx.Vmx, path: Path) -> int:
    said = config.get("vilab.ramdiskMB") or "0"
    if not said.isdecimal() or int(said) > MOST_RAMDISK_MB:
        raise AdminError(f"{path}: vilab.ramdiskMB is {said!r}; it has to be a number from 0 to {MOST_RAMDISK_MB}.")
    return int(said)
