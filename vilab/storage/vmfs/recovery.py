"""After a host's death: its heartbeat is watched, then broken; what it had begun is finished.

::

    Held ── look at the slot ── stamp changed: it is alive ──> the file is in use: one sentence
                    │ the same for 16 s
                    ▼
            reserve ─ the same still? ─ replay its journal ─ slot free, seq + 1 ─ release
                                                              └ all its locks are stale now

The same without waiting, where the member is ``stepwise``: each time one look, and ``StillHeld`` (``look_once``).

A host that dies while it breaks another one has changed nothing that the next one would not do again.
Deleted files that are too large for one change are listed in the sector in front of the journal until their last
block is free; whoever breaks the heartbeat, or takes the slot, goes on with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from vilab.storage.still_held import StillHeld
from vilab.storage.vmfs import journal
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import INODE
from vilab.storage.vmfs.block_map import BlockMap
from vilab.storage.vmfs.errors import FileInUse, Held, VmfsDamage
from vilab.storage.vmfs.layout import Heartbeat
from vilab.storage.vmfs.member import Member
from vilab.storage.vmfs.resource import Resource
from vilab.storage.vmfs.time import SECOND_NS
from vilab.storage.vmfs.transaction import Transaction
from vilab.storage.vmfs.watching import Watched

T = TypeVar("T")


def patiently(member: Member, operation: Callable[[], T]) -> T:
    """Do it; where a host that may be dead is in the way, watch that one and do it again.

    Raises ``FileInUse`` if it is alive and has the file open, or has not come to the end of a change for
    ``conflict_ns``. ``StillHeld`` where the member is ``stepwise`` and that is not known yet.
    """
    member.keep_alive()
    since = member.clock.now_ns
    while True:
        try:
            return operation()
        except Held as held:
            if member.steps:
                look_once(member, held)
            elif not watch(member, held):
                since = member.clock.now_ns
            elif member.clock.now_ns - since > member.timing.conflict_ns:
                raise _in_change(held, member.clock.now_ns - since) from None


def look_once(member: Member, held: Held) -> None:
    """Return when the owner of a lock is no more.

    Raises ``FileInUse``: it is alive and has the file open, or does not come to an end; ``StillHeld``: ask again.
    """
    slot = journal.slot_of(held.hb_pos)
    now, now_ns = member.read_slot(slot), member.clock.now_ns
    watched = member.watched.pop(slot, None)
    if watched is None or watched.seen.seq != held.hb_seq or watched.forgotten(now_ns):
        if not now.live or now.seq != held.hb_seq:
            return
        watched = Watched(now, now_ns, member.timing)
    seen = watched.look(now, now_ns)
    if seen == "gone":
        return
    if seen == "dead":
        break_heartbeat(member, slot, watched.seen, watched.silent_ns)
        return
    if seen == "alive":
        if not held.in_change:
            raise _in_use(held, now)
        if now_ns - watched.since_ns > member.timing.conflict_ns:
            raise _in_change(held, now_ns - watched.since_ns)
        watched.begin_again(now, now_ns)
    member.watched[slot] = watched
    raise StillHeld(
        f"{_upper(held.what)} is locked by host {on_disk.uuid_text(now.host)} (heartbeat slot {slot}), which has been "
        f"silent for {watched.silent_ns / SECOND_NS:.0f} s; after {member.timing.dead_ns / SECOND_NS:g} s it counts as "
        "dead.",
        member.timing.look_ns,
    )


def _upper(what: str) -> str:
    return what[0].upper() + what[1:]


def _in_use(held: Held, owner: Heartbeat) -> FileInUse:
    return FileInUse(
        f"{_upper(held.what)} is in use by host {on_disk.uuid_text(owner.host)}, which is alive (heartbeat slot "
        f"{journal.slot_of(held.hb_pos)}). Close it there first."
    )


def _in_change(held: Held, for_ns: int) -> FileInUse:
    return FileInUse(
        f"{_upper(held.what)} has been in the middle of another host's change for {for_ns / SECOND_NS:.0f} s, and that "
        "host is alive: look at its disk."
    )


def watch(member: Member, held: Held) -> bool:
    """Return when the owner of a lock is no more (``False``), or is alive and was in the middle of a change (``True``).

    ``FileInUse`` as soon as it shows that it is alive and has the file open.
    """
    slot = journal.slot_of(held.hb_pos)
    first = member.read_slot(slot)
    if not first.live or first.seq != held.hb_seq:
        return False
    watched = Watched(first, member.clock.now_ns, member.timing)
    while True:
        member.clock.wait(member.timing.look_ns)
        member.keep_alive()
        now = member.read_slot(slot)
        seen = watched.look(now, member.clock.now_ns)
        if seen == "alive":
            if held.in_change:
                return True  # it has most likely finished by now; if not, we come back
            raise _in_use(held, now)
        if seen == "dead":
            break_heartbeat(member, slot, first, watched.silent_ns)
        if seen != "silent":
            return False


def break_heartbeat(member: Member, slot: int, seen: Heartbeat, silent_ns: int) -> bool:
    """End a host that was ``seen`` so and has been silent since; ``False`` if it was not the same any more."""
    with member.reserved():
        if not member.end(slot, seen, silent_ns):
            return False
    finish_left_over(member, slot)
    return True


def break_silent(member: Member) -> int:
    """Watch all other hosts at once, break those that stay silent. How many."""
    slots = [slot for slot in range(journal.JOURNAL_SLOTS) if slot != member.slot]
    seen = {slot: found for slot in slots if (found := member.read_slot(slot)).live}
    since, broken = member.clock.now_ns, 0
    while seen:
        silent = member.clock.now_ns - since
        looks = {slot: member.read_slot(slot) for slot in seen}
        for slot, now in looks.items():
            if now.raw != seen[slot].raw:
                del seen[slot]
            elif silent >= member.timing.dead_ns:
                broken += break_heartbeat(member, slot, seen.pop(slot), silent)
        if seen:
            member.clock.wait(member.timing.look_ns)
            member.keep_alive()
    return broken


# --- deleted files that were too large for one change -----------------------------------------------------------------


def put_on_list(change: Transaction, slot: int, inode_id: int, generation: int) -> bool:
    """False if the list is full."""
    found = journal.left_over(change, slot)
    if len(found) >= journal.MOST_LEFT_OVER:
        return False
    change.write(journal.journal_pos(slot), journal.encode_left_over([*found, (inode_id, generation)]))
    return True


def finish_left_over(member: Member, slot: int) -> None:
    """Free what is on the list of a slot that is free, or our own; what we have open still is left there."""
    while _waiting(member, journal.left_over(member.volume, slot)):
        with member.change("deleted file") as change:
            heartbeat = member.read_slot(slot)
            found = journal.left_over(change, slot)
            waiting = _waiting(member, found)
            if not waiting or (heartbeat.live and slot != member.slot):
                return
            if _free_some(change, *waiting[0]):
                rest = [each for each in found if each != waiting[0]]
                change.write(journal.journal_pos(slot), journal.encode_left_over(rest))


def _waiting(member: Member, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that can be freed now: not what this host has open, whose name another file has taken."""
    inodes = member.catalog.resources[INODE]
    return [each for each in found if not member.held or not _is_held(member, inodes, each[0])]


def _is_held(member: Member, inodes: Resource, inode_id: int) -> bool:
    try:
        return member.holds(inodes.item_pos(member.catalog.number(inode_id)))
    except VmfsDamage:
        return False


def _free_some(change: Transaction, inode_id: int, generation: int) -> bool:
    """True when nothing of the file is left."""
    try:
        node = change.catalog.node(change, inode_id)
    except VmfsDamage:
        return True
    if node.inode.generation != generation or node.inode.links:
        return True  # it is gone, and the inode is another file's by now
    change.take_node(node)
    blocks = BlockMap(change, node.pos, node.inode)
    reached = blocks.free_from(0)
    blocks.set_size(reached * blocks.unit)
    blocks.save()
    if reached:
        return False
    change.free(inode_id)
    return True


def finish_all_left_over(member: Member) -> None:
    for slot in range(journal.JOURNAL_SLOTS):
        if journal.left_over(member.volume, slot):
            finish_left_over(member, slot)
