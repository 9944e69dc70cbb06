"""Chains of redo logs: others read them, wrong parents are refused, and any sequence of operations is a flat model."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.vmdk_judges import dissect_reads, qemu_agrees, qemu_img, qemu_info, qemu_io
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.storage.disks.disk_chain import MOST_SNAPSHOTS, open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.redo_log_child import snapshot_file
from vilab.storage.disks.vmdk import read_descriptor
from vilab.storage.disks.vmdk_create import create
from vilab.storage.storage_events import SnapshotCommitted, SnapshotTaken

SIZE = 4 << 20
BASES = ("vmfs", "monolithicSparse", "twoGbMaxExtentSparse", "monolithicFlat")


def scribble(disk: SnapshotDisk, content: bytearray, seed: int, pieces: int = 30) -> None:
    lot = random.Random(seed)
    for _ in range(pieces):
        sectors = lot.choice((1, 8, 8, 130, 300))
        at = lot.randrange(SIZE // 512 - sectors) * 512
        data = lot.randbytes(sectors * 512)
        disk.chain.write(at, data)
        content[at : at + len(data)] = data


def whole(path: Path) -> bytes:
    with open_chain(path) as chain:
        return chain.read(0, chain.size_bytes)


def chain_of(folder: Path, base: str, snapshots: int) -> tuple[Path, list[bytes]]:
    """A chain and what each of its links reads as; the last is the top."""
    create(folder / "vm.vmdk", SIZE // 512, base)
    content, held = bytearray(SIZE), []
    with SnapshotDisk(folder / "vm.vmdk") as disk:
        for seed in range(snapshots + 1):
            scribble(disk, content, seed)
            held.append(bytes(content))
            if seed < snapshots:
                disk.snapshot()
        return disk.top, held


@pytest.mark.parametrize("base", BASES)
def test_a_chain_of_three_snapshots_is_read_by_others_link_by_link(base: str, tmp_path: Path):
    top, held = chain_of(tmp_path, base, 3)
    assert top.name == "vm-000003.vmdk"
    info = qemu_info(top)
    assert [Path(each["filename"]).name for each in info] == [
        "vm-000003.vmdk", "vm-000002.vmdk", "vm-000001.vmdk", "vm.vmdk",
    ]  # fmt: skip
    data = [each["format-specific"]["data"] for each in info]
    assert [each["parent-cid"] for each in data[:-1]] == [each["cid"] for each in data[1:]]
    for name, content in zip(("vm", "vm-000001", "vm-000002", "vm-000003"), held, strict=True):
        disk = tmp_path / f"{name}.vmdk"
        assert whole(disk) == content
        qemu_agrees(disk, content)
        assert dissect_reads(disk) == content


def test_what_qemu_writes_into_our_redo_log_is_seen_by_us_with_a_new_cid(tmp_path: Path):
    top, held = chain_of(tmp_path, "vmfs", 3)
    before = read_descriptor(top)
    done = qemu_io(top, "write -P 0x5a 1024 100k", "write -P 0x5b 3M 512")
    assert done.returncode == 0, done.stdout + done.stderr
    content = bytearray(held[-1])
    content[1024 : 1024 + 102400], content[3 << 20 : (3 << 20) + 512] = b"\x5a" * 102400, b"\x5b" * 512
    assert whole(top) == content
    after = read_descriptor(top)
    assert after.cid != before.cid
    assert after.parent_cid == before.parent_cid
    # and we go on where QEMU has stopped, though it leaves the header's free sector as it was
    with SnapshotDisk(top) as disk:
        scribble(disk, content, 77)
    qemu_agrees(top, bytes(content))


def test_a_child_that_qemu_has_made_is_read_and_written_by_us(tmp_path: Path):
    base, held = chain_of(tmp_path, "monolithicSparse", 0)
    child = tmp_path / "child.vmdk"
    assert qemu_img("create", "-f", "vmdk", "-b", base, "-F", "vmdk", child).returncode == 0
    assert qemu_io(child, "write -P 7 64k 64k").returncode == 0
    content = bytearray(held[0])
    content[65536:131072] = b"\x07" * 65536
    assert whole(child) == content
    with SnapshotDisk(child) as disk:
        scribble(disk, content, 5)
    qemu_agrees(child, bytes(content))


def test_a_parent_that_was_written_is_refused_by_both(tmp_path: Path):
    top, _ = chain_of(tmp_path, "vmfs", 2)
    with open_chain(tmp_path / "vm-000001.vmdk", writable=True) as chain:
        chain.write(0, bytes(512))
    with pytest.raises(AdminError, match="parent was written since"):
        open_chain(top)
    raw = tmp_path / "any.raw"
    raw.write_bytes(bytes(SIZE))
    assert qemu_img("compare", "-f", "vmdk", "-F", "raw", top, raw).returncode > 1, "an error, not a difference"


def test_opening_and_reading_and_taking_snapshots_leave_the_cid_as_it_is(tmp_path: Path):
    top, held = chain_of(tmp_path, "vmfs", 1)
    cid = read_descriptor(top).cid
    with SnapshotDisk(top) as disk:
        disk.chain.read(0, 4096)
        disk.snapshot()
    snapshot_file(tmp_path / "vm-000002.vmdk")
    assert read_descriptor(top).cid == cid
    assert whole(tmp_path / "vm-000003.vmdk") == held[-1]


@pytest.mark.parametrize("base", BASES)
def test_consolidating_leaves_the_base_alone_with_everything_in_it(base: str, tmp_path: Path):
    top, held = chain_of(tmp_path, base, 3)
    log, named, content = EventLog(keep=True), [], bytearray(held[-1])
    with SnapshotDisk(top, log=log) as disk:
        for step, _ in enumerate(disk.consolidate_steps(named.append)):
            assert disk.chain.read(0, SIZE) == content, "the machine sees nothing of it"
            scribble(disk, content, 1000 + step, pieces=2)
        assert disk.top.name == "vm.vmdk"
        assert disk.chain.read(0, SIZE) == content
    assert named == [tmp_path / "vm.vmdk"]
    assert not list(tmp_path.glob("*-00000*"))
    assert len(log.of(SnapshotTaken)) == 1
    assert len(log.of(SnapshotCommitted)) == 4
    qemu_agrees(tmp_path / "vm.vmdk", bytes(content))


def test_thirty_two_snapshots_in_a_row_and_no_more(tmp_path: Path):
    top, held = chain_of(tmp_path, "vmfs", MOST_SNAPSHOTS)
    assert whole(top) == held[-1]
    qemu_agrees(top, held[-1])
    before = sorted(tmp_path.iterdir())
    with SnapshotDisk(top) as disk:
        with pytest.raises(AdminError, match="32 in a row"):
            disk.snapshot()
        assert sorted(tmp_path.iterdir()) == before
        disk.consolidate()
        assert disk.chain.read(0, SIZE) == held[-1]
    qemu_agrees(tmp_path / "vm.vmdk", held[-1])


def test_a_snapshot_that_another_branch_needs_is_not_merged(tmp_path: Path):
    top, held = chain_of(tmp_path, "vmfs", 3)
    with SnapshotDisk(top) as disk:
        disk.revert_to(1)
        assert disk.top.name == "vm-000004.vmdk"
        assert disk.chain.read(0, SIZE) == held[1]
        with pytest.raises(AdminError, match="another branch"):
            disk.commit(2)
        assert disk.chain.read(0, SIZE) == held[1]
    assert whole(top) == held[-1]


def test_a_disk_that_someone_writes_is_opened_by_nobody_else(tmp_path: Path):
    top, _ = chain_of(tmp_path, "vmfs", 1)
    with SnapshotDisk(top), pytest.raises(AdminError, match="in use"):
        open_chain(top)


def test_a_chain_that_bites_its_tail_is_refused(tmp_path: Path):
    top, _ = chain_of(tmp_path, "vmfs", 1)
    base = tmp_path / "vm.vmdk"
    cid = read_descriptor(base).cid
    text = base.read_text().replace("parentCID=ffffffff", f'parentCID={cid:08x}\nparentFileNameHint="{top.name}"')
    base.write_text(text)
    top.write_text(top.read_text().replace(f"CID={read_descriptor(top).cid:08x}", f"CID={cid:08x}", 1))
    with pytest.raises(AdminError, match="its own ancestor"):
        open_chain(top)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 1023), st.integers(1, 300), st.integers(0, 255)),
        st.tuples(st.just("unmap"), st.integers(0, 1023), st.integers(1, 300), st.just(0)),
        st.tuples(st.sampled_from(["snapshot", "revert", "commit", "consolidate", "reopen", "flush"]),
                  st.integers(0, 40), st.just(0), st.just(0)),
    ),
    max_size=14,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(base=st.sampled_from(BASES), operations=OPERATIONS)
def test_any_sequence_of_operations_reads_as_the_flat_model(base: str, operations: list[tuple[str, int, int, int]]):
    size = 1024 * 512
    folder = Path(tempfile.mkdtemp(prefix="vilab-"))
    try:
        create(folder / "vm.vmdk", 1024, base)
        disk = SnapshotDisk(folder / "vm.vmdk")
        content, saved = bytearray(size), []
        for what, first, sectors, value in operations:
            if what in ("write", "unmap"):
                at, length = first * 512, min(sectors, 1024 - first) * 512
                if what == "write":
                    data = bytes((value + n) & 0xFF for n in range(512)) * (length // 512)
                    disk.chain.write(at, data)
                else:
                    data = bytes(length)
                    disk.chain.unmap(at, length)
                content[at : at + length] = data
            elif what == "snapshot":
                disk.snapshot()
                saved.append(bytes(content))
            elif what == "revert" and saved:
                disk.revert()
                content[:] = saved[-1]
            elif what == "commit" and saved:
                link = first % len(saved) + 1
                disk.commit(link)
                del saved[link - 1]
            elif what == "consolidate":
                disk.consolidate()
                saved.clear()
            elif what == "flush":
                disk.chain.flush()
            elif what == "reopen":
                top = disk.top
                disk.close()
                disk = SnapshotDisk(top)
            assert len(disk.chain.links) == len(saved) + 1
            assert disk.chain.read(0, size) == content
        assert disk.chain.read(5 * 512, 9 * 512) == content[5 * 512 : 14 * 512]
        top = disk.top
        disk.close()
        assert whole(top) == content
    finally:
        shutil.rmtree(folder)
