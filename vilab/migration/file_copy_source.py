"""The host that has a machine which is off: sends its folder to a host that sees none of its datastores.

::

    asked ──CopyAccepted──> copying ──> checking ──> concluding ──CopyWhole──> leaving ──"moved"──> moved
      │                        │            │             │                       │
      └────────────────────────┴────────────┴─────────────┘                       └── nothing heard: undecided
                  anything fails: it stays, nothing has changed                      it is off, and says where it may be

``checking``: the destination reads again what it has written, this host what it has sent: nobody has changed it. Before
``leaving`` the machine is this host's, with ``web.vmx.leaving`` on the disk it is whose the destination says
(``vilab.host.vm_departure``). Of a clone nothing is written down: the old machine stays whatever happens (``copied``).

Driven from outside: ``received`` for each message, ``pump`` whenever there is room on the wire, ``lost`` when the
connection has ended. Nothing here waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Literal

import msgspec

from vilab.errors import AdminError, VilabError
from vilab.host import vmx
from vilab.host.host import Host
from vilab.host.off_folder import OffFolder
from vilab.host.vm_departure import (
    Departure,
    clear_departed,
    departure_path,
    read_departure,
    undecided,
    write_departure,
)
from vilab.host.vm_home import VmHome
from vilab.host.vmx_settings import settings_of
from vilab.migration import file_copy_events as events
from vilab.migration import file_copy_messages as say
from vilab.migration.descriptions import describe_host
from vilab.migration.file_copy_reader import FolderReader
from vilab.migration.options import PATIENCE_NS
from vilab.migration.round_sender import Send

Phase = Literal[
    "asked", "copying", "checking", "concluding", "leaving", "settling", "moved", "copied", "failed", "undecided"
]  # fmt: skip


class FileCopyOptions(msgspec.Struct, frozen=True):
    """``step_bytes``: read at once, a multiple of 64 KB. ``turn_bytes``: read at most in one ``pump``."""

    step_bytes: int = 1 << 20
    turn_bytes: int = 8 << 20
    patience_ns: int = PATIENCE_NS


DEFAULT = FileCopyOptions()


class FileCopyProgress(msgspec.Struct, frozen=True):
    """``percent``: of the bytes that there are, holes too. ``bytes_per_s``: on the wire, since it began."""

    phase: Phase
    file: str
    percent: float
    sent_bytes: int
    bytes_per_s: float


class FileCopySource:
    """Parameters
    ----------
    home : of a machine that is off or suspended.
    destination : the other host's name, as it has proved it; ``address``: where it was called.
    where : what the configuration is to be there, ``[ds2] web/web.vmx``.
    send : a message with its body to the other host. ``number``: random, never used before.
    clone_name : of the new machine, if this one stays. ``now``: this host's time in ns.
    """

    def __init__(
        self, host: Host, home: VmHome, destination: str, where: str, send: Send, number: str, *, clone_name: str = "",
        address: str = "", options: FileCopyOptions = DEFAULT, now: Callable[[], int] | None = None,
    ) -> None:  # fmt: skip
        self.host, self.home, self.destination, self.where = host, home, destination, where
        self.number, self.clone_name, self.options, self._send = number, clone_name, options, send
        self._address = address
        self._now = now if now is not None else lambda: host.now_ns
        self._began_ns = self._heard_ns = self._now()
        self.name = home.name
        self.phase: Phase = "asked"
        self.why = ""
        """How it has ended, in a sentence; empty after a success."""
        self.left = ""
        """What could not be removed here after a success."""
        self._reader: FolderReader | None = None
        self._taken = self._said_ns = 0

    # --- from outside -------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self.phase in ("moved", "copied", "failed", "undecided")

    @property
    def sent_bytes(self) -> int:
        """On the wire, of files."""
        return 0 if self._reader is None else self._reader.sent_bytes

    @property
    def progress(self) -> FileCopyProgress:
        reader, elapsed_ns = self._reader, self._now() - self._began_ns
        file, percent = ("", 0.0) if reader is None or self.phase == "asked" else (reader.current, reader.percent)
        rate = self.sent_bytes * 1e9 / elapsed_ns if elapsed_ns > 0 else 0.0
        return FileCopyProgress(self.phase, file, percent, self.sent_bytes, rate)

    @property
    def _purpose(self) -> str:
        return f"{self.name} was not {'cloned' if self.clone_name else 'moved'} to {self.destination}"

    def start(self) -> None:
        """Lock the folder, and ask the other host for room. ``AdminError``: it cannot go; nothing has begun."""
        folder = OffFolder(self.home, self._purpose)
        try:
            self.name = settings_of(folder.config).display_name
            self._reader = reader = FolderReader(
                folder, self.number, self._send, self.options.step_bytes, self._changed, self._file_sent
            )
            offered, here = reader.offered, describe_host(self.host)
        except BaseException:
            folder.close()
            raise
        self._tell(
            events.FileCopyBegan(
                self._now(), self.name, self.host.name, self.destination, self.home.where, self.where, len(offered),
                sum(reader.sizes), bool(self.clone_name),
            )
        )  # fmt: skip
        offer = say.CopyOffer(self.number, self.home.where, self.where, here, offered, self.clone_name)
        self._send(offer, (vmx.write(folder.config),))

    def received(self, message: msgspec.Struct, _body: memoryview | None = None) -> None:
        """A message of the other host. One that has no place now ends it: another program's, or old."""
        if self.over:
            return
        self._heard_ns = self._now()
        try:
            self._take(message)
        except (VilabError, OSError) as error:
            self.give_up(str(error))

    def _take(self, message: msgspec.Struct) -> None:
        if not isinstance(message, say.CopyMessage) or message.number != self.number:
            raise AdminError(
                f"{self.destination} said {type(message).__name__}, which is not of the copy {self.number} of "
                f"{self.name} from {self.host.name}: the agents do not agree; look at their versions."
            )
        reader = self._reader
        match message:
            case say.CopyBusy():
                pass
            case say.CopyGaveUp():
                self._failed(message.why)
            case say.CopyAccepted() if self.phase == "asked":
                self.phase = "copying"
            case say.FileTaken() if reader is not None and self._taken < len(reader.digests):
                self._file_taken(message, reader)
            case say.CopyWhole() if self.phase == "concluding":
                self._leave()
            case say.CopySettled() if self.phase == "settling":
                self._settled()
            case say.CopyDecided() if self.phase in ("concluding", "leaving"):
                self._decided(message)
            case _:
                raise AdminError(
                    f"{self.destination} said {type(message).__name__} while the copy of {self.name} from "
                    f"{self.host.name} was {self.phase}: the agents do not agree; look at their versions."
                )

    def pump(self, room_bytes: int) -> bool:
        """There is room for so many bytes on the wire. True: something was done, and there is more."""
        if self.over or self._reader is None:
            return False
        worked = False
        try:
            worked = self._work(room_bytes)
        except (VilabError, OSError) as error:
            self.give_up(str(error))
        if worked:
            self._heard_ns = self._now()
        elif not self.over and self._now() - self._heard_ns > self.options.patience_ns:
            self.give_up(
                f"{self.destination} has said nothing for {self.options.patience_ns / 1e9:g} s; look whether it is up."
            )
        return worked

    def lost(self, why: str) -> None:
        """The connection has ended."""
        if not self.over:
            self._failed(f"The connection between {self.host.name} and {self.destination} has ended: {why}")

    def give_up(self, why: str) -> None:
        """End it. Before ``leaving`` the machine stays, and nothing has changed."""
        if self.over:
            return
        if self.phase not in ("leaving", "settling"):
            self._send(say.CopyGaveUp(self.number, why), ())
        self._failed(why)

    # --- file by file -------------------------------------------------------------------------------------------------

    def _work(self, room_bytes: int) -> bool:
        reader, turn, worked = self._reader, self.options.turn_bytes, False
        assert reader is not None
        if reader.folder.lock.lost and self.phase not in ("leaving", "settling"):
            raise AdminError(f"The folder of {self.name} is lost to {self.host.name}: {reader.folder.lock.lost}")
        while turn > 0 and room_bytes > 0 and self.phase == "copying":
            if reader.all_sent:
                self.phase = "checking"
                break
            room_bytes -= reader.send_step()
            turn, worked = turn - self.options.step_bytes, True
        while turn > 0 and self.phase == "checking" and not reader.all_checked:
            reader.check_step()
            turn, worked = turn - self.options.step_bytes, True
        if self.phase == "checking":
            if reader.all_checked and self._taken == len(reader.names):
                reader.check_names()
                self.phase = "concluding"
                self._send(say.CopyEnd(self.number), ())
            elif worked and self._now() - self._said_ns > say.BUSY_NS:
                self._said_ns = self._now()
                self._send(say.CopyBusy(self.number), ())
        return worked

    def _file_sent(self, file: int, sent_bytes: int) -> None:
        reader = self._reader
        assert reader is not None
        self._tell(events.FileCopied(self._now(), self.name, reader.names[file], reader.sizes[file], sent_bytes))

    def _file_taken(self, message: say.FileTaken, reader: FolderReader) -> None:
        if message.file != self._taken or message.digest != reader.digests[self._taken]:
            raise AdminError(
                f"{reader.names[self._taken]} of {self.name} is not on {self.destination} what it is on "
                f"{self.host.name}: their digests differ. Try again, and look at the disks and the memory of both."
            )
        self._taken += 1

    def _changed(self, name: str) -> AdminError:
        return AdminError(
            f"{name} of {self.name} on {self.host.name} was changed while it was copied to {self.destination}: find "
            "out which program writes to it, and try again."
        )

    # --- whose it is --------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """From now on the other host decides."""
        if not self.clone_name:
            departure = Departure(self.number, self.destination, self.where, self._address)
            try:
                write_departure(self.home, departure)
            except (AdminError, OSError):
                self.home.files.remove(departure_path(self.home))
                raise
        self.phase = "leaving"
        self._send(say.CopyCommit(self.number), ())

    def _decided(self, message: say.CopyDecided) -> None:
        if message.decision == "moved" and self.phase == "leaving":
            self._arrived()
        elif message.decision == "withdrawn":
            if self.phase == "leaving" and not self.clone_name:
                self.home.files.remove(departure_path(self.home))
            self.phase = "concluding"
            self._send(say.CopySettled(self.number, self.where), ())
            self._failed(message.why)
        else:
            self._failed(message.why or f"{self.destination} has said {message.decision!r} where that has no place.")

    def _arrived(self) -> None:
        if not self.clone_name:
            try:
                self._remove()
            except (AdminError, OSError) as error:
                self.left = (
                    f"{self.name} has moved to {self.destination}, and not all of {self.home.where} on "
                    f"{self.host.name} could be removed ({error}): have {self.host.name} ask {self.destination} again, "
                    "which removes it."
                )
        self.phase = "settling"
        if self.left:
            self._settled()
        else:
            self._send(say.CopySettled(self.number, self.where), ())

    def _settled(self) -> None:
        """The destination has forgotten the number and let go of the folder, or is not heard any more."""
        self._end("copied" if self.clone_name else "moved", "")

    def _remove(self) -> None:
        assert self._reader is not None
        folder = self._reader.folder
        if folder.lock.lost:
            raise AdminError(folder.lock.lost)
        self.home.files.remove(self.home.config)
        folder.close()
        clear_departed(self.home)

    def _failed(self, why: str) -> None:
        """Before ``leaving`` it stays here; from then on only the other host knows."""
        if self.phase == "settling":
            self._settled()
        elif self.phase != "leaving":
            self._end("failed", f"{self._purpose}: {why}")
        elif self.clone_name:
            self._end("undecided", f"{self.destination} has not said whether {self.clone_name} is there; look. {why}")
        else:
            departure = Departure(self.number, self.destination, self.where, self._address)
            with contextlib.suppress(AdminError, OSError):
                departure = read_departure(self.home) or departure
            self._end("undecided", f"{undecided(self.home, departure)} {why}")

    def _end(self, phase: Phase, why: str) -> None:
        self.phase, self.why = phase, why
        if self._reader is not None:
            with contextlib.suppress(AdminError, OSError):
                self._reader.folder.close()
        took_ns = self._now() - self._began_ns
        self._tell(events.FileCopyEnded(self._now(), self.name, phase, why, self.left, self.sent_bytes, took_ns))

    def _tell(self, event: events.FileCopyBegan | events.FileCopied | events.FileCopyEnded) -> None:
        if self.host.log.active:
            self.host.log.emit(event)
