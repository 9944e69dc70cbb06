"""Stock Linux copies and checks files on its ext4 while its disk moves from VMFS to a local folder and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tools
from tests.host.storage_helpers import MB, run_until
from vilab.guests import debian, debian_root
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.storage import StorageOptions
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName, StorageVmotion
from vilab.vmm.vm import QuietConsole

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]
PROMPT = debian_root.PROMPT.decode()
LINES = 'displayName = "deb"\nmemsize = "{}"\nvilab.image = "debian"\nvilab.append = "quiet"\n'


def said(vm: HostedVm) -> str:
    return vm.console.said.replace("\x1b[6n", "")


def run(host: Host, vm: HostedVm, line: str) -> None:
    """A command that has to end well."""
    after = len(said(vm))
    vm.console.type(f"{line} && echo ended''well")
    run_until(host, lambda: said(vm)[after:].endswith(PROMPT), 400)
    assert said(vm)[after:].removesuffix(PROMPT).endswith("endedwell\n"), said(vm)[after:]


def test_linux_works_on_its_file_system_while_the_disk_moves(tmp_path: Path) -> None:
    tools.debian()
    (tmp_path / "local").mkdir()
    memory_mb = debian.MEMORY_BYTES >> 20
    storage = StorageOptions(directory=tmp_path / "local")
    host = Host(memory_mb + 64, swap_directory=tmp_path, quantum_ns=100_000_000, storage=storage)
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(400 * MB)
    path = host.storage.attach_image(tmp_path / "disk.img")
    host.storage.rescan()
    host.storage.create_vmfs(path, "san1")
    host.storage.create_disk("[san1] deb/deb.vmdk", 16 * MB)
    config = parse(LINES.format(memory_mb).encode(), "deb.vmx")
    add_disk(config, DiskSettings("scsi0:0", "deb.vmdk"))
    host.storage.write_file("[san1] deb/deb.vmx", write(config))
    vm = power_on_file(host, "[san1] deb/deb.vmx", console=QuietConsole())
    run_until(host, lambda: said(vm).endswith(PROMPT), 400)
    run(
        host,
        vm,
        "mkfs.ext4 -q /dev/sda && mount -t ext4 /dev/sda /mnt && ls -lR /bin > /mnt/a && md5sum /mnt/a > /tmp/s",
    )
    moves: list[tuple[str, MethodName]] = [("local", "changed blocks"), ("san1", "snapshot")]
    for number, (to, method) in enumerate(moves):
        move = StorageVmotion(host, vm, to, method, CopyOptions(step_bytes=256 << 10))
        run(host, vm, f"cp /mnt/a /mnt/c{number} && sync && cp /mnt/c{number} /mnt/d{number}")
        run_until(host, lambda move=move: not move.running, 60)  # type: ignore[misc]
        assert (move.state, move.why, move.left) == ("moved", "", "")
        run(host, vm, f"cmp /mnt/a /mnt/c{number} && cmp /mnt/a /mnt/d{number} && md5sum -c -s /tmp/s")
    run(host, vm, "umount /mnt && e2fsck -f -n /dev/sda && mount -t ext4 /dev/sda /mnt && md5sum -c -s /tmp/s")
    host.close()
