"""Storage VMotion between VMFS and NFS when its host dies or is taken for dead: another host finds one machine."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host.storage_helpers import SECOND
from tests.migration.storage_moves import (
    FILES,
    METHODS,
    SMALL,
    Site,
    Writer,
    idle,
    names,
    on,
)
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.mounted import MountedNfs
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.migration.storage_vmotion import MethodName, StorageVmotion
from vilab.storage.block import BlockError


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("to", ["san1", "nfs1"])
def test_a_host_without_power_in_the_middle_is_followed_by_another_one(
    tmp_path: Path, method: MethodName, to: str
) -> None:
    site = Site(tmp_path, san=True, nfs=True)
    one, two = site.host(), site.host()
    source = "nfs1" if to == "san1" else "san1"
    where = f"[{source}] web/web.vmx"
    vm = idle(one, where)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(50)
    writer.device.flush()
    held = bytes(writer.model)
    StorageVmotion(one, vm, to, method, SMALL)
    for _ in range(6):
        vm.merge_step()
    assert "web.vmx.moving" in names(two, f"[{to}] web")
    one.cut_power()
    site.hosts.remove(one)
    disks = _open_patiently(two, where)
    assert disks.devices()["scsi0:0"].read(0, len(held)) == held
    two.run_for(30_000_000_000)
    assert names(two, f"[{to}] web") == []
    assert on(two, f"[{source}] web") - {"web.vmsd"} == FILES
    assert disks.close() == []
    site.close()


class PowerCut(BaseException):
    """Nobody catches it: the host does nothing more."""


class Counted:
    """What is done to the names and files of two datastores; the power goes before one of it."""

    def __init__(self, host: Host, *datastores: str) -> None:
        self.done, self.cut_before = 0, -1
        for name in datastores:
            files = host.storage.mounted(name).files.files
            for what in ("open", "create", "rename", "remove"):
                setattr(files, what, self._counted(getattr(files, what)))

    def _counted(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            if self.done == self.cut_before:
                raise PowerCut
            self.done += 1
            return do(*arguments)

        return counted


def _move_counted(
    folder: Path, source: str, to: str, method: MethodName, cut_before: int
) -> tuple[Site, Writer, int, int]:
    """The move until the power goes; how much was done when it began, and at the end."""
    folder.mkdir()
    site = Site(folder, san=True, nfs=True)
    host = site.host()
    site.host()
    vm = idle(host, f"[{source}] web/web.vmx")
    writer = Writer(vm.disks.devices()["scsi0:0"], 4)
    writer.some(30)
    counted = Counted(host, source, to)
    began, counted.cut_before = counted.done, cut_before
    try:
        StorageVmotion(host, vm, to, method, SMALL)
        while vm.merge is not None:
            writer.some()
            writer.device.flush()
            vm.merge_step()
    except PowerCut:
        pass
    else:
        assert (cut_before, vm.disks.home.where) == (-1, f"[{to}] web/web.vmx")
    host.cut_power()
    site.hosts.remove(host)
    return site, writer, began, counted.done


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("source", "to"), [("san1", "nfs1"), ("nfs1", "san1")])
def test_power_cuts_between_vmfs_and_nfs_leave_one_machine(
    tmp_path: Path, source: str, to: str, method: MethodName
) -> None:
    _, _, began, end = _move_counted(tmp_path / "all", source, to, method, -1)
    lot, found = random.Random(3), dict.fromkeys((source, to), 0)
    for number in (*lot.sample(range(began, end - 20), 3), *lot.sample(range(end - 20, end), 4)):
        site, writer, _, done = _move_counted(tmp_path / str(number), source, to, method, number)
        (other,) = site.hosts
        assert done == number
        where = source if "web.vmx" in names(other, f"[{source}] web") else to
        try:
            disks = _open_patiently(other, f"[{where}] web/web.vmx")
        except AdminError as error:
            assert "has been moved to" in str(error), number  # noqa: PT017
            where = to
            disks = _open_patiently(other, f"[{to}] web/web.vmx")
        assert disks.devices()["scsi0:0"].read(0, len(writer.model)) == bytes(writer.model), number
        assert disks.close() == []
        other.run_for(60_000_000_000)
        _open_patiently(other, f"[{where}] web/web.vmx").close()  # what a dead host has locked is free by now
        assert names(other, f"[{to if where == source else source}] web") == [], number
        found[where] += 1
        site.close()
    assert min(found.values()) > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("source", "to"), [("san1", "nfs1"), ("nfs1", "san1")])
def test_a_host_whose_machine_was_taken_over_in_the_middle_does_not_switch(
    tmp_path: Path, source: str, to: str, method: MethodName
) -> None:
    """esx1 stands still for a while, and goes on with the move when esx2 has the machine."""
    site = Site(tmp_path, san=True, nfs=True)
    one, two = site.host(), site.host()
    vm = idle(one, f"[{source}] web/web.vmx")
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(50)
    writer.device.flush()
    held = bytes(writer.model)
    move = StorageVmotion(one, vm, to, method, SMALL)
    for _ in range(4):
        vm.merge_step()
    mounted = one.storage.mounted(source)
    mounted._held[0].abandon() if isinstance(mounted, MountedNfs) else mounted._stop()  # type: ignore[attr-defined]
    disks = _open_patiently(two, f"[{source}] web/web.vmx")
    while vm.merge is not None:
        vm.merge_step()
    assert move.state == "failed"
    with pytest.raises(BlockError):
        writer.write(0, bytes(512))
    one.run_for(SECOND)
    assert not vm.runs
    assert disks.devices()["scsi0:0"].read(0, len(held)) == held
    assert disks.close() == []
    two.run_for(40 * SECOND)
    _open_patiently(two, f"[{source}] web/web.vmx").close()
    assert names(two, f"[{to}] web") == []
    assert on(two, f"[{source}] web") - {"web.vmsd"} == FILES
    site.close()


def _open_patiently(host: Host, where: str) -> VmDisks:
    for _ in range(20):
        try:
            return VmDisks(VmHome(host.storage, where), host.storage.clock, host.log)
        except AdminError as error:
            last = error
            if "has been moved" in str(error):
                break
            host.wait(10_000_000_000)
    raise last
