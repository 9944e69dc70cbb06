"""PCnet: the registers themselves, before any frame moves."""

from __future__ import annotations

import msgspec
import pytest

from tests.devices.pcnet_bench import ADDRESS, OTHER, SLOT, Bench, Driver
from vilab.devices import pcnet_registers as r
from vilab.devices.adapter_events import AdapterRegisterWritten
from vilab.devices.pc import PcState
from vilab.devices.pcnet_registers import REGISTERS
from vilab.devices.registers import Register


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def driver(bench: Bench) -> Driver:
    return Driver(bench)


def test_it_is_the_card_that_drivers_look_for(bench: Bench) -> None:
    bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11)
    assert bench.pc.read_port(0xCFC, 4) == 0x2000_1022
    bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | 8)
    assert bench.pc.read_port(0xCFC, 4) == 0x0200_0010


def test_the_address_is_in_front_of_the_registers_with_its_sum(driver: Driver) -> None:
    octets = bytes(driver.read(at, 1) for at in range(16))
    assert octets[:6] == ADDRESS
    assert octets[14:] == b"WW"
    assert int.from_bytes(octets[12:14], "little") == sum(octets[:12]) + sum(octets[14:])
    assert driver.read(0, 4).to_bytes(4, "little") + driver.read(4).to_bytes(2, "little") == ADDRESS
    assert b"".join(driver.csr(12 + at).to_bytes(2, "little") for at in range(3)) == ADDRESS


def test_a_reset_is_a_read_and_what_a_driver_finds_then_is_in_the_data_sheet(bench: Bench, driver: Driver) -> None:
    driver.start()
    driver.set_csr(3, 0x5F00)
    driver.read(0x14)
    assert driver.read(0x12) == 0
    assert [driver.csr(number) for number in (0, 3, 4, 5, 15, 88, 89)] == [4, 0, 0x115, 0, 0, 0x1003, 0x0262]
    assert driver.bcr(20) == 0x0302  # the bus configuration is not what S_RESET is for
    assert not bench.line
    assert bench.port.listens[-1] == (ADDRESS, False)


def test_both_windows_have_the_same_registers(bench: Bench, driver: Driver) -> None:
    driver.write(0x12, 88)
    assert bench.pc.read_mmio(bench.window + 0x10, 2) == 0x1003
    bench.pc.write_mmio(bench.window + 0x12, 2, 89)
    assert driver.read(0x10) == 0x0262


def test_a_dword_makes_the_registers_dwords_for_good(bench: Bench, driver: Driver) -> None:
    driver.write(0x10, 0, 4)
    assert driver.read(0x12) == 0xFFFF
    driver.write(0x14, 88, 4)
    assert (driver.read(0x14, 4), driver.read(0x10, 4)) == (88, 0x1003)
    driver.write(0x14, 18, 4)
    assert driver.read(0x1C, 4) & r.DWIO
    driver.write(0x1C, 0, 4)
    driver.read(0x18, 4)
    assert driver.read(0x14, 4) == 0
    assert driver.read(0x10, 4) == 4
    driver.write(0x14, 18, 4)
    assert driver.read(0x1C, 4) & r.DWIO


@pytest.mark.parametrize(("offset", "size_bytes"), [(0x10, 1), (0x12, 4), (0x11, 2), (0x14, 1), (0x18, 2), (0x1F, 1)])
def test_accesses_of_another_width_read_ones_and_change_nothing(
    bench: Bench, driver: Driver, offset: int, size_bytes: int
) -> None:
    before = bench.card.save_state()
    assert driver.read(offset, size_bytes) == (1 << 8 * size_bytes) - 1
    driver.write(offset, 4, size_bytes)
    assert bench.card.save_state() == before


def named(register: Register) -> str:
    return register.name


NUMBERED = [register for register in REGISTERS if register.index is not None]
ONLY_STOPPED = {1, 2, 8, 12, 15, 24, 30, 47, 58, 72, 74, 76, 78}


