"""Storage VMotion: the folder of a running machine moves from one datastore of its host to another.

::

    new folder made, locked ──> other files, disks: a step after each quantum ──> little is left
                                                                                     │ the guest stands still
    the old folder goes <── the guest goes on, its disks are the new ones <── switched <── the rest, flushed

The guest's adapters and disks stay the same objects; what is behind them is exchanged. Until it has switched, a
failure leaves the machine at the source as it was. ``vilab.host.vm_move`` says what is written down, so that the same
is true of a host that dies. Source: VMware, Basic System Administration (VI 3.5), "Migration with Storage VMotion".

MODEL: the last copy and the exchange take no virtual time. A swap file is a file of this computer: it moves along where
the destination is a folder of this computer, else into the host's own folder.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Generator, Iterator
from typing import Literal, get_args

from vilab.errors import AdminError
from vilab.events import Event
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import forget_source
from vilab.migration.handover import check_held
from vilab.migration.storage_checks import check_machine, destination_of, disks_of
from vilab.migration.storage_commit import Commitment, UndecidedError
from vilab.migration.storage_copy import Copier, CopyOptions, Method
from vilab.migration.storage_copy_method import CopyMethod
from vilab.migration.storage_new_folder import NewFolder
from vilab.migration.storage_snapshot_method import SnapshotMethod
from vilab.migration.storage_vmotion_events import StorageMoveBegan, StorageMoveEnded, StorageSwitched

MethodName = Literal["snapshot", "changed blocks"]
State = Literal["copying", "moved", "failed", "undecided"]


class StorageVmotion:
    """A move under way. It goes on while the host runs: ``HostedVm.merge_step`` takes a step after each quantum.

    Parameters
    ----------
    destination : a datastore of the host, by name. The folder there gets the name that it has now.
    method : ``snapshot``, as VI 3.5 did it, or ``changed blocks``.

    Raises
    ------
    AdminError : it cannot be moved there; the machine runs on where it is, and nothing has changed. Later failures are
        in ``why``, and in ``HostedVm.merge_problem``.
    """

    def __init__(
        self, host: Host, hosted: HostedVm, destination: str, method: MethodName = "changed blocks",
        options: CopyOptions | None = None,
    ) -> None:  # fmt: skip
        if method not in get_args(MethodName):
            raise AdminError(f"{hosted.name} was not moved: {method!r} is no method; snapshot and changed blocks are.")
        self.host, self.hosted, self.destination = host, hosted, destination
        self.options = options or CopyOptions()
        self.state: State = "copying"
        self.why = ""
        self.left = ""
        """What could not be removed from the source after a success."""
        self.disks = disks_of(host, hosted, destination)
        mounted = destination_of(host.storage, self.disks, destination)
        check_machine(self.disks, destination, with_redo_logs=method == "snapshot")
        self.source_home: VmHome = self.disks.home
        self.folder = NewFolder(self.disks, mounted, redo_logs=method == "snapshot")
        self.commitment = Commitment(self.source_home, self.folder.home, self.folder.record)
        self.copier = Copier(hosted.name, self.options, self._say, lambda: host.now_ns)
        self.began_ns = host.now_ns
        self._lost = ""
        self.new: VmDisks | None = None
        self.method: Method | None = None
        try:
            self._begin(method)
        except (AdminError, OSError) as error:
            self._give_up(f" and runs on where it is: {error}")
            if method == "snapshot":
                with contextlib.suppress(AdminError, OSError):  # there is no room for that either: later
                    self._undo_now()
            raise AdminError(self.why) from None
        self.disks.closing.append(self._cancelled)
        self.steps = self._steps()
        hosted.merge_problem, hosted.merge = "", self.steps

    def _begin(self, name: MethodName) -> None:
        devices = self.disks.devices().values()
        where, to, size = self.source_home.where, self.folder.home.where, sum(each.size_bytes for each in devices)
        self._say(StorageMoveBegan(self.began_ns, self.hosted.name, where, to, name, len(devices), size))
        self.commitment.begin()
        self.new = self.folder.make()
        self.new.on_lost = self._destination_lost
        self.copier.pairs = self.folder.pairs(self.new)
        self._hold()
        snapshots = self.disks.snapshots
        assert snapshots is not None
        self.method = SnapshotMethod(self.copier, snapshots) if name == "snapshot" else CopyMethod(self.copier)

    def _hold(self) -> None:
        assert self.disks.snapshots is not None
        self.disks.snapshots.held = (
            f"{self.hosted.name} is being moved to {self.destination}; wait until that has been done."
        )

    def _say(self, event: Event) -> None:
        if self.host.log.active:
            self.host.log.emit(event)

    @property
    def running(self) -> bool:
        """Is there more to do?"""
        return self.state == "copying"

    @property
    def over(self) -> bool:
        """Nothing more is done for it: after a failure, the redo logs have been merged as well."""
        return self.state != "copying" and self.hosted.merge is not self.steps

    @property
    def copied_bytes(self) -> int:
        """Of the disks, in all rounds so far; ``copier.other_files_bytes`` says the rest."""
        return self.copier.copied_bytes

    def _destination_lost(self, sentence: str) -> None:
        self._lost = sentence

    # --- while the guest runs -----------------------------------------------------------------------------------------

    def _steps(self) -> Generator[int, None, None]:
        assert self.method is not None
        method = self.method
        try:
            for steps in (self.folder.copy_others(self.copier), method.steps()):
                for size in steps:
                    yield size
                    self._check()
            self._switch(method.last())
        except (AdminError, OSError) as error:
            if self.state != "copying":
                raise AdminError(self.why) from None
            self._give_up(f" and runs on where it is: {error}")
            yield from self._undo(method)
            raise AdminError(self.why) from None

    def _undo(self, method: Method) -> Iterator[int]:
        """The redo logs go, where there are any; at one go, if the machine is powered off meanwhile."""
        self.disks.closing.append(self._undo_now)
        try:
            yield from method.undo_steps()
            self.commitment.forget()
        except (AdminError, OSError) as error:
            self.why += f" Its redo logs are merged when it is powered on the next time: {error}"
        self.disks.closing.remove(self._undo_now)

    def _undo_now(self) -> None:
        snapshots = self.disks.snapshots
        if snapshots is not None and not self.disks.lost:
            for _ in snapshots.merge_frozen():
                pass
            self.commitment.forget()

    def _check(self) -> None:
        if self._lost or self.disks.lost:
            raise AdminError(self._lost or self.disks.lost)

    # --- the moment ---------------------------------------------------------------------------------------------------

    def _switch(self, stopped_bytes: int) -> None:
        new = self.new
        assert new is not None
        self.copier.flush()
        self.folder.write_config()
        self._check()
        for disks in (self.disks, new):
            check_held(disks)
        try:
            self.commitment.switch()
        except UndecidedError as error:
            self._stop_undecided(error)
        self.state = "moved"
        self._leave()
        self.disks.exchange(new)
        self._say(
            StorageSwitched(
                self.host.now_ns, self.hosted.name, self.source_home.where, self.folder.home.where, stopped_bytes
            )
        )
        self._clean_source(new)
        self._ended(True)

    def _stop_undecided(self, error: Exception) -> None:
        self.state, new = "undecided", self.new
        self.why = (
            f"{self.hosted.name} was stopped: {self.destination} does not say whether it has moved there ({error}); "
            "power it on again when that datastore is back, what is written there decides."
        )
        self._leave()
        self.hosted.stop(self.why)
        if new is not None:
            with contextlib.suppress(AdminError, OSError):
                new.close()
        self._ended(False)
        raise AdminError(self.why)

    def _leave(self) -> None:
        """The guest's disks are watched no more, and its snapshots are its own again."""
        if self.method is not None:
            self.method.end()
        if self.disks.snapshots is not None:
            self.disks.snapshots.held = ""
        self.folder.close()
        if self._cancelled in self.disks.closing:
            self.disks.closing.remove(self._cancelled)

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def _clean_source(self, old: VmDisks) -> None:
        """It has moved. What cannot be removed now is when it is powered on the next time."""
        problems = old.close()
        try:
            keep = self._move_swap()
            forget_source(self.disks.home, self.source_home.where, self.commitment.record.number, keep)
        except (AdminError, OSError) as error:
            problems.append(str(error))
        if problems:
            self.left = (
                f"{self.hosted.name} has moved, and not all of {self.source_home.where} could be removed "
                f"({' '.join(problems)}); that is done when it is powered on the next time."
            )

    def _move_swap(self) -> str:
        """The name of the swap file, where it stays in the old folder."""
        swap, old = self.hosted.client.swap, self.source_home.local_path()
        if old is None or swap.path.parent.resolve() != old.parent.resolve():
            return ""
        new = self.disks.home.local_path()
        path = (self.host.memory.swap_directory if new is None else new.parent) / swap.path.name
        try:
            if path.exists():
                return swap.path.name
            os.replace(swap.path, path)
        except OSError:  # another file system
            return swap.path.name
        swap.path = path
        return ""

    def _give_up(self, why: str) -> None:
        """The machine stays; what there is of the copy goes, now or when it is powered on the next time."""
        self.state = "failed"
        self.why = f"{self.hosted.name} was not moved to {self.destination}{why}"
        self._leave()
        if self.new is not None:
            with contextlib.suppress(AdminError, OSError):
                self.new.close()
        if not self.disks.lost:
            self.commitment.stay()
        self._ended(False)

    def _cancelled(self) -> None:
        """The machine goes off, or its files are another host's."""
        if self.state != "copying":
            return
        if inspect.getgeneratorstate(self.steps) != inspect.GEN_RUNNING:
            self.steps.close()  # what they had open is in nobody's way
        why = self.disks.lost or "the machine went off."
        self._give_up(f": {why}")
        if self.commitment.record.redo_logs:
            self._undo_now()

    def _ended(self, ok: bool) -> None:
        now_ns, copier = self.host.now_ns, self.copier
        self._say(
            StorageMoveEnded(
                now_ns, self.hosted.name, ok, self.why, self.left, copier.copied_bytes, copier.number,
                now_ns - self.began_ns, copier.other_files_bytes,
            )
        )  # fmt: skip


def move_now(
    host: Host, hosted: HostedVm, destination: str, method: MethodName = "changed blocks",
    options: CopyOptions | None = None,
) -> StorageVmotion:  # fmt: skip
    """A move, and virtual time until it has ended. ``AdminError``: it has failed."""
    move = StorageVmotion(host, hosted, destination, method, options)
    while move.running and hosted.runs:
        host.run_for(host.quantum_ns)
    if move.state != "moved":
        raise AdminError(move.why or hosted.stopped)
    return move
