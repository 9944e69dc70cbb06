"""Damaged files: a loader returns something that fits, or raises one AdminError. Nothing else, whatever the bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.guests import forge
from vilab.errors import AdminError
from vilab.guests.build import PREBUILT
from vilab.guests.layout import Layout
from vilab.guests.load import load_bytes
from vilab.guests.reader import Reader

MEMORY_BYTES = 8 << 20
VMM_WINDOW = (0xFD000000, 0xFFFFFFFF)

KERNEL = forge.elf([(0xC1000000, 0x300000, forge.CODE, 0x5000)], entry=0x300000)
SEEDS = {
    "elf": (PREBUILT / "bare-bench-ring3.elf").read_bytes(),
    "multiboot": (PREBUILT / "kernel.elf").read_bytes(),
    "kludge": forge.kludge(forge.CODE, bss_bytes=100),
    "bzimage": forge.bzimage(),
    "payload": forge.bzimage(payload=forge.xz_payload(KERNEL)),
}
HEADERS = {"elf": 160, "multiboot": 160, "kludge": 40, "bzimage": 0x280, "payload": 5 * 512 + 300}
EDGES = [0, 1, 4, 0x7F, 0x80, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF]


def assert_fits_or_refuses(data: bytes, flat_allowed: bool, initrd: bytes | None) -> None:
    layout = Layout("fuzz", MEMORY_BYTES, VMM_WINDOW)
    try:
        image = load_bytes(Reader(data, "fuzz"), layout, "a b", initrd, flat_allowed=flat_allowed)
    except AdminError:
        return
    spans = sorted([(gpa, len(part)) for gpa, part in image.segments] + list(image.zeroed))
    for gpa, size in spans:
        assert 0 <= gpa < gpa + size <= MEMORY_BYTES
    for (gpa, size), (following, _) in pairwise(spans):
        assert gpa + size <= following
    assert any(gpa <= image.entry < gpa + size for gpa, size in spans)


@pytest.mark.parametrize("name", list(SEEDS))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_header_is_loaded_or_refused(name: str, data: st.DataObject) -> None:
    mutated = bytearray(SEEDS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, HEADERS[name] - 4))
        size = data.draw(st.sampled_from([1, 2, 4]))
        value = data.draw(st.one_of(st.sampled_from(EDGES), st.integers(0, 0xFFFFFFFF)))
        mutated[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if data.draw(st.booleans()):
        del mutated[data.draw(st.integers(0, len(mutated))) :]
    initrd = data.draw(st.sampled_from([None, b"", b"x" * 5000]))
    assert_fits_or_refuses(bytes(mutated), data.draw(st.booleans()), initrd)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=600), prefix=st.sampled_from([b"", b"\x7fELF", b"\x7fELF\1\1\1", b"\x1f\x8b\x08"]))
@example(data=b"", prefix=b"")
def test_random_bytes_are_loaded_or_refused(data: bytes, prefix: bytes) -> None:
    assert_fits_or_refuses(prefix + data, True, None)


@pytest.mark.parametrize("name", list(SEEDS))
def test_seed_itself_loads(name: str) -> None:
    """Otherwise the mutations would only ever meet the first check."""
    load_bytes(Reader(SEEDS[name], name), Layout(name, MEMORY_BYTES, VMM_WINDOW), "", None)
