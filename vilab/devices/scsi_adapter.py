"""What SCSI host adapters are alike in, beside what all adapters are (``pci_adapter``): commands under way on a bus.

::

    _look: the adapter's own processor ──> commands ──> bus (scsi_initiator)
                                                         │
    interrupt <── _ended: the driver gets its answer <───┘

A kind of adapter says what it is (``chip``, ``state_type``) and fills in ``_look``, ``_interrupting`` and ``_ended``.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from vilab.clock import VirtualClock
from vilab.devices.bus_master import SizedMemory
from vilab.devices.pci_adapter import PciAdapter, PciAdapterState
from vilab.devices.scsi_initiator import Outcome, ScsiInitiator, UnderWay
from vilab.events import EventLog
from vilab.protocols import InterruptLine, ScsiBus


class AdapterState(PciAdapterState):
    """In a saved record only: ``commands`` under way on the bus, whose own state is ``bus``."""

    commands: list[UnderWay] = msgspec.field(default_factory=list)
    bus: bytes = b""


State = TypeVar("State", bound=AdapterState)


class ScsiHostAdapter(PciAdapter[State], Generic[State]):
    """An adapter as a function on the PCI bus.

    Parameters
    ----------
    memory : guest physical memory. bus : the SCSI bus. slot : its number on the PCI bus, for events.
    """

    def __init__(
        self, clock: VirtualClock, log: EventLog, line: InterruptLine, memory: SizedMemory, bus: ScsiBus, slot: int
    ) -> None:
        super().__init__(clock, log, line, memory, slot)
        self._initiator = ScsiInitiator(clock, log, bus, self._master, self._ended)
        self.bus = bus

    @property
    def busy(self) -> bool:
        """Are commands under way?"""
        return bool(self._initiator.commands)

    def _ended(self, command: UnderWay, outcome: Outcome) -> int:
        """A command is over: answer the driver; the adapter's own status word."""
        raise NotImplementedError

    def save_state(self) -> State:
        saved = msgspec.structs.replace(self._state, commands=self._initiator.commands, bus=self.bus.save_state())
        return msgspec.msgpack.decode(msgspec.msgpack.encode(saved), type=self.state_type)

    def _loaded(self) -> None:
        s = self._state
        self.bus.load_state(s.bus)
        self._initiator.load(s.commands)
        s.commands, s.bus = [], b""
