"""The run of lesson 15: one ping of the teaching kernel through its PCnet card, with the rings at every event.

::

    ping 10.0.0.1      program, IP, driver (pcnet.c)      the teaching kernel, kernel-network
    vlance             registers, DMA, rings              vilab/devices/pcnet_*
    10.0.0.5 ── cable ── vSwitch0 ── 10.0.0.1             vilab/network/small_network

    ``before``: a ping that nobody looks at, so that both sides know each other's addresses
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from vilab.clock import VirtualClock
from vilab.devices import pcnet_registers as r
from vilab.devices.pcnet_control import PcnetState
from vilab.errors import VmmBug
from vilab.events import Event, EventLog, PortRead, PortWritten, VmExit
from vilab.guests.load import load
from vilab.network.small_network import SmallNetwork
from vilab.view.packet_path import PIC_PORTS, Moment, Stop, stops
from vilab.view.packet_path_rings import Owner, Rings
from vilab.vmm.network import AttachedCard
from vilab.vmm.vm import QuietConsole, VirtualMachine

GUEST_MB = 8
SLOT = 24
ADDRESS, IP = bytes.fromhex("005056000005"), bytes((10, 0, 0, 5))
PROMPT = b"shell> "
SLICE_NS = 100_000
DESCRIPTOR_BYTES, OWN, LENGTH = 16, 1 << 31, 0xFFF


class PcnetGuest:
    """The teaching kernel at its prompt, with a PCnet card on a small network."""

    def __init__(self, engine: str = "svm") -> None:
        self.clock, self.log = VirtualClock(), EventLog()
        self.network = SmallNetwork(self.clock, self.log)
        self.console = QuietConsole()
        card = AttachedCard("vlance", self.network.connect("guest", ADDRESS), ADDRESS)
        self.vm = VirtualMachine(
            load("kernel-network", memory_bytes=GUEST_MB << 20, append="ip=10.0.0.5"), engine, GUEST_MB << 20,
            console=self.console, log=self.log, clock=self.clock, cards=(card,),
        )  # fmt: skip
        self.log.active = False
        self.run_until(lambda: self.console.output.endswith(PROMPT))

    @property
    def card(self) -> PcnetState:
        """The card's own state record, to be looked at."""
        state = self.vm.pc.cards[SLOT]._state
        assert isinstance(state, PcnetState)
        return state

    @property
    def base(self) -> int:
        """The card's first I/O port."""
        return next(first for _, first, _, is_memory in self.vm.pc.cards[SLOT].windows() if not is_memory)

    def type(self, line: str) -> str:
        """Type a line, run until the guest asks for the next one. What it has printed."""
        before = len(self.console.output)
        self.console.type(line)
        self.run_until(lambda: len(self.console.output) > before and self.console.output.endswith(PROMPT))
        return bytes(self.console.output[before:]).decode("ascii", "replace").removesuffix(PROMPT.decode())

    def run_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1_000_000):
            if condition():
                return
            ended = self.vm.engine.run(self.vm.engine.now_ns() + SLICE_NS)
            if ended is not None:
                raise VmmBug(f"The guest of this lesson has ended: {ended.sentence}")
        raise VmmBug("The guest of this lesson does not come to where it should.")

    def rings(self) -> Rings:
        """As they are in its memory now."""
        csr = self.card.csr
        places = []
        for base, length, counter in ((r.BADX, r.XMTRL, r.XMTRC), (r.BADR, r.RCVRL, r.RCVRC)):
            first, count = csr[base] | csr[base + 1] << 16, 0x10000 - csr[length]
            places.append((first, self._owners(first, count), max(csr[counter] - csr[length], 0)))
        (send_at, send, next_sent), (receive_at, receive, next_filled) = places
        return Rings(send, receive, next_sent, next_filled, send_at, receive_at)

    def _owners(self, first: int, count: int) -> tuple[Owner, ...]:
        raw = self.vm.pmap.read(first, DESCRIPTOR_BYTES * count)
        found = []
        for at in range(0, len(raw), DESCRIPTOR_BYTES):
            flags, message = (int.from_bytes(raw[at + n : at + n + 4], "little") for n in (4, 8))
            found.append(Owner(bool(flags & OWN), message & LENGTH if not flags & OWN else 0))
        return tuple(found)


class OnePacket:
    """``ping ADDRESS 1``, and everything from the first access to the card to the last.

    Parameters
    ----------
    line : what is typed. before : lines typed first, which nobody looks at.
    """

    def __init__(self, line: str = "ping 10.0.0.1 1", before: tuple[str, ...] = ("ping 10.0.0.1 1",)) -> None:
        self.line, self.before = line, before

    @cached_property
    def guest(self) -> PcnetGuest:
        guest = PcnetGuest()
        for line in self.before:
            guest.type(line)
        return guest

    @cached_property
    def moments(self) -> list[Moment]:
        """Cut to what belongs to the card."""
        guest, found = self.guest, []
        self.first = guest.rings()
        log = guest.log

        def note(event: Event) -> None:
            found.append(Moment(event, guest.rings()))

        log.listen(note)
        self.said = guest.type(self.line)
        log.listeners.remove(note)
        log.active = False
        return _of_the_card(found, guest.base)

    @cached_property
    def _stops(self) -> list[Stop]:
        moments = self.moments
        return stops(moments, self.first, self.guest.base, self.line.removesuffix(" 1"))

    def stops(self) -> list[Stop]:
        return self._stops


def _of_the_card(moments: list[Moment], base: int) -> list[Moment]:
    """From the first access to one of its registers to the end of the last interrupt."""
    mine = [
        at for at, moment in enumerate(moments)
        if isinstance(moment.event, PortRead | PortWritten) and 0 <= moment.event.port - base < r.WINDOW_BYTES
    ]  # fmt: skip
    if not mine:
        return []
    last = mine[-1]
    for at in range(last + 1, len(moments)):
        event = moments[at].event
        if isinstance(event, VmExit) and event.reason == "hlt":
            break
        if isinstance(event, PortRead | PortWritten) and event.port not in PIC_PORTS:
            break
        last = at if isinstance(event, PortRead | PortWritten) else last
    return moments[mine[0] - 1 : last + 1]
