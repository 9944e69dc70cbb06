"""How a VMFS volume refuses. All are ``AdminError``: one sentence, and nothing has changed."""

from __future__ import annotations

from vilab.errors import AdminError
from vilab.storage.block import BlockError


class VmfsDamage(BlockError):
    """What is on the volume cannot be right."""

    def __init__(self, sentence: str) -> None:
        super().__init__("medium", sentence)


class VmfsFull(BlockError):
    """No block, sub-block, pointer block or inode is left."""

    def __init__(self, sentence: str) -> None:
        super().__init__("no_space", sentence)


class NoSuchFile(AdminError):
    """The path names nothing."""


class FileInUse(AdminError):
    """Another host that is alive, or another opener on this one, holds the file's lock."""


class HostFenced(AdminError):
    """This host's heartbeat was broken: it must not write any more."""


class Held(Exception):
    """Internal: an object is locked by a host that may be alive. Whoever catches it watches that host's heartbeat.

    ``in_change``: the host has a journalled change under way; else it simply holds the file.
    """

    def __init__(self, hb_pos: int, hb_seq: int, what: str, in_change: bool = False) -> None:
        super().__init__(what)
        self.hb_pos, self.hb_seq, self.what, self.in_change = hb_pos, hb_seq, what, in_change
