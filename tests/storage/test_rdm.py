"""Raw device mappings: the mapping opened is the LUN; commands go through or not; snapshots only above virtual ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.san import DISK_BYTES, San, claim
from tests.storage.vmdk_judges import patchwork, qemu_img
from vilab.errors import AdminError
from vilab.protocols import Lun
from vilab.storage.disks.descriptor import PHYSICAL_MAPPING, VIRTUAL_MAPPING
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.rdm import FIRST_LINE, RdmFiles, create_mapping, open_passthrough, parse_mapping, write_mapping
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vm_snapshots import VmSnapshots
from vilab.storage.disks.vmdk import read_descriptor
from vilab.storage.disks.vmdk_convert import convert
from vilab.storage.luns.paths import MultipathLun
from vilab.storage.scsi.lun_disk import RESERVE_6, read_cdb, write_cdb
from vilab.storage.scsi.lun_identity import INQUIRY_NAMES, REPORT_LUNS, luns_of, name_of
from vilab.storage.scsi.sense import Status


def mapped(folder: Path, physical: bool) -> tuple[San, MultipathLun, RdmFiles, Path]:
    san = San(disks=2)
    luns = claim(san.hosts[0].paths(), "fixed", san.clock, san.log)
    known: dict[str, Lun] = {lun.identity.name: lun for lun in luns}
    path = folder / "vm.vmdk"
    create_mapping(path, luns[1].identity.name, luns[1], physical)
    return san, luns[1], RdmFiles(known), path


@pytest.mark.parametrize("physical", [False, True])
def test_a_mapping_that_is_opened_is_the_lun(physical: bool, tmp_path: Path):
    san, lun, files, path = mapped(tmp_path, physical)
    described = read_descriptor(path)
    assert described.create_type == (PHYSICAL_MAPPING if physical else VIRTUAL_MAPPING)
    extent = "vm-rdmp.vmdk" if physical else "vm-rdm.vmdk"
    assert f'RW {DISK_BYTES // 512} VMFSRDM "{extent}"' in path.read_text()
    with open_chain(path, writable=True, files=files) as chain:
        assert chain.size_bytes == DISK_BYTES
        chain.write(512 * 100, b"\x5a" * 4096)
        chain.unmap(512 * 101, 512)
        chain.flush()
    content = san.disks[1].content
    assert content[51200:55296] == b"\x5a" * 512 + bytes(512) + b"\x5a" * 3072
    assert lun.read(51200, 512) == b"\x5a" * 512
    assert san.disks[0].content == bytes(DISK_BYTES)


def test_a_mapping_is_opened_only_where_its_lun_is_seen(tmp_path: Path):
    _, lun, files, path = mapped(tmp_path, False)
    with pytest.raises(AdminError, match="on its host only"):
        open_chain(path)
    with pytest.raises(AdminError, match="does not see"):
        open_chain(path, files=RdmFiles({}))
    with pytest.raises(AdminError, match="exists already"):
        create_mapping(path, lun.identity.name, lun, files=files)
    (tmp_path / "vm-rdm.vmdk").write_bytes(FIRST_LINE + b"lun = naa\n")
    with pytest.raises(AdminError, match="no raw device mapping"):
        open_chain(path, files=files)


def test_an_extent_outside_of_the_folder_is_refused_for_mappings_too(tmp_path: Path):
    _, lun, files, path = mapped(tmp_path, True)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "vm.vmdk"
    moved.write_bytes(path.read_bytes().replace(b"vm-rdmp.vmdk", b"../vm-rdmp.vmdk"))
    for opened in (lambda: open_chain(moved, files=files), lambda: open_passthrough(moved, files)):
        with pytest.raises(AdminError, match="outside of that folder"):
            opened()
    assert lun.read(0, 512) == bytes(512)


def test_in_physical_mode_every_command_reaches_the_lun_but_report_luns(tmp_path: Path):
    san, lun, files, path = mapped(tmp_path, True)
    disk = open_passthrough(path, files)
    typed: Lun = disk
    assert typed.submit(INQUIRY_NAMES) == lun.submit(INQUIRY_NAMES)
    assert name_of(disk.submit(INQUIRY_NAMES)[1]) == lun.identity.name, "the guest sees the LUN's own name"
    assert luns_of(lun.submit(REPORT_LUNS)[1]) == [0, 1]
    assert luns_of(disk.submit(REPORT_LUNS)[1]) == [0]
    assert disk.submit(b"\xa0" + bytes(11))[0] == Status.CHECK_CONDITION
    assert disk.submit(write_cdb(7, 1), b"\x33" * 512)[0] == Status.GOOD
    assert san.disks[1].content[7 * 512 : 8 * 512] == b"\x33" * 512
    assert disk.submit(read_cdb(7, 1))[1] == b"\x33" * 512
    assert disk.submit(RESERVE_6)[0] == Status.GOOD
    assert san.array.target.units[1].state.reserved_by is not None
    with pytest.raises(AdminError, match="physical compatibility mode"):
        open_passthrough(mapped_virtual(tmp_path, lun), files)


def mapped_virtual(folder: Path, lun: MultipathLun) -> Path:
    path = folder / "other.vmdk"
    create_mapping(path, lun.identity.name, lun)
    return path


def test_snapshots_are_possible_above_virtual_mappings_only(tmp_path: Path):
    san, _, files, path = mapped(tmp_path, False)
    content = bytearray(patchwork(DISK_BYTES, pieces=10))
    with SnapshotDisk(path, files) as disk:
        disk.chain.write(0, content)
        disk.snapshot()
        disk.chain.write(4096, b"\x11" * 4096)
        assert san.disks[1].content == content, "the LUN is as it was"
        disk.revert()
        assert disk.chain.read(0, DISK_BYTES) == content
        disk.chain.write(4096, b"\x22" * 4096)
        content[4096:8192] = b"\x22" * 4096
        disk.consolidate()
    assert san.disks[1].content == content
    assert sorted(os.listdir(tmp_path)) == ["vm-rdm.vmdk", "vm.vmdk"]


def test_a_snapshot_of_a_machine_with_a_physical_mapping_is_refused_as_a_whole(tmp_path: Path):
    _, lun, files, path = mapped(tmp_path, True)
    other = mapped_virtual(tmp_path, lun)
    before = sorted(os.listdir(tmp_path))
    with SnapshotDisk(path, files) as disk, pytest.raises(AdminError, match="physical compatibility"):
        disk.snapshot()
    assert sorted(os.listdir(tmp_path)) == before
    disks = {"scsi0:0": other.name, "scsi0:1": path.name}
    with VmSnapshots(tmp_path, "vm", disks, lambda _: pytest.fail("nothing changes"), files) as vm:
        with pytest.raises(AdminError, match="physical compatibility"):
            vm.take("1", state={"vm": b"x"})
        assert vm.snapshots == ()
        vm.chain("scsi0:0").write(0, bytes(512))
    assert sorted(set(os.listdir(tmp_path)) - set(before)) == ["vm.vmsd", "vm.vmsd.lock"]


def test_a_mapped_lun_is_converted_like_any_disk_and_qemu_reads_it_as_a_flat_one(tmp_path: Path):
    san, _, files, path = mapped(tmp_path, False)
    content = patchwork(DISK_BYTES, pieces=10)
    san.disks[1].content[:] = content
    with open_chain(path, files=files) as chain:
        assert chain.read(0, DISK_BYTES) == content
    # QEMU knows no mappings; the same descriptor with the LUN's image as a flat extent is what it can read
    (tmp_path / "lun.img").write_bytes(san.disks[1].content)
    flat = tmp_path / "flat.vmdk"
    flat.write_text(path.read_text().replace(VIRTUAL_MAPPING, "vmfs").replace('VMFSRDM "vm-rdm.vmdk', 'VMFS "lun.img'))
    raw = tmp_path / "raw.img"
    raw.write_bytes(content)
    assert qemu_img("compare", "-f", "vmdk", "-F", "raw", flat, raw).returncode == 0
    convert(path, tmp_path / "copy.vmdk", "monolithicSparse", files=files)
    assert qemu_img("compare", "-f", "vmdk", "-F", "raw", tmp_path / "copy.vmdk", raw).returncode == 0


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"'), min_size=1, max_size=200))
def test_what_is_written_is_read(name: str):
    assert parse_mapping(write_mapping(name), "it") == name


@given(st.binary(max_size=60), st.integers(0, 60))
def test_a_damaged_mapping_is_a_name_or_a_sentence(noise: bytes, at: int):
    good = write_mapping("naa.6000c29abcdef")
    try:
        assert '"' not in parse_mapping(good[:at] + noise + good[at + len(noise) :], "it")
    except AdminError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
