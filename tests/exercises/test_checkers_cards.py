"""The checkers of lesson 15: right answers written another way pass, typical mistakes of drivers are shown."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from vilab.course import checkers_cards as cards
from vilab.course.checkers_cards import ENP, IENA, ONES, OWN, RING, STP, TDMD, Card
from vilab.course.feedback import Feedback, WrongAnswer


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


def transmit(
    card: Card, given: int, frame: bytes, *, ring: int = RING, looks: bool = True, flags: int = OWN | STP | ENP,
    bell: int = TDMD | IENA, late: bool = False, count: Callable[[int], int] = lambda size: -size,
) -> int:  # fmt: skip
    """A driver, and all the ways to get it wrong."""
    n = given % ring
    at = card.descriptor(n)
    if looks and card.load(at + 4) & OWN:
        return given
    if not late:
        card.copy(card.buffer(n), frame)
    card.store(at + 4, flags | ONES | count(len(frame)) & 0xFFF)
    if late:
        card.copy(card.buffer(n), frame)
    if bell:
        card.set_csr(0, bell)
    return given + 1


def test_a_driver_that_keeps_to_the_rules() -> None:
    for seed in range(6):
        assert cards.check_transmit(transmit, 40, seed).right


def test_the_ring_is_full_now_and_then_and_goes_round_in_the_visible_test() -> None:
    sentence = cards.check_transmit(transmit).sentence
    assert "0 times the ring was full" not in sentence
    assert int(sentence.split()[0]) > RING


@pytest.mark.parametrize(("mistake", "words"), [
    ({"looks": False}, "while OWN says that it is the card's"),
    ({"late": True}, "while OWN says that it is the card's"),
    ({"flags": STP | ENP}, "is not set, so the card waits"),
    ({"bell": 0}, "Nobody rang"),
    ({"bell": IENA}, "Nobody rang"),
    ({"bell": TDMD}, "may not interrupt any more"),
    ({"count": lambda size: size}, "came out of the port"),
    ({"flags": OWN | ENP}, "came out of the port"),
    ({"ring": RING - 1}, "descriptor 3 is not set"),
    ({"ring": RING + 1}, "neither in the send ring nor in one of its buffers"),
])  # fmt: skip
def test_mistakes_of_drivers(mistake: dict[str, Any], words: str) -> None:
    def mine(card: Card, given: int, frame: bytes) -> int:
        return transmit(card, given, frame, **mistake)

    feedback = wrong(cards.check_transmit, mine)
    assert words in feedback.sentence
    assert feedback.trace


def test_a_full_ring_has_to_be_said() -> None:
    def mine(card: Card, given: int, frame: bytes) -> int:
        transmit(card, given, frame)
        return given + 1

    assert "was still the card's" in wrong(cards.check_transmit, mine).sentence


def test_a_driver_that_does_nothing_and_one_that_answers_nothing() -> None:
    assert "was free" in wrong(cards.check_transmit, lambda card, given, frame: given).sentence
    assert "whole number" in wrong(cards.check_transmit, lambda card, given, frame: None).sentence


def hash_bit(address: bytes) -> int:
    """By the library, where the exercise's solution shifts bits."""
    return (zlib.crc32(address) ^ 0xFFFFFFFF) >> 26


def filter_for(groups: Sequence[bytes]) -> int:
    return sum(1 << bit for bit in {hash_bit(group) for group in groups})


def test_the_filter_is_what_the_card_does() -> None:
    assert cards.check_hash_bit(hash_bit).right
    assert cards.check_hash_bit(hash_bit, cards.random_groups(5, 60)).right
    assert cards.check_filter_for(filter_for, [(), *(cards.random_groups(n, 5 * n) for n in (1, 2, 8))]).right


@pytest.mark.parametrize("mistake", [
    lambda address: zlib.crc32(address) >> 26,
    lambda address: (zlib.crc32(address) ^ 0xFFFFFFFF) & 63,
    lambda address: (zlib.crc32(address[::-1]) ^ 0xFFFFFFFF) >> 26,
    lambda address: 64,
])  # fmt: skip
def test_a_wrong_bit_is_shown_with_the_one_that_lets_the_group_in(mistake: Callable[[bytes], int]) -> None:
    assert "the card lets this group in by bit" in wrong(cards.check_hash_bit, mistake).sentence


@pytest.mark.parametrize(("mistake", "words"), [
    (lambda groups: (1 << 64) - 1, "none of the groups needs bit"),
    (lambda groups: 1 << hash_bit(groups[0]) if groups else 0, "does not hear"),
    (lambda groups: sum(1 << hash_bit(group) for group in (*groups, *groups)), "does not hear"),
    (lambda groups: 1 << 64, "has 64 bits"),
])  # fmt: skip
def test_too_many_bits_and_too_few(mistake: Callable[[Sequence[bytes]], int], words: str) -> None:
    assert words in wrong(cards.check_filter_for, mistake).sentence
