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

from pathlib import Path

import msgspec

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host import vmx
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.powering_on import PoweringOn
from vilab.host.vmx_settings import apply_settings, settings_of
from vilab.protocols import Console
from vilab.storage.nfs.lock import LockSettings
from vilab.storage.nfs.locks import LockedError


def power_on_file(
    host: Host, where: Path | str, *, console: Console | None = None, log: EventLog | None = None,
    patience_ns: int = 0, discard_suspended: bool = False,
) -> HostedVm:  # fmt: skip
    """Start what a .vmx file describes, or go on with it, if it is suspended; the file then says where the swap file
    is, and which addresses its network cards have.

    Parameters
    ----------
    where : ``[datastore1] web/web.vmx``, or a file of this computer.
    patience_ns : for so long it is tried again where the machine's locks on a file server are another host's: those of
        a dead host become free after 30 s. On VMFS a silent host is always waited for, 16 s.
    discard_suspended : start it anew, if it is suspended; its state is lost.

    Raises
    ------
    AdminError : the file cannot be read, has a value that cannot be, or names what vilab does not have; another host
        or program has the machine powered on; or the host refuses. The file is as it was, and nothing stays open.
    """
    steps, clock = PoweringOn(host, where, console, log, discard_suspended), host.storage.clock
    until_ns = clock.now_ns + patience_ns
    while (hosted := steps.step()) is None:
        held = steps.held
        assert held is not None
        wait_ns = held.again_ns
        if isinstance(held, LockedError):
            wait_ns = (host.storage.options.locks or LockSettings()).update_ns
            if clock.now_ns + wait_ns > until_ns:
                raise held
        host.wait(wait_ns)
    return hosted


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
