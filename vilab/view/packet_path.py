"""One packet on its way through a PCnet card, there and back: who has it, and what the guest has left its code for.

::

    guest, driver      frame in a buffer, OWN ━┓ ┏hlt               ┏━ INT  ┏━
    monitor                                    ┗━┛ RAP, CSR0: exits ┃   ┗━━━┛ CSR0: why?
    card, vlance                                 ┃                ┏━┛ INTA high
    memory, DMA                                  ┗┓ descriptor, ┏━┛ OWN <- 0
    port                                          ┗━━━ frame ━━━┛          one step an event, time to the right

``stops`` makes the steps out of a log in which each event has the rings beside it as they were at that moment;
``packet_path_draw`` draws them, ``PacketPathTrack`` plays them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from vilab.devices import pcnet_registers as r
from vilab.devices.adapter_events import AdapterInterrupt, DmaMoved
from vilab.devices.network_events import FrameFetched, FrameRefused, FrameStored
from vilab.events import Event, InterruptDelivered, PortRead, PortWritten, VmExit
from vilab.network.network_events import FrameForwarded
from vilab.view.frame_bytes_layers import sentence
from vilab.view.packet_path_rings import Rings, changes
from vilab.view.words import grouped, hex4, hex8

DRIVER, MONITOR, CARD, MEMORY, PORT = range(5)
LANES = (("guest: kernel, driver", 0), ("monitor", None), ("card, vlance", None), ("memory, by DMA", None),
         ("port of the card", None))  # fmt: skip
"""Name, and the guest's ring where it is the guest's."""
PIC_PORTS = (0x20, 0x21, 0xA0, 0xA1)
STATUS_BITS = ("ERR", "BABL", "CERR", "MISS", "MERR", "RINT", "TINT", "IDON", "INTR", "IENA", "RXON", "TXON", "TDMD",
               "STOP", "STRT", "INIT")  # fmt: skip
"""Of CSR0, bit 15 first."""


class Moment(msgspec.Struct, frozen=True):
    """An event with the rings as they were when it was logged."""

    event: Event
    rings: Rings


class Stop(msgspec.Struct, frozen=True):
    """One step. ``name`` stays beside the lane. ``exit``: the guest has left its code for it, because of the card
    (``card``), of the interrupt controllers (``pic``) or of something else (``other``). ``status``: CSR0, if seen."""

    lane: int
    name: str
    say: str
    at_ns: int
    rings: Rings
    kind: str = ""
    exit: str = ""
    status: int | None = None
    frame: bytes = b""


def status_words(value: int) -> str:
    """``INTR IENA RXON TXON``"""
    return " ".join(name for at, name in enumerate(STATUS_BITS) if value >> 15 - at & 1) or "nothing"


class _Reader:
    """Goes through the log. ``base``: the card's first I/O port."""

    def __init__(self, base: int) -> None:
        self.base, self.rap = base, 0
        self.made: list[Stop] = []
        self.fetching = True

    def add(self, moment: Moment) -> None:
        event, rings = moment.event, moment.rings
        before = self.made[-1].rings
        mine = [each for each in changes(before, rings) if isinstance(event, VmExit | PortWritten | PortRead)]
        if mine:
            self._stored(mine, moment)
        if isinstance(event, VmExit) and event.reason == "hlt":
            self._put(MONITOR, "hlt", "The guest has nothing else to do and halts: `hlt`, **an exit**, but not the "
                      "card's. From here on the card is alone.", moment, "exit", exit="other")  # fmt: skip
        elif isinstance(event, PortRead | PortWritten):
            self._access(event, moment)
        elif isinstance(event, DmaMoved):
            self._moved(event, moment)
        elif isinstance(event, FrameFetched):
            self._put(PORT, sentence(event.frame), f"The frame leaves: **{len(event.frame)} bytes**. "
                      f"{sentence(event.frame)}.", moment, "frame", frame=event.frame)  # fmt: skip
        elif isinstance(event, FrameStored):
            self._put(CARD, f"stored, {len(event.frame)} bytes", "The card notes the reason for an interrupt: RINT. "
                      "The frame is in memory, and nobody knows yet.", moment, frame=event.frame)  # fmt: skip
        elif isinstance(event, FrameRefused):
            self._put(PORT, f"refused: {event.why}", f"The card does not take a frame: **{event.why}**.", moment,
                      "error")  # fmt: skip
        elif isinstance(event, FrameForwarded):
            self._forwarded(event, moment)
        elif isinstance(event, AdapterInterrupt):
            self._pin(event, moment)
        elif isinstance(event, InterruptDelivered):
            self._put(DRIVER, f"interrupt, vector {event.vector:02x}", f"The interrupt arrives in the guest, vector "
                      f"`{event.vector:02x}`: its handler asks the card why.", moment, "interrupt")  # fmt: skip

    def _put(self, lane: int, name: str, say: str, moment: Moment, kind: str = "", *, exit: str = "",
             status: int | None = None, frame: bytes = b"") -> None:  # fmt: skip
        self.made.append(Stop(lane, name, say, moment.event.at_ns, moment.rings, kind, exit, status, frame))

    def _stored(self, mine: list[tuple[str, int, bool]], moment: Moment) -> None:
        """What the driver has done to the rings since the last event: stores to memory, that nobody notices."""
        for ring, at, to_card in mine:
            what = "to send" if ring == "send" else "to fill"
            say = (
                f"The driver sets the **OWN bit** of descriptor {at} in the {ring} ring: the card's, {what}. A store "
                "to memory: **no exit**, and the card does not notice."
                if to_card
                else f"Descriptor {at} of the {ring} ring is the driver's again."
            )
            self._put(DRIVER, f"{ring} ring {at}: OWN <- {int(to_card)}", say, moment)

    def _access(self, event: PortRead | PortWritten, moment: Moment) -> None:
        reads = isinstance(event, PortRead)
        how = "in" if reads else "out"
        if event.port in PIC_PORTS:
            self._put(MONITOR, f"{how} {event.port:02x}", f"`{how}` at port `{event.port:02x}`, **an exit**: the "
                      "interrupt controller is told that the interrupt has been dealt with.", moment, "exit",
                      exit="pic")  # fmt: skip
            return
        register = {0x10: f"CSR{self.rap}", 0x12: "RAP"}.get(event.port - self.base)
        if register is None:
            return
        if register == "RAP":
            self.rap = event.value & 0x7F
            say = f"**An exit**: `{how}` at `{hex4(event.port)}`. RAP <- {event.value}: the next access is for "
            self._put(MONITOR, f"RAP <- {event.value}", f"{say}CSR{event.value}. Nothing happens yet.", moment, "exit",
                      exit="card")  # fmt: skip
            return
        arrow = "->" if reads else "<-"
        self._put(MONITOR, f"{register} {arrow} {hex4(event.value)}", f"**An exit**: `{how}` at `{hex4(event.port)}`. "
                  f"{register} {arrow} `{hex4(event.value)}`, {status_words(event.value)}. {_why(reads, event.value)}",
                  moment, "exit", exit="card", status=event.value)  # fmt: skip

    def _moved(self, event: DmaMoved, moment: Moment) -> None:
        size, at = f"{grouped(event.size_bytes)} bytes", f"`{hex8(event.gpa)}`"
        if event.what == "data":
            way = "out of its buffer" if event.direction == "read" else "into its buffer, with the checksum behind it"
            name = f"frame {'<-' if event.direction == 'read' else '->'} {hex8(event.gpa)}"
            say = f"The card moves the frame, **{size}** at {at}, {way}. The processor has no part in it."
        elif event.direction == "read":
            name = f"descriptor <- {hex8(event.gpa)}"
            ring, number, owned = self._which(event.gpa, moment.rings)
            then = "it is the card's" if owned else "**not OWN**: nothing more to do"
            say = f"The card reads descriptor {number} of the {ring} ring by itself, {size} at {at}: {then}."
        elif event.size_bytes == 2:
            name = "OWN <- 0"
            say = f"The card writes the flags, {size} at {at}: **OWN <- 0**. The descriptor is the driver's again."
        else:
            name = f"message -> {hex8(event.gpa)}"
            say = f"The card writes how it went, {size} at {at}; OWN comes after it, so that the driver finds it whole."
        self._put(MEMORY, name, say, moment, "memory")

    def _which(self, gpa: int, rings: Rings) -> tuple[str, int, bool]:
        for ring, first, owners in (("send", rings.send_at, rings.send), ("receive", rings.receive_at, rings.receive)):
            if first <= gpa < first + 16 * len(owners):
                number = (gpa - first) // 16
                return ring, number, owners[number].card
        return "no", 0, False

    def _forwarded(self, event: FrameForwarded, moment: Moment) -> None:
        to = ", ".join(map(str, event.to_ports)) or "nowhere"
        say = f"{event.switch} carries it from its port {event.port} to port {to}. {sentence(event.frame)}."
        self._put(PORT, f"{event.switch}: port {event.port} to {to}", say, moment, "frame", frame=event.frame)

    def _pin(self, event: AdapterInterrupt, moment: Moment) -> None:
        if event.high:
            say = "The card raises its interrupt pin, INTA. It stays high until the driver has read why."
        else:
            say = "Every reason is acknowledged: the card lowers its pin."
        self._put(CARD, f"INTA {'high' if event.high else 'low'}", say, moment, "interrupt" if event.high else "")


