"""The sweep over trace policies as bars: true lengths, and the loser named with what it pays for."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from vilab.view.playback import Playback
from vilab.view.policies import SAME, PolicyTrack, bars
from vilab.vmm.comparison_counts import HIDDEN, TRACE, TRUE, VALIDATED
from vilab.vmm.comparison_policies import Outcome


def outcome(policy: str, workload: str, least: float, **parts: float) -> Outcome:
    named = {{"hidden": HIDDEN, "trace": TRACE, "validated": VALIDATED, "true": TRUE}[k]: v for k, v in parts.items()}
    return Outcome(policy, workload, {}, named, sum(parts.values()), sum(parts.values()) / least)


FOUND = (
    outcome("all", "one space", 400, hidden=300, trace=500, true=100),
    outcome("lazy", "one space", 400, hidden=300, true=100),
    outcome("prevalidate", "one space", 400, hidden=300, true=100),
    outcome("all", "many spaces", 100, true=100), outcome("lazy", "many spaces", 100, hidden=1900, true=100),
    outcome("prevalidate", "many spaces", 100, validated=150, true=100),
)  # fmt: skip
TRACK = PolicyTrack(FOUND, "Which is best?")


def test_a_bar_is_made_of_its_cycles() -> None:
    for workload in TRACK.workloads:
        for bar in bars(FOUND, workload):
            assert sum(part[2] for part in bar.parts) == bar.cycles
            assert bar.parts[-1][0] == SAME


def test_the_loser_is_named_with_what_it_pays_more_for_than_the_cheapest() -> None:
    assert TRACK.describe(1) == ("One space: all loses, 2.25 times the cycles of lazy and prevalidate, for its traces.")
    assert TRACK.describe(2) == (
        "Many spaces: lazy loses, 20.00 times the cycles of all, for its hidden faults. "
        "prevalidate pays 2.50 times, for its comparing."
    )


def test_lengths_are_in_proportion() -> None:
    drawn = TRACK.picture(2).stage.over
    widths = [float(w) for w in re.findall(r'width="([\d.]+)"[^>]*class="part', drawn)]
    assert abs(widths[0] / widths[1] - 300 / 500) < 0.01
    ET.fromstring(f"<g>{drawn}</g>")


def test_a_workload_is_shown_by_its_step_and_not_before() -> None:
    assert 'class="part' not in TRACK.picture(0).stage.over
    assert "2,000" not in TRACK.picture(1).stage.over
    assert "2,000" in TRACK.picture(2).stage.over
    assert TRACK.picture(0).stage.height == TRACK.picture(2).stage.height


def test_it_can_be_played() -> None:
    playback = Playback(TRACK)
    playback.step()
    playback.step()
    playback.step()
    assert playback.position == 2
    assert playback.notice is None
