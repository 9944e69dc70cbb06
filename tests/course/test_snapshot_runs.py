"""What a pass over a disk costs with snapshots, and the questions of lesson 13."""

from __future__ import annotations

from itertools import pairwise

from vilab.course.predictions_storage import story_questions
from vilab.course.snapshot_runs import STORY, ChainCosts, pass_ns, story, written_behind_its_back
from vilab.storage.counted_files import FileAccess
from vilab.storage.timed import Latency
from vilab.view.chain_cost import ChainCostTrack


def test_every_snapshot_scatters_more_and_deleting_them_puts_it_right() -> None:
    costs = ChainCosts(4, blocks=1024, rewritten=40)
    found = [costs.point(step) for step in range(1, costs.total + 1)]
    assert [each.snapshots for each in found] == [0, 1, 2, 3, 4, 0]
    assert [each.wrong for each in found] == [0] * 6
    reads = [each.reads for each in found]
    assert reads[:5] == sorted(reads[:5])
    assert reads[1] > 10 * reads[0]
    assert (reads[5], found[5].pass_ns) == (reads[0], found[0].pass_ns)
    longer = [b.file_bytes - a.file_bytes for a, b in pairwise(found[:5])]
    assert all(40 * 4096 < each < 40 * 4096 + 80_000 for each in longer)


def test_the_arm_moves_where_a_read_does_not_follow_the_last_one() -> None:
    latency = Latency(position_ns=1000, sequential_ns=10, ns_per_kilobyte=1024)
    reads = [FileAccess("a", "read", 0, 512), FileAccess("a", "read", 512, 512), FileAccess("b", "read", 1024, 512)]
    assert pass_ns(reads, latency) == 1000 + 10 + 1000 + 3 * 512


def test_what_is_right_in_the_story_is_read_off_its_moments() -> None:
    run = story()
    ask = story_questions(run)
    answers = {}
    for position in range(len(STORY)):
        question = ask(position)
        if question is not None:
            run.go(position)
            answers[position] = question.options[question.right()], question.why()  # type: ignore[operator]
    run.close()
    assert answers[3][0] == "Not at all."
    assert answers[7][0] == "Four or more."
    assert answers[7][1].startswith("4:")
    assert answers[8][0] == "Six."
    assert answers[9][0] == "Blocks that it wrote since are as they were."


def test_the_questions_about_costs_are_judged_by_measurements() -> None:
    track = ChainCostTrack(ChainCosts(3, blocks=512, rewritten=16), "?", "one pass")
    track.go(1)
    question = track.ask(1)
    assert question is not None
    assert question.options[question.right()] == "more than four times as long"


def test_a_parent_that_was_written_is_refused_in_a_sentence() -> None:
    words = written_behind_its_back().splitlines()
    assert words[0].endswith("it opens.")
    assert "is refused: its parent vm.vmdk has CID" in words[1]
