"""Frames that come in a burst, and a receive ring or a driver that was tampered with: what the card can keep.

::

    10.0.0.1 ──── pings, all at once or one each gap_us ────> vlance ──> receive ring of 8
                                                                │
                          stored: a descriptor was the card's ──┤
                          missed: none was; MISS, CSR112 + 1 ───┘

Something is taken away with a hand in the machine, while the guest stands at its prompt and knows nothing of it.
"""

from __future__ import annotations

from functools import cached_property

from vilab.course.one_packet import DESCRIPTOR_BYTES, IP, OWN, PcnetGuest
from vilab.devices import pcnet_registers as r
from vilab.devices.adapter_events import AdapterInterrupt
from vilab.devices.network_events import FrameRefused, FrameStored
from vilab.events import Event
from vilab.view.words import counted

SETTLE_NS = 3_000_000


class Burst:
    """Pings from the gateway.

    Parameters
    ----------
    frames : how many. gap_us : time between two; 0: all at once.
    owned : how many descriptors are the card's, from its next one on; the OWN bits of all others are taken away.
    masked : CSR3 keeps the card from interrupting, whatever the reason.
    """

    def __init__(self, frames: int = 12, gap_us: int = 0, owned: int | None = None, masked: bool = False) -> None:
        self.frames, self.gap_us, self.owned, self.masked = frames, gap_us, owned, masked
        self.answers = self.counter = 0

    @cached_property
    def _events(self) -> list[Event]:
        guest = PcnetGuest()
        guest.type("ping 10.0.0.1 1")
        peer, clock = guest.network.peer, guest.clock
        if self.owned is not None:
            self._take_away(guest, self.owned)
        if self.masked:
            guest.card.csr[3] |= r.CAUSES
        events: list[Event] = []
        guest.log.listen(events.append)
        begin = clock.now_ns + 10_000
        for number in range(self.frames):
            clock.at(begin + number * self.gap_us * 1000, lambda n=number: peer.ping(IP, n + 1))  # type: ignore[misc]
        end_ns = begin + self.frames * self.gap_us * 1000 + SETTLE_NS
        guest.run_until(lambda: clock.now_ns >= end_ns)
        self.answers, self.counter = len(peer.replies), guest.card.csr[r.MISSED]
        guest.vm.close()
        return events

    @staticmethod
    def _take_away(guest: PcnetGuest, owned: int) -> None:
        rings = guest.rings()
        count = len(rings.receive)
        for more in range(owned, count):
            gpa = rings.receive_at + DESCRIPTOR_BYTES * ((rings.next_filled + more) % count) + 4
            flags = int.from_bytes(guest.vm.pmap.read(gpa, 4), "little") & ~OWN
            guest.vm.pmap.write(gpa, flags.to_bytes(4, "little"))

    @property
    def stored(self) -> int:
        return sum(isinstance(event, FrameStored) for event in self._events)

    @property
    def missed(self) -> int:
        """Frames that found no descriptor."""
        return sum(isinstance(event, FrameRefused) and event.why == "no_descriptor" for event in self._events)

    @property
    def interrupts(self) -> int:
        return sum(isinstance(event, AdapterInterrupt) and event.high for event in self._events)

    def describe(self) -> str:
        stored, missed = self.stored, self.missed
        return (
            f"{self.frames} frames: {stored} stored, {missed} missed (CSR112 says {self.counter}), "
            f"{counted(self.interrupts, 'interrupt')}, {counted(self.answers, 'answer')}."
        )
