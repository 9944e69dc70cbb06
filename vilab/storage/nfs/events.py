"""What NFS datastores report. ``file`` is a path on the datastore, ``host`` an ESX host's name."""

from __future__ import annotations

from vilab.events import Event


class NfsHeartbeatMissed(Event, frozen=True, tag=True):
    """The server has not answered GETATTR in time, for the ``failures``-th time in a row."""

    datastore: str
    failures: int
    why: str


class NfsDatastoreInactive(Event, frozen=True, tag=True):
    """Too many heartbeats were missed: all paths down. What is asked of the datastore waits from now on."""

    datastore: str
    why: str


class NfsDatastoreActive(Event, frozen=True, tag=True):
    """The server answers again, ``away_ns`` after the datastore went inactive."""

    datastore: str
    away_ns: int


class NfsWritesRepeated(Event, frozen=True, tag=True):
    """The server had lost writes that it had not yet put on its disk (another write verifier): they were sent again."""

    file: str
    writes: int
    size_bytes: int


class NfsLockTaken(Event, frozen=True, tag=True):
    """``lock`` is the lock file's name. ``generation`` grows by one with every owner that took over from another."""

    file: str
    lock: str
    host: str
    generation: int


class NfsLockRefused(Event, frozen=True, tag=True):
    """``host`` wanted the file and ``holder`` has it; ``missed`` renewals of the holder were seen to fail so far."""

    file: str
    host: str
    holder: str
    missed: int


class NfsLockRenewed(Event, frozen=True, tag=True):
    """The owner has counted its lock file's heartbeat on."""

    file: str
    host: str
    heartbeat: int


class NfsLockRenewalFailed(Event, frozen=True, tag=True):
    """The owner could not reach its lock file, for the ``failures``-th time in a row."""

    file: str
    host: str
    failures: int
    why: str


class NfsLockBroken(Event, frozen=True, tag=True):
    """``holder`` did not renew; ``host`` is the owner now."""

    file: str
    host: str
    holder: str
    generation: int


class NfsLockLost(Event, frozen=True, tag=True):
    """``host`` was the owner and is no longer: it must not write to the file any more."""

    file: str
    host: str
    to_host: str


class NfsLockReleased(Event, frozen=True, tag=True):
    """The owner has removed its lock file."""

    file: str
    host: str
