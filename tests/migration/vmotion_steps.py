"""A migration in one program whose every step can be met: something happens just then.

::

    moment    sent      the message is about to go onto the wire
              arrives   it is there, and nothing has been done with it; it is lost if the action says so
              taken     it was taken, and what it leads to was done: an answer is on the wire

    message   hello, Prepare, Pages, RoundEnd, last Pages, last RoundEnd, State, HandOver      from the source
              hello, Prepared, RoundTaken, last RoundTaken, Loaded, Runs                       from the destination

``last``: of the copy while the machine stands still. What is on the wire is frames of a session: ``hello`` is the
session's own; what was said before that is done (``Prepare``) leaves when the other side's hello has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import pytest

from tests.migration.vmotion_journey import At, Journey
from vilab.migration.agent_link import LinkEnd, MemoryLink
from vilab.migration.options import MigrationOptions
from vilab.migration.vmotion import GIGABIT, Migration
from vilab.protocols import ReadableBytes
from vilab.storage.vmfs.time import Timing

Moment = Literal["sent", "arrives", "taken"]
Way = Literal["out", "back"]
NEVER = 1 << 60
MS = 1_000_000
TENTH = Timing(300 * MS, 1_600 * MS, 100 * MS, MS // 2, 3_000 * MS)
"""Times of the volume: a tenth of the true ones. Who is silent for 1.6 s may be taken for dead."""
PATIENCE_NS = 400 * MS
OUT = ("hello", "Prepare", "Pages", "RoundEnd", "last Pages", "last RoundEnd", "State", "HandOver")
BACK = ("hello", "Prepared", "RoundTaken", "last RoundTaken", "Loaded", "Runs")
MESSAGES: tuple[tuple[Way, str], ...] = (*(("out", each) for each in OUT), *(("back", each) for each in BACK))


class Step(NamedTuple):
    """``number``: the how manieth message of that kind, from 1."""

    moment: Moment
    way: Way
    message: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.message} {self.moment}"


Bytes = Callable[[bytes, int], bytes]


class Steps:
    """A migration from ``journey.here`` to ``journey.there``. ``step``: where ``action`` is called, once.

    An action that returns ``True`` at ``arrives`` has lost the message.
    """

    def __init__(
        self, journey: Journey, step: Step | None, action: Callable[[Steps], object], patience_ns: int,
        post_copy: bool = False,
    ) -> None:  # fmt: skip
        self.journey, self.step, self.action = journey, step, action
        self.reached = False
        """The step was there, and the action was called."""
        self.met: list[Step] = []
        """Every step there was, in order."""
        self.sizes: dict[tuple[Way, str], int] = {}
        """Of the last message of this kind, in bytes on the wire."""
        self._saying = ""
        self._counts: dict[tuple[Moment, Way, str], int] = {}
        clock, names = journey.lab.clock, (journey.here.name, journey.there.name)
        self.link = MemoryLink(clock, GIGABIT, names)
        self._spoil: dict[Way, At] = {}
        self._watch_end("out", self.link.a)
        self._watch_end("back", self.link.b)
        options = MigrationOptions(patience_ns=patience_ns, post_copy=post_copy)
        self.migration = Migration(journey.here, journey.vm, journey.there, options=options, link=self.link)
        self.migration.destination._patience_ns = patience_ns
        self._watch_port()
        self._watch_taking("out", self.migration.destination)
        self._watch_taking("back", self.migration.source)

    @property
    def at(self) -> Step:
        assert self.step is not None
        return self.step

    # --- hooks --------------------------------------------------------------------------------------------------------

    def _name(self, way: Way, message: msgspec.Struct) -> str:
        kind = type(message).__name__
        last = kind in ("Pages", "RoundEnd", "RoundTaken") and self.migration.source.hosted.stunned
        return f"last {kind}" if last else kind

    def meet(self, moment: Moment, way: Way, message: str) -> object:
        key = moment, way, message
        number = self._counts[key] = self._counts.get(key, 0) + 1
        step = Step(moment, way, message, number)
        self.met.append(step)
        if step != self.step or self.reached:
            return None
        self.reached = True
        return self.action(self)

    def _watch_end(self, way: Way, end: LinkEnd) -> None:
        send = end.send

        def watched(buffers: Iterable[ReadableBytes]) -> None:
            data = list(buffers)
            message = self._saying or ("hello" if not end.sent_bytes else "Prepare" if way == "out" else "refusal")
            size = sum(memoryview(part).nbytes for part in data)
            self.sizes[way, message] = size
            self.meet("sent", way, message)
            send(data)

        self._spoil[way] = At(end, NEVER, lambda data, _at: data)
        setattr(end, "send", watched)  # noqa: B010

    def _watch_port(self) -> None:
        here, destination = self.migration._here, self.migration.destination

        def saying(way: Way, send: Callable[..., Any]) -> Callable[..., Any]:
            def watched(message: msgspec.Struct, body: Sequence[ReadableBytes] = ()) -> Any:
                before, self._saying = self._saying, self._name(way, message)
                try:
                    return send(message, body)
                finally:
                    self._saying = before

            return watched

        setattr(here, "send", saying("out", here.send))  # noqa: B010
        destination._send = saying("back", destination._send)

    def _watch_taking(self, way: Way, side: Any) -> None:
        received = side.received

        def watched(message: msgspec.Struct, *more: Any) -> None:
            name = self._name(way, message)
            if self.meet("arrives", way, name):
                return
            before, self._saying = self._saying, ""
            try:
                received(message, *more)
            finally:
                self._saying = before
            self.meet("taken", way, name)

        side.received = watched

    # --- what an action may do ----------------------------------------------------------------------------------------

    def spoil(self, change: Bytes, byte: int) -> None:
        """At this byte of the message that is about to be sent."""
        step = self.at
        end = self.link.a if step.way == "out" else self.link.b
        spoil = self._spoil[step.way]
        arrived = NEVER - spoil.left
        spoil.left, spoil.action = end.sent_bytes + byte - arrived, change

    @property
    def spoilt(self) -> bool:
        return self._spoil[self.at.way].done

    def was(self, moment: Moment) -> bool:
        """Has the message of the step come so far?"""
        return self.at._replace(moment=moment) in self.met

    def run(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        for _ in self.migration.steps():
            meanwhile()

    def close(self) -> None:
        self.migration._here.close()


def in_tenths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for a machine's locks again does that in the volume's time. Quanta are longer, for the tests' sake."""
    for name, ns in (("INTERVAL_NS", 500 * MS), ("PATIENCE_NS", 6_000 * MS)):
        monkeypatch.setattr(f"vilab.migration.source.{name}", ns)
    monkeypatch.setattr("vilab.migration.vmotion.STUNNED_QUANTUM_NS", MS)


def begin(journey: Journey, step: Step | None, action: Callable[[Steps], object]) -> Steps:
    journey.put_note()
    return Steps(journey, step, action, PATIENCE_NS)


def go(steps: Steps, until: Callable[[], bool] = lambda: False, pages: int = 1) -> None:
    """To its end; so many pages of its memory are written meanwhile, and left for the last copy."""
    migration = steps.migration
    pmap = migration.source.hosted.client.pmap
    while not (migration.over or until()):
        if migration.source.phase == "copying" and migration.source.host.vms.get("web") is migration.source.hosted:
            for ppn in range(5, 5 + pages):
                pmap.write(ppn << 12, bytes(pmap.page(ppn))[:1])
        migration.step()
    if migration.over:
        steps.close()
