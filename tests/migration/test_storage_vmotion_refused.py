"""What Storage VMotion does not move, each in a sentence; the machine runs on where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.storage_moves import (
    MB,
    SMALL,
    WEB,
    Site,
    Writer,
    drive,
    idle,
    names,
    on,
)
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.vmx_disks import DiskSettings
from vilab.migration.storage_vmotion import MethodName, StorageVmotion


def test_what_cannot_be_moved_is_refused_in_a_sentence(tmp_path: Path) -> None:
    site = Site(tmp_path, san=True, nfs=True)
    host = site.host()
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])

    def refused(sentence: str, to: str = "ds2", method: MethodName = "changed blocks") -> None:
        before = names(host, "[local] web")
        with pytest.raises(AdminError, match=sentence):
            StorageVmotion(host, vm, to, method)
        assert names(host, "[local] web") == before
        assert vm.merge is None
        assert vm.runs
        writer.some()
        assert writer.agrees()

    refused("web was not moved: esx1 has no datastore 'san9'", "san9")
    refused("web was not moved to local: it is there already", "local")
    host.storage.add_local("same", tmp_path / "local")
    refused("web was not moved to same: it is there already", "same")
    refused("'vmotion' is no method", method="vmotion")  # type: ignore[arg-type]
    host.storage.write_file("[ds2] web/other.txt", b"mine")
    refused("web was not moved to ds2: its folder is there already, with other.txt in it")
    assert names(host, "[ds2] web") == ["other.txt"]
    (tmp_path / "ds2" / "web" / "other.txt").unlink()
    host.storage.write_file("[local] web/db.vmx", b"")
    refused("db.vmx in its folder is another machine's")
    (tmp_path / "local" / "web" / "db.vmx").unlink()
    taken = host.snapshots(vm).take("one", memory=False)
    refused("web was not moved to ds2: it has snapshots, which Storage VMotion does not move; delete them first")
    writer.some(50)
    host.snapshots(vm).begin_delete(taken.uid)
    assert vm.merge is not None
    with pytest.raises(AdminError, match="its snapshots are being merged"):
        StorageVmotion(host, vm, "ds2")
    drive(vm, lambda: None)
    vm.disks.snapshots.held = "web is being moved to esx2; wait until that has been done."
    refused("web was not moved to ds2: web is being moved to esx2; wait until that has been done")
    vm.disks.snapshots.held = ""
    assert site.server is not None
    site.server.stop()
    host.run_for(40_000_000_000)
    refused("web was not moved to nfs1: that datastore is inactive now", "nfs1")
    move = StorageVmotion(host, vm, "san1")
    for again in (lambda: StorageVmotion(host, vm, "ds2"), lambda: host.snapshots(vm).begin_delete(None)):
        with pytest.raises(AdminError, match=r"being merged|web is being moved to san1; wait"):
            again()
    for change in (lambda: host.snapshots(vm).take("no", memory=False), lambda: host.snapshots(vm).delete_all()):
        with pytest.raises(AdminError, match="web is being moved to san1; wait until that has been done"):
            change()
    with pytest.raises(AdminError, match="san1 was not removed: it has open files of web"):
        host.storage.remove("san1")
    drive(vm, lambda: None)
    assert move.state == "moved"
    host.power_off(vm)
    with pytest.raises(AdminError, match="it is off, or was not powered on from a file"):
        StorageVmotion(host, vm, "ds2")
    site.server.restart()
    site.close()


def test_a_machine_in_the_root_of_a_datastore_does_not_take_everything_along(site: Site, host: Host) -> None:
    host.storage.write_file("[local] other.iso", b"of somebody else")
    vm = idle(host, "[local] web.vmx")
    with pytest.raises(AdminError, match="it lies in the root of local, and not in a folder of its own"):
        StorageVmotion(host, vm, "ds2")


def test_disks_that_do_not_move_are_named(tmp_path: Path) -> None:
    site = Site(tmp_path, san=True)
    host = site.host()
    storage = host.storage
    storage.create_disk("[ds2] data/data.vmdk", MB)
    storage.create_disk("[local] web/tmp.vmdk", MB)
    storage.create_disk("[local] web/log.vmdk", MB)
    host.storage.attach_image(_image(tmp_path / "lun.img"))
    host.storage.rescan()
    lun = next(name for name, each in host.storage.luns.items() if each.size_bytes == 2 * MB)
    for name, physical in (("virtual", False), ("physical", True)):
        storage.create_rdm(f"[local] web/{name}.vmdk", lun, physical)
    cases = {
        "tmp.vmdk": ("independent-nonpersistent", r"scsi0:0 \(tmp.vmdk\) is independent-nonpersistent"),
        "[ds2] data/data.vmdk": ("persistent", "data.vmdk. is not in the machine's folder"),
        "physical.vmdk": ("persistent", "raw device mapping in physical compatibility mode"),
        "virtual.vmdk": ("persistent", "is a raw device mapping; map the LUN at the destination"),
    }
    for file_name, (mode, sentence) in cases.items():
        vm = idle(host, WEB, DiskSettings("scsi0:0", file_name, mode))  # type: ignore[arg-type]
        with pytest.raises(AdminError, match=sentence):
            StorageVmotion(host, vm, "san1")
        assert names(host, "[san1] web") == []
        host.power_off(vm)
    vm = idle(host, WEB, DiskSettings("scsi0:0", "log.vmdk", "independent-persistent"))
    with pytest.raises(AdminError, match="is independent, and takes no redo log; move it by changed blocks"):
        StorageVmotion(host, vm, "san1", "snapshot")
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(20)
    StorageVmotion(host, vm, "san1", options=SMALL)
    drive(vm, writer.some)
    assert vm.disks.home.where == "[san1] web/web.vmx"
    assert writer.agrees()
    assert {"tmp.vmdk", "physical.vmdk"} < on(host, "[san1] web")  # files of the folder, though nobody's disks
    site.close()


def _image(path: Path) -> Path:
    path.write_bytes(bytes(2 * MB))
    return path
