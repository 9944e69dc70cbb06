"""The same random program under two engines, and the first thing that differs.

::

    case ──> Program ──> memory ──┬──> bare ──> after exactly n instructions ──> Outcome ──┐
                                  └──> bt, svm ──────────── the same n ───────> Outcome ──┴──> differences

The bare machine is the judge: the same processor, no VMM. Everything that a guest could know is compared (registers
with their hidden parts, flags, memory, recorded faults, what was sent to ports, how many instructions have retired),
but not time: engines differ in that, as they should. An external interrupt comes after a given number of instructions.

Differences that are accepted, and why, are in ``ACCEPTED``: an instruction of that list where the runs part excuses
the case. Machines are reused, since making one costs more than a case.
"""

from __future__ import annotations

import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from vilab.devices.pic import ChipState, Pic, PicState, reset_state
from vilab.errors import GuestFault, VilabError
from vilab.guests.image import LoadedImage
from vilab.machine.cpu import EDI, ES, ESP, SS
from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code import KINDS, Choice, Program
from vilab.vmm.engine import EngineState
from vilab.vmm.records import GPR_NAMES
from vilab.vmm.vcpu import LDTR, Vcpu, VcpuState
from vilab.vmm.vm import MONITOR_WINDOW, VirtualMachine, VmState
from vilab.x86 import paging as pg
from vilab.x86.decode import OPSIZE, Instruction, Kind, Truncated, decode

Question = Callable[[Instruction, int, str], object]
"""(instruction, CPL, engine): is a difference at this instruction accepted?"""


def _is_op(*ops: str) -> Question:
    return lambda i, _cpl, _engine: i.op in ops


def _negative_return(i: Instruction, _cpl: int, _engine: str) -> bool:
    return i.opcode in (0xC2, 0xCA) and (i.immediate or 0) >= 0x8000


def _rotates_memory_through_carry(i: Instruction, _cpl: int, _engine: str) -> bool:
    return i.opcode in (0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3) and i.reg in (2, 3) and i.modrm < 0xC0


ACCEPTED: tuple[tuple[Question, str], ...] = (
    (_is_op("rdtsc", "rdtscp"), "time is virtual, and engines differ in it"),
    (_is_op("rdpmc"), "the processor's own counters"),
    (
        _is_op("int1", "syscall", "sysenter"),
        "the processor underneath takes INT1 for an undefined opcode, and passes over SYSCALL and SYSENTER",
    ),
    (lambda i, _cpl, _engine: i.address + 15 > 0xFFFFFFFF, "code at the very end of the address space"),
    (_is_op("rdmsr", "wrmsr"), "the virtual MSRs are a plain table, the processor's have meanings"),
    (_is_op("mov to dr", "mov from dr"), "debug registers are kept, but set no breakpoints under a VMM"),
    (
        lambda i, cpl, engine: cpl == 3 and engine == "bt" and i.op in ("sgdt", "sidt", "sldt", "str", "smsw"),
        "ring 3 runs directly, and sees the monitor's tables, as under VMware",
    ),
    (
        lambda i, _cpl, _engine: i.kind is Kind.UNDEFINED or i.opcode >> 24,
        "the processor underneath executes some encodings that a real one refuses "
        "(LOCK before MOV, reserved /reg, VEX without AVX)",
    ),
    (
        lambda i, _cpl, _engine: i.selector is not None and i.selector & ~7 == g.IDLE_TASK,
        "the processor underneath switches tasks by itself; the monitor does not offer that",
    ),
    (_negative_return, "the processor underneath takes the operand of RET for a signed number"),
    (
        _rotates_memory_through_carry,
        "RCL and RCR: the processor underneath loses CF when the store faults after the load, hidden faults included",
    ),
)
"""(which instruction, why a difference there is accepted)"""

