"""What a student types, run at once: a field for x86, a choice of engine, and the player below them.

::

    [ cli            ]  engine [ Trap and emulate v ]  [Run]
    [ pushf          ]
      `pusf` is no instruction: line 2.                            <- an error is a sentence, in place

What turns text into a machine is given from above (the course); here is only what happens around it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from vilab.errors import AdminError, VilabError
from vilab.view.critical import name
from vilab.view.job import Work
from vilab.view.playback import Playback
from vilab.view.predict import Prediction
from vilab.view.run_track import RingsTrack, RunTrack, TranslationTrack, before_steps
from vilab.view.tables_track import TablesTrack
from vilab.view.words import html
from vilab.vmm.records import Steppable, StepRecord

Make = Callable[[str, str], "Steppable | Work[Steppable]"]
"""(text, engine) to a run, or to the work that ends in one. Errors of the text are ``AdminError``."""

PICTURES: dict[str, type[RunTrack]] = {
    "rings": RingsTrack, "translation": TranslationTrack, "tables": TablesTrack,
}  # fmt: skip


class TypedPlayback(Playback):
    """A playback whose track comes from what is typed.

    Parameters
    ----------
    make : assembles the text and gives the run.
    text, engine : what stands in the form at first; it is run at once.
    engines : the choice; ``names``: what to call those that have no name of their own.
    question : the heading.
    ask : the prediction before a step, as for ``run_track.before_steps``.
    picture : ``rings``, ``translation`` (under an engine other than ``bt`` there is nothing but rings) or ``tables``.
    """

    def __init__(
        self,
        make: Make,
        text: str,
        engine: str,
        engines: Sequence[str],
        question: str,
        picture: str = "rings",
        show: Sequence[str] = ("registers", "log"),
        ask: Callable[[Steppable, StepRecord], Prediction | None] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._make = make
        self._show = tuple(show)
        self._picture_name = picture
        self.engines = tuple(engines)
        self.text = text
        self.engine = engine
        self.error = ""
        self._ask = ask
        self._names = names or {}
        track = self._track_of(self._wait(make(text, engine)), question)
        super().__init__(track, before_steps(track, ask) if ask else None)

    def form(self) -> dict[str, Any]:
        """The form for the page."""
        return {
            "text": self.text,
            "engine": self.engine,
            "engines": [[engine, self._names.get(engine) or name(engine)] for engine in self.engines],
            "error": html(self.error),
        }

    def run(self, text: str, engine: str) -> None:
        """Assemble and start from the beginning. What cannot be assembled leaves the old run where it is."""
        self.text, self.engine, self.error = text, engine, ""
        if engine not in self.engines:
            self.error = f"There is no engine `{engine}` here."
            return
        try:
            made = self._make(text, engine)
        except VilabError as error:
            self.error = str(error)
            return
        if isinstance(made, Generator):
            self.load(made, self._start)
        else:
            self._start(made)

    def _start(self, run: Steppable) -> None:
        track = self._track_of(run, self.track.question)
        self.show(track)
        self.ask = before_steps(track, self._ask) if self._ask else None

    def failed(self, error: Exception) -> None:
        """What the text is to blame for stands under the text."""
        if isinstance(error, AdminError):
            self.error = str(error)
        else:
            super().failed(error)

    def handle(self, message: Mapping[str, Any]) -> None:
        if message.get("do") == "assemble":
            try:
                self.run(str(message.get("text", "")), str(message.get("engine", "")))
            except Exception as error:
                self.failed(error)
        else:
            super().handle(message)

    def describe(self) -> str:
        return self.error or super().describe()

    def _track_of(self, run: Steppable, question: str) -> RunTrack:
        picture = self._picture_name
        if picture == "translation" and run.engine != "bt":
            picture = "rings"
        return PICTURES[picture](run, question, self._show)

    @staticmethod
    def _wait(made: Steppable | Work[Steppable]) -> Steppable:
        if not isinstance(made, Generator):
            return made
        while True:
            try:
                next(made)
            except StopIteration as end:
                run: Steppable = end.value
                return run
