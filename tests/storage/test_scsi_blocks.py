"""Commands on blocks: what they do to the disk, and that a refused one does nothing to it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.scsi_helpers import DISK_BLOCKS, A, Bench, cdb, good, refused
from vilab.storage.block import BlockError, MemoryDisk
from vilab.storage.scsi.blocks import MAX_UNMAP_BLOCKS, MAX_UNMAP_DESCRIPTORS, first_difference
from vilab.storage.scsi.cdb import decode
from vilab.storage.scsi.commands import COMMANDS
from vilab.storage.scsi.request import Response, data_out_bytes
from vilab.storage.scsi.sense import SenseKey, Status

READS = ["READ(10)", "READ(12)", "READ(16)"]
WRITES = ["WRITE(10)", "WRITE(12)", "WRITE(16)"]
WRITES_VERIFIED = ["WRITE AND VERIFY(10)", "WRITE AND VERIFY(12)", "WRITE AND VERIFY(16)"]
VERIFIES = ["VERIFY(10)", "VERIFY(12)", "VERIFY(16)"]
RANGED = [c.name for c in COMMANDS if "lba" in c.fields and "blocks" in c.fields]
PROTECTED = [c.name for c in COMMANDS if "protect" in c.fields]
PATTERN = bytes(range(256)) * 2


def patterned() -> Bench:
    bench = Bench()
    for lba in range(DISK_BLOCKS):
        bench.disk.content[lba * 512 : lba * 512 + 4] = lba.to_bytes(4, "big")
    return bench


@pytest.mark.parametrize("name", ["READ(6)", *READS])
def test_read_returns_the_blocks(name: str) -> None:
    bench = patterned()
    assert good(bench.a(name, lba=7, blocks=3)) == bytes(bench.disk.content[7 * 512 : 10 * 512])


@pytest.mark.parametrize("name", ["WRITE(6)", *WRITES, *WRITES_VERIFIED])
def test_write_changes_these_blocks_only(name: str) -> None:
    bench = patterned()
    expected = bytearray(bench.disk.content)
    expected[9 * 512 : 11 * 512] = PATTERN * 2
    good(bench.a(name, PATTERN * 2, lba=9, blocks=2))
    assert bench.disk.content == expected


def test_zero_blocks_are_256_in_6_bytes_and_none_otherwise() -> None:
    bench = patterned()
    assert len(good(bench.a("READ(6)", lba=0, blocks=0))) == 256 * 512
    for name in READS:
        assert good(bench.a(name, lba=DISK_BLOCKS - 1, blocks=0)) == b""
        refused(bench.a(name, lba=DISK_BLOCKS, blocks=0), 0x2100)


def _data_for(raw: bytes) -> bytes:
    return b"\xa5" * min(data_out_bytes(decode(raw), 512), 1 << 20)


@pytest.mark.parametrize("name", RANGED)
def test_beyond_the_end_is_out_of_range_and_touches_nothing(name: str) -> None:
    bench = patterned()
    before = bytes(bench.disk.content)
    most = {key: field.most for key, field in decode(cdb(name)).command.fields.items()}
    for lba, blocks in (
        (DISK_BLOCKS - 1, 2),
        (DISK_BLOCKS, 1),
        (DISK_BLOCKS + 1, 0),
        (most["lba"], 1),
        (most["lba"], 0),
    ):
        raw = cdb(name, lba=lba, blocks=blocks)
        refused(bench.target.execute(A, 0, raw, _data_for(raw)), 0x2100)
    assert bench.disk.content == before


@pytest.mark.parametrize("name", PROTECTED)
def test_protection_information_is_refused(name: str) -> None:
    bench = patterned()
    before = bytes(bench.disk.content)
    for protect in range(1, 8):
        raw = cdb(name, protect=protect, lba=0, blocks=1)
        refused(bench.target.execute(A, 0, raw, _data_for(raw)), 0x2400)
    assert bench.disk.content == before


@pytest.mark.parametrize("name", [c.name for c in COMMANDS if "dpo" in c.fields])
def test_dpo_and_fua_are_taken(name: str) -> None:
    bench = Bench()
    flags = [{"dpo": 1}] + ([{"fua": 1}, {"dpo": 1, "fua": 1}] if "fua" in decode(cdb(name)).command.fields else [])
    for extra in flags:
        raw = cdb(name, lba=0, blocks=1, **extra)
        good(bench.target.execute(A, 0, raw, bytes(data_out_bytes(decode(raw), 512))))


def test_more_than_the_limit_is_refused() -> None:
    bench = Bench()
    bench.unit.device = MemoryDisk(40 << 20)
    refused(bench.a("READ(16)", lba=0, blocks=(32 << 20) // 512 + 1), 0x2400)


class CountingDisk(MemoryDisk):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_fua_and_synchronize_cache_flush_and_a_cached_write_does_not() -> None:
    bench = Bench()
    disk = bench.unit.device = CountingDisk(1 << 20)
    good(bench.a("WRITE(10)", PATTERN, lba=0, blocks=1))
    assert disk.flushes == 0
    good(bench.a("WRITE(10)", PATTERN, lba=0, blocks=1, fua=1))
    assert disk.flushes == 1
    good(bench.a("SYNCHRONIZE CACHE(10)", lba=0, blocks=0))
    good(bench.a("SYNCHRONIZE CACHE(16)", lba=5, blocks=10))
    assert disk.flushes == 3


def test_a_write_of_which_less_has_come_stores_whole_blocks_of_it() -> None:
    bench = Bench()
    good(bench.a("WRITE(10)", PATTERN + PATTERN[:100], lba=4, blocks=2))
    assert bench.disk.content[4 * 512 : 6 * 512] == PATTERN + bytes(512)
    good(bench.a("WRITE(10)", PATTERN * 3, lba=8, blocks=1))  # and more is ignored
    assert bench.disk.content[8 * 512 : 10 * 512] == PATTERN + bytes(512)


@pytest.mark.parametrize("name", VERIFIES)
def test_verify_compares_as_bytchk_says(name: str) -> None:
    bench = Bench()
    bench.disk.content[512:1536] = PATTERN * 2
    good(bench.a(name, lba=1, blocks=2))
    good(bench.a(name, PATTERN * 2, lba=1, blocks=2, bytchk=1))
    good(bench.a(name, PATTERN, lba=1, blocks=2, bytchk=3))
    refused(bench.a(name, PATTERN, lba=1, blocks=2, bytchk=2), 0x2400)
    bench.disk.content[1030] ^= 1
    good(bench.a(name, lba=1, blocks=2))
    for bytchk, data in ((1, PATTERN * 2), (3, PATTERN)):
        response = bench.a(name, data, lba=1, blocks=2, bytchk=bytchk)
        refused(response, 0x1D00, SenseKey.MISCOMPARE)
        assert response.sense is not None
        assert response.sense.information == 2


@given(st.binary(min_size=1, max_size=200), st.data())
def test_first_difference_is_the_first(data: bytes, draw: st.DataObject) -> None:
    places = draw.draw(st.sets(st.integers(0, len(data) - 1), min_size=1))
    other = bytearray(data)
    for at in places:
        other[at] ^= 0x10
    assert first_difference(data, bytes(other)) == min(places)


@pytest.mark.parametrize("name", ["WRITE SAME(10)", "WRITE SAME(16)"])
def test_write_same_repeats_one_block(name: str) -> None:
    bench = Bench()
    good(bench.a(name, PATTERN, lba=3, blocks=2500))
    assert bench.disk.content == bytes(3 * 512) + PATTERN * 2500 + bytes((DISK_BLOCKS - 2503) * 512)
    good(bench.a(name, b"\x11" * 512, lba=DISK_BLOCKS - 5, blocks=0))
    assert bench.disk.content[-5 * 512 :] == b"\x11" * 5 * 512
    before = bytes(bench.disk.content)
    refused(bench.a(name, PATTERN * 2, lba=0, blocks=1), 0x2400)
    refused(bench.a(name, b"", lba=0, blocks=1), 0x2400)
    for flag in ("anchor", "pbdata", "lbdata"):
        refused(bench.a(name, PATTERN, lba=0, blocks=1, **{flag: 1}), 0x2400)
    assert bench.disk.content == before


class MappedDisk(MemoryDisk):
    """Remembers what was unmapped, and that something is stored everywhere else."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.unmapped: list[tuple[int, int]] = []

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        super().unmap(offset_bytes, size_bytes)
        self.unmapped.append((offset_bytes, size_bytes))

    def allocation(self, offset_bytes: int) -> tuple[bool, int]:
        for start, size in self.unmapped:
            if start <= offset_bytes < start + size:
                return False, start + size - offset_bytes
        return True, min([s for s, _ in self.unmapped if s > offset_bytes] + [self.size_bytes]) - offset_bytes


