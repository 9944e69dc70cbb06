"""Something to which deeds are done, one a step, and remembered.

::

    deeds      write A to 0..29, snapshot, write B to 4..9, ...
    moments    0 ── 1 ── 2 ── 3        recorded after each deed, and never changed afterwards

Back shows what was recorded; the thing itself stays where it is. Whoever adds a deed adds it at the end.

A kind of run records moment 0 when it is made, and fills in ``_do``; a ``DeedTrack`` plays it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from vilab.view.predict import Moment, NextStep, Prediction, step_questions
from vilab.view.words import plain

Deed = TypeVar("Deed")


class DeedRun(Generic[Deed, Moment]):
    """What is to be done, and what has been recorded of it. Nothing is done before somebody goes there."""

    def __init__(self, deeds: Iterable[Deed]) -> None:
        self.deeds = list(deeds)
        self.moments: list[Moment] = []

    def _do(self, deed: Deed) -> Moment:
        """Do it; what there is afterwards."""
        raise NotImplementedError

    @property
    def total(self) -> int:
        return len(self.deeds)

    def go(self, position: int) -> None:
        """Do what has not been done, up to this position."""
        while len(self.moments) <= min(position, self.total):
            self.moments.append(self._do(self.deeds[len(self.moments) - 1]))

    def moment(self, position: int) -> Moment:
        self.go(position)
        return self.moments[position]

    def add(self, deed: Deed) -> None:
        """One more thing to do, after all others."""
        self.deeds.append(deed)

    def asked(self, questions: Mapping[int, NextStep[Moment]]) -> Callable[[int], Prediction | None]:
        """For a player: the question before the deed at a position, as far as there are deeds."""
        ask = step_questions(questions, lambda position: (self.moment(position), self.moment(position + 1)))
        return lambda position: ask(position) if position < self.total else None


Run = TypeVar("Run", bound=DeedRun[Any, Any])


class DeedTrack(Generic[Run]):
    """``Track`` for a player: a deed a step. ``rows``: how many files the picture has room for.

    A kind of track fills in ``_say`` and ``_kind``, and has a ``picture``.
    """

    first_like = 1
    """The first position that can be like another one."""

    def __init__(self, run: Run, question: str, rows: int) -> None:
        self.run, self.question, self.rows = run, question, rows

    def _say(self, position: int) -> str:
        """What has been done, with marks."""
        raise NotImplementedError

    def _kind(self, position: int) -> str:
        """What makes two steps alike."""
        raise NotImplementedError

    @property
    def total(self) -> int:
        return self.run.total

    def go(self, position: int) -> None:
        self.run.go(position)

    def open(self, row: int) -> None:
        """There is nothing more to see of a row."""

    def next_like(self, position: int, direction: int) -> int | None:
        """The next step of the same kind, among those that were recorded."""
        kind = self._kind(position)
        at = position + direction
        while self.first_like <= at < len(self.run.moments):
            if self._kind(at) == kind:
                return at
            at += direction
        return None

    def describe(self, position: int) -> str:
        return plain(self._say(position))
