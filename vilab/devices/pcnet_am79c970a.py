"""AMD Am79C970A, the card: registers in ``pcnet_registers``, ``pcnet_control``; what is in memory in ``pcnet_rings``.

::

    CSR0 <- INIT ─FIRMWARE_NS─> initialization block fetched, IDON
    CSR0 <- STRT ─────────────> RXON, TXON
    CSR0 <- TDMD ─FIRMWARE_NS─┐
    POLLINT is over ──────────┴> transmit ring (pcnet_buffers); not empty after a while: again FIRMWARE_NS later
    CSR0 <- STOP, RESET ──────> quiet at once: nothing of what was to be done is done

The filter that the driver has programmed (CSR8 to CSR15, or the initialization block) is told to the port.
"""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.devices import pcnet_control as control
from vilab.devices import pcnet_registers as r
from vilab.devices import pcnet_rings as rings
from vilab.devices.bus_master import SizedMemory
from vilab.devices.pci_adapter import FIRMWARE_NS, Chip
from vilab.devices.pci_function import STATUS, Bar
from vilab.devices.pcnet_buffers import PcnetBuffers
from vilab.devices.pcnet_control import PcnetState
from vilab.events import EventLog
from vilab.protocols import InterruptLine, NetworkPort

CLOCK_NS = 30
LEAST_POLL_NS = 100_000
"""MODEL: a driver can ask for more looks at the ring than this; it does not get them."""
PCI_STATUS_RESET, MIN_GNT = 0x0280, 0x3E


class PcnetAm79c970a(PcnetBuffers):
    """The card."""

    chip = Chip(
        r.VENDOR, r.DEVICE, r.CLASS_ETHERNET, r.REVISION, r.SUBSYSTEM,
        (Bar(r.WINDOW_BYTES), Bar(r.WINDOW_BYTES, is_memory=True)),
    )  # fmt: skip
    state_type = PcnetState

    def __init__(
        self, clock: VirtualClock, log: EventLog, line: InterruptLine, memory: SizedMemory, port: NetworkPort,
        address: bytes, slot: int,
    ) -> None:  # fmt: skip
        super().__init__(clock, log, line, memory, port, address, slot)
        self.put(STATUS, PCI_STATUS_RESET, 2)
        self.put(MIN_GNT, r.BCR_RESET[r.LATENCY], 2)
        control.soft_reset(self._state)
        self._state.link = port.link_up

    # --- registers ----------------------------------------------------------------------------------------------------

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        s = self._state
        if offset + size_bytes <= 16:
            return int.from_bytes(control.aprom(s.address)[offset : offset + size_bytes], "little")
        register = self._register(offset, size_bytes)
        if register == r.RDP:
            return control.read_csr(s, s.rap)
        if register == r.BDP:
            return control.read_bcr(s, s.rap)
        if register == r.RAP:
            return s.rap
        if register == r.RESET:
            self._reset()
            return 0
        return (1 << 8 * size_bytes) - 1

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        s = self._state
        if offset == 0x10 and size_bytes == 4 and not s.dwio:
            self._report_write("RDP", value)
            s.bcr[r.BURST] |= r.DWIO
            return
        register, value = self._register(offset, size_bytes), value & 0xFFFF
        if register == r.RAP:
            self._report_write("RAP", value)
            s.rap = value & r.RAP_BITS
        elif register == r.RDP:
            self._report_write(f"CSR{s.rap}", value)
            self._write_csr(s.rap, value)
        elif register == r.BDP:
            self._report_write(f"BCR{s.rap}", value)
            control.write_bcr(s, s.rap, value)
            self.put(MIN_GNT, s.bcr[r.LATENCY], 2)

    def _register(self, offset: int, size_bytes: int) -> int | None:
        if self._state.dwio:
            return r.DWORD_MODE.get(offset) if size_bytes == 4 else None
        return r.WORD_MODE.get(offset) if size_bytes == 2 else None

    def _write_csr(self, number: int, value: int) -> None:
        s = self._state
        if number == 0:
            self._command(value)
        else:
            waiting = not s.transmits or bool(s.csr[4] & r.TXDPOLL)
            control.write_csr(s, number, value)
            if r.PADR <= number <= r.MODE:
                self._listen()
            if waiting and s.transmits:
                self._look_by(self._clock.now_ns + FIRMWARE_NS)
        self._drive()

    def _command(self, value: int) -> None:
        """CSR0 is written."""
        s = self._state
        s.csr[0] = s.csr[0] & ~(value & r.CLEARED_BY_ONES | r.IENA) | value & r.IENA
        if value & r.STOP:
            self._stop()
            return
        begun = value & (r.INIT | r.STRT) & ~s.csr[0]
        if begun:
            s.csr[0] = s.csr[0] & ~r.STOP | begun
            s.to_initialize = s.to_initialize or bool(begun & r.INIT)
            if begun & r.STRT and not s.to_initialize:
                self._start()
        if value & r.TDMD and s.csr[0] & r.TXON:
            s.csr[0] |= r.TDMD
        if begun or s.csr[0] & r.TDMD:
            self._look_by(self._clock.now_ns + FIRMWARE_NS)

    def _start(self) -> None:
        s = self._state
        s.csr[0] |= (0 if s.mode & r.DRX else r.RXON) | (0 if s.mode & r.DTX else r.TXON)

    def _reset(self) -> None:
        control.soft_reset(self._state)
        self._stop_looking()
        self._listen()
        self._drive()

    def _interrupting(self) -> bool:
        return control.interrupting(self._state)

    def _listening(self) -> tuple[bytes, bool]:
        return self._state.physical_address, bool(self._state.mode & r.PROM)

    # --- the card's own processor -------------------------------------------------------------------------------------

    def _look_by(self, at_ns: int) -> None:
        if not self._state.look_ns or at_ns < self._state.look_ns:
            self._stop_looking()
            self._look_at(at_ns)

    def _look(self) -> None:
        s = self._state
        if s.to_initialize:
            self._initialize()
        more = s.transmits and self._transmit()
        if more:
            self._look_by(self._clock.now_ns + FIRMWARE_NS)
        elif s.to_initialize or (s.transmits and not s.csr[4] & r.TXDPOLL):
            poll_ns = (0x10000 - s.csr[r.POLLINT]) * CLOCK_NS
            self._look_by(self._clock.now_ns + max(poll_ns, LEAST_POLL_NS))
        self._drive()

    def _initialize(self) -> None:
        s = self._state
        gpa = (s.csr[1] | s.csr[2] << 16) & (~3 if rings.is_wide(s.style) else ~1)
        raw = self._fetch(gpa, rings.init_block_bytes(s.style))
        if raw is None:
            return
        control.load_init_block(s, rings.parse_init_block(raw, s.style, s.high))
        s.to_initialize = False
        s.csr[0] |= r.IDON
        if s.csr[0] & r.STRT:
            self._start()
        self._listen()

    # --- link and state -----------------------------------------------------------------------------------------------

    def link_changed(self, up: bool) -> None:
        """The chip has no interrupt for it: drivers look at BCR4."""
        self._state.link = up

    def _loaded(self) -> None:
        super()._loaded()
        if self._state.link != self.port.link_up:
            self.link_changed(self.port.link_up)
