"""Intel 82545EM, the PRO/1000 MT: the card. Its registers are in ``e1000_registers``.

::

    TDT ──> send_ns ──> e1000_transmit ──frames──> port          the next look: when the wire has taken them
    port ──> receive ──> filter, packet buffer ──> store_ns ──> e1000_receive ──> memory
    RDT ────────────────────────────────────────┘
    both ──> cause ──(RDTR, RADV, TIDV, TADV: later)──> ICR ── IMS ──(ITR: not before quiet_ns)──> interrupt pin
    cable, PHY, CTRL.SLU ──> STATUS.LU, cause LSC

What is due at some time is in the state record; the one timer of ``pci_adapter`` is set to the first of it. Memory is
touched in ``_look`` only. Source: the 8254x Software Developer's Manual, 4.0; sections beside the registers' names.

MODEL: 1 Gbit/s for what is sent, in batches; nothing is known of how fast frames come.
"""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.devices import (
    e1000_eeprom,
    e1000_filter,
    e1000_interrupts,
    e1000_phy,
    e1000_receive,
    e1000_statistics,
    e1000_transmit,
)
from vilab.devices import e1000_registers as regs
from vilab.devices.bus_master import SizedMemory
from vilab.devices.e1000_state import E1000State
from vilab.devices.network_adapter import NetworkAdapter
from vilab.devices.network_events import FrameFetched
from vilab.devices.pci_adapter import FIRMWARE_NS, Chip
from vilab.devices.pci_function import BAR0, Bar
from vilab.events import EventLog
from vilab.protocols import InterruptLine, NetworkPort

NS_PER_BYTE, GAP_BYTES = 8, 24
"""On the wire: FCS, preamble and the gap between frames are beside a frame's own bytes."""
_ABSENT = Bar(0, is_memory=True)


