"""Questions about two hosts on one LUN and about its blocks. What is right is read off the run when a choice has
arrived."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vilab.course import volume_runs as volumes
from vilab.view.lock_frame import SECOND_NS, LockStep, LockStory
from vilab.view.lock_says import seconds
from vilab.view.predict import NextStep, Prediction, measured
from vilab.view.vmfs_run import MapMoment, VolumeRun

Ask = Callable[[int], Prediction | None]


def _next(story: LockStory, position: int, *kinds: str) -> LockStep | None:
    return next((step for step in story.steps[position + 1 :] if step.kind in kinds), None)


def _wait_ns(story: LockStory, position: int) -> int:
    """From the next question of a host to its answer; -1: there is none."""
    asked = _next(story, position, "asks")
    if asked is None:
        return -1
    after = story.steps.index(asked)
    answer = _next(story, after, "refused", "on")
    return -1 if answer is None else answer.at_ns - asked.at_ns


def lock_questions(story: LockStory) -> Ask:
    """Before a machine that runs is asked for, before both hosts change something at once, when a host has died."""
    kinds = [step.kind for step in story.steps]
    meets = kinds.index("meets") if "meets" in kinds else -1
    refused = kinds.index("refused") if "refused" in kinds else -1
    dies = kinds.index("dies") if "dies" in kinds else -1
    silent = kinds.index("silent") if "silent" in kinds else -1

    def ask(position: int) -> Prediction | None:
        if meets > 0 and position == meets - 1:
            return _conflict(story, meets)
        if refused > 0 and position == kinds.index("asks"):
            return _in_use(story, position, refused)
        if dies > 0 and position == dies:
            return _after_death(story, position)
        if silent > 0 and position == silent and dies > 0 and story.steps[dies].volume.slots[0].pending:
            return _half_a_change(story, dies)
        return None

    return ask


def _conflict(story: LockStory, meets: int) -> Prediction:
    def turned() -> int:
        host = story.steps[meets].host
        until = _next(story, meets, "grows")
        while until is not None and until.host != host:
            until = _next(story, story.steps.index(until), "grows")
        last = len(story.commands) if until is None else until.commands
        found = story.commands[story.steps[meets - 1].commands : last]
        return sum(each.conflict for each in found if each.host == host)

    return measured(
        "Two guests write at the same moment, each to a disk of its own, on different hosts; both disks need new "
        "blocks. What will the second host notice?",
        ("Nothing: the files are different ones.", "It is turned away once or more, and tries again.",
         "Its guest's write fails."),
        (1,), turned,
        lambda n: f"{n} commands came back undone. A reservation is of the whole LUN, whatever the "
        "change is about.",
    )  # fmt: skip


def _in_use(story: LockStory, position: int, refused: int) -> Prediction:
    wait_ns = story.steps[refused].at_ns - story.steps[position].at_ns
    return measured(
        "db runs on one host, and now the other one shall power it on. When will it hear that this cannot be?",
        ("At once: the lock says who has it.", "Within three seconds: it has to see a heartbeat.",
         "After 16 s.", "Never: it will run twice."),
        (SECOND_NS // 2, 7 * SECOND_NS // 2 + 1), lambda: wait_ns,
        lambda ns: f"After {seconds(ns)}. A lock on disk says who took it, and not whether that one is alive. A "
        "changed stamp does.",
    )  # fmt: skip


def _after_death(story: LockStory, position: int) -> Prediction:
    def right() -> int:
        wait_ns = _wait_ns(story, position)
        if wait_ns < 0:
            return 3
        return sum(wait_ns >= limit * SECOND_NS for limit in (1, 15))

    return Prediction(
        "The host that ran db has no power. The other one is told to power db on. How long will that take?",
        ("Not a second: a dead host holds nothing.", "About three seconds, a heartbeat.",
         "16 s or a little more.", "It does not go without an administrator, who deletes the lock."),
        right,
        lambda: f"{seconds(_wait_ns(story, position))}, counted from when somebody begins to look, not from the death: "
        "nobody was looking before.",
    )  # fmt: skip


def _half_a_change(story: LockStory, dies: int) -> Prediction:
    def right() -> int:
        before, after = story.steps[dies].volume, _next(story, dies, "on", "stolen")
        path = "/db/db-flat.vmdk"
        one, other = before.file(path), None if after is None else after.volume.file(path)
        if one is None or other is None or len(other.blocks) == len(one.blocks):
            return 0
        return 1

    return Prediction(
        "The host died while it was giving db-flat.vmdk two more blocks: inode and bitmap have to change together, and "
        "neither has. What will the other host find?",
        ("The disk as it was before: the change is lost.", "The disk with both blocks: the change is finished.",
         "A damaged volume, for which a checker has to be run."),
        right,
        lambda: "What stands in a journal is certain, whoever wrote it. The next host that needs what it is about "
        "finishes it, before it breaks the heartbeat.",
    )  # fmt: skip


# --- the map ----------------------------------------------------------------------------------------------------------


def _taken(before: MapMoment, after: MapMoment) -> int:
    return before.volume.free_blocks - after.volume.free_blocks


def _distance(before: MapMoment, after: MapMoment) -> int:
    """Blocks between the last one of the first host's file and the first one of the other's."""
    old, new = after.volume.file(volumes.DB), after.volume.file(volumes.WEB)
    return 0 if old is None or new is None else new.blocks[0] - old.blocks[-1]


def _metadata(_: MapMoment, after: MapMoment) -> int:
    """Writes to anything that is no block of the file."""
    file = after.volume.file(after.path)
    blocks = set() if file is None else set(file.blocks)
    return sum(pos // after.volume.block_bytes not in blocks for pos, _ in after.written)


def _data_sectors(before: MapMoment, after: MapMoment) -> int:
    file = before.volume.file(after.path)
    return 0 if file is None else sum(after.sectors_in(block) for block in file.blocks)


QUESTIONS: Mapping[int, NextStep[MapMoment]] = {
    volumes.BEFORE_THIN: NextStep(
        "A disk of 64 MB is created, thin. How many blocks of 1 MB will be taken?",
        ("None.", "One, to begin with.", "64."), (1, 2), _taken,
        lambda n: f"{n}. A size is a number in an inode. Blocks are taken when they are written.",
    ),
    volumes.BEFORE_HOLE: NextStep(
        "The guest has written 3 MB at the beginning. Now it writes 1 MB in the middle, at 40 MB. Blocks taken?",
        ("None: there is room in the last one.", "One.", "All up to there, 38."), (1, 2), _taken,
        lambda n: f"{n}. Where nothing was written the inode has a 0: a hole, which reads as zeros.",
    ),
    volumes.BEFORE_OTHER: NextStep(
        "Another host creates a file. Where on the LUN will its blocks begin?",
        ("Right behind the first host's.", "Somewhere else, far from them."), (2,), _distance,
        lambda n: f"{n} blocks further on. Each host looks for free blocks at a place of its own, so that two of "
        "them rarely want the lock of the same bitmap.",
    ),
    volumes.BEFORE_OVERWRITING: NextStep(
        "The guest overwrites 2 MB that it has written before. How much metadata must its host write for that?",
        ("None.", "The inode, for the time of the change.", "Journal, inode and bitmap."), (1, 2), _metadata,
        lambda n: f"{n} writes to anything but the data. That is why a disk that has all its blocks is as fast on "
        "VMFS as a bare LUN, and why locks are needed so rarely.",
    ),
    volumes.BEFORE_REMOVE: NextStep(
        "db-flat.vmdk is deleted, with 16 MB of data in it. How much of the data will be overwritten?",
        ("Nothing at all.", "One sector in each block.", "All of it, with zeros."), (1, 1000), _data_sectors,
        lambda n: f"{n} sectors. Deleting is bookkeeping. Whoever gets the blocks next finds zeros, because they "
        "are cleared then, and not before.",
    ),
}  # fmt: skip


def volume_questions(run: VolumeRun) -> Ask:
    """The questions of ``volume_runs.STORY``."""
    return run.asked(QUESTIONS)
