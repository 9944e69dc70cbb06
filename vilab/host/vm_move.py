"""A machine's folder that moves to another datastore: what is written down, so that one of the two counts.

::

    in the old folder             in the new folder         which one counts
    web.vmx   web.vmx.copying     web.vmx.moving            the old one
    web.vmx   web.vmx.switching   web.vmx.moving            the old one, until somebody renames this
    web.vmx   web.vmx.switching   web.vmx                   the new one: it has moved
    web.vmx   web.vmx.switching   web.vmx.withdrawn         the old one: it never will
    web.vmx   web.vmx.staying     (whatever is left)        the old one: it never will
                                  web.vmx                   the new one, and nothing is left of the old one

Every step is one renaming: of two hosts that try, one succeeds, and who finds the file gone has to look again. What
the file says stays the same: the move's number, and where to. ``web.vmx.moving`` is the new configuration. Whoever
powers the machine on and finds one of these has the lock of that folder, so that the host that was moving it is dead;
he finishes it (``settle``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from vilab.errors import AdminError
from vilab.host import vmx
from vilab.host.datastore_path import parse_path
from vilab.host.storage import HostStorage
from vilab.host.vm_home import MOST_BYTES, VmHome
from vilab.host.vmx import Vmx
from vilab.storage.disk_file import Files
from vilab.storage.still_held import StillHeld

Phase = Literal["copying", "switching", "staying"]

FROM: Final = "vilab.move.from"
NUMBER: Final = "vilab.move.number"
"""Keys of a configuration that has moved, until nothing is left in the old folder."""
CLONE_OF: Final = "vilab.clone.of"
"""Of the configuration of a clone that is being made, with ``NUMBER``: it never takes its original's place, so the
record beside that one goes from ``copying`` to ``staying`` and never to ``switching``."""


class MoveRecord(msgspec.Struct, frozen=True):
    """``number``: this move's alone. ``redo_logs``: the disks have got some for it."""

    number: str
    to: str
    phase: Phase = "copying"
    redo_logs: bool = False


def record_path(home: VmHome, phase: Phase) -> Path:
    return home.config.with_name(f"{home.config.name}.{phase}")


def write_record(home: VmHome, record: MoveRecord) -> None:
    """In one step."""
    path = record_path(home, record.phase)
    text = vmx.parse(b"", path.name)
    text.set("move.number", record.number)
    text.set("move.to", record.to)
    text.set("move.redoLogs", "TRUE" if record.redo_logs else "FALSE")
    home.files.replace(path, vmx.write(text))


def go_on(home: VmHome, record: MoveRecord, phase: Phase) -> MoveRecord:
    """The next phase. ``AdminError``, or ``OSError``, where somebody else has decided otherwise meanwhile."""
    home.files.rename(record_path(home, record.phase), record_path(home, phase))
    return msgspec.structs.replace(record, phase=phase)


def read_record(home: VmHome) -> MoveRecord | None:
    """``None``: nobody was moving this machine away. ``AdminError`` where it cannot be read."""
    phases: tuple[Phase, ...] = get_args(Phase)
    for phase in (*phases, *phases):  # it may have become another one while we looked
        path = record_path(home, phase)
        if not home.files.exists(path):
            continue
        text = vmx.parse(_read(home.files, path), str(path))
        number, to = text.get("move.number"), text.get("move.to")
        if not number or not to:
            raise AdminError(
                f"{path} is damaged: it does not say where {home.name} was being moved to. If it was not moved, "
                "delete that file; if it was, power it on there."
            )
        return MoveRecord(number, to, phase, vmx.truth(text, "move.redoLogs"))
    return None


def _read(files: Files, path: Path) -> bytes:
    file = files.open(path)
    try:
        return file.read_some(0, MOST_BYTES)
    finally:
        file.close()


