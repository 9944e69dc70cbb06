"""What a checker answers: one sentence, and when the answer was wrong the steps of a real run that show it.

::

    check_popf(popf)  ── right ──> Feedback      RIGHT: 32 cases, as on the processor.
                      └─ wrong ──> WrongAnswer   WRONG: sentence
                                                 step  eip       instruction ...     (the counter-example)

A wrong answer is an exception, so that a cell that checks is also a cell that nbgrader can mark. In a notebook it
shows only its own lines, without Python's traceback.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Feedback(msgspec.Struct, frozen=True):
    """``sentence`` for a person; ``trace``: the counter-example, a line each, empty where the answer is right."""

    right: bool
    sentence: str
    trace: tuple[str, ...] = ()

    def describe(self) -> str:
        """The whole as text."""
        return "\n".join([f"{'RIGHT' if self.right else 'WRONG'}: {self.sentence}", *self.trace])

    def __repr__(self) -> str:
        return self.describe()


class WrongAnswer(AssertionError):
    """The student's answer does not hold. ``feedback`` says where."""

    def __init__(self, sentence: str, trace: Sequence[str] = ()) -> None:
        self.feedback = Feedback(False, sentence, tuple(trace))
        super().__init__(self.feedback.describe())

    def _render_traceback_(self) -> list[str]:
        """IPython shows this instead of a traceback."""
        return self.feedback.describe().splitlines()


def right(sentence: str) -> Feedback:
    return Feedback(True, sentence)


def columns(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Rows of words as aligned lines. Rows may be of different lengths."""
    count = max((len(row) for row in rows), default=0)
    widths = [max((len(row[at]) for row in rows if at < len(row)), default=0) for at in range(count)]
    return tuple("  ".join(word.ljust(widths[at]) for at, word in enumerate(row)).rstrip() for row in rows)
