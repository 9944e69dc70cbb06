"""vmxnet3 before a frame moves: registers, versions, commands, what is refused in shared memory, interrupts."""

from __future__ import annotations

import struct

import pytest

from tests.devices.scsi_bench import MEMORY_BYTES
from tests.devices.vmxnet3_driver import (
    ACTIVATE,
    ADDRESS,
    BCAST,
    CMD,
    CONF_INTR,
    DID_HI,
    DID_LO,
    DSAL,
    ECR,
    EXTRA,
    EXTRA_INFO,
    GET_COALESCE,
    ICR,
    LINK,
    LINK_UP,
    MACH,
    MACL,
    PERM_HI,
    PERM_LO,
    PROMISC,
    QUEUES,
    QUIESCE,
    RESET,
    RX_MODE,
    SET_COALESCE,
    SHARED,
    SLOT,
    TXDATA_SIZE,
    UCAST,
    UVRS,
    VRRS,
    Bench,
    Driver,
)
from vilab.devices.adapter_events import AdapterInterrupt, AdapterRegisterWritten
from vilab.devices.network_events import FrameRefused
from vilab.devices.registers import Register
from vilab.devices.vmxnet3_registers import REGISTERS, SETUP

FRAME = b"\xff" * 6 + bytes.fromhex("0050560000fe0800") + bytes(50)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def driver(bench: Bench) -> Driver:
    driver = Driver(bench)
    assert driver.start() == 0
    return driver


def test_configuration_space_says_who_it_is(bench: Bench) -> None:
    def dword(register: int) -> int:
        bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | register)
        return bench.pc.read_port(0xCFC, 4)

    assert (dword(0x00), dword(0x08) >> 8, dword(0x2C)) == (0x07B0_15AD, 0x020000, 0x07B0_15AD)
    assert (dword(0x10), dword(0x14), dword(0x18)) == (bench.window, bench.window + 0x1000, 0)
    assert dword(0x3C) >> 8 & 0xFF == 1


@pytest.mark.parametrize("register", REGISTERS, ids=lambda register: register.name)
def test_every_register_of_the_table_is_one_of_the_card(bench: Bench, register: Register) -> None:
    driver = Driver(bench)
    driver.start()
    before = len(bench.log.of(AdapterRegisterWritten))
    address = bench.window + (0x1000 if register.port & SETUP else 0) + (register.port & 0xFFF)
    if "R" in register.access:
        assert bench.load(address) >= 0
    if "W" in register.access:
        bench.store(address, 1)
        written = [event.register for event in bench.log.of(AdapterRegisterWritten)][before:]
        assert register.name.startswith("RXPROD") or written[-1].rstrip("0") == register.name


def test_versions_are_agreed_on(bench: Bench) -> None:
    driver = Driver(bench)
    assert (driver.get(VRRS), driver.get(UVRS)) == (0b111, 1)
    for written, version in ((1, 1), (4, 3), (8, 3), (3, 3), (0, 3), (2, 2)):
        driver.put(VRRS, written)
        assert bench.card.save_state().version == version


def test_what_can_be_asked(bench: Bench) -> None:
    driver = Driver(bench)
    low, high = int.from_bytes(ADDRESS[:4], "little"), int.from_bytes(ADDRESS[4:], "little")
    asked = {number: driver.command(number) for number in (LINK, PERM_LO, PERM_HI, DID_LO, DID_HI, EXTRA_INFO)}
    assert asked == {LINK: LINK_UP, PERM_LO: low, PERM_HI: high, DID_LO: 0x07B0, DID_HI: 1, EXTRA_INFO: 0}
    assert driver.command(CONF_INTR) == 1  # the pin, auto-mask
    assert driver.command(TXDATA_SIZE) == 128
    assert driver.command(0xF00D_00FF) == driver.command(0xCAFE_00FF) == driver.command(7) == 0xFFFF_FFFF


def test_the_address_can_be_changed_and_a_reset_brings_back_the_one_burnt_in(bench: Bench) -> None:
    driver = Driver(bench)
    assert (driver.get(MACL), driver.get(MACH)) == (driver.command(PERM_LO), driver.command(PERM_HI))
    driver.put(MACL, 0x3322_1102)
    driver.put(MACH, 0xFFFF_5544)
    assert bench.port.listens[-1] == (bytes.fromhex("021122334455"), False)
    assert (driver.get(MACL), driver.get(MACH)) == (0x3322_1102, 0x5544)
    assert driver.command(PERM_LO) == int.from_bytes(ADDRESS[:4], "little")
    driver.command(RESET)
    assert driver.get(MACL) == driver.command(PERM_LO)
    assert bench.port.listens[-1] == (ADDRESS, False)


def test_promiscuous_mode_is_told_to_the_port_while_the_card_is_active(bench: Bench, driver: Driver) -> None:
    driver.mode(PROMISC | UCAST)
    assert bench.port.listens[-1] == (ADDRESS, True)
    driver.command(QUIESCE)
    assert bench.port.listens[-1] == (ADDRESS, False)


