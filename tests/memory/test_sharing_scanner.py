"""How fast the scan goes, and which pages it takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory.sharing_guests import Guests
from vilab.errors import AdminError
from vilab.memory.sampling import RandomPages
from vilab.memory.scanner import (
    ESX_3_0,
    KSM,
    SECOND_NS,
    Rate,
    ScanLimits,
    Scanner,
    ScannerState,
    due,
    esx_3_5,
    random_ppns,
)


def counts_after(limits: ScanLimits, vm_pages: dict[int, int], seconds: int, step_ns: int) -> dict[int, int]:
    state = ScannerState(RandomPages(1))
    counts = dict.fromkeys(vm_pages, 0)
    for _ in range(seconds * SECOND_NS // step_ns):
        vm_ids, ppns = due(state, limits, vm_pages, step_ns)
        assert len(vm_ids) == len(ppns)
        for vm_id in vm_ids.tolist():
            counts[vm_id] += 1
    return counts


@pytest.mark.parametrize("step_ns", [10_000_000, 7_000_000, SECOND_NS])
@pytest.mark.parametrize(("vms", "each"), [(1, 50), (3, 50), (4, 50), (5, 40), (10, 20)])
def test_esx_3_0_scans_50_pages_of_a_vm_and_200_in_all(vms: int, each: int, step_ns: int):
    vm_pages = dict.fromkeys(range(1, vms + 1), 16384)
    counts = counts_after(ESX_3_0, vm_pages, 10, step_ns)
    passed_s = 10 * SECOND_NS // step_ns * step_ns / SECOND_NS
    assert all(abs(count - each * passed_s) <= 2 for count in counts.values())
    assert sum(counts.values()) <= 200 * passed_s


def test_esx_3_5_takes_an_hour_for_all_memory():
    vm_pages = {1: 36_000, 2: 7_200}
    assert counts_after(esx_3_5(8_000_000_000), vm_pages, 100, SECOND_NS) == {1: 1000, 2: 200}


def test_esx_3_5_is_limited_by_the_processors():
    counts = counts_after(esx_3_5(2_500_000_000), {1: 1 << 20, 2: 1 << 20}, 10, SECOND_NS)
    assert sum(counts.values()) == 100
    assert counts[1] == counts[2]


def test_ksm_scans_5000_pages_a_second():
    assert sum(counts_after(KSM, {1: 1000, 2: 1000, 3: 1000}, 2, 20_000_000).values()) == 10_000


def test_pages_that_nobody_could_use_are_kept_for_a_second_only():
    state = ScannerState(RandomPages(1))
    vm_ids, _ = due(state, ESX_3_0, {}, 3600 * SECOND_NS)
    assert not len(vm_ids)
    limits = ScanLimits(system=Rate(10))
    vm_ids, _ = due(state, limits, {1: 100}, 0)
    assert len(vm_ids) <= 200
    # Time that passed with VMs there is not lost, however long the step.
    vm_ids, _ = due(ScannerState(RandomPages(1)), ESX_3_0, {1: 100}, 60 * SECOND_NS)
    assert len(vm_ids) == 50 * 60


def test_a_vm_that_the_system_limit_held_back_does_not_catch_up_for_long():
    state = ScannerState(RandomPages(1))
    limits = ScanLimits(vm=Rate(50), system=Rate(10))
    for _ in range(100):
        due(state, limits, {1: 100}, SECOND_NS)
    vm_ids, _ = due(state, ScanLimits(vm=Rate(50), system=Rate(10**6)), {1: 100}, SECOND_NS)
    assert len(vm_ids) <= 100


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScanLimits(),
        lambda: ScanLimits(vm=Rate(-1)),
        lambda: ScanLimits(system=Rate(1, 0)),
        lambda: ScanLimits(whole_vm_ns=-1),
    ],
)
def test_limits_that_are_none_are_refused(make):
    with pytest.raises(AdminError):
        make()


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(1, 1 << 24), max_size=50))
@settings(deadline=None)
def test_many_random_pages_are_those_of_the_generator(seed: int, sizes: list[int]):
    together, apart = RandomPages(seed), RandomPages(seed)
    ppns = random_ppns(together, np.array(sizes, np.int64)).tolist()
    assert ppns == [(apart.next_u64() >> 32) * size >> 32 for size in sizes]
    assert together == apart
    assert all(0 <= ppn < size for ppn, size in zip(ppns, sizes, strict=True))


def test_every_page_is_chosen_about_equally_often():
    ppns = random_ppns(RandomPages(7), np.full(100_000, 10))
    assert (np.abs(np.bincount(ppns, minlength=10) - 10_000) < 500).all()


def test_a_scanner_goes_on_from_its_state():
    def one() -> tuple[Guests, Scanner]:
        guests = Guests(2, 50)
        for vm in (1, 2):
            for ppn in range(50):
                guests.fill(vm, ppn, bytes([ppn % 13]))
        return guests, Scanner(guests.sharing, guests.pmaps, 3)

    def go_on(scanner: Scanner) -> tuple[list[int], ScannerState]:
        return [scanner.ran(10_000_000) for _ in range(50)], scanner.save_state()

    (guests, scanner), (again, other), (_, unlike) = one(), one(), one()
    half = go_on(scanner)
    assert go_on(other) == half
    other.load_state(unlike.save_state())
    other.load_state(half[1])
    rest = go_on(scanner)
    assert sum(rest[0]) > 0
    assert go_on(other) == rest != half
    assert guests.sharing.counts() == again.sharing.counts()


def test_scan_all_finds_everything():
    guests = Guests(2, 50)
    for vm in (1, 2):
        for ppn in range(50):
            guests.fill(vm, ppn, bytes([ppn + 1]))
    scanner = Scanner(guests.sharing, guests.pmaps, 0)
    assert scanner.scan_all() == 100
    assert guests.sharing.counts().saved_frames == 50
    guests.check()
