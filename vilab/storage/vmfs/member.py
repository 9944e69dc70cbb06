"""A host as a member of a volume: its heartbeat, the locks it holds, whom it believes to be alive.

::

    join:   reserve ─ find a free slot ─ live, seq + 1, our UUID ─ release
    renew:  the stamp, every 3 s; the slot has to be ours still
    leave:  locks given back, slot free

    a lock names (slot, seq, UUID).   The slot is live with that seq and UUID   -> its owner may be alive: ``Held``
                                      anything else                             -> stale: whoever wants it takes it

A host that has been taken for dead (``recovery``) finds another seq in its slot and stops: ``HostFenced``.
MODEL: between the look at the slot and a write of file data, this process could stand still for 16 s and write then;
a SCSI write carries no seq that the LUN could check. Changes of metadata look with the LUN reserved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.storage.vmfs import journal
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import KIND_NAMES
from vilab.storage.vmfs.catalog import Catalog
from vilab.storage.vmfs.errors import Held, HostFenced, VmfsDamage
from vilab.storage.vmfs.events import (
    VmfsBlocksAllocated,
    VmfsBlocksFreed,
    VmfsHeartbeat,
    VmfsHeartbeatBroken,
    VmfsJournalReplayed,
    VmfsJournalWritten,
    VmfsLockReleased,
    VmfsLockTaken,
)
from vilab.storage.vmfs.layout import SECTOR, Header, Heartbeat
from vilab.storage.vmfs.lun import Lun, PatientLun
from vilab.storage.vmfs.time import Clock, Timing
from vilab.storage.vmfs.transaction import Hints, Transaction
from vilab.storage.vmfs.volume import Volume
from vilab.storage.vmfs.watching import Watched


class Member:
    """One host on one volume.

    Parameters
    ----------
    uuid : the host's, 16 bytes; a host that comes back with the same one takes up its own slot and journal again.

    Raises
    ------
    AdminError : no volume, a damaged one, one without a free slot, a LUN that stays reserved.
    """

    def __init__(self, lun: Lun, uuid: bytes, clock: Clock, timing: Timing | None = None, log: EventLog | None = None):
        self.uuid, self.clock, self.timing = uuid, clock, timing or Timing()
        self.name = on_disk.uuid_text(uuid)
        self.log = log or EventLog()
        self.lun = PatientLun(lun, clock, self.timing, self.log, self.name)
        self.volume = Volume(self.lun)
        if self.lun.read_only:
            raise AdminError("The disk is read-only: a host that changes the volume cannot use it.")
        self.slot, self.heartbeat, self.renewed_ns = -1, Heartbeat(), 0
        self.transaction = 0
        self.held: set[int] = set()
        """Positions of the headers whose locks this host holds between changes: open files."""
        self.unsettled: dict[int, Header] | None = None
        """After a change that did not come to its end: the locks it had written. The journal says what became of it."""
        self.gone: HostFenced | None = None
        self.watched: dict[int, Watched] = {}
        """Slot -> what was seen of its host, by who asks again and again instead of waiting (``stepwise``)."""
        self.catalog = Catalog(self.volume)
        self._join()
        self.hints = Hints(self.slot)

    # --- the heartbeat ------------------------------------------------------------------------------------------------

    def read_slot(self, slot: int) -> Heartbeat:
        found = Heartbeat.decode(self.volume.read(journal.slot_pos(slot), SECTOR))
        if found.magic not in (on_disk.HEARTBEAT_FREE, on_disk.HEARTBEAT_LIVE):
            raise VmfsDamage(f"The volume is damaged: heartbeat slot {slot} is none.")
        return found

    def write_slot(self, heartbeat: Heartbeat, slot: int, action: str) -> None:
        self.volume.write(journal.slot_pos(slot), heartbeat.encode())
        if self.log.active:
            self.log.emit(VmfsHeartbeat(self.clock.now_ns, self.name, slot, heartbeat.seq, action))

    def _stamp_us(self, old_us: int) -> int:
        return max(old_us + 1, self.clock.now_ns // 1000)

    def _join(self) -> None:
        while not self._take_slot():
            self._free_a_slot()

    def _take_slot(self) -> bool:
        """Our own slot if we had died with one, else a free one."""
        with self.lun.reserved():
            slots = [self.read_slot(slot) for slot in range(journal.JOURNAL_SLOTS)]
            own = [n for n, found in enumerate(slots) if found.live and found.host == self.uuid]
            free = [n for n, found in enumerate(slots) if not found.live]
            if not own and not free:
                return False
            slot = (own or free)[0]
            old = slots[slot]
            if own:
                self.replayed(slot, journal.replay(self.volume, slot, old))
            self.heartbeat = msgspec.structs.replace(
                old,
                magic=on_disk.HEARTBEAT_LIVE,
                pos=journal.slot_pos(slot),
                seq=old.seq + 1,
                stamp_us=self._stamp_us(old.stamp_us),
                host=self.uuid,
                journal=journal.journal_block(slot, self.volume.block_bytes),
            )
            self.write_slot(self.heartbeat, slot, "acquired")
            self.volume.flush()
        self.slot, self.renewed_ns = slot, self.clock.now_ns
        return True

    def _free_a_slot(self) -> None:
        """All slots are taken: wait until one is free, or until those that stay silent are dead."""
        silent = {slot: self.read_slot(slot) for slot in range(journal.JOURNAL_SLOTS)}
        since = self.clock.now_ns
        while self.clock.now_ns - since < self.timing.dead_ns:
            self.clock.wait(self.timing.look_ns)
            looks = {slot: self.read_slot(slot) for slot in silent}
            if not all(now.live for now in looks.values()):
                return
            silent = {slot: seen for slot, seen in silent.items() if looks[slot].raw == seen.raw}
            if not silent:
                raise AdminError(
                    f"{journal.JOURNAL_SLOTS} hosts use this volume, all of them alive; there is no heartbeat slot for "
                    "another one."
                )
        for slot, seen in silent.items():
            with self.lun.reserved():
                self.end(slot, seen, self.clock.now_ns - since)

    def end(self, slot: int, seen: Heartbeat, silent_ns: int) -> bool:
        """Break a heartbeat that was ``seen`` so, its journal replayed; ``False`` if it is not the same any more. With
        the LUN reserved."""
        now = self.read_slot(slot)
        if (now.live, now.seq, now.stamp_us, now.host) != (True, seen.seq, seen.stamp_us, seen.host):
            return False
        if not journal.has_journal(slot, now, self.volume.block_bytes):
            raise AdminError(
                f"Host {on_disk.uuid_text(now.host)} does not answer, and its journal is of a kind that only ESX can "
                "replay: mount the volume there, or make that host give it up."
            )
        self.replayed(slot, journal.replay(self.volume, slot, now))
        free = msgspec.structs.replace(now, magic=on_disk.HEARTBEAT_FREE, seq=now.seq + 1, host=on_disk.UNOWNED)
        self.write_slot(free, slot, "released")
        self.volume.flush()
        if self.log.active:
            dead = on_disk.uuid_text(now.host)
            self.log.emit(VmfsHeartbeatBroken(self.clock.now_ns, self.name, dead, slot, silent_ns))
        return True

    def replayed(self, slot: int, sectors: int) -> None:
        if sectors and self.log.active:
            self.log.emit(VmfsJournalReplayed(self.clock.now_ns, self.name, slot, sectors))

    def verify(self) -> None:
        """``HostFenced`` unless the slot is ours still."""
        if self.gone is not None:
            raise self.gone
        found = self.read_slot(self.slot)
        if not found.live or found.seq != self.heartbeat.seq or found.host != self.uuid:
            self.gone = HostFenced(
                f"Host {self.name} has lost the volume: its heartbeat was silent for too long and another host has "
                "broken its locks. Close what is open and mount the volume again."
            )
            raise self.gone

    def renew(self) -> None:
        """Write the stamp; to be called every ``renew_ns`` (``keep_alive`` does, whenever there is something to do)."""
        overdue = self.clock.now_ns - self.renewed_ns > self.timing.dead_ns // 2
        # Somebody may be about to break an overdue heartbeat: then only with the LUN reserved.
        with self.lun.reserved() if overdue else contextlib.nullcontext():
            self.verify()
            stamp = self._stamp_us(self.heartbeat.stamp_us)
            self.heartbeat = msgspec.structs.replace(self.heartbeat, stamp_us=stamp)
            self.write_slot(self.heartbeat, self.slot, "renewed")
        self.renewed_ns = self.clock.now_ns

    def keep_alive(self) -> None:
        if self.gone is not None:
            raise self.gone
        if self.clock.now_ns - self.renewed_ns >= self.timing.renew_ns:
            self.renew()

    def leave(self) -> None:
        """Free the slot: every lock that names it is stale from then on."""
        if self.gone is not None:
            return
        with self.lun.reserved():
            self.verify()
            self.settle()
            free = msgspec.structs.replace(self.heartbeat, magic=on_disk.HEARTBEAT_FREE, host=on_disk.UNOWNED)
            self.volume.flush()
            self.write_slot(free, self.slot, "released")
            self.volume.flush()
        self.held.clear()
        self.gone = HostFenced(f"Host {self.name} has left the volume.")

    @property
    def steps(self) -> bool:
        return self.lun.steps

    @contextlib.contextmanager
    def stepwise(self, steps: bool = True) -> Iterator[None]:
        """In between nobody is waited for: ``StillHeld`` where a host is in the way that may be dead. ``False``: as
        usual, within another one."""
        before, self.lun.steps = self.lun.steps, steps
        try:
            yield
        finally:
            self.lun.steps = before

    # --- locks --------------------------------------------------------------------------------------------------------

    def holds(self, pos: int) -> bool:
        return pos in self.held

    def locked(self, header: Header) -> Header:
        """The header with this host as its owner."""
        return msgspec.structs.replace(
            header,
            hb_pos=journal.slot_pos(self.slot),
            hb_seq=self.heartbeat.seq,
            obj_seq=header.obj_seq + 1,
            lock=on_disk.LOCK_EXCLUSIVE,
            owner=self.uuid,
            changed_us=self.clock.now_ns // 1000,
        )

    def unlocked(self, header: Header) -> Header:
        return msgspec.structs.replace(header, lock=on_disk.LOCK_FREE, owner=on_disk.UNOWNED)

    def is_own(self, header: Header) -> bool:
        return (header.hb_pos, header.hb_seq, header.owner) == (
            journal.slot_pos(self.slot),
            self.heartbeat.seq,
            self.uuid,
        )

    def owner_of(self, header: Header) -> tuple[int, Heartbeat] | None:
        """Slot and heartbeat of the other host that holds this lock and may be alive."""
        if header.lock == on_disk.LOCK_FREE or self.is_own(header):
            return None
        slot = journal.slot_of(header.hb_pos)
        if slot < 0:
            raise VmfsDamage(f"The volume is damaged: the lock at {header.pos:#x} names no heartbeat slot.")
        found = self.read_slot(slot)
        if not found.live or found.seq != header.hb_seq or found.host != header.owner:
            return None
        return slot, found

    def is_stale(self, header: Header, what: str) -> bool:
        """Was it left behind by a host that is gone? ``Held`` if its owner may be alive; ``False`` if it is free."""
        owner = self.owner_of(header)
        if owner is not None:
            raise Held(header.hb_pos, header.hb_seq, what, self._is_changing(*owner))
        return header.lock != on_disk.LOCK_FREE and not self.is_own(header)

    def check_settled(self, header: Header, what: str) -> None:
        """``Held`` if the owner has a change under way: what it changes is neither old nor new."""
        owner = self.owner_of(header)
        if owner is not None and self._is_changing(*owner):
            raise Held(header.hb_pos, header.hb_seq, what, in_change=True)

    def _is_changing(self, slot: int, heartbeat: Heartbeat) -> bool:
        if not journal.has_journal(slot, heartbeat, self.volume.block_bytes):
            return False
        return bool(journal.pending(self.volume, slot, heartbeat))

    def hold(self, pos: int, what: str) -> Header:
        """Take a lock for longer. With the LUN reserved, and what lies there known to be settled."""
        header = Header.decode(self.volume.read(pos, SECTOR))
        broken = self.is_stale(header, what)
        header = self.locked(header)
        self.volume.write(pos, header.encode())
        self.held.add(pos)
        if self.log.active:
            self.log.emit(VmfsLockTaken(self.clock.now_ns, self.name, pos, what, held=True, broken=broken))
        return header

    def let_go(self, pos: int, what: str) -> None:
        """Give a lock back that was held."""
        if pos not in self.held:
            return
        with self.stepwise(False):
            try:
                self.keep_alive()
            except HostFenced:
                self.held.clear()  # they were broken: nothing is left to be given back
                return
            header = Header.decode(self.volume.read(pos, SECTOR))
            if self.is_own(header):
                self.volume.write(pos, self.unlocked(header).encode())
        self.held.discard(pos)
        if self.log.active:
            self.log.emit(VmfsLockReleased(self.clock.now_ns, self.name, pos, what))

    # --- changes ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """The LUN reserved, this host known to be alive, its last change finished."""
        with self.lun.reserved():
            self.verify()
            if self.clock.now_ns - self.renewed_ns >= self.timing.renew_ns:
                self.renew()
            self.settle()
            yield

    @contextlib.contextmanager
    def change(self, what: str) -> Iterator[Transaction]:
        """What is done to the transaction in between happens at the end, as a whole, or not at all."""
        with self.reserved():
            change = Transaction(self, what)
            yield change
            try:
                change.commit()
            except BaseException:
                self.unsettled = change.taken
                raise
        self._report(change)

    def settle(self) -> None:
        """Finish a change that did not come to its end (the disk refused a write): journal, then its locks."""
        if self.unsettled is None:
            return
        self.replayed(self.slot, journal.replay(self.volume, self.slot, self.heartbeat))
        for pos, header in self.unsettled.items():
            if pos not in self.held and self.is_own(Header.decode(self.volume.read(pos, SECTOR))):
                self.volume.write(pos, self.unlocked(header).encode())
        self.unsettled = None

    def write_journal(self, change: Transaction) -> None:
        self.transaction += 1
        data = journal.encode_change(self.heartbeat, self.transaction, change.sectors)
        self.volume.write(journal.journal_pos(self.slot) + SECTOR, data)
        if self.log.active:
            self.log.emit(VmfsJournalWritten(self.clock.now_ns, self.name, self.slot, len(change.sectors), change.what))

    def locks_taken(self, change: Transaction) -> None:
        if self.log.active:
            for pos in change.taken:
                taken = VmfsLockTaken(
                    self.clock.now_ns, self.name, pos, change.what, held=False, broken=pos in change.broken
                )
                self.log.emit(taken)

    def _report(self, change: Transaction) -> None:
        if self.log.active:
            now = self.clock.now_ns
            for kind, numbers in change.allocated.items():
                self.log.emit(VmfsBlocksAllocated(now, self.name, KIND_NAMES[kind], tuple(numbers), change.what))
            for kind, numbers in change.freed.items():
                self.log.emit(VmfsBlocksFreed(now, self.name, KIND_NAMES[kind], tuple(numbers), change.what))
