"""The files of a folder, read twice: once to be sent, and once more to see that nobody has changed them meanwhile.

::

    send_step ──> FileData ..., FileEnd(digest)    file after file
    check_step ──> the same digests?               after the last one
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from vilab.errors import AdminError
from vilab.host.off_folder import OffFolder
from vilab.migration import file_copy_messages as say
from vilab.migration.file_copy_pieces import FileReading, data_bytes
from vilab.migration.round_sender import Send
from vilab.migration.storage_files import is_thick
from vilab.storage.disks.vmdk import read_descriptor


class FolderReader:
    """``changed``: makes the sentence about a file that was changed. ``sent``: hears (file, bytes sent of it)."""

    def __init__(
        self, folder: OffFolder, number: str, send: Send, step_bytes: int, changed: Callable[[str], AdminError],
        sent: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self.folder, self.number = folder, number
        self._send, self._step_bytes, self._changed, self._sent = send, step_bytes, changed, sent
        self.names = list(folder.files)
        self.sizes = [file.size_bytes for file in folder.files.values()]
        self.digests: list[bytes] = []
        """Of the files that were sent."""
        self.checked = 0
        self.sent_bytes = 0
        self._reading: FileReading | None = None
        self._ended_bytes = self._file_bytes = 0

    @property
    def offered(self) -> tuple[say.FileOffered, ...]:
        files, thick = zip(self.folder.files.items(), self.sizes, strict=True), self._thick()
        return tuple(
            say.FileOffered(name, size, size if name in thick else data_bytes(file), name in thick)
            for (name, file), size in files
        )

    def _thick(self) -> set[str]:
        """Extents of disks that have taken all of their space."""
        found: set[str] = set()
        home = self.folder.home
        for name in self.names:
            if name.endswith(".vmdk"):
                with contextlib.suppress(AdminError):  # an extent itself
                    described = read_descriptor(home.folder / name, home.files)
                    if is_thick(described):
                        found |= {line.file for line in described.extents if line.file is not None}
        return found

    @property
    def all_sent(self) -> bool:
        return len(self.digests) == len(self.names)

    @property
    def all_checked(self) -> bool:
        return self.checked == len(self.names)

    @property
    def percent(self) -> float:
        """Of the bytes that there are, holes too: how far it was sent."""
        total, at = sum(self.sizes), self._ended_bytes
        if self._reading is not None and not self.all_sent:
            at += self._reading.at_bytes
        return 100.0 * at / total if total else 100.0

    @property
    def current(self) -> str:
        at = self.checked if self.all_sent else len(self.digests)
        return self.names[at] if at < len(self.names) else ""

    def _open(self, file: int) -> FileReading:
        if self._reading is None:
            self._reading = FileReading(self.folder.files[self.names[file]], self.sizes[file], self._step_bytes)
        return self._reading

    def send_step(self) -> int:
        """Bytes that were sent. ``AdminError``: a file cannot be read."""
        file = len(self.digests)
        reading = self._open(file)
        extents = reading.step()
        sent = sum(len(extent.data) for extent in extents)
        if extents:
            places = tuple((extent.offset_bytes, len(extent.data)) for extent in extents)
            self._send(say.FileData(self.number, file, places), [extent.data for extent in extents])
        self.sent_bytes += sent
        self._file_bytes += sent
        if reading.ended:
            self._send(say.FileEnd(self.number, file, reading.digest), ())
            self.digests.append(reading.digest)
            self._reading = None
            self._ended_bytes += self.sizes[file]
            self._sent(file, self._file_bytes)
            self._file_bytes = 0
        return sent

    def check_step(self) -> None:
        """``AdminError``: it is not any more what was sent."""
        file = self.checked
        name = self.names[file]
        if self.folder.files[name].size_bytes != self.sizes[file]:
            raise self._changed(name)
        reading = self._open(file)
        reading.step()
        if reading.ended:
            if reading.digest != self.digests[file]:
                raise self._changed(name)
            self._reading, self.checked = None, file + 1

    def check_names(self) -> None:
        """``AdminError``: there are other files in the folder than in the beginning."""
        now = self.folder.names()
        if now != self.names:
            raise self._changed(min(set(now) ^ set(self.names)))
