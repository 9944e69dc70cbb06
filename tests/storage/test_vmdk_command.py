"""``vilab vmdk`` as scripts call it: what it prints, its exit status, and that damage is a sentence."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.vmdk_judges import patchwork, qemu_agrees
from vilab.cli import DISK_KINDS, main
from vilab.storage.block import BlockError
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_check import check
from vilab.storage.disks.vmdk_convert import TARGETS, convert
from vilab.storage.disks.vmdk_create import create


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "in.raw"
    path.write_bytes(patchwork(2 << 20))
    return path


def run(*words: object) -> int:
    return main(["vmdk", *map(str, words)])


def test_the_command_line_knows_every_kind_of_disk():
    assert DISK_KINDS == TARGETS


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_convert_info_check_and_back(kind: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    disk, back = tmp_path / "a.vmdk", tmp_path / "back.img"
    assert run("convert", "--to", kind, raw, disk) == 0
    assert run("info", disk) == 0
    assert (kind if kind != "raw" else ": raw,") in capsys.readouterr().out
    if kind != "raw":
        assert run("check", disk) == 0
        assert "in order" in capsys.readouterr().out
    assert run("convert", disk, back) == 0
    assert back.read_bytes() == raw.read_bytes()


def test_snapshot_prints_the_new_top(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    disk = tmp_path / "vm.vmdk"
    assert run("convert", "--to", "vmfs", raw, disk) == 0
    capsys.readouterr()
    assert run("snapshot", disk) == 0
    top = Path(capsys.readouterr().out.strip())
    assert top == tmp_path / "vm-000001.vmdk"
    qemu_agrees(top, raw.read_bytes())
    assert run("snapshot", top) == 0
    capsys.readouterr()
    assert run("info", tmp_path / "vm-000002.vmdk") == 0
    shown = capsys.readouterr().out
    assert [line.split(":")[0] for line in shown.splitlines() if not line.startswith(" ")] == [
        str(tmp_path / name) for name in ("vm-000002.vmdk", "vm-000001.vmdk", "vm.vmdk")
    ]


def test_what_cannot_be_done_is_a_sentence_and_status_2(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for words in (("info", tmp_path / "no.vmdk"), ("snapshot", raw), ("convert", raw, raw)):
        assert run(*words) == 2
        said = capsys.readouterr().err
        assert said.startswith("vilab: ")
        assert said.count("\n") == 1


@pytest.mark.parametrize("kind", ["raw", "monolithicSparse", "twoGbMaxExtentSparse", "streamOptimized"])
def test_an_empty_file_in_the_targets_place_is_lost_to_a_copy_only(kind: str, raw: Path, tmp_path: Path):
    bad, out = tmp_path / "bad.vmdk", tmp_path / "out"
    assert run("convert", raw, bad) == 0
    content = bytearray(bad.read_bytes())
    content[512:1024] = bytes(512)  # the descriptor
    broken = tmp_path / "broken.vmdk"
    broken.write_bytes(content)
    short = tmp_path / "short.vmdk"
    short.write_bytes(bad.read_bytes()[:-100_000])
    out.touch(0o600)
    before = out.stat()
    for source in (tmp_path / "missing", tmp_path, broken, short):
        assert run("convert", "--to", kind, source, out) == 2, source
        now = out.stat()
        assert (now.st_ino, now.st_mode, now.st_size) == (before.st_ino, before.st_mode, 0), source
    assert run("convert", "--to", kind, raw, out) == 0
    back = tmp_path / "back.raw"
    assert run("convert", out, back) == 0
    assert back.read_bytes() == raw.read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_empty_file_stays_where_one_of_the_others_is_in_the_way(raw: Path, tmp_path: Path):
    out = tmp_path / "out.vmdk"
    out.touch()
    (tmp_path / "out-flat.vmdk").write_bytes(b"somebody's")
    assert run("convert", "--to", "monolithicFlat", raw, out) == 2
    assert out.exists()
    assert (tmp_path / "out-flat.vmdk").read_bytes() == b"somebody's"


def test_what_is_no_virtual_disk_is_not_called_damaged(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for path in (raw, tmp_path, tmp_path / "missing"):
        assert run("check", path) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"vilab: {path} ")
        assert said.err.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_a_pipe_in_a_disks_place_is_refused_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pipe, child = tmp_path / "pipe", tmp_path / "child.vmdk"
    os.mkfifo(pipe)
    create(child, 64, "vmfsSparse", parent=(1, "pipe"))
    for words in (
        ("info", pipe),
        ("check", pipe),
        ("convert", pipe, tmp_path / "out.raw"),
        ("snapshot", pipe),
        ("convert", child, tmp_path / "out.raw"),
    ):
        assert run(*words) == 2, words
        said = capsys.readouterr().err
        assert "it is not a file" in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out.raw").exists()


@pytest.mark.skipif(os.name != "posix", reason="names that are not text")
def test_a_name_that_is_not_text_is_printed_all_the_same(raw: Path, tmp_path: Path):
    disk = os.fsencode(tmp_path) + b"/n\xff.vmdk"
    for words in ((b"convert", os.fsencode(raw), disk), (b"info", disk), (b"check", disk)):
        done = subprocess.run(
            [sys.executable, "-m", "vilab.cli", "vmdk", *words],
            env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"}, capture_output=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"n\\udcff.vmdk" in done.stdout


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path):
    create(tmp_path / "vm.vmdk", 4096, "vmfs")
    with open_chain(tmp_path / "vm.vmdk") as chain:
        assert chain.read(0, 4096) == bytes(4096)  # what follows is asked for where it lies, without another look

        def broken(size: int, offset: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        chain._readers[1] = broken
        with pytest.raises(BlockError, match="cannot be read"):
            chain.read(0, 4096)


def sparse(folder: Path) -> Path:
    disk = folder / "s.vmdk"
    create(disk, 4096, "monolithicSparse")
    with SnapshotDisk(disk) as opened:
        opened.chain.write(0, b"x" * 65536 * 4)
    assert check(disk).errors == []
    return disk


def first_table(data: bytes) -> int:
    (directory,) = struct.unpack_from("<Q", data, 56)
    (table,) = struct.unpack_from("<I", data, directory * 512)
    return int(table) * 512


@pytest.mark.parametrize(
    ("entry", "value", "finding"),
    [(1, 0x7FFF_0000, "ended"), (1, 2, "among its tables"), (3, None, "share their place")],
)
def test_check_finds_bad_table_entries(
    entry: int, value: int | None, finding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    disk = sparse(tmp_path)
    data = bytearray(disk.read_bytes())
    at = first_table(data)
    value = struct.unpack_from("<I", data, at)[0] if value is None else value
    struct.pack_into("<I", data, at + 4 * entry, value)
    disk.write_bytes(data)
    assert run("check", disk) == 2
    said = capsys.readouterr()
    assert finding in said.err
    assert "redundant" in said.out
    assert disk.read_bytes() == data, "looking changes nothing"


def test_check_finds_a_flat_file_that_was_cut_off_which_qemu_img_does_not(raw: Path, tmp_path: Path):
    disk = tmp_path / "f.vmdk"
    convert(raw, disk, "vmfs")
    with (tmp_path / "f-flat.vmdk").open("r+b") as file:
        file.truncate(1 << 20)
    assert "too short" in check(disk).errors[0]


def test_check_counts_space_that_no_table_names(tmp_path: Path):
    disk = sparse(tmp_path)
    with disk.open("ab") as file:
        file.write(bytes(65536 * 3))
    report = check(disk)
    assert (report.errors, report.lost_sectors) == ([], 3 * 128)
