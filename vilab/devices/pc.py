"""The PC around the processor: all devices, and the I/O ports and addresses that lead to them.

::

                     +-- 0x20 0xa0 0x4d0  pic --+
                     +-- fec00000         ioapic+-- interrupts --> on_interrupt
    read_mmio   -----+-- fee00000         lapic-+
    write_mmio       +-- memory windows of PCI functions
                     +-- any other        nobody: all ones, writes are lost

                     +-- 0x20 0xa0 0x4d0  pic
                     +-- 0x40-0x43        pit -- IRQ 0 --> pic,  OUT2 --> port61
                     +-- 0x60 0x64        keyboard - IRQ 1 --> pic
    read_port        +-- 0x61             port61
    write_port  -----+-- 0x70 0x71        rtc -- IRQ 8 --> pic
                     +-- 0x80 0xe9 0x402  debug_port
                     +-- 0x92 0x604 0xcf9 power
                     +-- 0x600 0x608      power management of piix
                     +-- 0x3b4.. 0x3d4..  crtc
                     +-- 0x3f8-0x3ff      uart - IRQ 4 --> pic,  bytes <--> console
                     +-- 0xcf8 0xcfc      pci: i440fx, piix, and whoever is added
                     +-- 0x5690-0x56a7    ramdisk - IRQ 5 --> pic,  blocks <--> guest memory  (only if asked for)
                     +-- I/O windows of PCI functions: SCSI adapters in slots 16 to 19, network
                     |   cards in 24 to 27, if asked for
                     +-- any other        nobody: all ones, writes are lost
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vilab.clock import VirtualClock
from vilab.devices import (
    cmos,
    crtc,
    debug_port,
    i440fx,
    ioapic,
    keyboard,
    lapic_registers,
    lapic_state,
    pci,
    pic,
    piix,
    pit,
    port61,
    power,
    ramdisk,
    rtc,
    uart,
)
from vilab.devices.bus_master import SizedMemory
from vilab.devices.buslogic_bt958 import BusLogic958, BuslogicState
from vilab.devices.datasheets import register_tables
from vilab.devices.interrupts import Interrupts
from vilab.devices.lsi_53c1030 import Lsi53c1030, LsiState
from vilab.devices.mp_table import ALL_LAPICS, EXTINT, LOW_LEVEL, NMI, MpInterrupt, MpRecord
from vilab.devices.network_adapter import NetworkAdapter
from vilab.devices.network_cards import NETWORK_CARDS
from vilab.devices.pc_bus import PcBus
from vilab.devices.pci_firmware import assign
from vilab.devices.pci_function import INTERRUPT_PIN
from vilab.devices.registers import Register
from vilab.events import EventLog
from vilab.protocols import Console, NetworkPort, ScsiBus

IRQ_TIMER, IRQ_KEYBOARD, IRQ_COM1, IRQ_RAMDISK, IRQ_RTC = 0, 1, 4, 5, 8

EPOCH_SECONDS = 1_161_460_800
"""21 October 2006, 20:00 UTC, the first day of ASPLOS XII: a fixed date, so that a run is the same every time."""

PROCESSOR_SIGNATURE, PROCESSOR_FEATURES = 0xF61, 0x201
"""For the MP tables: family and model, and that there are an FPU and a local APIC; CPUID says more."""


FIRST_SCSI_SLOT, MOST_SCSI_ADAPTERS = 16, 4
"""Where VMware's machines have them."""
SCSI_ADAPTERS: dict[str, type[Lsi53c1030] | type[BusLogic958]] = {"lsilogic": Lsi53c1030, "buslogic": BusLogic958}
FIRST_NETWORK_SLOT, MOST_NETWORK_CARDS = 24, 4


