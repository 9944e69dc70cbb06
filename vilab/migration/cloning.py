"""A clone: another machine with a copy of the disks, from one that is off, suspended or running.

::

    original             locked, or frozen ──────────────────────────────────> merged again, given back
                              │
    [ds2] copy/          claimed ──> copy.vmx.moving, empty disks ──> copied ──> copy.vmx: it is a machine

One disk each, whatever chain it was; no snapshots, no memory: the clone is off. What only one machine can have is new:
``clone_config``. The record beside the original is ``vilab.host.vm_move``'s, and only ever leads to half a clone, to be
removed, and to redo logs, to be merged: whenever the host dies the original is good, and the clone is whole or none.
Source: VMware, Basic System Administration (VI 3.5), "Cloning Virtual Machines".

MODEL: copying takes no virtual time. What the running guest has not flushed is as after a power cut: nobody asks it to.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Literal

from vilab.errors import AdminError
from vilab.events import Event
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.vm_move import MoveRecord
from vilab.migration.clone_config import clone_config, disk_names, file_name_of
from vilab.migration.clone_folder import CloneFolder
from vilab.migration.clone_source import CloneSource
from vilab.migration.cloning_events import CloneBegan, CloneEnded
from vilab.migration.handover import check_held
from vilab.migration.storage_commit import Commitment
from vilab.migration.storage_copy import Copier, CopyOptions
from vilab.migration.storage_files import CopyProgress, because, copy_file
from vilab.storage.disks.disk_chain import DiskChain

State = Literal["copying", "cloned", "failed"]


class Clone:
    """A clone that is being made: it goes on while somebody takes its ``steps``; from a machine that is on, also while
    the host runs (``HostedVm.merge_step`` takes a step after each quantum).

    Parameters
    ----------
    source : the machine that is on, or the configuration file, ``[datastore1] web/web.vmx``.
    name : what people see. ``datastore``: of the host, by name. ``folder``: in it, as the name if it is not given.
    identity : what the new addresses and identifiers are made from; random if it is not given.

    Raises
    ------
    AdminError : no clone can be made there, and nothing has changed. ``StillHeld``: another host has it, which may be
        dead; who tries again finds out.
    """

    def __init__(
        self, host: Host, source: HostedVm | str, name: str, datastore: str, folder: str | None = None,
        options: CopyOptions | None = None, identity: str | None = None,
    ) -> None:  # fmt: skip
        self.host, self.name = host, name
        self.state: State = "copying"
        self.why = ""
        self.left = ""
        """What is still to be done at the original after a success."""
        file_name = file_name_of(name)
        self.where = f"[{datastore}] {file_name if folder is None else folder.strip('/')}/{file_name}.vmx"
        if folder is not None and not folder.strip("/. "):
            raise AdminError(
                f"{self.where} was not made: a machine has a folder of its own, and not a datastore's root."
            )
        if name in host.vms or name in host.arrivals:
            raise AdminError(f"{self.where} was not made: there is a virtual machine {name} on {host.name} already.")
        number = secrets.token_hex(8)
        self.folder = CloneFolder(host.storage, self.where, number)
        self.source = CloneSource(host, source, self.where)
        self.disks = self.source.disks
        self.began_ns = host.now_ns
        self.copier = Copier(self.source.name, options or CopyOptions(), self._say, lambda: host.now_ns)
        record = MoveRecord(number, self.where, redo_logs=self.source.hosted is not None)
        self.commitment = Commitment(self.disks.home, self.folder.home, record)
        self.progress = CopyProgress("", 0, self.source.size_bytes, 0)
        self._busy = True
        self._pieces = self._all_pieces()
        self._chains: dict[str, DiskChain] = {}
        try:
            self._begin(file_name, identity or number)
        except (AdminError, OSError) as error:
            self._give_up(str(error))
            self._merge_now()
            self._done()
            raise because(error, self.why) from None
        self.disks.closing.append(self._goes_off)
        if self.source.hosted is not None:
            self.source.hosted.merge_problem, self.source.hosted.merge = "", self._pieces

    def _begin(self, file_name: str, identity: str) -> None:
        if self.folder.mounted.state != "active":
            raise AdminError(f"{self.folder.mounted.name} is {self.folder.mounted.state} now.")
        self.folder.look()
        chains = self.source.chains()
        names = disk_names(list(chains), file_name)
        config = clone_config(self.disks.home.read(), self.where, self.name, names, identity, self._addresses())
        where, running = self.disks.home.where, self.source.hosted is not None
        size = self.source.size_bytes
        self._say(CloneBegan(self.began_ns, self.source.name, where, self.where, self.name, running, len(chains), size))
        self.commitment.begin()
        self.folder.claim()
        self.folder.make(config, chains, names, where)
        if running and self.disks.snapshots is not None:
            self.disks.snapshots.held = f"{self.source.name} is being cloned; wait until that has been done."
        self._chains = self.source.freeze()

    def _addresses(self) -> frozenset[bytes]:
        """Of the machines that are on here."""
        return frozenset(card.address for hosted in self.host.vms.values() for card in hosted.cables.settings)

    def _say(self, event: Event) -> None:
        if self.host.log.active:
            self.host.log.emit(event)

    @property
    def running(self) -> bool:
        """Is there more to do? When the clone is there, the redo logs of a running original are yet to be merged."""
        return self._busy

    # --- piece by piece -----------------------------------------------------------------------------------------------

    def steps(self) -> Iterator[CopyProgress]:
        """All of it. Whoever takes no more steps before the end has to call ``cancel``.

        Raises
        ------
        AdminError : it has failed; the original is as it was, and nothing of a clone is there.
        """
        while self._busy:
            self._step()
            yield self.progress
        if self.state == "failed":
            raise AdminError(self.why)

    def _step(self) -> None:
        hosted = self.source.hosted
        if hosted is not None and hosted.merge is self._pieces:
            hosted.merge_step()
        else:
            with contextlib.suppress(StopIteration, AdminError):
                next(self._pieces)

    def _all_pieces(self) -> Iterator[int]:
        try:
            yield from self._copy()
            self._commit()
        except (AdminError, OSError) as error:
            if self.state == "copying":
                self._give_up(str(error))
        try:
            yield from self.source.merge_steps()
            self.commitment.forget()
        except (AdminError, OSError) as error:
            self._merge_later(error)
        self._done()
        if self.state == "failed":
            raise AdminError(self.why)

    def _copy(self) -> Iterator[int]:
        done_bytes, step = 0, self.copier.options.step_bytes
        for node, chain in self._chains.items():
            for offset, size in chain.allocated(step):
                write = self.folder.targets[node].write
                self.copier.copy(node, chain.read(offset, size), offset, write, empty=True)
                self.progress = self._progress(node, done_bytes + offset + size)
                yield size
                self._check()
            done_bytes += chain.size_bytes
        yield from self._copy_nvram()
        self.progress = self._progress(self.progress.what, done_bytes)

    def _copy_nvram(self) -> Iterator[int]:
        name, home, new_home = self.source.nvram, self.disks.home, self.folder.home
        if not name:
            return
        file = home.files.open(home.folder / name)
        try:
            new = new_home.files.create(new_home.folder / f"{new_home.name}.nvram")
            try:
                for size in copy_file(self.copier, name, file, new):
                    yield size
                    self._check()
            finally:
                new.close()
        finally:
            file.close()

    def _progress(self, what: str, done_bytes: int) -> CopyProgress:
        copied = self.copier.copied_bytes + self.copier.other_files_bytes
        return CopyProgress(what, done_bytes, self.source.size_bytes, copied)

    def _check(self) -> None:
        if self.state != "copying":
            raise AdminError(self.why)
        if self.disks.lost or self.folder.lost:
            raise AdminError(self.disks.lost or self.folder.lost)

    # --- the moment ---------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        self.folder.finish()
        self._check()
        check_held(self.disks)
        self.folder.arrive()
        self.state = "cloned"
        self.folder.close()

    # --- the end ------------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Nothing of a clone is there. After it is there: the original is all that is left to do, at one go."""
        if self._busy:
            self._end_now("somebody has cancelled that.")

    def _goes_off(self) -> None:
        """The original goes off, or its files are another host's."""
        if self._busy:
            self._end_now(self.disks.lost or "the machine went off.")

    def _end_now(self, why: str) -> None:
        if self.source.hosted is not None and self.source.hosted.merge is self._pieces:
            self.source.hosted.merge = None
        self._pieces.close()  # type: ignore[attr-defined]
        if self.state == "copying":
            self._give_up(why)
        self._merge_now()
        self._done()

    def _give_up(self, why: str) -> None:
        self.state, self.why = "failed", str(self.source.refused(why))
        self.folder.discard()
        if not self.disks.lost:
            self.commitment.stay()

    def _merge_now(self) -> None:
        if self.disks.lost:
            return
        try:
            for _ in self.source.merge_steps():
                pass
            self.commitment.forget()
        except (AdminError, OSError) as error:
            self._merge_later(error)

    def _merge_later(self, error: Exception) -> None:
        sentence = f"The redo logs of {self.source.name} are merged when it is powered on the next time: {error}"
        if self.state == "failed":
            self.why += f" {sentence}"
        else:
            self.left = sentence

    def _done(self) -> None:
        if not self._busy:
            return
        self._busy = False
        if self.source.hosted is not None and self.disks.snapshots is not None:
            self.disks.snapshots.held = ""
        if self._goes_off in self.disks.closing:
            self.disks.closing.remove(self._goes_off)
        self.source.close()
        now_ns, ok = self.host.now_ns, self.state == "cloned"
        copied = self.copier.copied_bytes + self.copier.other_files_bytes
        self._say(
            CloneEnded(now_ns, self.source.name, self.where, ok, self.why, self.left, copied, now_ns - self.began_ns)
        )


def clone_now(
    host: Host, source: HostedVm | str, name: str, datastore: str, folder: str | None = None,
    options: CopyOptions | None = None, identity: str | None = None,
) -> Clone:  # fmt: skip
    """A clone; while it is made from a machine that is on, the host runs. ``AdminError``: it has failed."""
    clone = Clone(host, source, name, datastore, folder, options, identity)
    if clone.source.hosted is not None:
        while clone.running and clone.source.hosted.runs:
            host.run_for(host.quantum_ns)
    for _ in clone.steps():
        pass
    return clone
