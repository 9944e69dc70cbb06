"""The board of shares and tax: the paper's numbers, what the formula says, and a host that is turned."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view.memory_samples import SECOND_NS, two_guests
from vilab.errors import AdminError
from vilab.memory.client import MB_PAGES
from vilab.memory.shares import Claim
from vilab.view.memory_knobs import KnobPlayback
from vilab.view.memory_tax import TAXES, TaxLive, figure_7, table_text
from vilab.view.memory_tax_draw import Priced, draw, settled, substituted
from vilab.view.memory_track import MemoryTrack

QUESTION = "What is a page worth?"


def boxes(svg: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for node in ET.fromstring(f"<g>{svg}</g>").iter("rect"):
        found.setdefault(node.get("data-part", ""), []).append(float(node.get("width", 0)))
    return found


def test_the_papers_numbers_are_reached_by_stepping_and_by_turning() -> None:
    track = figure_7(QUESTION)
    playback = KnobPlayback(track)
    assert "vm1 171 MB, vm2 171 MB" in playback.describe()
    playback.seek(TAXES.index(0.75))
    assert "vm1 101 MB, vm2 241 MB" in playback.describe()
    playback.handle({"do": "turn", "knob": "tax", "to": 0})
    assert "vm1 171 MB, vm2 171 MB" in playback.describe()
    playback.handle({"do": "turn", "knob": "tax", "to": 75})
    assert playback.position == TAXES.index(0.75)
    assert "171 → 101 MB" in playback.picture().stage.under
    assert "171 → 241 MB" in playback.picture().stage.under
    assert "2,560 / (101 × (0.08 + 4 × 0.92)) = 6.75" in playback.picture().stage.under


def test_knobs_for_shares_and_working_sets_change_the_targets() -> None:
    track = figure_7(QUESTION)
    playback = KnobPlayback(track, position=3)
    playback.handle({"do": "turn", "knob": "shares vm1", "to": 20})
    knob = next(knob for knob in track.knobs() if knob.name == "shares vm1")
    assert knob.words.replace("\u00a0", " ") == "20 a MB, high"
    before = track.priced.targets[0]
    playback.handle({"do": "turn", "knob": "uses vm1", "to": 250})
    assert track.priced.targets[0] > before
    playback.handle({"do": "turn", "knob": "uses vm1", "to": 9999})
    assert track.claims[0].active_pages == 256 * MB_PAGES


def test_the_table_has_a_line_for_each_tax() -> None:
    lines = table_text(figure_7(QUESTION)).splitlines()
    assert len(lines) == len(TAXES)
    assert "101 MB" in lines[3]


def test_widths_are_in_proportion_and_the_board_is_well_formed() -> None:
    track = figure_7(QUESTION)
    track.go(3)
    found = boxes(draw(track.priced, 256 * MB_PAGES))
    assert found["used"][0] / found["used"][1] == pytest.approx(8 / 195, rel=0.01)
    assert (found["used"][0] + found["idle"][0]) / (found["used"][1] + found["idle"][1]) == pytest.approx(
        101 / 241, rel=0.01
    )


claims = st.builds(
    lambda shares, most, used: (shares, most, min(used, most)),
    st.integers(1, 5000), st.integers(200, 5000), st.integers(0, 5000),
)  # fmt: skip


@given(st.lists(claims, min_size=2, max_size=4), st.floats(0, 0.95), st.floats(0.3, 0.9))
def test_at_the_targets_whoever_can_give_pays_the_same(given_claims: list[tuple[int, int, int]], tax: float,
                                                       part: float) -> None:  # fmt: skip
    made = tuple(Claim(f"vm{n}", s, 0, m, u) for n, (s, m, u) in enumerate(given_claims))
    available = int(part * sum(claim.max_pages for claim in made))
    priced = Priced(made, tuple(claim.max_pages for claim in made), available, tax)
    free = [at for at, target in enumerate(priced.targets) if 20 < target < made[at].max_pages]
    prices = [priced.rho_mb(at, priced.targets[at]) for at in free]
    if prices:
        assert max(prices) / min(prices) < 1 + 3 * max(priced.k, 1) / min(priced.targets[at] for at in free)


def test_a_machine_that_holds_nothing_has_no_price() -> None:
    claim = Claim("vm1", 100, 0, 100, 10)
    assert "ρ is not defined" in substituted(Priced((claim,), (0,), 50, 0.5), 0, 0, "now")
    assert settled(Priced((claim,), (50,), 50, 0.5))


# A host that runs -----------------------------------------------------------------------------------------------------


def test_turning_changes_the_host_at_once_and_its_pages_later() -> None:
    memory = MemoryTrack(two_guests(), SECOND_NS)
    try:
        memory.run(2)
        track = TaxLive(memory, QUESTION, 6)
        playback = KnobPlayback(track, position=2)
        playback.handle({"do": "turn", "knob": "tax", "to": 50})
        assert memory.host.memory.reclaimer.tax == 0.5
        assert "k = 1 / (1 − 0.50) = 2" in playback.picture().stage.under
        assert memory.frames[2].tax == 0.75  # what was recorded stays
        playback.back()
        assert "k = 1 / (1 − 0.75) = 4" in playback.picture().stage.under
        playback.handle({"do": "turn", "knob": "shares vm2", "to": 20})
        assert memory.host.vms["vm2"].client.config.shares == 160
        assert "what you change, changes now" in playback.describe()
        playback.step()
        assert memory.newest.vm("vm2").config.shares == 160  # type: ignore[union-attr]
        priced = track.priced(3)
        assert priced.held_pages == tuple(vm.charged for vm in memory.newest.vms)
        targets = memory.host.memory.reclaimer.claims()
        assert [claim.shares for claim in targets] == [claim.shares for claim in priced.claims]
        assert priced.available_pages == memory.host.memory.reclaimer.available_pages()
        with pytest.raises(AdminError, match="is off"):
            track.turn("shares vm9", 5)
    finally:
        memory.host.close()
