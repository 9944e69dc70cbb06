"""This process's terminal as the far end of a guest's serial line.

::

    standard input     what it is              when the guest gets a byte
    a terminal         raw, no echo            as soon as it is typed
    a pipe or a file   read to its end         when the guest asks for input

Raw means that Ctrl-C belongs to the guest; Ctrl-] leaves. A thread waits for the keys of a person, so that leaving
works while the guest computes. A pipe is read in the caller's own thread, only when asked: how fast its other end
writes does not change what the guest sees. A guest that is still waiting long after a pipe has ended would wait for
ever: that ends the run.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import queue
import select
import sys
import threading
from collections.abc import Iterator
from typing import Any

from vilab.errors import GuestStopped

LEAVE = b"\x1d"
"""Ctrl-]"""

CHUNK_BYTES = 4096

QUESTIONS_AFTER_END = 30_000
"""How often an idle guest that says nothing may ask for input after its end: 300 s of a timer at 100 Hz."""


class Terminal:
    """A ``Console``: ``write`` goes to standard output at once, ``read_available`` is what arrived on standard input.

    Parameters
    ----------
    input_fd, output_fd : file descriptors of the two ends.

    ``interactive`` tells whether a person sits there (input has a pace of its own), ``ended`` that no more input will
    come, ``last_byte`` the byte written last.
    """

    def __init__(self, input_fd: int = 0, output_fd: int = 1) -> None:
        self.input_fd = input_fd
        self.output_fd = output_fd
        self.interactive = os.isatty(input_fd)
        self.ended = False
        self.last_byte = b""
        self._unanswered = 0
        self._typed = threading.Event()
        self._keys: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def write(self, data: bytes) -> None:
        self._unanswered = 0
        view = memoryview(data)
        while view:
            view = view[os.write(self.output_fd, view) :]
        if data:
            self.last_byte = data[-1:]

    def read_available(self) -> bytes:
        """Input since the last call. From a pipe: its next bytes, waiting for them; empty only at its end.

        Raises
        ------
        GuestStopped : the pipe has ended, and the guest has been asking in vain for very long.
        """
        if self.interactive:
            self._typed.clear()
            keys = b""
            with contextlib.suppress(queue.Empty):
                while True:
                    keys += self._keys.get_nowait()
            return keys
        if self.ended:
            self._unanswered += 1
            if self._unanswered > QUESTIONS_AFTER_END:
                raise GuestStopped("The guest waits for input, but standard input has ended.")
            return b""
        data = os.read(self.input_fd, CHUNK_BYTES)
        self.ended = not data
        return data

    def wait(self, seconds: float) -> None:
        """Let wall time pass: this long, or until a key is pressed."""
        self._typed.wait(seconds)

    @contextlib.contextmanager
    def attached(self) -> Iterator[Terminal]:
        """Raw mode and the waiting thread for as long as the block lasts; the terminal is as before afterwards."""
        if not self.interactive:
            yield self
            return
        stop_reading, stopper = os.pipe()
        with _raw_mode(self.input_fd):
            reader = threading.Thread(target=self._read_keys, args=(stop_reading,), name="keys", daemon=True)
            reader.start()
            try:
                yield self
            finally:
                os.write(stopper, b".")
                reader.join(timeout=1)
                os.close(stopper)
                os.close(stop_reading)

    def _read_keys(self, stop_fd: int) -> None:
        while True:
            ready: list[Any] = [self.input_fd]
            if sys.platform != "win32":  # Windows can wait for sockets only; the daemon thread then just blocks
                ready, _, _ = select.select([self.input_fd, stop_fd], [], [])
                if stop_fd in ready:
                    return
            try:
                data = os.read(self.input_fd, CHUNK_BYTES)
            except OSError:  # the terminal itself has gone
                data = b""
            before, leave, _ = data.partition(LEAVE)
            if before:
                self._keys.put(before)
                self._typed.set()
            if leave or not data:
                self.ended = True
                _thread.interrupt_main()
                return


@contextlib.contextmanager
def _raw_mode(fd: int) -> Iterator[None]:
    """Every key comes at once and unechoed; what is written goes out as it is. A guest ends its lines with CR LF."""
    try:
        import termios
        import tty
    except ImportError:  # Windows: keys come line by line
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)
        yield
    finally:
        with contextlib.suppress(termios.error):  # a terminal that has gone has no mode to restore
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
