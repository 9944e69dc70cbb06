"""Multiboot: what the loader puts where, and what it tells the kernel."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from tests.guests import forge, qemu
from tests.tools import require_tool
from vilab.errors import AdminError
from vilab.guests import LoadedImage, load
from vilab.guests.build import PREBUILT

MEMORY_BYTES = 64 << 20


def text_at(memory: bytearray, gpa: int) -> str:
    return memory[gpa : memory.index(0, gpa)].decode()


def load_file(folder: Path, data: bytes, **options: object) -> LoadedImage:
    path = folder / "kernel"
    path.write_bytes(data)
    return load(str(path), memory_bytes=MEMORY_BYTES, **options)  # type: ignore[arg-type]


def assert_segments_are_readelfs(path: Path, image: LoadedImage) -> None:
    readelf = require_tool("readelf", "the Debian package binutils")
    text = subprocess.run([readelf, "-lW", str(path)], capture_output=True, text=True, check=True).stdout
    data = path.read_bytes()
    rows = re.findall(r"LOAD +(0x\w+) (0x\w+) (0x\w+) (0x\w+) (0x\w+)", text)
    assert rows
    (entry,) = re.findall(r"Entry point (0x\w+)", text)
    entries = {int(entry, 16)}
    for offset, gva, gpa, size, memory_size in (tuple(int(field, 16) for field in row) for row in rows):
        assert size == 0 or (gpa, data[offset : offset + size]) in image.segments
        assert memory_size == size or (gpa + size, memory_size - size) in image.zeroed
        if gva <= int(entry, 16) < gva + memory_size:
            entries.add(int(entry, 16) - gva + gpa)
    assert image.entry in entries
    assert any(gpa <= image.entry < gpa + len(part) for gpa, part in image.segments)


def test_kernel_segments_and_entry_are_those_that_readelf_shows() -> None:
    assert_segments_are_readelfs(PREBUILT / "kernel.elf", load("kernel", memory_bytes=MEMORY_BYTES))


@pytest.mark.interop
def test_gnumach_segments_and_entry_are_those_that_readelf_shows(gnumach_image: Path) -> None:
    image = load(str(gnumach_image), memory_bytes=MEMORY_BYTES)
    assert image.kind == "multiboot"
    assert_segments_are_readelfs(gnumach_image, image)


def test_information_tells_memory_command_line_and_loader() -> None:
    image = load("forkwait", memory_bytes=MEMORY_BYTES, append="40")
    memory = forge.memory_of(image, MEMORY_BYTES)
    assert image.gpr["eax"] == 0x2BADB002
    at = image.gpr["ebx"]
    flags, lower_kb, upper_kb = struct.unpack_from("<III", memory, at)
    assert flags == 0b10_0100_0101
    assert (lower_kb, upper_kb) == (639, 63 * 1024)
    assert text_at(memory, struct.unpack_from("<I", memory, at + 16)[0]) == "init=forkwait 40"
    assert text_at(memory, struct.unpack_from("<I", memory, at + 64)[0]) == "vilab"
    length, map_at = struct.unpack_from("<II", memory, at + 44)
    entries = [struct.unpack_from("<IQQI", memory, map_at + i) for i in range(0, length, 24)]
    assert {entry[0] for entry in entries} == {20}
    assert (20, 0x100000, MEMORY_BYTES - 0x100000, 1) in entries


def test_initrd_becomes_a_page_aligned_module_behind_the_kernel() -> None:
    image = load("kernel", memory_bytes=MEMORY_BYTES, initrd=b"module" * 1000)
    memory = forge.memory_of(image, MEMORY_BYTES)
    count, at = struct.unpack_from("<II", memory, image.gpr["ebx"] + 20)
    start, end = struct.unpack_from("<II", memory, at)
    assert count == 1
    assert start % 4096 == 0
    assert memory[start:end] == b"module" * 1000
    assert start >= max(gpa + size for gpa, size in image.zeroed if gpa > 0x100000)


# outb(0x3f8, 'K'), then the power register: what the addresses in the header must lead to.
SAY_K_AND_STOP = bytes.fromhex("66baf803b04bee 66ba0406 66b80020 66ef f4")


@pytest.mark.interop
def test_addresses_in_the_header_are_those_that_qemu_follows(tmp_path: Path) -> None:
    data = forge.kludge(SAY_K_AND_STOP, pad=12)
    image = load_file(tmp_path, data)
    assert (0x100000, data[12:]) in image.segments
    assert image.entry == 0x100020
    assert qemu.run(tmp_path / "kernel") == "K"


def test_addresses_in_the_header_rule_even_in_an_elf_file(tmp_path: Path) -> None:
    header = forge.kludge(forge.CODE, load=0x300000)
    plain = forge.elf([(0x200000, 0x200000, header, len(header))])
    offset = plain.index(header)
    fields = struct.pack("<5I", 0x300000 + offset, 0x300000, 0, 0, 0x300000 + offset + 32)
    data = plain[: offset + 12] + fields + plain[offset + 32 :]
    image = load_file(tmp_path, data)
    assert (0x300000, data) in image.segments
    assert image.entry == 0x300000 + offset + 32


def test_bss_of_the_header_is_zeroed(tmp_path: Path) -> None:
    image = load_file(tmp_path, forge.kludge(forge.CODE, bss_bytes=5000))
    assert (0x100000 + 32 + len(forge.CODE), 5000) in image.zeroed


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (forge.kludge(forge.CODE, flags=1 << 16 | 1 << 9), "requires features 0x200"),
        (forge.kludge(forge.CODE, flags=3), "has no addresses and it is no ELF file"),
        (forge.kludge(forge.CODE, load_end=0x200000), "is truncated or damaged"),
        (forge.kludge(forge.CODE, load_end=0x1000), "is truncated or damaged"),
        (forge.kludge(forge.CODE)[:20], "is truncated or damaged"),
        (forge.kludge(forge.CODE, load_end=0x100010), "entry point"),
    ],
)
def test_bad_header_is_one_sentence(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(AdminError, match=re.escape(says)):
        load_file(tmp_path, data)
