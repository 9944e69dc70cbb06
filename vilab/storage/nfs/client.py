"""An NFSv3 client: files on a server by handle, and names by path below the export.

::

    MOUNT MNT "/export" ──> root handle ── LOOKUP "vm" ──> handle ── LOOKUP "vm.vmdk" ──> handle
                                                                                            │
                          READ, WRITE, COMMIT, GETATTR, SETATTR name the file itself <──────┘
                          CREATE, REMOVE, RENAME, LINK name a folder's handle and a name in it

A handle goes on naming its file when the server starts again, and when the file gets another name; when the file is
gone it is *stale*. Paths are of names joined by ``/``, from the export's root; links are not followed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from vilab.errors import AdminError
from vilab.protocols import ReadableBytes
from vilab.storage.nfs.errors import NfsError, status_error
from vilab.storage.nfs.layout import (
    COMMIT,
    CREATE,
    EXCLUSIVE,
    FILE_SYNC,
    FSINFO,
    FSSTAT,
    GETATTR,
    LINK,
    LOOKUP,
    MKDIR,
    MOST_DATA_BYTES,
    MOST_HANDLE_BYTES,
    MOST_NAME_BYTES,
    READ,
    READDIRPLUS,
    REMOVE,
    RENAME,
    RMDIR,
    SETATTR,
    UNSTABLE,
    VERIFIER_BYTES,
    WRITE,
    Attributes,
    NewAttributes,
    attributes,
    maybe_attributes,
    new_attributes,
    skip_changes,
)
from vilab.storage.nfs.link import WINDOW, Call, Connection
from vilab.storage.nfs.xdr import XdrReader, opaque, string, u32, u64

T = TypeVar("T")

MOST_ENTRIES = 1 << 16
MOST_PAGES = 1 << 12
MOST_DEPTH = 32
LIST_BYTES = 32768


class Volume(msgspec.Struct, frozen=True):
    """FSSTAT: of the file system behind the export."""

    total_bytes: int
    free_bytes: int
    available_bytes: int


class Written(msgspec.Struct, frozen=True):
    """A range that the server has: certain at once, or once COMMIT answers with the same verifier."""

    offset_bytes: int
    size_bytes: int
    stable: bool
    verifier: bytes


def split(path: str) -> list[str]:
    """The names of a path. ``AdminError`` for what is no path inside of an export."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    for name in names:
        if name == ".." or "\0" in name or len(name.encode("utf-8", "surrogateescape")) > MOST_NAME_BYTES:
            raise AdminError(f"{path!r} is no path on a file server: {name[:40]!r} cannot be a name there.")
    if len(names) > MOST_DEPTH:
        raise AdminError(f"{path[:60]!r}... is no path on a file server: more than {MOST_DEPTH} folders deep.")
    return names


