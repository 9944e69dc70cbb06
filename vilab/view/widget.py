"""The players as Jupyter widgets: a Python class, an ES module beside it, nothing to build.

``player.js`` draws what ``Playback.frame`` says and sends back what a person does; everything that can be decided is
decided here, so the machine moves with the picture and the page knows nothing of what comes next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import anywidget
import traitlets

from vilab.view import still
from vilab.view.frame import Track
from vilab.view.job import Work
from vilab.view.playback import Ask, Playback
from vilab.view.predict import Prediction
from vilab.view.quiz import QuizRun
from vilab.view.run_track import WaitingTrack
from vilab.view.typed import TypedPlayback
from vilab.view.words import html, plain

T = TypeVar("T")
PATIENCE_S = 0.4
"""What is done within that time needs no word."""
SLICE_S = 0.1

HERE = Path(__file__).parent
STYLE = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("tokens.css", "stage.css", "views.css"))


class Player(anywidget.AnyWidget):
    """Plays a track: question, picture, slider, transport, text twin, panels.

    Parameters
    ----------
    track : ``RingsTrack``, ``TranslationTrack``, ``CriticalTrack``...
    ask : position to the prediction that stands before the next step (``run_track.before_steps`` makes one).
    position : where to begin.
    """

    _esm = HERE / "player.js"
    _css = STYLE

    question = traitlets.Unicode().tag(sync=True)
    heading = traitlets.Unicode().tag(sync=True)
    frame = traitlets.Dict().tag(sync=True)
    form = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    lecture = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, track: Track | Playback, ask: Ask | None = None, position: int = 0, lecture: bool = False
    ) -> None:
        self.playback = track if isinstance(track, Playback) else Playback(track, ask, position)
        self._pumping: asyncio.Task[None] | None = None
        super().__init__(lecture=lecture, **self._moment())
        self.on_msg(self._receive)

    @classmethod
    def of_typed(cls, *arguments: Any, **options: Any) -> Player:
        """A player under a field for x86; arguments as for ``typed.TypedPlayback``."""
        return cls(TypedPlayback(*arguments, **options))

    @classmethod
    def of_work(cls, question: str, work: Work[T], track_of: Callable[[T], Track], engine: str = "bt") -> Player:
        """A player for a run that takes its time to be made ready; how far it is stands in the picture."""
        player = cls(WaitingTrack(question, engine))
        player.playback.load(work, lambda result: player.playback.show(track_of(result)))
        player._pump()
        return player

    def step(self) -> str:
        """One beat on; gives the text twin. After a prediction's reveal it goes on."""
        return self._do({"do": "step"})

    def back(self) -> str:
        return self._do({"do": "back"})

    def seek(self, position: int) -> str:
        return self._do({"do": "seek", "to": position})

    def answer(self, option: int) -> str:
        """Choose option 1 to 4 of the prediction that is asked, and reveal."""
        return self._do({"do": "reveal", "choice": option - 1})

    def describe(self) -> str:
        """What has just happened and why, in words."""
        return self.playback.describe()

    def _do(self, message: dict[str, Any]) -> str:
        self.playback.handle(message)
        self._pump()
        self._publish()
        return self.describe()

    def _moment(self) -> dict[str, Any]:
        playback = self.playback
        return {
            "question": plain(playback.track.question),
            "heading": html(playback.track.question),
            "frame": playback.frame(),
            "form": playback.form() if isinstance(playback, TypedPlayback) else None,
        }

    def _publish(self) -> None:
        with self.hold_sync():
            for trait, value in self._moment().items():
                setattr(self, trait, value)

    def _receive(self, _: Any, content: dict[str, Any], __: list[bytes]) -> None:
        self._do(content)
        self.send({"done": content.get("id")})

    def _pump(self) -> None:
        """Work in pieces between messages, so that Stop is heard; without an event loop, at once."""
        if self.playback.job is None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.playback.finish()
            self._publish()
            return
        if self._pumping is None or self._pumping.done():
            self._pumping = loop.create_task(self._work())

    async def _work(self) -> None:
        began = time.monotonic()
        while self.playback.job is not None:
            job = self.playback.job
            self.playback.work_on(SLICE_S)
            message = job.message()
            if message is not None and not job.finished and time.monotonic() - began > PATIENCE_S:
                self.send({"progress": message})
            await asyncio.sleep(0.001)
        self._publish()
        self.send({"progress": None})

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if data:
            data = {**data, "text/plain": self.describe()}
            picture = still.svg(self.playback.picture())
            if picture and self.playback.asked is None:
                data["image/svg+xml"] = picture
        return data, metadata


class Quiz(anywidget.AnyWidget):
    """Predictions on their own, one after another, away from any player."""

    _esm = HERE / "quiz.js"
    _css = STYLE

    frame = traitlets.Dict().tag(sync=True)

    def __init__(self, *predictions: Prediction) -> None:
        self.run = QuizRun(predictions)
        super().__init__(frame=self.run.frame())
        self.on_msg(self._receive)

    def answer(self, option: int) -> str:
        """Choose option 1 to 4 and reveal; gives the card in words."""
        return self._do({"do": "reveal", "choice": option - 1})

    def next(self) -> str:
        return self._do({"do": "next"})

    def describe(self) -> str:
        return self.run.describe()

    def _do(self, message: dict[str, Any]) -> str:
        self.run.handle(message)
        self.frame = self.run.frame()
        return self.describe()

    def _receive(self, _: Any, content: dict[str, Any], __: list[bytes]) -> None:
        self._do(content)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return ({**data, "text/plain": self.describe()} if data else data), metadata
