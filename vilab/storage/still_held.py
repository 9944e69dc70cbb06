"""A lock whose owner may be dead: it is not waited for here, who wants it asks again.

::

    ask ──> StillHeld        not seen for long enough: ask again after ``again_ns``, do something else meanwhile
    ask ──> StillHeld
    ask ──> FileInUse        it has shown that it lives
      or ──> the lock        it has been silent for as long as a dead host is given
"""

from __future__ import annotations

from vilab.storage.block import BlockError

LOOK_NS = 1_000_000_000


class StillHeld(BlockError):
    """Another host has it, and is being watched. Nothing has changed; who asks again goes on watching.

    ``again_ns``: after so long there is something new to be seen.
    """

    def __init__(self, sentence: str, again_ns: int = LOOK_NS) -> None:
        self.again_ns = again_ns
        super().__init__("away", sentence)
