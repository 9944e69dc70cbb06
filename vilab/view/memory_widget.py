"""The grid of machine memory in a notebook. Needs Jupyter.

The player's module with ``memory_grid.js`` in front of it: the page knows the grid, the rest is as in every lesson.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vilab.view import still
from vilab.view.memory_grid_track import GridPlayback, GridTrack
from vilab.view.memory_track import MemoryTrack
from vilab.view.playback import Ask
from vilab.view.widget import HERE, STYLE, Player


def _source(*names: str) -> str:
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


class MemoryGrid(Player):
    """Plays a host's memory.

    Parameters
    ----------
    memory : the run. Other views may show it, too: all of them move together.
    question : the heading. steps : how far the slider reaches.
    ask : position to the prediction that stands before the next step.
    """

    _esm = _source("memory_grid.js", "player.js")  # type: ignore[assignment]
    _css = STYLE + _source("memory_grid.css")

    def __init__(
        self,
        memory: MemoryTrack,
        question: str,
        steps: int,
        ask: Ask | None = None,
        show: Sequence[str] = ("table", "log"),
        **options: Any,
    ) -> None:
        self._busy = False
        super().__init__(GridPlayback(GridTrack(memory, question, steps, show), ask, memory.position), **options)
        memory.listen(self._follow)

    @property
    def grid(self) -> GridTrack:
        playback = self.playback
        assert isinstance(playback, GridPlayback)
        return playback.track

    @property
    def memory(self) -> MemoryTrack:
        return self.grid.memory

    def only(self, name: str = "") -> str:
        """Show the frames of one machine; without a name: everybody's."""
        self.grid.only = name
        return self._show()

    def point(self, mpn: int) -> str:
        """Open the square of a frame and point at it; gives its sentence."""
        self.grid.point(mpn)
        self._show()
        found: str = self.playback.frame()["stage"]["grid"]["open"]["words"][self.grid.cursor]
        return found

    def close_square(self) -> str:
        self.grid.zoom(None)
        return self._show()

    def _show(self) -> str:
        self.playback._picture = None
        self._publish()
        return self.describe()

    def _do(self, message: dict[str, Any]) -> str:
        self._busy = True
        try:
            return super()._do(message)
        finally:
            self._busy = False

    def _follow(self) -> None:
        if not self._busy:
            playback = self.playback
            assert isinstance(playback, GridPlayback)
            playback.follow()
            self._publish()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if data and "image/svg+xml" in data:
            data["image/svg+xml"] = still.svg(self.grid.still(self.playback.position))
        return data, metadata
