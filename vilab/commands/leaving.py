"""Ctrl-C, Ctrl-] and SIGTERM end a run between two instructions of the monitor, never inside a callback.

::

    signal --> handler --> is the processor in the middle of calling us?
                              no:  KeyboardInterrupt, here and now
                              yes: ask again a millisecond later

An exception that Python raises in a function which Unicorn called, before that function's own ``try``, would be
swallowed by the foreign code in between; so the handler looks at the stack first.
"""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable
from types import FrameType

from vilab.machine import access_hooks, cpu

RETRY_SECONDS = 0.001
_HOOK_FILES = frozenset((cpu.__file__, access_hooks.__file__))
"""Where the functions are that Unicorn calls; their names begin with ``_on_``."""


def install(first: Callable[[], None] | None = None) -> None:
    """From now on SIGINT and SIGTERM raise ``KeyboardInterrupt`` where that does no harm. Main thread only.

    ``first``: what the first of them does instead, between any two instructions of ours; the second one leaves.
    """

    def ask_first(_number: int, _frame: FrameType | None) -> None:
        assert first is not None
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, _leave)
        first()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave if first is None else ask_first)


def _leave(_number: int, frame: FrameType | None) -> None:
    if in_callback(frame):
        threading.Timer(RETRY_SECONDS, _thread.interrupt_main).start()
        return
    raise KeyboardInterrupt


def in_callback(frame: FrameType | None) -> bool:
    """Is one of the functions that the processor calls on this stack?"""
    while frame is not None:
        if frame.f_code.co_filename in _HOOK_FILES and frame.f_code.co_name.startswith("_on_"):
            return True
        frame = frame.f_back
    return False
