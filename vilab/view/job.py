"""Work that takes its time, in pieces, so that the page can say how far it is and a person can stop it.

::

    def boot() -> Work[Steppable]:
        for done in range(0, 540, 4):
            ...
            yield Progress("Booting the guest", done, 540, "million instructions")
        return stepper
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Progress(msgspec.Struct, frozen=True):
    """What is being done, and how far in its own unit."""

    what: str
    done: int
    total: int
    unit: str


Work = Generator[Progress, None, T]


class Job(Generic[T]):
    """One piece of work under way. ``finished`` once it has a ``result`` or was stopped."""

    def __init__(self, work: Work[T]) -> None:
        self._work = work
        self._began = time.monotonic()
        self._first: Progress | None = None
        self.progress: Progress | None = None
        self.finished = False
        self.stopped = False
        self.result: T | None = None

    def advance(self, seconds: float = 0.1) -> None:
        """Work on for about that long. Errors of the work come out here, and it is finished."""
        until = time.monotonic() + seconds
        try:
            while not self.finished and time.monotonic() < until:
                self.progress = next(self._work)
                self._first = self._first or self.progress
        except StopIteration as end:
            self.finished = True
            self.result = end.value
        except BaseException:
            self.finished = True
            raise

    def stop(self) -> None:
        self._work.close()
        self.finished = self.stopped = True

    def seconds_left(self) -> int | None:
        """By the rate so far; ``None`` while there is none."""
        if self.progress is None or self._first is None or self.progress.done <= self._first.done:
            return None
        rate = (self.progress.done - self._first.done) / max(time.monotonic() - self._began, 1e-6)
        return round((self.progress.total - self.progress.done) / rate)

    def message(self) -> dict[str, Any] | None:
        """For the page."""
        if self.progress is None:
            return None
        return {**msgspec.to_builtins(self.progress), "left": self.seconds_left()}
