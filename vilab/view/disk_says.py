"""What has just happened to a disk and its redo logs, in words, with figures read off both moments."""

from __future__ import annotations

from vilab.storage import storage_events as events
from vilab.view.disk_frame import ABSENT, ZEROS, DiskMoment
from vilab.view.words import counted


def kilobytes(size_bytes: int) -> str:
    return f"{size_bytes / 1024:,.1f} KB".replace(".0 KB", " KB")


def say(now: DiskMoment, before: DiskMoment | None) -> str:
    if before is None:
        base = now.links[0]
        size = f"{base.name}, {kilobytes(base.file_bytes)}, all zeros"
        return f"**{now.words}**: {size}. The guest sees {len(now.seen)} blocks."
    kinds = {type(event) for event in now.events}
    if events.SnapshotCommitted in kinds:
        return _merged(now, before)
    if events.SnapshotReverted in kinds:
        return _reverted(now, before)
    if events.SnapshotTaken in kinds:
        return _taken(now, before)
    if now.access is not None and now.access.kind == "read":
        return _read(now)
    return _written(now, before)


def _written(now: DiskMoment, before: DiskMoment) -> str:
    assert now.access is not None
    top, was = now.links[-1], before.links[-1]
    written = range(now.access.first, now.access.first + now.access.blocks)
    new = sum(was.cells[at] == ABSENT for at in written)
    growth = top.file_bytes - was.file_bytes
    words = f"{now.words}. "
    if len(now.links) == 1:
        return words + f"They have their place in {top.name} and are overwritten there; no file grows."
    if not new:
        return words + f"{top.name} holds them already: **no file grows**, the older bytes are gone."
    hides = sum(before.source[at] != len(before.links) - 1 and before.seen[at] != ZEROS for at in written)
    words += f"**{counted(new, 'block')} more in {top.name}**, which grows by {kilobytes(growth)}."
    return words + (f" What lay below is still there, and hidden: {counted(hides, 'block')}." if hides else "")


def _taken(now: DiskMoment, before: DiskMoment) -> str:
    parent, child = now.links[-2], now.links[-1]
    same = "Nothing is copied" if now.seen == before.seen else "**What the guest reads has changed**"
    return (
        f"{now.words}: {parent.name} is read-only now, **{child.name} takes the writes**. {same}; an empty redo log "
        f"has {kilobytes(child.file_bytes)} of header and tables."
    )


def _read(now: DiskMoment) -> str:
    files = len({link for link, _, _ in now.pieces})
    if len(now.pieces) == 1:
        return f"{now.words}. They lie one behind the other in one file: **one read** is enough."
    return (
        f"{now.words}. They lie in **{len(now.pieces)} pieces** in {counted(files, 'file')}, so that one read of the "
        f"guest is {len(now.pieces)} reads of files."
    )


def _reverted(now: DiskMoment, before: DiskMoment) -> str:
    lost = before.links[-1].held
    differ = sum(a != b for a, b in zip(now.seen, before.seen, strict=True))
    return (
        f"{now.words}. **{counted(lost, 'block')} written since {'is' if lost == 1 else 'are'} thrown away**; the "
        f"guest reads something else in {differ} of {len(now.seen)} blocks, and nobody has asked it."
    )


def _merged(now: DiskMoment, before: DiskMoment) -> str:
    merged = [event for event in now.events if isinstance(event, events.SnapshotCommitted)]
    blocks = sum(event.sectors for event in merged) // 8
    change = now.file_bytes - before.file_bytes
    written = now.access
    expected = list(before.seen)
    if written is not None:
        for at in range(written.first, written.first + written.blocks):
            expected[at] = now.seen[at]
    same = "".join(expected) == now.seen
    truth = "What the guest reads is the same, byte for byte" if same else "**What the guest reads has changed**"
    return (
        f"{now.words}. **{counted(blocks, 'block')} copied**, each into the file below; "
        f"{counted(len(merged), 'redo log')} gone, the files together {_change(change)}. {truth}."
    )


def _change(size_bytes: int) -> str:
    if not size_bytes:
        return "as long as before"
    return f"{kilobytes(abs(size_bytes))} {'longer' if size_bytes > 0 else 'shorter'}"
