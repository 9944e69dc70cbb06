"""Piped lines are typed as by a person who reads the screen."""

from __future__ import annotations

import pytest

from vilab.errors import GuestStopped
from vilab.vmm.typist import END_OF_INPUT, MOST_ENDS, MOST_QUESTIONS, PATIENCE, Typist


class Pipe:
    """Gives its input in the pieces that it was made of."""

    interactive = False

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.output = list(pieces), bytearray()

    def write(self, data: bytes) -> None:
        self.output += data

    def read_available(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def hear(typist: Typist, text: bytes) -> None:
    for at in range(len(text)):  # a serial line brings bytes
        typist.write(text[at : at + 1])


def test_nothing_is_typed_before_the_prompt():
    typist = Typist(Pipe(b"ls\n"), b"guest# ")
    hear(typist, b"booting...\r\n")
    assert [typist.read_available() for _ in range(PATIENCE * 2)] == [b""] * (PATIENCE * 2)
    hear(typist, b"guest# ")
    assert typist.read_available() == b"ls\n"


def test_one_line_at_each_prompt_and_then_the_end():
    typist = Typist(Pipe(b"l", b"s\npw", b"d\n"), b"guest# ")
    typed = []
    for _ in range(3):
        hear(typist, b"guest# \x1b[6n")
        typed.append(typist.read_available())
        hear(typist, b"...\r\n")
        assert typist.read_available() == b""
    assert typed == [b"ls\n", b"pwd\n", END_OF_INPUT]


def test_how_the_pipe_is_cut_into_pieces_does_not_matter():
    for pieces in ((b"a\nb\nc",), (b"a", b"\n", b"b\nc"), (b"a\nb", b"\nc")):
        typist = Typist(Pipe(*pieces), b"# ")
        typed = []
        for _ in range(4):
            hear(typist, b"# ")
            typed.append(typist.read_available())
        assert typed == [b"a\n", b"b\n", b"c", END_OF_INPUT]


def test_a_program_that_reads_without_a_prompt_gets_its_line_after_a_while():
    typist = Typist(Pipe(b"cat\nhello\n"), b"# ")
    hear(typist, b"# ")
    assert typist.read_available() == b"cat\n"
    assert [typist.read_available() for _ in range(PATIENCE)] == [b""] * PATIENCE
    assert typist.read_available() == b"hello\n"


def test_who_goes_on_knows_that_the_prompt_is_there():
    assert Typist(Pipe(b"ls\n"), b"guest# ", b"...\r\nguest# \x1b[6n").read_available() == b"ls\n"
    assert Typist(Pipe(b"ls\n"), b"guest# ", b"guest# ls\r\nbin dev etc lib").read_available() == b""


def test_a_guest_that_never_ends_does_not_wait_for_ever():
    typist = Typist(Pipe(), b"# ")
    with pytest.raises(GuestStopped, match="ended"):
        for _ in range(MOST_ENDS + 1):
            hear(typist, b"# ")
            typist.read_available()
    with pytest.raises(GuestStopped, match="not asked"):
        silent = Typist(Pipe(b"x\n"), b"# ")
        for _ in range(MOST_QUESTIONS + 1):
            silent.read_available()
