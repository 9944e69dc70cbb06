"""The checker of exercise 3d: what a store is, by the translator's log."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vilab.course import checkers_adaptive as adaptive
from vilab.course.feedback import WrongAnswer
from vilab.vmm.adaptive import Adaptive


def by_the_engine(hits: Sequence[bool]) -> list[str]:
    """The counting that the engine does, asked without an engine."""
    counts, words = Adaptive(), []
    for hit in hits:
        if counts.is_guilty(0):
            words.append("callout")
            counts.stored(0, hit)
        else:
            words.append("trap" if hit else "plain")
            if hit:
                counts.trapped(0)
    return words


def forgets(hits: Sequence[bool]) -> list[str]:
    """Never innocent again."""
    seen, words = 0, []
    for hit in hits:
        words.append("callout" if seen >= 8 else "trap" if hit else "plain")
        seen += hit
    return words


def test_a_right_answer_passes_all_patterns() -> None:
    assert adaptive.check_adapt(by_the_engine, adaptive.FIRST_PATTERNS + adaptive.OTHER_PATTERNS).right


def test_the_guest_hits_when_the_pattern_says() -> None:
    hits = adaptive.hits_of(((0xA000_0000, 4),))
    assert hits == [True, False, True, False]
    assert adaptive.check_adapt(lambda each: ["trap" if hit else "plain" for hit in each], (((0xA000_0000, 4),),)).right


def test_who_forgets_the_way_back_passes_the_visible_cases_only() -> None:
    assert adaptive.check_adapt(forgets).right
    with pytest.raises(WrongAnswer) as caught:
        adaptive.check_adapt(forgets, adaptive.OTHER_PATTERNS)
    assert "store 520 is a trap, yours is 'callout'" in caught.value.feedback.sentence
    assert caught.value.feedback.trace[0].split() == ["store", "step", "hits", "yours", "the", "log"]


def test_an_answer_of_another_length_is_a_sentence() -> None:
    with pytest.raises(WrongAnswer, match="a list of 12 words is wanted"):
        adaptive.check_adapt(lambda hits: "trap")