class ArrivingHome(VmHome):
    """The new folder, whose configuration has not got its name yet.

    Parameters
    ----------
    where : what the configuration will be: ``[nfs1] web/web.vmx``.
    """

    def __init__(self, storage: HostStorage, where: str) -> None:
        super().__init__(storage, where)
        self.arrived = False

    @property
    def pending(self) -> Path:
        return self.config.with_name(self.config.name + ".moving")

    @property
    def withdrawn(self) -> Path:
        return self.config.with_name(self.config.name + ".withdrawn")

    def read(self) -> Vmx:
        return super().read() if self.arrived else vmx.parse(_read(self.files, self.pending), self.where)

    def write(self, config: Vmx) -> None:
        self.files.replace(self.config if self.arrived else self.pending, vmx.write(config))

    def arrive(self) -> None:
        """From now on the machine is here."""
        self.files.rename(self.pending, self.config)
        self.arrived = True

    def withdraw(self) -> None:
        """It will never be."""
        self.files.rename(self.pending, self.withdrawn)

    def has_arrived(self, number: str) -> bool:
        """Is this the machine that was on its way here under that number?"""
        if not self.files.exists(self.config):
            return False
        return vmx.parse(_read(self.files, self.config), self.where).get(NUMBER) == number

    def clear(self) -> None:
        """Remove what has been copied so far; what says that it is a half copy goes last."""
        clear_folder(self, last=(self.withdrawn.name, self.pending.name))


def clear_folder(home: VmHome, first: tuple[str, ...] = (), last: tuple[str, ...] = (), keep: str = "") -> None:
    """Remove every file of a machine's folder, in this order, and the folder if nothing is left in it.

    Raises
    ------
    AdminError : one of them could not be removed; later ones are still there.
    """
    mounted, files, folder = home.mounted, home.files, home.folder
    names = files.names(folder)
    in_order = [*first, *(name for name in names if name not in (*first, *last)), *last]
    for name in in_order:
        path = folder / name
        if name in names and name != keep and not (mounted and mounted.datastore.is_folder(mounted.path_of(path))):
            files.remove(path)
    if mounted is not None and folder != mounted.root:
        with contextlib.suppress(AdminError):  # somebody has put something else there
            mounted.datastore.remove(mounted.path_of(folder))


def clear_source(home: VmHome, keep: str = "") -> None:
    """Remove the folder of a machine that has moved: first what it could be powered on with, last what says so."""
    clear_folder(home, (home.config.name,), (record_path(home, "switching").name,), keep)


def read_config(home: VmHome) -> Vmx:
    """The configuration, as ``VmHome.read``; where only the record of a move is left, ``AdminError`` says where to."""
    try:
        return home.read()
    except (AdminError, OSError):
        record = None
        with contextlib.suppress(AdminError, OSError):
            record = None if home.files.exists(home.config) else read_record(home)
        if record is None or record.phase != "switching":
            raise
    raise AdminError(
        f"{home.where} has been moved to {record.to}: power it on there. That also removes what is left of it here."
    )


@contextlib.contextmanager
def if_possible() -> Iterator[None]:
    """What fails is done the next time. Not ``StillHeld``: who may be dead is waited for, and it is asked again."""
    try:
        yield
    except StillHeld:
        raise
    except (AdminError, OSError):
        pass


def settle(home: VmHome) -> MoveRecord | None:
    """At power-on, with the machine's lock: finish a move that was cut short. If its redo logs have to be merged, the
    record of it, for ``forget_copy`` when they are.

    Raises
    ------
    AdminError : the machine has moved, and is to be powered on there; or it cannot be told.
    StillHeld : files there may be a dead host's; ask again.
    """
    if isinstance(home, ArrivingHome):
        return None
    _finish_arrival(home)
    record = read_record(home)
    if record is not None and record.phase == "copying":
        try:
            record = go_on(home, record, "staying")
        except (AdminError, OSError):
            record = read_record(home)
            if record is not None and record.phase == "copying":
                raise
    if record is None:
        return None
    if record.phase == "switching":
        _decide(home, record)
        record = go_on(home, record, "staying")
    if record.redo_logs:
        return record
    forget_copy(home, record)
    return None


