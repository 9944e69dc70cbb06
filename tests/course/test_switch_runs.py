"""Lesson 16: the questions of the first picture have the answers of the run, and the real guests are real."""

from __future__ import annotations

import pytest

from vilab.course.predictions_switch import conversation_questions
from vilab.course.switch_guests import GuestLab
from vilab.course.switch_runs import FIVE, GATEWAY, conversation
from vilab.errors import AdminError
from vilab.network.packets import ip_of
from vilab.view.switch_frame import SwitchStep
from vilab.view.switch_lab import SwitchLab


@pytest.fixture(scope="module")
def lab() -> GuestLab:
    return conversation()


def test_each_question_is_about_the_next_step_and_has_its_answer(lab: GuestLab) -> None:
    steps = lab.recorder.steps
    ask = conversation_questions(steps)
    found = {position: card for position in range(len(steps)) if (card := ask(position)) is not None}
    assert [steps[position + 1].kind for position in found] == ["forwards", "drops", "forwards", "forwards"]
    assert [card.right() for card in found.values()] == [1, 2, 0, 1]
    for card in found.values():
        assert 3 <= len(card.options) <= 4
        why = card.why if isinstance(card.why, str) else card.why()
        assert why.endswith(".")


def shape(steps: list[SwitchStep]) -> list[tuple[object, ...]]:
    return [
        (s.kind, s.origin, sorted(c.place for c in s.copies), s.reason, s.frame[:14])
        for s in steps if s.kind != "begin"
    ]  # fmt: skip


def test_guests_with_a_kernel_do_what_small_hosts_do(lab: GuestLab) -> None:
    """Two stacks that share no code: the teaching kernel's in C, and the peer's."""
    other = SwitchLab(FIVE, [GATEWAY], trunk=(10, 20, 105))
    for sequence, ip in enumerate(("10.0.0.19", "10.0.0.254"), 1):
        other.stations["web1"].peer.ping(ip_of(ip), sequence)
        other.run()
    assert sorted(shape(lab.recorder.steps), key=str) == sorted(shape(other.recorder.steps), key=str)


def test_two_runs_are_the_same_octet_by_octet_and_nanosecond_by_nanosecond(lab: GuestLab) -> None:
    again = conversation()
    assert again.recorder.steps == lab.recorder.steps
    for port in lab.captures:
        assert again.pcap(port) == lab.pcap(port)


def test_who_is_no_guest_cannot_be_typed_at(lab: GuestLab) -> None:
    with pytest.raises(AdminError, match="db1 is no guest here"):
        lab.type("db1", "ping 10.0.0.7")