class LargeDisk(MappedDisk):
    """Says that it is larger than it is: for what is refused before anything is touched."""

    size_bytes = (MAX_UNMAP_BLOCKS + 1) * 512


def test_write_same_unmaps_zeros_and_writes_everything_else() -> None:
    bench = Bench()
    disk = bench.unit.device = MappedDisk(1 << 20)
    good(bench.a("WRITE SAME(16)", PATTERN, lba=0, blocks=8, unmap=1))
    assert disk.unmapped == []
    assert disk.content[:4096] == PATTERN * 8
    good(bench.a("WRITE SAME(16)", bytes(512), lba=0, blocks=4, unmap=1))
    good(bench.a("WRITE SAME(16)", b"", lba=6, blocks=1, unmap=1, ndob=1))
    assert disk.unmapped == [(0, 2048), (3072, 512)]
    refused(bench.a("WRITE SAME(10)", bytes(512), lba=0, blocks=4, unmap=1), 0x2400)


def _unmap_list(*ranges: tuple[int, int]) -> bytes:
    body = b"".join(struct.pack(">QII", lba, blocks, 0) for lba, blocks in ranges)
    return struct.pack(">HHI", len(body) + 6, len(body), 0) + body


def test_unmap_takes_all_ranges_or_none() -> None:
    bench = Bench()
    disk = bench.unit.device = MappedDisk(DISK_BLOCKS * 512)

    def unmap(data: bytes, **fields: int) -> Response:
        return bench.a("UNMAP", data, **{"parameter_bytes": len(data), **fields})

    for data in (_unmap_list((1, 2), (9, 0)), b"", _unmap_list(), _unmap_list((DISK_BLOCKS, 0))):
        good(unmap(data))
    assert disk.unmapped == [(512, 1024)]
    refused(unmap(_unmap_list((20, 1), (DISK_BLOCKS, 1))), 0x2100)
    refused(unmap(_unmap_list((20, 1), (1 << 63, 0))), 0x2100)
    refused(unmap(_unmap_list((20, 1))[:-1]), 0x1A00)
    refused(unmap(_unmap_list((20, 1)), parameter_bytes=23), 0x1A00)
    refused(unmap(bytes(7)), 0x1A00)
    refused(unmap(_unmap_list(*[(0, 1)] * (MAX_UNMAP_DESCRIPTORS + 1))), 0x2600)
    refused(unmap(_unmap_list((20, 1)), anchor=1), 0x2400)
    bench.unit.device = large = LargeDisk(512)
    refused(unmap(_unmap_list((0, 1), (1, MAX_UNMAP_BLOCKS))), 0x2600)
    assert disk.unmapped == [(512, 1024)]
    assert large.unmapped == []


