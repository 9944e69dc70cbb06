"""Random work on a volume, beside a model in memory that says what has to be there afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.storage.vmfs_judges import Model
from vilab.storage.vmfs.file import VmfsFile, open_to_read
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import SYSTEM
from vilab.storage.vmfs.namespace import Namespace

SIZES = (1, 100, 511, 512, 4096, 65_536, 65_537, 200_000, 1 << 20, (1 << 20) + 5, 3_000_000)
KINDS = ("create", "write", "write", "append", "append", "truncate", "rename", "remove", "mkdir", "rmdir", "allocate")
MOST_BYTES = 24 << 20


class Workload:
    """``step`` does one random thing with a host and with ``model``; what is open is closed again.

    ``large``: now and then a write far behind the end, so that pointer blocks are needed.
    """

    def __init__(self, seed: int, large: bool = False) -> None:
        self.lot = random.Random(seed)
        self.model: Model = {}
        self.large = large
        self.count = 0

    def _files(self) -> list[str]:
        return sorted(path for path, content in self.model.items() if content is not None)

    def _folders(self) -> list[str]:
        return ["", *sorted(path for path, content in self.model.items() if content is None)]

    def _new_path(self) -> str:
        self.count += 1
        return f"{self.lot.choice(self._folders())}/{self.lot.choice('abcdefgh')}{self.count}"

    def step(self, host: Host) -> str:
        """What was done, in a few words."""
        lot = self.lot
        kind = lot.choice(KINDS)
        files = self._files()
        if kind in ("write", "append", "truncate", "remove", "allocate") and not files:
            kind = "create"
        if kind == "create":
            return self.create(host, self._new_path(), lot.randbytes(lot.choice((0, *SIZES))))
        if kind == "mkdir":
            return self.mkdir(host, self._new_path())
        if kind == "rename":
            return self._rename(host)
        if kind == "rmdir":
            return self._rmdir(host)
        path = lot.choice(files)
        content = self.model[path]
        assert content is not None
        if kind == "remove":
            return self.remove(host, path)
        if kind == "truncate":
            return self.truncate(host, path, lot.choice((0, len(content) // 2, len(content) + lot.choice(SIZES))))
        if kind == "allocate":
            size = min(len(content) + lot.choice(SIZES), MOST_BYTES)
            with_file(host, path, lambda file: file.allocate(size))
            self.model[path] = content.ljust(size, b"\0")
            return f"allocate {path} {size}"
        at = len(content) if kind == "append" else lot.randrange(len(content) + lot.choice(SIZES))
        if self.large and lot.random() < 0.1:
            at = (300 << 20) + lot.randrange(1 << 20)
        elif at > MOST_BYTES:
            at %= MOST_BYTES
        return self.write(host, path, at, lot.randbytes(lot.choice(SIZES)))

    # --- one thing each -----------------------------------------------------------------------------------------------

    def create(self, host: Host, path: str, data: bytes) -> str:
        file = host.create(path)
        try:
            if data:
                file.write(0, data)
        finally:
            file.close()
        self.model[path] = data
        return f"create {path} {len(data)}"

    def write(self, host: Host, path: str, at: int, data: bytes) -> str:
        content = self.model[path]
        assert content is not None
        with_file(host, path, lambda file: file.write(at, data))
        self.model[path] = content[:at].ljust(at, b"\0") + data + content[at + len(data) :]
        return f"write {path} {at} {len(data)}"

    def truncate(self, host: Host, path: str, size: int) -> str:
        content = self.model[path]
        assert content is not None
        with_file(host, path, lambda file: file.truncate(size))
        self.model[path] = content[:size].ljust(size, b"\0")
        return f"truncate {path} {size}"

    def remove(self, host: Host, path: str) -> str:
        host.remove(path)
        del self.model[path]
        return f"remove {path}"

    def mkdir(self, host: Host, path: str) -> str:
        host.mkdir(path)
        self.model[path] = None
        return f"mkdir {path}"

    def _rmdir(self, host: Host) -> str:
        empty = [each for each in self._folders()[1:] if not any(p.startswith(each + "/") for p in self.model)]
        if not empty:
            return self.mkdir(host, self._new_path())
        path = self.lot.choice(empty)
        return self.rmdir(host, path)

    def rmdir(self, host: Host, path: str) -> str:
        host.rmdir(path)
        del self.model[path]
        return f"rmdir {path}"

    def _rename(self, host: Host) -> str:
        if not self.model:
            return self.mkdir(host, self._new_path())
        path = self.lot.choice(sorted(self.model))
        to = self._new_path()
        files = self._files()
        if self.model[path] is not None and files and self.lot.random() < 0.4:
            to = self.lot.choice(files)  # takes the place of what is there
        if to == path or to.startswith(path + "/"):
            return self.mkdir(host, self._new_path())
        return self.rename(host, path, to)

    def rename(self, host: Host, path: str, to: str) -> str:
        host.rename(path, to)
        for old in [old for old in self.model if old == path or old.startswith(path + "/")]:
            self.model[to + old[len(path) :]] = self.model.pop(old)
        return f"rename {path} {to}"


def with_file(host: Host, path: str, use: Callable[[VmfsFile], None]) -> None:
    """Open, do, flush, close: from then on it has to be there whatever happens."""
    file = host.open_to_write(path)
    try:
        use(file)
        file.flush()
    finally:
        file.close()


def walk(volume: Namespace) -> Model:
    """Everything on the volume, as a reader finds it."""
    found: Model = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in volume.list(folder or "/"):
            path = f"{folder}/{entry.name}"
            if entry.type == SYSTEM:
                continue
            if entry.is_directory:
                found[path] = None
                waiting.append(path)
            else:
                found[path] = open_to_read(volume, path).read(0, entry.size_bytes)
    return found
