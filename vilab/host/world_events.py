"""What the hosted product reports: every crossing between worlds, and what is done where.

::

    guest ─LanceAccessed──> VMM ─WorldSwitched──> VMDriver ─Crossed──> VMApp ─Crossed──> host kernel
    guest <────Crossed───── VMM <─WorldSwitched── VMDriver <─Crossed── VMApp <─Crossed── host kernel
                                                  Worked: time that somebody spends where he is

The worlds are two: the VMM's, with the guest in it, and the host's. Only between them everything changes: address
space, descriptor tables, all registers.
"""

from __future__ import annotations

from typing import Literal

from vilab.events import Event

Place = Literal["guest", "VMM", "VMDriver", "VMApp", "host kernel", "vmkernel"]
"""The last one is ESX's: there it is below the VMM in the only world there is."""


class LanceAccessed(Event, frozen=True, tag=True):
    """The guest has accessed a register of its card. ``register``: ``RAP`` or, of the data register, what RAP selects
    (``CSR0``, ``BCR20``). ``sends``: it tells the card to send. ``done_in``: who has carried it out."""

    register: str
    write: bool
    value: int
    sends: bool
    done_in: str


class WorldSwitched(Event, frozen=True, tag=True):
    """All of the processor's state was exchanged. ``why``: ``I/O``, ``backlog``, ``interrupt``, ``look`` or ``idle``.
    ``ns``: what it has cost."""

    origin: Place
    to: Place
    why: str
    ns: int


class Crossed(Event, frozen=True, tag=True):
    """Control goes on within a world: a return, a system call, the way into the VMM and out."""

    origin: Place
    to: Place
    why: str


class Worked(Event, frozen=True, tag=True):
    """Somebody has spent ``ns`` on ``what``."""

    where: Place
    what: str
    ns: int


class FrameOnWire(Event, frozen=True, tag=True):
    """The host's card begins to send (``sent``), or has received."""

    sent: bool
    frame: bytes


class HostInterrupted(Event, frozen=True, tag=True):
    """The host's card interrupts. ``switched``: the VMM had the processor, so worlds had to be switched for it."""

    what: str
    switched: bool
