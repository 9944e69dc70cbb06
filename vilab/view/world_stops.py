"""One packet's way through the worlds, as steps: the events of a run between one send and the next.

::

    LanceAccessed ─> Crossed ─> WorldSwitched ─> Crossed ─> Worked ...      the log
    guest            VMM        VMDriver         VMApp                      the steps: who has control, and why

A crossing on which nothing happens is no step of its own; the path in the picture shows it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.events import Event, Halted, InterruptDelivered
from vilab.host.world_events import Crossed, FrameOnWire, HostInterrupted, LanceAccessed, Worked, WorldSwitched
from vilab.view.words import NBSP, grouped

LANES: tuple[tuple[str, str], ...] = (
    ("guest", "its kernel, driver of a Lance"), ("VMM", "ring 0, in its own world"),
    ("VMDriver", "ring 0, a driver of the host"), ("VMApp", "ring 3, a process of the host"),
    ("host kernel", "VMNet, driver of the real card"),
)  # fmt: skip
ESX_LANES: tuple[tuple[str, str], ...] = (*LANES[:2], ("vmkernel", "driver of the real card"))
CARD_VECTOR = 0x2B
"""Where the teaching kernel has IRQ 11."""


class Stop(msgspec.Struct, frozen=True):
    """One step. ``lane``: who has control after it. ``name``: what stands beside the lane. ``kind``: ``access``,
    ``switch``, ``work``, ``interrupt``, ``wire``, ``halt``. ``ns``: what it takes. ``switches``: how many so far."""

    lane: str
    name: str
    say: str
    kind: str
    at_ns: int
    ns: int
    switches: int

    @property
    def end_ns(self) -> int:
        return self.at_ns + self.ns


def us(ns: float) -> str:
    return f"{ns / 1000:.1f}{NBSP}µs"


def stops(events: Sequence[Event]) -> list[Stop]:
    """The steps of a log."""
    kept = [
        each for each in events
        if isinstance(each, LanceAccessed | WorldSwitched | Crossed | Worked | HostInterrupted | FrameOnWire | Halted)
        or (isinstance(each, InterruptDelivered) and each.vector == CARD_VECTOR)
    ]  # fmt: skip
    made: list[Stop] = []
    switches = 0
    why = ""
    for event in kept:
        if isinstance(event, Crossed):
            why = event.why
        elif isinstance(event, WorldSwitched):
            switches += 1
            made.append(_switch(event, switches))
        elif isinstance(event, LanceAccessed):
            made.append(_access(event, switches))
        elif isinstance(event, Worked):
            made.append(_work(event, why, switches))
        elif isinstance(event, FrameOnWire):
            lane = made[-1].lane if made else "host kernel"
            made.append(_wire(event, lane, switches))
        elif isinstance(event, HostInterrupted):
            made.append(_interrupt(event, made[-1].lane if made else "guest", switches))
        elif isinstance(event, Halted):
            say = "The guest has nothing to do and halts. The VMM keeps the processor."
            made.append(Stop("guest", "hlt", say, "halt", event.at_ns, 0, switches))
        else:
            say = "The VMM has raised the **virtual interrupt**, and the guest's handler begins: something was sent."
            made.append(Stop("guest", "virtual interrupt", say, "interrupt", event.at_ns, 0, switches))
    return made


def _access(event: LanceAccessed, switches: int) -> Stop:
    name = f"{event.register} {'←' if event.write else '→'} {event.value:04x}"
    if event.register == "RAP":
        say = f"The guest writes the **address register**: `CSR{event.value}` comes next. It only latches that."
    elif event.sends:
        say = f"The guest writes the **data register**, `{event.register}`: TDMD, **send now**. That needs a real card."
    elif event.write:
        say = f"The guest writes the **data register**, `{event.register}`: I know why you interrupt, lower your line."
    else:
        say = f"The guest reads the **data register**, `{event.register}`: why is there an interrupt?"
    where = {"VMM": "The VMM can do that.", "VMApp": "The VMM leaves it to the VMApp."}.get(event.done_in, "")
    return Stop("guest", name, f"{say} {where}", "access", event.at_ns, 0, switches)


_REASONS = {
    "I/O": "for the guest's access", "backlog": "too many frames wait", "interrupt": "for the host's interrupt",
    "look": "so that the VMApp can look for frames", "idle": "frames wait, and the guest is idle",
}  # fmt: skip


def _switch(event: WorldSwitched, number: int) -> Stop:
    way = "into the host's world" if event.to == "VMDriver" else "back into the VMM's world"
    what = "all that is in the processor is exchanged, " if number == 1 else ""
    say = f"**World switch {number}**, {way}, {_REASONS[event.why]}: {what}{us(event.ns)}."
    name = "as if interrupted here" if event.why == "interrupt" and event.to == "VMDriver" else ""
    return Stop(event.to, name, say, "switch", event.at_ns, event.ns, number)


def _work(event: Worked, why: str, switches: int) -> Stop:
    where = {"host kernel": "The host's kernel", "vmkernel": "The vmkernel"}.get(event.where, f"The {event.where}")
    call = f", for the VMApp's `{why}`" if why.endswith("()") and event.where == "host kernel" else ""
    takes = us(event.ns) if event.ns else "a few instructions"
    say = f"{where} {event.what}{call}: {takes}."
    return Stop(event.where, event.what, say, "work", event.at_ns, event.ns, switches)


def _wire(event: FrameOnWire, lane: str, switches: int) -> Stop:
    size = f"{grouped(len(event.frame))} bytes"
    word, say = "sent", f"**The real card has the frame**, {size}."
    if not event.sent:
        word, say = "came", f"A frame has come, {size}."
    return Stop(lane, f"{word}, {size}", say, "wire", event.at_ns, 0, switches)


def _interrupt(event: HostInterrupted, lane: str, switches: int) -> Stop:
    who = "The VMM's world has the processor: it has no driver for that card." if event.switched else ""
    say = f"The host's card interrupts: a frame was **{event.what}**. {who}".rstrip()
    return Stop(lane, f"interrupt: {event.what}", say, "interrupt", event.at_ns, 0, switches)


def summary(made: Sequence[Stop]) -> str:
    """``8 world switches, 76.8 µs``"""
    switches = made[-1].switches if made else 0
    return f"{switches} world switch{'' if switches == 1 else 'es'}, {us(sum(stop.ns for stop in made))}"
