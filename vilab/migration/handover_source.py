"""The source's side of a hand-over: it gives the machine's files back, and asks for them again if it hears nothing.

::

    running ──give_back──> nobody's ──it runs there──> (off here)
       ^        refused       │
       │   <──────────────────┤ reclaim
       └──── Reclaimed ───────┼──> TakenOver, Lost: off here, and why
                              └──> Waiting: again, up to ``PATIENCE_NS``
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import msgspec

from vilab.errors import AdminError
from vilab.host.hosted_disk import HostedDisk
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vmx_disks import adapters_of
from vilab.migration.handover import (
    INTERVAL_NS,
    Answer,
    Lost,
    Offer,
    Outcome,
    Reclaimed,
    TakenOver,
    Waiting,
    all_of,
    check_held,
    holder_of,
)
from vilab.migration.handover_record import DamagedRecord, read_record, write_record
from vilab.storage.disks.disk_chain import DiskChain
from vilab.storage.nfs.lock import LockSettings
from vilab.storage.nfs.locks import LockedError
from vilab.storage.still_held import StillHeld

PATIENCE_NS = 60_000_000_000
"""A dead host's locks are free after 16 s on VMFS and after 30 s on NFS."""


class SourceSide:
    """The machine stands still, its bus is flushed (``bus.flush()``), its state is with the destination.

    Parameters
    ----------
    disks : the machine's, closed by ``give_back``.
    session : of the migration; random, never used before. destination : the other host's name.
    """

    def __init__(self, disks: VmDisks, session: str, destination: str) -> None:
        self.disks, self.home = disks, disks.home
        self.session, self.destination = session, destination
        self.source = disks.home.storage.host
        self.name = disks.name
        self.offer: Offer | None = None
        """What to send, once the locks were given back."""
        self.given_back = False
        """The locks are not ours any more: only ``reclaim`` leads back."""
        self._first_refusal_ns: int | None = None
        self._late, self._holder = False, ""

    # --- giving back --------------------------------------------------------------------------------------------------

    def give_back(self) -> Offer:
        """The locks of all files are free, and the record says for whom.

        Raises
        ------
        AdminError : while ``given_back`` is false nothing has changed and the machine runs on here; else ``reclaim``.
        """
        return all_of(self.give_back_steps())

    def give_back_steps(self) -> Generator[str, None, Offer]:
        if self.disks.lost:
            raise AdminError(f"{self.name} was not handed over to {self.destination}: {self.disks.lost}")
        if self.disks.closing:
            raise AdminError(
                f"{self.name} was not handed over to {self.destination}: {self.source} is moving its folder to another "
                "datastore. Wait until that has been done."
            )
        self._check_configuration()
        for device in self.disks.devices().values():
            device.flush()
        yield "flushed"
        seal = self.disks.seal()
        offer = Offer(self.session, self._next(), self.source, self.destination, self.home.where, seal)
        try:
            write_record(self.home, offer.record())
            check_held(self.disks)
        except AdminError:
            self._withdraw(offer)
            raise
        self.offer = offer
        yield "offered"
        self.given_back = True
        problems = self.disks.close()
        if problems:
            raise AdminError(
                f"{self.name} was not handed over to {self.destination}: {self.source} could not give all of its "
                f"files back. {' '.join(problems)}"
            )
        yield "given back"
        return offer

    def _check_configuration(self) -> None:
        """Both hosts will open what the file says. Somebody may have edited it since the machine was powered on."""
        said = {disk.node: disk for adapter in adapters_of(self.home.read()) for disk in adapter.disks}
        devices = self.disks.devices()
        changed = sorted(said.keys() ^ devices.keys())
        for node, disk in said.items():
            device = devices.get(node)
            chain = device.device if isinstance(device, HostedDisk) else None
            _, files, place = self.home.find(disk.file_name)
            if isinstance(chain, DiskChain) and not disk.mode.endswith("nonpersistent"):
                changed += [node] if files.resolve(place) != files.resolve(chain.top.path) else []
        if changed:
            raise AdminError(
                f"{self.name} was not handed over to {self.destination}: {self.home.where} says something else of "
                f"{' and '.join(changed)} than when {self.source} powered it on. Put it right, or power it off."
            )

    def _next(self) -> int:
        try:
            last = read_record(self.home)
        except DamagedRecord:
            last = None
        return 1 if last is None else last.sequence + 1

    def _withdraw(self, offer: Offer) -> None:
        """It may stand there all the same. The locks are ours: nobody has followed it."""
        try:
            write_record(self.home, msgspec.structs.replace(offer.record(), state="reclaimed"))
        except AdminError:
            return  # nor will anybody: the destination is told nothing

    # --- asking for the locks again -----------------------------------------------------------------------------------

    def reclaim(self) -> Answer:
        """The destination has said nothing, or no. Takes up to 16 s of the storage's time where it may be dead; where
        the storage is ``stepwise``, it takes none, and is ``Waiting``."""
        return all_of(self.reclaim_steps())

    def reclaim_steps(self) -> Generator[str, None, Answer]:
        offer = self.offer
        if offer is None or not self.given_back:
            raise AdminError(f"{self.name} has its files still: there is nothing to be reclaimed on {self.source}.")
        try:
            self._look_again()
            disks = VmDisks(self.home, self.disks.clock, self.disks.log, handed_over=True)
        except AdminError as error:
            return self._refused(offer, error)
        try:
            yield "opened"
            answer: Reclaimed | Lost = self._decide(offer, disks) or Reclaimed(disks)
            yield "decided"
            if isinstance(answer, Reclaimed):
                self._write_reclaimed(offer, disks)
                yield "reclaimed"
            check_held(disks)
        except AdminError as error:
            disks.close()
            again_ns = error.again_ns if isinstance(error, StillHeld) else INTERVAL_NS
            return Waiting(
                f"{self.source} has the files of {self.name}, but cannot go on with it yet: {error}", again_ns
            )
        if isinstance(answer, Lost):
            disks.close()
        return answer

    def _write_reclaimed(self, offer: Offer, disks: VmDisks) -> None:
        """Where this comes too late it may have covered "committed", and then "reclaimed" means nothing any more."""
        self._late = True
        try:
            write_record(self.home, msgspec.structs.replace(offer.record(), state="reclaimed"))
        finally:
            check_held(disks)
            self._late = False

    def _look_again(self) -> None:
        """A volume that was lost to this host meanwhile, because it stood still, is mounted anew."""
        storage, mounted = self.home.storage, self.home.mounted
        if mounted is not None and mounted.state == "fenced" and not mounted.users:
            storage.rescan()
        self.home = VmHome(storage, self.home.where)

    def _decide(self, offer: Offer, disks: VmDisks) -> Lost | None:
        """With the locks in our hand. ``None``: the machine is this host's."""
        try:
            record = read_record(self.home)
        except DamagedRecord as error:
            return self._lost(f"whether {self.destination} has run it cannot be known: {error}")
        ours = offer.record()
        if record is not None and record.says("committed", ours):
            return self._lost(
                f"{self.destination} has taken it over, and does not have it any more: that host has died, or has "
                "powered it off"
            )
        if record is not None and record.says("reclaimed", ours) and self._late:
            return self._lost(f"{self.source} has stood still in between, so that {self.destination} may have run it")
        if record is None or not (record.says("offered", ours) or record.says("reclaimed", ours)):
            return self._lost("somebody else has powered it on meanwhile, and it is off again")
        if disks.seal() != offer.seal:
            return self._lost("its disks were written to meanwhile")
        return None

    def _lost(self, why: str) -> Lost:
        return Lost(
            f"{self.name} is off: it was on its way from {self.source} to {self.destination}, and {why}. What "
            f"{self.source} has of its memory is not true any more; its disks are clean. Power it on from "
            f"{self.home.where} on either host."
        )

    def _refused(self, offer: Offer, error: AdminError) -> TakenOver | Waiting:
        if isinstance(error, StillHeld) and not isinstance(error, LockedError):
            self._holder = holder_of(self.home)
            return Waiting(f"{self.source} cannot have the files of {self.name} yet: {error}", error.again_ns)
        try:
            record = read_record(self.home)
        except AdminError as unread:
            return Waiting(str(unread))
        ours = offer.record()
        if record is not None and record.says("committed", ours):
            if self._may_be_dead(error):
                return Waiting(f"{self.destination} has taken {self.name} over; whether it lives is not known. {error}")
            return TakenOver(self.destination, f"{self.name} runs on {self.destination}.")
        self._holder = error.holder if isinstance(error, LockedError) else holder_of(self.home)
        undecided = record is not None and (record.says("offered", ours) or record.says("reclaimed", ours))
        if undecided or self._holder in ("", self.source):
            return Waiting(f"{self.source} cannot have the files of {self.name} yet: {error}")
        if self._may_be_dead(error):
            return Waiting(f"{self._holder} has the files of {self.name}; whether it lives is not known. {error}")
        return TakenOver(self._holder, f"{self.name} was powered on on {self._holder} while it was on its way.")

    def _may_be_dead(self, error: AdminError) -> bool:
        """On a file server a host is known to be alive when its lock was renewed since we have first looked."""
        if not isinstance(error, LockedError):
            return False
        clock, storage = self.disks.clock, self.home.storage
        if self._first_refusal_ns is None:
            self._first_refusal_ns = clock.now_ns
        interval_ns = (storage.options.locks or LockSettings()).update_ns
        return error.missed > 0 or clock.now_ns - self._first_refusal_ns < interval_ns

    def settle(
        self, wait: Callable[[int], None], patience_ns: int = PATIENCE_NS, interval_ns: int = INTERVAL_NS
    ) -> Outcome:
        """Ask until it is decided, or for so long. ``wait``: ``Host.wait``, which makes the storage's time go on."""
        clock = self.disks.clock
        until_ns = clock.now_ns + patience_ns
        while True:
            answer = self.reclaim()
            if not isinstance(answer, Waiting):
                return answer
            if clock.now_ns >= until_ns:
                return self.give_up(answer)
            wait(min(interval_ns, answer.again_ns))

    def give_up(self, last: Waiting) -> TakenOver | Lost:
        """Nobody knows, and this host may not run the machine without its locks: it is off here."""
        holder = self._holder
        if holder not in ("", self.source):
            return TakenOver(holder, f"{self.name} is off on {self.source}: {holder} has its files. {last.sentence}")
        return Lost(
            f"{self.name} is off on {self.source}: it was on its way to {self.destination}, and its files could not be "
            f"had again. Whether {self.destination} runs it is not known here: look there. {last.sentence}"
        )
