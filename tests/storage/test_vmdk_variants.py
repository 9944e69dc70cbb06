"""Every kind of virtual disk: ours read by others, theirs read by us, and into each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.vmdk_judges import dissect_reads, patchwork, qemu_agrees, qemu_img, qemu_io
from vilab.errors import AdminError
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.vmdk import read_descriptor
from vilab.storage.disks.vmdk_convert import TARGETS, convert, open_disk
from vilab.storage.disks.vmdk_create import CREATE_TYPES, create

QEMU_TYPES = (
    "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized",
)  # fmt: skip
WRITABLE = tuple(kind for kind in CREATE_TYPES if kind != "streamOptimized")
SIZES = (8 << 20, (5 << 20) + 3 * 512)
"""Whole grains and tables, and a rest of three sectors."""


@pytest.fixture(params=SIZES, ids=["whole", "odd"])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "in.raw"
    path.write_bytes(patchwork(request.param))
    return path


def whole(path: Path) -> bytes:
    with open_disk(path) as disk:
        return disk.read(0, disk.size_bytes)


@pytest.mark.parametrize("kind", CREATE_TYPES)
def test_what_we_write_is_read_by_qemu_by_dissect_and_by_us(kind: str, raw: Path, tmp_path: Path):
    disk = tmp_path / "disk.vmdk"
    convert(raw, disk, kind)
    assert whole(disk) == raw.read_bytes()
    assert read_descriptor(disk).create_type == kind
    qemu_agrees(disk, raw.read_bytes())
    found = dissect_reads(disk)
    assert len(found) > raw.stat().st_size - 8192
    assert found == raw.read_bytes()[: len(found)]


@pytest.mark.parametrize("kind", QEMU_TYPES)
def test_what_qemu_writes_is_read_by_us(kind: str, raw: Path, tmp_path: Path):
    disk = tmp_path / "theirs.vmdk"
    made = qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}", raw, disk)
    assert made.returncode == 0, made.stderr
    content = raw.read_bytes()
    found = whole(disk)
    assert found[: len(content)] == content
    assert not any(found[len(content) :])


@pytest.mark.parametrize("kind", QEMU_TYPES[:-1])
def test_what_qemu_has_made_is_written_by_us_and_read_by_qemu(kind: str, tmp_path: Path):
    disk = tmp_path / "theirs.vmdk"
    assert qemu_img("create", "-f", "vmdk", "-o", f"subformat={kind}", disk, "4M").returncode == 0
    content = patchwork(4 << 20, seed=3)
    before = read_descriptor(disk).cid
    with open_chain(disk, writable=True) as chain:
        for at in range(0, len(content), 40 * 512):
            if any(piece := content[at : at + 40 * 512]):
                chain.write(at, piece)
    qemu_agrees(disk, content)
    assert read_descriptor(disk).cid != before


@pytest.mark.parametrize("kind", WRITABLE)
def test_what_qemu_writes_into_ours_is_read_by_us_and_the_cid_is_another_one(kind: str, tmp_path: Path):
    disk = tmp_path / "ours.vmdk"
    create(disk, 8 << 11, kind)
    before = read_descriptor(disk).cid
    done = qemu_io(disk, "write -P 0x5a 1024 131072", "write -P 0xa5 5M 1536")
    assert done.returncode == 0, done.stdout + done.stderr
    content = bytearray(8 << 20)
    content[1024 : 1024 + 131072] = b"\x5a" * 131072
    content[5 << 20 : (5 << 20) + 1536] = b"\xa5" * 1536
    assert whole(disk) == content
    assert read_descriptor(disk).cid != before


@pytest.mark.parametrize("kind", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_a_disk_of_several_extents_is_one_disk(kind: str, tmp_path: Path):
    disk = tmp_path / "many.vmdk"
    described = create(disk, 9 << 11, kind, most_sectors=4 << 11)
    assert [line.sectors >> 11 for line in described.extents] == [4, 4, 1]
    content = patchwork(9 << 20, seed=5)
    with open_chain(disk, writable=True) as chain:
        chain.write(0, content)
    qemu_agrees(disk, content)
    assert dissect_reads(disk) == content


@pytest.mark.parametrize("to", TARGETS)
def test_every_kind_is_converted_back_to_the_same_bytes(to: str, tmp_path: Path):
    raw, first, second = tmp_path / "in.raw", tmp_path / "a.vmdk", tmp_path / "b.raw"
    raw.write_bytes(patchwork(3 << 20, seed=9))
    convert(raw, first, to)
    convert(first, second, "raw")
    assert second.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("space", ["thin", "thick", "eager"])
def test_thick_disks_take_their_space_at_once_and_thin_ones_do_not(space: str, tmp_path: Path):
    disk = tmp_path / "vm.vmdk"
    described = create(disk, 4 << 11, "vmfs", space)  # type: ignore[arg-type]
    used = (tmp_path / "vm-flat.vmdk").stat().st_blocks * 512
    assert (used == 0) == (space == "thin")
    assert (described.database("ddb.thinProvisioned") == "1") == (space == "thin")


def test_zero_grains_read_as_zeros_and_qemu_agrees(tmp_path: Path):
    disk = tmp_path / "zeros.vmdk"
    create(disk, 4 << 11, "monolithicSparse", zero_grains=True)
    content = bytearray(patchwork(4 << 20, seed=2, pieces=200))
    with open_chain(disk, writable=True) as chain:
        chain.write(0, content)
        chain.flush()
        chain.unmap(100 * 512, 3000 * 512)
        content[100 * 512 : 3100 * 512] = bytes(3000 * 512)
        assert chain.read(0, len(content)) == content
    assert whole(disk) == content
    qemu_agrees(disk, bytes(content))


def test_a_stream_cannot_be_written(tmp_path: Path):
    raw, disk = tmp_path / "in.raw", tmp_path / "stream.vmdk"
    raw.write_bytes(patchwork(1 << 20))
    convert(raw, disk, "streamOptimized")
    with pytest.raises(AdminError, match="cannot be written"):
        open_chain(disk, writable=True)


def test_convert_overwrites_nothing_and_leaves_nothing_where_it_fails(tmp_path: Path):
    raw, disk = tmp_path / "in.raw", tmp_path / "disk.vmdk"
    raw.write_bytes(patchwork(1 << 20))
    (tmp_path / "disk-flat.vmdk").write_bytes(b"precious")
    with pytest.raises(AdminError, match="exists already"):
        convert(raw, disk, "vmfs")
    assert (tmp_path / "disk-flat.vmdk").read_bytes() == b"precious"
    assert not disk.exists()
    convert(raw, tmp_path / "stream.vmdk", "streamOptimized")
    damaged = bytearray((tmp_path / "stream.vmdk").read_bytes())
    damaged[0x10010:0x10400] = bytes(0x3F0)
    (tmp_path / "stream.vmdk").write_bytes(damaged)
    with pytest.raises(AdminError, match="damaged"):
        convert(tmp_path / "stream.vmdk", tmp_path / "out.vmdk", "monolithicSparse")
    assert not (tmp_path / "out.vmdk").exists()
