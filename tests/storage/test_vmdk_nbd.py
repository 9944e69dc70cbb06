"""Our disks behind QEMU's NBD server, copied out and into by libnbd's nbdcopy; and chains that QEMU has made."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.vmdk_judges import PACKAGE, dissect_reads, patchwork, qemu_agrees, qemu_img, qemu_info, qemu_io
from tests.tools import require_tool
from vilab.errors import AdminError
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk import read_descriptor
from vilab.storage.disks.vmdk_check import check
from vilab.storage.disks.vmdk_create import CREATE_TYPES, create

SIZE = 4 << 20
LIBNBD = "the Debian package libnbd-bin"


@contextlib.contextmanager
def served(disk: Path, read_only: bool) -> Iterator[str]:
    """The address of a server for the disk, for as long as it is needed."""
    socket = disk.parent / "nbd.sock"
    socket.unlink(missing_ok=True)
    options = ["-f", "vmdk", "-t", "-k", str(socket), *(["-r"] if read_only else [])]
    with subprocess.Popen([require_tool("qemu-nbd", PACKAGE), *options, str(disk)]) as server:
        try:
            for _ in range(500):
                if socket.exists() or server.poll() is not None:
                    break
                time.sleep(0.02)
            assert server.poll() is None, "the server did not start"
            yield f"nbd+unix:///?socket={socket}"
        finally:
            server.terminate()
            server.wait(30)


def nbdcopy(source: object, target: object) -> None:
    command = [require_tool("nbdcopy", LIBNBD), "--flush", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def whole(path: Path) -> bytes:
    with open_chain(path) as chain:
        return chain.read(0, chain.size_bytes)


def our_chain(folder: Path, base: str, snapshots: int) -> tuple[Path, bytes]:
    create(folder / "vm.vmdk", SIZE // 512, base)
    content = b""
    with SnapshotDisk(folder / "vm.vmdk") as disk:
        for seed in range(snapshots + 1):
            content = patchwork(SIZE, seed, 20)
            disk.chain.write(seed * 4096, content[seed * 4096 :])
            content = disk.chain.read(0, SIZE)
            if seed < snapshots:
                disk.snapshot()
        return disk.top, content


@pytest.mark.parametrize("base", [kind for kind in CREATE_TYPES if kind not in ("streamOptimized", "vmfsSparse")])
def test_a_chain_of_ours_served_by_qemu_is_copied_out_by_nbdcopy(base: str, tmp_path: Path):
    top, content = our_chain(tmp_path, base, 3)
    with served(top, read_only=True) as address:
        nbdcopy(address, tmp_path / "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == content


@pytest.mark.parametrize("base", ["vmfs", "monolithicSparse", "twoGbMaxExtentSparse"])
def test_what_nbdcopy_writes_into_a_chain_of_ours_is_read_by_us(base: str, tmp_path: Path):
    top, before = our_chain(tmp_path, base, 3)
    cid, below = read_descriptor(top).cid, whole(tmp_path / "vm-000002.vmdk")
    content = patchwork(SIZE, 77)
    raw = tmp_path / "in.raw"
    raw.write_bytes(content)
    with served(top, read_only=False) as address:
        nbdcopy(raw, address)
    assert whole(top) == content != before
    assert read_descriptor(top).cid != cid
    assert whole(tmp_path / "vm-000002.vmdk") == below
    assert check(top).errors == []
    qemu_agrees(top, content)


def their_chain(folder: Path, subformat: str) -> tuple[Path, list[bytes]]:
    """A base and three children, all made and written by QEMU; what each of them reads as."""
    base = folder / "base.vmdk"
    assert qemu_img("create", "-f", "vmdk", "-o", f"subformat={subformat}", base, SIZE).returncode == 0
    content, held, top = bytearray(SIZE), [], base
    for number in range(4):
        if number:
            child = folder / f"child{number}.vmdk"
            assert qemu_img("create", "-f", "vmdk", "-b", top, "-F", "vmdk", child).returncode == 0
            top = child
        at, size, value = number * 300 * 1024 + 512, 500 * 1024, 0x10 + number
        assert qemu_io(top, f"write -P {value:#x} {at} {size}").returncode == 0
        content[at : at + size] = bytes([value]) * size
        held.append(bytes(content))
    return top, held


@pytest.mark.parametrize("subformat", ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse"])
def test_a_chain_of_three_children_of_qemu_is_read_and_gone_on_with_by_us(subformat: str, tmp_path: Path):
    top, held = their_chain(tmp_path, subformat)
    for name, expected in zip(("base", "child1", "child2", "child3"), held, strict=True):
        assert whole(tmp_path / f"{name}.vmdk") == expected
        assert check(tmp_path / f"{name}.vmdk").errors == []
    content = bytearray(held[-1])
    with SnapshotDisk(top) as disk:
        disk.chain.write(1 << 20, b"\x77" * 4096)
        content[1 << 20 : (1 << 20) + 4096] = b"\x77" * 4096
        newest = disk.snapshot()
        disk.chain.write(0, b"\x78" * 512)
        content[:512] = b"\x78" * 512
    qemu_agrees(newest, bytes(content))
    assert dissect_reads(newest) == content
    assert len(qemu_info(newest)) == 5


def test_a_cid_without_its_leading_zeros_is_replaced_where_qemu_looks(tmp_path: Path):
    """QEMU leaves them out: one disk in sixteen of its making has such a CID."""
    base = tmp_path / "base.vmdk"
    assert qemu_img("create", "-f", "vmdk", base, SIZE).returncode == 0
    text = base.read_bytes()[512 : 21 * 512]
    cid = read_descriptor(base).cid
    shorter = re.sub(rb"^CID=[0-9a-f]+", b"CID=5c0ffe", text, flags=re.MULTILINE).ljust(len(text), b"\0")[: len(text)]
    with base.open("r+b") as file:
        file.seek(512)
        file.write(shorter)
    content = bytearray(SIZE)
    with open_chain(base, writable=True) as chain:
        chain.write(4096, b"\x55" * 4096)
        content[4096:8192] = b"\x55" * 4096
    now = read_descriptor(base).cid
    assert now not in (cid, 0x5C0FFE)
    assert f"CID={now:08x}".encode() in base.read_bytes()[512 : 21 * 512]
    qemu_agrees(base, bytes(content))
    child = tmp_path / "child.vmdk"
    assert qemu_img("create", "-f", "vmdk", "-b", base, "-F", "vmdk", child).returncode == 0
    qemu_agrees(child, bytes(content))


@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentSparse"])
def test_a_chain_of_qemu_is_consolidated_by_us_and_read_by_both(subformat: str, tmp_path: Path):
    top, held = their_chain(tmp_path, subformat)
    for left in (2, 1, 0):
        with SnapshotDisk(top) as disk:
            disk.commit(1)
            assert len(disk.chain.links) == left + 1
            top = disk.top
        qemu_agrees(top, held[-1])
        assert check(top).errors == []
        assert whole(top) == held[-1]


def test_a_parent_cid_that_is_wrong_is_refused_by_both(tmp_path: Path):
    top, content = our_chain(tmp_path, "vmfs", 3)
    parent = read_descriptor(top).parent_cid
    top.write_text(top.read_text().replace(f"parentCID={parent:08x}", f"parentCID={parent ^ 1:08x}"))
    with pytest.raises(AdminError, match="parent was written since"):
        open_chain(top)
    assert "parent was written since" in check(top).errors[0]
    raw = tmp_path / "any.raw"
    raw.write_bytes(content)
    compared = qemu_img("compare", "-f", "vmdk", "-F", "raw", top, raw)
    assert compared.returncode > 1, "an error, not a difference"
    top.write_text(top.read_text().replace(f"parentCID={parent ^ 1:08x}", f"parentCID={parent:08x}"))
    qemu_agrees(top, content)


@pytest.mark.parametrize("kind", ["monolithicSparse", "vmfsSparse"])
def test_where_a_table_is_missing_qemu_writes_over_the_header_and_we_make_the_table(kind: str, tmp_path: Path):
    """The reason why all tables of a new disk are there from the beginning."""
    disk = tmp_path / "vm.vmdk"
    create(disk, SIZE // 512, kind)
    extent = disk if kind == "monolithicSparse" else tmp_path / "vm-delta.vmdk"
    data = bytearray(extent.read_bytes())
    for field in ((56, 64), (48, 56)) if kind == "monolithicSparse" else ((20, 24),):
        place = int.from_bytes(data[slice(*field)], "little") * 512
        assert any(data[place : place + 4]), "the directory names a table"
        data[place : place + 8] = bytes(8)
    extent.write_bytes(data)
    assert qemu_io(disk, "read -P 0 0 64k").returncode == 0
    qemu_io(disk, "write -P 1 0 64k")  # it may notice when it looks for the CID, or not at all
    assert extent.read_bytes()[:512] == b"\x01" * 512, "the header is gone"
    extent.write_bytes(data)
    with SnapshotDisk(disk) as opened:
        opened.chain.write(0, b"\x01" * 65536)
    assert check(disk).errors == []
    qemu_agrees(disk, b"\x01" * 65536 + bytes(SIZE - 65536))
