"""The files of a folder as they come from another host: written, synced, and read again from the disk.

::

    FileData ──> write        web.vmdk, up to its size: what does not come is a hole
    FileEnd  ──> sync, close
                 check_step   a step of reading it again ──> its digest is the one that was sent
"""

from __future__ import annotations

from collections import deque

from vilab.errors import AdminError
from vilab.host.vm_move import ArrivingHome
from vilab.migration import file_copy_messages as say
from vilab.migration.file_copy_pieces import FileReading
from vilab.storage.disk_file import DiskFile

CHECK_BYTES = 4 << 20
"""Read again in one step."""


class FolderWriter:
    """Parameters
    ----------
    home : the folder; it is there, and locked.
    names, offered : of the files, in the order in which they come. machine, source : for the sentences.
    """

    def __init__(
        self,
        home: ArrivingHome,
        names: tuple[str, ...],
        offered: tuple[say.FileOffered, ...],
        machine: str,
        source: str,
    ) -> None:
        self.home, self.names, self.offered = home, names, offered
        self._machine, self._source, self._host = machine, source, home.storage.host
        self._file: DiskFile | None = None
        self._next = 0
        """The file that is coming."""
        self._at_bytes = 0
        """Until here it has come."""
        self._checks: deque[tuple[int, bytes]] = deque()
        self._reading: FileReading | None = None
        self.taken = 0
        """Files that were read again."""

    @property
    def checks(self) -> bool:
        """Is there something to be read again?"""
        return bool(self._checks)

    @property
    def all_taken(self) -> bool:
        return self.taken == len(self.names)

    def _due(self, file: int) -> int:
        """Its size. ``AdminError``: another file is due."""
        if file != self._next or file >= len(self.names):
            due = self.names[self._next] if self._next < len(self.names) else "no file"
            raise AdminError(f"{self._source} sends file {file} of {self._machine}, and {self._host} waits for {due}.")
        return self.offered[file].size_bytes

    def _open(self) -> DiskFile:
        if self._file is None:
            self._file = self.home.files.create(self.home.folder / self.names[self._next])
            offered = self.offered[self._next]
            if offered.thick:
                self._file.allocate(offered.size_bytes)
            self._file.resize(offered.size_bytes)
        return self._file

    def write(self, message: say.FileData, body: memoryview) -> None:
        """``AdminError``: these bytes have no place, or there is no room for them."""
        size, at = self._due(message.file), 0
        for offset, count in message.extents:
            ends = offset + count
            whole = count > 0 and not offset % say.PIECE_BYTES and (not ends % say.PIECE_BYTES or ends == size)
            if not whole or offset < self._at_bytes or ends > size or at + count > len(body):
                raise AdminError(
                    f"{self._source} sends {count} bytes at {offset} of {self.names[message.file]} to {self._host}, "
                    "where they cannot be: the agents do not agree; look at their versions."
                )
            self._open().write(offset, body[at : at + count])
            self._at_bytes, at = ends, at + count
        if at != len(body):
            raise AdminError(f"{self._source} has sent {len(body)} bytes of {self._machine} to {self._host}, not {at}.")

    def end_file(self, message: say.FileEnd) -> None:
        """All of it has come. ``AdminError``: it is not this one's turn, or it cannot be written."""
        self._due(message.file)
        self._open().sync()
        self._close_file()
        self._checks.append((message.file, message.digest))
        self._next, self._at_bytes = self._next + 1, 0

    def check_step(self) -> say.FileTaken | None:
        """Read on. What is to be said of the file (without the copy's number), if that was the last of it.
        ``AdminError``: it is another one than was sent."""
        file, digest = self._checks[0]
        if self._reading is None:
            opened = self.home.files.open(self.home.folder / self.names[file])
            self._reading = FileReading(opened, opened.size_bytes, CHECK_BYTES)
        reading = self._reading
        reading.step()
        if not reading.ended:
            return None
        self._close_reading()
        self._checks.popleft()
        if reading.digest != digest:
            raise AdminError(
                f"{self.names[file]} of {self._machine} is not on {self._host} what it is on {self._source}: their "
                "digests differ. Try again, and look at the disks and the memory of both."
            )
        self.taken += 1
        return say.FileTaken("", file, digest)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _close_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.file.close()

    def close(self) -> None:
        """Nothing stays open. ``AdminError``: the last bytes of a file could not be written."""
        self._checks.clear()
        self._close_reading()
        self._close_file()
