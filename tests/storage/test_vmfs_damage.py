"""Damaged and hostile volumes: one sentence, bounded memory and time, nothing written by whoever only looks."""

from __future__ import annotations

import contextlib
import random
import struct

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.vmfs_disks import RecordingDisk, SparseDisk, Volume
from tests.storage.vmfs_workload import Workload
from vilab.errors import AdminError
from vilab.storage.vmfs import journal
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, INODE, POINTER_BLOCK, SUB_BLOCK
from vilab.storage.vmfs.check import check
from vilab.storage.vmfs.file import open_to_read
from vilab.storage.vmfs.layout import INODE_BYTES, Heartbeat, Inode
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES
from vilab.storage.vmfs.namespace import Namespace, ReadOnlyVolume


def populated() -> SparseDisk:
    volume, work = Volume(), Workload(11)
    host = volume.host()
    work.mkdir(host, "/d")
    work.create(host, "/d/small", b"s" * 3000)
    work.create(host, "/d/large", b"l" * 3_000_000)
    work.create(host, "/pointed", b"p")
    file = host.open_to_write("/pointed")
    file.write(300 << 20, b"far")
    file.close()
    host.leave()
    return volume.disk


BASE = populated()


def places() -> list[tuple[int, int]]:
    """(device offset, size) of everything that describes something."""
    host = Volume(BASE.copy()).host()
    catalog, found = host.catalog, [(on_disk.LVM_AT, 1024), (OVERHEAD_BYTES + on_disk.FS_AT, 512)]
    found.append((OVERHEAD_BYTES + on_disk.HEARTBEATS_AT, 1024))
    found.append((OVERHEAD_BYTES, 5 * 512))
    for kind in (FILE_BLOCK, SUB_BLOCK, POINTER_BLOCK, INODE):
        resource = catalog.resources[kind]
        found.append((OVERHEAD_BYTES + resource.pieces(0, 512)[0][0], 28))
        found.append((OVERHEAD_BYTES + resource.entry_pos(0), 1024))
    inodes = catalog.resources[INODE]
    found += [(OVERHEAD_BYTES + inodes.item_pos(number), 2048) for number in range(10)]
    for path in ("/", "/d"):
        node = catalog.find(host.volume, path)
        found.append((OVERHEAD_BYTES + catalog.pieces(node.inode.blocks[0], 0, 1536)[0][0], 1536))
    pointed = catalog.find(host.volume, "/pointed").inode.blocks[0]
    found.append((OVERHEAD_BYTES + catalog.resources[POINTER_BLOCK].item_pos(catalog.number(pointed)), 2048))
    return found


PLACES = places()


def look_around(volume: Namespace) -> None:
    """Read what can be read. Only ``AdminError`` may come of it."""
    waiting, seen = ["/"], 0
    while waiting and seen < 200:
        path = waiting.pop()
        seen += 1
        try:
            entries = volume.list(path)
        except AdminError:
            continue
        for entry in entries[:50]:
            below = f"{path.rstrip('/')}/{entry.name}"
            with contextlib.suppress(AdminError):
                if entry.is_directory:
                    if below.count("/") < 6:
                        waiting.append(below)
                else:
                    reader = open_to_read(volume, below)
                    reader.read(0, 100_000)
                    reader.read(max(0, reader.size_bytes - 1000), 1000)
                    reader.next_data(0)


VALUES = st.one_of(
    st.sampled_from([0, 1, 0xFF, 0xFFFF_FFFF, 0x7FFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF, 1 << 40, 0x21, 0x61, 4, 0x400004]),
    st.integers(0, (1 << 64) - 1),
)


