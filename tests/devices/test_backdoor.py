"""The backdoor's commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.devices import backdoor as b

words = st.integers(0, 0xFFFF_FFFF)


def test_version_tells_vmware_by_its_magic_number() -> None:
    answer = b.call(b.MAGIC, 0, b.GETVERSION, b.PORT, 10**9, 10**8)
    assert (answer.eax, answer.ebx) == (6, 0x564D5868)


def test_frequencies_of_more_than_32_bits_and_of_less() -> None:
    answer = b.call(b.MAGIC, 0, b.GETHZ, b.PORT, 5_000_000_000, 66_000_000)
    assert (answer.ebx << 32 | answer.eax, answer.ecx) == (5_000_000_000, 66_000_000)


@pytest.mark.parametrize("command", [b.STEALCLOCK, 0, 1, 9, 0xFFFF])
def test_what_is_absent_or_unknown_says_so(command: int) -> None:
    answer = b.call(b.MAGIC, 7, command, b.PORT, 10**9, 10**8)
    assert (answer.eax, answer.ebx, answer.ecx, answer.edx) == (0xFFFF_FFFF, 7, command, b.PORT)


@given(words, words, words, words)
def test_garbage_is_answered(eax: int, ebx: int, ecx: int, edx: int) -> None:
    answer = b.call(eax, ebx, ecx, edx, 10**9, 10**8)
    assert all(0 <= value <= 0xFFFF_FFFF for value in (answer.eax, answer.ebx, answer.ecx, answer.edx))
    assert answer.edx == edx
