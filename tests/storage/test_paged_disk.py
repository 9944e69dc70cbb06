"""A disk in memory of which only what is not zero takes room is a disk. The judge: plain bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError, VmmBug
from vilab.storage.block import MemoryDisk
from vilab.storage.paged_disk import PAGE_BYTES, PagedDisk

SECTORS = 64
Deed = tuple[str, int, int, int]
what = st.sampled_from(("write", "unmap", "copy"))
deeds = st.lists(st.tuples(what, st.integers(0, SECTORS - 1), st.integers(0, 24), st.integers(0, 3)), max_size=30)


@given(deeds)
def test_it_reads_as_plain_bytes_do(done: list[Deed]) -> None:
    paged, plain = PagedDisk(SECTORS * 512), MemoryDisk(SECTORS * 512)
    kept: list[tuple[PagedDisk, bytes]] = []
    for what, first, count, value in done:
        size = min(count, SECTORS - first) * 512
        if what == "copy":
            kept.append((paged.copy(), bytes(plain.content)))
        for disk in (paged, plain):
            if what == "write":
                disk.write(first * 512, bytes([value]) * size)
            elif what == "unmap":
                disk.unmap(first * 512, size)
        assert paged.read(first * 512, size) == plain.read(first * 512, size)
    assert paged.read(0, paged.size_bytes) == plain.content
    for copy, content in kept:
        assert copy.read(0, copy.size_bytes) == content, "a copy has changed with the disk"
    held = {page for page in range(SECTORS * 512 // PAGE_BYTES) if any(plain.content[page * PAGE_BYTES :][:PAGE_BYTES])}
    assert set(paged.pages) == held, "zeros take room, or something does not"


def test_its_image_has_every_byte(tmp_path: Path) -> None:
    disk = PagedDisk(1 << 20)
    disk.write(4096 * 3 + 512, b"x" * 8192)
    image = disk.save(tmp_path / "disk.img")
    assert image.read_bytes() == disk.read(0, 1 << 20)


def test_what_leaves_the_disk_is_refused() -> None:
    with pytest.raises(AdminError, match="whole pages"):
        PagedDisk(5000)
    with pytest.raises(VmmBug):
        PagedDisk(8192).write(8192, b"x" * 512)
