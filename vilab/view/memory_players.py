"""Charts of a host's memory, and sliders to act on it, in a notebook. Needs Jupyter.

The player's module with ``memory_knobs.js`` behind it: the page knows sliders, the rest is as in every lesson.
"""

from __future__ import annotations

from typing import Any

from vilab.view.memory_chart import ChartTrack
from vilab.view.memory_knobs import KnobPlayback, Turnable
from vilab.view.memory_pressure import PRESSURE, PressureTrack
from vilab.view.memory_tax import TaxLive, TaxSteps, figure_7
from vilab.view.memory_track import MemoryTrack
from vilab.view.playback import Ask
from vilab.view.widget import HERE, STYLE, Player

PLAYERS_EXPORT = "export default { render };"


def module() -> str:
    """``player.js`` without its export, and the knobs' module, which has one."""
    player, knobs = ((HERE / name).read_text(encoding="utf-8") for name in ("player.js", "memory_knobs.js"))
    return player.replace(PLAYERS_EXPORT, "") + "\n" + knobs


class KnobPlayer(Player):
    """A player with sliders.

    Parameters
    ----------
    track : one of ``ChartTrack``, ``PressureTrack``, ``TaxSteps``, ``TaxLive``.
    ask : position to the prediction that stands before the next step.
    """

    _esm = module()  # type: ignore[assignment]
    _css = STYLE + (HERE / "memory_knobs.css").read_text(encoding="utf-8")

    def __init__(self, track: Turnable, ask: Ask | None = None, position: int = 0, **options: Any) -> None:
        self._busy = False
        super().__init__(KnobPlayback(track, ask, position), **options)
        memory = getattr(track, "memory", None)
        if isinstance(memory, MemoryTrack):
            memory.listen(self._follow)

    def turn(self, knob: str, to: float) -> str:
        """What the slider does; gives the text twin."""
        return self._do({"do": "turn", "knob": knob, "to": to})

    def _do(self, message: dict[str, Any]) -> str:
        self._busy = True
        try:
            return super()._do(message)
        finally:
            self._busy = False

    def _follow(self) -> None:
        if not self._busy:
            playback = self.playback
            assert isinstance(playback, KnobPlayback)
            playback.follow()
            self._publish()


class MemoryChart(KnobPlayer):
    """A host's memory over time: a stacked curve for each machine, and free memory between the states' thresholds."""

    def __init__(
        self, memory: MemoryTrack, question: str, steps: int, ask: Ask | None = None, rows: int = 0, **options: Any
    ) -> None:
        super().__init__(ChartTrack(memory, question, steps, rows), ask, memory.position, **options)


class MemoryPressure(KnobPlayer):
    """The chart with one slider that presses on the host."""

    def __init__(
        self, memory: MemoryTrack, question: str, steps: int, most_mb: int, ask: Ask | None = None, rows: int = 0,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(PressureTrack(memory, question, steps, most_mb, rows), ask, memory.position, **options)

    def press(self, megabytes: float) -> str:
        """Turn the slider there: a step passes."""
        return self.turn(PRESSURE, megabytes)


class MemoryTax(KnobPlayer):
    """The board of shares and tax, over a run, or with numbers of one's own (``MemoryTax.of_figure_7``)."""

    def __init__(
        self, memory: MemoryTrack | TaxSteps, question: str = "", steps: int = 0, ask: Ask | None = None, rows: int = 0,
        **options: Any,
    ) -> None:  # fmt: skip
        if isinstance(memory, TaxSteps):
            super().__init__(memory, ask, memory.now, **options)
        else:
            super().__init__(TaxLive(memory, question, steps, rows), ask, memory.position, **options)

    @classmethod
    def of_figure_7(cls, question: str, ask: Ask | None = None, **options: Any) -> MemoryTax:
        """The paper's two machines."""
        return cls(figure_7(question), ask=ask, **options)
