"""A machine in which a random program runs, used again and again, and what is left when it stops.

::

    Case ──prepare──> Program, memory, registers ──load──> Machine ──run──> Outcome

The PC around the processor is replaced: the interrupt controller is real, all other ports answer by arithmetic, so that
what a program reads does not depend on time.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import msgspec

from vilab.devices.pic import ChipState, Pic, PicState, reset_state
from vilab.errors import VilabError
from vilab.guests.image import LoadedImage
from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Choice, Digits
from vilab.vmm.differential_code.program import Program
from vilab.vmm.differential_code.templates import KINDS
from vilab.vmm.engine_state import EngineState
from vilab.vmm.vcpu import LDTR, VcpuState
from vilab.vmm.vm import VirtualMachine, VmState
from vilab.x86 import paging as pg

MASKED_ENTRIES = (g.DIRECTORY, g.WINDOW_TABLE + 0x1000)
"""Accessed bits in page tables are not compared: translation reads ahead of execution, as a real processor may."""


class Case(msgspec.Struct, frozen=True):
    """One program and how it is run.

    kernel, user : the choices of the two areas. setting : digits for the start state. limit : instructions to execute.
    interrupt_at : an external interrupt is raised after so many, 0 for none. option : which variant of the engine.
    """

    kernel: tuple[Choice, ...]
    user: tuple[Choice, ...]
    setting: int = 0
    limit: int = 400
    interrupt_at: int = 0
    option: int = 0


class Outcome(msgspec.Struct):
    """Where a run stands. ``memory`` without Accessed bits of page tables; ``ports``: what went out."""

    ended: str
    instructions: int
    vcpu: VcpuState
    halted: bool
    memory: bytes
    ports: tuple[tuple[int, int, int], ...]


BT_OPTIONS: tuple[dict[str, Any], ...] = (
    {"cache_bytes": 1 << 20},
    {"cache_bytes": 1 << 14},
    {"cache_bytes": 1 << 20, "smc": "flush"},
    {"cache_bytes": 1 << 20, "superblocks": True, "ahead": 4, "guilty_after": 2},
)
"""A roomy cache; one that overflows all the time; Embra's policy; long units, translated ahead, that adapt early."""


class StandInPorts:
    """Stands in for the PC: a real interrupt controller, and ports that answer by arithmetic."""

    def __init__(self, vm: VirtualMachine) -> None:
        self.pic = Pic(vm._interrupt_changed)
        self.interrupts = self.pic
        self.power = self
        self.uart = self
        self.request = None
        self.sent: list[tuple[int, int, int]] = []

    def poll_input(self) -> bool:
        return False

    def read_port(self, port: int, size_bytes: int) -> int:
        if port in Pic.ports and size_bytes == 1:
            return self.pic.read_port(port)
        return (port + 1) * 0x9E3779B1 & (1 << 8 * size_bytes) - 1

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        if port in Pic.ports and size_bytes == 1:
            self.pic.write_port(port, 1, value)
        self.sent.append((port, size_bytes, value))

    def read_mmio(self, gpa: int, size_bytes: int) -> int:
        return (1 << 8 * size_bytes) - 1

    def write_mmio(self, gpa: int, size_bytes: int, value: int) -> None:
        """Nobody is there."""

    def save_state(self) -> PicState:
        return self.pic.save_state()

    def load_state(self, state: PicState) -> None:
        self.pic.load_state(state)
        self.sent = []


def _image() -> LoadedImage:
    return LoadedImage(
        name="differential", kind="flat", segments=(), zeroed=(), entry=g.KERNEL_CODE, gpr={}, esp=g.KERNEL_STACK,
        gdt_base=g.GDT, gdt_limit=len(g.gdt()) - 1, cs=g.KERNEL_CS, ds=g.KERNEL_DS,
    )  # fmt: skip


class Machine:
    """A virtual machine that is used again and again."""

    def __init__(self, engine: str, options: dict[str, Any] | None = None, **more: Any) -> None:
        self.name = engine
        self.vm = VirtualMachine(
            _image(), engine, g.MEMORY_BYTES, count_instructions=1 << 60, engine_options=options or {}, **more
        )
        self.vm.pc = self.ports = StandInPorts(self.vm)  # type: ignore[assignment]
        self.vm.engine.has_backdoor = False  # the bare processor has none, and CPUID would tell

    def load(self, memory: bytes, vcpu: VcpuState) -> None:
        """Start again, with this memory and these registers."""
        vm, pic = self.vm, reset_state()
        pic.master = ChipState(g.VECTOR_BASE, icw3=4, imr=0)
        cpu = vm.cpu
        vm.machine_memory.write(vm.pmap.mpn_of[0] << 12, memory)
        cpu.forget_code()
        vm.load_state(VmState(self.name, EngineState(vcpu, 0, 0, False, None), pic, b""), memory=False)  # type: ignore[arg-type]
        cpu.set_instructions(0)

    def write_carefully(self, careful: bool) -> None:
        """Let the processor forget all code whenever the monitor has written memory: see ``WRITTEN_BY_MONITOR``."""
        vcpu = self.vm.engine.vcpu
        vcpu.__dict__.pop("write", None)
        if careful:
            write, forget = vcpu.write, self.vm.cpu.forget_code

            def write_and_forget(gva: int, data: bytes, user: bool = False) -> None:
                write(gva, data, user)
                forget()

            vcpu.__dict__["write"] = write_and_forget

    def run_to(self, instructions: int) -> str:
        """Go on to exactly this many instructions since ``load``; why it stopped."""
        engine = self.vm.engine
        if engine.ended is not None and engine.ended.reason == "limit":
            engine.ended = None
        self.vm.cpu.set_instruction_limit(instructions)
        ended = engine.run()
        return ended.reason if ended is not None else ""

    def run(self, case: Case) -> Outcome:
        """``load`` must have been called."""
        try:
            reason = self.run_to(case.interrupt_at or case.limit)
            if case.interrupt_at and reason == "limit":
                self.interrupt()
                reason = self.run_to(case.limit)
        except VilabError as error:
            reason = str(error)
        return self.outcome(reason)

    def run_stepped(self, case: Case) -> Outcome:
        """The same, instruction by instruction."""
        engine, raised = self.vm.engine, not case.interrupt_at
        self.vm.cpu.set_instruction_limit(1 << 60)
        try:
            while engine.ended is None:
                if self.vm.cpu.instructions >= case.limit:
                    # What is due before the next instruction still happens, and then the run is over.
                    self.vm.cpu.set_instruction_limit(case.limit)
                if not raised and self.vm.cpu.instructions >= case.interrupt_at:
                    self.interrupt()
                    raised = True
                engine.step_instruction()
            reason = engine.ended.reason
        except VilabError as error:
            reason = str(error)
        return self.outcome(reason)

    def interrupt(self) -> None:
        """Raise the interrupt line, and leave it high."""
        self.ports.pic.set_line(g.IRQ, True)

    def outcome(self, reason: str) -> Outcome:
        vm = self.vm
        state = vm.engine.vcpu.save_state()
        if not state.segments[LDTR][0] & 0xFFFC:
            # After LLDT with a null selector the processor keeps the old type and an empty table.
            state.segments[LDTR] = (state.segments[LDTR][0], 0, 0, 0)
        return Outcome(
            reason, vm.cpu.instructions, state, vm.engine.halted,
            comparable(vm.pmap.read(0, g.MEMORY_BYTES)), tuple(self.ports.sent),
        )  # fmt: skip


