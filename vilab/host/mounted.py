"""A datastore as a host has it: its files, its state, who uses it, and what keeps it alive.

::

    kind    state                      kept alive by                          a machine's files are kept by
    local   active                     nothing                                locks of the operating system
    vmfs    active, away, fenced       a heartbeat every 3 s                  the open files' locks on disk
    nfs     active, inactive           GETATTR every 9 s                      .lck- files, renewed every 10 s

``away``: the last look at the volume failed; commands of guests wait. ``fenced``: another host has broken this one's
heartbeat; the machines that have files there are stopped, and nothing is written any more until it is mounted again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.host_files import HostFiles
from vilab.host.storage_time import VolumeTime
from vilab.protocols import Lun
from vilab.storage.block import BlockError
from vilab.storage.datastore import Datastore, DatastoreFiles, LocalDatastore
from vilab.storage.luns.paths import MultipathLun
from vilab.storage.nfs.datastore import NfsDatastore
from vilab.storage.nfs.lock import LockSettings, Owner
from vilab.storage.nfs.locks import LockedError, VmLocks
from vilab.storage.vmfs.datastore import VmfsDatastore
from vilab.storage.vmfs.errors import HostFenced
from vilab.storage.vmfs.host import Host as VolumeHost
from vilab.storage.vmfs.time import Timing

Kind = Literal["local", "vmfs", "nfs"]
State = Literal["active", "inactive", "away", "fenced"]


class User(Protocol):
    """A virtual machine that has files open."""

    @property
    def name(self) -> str: ...

    def lose(self, sentence: str) -> None:
        """Its files are somebody else's by now: stop, and write nothing more."""
        ...


class DatastoreInfo(msgspec.Struct, frozen=True):
    """A row of the list. ``capacity_bytes`` and ``free_bytes`` are ``None`` while nobody can tell."""

    name: str
    kind: Kind
    device: str
    state: State
    capacity_bytes: int | None
    free_bytes: int | None
    users: tuple[str, ...]


class Mounted:
    """What all kinds have in common. ``locks_by_name``: opening a file keeps nobody out; ``lock`` does, before that."""

    kind: Kind = "local"
    locks_by_name = False

    def __init__(self, datastore: Datastore, device: str, luns: Mapping[str, Lun]) -> None:
        self.datastore, self.device = datastore, device
        self.files = HostFiles(luns, DatastoreFiles(datastore))
        self.root = DatastoreFiles.ROOT / datastore.name
        self.users: list[User] = []

    @property
    def name(self) -> str:
        return self.datastore.name

    @property
    def state(self) -> State:
        return "active"

    def info(self) -> DatastoreInfo:
        capacity: int | None = None
        free: int | None = None
        if self.state == "active":
            with contextlib.suppress(AdminError):
                capacity, free = self.datastore.space()
        users = tuple(user.name for user in self.users)
        return DatastoreInfo(self.name, self.kind, self.device, self.state, capacity, free, users)

    def path_of(self, place: Path) -> str:
        """The path in the datastore of what stands for it in ``files``."""
        return place.relative_to(self.root).as_posix()

    def lock(self, paths: Iterable[str], on_lost: Callable[[str], None]) -> Callable[[], None]:
        """Keep other hosts out of these files, as far as opening them does not. What gives them back."""
        return lambda: None

    def stepwise(self, steps: bool = True) -> contextlib.AbstractContextManager[None]:
        """In between, nobody is waited for who may be dead: ``StillHeld``, and who asks again goes on watching."""
        return contextlib.nullcontext()

    def lose(self, sentence: str) -> None:
        for user in list(self.users):
            user.lose(sentence)

    def close(self) -> None:
        """Give it up. Nobody uses it any more."""

    def cut_power(self) -> None:
        """The host has no power any more: nothing more is sent."""
        self.files.cut_power()


class MountedLocal(Mounted):
    def __init__(self, datastore: LocalDatastore, luns: Mapping[str, Lun]) -> None:
        super().__init__(datastore, str(datastore.root), luns)


class MountedVmfs(Mounted):
    """A volume on a LUN, with this host as one of its members.

    Parameters
    ----------
    uuid : the host's, 16 bytes.
    """

    kind: Kind = "vmfs"

    def __init__(
        self, name: str, lun: MultipathLun, uuid: bytes, clock: VirtualClock, luns: Mapping[str, Lun],
        timing: Timing | None = None, log: EventLog | None = None,
    ) -> None:  # fmt: skip
        self.lun, self.clock, self.timing = lun, clock, timing or Timing()
        self.time = VolumeTime(clock)
        self.member = VolumeHost(lun, uuid, self.time, self.timing, log)
        super().__init__(VmfsDatastore(self.member, name), lun.identity.name, luns)
        self._away = False
        self._timer: Timer | None = None
        self._arm()

    @property
    def state(self) -> State:
        return "fenced" if self.member.member.gone is not None else "away" if self._away else "active"

    def stepwise(self, steps: bool = True) -> contextlib.AbstractContextManager[None]:
        return self.member.member.stepwise(steps)

    def _arm(self) -> None:
        self._timer = self.clock.at(self.clock.now_ns + self.timing.renew_ns, self._beat)

    def _beat(self) -> None:
        self._timer = None
        if not self.time.waits:
            try:
                with self.member.member.stepwise():
                    self.member.beat()
                self._away = False
            except HostFenced as fenced:
                self.lose(f"The datastore {self.name} is lost to this host. {fenced}")
                return
            except BlockError:
                self._away = True
        self._arm()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        self._stop()
        if self.member.member.gone is None:
            self.member.leave()

    def cut_power(self) -> None:
        self._stop()


class MountedNfs(Mounted):
    """An export, mounted."""

    kind: Kind = "nfs"
    locks_by_name = True

    def __init__(
        self, datastore: NfsDatastore, device: str, owner: Owner, luns: Mapping[str, Lun],
        settings: LockSettings | None = None,
    ) -> None:  # fmt: skip
        super().__init__(datastore, device, luns)
        self.nfs, self.owner, self.settings = datastore, owner, settings
        self._asked: dict[tuple[str, ...], VmLocks] = {}
        self._held: list[VmLocks] = []
        datastore.health.start()

    @property
    def state(self) -> State:
        return self.nfs.state

    def lock(self, paths: Iterable[str], on_lost: Callable[[str], None]) -> Callable[[], None]:
        """Who is refused and asks again gets them once their owner has missed three renewals.

        Raises
        ------
        LockedError : another host has one of them.
        """
        wanted = tuple(sorted(paths))
        locks = self._asked.pop(wanted, None) or VmLocks(self.nfs, self.owner, self.settings)
        locks.on_lost = on_lost
        try:
            locks.take(wanted)
        except LockedError:
            self._asked[wanted] = locks
            raise
        self._held.append(locks)

        def give_back() -> None:
            self._held.remove(locks)
            locks.release()

        return give_back

    def close(self) -> None:
        self.nfs.close()

    def cut_power(self) -> None:
        for locks in self._held:
            locks.abandon()
        self.nfs.close()
