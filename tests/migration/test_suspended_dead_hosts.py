"""A host dies at any of its writes to a VMFS volume while it suspends or resumes a machine; the next one takes over."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.host.storage_helpers import PROMPT, to_prompt, type_line
from tests.host.suspended_site import digest
from tests.migration.two_hosts import TwoHosts
from vilab.host.registered import power_on_file
from vilab.host.suspended import suspend_file
from vilab.host.suspension import suspension_of
from vilab.host.vm_home import VmHome
from vilab.protocols import ReadableBytes
from vilab.storage.paged_disk import PagedDisk
from vilab.vmm.vm import QuietConsole

SAN = "[san1] web/web.vmx"
POINTS = int(os.environ.get("VILAB_SUSPEND_WRITES", "24"))
"""Of about 170."""


class Dead(BaseException):
    """Nothing of a host's program goes on."""


class Writes:
    """Of all hosts to the LUN: ``count``. ``left``: so many are made before a host is dead; ``None``: it lives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.left, write = 0, None, PagedDisk.write

        def counted(disk: PagedDisk, offset_bytes: int, data: ReadableBytes) -> None:
            if self.left is not None:
                if not self.left:
                    raise Dead
                self.left -= 1
            self.count += 1
            write(disk, offset_bytes, data)

        monkeypatch.setattr(PagedDisk, "write", counted)


def test_a_host_that_dies_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes, lab = Writes(monkeypatch), TwoHosts(tmp_path)
    vm, host = lab.power_on(), lab.esx1
    to_prompt(host, vm)
    for line in ("mkfs", "put a b"):
        type_line(host, vm, line)
    before = writes.count
    suspend_file(host, vm)
    suspending = writes.count - before
    vm = power_on_file(host, SAN, console=vm.console)
    resuming = writes.count - before - suspending
    points = [(True, number) for number in range(suspending)] + [(False, number) for number in range(resuming)]
    seen = {True: 0, False: 0}
    for suspends, number in random.Random(3).sample(points, min(POINTS, len(points))):
        was = digest(vm)
        if not suspends:
            suspend_file(host, vm)
        writes.left, died = number, False
        try:
            if suspends:
                suspend_file(host, vm)
            else:
                power_on_file(host, SAN, console=vm.console)
        except Dead:
            died = True
        writes.left = None
        host.cut_power()
        lab.hosts.remove(host)
        host = lab.esx2 if lab.esx2 in lab.hosts else lab.add()
        suspended = suspension_of(VmHome(host.storage, SAN).read()) is not None
        assert suspended or died or not suspends
        vm = power_on_file(host, SAN, console=QuietConsole())
        assert (digest(vm) == was) == suspended
        assert suspended or vm.vm.clock.now_ns == 0
        assert not [name for name in host.storage.mounted("san1").datastore.names("web") if name.endswith(".vmss")]
        if suspended:
            vm.console.output += PROMPT.encode()
        else:
            to_prompt(host, vm)
        assert type_line(host, vm, "cat a") == "b\n"
        seen[suspended] += 1
    assert min(seen.values()) >= sum(seen.values()) // 6
    lab.close()
