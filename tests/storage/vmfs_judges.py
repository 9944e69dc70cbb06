"""Other people's programs on VMFS volumes: fsck.vmfs, debugvmfs and dissect.vmfs as judges."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.tools import require_module, require_tool
from vilab.storage.raw_disk import RawDisk
from vilab.storage.vmfs.check import check

PACKAGE = "the Debian package vmfs-tools"
DISSECT = "the PyPI package dissect.vmfs (extra: test)"
COUNTERS = ("Unallocated blocks", "Lost blocks", "Undefined inodes", "Orphaned inodes", "Directory errors")
Model = dict[str, bytes | None]
"""Path to content; ``None``: a directory. Without the root."""


def _run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(word) for word in arguments], capture_output=True, timeout=120)


def fsck_counters(image: Path) -> dict[str, int]:
    """The five numbers of fsck.vmfs, whose exit status says nothing."""
    done = _run(require_tool("fsck.vmfs", PACKAGE), image)
    text = done.stdout.decode()
    found = {name: re.search(rf"^{name}\s*: (\d+)$", text, re.MULTILINE) for name in COUNTERS}
    assert all(found.values()), text + done.stderr.decode()
    return {name: int(each[1]) for name, each in found.items() if each is not None}


def is_clean(image: Path, fsck: bool = True) -> None:
    """All of them find nothing to complain about, and neither do we."""
    if fsck:
        assert fsck_counters(image) == dict.fromkeys(COUNTERS, 0)
    checked = _run(require_tool("debugvmfs", PACKAGE), image, "check_vol_bitmaps")
    assert checked.returncode == 0, checked.stdout.decode()
    assert b"Total errors: 0" in checked.stdout
    with RawDisk(image) as disk:
        ours = check(disk)
    assert ours.errors == []


def debugvmfs_cat(image: Path, path: str) -> bytes:
    done = _run(require_tool("debugvmfs", PACKAGE), image, "cat", path)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def debugvmfs_hosts(image: Path) -> int:
    """How many live heartbeats it sees."""
    done = _run(require_tool("debugvmfs", PACKAGE), image, "show_heartbeats")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.count(b"Heartbeat ID")


def debugvmfs_agrees(image: Path, model: Model, at_most: int = 12) -> None:
    """The contents of (some of) the files."""
    for path in [path for path, content in sorted(model.items()) if content is not None][:at_most]:
        assert debugvmfs_cat(image, path) == model[path], path


@contextlib.contextmanager
def dissect_volume(image: Path) -> Iterator[Any]:
    require_module("dissect.vmfs", DISSECT)
    from dissect.vmfs import LVM, VMFS

    with image.open("rb") as handle:
        yield VMFS(LVM(handle).volumes[0].open())


def dissect_pieces(image: Path, path: str, places: list[tuple[int, int]]) -> list[bytes]:
    """(offset, size) of one file, for those that are too large to be read as a whole."""
    with dissect_volume(image) as volume:
        stream, found = volume.get(path).open(), []
        for offset, size in places:
            stream.seek(offset)
            found.append(stream.read(size))
    return found


def dissect_walk(image: Path) -> Model:
    """Everything on the volume but for the system files."""
    found: Model = {}
    with dissect_volume(image) as volume:
        waiting = [("", volume.get("/"))]
        while waiting:
            path, folder = waiting.pop()
            for name, entry in folder.listdir().items():
                if name in (".", "..") or (not path and name.endswith(".sf")):
                    continue
                node = entry.file_descriptor
                if node.is_dir():
                    found[f"{path}/{name}"] = None
                    waiting.append((f"{path}/{name}", node))
                else:
                    found[f"{path}/{name}"] = node.open().read() if node.size else b""
    return found
