"""The table of critical instructions."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from tests.view.sample_critical import results
from vilab.view.critical import CriticalTrack, as_text, results_of
from vilab.view.playback import Playback
from vilab.vmm.critical_run import critical_table

QUESTION = "Which engine gets all eighteen critical instructions right?"


def track() -> CriticalTrack:
    return CriticalTrack(results(), QUESTION)


def test_the_counts_are_the_rows_counted() -> None:
    assert track().scene(18).right == {"deprivileged": 0, "trap": 5, "bt": 18, "svm": 18}
    assert track().scene(6).right == {"deprivileged": 0, "trap": 0, "bt": 6, "svm": 6}


def test_a_wrong_cell_carries_its_value_and_a_right_one_only_its_mark() -> None:
    table = track().picture(18).stage.table
    root = ET.fromstring(table)
    rows = [row for row in root.iter("tr") if row.get("data-row") is not None]
    assert len(rows) == 18
    popf = rows[5]
    cells = ["".join(cell.itertext()).strip() for cell in popf]
    assert cells == ["popf", "IF 0", "wrongIF 1", "wrongIF 1", "right", "right"]
    assert "".join(rows[10][3].itertext()) == "right trap trapped"


def test_rows_that_have_not_run_show_neither_what_is_due_nor_what_comes() -> None:
    table = track().picture(5).stage.table
    assert "IF 0" in table  # pushf has run
    assert "00cf9b00" not in table
    assert table.count('class="a"></td>') == 13 * 4


def test_the_text_twin_groups_equal_answers_and_sums_up_at_the_end() -> None:
    assert track().describe(6) == (
        "popf should give IF 0. Without a VMM and under trap and emulate it gives IF 1; "
        "binary translation and hardware assist are right."
    )
    assert track().describe(18).startswith("Trapping repairs the 5 that trap and leaves 13 that answer wrongly")


def test_enter_on_a_row_opens_the_two_register_states_and_again_closes_them() -> None:
    player = Playback(track(), position=6)
    player.handle({"do": "open", "row": 4})
    assert player.frame()["panels"].count("what the CPU holds") == 2
    assert "ffc07000" in player.frame()["panels"]
    player.handle({"do": "open", "row": 4})
    assert player.frame()["panels"] == ""
    player.handle({"do": "open", "row": 12})  # has not run: shows nothing
    assert player.frame()["panels"] == ""


def test_jumping_finds_the_next_row_of_the_same_pattern() -> None:
    player = Playback(track(), position=11)  # pop ss: trapped
    player.handle({"do": "jump", "by": 1})
    assert player.position == 13  # call far


def test_the_whole_table_as_text() -> None:
    text = as_text(results())
    assert re.search(r"^popf +IF 0 +WRONG IF 1 +WRONG IF 1 +right +right$", text, re.M)
    assert re.search(r"^right +0 +5 +18 +18$", text, re.M)


@pytest.fixture(scope="module")
def real() -> CriticalTrack:
    return CriticalTrack(results_of(critical_table()), QUESTION)


def test_the_table_that_was_run_says_0_5_18_and_18(real: CriticalTrack) -> None:
    table = real.picture(18).stage.table
    assert re.findall(r'class="big">(\d+)<', table) == ["0", "5", "18", "18"]


def test_every_row_that_was_run_is_told_with_its_own_values(real: CriticalTrack) -> None:
    for index, row in enumerate(real.results[:-1]):
        words = real.describe(index + 1)
        assert row.expected in words
        assert all(cell.value in words for cell in row.cells.values() if not cell.right)
        assert len(words) <= 2 * 100  # two lines at laptop width


def test_the_states_of_a_row_that_was_run_are_the_machines(real: CriticalTrack) -> None:
    player = Playback(real, position=1)
    player.handle({"do": "open", "row": 0})
    leaked = real.results[0].cells["trap"].value
    panels = player.frame()["panels"]
    assert re.findall(r"<h3>(.*?):", panels) == ["No VMM", "Binary translation"]  # one that is wrong, one that is right
    assert panels.count(leaked) == 2
    assert "EBX" not in panels  # the same everywhere