@pytest.mark.parametrize("register", NUMBERED, ids=named)
def test_every_register_of_the_table_is_written_if_it_says_so(driver: Driver, register: Register) -> None:
    assert register.index is not None
    get, put = (driver.csr, driver.set_csr) if register.port == 0x10 else (driver.bcr, driver.set_bcr)
    driver.set_bcr(2, r.LED_PROGRAMMING)
    before = get(register.index)
    seen = set()
    for value in (0, 0xFFFF, 0x1240):
        put(register.index, value)
        seen.add(get(register.index))
    assert (seen != {before}) == ("W" in register.access)


@pytest.mark.parametrize("number", sorted(ONLY_STOPPED))
def test_what_the_card_works_with_is_not_changed_under_way(driver: Driver, number: int) -> None:
    driver.start()
    before = driver.csr(number)
    value = 0x0203 if number == 58 else before ^ 0x0F10
    driver.set_csr(number, value)
    assert driver.csr(number) == before
    driver.set_csr(5, r.SPND)
    driver.set_csr(number, value)
    assert driver.csr(number) != before
    driver.set_csr(0, r.STOP)
    driver.set_csr(number, before)
    assert driver.csr(number) == before


def test_software_styles_show_what_they_mean(driver: Driver) -> None:
    shown = {}
    for style in (0, 1, 2, 3, 4, 0xFF):
        driver.set_bcr(20, style)
        shown[style] = driver.bcr(20)
        assert driver.csr(58) == shown[style]
    assert shown == {0: 0x200, 1: 0x101, 2: 0x302, 3: 0x303, 4: 0x200, 0xFF: 0x200}


def test_the_link_is_seen_in_the_led_register(bench: Bench, driver: Driver) -> None:
    assert driver.bcr(4) == 0x80C0
    bench.port.link_up = False
    bench.card.link_changed(False)
    assert driver.bcr(4) == 0x00C0
    driver.set_bcr(4, 0x40C0)
    assert driver.bcr(4) == 0x00C0  # not without BCR2, bit 12
    driver.set_bcr(2, driver.bcr(2) | 0x1000)
    driver.set_bcr(4, 0xC080)
    bench.card.link_changed(True)
    assert driver.bcr(4) == 0x4080


def test_a_card_that_wakes_up_on_another_port_sees_the_link_there(bench: Bench, driver: Driver) -> None:
    state = bench.card.save_state()
    other = Bench()
    other.port.link_up = False
    other.card.load_state(state)
    assert Driver(other).bcr(4) == 0x00C0
    back = other.card.save_state()
    bench.card.load_state(back)
    assert driver.bcr(4) == 0x80C0


def test_latencies_are_those_of_the_configuration_space(bench: Bench, driver: Driver) -> None:
    assert bench.card.get(0x3E, 2) == driver.bcr(22) == 0xFF06
    driver.set_bcr(22, 0x1234)
    assert bench.card.get(0x3E, 2) == 0x1234


def test_there_is_no_mii(driver: Driver) -> None:
    driver.set_bcr(32, 0x20)
    driver.set_bcr(33, 1)
    assert [driver.bcr(number) for number in (32, 33, 34, 127)] == [0, 0, 0, 0]


# CSR0


def test_init_then_start(bench: Bench, driver: Driver) -> None:
    driver.start(command=0x0001)
    assert driver.csr(0) == r.IDON | r.INTR | r.INIT
    driver.set_csr(0, r.IDON | r.STRT | r.IENA)
    assert driver.csr(0) == r.IENA | r.RXON | r.TXON | r.STRT | r.INIT
    driver.set_csr(0, r.STOP)
    assert driver.csr(0) == r.STOP


def test_init_and_start_at_once_start_behind_the_init(bench: Bench, driver: Driver) -> None:
    driver.start(command=0x0004)
    driver.set_csr(0, r.INIT | r.STRT)
    assert driver.csr(0) & (r.IDON | r.RXON | r.TXON | r.STOP) == 0
    bench.wait()
    assert driver.csr(0) & (r.IDON | r.RXON | r.TXON) == r.IDON | r.RXON | r.TXON


def test_stop_is_stronger_than_what_is_written_with_it(bench: Bench, driver: Driver) -> None:
    driver.start(command=0x0004)
    driver.set_csr(0, r.INIT | r.STRT | r.STOP | r.IENA)
    bench.wait()
    assert driver.csr(0) == r.STOP
    assert bench.clock.next_ns() > bench.clock.now_ns + 10_000_000


