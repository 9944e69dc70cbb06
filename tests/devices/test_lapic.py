"""The local APIC by itself: registers, priorities, timer."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.helpers import run_to
from vilab.clock import VirtualClock
from vilab.devices import lapic_registers as la
from vilab.devices.lapic import Lapic
from vilab.devices.lapic_state import LapicState
from vilab.devices.lapic_timer import SHORTEST_NS, TICK_NS

FIXED_TO_SELF = 1 << 18
BY_1, BY_2, BY_16, BY_128 = 0b1011, 0b0000, 0b0011, 0b1010


class Bench:
    """A local APIC with what stands around it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.ended: list[int] = []
        self.apic = Lapic(self.clock, 0, lambda: None, self.ended.append)

    def write(self, offset: int, value: int) -> None:
        self.apic.write_mmio(offset, 4, value)

    def read(self, offset: int) -> int:
        return self.apic.read_mmio(offset, 4)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_after_power_on_it_is_a_virtual_wire(bench: Bench) -> None:
    assert bench.apic.enabled
    assert bench.apic.takes_extint()
    assert bench.read(la.SVR) == 0x1FF
    assert bench.read(la.LVT_LINT0) == 0x700
    assert bench.read(la.LVT_TIMER) == la.MASKED
    assert bench.read(la.VERSION) & 0xFF == 0x14


def test_an_interrupt_goes_from_requested_to_in_service_to_gone(bench: Bench) -> None:
    bench.apic.accept(0x45, level=False)
    assert bench.read(la.IRR + 0x20) == 1 << 5
    assert bench.apic.deliverable() == 0x45
    assert bench.apic.acknowledge() == 0x45
    assert bench.read(la.IRR + 0x20) == 0
    assert bench.read(la.ISR + 0x20) == 1 << 5
    bench.write(la.EOI, 0)
    assert bench.read(la.ISR + 0x20) == 0
    assert bench.ended == []


def test_the_end_of_a_level_interrupt_is_told(bench: Bench) -> None:
    bench.apic.accept(0x45, level=True)
    assert bench.read(la.TMR + 0x20) == 1 << 5
    bench.apic.acknowledge()
    bench.write(la.EOI, 0)
    assert bench.ended == [0x45]


@pytest.mark.parametrize(("tpr", "comes"), [(0x00, True), (0x3F, True), (0x40, False), (0x4F, False), (0xF0, False)])
def test_an_interrupt_must_be_of_a_higher_class_than_the_task_priority(bench: Bench, tpr: int, comes: bool) -> None:
    bench.write(la.TPR, tpr)
    bench.apic.accept(0x41, level=False)
    assert (bench.apic.deliverable() == 0x41) == comes


def test_a_higher_class_nests_and_the_same_class_waits(bench: Bench) -> None:
    bench.apic.accept(0x51, level=False)
    bench.apic.acknowledge()
    bench.apic.accept(0x5F, level=False)
    assert bench.apic.deliverable() == -1
    assert bench.read(la.PPR) == 0x50
    bench.apic.accept(0x61, level=False)
    assert bench.apic.acknowledge() == 0x61
    bench.write(la.EOI, 0)
    assert bench.apic.deliverable() == -1
    bench.write(la.EOI, 0)
    assert bench.apic.acknowledge() == 0x5F


