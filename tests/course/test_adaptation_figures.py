"""Lesson 3: a store that keeps hitting a traced page is translated anew, and its figures are what the log says."""

from __future__ import annotations

from vilab.course import adaptation_figures as figures
from vilab.course import lessons
from vilab.vmm.adaptive import GUILTY_AFTER_TRAPS, INNOCENT_AFTER_STORES


def test_every_edit_is_a_trap_or_a_callout_and_the_traps_stop():
    found = figures.totals(figures.edits(100))
    assert found["trace fault"] == GUILTY_AFTER_TRAPS
    assert found["trace fault"] + found["callout: simulate"] == 100
    assert found["translated anew: guilty"] == 1


def test_a_translator_without_patience_or_without_memory():
    lines = figures.thresholds(0, 1, 8).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["never", "100", "0"], ["1", "1", "99"], ["8", "8", "92"]]
    assert figures.cycles(figures.edits(10, guilty_after=0)) == 10 * 2030


def test_the_way_back_is_long():
    told = figures.fate(figures.edits(20, others=INNOCENT_AFTER_STORES + 20)).splitlines()
    assert "translated anew: innocent" in told[-1]
    assert f"{20 - GUILTY_AFTER_TRAPS + INNOCENT_AFTER_STORES} x" in told[-2]
    assert "innocent" not in figures.fate(figures.edits(20, others=INNOCENT_AFTER_STORES - 20))


def test_the_prediction_is_judged_by_a_run():
    assert figures.how_many_faults(100).right() == 1
    assert figures.how_many_faults(1).right() == 0


def test_the_picture_says_trap_turning_point_and_callout():
    view = lessons.translation(figures.edits(20), "What becomes of it?")
    assert "hits the traced page at c0102000: it faults" in view.seek(4)
    assert "translated anew" not in view.seek(28)
    assert "That was once too often: the unit at" in view.seek(32)
    assert "has hit traced pages too often" in view.seek(36)