def test_narrow_accesses_read_parts_and_write_nothing(bench: Bench) -> None:
    at = bench.window + 0x1000 + MACL
    assert bytes(bench.pc.read_mmio(at + n, 1) for n in range(4)) == ADDRESS[:4]
    bench.pc.write_mmio(at, 1, 0xEE)
    bench.pc.write_mmio(at + 2, 2, 0xEEEE)
    bench.pc.write_mmio(at + 4, 4, 0xEEEE)
    assert bench.load(at) == int.from_bytes(ADDRESS[:4], "little")


def _with(data: bytearray, at: int, form: str, *values: int) -> bytes:
    struct.pack_into(form, data, at, *values)
    return bytes(data)


BAD_SHARED = {
    "magic": (0, "<I", 0xBABEFEE0), "mtu 59": (56, "<I", 59), "mtu 9001": (56, "<I", 9001),
    "no tx queue": (62, "<B", 0),
    "9 tx queues": (62, "<B", 9), "no rx queue": (63, "<B", 0), "17 rx queues": (63, "<B", 17),
    "queue table too short": (52, "<I", 511), "queue table outside": (40, "<Q", MEMORY_BYTES - 511),
    "queue table far outside": (40, "<Q", 1 << 63), "no interrupt": (81, "<B", 0), "26 interrupts": (81, "<B", 26),
    "event interrupt": (82, "<B", 1), "multicast table outside": (124, "<HHQ", 6, 0, MEMORY_BYTES - 5),
}  # fmt: skip
BAD_QUEUE = {
    "ring outside": (16, "<Q", MEMORY_BYTES - 512), "ring far outside": (16, "<Q", (1 << 64) - 16),
    "completions outside": (32, "<Q", MEMORY_BYTES), "no entries": (56, "<I", 0), "33 entries": (56, "<I", 33),
    "4128 entries": (56, "<I", 4128), "2^32 - 32 entries": (56, "<I", 0xFFFF_FFE0), "no completions": (64, "<I", 0),
    "interrupt": (72, "<B", 1),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_SHARED)
def test_shared_memory_that_makes_no_sense_is_refused(bench: Bench, what: str) -> None:
    driver = Driver(bench)
    assert driver.start(shared=_with(driver.shared(), *BAD_SHARED[what])) == 1
    bench.card.receive(FRAME)
    assert [event.why for event in bench.log.of(FrameRefused)] == ["off"]


@pytest.mark.parametrize("what", BAD_QUEUE)
@pytest.mark.parametrize("receive", [False, True])
def test_queues_that_make_no_sense_are_refused(bench: Bench, what: str, receive: bool) -> None:
    driver = Driver(bench)
    if receive:
        assert driver.start(rx_queue=_with(driver.rx_queue(), *BAD_QUEUE[what])) == 1
    else:
        assert driver.start(tx_queues=[_with(driver.tx_queue(), *BAD_QUEUE[what])]) == 1


def test_a_card_that_was_refused_goes_on_as_before(bench: Bench, driver: Driver) -> None:
    bench.memory.write(SHARED + 56, struct.pack("<I", 3))
    assert driver.command(ACTIVATE) == 1
    bench.card.receive(FRAME)
    assert [each.frame for each in driver.received()] == [FRAME]


@pytest.mark.parametrize("gpa", [0, MEMORY_BYTES - 719, 0xFFFF_F000])
def test_shared_memory_out_of_reach_is_refused(bench: Bench, gpa: int) -> None:
    driver = Driver(bench)
    driver.put(DSAL, gpa)
    assert driver.command(ACTIVATE) == 1


def test_shared_memory_that_goes_away_makes_updates_fail(bench: Bench, driver: Driver) -> None:
    driver.put(DSAL, MEMORY_BYTES)
    assert driver.command(RX_MODE) == 1
    driver.put(DSAL, 0)
    bench.card.receive(FRAME)
    assert [event.why for event in bench.log.of(FrameRefused)] == ["off"]


def test_updates_of_a_quiet_card_wait_for_its_activation(bench: Bench, driver: Driver) -> None:
    driver.command(QUIESCE)
    driver.put(DSAL, MEMORY_BYTES)
    assert driver.command(RX_MODE) == 0
    assert driver.start(mode=PROMISC) == 0
    assert bench.port.listens[-1] == (ADDRESS, True)


def test_a_quiet_card_touches_nothing_and_keeps_its_counters(bench: Bench, driver: Driver) -> None:
    bench.card.receive(FRAME)
    driver.send(FRAME)
    bench.settle()
    driver.send(FRAME)
    assert driver.command(QUIESCE) == 0
    before = bytes(bench.memory.content)
    bench.card.receive(FRAME)
    bench.settle()
    assert bytes(bench.memory.content) == before
    assert not bench.line
    assert bench.card.save_state().look_ns == 0
    assert (driver.counters()[6], driver.counters(receive=True)[6]) == (1, 1)
    assert driver.start() == 0
    assert driver.counters()[6] == 1
    driver.command(RESET)
    assert driver.start() == 0
    assert driver.counters()[6] == 0


