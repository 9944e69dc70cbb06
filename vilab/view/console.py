"""The serial console of a guest that is running, and what its monitor does meanwhile. Needs Jupyter.

::

    under [ bt v ]  [Switch on]  [Pause]     1,204 ms of virtual time, running
    ┌────────────────────────────────────────────────────────────────────────┐
    │ [    0.000000] Hypervisor detected: VMware                             │
    │ vilab# _                                                               │
    ├────────────────────────────────────────────────────────────────────────┤
    │ type  uname -a                                                         │
    └────────────────────────────────────────────────────────────────────────┘
    exits a millisecond, by reason            hottest fragments

The guest runs in slices of the kernel's idle time, so the notebook stays alive. Nothing runs before somebody presses
the button, and text twin and console say the same without a page.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import anywidget
import traitlets

from vilab.errors import VilabError
from vilab.view import markup
from vilab.view.critical import name as engine_name
from vilab.view.exits import WHY, Moment
from vilab.view.frame import Cell, Panel, Row
from vilab.view.words import NBSP, counted, duration, grouped, html, plain

HERE = Path(__file__).parent
STYLE = "\n".join(
    (HERE / name).read_text(encoding="utf-8") for name in ("tokens.css", "stage.css", "views.css", "console.css")
)
SLICE_S, PUBLISH_EVERY = 0.1, 3
SCREEN_CHARACTERS, REASONS, RECENT = 20_000, 6, 25
OFF = "The machine is off. Press Switch on to boot it."


class Place(Protocol):
    """Where a guest is often."""

    address: int
    share: float
    code: tuple[str, ...]


class Guest(Protocol):
    """What can be looked at while it runs; ``vilab.course.live_guest`` has one."""

    engine: str
    moments: list[Moment]

    @property
    def title(self) -> str: ...
    @property
    def waiting(self) -> bool: ...
    @property
    def ending(self) -> str: ...
    @property
    def virtual_ns(self) -> int: ...
    @property
    def exits(self) -> Counter[str]: ...
    @property
    def serial(self) -> str: ...
    def type(self, text: str) -> None: ...
    def advance(self, seconds: float) -> None: ...
    def hottest(self) -> Sequence[Any]: ...
    def close(self) -> None: ...


class LiveConsole(anywidget.AnyWidget):
    """A guest to switch on and to type to.

    Parameters
    ----------
    make : an engine's name to a guest that is off.
    engines : the choice, the first is the usual one.
    note : a sentence about the guest that only the page shows.
    """

    _esm = HERE / "console.js"
    _css = STYLE

    question = traitlets.Unicode().tag(sync=True)
    heading = traitlets.Unicode().tag(sync=True)
    engines: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    frame = traitlets.Dict().tag(sync=True)

    def __init__(self, make: Callable[[str], Guest], question: str, engines: Sequence[str], note: str = "") -> None:
        self.guest: Guest | None = None
        self._make = make
        self._note = note
        self._engine = engines[0]
        self._running = self._fresh = False
        self._error = ""
        self._pumping: asyncio.Task[None] | None = None
        super().__init__(
            question=plain(question), heading=html(question),
            engines=[[each, engine_name(each).lower()] for each in engines], frame={},
        )  # fmt: skip
        self._publish()
        self.on_msg(self._receive)

    # What a person can do

    def start(self, engine: str = "") -> None:
        """Switch on, or go on after a pause. A guest that has ended, or another engine, begins anew."""
        self._error = ""
        engine = engine or self._engine
        if self.guest is None or self.guest.ending or engine != self.guest.engine:
            if engine not in [each for each, _ in self.engines]:
                self._error = f"There is no engine {engine} here."
                return
            if self.guest is not None:
                self.guest.close()
                self.guest = None
            try:
                self.guest = self._make(engine)
            except VilabError as error:
                self._error = str(error)
                return
            self._engine, self._fresh = engine, True
        self._running = True
        self._pump()

    def stop(self) -> None:
        self._running = False

    def type(self, line: str) -> None:
        """One line for the guest, and go on."""
        if self.guest is None or self.guest.ending:
            return
        self.guest.type(line + "\n")
        self._running = True
        self._pump()

    def finish(self) -> str:
        """Wait until it waits for a line, or has ended; for those who have no page."""
        while self._running and self.guest is not None and not self._rests():
            self._work_on(1.0)
        self._publish()
        return self.describe()

    def describe(self) -> str:
        return plain(self._say())

    # Running in pieces

    def _rests(self) -> bool:
        return self.guest is None or self.guest.waiting or bool(self.guest.ending)

    def _pump(self) -> None:
        """Without an event loop ``finish`` does it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._pumping is None or self._pumping.done():
            self._pumping = loop.create_task(self._go())

    async def _go(self) -> None:
        turn = 0
        while self._running and not self._rests():
            self._work_on(SLICE_S)
            turn += 1
            if turn % PUBLISH_EVERY == 0:
                self._publish()
            await asyncio.sleep(0.002)
        self._running = False
        self._publish()

    def _work_on(self, seconds: float) -> None:
        assert self.guest is not None
        try:
            self.guest.advance(seconds)
        except Exception as error:
            self._running = False
            self._error = f"{type(error).__name__}: {error}"

    def _receive(self, _: Any, content: Mapping[str, Any], __: list[bytes]) -> None:
        what = content.get("do")
        if what == "start":
            self.start(str(content.get("engine", "")))
        elif what == "stop":
            self.stop()
        elif what == "type":
            self.type(str(content.get("line", "")))
        self._publish()

    # What is on the page

    @property
    def state(self) -> str:
        """``off``, ``running``, ``waiting`` (for a line), ``paused`` or ``ended``."""
        if self.guest is None:
            return "off"
        if self.guest.ending:
            return "ended"
        if self.guest.waiting:
            return "waiting"
        return "running" if self._running else "paused"

    def _publish(self) -> None:
        state, guest = self.state, self.guest
        when = ""
        if guest is not None:
            words = {"waiting": "waits for a line", "ended": guest.ending}.get(state, state)
            when = f"<b>{duration(guest.virtual_ns)}</b><span class='soft'>virtual time; {html(words)}</span>"
        say = self._say()
        self.frame = {
            "state": state, "engine": self._engine, "note": html(self._note), "when": when, "say": html(say),
            "twin": plain(say), "screen": guest.serial[-SCREEN_CHARACTERS:] if guest is not None else "",
            "fresh": self._fresh, "button": _button(state),
            "figures": markup.panels((self._rates(guest), self._fragments(guest))) if guest is not None else "",
        }  # fmt: skip
        self._fresh = False

    def _say(self) -> str:
        if self._error:
            return self._error
        guest = self.guest
        if guest is None:
            return OFF
        exits = guest.exits
        total = sum(exits.values())
        words = f"{guest.title} under {guest.engine}, {duration(guest.virtual_ns)}: {counted(total, 'exit')}"
        if not total:
            return f"{words}."
        reason, count = exits.most_common(1)[0]
        return f"{words}, most often **{reason}** ({100 * count / total:.0f}{NBSP}%)."

    @staticmethod
    def _rates(guest: Guest) -> Panel:
        """Exits a millisecond of virtual time, in the last slices."""
        recent = guest.moments[-RECENT:]
        before = guest.moments[-RECENT - 1].virtual_ns if len(guest.moments) > RECENT else 0
        ms = max((recent[-1].virtual_ns - before) / 1e6, 1e-6) if recent else 1.0
        now: Counter[str] = Counter()
        for moment in recent:
            now.update(moment.exits)
        rows = []
        for reason, count in guest.exits.most_common(REASONS):
            rate = now[reason] / ms
            cells = (
                Cell(reason, "mono"), Cell(WHY.get(reason, ""), "soft"),
                Cell(f"{rate:,.1f}" if rate < 10 else f"{rate:,.0f}", "r"), Cell(grouped(count), "r"),
            )  # fmt: skip
            rows.append(Row(cells, "now" if now and reason == now.most_common(1)[0][0] else ""))
        head = (Cell("exit"), Cell(""), Cell("a ms now", "r"), Cell("so far", "r"))
        return Panel("Exits by reason", head, tuple(rows), empty="There is no monitor to come to.")

    @staticmethod
    def _fragments(guest: Guest) -> Panel:
        rows = tuple(
            Row((Cell(f"{hot.address:08x}", "mono c-guest"), Cell("; ".join(hot.code), "mono clip"),
                 Cell(f"{100 * hot.share:.1f}{NBSP}%", "r")))
            for hot in guest.hottest()
        )  # fmt: skip
        head = (Cell("fragment"), Cell("begins with"), Cell("of samples", "r"))
        return Panel("Hottest fragments", head, rows, empty="No sample yet.")

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return ({**data, "text/plain": self.describe()} if data else data), metadata


def _button(state: str) -> str:
    return {"off": "Switch on", "ended": "Switch on anew"}.get(state, "Go on")
