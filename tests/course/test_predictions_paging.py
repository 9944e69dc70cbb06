"""Questions about page tables: asked where there is something to guess, answered by what the machine then does."""

from __future__ import annotations

import pytest

from vilab.course import lessons
from vilab.course.paging_runs import PAGE_A, WAYS, compare, fork, of_text, tour
from vilab.course.predictions_paging import COMES_TO, came_to, page_faults, policy_questions
from vilab.vmm import translation_path as tp
from vilab.vmm.comparison_counts import HIDDEN, TRUE
from vilab.vmm.comparison_policies import Outcome


@pytest.mark.parametrize("way", ["all", "lazy", "nested"])
def test_every_answer_is_what_the_run_does(way: str) -> None:
    run = tour(way)
    asked = 0
    for record in run.records:
        run.seek(record.index - 1)
        prediction = page_faults(run, record)
        if prediction is None:
            continue
        asked += 1
        right = prediction.right()
        words = prediction.why if isinstance(prediction.why, str) else prediction.why()
        assert 0 <= right < len(prediction.options)
        assert words
        if "come to?" in prediction.question:
            assert COMES_TO[right] == came_to(record)
        elif "shadow entry be" in prediction.question:
            run.seek(record.index)
            shadow = tp.path(run.vm, PAGE_A if "0804a" in prediction.question else 0x0804B000).shadow
            assert shadow is not None
            assert f"{shadow.entries[-1].value:08x}" in prediction.options[right]
        else:
            faults = 0
            for each in run.records[record.index :]:
                if each.mnemonic == "int" or each.operands.startswith("cr3"):
                    break
                faults += sum(type(event).__name__ == "HiddenFault" for event in each.events)
            assert right == min(faults, 3)
    assert asked >= 6


def test_the_answer_is_not_there_before_the_choice() -> None:
    view = lessons.page_tables(tour("lazy"), "?", PAGE_A, page_faults)
    while view.playback.asked is None:
        view.step()
    assert view.playback.asked.card.right is None
    assert not view.playback.asked.card.why


def test_the_same_access_is_not_asked_about_twice() -> None:
    text = "mov dword ptr [0xc0103128], 0x00202007\nmov dword ptr [0xc010312c], 0x00203007\nret"
    run = of_text(text, "all")
    asked = [record.index for record in run.records if page_faults(_at(run, record.index - 1), record) is not None]
    assert asked == [1]


def _at(run, position):
    run.seek(position)
    return run


def test_every_way_runs_the_tour_to_the_same_registers() -> None:
    ends = {way: tour(way).records[-1].guest.gpr for way in WAYS}
    assert len(set(ends.values())) == 1


def test_the_real_kernels_child_stores_into_a_page_that_it_shares() -> None:
    run = fork("lazy", limit=1500)
    stores = [record for record in run.records if came_to(record) == tp.TRUE]
    assert stores
    assert stores[0].cpl == 3
    assert stores[0].events[0].gva == 0x0804_9000


def test_columns_of_what_keeping_the_tables_costs() -> None:
    lines = compare({way: tour(way) for way in ("all", "lazy")}).splitlines()
    assert lines[1].split()[-2:] == ["1", "1"]
    assert lines[4].split()[-2] == "0"
    assert len({len(line) for line in lines}) == 1


def test_who_loses_is_asked_before_each_workload() -> None:
    found = [
        Outcome(policy, "one space", {}, {HIDDEN: cycles, TRUE: 1.0}, cycles + 1, (cycles + 1) / 2)
        for policy, cycles in (("all", 9.0), ("lazy", 1.0), ("prevalidate", 2.0))
    ]
    ask = policy_questions(found)
    prediction = ask(0)
    assert prediction is not None
    assert prediction.options[prediction.right()] == "all"
    assert ask(1) is None
