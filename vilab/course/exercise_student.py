"""Calling what a student wrote: a crash or a loop without end becomes one sentence.

::

    call ──> the student's function ──returns──────────────────────────────> its value
                 │ every line of Python it executes costs one step
                 ├─ the budget is used up ──────────> WrongAnswer: did not come to an end within 100,000 lines
                 └─ an exception ──────────────────> WrongAnswer: raised KeyError: 'eip' in line 4

The budget counts executed lines (``sys.settrace``), so the verdict is the same on every machine and system. Code that
catches everything can swallow that; a second thread then keeps raising, by the wall clock, until it gives up. A single
call into C that never comes back cannot be interrupted by either.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from vilab.course.feedback import WrongAnswer

STEPS = 100_000
"""Lines of Python that one call may execute."""
WALL_S = 5.0


class OutOfSteps(BaseException):
    """Ends the student's function. Not an ``Exception``: ``except Exception`` shall not catch it."""


def name_of(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def call(function: Callable[..., Any], *arguments: Any, steps: int = STEPS, said: str | None = None) -> Any:
    """What ``function`` returns for ``arguments``.

    Parameters
    ----------
    steps : its budget, in lines. said : how to write the call in a sentence; by default with all arguments.

    Raises
    ------
    WrongAnswer : it is no function, it raised, or it did not end.
    """
    if not callable(function):
        raise WrongAnswer(f"{function!r} is not a function.")
    words = said or f"{name_of(function)}({', '.join(map(_short, arguments))})"
    left = steps

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left < 0:
                raise OutOfSteps
        return count

    before = sys.gettrace()
    watchdog = _Watchdog()
    try:
        watchdog.start()
        sys.settrace(count)
        try:
            return function(*arguments)
        finally:
            sys.settrace(before)
            watchdog.stop()
    except OutOfSteps:
        raise WrongAnswer(
            f"{words} did not come to an end within {steps:,} lines: is there a loop that never ends?"
        ) from None
    except WrongAnswer:
        raise
    except NotImplementedError:
        raise WrongAnswer(f"{name_of(function)} is not written yet.") from None
    except RecursionError:
        raise WrongAnswer(f"{words} calls itself without end.") from None
    except Exception as error:
        raise WrongAnswer(f"{words} raised {type(error).__name__}: {error}{_where(error)}.") from None


class _Watchdog:
    """Raises ``OutOfSteps`` in the calling thread when the wall clock runs out, again and again until ``stop``."""

    def __init__(self) -> None:
        self._thread_id = ctypes.c_ulong(threading.get_ident())
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._fired = False

    def start(self) -> None:
        self._thread.start()

    def _watch(self) -> None:
        wait = WALL_S
        while not self._done.wait(wait):
            wait = 0.05
            with self._lock:
                if not self._done.is_set():
                    self._fired = True
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread_id, ctypes.py_object(OutOfSteps))

    def stop(self) -> None:
        try:
            with self._lock:
                self._done.set()
            # One that is still on its way arrives here. It cannot be called back: CPython 3.11 then traces for ever.
            for _ in range(1000 if self._fired else 0):
                pass
        except OutOfSteps:
            self._done.set()


def _short(value: object) -> str:
    text = f"0x{value:x}" if isinstance(value, int) and not isinstance(value, bool) and value > 9 else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _where(error: Exception) -> str:
    """``, in line 4 of your cell``: the deepest frame that is not ours."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    return f", in line {frames[-1].lineno} of {frames[-1].name}'s cell" if frames else ""


def whole_number(value: object, words: str) -> int:
    """The answer as an ``int``, or ``WrongAnswer``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongAnswer(f"{words} returned {_short(value)}; a whole number is wanted.")
    return value


def yes_or_no(value: object, words: str) -> bool:
    if not isinstance(value, bool):
        raise WrongAnswer(f"{words} returned {_short(value)}; True or False is wanted.")
    return value
