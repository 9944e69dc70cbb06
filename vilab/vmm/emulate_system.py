"""Flags, control and debug registers, descriptor-table registers, CPUID, time and MSRs.

Source: Intel SDM volume 2, per instruction.
"""

from __future__ import annotations

from vilab.errors import GuestFault
from vilab.vmm import segments
from vilab.vmm.operands import (
    EAX,
    EBX,
    ECX,
    EDX,
    Operation,
    Platform,
    drop,
    linear,
    peek,
    push,
    read_rm,
    store_selector,
    write_rm,
)
from vilab.vmm.vcpu import LDTR, TR, Vcpu
from vilab.x86.decode import Instruction
from vilab.x86.flags import AC, DF, ID, IF, IOPL, NT, RF, STATUS, TF, VM

CR0_PE, CR0_MP, CR0_EM, CR0_TS, CR0_ET = 1, 2, 4, 8, 16
CR4_TSD, CR4_DE = 1 << 2, 1 << 3
DEBUG_ONES = {6: 0xFFFF0FF0, 7: 0x400}
"""Bits of DR6 and DR7 that are always 1."""
POPF_ALWAYS = STATUS | TF | DF | NT | AC | ID


# Flags and halting ---------------------------------------------------------------------------------------------------


def _interrupt_flag(v: Vcpu, on: bool) -> str:
    flags = v.eflags()
    if v.cpl > flags >> 12 & 3:
        raise GuestFault(13, 0, why=f"CPL {v.cpl} > IOPL {flags >> 12 & 3}")
    v.set_eflags(flags | IF if on else flags & ~IF)
    return "vIF <- 1" if on else "vIF <- 0"


def _cli(v: Vcpu, _i: Instruction, _p: Platform) -> str:
    return _interrupt_flag(v, False)


def _sti(v: Vcpu, _i: Instruction, _p: Platform) -> str:
    return _interrupt_flag(v, True)