def forget_copy(home: VmHome, record: MoveRecord) -> bool:
    """The machine stays: what there is of the copy goes, and the record. False: that has to be tried again.
    ``StillHeld``: it is not known yet whether it can."""
    try:
        clear_half_copy(home.storage, record)
        home.files.remove(record_path(home, record.phase))
    except StillHeld:
        raise
    except (AdminError, OSError):
        return False
    return True


def clear_half_copy(storage: HostStorage, record: MoveRecord) -> None:
    """Remove what there is of the copy, if it is that move's. ``AdminError``, ``OSError``: not all of it."""
    arriving = ArrivingHome(storage, record.to)
    assert arriving.mounted is not None
    if not arriving.mounted.datastore.exists(arriving.mounted.path_of(arriving.folder)):
        return
    for mark in (arriving.pending, arriving.withdrawn):
        if arriving.files.exists(mark) and number_in(arriving.files, mark) == record.number:
            if mark == arriving.pending:
                arriving.withdraw()  # whoever may still be at it: only one of the two can rename this
            arriving.clear()
            return
    names = arriving.files.names(arriving.folder)
    if all(name.startswith(".vilab-") or name == arriving.lock_path.name for name in names):
        if arriving.lock_path.name in names:
            _check_unlocked(arriving)  # somebody may be about to write his mark there
        arriving.clear()  # it had not come to the mark yet, or it was the last that went


def _check_unlocked(home: VmHome) -> None:
    """``AdminError``: somebody has the machine's lock."""
    file = home.files.open(home.lock_path, writable=True)
    try:
        file.lock()
    finally:
        file.close()


def number_in(files: Files, path: Path) -> str | None:
    """The number of the move that a configuration, under whichever name, belongs to."""
    return vmx.parse(_read(files, path), path.name).get(NUMBER)


def _decide(home: VmHome, record: MoveRecord) -> None:
    """Returns where the machine is still here."""
    try:
        arriving = ArrivingHome(home.storage, record.to)
        with if_possible():  # it is not there, or somebody was quicker
            if number_in(arriving.files, arriving.pending) == record.number:
                arriving.withdraw()
        moved = arriving.has_arrived(record.number)
        withdrawn = arriving.files.exists(arriving.withdrawn)
        withdrawn = withdrawn and number_in(arriving.files, arriving.withdrawn) == record.number
    except StillHeld:
        raise
    except (AdminError, OSError) as error:
        raise AdminError(
            f"{home.where} is not powered on: its host died while it was being moved to {record.to}, and which of the "
            f"two counts is written there only. ({error}) Add that datastore to {home.storage.host} and try again."
        ) from None
    if moved:
        raise AdminError(f"{home.where} has been moved to {record.to}: power it on there.")
    if not withdrawn:
        there = "another configuration" if arriving.files.exists(arriving.config) else "nothing"
        raise AdminError(
            f"{home.where} is not powered on: its host died while it was being moved to {record.to}, and there is "
            f"{there} there now. If this one is the one that counts, delete {record_path(home, record.phase)}."
        )


def _finish_arrival(home: VmHome) -> None:
    """This is where it has moved to: what is left in the old folder goes, if that can be reached."""
    config = home.read()
    source, number = config.get(FROM), config.get(NUMBER)
    if number is not None and config.get(CLONE_OF) is not None:
        with if_possible():
            unmark_clone(home)
    if source is None or number is None:
        return
    with if_possible():
        forget_source(home, source, number)


def unmark_clone(home: VmHome) -> None:
    """It is a machine like any other."""
    config = home.read()
    for key in (CLONE_OF, NUMBER):
        config.remove(key)
    home.write(config)


def forget_source(home: VmHome, source: str, number: str, keep: str = "") -> None:
    """Remove the old folder if it is that move's, and then what the configuration says of it. ``AdminError``."""
    parse_path(source)
    old = VmHome(home.storage, source)
    if old.mounted is not None and old.mounted.datastore.exists(old.mounted.path_of(old.folder)):
        record = read_record(old)
        if record is not None and record.number == number:
            clear_source(old, keep)
    config = home.read()
    for key in (FROM, NUMBER):
        config.remove(key)
    home.write(config)