class PcState(msgspec.Struct):
    """The state of every device. Nothing else of this room travels. ``lapics``: one a processor.

    ``ramdisk``, SCSI adapters and network cards (by PCI slot) are unset, and take no byte of the record's, in a PC
    without them. A card's record is in bytes, since its kind says what is in it.
    """

    pic: pic.PicState
    pit: pit.PitState
    port61: port61.Port61State
    rtc: rtc.RtcState
    uart: uart.UartState
    keyboard: keyboard.KeyboardState
    crtc: crtc.CrtcState
    pci: pci.PciState
    debug_port: debug_port.DebugPortState
    power: power.PowerState
    lapics: list[lapic_state.LapicState] = msgspec.field(default_factory=list)
    ioapic: ioapic.IoapicState = msgspec.field(default_factory=ioapic.IoapicState)
    ramdisk: ramdisk.RamdiskState | msgspec.UnsetType = msgspec.UNSET
    lsilogic: dict[int, LsiState] | msgspec.UnsetType = msgspec.UNSET
    buslogic: dict[int, BuslogicState] | msgspec.UnsetType = msgspec.UNSET
    network: dict[int, tuple[str, bytes]] | msgspec.UnsetType = msgspec.UNSET


class Pc(PcBus):
    """All devices of one PC.

    Parameters
    ----------
    clock : the engine keeps ``now_ns`` exact before every access. log : port events and console output go there.
    console : the far end of COM1. memory_bytes : what CMOS tells the guest.
    on_interrupt : hears every change of ``interrupts.pending()``.
    epoch_seconds : what time the guest's clock shows at power-on, in seconds since 1970, UTC.
    memory : guest physical memory, for devices that read and write it by themselves.
    ramdisk_bytes : size of the RAM disk, 0 for none; a state record that has one brings it along.
    scsi : an adapter's kind (one of ``SCSI_ADAPTERS``) and its bus, for each; at most ``MOST_SCSI_ADAPTERS``.
    cards : a network card's kind (one of ``NETWORK_CARDS``), its port, its address and its ROM, if any, for each.
    """

    def __init__(
        self,
        clock: VirtualClock,
        log: EventLog,
        console: Console,
        memory_bytes: int,
        *,
        on_interrupt: Callable[[bool], None] | None = None,
        epoch_seconds: int = EPOCH_SECONDS,
        memory: SizedMemory | None = None,
        ramdisk_bytes: int = 0,
        scsi: Sequence[tuple[str, ScsiBus]] = (),
        cards: Sequence[tuple[str, NetworkPort, bytes, bytes]] = (),
    ) -> None:
        super().__init__(clock, log)
        self.interrupts = Interrupts(clock, on_interrupt)
        self.pic, self.ioapic, self.lapic = self.interrupts.pic, self.interrupts.ioapic, self.interrupts.lapic
        self.power = power.Power()
        self.pit = pit.Pit(clock, self.interrupts.line(IRQ_TIMER))
        self.port61 = port61.Port61(clock, self.pit)
        self.rtc = rtc.Rtc(clock, self.interrupts.line(IRQ_RTC), epoch_seconds, cmos.cmos_memory(memory_bytes))
        # MODEL: MCR.OUT2 does not gate the interrupt, as in most hosted monitors: small kernels never set it.
        self.uart = uart.Uart(clock, log, self.interrupts.line(IRQ_COM1), console, out2_gates_irq=False)
        self.keyboard = keyboard.Keyboard(self.interrupts.line(IRQ_KEYBOARD), lambda: self.power.ask("reset"))
        self.crtc = crtc.Crtc(clock)
        self.pci = pci.Pci()
        self.pci.add(i440fx.DEVICE, 0, i440fx.host_bridge(memory_bytes))
        self.isa_bridge = piix.IsaBridge(self.pic, self.ioapic)
        self.pci.add(piix.DEVICE, piix.ISA, self.isa_bridge)
        self.pci.add(piix.DEVICE, piix.POWER_MANAGEMENT, piix.PowerManagement(clock, self.power))
        self.debug_port = debug_port.DebugPort(clock, log)
        for device in (self.pic, self.pit, self.port61, self.rtc, self.uart, self.keyboard,
                       self.crtc, self.pci, self.debug_port, self.power):  # fmt: skip
            self.attach(device, device.ports)
        self._memory = memory
        self.ramdisk = None
        if ramdisk_bytes:
            self._add_ramdisk(ramdisk_bytes)
        self.adapters: dict[int, Lsi53c1030 | BusLogic958] = {}
        for index, (kind, bus) in enumerate(scsi):
            self._add_adapter(FIRST_SCSI_SLOT + index, kind, bus)
        self.cards: dict[int, NetworkAdapter[Any]] = {}
        self._card_kinds: dict[int, str] = {}
        for index, (kind, port, address, rom) in enumerate(cards):
            self._add_card(FIRST_NETWORK_SLOT + index, kind, port, address)
            if rom:
                self.cards[FIRST_NETWORK_SLOT + index].fit_rom(rom)

    def _add_adapter(self, slot: int, kind: str, bus: ScsiBus) -> None:
        if self._memory is None or kind not in SCSI_ADAPTERS or slot >= FIRST_SCSI_SLOT + MOST_SCSI_ADAPTERS:
            raise ValueError(f"no SCSI adapter {kind!r} in slot {slot}: unknown, one too many, or without guest memory")
        line = piix.PciLine(self.isa_bridge, slot)
        self.adapters[slot] = SCSI_ADAPTERS[kind](self.clock, self.log, line, self._memory, bus, slot)
        self.pci.add(slot, 0, self.adapters[slot])

    def _add_card(self, slot: int, kind: str, port: NetworkPort, address: bytes) -> None:
        if self._memory is None or kind not in NETWORK_CARDS or slot >= FIRST_NETWORK_SLOT + MOST_NETWORK_CARDS:
            raise ValueError(f"no network card {kind!r} in slot {slot}: unknown, one too many, or without guest memory")
        line = piix.PciLine(self.isa_bridge, slot)
        self.cards[slot] = NETWORK_CARDS[kind](self.clock, self.log, line, self._memory, port, address, slot)
        self._card_kinds[slot] = kind
        self.pci.add(slot, 0, self.cards[slot])

    def scsi_busy(self) -> bool:
        """Does an adapter have commands under way?"""
        return any(adapter.busy for adapter in self.adapters.values())

    def assign_pci(self) -> None:
        """What a BIOS does for functions that are plugged in; for guests that start without one."""
        for slot, function in {**self.adapters, **self.cards}.items():
            elcr = assign(self.pci, self.isa_bridge, slot, function, slot - FIRST_SCSI_SLOT)
            for port, bits in elcr:
                self.pic.write_port(port, 1, self.pic.read_port(port, 1) | bits)

    def _add_ramdisk(self, size_bytes: int) -> None:
        if self._memory is None:
            raise ValueError("a RAM disk needs guest memory to read and write")
        line = self.interrupts.line(IRQ_RAMDISK)
        self.ramdisk = ramdisk.Ramdisk(self.clock, self.log, line, self._memory, size_bytes)
        self.attach(self.ramdisk, self.ramdisk.ports)

    def mp_record(self) -> MpRecord:
        """What the MP tables say of this PC: bus 0 is PCI, bus 1 ISA."""
        numbers = tuple(each.number for each in self.interrupts.lapics)
        chip = len(numbers)
        isa = [
            MpInterrupt(1, irq, chip, ioapic.PIN_TIMER if irq == IRQ_TIMER else irq)
            for irq in range(16)
            if irq != pic.CASCADE_IRQ
        ]
        from_pci = [
            MpInterrupt(0, at >> 3 << 2 | pin, chip, ioapic.FIRST_PCI_PIN + ((at >> 3) - 1 + pin & 3), flags=LOW_LEVEL)
            for at, function in sorted(self.pci.functions.items())
            if at >> 3 > piix.DEVICE and (pin := function.config[INTERRUPT_PIN] - 1) >= 0
        ]
        return MpRecord(
            processors=numbers, signature=PROCESSOR_SIGNATURE, features=PROCESSOR_FEATURES,
            lapic_version=lapic_registers.VERSION_VALUE & 0xFF, lapic_address=lapic_registers.BASE,
            ioapics=((chip, ioapic.BASE),), ioapic_version=ioapic.VERSION_VALUE & 0xFF, buses=("PCI", "ISA"),
            interrupts=(MpInterrupt(1, 0, chip, ioapic.PIN_PIC, kind=EXTINT), *isa, *from_pci),
            local=(MpInterrupt(1, 0, ALL_LAPICS, 0, kind=EXTINT), MpInterrupt(1, 0, ALL_LAPICS, 1, kind=NMI)),
        )  # fmt: skip

    @staticmethod
    def register_tables() -> dict[str, tuple[Register, ...]]:
        """Every device's datasheet, by the name of its file."""
        return register_tables()

    def save_state(self) -> PcState:
        return PcState(
            self.pic.save_state(),
            self.pit.save_state(),
            self.port61.save_state(),
            self.rtc.save_state(),
            self.uart.save_state(),
            self.keyboard.save_state(),
            self.crtc.save_state(),
            self.pci.save_state(),
            self.debug_port.save_state(),
            self.power.save_state(),
            [each.save_state() for each in self.interrupts.lapics],
            self.ioapic.save_state(),
            msgspec.UNSET if self.ramdisk is None else self.ramdisk.save_state(),
            {n: each.save_state() for n, each in self.adapters.items() if isinstance(each, Lsi53c1030)}
            or msgspec.UNSET,
            {n: each.save_state() for n, each in self.adapters.items() if isinstance(each, BusLogic958)}
            or msgspec.UNSET,
            {n: (self._card_kinds[n], msgspec.msgpack.encode(each.save_state())) for n, each in self.cards.items()}
            or msgspec.UNSET,
        )

    def load_state(self, state: PcState) -> None:
        """The clock must have its time already: timers are asked for again from the deadlines in the state."""
        self.pit.load_state(state.pit)
        self.port61.load_state(state.port61)
        self.rtc.load_state(state.rtc)
        self.uart.load_state(state.uart)
        self.keyboard.load_state(state.keyboard)
        self.crtc.load_state(state.crtc)
        self.pci.load_state(state.pci)
        self.debug_port.load_state(state.debug_port)
        self.power.load_state(state.power)
        self._load_ramdisk(state.ramdisk)
        self._load_adapters(state)
        self._load_cards(state)
        self.pic.load_state(state.pic)
        self.ioapic.load_state(state.ioapic)
        for each, saved in zip(self.interrupts.lapics, state.lapics, strict=True):
            each.load_state(saved)
        self.interrupts.settle()

    def _load_adapters(self, state: PcState) -> None:
        lsilogic = {} if isinstance(state.lsilogic, msgspec.UnsetType) else state.lsilogic
        buslogic = {} if isinstance(state.buslogic, msgspec.UnsetType) else state.buslogic
        saved = dict.fromkeys(lsilogic, Lsi53c1030) | dict.fromkeys(buslogic, BusLogic958)
        if saved != {slot: type(each) for slot, each in self.adapters.items()}:
            raise ValueError("the state is of a PC with other SCSI adapters")
        for slot, each in self.adapters.items():
            if isinstance(each, Lsi53c1030):
                each.load_state(lsilogic[slot])
            else:
                each.load_state(buslogic[slot])

    def _load_cards(self, state: PcState) -> None:
        saved = {} if isinstance(state.network, msgspec.UnsetType) else state.network
        if {slot: kind for slot, (kind, _) in saved.items()} != self._card_kinds:
            raise ValueError("the state is of a PC with other network cards")
        for slot, each in self.cards.items():
            each.load_state(msgspec.msgpack.decode(saved[slot][1], type=each.state_type))

    def _load_ramdisk(self, state: ramdisk.RamdiskState | msgspec.UnsetType) -> None:
        if isinstance(state, msgspec.UnsetType):
            if self.ramdisk is not None:
                raise ValueError("the state is of a PC without a RAM disk, and this one has one")
            return
        if self.ramdisk is None:
            self._add_ramdisk(state.blocks * ramdisk.BLOCK_BYTES)
        assert self.ramdisk is not None
        self.ramdisk.load_state(state)
