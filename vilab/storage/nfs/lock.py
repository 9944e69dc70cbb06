"""One lock file: taken, renewed, taken over, lost, released, over a protocol that has only names and bytes.

::

    .lck-X                   the record of token T: its owner
    .lck-X-T                 the record of token U: "I replace T"; LINK makes it, so one of many succeeds
    .lck-X-U                 the record of token V: "I replace U", who died before it came to anything

    taken      LINK ─> .lck-X                                     refused where there is one
    taken over the last record of such a chain did not change while we looked at it 3 times, 10 s apart:
               LINK ─> .lck-X-T      then read all again          has T's heartbeat moved? then it goes away again
               RENAME .lck-X-T ─> .lck-X, and so on               T's file is gone: its handle is stale
    renewed    WRITE the next heartbeat, then look for .lck-X-T   there is one: nothing is written until that is settled
    released   LINK ─> .lck-X-T by the owner itself, REMOVE both

Taker: mark, then look whether the heartbeat moved. Owner: move the heartbeat, then look for the mark. Whatever the
order, at most one of them goes on. Only a chain's last link decides who owns, and a step of it towards ``.lck-X`` moves
that last link whoever does it; that is why a taker may die, or sleep, at any point.

The owner trusts its last renewal for less time than others need to break it, by its own clock; then it asks before it
writes. No clock is compared with another one, least of all with the server's.

MODEL: a REMOVE that the owner sends when it releases must reach the server before others could break the lock (30 s);
NFS has no "remove this if". So must a WRITE: one that a network holds back from this host alone, and delivers after
another host has the lock, is carried out. NFS version 3 has nothing that a server could know it by.
"""

from __future__ import annotations

import secrets
from typing import Literal

import msgspec

from vilab.clock import VirtualClock
from vilab.storage.nfs.client import NfsClient
from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.lock_record import MOST_BYTES, LockRecord, lock_name, parse

LockState = Literal["free", "owned", "contested", "lost"]
MOST_LINKS = 64


class LockSettings(msgspec.Struct, frozen=True):
    """NFS.DiskFileLockUpdateFreq and NFS.LockRenewMaxFailureNumber."""

    update_ns: int = 10_000_000_000
    max_failures: int = 3

    @property
    def trusted_ns(self) -> int:
        """How long an owner writes after its last renewal: half an interval less than what others wait."""
        return self.update_ns * self.max_failures - self.update_ns // 2


class Owner(msgspec.Struct, frozen=True):
    """A host."""

    name: str
    identity: bytes


class Watch:
    """How often a record was seen unchanged, each time at least an interval after the last, by the watcher's clock.

    A time in which nobody could look, because the server was away, does not count as a missed renewal. ``moved``: it
    has changed between the last two looks, so that its owner lives.
    """

    def __init__(self, settings: LockSettings) -> None:
        self.settings = settings
        self.raw = b""
        self.missed = 0
        self.moved = False
        self._seen_ns = self._looked_ns = 0

    def stale(self, raw: bytes, now_ns: int) -> bool:
        lately = now_ns - self._looked_ns < self.settings.update_ns * self.settings.max_failures
        self.moved, self._looked_ns = bool(self.raw) and raw != self.raw and lately, now_ns
        if raw != self.raw:
            self.raw, self.missed, self._seen_ns = raw, 0, now_ns
        elif now_ns - self._seen_ns >= self.settings.update_ns:
            self.missed, self._seen_ns = self.missed + 1, now_ns
        return self.missed >= self.settings.max_failures


class Found(msgspec.Struct, frozen=True):
    """One record of the chain and where it stands."""

    path: str
    raw: bytes
    record: LockRecord


