"""Waldspurger 2002, figure 4, with guests that have two thirds of their pages in common."""

from __future__ import annotations

import functools
import itertools
import random
import struct

import pytest

from tests.memory.sharing_guests import Guests
from vilab.memory.scanner import SECOND_NS, Scanner
from vilab.memory.sharing import SharingCounts

PAGES = 300
ZERO, COMMON = 20, 180
"""Of each guest: pages of zeros, and pages that every other guest has too. The other third is its own."""

SHARED_PERCENT = {1: 17, 2: 61, 3: 65, 4: 66, 5: 67, 6: 67, 7: 66, 8: 67, 9: 67, 10: 67}
RECLAIMED_PERCENT = {1: 13, 2: 37, 3: 46, 4: 51, 5: 54, 6: 56, 7: 57, 8: 58, 9: 59, 10: 60}


@functools.cache
def after_sharing(vms: int) -> SharingCounts:
    """``vms`` guests scanned at ESX 3.0's rates until nothing more is found; what they contain is compared."""
    guests = Guests(vms, PAGES)
    for vm in guests.pmaps:
        order = list(range(PAGES))
        random.Random(vm).shuffle(order)
        for number, ppn in enumerate(order):
            if number < ZERO:
                content = b""
            elif number < ZERO + COMMON:
                content = struct.pack("<II", 0xC0DE, number)
            else:
                content = struct.pack("<II", vm, number)
            guests.fill(vm, ppn, content)
    before = {vm: pmap.content() for vm, pmap in guests.pmaps.items()}
    scanner = Scanner(guests.sharing, guests.pmaps, seed=4)
    quiet = 0
    while quiet < 10:
        found = scanner.ran(10 * SECOND_NS)
        quiet = 0 if found else quiet + 1
    assert {vm: pmap.content() for vm, pmap in guests.pmaps.items()} == before
    guests.check()
    return guests.sharing.counts()


def percent(pages: int, vms: int) -> float:
    return 100 * pages / (vms * PAGES)


@pytest.mark.parametrize("vms", range(2, 11))
def test_shared_and_reclaimed_are_as_in_the_paper(vms: int):
    counts = after_sharing(vms)
    if vms > 2:  # Two of the paper's guests had less in common than more of them.
        assert percent(counts.shared_pages, vms) == pytest.approx(SHARED_PERCENT[vms], abs=5)
    assert percent(counts.saved_frames, vms) == pytest.approx(RECLAIMED_PERCENT[vms], abs=5)


def test_ten_guests_come_within_5_points_of_both_limits():
    counts = after_sharing(10)
    assert percent(counts.shared_pages, 10) == pytest.approx(67, abs=5)
    assert percent(counts.saved_frames, 10) == pytest.approx(60, abs=5)
    assert counts.zero_pages == 10 * ZERO


def test_one_guest_shares_its_pages_of_zeros_only():
    counts = after_sharing(1)
    assert counts.shared_pages == counts.zero_pages == ZERO
    assert counts.saved_frames == ZERO - 1


def test_after_the_second_guest_each_one_adds_the_same():
    saved = [after_sharing(vms).saved_frames for vms in range(1, 11)]
    assert {after - before for before, after in itertools.pairwise(saved)} == {ZERO + COMMON}
