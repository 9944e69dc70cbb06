"""Work copies: the student's changes are never lost, new lessons come, the originals stay."""

from __future__ import annotations

import os

import pytest

from vilab.course import workcopy
from vilab.errors import AdminError


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for name, content in {
        "notebooks/01-rings.ipynb": "rings",
        "notebooks/02-critical.ipynb": "critical",
        "notebooks/.ipynb_checkpoints/01-rings.ipynb": "no",
        "exercises/source/01-rings/popf.ipynb": "exercise and its solution",
        "exercises/release/01-rings/popf.ipynb": "exercise",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def test_every_lesson_is_copied_once_and_hidden_files_are_not(source, work):
    copied = workcopy.refresh(source, work)
    assert copied.added == ("exercises/01-rings/popf.ipynb", "notebooks/01-rings.ipynb", "notebooks/02-critical.ipynb")
    assert workcopy.refresh(source, work) == workcopy.Copied()
    assert not list(work.rglob(".ipynb_checkpoints"))


def test_a_changed_lesson_stays_whatever_happens_to_the_original(source, work):
    workcopy.refresh(source, work)
    mine = work / "notebooks/01-rings.ipynb"
    mine.write_text("my notes")
    assert workcopy.refresh(source, work) == workcopy.Copied()
    (source / "notebooks/01-rings.ipynb").write_text("rings, second edition")
    assert workcopy.refresh(source, work).kept == ("notebooks/01-rings.ipynb",)
    assert mine.read_text() == "my notes"


def test_an_untouched_lesson_follows_the_original_and_new_ones_are_added(source, work):
    workcopy.refresh(source, work)
    (source / "notebooks/01-rings.ipynb").write_text("rings, second edition")
    (source / "notebooks/03-translation.ipynb").write_text("translation")
    copied = workcopy.refresh(source, work)
    assert copied.updated == ("notebooks/01-rings.ipynb",)
    assert copied.added == ("notebooks/03-translation.ipynb",)
    assert (work / "notebooks/01-rings.ipynb").read_text() == "rings, second edition"


def test_a_file_that_was_there_before_the_first_copy_is_the_students(source, work):
    mine = work / "notebooks/01-rings.ipynb"
    mine.parent.mkdir(parents=True)
    mine.write_text("older than the copy")
    workcopy.refresh(source, work)
    (source / "notebooks/01-rings.ipynb").write_text("rings, second edition")
    workcopy.refresh(source, work)
    assert mine.read_text() == "older than the copy"


def test_a_damaged_record_loses_nothing(source, work):
    workcopy.refresh(source, work)
    (work / "notebooks/01-rings.ipynb").write_text("my notes")
    (work / workcopy.RECORD_NAME).write_text("{ not json")
    (source / "notebooks/01-rings.ipynb").write_text("rings, second edition")
    workcopy.refresh(source, work)
    assert (work / "notebooks/01-rings.ipynb").read_text() == "my notes"


@pytest.mark.parametrize("name", ["01", "01-rings", "01-rings.ipynb", "notebooks/01-rings.ipynb"])
def test_reset_brings_a_lesson_back_and_keeps_every_version_of_the_student(source, work, name):
    workcopy.refresh(source, work)
    mine = work / "notebooks/01-rings.ipynb"
    for version in ("first try", "second try"):
        mine.write_text(version)
        said = workcopy.reset(name, work, source)
        assert len(said) == 2
        assert mine.read_text() == "rings"
    assert mine.with_name("01-rings.ipynb.bak").read_text() == "first try"
    assert mine.with_name("01-rings.ipynb.bak2").read_text() == "second try"


def test_reset_of_an_untouched_lesson_makes_no_backup(source, work):
    workcopy.refresh(source, work)
    workcopy.reset("02", work, source)
    assert not list(work.rglob("*.bak*"))


def test_after_a_reset_the_lesson_follows_the_original_again(source, work):
    workcopy.refresh(source, work)
    (work / "notebooks/01-rings.ipynb").write_text("my notes")
    workcopy.reset("01", work, source)
    (source / "notebooks/01-rings.ipynb").write_text("rings, second edition")
    assert workcopy.refresh(source, work).updated == ("notebooks/01-rings.ipynb",)


@pytest.mark.parametrize("name", ["0", "9", "", "/"])
def test_a_name_that_fits_several_lessons_or_none_is_refused_and_changes_nothing(source, work, name):
    workcopy.refresh(source, work)
    (work / "notebooks/01-rings.ipynb").write_text("my notes")
    with pytest.raises(AdminError, match=r"^Nothing was reset: "):
        workcopy.reset(name, work, source)
    assert (work / "notebooks/01-rings.ipynb").read_text() == "my notes"


def test_an_exercise_comes_without_its_solution_and_is_found_by_its_own_name(source, work):
    workcopy.refresh(source, work)
    exercise = work / "exercises/01-rings/popf.ipynb"
    exercise.write_text("my answer")
    workcopy.reset("popf", work, source)
    assert exercise.read_text() == "exercise"


def test_a_work_copy_that_cannot_be_written_is_a_sentence(source, tmp_path):
    blocked = tmp_path / "a-file"
    blocked.write_text("not a folder")
    with pytest.raises(AdminError, match="was not written"):
        workcopy.refresh(source, blocked)


def test_the_originals_are_never_their_own_work_copy(source):
    with pytest.raises(AdminError, match="holds the originals"):
        workcopy.refresh(source, source)


def test_the_work_folder_is_the_chosen_one_then_the_environments_then_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("VILAB_LESSONS", raising=False)
    assert workcopy.work_folder() == tmp_path / "vilab-lessons"
    monkeypatch.setenv("VILAB_LESSONS", str(tmp_path / "env"))
    assert workcopy.work_folder() == tmp_path / "env"
    assert workcopy.work_folder(tmp_path / "mine") == tmp_path / "mine"


def test_the_originals_of_this_installation_are_found():
    assert any(path.suffix == ".ipynb" for path in (workcopy.originals_folder() / "notebooks").iterdir())
    assert os.access(workcopy.originals_folder(), os.R_OK)
