"""Cold migration: the folder of a machine that is off, or suspended, moves from one datastore of a host to another.

::

    locked as at a power-on ──> new folder, record ──> every file, a step at a time ──> opened there, as a power-on does
                                                                                              │ switched
                                                        the old folder goes <── it is there <─┘

Nobody can power it on meanwhile, from this host or another one. ``vilab.host.vm_move`` says what is written down, so
that one of the two folders counts whenever the host dies; ``cold_folder``, what goes along, snapshots too. Source:
VMware, Basic System Administration (VI 3.5), "Migrating a Powered-Off or Suspended Virtual Machine".

MODEL: copying takes no virtual time. The folder keeps its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

from vilab.errors import AdminError
from vilab.events import Event
from vilab.host.host import Host
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import forget_source
from vilab.migration.cold_folder import ColdFolder
from vilab.migration.handover import check_held
from vilab.migration.storage_checks import check_folder, destination_of
from vilab.migration.storage_commit import Commitment, UndecidedError
from vilab.migration.storage_copy import Copier, CopyOptions
from vilab.migration.storage_files import CopyProgress, because
from vilab.migration.storage_vmotion_events import StorageMoveBegan, StorageMoveEnded, StorageSwitched

State = Literal["copying", "moved", "failed", "undecided"]


class ColdMigration:
    """A move under way: it goes on while somebody takes its ``steps``.

    Parameters
    ----------
    where : the configuration file, ``[datastore1] web/web.vmx``.
    destination : a datastore of the host, by name.

    Raises
    ------
    AdminError : it cannot be moved there, and nothing has changed. ``StillHeld``: another host has it, which may be
        dead; who tries again finds out.
    """

    def __init__(self, host: Host, where: str, destination: str, options: CopyOptions | None = None) -> None:
        self.host, self.destination = host, destination
        self.state: State = "copying"
        self.why = ""
        self.left = ""
        """What could not be removed from the source after a success."""
        self.source_home = VmHome(host.storage, where)
        self.name = self.source_home.name
        self._lost = ""
        self.new: VmDisks | None = None
        self.disks = self._locked()
        try:
            mounted = destination_of(host.storage, self.disks, destination)
            check_folder(self.disks, destination, "power it on once where this host reaches that")
            self.folder = ColdFolder(self.disks, mounted)
        except BaseException:
            self.disks.close()
            raise
        self.commitment = Commitment(self.source_home, self.folder.home, self.folder.record)
        self.copier = Copier(self.name, options or CopyOptions(), self._say, lambda: host.now_ns)
        self.progress = CopyProgress("", 0, self.folder.total_bytes, 0)
        self.began_ns = host.now_ns
        devices = self.disks.devices().values()
        size = sum(each.size_bytes for each in devices)
        self._say(
            StorageMoveBegan(
                self.began_ns, self.name, self.source_home.where, self.folder.home.where, "cold", len(devices), size
            )
        )
        try:
            self.commitment.begin()
            self.folder.make()
        except (AdminError, OSError) as error:
            self._give_up(str(error))
            raise AdminError(self.why) from None

    def _locked(self) -> VmDisks:
        """The machine's files, this host's now."""
        home, host = self.source_home, self.host
        for hosted in host.vms.values():
            if hosted.disks is not None and hosted.disks.home.where == home.where:
                raise AdminError(
                    f"{hosted.name} was not moved to {self.destination}: it is on, on {host.name}. Power it off, or "
                    "move it while it runs (Storage VMotion)."
                )
        try:
            disks = VmDisks(home, host.storage.clock, host.log)
        except (AdminError, OSError) as error:
            raise because(error, f"{self.name} was not moved to {self.destination}: {error}") from None
        self.name = disks.name = home.read().get("displayName") or home.name
        disks.on_lost = self._files_lost
        return disks

    def _files_lost(self, sentence: str) -> None:
        self._lost = self._lost or sentence

    def _say(self, event: Event) -> None:
        if self.host.log.active:
            self.host.log.emit(event)

    @property
    def running(self) -> bool:
        """Is there more to do?"""
        return self.state == "copying"

    @property
    def where(self) -> str:
        """The configuration file, where it counts now."""
        return self.folder.home.where if self.state == "moved" else self.source_home.where

    # --- the copy -----------------------------------------------------------------------------------------------------

    def steps(self) -> Iterator[CopyProgress]:
        """All of it, a piece at a time. Whoever takes no more steps before the end has to call ``cancel``.

        Raises
        ------
        AdminError : it has failed; the machine is where it was. Or it is ``undecided``.
        """
        try:
            self._check()
            yield from self._copy()
            self._switch()
        except (AdminError, OSError) as error:
            if self.state == "copying":
                self._give_up(str(error))
            raise AdminError(self.why) from None
        self._clean_source()
        self._ended(True)
        yield self.progress

    def _copy(self) -> Iterator[CopyProgress]:
        done_bytes = 0
        for name, size in self.folder.copy(self.copier):
            done_bytes += size
            copied = self.copier.copied_bytes + self.copier.other_files_bytes
            self.progress = CopyProgress(name, done_bytes, self.folder.total_bytes, copied)
            yield self.progress
            self._check()

    def _check(self) -> None:
        if self.state != "copying":
            raise AdminError(self.why)
        if self._lost or self.disks.lost:
            raise AdminError(self._lost or self.disks.lost)

    def cancel(self) -> None:
        """It stays where it is. After the end: nothing happens."""
        if self.state == "copying":
            self._give_up("somebody has cancelled that.")

    # --- the moment ---------------------------------------------------------------------------------------------------

    def _switch(self) -> None:
        """What was copied is opened as at a power-on, with the locks: if it cannot be, the old folder counts."""
        self.new = new = VmDisks(self.folder.home, self.host.storage.clock, self.host.log)
        new.name, new.on_lost = self.name, self._files_lost
        self._check()
        for disks in (self.disks, new):
            check_held(disks)
        try:
            self.commitment.switch()
        except UndecidedError as error:
            self._stop_undecided(error)
        self.state = "moved"
        self._say(
            StorageSwitched(self.host.now_ns, self.name, self.source_home.where, self.folder.home.where, 0)
        )  # fmt: skip

    def _stop_undecided(self, error: Exception) -> None:
        self.state = "undecided"
        self.why = (
            f"Whether {self.name} has moved is not known: {self.destination} does not say so ({error}). Power it on "
            "when that datastore is back, what is written there decides."
        )
        self._close()
        self._ended(False)
        raise AdminError(self.why)

    def _clean_source(self) -> None:
        """It has moved. What cannot be removed now is when it is powered on the next time."""
        assert self.new is not None
        self.folder.close()
        problems = self.disks.close()
        try:
            forget_source(self.new.home, self.source_home.where, self.commitment.record.number)
        except (AdminError, OSError) as error:
            problems.append(str(error))
        problems += self.new.close()
        if problems:
            self.left = (
                f"{self.name} has moved, and not all of {self.source_home.where} could be removed "
                f"({' '.join(problems)}); that is done when it is powered on."
            )

    # --- the end ------------------------------------------------------------------------------------------------------

    def _give_up(self, why: str) -> None:
        """What there is of the copy goes, now or when the machine is powered on the next time."""
        self.state, self.why = "failed", f"{self.name} was not moved to {self.destination}: {why}"
        self._close_new()
        if not self.disks.lost:
            self.commitment.stay()
        self._close()
        self._ended(False)

    def _close_new(self) -> None:
        if self.new is not None:
            with contextlib.suppress(AdminError, OSError):
                self.new.close()

    def _close(self) -> None:
        self._close_new()
        self.folder.close()
        self.disks.close()

    def _ended(self, ok: bool) -> None:
        now_ns, copier = self.host.now_ns, self.copier
        self._say(
            StorageMoveEnded(
                now_ns, self.name, ok, self.why, self.left, copier.copied_bytes, copier.number, now_ns - self.began_ns,
                copier.other_files_bytes,
            )
        )  # fmt: skip


def cold_migrate_now(
    host: Host, where: str, destination: str, options: CopyOptions | None = None
) -> ColdMigration:  # fmt: skip
    """A move, at one go. ``AdminError``: it has failed."""
    move = ColdMigration(host, where, destination, options)
    for _ in move.steps():
        pass
    return move
