"""One path to a LUN, and what its answers say of it.

::

                     an answer                        a command answered, TEST UNIT READY too
    dead ─────────────────────────────> standby       ready: whatever it says, a reservation conflict too
     ^  <─────────────────────────────    │           passive: NOT READY, this port's processor does not own the LUN
     │       no answer                    │ chosen
     └─────────────────────────────── active          disabled: by the administrator only
"""

from __future__ import annotations

from typing import Literal, Protocol

from vilab.protocols import ReadableBytes
from vilab.storage.scsi.lun_identity import Answer
from vilab.storage.scsi.sense import Sense, SenseKey, Status, parse_sense

PathState = Literal["active", "standby", "dead", "disabled"]
OF_OUR_LOGIN = frozenset({0x2900, 0x2902, 0x2903, 0x2907})
"""Unit attentions that a new session, or our own reset, leaves on a path: nobody above needs to hear them."""
PASSIVE = frozenset({0x0403, 0x040B})
"""NOT READY: this port's processor does not own the LUN."""


class Path(Protocol):
    """One way to one LUN."""

    @property
    def name(self) -> str: ...

    @property
    def connected(self) -> bool:
        """There is a session of which both ends know."""
        ...

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        """``BlockError`` (away) where there is no answer."""
        ...

    def reset_unit(self) -> None: ...


class Way:
    """A path with what is known of it. ``fresh``: the attentions of its login are still to come."""

    __slots__ = ("fresh", "path", "state")

    def __init__(self, path: Path) -> None:
        self.path, self.fresh = path, True
        self.state: PathState = "standby"


def sense_of(answer: Answer) -> Sense | None:
    """Why it was refused, if it was and says so."""
    status, _, sense = answer
    return parse_sense(sense) if status == Status.CHECK_CONDITION else None


def is_attention(sense: Sense | None, codes: frozenset[int]) -> bool:
    return sense is not None and sense.key == SenseKey.UNIT_ATTENTION and sense.code in codes


def is_passive(sense: Sense | None) -> bool:
    return sense is not None and sense.key == SenseKey.NOT_READY and sense.code in PASSIVE
