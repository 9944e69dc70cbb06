"""Calling what a student wrote: a crash or a loop without end becomes one sentence.

::

    call ──> the student's function ──returns──────────────────────────────> its value
                 │ every line of Python it executes costs one step
                 ├─ the budget is used up ──────────> WrongAnswer: did not come to an end within 100,000 lines
                 └─ an exception ──────────────────> WrongAnswer: raised KeyError: 'eip' in line 4

The budget counts executed lines (``sys.settrace``), so the verdict is the same on every machine and system, and no
signal is needed. Code that catches even that exception gets it again, inside its handler (``_Insist``). A single call
into C that never comes back cannot be interrupted.
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
    insist: _Insist | None = None

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left, insist
        if event == "line":
            left -= 1
            if left < 0:
                insist = insist or _Insist(count)
                raise OutOfSteps  # this also ends the tracing
        return count

    before = sys.gettrace()
    try:
        sys.settrace(count)
        try:
            return function(*arguments)
        finally:
            if insist is not None:
                insist.stop()
            sys.settrace(before)
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


class _Insist:
    """For code that has caught ``OutOfSteps`` and goes on: every half second an exception that traces again.

    Raising in a trace function ends the tracing. This exception comes from a second thread, is made in the student's,
    and on being made it puts the trace function back: the handler's next line raises, outside of its ``try``.
    """

    WAIT_S = 0.5

    def __init__(self, count: Callable[..., Any]) -> None:
        class Again(OutOfSteps):
            def __init__(self) -> None:
                frame: FrameType | None = sys._getframe().f_back
                while frame is not None and frame.f_code is not call.__code__:
                    frame.f_trace = count
                    frame = frame.f_back
                sys.settrace(count)

        self._exception = Again
        self._thread_id = threading.get_ident()
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(self.WAIT_S):
            with self._lock:
                if not self._done.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(self._thread_id), ctypes.py_object(self._exception)
                    )

    def stop(self) -> None:
        try:
            with self._lock:
                self._done.set()
            for _ in range(100):  # one that is still on its way arrives here
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
