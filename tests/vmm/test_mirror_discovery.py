"""Discovering code for mirrors: in machine code and in Python the same."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from vilab.addresses import PAGE_BYTES
from vilab.errors import GuestFault
from vilab.vmm.mirror import CALLOUT, INSIDE, START
from vilab.vmm.mirror_discovery import Piece, discover
from vilab.vmm.mirror_scan import PassOver
from vilab.x86.decode import Truncated, decode

EIP = 0xC0101000
INSTRUCTIONS = (
    "90", "8b442408", "8b0425785634 12", "65a104000000", "3e8b00", "66b83412", "0fb6c0", "7402", "740a", "e804000000",
    "0f8408000000", "e2fe", "2e8b00", "fa", "0f22d8", "cf", "cc", "f3a4", "c3", "eb02", "e9fdffffff", "ffe0", "0f0b",
    "2e7402", "d9c0", "f60001", "f6f1", "67e300", "c5f877",
)  # fmt: skip
codes = st.lists(st.sampled_from([bytes.fromhex(each) for each in INSTRUCTIONS]) | st.binary(max_size=4), max_size=60)
WAYS = PassOver(True), PassOver(False)


def pieces(code: bytes, offset: int, marked: set[int]) -> list[Piece | None]:
    """Native, in Python, and with lines: what is found at an offset of the page at ``EIP``."""
    memory = bytes(offset) + code + b"\x90" * 2 * PAGE_BYTES
    marks = bytearray(PAGE_BYTES)
    for at in marked:
        marks[at] = START

    def fetch(linear: int, size_bytes: int) -> bytes:
        return memory[linear - EIP : linear - EIP + size_bytes]

    found: list[Piece | None] = []
    for pass_over, place in ((WAYS[0], None), (WAYS[1], None), (WAYS[0], 0), (WAYS[1], 0)):
        try:
            found.append(discover(EIP + offset, EIP + offset, fetch, marks, lambda: bytes(16), pass_over, place))
        except (GuestFault, Truncated):
            found.append(None)
    return found


def content(piece: Piece | None) -> tuple[object, ...] | None:
    if piece is None:
        return None
    callouts = [(at, instruction.code, how) for at, instruction, how in piece.callouts]
    return piece.source, piece.code, piece.marks, callouts, piece.jumps, piece.ident, piece.others


@given(
    parts=codes, offset=st.integers(0, 200) | st.integers(PAGE_BYTES - 40, PAGE_BYTES - 1),
    marked=st.sets(st.integers(0, PAGE_BYTES - 1), max_size=4),
)  # fmt: skip
@example(parts=[bytes.fromhex("e8ffffff7f"), b"\xc3"], offset=0, marked=set())
@example(parts=[bytes.fromhex("7480"), b"\xc3"], offset=0, marked={3})
def test_machine_code_and_python_find_the_same(parts: list[bytes], offset: int, marked: set[int]):
    marked.discard(offset)
    native, python, native_lines, python_lines = pieces(b"".join(parts), offset, marked)
    assert content(native) == content(python) == content(native_lines) == content(python_lines)
    if native_lines is not None and python_lines is not None:
        assert native_lines.lines == python_lines.lines
        assert sum(length for _, length, *_ in native_lines.lines) == len(native_lines.source)


@given(parts=codes)
def test_marks_are_where_instructions_begin(parts: list[bytes]):
    piece = pieces(b"".join(parts), 0, set())[0]
    assert piece is not None
    at = 0
    while at < len(piece.source):
        size = decode(piece.source[at : at + 15], EIP + at).size
        assert piece.marks[at] in (START, CALLOUT)
        assert piece.marks[at + 1 : at + size] == bytes([INSIDE]) * (size - 1)
        at += size
    assert at == len(piece.source) == len(piece.marks)


def test_a_jump_is_found_and_an_unconditional_one_ends_the_piece():
    piece = pieces(bytes.fromhex("7405 90 e810000000 eb80 90"), 0x80, set())[0]
    assert piece is not None
    assert piece.jumps == [7, 0x18, 10 - 0x80]
    assert len(piece.source) == 10
