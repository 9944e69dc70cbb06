"""What every adapter on the PCI bus reports, whatever it is for: registers written, memory moved, the interrupt pin.

::

    driver ──> AdapterRegisterWritten ──> DmaMoved ──> AdapterInterrupt
"""

from __future__ import annotations

from typing import Literal

from vilab.events import Event


class AdapterRegisterWritten(Event, frozen=True, tag=True):
    """The driver has written a register of the adapter in PCI slot ``slot``."""

    slot: int
    register: str
    value: int


class DmaMoved(Event, frozen=True, tag=True):
    """The adapter has moved bytes by itself. ``direction`` as guest memory sees it."""

    slot: int
    direction: Literal["read", "written"]
    what: Literal["data", "sense", "message"]
    gpa: int
    size_bytes: int


class AdapterInterrupt(Event, frozen=True, tag=True):
    """The adapter's interrupt pin has changed."""

    slot: int
    high: bool
