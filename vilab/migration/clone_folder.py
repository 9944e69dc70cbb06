"""The folder of a clone: claimed, filled, and a machine's only at the end.

::

    copy/copy.vmx.lck       locked by the host that makes the clone
    copy/copy.vmx.moving    the configuration, with ``vilab.clone.of``: half a clone
    copy/copy.vmdk ...      empty disks like the original's, which are being filled
    copy/copy.vmx           the same configuration: a machine

Whoever finds half a clone and gets the lock knows that nobody works on it any more, and removes it: who makes another
clone there, and who powers on the original, beside which a record says of it. The first thing that is removed is the
mark's name, so that of two hosts that believe to have the lock, one fails and nothing is lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from vilab.errors import AdminError
from vilab.host.hosted_disk import HostedDisk
from vilab.host.off_folder import FolderLock
from vilab.host.storage import HostStorage
from vilab.host.vm_home import MOST_BYTES
from vilab.host.vm_move import CLONE_OF, NUMBER, ArrivingHome, number_in, unmark_clone
from vilab.host.vmx import Vmx, parse
from vilab.migration.handover import holder_of
from vilab.migration.storage_files import because, make_disk_like, make_folders
from vilab.storage.disk_file import Files
from vilab.storage.disks.disk_chain import DiskChain, open_chain


class CloneFolder:
    """Parameters
    ----------
    where : what the configuration will be, ``[ds2] copy/copy.vmx``.
    number : this clone's alone.
    """

    def __init__(self, storage: HostStorage, where: str, number: str) -> None:
        self.home = ArrivingHome(storage, where)
        self.number = number
        self.lock: FolderLock | None = None
        self._made = self._ours = False
        """The folder; and what is in it."""
        self.fenced = ""
        self.targets: dict[str, HostedDisk] = {}
        self._names: dict[str, str] = {}
        assert self.home.mounted is not None
        self.mounted = self.home.mounted
        self.folder = self.mounted.path_of(self.home.folder)

    @property
    def lost(self) -> str:
        """Why it is this host's no more, in a sentence."""
        return self.fenced or ("" if self.lock is None else self.lock.lost)

    # --- whose? -------------------------------------------------------------------------------------------------------

    def look(self) -> bool:
        """Is half a clone there? Nothing is changed. ``AdminError``: something else is."""
        datastore, home = self.mounted.datastore, self.home
        if not datastore.exists(self.folder):
            return False
        if not datastore.is_folder(self.folder):
            raise AdminError("there is a file with the name of its folder.")
        names = [name for name in datastore.names(self.folder) if not self._is_lock(name)]
        if home.config.name in names:
            raise AdminError(f"there is a machine already, {home.where}.")
        for mark in (home.pending, home.withdrawn):
            if mark.name in names:
                if config_in(home.files, mark).get(CLONE_OF) is None:
                    raise AdminError(
                        "its folder is there already, the unfinished copy of a machine that is being moved."
                    )
                return True
        if names:
            raise AdminError(f"its folder is there already, with {names[0]} in it; rename or remove that.")
        return False

    def _is_lock(self, name: str) -> bool:
        return name == self.home.lock_path.name or name.startswith((".lck-", ".vilab-"))

    def claim(self) -> None:
        """The folder is this host's now, and empty. ``AdminError``: somebody was quicker."""
        self._made = not self.mounted.datastore.exists(self.folder)
        make_folders(self.mounted, self.folder)
        try:
            self.lock = FolderLock(self.home, self.home.name)
        except AdminError as error:
            holder = holder_of(self.home)
            why = f"a clone is being made there by host {holder}. ({error})" if holder else str(error)
            raise because(error, why) from None
        half = self.look()
        self._ours = True
        if half:
            self._made = True
            self._clear()

    # --- filled -------------------------------------------------------------------------------------------------------

    def make(self, config: Vmx, chains: Mapping[str, DiskChain], names: Mapping[str, str], of: str) -> None:
        """The mark, and disks like those; ``targets``: by node, to be filled."""
        config.set(CLONE_OF, of)
        config.set(NUMBER, self.number)
        self.home.write(config)
        self._names = dict(names)
        for node, chain in chains.items():
            path, files = self.home.folder / names[node], self.home.files
            make_disk_like(chain, path, files, same_identity=False)
            self.targets[node] = HostedDisk(open_chain(path, True, files), self._fence)

    def _fence(self, sentence: str) -> None:
        self.fenced = self.fenced or sentence

    def finish(self) -> None:
        """What was copied is on the disk, and is found there. ``AdminError``: it is not."""
        for disk in self.targets.values():
            disk.flush()
        self._close_targets()
        for name in self._names.values():
            open_chain(self.home.folder / name, files=self.home.files).close()
        self.home.files.sync_folder(self.home.folder)

    def arrive(self) -> None:
        """It is a machine from now on. ``AdminError``, ``OSError``: it is none, or nobody can tell."""
        try:
            self.home.arrive()
        except (AdminError, OSError) as error:
            self._look_again(error)
        with contextlib.suppress(AdminError, OSError):  # when it is powered on, then
            unmark_clone(self.home)

    def _look_again(self, error: Exception) -> None:
        """Whether it has got its name is not known: see to it that it never will, or find that it has."""
        home = self.home
        try:
            home.withdraw()
        except (AdminError, OSError):
            try:
                home.arrived = home.has_arrived(self.number)
            except (AdminError, OSError):
                why = f"{self.mounted.name} does not say whether it is there ({error}); look again when it answers."
                raise AdminError(why) from None
            if home.arrived:
                return
        raise error

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The clone is finished: everything is given back."""
        with contextlib.suppress(AdminError, OSError):
            self._close_targets()
        if self.lock is not None:
            with contextlib.suppress(AdminError, OSError):
                self.lock.close()

    def discard(self) -> None:
        """What there is of it goes, as far as it can; then everything is given back."""
        with contextlib.suppress(AdminError, OSError):
            self._close_targets()
        clear = self._ours and not self.lost and not self.home.arrived
        with contextlib.suppress(AdminError, OSError):
            if clear:
                self._clear(self.number)
        self.close()
        if self._made and not self.lost and not self.home.arrived:
            self._remove_folder()

    def _clear(self, number: str | None = None) -> None:
        """Everything of half a clone, of this one or of anybody's, but the locks. ``AdminError``: not all of it."""
        home = self.home
        if home.files.exists(home.pending):
            if number is not None and number_in(home.files, home.pending) != number:
                raise AdminError(f"{home.where} is another clone by now.")
            home.withdraw()
        names = home.files.names(home.folder)
        if home.config.name in names:
            raise AdminError(f"{home.where} is a machine by now.")
        for name in names:
            if not name.startswith(".lck-") and name not in (home.lock_path.name, home.withdrawn.name):
                home.files.remove(home.folder / name)
        home.files.remove(home.withdrawn)

    def _remove_folder(self) -> None:
        """If nothing is in it, but the lock that this host had."""
        with contextlib.suppress(AdminError, OSError):
            names = self.mounted.datastore.names(self.folder)
            if names == [self.home.lock_path.name] and self.lock is not None:
                self.home.files.remove(self.home.lock_path)
                names = []
            if not names:
                self.mounted.datastore.remove(self.folder)

    def _close_targets(self) -> None:
        targets, self.targets = self.targets, {}
        for disk in targets.values():
            device = disk.device
            assert isinstance(device, DiskChain)
            device.close()


def config_in(files: Files, path: Path) -> Vmx:
    file = files.open(path)
    try:
        return parse(file.read_some(0, MOST_BYTES), path.name)
    finally:
        file.close()
