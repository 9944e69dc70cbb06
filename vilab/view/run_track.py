"""A run of the machine as something that can be played: which beats there are, and what each of them shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from vilab.errors import GuestFault
from vilab.view import panels, rings, rings_draw, says, translation, translation_draw, translation_says
from vilab.view.beats import VMM, Beat, beats_of, ends_in_fault, truths_before, whole_steps
from vilab.view.cache import CacheHistory
from vilab.view.frame import Panel, Picture
from vilab.view.playback import Ask
from vilab.view.predict import Prediction
from vilab.view.silence import ReadDescriptor
from vilab.view.timeline import timeline
from vilab.view.words import duration, instruction, plain
from vilab.vmm.records import Registers, Steppable, StepRecord

PanelMaker = Callable[[Sequence[Beat], Sequence[StepRecord], int, tuple[Registers, Registers]], Panel]


def guest_descriptor(run: Steppable) -> ReadDescriptor:
    """Reads descriptors from the guest's own GDT, as it is now."""

    def read(selector: int) -> int | None:
        base, limit = run.start.gdtr_base, run.start.gdtr_limit
        if run.records:
            base, limit = run.records[-1].guest.gdtr_base, run.records[-1].guest.gdtr_limit
        if selector & 4 or selector < 8 or (selector | 7) > limit:
            return None
        try:
            return int.from_bytes(run.read_guest(base + (selector & ~7), 8), "little")
        except GuestFault:
            return None

    return read


class RunTrack:
    """What the rings picture and the translation picture have in common.

    Parameters
    ----------
    run : the machine; it is moved along with the picture.
    question : the heading, in the student's words.
    show : which panels stand below: ``truths``, ``registers``, ``log``.
    """

    def __init__(self, run: Steppable, question: str, show: Sequence[str] = ("truths", "log")) -> None:
        self.run = run
        self.question = question
        self.show = tuple(show)
        self.start = (run.start, run.start_cpu)
        self._beats: list[Beat] = []
        self._built = -1

    def make_beats(self, records: Sequence[StepRecord]) -> list[Beat]:
        return beats_of(records, self.start, guest_descriptor(self.run), self.run.engine)

    @property
    def beats(self) -> list[Beat]:
        records = self.run.records
        if len(records) != self._built:
            self._beats = self.make_beats(records)
            self._built = len(records)
        return self._beats

    @property
    def total(self) -> int:
        return len(self.beats)

    def go(self, position: int) -> None:
        """Move the machine to where it stands while that beat is shown."""
        wanted = self.beats[position - 1].position if position else 0
        if wanted == self.run.position + 1:
            self.run.step()
        elif wanted == self.run.position - 1:
            self.run.back()
        elif wanted != self.run.position:
            self.run.seek(wanted)

    def position_of_machine(self) -> int:
        """The beat that shows the machine as it stands now: the last one of the step it has just made."""
        at = self.run.position
        return max(
            (index + 1 for index, beat in enumerate(self.beats) if beat.position == at and beat.step < at), default=0
        )

    def open(self, row: int) -> None:
        """Rows of these pictures have nothing more to show."""

    def next_like(self, position: int, direction: int) -> int | None:
        beats = self.beats
        kind = beats[position - 1].kind if position else ""
        at = position + direction
        while 1 <= at <= len(beats):
            found = beats[at - 1].kind
            if found and (not kind or found == kind):
                return at
            at += direction
        return None

    def sentence(self, position: int) -> str:
        if not position:
            return self.nothing_yet()
        return says.say(self.beats[position - 1], self.run.records, self.start, self.run.engine)

    def nothing_yet(self) -> str:
        if not self.total:
            return f"**There is nothing to step through.** {self.run.ending}"
        return says.empty(self.run.start.eip)

    def describe(self, position: int) -> str:
        return plain(self.sentence(position))

    def marks(self, position: int) -> list[tuple[int, str]]:
        return [(index + 1, beat.kind) for index, beat in enumerate(self.beats[:position]) if beat.kind]

    def panels(self, position: int) -> tuple[Panel, ...]:
        beats, records = self.beats, self.run.records
        made: dict[str, Callable[[], Panel]] = {
            "truths": lambda: panels.two_truths(beats, records, position, self.start),
            "registers": lambda: panels.registers(beats, records, position, self.start),
            "log": lambda: panels.log(beats, records, position, self.run.engine),
        }
        return tuple(made[name]() for name in self.show)

    def when(self, position: int) -> str:
        return duration(self.beats[position - 1].at_ns if position else 0)

    def value_text(self, position: int) -> str:
        """``step 7 of 10, pushf, no trap, 4.1 µs``"""
        head = f"step {position} of {self.total}"
        if not position:
            return f"{head}, nothing has run yet"
        beat = self.beats[position - 1]
        record = self.run.records[beat.step]
        who = f"VMM for {record.mnemonic}" if beat.actor == VMM else instruction(record.mnemonic, record.operands)
        what = "no trap" if beat.wrong else beat.kind.replace("_", " ")
        return plain(", ".join(part for part in (head, who, what, self.when(position)) if part))

    def is_fault(self, position: int) -> bool:
        return bool(position) and self._ends_badly(position)

    def _ends_badly(self, position: int) -> bool:
        beat = self.beats[position - 1]
        return not beat.leaves and ends_in_fault(beat.events)

    def picture(self, position: int) -> Picture:
        raise NotImplementedError


