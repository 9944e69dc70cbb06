"""The host to which a machine's folder goes: makes room, takes its files, and decides that it has it.

::

    (nothing) ──CopyOffer──> filling ──CopyEnd──> whole ──CopyCommit──> moved ──CopySettled──> (over)
                                │                   │
         given up, lost: what has come goes         lost: it stays, and is asked for by its number (``decide``)

What it says it has, it has read again from its own disk, and synced. The one renaming of ``web.vmx.moving`` to
``web.vmx`` is the commitment (``vilab.host.vm_departure``). Driven from outside, as ``destination`` is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from vilab.errors import AdminError, VilabError
from vilab.host import vmx
from vilab.host.host import Host
from vilab.host.vm_home import MOST_BYTES
from vilab.migration import file_copy_messages as say
from vilab.migration.file_copy_checks import Incoming, look_at, unmet
from vilab.migration.file_copy_decision import decide, settle_here
from vilab.migration.file_copy_folder import ArrivingFolder
from vilab.migration.file_copy_identity import Identity, new_identity
from vilab.migration.options import PATIENCE_NS
from vilab.migration.round_sender import Send

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
        self._incoming: Incoming | None = None
        self._folder: ArrivingFolder | None = None
        """Where it goes; ours until it is over."""
        self._said_ns = 0

    @property
    def over(self) -> bool:
        return self.phase in ("failed", "undecided") or (self.phase == "moved" and self._folder is None)

    @property
    def name(self) -> str:
        return "the machine" if self._incoming is None else self._incoming.name

    def received(self, message: msgspec.Struct, body: memoryview) -> None:
        """A message of the source's. One that does not fit ends what has been begun, and the source is told why."""
        if self.over:
            if isinstance(message, say.CopySettled) and message.number == self.number and self._incoming is not None:
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
        folder = self._folder
        match message:
            case say.CopyBusy():
                pass
            case say.FileData() if self.phase == "filling" and folder is not None:
                folder.check_lock()
                folder.writer.write(message, body)
            case say.FileEnd() if self.phase == "filling" and folder is not None:
                folder.check_lock()
                folder.writer.end_file(message)
            case say.CopyEnd() if self.phase == "filling" and folder is not None and folder.writer.all_taken:
                folder.complete()
                self.phase = "whole"
                self._send(say.CopyWhole(self.number), ())
            case say.CopyCommit() if self.phase == "whole" and folder is not None:
                self._commit(folder)
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
        if self._folder is not None and self._folder.writer.checks:
            self._heard_ns = self._now()
            try:
                self._check_step(self._folder)
            except (VilabError, OSError) as error:
                self.give_up(self._sentence(error))
            return True
        if self._now() - self._heard_ns > self._patience_ns:
            silent = f"{self.source} has said nothing for {self._patience_ns / 1e9:g} s"
            if self.phase == "moved":
                self._leave("moved", "")
            elif self.phase == "whole":
                self._unheard(f"{silent}.")
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
            self._unheard(ended)
        else:
            self._leave("moved" if self.phase == "moved" else "failed", "" if self.phase == "moved" else ended)

    def give_up(self, why: str) -> None:
        """End it, and say so. What is whole is withdrawn before that is said."""
        if self.over:
            return
        if self.phase == "whole" and self._folder is not None:
            self._withdraw(self._folder, why)
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
        config = vmx.parse(bytes(body), message.where)
        self._incoming = incoming = look_at(self.host, message, config)
        if problems := unmet(incoming):
            raise AdminError(" ".join(problems))
        names = tuple(file.name for file in message.files)
        if message.clone_name:
            stem = message.home.rpartition("/")[2].removesuffix(".vmx")
            names = self._identity(config, incoming.settings, stem, message.clone_name, names)
        self._folder = ArrivingFolder(incoming, config, names)
        self.phase = "filling"
        self._send(say.CopyAccepted(self.number), ())

    def _check_step(self, folder: ArrivingFolder) -> None:
        folder.check_lock()
        taken = folder.writer.check_step()
        if taken is not None:
            self._say(msgspec.structs.replace(taken, number=self.number))
        elif self._now() - self._said_ns > say.BUSY_NS:
            self._say(say.CopyBusy(self.number))

    def _say(self, message: say.CopyMessage) -> None:
        self._said_ns = self._now()
        self._send(message, ())

    # --- whose it is --------------------------------------------------------------------------------------------------

    def _commit(self, folder: ArrivingFolder) -> None:
        try:
            folder.commit()
        except (AdminError, OSError) as error:
            if not folder.has_arrived():
                self._withdraw(folder, self._sentence(error))
                return
        self.phase = "moved"
        self._send(say.CopyDecided(self.number, "moved"), ())

    def _withdraw(self, folder: ArrivingFolder, why: str) -> None:
        """Whatever has failed: it will never count here."""
        try:
            folder.home.withdraw()
        except (AdminError, OSError) as error:
            self._send(say.CopyGaveUp(self.number, why), ())
            self._stop_undecided(f"{why} ({error})")
        else:
            self._send(say.CopyDecided(self.number, "withdrawn", why), ())
            self._discard(why, keep_mark=True)

    def _unheard(self, why: str) -> None:
        """Nobody asks for a clone: its source has the machine in any case."""
        if self._incoming is not None and self._incoming.offer.clone_name:
            self._discard(f"{self.name} was not cloned from {self.source} to {self.host.name}. {why}")
        else:
            self._stop_undecided(why)

    def _stop_undecided(self, why: str) -> None:
        self._leave(
            "undecided",
            f"{self.name} is on {self.host.name} as a whole, and {self.source} has not said that it is to count here. "
            f"{why} {self.source} asks when it can.",
        )

    def _settle(self, message: say.CopySettled) -> None:
        if self._folder is None:
            settle_here(self.host.storage, self.source, message)
            self._leave("failed", "")
        else:
            self._folder.forget_number()
            self._leave("moved", "")
            self._send(say.CopySettled(self.number, message.where), ())

    def _leave(self, phase: Phase, why: str) -> None:
        """Whatever is there stays there."""
        self.phase, self.why = phase, why
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()

    def _discard(self, why: str, keep_mark: bool = False) -> None:
        if self._folder is not None:
            self._folder.discard(keep_mark)
        self._leave("failed", why)
