"""Datastores: a folder and a volume behave alike, virtual disks live on both, and no path leaves one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.storage.vmfs_disks import Volume
from tests.storage.vmfs_judges import debugvmfs_cat, is_clean
from vilab.errors import AdminError
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.datastore import Datastore, DatastoreFiles, LocalDatastore
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_create import create
from vilab.storage.vmfs.datastore import VmfsDatastore


@pytest.fixture(params=["local", "vmfs"])
def datastore(request: pytest.FixtureRequest, tmp_path: Path) -> Datastore:
    if request.param == "local":
        (tmp_path / "store").mkdir()
        return LocalDatastore(tmp_path / "store", "store")
    return VmfsDatastore(Volume().host(), "store")


def test_names_and_content(datastore: Datastore):
    datastore.make_folder("vm")
    file = datastore.create("vm/vm.vmx")
    file.write(0, b"config")
    file.write(100_000, b"end")
    assert file.size_bytes == 100_003
    file.sync()
    file.close()
    with pytest.raises(AdminError):
        datastore.create("vm/vm.vmx")
    file = datastore.open("vm/vm.vmx")
    assert (file.read(0, 6), file.read_some(100_000, 50)) == (b"config", b"end")
    with pytest.raises(AdminError):
        file.write(0, b"x")
    file.close()
    datastore.create("vm/other").close()
    datastore.rename("vm/vm.vmx", "vm/other")
    assert datastore.names("vm") == ["other"]
    assert datastore.size_bytes("vm/other") == 100_003
    assert (datastore.exists("vm/vm.vmx"), datastore.is_folder("vm"), datastore.is_folder("vm/other")) == (
        False, True, False,
    )  # fmt: skip
    file = datastore.open("vm/other", writable=True)
    file.resize(10)
    file.lock()
    other = datastore.open("vm/other", writable=True)
    with pytest.raises(AdminError, match="in use"):
        other.lock()
    other.close()
    file.close()
    with pytest.raises(AdminError):
        datastore.remove("vm")
    datastore.remove("vm/other")
    datastore.remove("vm")
    datastore.sync()
    assert not datastore.exists("vm")
    total, free = datastore.space()
    assert 0 < free <= total
    for path in ("nothing", "no/thing"):
        with pytest.raises(AdminError):
            datastore.open(path)


@pytest.mark.parametrize("path", ["../x", "vm/../../x", "/../x", "vm\\..\\x", "a\0b", "n" * 300])
def test_no_path_leaves_the_datastore(datastore: Datastore, path: str):
    for action in (datastore.open, datastore.create, datastore.size_bytes, datastore.make_folder, datastore.names):
        with pytest.raises(AdminError):
            action(path)
    with pytest.raises(AdminError):
        datastore.rename("a", path)
    with pytest.raises(AdminError):
        datastore.remove("")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "store").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "store" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "store" / "up").symlink_to(tmp_path)
    store = LocalDatastore(tmp_path / "store")
    for path in ("link", "up/secret", "up/new"):
        with pytest.raises(AdminError, match="leads out"):
            store.open(path)
        with pytest.raises(AdminError, match="leads out"):
            store.create(path)


@pytest.mark.parametrize("kind", ["vmfs", "vmfsSparse", "monolithicSparse", "twoGbMaxExtentFlat"])
def test_a_virtual_disk_with_snapshots(datastore: Datastore, kind: str):
    """The same code as on this computer's own folders: created, written, snapshots taken and merged."""
    files, lot = DatastoreFiles(datastore), random.Random(4)
    datastore.make_folder("vm")
    disk = files.at("vm/vm.vmdk")
    sectors = 4096
    create(disk, sectors, kind, files=files)
    model = bytearray(sectors * SECTOR_BYTES)
    with SnapshotDisk(disk, files) as opened:
        for _ in range(3):
            for _ in range(5):
                at, data = lot.randrange(sectors - 300) * 512, lot.randbytes(512 * lot.choice((1, 8, 200)))
                opened.chain.write(at, data)
                model[at : at + len(data)] = data
            opened.snapshot()
        opened.commit(2)
        opened.chain.flush()
        top = opened.top
    with open_chain(top, files=files) as chain:
        assert chain.read(0, len(model)) == bytes(model)
    with pytest.raises(AdminError):
        open_chain(files.at("vm/vm.vmdk").parent.parent.parent / "elsewhere.vmdk", files=files)


@pytest.mark.interop
def test_a_flat_extent_on_a_volume(tmp_path: Path):
    """What the virtual machine has written to its disk is what debugvmfs finds in the flat file."""
    volume = Volume()
    host = volume.host()
    store = VmfsDatastore(host)
    files = DatastoreFiles(store)
    store.make_folder("vm")
    create(files.at("vm/vm.vmdk"), 20_000, "vmfs", files=files)
    with open_chain(files.at("vm/vm.vmdk"), writable=True, files=files) as chain:
        chain.write(512 * 19_000, b"W" * 1024)
        chain.flush()
    host.leave()
    image = volume.disk.save(tmp_path / "v.img")
    is_clean(image)
    flat = debugvmfs_cat(image, "/vm/vm-flat.vmdk")
    assert (len(flat), flat[512 * 19_000 : 512 * 19_002]) == (20_000 * 512, b"W" * 1024)
    assert flat.count(0) == len(flat) - 1024