class NfsClient:
    """One export, mounted.

    Raises
    ------
    NfsError : every method, with the file and the reason. ``uncertain`` only from those that change names.
    """

    def __init__(self, connection: Connection, root: bytes) -> None:
        self.connection, self.root = connection, root
        self.read_bytes = self.write_bytes = 32768
        self._folders: dict[str, bytes] = {}

    def learn_sizes(self) -> None:
        """FSINFO: how much the server takes and gives at once."""
        reader = self._ask(FSINFO, opaque(self.root), "Looking at", "the export")
        maybe_attributes(reader)
        read_most, read_preferred, _ = reader.u32(), reader.u32(), reader.u32()
        write_most, write_preferred = reader.u32(), reader.u32()
        self.read_bytes = max(1024, min(read_preferred or read_most, read_most, MOST_DATA_BYTES))
        self.write_bytes = max(1024, min(write_preferred or write_most, write_most, MOST_DATA_BYTES))

    def close(self) -> None:
        self.connection.hang_up()

    # --- by handle ----------------------------------------------------------------------------------------------------

    def getattr(self, handle: bytes, what: str = "a file", timeout_s: float | None = None) -> Attributes:
        return attributes(self._ask(GETATTR, opaque(handle), "Looking at", what, timeout_s))

    def setattr(self, handle: bytes, new: NewAttributes, what: str = "a file") -> None:
        self._ask(SETATTR, opaque(handle) + new_attributes(new) + u32(0), "Changing", what)

    def truncate(self, handle: bytes, size_bytes: int, what: str = "a file") -> None:
        self.setattr(handle, NewAttributes(size_bytes=size_bytes), what)

    def read(self, handle: bytes, offset_bytes: int, size_bytes: int, what: str = "a file") -> bytes:
        """As many of the bytes as the file has."""
        parts: list[bytes] = []
        while size_bytes:
            asked = _pieces(offset_bytes, size_bytes, self.read_bytes)
            calls = [Call(READ, opaque(handle) + u64(at) + u32(size)) for at, size in asked]
            for (_, size), reader in zip(asked, self.connection.exchange(calls), strict=True):
                data, ended = self._read_result(reader, size, what)
                parts.append(data)
                offset_bytes, size_bytes = offset_bytes + len(data), size_bytes - len(data)
                if ended or not data:
                    return b"".join(parts)
                if len(data) < size:
                    break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @staticmethod
    def _read_result(reader: XdrReader, asked_bytes: int, what: str) -> tuple[bytes, bool]:
        status = reader.u32()
        maybe_attributes(reader)
        if status:
            raise status_error("Reading", what, status)
        count, ended = reader.u32(), reader.flag()
        data = reader.opaque(asked_bytes)
        if count != len(data):
            raise NfsError(
                "protocol", f"Reading {what} failed: the file server counts {count} bytes, {len(data)} came."
            )
        return data, ended

    def write(
        self, handle: bytes, offset_bytes: int, data: ReadableBytes, stable: bool = False, what: str = "a file",
        before: Callable[[], None] | None = None,
    ) -> list[Written]:  # fmt: skip
        """All of it, in as many calls as it takes. ``stable``: on the server's disk when this returns.

        ``before`` is called before each window of calls is sent; what it raises ends the write there.
        """
        view, done = memoryview(data).cast("B"), []
        how = FILE_SYNC if stable else UNSTABLE
        left = _pieces(offset_bytes, view.nbytes, self.write_bytes, most=1 << 30)
        while left:
            if before is not None:
                before()
            now, left = left[:WINDOW], left[WINDOW:]
            calls = []
            for at, size in now:
                piece = view[at - offset_bytes : at - offset_bytes + size]
                calls.append(Call(WRITE, opaque(handle) + u64(at) + u32(size) + u32(how) + opaque(piece)))
            for (at, size), reader in zip(now, self.connection.exchange(calls), strict=True):
                written = self._write_result(reader, at, size, what)
                done.append(written)
                if written.size_bytes < size:
                    left.append((at + written.size_bytes, size - written.size_bytes))
        return done

    @staticmethod
    def _write_result(reader: XdrReader, at: int, asked_bytes: int, what: str) -> Written:
        status = reader.u32()
        skip_changes(reader)
        if status:
            raise status_error("Writing", what, status)
        count, how, verifier = reader.u32(), reader.u32(), reader.fixed(VERIFIER_BYTES)
        if not 0 < count <= asked_bytes:
            raise NfsError("protocol", f"Writing {what} failed: of {asked_bytes} bytes the file server took {count}.")
        return Written(at, count, how == FILE_SYNC, verifier)

    def commit(self, handle: bytes, what: str = "a file") -> bytes:
        """Everything that was written unstably is on the server's disk, if the verifier is still the same."""
        reader = self._ask(COMMIT, opaque(handle) + u64(0) + u32(0), "Committing", what)
        skip_changes(reader)
        return reader.fixed(VERIFIER_BYTES)

    def volume(self) -> Volume:
        reader = self._ask(FSSTAT, opaque(self.root), "Looking at", "the volume")
        maybe_attributes(reader)
        return Volume(reader.u64(), reader.u64(), reader.u64())

    # --- by path ------------------------------------------------------------------------------------------------------

    def lookup(self, path: str) -> tuple[bytes, Attributes]:
        names = split(path)
        if not names:
            return self.root, self.getattr(self.root, path)
        return self._in_folder(path, lambda folder, name: self._lookup(folder, name, path))

    def create(self, path: str, mode: int = 0o644) -> bytes:
        """A new, empty file; refused (``exists``) where the name is taken, by whomever and however close."""
        identity = secrets.token_bytes(VERIFIER_BYTES)

        def run(folder: bytes, name: str) -> bytes:
            arguments = opaque(folder) + string(name) + u32(EXCLUSIVE) + identity
            try:
                reader = self._ask(CREATE, arguments, "Making", path)
            except NfsError as error:
                if error.kind != "uncertain":
                    raise
                # An exclusive create may be repeated: the server knows its own file by the eight bytes.
                reader = self._ask(CREATE, arguments, "Making", path)
            handle = reader.opaque(MOST_HANDLE_BYTES) if reader.flag() else self._lookup(folder, name, path)[0]
            self.setattr(handle, NewAttributes(mode=mode, touch=True), path)
            return handle

        return self._in_folder(path, run)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        new = new_attributes(NewAttributes(mode=mode))
        self._in_folder(path, lambda f, n: self._ask(MKDIR, opaque(f) + string(n) + new, "Making", path))

    def remove(self, path: str) -> None:
        self._in_folder(path, lambda f, n: self._ask(REMOVE, opaque(f) + string(n), "Removing", path))

    def rmdir(self, path: str) -> None:
        self._folders.clear()
        self._in_folder(path, lambda f, n: self._ask(RMDIR, opaque(f) + string(n), "Removing", path))

    def rename(self, path: str, to: str) -> None:
        """Takes the place of what is there, in one step."""
        self._folders.clear()
        what = f"{path} to {to}"

        def run(folder: bytes, name: str) -> None:
            source = opaque(folder) + string(name)
            self._in_folder(to, lambda f, n: self._ask(RENAME, source + opaque(f) + string(n), "Renaming", what))

        self._in_folder(path, run)

    def link(self, handle: bytes, path: str) -> None:
        """Another name for the file; refused (``exists``) where the name is taken: one of many callers gets it."""
        self._in_folder(path, lambda f, n: self._ask(LINK, opaque(handle) + opaque(f) + string(n), "Linking", path))

    def list(self, path: str) -> dict[str, Attributes | None]:
        """The names in a folder; attributes where the server has added them."""
        folder = self._folder(split(path))
        found: dict[str, Attributes | None] = {}
        cookie, verifier, entries = 0, bytes(VERIFIER_BYTES), 0
        begun: set[int] = set()
        while True:
            arguments = opaque(folder) + u64(cookie) + verifier + u32(LIST_BYTES // 8) + u32(LIST_BYTES)
            reader = self._ask(READDIRPLUS, arguments, "Listing", path)
            maybe_attributes(reader)
            verifier = reader.fixed(VERIFIER_BYTES)
            begun.add(cookie)
            while reader.flag():
                reader.u64()
                name, cookie = reader.string(MOST_NAME_BYTES), reader.u64()
                about = maybe_attributes(reader)
                if reader.flag():
                    reader.opaque(MOST_HANDLE_BYTES)
                entries += 1
                if name not in (".", ".."):
                    found[name] = about
            if reader.flag():
                return found
            if cookie in begun or entries > MOST_ENTRIES or len(begun) > MOST_PAGES:
                raise NfsError("protocol", f"Listing of {path} failed: the file server's list has no end.")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _ask(
        self, procedure: int, arguments: bytes, doing: str, what: str, timeout_s: float | None = None
    ) -> XdrReader:
        """The results behind status 0."""
        reader = self.connection.call(procedure, arguments, timeout_s)
        status = reader.u32()
        if status:
            raise status_error(doing, what, status)
        return reader

    def _lookup(self, folder: bytes, name: str, path: str) -> tuple[bytes, Attributes]:
        reader = self._ask(LOOKUP, opaque(folder) + string(name), "Opening", path)
        handle = reader.opaque(MOST_HANDLE_BYTES)
        about = maybe_attributes(reader)
        return handle, self.getattr(handle, path) if about is None else about

    def _folder(self, names: Sequence[str]) -> bytes:
        handle = self.root
        for count, name in enumerate(names, 1):
            path = "/".join(names[:count])
            known = self._folders.get(path)
            if known is None:
                known = self._lookup(handle, name, path)[0]
                if len(self._folders) >= 1024:
                    self._folders.clear()
                self._folders[path] = known
            handle = known
        return handle

    def _in_folder(self, path: str, run: Callable[[bytes, str], T]) -> T:
        """``run(folder's handle, name)``; once more if the handle that was remembered is stale."""
        names = split(path)
        if not names:
            raise AdminError("The root of an export cannot be made, removed or renamed.")
        remembered = bool(self._folders)
        try:
            return run(self._folder(names[:-1]), names[-1])
        except NfsError as error:
            if error.kind != "stale" or not remembered:
                raise
        self._folders.clear()
        return run(self._folder(names[:-1]), names[-1])


def _pieces(offset_bytes: int, size_bytes: int, most_bytes: int, most: int = WINDOW) -> list[tuple[int, int]]:
    """(offset, size) of at most ``most`` pieces of a range."""
    ends = offset_bytes + size_bytes
    starts = range(offset_bytes, ends, most_bytes)[:most]
    return [(at, min(most_bytes, ends - at)) for at in starts]
