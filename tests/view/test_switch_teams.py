"""Teams, failures and shaping: the figures of the pictures are those of independent sums."""

from __future__ import annotations

import pytest

from vilab.course.switch_runs import LOADS, SHAPED
from vilab.network.policies import ShapingPolicy
from vilab.view.switch_balance import HOSTS, POLICIES, BalanceTrack, balance_questions, measure
from vilab.view.switch_failover import (
    CASES,
    END_S,
    EVERY_S,
    FAULT_S,
    REPAIR_S,
    SECOND_NS,
    FailoverTrack,
    failover_questions,
    happens,
)  # fmt: skip
from vilab.view.switch_shaping import STEP_MS, STEPS, ShapingTrack, shape


def expected(policy: str) -> list[dict[str, int]]:
    """By hand: port numbers begin at 9."""
    sent: list[dict[str, int]] = [{}, {}]
    for n, load in enumerate(LOADS):
        for host in HOSTS:
            last = int(load.machine.ip.rsplit(".", 1)[1]) ^ int(host.rsplit(".", 1)[1])
            number = {"port_id": 9 + n, "mac_hash": int(load.machine.mac[-2:], 16), "ip_hash": last}[policy]
            counts = sent[number % 2]
            counts[load.machine.name] = counts.get(load.machine.name, 0) + load.frames
    return sent


@pytest.mark.parametrize("policy", POLICIES)
def test_the_frames_are_where_the_policy_says(policy: str) -> None:
    found = measure(LOADS, policy)  # type: ignore[arg-type]
    assert list(found.sent.values()) == expected(policy)


def test_each_step_adds_a_policy_and_tells_its_figures() -> None:
    track = BalanceTrack(LOADS, "?")
    for position in range(1, track.total + 1):
        found = track.found(position)
        for uplink in found.sent:
            assert f"{found.total(uplink)} over {uplink}" in track.describe(position)
        drawn = track.picture(position).stage.under
        assert drawn.count("not-there") == 2 * (track.total - position)


def test_going_back_hides_what_comes_later() -> None:
    track = BalanceTrack(LOADS, "?")
    first = track.picture(1).stage.under
    track.picture(3)
    assert track.picture(1).stage.under == first


@pytest.mark.parametrize("position", range(3))
def test_the_question_before_a_policy_has_the_measured_answer(position: int) -> None:
    track = BalanceTrack(LOADS, "?")
    asked = balance_questions(track, position)
    assert asked is not None
    assert asked.right() == (1, 0, 2)[position]


def test_a_pulled_cable_costs_no_ping_and_link_state_never_sees_a_wrong_vlan() -> None:
    pulled, wrong = happens(CASES[0]), happens(CASES[1])
    assert pulled.lost == 0
    assert [(why, at) for at, _, why in pulled.moves] == [
        ("link", FAULT_S * SECOND_NS), ("failback", REPAIR_S * SECOND_NS)
    ]  # fmt: skip
    assert wrong.lost == round((REPAIR_S - FAULT_S) / EVERY_S)
    assert not wrong.moves


@pytest.mark.parametrize("case", CASES[2:])
def test_beacons_see_it_within_three_and_a_half_seconds(case: object) -> None:
    found = happens(case)  # type: ignore[arg-type]
    assert 3 * SECOND_NS - EVERY_S * SECOND_NS <= found.away_ns <= 3.5 * SECOND_NS + 2 * EVERY_S * SECOND_NS
    assert found.shotgun == (found.case.uplinks == 2)
    assert len(found.pings) == round(END_S / EVERY_S)


@pytest.mark.parametrize("position", range(4))
def test_the_question_before_a_failure_has_the_measured_answer(position: int) -> None:
    track = FailoverTrack("?")
    asked = failover_questions(track, position)
    assert asked is not None
    assert asked.right() == (0, 3, 2, 2)[position]


def test_what_is_drawn_of_pings_is_what_was_sent() -> None:
    track = FailoverTrack("?")
    drawn = track.picture(2).stage.under
    found = track.found(2)
    bad = next(part for part in drawn.split("<path ") if "fault-ink" in part and "stroke-width:4" in part)
    assert bad.count("v24") == found.lost


def test_a_shaper_lets_through_what_its_bucket_allows() -> None:
    found = shape(SHAPED)
    for n in range(1, STEPS + 1):
        most = SHAPED.burst_kb * 1024 + SHAPED.average_kbps * n * STEP_MS / 8
        assert found.passed[n] <= most
        assert (found.passed[n] - found.passed[n - 1]) <= SHAPED.peak_kbps * STEP_MS / 8 + 1514
        assert found.passed[n] + found.queued[n] == found.offered[n]
    assert found.passed[-1] >= SHAPED.burst_kb * 1024 + SHAPED.average_kbps * STEPS * STEP_MS / 8 - 2 * 1514
    assert found.dropped == 0


def test_turning_a_knob_lets_it_all_happen_again_and_keeps_peak_above_average() -> None:
    track = ShapingTrack("?", SHAPED)
    track.turn("average_kbps", 5000)
    assert (track.run.policy.average_kbps, track.run.policy.peak_kbps) == (5000, 5000)
    assert max(track.run.queued) == 0
    track.turn("peak_kbps", 1000)
    assert (track.run.policy.average_kbps, track.run.policy.peak_kbps) == (1000, 1000)
    assert shape(ShapingPolicy(enabled=True, average_kbps=1000, peak_kbps=5000, burst_kb=256)).queued[-1] == 0
