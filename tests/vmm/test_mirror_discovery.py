"""Discovering code for mirrors: in machine code and in Python the same."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import GuestFault
from vilab.vmm.mirror import CALLOUT, INSIDE, START, MirrorPage
from vilab.vmm.mirror_discovery import Discovery, Piece
from vilab.x86.decode import decode

EIP = 0xC0101000
INSTRUCTIONS = (
    "90", "8b442408", "8b0425785634 12", "65a104000000", "3e8b00", "66b83412", "0fb6c0", "7402", "740a", "e804000000",
    "0f8408000000", "e2fe", "2e8b00", "fa", "0f22d8", "cf", "cc", "f3a4", "c3", "eb02", "e9fdffffff", "ffe0", "0f0b",
    "2e7402", "d9c0", "f60001", "f6f1", "67e300", "c5f877",
)  # fmt: skip
codes = st.lists(st.sampled_from([bytes.fromhex(each) for each in INSTRUCTIONS]) | st.binary(max_size=4), max_size=60)


class Pages:
    """What stands for the mirrors here: two pages from ``EIP`` on."""

    def __init__(self) -> None:
        self.memory = bytearray(b"\xcc" * 2 * PAGE_BYTES)
        self.pages: dict[int, MirrorPage] = {}

    def new_page(self, vpn: int) -> MirrorPage:
        return self.pages.setdefault(vpn, MirrorPage(vpn, bytearray(PAGE_BYTES)))

    def frame(self, page: MirrorPage) -> memoryview:
        at = (page.mpn << PAGE_SHIFT) - EIP
        return memoryview(self.memory)[at : at + PAGE_BYTES]

    def write(self, linear: int, code: bytes, marks: bytes) -> None:
        for at, (byte, mark) in enumerate(zip(code, marks, strict=True), linear):
            self.memory[at - EIP] = byte
            self.pages[at >> PAGE_SHIFT].marks[at & PAGE_BYTES - 1] = mark

    def mark(self, linear: int) -> int:
        return self.pages[linear >> PAGE_SHIFT].marks[linear & PAGE_BYTES - 1]

    def place(self, linear: int) -> int:
        return linear


Found = tuple[list[Piece], list[tuple[int, bytes, int]], bytes, list[bytes]]


def found(code: bytes, offset: int, marked: set[int], native: bool, missing: bool = False) -> Found | None:
    """Pieces, callouts, mirrors, marks, for code at an offset of the page at ``EIP``; ``None``: nothing to fetch."""
    memory = bytes(offset) + code + b"\x90" * 2 * PAGE_BYTES
    mirror = Pages()
    for at in marked:
        mirror.new_page((EIP + at) >> PAGE_SHIFT).marks[at & PAGE_BYTES - 1] = START

    def fetch(linear: int, size_bytes: int) -> bytes:
        if missing and linear >= EIP + PAGE_BYTES:
            raise GuestFault(14, 0, linear, "missing")
        return memory[linear - EIP : linear - EIP + size_bytes]

    discovery = Discovery(mirror, fetch, native)  # type: ignore[arg-type]
    try:
        pieces = discovery.page(EIP + offset, 0, None)
    except GuestFault:
        return None
    for piece in pieces:
        lines = discovery.lines(piece, 0)
        assert sum(length for _, length, *_ in lines) == len(piece.source)
        assert len(lines) == piece.instructions
    callouts = [(at, instruction.code, how) for at, instruction, how in discovery.callouts]
    return pieces, callouts, bytes(mirror.memory), [bytes(page.marks) for page in mirror.pages.values()]


@settings(deadline=None)
@given(
    parts=codes, offset=st.integers(0, 200) | st.integers(PAGE_BYTES - 40, PAGE_BYTES - 1),
    marked=st.sets(st.integers(0, 2 * PAGE_BYTES - 1) | st.integers(PAGE_BYTES - 20, PAGE_BYTES + 20), max_size=4),
    missing=st.booleans(),
)  # fmt: skip
@example(parts=[bytes.fromhex("e8ffffff7f"), b"\xc3"], offset=0, marked=set(), missing=False)
@example(parts=[bytes.fromhex("7480"), b"\xc3"], offset=0, marked={3}, missing=False)
def test_machine_code_and_python_find_the_same(parts: list[bytes], offset: int, marked: set[int], missing: bool):
    marked.discard(offset)
    code = b"".join(parts)
    assert found(code, offset, marked, True, missing) == found(code, offset, marked, False, missing)


@settings(deadline=None)
@given(parts=codes, native=st.booleans())
@example(parts=[bytes.fromhex("e804000000 90 eb02 90 0f0b")], native=False)  # EMULATED, and overlaps what is jumped to
@example(parts=[bytes.fromhex("e804000000 90 eb02 90 6690")], native=True)  # IN_PLACE
def test_marks_are_where_instructions_begin(parts: list[bytes], native: bool):
    answer = found(b"".join(parts), 0, set(), native)
    assert answer is not None
    pieces, _, mirror, (marks, *_) = answer
    for piece in pieces:
        at, end = piece.linear, piece.linear + len(piece.source)
        while at < end:
            code = piece.source[at - piece.linear :][:15]
            size = decode(code, at).size
            here, overlaps = at - EIP, at + size == end and piece.mirrored_bytes < len(piece.source)
            called = marks[here] == CALLOUT
            assert called or (marks[here] == START and not overlaps)
            mirrored = 1 if overlaps else size
            assert marks[here + 1 : here + mirrored] == bytes([INSIDE]) * (mirrored - 1)
            assert mirror[here : here + mirrored] == (b"\xcc" if called else code[:1]) + code[1:mirrored]
            at += size
        assert at == end


@pytest.mark.parametrize("native", [True, False])
def test_a_jump_is_followed_and_an_unconditional_one_ends_the_piece(native: bool):
    answer = found(bytes.fromhex("7407 90 e803000000 c3 90 c3 31c0 c3"), 0x80, set(), native)
    assert answer is not None
    starts = [(piece.linear - EIP - 0x80, len(piece.source), piece.instructions) for piece in answer[0]]
    assert starts == [(0, 9, 4), (11, 3, 2), (9, 2, 2)]
