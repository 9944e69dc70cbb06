"""The widgets as Jupyter sees them: what is sent, what is stored, and that nothing of it is needed for the text."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.view import sample_runs
from vilab.view.job import Progress, Work
from vilab.view.predict import Prediction
from vilab.view.run_track import RingsTrack
from vilab.view.widget import Player, Quiz
from vilab.vmm.records import Steppable

T = TypeVar("T")
QUESTION = "Does `pushf` tell the truth?"
SECRET = "it is the IF of the CPU"


def asking(position: int) -> Prediction | None:
    return Prediction("What does it push?", ("IF = 0", "IF = 1"), lambda: 1, SECRET) if position == 6 else None


def everything_sent(widget: Player | Quiz) -> str:
    state = widget.get_state()
    return json.dumps({name: state[name] for name in state if not name.startswith("_")}, default=str)


def test_a_player_gives_its_text_twin_after_each_move() -> None:
    player = Player(RingsTrack(sample_runs.silent_pushf(), QUESTION))
    assert player.step().startswith("A program asks for a system call.")
    assert player.seek(7).startswith("At ring 1, pushf runs on the bare CPU: no trap.")
    assert player.back() == player.describe()
    assert player.frame["n"] == 6


def test_the_state_that_a_notebook_could_store_holds_no_answer() -> None:
    player = Player(RingsTrack(sample_runs.silent_pushf(), QUESTION), asking, position=6)
    player.step()
    sent = everything_sent(player)
    assert "What does it push?" in sent
    assert SECRET not in sent
    assert "no trap" not in sent
    assert player.answer(1).endswith(f"not 1, but 2: {SECRET}")
    assert SECRET in everything_sent(player)


def test_a_message_from_the_page_moves_it_and_is_answered() -> None:
    player = Player(RingsTrack(sample_runs.silent_pushf(), QUESTION))
    sent: list[object] = []
    player.send = lambda content, buffers=None: sent.append(content)  # type: ignore[method-assign]
    player._receive(player, {"do": "step", "id": 7}, [])
    assert player.frame["n"] == 1
    assert sent == [{"done": 7}]


def test_the_output_has_the_text_twin_and_a_picture_for_a_page_without_a_kernel() -> None:
    player = Player(RingsTrack(sample_runs.silent_pushf(), QUESTION), position=7)
    data, _ = player._repr_mimebundle_()
    assert data["text/plain"] == player.describe()
    assert data["image/svg+xml"].startswith("<svg xmlns=")
    assert "application/vnd.jupyter.widget-view+json" in data


def in_a_thread_of_its_own(what: Callable[[], T]) -> T:
    """Whether this thread has an event loop depends on the tests before; a new one has none."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(what).result()


def work() -> Work[Steppable]:
    for done in range(3):
        yield Progress("Booting the guest", done, 3, "million instructions")
    return sample_runs.silent_pushf()


def test_work_without_an_event_loop_is_done_at_once() -> None:
    def script() -> int:
        player = Player.of_work(QUESTION, work(), lambda run: RingsTrack(run, QUESTION), "trap")
        return int(player.frame["total"])

    assert in_a_thread_of_its_own(script) == 10


def test_work_in_a_kernel_goes_on_between_messages() -> None:
    async def cell() -> tuple[int, int]:
        player = Player.of_work(QUESTION, work(), lambda run: RingsTrack(run, QUESTION), "trap")
        at_once = player.frame["total"]
        for _ in range(100):
            await asyncio.sleep(0.01)
            if player.frame["total"]:
                break
        return at_once, player.frame["total"]

    assert in_a_thread_of_its_own(lambda: asyncio.run(cell())) == (0, 10)


def test_a_quiz_answers_in_words() -> None:
    quiz = Quiz(Prediction("What does it push?", ("IF = 0", "IF = 1"), lambda: 1, SECRET))
    assert SECRET not in everything_sent(quiz)
    assert quiz.answer(2).endswith(f"right: {SECRET}")


def test_text_twins_need_no_jupyter() -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'anywidget', 'ipywidgets', 'traitlets', 'IPython', 'jupyterlab', 'bqplot'}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import vilab.view
from vilab.view.run_track import RingsTrack
from vilab.view.playback import Playback
from vilab.view import critical, quiz, typed, still
from tests.view.sample_runs import silent_pushf
print(Playback(RingsTrack(silent_pushf(), '?'), position=7).describe())
try:
    vilab.view.Player
except ImportError:
    print('no widget')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0].startswith("At ring 1, pushf"), done.stderr
    assert done.stdout.splitlines()[1] == "no widget"
