"""Cylinders, heads, sectors: what each kind of disk says, and that the guest hears it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.host.hosted_disk import HostedDisk
from vilab.protocols import BlockDevice, Geometry
from vilab.storage.block import MemoryDisk
from vilab.storage.disks.disk_chain import DiskChain, open_chain
from vilab.storage.disks.redo_log_child import snapshot_file
from vilab.storage.disks.vmdk import read_descriptor
from vilab.storage.disks.vmdk_convert import convert
from vilab.storage.disks.vmdk_create import create
from vilab.storage.geometry import geometry_in, geometry_of
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.raw_disk import RawDisk
from vilab.storage.scsi.state import Identity, Nexus
from vilab.storage.scsi.target import Target
from vilab.storage.vmfs.lun import SharedDisk

ODD = Geometry(77, 5, 17)
SECTORS = 8192


def heard(device: BlockDevice) -> Geometry:
    """What a guest finds in the mode pages 03h and 04h."""
    target = Target(VirtualClock(), EventLog())
    nexus = Nexus("guest")
    target.add(0, device, Identity("1"))
    target.connect(nexus)
    target.execute(nexus, 0, bytes(6))  # hears that the power is on
    format_page, rigid = (
        target.execute(nexus, 0, bytes((0x1A, 8, page, 0, 255, 0))).data_in[4:] for page in (0x03, 0x04)
    )
    return Geometry(int.from_bytes(rigid[2:5], "big"), rigid[5], int.from_bytes(format_page[10:12], "big"))


def spoiled(path: Path, name: str, value: str) -> DiskChain:
    text = path.read_text()
    before = str(read_descriptor(path).database(f"ddb.geometry.{name}"))
    path.write_text(text.replace(f'ddb.geometry.{name} = "{before}"', f'ddb.geometry.{name} = "{value}"'))
    return open_chain(path)


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (1 << 20, Geometry(1, 64, 32)),
        (1 << 30, Geometry(512, 128, 32)),
        ((1 << 30) - 4096, Geometry(1023, 64, 32)),
        (2 << 30, Geometry(261, 255, 63)),
    ],
)
def test_a_disk_that_knows_only_its_size(size_bytes: int, expected: Geometry):
    disk = PagedDisk(size_bytes)
    assert disk.geometry == expected == heard(disk)


def test_every_disk_in_front_of_another_says_what_that_one_says(tmp_path: Path):
    create(tmp_path / "vm.vmdk", SECTORS, "vmfs", geometry=ODD)
    with open_chain(tmp_path / "vm.vmdk") as chain:
        assert HostedDisk(chain, print).geometry == ODD
        assert SharedDisk(chain).port("esx1").geometry == ODD


def test_the_descriptor_counts_for_copies_and_redo_logs_too(tmp_path: Path):
    base = tmp_path / "vm.vmdk"
    create(base, SECTORS, "vmfs", geometry=ODD)
    top = snapshot_file(base)
    for disk in (base, top):
        with open_chain(disk) as chain:
            assert chain.geometry == ODD == heard(chain)
        assert geometry_in(read_descriptor(disk).database) == ODD
    for kind in ("monolithicSparse", "streamOptimized"):
        copy = tmp_path / f"{kind}.vmdk"
        convert(top, copy, kind)
        with open_chain(copy) as chain:
            assert chain.geometry == ODD
    convert(top, tmp_path / "raw.img", "raw")
    with RawDisk(tmp_path / "raw.img") as raw:
        assert raw.geometry == geometry_of(SECTORS) != ODD


@pytest.mark.parametrize(
    ("name", "value"),
    [("heads", "0"), ("heads", "256"), ("sectors", "64"), ("cylinders", "-1"), ("cylinders", "16777216"),
     ("sectors", "x"), ("heads", "²"), ("cylinders", "9" * 5000)],
)  # fmt: skip
def test_a_descriptor_that_says_no_geometry_is_as_one_without(name: str, value: str, tmp_path: Path):
    base = tmp_path / "vm.vmdk"
    create(base, SECTORS, "vmfs", geometry=ODD)
    with spoiled(base, name, value) as chain:
        assert chain.geometry == geometry_of(SECTORS) == heard(chain)


def test_a_redo_log_without_one_has_its_parents(tmp_path: Path):
    base = tmp_path / "vm.vmdk"
    create(base, SECTORS, "vmfs", geometry=ODD)
    with spoiled(snapshot_file(base), "heads", "0") as chain:
        assert geometry_in(chain.top.descriptor.database) is None
        assert chain.geometry == ODD


@given(st.text(max_size=9), st.integers(0, 300), st.integers(0, 80))
def test_what_is_in_a_descriptor_fits_into_the_mode_pages(cylinders: str, heads: int, sectors: int):
    said = {"cylinders": cylinders, "heads": str(heads), "sectors": str(sectors)}
    found = geometry_in(lambda name: said[name.rpartition(".")[2]])
    assert found is None or (found.cylinders >> 24, found.heads >> 8, found.sectors >> 6) == (0, 0, 0)


def test_a_disk_in_memory_has_it_too():
    assert MemoryDisk(512 * 64 * 32 * 3).geometry == Geometry(3, 64, 32)
