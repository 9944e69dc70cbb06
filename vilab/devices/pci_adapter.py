"""What adapters on the PCI bus are alike in, whatever they are for: a processor of their own, an interrupt pin, memory.

::

    a register is written ─FIRMWARE_NS─> _look: the adapter's own processor ──> what the adapter is for
                                                                                      │
    interrupt pin <── _drive, where _interrupting changes <── the driver gets its answer <┘

Memory is touched by the clock's calls only, never while the processor is in the middle of an access to a register:
what a register starts, the adapter's own processor does ``FIRMWARE_NS`` later.

A kind of adapter says what it is (``chip``, ``state_type``) and fills in ``_look`` and ``_interrupting``.
"""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.devices.adapter_events import AdapterInterrupt, AdapterRegisterWritten
from vilab.devices.bus_master import BusMaster, SizedMemory
from vilab.devices.pci_function import Bar, PciFunction
from vilab.events import EventLog
from vilab.protocols import InterruptLine

FIRMWARE_NS = 5_000
"""MODEL: what the adapter's own processor takes to fetch and to understand what waits for it."""


class Chip(msgspec.Struct, frozen=True):
    """What the configuration space says of an adapter. ``bars``: its windows, in the order of the base addresses."""

    vendor: int
    device: int
    class_code: int
    revision: int
    subsystem: tuple[int, int]
    bars: tuple[Bar, ...]


class PciAdapterState(msgspec.Struct):
    """``look_ns``: when the adapter's processor looks next, 0: not at all. ``line``: the interrupt pin is high."""

    look_ns: int = 0
    line: bool = False


State = TypeVar("State", bound=PciAdapterState)


class PciAdapter(PciFunction, Generic[State]):
    """An adapter as a function on the PCI bus.

    Parameters
    ----------
    memory : guest physical memory. slot : its number on the PCI bus, for events.
    """

    chip: ClassVar[Chip]
    state_type: type[State]

    def __init__(self, clock: VirtualClock, log: EventLog, line: InterruptLine, memory: SizedMemory, slot: int) -> None:
        chip = self.chip
        super().__init__(
            chip.vendor, chip.device, chip.class_code, revision=chip.revision, subsystem=chip.subsystem,
            interrupt_pin=1, bars=chip.bars,
        )  # fmt: skip
        self._clock, self._log, self._line, self._slot = clock, log, line, slot
        self._master = BusMaster(self, memory, clock, log, slot)
        self._timer: Timer | None = None
        self._state = self.state_type()

    # --- what a kind of adapter fills in ------------------------------------------------------------------------------

    def _look(self) -> None:
        """The adapter's processor has a look at everything that waits for it."""
        raise NotImplementedError

    def _interrupting(self) -> bool:
        """Should the interrupt pin be high?"""
        raise NotImplementedError

    # --- registers ----------------------------------------------------------------------------------------------------

    def _report_write(self, register: str, value: int) -> None:
        if self._log.active:
            self._log.emit(AdapterRegisterWritten(self._clock.now_ns, self._slot, register, value))

    def _drive(self) -> None:
        """Bring the interrupt pin to where it belongs."""
        high = self._interrupting()
        if high != self._state.line:
            self._state.line = high
            if self._log.active:
                self._log.emit(AdapterInterrupt(self._clock.now_ns, self._slot, high))
            self._line.set_level(high)

    # --- the adapter's own processor ----------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        if self._timer is None:
            self._look_at(self._clock.now_ns + FIRMWARE_NS)

    def _look_at(self, at_ns: int) -> None:
        self._state.look_ns = at_ns
        self._timer = self._clock.at(at_ns, self._wake)

    def _wake(self) -> None:
        self._timer, self._state.look_ns = None, 0
        self._look()

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._state.look_ns = None, 0

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> State:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self._state), type=self.state_type)

    def load_state(self, state: State) -> None:
        """The level of the interrupt line is part of the PIC's state and is not driven again here."""
        self._stop_looking()
        self._state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=self.state_type)
        self._loaded()
        if self._state.look_ns:
            self._look_at(self._state.look_ns)

    def _loaded(self) -> None:
        """A state record is in place: a kind of adapter sets up what it keeps elsewhere."""
