"""What network cards report, one event for each step of a frame's way.

::

    driver ──> AdapterRegisterWritten ──> FrameFetched ──> the port          frame leaves: descriptors, memory, wire
    the port ──> FrameStored ──> AdapterInterrupt                            frame arrives
             └─> FrameRefused                                                no room, no receiver, not for this card
"""

from __future__ import annotations

from typing import Literal

from vilab.events import Event

Refusal = Literal["off", "filter", "no_descriptor", "too_long", "too_short", "bad_descriptor", "bad_fcs"]


class FrameFetched(Event, frozen=True, tag=True):
    """The card has read a frame from guest memory and sends it. ``gpa``: its first descriptor; ``descriptors``: how
    many it was in; ``segments``: how many frames were made of it (more than one: segmentation offload)."""

    slot: int
    gpa: int
    descriptors: int
    segments: int
    frame: bytes


class FrameStored(Event, frozen=True, tag=True):
    """The card has written a frame that arrived to guest memory. ``gpa``: its first descriptor."""

    slot: int
    gpa: int
    descriptors: int
    frame: bytes


class FrameRefused(Event, frozen=True, tag=True):
    """A frame that the card did not take (``received``), or did not send."""

    slot: int
    received: bool
    why: Refusal
    size_bytes: int
