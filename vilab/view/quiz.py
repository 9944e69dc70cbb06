"""Questions on their own: the cards of ``predict`` one after another, without a player."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vilab.view import markup
from vilab.view.predict import Asked, Prediction


class QuizRun:
    """Which question is asked, and what has been answered. After the last one it begins again."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        if not predictions:
            raise ValueError("a quiz has at least one question")
        self._predictions = tuple(predictions)
        self._at = 0
        self.asked = Asked(self._predictions[0])

    def handle(self, message: Mapping[str, Any]) -> None:
        """``reveal`` with a ``choice`` from 0, or ``next``."""
        if message.get("do") == "reveal":
            self.asked.reveal(int(message.get("choice", -1)))
        elif message.get("do") == "next" and self.asked.card.revealed:
            self._at = (self._at + 1) % len(self._predictions)
            self.asked = Asked(self._predictions[self._at])

    def frame(self) -> dict[str, Any]:
        """For the page; holds no answer before its reveal."""
        total = len(self._predictions)
        revealed = self.asked.card.revealed
        following = "Next" if self._at + 1 < total else "Again"
        return {
            "card": markup.card(self.asked.card, "quiz"),
            "revealed": revealed,
            "button": following if revealed else "Reveal",
            "where": f"{self._at + 1} of {total}" if total > 1 else "",
        }

    def describe(self) -> str:
        return self.asked.describe()
