"""Files whose every write is recorded, and what a disk could hold when the power goes.

::

    write 1   write 2   sync   write 3   write 4   write 5   sync
                               └──────── cut here ───────┘
    on the disk: 1 and 2 for certain; of 3, 4, 5: any, in any order, each sector of them whole or not at all
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vilab.protocols import ReadableBytes
from vilab.storage.disk_file import DiskFile, Files

SECTOR = 512


class Step(msgspec.Struct, frozen=True):
    """``what``: create, write, resize, sync, rename, remove, mark. ``mark`` is a number that the test has set."""

    what: str
    path: Path
    offset: int = 0
    data: bytes = b""
    to: Path | None = None


class RecordedFile(DiskFile):
    def __init__(self, path: Path, writable: bool, create: bool, steps: list[Step]) -> None:
        super().__init__(path, writable, create)
        self.steps = steps
        if create:
            steps.append(Step("create", path))

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        super().write(offset_bytes, data)
        self.steps.append(Step("write", self.path, offset_bytes, bytes(data)))

    def resize(self, size_bytes: int) -> None:
        super().resize(size_bytes)
        self.steps.append(Step("resize", self.path, size_bytes))

    def sync(self) -> None:
        super().sync()
        self.steps.append(Step("sync", self.path))


class RecordedFiles(Files):
    """A folder's files. Names are durable at once, content is not before it was synced."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def open(self, path: Path, writable: bool = False) -> DiskFile:
        return RecordedFile(path, writable, False, self.steps)

    def create(self, path: Path) -> DiskFile:
        return RecordedFile(path, True, True, self.steps)

    def replace(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.tmp")
        file = self.create(temporary)
        file.write(0, content)
        file.sync()
        file.close()
        self.rename(temporary, path)

    def rename(self, path: Path, to: Path) -> None:
        super().rename(path, to)
        self.steps.append(Step("rename", path, to=to))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.steps.append(Step("remove", path))

    def mark(self, number: int) -> None:
        """From here on the test counts on what it has numbered so."""
        self.steps.append(Step("mark", Path(), number))


class Platter:
    """What is certainly on the disk, and what may be: by file, the writes since its last sync."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certain: dict[Path, bytearray] = {
            path: bytearray(path.read_bytes()) for path in folder.iterdir() if path.is_file()
        }
        self.pending: dict[Path, list[Step]] = {}
        self.marked = 0

    def apply(self, step: Step) -> None:
        if step.what == "mark":
            self.marked = step.offset
        elif step.what == "create":
            self.certain[step.path] = bytearray()
        elif step.what in ("write", "resize"):
            self.pending.setdefault(step.path, []).append(step)
        elif step.what == "sync":
            for each in self.pending.pop(step.path, []):
                put(self.certain[step.path], each)
        elif step.what == "rename":
            assert step.to is not None
            self.certain[step.to] = self.certain.pop(step.path)
            self.pending.pop(step.to, None)
            if step.path in self.pending:
                self.pending[step.to] = self.pending.pop(step.path)
        else:
            self.certain.pop(step.path, None)
            self.pending.pop(step.path, None)

    def outcomes(self, lot: random.Random, samples: int) -> Iterator[dict[Path, bytearray]]:
        """All of the pending writes, none, and ``samples`` times some sectors of some of them in some order."""
        for kind in ("all", "none", *["some"] * samples):
            if kind != "all" and not any(self.pending.values()):
                return
            files = {path: bytearray(content) for path, content in self.certain.items()}
            if kind != "none":
                for path, steps in self.pending.items():
                    pieces = [piece for step in steps for piece in sectors(step)] if kind == "some" else steps
                    if kind == "some":
                        # Writes to one sector keep their order; different sectors do not.
                        pieces = [piece for piece in pieces if lot.random() < 0.5]
                    for piece in pieces:
                        put(files[path], piece)
            yield files

    def lay_out(self, files: dict[Path, bytearray], at: Path) -> Path:
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        for path, content in files.items():
            (at / path.name).write_bytes(content)
        return at


def put(content: bytearray, step: Step) -> None:
    if step.what == "resize":
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    content.extend(bytes(max(0, step.offset + len(step.data) - len(content))))
    content[step.offset : step.offset + len(step.data)] = step.data


def sectors(step: Step) -> list[Step]:
    """A write, cut at the borders of sectors: each of them can be lost for itself."""
    if step.what != "write":
        return [step]
    pieces, at, end = [], step.offset, step.offset + len(step.data)
    while at < end:
        stop = min(end, (at // SECTOR + 1) * SECTOR)
        pieces.append(Step("write", step.path, at, step.data[at - step.offset : stop - step.offset]))
        at = stop
    return pieces
