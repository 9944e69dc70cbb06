"""Stock Linux is suspended while it writes to its ext4, goes on on another host, and its files are what they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tools
from tests.host.storage_helpers import MB, register, run_until
from tests.host.suspended_site import WEB, digest, new_host
from tests.migration.test_storage_vmotion_debian import PROMPT, run, said
from vilab.guests import debian
from vilab.host.registered import power_on_file
from vilab.host.suspended import suspend_file
from vilab.host.vmx_disks import DiskSettings
from vilab.vmm.vm import QuietConsole

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]
MEMORY_MB = debian.MEMORY_BYTES >> 20


def test_linux_goes_on_with_what_it_has_begun(tmp_path: Path) -> None:
    tools.debian()
    one, two = (new_host(tmp_path, name, MEMORY_MB + 64) for name in ("esx1", "esx2"))
    one.storage.create_disk("[ds1] web/web.vmdk", 16 * MB)
    register(one, WEB, DiskSettings("scsi0:0", "web.vmdk"), append="quiet")
    config = one.storage.read_file(WEB).replace(b"kernel-disk", b"debian").replace(b'"8"', b'"%d"' % MEMORY_MB)
    one.storage.write_file(WEB, config)
    vm = power_on_file(one, WEB, console=QuietConsole())
    run_until(one, lambda: said(vm).endswith(PROMPT), 400)
    run(
        one,
        vm,
        "mkfs.ext4 -q /dev/sda && mount -t ext4 /dev/sda /mnt && ls -lR /bin > /mnt/a && md5sum /mnt/a > /tmp/s",
    )
    after = len(said(vm))
    vm.console.type("cp /mnt/a /mnt/b && sync && cp /mnt/b /mnt/c && md5sum -c -s /tmp/s && echo ended''well")
    for host, other in ((one, two), (two, one)):
        host.run_for(15_000_000)
        was = digest(vm)
        suspend_file(host, vm)
        vm = power_on_file(other, WEB, console=vm.console)
        assert digest(vm) == was
    assert "endedwell" not in said(vm)[after:]
    run_until(one, lambda: said(vm)[after:].endswith(PROMPT), 400)
    assert "endedwell\n" in said(vm)[after:]
    run(one, vm, "cmp /mnt/a /mnt/c && md5sum -c -s /tmp/s && umount /mnt && e2fsck -f -n /dev/sda")
    for host in (one, two):
        host.close()
