"""A host's memory, step by step: what pictures and charts of one run are drawn from.

::

    frames    0 ── 1 ── 2 ── 3 ── 4 ── 5        recorded, and never changed afterwards
                        ^              ^
                    position         newest: where the host stands; only from here time goes on
              back, step, seek       step, act

    track = MemoryTrack(host, step_ns=1_000_000_000)     frame 0 is the host as it is
    track.step()  track.back()  track.seek(3)  track.run(60)     move; each answers with the frame that is shown
    track.peek()     the frame that the next step will show: for predictions
    track.set_tax(0.5)  track.set_shares("vm1", "high")          act; ``act(words, what)`` for anything else
    track.set_pressure(2560)   track.power_on(...)  track.power_off("vm1")
    track.frame      the ``MemoryFrame`` shown         track.frames   all of them, for curves
    track.listen(f)  f() after each move or action, so that several views of one track move together

What has been recorded is shown again when one goes back; the host itself cannot. Whoever acts while the past is shown
acts on the newest moment: the track goes there first, and ``track.notice`` says so. An action changes nothing that is
drawn by itself: what it does belongs to the steps that follow, and their frames name it in ``actions``.

Pressure is memory that the vmkernel takes for itself, page by page, as far as there are free ones: the machine that
is left for the guests is smaller by it (``total_pages``), and the thresholds with it.
MODEL: in life it is the next virtual machine that presses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from vilab.errors import AdminError
from vilab.events import Event
from vilab.guests.image import LoadedImage
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.memory.client import MemoryConfig
from vilab.view.memory_frame import MemoryFrame, capture

MOST_STEPS = 2_000
"""Longer runs are refused: every step is kept."""


@dataclass
class _Pending:
    """What has happened since the newest frame."""

    events: list[Event]
    actions: list[str]


class MemoryTrack:
    """A host that is run in steps and remembered.

    Parameters
    ----------
    host : stands where it stands; that is frame 0. Nobody else may run it from now on.
    step_ns : virtual time of a step.
    plan : what is done at the beginning of which step, 1 is the first: ``{5: lambda track: track.power_off("vm1")}``.
        What is refused there does not end the run.
    """

    def __init__(self, host: Host, step_ns: int, plan: Mapping[int, Callable[[MemoryTrack], object]] = {}) -> None:
        self.host, self.step_ns, self.plan = host, step_ns, dict(plan)
        self.position = 0
        self.notice = ""
        """Why the picture is elsewhere than one would think, or what was refused; empty otherwise."""
        self.frames: list[MemoryFrame] = []
        self._wanted_pressure = 0
        self._planning = False
        self._pending = _Pending([], [])
        self._listeners: list[Callable[[], None]] = []
        host.log.listen(self._pending.events.append)
        self._record()

    # Where one is --------------------------------------------------------------------------------------------------

    @property
    def frame(self) -> MemoryFrame:
        """The moment that is shown."""
        return self.frames[self.position]

    @property
    def newest(self) -> MemoryFrame:
        return self.frames[-1]

    @property
    def at_newest(self) -> bool:
        return self.position == len(self.frames) - 1

    def listen(self, listener: Callable[[], None]) -> None:
        """Called after each move and action."""
        self._listeners.append(listener)

    # Moving --------------------------------------------------------------------------------------------------------

    def step(self) -> MemoryFrame:
        """The next recorded moment, or time goes on."""
        self.notice = ""
        if self.at_newest:
            self._run_one()
        self.position += 1
        return self._moved()

    def back(self) -> MemoryFrame:
        return self.seek(self.position - 1)

    def seek(self, position: int) -> MemoryFrame:
        """A recorded moment; what is outside means the nearer end."""
        self.notice = ""
        self.position = max(0, min(position, len(self.frames) - 1))
        return self._moved()

    def run(self, steps: int) -> MemoryFrame:
        """Let so many steps pass from the newest moment on, and show the last."""
        self.notice = ""
        for _ in range(steps):
            self._run_one()
        self.position = len(self.frames) - 1
        return self._moved()

    def peek(self) -> MemoryFrame:
        """The moment after the one that is shown, without showing it: for who has to judge a prediction."""
        if self.at_newest:
            self._run_one()
        return self.frames[self.position + 1]

    # Acting, at the newest moment ------------------------------------------------------------------------------------

    def act(self, words: str, what: Callable[[Host], object]) -> str:
        """Do something to the host now. Returns ``notice``. An ``AdminError`` is raised on: nothing was changed.

        words : for the log of the run: ``idle tax 75 % → 0 %``.
        """
        if not self._planning:
            self.notice = "" if self.at_newest else f"That was {self._ago()}: what you change, changes now."
            self.position = len(self.frames) - 1
        what(self.host)
        self._pending.actions.append(words)
        if not self._planning:
            self._moved()
        return self.notice

    def set_tax(self, tax: float) -> str:
        """Mem.IdleTax, 0 to less than 1."""
        was = self.host.memory.reclaimer.tax
        return self.act(f"idle tax {was:.0%} → {tax:.0%}", lambda host: host.memory.reclaimer.set_tax(tax))

    def set_shares(self, name: str, shares: str | int) -> str:
        """``low``, ``normal``, ``high`` or a number."""
        client = self._vm(name).client
        config = msgspec.structs.replace(client.config, shares=shares)
        words = f"{name}'s shares {client.config.shares} → {shares}"
        return self.act(words, lambda host: host.memory.configure(client, config))

    def set_pressure(self, pages: int) -> str:
        """So many pages are to be the vmkernel's own; they are taken as they become free."""
        words = f"pressure {self._wanted_pressure / 256:g} → {pages / 256:g} MB"
        self._wanted_pressure = max(0, pages)
        return self.act(words, lambda host: self._press())

    def power_on(self, name: str, image: LoadedImage, config: MemoryConfig, **options: Any) -> str:
        """As ``Host.power_on``."""
        return self.act(f"{name} on", lambda host: host.power_on(name, image, config, **options))

    def clone(self, name: str, *names: str) -> str:
        """More machines like this one as it is now."""
        hosted = self._vm(name)
        return self.act(f"{', '.join(names)} cloned from {name}", lambda host: host.clone(hosted, *names))

    def power_off(self, name: str) -> str:
        hosted = self._vm(name)
        return self.act(f"{name} off", lambda host: host.power_off(hosted))

    # Within ----------------------------------------------------------------------------------------------------------

    def _vm(self, name: str) -> HostedVm:
        hosted = self.host.vms.get(name)
        if hosted is None:
            raise AdminError(
                f"There is no virtual machine {name} on {self.host.name}. These are on: {', '.join(self.host.vms)}."
            )
        return hosted

    def _ago(self) -> str:
        return f"{(self.newest.at_ns - self.frame.at_ns) / 1e9:g} s ago"

    def _moved(self) -> MemoryFrame:
        for listener in self._listeners:
            listener()
        return self.frame

    def _run_one(self) -> None:
        if len(self.frames) > MOST_STEPS:
            raise AdminError(f"This run has {MOST_STEPS} steps, and all of them are kept. Begin a new one.")
        planned = self.plan.get(len(self.frames))
        if planned is not None:
            self._planning = True
            try:
                planned(self)
            except AdminError as error:
                self._pending.actions.append(str(error))
            finally:
                self._planning = False
        self._press()
        self.host.run_for(self.step_ns)
        self._record()

    def _press(self) -> None:
        self.host.memory.keep(self._wanted_pressure)

    def _record(self) -> None:
        pending = self._pending
        self.frames.append(capture(self.host, len(self.frames), pending.events, pending.actions))
        pending.events.clear()
        pending.actions.clear()
