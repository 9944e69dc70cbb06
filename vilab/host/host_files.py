"""The door to the files of one datastore: LUNs behind mappings, and what of this computer's files is open.

A host that loses its power loses its open files, too: the operating system's locks go, and nothing more is written.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path

from vilab.protocols import Lun
from vilab.storage.disk_file import REAL_FILES, DiskFile, Files
from vilab.storage.disks.rdm import RdmFiles


class HostFiles(RdmFiles):
    """``luns``: what the host sees now, by name."""

    def __init__(self, luns: Mapping[str, Lun], files: Files = REAL_FILES) -> None:
        super().__init__(luns, files)
        self._open: weakref.WeakSet[DiskFile] = weakref.WeakSet()

    def open(self, path: Path, writable: bool = False) -> DiskFile:
        file = super().open(path, writable)
        self._open.add(file)
        return file

    def create(self, path: Path) -> DiskFile:
        file = super().create(path)
        self._open.add(file)
        return file

    def cut_power(self) -> None:
        """Files of this computer are closed as they are; those elsewhere are not asked any more."""
        for file in list(self._open):
            if type(file) is DiskFile:
                file.close()
