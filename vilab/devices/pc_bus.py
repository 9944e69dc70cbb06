"""Which device answers at a port or at an address: what every access of the guest goes through.

::

    IN, OUT      8 bits        _readers, _writers of the port ── else an I/O window of a PCI function ── else nobody
                 16, 32 bits   a device that takes it as one ── else the window ── else byte cycles, lowest port first
    memory       where there is none: local APIC ── I/O APIC ── a memory window of a PCI function ── else nobody

    nobody: reads are all ones, writes are lost
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.clock import VirtualClock
from vilab.devices import ioapic, pci
from vilab.devices.lapic import Lapic
from vilab.devices.power import Power
from vilab.devices.ramdisk import Ramdisk
from vilab.events import EventLog, MmioRead, MmioWritten, PortRead, PortWritten
from vilab.protocols import PortDevice

WIDE_PORTS = frozenset({0x604})
"""Ports whose device takes a 16 or 32-bit access as one, beside those of PCI."""


class PcBus:
    """The routing of one PC, which fills in ``pci``, ``lapic``, ``ioapic``, ``power`` and ``ramdisk``.

    ``reads`` and ``writes`` count accesses by port, ``mmio_reads`` and ``mmio_writes`` by address; they are statistics,
    not state.
    """

    pci: pci.Pci
    lapic: Lapic
    ioapic: ioapic.Ioapic
    power: Power
    ramdisk: Ramdisk | None

    def __init__(self, clock: VirtualClock, log: EventLog) -> None:
        self.clock = clock
        self.log = log
        self.reads: dict[int, int] = {}
        self.writes: dict[int, int] = {}
        self.mmio_reads: dict[int, int] = {}
        self.mmio_writes: dict[int, int] = {}
        self._readers: dict[int, Callable[[int, int], int]] = {}
        self._writers: dict[int, Callable[[int, int, int], None]] = {}

    def attach(self, device: PortDevice, ports: tuple[int, ...]) -> None:
        """Let a device answer on 8-bit ports. Raises ``ValueError`` if one is taken."""
        for port in ports:
            if port in self._readers:
                raise ValueError(f"I/O port {port:#x} has a device already")
            self._readers[port] = device.read_port
            self._writers[port] = device.write_port

    def read_port(self, port: int, size_bytes: int) -> int:
        """IN: ``size_bytes`` is 1, 2 or 4."""
        self.reads[port] = self.reads.get(port, 0) + 1
        if size_bytes == 1:
            reader = self._readers.get(port)
            value = self._read_window(port, 1) if reader is None else reader(port, 1)
        else:
            value = self._read_wide(port, size_bytes)
        if self.log.active:
            self.log.emit(PortRead(self.clock.now_ns, port, size_bytes, value))
        return value

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        """OUT: ``size_bytes`` is 1, 2 or 4."""
        self.writes[port] = self.writes.get(port, 0) + 1
        if self.log.active:
            self.log.emit(PortWritten(self.clock.now_ns, port, size_bytes, value))
        if size_bytes == 1:
            writer = self._writers.get(port)
            if writer is not None:
                writer(port, 1, value)
            else:
                self._write_window(port, 1, value)
        else:
            self._write_wide(port, size_bytes, value)

    def _read_window(self, port: int, size_bytes: int) -> int:
        window = self.pci.port_window(port)
        if window is None:
            return (1 << 8 * size_bytes) - 1
        return window.function.read_window(window.index, port - window.first, size_bytes)

    def _write_window(self, port: int, size_bytes: int, value: int) -> None:
        window = self.pci.port_window(port)
        if window is not None:
            window.function.write_window(window.index, port - window.first, size_bytes, value)

    def read_mmio(self, gpa: int, size_bytes: int) -> int:
        """A read where there is no memory; all ones where there is no device either."""
        page = gpa & ~0xFFF
        local = self.lapic
        self.mmio_reads[gpa] = self.mmio_reads.get(gpa, 0) + 1
        if page == local.base and local.enabled:
            value = local.read_mmio(gpa & 0xFFF, size_bytes)
        elif page == ioapic.BASE:
            value = self.ioapic.read_mmio(gpa & 0xFFF, size_bytes)
        else:
            window = self.pci.memory_window(gpa)
            if window is None:
                value = (1 << 8 * size_bytes) - 1
            else:
                value = window.function.read_window(window.index, gpa - window.first, size_bytes)
        if self.log.active:
            self.log.emit(MmioRead(self.clock.now_ns, gpa, size_bytes, value))
        return value

    def write_mmio(self, gpa: int, size_bytes: int, value: int) -> None:
        """A write where there is no memory."""
        page = gpa & ~0xFFF
        local = self.lapic
        self.mmio_writes[gpa] = self.mmio_writes.get(gpa, 0) + 1
        if self.log.active:
            self.log.emit(MmioWritten(self.clock.now_ns, gpa, size_bytes, value))
        if page == local.base and local.enabled:
            local.write_mmio(gpa & 0xFFF, size_bytes, value)
        elif page == ioapic.BASE:
            self.ioapic.write_mmio(gpa & 0xFFF, size_bytes, value)
        else:
            window = self.pci.memory_window(gpa)
            if window is not None:
                window.function.write_window(window.index, gpa - window.first, size_bytes, value)

    def _wide_device(self, port: int, size_bytes: int) -> PortDevice | None:
        if port & ~3 == pci.CONFIG_DATA and (port & 3) + size_bytes <= 4:
            return self.pci
        if port == pci.CONFIG_ADDRESS and size_bytes == 4:
            return self.pci
        if self.ramdisk is not None and size_bytes == 4 and port in self.ramdisk.ports:
            return self.ramdisk
        return self.power if port in WIDE_PORTS else None

    def _read_wide(self, port: int, size_bytes: int) -> int:
        """The bus makes byte cycles of a wide access to an 8-bit device, lowest port first."""
        device = self._wide_device(port, size_bytes)
        if device is not None:
            return device.read_port(port, size_bytes)
        if self.pci.port_window(port) is not None and port not in self._readers:
            return self._read_window(port, size_bytes)
        value = 0
        for i in range(size_bytes):
            at = (port + i) & 0xFFFF
            reader = self._readers.get(at)
            value |= (0xFF if reader is None else reader(at, 1)) << 8 * i
        return value

    def _write_wide(self, port: int, size_bytes: int, value: int) -> None:
        device = self._wide_device(port, size_bytes)
        if device is not None:
            device.write_port(port, size_bytes, value)
            return
        if self.pci.port_window(port) is not None and port not in self._writers:
            self._write_window(port, size_bytes, value)
            return
        for i in range(size_bytes):
            at = (port + i) & 0xFFFF
            writer = self._writers.get(at)
            if writer is not None:
                writer(at, 1, value >> 8 * i & 0xFF)
