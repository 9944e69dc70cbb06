"""The locks of a virtual machine on an NFS datastore: taken at power-on, renewed every 10 s, released at power-off.

::

    power-on      take(files)   all of them or none          LockedError: "... is locked by host esx1"
    running       a timer       heartbeat + 1 in each        a guard of the datastore: no write after the lock is lost
    power-off     release()                                  the lock files are gone

The host that comes too late asks again every interval; it gets the locks once their owner has missed three renewals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from vilab.clock import Timer
from vilab.errors import AdminError
from vilab.events import Event
from vilab.storage.block import BlockError
from vilab.storage.datastore import inside
from vilab.storage.nfs.datastore import NfsDatastore
from vilab.storage.nfs.errors import NfsError, disk_error
from vilab.storage.nfs.events import (
    NfsLockBroken,
    NfsLockLost,
    NfsLockRefused,
    NfsLockReleased,
    NfsLockRenewalFailed,
    NfsLockRenewed,
    NfsLockTaken,
)
from vilab.storage.nfs.lock import LockSettings, NfsLock, Owner
from vilab.storage.still_held import StillHeld


class LockedError(StillHeld):
    """Another host has the file. ``holder``: its name; ``missed``: renewals it was seen to miss; ``alive``: it was seen
    to renew its lock since this host has asked first."""

    def __init__(self, path: str, lock: str, holder: str, missed: int, most: int, alive: bool = False) -> None:
        self.path, self.holder, self.missed, self.alive = path, holder, missed, alive
        super().__init__(
            f"{path} is locked by host {holder} ({lock}, {missed} of {most} renewals missed). Power the virtual "
            "machine off there; if that host is dead, its lock is taken over when you go on trying."
        )


class VmLocks:
    """One virtual machine's locks on one datastore.

    Parameters
    ----------
    on_lost : called once for a file that was taken over; the virtual machine must stop.
    """

    def __init__(
        self,
        datastore: NfsDatastore,
        owner: Owner,
        settings: LockSettings | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        self.datastore, self.owner, self.on_lost = datastore, owner, on_lost
        self.settings = settings or LockSettings()
        self.locks: dict[str, NfsLock] = {}
        self._asked: dict[str, NfsLock] = {}
        self._failures: dict[str, int] = {}
        self._timer: Timer | None = None

    @property
    def held(self) -> bool:
        return bool(self.locks) and all(lock.state == "owned" for lock in self.locks.values())

    # --- power-on -----------------------------------------------------------------------------------------------------

    def take(self, paths: Iterable[str]) -> None:
        """All of them, or none.

        Raises
        ------
        LockedError : another host has one of them. What was seen is remembered: ask again after an interval.
        BlockError : the server does not answer, or a file is not there.
        """
        if self.locks:
            raise AdminError(f"Host {self.owner.name} has taken this virtual machine's locks already.")
        taken: dict[str, NfsLock] = {}
        try:
            self.datastore.health.check()
            refused: list[NfsLock] = []
            for path in sorted({"/".join(inside(path)) for path in paths}):
                lock = self._asked.setdefault(path, self._new_lock(path))
                if lock.try_take():
                    taken[path] = lock
                else:  # the others are looked at all the same: a dead owner has missed the renewals of all of them
                    refused.append(lock)
            if refused:
                raise self._refused(refused)
        except (NfsError, LockedError) as error:
            for lock in taken.values():
                self._give_back(lock)
            raise (disk_error(error) if isinstance(error, NfsError) else error) from None
        for path, lock in taken.items():
            self._say_taken(path, lock)
        self.locks, self._asked = taken, {}
        self.datastore.guards.append(self)
        self._arm()

    def _new_lock(self, path: str) -> NfsLock:
        return NfsLock(self.datastore.client, path, self.owner, self.datastore.clock, self.settings)

    def _refused(self, locks: list[NfsLock]) -> LockedError:
        lock, alive = locks[0], any(each.watch.moved for each in locks)
        holder = "another host" if lock.holder is None else lock.holder.host
        missed = lock.watch.missed
        self._say(NfsLockRefused(self._now_ns, lock.path, self.owner.name, holder, missed))
        return LockedError(lock.path, lock.name, holder, missed, self.settings.max_failures, alive)

    def _say_taken(self, path: str, lock: NfsLock) -> None:
        assert lock.record is not None
        generation = lock.record.generation
        if lock.broken is not None:
            self._say(NfsLockBroken(self._now_ns, path, self.owner.name, lock.broken.host, generation))
        self._say(NfsLockTaken(self._now_ns, path, lock.name, self.owner.name, generation))

    def _give_back(self, lock: NfsLock) -> None:
        try:
            lock.release()
        except NfsError as error:  # nobody renews it: others take it over
            self._say(NfsLockRenewalFailed(self._now_ns, lock.path, self.owner.name, 1, str(error)))

    # --- running ------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        clock = self.datastore.clock
        self._timer = clock.at(clock.now_ns + self.settings.update_ns, self._due)

    def _due(self) -> None:
        self.renew()
        if self.locks:
            self._arm()

    def renew(self) -> None:
        """Count every heartbeat on. Failures are reported and tried again; a lock that is lost stays lost."""
        for path, lock in self.locks.items():
            if lock.state != "lost":
                self._renew(path, lock)

    def _renew(self, path: str, lock: NfsLock) -> bool:
        try:
            done = lock.renew()
        except NfsError as error:
            self._failures[path] = self._failures.get(path, 0) + 1
            self._say(NfsLockRenewalFailed(self._now_ns, path, self.owner.name, self._failures[path], str(error)))
            return False
        self._failures[path] = 0
        if done and lock.record is not None:
            self._say(NfsLockRenewed(self._now_ns, path, self.owner.name, lock.record.heartbeat))
        elif lock.state == "lost":
            self._lost(path, lock)
        return done

    def _lost(self, path: str, lock: NfsLock) -> None:
        to = "nobody" if lock.holder is None else lock.holder.host
        self._say(NfsLockLost(self._now_ns, path, self.owner.name, to))
        if self.on_lost is not None:
            self.on_lost(path)

    def check(self, path: Path) -> None:
        """Before a write to a file of the virtual machine's folder.

        Raises
        ------
        BlockError : ``read_only``: another host has taken over. ``away``: it cannot be found out now.
        """
        folder = path.parent.as_posix().lstrip("/")
        for name, lock in self.locks.items():
            if lock.trusted or Path(name).parent.as_posix().lstrip("/") != folder:
                continue
            if lock.state != "lost" and self._renew(name, lock):
                continue
            if lock.state == "lost":
                to = "somebody else" if lock.holder is None else f"host {lock.holder.host}"
                raise BlockError(
                    "read_only",
                    f"{path.as_posix()} was not written: host {self.owner.name} has lost the lock of {name} to {to}, "
                    "because it did not renew it in time. Power the virtual machine off here.",
                )
            raise BlockError(
                "away",
                f"{path.as_posix()} cannot be written now: it is not to be found out whether host {self.owner.name} "
                f"still has the lock of {name}.",
            )

    # --- power-off ----------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Give all of them back, and stop renewing. Where the server is away the locks run out by themselves."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        locks, self.locks = self.locks, {}
        if self in self.datastore.guards:
            self.datastore.guards.remove(self)
        for path, lock in locks.items():
            mine = lock.state != "lost"
            self._give_back(lock)
            if mine:
                self._say(NfsLockReleased(self._now_ns, path, self.owner.name))

    def abandon(self) -> None:
        """Stop renewing and give nothing back: the host has no power any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _now_ns(self) -> int:
        return self.datastore.clock.now_ns

    def _say(self, event: Event) -> None:
        log = self.datastore.log
        if log is not None and log.active:
            log.emit(event)
