"""Hostile disks of every kind, alone and as links of a chain: bytes or a sentence, little memory, nothing written."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.vm_model import quick_folder
from vilab.errors import AdminError
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_check import check
from vilab.storage.disks.vmdk_convert import convert
from vilab.storage.disks.vmdk_create import CREATE_TYPES
from vilab.storage.disks.vmdk_layout import CowdHeader, KdmvHeader

U32 = st.integers(0, 0xFFFF_FFFF)
WORDS = U32 | st.sampled_from([0, 1, 2, 4, 21, 128, 512, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
TEXTS = st.sampled_from(
    [
        b"CID=",
        b"parentCID=",
        b"RW ",
        b"4096",
        b"99999999999999999999",
        b"SPARSE",
        b"VMFSRDM",
        b"ZERO",
        b'"../x"',
        b"\n",
        b'"',
    ]
)
MOST_BYTES = 64 << 20


def refused_in_a_line(action: Callable[[], object]) -> None:
    """Done, or refused in one line; whatever else is raised is a defect."""
    said = ""
    try:
        action()
    except AdminError as error:
        said = str(error)
    assert "\n" not in said


def chain_of(folder: Path, kind: str) -> Path:
    raw = folder / "in.raw"
    raw.write_bytes(b"\x11" * 65536 + bytes(65536) + b"\x22" * 65536)
    convert(raw, folder / "vm.vmdk", kind)
    raw.unlink()
    with SnapshotDisk(folder / "vm.vmdk") if kind != "streamOptimized" else open_snapshot(folder) as disk:
        disk.chain.write(4096, b"\x33" * 8192)
        disk.snapshot()
        disk.chain.write(70000 // 512 * 512, b"\x44" * 1024)
        return disk.top


def open_snapshot(folder: Path) -> SnapshotDisk:
    """A stream cannot be written, but what stands above it can."""
    from vilab.storage.disks.redo_log_child import snapshot_file

    return SnapshotDisk(snapshot_file(folder / "vm.vmdk"))


def damage(data: st.DataObject, content: bytearray) -> bytearray:
    for _ in range(data.draw(st.integers(1, 5))):
        if not content:
            break
        if content[:1] == b"#" or data.draw(st.booleans()):
            at = data.draw(st.integers(0, min(len(content), 1500)))
            piece = data.draw(TEXTS | st.binary(max_size=12))
            content[at : at + len(piece)] = piece
        else:
            near = data.draw(
                st.sampled_from([0, 512, 2048, 2560, 21 * 512, 22 * 512, 26 * 512, 27 * 512, len(content) - 1536])
            )
            at = max(0, near + 4 * data.draw(st.integers(0, 40)))
            content[at : at + 4] = data.draw(WORDS).to_bytes(4, "little")
    if data.draw(st.integers(0, 4)) == 0:
        del content[data.draw(st.integers(0, len(content))) :]
    return content


def look(top: Path, out: Path) -> None:
    """Everything that only reads. What is too large to be looked at whole is looked at in part."""
    check(top)

    def read() -> None:
        with open_chain(top) as chain:
            chain.read(0, min(chain.size_bytes, 1 << 18))
            end = chain.size_bytes // 512 * 512
            chain.read(end - min(end, 4096), min(end, 4096))
            if sum(size for _, size in chain.allocated(1 << 19)) <= MOST_BYTES:
                convert(top, out / "copy.vmdk", "monolithicSparse")

    refused_in_a_line(read)


@settings(max_examples=120, deadline=None)
@given(st.data(), st.sampled_from(CREATE_TYPES))
def test_a_chain_with_damage_anywhere_is_read_or_refused_and_left_alone(data: st.DataObject, kind: str):
    folder, out = (Path(tempfile.mkdtemp(prefix="vilab-", dir=quick_folder())) for _ in range(2))
    try:
        top = chain_of(folder, kind)
        file = data.draw(st.sampled_from(sorted(folder.iterdir())))
        file.write_bytes(damage(data, bytearray(file.read_bytes())))
        before = {path: path.read_bytes() for path in folder.iterdir()}
        look(top, out)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(out)


def hostile_kdmv(folder: Path, same_table: bool) -> Path:
    """32 TB in a file of 64 MB that is a hole: every table is there, or one is every table."""
    sectors, directory_at, tables = 1 << 36, 64, 1 << 15
    header = KdmvHeader(
        version=1,
        flags=1,
        capacity=sectors,
        grain_sectors=4096,
        descriptor_offset=1,
        descriptor_sectors=20,
        table_entries=512,
        redundant_gd_offset=0,
        gd_offset=directory_at,
        overhead=128,
    )
    text = (
        "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\n"
        f'createType="monolithicSparse"\nRW {sectors} SPARSE "h.vmdk"\n'
    )
    first = directory_at + tables * 4 // 512
    names = np.full(tables, first, "<u4") if same_table else np.arange(tables, dtype="<u4") * 4 + first
    with (folder / "h.vmdk").open("wb") as file:
        file.write(header.pack() + text.encode())
        file.seek(directory_at * 512)
        file.write(names.tobytes())
        file.truncate((first + tables * 4) * 512)
    return folder / "h.vmdk"


def test_a_disk_of_32_tb_in_a_small_file_costs_what_the_file_does(tmp_path: Path):
    disk = hostile_kdmv(tmp_path, same_table=False)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert check(disk).errors == []
    with open_chain(disk) as chain:
        assert chain.size_bytes == 1 << 45
        assert list(chain.allocated(1 << 19)) == []
        assert chain.read(1 << 44, 65536) == bytes(65536)
    convert(disk, tmp_path / "copy.vmdk", "streamOptimized")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200 << 10


def test_a_directory_that_names_one_table_for_all_is_refused(tmp_path: Path):
    disk = hostile_kdmv(tmp_path, same_table=True)
    assert "names one table twice" in check(disk).errors[0]
    with pytest.raises(AdminError, match="names one table twice"):
        open_chain(disk)
    delta = tmp_path / "vm-delta.vmdk"
    header = CowdHeader(
        version=1, flags=3, capacity=1 << 31, grain_sectors=1, gd_offset=4, gd_entries=1 << 19, free_sector=0
    )
    with delta.open("wb") as file:
        file.write(header.pack())
        file.write(np.full(1 << 19, 8192, "<u4").tobytes())
        file.truncate(16 << 20)
    (tmp_path / "vm.vmdk").write_text(
        "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\n"
        f'createType="vmfsSparse"\nRW {1 << 31} VMFSSPARSE "vm-delta.vmdk"\n'
    )
    with pytest.raises(AdminError, match="names one table twice"):
        open_chain(tmp_path / "vm.vmdk")