def test_get_lba_status_tells_mapped_from_deallocated() -> None:
    bench = Bench()
    disk = bench.unit.device = MappedDisk(DISK_BLOCKS * 512)
    disk.unmap(10 * 512, 5 * 512)

    def status(lba: int) -> tuple[int, int, int]:
        data = good(bench.a("GET LBA STATUS", lba=lba, allocation=24))
        assert int.from_bytes(data[:4], "big") == 20
        return struct.unpack(">QIB", data[8:21])

    assert status(0) == (0, 10, 0)
    assert status(12) == (12, 3, 1)
    assert status(15) == (15, DISK_BLOCKS - 15, 0)
    refused(bench.a("GET LBA STATUS", lba=DISK_BLOCKS, allocation=24), 0x2100)


def test_a_disk_without_a_map_is_mapped_from_here_to_the_end() -> None:
    data = good(Bench().a("GET LBA STATUS", lba=6, allocation=24))
    assert struct.unpack(">QIB", data[8:21]) == (6, DISK_BLOCKS - 6, 0)


def test_compare_and_write_writes_only_where_all_is_as_expected() -> None:
    bench = Bench()
    good(bench.a("COMPARE AND WRITE", bytes(1024) + PATTERN * 2, lba=5, blocks=2))
    assert bench.disk.content[5 * 512 : 7 * 512] == PATTERN * 2
    before = bytes(bench.disk.content)
    wrong = bytearray(PATTERN * 2)
    wrong[700] ^= 1
    response = bench.a("COMPARE AND WRITE", bytes(wrong) + bytes(1024), lba=5, blocks=2)
    refused(response, 0x1D00, SenseKey.MISCOMPARE)
    assert response.sense is not None
    assert response.sense.information == 700
    refused(bench.a("COMPARE AND WRITE", PATTERN * 4, lba=5, blocks=1), 0x2400)
    refused(bench.a("COMPARE AND WRITE", PATTERN, lba=5, blocks=1), 0x2400)
    good(bench.a("COMPARE AND WRITE", lba=5, blocks=0))
    assert bench.disk.content == before