def before_steps(track: RunTrack, ask: Callable[[Steppable, StepRecord], Prediction | None]) -> Ask:
    """Asks at the places where a step is about to be taken: the run stands before it, the record says what comes."""

    def at(position: int) -> Prediction | None:
        beats = track.beats
        if position >= len(beats) or (position and beats[position].step == beats[position - 1].step):
            return None
        return ask(track.run, track.run.records[beats[position].step])

    return at


class RingsTrack(RunTrack):
    """Control flow by ring (``rings``)."""

    def scene(self, position: int) -> rings.RingsScene:
        records = self.run.records
        lanes = rings.lanes_of(self.run.engine, rings.kernel_ring(records[:64], self.run.engine))
        return rings.scene(self.beats, records, position, lanes, self.sentence(position), self.run.start.eip)

    def picture(self, position: int) -> Picture:
        scene = self.scene(position)
        total = scene.total
        if total <= rings.WINDOW:
            line = timeline(self.marks(position), position, total, rings.LEFT, rings.RIGHT)
        else:
            line = timeline(self.marks(position), position, total, window=(scene.first, scene.first + rings.WINDOW))
        return Picture(
            position, total, self.when(position), scene.say, self.value_text(position), rings_draw.draw(scene), line,
            self.panels(position), self.is_fault(position),
        )  # fmt: skip


class TranslationTrack(RunTrack):
    """Guest code beside translated code, and the cache (``translation``). One step of the machine is one step here."""

    def __init__(self, run: Steppable, question: str, show: Sequence[str] = ()) -> None:
        super().__init__(run, question, show)
        self._history = CacheHistory(run.records)

    def make_beats(self, records: Sequence[StepRecord]) -> list[Beat]:
        self._history = CacheHistory(records)
        return whole_steps(records, self.start, guest_descriptor(self.run))

    def scene(self, position: int) -> translation.TranslationScene:
        beats, records = self.beats, self.run.records
        state = self._history.at(position)
        made = translation.scene(records, position, state, "", self.run.start.eip)
        return msgspec.structs.replace(made, say=self._say(position, beats, made))

    def sentence(self, position: int) -> str:
        return self.scene(position).say

    def _say(self, position: int, beats: Sequence[Beat], made: translation.TranslationScene) -> str:
        if not position:
            return self.nothing_yet()
        records = self.run.records
        record = records[position - 1]
        guest, _ = truths_before(records, position - 1, self.start)
        pair = next((pair for pair in made.pairs if pair.current), None)
        return translation_says.say(beats[position - 1], record, guest, pair)

    def picture(self, position: int) -> Picture:
        scene = self.scene(position)
        return Picture(
            position,
            scene.total,
            self.when(position),
            scene.say,
            self.value_text(position),
            translation_draw.draw(scene),
            timeline(self.marks(position), position, scene.total),
            self.panels(position),
            self.is_fault(position),
        )


class WaitingTrack:
    """What is on the page until there is a run: the frame of the picture, and what is being done."""

    def __init__(self, question: str, engine: str = "bt", what: str = "The run is being made ready.") -> None:
        self.question = question
        self.total = 0
        self._engine = engine
        self._what = what

    def go(self, position: int) -> None:
        """There is nowhere to go yet."""

    def open(self, row: int) -> None:
        """There are no rows."""

    def next_like(self, position: int, direction: int) -> int | None:
        return None

    def picture(self, position: int) -> Picture:
        line = timeline((), 0, 0, rings.LEFT, rings.RIGHT)
        return Picture(0, 0, "", self._what, self._what, rings_draw.frame_only(self._engine), line)
