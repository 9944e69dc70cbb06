"""Exercises of lesson 12: CDBs taken apart, and from when on a file survives a power cut. The judges: the SCSI target,
by what it does to its disk; and a disk whose power is cut after each of a running guest's commands.

::

    12a   CDB ──> READ or WRITE, first sector, sectors     Target.execute on a disk that notes what is asked of it
    12b   writes and flushes ──> after how many            only what was flushed is kept; tinyfs is read from that
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.errors import AdminError, VmmBug
from vilab.guests import tinyfs
from vilab.guests.load import load
from vilab.protocols import ReadableBytes
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.geometry import ShapedBySize
from vilab.storage.scsi.sense import Status
from vilab.storage.scsi.state import Identity, Nexus
from vilab.storage.scsi.target import Target
from vilab.vmm.scsi_disks import AttachedDisk, ScsiAdapter
from vilab.vmm.vm import QuietConsole, VirtualMachine

READ, WRITE, FLUSH = "read", "write", "flush"

Command = tuple[str, int, bytes]
"""(``write``, first sector, data) or (``flush``, 0, nothing)."""


class NotedDisk(ShapedBySize):
    """A disk in memory that notes every write, flush and read. What was never written reads as zeros."""

    sector_bytes, read_only = SECTOR_BYTES, False

    def __init__(self, sectors: int) -> None:
        self.size_bytes = sectors * SECTOR_BYTES
        self.content: dict[int, bytes] = {}
        self.commands: list[Command] = []
        self.reads: list[tuple[int, int]] = []

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        first, count = offset_bytes // SECTOR_BYTES, size_bytes // SECTOR_BYTES
        self.reads.append((first, count))
        return b"".join(self.content.get(first + at, bytes(SECTOR_BYTES)) for at in range(count))

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        self.commands.append((WRITE, offset_bytes // SECTOR_BYTES, bytes(data)))
        self._keep(offset_bytes // SECTOR_BYTES, bytes(data))

    def _keep(self, first: int, data: bytes) -> None:
        for at in range(0, len(data), SECTOR_BYTES):
            self.content[first + at // SECTOR_BYTES] = data[at : at + SECTOR_BYTES]

    def flush(self) -> None:
        self.commands.append((FLUSH, 0, b""))

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        self.write(offset_bytes, bytes(size_bytes))


# 12a -------------------------------------------------------------------------------------------------------------

SECTORS = 1 << 34
"""Of the disk of 12a: 8 TB, so that CDBs of 16 bytes have a reason to be."""
FIRST_CDBS = ("0800001004 00", "2a000000007000000800", "08 1f ff ff 00 00", "28080000123400 0100 00")


def _of(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def random_cdbs(seed: int, count: int = 24) -> tuple[bytes, ...]:
    """READs and WRITEs of 6, 10, 12 and 16 bytes, with bits beside the fields set where they mean something else."""
    rng, made = random.Random(seed), []
    for number in range(count):
        write, length = rng.random() < 0.5, (6, 10, 12, 16)[number % 4]
        many = rng.randrange(1, 300)
        if length == 6:
            first = rng.randrange(1 << 21)
            made.append(bytes((0x0A if write else 0x08,)) + first.to_bytes(3, "big") + bytes((many & 0xFF, 0)))
            continue
        first = rng.randrange(1 << (32 if length < 16 else 33))
        opcode = {10: 0x28, 12: 0xA8, 16: 0x88}[length] + 2 * write
        flags = rng.choice((0, 0, 0x08, 0x10))  # FUA, DPO
        place = first.to_bytes(8 if length == 16 else 4, "big")
        if length == 10:
            made.append(bytes((opcode, flags)) + place + b"\x05" + many.to_bytes(2, "big") + b"\0")
        else:
            made.append(bytes((opcode, flags)) + place + many.to_bytes(4, "big") + b"\x05\0")
    return tuple(made)


def done(cdb: bytes) -> tuple[str, int, int]:
    """What the target does to its disk for this CDB."""
    disk = NotedDisk(SECTORS)
    target, nexus = Target(), Nexus("student")
    target.add(0, disk, Identity("12a"))
    target.connect(nexus)
    for _ in range(8):  # unit attentions come first
        if target.execute(nexus, 0, bytes(6)).status == Status.GOOD:
            break
    write = cdb[0] & 2 != 0
    task = target.execute(nexus, 0, cdb, bytes(512 * 512) if write else b"")
    if task.status != Status.GOOD:
        raise VmmBug(f"The target refuses {cdb.hex(' ')}: {task.sense_bytes.hex(' ')}.")
    writes = [(first, len(data) // SECTOR_BYTES) for what, first, data in disk.commands if what == WRITE]
    first, count = (writes or disk.reads)[0][0], sum(count for _, count in writes or disk.reads)
    return (WRITE if write else READ), first, count


def check_take_apart(
    take_apart: Callable[[bytes], object], cdbs: Sequence[bytes] = tuple(map(_of, FIRST_CDBS))
) -> Feedback:
    """``take_apart(cdb)``: (``read`` or ``write``, first sector, number of sectors)."""
    for cdb in cdbs:
        words = f"take_apart({cdb.hex(' ')})"
        found, due = call(take_apart, cdb, said=words), done(cdb)
        if found != due:
            raise WrongAnswer(f"{words} gave {found!r}; the disk was asked to {due[0]} {due[2]} sectors from {due[1]}.")
    return right(f"{len(cdbs)} CDBs, each as the target has carried it out.")


# 12b -------------------------------------------------------------------------------------------------------------

FIRST_STORY = ("put one the first", "put two the second")
OTHER_STORY = ("put a x", "write b something", "put c another", "rm a", "sync", "put d the last")


class Trace(msgspec.Struct, frozen=True):
    """What a guest has asked of its disk. ``survives``: file name to the number of commands from which on it, as it
    is at the end, is there whenever the power is cut."""

    commands: tuple[Command, ...]
    survives: dict[str, int]


@cache
def trace(lines: tuple[str, ...]) -> Trace:
    """Run the teaching kernel with an empty file system, type these lines, and cut the power everywhere."""
    disk, console = NotedDisk(4 << 11), QuietConsole()
    adapter = ScsiAdapter("lsilogic", (AttachedDisk(0, disk, Identity("12b")),))
    vm = VirtualMachine(
        load("kernel-disk", memory_bytes=8 << 20), "bt", 8 << 20, console=console, adapters=[adapter]
    )  # fmt: skip
    for line in ("", "mkfs", *lines):
        _type(vm, console, line)
    commands = tuple(disk.commands)
    names = list(tinyfs.read_volume(disk).names())
    last = {name: _content(disk, name) for name in names}
    seen = [{name: _content(each, name) for name in names} for each in _cut(commands)]
    survives = {
        name: next(n for n in range(len(seen)) if all(later[name] == last[name] for later in seen[n:]))
        for name in names
    }
    return Trace(commands, survives)


def _type(vm: VirtualMachine, console: QuietConsole, line: str) -> None:
    before = len(console.output)
    if line:
        console.type(line)
    for _ in range(60_000):
        if len(console.output) > before and console.output.endswith(b"shell> "):
            return
        vm.engine.run(vm.engine.now_ns() + 1_000_000)
    raise VmmBug("The guest of this exercise does not come back to its prompt.")


def _cut(commands: Sequence[Command]) -> list[NotedDisk]:
    """The disk after a power cut behind each number of commands: all that was flushed, and nothing else."""
    found = []
    for n in range(len(commands) + 1):
        flushed = max((at + 1 for at in range(n) if commands[at][0] == FLUSH), default=0)
        disk = NotedDisk(4 << 11)
        for what, first, data in commands[:flushed]:
            if what == WRITE:
                disk._keep(first, data)
        found.append(disk)
    return found


def _content(disk: NotedDisk, name: str) -> bytes | None:
    try:
        return tinyfs.read_content(disk, tinyfs.read_volume(disk).file(name))
    except AdminError:
        return None


def check_safe_after(
    safe_after: Callable[[Sequence[Command], str], object], stories: Sequence[tuple[str, ...]] = (FIRST_STORY,)
) -> Feedback:
    """``safe_after(commands, name)``: how many commands it takes until the file survives every power cut."""
    asked = 0
    for story in stories:
        given = trace(story)
        for name, due in given.survives.items():
            words = f"safe_after(commands, {name!r}) for {'; '.join(story)}"
            found = call(safe_after, given.commands, name, said=words)
            if found != due:
                raise WrongAnswer(
                    f"{words} gave {found!r}. With the power cut after each command, {name!r} is there from {due} "
                    "commands on.", _listing(given, due),
                )  # fmt: skip
            asked += 1
    return right(f"{asked} files, with the power cut after every command.")


def _listing(given: Trace, due: int) -> tuple[str, ...]:
    low = max(0, due - 7)
    rows = []
    for at, (what, first, data) in enumerate(given.commands[low : due + 2], low + 1):
        where = f"sectors {first} to {first + len(data) // SECTOR_BYTES - 1}" if data else ""
        rows.append((str(at), what, where, "<- from here on" if at == due else ""))
    return columns(rows)
