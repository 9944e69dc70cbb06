"""The swap file of one virtual machine: where the host puts pages that nobody gave it.

::

    name.vswp     | slot 0 | slot 1 | slot 2 | ...                 |     4096 bytes each, as in memory
                      │        │        └─ free
                      │        └─ ppn 7f1
                      └─ ppn 012                                         which page is where is known to the host only

The file has its full size from power-on, maximum less reservation, so that there is a place for every page that could
have to go. A checksum of each page stays in the host's memory: what comes back from the disk is what went there, or
the virtual machine stops. Source: Waldspurger 2002, section 4.5 and 6.1; ESX 3, Resource Management Guide.
"""

from __future__ import annotations

import contextlib
import os
import sys
from io import FileIO
from pathlib import Path

import xxhash

from vilab.addresses import PAGE_BYTES, Ppn
from vilab.errors import AdminError, GuestStopped, VmmBug

if sys.platform != "win32":
    import fcntl

SEEK_NS = 5_000_000
"""MODEL: what reading one page takes: a disk of that time, seek and half a turn."""


class SwapFile:
    """Slots for pages.

    Parameters
    ----------
    pages : how many it has room for; the disk space is taken at once where the file system can do that.

    Raises
    ------
    AdminError : the file cannot be made, the disk has no room for it, or it is another's: one that is no swap file, or
        that of a virtual machine that runs. A swap file that nobody uses was left behind, and is taken over.
    """

    def __init__(self, path: Path, pages: int, vm_name: str) -> None:
        self.path, self.pages, self.vm_name = path, pages, vm_name
        self._slot_of: dict[int, int] = {}
        self._check_of: dict[int, int] = {}
        self._freed: list[int] = []
        self._next = 0
        self._file: FileIO | None = None
        try:
            self._file = self._made()
            if pages:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(self._file.fileno(), 0, pages * PAGE_BYTES)
                else:
                    self._file.truncate(pages * PAGE_BYTES)
        except (OSError, ValueError) as error:
            self.close()
            raise AdminError(
                f"{vm_name} cannot be powered on: its swap file {path} of {pages * PAGE_BYTES >> 20} MB cannot be "
                f"made ({getattr(error, 'strerror', None) or error}). Free space there, or raise the reservation."
            ) from None

    def _made(self) -> FileIO:
        """The file, empty and nobody else's."""
        if self.path.exists() and self.path.suffix != ".vswp":
            raise AdminError(
                f"{self.vm_name} cannot be powered on: {self.path}, its swap file, exists and does not look like one. "
                "Give the swap file a name that ends in .vswp (sched.swap.derivedName)."
            )
        file = FileIO(os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600), "r+")
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise AdminError(
                    f"{self.vm_name} cannot be powered on: its swap file {self.path} is in use by a virtual machine "
                    "that is powered on. Give it another one (sched.swap.derivedName)."
                ) from None
        file.truncate(0)
        return file

    @property
    def used_pages(self) -> int:
        return len(self._slot_of)

    def has_room(self) -> bool:
        return bool(self._freed) or self._next < self.pages

    def slot_of(self, ppn: int) -> int | None:
        """Where a page is, ``None`` where it is not here."""
        return self._slot_of.get(ppn)

    def write(self, ppn: Ppn, data: bytes) -> int:
        """Put a page; its slot. Raises ``GuestStopped`` where the disk refuses: the page then stays in memory."""
        if ppn in self._slot_of:
            raise VmmBug(f"Page {ppn:#x} of {self.vm_name} is in the swap file already.")
        if self._freed:
            slot = self._freed[-1]
        elif self._next < self.pages:
            slot = self._next
        else:
            raise VmmBug(f"The swap file of {self.vm_name} has no slot left: admission should have seen to that.")
        try:
            file = self._open_file()
            file.seek(slot * PAGE_BYTES)
            written = file.write(data)
            if written != PAGE_BYTES:
                raise OSError(f"only {written} of {PAGE_BYTES} bytes were written")
        except OSError as error:
            raise GuestStopped(
                f"{self.vm_name} was stopped: its swap file {self.path} could not be written "
                f"({error.strerror or error}). Look at the space on that disk."
            ) from None
        if self._freed:
            self._freed.pop()
        else:
            self._next += 1
        self._slot_of[ppn], self._check_of[ppn] = slot, xxhash.xxh3_64_intdigest(data)
        return slot

    def read(self, ppn: Ppn) -> bytes:
        """The page, which stays where it is. Raises ``GuestStopped`` where it is not what was written."""
        slot = self._slot_of[ppn]
        try:
            file = self._open_file()
            file.seek(slot * PAGE_BYTES)
            data = file.read(PAGE_BYTES)
        except OSError as error:
            raise GuestStopped(
                f"{self.vm_name} was stopped: page {ppn:#x} could not be read from its swap file {self.path} "
                f"({error.strerror or error})."
            ) from None
        if len(data) != PAGE_BYTES:
            raise GuestStopped(
                f"{self.vm_name} was stopped: its swap file {self.path} is truncated; page {ppn:#x} stood at byte "
                f"{slot * PAGE_BYTES}, behind its end."
            )
        if xxhash.xxh3_64_intdigest(data) != self._check_of[ppn]:
            raise GuestStopped(
                f"{self.vm_name} was stopped: its swap file {self.path} is damaged; page {ppn:#x} at byte "
                f"{slot * PAGE_BYTES} is not what was written there."
            )
        return data

    def free(self, ppn: Ppn) -> None:
        """The page is not needed any more."""
        self._freed.append(self._slot_of.pop(ppn))
        del self._check_of[ppn]

    def _open_file(self) -> FileIO:
        if self._file is None:
            raise VmmBug(f"The swap file of {self.vm_name} is closed.")
        return self._file

    def close(self) -> None:
        """Power-off: the file goes, too."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(OSError):
                self.path.unlink()
