"""Differences that are accepted, each with its reason: most are defects of the processor underneath.

Two runs are compared up to the instruction where they part. If that is one of these, the case is excused.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.machine.registers import EDI, ES, ESP, SS
from vilab.vmm import differential_guest as g
from vilab.vmm.differential_machine import Case
from vilab.vmm.vcpu import Vcpu
from vilab.vmm.vm import MONITOR_WINDOW
from vilab.x86.decode import OPSIZE, Instruction, Kind

Question = Callable[[Instruction, int, str], object]
"""(instruction, CPL, engine): is a difference at this instruction accepted?"""


def _is_op(*ops: str) -> Question:
    return lambda i, _cpl, _engine: i.op in ops


def _negative_return(i: Instruction, _cpl: int, _engine: str) -> bool:
    return i.opcode in (0xC2, 0xCA) and (i.immediate or 0) >= 0x8000


def _stores_x87_environment(i: Instruction, _cpl: int, _engine: str) -> bool:
    return (i.opcode, i.reg) in ((0xD9, 6), (0xDD, 6), (0x0FAE, 0)) and i.modrm < 0xC0


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
    (_is_op("rdmsr", "wrmsr"), "the processor underneath has other MSRs, and takes an unknown one for 0"),
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
    (
        lambda i, cpl, _engine: cpl == 3 and i.op in ("call far", "ret far", "iret"),
        "far transfers in ring 3: the processor underneath uses the stack with the rights of a supervisor",
    ),
    (
        _stores_x87_environment,
        "FNSTENV, FNSAVE, FXSAVE: they show the selector of CS in which the last x87 instruction really ran",
    ),
    (
        lambda i, _cpl, _engine: i.address & ~0xFFF == g.REMAPPED,
        "overwritten code has changed a page-table entry and not told the processor: what is in its TLB counts",
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
LEFT_BEHIND = "x87 state that no record holds was left behind by an earlier case; on a new machine all is the same"
FETCHED_AHEAD = (
    "the bare processor fetches a whole block of code before it runs it, and where the block goes on into a missing "
    "page it faults before the instructions that come first"
)
STORES_INTO_ITSELF = "a store into the code around it is begun again and counted twice on the bare machine"
STEPPED_BARE = "a store into the block it stands in is counted twice on the bare machine, unless it is stepped"
"""Accepted where the bare machine, stepped, agrees: the last instruction of a block, repeated, looks like a loop."""


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


def store_address(v: Vcpu, i: Instruction) -> int:
    """Where the instruction reads or writes, if it names a place; else where a push would."""
    if i.opcode in (0xA4, 0xA5, 0xAA, 0xAB, 0x6C, 0x6D):
        return v.segment(ES)[1] + v.gpr[EDI] & 0xFFFFFFFF
    if i.memory is not None:
        at = v.segment(i.memory.segment)[1] + i.memory.offset(v.gpr)
        if i.opcode in (0x0FA3, 0x0FAB, 0x0FB3, 0x0FBB):  # BT and its kin reach far with a register operand
            bits = 16 if i.prefixes & OPSIZE else 32
            bit = v.gpr[i.reg] & (1 << bits) - 1
            at += (bit - (bit >> bits - 1 << bits)) // bits * (bits // 8)
        return at & 0xFFFFFFFF
    return v.segment(SS)[1] + v.gpr[ESP] - 4 & 0xFFFFFFFF


def is_near(address: int, v: Vcpu, i: Instruction) -> bool:
    """Might a store there (of PUSHA, say, which goes on downwards) change the instruction's own bytes?

    Pages are left out of account: there are aliases.
    """
    return -8 < ((address - v.pc + 0x800) & 0xFFF) - 0x800 < i.size + 32


def look(parting: Parting, v: Vcpu, i: Instruction) -> None:
    """Note what the state before the instruction says about it."""
    parting.instruction = i
    address = store_address(v, i)
    parting.stores_into_itself = is_near(address, v, i)
    parting.in_monitor_range = MONITOR_WINDOW[0] <= address <= MONITOR_WINDOW[1]
    parting.excuse = None
    if i.op == "mov to cr" and i.reg == 4 and v.gpr[i.rm] & ~CR4_OFFERED:
        parting.excuse = "bits of CR4 that the virtual processor does not offer"
    elif i.op == "mov to cr" and i.reg == 0 and v.gpr[i.rm] >> 31 and not v.gpr[i.rm] & 1:
        parting.excuse = "paging without protected mode: the processor underneath allows it"


def excuse_at_instruction(parting: Parting, engine: str) -> str | None:
    """The reason why this difference is accepted, as far as the instruction tells."""
    if parting.excuse is not None:
        return parting.excuse
    if any(line.startswith("TR: 0000") for line in parting.found):
        return "the processor underneath loads a null task register"
    for ending, reason in ENDINGS.items():
        if f"/ {ending}" in parting.found[0]:
            return reason
    if parting.instruction is not None:
        for question, reason in ACCEPTED:
            if question(parting.instruction, parting.cpl, engine):
                return reason
    if parting.in_monitor_range and engine != "svm":
        return ENDINGS["conflict"]
    return STORES_INTO_ITSELF if parting.stores_into_itself else None
