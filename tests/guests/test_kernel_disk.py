"""The teaching kernel's SCSI driver and file system on a PC and an adapter that others wrote, and on disks in files.

QEMU has no 53C1030, but the SAS1068: another bus with the same messages, the same doorbell and the same queues.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.guests import qemu
from tests.tools import require_tool
from vilab.guests import BUNDLED
from vilab.guests.build import PREBUILT, bundled_program_names
from vilab.guests.load import load
from vilab.guests.tinyfs import BLOCK_BYTES, checksum, read_content, read_volume
from vilab.storage.block import MemoryDisk
from vilab.storage.raw_disk import RawDisk
from vilab.vmm.scsi_disks import attach
from vilab.vmm.vm import QuietConsole, VirtualMachine

KERNEL = PREBUILT / "kernel-disk.elf"
DISK_BYTES = 4 << 20
BOOTED = "timer: 3 ticks\n"
SESSION = (
    "mkfs", "put greeting hello world", "fill large 100000 3", "ls", "sync", "write second a line", "rm greeting",
    "fill large 9000 4", "cat second", "trace sync", "poweroff",
)  # fmt: skip


def filling(size_bytes: int, seed: int) -> bytes:
    return bytes((i + seed) * 2654435761 % 2**32 >> 8 & 0xFF for i in range(size_bytes))


def on_qemu(disks: list[Path], append: str = "", lines: tuple[str, ...] = (), memory: str = "16M") -> str:
    command = [*qemu.command(KERNEL, append, memory), "-device", "mptsas1068,id=sas"]
    for number, path in enumerate(disks):
        command += ["-drive", f"file={path},if=none,id=d{number},format=raw"]
        command += ["-device", f"scsi-hd,drive=d{number},bus=sas.0,scsi-id={number}"]
    typed = "".join(f"{line}\n" for line in lines).encode()
    done = subprocess.run(command, input=typed, capture_output=True, timeout=qemu.SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().replace("\r\n", "\n")


def here(disks: list[Path], lines: tuple[str, ...]) -> str:
    """The same session in a virtual machine of ours."""
    image = load("kernel-disk", memory_bytes=16 << 20)
    console = QuietConsole("".join(f"{line}\n" for line in lines).encode())
    adapters = attach(disks)
    try:
        vm = VirtualMachine(image, "bare", 16 << 20, console=console, adapters=adapters)
        assert vm.engine.run().reason == "powered_off"
    finally:
        for adapter in adapters:
            adapter.close()
    return console.said


def empty(path: Path, size_bytes: int = DISK_BYTES) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


@pytest.mark.interop
def test_behind_qemus_adapter_the_session_and_every_byte_of_the_disk_are_the_same(tmp_path: Path) -> None:
    theirs, ours = empty(tmp_path / "theirs"), empty(tmp_path / "ours")
    output = on_qemu([theirs], lines=SESSION)
    assert "scsi 0: QEMU QEMU HARDDISK, 8192 sectors of 512 bytes\n" in output
    assert output.partition(BOOTED)[2] == here([ours], SESSION).partition(BOOTED)[2]
    assert theirs.read_bytes() == ours.read_bytes()
    disk = MemoryDisk(theirs.read_bytes())
    files = {each.name: read_content(disk, each) for each in read_volume(disk).files}
    assert files == {"second": b"a line\n", "large": filling(9000, 4)}


@pytest.mark.interop
def test_behind_qemus_adapter_it_swaps_and_finds_every_word_again(tmp_path: Path) -> None:
    disks = [empty(tmp_path / "files"), empty(tmp_path / "swap", 16 << 20)]
    output = on_qemu(disks, "swapon=1 init=together checksum 1900 1 20 0 7 + mkfs", memory="8M")
    assert "swap: scsi 1, 4096 blocks from 0 on\n" in output
    assert "checksum: round 1 ok\n" in output
    assert read_volume(MemoryDisk(disks[0].read_bytes())).blocks == DISK_BYTES // BLOCK_BYTES
    pages = [disks[1].read_bytes()[at : at + BLOCK_BYTES] for at in range(0, 16 << 20, BLOCK_BYTES)]
    assert sum(any(page) for page in pages) > 100


@pytest.mark.interop
def test_without_an_adapter_the_kernel_runs_its_programs() -> None:
    output = qemu.run(KERNEL, typed="ls\nput a b\ncalls\npoweroff\n")
    assert "ls: there is no disk\n" in output
    assert "put: a: there is no disk\n" in output
    assert "calls: 23 checks, 0 wrong\n" in output
    assert "lsi:" not in output


@pytest.mark.interop
@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentSparse", "monolithicFlat"])
def test_what_the_guest_has_written_into_a_vmdk_is_there_for_qemu(subformat: str, tmp_path: Path) -> None:
    qemu_img = require_tool("qemu-img", "the Debian package qemu-utils")
    vmdk, raw = tmp_path / "disk.vmdk", tmp_path / "disk.raw"
    create = [qemu_img, "create", "-q", "-f", "vmdk", "-o", f"subformat={subformat}", str(vmdk), str(DISK_BYTES)]
    subprocess.run(create, check=True, capture_output=True)
    output = here([vmdk], ("mkfs", "put greeting hello world", "poweroff"))
    subprocess.run([qemu_img, "convert", "-q", "-O", "raw", str(vmdk), str(raw)], check=True, capture_output=True)
    disk = RawDisk(raw, writable=False)
    try:
        file = read_volume(disk).file("greeting")
        assert read_content(disk, file) == b"hello world\n"
    finally:
        disk.close()
    assert f"12 bytes in block {file.blocks[0]} = sectors {file.sector_of(0)} to " in output


def test_every_program_of_it_has_a_name_to_run_it_by() -> None:
    names = bundled_program_names("disk")
    assert not {name for name in names if name not in BUNDLED}
    assert names[: len(bundled_program_names("memory"))] == bundled_program_names("memory")
    own = set(names) - set(bundled_program_names("memory"))
    assert {name for name in names if BUNDLED[name].file == KERNEL.name} == own
    assert set(bundled_program_names("disk-para")) == own | set(bundled_program_names())


def test_the_checksum_is_that_of_its_definition() -> None:
    """FNV-1a of single words, by hand: (offset basis ^ word) * prime."""
    assert checksum(b"") == 0x811C9DC5
    assert checksum(b"\0\0\0\0") == 0x811C9DC5 * 0x01000193 % 2**32
    assert checksum(b"\1\0\0\0\2\0\0\0") == ((0x811C9DC5 ^ 1) * 0x01000193 % 2**32 ^ 2) * 0x01000193 % 2**32