ENDINGS = {
    "unsupported": "hardware tasks, real mode, virtual-8086 mode, 16-bit code: the monitor says so, and ends the run",
    "conflict": "the guest uses the monitor's range of linear addresses: it reads the monitor's pages, or the run ends",
}
WRITTEN_BY_MONITOR = (
    "the monitor has pushed an exception frame onto code that the processor then runs as it was: the processor keeps "
    "translations of its own, and only forgets those that the guest itself overwrites"
)
CR4_OFFERED = 0x61C
"""TSD DE PSE OSFXSR OSXMMEXCPT."""
STORES_INTO_ITSELF = "a store into the code around it is begun again and counted twice on the bare machine"
STEPPED_BARE = "a store into the block it stands in is counted twice on the bare machine, unless it is stepped"
"""Accepted where the bare machine, stepped, agrees: the last instruction of a block, repeated, looks like a loop."""

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


class Parting(msgspec.Struct):
    """Where two runs part: after the last instruction of ``case``, which is ``instruction`` (``None``: unreadable)."""

    case: Case
    found: list[str]
    instruction: Instruction | None = None
    cpl: int = 0
    stores_into_itself: bool = False
    in_monitor_range: bool = False
    excuse: str | None = None
    report: str = ""


BT_OPTIONS: tuple[dict[str, Any], ...] = (
    {"cache_bytes": 1 << 20},
    {"cache_bytes": 1 << 14},
    {"cache_bytes": 1 << 20, "smc": "flush"},
)
"""A roomy cache; one that overflows all the time; Embra's policy."""


class _Ports:
    """Stands in for the PC: a real interrupt controller, and ports that answer by arithmetic."""

    def __init__(self, vm: VirtualMachine) -> None:
        self.pic = Pic(vm._interrupt_changed)
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
        self.vm.pc = self.ports = _Ports(self.vm)  # type: ignore[assignment]

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
        reason = ""
        try:
            while not reason and self.vm.cpu.instructions < case.limit:
                if not raised and self.vm.cpu.instructions >= case.interrupt_at:
                    self.interrupt()
                    raised = True
                if not engine.step_instruction() and engine.ended is not None:
                    reason = engine.ended.reason
        except VilabError as error:
            reason = str(error)
        return self.outcome(reason or "limit")

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
    from vilab.vmm.differential_code import Digits

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


# Comparing -----------------------------------------------------------------------------------------------------------

_SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR")


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Everything that differs, a line each; empty if the outcomes are the same."""
    found = []

    def say(what: str, a: object, b: object) -> None:
        if a != b:
            show = [f"{x:08x}" if isinstance(x, int) and not isinstance(x, bool) else str(x) for x in (a, b)]
            found.append(f"{what}: {show[0]} / {show[1]}")

    say("ended", one.ended, other.ended)
    say("instructions", one.instructions, other.instructions)
    say("halted", one.halted, other.halted)
    a, b = one.vcpu, other.vcpu
    for i, name in enumerate(GPR_NAMES):
        say(name, a.gpr[i] & 0xFFFFFFFF, b.gpr[i] & 0xFFFFFFFF)
    for name in ("eip", "eflags", "cpl", "cr0", "cr2", "cr3", "cr4", "gdtr", "idtr"):
        say(name, getattr(a, name), getattr(b, name))
    for i, name in enumerate(_SEGMENTS):
        say(name, *("%04x base %08x limit %08x flags %08x" % s.segments[i] for s in (a, b)))  # noqa: UP031
    if one.memory != other.memory:
        for at in range(0, len(one.memory), 4):
            x, y = one.memory[at : at + 4], other.memory[at : at + 4]
            if x != y:
                found.append(f"memory {at:05x}: {x.hex()} / {y.hex()}")
    say("ports", one.ports, other.ports)
    return found


class Differential:
    """The judge and the engines under test, kept for many cases."""

    def __init__(self, engine: str = "bt") -> None:
        self.engine = engine
        self._machines: dict[tuple[str, int], Machine] = {}

    def machine(self, engine: str, option: int = 0) -> Machine:
        option = option % len(BT_OPTIONS) if engine == "bt" else 0
        machine = self._machines.get((engine, option))
        if machine is None:
            options = BT_OPTIONS[option] if engine == "bt" else {}
            machine = self._machines[engine, option] = Machine(engine, options)
        return machine

    def drop(self) -> None:
        """Make new machines the next time: an error may have left these in a bad state."""
        for machine in self._machines.values():
            machine.vm.close()
        self._machines.clear()

    def compare(self, case: Case) -> list[str]:
        """Run under both; what differs."""
        _, memory, state = prepare(case)
        outcomes = []
        for engine in ("bare", self.engine):
            machine = self.machine(engine, case.option)
            machine.load(memory, state)
            outcomes.append(machine.run(case))
        return differences(*outcomes)

    # Explaining --------------------------------------------------------------------------------------------------

    def excuse(self, case: Case) -> str | None:
        """The reason from the lists of accepted differences, if the runs part at such an instruction."""
        parting = self.part(case)
        return None if parting is None else self.excuse_parting(parting)

    def excuse_parting(self, parting: Parting) -> str | None:
        if parting.excuse is not None:
            return parting.excuse
        if any(line.startswith("TR: 0000") for line in parting.found):
            return "the processor underneath loads a null task register"
        for ending, reason in ENDINGS.items():
            if f"/ {ending}" in parting.found[0]:
                return reason
        if parting.instruction is not None:
            for question, reason in ACCEPTED:
                if question(parting.instruction, parting.cpl, self.engine):
                    return reason
        if parting.in_monitor_range and self.engine != "svm":
            return ENDINGS["conflict"]
        if parting.stores_into_itself or self._counted_twice(parting.case):
            return STORES_INTO_ITSELF
        if self._same_carefully(parting.case, Machine.run):
            return WRITTEN_BY_MONITOR
        return STEPPED_BARE if self._same_carefully(parting.case, Machine.run_stepped) else None

    def _counted_twice(self, case: Case) -> bool:
        """Is the bare machine where the other is, one instruction later?"""
        _, memory, state = prepare(case)
        outcomes = []
        for name, limit in (("bare", case.limit + 1), (self.engine, case.limit)):
            machine = self.machine(name, case.option)
            machine.load(memory, state)
            outcomes.append(machine.run(msgspec.structs.replace(case, limit=limit)))
        outcomes[0].instructions -= 1
        return not differences(*outcomes)

    def _same_carefully(self, case: Case, run_bare: Callable[[Machine, Case], Outcome]) -> bool:
        _, memory, state = prepare(case)
        outcomes = []
        for name, run in (("bare", run_bare), (self.engine, Machine.run)):
            machine = self.machine(name, case.option)
            machine.load(memory, state)
            machine.write_carefully(True)
            outcomes.append(run(machine, case))
            machine.write_carefully(False)
        return not differences(*outcomes)

    def part(self, case: Case) -> Parting | None:
        """Bisect on the number of instructions. ``None``: the outcomes are the same after all."""
        low, high = 0, case.limit
        while low < high:
            middle = (low + high) // 2
            if self.compare(_shortened(case, middle)):
                high = middle
            else:
                low = middle + 1
        shorter = _shortened(case, low)
        found = self.compare(shorter)
        if not found:
            return None
        _, memory, state = prepare(case)
        bare, lines = self.machine("bare"), []
        parting = Parting(shorter, found)
        for count in range(max(0, low - 8), low):
            bare.load(memory, state)
            bare.run(_shortened(case, count))
            v = bare.vm.engine.vcpu
            parting.cpl, parting.instruction = v.cpl, None
            text = f"{v.eip:08x} ring {v.cpl} "
            try:
                i = parting.instruction = decode(v.fetch(), v.eip)
                address = _store_address(v, i)
                parting.stores_into_itself = _is_near(address, v, i)
                if i.op == "mov to cr" and i.reg == 4 and v.gpr[i.rm] & ~CR4_OFFERED:
                    parting.excuse = "bits of CR4 that the virtual processor does not offer"
                parting.in_monitor_range = MONITOR_WINDOW[0] <= address <= MONITOR_WINDOW[1]
                text += f"{i.code.hex():<16} {i.text}"
            except (GuestFault, Truncated) as error:
                text += f"({error})"
            lines.append(f"  {count:4} {text}")
        parting.report = "\n".join(
            [f"after {low} instructions:", *lines, "bare / " + self.engine, *("  " + f for f in found[:20])]
        )
        return parting

    def explain(self, case: Case) -> str:
        """What a failing test prints."""
        parting = self.part(case)
        if parting is None:
            return f"{case}\nno single point of parting found\n" + "\n".join(self.compare(case))
        return f"{case}\n{parting.report}"


def _store_address(v: Vcpu, i: Instruction) -> int:
    """Where the instruction reads or writes, if it names a place; else where a push would."""
    if i.opcode in (0xA4, 0xA5, 0xAA, 0xAB, 0x6C, 0x6D):
        return v.segment(ES)[1] + v.gpr[EDI] & 0xFFFFFFFF
    if i.modrm_at >= 0 and i.memory is not None:
        at = v.segment(i.memory.segment)[1] + i.memory.offset(v.gpr)
        if i.opcode in (0x0FA3, 0x0FAB, 0x0FB3, 0x0FBB):  # BT and its kin reach far with a register operand
            bits = 16 if i.prefixes & OPSIZE else 32
            bit = v.gpr[i.reg] & (1 << bits) - 1
            at += (bit - (bit >> bits - 1 << bits)) // bits * (bits // 8)
        return at & 0xFFFFFFFF
    return v.segment(SS)[1] + v.gpr[ESP] - 4 & 0xFFFFFFFF


def _is_near(address: int, v: Vcpu, i: Instruction) -> bool:
    """Might a store there (of PUSHA, say, which goes on downwards) change the instruction's own bytes? Pages are left out
    of account: there are aliases."""
    return -8 < ((address - v.pc + 0x800) & 0xFFF) - 0x800 < i.size + 32


def _shortened(case: Case, limit: int) -> Case:
    at = case.interrupt_at if case.interrupt_at < limit else 0
    return msgspec.structs.replace(case, limit=limit, interrupt_at=at)


def run_differential(
    cases: int = 20_000, seed: int = 2006, engine: str = "bt", seconds: float | None = None
) -> dict[str, Any]:
    """Compare that many random cases with the bare machine.

    Returns counts (``cases``, ``same``, ``excused`` with ``reasons``, ``different``), ``instructions`` executed by
    the bare machine, ``wall_s``, and for up to ten differing cases an explanation. ``seconds`` ends it early.
    """
    rng = random.Random(seed)
    test = Differential(engine)
    same = instructions = done = 0
    excused: Counter[str] = Counter()
    different: list[str] = []
    started = time.perf_counter()
    for _ in range(cases):
        if seconds is not None and time.perf_counter() - started > seconds:
            break
        case = random_case(rng)
        done += 1
        found = test.compare(case)
        instructions += test.machine("bare").vm.cpu.instructions
        if not found:
            same += 1
        else:
            parting = test.part(case)
            reason = test.excuse_parting(parting) if parting is not None else None
            if reason is not None:
                excused[reason] += 1
            elif len(different) < 10:
                different.append(f"{case}\n{parting.report if parting is not None else found}")
    return {
        "engine": engine, "seed": seed, "cases": done, "same": same, "excused": excused.total(),
        "reasons": dict(excused), "different": done - same - excused.total(), "instructions": instructions,
        "wall_s": round(time.perf_counter() - started, 3), "reports": different,
    }  # fmt: skip