def _why(reads: bool, value: int) -> str:
    if reads:
        reasons = [name for name, bit in (("a frame was sent", r.TINT), ("a frame has come", r.RINT),
                                          ("a frame was missed", r.MISS)) if value & bit]  # fmt: skip
        return f"Why has it interrupted? {' and '.join(reasons).capitalize() or 'No reason'}."
    if value & r.TDMD:
        return "TDMD: look at the send ring **now**. The only access that makes the card do something."
    return "Ones acknowledge reasons; IENA allows the next interrupt."


def stops(moments: Iterable[Moment], first: Rings, base: int, program: str) -> list[Stop]:
    """The steps of a log. ``first``: the rings before it. ``program``: what was typed."""
    reader = _Reader(base)
    began = Stop(
        DRIVER, program, f"A program asks for **{program}**. The kernel puts the frame into a buffer.", 0, first
    )
    reader.made.append(began)
    last = began
    for moment in moments:
        reader.add(moment)
        last = reader.made[-1]
    every, mine = exits(reader.made), exits(reader.made, "card")
    say = f"The kernel wakes the program: {program} is answered. **{every} exits**, {mine} of them for registers."
    reader.made.append(Stop(DRIVER, "the answer is there", say, last.at_ns, last.rings))
    return reader.made


def exits(made: Iterable[Stop], what: str = "") -> int:
    return sum(bool(stop.exit) and what in ("", stop.exit) for stop in made)


def transfers(made: Iterable[Stop]) -> int:
    return sum(stop.lane == MEMORY for stop in made)