class E1000(NetworkAdapter[E1000State]):
    """The card."""

    chip = Chip(
        regs.VENDOR, regs.DEVICE, regs.CLASS_ETHERNET, regs.REVISION, regs.SUBSYSTEM,
        (Bar(regs.MEMORY_BYTES, is_memory=True), _ABSENT, _ABSENT, _ABSENT, Bar(regs.IO_BYTES)),
    )  # fmt: skip
    state_type = E1000State

    def __init__(
        self, clock: VirtualClock, log: EventLog, line: InterruptLine, memory: SizedMemory, port: NetworkPort,
        address: bytes, slot: int,
    ) -> None:  # fmt: skip
        super().__init__(clock, log, line, memory, port, address, slot)
        self.put(BAR0 + 4 * regs.MEMORY_BAR, regs.MEMORY_TYPE_64, 4)
        self._state.registers = regs.after_reset(address)
        self._state.phy.cable = port.link_up
        self._told: tuple[bytes, bool] | None = (address, False)

    # --- registers ----------------------------------------------------------------------------------------------------

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        register, s = offset & ~3, self._state
        if index == regs.IO_BAR:
            value = s.io_address if register == regs.IO_ADDRESS else self._read(s.io_address)
        else:
            value = self._read(register)
        return value >> 8 * (offset & 3) & (1 << 8 * size_bytes) - 1

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        """Only whole registers can be written."""
        if size_bytes != 4 or offset & 3:
            return
        if index == regs.MEMORY_BAR:
            self._write(offset, value)
        elif offset == regs.IO_ADDRESS:
            self._state.io_address = value
        elif offset == regs.IO_DATA:
            self._write(self._state.io_address, value)

    def _read(self, register: int) -> int:
        s = self._state
        if register == regs.ICR:
            causes, s.causes = s.causes, 0
            self._drive()
            return causes
        if register == regs.STATUS:
            return regs.STATUS_1000 | regs.STATUS_FD | (regs.STATUS_LU if s.link else 0)
        if register == regs.IMS:
            return s.mask
        if register == regs.EECD:
            return e1000_eeprom.read_wires(s.eeprom)
        if register == regs.EERD:
            return s.eeprom.eerd
        if register == regs.MDIC:
            return s.phy.mdic
        if register in regs.STATISTICS:
            return e1000_statistics.read(s.statistics, register)
        return s.registers.get(regs.CTRL if register == regs.CTRL_DUP else register, 0)

    def _write(self, register: int, value: int) -> None:
        s, now_ns = self._state, self._clock.now_ns
        self._report_write(regs.name_of(register), value)
        if register in regs.WRITABLE:
            s.registers[register] = value & regs.WRITABLE[register]
            self._programmed(register, value)
        elif register in (regs.CTRL, regs.CTRL_DUP):
            self._control(value)
        elif register == regs.ICR:
            s.causes &= ~value
        elif register == regs.ICS:
            s.causes |= value & regs.CAUSES
        elif register == regs.IMS:
            s.mask |= value & regs.CAUSES
        elif register == regs.IMC:
            s.mask &= ~value
        elif register == regs.EECD:
            e1000_eeprom.write_wires(s.eeprom, value, self.address)
        elif register == regs.EERD:
            e1000_eeprom.write_eerd(s.eeprom, value, self.address)
        elif register == regs.MDIC:
            e1000_phy.access(s.phy, value, now_ns)
            s.causes |= regs.MDAC if value & e1000_phy.INTERRUPT else 0
            self._note_link()
            self._send_soon()
        self._drive()

    def _programmed(self, register: int, value: int) -> None:
        """A register that holds what is written does something beside that."""
        s = self._state
        if register in (regs.TDT, regs.TCTL):
            self._send_soon()
        elif register in (regs.RDT, regs.RCTL):
            if register == regs.RCTL and not value & regs.RCTL_EN:
                for frame in e1000_receive.forget(s):
                    self._refused("off", len(frame))
            self._store_soon()
            self._send_soon()
        elif register == regs.PBA:
            kilobytes = min(s.registers[regs.PBA], regs.PACKET_BUFFER_KB)
            s.registers[regs.PBA] = regs.PACKET_BUFFER_KB - kilobytes << 16 | kilobytes
        elif register in (regs.RDTR, regs.TIDV) and value & regs.NOW:
            e1000_interrupts.flush(s, register == regs.RDTR)
        if register == regs.RCTL or regs.RA <= register < regs.VFTA:
            self._listen()

    def _control(self, value: int) -> None:
        s = self._state
        if value & regs.CTRL_RST:
            self._reset()
            return
        s.registers[regs.CTRL] = value
        if value & regs.CTRL_PHY_RST:
            e1000_phy.reset(s.phy, self._clock.now_ns)
        self._note_link()

    def _reset(self) -> None:
        """As after power-on, but for the PHY, which does not notice."""
        old = self._state
        self._stop_looking()
        self._state = E1000State(
            address=old.address, line=old.line, registers=regs.after_reset(old.address), phy=old.phy,
            refused=old.refused, io_address=old.io_address, wire_ns=old.wire_ns,
        )  # fmt: skip
        self._listen()

    # --- interrupts ---------------------------------------------------------------------------------------------------

    def _interrupting(self) -> bool:
        s = self._state
        return e1000_interrupts.waits(s) and (s.line or self._clock.now_ns >= s.quiet_ns)

    def _drive(self) -> None:
        s = self._state
        was_high = s.line
        super()._drive()
        if s.line and not was_high:
            e1000_interrupts.throttle(s, self._clock.now_ns)
        self._plan()

    def _plan(self) -> None:
        """Set the timer to what is due first."""
        s = self._state
        deadlines = (s.send_ns, s.store_ns, s.phy.negotiated_ns, *e1000_interrupts.deadlines(s))
        first_ns = min((at_ns for at_ns in deadlines if at_ns), default=0)
        if first_ns != s.look_ns:
            self._stop_looking()
            if first_ns:
                self._look_at(first_ns)

    # --- the link -----------------------------------------------------------------------------------------------------

    def _note_link(self) -> None:
        s = self._state
        up = e1000_phy.is_up(s.phy) and bool(s.registers[regs.CTRL] & regs.CTRL_SLU)
        if up != s.link:
            s.link = up
            s.causes |= regs.LSC
            self._send_soon()

    def link_changed(self, up: bool) -> None:
        s = self._state
        if up != s.phy.cable:
            e1000_phy.plug(s.phy, up, self._clock.now_ns)
            self._note_link()
            self._drive()

    # --- frames -------------------------------------------------------------------------------------------------------

    def _send_soon(self) -> None:
        """If there is something to send, and a wire."""
        s = self._state
        if s.registers[regs.TDT] != s.registers[regs.TDH] and not s.send_ns and (s.link or self._looped()):
            s.send_ns = max(self._clock.now_ns + FIRMWARE_NS, s.wire_ns)

    def _store_soon(self) -> None:
        s = self._state
        if s.arrived and not s.store_ns:
            s.store_ns = self._clock.now_ns + FIRMWARE_NS

    def _look(self) -> None:
        s, now_ns = self._state, self._clock.now_ns
        if 0 < s.phy.negotiated_ns <= now_ns:
            s.phy.negotiated_ns = 0
        if self.port.link_up != s.phy.cable:
            e1000_phy.plug(s.phy, self.port.link_up, now_ns)
        self._note_link()
        if 0 < s.send_ns <= now_ns:
            s.send_ns = 0
            if s.link or self._looped():
                self._transmit()
        if 0 < s.store_ns <= now_ns:
            s.store_ns = 0
            self._store()
        e1000_interrupts.expire(s, now_ns)
        self._drive()

    def _transmit(self) -> None:
        s = self._state
        batch = e1000_transmit.fetch(s, self._master)
        for why, size_bytes in batch.refused:
            self._refused(why, size_bytes, received=False)
        for going in batch.going:
            self._put_out(going)
        wire_bytes = sum(len(frame) + GAP_BYTES for going in batch.going for frame in going.frames)
        s.wire_ns = max(self._clock.now_ns, s.wire_ns) + wire_bytes * NS_PER_BYTE
        s.causes |= (regs.TXDW if batch.reported else 0) | (regs.TXQE if batch.emptied else 0)
        if batch.reported_late:
            e1000_interrupts.sent(s, self._clock.now_ns)
        if batch.more:
            self._send_soon()

    def _put_out(self, going: e1000_transmit.Going) -> None:
        if not self._looped():
            self._send(going.gpa, going.descriptors, *going.frames)
            return
        for frame in going.frames:
            if self._log.active:
                self._log.emit(
                    FrameFetched(self._clock.now_ns, self._slot, going.gpa, going.descriptors, len(going.frames), frame)
                )
            self._arrive(frame)

    def _looped(self) -> bool:
        s = self._state
        return bool(s.registers[regs.RCTL] & regs.RCTL_LBM) or e1000_phy.is_looped(s.phy)

    def receive(self, frame: bytes) -> None:
        if self._looped() or not self._state.link:
            self._refused("off", len(frame))
        else:
            self._arrive(frame)
            self._drive()

    def _arrive(self, frame: bytes) -> None:
        why = e1000_receive.let_in(self._state, frame)
        if why is not None:
            self._refused(why, len(frame))
        self._store_soon()

    def _store(self) -> None:
        s = self._state
        batch = e1000_receive.store(s, self._master)
        for why, size_bytes in batch.refused:
            self._refused(why, size_bytes)
        for stored in batch.stored:
            self._stored(*stored)
        s.causes |= batch.causes
        if batch.stored:
            e1000_interrupts.received(s, self._clock.now_ns)
        if batch.more:
            self._store_soon()

    def wants_multicast(self, destination: bytes) -> bool:
        r = self._state.registers
        return bool(r[regs.RCTL] & regs.RCTL_EN) and e1000_filter.lets_address(r, destination + bytes(6))

    def _listening(self) -> tuple[bytes, bool]:
        """A port knows one address: whoever has more is promiscuous for it, and filters here."""
        r = self._state.registers
        everything = r[regs.RCTL] & regs.RCTL_EN and (r[regs.RCTL] & regs.RCTL_UPE or e1000_filter.more_addresses(r))
        return e1000_filter.address_at(r, 0) or self.address, bool(everything)

    def _listen(self) -> None:
        """Drivers write their 16 addresses again and again: the port hears what has changed."""
        wanted = self._listening()
        if wanted != self._told:
            self._told = wanted
            super()._listen()

    # --- state --------------------------------------------------------------------------------------------------------

    def _loaded(self) -> None:
        self._told = None
        super()._loaded()
        s = self._state
        if self.port.link_up != s.phy.cable:  # regs.LSC comes once everything is in place
            soon_ns = self._clock.now_ns + FIRMWARE_NS
            s.store_ns = min(s.store_ns or soon_ns, soon_ns)
            s.look_ns = min(s.look_ns or soon_ns, soon_ns)
