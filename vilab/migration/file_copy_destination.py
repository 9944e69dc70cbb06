"""The host to which a machine's folder goes: makes room, takes its files, and decides that it has it.

::

    (nothing) ──CopyOffer──> filling ──CopyEnd──> whole ──CopyCommit──> moved ──CopySettled──> (over)
                                │                   │
         given up, lost: what has come goes         lost: it stays, and is asked for by its number (``decide``)

What it says it has, it has read again from its own disk, and synced. The one renaming of ``web.vmx.moving`` to
``web.vmx`` is the commitment (``vilab.host.vm_departure``). Driven from outside, as ``destination`` is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Literal

import msgspec

from vilab.errors import AdminError, VilabError
from vilab.host import vmx
from vilab.host.host import Host
from vilab.host.off_folder import FolderLock
from vilab.host.vm_departure import mark, unmark
from vilab.host.vm_home import MOST_BYTES
from vilab.host.vm_move import ArrivingHome
from vilab.host.vmx import Vmx
from vilab.migration import file_copy_messages as say
from vilab.migration.file_copy_checks import Incoming, look_at, unmet
from vilab.migration.file_copy_decision import decide, settle_here
from vilab.migration.file_copy_identity import Identity, new_identity
from vilab.migration.file_copy_writer import FolderWriter
from vilab.migration.options import PATIENCE_NS
from vilab.migration.round_sender import Send
from vilab.storage.datastore import inside

Phase = Literal["idle", "filling", "whole", "moved", "asked", "undecided", "failed"]


class FileCopyDestination:
    """Parameters
    ----------
    source : the other host's name, as it has proved it.
    identity : what a clone becomes.
    """

    def __init__(
        self, host: Host, source: str, send: Send, *, now: Callable[[], int] | None = None,
        patience_ns: int = PATIENCE_NS, identity: Identity = new_identity,
    ) -> None:  # fmt: skip
        self.host, self.source, self._send = host, source, send
        self._now = now if now is not None else lambda: host.now_ns
        self._patience_ns, self._heard_ns = patience_ns, self._now()
        self._identity = identity
        self.phase: Phase = "idle"
        self.why = ""
        """How it has ended, in a sentence; empty after a success."""
        self.number = ""
        self.home: ArrivingHome | None = None
        self._incoming: Incoming | None = None
        self._config: Vmx | None = None
        self._lock: FolderLock | None = None
        self._writer: FolderWriter | None = None
        self._said_ns = 0

    @property
    def over(self) -> bool:
        return self.phase in ("failed", "undecided") or (self.phase == "moved" and self._lock is None)

    @property
    def name(self) -> str:
        return "the machine" if self._incoming is None else self._incoming.name

    def received(self, message: msgspec.Struct, body: memoryview) -> None:
        """A message of the source's. One that does not fit ends what has been begun, and the source is told why."""
        if self.over:
            if isinstance(message, say.CopySettled) and message.number == self.number and self.home is not None:
                settle_here(self.host.storage, self.source, message)
            return
        self._heard_ns = self._now()
        try:
            self._take(message, body)
        except (VilabError, OSError) as error:
            self.give_up(self._sentence(error))

    def _sentence(self, error: Exception) -> str:
        text = str(error)
        both = self.source in text and self.host.name in text
        return text if both else f"{self.name} cannot go from {self.source} to {self.host.name}: {text}"

    def _take(self, message: msgspec.Struct, body: memoryview) -> None:
        assert isinstance(message, say.CopyMessage)
        if isinstance(message, say.CopyDecide) and self.phase in ("idle", "asked"):
            self.phase, self.number = "asked", message.number
            self._send(decide(self.host.storage, self.source, message), ())
            return
        if isinstance(message, say.CopyOffer) and self.phase == "idle":
            self._prepare(message, body)
            return
        if message.number != self.number:
            raise AdminError(
                f"{self.host.name} knows nothing of the copy {message.number} that {self.source} speaks of: begin it "
                "again."
            )
        writer = self._writer
        match message:
            case say.CopyBusy():
                pass
            case say.FileData() if self.phase == "filling" and writer is not None:
                self._check_lock()
                writer.write(message, body)
            case say.FileEnd() if self.phase == "filling" and writer is not None:
                self._check_lock()
                writer.end_file(message)
            case say.CopyEnd() if self.phase == "filling" and writer is not None and writer.all_taken:
                self._complete()
            case say.CopyCommit() if self.phase == "whole":
                self._commit()
            case say.CopySettled() if self.phase in ("moved", "asked"):
                self._settle(message)
            case say.CopyGaveUp() if self.phase in ("filling", "whole"):
                self._discard(message.why)
            case say.CopyGaveUp():
                self._leave("failed", message.why)
            case _:
                raise AdminError(
                    f"{self.source} said {type(message).__name__}, which has no place while the copy of {self.name} to "
                    f"{self.host.name} is {self.phase}: the agents do not agree; look at their versions."
                )

    def pump(self) -> bool:
        """Time has passed. True: something was done, and there is more."""
        if self.over:
            return False
        if self._writer is not None and self._writer.checks:
            self._heard_ns = self._now()
            try:
                self._check_step(self._writer)
            except (VilabError, OSError) as error:
                self.give_up(self._sentence(error))
            return True
        if self._now() - self._heard_ns > self._patience_ns:
            silent = f"{self.source} has said nothing for {self._patience_ns / 1e9:g} s"
            if self.phase == "moved":
                self._leave("moved", "")
            elif self.phase == "whole":
                self._stop_undecided(f"{silent}.")
            else:
                self.give_up(f"{silent} while {self.name} was on its way to {self.host.name}; look whether it is up.")
        return False

    def lost(self, why: str) -> None:
        """The connection has ended."""
        if self.over:
            return
        ended = f"The connection between {self.source} and {self.host.name} has ended: {why}"
        if self.phase == "filling":
            self._discard(ended)
        elif self.phase == "whole":
            self._stop_undecided(ended)
        else:
            self._leave("moved" if self.phase == "moved" else "failed", "" if self.phase == "moved" else ended)

    def give_up(self, why: str) -> None:
        """End it, and say so. What is whole is withdrawn before that is said."""
        if self.over:
            return
        if self.phase == "whole":
            self._withdraw(why)
        elif self.phase == "moved":
            self._leave("moved", "")
        else:
            self._send(say.CopyGaveUp(self.number, why), ())
            self._discard(why)

    # --- taking files -------------------------------------------------------------------------------------------------

    def _prepare(self, message: say.CopyOffer, body: memoryview) -> None:
        self.number = message.number
        if message.source.name != self.source:
            raise AdminError(f"{self.source} offers a machine of {message.source.name}: ask that host itself.")
        if len(body) > MOST_BYTES:
            raise AdminError(f"{message.home} has more than {MOST_BYTES} bytes: that is no configuration file.")
        self._config = vmx.parse(bytes(body), message.where)
        incoming = look_at(self.host, message, self._config)
        if problems := unmet(incoming):
            raise AdminError(" ".join(problems))
        names = tuple(file.name for file in message.files)
        if message.clone_name:
            stem = message.home.rpartition("/")[2].removesuffix(".vmx")
            names = self._identity(self._config, incoming.settings, stem, message.clone_name, names)
        self._make_folder(incoming)
        self._incoming, self.home = incoming, incoming.arriving
        self.phase = "filling"
        self._clear()
        sizes = tuple(file.size_bytes for file in message.files)
        self._writer = FolderWriter(incoming.arriving, names, sizes, incoming.name, self.source)
        mark(self._config, self.number, self.source, message.home, whole=False)
        incoming.arriving.write(self._config)
        self._send(say.CopyAccepted(self.number), ())

    def _make_folder(self, incoming: Incoming) -> None:
        arriving, datastore, at = incoming.arriving, incoming.mounted.datastore, ""
        for name in inside(incoming.mounted.path_of(arriving.folder)):
            at = f"{at}/{name}" if at else name
            if not datastore.exists(at):
                datastore.make_folder(at)
        self._lock = FolderLock(arriving, incoming.name)

    def _check_lock(self) -> None:
        assert self._lock is not None
        if self._lock.lost:
            raise AdminError(f"The folder of {self.name} is lost to {self.host.name}: {self._lock.lost}")

    def _check_step(self, writer: FolderWriter) -> None:
        self._check_lock()
        taken = writer.check_step()
        if taken is not None:
            self._say(msgspec.structs.replace(taken, number=self.number))
        elif self._now() - self._said_ns > say.BUSY_NS:
            self._say(say.CopyBusy(self.number))

    def _say(self, message: say.CopyMessage) -> None:
        self._said_ns = self._now()
        self._send(message, ())

    def _complete(self) -> None:
        home, config = self.home, self._config
        assert home is not None
        assert config is not None
        assert home.mounted is not None
        assert self._incoming is not None
        self._check_lock()
        home.files.sync_folder(home.folder)
        for parent in home.folder.relative_to(home.mounted.root).parents:
            home.files.sync_folder(home.mounted.root / parent)
        mark(config, self.number, self.source, self._incoming.offer.home, whole=True)
        home.write(config)
        self.phase = "whole"
        self._send(say.CopyWhole(self.number), ())

    # --- whose it is --------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        home = self.home
        assert home is not None
        try:
            self._check_lock()
            if home.files.exists(home.config):
                raise AdminError(f"there is a {home.config.name} in its folder on {self.host.name} now.")
            home.arrive()
        except (AdminError, OSError) as error:
            self._look_again(error)
        else:
            self._arrived()

    def _arrived(self) -> None:
        self.phase = "moved"
        self._send(say.CopyDecided(self.number, "moved"), ())

    def _look_again(self, error: Exception) -> None:
        """Whether it has got its name is not known: see to it that it never will, or find that it has."""
        home = self.home
        assert home is not None
        arrived = False
        with contextlib.suppress(AdminError, OSError):
            arrived = home.has_arrived(self.number)
        if arrived:
            home.arrived = True
            self._arrived()
        else:
            self._withdraw(self._sentence(error))

    def _withdraw(self, why: str) -> None:
        assert self.home is not None
        try:
            self.home.withdraw()
        except (AdminError, OSError) as error:
            self._send(say.CopyGaveUp(self.number, why), ())
            self._stop_undecided(f"{why} ({error})")
        else:
            self._send(say.CopyDecided(self.number, "withdrawn", why), ())
            self._discard(why, keep_mark=True)

    def _stop_undecided(self, why: str) -> None:
        self._leave(
            "undecided",
            f"{self.name} is on {self.host.name} as a whole, and {self.source} has not said that it is to count here. "
            f"{why} {self.source} asks when it can.",
        )

    def _settle(self, message: say.CopySettled) -> None:
        if self.phase == "asked":
            settle_here(self.host.storage, self.source, message)
            self._leave("failed", "")
            return
        home = self.home
        assert home is not None
        with contextlib.suppress(AdminError, OSError):  # it is of no importance any more
            config = home.read()
            unmark(config)
            home.write(config)
        self._leave("moved", "")

    # --- the end ------------------------------------------------------------------------------------------------------

    def _leave(self, phase: Phase, why: str) -> None:
        """Nothing stays open, and whatever is there stays there."""
        self.phase, self.why = phase, why
        self._close_files()
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(AdminError, OSError):
                lock.close()

    def _close_files(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(AdminError, OSError):
                writer.close()

    def _discard(self, why: str, keep_mark: bool = False) -> None:
        """What has come goes. ``keep_mark``: what says that it was withdrawn does not, since the source may ask."""
        if self.home is not None and self._lock is not None and not self._lock.lost:
            self._close_files()
            with contextlib.suppress(AdminError, OSError):
                self._clear(keep_mark)
        self._leave("failed", why)
        if self.home is not None and not keep_mark:
            with contextlib.suppress(AdminError, OSError):
                self._remove_folder(self.home)

    def _clear(self, keep_mark: bool = False) -> None:
        """Remove every file that is there; what says that it is a half copy goes last."""
        home = self.home
        assert home is not None
        assert home.mounted is not None
        marks = (home.pending.name, home.withdrawn.name)
        kept = (home.lock_path.name, *(marks if keep_mark else ()))
        names = [name for name in home.files.names(home.folder) if name not in kept and not name.startswith(".lck-")]
        for name in sorted(names, key=lambda name: name in marks):
            if not home.mounted.datastore.is_folder(home.mounted.path_of(home.folder / name)):
                home.files.remove(home.folder / name)

    @staticmethod
    def _remove_folder(home: ArrivingHome) -> None:
        assert home.mounted is not None
        home.files.remove(home.lock_path)
        home.mounted.datastore.remove(home.mounted.path_of(home.folder))
