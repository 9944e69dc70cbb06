"""A machine whose disk moves between two folders of this computer, for exercises: its guest does nothing by itself.

::

    folder/ds1/web     web.vmx  web.vmdk      full of noise
    folder/ds2         empty                  a step of the move copies one square, 64 KB
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vilab.course.storage_move_lab import LINES
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.storage import StorageOptions
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.migration.changed_blocks import GRAIN_BYTES
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName
from vilab.vmm.vm import QuietConsole

SQUARE, SECTOR, LITTLE, MOST_ROUNDS = GRAIN_BYTES, 512, 65536, 8
OPTIONS = CopyOptions(step_bytes=SQUARE, little_bytes=LITTLE, most_rounds=MOST_ROUNDS)
OLD, NEW = "ds1", "ds2"
METHODS: tuple[MethodName, ...] = ("changed blocks", "snapshot")


@contextlib.contextmanager
def host_with(folder: Path) -> Iterator[Host]:
    """With the two folders as datastores."""
    swap = Path(tempfile.mkdtemp(prefix="swap-", dir=folder))
    host = Host(40, "esx1", swap_directory=swap, storage=StorageOptions(directory=swap))
    for name in (OLD, NEW):
        host.storage.add_local(name, folder / name)
    try:
        yield host
    finally:
        host.close()


@contextlib.contextmanager
def machine(disk_bytes: int) -> Iterator[tuple[Path, Host, HostedVm]]:
    """A machine in ``[ds1] web`` whose guest does nothing, its disk full of noise."""
    with tempfile.TemporaryDirectory(prefix="vilab-move-") as name:
        folder = Path(name)
        for datastore in (OLD, NEW):
            (folder / datastore).mkdir()
        with host_with(folder) as host:
            where = f"[{OLD}] web/web.vmx"
            host.storage.create_disk(f"[{OLD}] web/web.vmdk", disk_bytes)
            config = parse(LINES.encode(), where)
            add_disk(config, DiskSettings("scsi0:0", "web.vmdk"), "lsilogic")
            host.storage.write_file(where, write(config))
            vm = power_on_file(host, where, console=QuietConsole())
            disk_of(vm).write(0, random.Random(disk_bytes).randbytes(disk_bytes))
            yield folder, host, vm


def disk_of(vm: HostedVm) -> Any:
    assert vm.disks is not None
    return vm.disks.devices()["scsi0:0"]
