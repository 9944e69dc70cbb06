"""What most tracks are alike in: everything has happened already, and a step shows one thing more of it.

::

    position   0          1         2         3  ...  total
               nothing    a         b         a           kind_of
                          next_like(1, forwards) = 3

A track says how many steps there are, what there is to say at each (``sentence``) and how it looks (``picture``). One
that has steps of several kinds says which (``kind_of``); without kinds there is no next one that is like this.
"""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from vilab.view.words import plain


class StepTrack:
    """``first``: the first position at which something is shown; 0 where there is no "nothing yet"."""

    first: ClassVar[int] = 1

    @property
    def total(self) -> int:
        raise NotImplementedError

    def sentence(self, position: int) -> str:
        """In markup."""
        raise NotImplementedError

    def kind_of(self, position: int) -> object | None:
        """Of a step from ``first`` to ``total``."""
        return None

    def go(self, position: int) -> None:
        """Nothing moves: it has happened."""

    def open(self, row: int) -> None:
        """There is nothing more to see of a row."""

    def next_like(self, position: int, direction: int) -> int | None:
        """The next step of the same kind; at the beginning, of the first one's."""
        here = max(position, self.first)
        kind = self.kind_of(here) if here <= self.total else None
        at = position + direction
        while kind is not None and self.first <= at <= self.total:
            if self.kind_of(at) == kind:
                return at
            at += direction
        return None

    def describe(self, position: int) -> str:
        return plain(self.sentence(position))


Found = TypeVar("Found")


class MeasuredTrack(StepTrack, Generic[Found]):
    """Each step is measured when it is shown for the first time, in their order."""

    def __init__(self) -> None:
        self._found: list[Found] = []

    def measure(self, position: int) -> Found:
        """What step ``position``, 1 and up, is about."""
        raise NotImplementedError

    def go(self, position: int) -> None:
        while len(self._found) < position:
            self._found.append(self.measure(len(self._found) + 1))

    def found(self, position: int) -> Found:
        """What step ``position``, 1 and up, has measured."""
        self.go(position)
        return self._found[position - 1]
