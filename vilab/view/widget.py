"""The players as Jupyter widgets: a Python class, an ES module beside it, nothing to build.

``player.js`` draws what ``Playback.frame`` says and sends back what a person does; everything that can be decided is
decided here, so the machine moves with the picture and the page knows nothing of what comes next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vilab.view import still
from vilab.view.frame import Track
from vilab.view.playback import Ask, Playback
from vilab.view.words import html, plain

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
    lecture = traitlets.Bool(False).tag(sync=True)

    def __init__(self, track: Track, ask: Ask | None = None, position: int = 0, **traits: Any) -> None:
        self.playback = Playback(track, ask, position)
        super().__init__(
            question=plain(track.question), heading=html(track.question), frame=self.playback.frame(), **traits
        )
        self.on_msg(self._receive)

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
        self.frame = self.playback.frame()
        return self.describe()

    def _receive(self, _: Any, content: dict[str, Any], __: list[bytes]) -> None:
        self._do(content)
        self.send({"done": content.get("id")})

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if data:
            data = {**data, "text/plain": self.describe()}
            picture = still.svg(self.playback.picture())
            if picture:
                data["image/svg+xml"] = picture
        return data, metadata
