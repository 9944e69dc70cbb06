"""The runs of lesson 13: one disk's story, and what a pass over a disk costs with ever more snapshots.

::

    story()          forty blocks: write, snapshot, write, snapshot, write, read, delete, revert, delete all
    ChainCosts()     an 8 MB disk; before each snapshot the guest rewrites some of its blocks; every step measured:
                     reads of files for one pass over the disk, the time they take on a disk of 2006, bytes on disk
"""

from __future__ import annotations

import random
import re
import tempfile
from pathlib import Path

import msgspec

from vilab.errors import AdminError
from vilab.storage.counted_files import CountedFiles, FileAccess
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.redo_log_child import snapshot_file
from vilab.storage.disks.vmdk_create import create
from vilab.storage.timed import Latency
from vilab.view import disk_run as deeds
from vilab.view.disk_run import BLOCK_BYTES, BLOCK_SECTORS, Deed, DiskRun

STORY = (
    deeds.write("A", 0, 30), deeds.snapshot(), deeds.write("B", 4, 6), deeds.write("C", 4, 3), deeds.snapshot(),
    deeds.write("D", 8, 6), deeds.write("E", 31, 4), deeds.read(0, 16), deeds.delete(1), deeds.revert(),
    deeds.write("F", 20, 3), deeds.delete_all(deeds.write("G", 24, 2)),
)  # fmt: skip
BEFORE_OVERWRITING, BEFORE_READ, BEFORE_DELETE, BEFORE_REVERT = 3, 7, 8, 9


def story(more: tuple[Deed, ...] = ()) -> DiskRun:
    """A disk of forty blocks, and what happens to it."""
    return DiskRun([*STORY, *more])


class Cost(msgspec.Struct, frozen=True):
    """With so many snapshots. ``reads``: of files, for one pass over the disk; ``pass_ns``: what they take.

    ``cold_reads``: to open the chain and read one block of it, tables and descriptors included. ``file_bytes``: all
    files together. ``wrong``: blocks that were not what the guest had written last.
    """

    snapshots: int
    reads: int
    pass_ns: int
    cold_reads: int
    file_bytes: int
    wrong: int


class ChainCosts:
    """Measured when it is asked for the first time, one snapshot after another; the last step deletes them all.

    Parameters
    ----------
    most : snapshots. blocks : of 4 KB, of the disk. rewritten : of them, before each snapshot, at random places.
    """

    def __init__(self, most: int = 8, blocks: int = 2048, rewritten: int = 64, seed: int = 13) -> None:
        self.most, self.blocks, self.rewritten = most, blocks, rewritten
        self.points: list[Cost] = []
        self._random = random.Random(seed)
        self._folder = tempfile.TemporaryDirectory(prefix="vilab-chain-")
        self._path = Path(self._folder.name) / "vm.vmdk"
        create(self._path, blocks * BLOCK_SECTORS, "vmfs")
        self._disk = SnapshotDisk(self._path)
        self._content = [self._stamp(at, 0) for at in range(blocks)]
        self._disk.chain.write(0, b"".join(self._content))

    @property
    def total(self) -> int:
        return self.most + 2

    def point(self, step: int) -> Cost:
        """Step 1: no snapshot yet. The last: all are deleted."""
        while len(self.points) < step:
            done = len(self.points)
            if done == self.most + 1:
                self._disk.consolidate()
            elif done:
                self._disk.snapshot()
                self._rewrite(done)
            self.points.append(self._measure())
        return self.points[step - 1]

    def _stamp(self, block: int, version: int) -> bytes:
        return (version << 16 | block).to_bytes(4, "little") * (BLOCK_BYTES // 4)

    def _rewrite(self, version: int) -> None:
        for block in self._random.sample(range(self.blocks), self.rewritten):
            self._content[block] = self._stamp(block, version)
            self._disk.chain.write(block * BLOCK_BYTES, self._content[block])

    def _measure(self) -> Cost:
        """By a second look at the same files, with all that is asked of them written down."""
        top, snapshots = self._disk.top, len(self._disk.chain.links) - 1
        self._disk.close()
        files = CountedFiles()
        with SnapshotDisk(top, files) as disk:
            disk.chain.read(self.blocks // 2 * BLOCK_BYTES, BLOCK_BYTES)
            cold = len(files.take())
            disk.chain.read(0, self.blocks * BLOCK_BYTES)  # now every table has been read
            files.take()
            data = disk.chain.read(0, self.blocks * BLOCK_BYTES)
            reads = files.take()
            size = sum(path.stat().st_size for link in disk.chain.links for path in link.files_of())
        self._disk = SnapshotDisk(top)
        wrong = sum(
            data[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES] != content for at, content in enumerate(self._content)
        )
        return Cost(snapshots, len(reads), pass_ns(reads), cold, size, wrong)


def pass_ns(reads: list[FileAccess], latency: Latency | None = None) -> int:
    """What reads of files take one after the other: the arm moves wherever one does not begin where the last ended."""
    latency = latency or Latency()
    total, at = 0, ("", -1)
    for each in reads:
        total += latency.duration_ns("read", each.size_bytes, at == (each.file, each.offset_bytes))
        at = each.file, each.offset_bytes + each.size_bytes
    return total


def written_behind_its_back() -> str:
    """What is said of a chain whose base somebody has written to, without its redo log."""
    with tempfile.TemporaryDirectory(prefix="vilab-cid-") as folder:
        base = Path(folder) / "vm.vmdk"
        create(base, 40 * BLOCK_SECTORS, "vmfs")
        child = snapshot_file(base)
        with open_chain(child) as chain:
            sentences = [f"{child.name} fits {chain.links[0].path.name}: it opens."]
        with open_chain(base, writable=True) as chain:
            chain.write(0, b"X" * BLOCK_BYTES)
        try:
            open_chain(child).close()
            sentences.append("It opens again.")
        except AdminError as refused:
            words = str(refused).replace(f"{folder}/", "")
            sentences.append(re.sub(r"\b[0-9a-f]{8}\b", "........", words))
    return "\n".join(sentences)
