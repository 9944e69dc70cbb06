"""Volumes with the traits of those that ESX 3 made, synthesised: byte 0x289 is zero, blocks are to be zeroed, names and
numbers are elsewhere. And the layout: nothing of a record is lost, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.vmfs_disks import Volume
from tests.storage.vmfs_judges import COUNTERS, debugvmfs_cat, fsck_counters, is_clean
from tests.storage.vmfs_workload import Workload, walk
from vilab.errors import AdminError
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, INODE, POINTER_BLOCK, SUB_BLOCK, TBZ, block_id, kind_of, number_of
from vilab.storage.vmfs.check import check
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import INODE_BYTES, MIB, Header, Heartbeat, Inode
from vilab.storage.vmfs.namespace import ReadOnlyVolume
from vilab.storage.vmfs.record import Record, table

RECORDS = [
    each
    for each in vars(on_disk).values()
    if isinstance(each, type) and issubclass(each, Record) and each is not Record
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_decode_and_encode_lose_nothing(record: type[Record], data: st.DataObject):
    raw = data.draw(st.binary(min_size=record.SIZE_BYTES, max_size=record.SIZE_BYTES))
    decoded = record.decode(raw)
    assert decoded.encode() == raw
    assert record.decode(decoded.encode()) == decoded


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_fields_do_not_overlap(record: type[Record]):
    end = 0
    for field in sorted(record.FIELDS, key=lambda field: field.offset):
        assert field.offset >= end, field
        end = field.offset + field.size_bytes
    assert end <= record.SIZE_BYTES
    assert len(table(record)) == len(record.FIELDS)
    assert record().encode() == record.decode(record().encode()).encode()


@given(st.sampled_from([FILE_BLOCK, SUB_BLOCK, POINTER_BLOCK, INODE]), st.integers(0, 30_000))
def test_block_ids(kind: int, number: int):
    found = block_id(kind, number)
    assert kind_of(found) == kind
    assert number_of(found, {SUB_BLOCK: 16, POINTER_BLOCK: 16, INODE: 32}.get(kind, 0)) == number


def test_well_known_ids():
    assert [block_id(INODE, n) for n in range(6)] == [0x4, 0x400004, 0x800004, 0xC00004, 0x1000004, 0x1400004]


# --- what ESX does differently ----------------------------------------------------------------------------------------


def nodes(host: Host) -> list[int]:
    """Positions of all inodes that are used."""
    resource = host.catalog.resources[INODE]
    found = [resource.item_pos(number) for number in range(resource.header.items)]
    return [pos for pos in found if Header.decode(host.volume.read(pos, 512)).magic == on_disk.INODE_MAGIC]


def change_inode(host: Host, pos: int, **fields: object) -> None:
    inode = msgspec.structs.replace(Inode.decode(host.volume.read(pos, INODE_BYTES)), **fields)
    host.volume.write(pos + 512, inode.encode()[512:])


def as_esx_leaves_it(volume: Volume) -> None:
    """No shift in any inode; a free heartbeat slot far behind that keeps its stamp; unlocked headers with old owners'
    slots."""
    host = volume.host("X")
    for pos in nodes(host):
        change_inode(host, pos, block_shift=0, flags=0)
        header = Header.decode(host.volume.read(pos, 512))
        header = msgspec.structs.replace(header, hb_pos=0x3E0600, hb_seq=0xB, lock=0)
        host.volume.write(pos, header.encode())
    slot = Heartbeat(pos=0x3E0600, seq=0xE, stamp_us=123_456_789)
    host.volume.write(0x3E0600, slot.encode())
    host.leave()


@pytest.mark.interop
def test_a_volume_without_shifts_is_read_and_changed(tmp_path: Path):
    volume, work = Volume(), Workload(21)
    host = volume.host()
    for _ in range(40):
        work.step(host)
    host.leave()
    as_esx_leaves_it(volume)
    assert walk(ReadOnlyVolume(volume.disk)) == work.model
    host = volume.host()
    for _ in range(30):
        work.step(host)
    assert walk(host) == work.model
    host.leave()
    is_clean(volume.disk.save(tmp_path / "v.img"))


@pytest.mark.interop
def test_blocks_to_be_zeroed(tmp_path: Path):
    """A zeroed-thick disk: its blocks are allocated and hold what somebody else has left there."""
    volume = Volume()
    host = volume.host()
    file = host.create("/zeroedthick-flat.vmdk")
    file.write(0, b"old" * 1_700_000)
    blocks = file.inode.blocks
    flagged = (blocks[0], *(block | TBZ if block else 0 for block in blocks[1:]))
    change_inode(host, file.pos, blocks=flagged, tbz_count=4)
    file.close()
    content = (b"old" * 1_700_000)[:MIB] + bytes(4 * MIB + 5_100_000 - 5 * MIB)
    assert host.open_to_read("/zeroedthick-flat.vmdk").read(0, 9_000_000) == content
    image = volume.disk.save(tmp_path / "v.img")
    # Its reader knows the flag, its fsck looks such blocks up with it and finds them lost: as many as there are.
    assert debugvmfs_cat(image, "/zeroedthick-flat.vmdk") == content
    assert fsck_counters(image) == dict.fromkeys(COUNTERS, 0) | {"Lost blocks": 4}
    assert check(volume.disk).errors == []
    # The first write into one zeroes the rest of it.
    file = host.open_to_write("/zeroedthick-flat.vmdk")
    assert file.next_data(MIB) == file.size_bytes
    file.write(2 * MIB + 1000, b"new")
    expected = content[: 2 * MIB + 1000] + b"new" + content[2 * MIB + 1003 :]
    assert file.read(0, 9_000_000) == expected
    assert file.inode.tbz_count == 3
    file.close()
    file = host.open_to_write("/zeroedthick-flat.vmdk")
    file.write(0, expected)
    assert file.inode.tbz_count == 0
    file.close()
    host.leave()
    is_clean(volume.disk.save(image))
    assert debugvmfs_cat(image, "/zeroedthick-flat.vmdk") == expected


def test_a_silent_esx_host_is_not_broken():
    """Its journal is of a kind that only ESX can replay."""
    volume = Volume()
    a = volume.host("A")
    a.create("/f").close()
    pos = a.catalog.find(a.volume, "/f").pos
    slot = Heartbeat(magic=on_disk.HEARTBEAT_LIVE, pos=0x3E0600, seq=5, stamp_us=9, host=b"E" * 16, journal=0x2401)
    a.volume.write(0x3E0600, slot.encode())
    header = Header.decode(a.volume.read(pos, 512))
    header = msgspec.structs.replace(header, hb_pos=0x3E0600, hb_seq=5, lock=1, owner=b"E" * 16)
    a.volume.write(pos, header.encode())
    assert a.open_to_read("/f").read(0, 10) == b""
    with pytest.raises(AdminError, match="only ESX can replay"):
        a.open_to_write("/f")


def test_a_partition_table_in_front():
    volume, work = Volume(), Workload(2)
    host = volume.host()
    for _ in range(15):
        work.step(host)
    host.leave()
    start = 128
    moved = type(volume.disk)(volume.disk.size_bytes + start * 512)
    for page, data in volume.disk.pages.items():
        moved.write(page * 4096 + start * 512, data)
    entry = bytes((0, 0, 0, 0, 0xFB, 0, 0, 0)) + start.to_bytes(4, "little") + (1 << 20).to_bytes(4, "little")
    moved.write(0, bytes(446) + entry + bytes(48) + b"\x55\xaa")
    assert walk(ReadOnlyVolume(moved)) == work.model
    assert check(moved).errors == []


def test_raw_device_mappings_and_links_are_refused_to_be_read():
    volume = Volume()
    host = volume.host()
    for name, kind in (("rdm", on_disk.RDM), ("link", on_disk.SYMLINK)):
        file = host.create(f"/{name}")
        change_inode(host, file.pos, type=kind)
        file.close()
    root = host.catalog.find(host.volume, "/")
    pos = host.catalog.pieces(root.inode.blocks[0], 0, 2048)[0][0]
    data = bytearray(host.volume.read(pos, 2048))
    for index, record in enumerate(host.catalog.records(host.volume, root)):
        if record.name.startswith((b"rdm", b"link")):
            data[index * 140] = on_disk.RDM if record.name.startswith(b"rdm") else on_disk.SYMLINK
    host.volume.write(pos, data)
    assert {entry.name for entry in host.list("/")} >= {"rdm", "link"}
    for name in ("rdm", "link"):
        with pytest.raises(AdminError, match="not a file"):
            host.open_to_read(f"/{name}")
        host.remove(f"/{name}")
    assert check(volume.disk).errors == []