def _pushf(v: Vcpu, i: Instruction, _p: Platform) -> str:
    flags = v.eflags() & ~(VM | RF)
    push(v, flags, i.operand_bits // 8)
    return f"push {flags:08x}"


def _popf(v: Vcpu, i: Instruction, _p: Platform) -> str:
    size = i.operand_bits // 8
    popped, flags = peek(v, size), v.eflags()
    changeable = POPF_ALWAYS
    if v.cpl == 0:
        changeable |= IF | IOPL
    elif v.cpl <= flags >> 12 & 3:
        changeable |= IF
    if size == 2:
        changeable &= 0xFFFF
    drop(v, size)
    flags = flags & ~changeable | popped & changeable
    v.set_eflags(flags)
    return f"vIF <- {flags >> 9 & 1}"


def _hlt(_v: Vcpu, _i: Instruction, platform: Platform) -> str:
    platform.halt()
    return "halted"


# Control and system registers ----------------------------------------------------------------------------------------


def _mov_from_cr(v: Vcpu, i: Instruction, _p: Platform) -> str:
    number = i.reg
    if number not in (0, 2, 3, 4):
        raise GuestFault(6, why=f"there is no CR{number}")
    value = (v.cr0, 0, v.cr2, v.cr3, v.cr4)[number]
    v.gpr[i.rm] = value
    return f"CR{number} = {value:08x}"


def _mov_to_cr(v: Vcpu, i: Instruction, _p: Platform) -> str:
    number, value = i.reg, v.gpr[i.rm] & 0xFFFFFFFF
    if number not in (0, 2, 3, 4):
        raise GuestFault(6, why=f"there is no CR{number}")
    if number == 0:
        if value >> 31 and not value & CR0_PE:
            raise GuestFault(13, 0, why="paging without protected mode")
        # MODEL: reserved bits are kept, as by the processor underneath.
        value |= CR0_ET
    v.set_cr(number, value)
    return f"vCR{number} <- {value:08x}"


def _mov_from_dr(v: Vcpu, i: Instruction, _p: Platform) -> str:
    v.gpr[i.rm] = v.debug[_debug_number(v, i)]
    return f"DR{i.reg} = {v.gpr[i.rm]:08x}"


def _mov_to_dr(v: Vcpu, i: Instruction, _p: Platform) -> str:
    number = _debug_number(v, i)
    v.debug[number] = v.gpr[i.rm] & 0xFFFFFFFF | DEBUG_ONES.get(number, 0)
    return f"vDR{i.reg} <- {v.gpr[i.rm]:08x}"


def _debug_number(v: Vcpu, i: Instruction) -> int:
    """DR4 and DR5 are other names of DR6 and DR7, unless CR4.DE takes them away."""
    if i.reg not in (4, 5):
        return i.reg
    if v.cr4 & CR4_DE:
        raise GuestFault(6, why=f"CR4.DE: there is no DR{i.reg}")
    return i.reg + 2


def _clts(v: Vcpu, _i: Instruction, _p: Platform) -> str:
    v.set_cr(0, v.cr0 & ~CR0_TS)
    return "vTS <- 0"


def _lmsw(v: Vcpu, i: Instruction, _p: Platform) -> str:
    value = read_rm(v, i, 2)
    v.set_cr(0, v.cr0 & ~0xE | value & 0xF)
    return f"vCR0 <- {v.cr0:08x}"


def _smsw(v: Vcpu, i: Instruction, _p: Platform) -> str:
    # MODEL: a register gets 16 bits, as from the processor underneath; the SDM leaves its upper half undefined.
    write_rm(v, i, 2, v.cr0)
    return f"CR0 = {v.cr0 & 0xFFFF:04x}"


def _store_table(table: tuple[int, int], v: Vcpu, i: Instruction) -> str:
    base, limit = table
    if i.operand_bits == 16:
        base &= 0xFFFFFF
    at = linear(v, i)
    v.write(at, limit.to_bytes(2, "little"), v.cpl == 3)
    v.write(at + 2, base.to_bytes(4, "little"), v.cpl == 3)
    return f"base {base:08x}"


def _sgdt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    return _store_table(v.gdtr, v, i)


def _sidt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    return _store_table(v.idtr, v, i)


def _load_table(v: Vcpu, i: Instruction) -> tuple[int, int]:
    raw = v.read(linear(v, i), 6, v.cpl == 3)
    base = int.from_bytes(raw[2:], "little")
    return base & 0xFFFFFF if i.operand_bits == 16 else base, int.from_bytes(raw[:2], "little")


def _lgdt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    v.gdtr = _load_table(v, i)
    return f"vGDTR <- {v.gdtr[0]:08x}"


def _lidt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    v.idtr = _load_table(v, i)
    return f"vIDTR <- {v.idtr[0]:08x}"


def _sldt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    return store_selector(v, i, v.selector(LDTR))


def _str(v: Vcpu, i: Instruction, _p: Platform) -> str:
    return store_selector(v, i, v.selector(TR))


def _lldt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    selector = read_rm(v, i, 2)
    segments.load_ldt(v, selector)
    return f"vLDTR <- {selector:04x}"


def _ltr(v: Vcpu, i: Instruction, _p: Platform) -> str:
    selector = read_rm(v, i, 2)
    segments.load_task_register(v, selector)
    return f"vTR <- {selector:04x}"


def _invlpg(v: Vcpu, i: Instruction, _p: Platform) -> str:
    address = linear(v, i)
    if v.mmu is not None:
        v.mmu.page_invalidated(address)
    return f"page {address >> 12:05x} forgotten"


def _nothing(_v: Vcpu, _i: Instruction, _p: Platform) -> str:
    return "caches written back"


def _cpuid(v: Vcpu, _i: Instruction, platform: Platform) -> str:
    leaf = v.gpr[EAX] & 0xFFFFFFFF
    values = platform.cpuid(leaf, v.gpr[ECX] & 0xFFFFFFFF)
    for register, value in zip((EAX, EBX, ECX, EDX), values, strict=True):
        v.gpr[register] = value
    return f"leaf {leaf:x}"


def _rdtsc(v: Vcpu, _i: Instruction, platform: Platform) -> str:
    if v.cr4 & CR4_TSD and v.cpl != 0:
        raise GuestFault(13, 0, why="CR4.TSD keeps RDTSC for ring 0")
    value = platform.tsc()
    v.gpr[EAX], v.gpr[EDX] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
    return f"TSC {value}"


def _rdmsr(v: Vcpu, _i: Instruction, platform: Platform) -> str:
    index = v.gpr[ECX] & 0xFFFFFFFF
    value = platform.read_msr(index)
    if value is None:
        raise GuestFault(13, 0, why=f"there is no MSR {index:x}")
    v.gpr[EAX], v.gpr[EDX] = value & 0xFFFFFFFF, value >> 32
    return f"MSR {index:x}"


def _wrmsr(v: Vcpu, _i: Instruction, platform: Platform) -> str:
    index = v.gpr[ECX] & 0xFFFFFFFF
    if not platform.write_msr(index, (v.gpr[EDX] & 0xFFFFFFFF) << 32 | v.gpr[EAX] & 0xFFFFFFFF):
        raise GuestFault(13, 0, why=f"MSR {index:x} does not take that")
    return f"MSR {index:x} written"


OPERATIONS: dict[str, Operation] = {
    "cli": _cli, "sti": _sti, "pushf": _pushf, "popf": _popf, "hlt": _hlt,
    "mov from cr": _mov_from_cr, "mov to cr": _mov_to_cr, "mov from dr": _mov_from_dr, "mov to dr": _mov_to_dr,
    "clts": _clts, "lmsw": _lmsw, "smsw": _smsw, "sgdt": _sgdt, "sidt": _sidt, "lgdt": _lgdt, "lidt": _lidt,
    "sldt": _sldt, "str": _str, "lldt": _lldt, "ltr": _ltr, "invlpg": _invlpg, "invd": _nothing, "wbinvd": _nothing,
    "cpuid": _cpuid, "rdtsc": _rdtsc, "rdmsr": _rdmsr, "wrmsr": _wrmsr,
}  # fmt: skip