@settings(max_examples=30)
@given(st.binary(min_size=512, max_size=512), st.binary(min_size=512, max_size=512))
def test_orwrite_is_or(first: bytes, second: bytes) -> None:
    bench = Bench()
    bench.disk.content[512:1024] = first
    good(bench.a("ORWRITE(16)", second, lba=1, blocks=1))
    assert bench.disk.content[512:1024] == bytes(x | y for x, y in zip(first, second, strict=True))


def test_a_read_only_disk_is_write_protected_for_everything_that_writes() -> None:
    bench = Bench(read_only=True)
    for command in COMMANDS:
        if command.access == "write" and "lba" in command.fields and "SYNCHRONIZE" not in command.name:
            raw = cdb(command.name, lba=0, blocks=1)
            data = bytes(data_out_bytes(decode(raw), 512))
            refused(bench.target.execute(A, 0, raw, data), 0x2700, SenseKey.DATA_PROTECT)
            refused(bench.target.execute(A, 0, raw, b""), 0x2700, SenseKey.DATA_PROTECT)
    refused(bench.a("UNMAP", _unmap_list((0, 1)), parameter_bytes=24), 0x2700, SenseKey.DATA_PROTECT)
    for name in ("WRITE SAME(10)", "WRITE SAME(16)"):
        refused(bench.a(name, bytes(512), lba=0, blocks=1, unmap=1), 0x2700, SenseKey.DATA_PROTECT)
    good(bench.a("READ(10)", lba=0, blocks=1))


class FailingDisk(MemoryDisk):
    failure: Exception = BlockError("medium", "The file is gone.")

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        raise self.failure

    def write(self, offset_bytes: int, data: object) -> None:
        raise self.failure


@pytest.mark.parametrize(
    ("failure", "name", "key", "code"),
    [
        (BlockError("medium", "The file is gone."), "READ(10)", SenseKey.MEDIUM_ERROR, 0x1100),
        (OSError(5, "Input/output error"), "READ(10)", SenseKey.MEDIUM_ERROR, 0x1100),
        (BlockError("medium", "The file is gone."), "WRITE(10)", SenseKey.MEDIUM_ERROR, 0x0C00),
        (BlockError("no_space", "The datastore is full."), "WRITE(10)", SenseKey.DATA_PROTECT, 0x2707),
        (BlockError("read_only", "The datastore is read-only."), "WRITE(10)", SenseKey.DATA_PROTECT, 0x2700),
    ],
)
def test_what_the_disk_cannot_do_is_sense_data(failure: Exception, name: str, key: SenseKey, code: int) -> None:
    bench = Bench()
    disk = bench.unit.device = FailingDisk(1 << 20)
    disk.failure = failure
    refused(bench.a(name, PATTERN, lba=0, blocks=1), code, key)


def test_pre_fetch_checks_its_range() -> None:
    bench = Bench()
    assert bench.a("PRE-FETCH(10)", lba=1, blocks=0).status == Status.GOOD
    assert bench.a("PRE-FETCH(16)", lba=1, blocks=100, immed=1).status == Status.GOOD
