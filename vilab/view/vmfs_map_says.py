"""What has just happened to a volume, in words, with figures read off its bytes."""

from __future__ import annotations

from collections.abc import Sequence

from vilab.storage.vmfs.layout import MIB, SECTOR
from vilab.view.vmfs_frame import FREE, FileMoment
from vilab.view.vmfs_run import MapMoment
from vilab.view.words import counted, grouped


def megabytes(size_bytes: int) -> str:
    if size_bytes < MIB:
        return f"{size_bytes / 1024:g} KB" if size_bytes else "0"
    return f"{size_bytes / MIB:.1f} MB".replace(".0 MB", " MB")


def spans(numbers: Sequence[int], most: int = 4) -> str:
    """``25 to 27, 65``; more than ``most`` pieces are counted."""
    pieces: list[tuple[int, int]] = []
    for each in numbers:
        if pieces and pieces[-1][1] == each - 1:
            pieces[-1] = pieces[-1][0], each
        else:
            pieces.append((each, each))
    words = [f"{first} to {last}" if last > first else str(first) for first, last in pieces]
    if len(words) > most:
        return f"{', '.join(words[: most - 1])} and {len(words) - most + 1} more pieces"
    return ", ".join(words)


def say(now: MapMoment, before: MapMoment | None) -> str:
    volume = now.volume
    if before is None:
        used = len(volume.used) - volume.free_blocks
        return (
            f"**A new volume**: {len(volume.used)} blocks of {megabytes(volume.block_bytes)}, {used} of them taken "
            "before there is any file: journals, heartbeats, inodes, bitmaps, and sub-blocks for what is small."
        )
    file, was = volume.file(now.path), before.volume.file(now.path)
    if file is None and was is not None:
        return _removed(now, before, was)
    if file is None:
        return _mounted(now, before)
    if was is None:
        return _created(now, before, file)
    if was.lock != FREE and file.lock == FREE:
        return f"{now.words}: **its lock is free**, one sector is written. Its {_have(file)} are where they were."
    return _written(now, file, was)


def _mounted(now: MapMoment, before: MapMoment) -> str:
    new = [slot for slot, old in zip(now.volume.slots, before.volume.slots, strict=True) if slot.live and not old.live]
    if not new:
        return f"{now.words}."
    return (
        f"{now.words}: **heartbeat slot {new[0].slot} names it**, with seq {new[0].seq}. {_sectors(now)} written; no "
        "block has changed its owner."
    )


def _created(now: MapMoment, before: MapMoment, file: FileMoment) -> str:
    taken = before.volume.free_blocks - now.volume.free_blocks
    lock = f"Its lock is {file.owner}'s: slot {file.slot}, seq {file.seq}" if file.lock != FREE else "Nobody has it"
    if file.blocks:
        return (
            f"{now.words}: **{counted(taken, 'block')}**, {spans(file.blocks)}, filled with zeros, whether anybody "
            f"will write them or not. {lock}."
        )
    size = f" of {megabytes(file.size_bytes)}" if file.size_bytes else ""
    return f"{now.words}: an inode{size} and a name in a folder. **No block of data is taken.** {lock}."


def _written(now: MapMoment, file: FileMoment, was: FileMoment) -> str:
    new = [block for block in file.blocks if block not in was.blocks]
    if file.sub_blocks and not was.sub_blocks:
        return (
            f"{now.words}. That is little: it gets **a sub-block of 64 KB**, number {spans(file.sub_blocks)} in "
            ".sbc.sf, and no block of its own."
        )
    if not new:
        return f"{now.words}. All of it has its place: **no block is taken**, no lock, no journal; only the data go."
    pointers = [block for block in file.pointer_blocks if block not in was.pointer_blocks]
    if pointers:
        which = f"pointer block{'s' if len(pointers) > 1 else ''} {spans(pointers)}"
        rest = f" An inode has room for 256 of them; this one names {which} of .pbc.sf, and that names the blocks."
    else:
        rest = _holes(now, file)
    return f"{now.words}: **{counted(len(new), 'block')}**, {spans(new)}.{rest}"


def _holes(now: MapMoment, file: FileMoment) -> str:
    holes = file.size_bytes // now.volume.block_bytes - len(file.blocks)
    hole = "is a hole" if holes == 1 else "are a hole"
    return f" The disk has {megabytes(file.size_bytes)}; {counted(holes, 'block')} of it {hole}." if holes > 0 else ""


def _removed(now: MapMoment, before: MapMoment, was: FileMoment) -> str:
    back = now.volume.free_blocks - before.volume.free_blocks
    data = sum(now.sectors_in(block) for block in was.blocks)
    touched = "**not one sector of its data was written**: all of it is still there"
    if data:
        touched = f"{grouped(data)} sectors of its data were overwritten"
    return f"{now.words}: {counted(back, 'block')} back, by {_sectors(now)} of metadata; {touched}."


def _sectors(now: MapMoment) -> str:
    return counted(sum(size for _, size in now.written) // SECTOR, "sector")


def _have(file: FileMoment) -> str:
    return counted(len(file.blocks), "block") if file.blocks else "data"
