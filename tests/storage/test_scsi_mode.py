"""Mode pages: what MODE SENSE shows, what MODE SELECT takes, all of it or nothing."""

from __future__ import annotations

import pytest

from tests.storage.scsi_helpers import DISK_BLOCKS, Bench, good, refused
from vilab.storage.scsi.request import Response
from vilab.storage.scsi.sense import SenseKey, parse_sense

LENGTHS = {0x03: 24, 0x04: 24, 0x08: 20, 0x0A: 12}


def page_of(bench: Bench, page: int, control: int = 0) -> bytes:
    return good(bench.a("MODE SENSE(6)", page=page, pc=control, dbd=1, allocation=255))[4:]


def select(bench: Bench, *pages: bytes, descriptor: bytes = b"") -> Response:
    data = bytes((0, 0, 0, len(descriptor))) + descriptor + b"".join(pages)
    return bench.a("MODE SELECT(6)", data, pf=1, parameter_bytes=len(data))


def test_all_pages_come_in_order_behind_header_and_descriptor() -> None:
    bench = Bench()
    data = good(bench.a("MODE SENSE(6)", page=0x3F, allocation=255))
    assert data[0] == len(data) - 1
    assert data[2:4] == bytes((0x10, 8))
    assert data[4:12] == DISK_BLOCKS.to_bytes(4, "big") + (512).to_bytes(4, "big")
    pages, rest = {}, data[12:]
    while rest:
        pages[rest[0]] = 2 + rest[1]
        rest = rest[2 + rest[1] :]
    assert pages == LENGTHS
    assert list(pages) == sorted(pages)


def test_the_ten_byte_form_has_a_long_header_and_a_long_descriptor_if_asked() -> None:
    bench = Bench()
    data = good(bench.a("MODE SENSE(10)", page=0x0A, llbaa=1, allocation=255))
    assert int.from_bytes(data[:2], "big") == len(data) - 2
    assert data[4] == 1
    assert data[6:8] == bytes((0, 16))
    assert data[8:16] == DISK_BLOCKS.to_bytes(8, "big")
    assert len(good(bench.a("MODE SENSE(10)", page=0x0A, dbd=1, allocation=255))) == 8 + 12


@pytest.mark.parametrize("name", ["MODE SENSE(6)", "MODE SENSE(10)"])
def test_refused_questions(name: str) -> None:
    bench = Bench()
    refused(bench.a(name, page=0x0A, pc=3, allocation=255), 0x3900)
    refused(bench.a(name, page=0x22, allocation=255), 0x2400)
    refused(bench.a(name, page=0x0A, subpage=1, allocation=255), 0x2400)


def test_d_sense_switches_the_format_of_sense_data_and_tells_others() -> None:
    bench = Bench()
    page = bytearray(page_of(bench, 0x0A))
    page[2] |= 0x04
    good(select(bench, bytes(page)))
    refused(bench.b("TEST UNIT READY"), 0x2A01, SenseKey.UNIT_ATTENTION)
    response = bench.a("READ(10)", lba=DISK_BLOCKS, blocks=1)
    assert response.sense_bytes[0] == 0x72
    assert parse_sense(response.sense_bytes) == response.sense
    assert page_of(bench, 0x0A) == bytes(page)
    assert page_of(bench, 0x0A, 2)[2] == 0


def test_swp_write_protects_until_it_is_taken_back() -> None:
    bench = Bench()
    page = bytearray(page_of(bench, 0x0A))
    page[4] |= 0x08
    good(select(bench, bytes(page)))
    assert good(bench.a("MODE SENSE(6)", page=0x0A, allocation=255))[2] & 0x80
    refused(bench.a("WRITE(10)", bytes(512), lba=0, blocks=1), 0x2702, SenseKey.DATA_PROTECT)
    page[4] = 0
    good(select(bench, bytes(page)))
    good(bench.a("WRITE(10)", bytes(512), lba=0, blocks=1))


def test_only_changeable_bits_can_be_changed() -> None:
    bench = Bench()
    for code, length in LENGTHS.items():
        mask = page_of(bench, code, 1)
        assert len(mask) == length
        for index in range(2, length):
            for bit in range(8):
                before = page_of(bench, code)
                page = bytearray(before)
                page[index] ^= 1 << bit
                response = select(bench, bytes(page))
                if mask[index] & 1 << bit:
                    good(response)
                    assert page_of(bench, code) == bytes(page)
                    good(select(bench, before))
                else:
                    refused(response, 0x2600)
                    assert page_of(bench, code) == before


def test_one_bad_page_of_two_changes_neither() -> None:
    bench = Bench()
    caching = bytearray(page_of(bench, 0x08))
    caching[2] ^= 0x04
    before = page_of(bench, 0x3F)
    for bad in (b"\x0a\x09" + bytes(9), b"\x0a\x0a\x01" + bytes(9), b"\x22\x02\x00\x00", b"\x4a\x0a" + bytes(10)):
        refused(select(bench, bytes(caching), bad), 0x2600)
    for short in (b"\x0a", b"\x0a\x0a" + bytes(9)):
        refused(select(bench, bytes(caching), short), 0x1A00)
    assert page_of(bench, 0x3F) == before


def test_block_descriptors_may_only_say_what_is() -> None:
    bench = Bench()
    same = DISK_BLOCKS.to_bytes(4, "big") + (512).to_bytes(4, "big")
    good(select(bench, descriptor=same))
    good(select(bench, descriptor=bytes(4) + same[4:]))
    refused(select(bench, descriptor=same[:4] + (4096).to_bytes(4, "big")), 0x2600)
    refused(select(bench, descriptor=(1).to_bytes(4, "big") + same[4:]), 0x2600)
    refused(select(bench, descriptor=bytes(5)), 0x2600)


@pytest.mark.parametrize("name", ["MODE SELECT(6)", "MODE SELECT(10)"])
def test_refused_selections(name: str) -> None:
    bench = Bench()
    good(bench.a(name, pf=1, parameter_bytes=0))
    refused(bench.a(name, bytes(12), pf=1, sp=1, parameter_bytes=12), 0x2400)
    refused(bench.a(name, bytes(12), pf=0, parameter_bytes=12), 0x2400)
    refused(bench.a(name, bytes(3), pf=1, parameter_bytes=3), 0x1A00)
    refused(bench.a(name, bytes(8), pf=1, parameter_bytes=12), 0x1A00)
