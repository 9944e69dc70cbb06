"""Predict, then reveal: a question about what comes next, made from the running state.

::

    asked ---- a choice arrives ----> revealed ---- Step ----> the step is taken
      |                                                            ^
      +------------------------- Escape: skipped ------------------+

What is right is a callable, called by the kernel when a choice has arrived. Until then the answer is neither in the
notebook's source nor in its outputs nor in anything that was sent to the browser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Generic, TypeVar

import msgspec

MOST_OPTIONS = 4

Number = TypeVar("Number", int, float)
Moment = TypeVar("Moment")


class Prediction(msgspec.Struct, frozen=True):
    """One question with two to four options.

    question, options : sentences; marks of ``words`` are allowed.
    right : gives the index of the right option. Called once, after a choice.
    why : the reason in one sentence, or a callable that gives it; called after ``right``.
    """

    question: str
    options: tuple[str, ...]
    right: Callable[[], int]
    why: str | Callable[[], str]


def measured(
    question: str, options: Sequence[str], limits: Sequence[float], measure: Callable[[], Number],
    why: Callable[[Number], str],
) -> Prediction:  # fmt: skip
    """A question about a number: option ``i`` is right below ``limits[i]``, the one behind the last limit above all.

    measure : called once, after a choice. why : the reason, given the number.
    """
    number = cache(measure)
    return Prediction(
        question, tuple(options), lambda: sum(number() >= limit for limit in limits), lambda: why(number())
    )


class NextStep(msgspec.Struct, Generic[Moment], frozen=True):
    """A question about what the next step does, as a number: ``measured``, from (moment before, moment after)."""

    question: str
    options: tuple[str, ...]
    limits: tuple[int, ...]
    measure: Callable[[Moment, Moment], int]
    why: Callable[[int], str]

    def about(self, moments: Callable[[], tuple[Moment, Moment]]) -> Prediction:
        """``moments`` is called after a choice: only then the step is taken."""
        return measured(self.question, self.options, self.limits, lambda: self.measure(*moments()), self.why)


def step_questions(
    questions: Mapping[int, NextStep[Moment]], moments: Callable[[int], tuple[Moment, Moment]]
) -> Callable[[int], Prediction | None]:
    """For a player: the question that stands before the step from a position. ``moments``: before and after it."""

    def ask(position: int) -> Prediction | None:
        found = questions.get(position)
        return None if found is None else found.about(lambda: moments(position))

    return ask


class Card(msgspec.Struct, frozen=True):
    """A prediction as it stands on the page. ``right`` and ``why`` are filled by the reveal and not before."""

    question: str
    options: tuple[str, ...]
    chosen: int | None = None
    right: int | None = None
    why: str = ""

    @property
    def revealed(self) -> bool:
        return self.right is not None


class Asked:
    """One prediction on its way from asked to revealed."""

    def __init__(self, prediction: Prediction) -> None:
        if not 2 <= len(prediction.options) <= MOST_OPTIONS:
            raise ValueError(f"a prediction has two to four options, this one has {len(prediction.options)}")
        self._prediction = prediction
        self.card = Card(prediction.question, prediction.options)

    def reveal(self, choice: int) -> Card:
        """Decide, now that a choice is there. Asking again changes nothing."""
        if not self.card.revealed and 0 <= choice < len(self.card.options):
            right = self._prediction.right()
            why = self._prediction.why
            words = why if isinstance(why, str) else why()
            self.card = msgspec.structs.replace(self.card, chosen=choice, right=right, why=words)
        return self.card

    def describe(self) -> str:
        """The card in words, as far as it may be told."""
        from vilab.view.words import plain

        card = self.card
        lines = [card.question, *(f"  {index + 1}  {option}" for index, option in enumerate(card.options))]
        if card.revealed:
            assert card.right is not None
            assert card.chosen is not None
            verdict = "right" if card.right == card.chosen else f"not {card.chosen + 1}, but {card.right + 1}"
            lines.append(f"{verdict}: {card.why}")
        return plain("\n".join(lines))
