"""Whose is the machine? At the end of a migration its files change hands, and their locks say who may run it.

::

    source                                      destination
    flush, seal, record "offered"
    locks given back
        ────────── Offer ──────────>            locks taken              refused: the source has taken them back
                                                record still "offered"?  no: the same
                                                seals as in the offer?   no: somebody has written
                                                record "committed"
        <───────── it runs ─────────            runs

    hears nothing: asks for the locks
        refused                                 ``Waiting``, or ``TakenOver``: the other one has committed
        has them, record "offered"              record "reclaimed", ``Reclaimed``: it runs on here
        has them, record "committed"            ``Lost``: the other one ran it, and has died

Nobody writes the record without the locks, and nobody runs the machine who did not take the record out of "offered".
So at most one of the two does; who cannot is told why. After its write each of them looks whether the locks are its own
still: a process that stood still in the middle may have been taken for dead.

Who does it: ``handover_source``, ``handover_destination``. The record: ``handover_record``. The methods that end
in ``_steps`` do the same piece by piece, and yield the name of what they have just done.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import msgspec

from vilab.errors import AdminError
from vilab.host.mounted import MountedNfs, MountedVmfs
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.migration.handover_record import HandoverRecord, record_path

T = TypeVar("T")
Seal = dict[str, int | None]
"""Node -> content identifier of the disk there; ``None`` for a LUN behind a physical mapping."""


class Offer(msgspec.Struct, frozen=True):
    """What the source says when it has given the locks back. ``home``: ``[san1] web/web.vmx``. ``seal``: of the disks,
    as the source has left them."""

    session: str
    sequence: int
    source: str
    destination: str
    home: str
    seal: Seal

    def record(self) -> HandoverRecord:
        return HandoverRecord(self.session, self.sequence, self.source, self.destination, "offered")


class Reclaimed(msgspec.Struct, frozen=True):
    """Nobody has committed: the machine goes on here, with ``disks`` (see ``reattach``)."""

    disks: VmDisks


class TakenOver(msgspec.Struct, frozen=True):
    """``host`` has the machine: it is off here, as after a migration that succeeded."""

    host: str
    sentence: str


class Lost(msgspec.Struct, frozen=True):
    """What this host's memory says of the machine is not true any more: it is off, and its disks are clean."""

    sentence: str


INTERVAL_NS = 5_000_000_000


class Waiting(msgspec.Struct, frozen=True):
    """It is not decided: ask again after ``again_ns``."""

    sentence: str
    again_ns: int = INTERVAL_NS


Outcome = Reclaimed | TakenOver | Lost
Answer = Reclaimed | TakenOver | Lost | Waiting


def reattach(old: VmDisks, new: VmDisks) -> None:
    """The machine that had ``old`` goes on with ``new``: behind the devices that its adapters know are the files that
    were opened again. ``AdminError``, and nothing has changed: the disks are others."""
    new.stand_behind(old.devices())
    new.name, new.on_lost, new.adapters = old.name, old.on_lost, old.adapters


def check_held(disks: VmDisks) -> None:
    """``AdminError``: this host has stood still, and the locks are somebody else's by now."""
    if disks.lost:
        raise AdminError(disks.lost)
    mounted = disks.home.mounted
    if isinstance(mounted, MountedVmfs):
        mounted.member.member.verify()
    elif isinstance(mounted, MountedNfs):
        mounted.nfs.hooks.before_write(record_path(disks.home).relative_to(mounted.root))


def holder_of(home: VmHome) -> str:
    """Who has the machine, as the lock's file says; empty if it does not."""
    try:
        file = home.files.open(home.lock_path)
        try:
            return file.read_some(0, 200).decode("utf-8", "replace").strip()
        finally:
            file.close()
    except AdminError:
        return ""


def all_of(steps: Generator[str, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
