"""What can go wrong on the way to a file server, in one sentence each, and what it means for a disk.

=============  ==============================================================  ============================
kind           what has happened                                               a disk says
=============  ==============================================================  ============================
``away``       no answer: the server is down, or the network to it             away (waits, is tried again)
``uncertain``  the connection broke after a change was asked for: done or not  away
``stale``      the file behind the handle is gone                              medium
``missing``    no such name                                                    medium
``exists``     the name is taken                                               medium
``no_space``   the volume is full, or a quota is                               no_space
``read_only``  exported read-only                                              read_only
``permission`` the server refuses this user                                    read_only
``protocol``   an answer that is no NFS                                        medium
``refused``    everything else the server says no to                           medium
=============  ==============================================================  ============================
"""

from __future__ import annotations

from typing import Literal

from vilab.errors import AdminError
from vilab.storage.block import BlockError, Refusal

Kind = Literal[
    "away", "uncertain", "stale", "missing", "exists", "no_space", "read_only", "permission", "protocol", "refused"
]


class NfsError(AdminError):
    """A file server did not do what it was asked. ``kind``: see the table of the module."""

    def __init__(self, kind: Kind, sentence: str) -> None:
        self.kind: Kind = kind
        super().__init__(sentence)


STATUS: dict[int, tuple[str, Kind, str]] = {
    1: ("NFS3ERR_PERM", "permission", "the caller is not the owner"),
    2: ("NFS3ERR_NOENT", "missing", "there is no such file"),
    5: ("NFS3ERR_IO", "refused", "the server's own disk has failed"),
    6: ("NFS3ERR_NXIO", "refused", "there is no such device"),
    13: ("NFS3ERR_ACCES", "permission", "permission is denied; check the export's root squash"),
    17: ("NFS3ERR_EXIST", "exists", "the name is taken"),
    18: ("NFS3ERR_XDEV", "refused", "it would cross file systems"),
    19: ("NFS3ERR_NODEV", "refused", "there is no such device"),
    20: ("NFS3ERR_NOTDIR", "refused", "that is not a folder"),
    21: ("NFS3ERR_ISDIR", "refused", "that is a folder"),
    22: ("NFS3ERR_INVAL", "refused", "an argument is not valid there"),
    27: ("NFS3ERR_FBIG", "no_space", "the file would be larger than the server allows"),
    28: ("NFS3ERR_NOSPC", "no_space", "the volume is full"),
    30: ("NFS3ERR_ROFS", "read_only", "the volume is exported read-only"),
    31: ("NFS3ERR_MLINK", "refused", "there are too many links"),
    63: ("NFS3ERR_NAMETOOLONG", "refused", "the name is too long"),
    66: ("NFS3ERR_NOTEMPTY", "refused", "the folder is not empty"),
    69: ("NFS3ERR_DQUOT", "no_space", "the quota is used up"),
    70: ("NFS3ERR_STALE", "stale", "the file was removed on the server, or the volume was exported anew"),
    71: ("NFS3ERR_REMOTE", "refused", "the file is on yet another server"),
    10001: ("NFS3ERR_BADHANDLE", "stale", "the server does not know the handle"),
    10002: ("NFS3ERR_NOT_SYNC", "refused", "the file has changed meanwhile"),
    10003: ("NFS3ERR_BAD_COOKIE", "refused", "the folder has changed while it was listed"),
    10004: ("NFS3ERR_NOTSUPP", "refused", "the server does not support that"),
    10005: ("NFS3ERR_TOOSMALL", "refused", "the answer would not fit"),
    10006: ("NFS3ERR_SERVERFAULT", "refused", "the server has a fault of its own"),
    10007: ("NFS3ERR_BADTYPE", "refused", "the server does not make files of that kind"),
    10008: ("NFS3ERR_JUKEBOX", "away", "the server needs longer and asks to be tried again"),
}
"""nfsstat3: number -> (name, kind, what a person is told). Source: RFC 1813, section 2.6."""


def status_error(operation: str, what: str, status: int) -> NfsError:
    """``what``: the file as a person knows it."""
    name, kind, why = STATUS.get(status, (f"status {status}", "refused", "the server does not say why"))
    return NfsError(kind, f"{operation} {what} was refused by the file server: {why} ({name}).")


def disk_error(error: NfsError) -> BlockError:
    """The same, as a disk's error."""
    kinds: dict[str, Refusal] = {
        "away": "away",
        "uncertain": "away",
        "no_space": "no_space",
        "read_only": "read_only",
        "permission": "read_only",
    }
    return BlockError(kinds.get(error.kind, "medium"), str(error))
