"""Rules that say when to stop a machine that moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.migration.migration_events import RoundSent
from vilab.migration.rate_control import MBIT, RateLimits
from vilab.migration.termination import (
    DEFAULT_POLICY,
    LEAST_PROGRESS,
    MOST_COPIES,
    MOST_ROUNDS,
    POLICIES,
    SMALL_PAGES,
    ClarkPolicy,
    DowntimeGoal,
    FixedRounds,
    NelsonPolicy,
    NextRound,
    PreCopyPolicy,
    Stop,
    StopAndCopy,
    policy_named,
    work_pages,
)

SECOND_NS = 1_000_000_000


def sent(
    number: int, sent_pages: int, dirtied_pages: int, skipped_pages: int = 0, duration_ns: int = SECOND_NS,
    sent_bytes: int | None = None,
) -> RoundSent:  # fmt: skip
    sent_bytes = sent_pages * 4096 if sent_bytes is None else sent_bytes
    return RoundSent(
        0, "vm", number, sent_pages, 0, skipped_pages, sent_bytes, duration_ns, dirtied_pages, dirtied_pages
    )


def stops(answer: NextRound | Stop) -> bool:
    return isinstance(answer, Stop)


def test_work_is_what_was_sent_and_what_was_skipped() -> None:
    assert work_pages(sent(1, 700, 400, skipped_pages=300)) == 1000


@pytest.mark.parametrize(
    ("sent_pages", "skipped", "left", "stop"),
    [
        (10_000, 0, SMALL_PAGES, "256 pages are left, no more than 256"),
        (10_000, 0, SMALL_PAGES + 1, ""),
        (10_000, 0, 7_500, ""),
        (10_000, 0, 7_501, "too little progress: round 1 had 10000 pages to send and leaves 7501"),
        (2_000, 8_000, 7_500, ""),
        (2_000, 8_000, 9_000, "too little progress: round 1 had 10000 pages to send and leaves 9000"),
    ],
)
def test_nelson_stops_when_little_is_left_or_little_was_won(
    sent_pages: int, skipped: int, left: int, stop: str
) -> None:
    answer = NelsonPolicy().next([sent(1, sent_pages, left, skipped)])
    assert (answer.why if isinstance(answer, Stop) else "") == stop


@given(st.integers(1, 1 << 22), st.lists(st.floats(0, 1.5), min_size=60, max_size=60))
def test_nelson_ends_for_every_guest(pages: int, shares: list[float]) -> None:
    """Each round that goes on takes a quarter off: there are not more than log(pages / 256) / log(4 / 3) and two."""
    rounds: list[RoundSent] = []
    work, bound = pages, 2
    while SMALL_PAGES / (1 - LEAST_PROGRESS) ** (bound - 2) < pages:
        bound += 1
    answer = NelsonPolicy().first(pages)
    for share in shares:
        if isinstance(answer, Stop):
            break
        rounds.append(sent(len(rounds) + 1, work, min(pages, int(work * share))))
        work = rounds[-1].dirtied_pages
        answer = NelsonPolicy().next(rounds)
    assert isinstance(answer, Stop)
    assert len(rounds) <= bound


def test_clark_begins_at_the_minimum_and_ends_at_the_maximum() -> None:
    rule = ClarkPolicy(RateLimits(100 * MBIT, 500 * MBIT))
    first = rule.first(1000)
    assert isinstance(first, NextRound)
    assert first.limit_bytes_per_s == 100 * MBIT
    second = rule.next([sent(1, 10_000, 5000, duration_ns=2 * SECOND_NS)])
    assert isinstance(second, NextRound)
    assert second.limit_bytes_per_s == 16_490_000
    last = rule.next([sent(1, 10_000, 50_000)])
    assert isinstance(last, Stop)
    assert last.limit_bytes_per_s == 500 * MBIT
    assert isinstance(rule.next([sent(1, 10_000, 63)]), Stop)


def test_clark_over_a_link_that_never_reaches_the_limit_ends_all_the_same() -> None:
    rounds = [sent(n, 2_000, 2_000) for n in range(1, MOST_ROUNDS + 1)]
    assert not stops(ClarkPolicy().next(rounds[:-1]))
    assert stops(ClarkPolicy().next(rounds))


def test_stop_and_copy_stops_at_once() -> None:
    assert StopAndCopy().first(4096) == Stop("all 4096 pages are sent while the machine stands still")
    assert stops(StopAndCopy().next([sent(1, 1, 1)]))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_fixed_rounds_are_so_many(count: int) -> None:
    rule, rounds = FixedRounds(count), []
    answer = rule.first(100)
    while isinstance(answer, NextRound):
        rounds.append(sent(len(rounds) + 1, 100, 100))
        answer = rule.next(rounds)
    assert len(rounds) == count


def test_fixed_rounds_end_when_nothing_is_left() -> None:
    assert stops(FixedRounds(9).next([sent(1, 100, 0)]))


def test_downtime_goal_compares_what_is_left_with_the_rate_of_the_last_round() -> None:
    # 12,500 pages a second; 1250 pages are 100 ms.
    goal = DowntimeGoal(100_000_000)
    assert stops(goal.next([sent(1, 12_500, 1250)]))
    assert not stops(goal.next([sent(1, 12_500, 1251)]))
    # A fast first round does not count once a slower one was seen.
    assert not stops(goal.next([sent(1, 12_500, 1250), sent(2, 1250, 1250)]))
    # A round that sent nothing has no rate: the one before it has.
    nothing = sent(2, 0, 1250, skipped_pages=1250, duration_ns=0)
    assert stops(goal.next([sent(1, 12_500, 1250), nothing]))


def test_downtime_goal_counts_bytes_on_the_wire() -> None:
    """A first round of zero pages takes few bytes: pages a second would promise too much."""
    zeros = sent(1, 100_000, 1250, sent_bytes=4096 * 12_500)
    assert DowntimeGoal.expected_ns([zeros]) == 100_000_000


def test_downtime_goal_without_a_measure() -> None:
    unknown = sent(1, 0, 5, skipped_pages=5, duration_ns=0)
    assert DowntimeGoal.expected_ns([unknown]) is None
    assert not stops(DowntimeGoal(SECOND_NS).next([unknown]))
    assert stops(DowntimeGoal(0).next([sent(1, 0, 0, duration_ns=0)]))


def test_a_goal_out_of_reach_is_given_up() -> None:
    goal = DowntimeGoal(1)
    small = [sent(n, 10, 10) for n in range(2, MOST_ROUNDS + 1)]
    rounds = [sent(1, 1000, 10), *small]
    assert not stops(goal.next(rounds[:-1]))
    assert "out of reach: 30 rounds" in goal.next(rounds).why
    much = [sent(n, 1000, 1000) for n in (1, 2, 3)]
    assert len(much) == MOST_COPIES
    assert not stops(goal.next(much[:-1]))
    assert "out of reach: 3000 pages are sent" in goal.next(much).why


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("nelson", NelsonPolicy()),
        ("nelson:64", NelsonPolicy(small_pages=64)),
        ("clark", ClarkPolicy()),
        ("clark:100-700", ClarkPolicy(RateLimits(100 * MBIT, 700 * MBIT))),
        ("stop-and-copy", StopAndCopy()),
        ("rounds:3", FixedRounds(3)),
        ("downtime:300", DowntimeGoal(300_000_000)),
    ],
)
def test_rules_have_names(text: str, rule: PreCopyPolicy) -> None:
    assert policy_named(text) == rule
    assert rule.name == text.partition(":")[0]


def test_the_default_is_nelson() -> None:
    assert policy_named() == NelsonPolicy()
    assert DEFAULT_POLICY in POLICIES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("xen", "no rule 'xen'.*nelson.*clark.*stop-and-copy.*rounds:NUMBER.*downtime:MILLISECONDS"),
        ("", "no rule ''"),
        ("rounds", "'' is not a number of rounds"),
        ("rounds:-1", "'-1' is not a number"),
        ("rounds:²", "is not a number"),
        ("clark:100", "is not a number of Mbit/s"),
        ("clark:700-100", "below the least"),
        ("downtime:1.5", "'1.5' is not a number of milliseconds"),
        ("stop-and-copy:3", "takes no number"),
    ],
)
def test_what_is_no_rule_gets_a_sentence(text: str, words: str) -> None:
    with pytest.raises(AdminError, match=words):
        policy_named(text)


def test_rules_that_cannot_be_are_refused() -> None:
    with pytest.raises(AdminError, match="-1 rounds"):
        FixedRounds(-1)
    with pytest.raises(AdminError, match="cannot be a goal"):
        DowntimeGoal(-1)