_ACCESSED_MASK = int.from_bytes(struct.pack("<I", 0xFFFFFFFF & ~pg.ACCESSED) * 1024, "little")


def comparable(memory: bytes) -> bytes:
    """Memory with the Accessed bits of the page tables cleared."""
    first, last = MASKED_ENTRIES
    pages = [
        (int.from_bytes(memory[at : at + 4096], "little") & _ACCESSED_MASK).to_bytes(4096, "little")
        for at in range(first, last, 4096)
    ]
    return memory[:first] + b"".join(pages) + memory[last:]


# A case as memory and registers --------------------------------------------------------------------------------------

_STARTS = (0xC000, 0xCF80, 0xCFF0, 0xC123, 0xCF00, 0xCFC1)
_REGISTERS = (0, 1, 0xFFFFFFFF, 0x80000000, 0x14100, 0x7FFFFFFF, 0xF010, 0x41)


def prepare(case: Case) -> tuple[Program, bytes, VcpuState]:
    """Lay the program out, and say in what state it starts."""
    d = Digits(case.setting)
    kernel_at = d.of(_STARTS)
    user_at = d.of(_STARTS) - g.KERNEL_CODE + g.USER_CODE
    program = Program(case.kernel, case.user, kernel_at, user_at)
    memory = bytearray(g.empty_world())

    def put(at: int, data: bytes) -> None:
        memory[at : at + len(data)] = data

    for (at, code), area in ((program.kernel, g.KERNEL_CODE), (program.user, g.USER_CODE)):
        put(at, code[: area + g.CODE_BYTES - at])
    for table, slots, area in (
        (g.KERNEL_RECOVERY, program.kernel_slots, g.KERNEL_CODE), (g.USER_RECOVERY, program.user_slots, g.USER_CODE)
    ):  # fmt: skip
        put(table, g.recovery_table([min(slot - area, g.CODE_BYTES - 8) for slot in slots]))
    put(g.KRESUME, program.kernel_slots[-1].to_bytes(4, "little"))
    put(g.KERNEL_PROGRESS, (kernel_at - g.KERNEL_CODE).to_bytes(4, "little"))
    put(g.USER_PROGRESS, (user_at - g.USER_CODE).to_bytes(4, "little"))
    paging = not d.one_in(5)
    cr0 = 0x11 | (0x80000000 if paging else 0) | (0 if d.one_in(4) else 0x10000)
    eflags = 2 | (0x200 if d.below(2) else 0) | d.of((0, 0x8D5, 0x41, 0x400))
    gpr = [d.of(_REGISTERS) for _ in range(8)]
    gpr[3], gpr[5], gpr[6], gpr[7] = g.DATA_USER + 0x80, g.LOW_DATA + 0x80, g.DATA_USER + 0x180, g.DATA_LAST + 0x80
    gpr[4] = g.KERNEL_STACK
    state = VcpuState(
        gpr=gpr, eip=kernel_at, eflags=eflags, cpl=0, segments=g.start_segments(), cr0=cr0, cr2=0, cr3=g.DIRECTORY,
        cr4=0x10 if d.one_in(3) else 0, gdtr=(g.GDT, len(g.gdt()) - 1), idtr=(g.IDT, 0x7FF), msrs={},
        debug=[0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400],
    )  # fmt: skip
    return program, bytes(memory), state


def random_case(rng: random.Random) -> Case:
    """Long and short programs, some with an interrupt."""

    def choices(most: int) -> tuple[Choice, ...]:
        return tuple((rng.randrange(KINDS), rng.getrandbits(72)) for _ in range(rng.randint(0, most)))

    limit = rng.choice((20, 60, 150, 400, 800))
    return Case(
        choices(60) or ((0, 0),), choices(30), rng.getrandbits(64), limit,
        rng.randint(1, limit) if rng.random() < 0.5 else 0, rng.randrange(len(BT_OPTIONS)),
    )  # fmt: skip
