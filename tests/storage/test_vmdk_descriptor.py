"""The descriptor as text and value; hostile descriptors and headers end in one sentence."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.storage.disks.descriptor import (
    ACCESSES,
    FILE_KINDS,
    MOST_SECTORS,
    NO_PARENT,
    Descriptor,
    ExtentLine,
    extent_path,
    parse,
    write,
)
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_check import check
from vilab.storage.disks.vmdk_convert import convert
from vilab.storage.disks.vmdk_create import create


def one_sentence(action: Callable[[], object]) -> bool:
    """It works, or is refused in one line; anything else that is raised is a defect."""
    try:
        action()
    except AdminError as error:
        return "\n" not in str(error)
    return True


def read_the_beginning(disk: Path) -> None:
    with open_chain(disk) as chain:
        chain.read(0, min(chain.size_bytes, 1 << 20))


U32 = st.integers(0, 0xFFFF_FFFF)
PLAIN = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters='"'), max_size=30)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.]{0,15}", fullmatch=True)
KNOWN = {"version", "cid", "parentcid", "createtype", "parentfilenamehint", *map(str.lower, ACCESSES)}


def settings_of(prefix: str) -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    names = NAMES.map(lambda name: prefix + name)
    usable = names.filter(lambda n: n.lower() not in KNOWN and n.lower().startswith("ddb.") == bool(prefix))
    pairs = st.lists(st.tuples(usable, PLAIN), max_size=4, unique_by=lambda pair: pair[0].lower())
    return pairs.map(tuple)


SIZES = st.integers(1, MOST_SECTORS // 8)
EXTENTS = st.one_of(
    st.builds(ExtentLine, st.sampled_from(ACCESSES), SIZES, st.just("ZERO")),
    st.builds(ExtentLine, st.sampled_from(ACCESSES), SIZES, st.sampled_from(FILE_KINDS), PLAIN),
    st.builds(ExtentLine, st.sampled_from(ACCESSES), SIZES, st.just("FLAT"), PLAIN, st.integers(0, 1 << 30)),
)
DESCRIPTORS = st.builds(
    Descriptor,
    cid=U32,
    create_type=PLAIN,
    extents=st.lists(EXTENTS, min_size=1, max_size=8).map(tuple),
    parent_cid=U32,
    parent_hint=st.none() | PLAIN,
    version=st.integers(1, 3),
    ddb=settings_of("ddb."),
    other=settings_of(""),
    pending_parent_cid=st.none() | U32,
)


@given(DESCRIPTORS)
def test_what_is_written_is_parsed_to_the_same_value(descriptor: Descriptor):
    assert parse(write(descriptor)) == descriptor


REAL = b"""# Disk DescriptorFile\r
version=1
encoding="UTF-8"
CID=5ea8d3c1
parentCID=ffffffff
createType="vmfs"

# Extent description
RW 409600 VMFS "thin-flat.vmdk"

# The Disk Data Base
#DDB
ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "200"
ddb.adapterType = "buslogic"
ddb.thinProvisioned = "1"
"""


def test_a_descriptor_as_esx_writes_it():
    described = parse(REAL)
    assert described.cid == 0x5EA8_D3C1
    assert described.parent_cid == NO_PARENT
    assert described.extents == (ExtentLine("RW", 409600, "VMFS", "thin-flat.vmdk"),)
    assert described.database("ddb.adapterType") == "buslogic"
    assert described.other == (("encoding", "UTF-8"),)


@given(st.binary(max_size=300), st.integers(0, len(REAL)), st.integers(0, 40))
def test_a_damaged_descriptor_is_a_value_or_a_sentence(noise: bytes, at: int, cut: int):
    assert one_sentence(lambda: parse(REAL[:at] + noise + REAL[at + cut :]))


@pytest.mark.parametrize("name", ["../x.vmdk", "/etc/passwd", "a/../../x", ".", "", "sub/../.."])
def test_an_extent_outside_of_the_folder_is_refused(name: str, tmp_path: Path):
    folder = tmp_path / "vm"
    folder.mkdir()
    (tmp_path / "x.vmdk").write_bytes(bytes(1024))
    disk = folder / "vm.vmdk"
    disk.write_bytes(REAL.replace(b"409600", b"2").replace(b"thin-flat.vmdk", name.encode()))
    for action in (open_chain, lambda path: convert(path, folder / "out.raw", "raw")):
        with pytest.raises(AdminError, match="outside of that folder"):
            action(disk)
    assert sorted(os.listdir(folder)) == ["vm.vmdk"]


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path):
    folder = tmp_path / "vm"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(1024))
    (folder / "thin-flat.vmdk").symlink_to(tmp_path / "secret")
    with pytest.raises(AdminError, match="outside"):
        extent_path(folder, "thin-flat.vmdk")
    assert extent_path(folder, "other.vmdk") == folder.resolve() / "other.vmdk"


def damaged_disks(folder: Path) -> list[Path]:
    """One small disk of each kind that has tables."""
    raw = folder / "in.raw"
    raw.write_bytes(b"\x11" * 65536 + bytes(65536) + b"\x22" * 65536)
    disks = []
    for kind in ("monolithicSparse", "streamOptimized", "vmfsSparse", "twoGbMaxExtentSparse"):
        convert(raw, folder / f"{kind}.vmdk", kind)
        suffix = {"vmfsSparse": "-delta", "twoGbMaxExtentSparse": "-s001"}.get(kind, "")
        disks.append(folder / f"{kind}{suffix}.vmdk")
    return disks


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_headers_and_tables_are_bytes_or_a_sentence_and_nothing_is_written(data: st.DataObject):
    folder = Path(tempfile.mkdtemp(prefix="vilab-"))
    try:
        file = data.draw(st.sampled_from(damaged_disks(folder)))
        disk = folder / (file.name.replace("-delta", "").replace("-s001", ""))
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            word = data.draw(st.integers(0, 40)) * 4
            near = data.draw(st.sampled_from([0, 512, 21 * 512, 22 * 512, 26 * 512, 2048, 2560, len(content) - 1536]))
            value = data.draw(st.one_of(U32, st.sampled_from([0, 1, 2, 0x7FFF_FFFF, 0xFFFF_FFFF])))
            at = (near + word) % (len(content) - 4)
            content[at : at + 4] = value.to_bytes(4, "little")
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content)))]
        file.write_bytes(content)
        check(disk)
        assert one_sentence(lambda: read_the_beginning(disk))
        assert file.read_bytes() == content
    finally:
        shutil.rmtree(folder)


def test_a_directory_that_would_fill_the_memory_is_refused(tmp_path: Path):
    disk = tmp_path / "big.vmdk"
    create(disk, 4096, "monolithicSparse")
    data = bytearray(disk.read_bytes())
    data[12:28] = (1 << 36).to_bytes(8, "little") + (1).to_bytes(8, "little")
    data[44:48] = (1).to_bytes(4, "little")
    disk.write_bytes(data)
    os.truncate(disk, 1 << 40)
    with pytest.raises(AdminError, match="too many"):
        open_chain(disk)


def test_a_missing_parent_is_a_sentence(tmp_path: Path):
    create(tmp_path / "vm.vmdk", 4096, "vmfs")
    with SnapshotDisk(tmp_path / "vm.vmdk") as disk:
        top = disk.snapshot()
    (tmp_path / "vm.vmdk").unlink()
    with pytest.raises(AdminError, match=r"vm\.vmdk cannot be opened: No such file"):
        open_chain(top)
