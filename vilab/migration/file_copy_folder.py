"""The folder at the destination, from its making to the one renaming that counts, or to its end.

::

    made, locked ── web.vmx.moving: not whole ── files (``writer``) ── web.vmx.moving: whole ── web.vmx
                                     │                                   │
                                     └──── removed                       └── web.vmx.withdrawn, the rest removed

What says that it is a half copy is the first that is written and the last that goes.
"""

from __future__ import annotations

import contextlib

from vilab.errors import AdminError
from vilab.host.off_folder import FolderLock
from vilab.host.vm_departure import mark, unmark
from vilab.host.vmx import Vmx
from vilab.migration.file_copy_checks import Incoming
from vilab.migration.file_copy_writer import FolderWriter
from vilab.storage.datastore import inside


class ArrivingFolder:
    """Parameters
    ----------
    incoming : checked; what is in the folder now, if anything, an earlier attempt has left.
    config : as it will be. names : what the files that come are called here.

    Raises
    ------
    AdminError : somebody else fills it now, or it cannot be made. Nothing stays open.
    """

    def __init__(self, incoming: Incoming, config: Vmx, names: tuple[str, ...]) -> None:
        self.incoming, self.config, self.home = incoming, config, incoming.arriving
        self._source, self._mounted = incoming.offer.source.name, incoming.mounted
        self._make()
        self._lock = FolderLock(self.home, incoming.name)
        try:
            self._clear()
            self._mark(whole=False)
        except BaseException:
            self.discard()
            raise
        self.writer = FolderWriter(self.home, names, incoming.offer.files, incoming.name, self._source)

    def _make(self) -> None:
        at = ""
        for name in inside(self._mounted.path_of(self.home.folder)):
            at = f"{at}/{name}" if at else name
            if not self._mounted.datastore.exists(at):
                self._mounted.datastore.make_folder(at)

    def _mark(self, whole: bool) -> None:
        mark(self.config, self.incoming.offer.number, self._source, self.incoming.offer.home, whole)
        self.home.write(self.config)

    def check_lock(self) -> None:
        """``AdminError``: the folder is another host's by now."""
        if self._lock.lost:
            raise AdminError(
                f"The folder of {self.incoming.name} is lost to {self.home.storage.host}: {self._lock.lost}"
            )

    def complete(self) -> None:
        """All files are there, and would outlast a power cut; so would this. ``AdminError``, ``OSError``."""
        self.check_lock()
        files, root = self.home.files, self._mounted.root
        files.sync_folder(self.home.folder)
        for parent in self.home.folder.relative_to(root).parents:
            files.sync_folder(root / parent)
        self._mark(whole=True)

    def commit(self) -> None:
        """It counts. ``AdminError``, ``OSError``: it does not, or that is not known (``has_arrived``)."""
        self.check_lock()
        if self.home.files.exists(self.home.config):
            raise AdminError(f"there is a {self.home.config.name} in its folder on {self.home.storage.host} now.")
        self.home.arrive()

    def has_arrived(self) -> bool:
        """False: it has not, or that cannot be seen now."""
        with contextlib.suppress(AdminError, OSError):
            self.home.arrived = self.home.has_arrived(self.incoming.offer.number)
        return self.home.arrived

    def forget_number(self) -> None:
        """It is a machine like any other. What fails is of no importance any more."""
        with contextlib.suppress(AdminError, OSError):
            config = self.home.read()
            unmark(config)
            self.home.write(config)

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Nothing stays open, and whatever is there stays there."""
        if hasattr(self, "writer"):
            with contextlib.suppress(AdminError, OSError):
                self.writer.close()
        with contextlib.suppress(AdminError, OSError):
            self._lock.close()

    def discard(self, keep_mark: bool = False) -> None:
        """What has come goes, as far as it can. ``keep_mark``: not what says how it has ended, since the source may
        ask."""
        lost = self._lock.lost
        if hasattr(self, "writer"):
            with contextlib.suppress(AdminError, OSError):
                self.writer.close()
        if not lost:
            with contextlib.suppress(AdminError, OSError):
                self._clear(keep_mark)
        self.close()
        if not lost and not keep_mark:
            with contextlib.suppress(AdminError, OSError):
                self.home.files.remove(self.home.lock_path)
                self._mounted.datastore.remove(self._mounted.path_of(self.home.folder))

    def _clear(self, keep_mark: bool = False) -> None:
        home = self.home
        marks = (home.pending.name, home.withdrawn.name)
        kept = (home.lock_path.name, *(marks if keep_mark else ()))
        names = [name for name in home.files.names(home.folder) if name not in kept and not name.startswith(".lck-")]
        for name in sorted(names, key=lambda name: name in marks):
            if not self._mounted.datastore.is_folder(self._mounted.path_of(home.folder / name)):
                home.files.remove(home.folder / name)