@given(
    damage=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 2047), st.sampled_from([1, 2, 4, 8]), VALUES),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damage_anywhere_is_a_sentence(damage: list[tuple[int, int, int, int]]):
    disk = BASE.copy()
    for place, at, size, value in damage:
        offset, length = PLACES[place % len(PLACES)]
        offset += at % length
        size = min(size, length - at % length)
        data = bytearray(disk.read(offset // 512 * 512, 1024))
        data[offset % 512 : offset % 512 + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        disk.write(offset // 512 * 512, data)
    watched = RecordingDisk(disk)
    report = check(watched)
    assert all(sentence and "\n" not in sentence for sentence in report.errors)
    with contextlib.suppress(AdminError):
        look_around(ReadOnlyVolume(watched))
    assert watched.steps == [], "whoever only looks has written"
    # A host may refuse, too; nothing but a sentence comes out of it.
    with contextlib.suppress(AdminError):
        volume = Volume(disk)
        host = volume.host("Z")
        look_around(host)
        for action in (
            lambda: host.create("/fuzz").write(0, b"f" * 70_000),
            lambda: host.remove("/d/large"),
            lambda: host.remove("/pointed"),
            lambda: host.mkdir("/d/deep"),
            lambda: host.rename("/d/small", "/e"),
            host.leave,
        ):
            with contextlib.suppress(AdminError):
                action()


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_volume(seed: int):
    lot = random.Random(seed)
    disk = BASE.copy()
    for offset, size in PLACES:
        if lot.random() < 0.3:
            start = offset // 512 * 512
            disk.write(start, lot.randbytes(-(-size // 512) * 512))
    assert check(disk).errors != []


def changed(change) -> list[str]:  # type: ignore[no-untyped-def]
    """What the checker says after something was done to an inode or a resource."""
    volume = Volume(BASE.copy())
    host = volume.host()
    change(host)
    host.leave()
    return check(volume.disk).errors


def edit_inode(path: str, **fields: object):  # type: ignore[no-untyped-def]
    def edit(host) -> None:  # type: ignore[no-untyped-def]
        pos = host.catalog.find(host.volume, path).pos
        inode = msgspec.structs.replace(Inode.decode(host.volume.read(pos, INODE_BYTES)), **fields)
        host.volume.write(pos + 512, inode.encode()[512:])

    return edit


def edit_bit(kind: int, number: int):  # type: ignore[no-untyped-def]
    def edit(host) -> None:  # type: ignore[no-untyped-def]
        resource = host.catalog.resources[kind]
        entry, item = divmod(number, resource.header.per_entry)
        pos = resource.entry_pos(entry) + 512
        data = bytearray(host.volume.read(pos, 512))
        data[16 + item // 8] ^= 1 << item % 8
        free = struct.unpack_from("<I", data, 8)[0] + (1 if data[16 + item // 8] >> item % 8 & 1 else -1)
        struct.pack_into("<I", data, 8, free)
        host.volume.write(pos, data)

    return edit


def share_a_block(host) -> None:  # type: ignore[no-untyped-def]
    node = host.catalog.find(host.volume, "/d/large")
    blocks = list(node.inode.blocks)
    blocks[1] = blocks[0]
    edit_inode("/d/large", blocks=tuple(blocks))(host)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (edit_inode("/d/small", links=0), "not its own"),
        (edit_inode("/d/small", generation=77), "not its own"),
        (edit_inode("/d/small", id=0x4), "no inode"),
        (edit_inode("/d/small", size=1 << 50), "cannot be"),
        (edit_inode("/d/small", size=0), "more than its 0 bytes"),
        (edit_inode("/d/large", kind=2), "is no sub-block"),
        (edit_inode("/d", size=281), "cannot be"),
        (edit_bit(FILE_BLOCK, 3), "in use and marked free"),
        (edit_bit(FILE_BLOCK, 200), "nothing names it"),
        (edit_bit(INODE, 900), "nothing names it"),
        (share_a_block, "named twice"),
    ],
)
def test_what_check_finds(damage, found: str):  # type: ignore[no-untyped-def]
    errors = changed(damage)
    assert any(found in error for error in errors), errors


def test_a_journal_cannot_reach_outside_of_the_volume():
    """A record that would overwrite the descriptor, or lie outside, is refused as a whole."""
    volume = Volume(BASE.copy())
    host = volume.host()
    for pos in (on_disk.FS_AT, on_disk.HEARTBEATS_AT, volume.disk.size_bytes, 1 << 60, 513):
        data = journal.encode_change(host.member.heartbeat, 1, {pos: b"!" * 512, 0x500000: b"!" * 512})
        host.volume.write(journal.journal_pos(0) + 512, data)
        before = dict(volume.disk.pages)
        with pytest.raises(AdminError, match="journal would change"):
            journal.replay(host.volume, 0, host.member.heartbeat)
        assert volume.disk.pages == before


def test_a_journal_that_was_not_written_to_its_end_is_none():
    volume = Volume(BASE.copy())
    host = volume.host()
    data = bytearray(journal.encode_change(host.member.heartbeat, 1, {0x500000: b"!" * 512}))
    data[-1] ^= 1
    host.volume.write(journal.journal_pos(0) + 512, data)
    assert journal.pending(host.volume, 0, host.member.heartbeat) == {}
    other = msgspec.structs.replace(Heartbeat.decode(host.member.heartbeat.encode()), seq=99)
    assert journal.pending(host.volume, 0, other) == {}


@pytest.mark.parametrize("size", [512, 1 << 20, OVERHEAD_BYTES, OVERHEAD_BYTES + (100 << 20)])
def test_a_volume_that_was_cut_off(size: int):
    disk = SparseDisk(size, {page: data for page, data in BASE.pages.items() if page * 4096 + 4096 <= size})
    with pytest.raises(AdminError, match=r"no VMFS|cut off|damaged"):
        ReadOnlyVolume(disk)
