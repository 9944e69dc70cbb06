"""What network cards are alike in, beside what all adapters are (``pci_adapter``): a port, an address, a filter.

::

    driver ──register──> _look ──descriptors──> _send(frame) ──> port.transmit
                                                                 port ──> receive(frame) ──> descriptors, interrupt
    driver ──address, mode──> _listen ──> port.listen: the switch learns nothing, it is told

A kind of card fills in ``_look``, ``_interrupting``, ``receive``, ``link_changed``, ``wants_multicast`` and
``_listening``. What it has counted in statistics registers is part of its own state record.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from vilab.clock import VirtualClock
from vilab.devices.bus_master import SizedMemory
from vilab.devices.network_events import FrameFetched, FrameRefused, FrameStored, Refusal
from vilab.devices.pci_adapter import PciAdapter, PciAdapterState
from vilab.events import EventLog
from vilab.protocols import InterruptLine, NetworkPort


class NetworkAdapterState(PciAdapterState):
    """In a saved record only: ``port``, frames that are on their way to the card. ``address``: the one burnt in."""

    address: bytes = b""
    port: bytes = b""


State = TypeVar("State", bound=NetworkAdapterState)


class NetworkAdapter(PciAdapter[State], Generic[State]):
    """A network card as a function on the PCI bus.

    Parameters
    ----------
    memory : guest physical memory. port : what its cable is in. address : its MAC address, as in its EEPROM.
    slot : its number on the PCI bus, for events.
    """

    def __init__(
        self, clock: VirtualClock, log: EventLog, line: InterruptLine, memory: SizedMemory, port: NetworkPort,
        address: bytes, slot: int,
    ) -> None:  # fmt: skip
        super().__init__(clock, log, line, memory, slot)
        self.port, self.address = port, address
        self._state.address = address
        port.plug(self)
        port.listen(address, False)

    # --- what a kind of card fills in ---------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        """A frame has arrived: into memory, or refused (``_refused``)."""
        raise NotImplementedError

    def link_changed(self, up: bool) -> None:
        """The cable was pulled or plugged in: status registers, an interrupt."""
        raise NotImplementedError

    def wants_multicast(self, destination: bytes) -> bool:
        raise NotImplementedError

    def _listening(self) -> tuple[bytes, bool]:
        """The address that the driver has programmed, and whether it wants every frame."""
        raise NotImplementedError

    # --- for it -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """The driver has changed address or mode."""
        self.port.listen(*self._listening())

    def _send(self, gpa: int, descriptors: int, *frames: bytes) -> None:
        """What was in ``descriptors`` descriptors from ``gpa`` on goes out, as one frame or in segments."""
        if self._log.active:
            for frame in frames:
                self._log.emit(FrameFetched(self._clock.now_ns, self._slot, gpa, descriptors, len(frames), frame))
        for frame in frames:
            self.port.transmit(frame)

    def _stored(self, gpa: int, descriptors: int, frame: bytes) -> None:
        if self._log.active:
            self._log.emit(FrameStored(self._clock.now_ns, self._slot, gpa, descriptors, frame))

    def _refused(self, why: Refusal, size_bytes: int, received: bool = True) -> None:
        if self._log.active:
            self._log.emit(FrameRefused(self._clock.now_ns, self._slot, received, why, size_bytes))

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> State:
        saved = msgspec.structs.replace(self._state, port=self.port.save_state())
        return msgspec.msgpack.decode(msgspec.msgpack.encode(saved), type=self.state_type)

    def _loaded(self) -> None:
        s = self._state
        self.address = s.address
        self.port.load_state(s.port)
        s.port = b""
        self._listen()
