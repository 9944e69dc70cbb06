"""Stock Linux on a VMFS volume: its own driver and file system, and a snapshot with its memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tools
from tests.host.storage_helpers import MB, SECOND, run_until
from vilab.guests import debian, debian_root
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.vmm.vm import QuietConsole

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]
PROMPT = debian_root.PROMPT.decode()
LINES = 'displayName = "deb"\nmemsize = "{}"\nvilab.image = "debian"\nvilab.append = "quiet"\n'


def said(vm: HostedVm) -> str:
    return vm.console.said.replace("\x1b[6n", "")


def run(host: Host, vm: HostedVm, line: str) -> str:
    """What a command says. It has to end well."""
    after = len(said(vm))
    vm.console.type(f"{line} && echo ended''well")
    run_until(host, lambda: said(vm)[after:].endswith(PROMPT), 400)
    text = said(vm)[after:].removesuffix(PROMPT)
    assert text.endswith("endedwell\n"), text
    return text


def volume(host: Host, image: Path) -> str:
    """A VMFS volume on a disk of the host."""
    with image.open("wb") as file:
        file.truncate(400 * MB)
    path = host.storage.attach_image(image)
    host.storage.rescan()
    return host.storage.create_vmfs(path, "disk1").name


def test_linux_with_a_buslogic_goes_back_to_a_snapshot_with_its_file_system_mounted(tmp_path: Path) -> None:
    tools.debian()
    memory_mb = debian.MEMORY_BYTES >> 20
    host = Host(memory_mb + 64, swap_directory=tmp_path, quantum_ns=100_000_000)
    name = volume(host, tmp_path / "disk.img")
    host.storage.create_disk(f"[{name}] deb/deb.vmdk", 16 * MB)
    config = parse(LINES.format(memory_mb).encode(), "deb.vmx")
    add_disk(config, DiskSettings("scsi0:0", "deb.vmdk"), "buslogic")
    host.storage.write_file(f"[{name}] deb/deb.vmx", write(config))
    vm = power_on_file(host, f"[{name}] deb/deb.vmx", console=QuietConsole())
    run_until(host, lambda: said(vm).endswith(PROMPT), 400)
    run(
        host,
        vm,
        "mkfs.ext4 -q /dev/sda && mount -t ext4 /dev/sda /mnt && ls -lR /bin > /mnt/a && md5sum /mnt/a > /tmp/s",
    )
    snapshots = host.snapshots(vm)
    taken = snapshots.take("mounted")
    run(host, vm, "rm /mnt/a && ls -lR /dev > /mnt/b && umount /mnt && mkfs.ext4 -q -F /dev/sda")
    snapshots.revert(taken.uid)
    run(host, vm, "md5sum -c -s /tmp/s && cat /mnt/a > /mnt/c && sync")
    snapshots.begin_delete(None)
    run(host, vm, "cp /mnt/a /mnt/d && umount /mnt && e2fsck -f -n /dev/sda")
    run_until(host, lambda: not snapshots.merging)
    run(host, vm, "mount -t ext4 /dev/sda /mnt && cmp /mnt/c /mnt/d && ls /mnt")
    host.run_for(SECOND)
    assert vm.merge_problem == ""
    host.close()
