"""The 53C1030 before any command goes to a disk: doorbell, states, resets, facts, configuration pages, interrupts."""

from __future__ import annotations

import struct

import msgspec
import pytest

from tests.devices.lsi_driver import (
    DATA,
    DOORBELL,
    INT_MASK,
    INT_STATUS,
    NOTHING,
    REPLY,
    REQUEST,
    Driver,
    config,
    scsi_io,
    status_of,
)
from tests.devices.scsi_bench import MEMORY_BYTES, SLOT, TEST_UNIT_READY, Bench
from vilab.devices.adapter_events import AdapterInterrupt, AdapterRegisterWritten, DmaMoved
from vilab.devices.pc import PcState

READY, OPERATIONAL, FAULT = 1, 2, 4


@pytest.fixture
def bench() -> Bench:
    return Bench("lsilogic")


def test_after_power_on_it_is_ready_quiet_and_where_the_firmware_has_put_it(bench: Bench) -> None:
    driver = Driver(bench, start=False)
    assert driver.state == READY
    assert (driver.read(INT_STATUS), driver.read(INT_MASK), driver.read(REPLY)) == (0, 9, NOTHING)
    assert bench.pc.read_port(bench.io, 4) == driver.read(DOORBELL)
    bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11)
    assert bench.pc.read_port(0xCFC, 4) == 0x0030_1000


def test_facts_come_through_the_doorbell_word_by_word(bench: Bench) -> None:
    driver = Driver(bench, start=False)
    facts = driver.handshake(struct.pack("<BBBBBBBBI", 0, 0, 0, 3, 0, 0, 0, 0, 0xABCDEF))
    assert len(facts) == 60
    assert struct.unpack_from("<HBB", facts) == (0x0102, 15, 3)
    assert struct.unpack_from("<I", facts, 8) == (0xABCDEF,)
    frame_dwords, credits = struct.unpack_from("<H", facts, 0x1A)[0], struct.unpack_from("<H", facts, 0x24)[0]
    assert (frame_dwords, credits, facts[0x26], facts[0x2E], facts[0x2F]) == (32, 128, 1, 16, 1)
    port = driver.handshake(struct.pack("<BBBBBBBBI", 0, 0, 0, 5, 0, 0, 0, 0, 1))
    assert (port[0x15], struct.unpack_from("<HHH", port, 0x16)) == (1, (16, 7, 8))
    no_port = driver.handshake(struct.pack("<BBBBBBBBI", 0, 0, 0, 5, 0, 0, 1, 0, 1))
    assert status_of(no_port) == 7


def test_reading_a_word_twice_does_not_lose_the_next(bench: Bench) -> None:
    driver = Driver(bench, start=False)
    driver.write(DOORBELL, 0x42 << 24 | 3 << 16)
    for word in struct.unpack("<III", struct.pack("<BBBBBBBBI", 0, 0, 0, 3, 0, 0, 0, 0, 1)):
        driver.write(DOORBELL, word)
    bench.wait(10_000)
    driver.write(INT_STATUS, 0)  # before anything was read
    words = []
    for _ in range(30):
        assert driver.read(DOORBELL) & 0xFFFF == driver.read(DOORBELL) & 0xFFFF
        words.append(driver.read(DOORBELL) & 0xFFFF)
        driver.write(INT_STATUS, 0)
    assert words[:2] == [0x0102, 0x030F]
    assert not driver.read(DOORBELL) >> 27 & 1


def test_init_makes_it_operational_and_a_message_unit_reset_ready_again(bench: Bench) -> None:
    driver = Driver(bench)
    assert driver.state == OPERATIONAL
    assert driver.read(DOORBELL) >> 24 & 7 == 4  # the host driver
    driver.write(DOORBELL, 0x40 << 24)
    assert driver.state == READY
    assert driver.read(REPLY) == NOTHING
    driver.start()
    assert driver.state == OPERATIONAL


def test_the_diagnostic_register_opens_with_its_keys_only(bench: Bench) -> None:
    driver = Driver(bench)
    for keys in ((4, 0xB, 2, 7), (4, 0xB, 2, 7, 7), (0xB, 2, 7, 0xD)):
        for key in keys:
            driver.write(0x04, key)
        driver.write(0x08, 4)
        assert driver.state == OPERATIONAL
    for key in (0xFF, 4, 0xB, 2, 7, 0xD):
        driver.write(0x04, key)
    assert driver.read(0x08) & 0x80
    driver.write(0x08, 4)
    assert (driver.state, driver.read(0x08)) == (READY, 0x20)


def test_a_frame_outside_memory_or_in_no_state_for_it_is_a_fault_or_a_refusal(bench: Bench) -> None:
    driver = Driver(bench)
    driver.write(REQUEST, MEMORY_BYTES)
    bench.settle()
    assert (driver.state, driver.read(DOORBELL) & 0xFFFF) == (FAULT, 0x8112)
    driver.write(REQUEST, 0)
    driver.write(REPLY, 0)
    driver.write(DOORBELL, 0x40 << 24)
    assert driver.state == READY
    driver.write(REPLY, DATA)
    driver.post(scsi_io(TEST_UNIT_READY))
    bench.settle()
    (reply,) = driver.replies()
    assert isinstance(reply, bytes)
    assert status_of(reply) == 8


@pytest.mark.parametrize("what", ["no reply frame", "reply outside memory", "too many requests", "too many frames"])
def test_what_the_facts_do_not_allow_is_a_fault_and_no_endless_queue(bench: Bench, what: str) -> None:
    driver = Driver(bench, frames=0 if "reply" in what else 4)
    if what == "reply outside memory":
        driver.write(REPLY, 0xFFFF_0000)
    if what == "too many requests":
        for _ in range(129):
            driver.post(scsi_io(TEST_UNIT_READY))
    elif what == "too many frames":
        for _ in range(257):
            driver.write(REPLY, DATA)
    else:
        driver.frames = 1
        driver.post(scsi_io(TEST_UNIT_READY, target=9))
    bench.settle()
    assert driver.state == FAULT
    assert not bench.line
    assert bench.clock.next_ns() >= 0