class NfsLock:
    """The lock of one file, as one host sees it.

    Raises
    ------
    NfsError : every method: the server is away or refuses. The state is then what it was, or *lost*.
    """

    def __init__(
        self, client: NfsClient, path: str, owner: Owner, clock: VirtualClock, settings: LockSettings | None = None
    ) -> None:
        self.client, self.path, self.owner, self.clock = client, path, owner, clock
        self.settings = settings or LockSettings()
        self.state: LockState = "free"
        self.record: LockRecord | None = None
        self.holder: LockRecord | None = None
        """Who had it when it was last looked at, if that was somebody else."""
        self.broken: LockRecord | None = None
        """Whom it was taken over from, if it was."""
        self.base = ""
        self.watch = Watch(self.settings)
        self._handle = b""
        self._renewed_ns = 0

    @property
    def name(self) -> str:
        return self.base.rpartition("/")[2]

    @property
    def trusted(self) -> bool:
        """May this host write without asking?"""
        return self.state == "owned" and self.clock.now_ns - self._renewed_ns < self.settings.trusted_ns

    # --- taking -------------------------------------------------------------------------------------------------------

    def try_take(self) -> bool:
        """Is it ours now? If not, ``holder`` has it; who asks again every interval gets it when that one is dead."""
        if self.state in ("owned", "contested"):
            return self.renew()
        folder = self.path.rpartition("/")[0]
        fileid = self.client.lookup(self.path)[1].fileid
        self.base = f"{folder}/{lock_name(fileid)}" if folder else lock_name(fileid)
        self.holder = self.broken = None
        chain = self._chain()
        if not chain:
            begun_ns = self.clock.now_ns
            record = self._new_record(0)
            if self._place(record, self.base):
                return self._owned(record, begun_ns)
            chain = self._chain()
            if not chain:
                return False
        self.holder = chain[-1].record
        return self.watch.stale(chain[-1].raw, self.clock.now_ns) and self._take_over(chain)

    def _new_record(self, generation: int) -> LockRecord:
        return LockRecord(self.owner.name, self.owner.identity, secrets.token_bytes(16), generation)

    def _claim(self, token: bytes) -> str:
        return f"{self.base}-{token.hex()}"

    def _chain(self) -> list[Found]:
        """The record in the lock file, the one that replaces it, the one that replaces that..., at one moment.

        While it is read the links may move: it was like that at some moment if it is the same when read again.
        """
        chain = self._walk()
        for _ in range(MOST_LINKS):
            again = self._walk()
            if [found.record.token for found in again] == [found.record.token for found in chain]:
                return again
            chain = again
        raise NfsError("away", f"{self.base} changes too quickly to be read.")

    def _walk(self) -> list[Found]:
        chain: list[Found] = []
        path = self.base
        while len(chain) < MOST_LINKS:
            raw = self._read(path)
            if raw is None:
                break
            chain.append(Found(path, raw, parse(raw)))
            path = self._claim(chain[-1].record.token)
        return chain

    def _read(self, path: str) -> bytes | None:
        """``None``: there is none. A file that is replaced while we look at it is looked at again."""
        for _ in range(3):
            try:
                handle, _about = self.client.lookup(path)
                return self.client.read(handle, 0, MOST_BYTES, path)
            except NfsError as error:
                if error.kind == "missing":
                    return None
                if error.kind != "stale":
                    raise
        return None

    def _place(self, record: LockRecord, path: str) -> bool:
        """The record under that name, all of it or nothing, unless the name is taken."""
        draft = f"{self.base}~{record.token.hex()}"
        handle = self.client.create(draft)
        try:
            self.client.write(handle, 0, record.pack(), stable=True, what=draft)
            placed = self._link(handle, path, record)
        finally:
            self._discard(draft)
        if placed:
            self._handle = handle
        return placed

    def _link(self, handle: bytes, path: str, record: LockRecord) -> bool:
        try:
            self.client.link(handle, path)
        except NfsError as error:
            if error.kind not in ("exists", "uncertain", "stale", "missing"):
                raise
            # A link whose answer was lost may have been made; a new owner may have swept the draft away.
            raw = self._read(path)
            return raw is not None and parse(raw).token == record.token
        return True

    def _discard(self, path: str) -> None:
        """What is left over is swept by the next owner."""
        try:
            self.client.remove(path)
        except NfsError as error:
            if error.kind not in ("missing", "stale", "uncertain", "away"):
                raise

    def _take_over(self, chain: list[Found]) -> bool:
        begun_ns = self.clock.now_ns
        last = chain[-1].record
        record = self._new_record(last.generation + 1)
        mark = self._claim(last.token)
        if not self._place(record, mark):
            return False
        again = self._chain()
        if [found.raw for found in again] != [*(found.raw for found in chain), record.pack()]:
            self._discard(mark)
            return False
        for found in chain:  # from the lock file on, so that no link is missing at any moment
            self._move(self._claim(found.record.token), self.base)
        chain = self._chain()
        if len(chain) != 1 or chain[0].record.token != record.token:
            self.holder = chain[-1].record if chain else None
            self._discard(mark)
            return False
        self.broken = last
        return self._owned(record, begun_ns)

    def _move(self, path: str, to: str) -> None:
        """Whether it was done, by us or by another taker, is looked at afterwards."""
        try:
            self.client.rename(path, to)
        except NfsError as error:
            if error.kind not in ("missing", "uncertain", "stale"):
                raise

    def _owned(self, record: LockRecord, begun_ns: int) -> bool:
        self.record, self.state, self._renewed_ns = record, "owned", begun_ns
        self.holder = None
        self.watch = Watch(self.settings)
        self._sweep(record)
        return True

    def _sweep(self, record: LockRecord) -> None:
        """Drafts and marks that takers have left lying about; not while somebody marks us."""
        folder, _, name = self.base.rpartition("/")
        try:
            names = self.client.list(folder)
            if f"{name}-{record.token.hex()}" not in names:
                for other in names:
                    if other.startswith((f"{name}~", f"{name}-")):
                        self._discard(f"{folder}/{other}" if folder else other)
        except NfsError:
            return  # the next one will

    # --- owning -------------------------------------------------------------------------------------------------------

    def renew(self) -> bool:
        """Count the heartbeat on and look whether it is still ours. False: contested or lost; see ``state``."""
        if self.record is None or self.state in ("free", "lost"):
            return False
        begun_ns = self.clock.now_ns
        record = msgspec.structs.replace(self.record, heartbeat=self.record.heartbeat + 1)
        self.record = record
        try:
            self.client.write(self._handle, 0, record.pack(), stable=True, what=self.base)
        except NfsError as error:
            if error.kind not in ("stale", "missing"):
                raise
            return self._lost(self._chain())
        # The mark first: it is gone when it has become the lock file, and then that shows it.
        marked = self._read(self._claim(record.token)) is not None
        raw = self._read(self.base)
        if raw is None or parse(raw).token != record.token:
            return self._lost(self._chain())
        if not marked:
            self.state, self._renewed_ns = "owned", begun_ns
            return True
        self.state = "contested"
        chain = self._chain()
        if not chain or chain[0].record.token != record.token:
            return self._lost(chain)
        if self.watch.stale(chain[-1].raw, self.clock.now_ns):
            return self._take_over(chain)
        return False

    def _lost(self, chain: list[Found]) -> bool:
        self.state = "lost"
        self.holder = chain[-1].record if chain else None
        return False

    def release(self) -> None:
        """Give it back. What was lost before is left to whoever has it."""
        record, self.record = self.record, None
        was, self.state = self.state, "free"
        if record is None or was == "lost":
            return
        mark = self._claim(record.token)
        if self._place(self._new_record(record.generation), mark):
            chain = self._chain()
            if len(chain) == 2 and chain[0].record.token == record.token:
                self._discard(self.base)
            self._discard(mark)
