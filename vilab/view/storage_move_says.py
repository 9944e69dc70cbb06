"""The text twin of a Storage VMotion: what has just happened, with its bytes, and why."""

from __future__ import annotations

from vilab.view.storage_move_run import REDO_LOG, Seen, Step, squares_of
from vilab.view.words import NBSP, counted, grouped


def kilobytes(size_bytes: int) -> str:
    """``2,048 KB``, ``0.5 KB``"""
    if size_bytes % 1024 and size_bytes < 10_240:
        return f"{size_bytes / 1024:.1f}{NBSP}KB"
    return f"{grouped(round(size_bytes / 1024))}{NBSP}KB"


def datastore(where: str) -> str:
    return where[1:].partition("]")[0]


def say_begin(seen: Seen) -> str:
    began = seen.began
    return (
        f"{began.vm} runs, and its disk of {kilobytes(began.disk_bytes)} is in {datastore(began.source)}. It is to "
        f"move to {datastore(began.destination)}, by {_method(seen)}. Nothing has been done yet."
    )


def _method(seen: Seen) -> str:
    return "redo logs" if seen.began.method == "snapshot" else "rounds of changed blocks"


def say(step: Step, before: Seen) -> str:
    """In markup. ``before``: what there was before this step."""
    seen = step.seen
    if step.kind == "copied":
        return _copied(seen, before)
    if step.kind == "folder":
        return " ".join(part for part in (_written(seen), *_folders(seen, before)) if part)
    if step.kind == "switched":
        assert seen.switched is not None
        return (
            f"The guest's adapter has the disk in **{datastore(seen.began.destination)}** now, and the guest goes on. "
            f"{kilobytes(seen.switched.stopped_bytes)} were copied while it stood still. Same adapter, same disk: "
            "it has not noticed."
        )
    assert seen.ended is not None
    if step.kind == "failed":
        return seen.ended.why
    times = seen.ended.copied_bytes / seen.began.disk_bytes
    return (
        f"It has moved. **{kilobytes(seen.ended.copied_bytes)}** were copied, {times:.2f} times the disk; the guest "
        f"has written {kilobytes(seen.written_bytes)} meanwhile."
    )


def _written(seen: Seen) -> str:
    size = sum(size for _, size in seen.now_written)
    return f"The guest has written {kilobytes(size)}." if size else ""


def _copied(seen: Seen, before: Seen) -> str:
    size, last = sum(size for _, size in seen.now_copied), seen.rounds[-1]
    squares: set[int] = set().union(*(squares_of(*each) for each in seen.now_copied))
    parts = [*_over(seen, before), _written_where(seen, before)]
    if last.stopped:
        parts.append("The guest **stands still** from now on.")
    whence = "" if last.number == 1 or not seen.redo_logs else f" out of {_log(seen, last.number)}"
    parts.append(f"Round {last.number}: **{kilobytes(size)}** copied{whence}, {counted(len(squares), 'square')}.")
    more = len(seen.old - before.old)
    if last.left_bytes is not None and seen.same:
        parts.append("Both disks hold the same now" + ("." if last.stopped else ", and the guest runs on."))
    elif last.left_bytes is not None:
        parts.append(f"The round is over, and {kilobytes(last.left_bytes)} have to go again.")
    elif more and not seen.redo_logs:
        parts.append(f"{counted(more, 'more square')} {'has' if more == 1 else 'have'} to go again.")
    return " ".join(part for part in parts if part)


def _over(seen: Seen, before: Seen) -> list[str]:
    """The round before, if it has ended in this step."""
    open_before = {each.number for each in before.rounds if each.left_bytes is None}
    ended = [each for each in seen.rounds[:-1] if each.number in open_before and each.left_bytes is not None]
    return [f"Round {each.number} is over, and {kilobytes(each.left_bytes or 0)} have to go again." for each in ended]


def _written_where(seen: Seen, before: Seen) -> str:
    """Ahead of the copy or behind it, where that makes a difference: in round 1, without redo logs."""
    words = _written(seen)
    if not words or seen.switched is not None:
        return words
    if seen.redo_logs:
        return f"{words[:-1]}, into {seen.redo_logs[-1].name}."
    if seen.rounds[-1].number > 1:
        return words
    hit = set().union(*(squares_of(*each) for each in seen.now_written))
    behind, ahead = hit & before.there, hit - before.there
    if not ahead:
        return f"{words[:-1]}, behind the copy."
    where = "part of it behind the copy, part ahead of it" if behind else "all of it ahead of the copy"
    return f"{words[:-1]}, {where}."


def _log(seen: Seen, number: int) -> str:
    return seen.redo_logs[min(number - 2, len(seen.redo_logs) - 1)].name


_WHY = {
    ".copying": "{} is written into the old folder: a move is under way, and where to.",
    ".switching": "**{} becomes the record's name**: from now on the name in the new folder decides.",
    ".staying": "{} becomes the record's name: the machine stays here.",
    ".moving": "{} is the configuration in the new folder, under a name that nobody powers on.",
    ".withdrawn": "{} in the new folder: this copy will never be powered on.",
}


def _folders(seen: Seen, before: Seen) -> list[str]:
    """What has come and what has gone."""
    old, new = datastore(seen.began.source), datastore(seen.began.destination)
    parts = []
    for name in sorted(set(seen.source) - set(before.source)):
        if REDO_LOG.search(name):
            parts.append(f"**{name} takes the writes from now on**; the disk below it is frozen, and can be copied.")
        else:
            parts.append(_WHY.get(_ending(name), "{} is in the old folder.").format(name))
    arrived = set(seen.destination) - set(before.destination)
    for name in sorted(arrived):
        if name.endswith(".vmdk"):
            parts.append(f"{name} is made in {new}: as large as the old one, and empty.")
        elif name.endswith(".vmx"):
            parts.append(f"**{name}.moving becomes {name}**: one renaming, at {new}.")
        else:
            parts.append(_WHY.get(_ending(name), "{} is in the new folder.").format(name))
    renamed = {name for name in before.source if _ending(name) in _WHY and _ending(name) != ".moving"}
    gone = set(before.source) - set(seen.source)
    if len(seen.source) >= len(before.source):
        gone -= renamed  # it has got another name
    if gone:
        rest = "" if seen.source else f" Nothing is left in {old}."
        parts.append(f"{' and '.join(sorted(gone))} {'is' if len(gone) == 1 else 'are'} removed from {old}.{rest}")
    lost = set(before.destination) - set(seen.destination)
    if lost and len(seen.destination) < len(before.destination):
        parts.append(f"{' and '.join(sorted(lost))} {'is' if len(lost) == 1 else 'are'} removed from {new}.")
    if any(name.endswith(".switching") for name in set(seen.source) - set(before.source)) and len(seen.rounds) > len(
        before.rounds
    ):
        parts.insert(0, "The guest stands still, and nothing is left to copy.")
    return parts


def _ending(name: str) -> str:
    return "." + name.rpartition(".")[2]
