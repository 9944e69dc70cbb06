"""What a person can turn while a host runs: a strip of sliders under the question, and the playback that hears them.

::

    page --- {"do": "turn", "knob": "tax", "to": 50} ---> track.turn("tax", 50)
    page <-- frame()["knobs"] = [{name, label, least, most, step, value, words}, ...]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from vilab.errors import AdminError
from vilab.view.frame import Track
from vilab.view.playback import Ask, Playback


class Knob(msgspec.Struct, frozen=True):
    """One slider. ``words`` stand beside it and are its value for those who listen: ``75 %``, ``12 MB``.

    ``waits``: it is worth sending only where it was let go, as the host then runs.
    """

    name: str
    label: str
    least: float
    most: float
    step: float
    value: float
    words: str
    waits: bool = False


class Turnable(Track, Protocol):
    """A track with knobs. ``now``: the position that belongs to what is shown by whoever else moves the model."""

    @property
    def now(self) -> int: ...

    def knobs(self) -> Sequence[Knob]: ...

    def turn(self, name: str, to: float) -> None:
        """Raises ``AdminError``: refused, and nothing has changed."""
        ...


class KnobPlayback(Playback):
    """A playback whose page may also turn a knob."""

    track: Turnable

    def __init__(self, track: Turnable, ask: Ask | None = None, position: int = 0) -> None:
        super().__init__(track, ask, position)

    def handle(self, wish: Mapping[str, Any]) -> None:
        if wish.get("do") != "turn":
            super().handle(wish)
            return
        try:
            self.turn(str(wish.get("knob")), float(wish.get("to", 0)))
        except Exception as error:
            self.failed(error)

    def turn(self, name: str, to: float) -> None:
        """Turn a knob; a question that is open is closed."""
        knob = next((each for each in self.track.knobs() if each.name == name), None)
        if knob is None:
            known = ", ".join(each.name for each in self.track.knobs()) or "none"
            raise AdminError(f"There is no knob {name!r} here. There are: {known}.")
        self.asked = self.notice = None
        self.track.turn(name, max(knob.least, min(knob.most, to)))
        self.follow()

    def follow(self) -> None:
        """Somebody else has moved the model, or acted on it."""
        self.position = self.track.now
        self._picture = None

    def frame(self) -> dict[str, Any]:
        made = super().frame()
        made["knobs"] = [msgspec.to_builtins(knob) for knob in self.track.knobs()]
        return made