def test_interrupts_follow_their_mask(bench: Bench) -> None:
    driver = Driver(bench)
    driver.write(INT_MASK, 9)
    driver.post(scsi_io(TEST_UNIT_READY, target=9))
    bench.settle()
    assert driver.read(INT_STATUS) == 8
    assert not bench.line
    driver.write(INT_MASK, 1)
    assert bench.line
    driver.replies()
    assert not bench.line
    assert [event.high for event in bench.log.of(AdapterInterrupt)] == [True, False]
    assert ("INT_MASK", 9) in {(event.register, event.value) for event in bench.log.of(AdapterRegisterWritten)}


def test_narrow_accesses_read_parts_and_write_nothing(bench: Bench) -> None:
    driver = Driver(bench)
    whole = driver.read(DOORBELL)
    assert [bench.pc.read_mmio(bench.window + at, 1) for at in range(4)] == list(whole.to_bytes(4, "little"))
    bench.pc.write_mmio(bench.window + 3, 1, 0x40)
    bench.pc.write_mmio(bench.window + REQUEST, 2, 0)
    assert driver.state == OPERATIONAL


def test_without_bus_mastering_memory_is_not_reached(bench: Bench) -> None:
    driver = Driver(bench)
    bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | 4)
    bench.pc.write_port(0xCFC, 2, 3)
    driver.post(scsi_io(TEST_UNIT_READY))
    bench.settle()
    assert driver.state == FAULT
    assert not bench.log.of(DmaMoved)


# Configuration pages

PAGES = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2),
         (4, 3), (9, 0), (9, 1)]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_long_as_its_header_says(bench: Bench, page: tuple[int, int]) -> None:
    driver = Driver(bench)
    header = driver.ask(config(0, *page))[20:24]
    assert (header[2], header[3] & 0xF) == (page[1], page[0])
    bench.memory.write(DATA, b"\xee" * 300)
    reply = driver.ask(config(1, *page, size=4 * header[1]))
    assert (status_of(reply), reply[20:24]) == (0, header)
    assert bench.memory.read(DATA, 4) == header
    assert bench.memory.read(DATA + 4 * header[1], 8) == b"\xee" * 8


def test_pages_that_do_not_exist_are_refused(bench: Bench) -> None:
    driver = Driver(bench)
    assert status_of(driver.ask(config(0, 8, 0))) == 0x21
    assert status_of(driver.ask(config(0, 3, 9))) == 0x22
    assert status_of(driver.ask(config(7, 3, 0))) == 0x20
    assert status_of(driver.ask(config(2, 3, 0))) == 0x20
    assert status_of(driver.ask(config(1, 3, 0, gpa=MEMORY_BYTES))) == 3
    assert status_of(driver.ask(struct.pack("<BBBBII", 0, 0, 0, 0x15, 0, 1))) == 1


def test_what_is_asked_of_a_target_is_negotiated_if_it_is_there(bench: Bench) -> None:
    driver = Driver(bench)
    wish = 0x2000_0000 | 0x3F << 16 | 0x09 << 8 | 0b10
    for target in (0, 5):
        bench.memory.write(DATA, bytes(4) + struct.pack("<III", wish, 0, 0))
        assert status_of(driver.ask(config(2, 4, 1, address=target, size=16))) == 0
        assert status_of(driver.ask(config(1, 4, 0, address=target))) == 0
        assert bench.memory.u32(DATA + 4) == (wish & 0x207F_08FF if target == 0 else 0)
    driver.write(DOORBELL, 0x40 << 24)
    driver.start()
    driver.ask(config(1, 4, 1, address=0))
    assert bench.memory.u32(DATA + 4) == wish


def test_events_come_with_the_context_that_has_asked_for_them(bench: Bench) -> None:
    driver = Driver(bench)
    on = driver.ask(struct.pack("<BBBBII", 1, 0, 0, 7, 0, 0x4711))
    assert struct.unpack_from("<HBBIIHHIII", on)[3:5] == (0x80 << 24, 0x4711)
    assert struct.unpack_from("<I", on, 0x14) == (0x0A,)
    driver.post(struct.pack("<BBBBBBBBI8s28sI", 0, 0, 0, 1, 0, 4, 0, 0, 0x777, bytes(8), b"", 0))
    bench.settle()
    done, event = driver.replies()
    assert isinstance(done, bytes)
    assert isinstance(event, bytes)
    assert (done[3], event[3], struct.unpack_from("<I", event, 0x14)) == (1, 7, (0x04,))
    off = driver.ask(struct.pack("<BBBBII", 0, 0, 0, 7, 0, 0x4712))
    assert off[7] == 0


def test_its_state_is_a_value_at_every_step_of_a_handshake(bench: Bench) -> None:
    driver = Driver(bench, start=False)
    steps = [0x42 << 24 | 3 << 16, 3 << 24, 0, 7]
    for step in steps:
        driver.write(DOORBELL, step)
        other = Bench("lsilogic", bench.memory)
        other.clock.forget_all(bench.clock.now_ns)
        other.pc.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(bench.pc.save_state()), type=PcState))
        assert other.pc.save_state() == bench.pc.save_state()
        bench, driver = other, Driver(other, start=False)
    bench.wait(10_000)
    assert driver._word() + driver._word() == bytes((0x02, 0x01, 15, 3))