@given(st.lists(st.integers(16, 255), min_size=1, max_size=12, unique=True), st.integers(0, 255))
def test_interrupts_are_taken_by_priority(vectors: list[int], tpr: int) -> None:
    """Against a brute-force reading of the manual: the highest one, while its class is above the processor's."""
    bench = Bench()
    bench.write(la.TPR, tpr)
    for vector in vectors:
        bench.apic.accept(vector, level=False)
    taken = []
    while bench.apic.deliverable() >= 0:
        taken.append(bench.apic.acknowledge())
        bench.write(la.EOI, 0)
    assert taken == sorted((vector for vector in vectors if vector // 16 > tpr // 16), reverse=True)


def test_a_request_that_is_gone_gives_the_spurious_vector(bench: Bench) -> None:
    bench.write(la.SVR, 0x1EF)
    assert bench.apic.acknowledge() == 0xEF
    assert bench.read(la.ISR + 0x70) == 0


def test_switched_off_by_software_it_masks_everything(bench: Bench) -> None:
    bench.write(la.SVR, 0x0FF)
    assert bench.read(la.LVT_LINT0) & la.MASKED
    assert not bench.apic.takes_extint()
    bench.write(la.LVT_TIMER, 0x30)
    assert bench.read(la.LVT_TIMER) == 0x30 | la.MASKED
    bench.apic.accept(0x45, level=False)
    assert bench.apic.deliverable() == -1


def test_switched_off_by_its_msr_and_on_again_it_has_forgotten(bench: Bench) -> None:
    bench.write(la.TPR, 0x20)
    assert bench.apic.write_apic_base(la.BASE)
    assert not bench.apic.enabled
    assert bench.apic.write_apic_base(0xD000_0000 | la.BASE_ENABLE)
    assert bench.apic.read_apic_base() == 0xD000_0000 | la.BASE_ENABLE | la.BASE_BSP
    assert (bench.read(la.TPR), bench.read(la.SVR), bench.read(la.LVT_LINT0)) == (0, 0xFF, la.MASKED)


@pytest.mark.parametrize("value", [la.BASE | la.BASE_ENABLE | 1 << 10, la.BASE | 1, 1 << 36 | la.BASE])
def test_reserved_bits_of_its_msr_are_refused(bench: Bench, value: int) -> None:
    before = bench.apic.read_apic_base()
    assert not bench.apic.write_apic_base(value)
    assert bench.apic.read_apic_base() == before


# Interrupt commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("high", "low", "comes"),
    [
        (0, FIXED_TO_SELF | 0x40, True),
        (0, 2 << 18 | 0x40, True),
        (0, 3 << 18 | 0x40, False),
        (0x00, 0x40, True),
        (0x01, 0x40, False),
        (0xFF, 0x40, True),
        (0x02, la.LOGICAL | 0x40, True),
        (0x04, la.LOGICAL | 0x40, False),
        (0x02, la.LOGICAL | 1 << 8 | 0x40, True),
    ],
)
def test_an_interrupt_command_reaches_who_it_names(bench: Bench, high: int, low: int, comes: bool) -> None:
    bench.write(la.LDR, 0x02 << 24)
    bench.write(la.ICR_HIGH, high << 24)
    bench.write(la.ICR_LOW, low)
    assert (bench.apic.deliverable() == 0x40) == comes
    assert not bench.read(la.ICR_LOW) & 1 << 12


@pytest.mark.parametrize("command", [0xC500, 0x8500, 0x4608, 0x4400, 0x4200])
def test_init_start_up_nmi_and_smi_are_accepted_and_do_nothing(bench: Bench, command: int) -> None:
    bench.write(la.ICR_HIGH, 1 << 24)
    bench.write(la.ICR_LOW, command)
    assert bench.apic.deliverable() == -1
    bench.write(la.ESR, 0)
    assert bench.read(la.ESR) == 0


def test_illegal_vectors_are_in_esr_after_it_was_written_and_interrupt(bench: Bench) -> None:
    bench.write(la.LVT_ERROR, 0x60)
    bench.write(la.ICR_LOW, FIXED_TO_SELF | 0x0F)
    assert bench.read(la.ESR) == 0
    assert bench.apic.deliverable() == 0x60
    bench.apic.accept(3, level=False)
    bench.write(la.ESR, 0)
    assert bench.read(la.ESR) == la.ERROR_SENT | la.ERROR_RECEIVED
    bench.write(la.ESR, 0)
    assert bench.read(la.ESR) == 0


# Timer ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("divide", "by"), [(BY_1, 1), (BY_2, 2), (BY_16, 16), (BY_128, 128)])
def test_one_shot_counts_down_once(bench: Bench, divide: int, by: int) -> None:
    bench.write(la.DIVIDE, divide)
    bench.write(la.LVT_TIMER, 0x40)
    bench.write(la.INITIAL, 10_000)
    run_to(bench.clock, 2_500 * by * TICK_NS)
    assert bench.read(la.CURRENT) == 7_500
    assert bench.apic.deliverable() == -1
    run_to(bench.clock, 10_000 * by * TICK_NS)
    assert bench.read(la.CURRENT) == 0
    assert bench.apic.acknowledge() == 0x40
    run_to(bench.clock, 50_000 * by * TICK_NS)
    assert bench.read(la.IRR + 0x20) == 0
    assert bench.clock.next_ns() > 1 << 60


def test_periodic_comes_again_and_again(bench: Bench) -> None:
    bench.write(la.DIVIDE, BY_1)
    bench.write(la.LVT_TIMER, la.PERIODIC | 0x40)
    bench.write(la.INITIAL, 10_000)
    came = []
    while len(came) < 5:
        run_to(bench.clock, bench.clock.next_ns())
        came.append(bench.clock.now_ns)
        assert bench.apic.acknowledge() == 0x40
        bench.write(la.EOI, 0)
    assert came == [100_000 * n for n in range(1, 6)]
    run_to(bench.clock, 530_000)
    assert bench.read(la.CURRENT) == 7_000
    bench.write(la.INITIAL, 0)
    assert bench.read(la.CURRENT) == 0
    assert bench.clock.next_ns() > 1 << 60


def test_a_masked_timer_counts_and_keeps_its_phase(bench: Bench) -> None:
    bench.write(la.DIVIDE, BY_1)
    bench.write(la.LVT_TIMER, la.MASKED | la.PERIODIC | 0x40)
    bench.write(la.INITIAL, 10_000)
    assert bench.clock.next_ns() > 1 << 60
    run_to(bench.clock, 250_000)
    assert bench.read(la.CURRENT) == 5_000
    bench.write(la.LVT_TIMER, la.PERIODIC | 0x40)
    assert bench.clock.next_ns() == 300_000


def test_another_divider_goes_on_from_the_count(bench: Bench) -> None:
    bench.write(la.DIVIDE, BY_1)
    bench.write(la.LVT_TIMER, 0x40)
    bench.write(la.INITIAL, 10_000)
    run_to(bench.clock, 40_000)
    bench.write(la.DIVIDE, BY_2)
    assert bench.read(la.CURRENT) == 6_000
    assert bench.clock.next_ns() == 40_000 + 6_000 * 2 * TICK_NS


def test_a_tiny_interval_does_not_stop_the_world(bench: Bench) -> None:
    bench.write(la.DIVIDE, BY_1)
    bench.write(la.LVT_TIMER, la.PERIODIC | 0x40)
    bench.write(la.INITIAL, 1)
    calls = 0
    while bench.clock.now_ns < 1_000_000:
        run_to(bench.clock, bench.clock.next_ns())
        calls += 1
    assert calls <= 1_000_000 // SHORTEST_NS + 1


# State ---------------------------------------------------------------------------------------------------------------


def test_state_is_a_value(bench: Bench) -> None:
    bench.write(la.LVT_TIMER, la.PERIODIC | 0x40)
    bench.write(la.INITIAL, 77_777)
    bench.apic.accept(0x91, level=True)
    bench.apic.acknowledge()
    bench.apic.accept(0x33, level=False)
    run_to(bench.clock, 3_333)
    state = bench.apic.save_state()
    travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=LapicState)
    other = Bench()
    other.clock.forget_all(3_333)
    other.apic.load_state(travelled)
    assert other.apic.save_state() == state
    assert other.clock.next_ns() == bench.clock.next_ns()
    for offset in range(0, 0x400, 0x10):
        assert other.read(offset) == bench.read(offset)


@given(st.lists(st.tuples(st.integers(0, 0x3FF), st.sampled_from((1, 2, 4, 8)), st.integers(0, (1 << 64) - 1))))
def test_nothing_that_a_guest_writes_breaks_it(writes: list[tuple[int, int, int]]) -> None:
    bench = Bench()
    for offset, size_bytes, value in writes:
        bench.apic.write_mmio(offset, size_bytes, value & (1 << 8 * size_bytes) - 1)
        assert 0 <= bench.apic.read_mmio(offset, size_bytes) < 1 << 8 * size_bytes
        run_to(bench.clock, bench.clock.now_ns + 1_000)
    state = bench.apic.save_state()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=LapicState) == state
