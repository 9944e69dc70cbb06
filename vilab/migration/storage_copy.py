"""What both methods of Storage VMotion copy with: pieces of a disk, from the guest's to the one at the destination.

::

    source ── read ──> | 64 KB | 64 KB | 64 KB | ...      a step: ``step_bytes``, then the guest has its quantum
                           │       0       │
    destination            └──> written    └──>           in the first round zeros are there already

MODEL: copying takes no virtual time of the guest's; a step a quantum is what it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec
import numpy as np

from vilab.events import Event
from vilab.host.hosted_disk import HostedDisk
from vilab.migration.storage_vmotion_events import StorageBytesCopied, StorageRoundBegan, StorageRoundCopied

PIECE_BYTES = 64 << 10


class CopyOptions(msgspec.Struct, frozen=True):
    """``step_bytes``: copied between two quanta of the guest. ``little_bytes``: so little may be copied while it stands
    still. ``most_rounds``: after so many it has to stand still for whatever is left. ``redo_step_bytes``: instead of
    ``step_bytes``, where a redo log is copied."""

    step_bytes: int = 1 << 20
    little_bytes: int = 256 << 10
    most_rounds: int = 8
    redo_step_bytes: int | None = None


class Pair(msgspec.Struct):
    """One disk: as the guest has it, and as it will have it."""

    node: str
    source: HostedDisk
    target: HostedDisk


class Method(Protocol):
    """How the disks are copied while the guest writes."""

    name: str

    def steps(self) -> Iterator[int]:
        """Until little is left. Yields bytes, a step at a time."""
        ...

    def last(self) -> int:
        """The rest, while the guest stands still; its bytes. Both sides are the same then."""
        ...

    def end(self) -> None:
        """It watches no more."""
        ...

    def undo_steps(self) -> Iterator[int]:
        """The move was given up: the source as it was before, a step at a time."""
        ...


class Copier:
    """``say``: where events go; ``now_ns``: the host's time.

    ``copied_bytes``: of the disks, in all rounds. ``other_files_bytes``: of the other files of the folder, which are
    copied before the first round. ``number``, ``todo_bytes``, ``round_bytes``: of the last round that has begun.
    """

    def __init__(self, vm: str, options: CopyOptions, say: Callable[[Event], None], now_ns: Callable[[], int]) -> None:
        self.vm, self.options, self.say, self.now_ns = vm, options, say, now_ns
        self.pairs: list[Pair] = []
        self.number = 0
        self.copied_bytes = 0
        self.other_files_bytes = 0
        self.todo_bytes = self.round_bytes = 0

    @property
    def disk_bytes(self) -> int:
        return sum(pair.source.size_bytes for pair in self.pairs)

    def begin_round(self, todo_bytes: int) -> None:
        self.number += 1
        self.todo_bytes, self.round_bytes = todo_bytes, 0
        self.say(StorageRoundBegan(self.now_ns(), self.vm, self.number, todo_bytes))

    def end_round(self, changed_bytes: int, stopped: bool = False) -> None:
        self.say(
            StorageRoundCopied(self.now_ns(), self.vm, self.number, self.round_bytes, changed_bytes, stopped=stopped)
        )

    def copy(
        self, what: str, data: bytes, offset_bytes: int, write: Callable[[int, memoryview], None], empty: bool
    ) -> None:
        """Write what was read of a disk. ``empty``: there are zeros there, which need not be written again."""
        self.copied_bytes += len(data)
        self.round_bytes += len(data)
        self._write(what, data, offset_bytes, write, empty)

    def copy_file(self, what: str, data: bytes, offset_bytes: int, write: Callable[[int, memoryview], None]) -> None:
        """The same of another file, which is new there."""
        self.other_files_bytes += len(data)
        self._write(what, data, offset_bytes, write, empty=True)

    def _write(
        self, what: str, data: bytes, offset_bytes: int, write: Callable[[int, memoryview], None], empty: bool
    ) -> None:
        written = 0
        for first, size in nonzero_runs(data) if empty else [(0, len(data))]:
            write(offset_bytes + first, memoryview(data)[first : first + size])
            written += size
        self.say(StorageBytesCopied(self.now_ns(), self.vm, what, self.number, offset_bytes, len(data), written))

    def flush(self) -> None:
        """What was copied is on the destination's disk."""
        for pair in self.pairs:
            pair.target.flush()


def nonzero_runs(data: bytes) -> Iterator[tuple[int, int]]:
    """(offset, size) of the runs of pieces that are not all zeros."""
    if not len(data):
        return
    starts = np.arange(0, len(data), PIECE_BYTES)
    used = np.maximum.reduceat(np.frombuffer(data, np.uint8), starts) > 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], used, [False])).astype(np.int8))).tolist()
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        yield low * PIECE_BYTES, min(high * PIECE_BYTES, len(data)) - low * PIECE_BYTES
