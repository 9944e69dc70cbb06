"""Types what was piped in as a person would: a line at a time, and not before the guest asks for one.

::

    piped      uname -a\n  ls /\n  exit\n  end
                  │          │       │     │
    guest   ...prompt ──> prompt ──> ...   └──> Ctrl-D, as a terminal says "no more"

A guest that boots throws away what arrives before its shell reads. So the first line waits for the prompt, and each
further one for the next prompt, or for ``PATIENCE`` questions of an idle guest without a word (a program that reads
has no prompt).
"""

from __future__ import annotations

import time

from vilab.errors import GuestStopped
from vilab.protocols import Console

PATIENCE = 500
"""How often an idle guest may ask: 2 s of a timer at 250 Hz."""

MOST_QUESTIONS = 15_000
"""One minute of it: nothing will come of this guest."""

BEHIND_PROMPT_BYTES = 8
"""A shell may send a question to the terminal behind its prompt."""

END_OF_INPUT = b"\x04"
MOST_ENDS = 32
"""A guest that has heard it so often and still goes on will go on for ever."""


class Typist:
    """A ``Console`` in front of another that gives its input in any pieces.

    Parameters
    ----------
    prompt : what the guest says when it is ready for a line.
    said : the last that it has said already (a run that goes on).
    """

    interactive = False

    def __init__(self, console: Console, prompt: bytes, said: bytes = b"") -> None:
        self._console = console
        self._prompt = prompt
        self._tail = said[-len(prompt) - BEHIND_PROMPT_BYTES :]
        self._heard_prompt = self._ready = False
        self._questions = self._ends = 0
        self._lines = bytearray()
        self._ended = False
        self._look()

    def write(self, data: bytes) -> None:
        self._console.write(data)
        self._questions = 0
        self._tail = (self._tail + data)[-len(self._prompt) - BEHIND_PROMPT_BYTES :]
        self._look()

    def _look(self) -> None:
        if self._prompt in self._tail:
            self._heard_prompt = self._ready = True
            self._tail = b""

    def read_available(self) -> bytes:
        self._questions += 1
        if self._questions > MOST_QUESTIONS:
            raise GuestStopped("The guest is idle, says nothing, and has not asked for a line.")
        if not self._heard_prompt or not (self._ready or self._questions > PATIENCE):
            return b""
        self._ready, self._questions = False, 0
        return self._next_line()

    def _next_line(self) -> bytes:
        while b"\n" not in self._lines and not self._ended:
            more = self._console.read_available()
            self._lines += more
            self._ended = not more
        at = self._lines.find(b"\n") + 1 or len(self._lines)
        line = bytes(self._lines[:at])
        del self._lines[:at]
        if line:
            return line
        self._ends += 1
        if self._ends > MOST_ENDS:
            raise GuestStopped("The guest waits for input, but standard input has ended.")
        return END_OF_INPUT

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)
