"""What the agents of two hosts say to each other while a machine moves.

::

    source                                                   destination
    Prepare      who it is, what it needs           ──>      compared with what is here; room reserved, devices made
                                                    <──      Prepared, or GaveUp(why)
    Pages ...    a batch, its bytes as the body     ──>      into memory
    RoundEnd     number                             ──>
                                                    <──      RoundTaken: all until here is in memory
    (the machine is stunned; the last Pages)
    State        vCPU, devices, page states         ──>      loaded, and its digest compared
                                                    <──      Loaded
    HandOver     the locks are free                 ──>      locks taken, committed
                                                    <──      Runs
    GaveUp       either, before ``Runs``: nothing has happened there

Each migration has a session of its own; a message of another one is refused.
"""

from __future__ import annotations

import msgspec

from vilab.host.arrival import MachineDescription
from vilab.migration.descriptions import HostDescription, VmDescription
from vilab.migration.handover import Offer
from vilab.migration.line import LineState
from vilab.migration.page_stream import PageBatch
from vilab.migration.post_copy_messages import PostAllHere, PostBegin, PostFailed, PostNeed, PostPages


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """``session``: of the migration."""

    session: str


class Prepare(Message, frozen=True, tag=True):
    """``machine``: what it is made of. ``vm``, ``source``: what it needs, and where it has that now."""

    machine: MachineDescription
    vm: VmDescription
    source: HostDescription


class Prepared(Message, frozen=True, tag=True):
    """There is room, and the devices are in place."""


class Pages(Message, frozen=True, tag=True):
    batch: PageBatch


class RoundEnd(Message, frozen=True, tag=True):
    number: int


class RoundTaken(Message, frozen=True, tag=True):
    number: int


class State(Message, frozen=True, tag=True):
    """The body: so many bytes of ``VmState`` without memory, of ``PmapState``, of ``BalloonState``. ``digest``: of
    these and of memory, by name. ``line``: what was said on the serial line, if it goes along.
    ``post_copy``: ``PostBegin`` follows, and says which pages are not there. ``verify``: all of memory was read for the
    digest, and is to be read there, too."""

    sizes_bytes: tuple[int, int, int]
    digest: dict[str, bytes]
    line: LineState | None = None
    post_copy: bool = False
    verify: bool = False


class Loaded(Message, frozen=True, tag=True):
    """``digest``: of what the destination has."""

    digest: dict[str, bytes]


class HandOver(Message, frozen=True, tag=True):
    offer: Offer


class Runs(Message, frozen=True, tag=True):
    """The commitment is made: the machine is the destination's."""


class GaveUp(Message, frozen=True, tag=True):
    """``why``: a sentence."""

    why: str


PostCopyMessage = PostBegin | PostPages | PostNeed | PostAllHere | PostFailed
MigrationMessage = (
    Prepare | Prepared | Pages | RoundEnd | RoundTaken | State | Loaded | HandOver | Runs | GaveUp | PostCopyMessage
)
