"""From a name or a path to an image; and one sentence for everything that cannot be started."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from tests.guests import forge
from vilab.errors import AdminError
from vilab.guests import BUNDLED, load

MEMORY_BYTES = 16 << 20
VMM_WINDOW = (0xFD000000, 0xFFFFFFFF)


def write(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def refusal(spec: str, **options: object) -> str:
    with pytest.raises(AdminError) as caught:
        load(spec, **{"memory_bytes": MEMORY_BYTES, **options})  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("name", list(BUNDLED))
def test_every_bundled_program_loads_clear_of_the_vmm(name: str) -> None:
    image = load(name, memory_bytes=MEMORY_BYTES, reserved=VMM_WINDOW)
    assert image.name == name
    assert image.kind == ("function" if BUNDLED[name].file.startswith("bare-") else "multiboot")


def test_descriptors_are_flat_and_lie_where_the_selectors_point() -> None:
    for spec in ("isprime", "forkwait"):
        image = load(spec, memory_bytes=MEMORY_BYTES)
        memory = forge.memory_of(image, MEMORY_BYTES)
        gdt = memory[image.gdt_base : image.gdt_base + image.gdt_limit + 1]
        code, data = (struct.unpack_from("<Q", gdt, selector)[0] for selector in (image.cs, image.ds))
        assert (code, data) == (0x00CF9B000000FFFF, 0x00CF93000000FFFF)


def test_plain_elf_is_called_and_may_return(tmp_path: Path) -> None:
    image = load(write(tmp_path, "x.elf", forge.elf()), memory_bytes=MEMORY_BYTES)
    assert (image.kind, image.entry, image.returns_register) == ("elf", 0x200000, "eax")
    assert (0x200000, forge.CODE) in image.segments


def test_elf_is_loaded_by_physical_address_and_a_virtual_entry_is_translated(tmp_path: Path) -> None:
    data = forge.elf([(0xC0200000, 0x200000, forge.CODE, 0x3000)], entry=0xC0200002)
    image = load(write(tmp_path, "high.elf", data), memory_bytes=MEMORY_BYTES)
    assert image.entry == 0x200002
    assert (0x200006, 0x3000 - 6) in image.zeroed


def test_flat_binary_is_loaded_at_1_mb(tmp_path: Path) -> None:
    for spec in (write(tmp_path, "code.bin", forge.CODE), "flat:" + write(tmp_path, "code", forge.CODE)):
        image = load(spec, memory_bytes=MEMORY_BYTES)
        assert (image.kind, image.entry) == ("flat", 0x100000)
        assert (0x100000, forge.CODE) in image.segments


def test_flat_prefix_overrides_what_the_file_looks_like(tmp_path: Path) -> None:
    image = load("flat:" + write(tmp_path, "x.elf", forge.elf()), memory_bytes=MEMORY_BYTES)
    assert image.kind == "flat"


def test_gzip_is_unpacked_first(tmp_path: Path) -> None:
    image = load(write(tmp_path, "x.elf.gz", gzip.compress(forge.elf())), memory_bytes=MEMORY_BYTES)
    assert image.kind == "elf"


def test_loader_data_goes_behind_an_image_that_fills_low_memory(tmp_path: Path) -> None:
    low = forge.elf([(0x1000, 0x1000, forge.CODE, 0x9EC00)])
    image = load(write(tmp_path, "low.elf", low), memory_bytes=MEMORY_BYTES)
    assert image.gdt_base >= 0x100000
    assert image.esp > 0x100000


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("notes.txt", b"Dear diary,\n" * 50, "has no format that can be started"),
        ("random", bytes((i * 97 + 13) % 256 for i in range(9000)), "has no format that can be started"),
        ("empty.bin", b"", "the file is empty"),
        ("empty", b"", "has no format that can be started"),
        ("cut.elf", forge.elf()[:40], "is truncated or damaged: its ELF header"),
        ("cut2.elf", forge.elf()[:60], "is truncated or damaged: program header 0"),
        ("cut3.elf", forge.elf()[:-2], "is truncated or damaged: segment 0"),
        ("long.elf", forge.elf(elf_class=2), "is a 64-bit ELF file"),
        ("amd64.elf", forge.elf(machine=62), "is an ELF file for x86-64"),
        ("arm.elf", forge.elf(machine=40), "is an ELF file for ARM"),
        ("what.elf", forge.elf(machine=4711), "is an ELF file for machine 4711"),
        ("big.elf", forge.elf(order=2), "is a big-endian ELF file"),
        ("x.o", forge.elf(kind=1), "an object file that still has to be linked"),
        ("pie.elf", forge.elf(kind=3), "not an executable with fixed addresses"),
        ("none.elf", forge.elf([]), "no part of this ELF file is to be loaded"),
        ("entry.elf", forge.elf(entry=0x5000), "its entry point 0x5000 lies in none of its segments"),
        ("small.elf", forge.elf([(0, 0x200000, b"12345678", 4)]), "has 8 bytes in the file and room for 4"),
        ("cut.gz", gzip.compress(forge.elf(), mtime=0)[:-9], "its compressed data"),
        ("bad.gz", b"\x1f\x8b" + bytes(40), "does not unpack"),
    ],
)
def test_bad_file_is_one_sentence(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    sentence = refusal(write(tmp_path, name, data))
    assert says in sentence
    assert name in sentence


def test_overlapping_segments_are_refused(tmp_path: Path) -> None:
    data = forge.elf([(0x200000, 0x200000, bytes(100), 100), (0x200010, 0x200010, bytes(100), 100)])
    assert "overlap" in refusal(write(tmp_path, "x.elf", data))


def test_missing_file_lists_the_bundled_names() -> None:
    sentence = refusal("isprme")
    assert "there is no such file" in sentence
    assert "isprime" in sentence


def test_directory_and_unusable_path_are_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(str(tmp_path))
    assert "cannot be read" in refusal("a\0b")
    assert "cannot be read" in refusal("x" * 5000)


def test_segment_outside_memory_says_how_much_is_needed(tmp_path: Path) -> None:
    spec = write(tmp_path, "x.elf", forge.elf([(0, 40 << 20, forge.CODE, 6)]))
    assert "memory too small: needs 41 MB, has 16 MB" in refusal(spec)


@pytest.mark.parametrize("name", ["forkwait", "isprime"])
def test_memory_too_small_for_a_bundled_program(name: str) -> None:
    assert "memory too small: needs" in refusal(name, memory_bytes=1 << 20)
    assert "memory too small: needs" in refusal(name, memory_bytes=4096)


def test_more_memory_than_32_bits_reach_is_refused() -> None:
    assert "at most 4096 MB" in refusal("isprime", memory_bytes=5 << 30)


@pytest.mark.parametrize("address", [0xFD000000, 0xFCFFFFFF, 0xFFFFFFF0])
def test_image_in_the_vmms_window_is_refused_where_it_is_linked_or_loaded(tmp_path: Path, address: int) -> None:
    linked = write(tmp_path, "linked.elf", forge.elf([(address, 0x200000, forge.CODE, 6)]))
    loaded = write(tmp_path, "loaded.elf", forge.elf([(address, address, forge.CODE, 6)]))
    assert "overlaps the VMM's window" in refusal(linked, reserved=VMM_WINDOW)
    assert "overlaps the VMM's window" in refusal(loaded, reserved=VMM_WINDOW, memory_bytes=1 << 32)
    assert load(linked, memory_bytes=MEMORY_BYTES).entry == 0x200000


def test_command_line_with_a_zero_byte_is_refused() -> None:
    assert "zero byte" in refusal("forkwait", append="4\0005")
