"""The questions of lesson 14 and the other roads to a disk: everything that is said was measured."""

from __future__ import annotations

import pytest

from vilab.course.lock_runs import story
from vilab.course.predictions_shared import lock_questions, volume_questions
from vilab.course.road_iscsi import IscsiHost
from vilab.course.road_nfs import nfs_story
from vilab.course.road_rdm import mapped
from vilab.course.roads import side_by_side, takeover_s
from vilab.course.volume_runs import volume_story
from vilab.view.predict import Prediction


def answer(question: Prediction) -> tuple[str, str]:
    right = question.options[question.right()]
    return right, question.why if isinstance(question.why, str) else question.why()


def test_what_is_right_in_the_story_is_read_off_the_run() -> None:
    told = story().story
    ask = lock_questions(told)
    answers = [answer(question) for position in range(len(told.steps)) if (question := ask(position)) is not None]
    assert [right.split(" ")[0] for right, _ in answers] == ["It", "Within", "16", "The"]
    assert "turned away" in answers[0][0]
    assert "both blocks" in answers[3][0]
    assert "16.0" in answers[2][1]


def test_another_end_has_other_answers_or_other_questions() -> None:
    told = story("off").story
    ask = lock_questions(told)
    asked = [question for position in range(len(told.steps)) if (question := ask(position)) is not None]
    assert len(asked) == 2, "nobody dies: nothing is asked about it"
    idle = story("power").story
    ask = lock_questions(idle)
    kinds = [step.kind for step in idle.steps]
    assert ask(kinds.index("dies")) is not None
    assert ask(kinds.index("silent")) is None, "no change was under way"


def test_what_is_right_about_the_volume_is_read_off_its_moments() -> None:
    run = volume_story()
    ask = volume_questions(run)
    answers = []
    for position in range(run.total):
        question = ask(position)
        if question is not None:
            run.go(position)
            answers.append(answer(question))
    assert [right for right, _ in answers] == [
        "None.", "One.", "Somewhere else, far from them.", "None.", "Nothing at all.",
    ]  # fmt: skip


def test_one_lock_over_iscsi_pdu_by_pdu() -> None:
    host = IscsiHost()
    taken = host.take_lock()
    sent = [pdu for pdu in taken.pdus if pdu.sent]
    assert [sent[0].words, sent[-1].words] == ["RESERVE(6)", "RELEASE(6)"]
    writes = [pdu for pdu in sent if pdu.words.startswith("WRITE")]
    assert [(pdu.where, pdu.data_bytes) for pdu in writes] == [("lock of db-flat.vmdk", 512)]
    assert sum(pdu.where == "lock of db-flat.vmdk" for pdu in sent) == 2, "read, then written"
    headers = 48 * len(taken.pdus)
    data = sum(-(-pdu.data_bytes // 4) * 4 for pdu in taken.pdus)
    assert taken.sent_bytes + taken.received_bytes == headers + data
    assert "20 PDUs" in taken.describe() or len(taken.pdus) != 20


@pytest.mark.parametrize(("step_s", "most_s"), [(10.0, 30.0), (3.0, 39.0)])
def test_a_lock_file_is_taken_over_after_three_missed_renewals(step_s: float, most_s: float) -> None:
    told = nfs_story(step_s=step_s)
    assert 30.0 <= told.takeover_s <= most_s
    assert told.names == (".lck-3409000000000000", "db-flat.vmdk")
    words = [words for _, _, words in told.lines]
    assert words[-2:] == ["breaks the lock of esx1", "has .lck-3409000000000000, generation 1"]
    assert sum(words_.startswith("is refused") for words_ in words) >= 3
    assert told.calls > 0
    assert told.sent_bytes > told.calls * 40


def test_a_guests_reservation_arrives_through_a_physical_mapping_only() -> None:
    found = mapped()
    assert found.of("RESERVE(6)", "virtual").arrived == ()
    assert found.of("RESERVE(6)", "physical").arrived == ("RESERVE(6)",)
    assert found.of("REPORT LUNS", "physical").arrived == ()
    for mode in ("virtual", "physical"):
        assert found.of("WRITE(10)", mode).arrived == ("WRITE(10)",)
    assert found.other == {"virtual": "good", "physical": "reservation conflict"}
    assert found.of("INQUIRY", "physical").answer == "SAN LUN"


def test_the_roads_side_by_side_are_those_that_were_measured() -> None:
    table = side_by_side()
    assert f"{takeover_s(story().story):.1f} s" in table
    assert f"{nfs_story().takeover_s:.1f} s" in table
    assert f"{IscsiHost().take_lock().commands} SCSI commands" in table
