"""A choice as a number that is used up: which template, and the digits that its operands are drawn from.

::

    choice   (kind, seed)    kind picks the template, the digits of seed its operands
    (0, 0)                   the simplest there is: so a shrinking test ends at the shortest program of the plainest
                             choices that still fails
"""

from __future__ import annotations

from collections.abc import Sequence

Choice = tuple[int, int]
"""(kind, seed)"""


class Digits:
    """A number as a supply of choices, least significant first; 0 for ever once it is used up."""

    __slots__ = ("_rest",)

    def __init__(self, seed: int) -> None:
        self._rest = seed

    def below(self, count: int) -> int:
        self._rest, digit = divmod(self._rest, count)
        return digit

    def of(self, items: Sequence[int]) -> int:
        self._rest, digit = divmod(self._rest, len(items))
        return items[digit]

    def one_in(self, count: int) -> bool:
        return self.below(count) == count - 1
