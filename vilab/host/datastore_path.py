"""How ESX writes where a file is, and what that means here.

::

    [datastore1] web/web.vmdk                    a datastore and a path in it
    /vmfs/volumes/datastore1/web/web.vmdk        the same, as the service console sees it
    web.vmdk                                     beside the configuration file that says so
"""

from __future__ import annotations

import re

import msgspec

from vilab.errors import AdminError
from vilab.storage.datastore import inside

VOLUMES = "/vmfs/volumes/"

_BRACKETS = re.compile(r"\[([^\[\]]+)\] ?(.*)", re.DOTALL)


class DatastorePath(msgspec.Struct, frozen=True):
    """``path``: names with slashes between them, down from the datastore's root."""

    datastore: str
    path: str

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return f"[{self.datastore}] {self.path}"


def is_datastore_path(text: str) -> bool:
    return text.startswith(("[", VOLUMES))


def parse_path(text: str) -> DatastorePath:
    """``AdminError`` for what is no path in a datastore, or would leave it."""
    found = _BRACKETS.fullmatch(text)
    if found is not None:
        datastore, path = found[1].strip(), found[2]
    elif text.startswith(VOLUMES):
        datastore, _, path = text.removeprefix(VOLUMES).partition("/")
    else:
        raise AdminError(f"{text!r} is no path in a datastore; [datastore1] web/web.vmx is one.")
    names = inside(path)
    if not names:
        raise AdminError(f"{text!r} names a datastore, and no file in it.")
    return DatastorePath(datastore, "/".join(names))
