"""``vilab vmfs`` as a person types it, and several processes on one image at the same time."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tests.storage import vmfs_soak
from tests.storage.vmfs_judges import debugvmfs_cat, debugvmfs_hosts, dissect_walk, is_clean
from vilab.cli import REFUSED, main

DAMAGED = 1


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "v.img"
    assert main(["vmfs", "mkfs", "--size", "256M", "--label", "store", str(path)]) == 0
    return path


def vmfs(*words: object) -> int:
    return main(["vmfs", *map(str, words)])


@pytest.mark.interop
@pytest.mark.parametrize(("size", "mib"), [("1G", 1024), ("300M", 512), ("286261248", 512)])
def test_mkfs(size: str, mib: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "new.img"
    assert vmfs("mkfs", "--size", size, path) == 0
    assert f"{mib} MiB" in capsys.readouterr().out
    assert path.stat().st_size == (mib + 17) << 20
    assert path.stat().st_blocks * 512 < 8 << 20, "the image has holes"
    is_clean(path)
    assert vmfs("mkfs", "--size", size, path) == REFUSED


@pytest.mark.interop
@pytest.mark.parametrize("block_size", ["1M", "2M", "4M", "8M"])
def test_mkfs_with_other_blocks(block_size: str, tmp_path: Path):
    path = tmp_path / "new.img"
    assert vmfs("mkfs", "--size", "64G", "--block-size", block_size, "--files", "5000", path) == 0
    is_clean(path)


@pytest.mark.interop
def test_copy_in_out_and_inside(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "disk.raw"
    content = b"begin" + bytes(5_000_000) + os.urandom(3_000_000)
    source.write_bytes(content)
    assert vmfs("cp", source, f"{image}:/disk") == 0
    assert vmfs("cp", f"{image}:/disk", f"{image}:/again") == 0
    assert vmfs("cp", f"{image}:/again", tmp_path / "out") == 0
    assert (tmp_path / "out").read_bytes() == content
    assert debugvmfs_cat(image, "/disk") == content
    source.write_bytes(b"other")
    assert vmfs("cp", source, f"{image}:/disk") == 0  # takes its place
    folder = tmp_path / "vm"
    (folder / "snapshots").mkdir(parents=True)
    (folder / "vm.vmx").write_bytes(b"config")
    (folder / "snapshots" / "s1").write_bytes(b"s" * 70_000)
    assert vmfs("cp", folder, f"{image}:/") == REFUSED
    assert vmfs("cp", "-r", folder, f"{image}:/") == 0
    assert vmfs("cp", "-r", f"{image}:/vm", tmp_path / "copy") == 0
    assert (tmp_path / "copy" / "snapshots" / "s1").read_bytes() == b"s" * 70_000
    assert dissect_walk(image) == {
        "/disk": b"other",
        "/again": content,
        "/vm": None,
        "/vm/vm.vmx": b"config",
        "/vm/snapshots": None,
        "/vm/snapshots/s1": b"s" * 70_000,
    }
    capsys.readouterr()
    assert vmfs("ls", image) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["again", "disk", "vm"]
    assert [line[:10] for line in lines] == ["-rw-------", "-rw-------", "drwxr-xr-x"]
    assert lines[0].split()[2] == str(len(content))
    assert vmfs("ls", "-la", f"{image}:/") == 0
    assert ".fbb.sf" in capsys.readouterr().out
    assert vmfs("ls", f"{image}:/vm/vm.vmx") == 0
    assert capsys.readouterr().out.split()[-1] == "vm.vmx"
    assert vmfs("rm", f"{image}:/again", f"{image}:/disk") == 0
    assert vmfs("rm", f"{image}:/vm") == REFUSED
    assert vmfs("rm", "-r", f"{image}:/vm") == 0
    assert vmfs("check", image) == 0
    assert dissect_walk(image) == {}
    is_clean(image)
    assert debugvmfs_hosts(image) == 0


def test_what_is_refused(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(100_000))
    for words in (
        ("ls", tmp_path / "nothing"),
        ("ls", noise),
        ("ls", f"{image}:/nothing"),
        ("cp", f"{image}:/nothing", tmp_path / "out"),
        ("cp", tmp_path / "nothing", f"{image}:/x"),
        ("cp", noise, f"{image}:/nowhere/x"),
        ("cp", noise, f"{image}:/../x"),
        ("cp", noise, f"{tmp_path}/no.img:/x"),
        ("cp", f"{tmp_path}/no.img:/x", tmp_path / "out"),
        ("cp", f"{image}:/", "-r", tmp_path / "no folder" / "out"),
        ("rm", noise),
        ("rm", f"{image}:/.fbb.sf"),
        ("mkfs", "--size", "lots", tmp_path / "x"),
        ("mkfs", "--size", "9999T", tmp_path / "x"),
        ("mkfs", "--size", "1G", "--block-size", "3M", tmp_path / "x"),
        ("mkfs", "--size", "0", tmp_path / "x"),
    ):
        assert vmfs(*words) == REFUSED, words
        said = capsys.readouterr().err
        assert said.startswith("vilab: "), words
        assert said.count("\n") == 1, words
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "out").exists()
    assert vmfs("check", image) == 0
    capsys.readouterr()
    assert vmfs("ls", image) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("size", ["1", "1K", "255M", str((256 << 20) - 1)])
def test_a_size_below_the_smallest_is_refused_with_it(size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert vmfs("mkfs", "--size", size, tmp_path / "x") == REFUSED
    said = capsys.readouterr().err
    assert "the smallest has 268435456 bytes, which is 256M" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert vmfs("mkfs", "--size", "268435456", tmp_path / "x") == 0


def test_a_full_disk_is_said_of_the_file_that_was_asked_for(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(3 << 20))
    assert vmfs("cp", source, f"{image}:/disk") == 0
    target.write_bytes(b"before")
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))  # as if no more room were on the disk
    try:
        assert vmfs("cp", f"{image}:/disk", target) == REFUSED
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err == f"vilab: {target} cannot be written: File too large.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "v.img"]
    assert target.read_bytes() == b"before"


def test_a_full_volume_is_said_of_the_file_that_was_asked_for(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "in"
    source.write_bytes(os.urandom(1 << 20) * 300)
    capsys.readouterr()
    assert vmfs("cp", source, f"{image}:/disk") == REFUSED
    said = capsys.readouterr().err
    assert "no" in said
    assert f".disk.{os.getpid()}" not in said
    assert vmfs("ls", image) == 0
    assert capsys.readouterr().out == ""


def test_check_says_what_is_wrong(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with image.open("r+b") as file:
        file.seek(0x1100000 + 0x600000 + 65536 + 0x210)  # the first bitmap of .fbb.sf
        file.write(b"\xff")
    assert vmfs("check", image) == DAMAGED
    said = capsys.readouterr()
    assert "marked free" in said.err
    assert "is damaged" in said.out
    assert vmfs("check", tmp_path / "nothing") == REFUSED


@pytest.mark.interop
def test_processes_that_are_killed(tmp_path: Path):
    """A few kills; many of them: python -m tests.storage.vmfs_soak --kills 200 --processes 4."""
    image = tmp_path / "lun.img"
    vmfs_soak.new_image(image)
    counts = vmfs_soak.soak(f"file:{image}", tmp_path, processes=2, kills=4, seed=1)
    assert counts["kills"] == 4
    assert counts["changes"] > 0
    is_clean(image)
    assert debugvmfs_hosts(image) == 0
