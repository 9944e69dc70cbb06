"""bzImage: the 32-bit entry, the zero page, the payload that is unpacked here."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from tests.guests import forge
from vilab.errors import AdminError
from vilab.guests import LoadedImage, load

MEMORY_BYTES = 64 << 20
KERNEL = forge.elf([(0xC1000000, 0x1000000, forge.CODE, 0x5000)], entry=0x1000000)


def load_file(folder: Path, data: bytes, **options: object) -> LoadedImage:
    path = folder / "bzImage"
    path.write_bytes(data)
    return load(str(path), **{"memory_bytes": MEMORY_BYTES, **options})  # type: ignore[arg-type]


def assert_entry_state(image: LoadedImage) -> None:
    assert (image.kind, image.cs, image.ds, image.stop_eip) == ("linux", 0x10, 0x18, None)
    assert image.gpr == {"esi": 0x90000}
    gdt = forge.memory_of(image, MEMORY_BYTES)[image.gdt_base :]
    assert struct.unpack_from("<QQ", gdt, 0x10) == (0x00CF9B000000FFFF, 0x00CF93000000FFFF)


def test_unpackable_payload_is_entered_directly(tmp_path: Path) -> None:
    for payload in (forge.xz_payload(KERNEL), gzip.compress(KERNEL) + struct.pack("<I", len(KERNEL))):
        image = load_file(tmp_path, forge.bzimage(payload=payload))
        assert_entry_state(image)
        assert image.entry == 0x1000000
        assert (0x1000000, forge.CODE) in image.segments
        assert (0x1000006, 0x5000 - 6) in image.zeroed


@pytest.mark.parametrize("payload", [None, b"\x28\xb5\x2f\xfd" + bytes(100)])
def test_other_payload_unpacks_itself_from_1_mb(tmp_path: Path, payload: bytes | None) -> None:
    image = load_file(tmp_path, forge.bzimage(body=b"entry", payload=payload, init_bytes=0x8000))
    assert_entry_state(image)
    assert image.entry == 0x100000
    body = b"entry" + (payload or b"")
    assert (0x100000, body) in image.segments
    assert (0x100000 + len(body), 0x8000 - len(body)) in image.zeroed


def test_zero_page_holds_header_command_line_and_memory_map(tmp_path: Path) -> None:
    data = forge.bzimage(payload=forge.xz_payload(KERNEL))
    image = load_file(tmp_path, data, append="console=ttyS0 quiet")
    memory = forge.memory_of(image, MEMORY_BYTES)
    page = memory[0x90000:0x91000]
    assert page[0x202:0x210] == data[0x202:0x210]
    assert page[0x210] == 0xFF
    (command_at,) = struct.unpack_from("<I", page, 0x228)
    assert memory[command_at : memory.index(0, command_at)] == b"console=ttyS0 quiet"
    entries = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * i) for i in range(page[0x1E8])]
    assert (0, 0x9FC00, 1) in entries
    assert (0x100000, MEMORY_BYTES - 0x100000, 1) in entries


def test_initrd_lies_as_high_as_memory_allows(tmp_path: Path) -> None:
    image = load_file(tmp_path, forge.bzimage(payload=forge.xz_payload(KERNEL)), initrd=b"cpio" * 1500)
    page = forge.memory_of(image, MEMORY_BYTES)[0x90000:]
    gpa, size = struct.unpack_from("<II", page, 0x218)
    assert (gpa, size) == (MEMORY_BYTES - 0x2000, 6000)
    assert (gpa, b"cpio" * 1500) in image.segments


@pytest.mark.interop
def test_stock_memtest86_is_entered_at_1_mb(memtest86_image: Path) -> None:
    image = load(str(memtest86_image), memory_bytes=MEMORY_BYTES, append="console=ttyS0,115200")
    assert_entry_state(image)
    data = memtest86_image.read_bytes()
    assert image.entry == 0x100000
    assert (0x100000, data[(data[0x1F1] + 1) * 512 :]) in image.segments


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (forge.bzimage()[:0x206], {}, "is truncated or damaged: its setup header"),
        (forge.bzimage()[: 5 * 512], {}, "is truncated or damaged"),
        (forge.bzimage()[: 3 * 512], {}, "is truncated or damaged"),
        (forge.bzimage(version=0x0106), {}, "a bzImage is needed"),
        (forge.bzimage(payload=forge.xz_payload(KERNEL))[:-20], {}, "its payload"),
        (forge.bzimage(payload=b"\xfd7zXZ\0" + bytes(50)), {}, "does not unpack"),
        (forge.bzimage(payload=forge.xz_payload(forge.elf(elf_class=2))), {}, "is a 64-bit ELF file"),
        (forge.bzimage(), {"append": "x" * 3000}, "command line is longer"),
        (forge.bzimage(init_bytes=100 << 20), {}, "memory too small: needs 101 MB"),
        (forge.bzimage(), {"initrd": bytes(70 << 20)}, "memory too small"),
    ],
)
def test_bad_image_is_one_sentence(tmp_path: Path, data: bytes, options: dict[str, object], says: str) -> None:
    with pytest.raises(AdminError, match=says):
        load_file(tmp_path, data, **options)
