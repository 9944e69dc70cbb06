"""Exercises of lesson 14: whose lock it is, and where a byte of a file lies. The judges: hosts on real volumes.

::

    14a   a lock's sector, looks at the heartbeats ──> what, when     a host that wants the file: what it did, and when
    14b   an inode, an offset in the file ──> position on the volume  what the host reads there; the raw bytes
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache, partial

import msgspec

from vilab.clock import VirtualClock
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.course.lock_runs import new_volume, uuid_of
from vilab.events import EventLog
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.vmfs import block_id as ids
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import POINTER_BLOCK, SUB_BLOCK
from vilab.storage.vmfs.errors import FileInUse
from vilab.storage.vmfs.events import VmfsHeartbeatBroken, VmfsLockTaken
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import MIB, SECTOR, Heartbeat
from vilab.storage.vmfs.lun import SharedDisk
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES, make
from vilab.storage.vmfs.time import SECOND_NS, VIRTUAL_EPOCH_S, VirtualTime

Verdict = Callable[[bytes, Sequence[tuple[int, bytes]]], object]
Where = Callable[[bytes, int, Callable[[int], bytes], Callable[[int], int]], object]

# 14a -------------------------------------------------------------------------------------------------------------

PATH = "/vm-flat.vmdk"
REGION_BYTES = 32 * SECTOR
"""Of the heartbeat slots that hosts take."""
LAST_LOOK_S = 17
KINDS = (
    "free", "alive", "dead", "left", "back again", "another's slot", "comes back", "leaves", "late", "nearly dead",
)  # fmt: skip


class Case(msgspec.Struct, frozen=True):
    """What the student is given, and what the host did. ``looks``: (second, the heartbeat slots)."""

    kind: str
    lock: bytes
    looks: tuple[tuple[int, bytes], ...]
    what: str
    second: int


@cache
def case(kind: str, seed: int) -> Case:
    """A volume on which somebody has had a file; then another host wants it, and is looked at."""
    lot = random.Random(f"{kind} {seed}")
    disk = new_volume((PATH,))
    shared, clock = SharedDisk(disk), VirtualClock()
    time = VirtualTime(clock)
    for number in range(lot.randrange(3)):  # slots before the owner's
        Host(shared.port(f"bystander{number}"), uuid_of(f"esx{5 + number}"), time)
    owner = Host(shared.port("owner"), uuid_of("esx1"), time)
    owner.open_to_write(PATH)
    _prepare(kind, owner, shared, time, lot)
    log = EventLog(keep=True)
    wanting = Host(shared.port("wanting"), uuid_of("esx2"), time, log=log)
    begin_ns = clock.now_ns
    looks: list[tuple[int, bytes]] = []

    def look() -> None:
        region = disk.read(OVERHEAD_BYTES + on_disk.HEARTBEATS_AT, REGION_BYTES)
        looks.append(((clock.now_ns - begin_ns) // SECOND_NS, region))

    look()
    for second in range(1, LAST_LOOK_S + 1):
        clock.at(begin_ns + second * SECOND_NS, look)
    for at_s, act in _plan(kind, owner, shared, time, lot):
        clock.at(begin_ns + int(at_s * SECOND_NS), partial(_do, act))
    lock = _header(wanting, disk)
    log.events.clear()
    try:
        wanting.open_to_write(PATH)
        what = "break" if log.of(VmfsHeartbeatBroken) else "stale" if log.of(VmfsLockTaken)[-1].broken else "free"
    except FileInUse:
        what = "in use"
    second = (clock.now_ns - begin_ns) // SECOND_NS
    time.wait((LAST_LOOK_S + 1 - second) * SECOND_NS)
    return Case(kind, lock, tuple(looks), what, second)


def _do(act: Callable[[], object]) -> None:
    act()


def _header(host: Host, disk: PagedDisk) -> bytes:
    pos = host.catalog.find(host.volume, PATH).pos
    return disk.read(OVERHEAD_BYTES + pos, SECTOR)


def _prepare(kind: str, owner: Host, shared: SharedDisk, time: VirtualTime, lot: random.Random) -> None:
    """Before anybody else wants the file."""
    if kind == "free":
        for file in list(owner.open_files.values()):
            file.close()
    elif kind == "left":
        owner.member.leave()  # and the lock stays as it is
    elif kind in ("back again", "another's slot"):
        time.wait(SECOND_NS)
        if kind == "another's slot":
            helper = Host(shared.port("helper"), uuid_of("esx3"), time)
            helper.recover()
            helper.leave()
        again = uuid_of("esx1") if kind == "back again" else uuid_of("esx4")
        Host(shared.port("again"), again, time)
    time.wait(lot.randrange(1, 40) * SECOND_NS // 10)


def _plan(
    kind: str, owner: Host, shared: SharedDisk, time: VirtualTime, lot: random.Random
) -> list[tuple[float, Callable[[], object]]]:
    """What else happens while the other host waits, between its looks."""
    at = lot.randrange(1, 13) + 0.5
    if kind == "alive":
        return [(second + 0.5, owner.beat) for second in range(LAST_LOOK_S)]
    if kind in ("late", "nearly dead"):
        return [(15.5 if kind == "nearly dead" else at, owner.member.renew)]
    if kind == "comes back":
        return [(at, lambda: Host(shared.port("again"), uuid_of("esx1"), time))]
    if kind == "leaves":
        return [(at, owner.member.leave)]
    return []


def check_verdict(verdict: Verdict, seeds: Sequence[int] = (1,), kinds: Sequence[str] = KINDS) -> Feedback:
    """``verdict(lock, looks)``: what to do about a lock, and at which second."""
    for seed in seeds:
        for kind in kinds:
            _judge(verdict, case(kind, seed))
    return right(f"{len(seeds) * len(kinds)} locks, each as a host that wanted the file has decided.")


def _judge(verdict: Verdict, given: Case) -> None:
    words = f"verdict(lock, looks) in the case {given.kind!r}"
    found = call(verdict, given.lock, [*given.looks], said=words)
    if not isinstance(found, tuple) or len(found) != 2:
        raise WrongAnswer(f"{words} gave {found!r:.60}; two things are wanted, as in ('stale', 3).")
    if found != (given.what, given.second) or isinstance(found[1], bool):
        raise WrongAnswer(
            f"{words} gave {found!r:.60}; a host that wanted the file decided {(given.what, given.second)!r}.",
            _looked_at(given),
        )


def _looked_at(given: Case) -> tuple[str, ...]:
    """The lock, and its slot at every look up to the decision."""
    lock = on_disk.Header.decode(given.lock)
    rows = [("", "state", "seq", "stamp", "host")]
    state = "free" if lock.lock == on_disk.LOCK_FREE else "taken"
    slot = (lock.hb_pos - on_disk.HEARTBEATS_AT) // SECTOR
    rows.append((f"lock, slot {slot}", state, str(lock.hb_seq), "", _short(lock.owner)))
    if lock.lock != on_disk.LOCK_FREE:
        for second, region in given.looks[: given.second + 1]:
            found = Heartbeat.decode(region[slot * SECTOR : (slot + 1) * SECTOR])
            stamp = f"{found.stamp_us:,}"
            rows.append((f"{second} s", "live" if found.live else "free", str(found.seq), stamp, _short(found.host)))
    return columns(rows)


def _short(uuid: bytes) -> str:
    return "nobody" if uuid == on_disk.UNOWNED else f"...{uuid[-4:].hex()}"


# 14b -------------------------------------------------------------------------------------------------------------

MARK_BYTES = 16


class Place(msgspec.Struct, frozen=True):
    """A byte of a file. ``pos``: of the logical volume, ``None`` in a hole; ``data``: what the host reads there."""

    path: str
    inode: bytes
    offset: int
    pos: int | None
    data: bytes


class Files(msgspec.Struct, frozen=True):
    """A volume with files on it, and bytes of them to be found. ``pointers``, ``sub_blocks``: by block id."""

    disk: PagedDisk
    block_bytes: int
    places: tuple[Place, ...]
    pointers: dict[int, bytes]
    sub_blocks: dict[int, int]


@cache
def files(block_mib: int, seed: int) -> Files:
    """A small file, one with holes, one that needs pointer blocks; some bytes of each to ask for."""
    lot = random.Random(seed)
    block = block_mib * MIB
    disk = PagedDisk(OVERHEAD_BYTES + on_disk.EXTENT_BYTES)
    make(disk, VIRTUAL_EPOCH_S, "san1", block, uuid=lambda at: at.to_bytes(16, "little"), erase=False)
    host = Host(SharedDisk(disk).port("esx1"), uuid_of("esx1"), VirtualTime(VirtualClock()))
    sizes = {"/vm.vmx": 60_000, "/vm-flat.vmdk": 40 * block, "/big-flat.vmdk": 3000 * block}
    offsets: dict[str, list[int]] = {}
    for path, size in sizes.items():
        file = host.create(path)
        file.truncate(size)
        there = offsets[path] = [lot.randrange(size // 64) * 64 for _ in range(4)]
        for offset in sorted(there, key=lambda _: lot.random()):
            file.write(offset, lot.randbytes(MARK_BYTES))
        there += [lot.randrange(size // 64) * 64 for _ in range(4)]
        if path == "/big-flat.vmdk":
            there.append(there[0] // block * block + (there[0] % block + 4096) % block)
    pointers: dict[int, bytes] = {}
    sub_blocks: dict[int, int] = {}
    places = [
        _place(host, path, offset, pointers, sub_blocks) for path, found in offsets.items() for offset in found
    ]  # fmt: skip
    return Files(disk, block, tuple(places), pointers, sub_blocks)


def _place(host: Host, path: str, offset: int, pointers: dict[int, bytes], sub_blocks: dict[int, int]) -> Place:
    catalog, volume = host.catalog, host.volume
    node = catalog.find(volume, path)
    unit = catalog.unit_bytes(node.inode)
    block = catalog.block_ids(volume, node.inode, offset // unit, 1)[0]
    for each in node.inode.blocks:
        if each and ids.kind_of(each) == POINTER_BLOCK:
            pointers[each] = volume.read(catalog.resources[POINTER_BLOCK].item_pos(catalog.number(each)), 4096)
        elif each and ids.kind_of(each) == SUB_BLOCK:
            sub_blocks[each] = catalog.pieces(each, 0, SECTOR)[0][0]
    pos = catalog.pieces(block, offset % unit, 1)[0][0] if block else None
    data = host.open_files[node.pos].read(offset, MARK_BYTES)
    return Place(path, volume.read(node.pos, on_disk.INODE_BYTES), offset, pos, data)


def check_where(where: Where, volumes: Sequence[tuple[int, int]] = ((1, 1),)) -> Feedback:
    """``where(inode, offset, pointer_block, sub_block)``. ``volumes``: (MB in a block, seed)."""
    asked = sum(map(partial(_found, where), (files(*each) for each in volumes)))
    return right(f"{asked} bytes of files, each where the host reads it.")


def _found(where: Where, given: Files) -> int:
    for place in given.places:
        words = f"where(inode of {place.path[1:]}, {place.offset:,}, ...) on blocks of {given.block_bytes // MIB} MB"
        found = call(where, place.inode, place.offset, partial(_pointer, given), partial(_sub, given), said=words)
        if found is not None and (isinstance(found, bool) or not isinstance(found, int)):
            raise WrongAnswer(f"{words} gave {found!r:.60}; a position on the volume is wanted, or None for a hole.")
        if found != place.pos:
            raise WrongAnswer(f"{words} gave {_said(found)}; it is {_said(place.pos)}.", _compared(given, place, found))
    return len(given.places)


def _pointer(given: Files, block: int) -> bytes:
    if block not in given.pointers:
        raise WrongAnswer(f"pointer_block({block:#x}) was asked for; no pointer block of this file has that id.")
    return given.pointers[block]


def _sub(given: Files, block: int) -> int:
    if block not in given.sub_blocks:
        raise WrongAnswer(f"sub_block({block:#x}) was asked for; no sub-block of this file has that id.")
    return given.sub_blocks[block]


def _said(pos: int | None) -> str:
    return "a hole" if pos is None else f"{pos:#x}"


def _compared(given: Files, place: Place, found: int | None) -> tuple[str, ...]:
    inode = on_disk.Inode.decode(place.inode)
    rows = [("the inode says", f"kind {inode.kind}, {inode.block_bytes:,} bytes for each entry")]
    rows.append(("the host reads there", place.data.hex(" ")))
    if found is not None and 0 <= found <= on_disk.EXTENT_BYTES - 2 * SECTOR:
        first = found // SECTOR * SECTOR
        raw = given.disk.read(OVERHEAD_BYTES + first, 2 * SECTOR)[found - first :][:MARK_BYTES]
        rows.append((f"at {found:#x} there is", raw.hex(" ")))
    return columns(rows)
