"""Questions about a disk and its redo logs. What is right is read off the moment after, which is recorded when a choice
has arrived and shown with the next step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vilab.course import snapshot_runs as runs
from vilab.view.disk_frame import DiskMoment
from vilab.view.disk_run import DiskRun
from vilab.view.disk_says import kilobytes
from vilab.view.predict import NextStep, Prediction


def _growth(before: DiskMoment, after: DiskMoment) -> int:
    return after.file_bytes - before.file_bytes


def _pieces(_: DiskMoment, after: DiskMoment) -> int:
    return len(after.pieces)


def _copied(before: DiskMoment, after: DiskMoment) -> int:
    """Blocks of the base that are other ones now."""
    return sum(a != b for a, b in zip(before.links[0].cells, after.links[0].cells, strict=True))


def _changed(before: DiskMoment, after: DiskMoment) -> int:
    return sum(a != b for a, b in zip(before.seen, after.seen, strict=True))


QUESTIONS: Mapping[int, NextStep[DiskMoment]] = {
    runs.BEFORE_OVERWRITING: NextStep(
        "The guest writes C over three of the six blocks that it has just written. How will the redo log grow?",
        ("Not at all.", "By three blocks, 12 KB.", "By more than 12 KB."), (1, 12289), _growth,
        lambda n: f"{kilobytes(n)}. Its own blocks it overwrites in place: nobody needs the B any more.",
    ),
    runs.BEFORE_READ: NextStep(
        "The guest reads 16 blocks that stand side by side for it. How many reads of files are that?",
        ("One.", "Two or three: one for each file.", "Four or more."), (2, 4), _pieces,
        lambda n: f"{n}: one for each run of blocks that lie together in one file. Count the runs in the top row.",
    ),
    runs.BEFORE_DELETE: NextStep(
        "Snapshot 1 is deleted: the redo log vm-000001 goes into vm. It holds six blocks, two of them hidden by "
        "D. How many blocks of vm change?",
        ("None: a deleted snapshot is gone.", "Four: only those that are still read.", "Six.", "All."),
        (1, 5, 7), _copied,
        lambda n: f"{n}. Snapshot 2 is still there, and for it the two hidden ones are not hidden.",
    ),
    runs.BEFORE_REVERT: NextStep(
        "Now the disk goes back to the snapshot that is left. What will the guest notice?",
        ("Nothing: the redo log below is kept.", "Blocks that it wrote since are as they were.",
         "All blocks are zeros."), (1, 20), _changed,
        lambda n: f"{n} blocks are as they were. An operating system that is running does not survive that: it is "
        "done with the machine off, or with its memory put back, too.",
    ),
}  # fmt: skip


def story_questions(run: DiskRun) -> Callable[[int], Prediction | None]:
    """The questions of ``snapshot_runs.STORY``."""
    return run.asked(QUESTIONS)
