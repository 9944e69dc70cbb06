"""The terminal as a serial line, on a real pseudo-terminal and on pipes."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from vilab.commands.terminal import Terminal
from vilab.errors import GuestStopped

pty = pytest.importorskip("pty", reason="pseudo-terminals exist on Unix only")
termios = pytest.importorskip("termios", reason="pseudo-terminals exist on Unix only")


@pytest.fixture(autouse=True)
def interruptible():
    """As a program in the foreground is; what runs in the background of a shell is deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def line():
    """Both ends of a pseudo-terminal: the person's, the process's."""
    person, process = pty.openpty()
    yield person, process
    for fd in (person, process):
        with contextlib.suppress(OSError):
            os.close(fd)


def arrived(terminal: Terminal, wanted: int) -> bytes:
    data, deadline = b"", time.monotonic() + 5
    while len(data) < wanted and time.monotonic() < deadline:
        data += terminal.read_available()
        time.sleep(0.005)
    return data


def test_keys_reach_the_guest_one_by_one_ctrl_c_included(line):
    person, process = line
    terminal = Terminal(process, process)
    with terminal.attached():
        assert terminal.read_available() == b""
        os.write(person, b"ls\r\x03\x04")
        assert arrived(terminal, 5) == b"ls\r\x03\x04"


def test_nothing_is_echoed_and_the_terminal_is_as_before_afterwards(line):
    person, process = line
    before = termios.tcgetattr(process)
    terminal = Terminal(process, process)
    with terminal.attached():
        os.write(person, b"secret")
        assert arrived(terminal, 6) == b"secret"
        terminal.write(b"shown")
    assert termios.tcgetattr(process) == before
    assert os.read(person, 100) == b"shown"


def test_the_terminal_is_as_before_after_an_error_too(line):
    _, process = line
    before = termios.tcgetattr(process)
    with pytest.raises(RuntimeError), Terminal(process, process).attached():
        raise RuntimeError
    assert termios.tcgetattr(process) == before


def test_ctrl_right_bracket_leaves_a_computing_guest_and_delivers_what_came_before(line):
    person, process = line
    terminal = Terminal(process, process)
    with pytest.raises(KeyboardInterrupt), terminal.attached():
        os.write(person, b"ab\x1dcd")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            sum(range(1000))
    assert terminal.read_available() == b"ab"


def test_a_pipe_is_read_to_its_end_only_when_asked():
    reader, writer = os.pipe()
    os.write(writer, b"help\n")
    terminal = Terminal(reader, 1)
    assert not terminal.interactive
    assert terminal.read_available() == b"help\n"
    os.write(writer, b"exit\n")
    os.close(writer)
    assert terminal.read_available() == b"exit\n"
    assert terminal.read_available() == b""
    assert terminal.ended
    os.close(reader)


def test_output_that_the_far_end_takes_in_pieces_arrives_whole():
    reader, writer = os.pipe()
    terminal = Terminal(0, writer)
    terminal.write(b"a" * 1000 + b"\n")
    terminal.write(b"")
    assert terminal.last_byte == b"\n"
    assert os.read(reader, 2000) == b"a" * 1000 + b"\n"
    os.close(reader)
    os.close(writer)


def test_a_guest_that_waits_for_ever_after_the_end_of_a_pipe_is_stopped_in_words(monkeypatch):
    monkeypatch.setattr("vilab.commands.terminal.QUESTIONS_AFTER_END", 3)
    reader, writer = os.pipe()
    os.close(writer)
    terminal = Terminal(reader, os.open(os.devnull, os.O_WRONLY))
    assert [terminal.read_available() for _ in range(4)] == [b""] * 4
    terminal.write(b"still alive")
    assert [terminal.read_available() for _ in range(3)] == [b""] * 3
    with pytest.raises(GuestStopped, match=r"^The guest waits for input, but standard input has ended\.$"):
        terminal.read_available()
    os.close(reader)
    os.close(terminal.output_fd)


def test_waiting_ends_with_a_key(line):
    person, process = line
    terminal = Terminal(process, process)
    with terminal.attached():
        os.write(person, b"x")
        start = time.monotonic()
        terminal.wait(20)
        assert time.monotonic() - start < 10
        assert terminal.read_available() == b"x"


def test_a_terminal_that_goes_away_ends_the_run(line):
    person, process = line
    terminal = Terminal(process, process)
    with pytest.raises(KeyboardInterrupt), terminal.attached():
        os.close(person)
        time.sleep(5)
    assert terminal.ended
