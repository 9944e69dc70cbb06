"""Questions about a disk that moves. What is right is counted on the events of the move; whose copy counts after a
death is found by dying (``storage_move_death``)."""

from __future__ import annotations

from collections.abc import Callable

from vilab.course.storage_move_death import Found
from vilab.course.storage_move_lab import DESTINATION, SOURCE
from vilab.view.predict import Prediction, measured
from vilab.view.storage_move_run import StorageMoveRun, squares_of
from vilab.view.storage_move_says import kilobytes

Ask = Callable[[int], Prediction | None]


def end_of_first_round(run: StorageMoveRun) -> int:
    """The last position of round 1."""
    return max(at for at, step in enumerate(run.steps, 1) if len(step.seen.rounds) <= 1 and step.kind == "copied")


def written_squares(run: StorageMoveRun, last: int) -> set[int]:
    """Squares that the guest has written to until then."""
    return set().union(*(squares_of(*piece) for step in run.steps[:last] for piece in step.seen.now_written))


def changed_questions(run: StorageMoveRun) -> Ask:
    """Before it begins, and at the end of round 1."""
    disk, end, over = run.begin.began.disk_bytes, end_of_first_round(run), run.at(len(run.steps))

    def ask(position: int) -> Prediction | None:
        if position == 0:
            return measured(
                f"The disk has {kilobytes(disk)}, and the guest goes on writing. How much will be copied until it has "
                "moved?",
                (f"{kilobytes(disk)}: everything once.", "Up to a quarter more.", "A quarter to all of it more.",
                 "More than twice the disk."),
                (1.001, 1.25, 2.0), lambda: over.copied_bytes / disk,
                lambda times: f"{kilobytes(over.copied_bytes)}, {times:.2f} times the disk: what is written behind the "
                "copy has to go again, and while that goes, the guest writes on.",
            )  # fmt: skip
        if position == end:
            hit = len(written_squares(run, end))
            return measured(
                f"Round 1 has copied all {run.begin.squares} squares. Meanwhile the guest has written to {hit} of "
                "them. How many have to be copied again?",
                ("None: each was copied.", f"Some of the {hit}.", f"All {hit}.", "All squares."),
                (1, hit, hit + 1), lambda: len(run.at(end).old),
                lambda count: f"{count}: the others were written before the copy came to them, and it took the new "
                "content along.",
            )  # fmt: skip
        return None

    return ask


def snapshot_questions(run: StorageMoveRun, other: StorageMoveRun) -> Ask:
    """``other``: the same guest, moved by changed blocks."""
    end = end_of_first_round(run)

    def ask(position: int) -> Prediction | None:
        if position != end:
            return None
        theirs, ours = other.at(len(other.steps)).rounds[1], run.at(len(run.steps)).rounds[1]
        return measured(
            f"The same guest, and the same writes. With changed blocks, round 2 had {kilobytes(theirs.copied_bytes)}. "
            "How much will this one copy, out of the redo log?",
            ("Less: the redo log knows sectors, not squares of 64 KB.", "About the same.", "More."),
            (0.9, 1.1), lambda: ours.copied_bytes / theirs.copied_bytes,
            lambda times: f"{kilobytes(ours.copied_bytes)}, {times:.1f} times as much. All that was written is in the "
            "redo log, ahead of the copy or behind it: the frozen disk below never has it.",
        )  # fmt: skip

    return ask


def death_questions(run: StorageMoveRun, die: Callable[[int], Found]) -> Ask:
    """At every moment. ``die``: from a position, what the other host has found."""

    def ask(position: int) -> Prediction | None:
        if not 1 <= position < len(run.steps):
            return None
        return Prediction(
            "esx1 loses its power **now**. esx2 powers web on. From which disk does it start?",
            (f"[{SOURCE}] web.", f"[{DESTINATION}] web.", "Neither: somebody has to repair it first."),
            lambda: (SOURCE, DESTINATION, "").index(die(position).at),
            lambda: brief(die(position)),
        )

    return ask


def brief(found: Found) -> str:
    """In a sentence or two."""
    if not found.at:
        return " ".join(found.refused)
    words = f"It runs from [{found.at}], with {found.right} of {found.synced} files that the guest had synced."
    if found.at == SOURCE:
        return f"{words} The copy at {DESTINATION} had {found.in_copy} of them; it is removed."
    return f"{words} At {SOURCE} esx2 was told: {found.refused[0]}" if found.refused else words
