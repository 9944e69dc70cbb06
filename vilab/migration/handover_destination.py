"""The destination's side of a hand-over: it takes the machine's files, and says that the machine is its own.

::

    nothing ──take──> has the files ──commit──> runs
       ^    refused         │ refused
       └────────────────────┴── given back: the source may have them again
"""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.datastore_path import is_datastore_path
from vilab.host.storage import HostStorage
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.migration.handover import Offer, all_of, check_held
from vilab.migration.handover_record import HandoverRecord, read_record, write_record


class DestinationSide:
    """Everything of the machine is here but its files.

    Parameters
    ----------
    offer : from the source. session : of the migration that this host takes part in.
    """

    def __init__(self, storage: HostStorage, offer: Offer, session: str, clock: VirtualClock, log: EventLog) -> None:
        self.storage, self.offer, self.session, self.clock, self.log = storage, offer, session, clock, log
        self.disks: VmDisks | None = None
        self.committed = False

    def take(self) -> VmDisks:
        """The files, locked and as the source has left them.

        Raises
        ------
        AdminError : they are not to be had, or not what was offered. Nothing stays open; this host must not run it.
        """
        return all_of(self.take_steps())

    def take_steps(self) -> Generator[str, None, VmDisks]:
        offer = self.offer
        if offer.session != self.session or offer.destination != self.storage.host:
            raise AdminError(
                f"{self.storage.host} refuses {offer.home}: it was offered to {offer.destination} in another migration "
                f"than the one with {offer.source} that is going on here."
            )
        if not is_datastore_path(offer.home):
            raise AdminError(
                f"{self.storage.host} refuses {offer.home} of {offer.source}: that is no file on a datastore. Move the "
                "machine to one that both hosts have."
            )
        home = VmHome(self.storage, offer.home)
        self._check_offered(home)
        yield "looked"
        disks = VmDisks(home, self.clock, self.log, handed_over=True)
        try:
            yield "opened"
            self._check_offered(home)
            yield "offered"
            if disks.seal() != offer.seal:
                raise AdminError(
                    f"{self.storage.host} refuses {offer.home}: its disks are not as {offer.source} has left them; "
                    "somebody has written to them. It goes on, if it can, where it was."
                )
        except Exception:
            disks.close()
            raise
        self.disks = disks
        yield "compared"
        return disks

    def _check_offered(self, home: VmHome) -> None:
        record, offer = read_record(home), self.offer
        if record is None or not record.says("offered", offer.record()):
            raise AdminError(
                f"{self.storage.host} refuses {offer.home}: {offer.source} does not offer it any more; "
                f"{_told(record)}. Begin the migration again."
            )

    def commit(self) -> VmDisks:
        """From now on the machine is this host's, and runs here or nowhere.

        Raises
        ------
        AdminError : it is not. The files were given back; this host must not run it.
        """
        return all_of(self.commit_steps())

    def commit_steps(self) -> Generator[str, None, VmDisks]:
        disks = self.disks
        if disks is None or self.committed:
            raise AdminError(f"{self.storage.host} has nothing to commit: the files of {self.offer.home} come first.")
        record = msgspec.structs.replace(self.offer.record(), state="committed")
        try:
            if disks.lost:
                raise AdminError(disks.lost)
            try:
                write_record(disks.home, record)
            except AdminError:
                if read_record(disks.home) != record:  # its answer may have been lost, not the write
                    raise
            yield "committed"
            check_held(disks)
        except AdminError as error:
            self.refuse()
            raise AdminError(
                f"{self.storage.host} does not run {self.offer.home}, which {self.offer.source} has given back: {error}"
            ) from None
        self.committed = True
        yield "held"
        return disks

    def refuse(self) -> None:
        """Before ``commit``: the files are free, for the source to take them back."""
        disks, self.disks = self.disks, None
        if disks is not None:
            disks.close()


def _told(record: HandoverRecord | None) -> str:
    if record is None:
        return "there is no record of it"
    return f"the record says {record.state}, number {record.sequence}, from {record.source} to {record.destination}"
