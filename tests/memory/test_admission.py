"""Power-on admission: machine memory and swap space."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.memory.admission import (
    OVERHEAD_MB,
    PAGES_PER_MB,
    Admitted,
    PowerOn,
    Room,
    admit,
    overhead_esx_2_5_mb,
    overhead_mb,
)


def request(configured: int, reservation: int, limit: int | None = None, overhead: int = 32) -> PowerOn:
    """In megabytes."""
    limit_pages = None if limit is None else limit * PAGES_PER_MB
    return PowerOn("web1", configured * PAGES_PER_MB, reservation * PAGES_PER_MB, limit_pages, overhead * PAGES_PER_MB)


def room(memory: int, swap: int) -> Room:
    return Room(memory * PAGES_PER_MB, "storage1", swap * PAGES_PER_MB)


def in_mb(admitted: Admitted) -> tuple[int, int]:
    return admitted.memory_pages // PAGES_PER_MB, admitted.swap_pages // PAGES_PER_MB


def test_memory_for_minimum_and_overhead_swap_for_the_rest() -> None:
    assert in_mb(admit(request(256, 128), room(160, 128))) == (160, 128)
    assert in_mb(admit(request(256, 0), room(32, 256))) == (32, 256)
    assert in_mb(admit(request(256, 256), room(288, 0))) == (288, 0)


def test_there_is_a_place_in_the_swap_file_for_every_configured_page_whatever_the_limit() -> None:
    assert in_mb(admit(request(256, 64, limit=128), room(96, 192))) == (96, 192)
    assert in_mb(admit(request(256, 64, limit=1024), room(96, 192))) == (96, 192)


def test_short_of_memory_by_32_mb() -> None:
    with pytest.raises(AdminError) as refused:
        admit(request(512, 256), room(256, 9999))
    assert str(refused.value) == (
        "web1 cannot be powered on: its reservation of 256 MB and its overhead of 32 MB need 288 MB of machine memory, "
        "of which 256 MB are unreserved, 32 MB too little: lower its reservation or power off another virtual machine."
    )


def test_short_of_swap_space_by_one_page() -> None:
    with pytest.raises(AdminError) as refused:
        admit(request(512, 256), Room(288 * PAGES_PER_MB, "storage1", 256 * PAGES_PER_MB - 1))
    assert "its swap file needs 256 MB on datastore storage1" in str(refused.value)
    assert "256.0 MB (65535 pages) are free, 1 page too little" in str(refused.value)
    assert "machine memory" not in str(refused.value)


def test_short_of_both_names_both() -> None:
    with pytest.raises(AdminError) as refused:
        admit(request(512, 256), room(200, 200))
    assert "88 MB too little" in str(refused.value)
    assert "56 MB too little" in str(refused.value)


@pytest.mark.parametrize(("limit", "what"), [(None, "configured size of 256 MB"), (100, "limit of 100 MB")])
def test_a_reservation_above_what_it_may_hold_is_refused(limit: int | None, what: str) -> None:
    with pytest.raises(AdminError, match=f"reservation of 300 MB is above its {what}"):
        admit(request(256, 300, limit), room(9999, 9999))


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(AdminError, match="must not be negative"):
        admit(request(256, -1), room(9999, 9999))


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 99), st.integers(0, 400), st.integers(0, 400))
def test_admitted_exactly_if_both_fit(size: int, reserved: int, overhead: int, memory: int, swap: int) -> None:
    reserved = min(reserved, size)
    fits = reserved + overhead <= memory and size - reserved <= swap
    try:
        admitted = in_mb(admit(request(size, reserved, None, overhead), room(memory, swap)))
    except AdminError:
        assert not fits
    else:
        assert fits
        assert sum(admitted) == size + overhead


def test_overhead_follows_the_table_and_straight_lines_between() -> None:
    assert {size: overhead_mb(size) for size in OVERHEAD_MB} == OVERHEAD_MB
    assert overhead_mb(16) == 79
    assert overhead_mb(3072) == 99
    assert overhead_mb(28672) == 295
    assert overhead_mb(512, vcpus=4) == 109


@given(st.integers(4, 65_536), st.integers(1, 4))
def test_a_larger_vm_never_has_less_overhead(size: int, vcpus: int) -> None:
    assert overhead_mb(size, vcpus) <= overhead_mb(size + 4, vcpus) <= overhead_mb(size + 4, vcpus + 1)


def test_overhead_of_esx_2_5_is_its_guides_example() -> None:
    assert overhead_esx_2_5_mb(256) == 54
    assert overhead_esx_2_5_mb(512, vcpus=2) == 64
    assert overhead_esx_2_5_mb(2048) == 102
