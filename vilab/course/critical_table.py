"""The table of critical instructions as the view wants it, and the questions before its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.view.critical import CriticalCell, CriticalResult
from vilab.view.predict import Prediction
from vilab.vmm.critical_run import Answer, CriticalRow, run_critical

Asked = Callable[[int], Prediction | None]


def results(rows: Sequence[CriticalRow]) -> list[CriticalResult]:
    """Rows as they were run -> rows of the picture."""
    return [
        CriticalResult(
            row.instruction.instructions()[-1].op, row.instruction.name, row.instruction.category, row.expected,
            {engine: _cell(row, answer) for engine, answer in row.answers.items()},
        )
        for row in rows
    ]  # fmt: skip


def _cell(row: CriticalRow, answer: Answer) -> CriticalCell:
    return CriticalCell(
        right=answer.right,
        value=answer.value,
        trapped=answer.way == "trap",
        why="" if answer.right else row.instruction.wrong,
        guest=answer.guest,
        cpu=answer.cpu,
    )


def critical_questions(rows: Sequence[CriticalRow]) -> Asked:
    """Before the first row and each row whose answers differ in kind from those of the row before it."""

    def at(position: int) -> Prediction | None:
        row = rows[position]
        if position and _kind(row) == _kind(rows[position - 1]):
            return None
        return _question(row)

    return at


def _kind(row: CriticalRow) -> tuple[bool, ...]:
    return tuple(answer.right for answer in row.answers.values())


def _question(row: CriticalRow) -> Prediction:
    instruction = row.instruction
    found: list[Answer] = []

    def right() -> int:
        found.append(run_critical(instruction, "trap"))
        if found[0].way == "trap":
            return 0 if found[0].right else 3
        return 1 if found[0].right else 2

    def why() -> str:
        answer = found[0]
        if answer.way == "trap":
            return f"The CPU refuses it in ring 1, so the VMM hears of it and gives `{answer.value}`."
        if answer.right:
            return f"It runs without a trap and gives `{answer.value}`."
        return f"It gives `{answer.value}` where `{row.expected}` is due: it {instruction.wrong}."

    return Prediction(
        f"Next is `{instruction.name}`. It should give `{row.expected}`. What happens under trap and emulate?",
        (
            "It traps, and the VMM gives the right answer.",
            "It does not trap, and the answer is right all the same.",
            "It does not trap, and the answer is wrong.",
            "It traps, and the answer is wrong.",
        ),
        right,
        why,
    )


def ways(rows: Sequence[CriticalRow], engine: str) -> str:
    """How an engine carried each of them out, grouped: ``in cache: pushf, popf``."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row.answers[engine].way, []).append(row.instruction.name)
    return "\n".join(f"{way} ({len(names)}): {', '.join(names)}" for way, names in groups.items())


def leaks(rows: Sequence[CriticalRow], engine: str = "trap") -> str:
    """What each wrong answer gave away, a line each."""
    lines = [
        f"{row.instruction.name:<11} {row.answers[engine].value:>8}, not {row.expected:>8}: {row.instruction.wrong}"
        for row in rows
        if not row.answers[engine].right
    ]
    return "\n".join(lines)