@pytest.mark.parametrize(("mode", "on"), [(0, 0x30), (r.DTX, 0x20), (r.DRX, 0x10), (r.DTX | r.DRX, 0)])
def test_mode_says_what_is_started(driver: Driver, mode: int, on: int) -> None:
    driver.start(mode=mode)
    assert driver.csr(0) & 0x30 == on


def test_a_cause_is_cleared_by_a_one_and_masked_by_csr3(bench: Bench, driver: Driver) -> None:
    driver.start(command=0x43)
    assert bench.line
    driver.set_csr(3, r.IDON)
    assert not bench.line
    assert not driver.csr(0) & r.INTR
    driver.set_csr(3, 0)
    assert bench.line
    driver.set_csr(0, 0)  # IENA is what is written
    assert not bench.line
    assert driver.csr(0) & (r.IDON | r.INTR) == r.IDON | r.INTR
    driver.set_csr(0, r.IDON | r.IENA)
    assert not driver.csr(0) & (r.IDON | r.INTR)
    assert not bench.line


def test_a_driver_can_interrupt_itself(bench: Bench, driver: Driver) -> None:
    driver.start()
    driver.set_csr(0, r.IDON | r.IENA)
    driver.set_csr(4, 0x0915 | r.UINTCMD)
    assert bench.line
    assert driver.csr(4) == 0x0915 | r.UINT
    driver.set_csr(4, 0x0915 | r.UINT)
    assert not bench.line


def test_causes_in_csr4_have_masks_and_go_with_a_one(bench: Bench, driver: Driver) -> None:
    driver.start()
    driver.set_csr(0, r.IDON | r.IENA)
    driver.set_csr(3, r.TINT)
    driver.send(0, OTHER + bytes(60))
    assert driver.csr(4) & r.TXSTRT
    assert not bench.line
    driver.set_csr(4, 0x0111)
    assert bench.line
    driver.set_csr(4, 0x0111 | r.TXSTRT)
    assert not bench.line


def test_suspension_is_not_for_a_card_that_is_stopped(driver: Driver) -> None:
    driver.set_csr(5, r.SPND)
    assert driver.csr(5) == 0
    driver.start()
    driver.set_csr(5, r.SPND)
    assert driver.csr(5) == r.SPND
    driver.set_csr(0, r.STOP)
    assert driver.csr(5) == 0


def test_what_the_driver_programs_is_told_to_the_port(bench: Bench, driver: Driver) -> None:
    driver.start(mode=r.PROM)
    assert bench.port.listens[-1] == (ADDRESS, True)
    driver.set_csr(5, r.SPND)
    driver.set_csr(15, 0)
    assert bench.port.listens[-1] == (ADDRESS, False)
    for at in range(3):
        driver.set_csr(12 + at, int.from_bytes(OTHER[2 * at : 2 * at + 2], "little"))
    assert bench.port.listens[-1] == (OTHER, False)
    driver.set_csr(5, 0)
    assert bench.port.listens[-1] == (OTHER, False)


def test_writes_are_reported_by_name(bench: Bench, driver: Driver) -> None:
    driver.set_csr(15, 0x8000)
    driver.set_bcr(20, 2)
    written = [(event.register, event.value) for event in bench.log.of(AdapterRegisterWritten)]
    assert written == [("RAP", 15), ("CSR15", 0x8000), ("RAP", 20), ("BCR20", 2)]


def test_its_state_is_a_value_at_every_step_of_the_start(bench: Bench, driver: Driver) -> None:
    steps = [(20, 2, True), (1, 0x1000, False), (2, 0, False), (4, 0x915, False), (0, 1, False), (0, 0x42, False)]
    bench.memory.write(0x1000, driver.block())
    for number, value, is_bcr in steps:
        (driver.set_bcr if is_bcr else driver.set_csr)(number, value)
        other = Bench(bench.memory)
        other.clock.forget_all(bench.clock.now_ns)
        other.pc.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(bench.pc.save_state()), type=PcState))
        assert other.pc.save_state() == bench.pc.save_state()
        bench, driver = other, Driver(other)
    bench.wait()
    assert driver.csr(0) == r.IDON | r.INTR | r.IENA | r.RXON | r.TXON | r.STRT | r.INIT
    assert bench.line
