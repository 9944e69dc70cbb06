"""Machines with the teaching kernel on a host's datastores, and a person who types at them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vilab.guests.tinyfs import read_content, read_volume
from vilab.host.host import Host, run_together
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.protocols import BlockDevice
from vilab.storage.disk_file import Files
from vilab.storage.disks.disk_chain import open_chain
from vilab.vmm.vm import QuietConsole

MB, SECOND, QUANTUM = 1 << 20, 1_000_000_000, 20_000_000
PROMPT = "shell> "
DISK_BYTES = 2 * MB
LINES = """.encoding = "UTF-8"
displayName = "{name}"
memsize = "8"
vilab.image = "kernel-disk"
vilab.append = "{append}"
ethernet0.virtualDev = "vlance"
"""


def register(host: Host, where: str, *disks: DiskSettings, controller: str = "lsilogic", append: str = "") -> str:
    """A configuration file with these disks; the default one is made too: ``name.vmdk`` beside it."""
    name = where.rpartition("/")[2].removesuffix(".vmx")
    if not disks:
        host.storage.create_disk(where.replace(".vmx", ".vmdk"), DISK_BYTES)
        disks = (DiskSettings("scsi0:0", f"{name}.vmdk"),)
    config = parse(LINES.format(name=name, append=append).encode(), where)
    for disk in disks:
        add_disk(config, disk, controller)
    host.storage.write_file(where, write(config))
    return where


def start(host: Host, where: str | Path, *lines: str) -> HostedVm:
    """Powered on, and at its prompt when these lines are done."""
    vm = power_on_file(host, where, console=QuietConsole())
    to_prompt(host, vm)
    for line in lines:
        type_line(host, vm, line)
    return vm


def run_until(host: Host, condition: Callable[[], bool], most_s: int = 60, others: tuple[Host, ...] = ()) -> None:
    for _ in range(most_s * SECOND // QUANTUM):
        if condition():
            return
        run_together([host, *others], QUANTUM)
    raise AssertionError("it has not come to that")


def to_prompt(host: Host, vm: HostedVm, after: int = 0, most_s: int = 60) -> str:
    def there() -> bool:
        assert vm.runs, (vm.stopped, vm.console.said[-500:])
        return vm.console.said[after:].endswith(PROMPT)

    run_until(host, there, most_s)
    return vm.console.said[after:].removesuffix(PROMPT)


def type_line(host: Host, vm: HostedVm, line: str, most_s: int = 60) -> str:
    """A command, and what it says."""
    after = len(vm.console.said)
    vm.console.type(line)
    return to_prompt(host, vm, after, most_s).partition("\n")[2]


def files_on(disk: BlockDevice) -> dict[str, bytes]:
    """What the teaching kernel would find there, by name."""
    return {each.name: read_content(disk, each) for each in read_volume(disk).files}


def files_in(path: Path, files: Files) -> dict[str, bytes]:
    with open_chain(path, files=files) as chain:
        return files_on(chain)


def disk_files(host: Host, text: str) -> dict[str, bytes]:
    """The same of a disk that nobody has open, by ``[datastore] path``."""
    mounted, _, place = host.storage.place(text)
    return files_in(place, mounted.files)
