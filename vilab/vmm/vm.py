"""One virtual machine: memory, devices, a vCPU, and the engine that runs it.

::

              VirtualMachine
      ┌───────────┼──────────────┬──────────────┐
    pmap         Pc            clock, log      engine ──> Cpu
    (memory)   (devices)                       bare, deprivileged, trap, bt, para, svm
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.clock import VirtualClock
from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.devices.lapic_timer import BUS_HZ
from vilab.devices.mp_table import place_mp_tables
from vilab.devices.pc import Pc, PcState
from vilab.errors import AdminError
from vilab.events import EventLog, PoweredOn
from vilab.guests.image import CR0_AT_ENTRY, CR0_IN_REAL_MODE, LoadedImage
from vilab.machine.cpu import Cpu
from vilab.memory.dma import DmaView
from vilab.memory.grant import MemoryGrant, alone
from vilab.storage.scsi.parallel import ParallelBus
from vilab.vmm import hypercalls
from vilab.vmm.cpuid import cpuid
from vilab.vmm.engine import Engine
from vilab.vmm.engine_state import EngineState
from vilab.vmm.network import AttachedCard, check_cards
from vilab.vmm.scsi_disks import ScsiAdapter
from vilab.vmm.tape import Tape
from vilab.vmm.vcpu import NULL_SEGMENT, VcpuState

if TYPE_CHECKING:
    from vilab.protocols import Console

ENGINES = ("deprivileged", "trap", "bt", "para", "svm", "bare")

MONITOR_WINDOW = (0xF000_0000, 0xF2FF_FFFF)
"""Linear range that the monitor keeps for itself while it runs a deprivileged guest: 48 MB that guests leave free."""

MONITOR_BYTES = 48 << 20
"""Machine memory that a VMM needs for itself: translation cache, shadow or nested tables."""

FLAT_CODE_FLAGS, FLAT_DATA_FLAGS = 0x00CF9B00, 0x00CF9300
REAL_CODE_FLAGS, REAL_DATA_FLAGS = 0x00009B00, 0x00009300
TASK_AT_RESET = (0, 0, 0xFFFF, 0x8B00)


class QuietConsole:
    """A serial line that keeps what the guest says, and on which lines are typed: those it was given, others later."""

    interactive = False

    def __init__(self, typed: bytes = b"") -> None:
        self.output = bytearray()
        self._typed = typed

    def write(self, data: bytes) -> None:
        self.output += data

    def read_available(self) -> bytes:
        typed, self._typed = self._typed, b""
        return typed

    def type(self, line: str) -> None:
        """A line, and Enter."""
        self._typed += line.encode() + b"\n"

    @property
    def said(self) -> str:
        """All that the guest has written."""
        return self.output.decode(errors="replace").replace("\r", "")


class VmState(msgspec.Struct):
    """All of a virtual machine: ``state -> bytes -> state`` loses nothing. ``memory``: guest physical, in order."""

    engine_name: str
    engine: EngineState
    devices: PcState
    memory: bytes


class VirtualMachine:
    """A guest and everything it needs.

    Parameters
    ----------
    image : from ``vilab.guests.load``.
    engine : one of ``ENGINES``.
    memory_bytes : guest physical memory, a multiple of 4 KB.
    console : the far end of the serial line.
    grant : its part of a host's memory; without it the machine is its own.
    count_instructions : count guest instructions exactly and stop after this many; ``None`` does not count.
    ramdisk_bytes : size of the RAM disk, a multiple of 4 KB; 0 for none.
    adapters : SCSI adapters with their disks; the caller closes the disks when the machine is gone.
    cards : network cards, each with the port that its cable is in.
    clock : one that its storage shares; a new one by default.

    Raises
    ------
    AdminError : unknown engine, or memory that cannot be had.
    """

    def __init__(
        self,
        image: LoadedImage,
        engine: str = "bt",
        memory_bytes: int = 16 << 20,
        *,
        console: Console | None = None,
        log: EventLog | None = None,
        costs: CostModel = DEFAULT_COSTS,
        count_instructions: int | None = None,
        native_hook: bool = True,
        grant: MemoryGrant | None = None,
        engine_options: dict[str, object] | None = None,
        ramdisk_bytes: int = 0,
        adapters: Sequence[ScsiAdapter] = (),
        cards: Sequence[AttachedCard] = (),
        clock: VirtualClock | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise AdminError(f"There is no engine {engine!r}; there are {', '.join(ENGINES)}.")
        if memory_bytes % PAGE_BYTES:
            raise AdminError(f"Guest memory of {memory_bytes} bytes is not a whole number of 4 KB pages.")
        if ramdisk_bytes % PAGE_BYTES or ramdisk_bytes < 0:
            raise AdminError(f"A RAM disk of {ramdisk_bytes} bytes is not a whole number of 4 KB blocks.")
        hypercalls.check_built_for(image, engine)
        if image.real_mode and engine == "deprivileged":
            raise AdminError(
                f"{image.name} starts in real mode, which has no rings: there is nothing to deprivilege. "
                "Run it with --engine bare, trap, bt or svm."
            )
        self.image = image
        self.memory_bytes = memory_bytes
        self.console = console if console is not None else QuietConsole()
        self.log = log if log is not None else EventLog()
        self.costs = costs
        self.clock = clock if clock is not None else VirtualClock()
        rom_bytes = len(image.rom)
        if grant is None:
            grant = alone(memory_bytes, 0 if engine == "bare" else MONITOR_BYTES, rom_bytes)
        elif engine == "bare":
            raise AdminError("The bare engine has no monitor, so its guest cannot share a machine: it would own it.")
        self.grant = grant
        self.machine_memory, self.monitor_frames, self.pmap = grant.memory, grant.monitor, grant.pmap
        for page, mpn in enumerate(grant.rom):
            self.pmap.map_high(((1 << 32) - rom_bytes >> PAGE_SHIFT) + page, mpn)
        self.cpu = Cpu(self.machine_memory, native_hook, rom_bytes=rom_bytes if engine == "bare" else 0)
        self.tape = Tape(self.console)
        self.adapters = tuple(adapters)
        self.cards = tuple(cards)
        check_cards(self.cards)
        self.buses = [self._make_bus(index, each) for index, each in enumerate(self.adapters)]
        self.pc = Pc(
            self.clock, self.log, self.tape, memory_bytes, on_interrupt=self._interrupt_changed,
            memory=DmaView(self.pmap), ramdisk_bytes=ramdisk_bytes,
            scsi=[(each.controller, bus) for each, bus in zip(self.adapters, self.buses, strict=True)],
            cards=self.cards,
        )  # fmt: skip
        self.lapic = self.pc.lapic
        self.engine: Engine = self._make_engine(engine, engine_options or {})
        self.pmap.on_wait = self.engine.owe_ns
        self.started_wall_s = time.perf_counter()
        self._load_image()
        if count_instructions is not None:
            self.engine.count_instructions(count_instructions)
        self.engine.start()
        if self.log.active:
            self.log.emit(PoweredOn(0, engine, image.name, image.entry))

    def _make_bus(self, index: int, adapter: ScsiAdapter) -> ParallelBus:
        disks = {each.target: (each.device, each.identity) for each in adapter.disks}
        return ParallelBus(disks, self.clock, self.log, adapter.latency, f"vmhba{index}")

    def _make_engine(self, name: str, options: dict[str, object]) -> Engine:
        if name == "bare":
            from vilab.vmm.engine_bare import BareEngine as Chosen
        elif name == "svm":
            paging = options.get("paging", "nested")
            options = {key: value for key, value in options.items() if key != "paging"}
            if paging == "nested":
                from vilab.vmm.engine_svm import SvmEngine as Chosen  # type: ignore[assignment]
            elif paging == "shadow":
                from vilab.vmm.svm_shadow import SvmShadowEngine as Chosen  # type: ignore[assignment]
            else:
                raise AdminError(f"There is no paging {paging!r} under AMD-V; there are nested and shadow.")
        elif name == "bt":
            placement = options.get("placement", "packed")
            options = {key: value for key, value in options.items() if key != "placement"}
            if placement == "mirrored":
                from vilab.vmm.sixteen_bit_engines import MirroredEngine16 as Chosen  # type: ignore[assignment]
            elif placement == "packed":
                from vilab.vmm.sixteen_bit_engines import TranslationEngine16 as Chosen  # type: ignore[assignment]
            else:
                raise AdminError(
                    f"There is no placement {placement!r} of translated code; there are packed and mirrored."
                )
        elif name == "para":
            from vilab.vmm.engine_para import ParaEngine as Chosen  # type: ignore[assignment]
        elif name == "trap":
            from vilab.vmm.sixteen_bit_engines import TrapEngine16 as Chosen  # type: ignore[assignment]
        else:
            from vilab.vmm.engine_trap import NoVmmEngine as Chosen  # type: ignore[assignment]
        return Chosen(self, **options)

    def _load_image(self) -> None:
        for gpa, data in self.image.segments:
            self.pmap.write(gpa, data)
        if self.image.rom:
            self.pmap.write((1 << 32) - len(self.image.rom), self.image.rom)
        # The BIOS data area: 639 KB of conventional memory. Kernels look there.
        if not any(gpa <= 0x413 < gpa + len(data) for gpa, data in self.image.segments):
            self.pmap.write(0x413, (639).to_bytes(2, "little"))
        if not self.image.rom:  # a BIOS makes tables of its own
            self.pc.assign_pci()
            taken = [(gpa, len(data)) for gpa, data in self.image.segments]
            place_mp_tables(self.pc.mp_record(), self.pmap, [*taken, *self.image.zeroed], self.memory_bytes)
        self.engine.stop_eip = self.image.stop_eip

    def initial_state(self) -> VcpuState:
        """The vCPU as the loader wants it, paging and interrupts off: 32-bit, flat segments, or in real mode."""
        image = self.image
        names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
        gpr = [image.gpr.get(name, 0) & 0xFFFFFFFF for name in names]
        gpr[4] = image.esp
        data = (image.ds, 0, 0xFFFFFFFF, FLAT_DATA_FLAGS)
        code = (image.cs, 0, 0xFFFFFFFF, FLAT_CODE_FLAGS)
        idtr = (0, 0)
        if image.real_mode:
            data = (image.ds, image.ds << 4, 0xFFFF, REAL_DATA_FLAGS)
            code = (image.cs, image.cs << 4 if image.cs_base is None else image.cs_base, 0xFFFF, REAL_CODE_FLAGS)
            idtr = (0, 0x3FF)
        return VcpuState(
            gpr=gpr, eip=image.entry, eflags=0x2, cpl=0,
            segments=[data, code, data, data, data, data, NULL_SEGMENT, TASK_AT_RESET],
            cr0=CR0_IN_REAL_MODE if image.real_mode else CR0_AT_ENTRY, cr2=0, cr3=0, cr4=0,
            gdtr=(image.gdt_base, image.gdt_limit), idtr=idtr, msrs={},
            debug=[0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400],
        )  # fmt: skip

    def _interrupt_changed(self, high: bool) -> None:
        self.engine.interrupt_changed(high)

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """What the virtual CPU says of itself: EAX, EBX, ECX, EDX."""
        return cpuid(
            leaf, apic=self.lapic.enabled, apic_id=self.lapic.number, hypervisor=self.engine.has_backdoor,
            tsc_khz=1000 * self.costs.tsc_per_us, bus_khz=BUS_HZ // 1000,
        )  # fmt: skip

    def poll_input(self) -> bool:
        """Has anything been typed? It arrives when the guest is idle, and if piped in not while it waits for a disk."""
        if self.adapters and self.pc.scsi_busy() and not getattr(self.console, "interactive", False):
            return False
        return self.pc.uart.poll_input()

    def pace(self, at_ns: int) -> None:
        """Only for a console that a person types at: let wall time catch up with virtual time."""
        if getattr(self.console, "interactive", False):
            ahead_s = at_ns / 1e9 - (time.perf_counter() - self.started_wall_s)
            if ahead_s > 0:
                wait = getattr(self.console, "wait", time.sleep)
                wait(min(ahead_s, 0.05))

    def close(self) -> None:
        """Free the processor."""
        self.cpu.close()

    # State -------------------------------------------------------------------------------------------------------

    def save_state(self, memory: bool = True) -> VmState:
        """The whole machine as a value; without ``memory`` the caller keeps that."""
        self.engine.sync_clock()
        content = self.pmap.content() if memory else b""
        return VmState(self.engine.name, self.engine.save_state(), self.pc.save_state(), content)

    def load_state(self, state: VmState, memory: bool = True) -> None:
        """Become what the record says. Caches (translations, shadow tables) start empty."""
        if memory and len(state.memory) != self.memory_bytes:
            raise AdminError(
                f"A state of {len(state.memory) >> 20} MB does not fit a machine of {self.memory_bytes >> 20} MB."
            )
        now = state.engine.executed_bytes * self.costs.code_ns_per_byte + state.engine.offset_ns
        self.clock.forget_all(now)
        if memory:
            self.pmap.restore(state.memory)
            self.cpu.forget_code()
        self.pc.load_state(state.devices)
        self.engine.load_state(state.engine)