def test_several_transmit_queues_have_a_doorbell_each(bench: Bench) -> None:
    driver = Driver(bench)
    other = driver.tx_queue()
    struct.pack_into("<QQQ", other, 16, EXTRA, 0, EXTRA + 0x400)
    struct.pack_into("<III", other, 56, 32, 32, 32)
    shared = driver.shared(tx_queues=2)
    assert driver.start(shared=bytes(shared), tx_queues=[bytes(driver.tx_queue()), bytes(other)]) == 0
    bench.memory.write(0x20000, FRAME)
    bench.memory.write(EXTRA, struct.pack("<QII", 0x20000, len(FRAME) | 1 << 14, 3 << 12))
    driver.data(0x608, 1)
    bench.settle()
    assert bench.port.sent == [FRAME]
    assert struct.unpack("<IIII", bench.memory.read(EXTRA + 0x400, 16)) == (0, 0, 0, 1 << 31)


def test_an_interrupt_masks_itself_until_the_driver_unmasks_it(bench: Bench, driver: Driver) -> None:
    bench.card.receive(FRAME)
    assert bench.line
    assert bench.load(bench.window) == 1
    assert (driver.get(ICR), driver.get(ICR)) == (1, 0)
    assert not bench.line
    bench.card.receive(FRAME)
    assert not bench.line
    driver.data(0, 0)
    assert bench.line
    driver.data(0, 1)
    assert not bench.line
    driver.data(0, 0)
    assert [event.high for event in bench.log.of(AdapterInterrupt)] == [True, False, True, False, True]


def test_without_auto_mask_the_driver_masks(bench: Bench) -> None:
    driver = Driver(bench)
    assert driver.start(shared=bytes(driver.shared(auto_mask=False)), mode=UCAST | BCAST) == 0
    for _ in range(2):
        bench.card.receive(FRAME)
        assert (bench.line, driver.get(ICR), bench.load(bench.window)) == (True, 1, 0)
        assert not bench.line


def test_the_cable_pulled_is_an_event_in_shared_memory(bench: Bench, driver: Driver) -> None:
    bench.port.link_up = False
    bench.card.link_changed(False)
    bench.wait(0)
    assert (bench.line, driver.u32(SHARED + 696)) == (True, 4)
    assert driver.command(LINK) == 0
    driver.put(ECR, 4)
    assert driver.u32(SHARED + 696) == 0
    driver.send(FRAME)
    bench.settle()
    assert bench.port.sent == []
    assert (driver.completed(), driver.counters()[9]) == ([0], 1)
    bench.card.link_changed(True)
    bench.card.link_changed(True)
    bench.wait(0)
    assert (driver.u32(SHARED + 696), driver.command(LINK)) == (4, LINK_UP)


def test_without_bus_mastering_nothing_moves(bench: Bench, driver: Driver) -> None:
    bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | 4)
    bench.pc.write_port(0xCFC, 2, 3)
    before = bytes(bench.memory.content)
    bench.card.receive(FRAME)
    driver.data(0x600, 1)
    driver.put(CMD, 0xF00D0001)
    bench.settle()
    assert bytes(bench.memory.content) == before
    assert driver.command(ACTIVATE) == 1


def test_coalescing_is_remembered_from_version_3_on(bench: Bench) -> None:
    scheme = struct.pack("<IIII", 2, 64, 64, 16)
    for version, answers in ((1, (1, 0xFFFF_FFFF)), (3, (0, 0))):
        driver = Driver(bench, version)
        driver.start()
        bench.memory.write(EXTRA, scheme)
        bench.memory.write(SHARED + 704, struct.pack("<IIQ", 1, 16, EXTRA))
        assert driver.command(SET_COALESCE) == answers[0]
        bench.memory.write(SHARED + 704, struct.pack("<IIQ", 1, 16, EXTRA + 16))
        assert driver.command(GET_COALESCE) == answers[1]
    assert bench.memory.read(EXTRA + 16, 16) == scheme
    for bad in (struct.pack("<IIQ", 1, 15, EXTRA), struct.pack("<IIQ", 1, 16, MEMORY_BYTES - 15)):
        bench.memory.write(SHARED + 704, bad)
        assert driver.command(SET_COALESCE) == 1
    bench.memory.write(EXTRA, b"\4")
    bench.memory.write(SHARED + 704, struct.pack("<IIQ", 1, 16, EXTRA))
    assert driver.command(SET_COALESCE) == 1


def test_status_says_that_queues_run(driver: Driver) -> None:
    assert driver.u32(QUEUES + 4) == 0 or driver.u32(QUEUES + 4) == 1
    assert (driver.status(), driver.status(receive=True)) == ((0, 0), (0, 0))
