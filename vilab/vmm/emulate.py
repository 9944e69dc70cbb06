"""What each privileged or critical instruction means, once, for every engine.

An engine that cannot let the processor run an instruction calls ``execute``: it checks privilege by the guest's own
CPL, does what the instruction does to the guest's state, and moves EIP on. Engines differ only in how control gets
here (a trap, a callout, a #VMEXIT).

Source: Intel SDM volume 2, per instruction. Data accesses are checked neither for segment limits nor for null segments:
the processor underneath does not either, and all engines must do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vilab.errors import GuestFault, GuestStopped, VmmBug
from vilab.machine.cpu import CS, DS, ES, FS, GS, SS
from vilab.vmm import deliver, far, segments
from vilab.vmm.vcpu import LDTR, TR, Vcpu
from vilab.x86.decode import OPSIZE, REP, REPNE, Instruction
from vilab.x86.flags import AC, DF, ID, IF, IOPL, NT, RF, STATUS, TF, VM, ZF

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
CR0_PE, CR0_MP, CR0_EM, CR0_TS, CR0_ET = 1, 2, 4, 8, 16
CR4_TSD, CR4_DE = 1 << 2, 1 << 3
DEBUG_ONES = {6: 0xFFFF0FF0, 7: 0x400}
"""Bits of DR6 and DR7 that are always 1."""
POPF_ALWAYS = STATUS | TF | DF | NT | AC | ID
SEGMENT_NAMES = ("ES", "CS", "SS", "DS", "FS", "GS")
MSR_TSC = 0x10


class Platform(Protocol):
    """What is around the vCPU."""

    def port_in(self, port: int, size_bytes: int) -> int: ...

    def port_out(self, port: int, size_bytes: int, value: int) -> None: ...

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]: ...

    def tsc(self) -> int:
        """The time-stamp counter, from virtual time."""
        ...

    def halt(self) -> None:
        """The guest has executed HLT."""
        ...


Operation = Callable[[Vcpu, Instruction, Platform], str]
"""Does it, EIP excepted (already behind the instruction when called), and says what it did in a few words."""


def execute(v: Vcpu, i: Instruction, platform: Platform) -> str:
    """Carry out one instruction at CS:EIP.

    Returns the effect in a few words, for the log.

    Raises
    ------
    GuestFault : as the processor would, with EIP still on the instruction.
    """
    if i.op == "too long":
        raise GuestFault(13, 0, why="instruction longer than 15 bytes")
    operation = OPERATIONS.get(i.op)
    if operation is None:
        raise GuestFault(6, why="undefined opcode")
    if i.op in PRIVILEGED and v.cpl != 0:
        raise GuestFault(13, 0, why=f"{i.op} is for ring 0")
    before = v.eip
    v.eip = before + len(i.code) & 0xFFFFFFFF
    try:
        return operation(v, i, platform)
    except GuestFault:
        v.eip = before
        raise


# Operands ------------------------------------------------------------------------------------------------------------


def linear(v: Vcpu, i: Instruction) -> int:
    """Linear address of the memory operand."""
    operand = i.memory
    if operand is None:
        raise VmmBug(f"{i.text} has no memory operand.")
    return address_in(v, operand.segment, operand.offset(v.gpr))


def address_in(v: Vcpu, segment: int, offset: int) -> int:
    """Linear address of an offset."""
    return v.segment(segment)[1] + offset & 0xFFFFFFFF


def read_rm(v: Vcpu, i: Instruction, size_bytes: int) -> int:
    if i.modrm >= 0xC0:
        return v.gpr[i.rm] & (1 << 8 * size_bytes) - 1
    return int.from_bytes(v.read(linear(v, i), size_bytes, v.cpl == 3), "little")


def write_rm(v: Vcpu, i: Instruction, size_bytes: int, value: int) -> None:
    if i.modrm >= 0xC0:
        set_register(v, i.rm, size_bytes, value)
    else:
        v.write(linear(v, i), (value & (1 << 8 * size_bytes) - 1).to_bytes(size_bytes, "little"), v.cpl == 3)


def set_register(v: Vcpu, index: int, size_bytes: int, value: int) -> None:
    if size_bytes == 4:
        v.gpr[index] = value & 0xFFFFFFFF
    elif size_bytes == 2:
        v.gpr[index] = v.gpr[index] & ~0xFFFF | value & 0xFFFF
    else:
        v.gpr[index] = v.gpr[index] & ~0xFF | value & 0xFF


def push(v: Vcpu, value: int, size_bytes: int) -> None:
    stack = v.segment(SS)
    pusher = deliver.Pusher(v, stack[1], v.gpr[ESP], bool(stack[3] & segments.BIG), size_bytes == 4, v.cpl == 3)
    pusher.push(value)
    v.gpr[ESP] = pusher.commit()


def peek(v: Vcpu, size_bytes: int) -> int:
    stack = v.segment(SS)
    mask = 0xFFFFFFFF if stack[3] & segments.BIG else 0xFFFF
    return int.from_bytes(v.read(stack[1] + (v.gpr[ESP] & mask), size_bytes, v.cpl == 3), "little")


def drop(v: Vcpu, size_bytes: int) -> None:
    mask = 0xFFFFFFFF if v.segment(SS)[3] & segments.BIG else 0xFFFF
    v.gpr[ESP] = v.gpr[ESP] & ~mask & 0xFFFFFFFF | v.gpr[ESP] + size_bytes & mask


def set_zf(v: Vcpu, on: bool) -> None:
    v.set_eflags(v.eflags() & ~ZF | (ZF if on else 0))


def check_ports(v: Vcpu, port: int, size_bytes: int) -> None:
    """#GP(0) where CPL > IOPL and the TSS's I/O map does not allow the port."""
    if v.cpl <= v.eflags() >> 12 & 3:
        return
    _, base, limit, flags = v.segment(TR)
    if flags & segments.PRESENT and limit >= 103:
        at = int.from_bytes(v.read(base + 102, 2), "little") + port // 8
        if at + 1 <= limit:
            bits = int.from_bytes(v.read(base + at, 2), "little") >> (port & 7)
            if not bits & (1 << size_bytes) - 1:
                return
    raise GuestFault(13, 0, why=f"port {port:04x} is not for ring {v.cpl}")


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
        if not value & CR0_PE:
            raise GuestStopped(f"The guest left protected mode at {v.eip:08x}, which is not supported.")
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
    if i.prefixes & OPSIZE:
        base &= 0xFFFFFF
    v.write(linear(v, i), limit.to_bytes(2, "little") + base.to_bytes(4, "little"), v.cpl == 3)
    return f"base {base:08x}"


def _sgdt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    return _store_table(v.gdtr, v, i)


def _sidt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    return _store_table(v.idtr, v, i)


def _load_table(v: Vcpu, i: Instruction) -> tuple[int, int]:
    raw = v.read(linear(v, i), 6, v.cpl == 3)
    base = int.from_bytes(raw[2:], "little")
    return base & 0xFFFFFF if i.prefixes & OPSIZE else base, int.from_bytes(raw[:2], "little")


def _lgdt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    v.gdtr = _load_table(v, i)
    return f"vGDTR <- {v.gdtr[0]:08x}"


def _lidt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    v.idtr = _load_table(v, i)
    return f"vIDTR <- {v.idtr[0]:08x}"


def _store_selector(v: Vcpu, i: Instruction, selector: int) -> str:
    write_rm(v, i, i.operand_bits // 8 if i.modrm >= 0xC0 else 2, selector)
    return f"{selector:04x}"


def _sldt(v: Vcpu, i: Instruction, _p: Platform) -> str:
    return _store_selector(v, i, v.selector(LDTR))


def _str(v: Vcpu, i: Instruction, _p: Platform) -> str:
    return _store_selector(v, i, v.selector(TR))


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
    value = platform.tsc() if index == MSR_TSC else v.msrs.get(index, 0)
    v.gpr[EAX], v.gpr[EDX] = value & 0xFFFFFFFF, value >> 32
    return f"MSR {index:x}"


def _wrmsr(v: Vcpu, _i: Instruction, _p: Platform) -> str:
    index = v.gpr[ECX] & 0xFFFFFFFF
    v.msrs[index] = (v.gpr[EDX] & 0xFFFFFFFF) << 32 | v.gpr[EAX] & 0xFFFFFFFF
    return f"MSR {index:x} written"


# Segments ------------------------------------------------------------------------------------------------------------

_PUSHED = {0x06: ES, 0x0E: CS, 0x16: SS, 0x1E: DS, 0x0FA0: FS, 0x0FA8: GS}
_POPPED = {0x07: ES, 0x17: SS, 0x1F: DS, 0x0FA1: FS, 0x0FA9: GS}
_FAR_POINTERS = {"les": ES, "lds": DS, "lss": SS, "lfs": FS, "lgs": GS}


def _push_seg(v: Vcpu, i: Instruction, _p: Platform) -> str:
    selector = v.selector(_PUSHED[i.opcode])
    push(v, selector, i.operand_bits // 8)
    return f"push {selector:04x}"


def _pop_seg(v: Vcpu, i: Instruction, _p: Platform) -> str:
    size, index = i.operand_bits // 8, _POPPED[i.opcode]
    selector = peek(v, size) & 0xFFFF
    segments.load_segment(v, index, selector)
    drop(v, size)
    return f"{SEGMENT_NAMES[index]} <- {selector:04x}"


def _mov_from_seg(v: Vcpu, i: Instruction, _p: Platform) -> str:
    if i.reg > 5:
        raise GuestFault(6, why="there is no such segment register")
    return _store_selector(v, i, v.selector(i.reg))


def _mov_to_seg(v: Vcpu, i: Instruction, _p: Platform) -> str:
    if i.reg > 5 or i.reg == CS:
        raise GuestFault(6, why="CS cannot be loaded with MOV")
    selector = read_rm(v, i, 2)
    segments.load_segment(v, i.reg, selector)
    return f"{SEGMENT_NAMES[i.reg]} <- {selector:04x}"


def _load_far_pointer(v: Vcpu, i: Instruction, _p: Platform) -> str:
    size, address = i.operand_bits // 8, linear(v, i)
    offset = int.from_bytes(v.read(address, size, v.cpl == 3), "little")
    selector = int.from_bytes(v.read(address + size, 2, v.cpl == 3), "little")
    segments.load_segment(v, _FAR_POINTERS[i.op], selector)
    set_register(v, i.reg, size, offset)
    return f"{i.op[1:].upper()} <- {selector:04x}"


def _lar(v: Vcpu, i: Instruction, _p: Platform) -> str:
    rights = segments.access_rights(v, read_rm(v, i, 2))
    if rights is not None:
        set_register(v, i.reg, i.operand_bits // 8, rights)
    set_zf(v, rights is not None)
    return "ZF 0" if rights is None else f"{rights:08x}"


def _lsl(v: Vcpu, i: Instruction, _p: Platform) -> str:
    limit = segments.segment_limit(v, read_rm(v, i, 2))
    if limit is not None:
        set_register(v, i.reg, i.operand_bits // 8, limit)
    set_zf(v, limit is not None)
    return "ZF 0" if limit is None else f"{limit:08x}"


def _verify(v: Vcpu, i: Instruction, _p: Platform) -> str:
    ok = segments.verify(v, read_rm(v, i, 2), write=i.op == "verw")
    set_zf(v, ok)
    return f"ZF {int(ok)}"


# Far transfers -------------------------------------------------------------------------------------------------------


def _far_target(v: Vcpu, i: Instruction) -> tuple[int, int]:
    if i.selector is not None:
        return i.selector, i.immediate or 0
    size, address = i.operand_bits // 8, linear(v, i)
    raw = v.read(address, size + 2, v.cpl == 3)
    return int.from_bytes(raw[size:], "little"), int.from_bytes(raw[:size], "little")


def _jmp_far(v: Vcpu, i: Instruction, _p: Platform) -> str:
    far.far_jump(v, *_far_target(v, i))
    return f"CS <- {v.selector(CS):04x}"


def _call_far(v: Vcpu, i: Instruction, _p: Platform) -> str:
    far.far_call(v, *_far_target(v, i), i.operand_bits == 32, v.eip)
    return f"CS <- {v.selector(CS):04x}"


def _ret_far(v: Vcpu, i: Instruction, _p: Platform) -> str:
    far.far_return(v, i.operand_bits == 32, (i.immediate or 0) if i.opcode == 0xCA else 0)
    return f"CS <- {v.selector(CS):04x}"


def _iret(v: Vcpu, i: Instruction, _p: Platform) -> str:
    far.interrupt_return(v, i.operand_bits == 32)
    return f"to ring {v.cpl}"


def _int(v: Vcpu, i: Instruction, _p: Platform) -> str:
    vector = 3 if i.op == "int3" else 4 if i.op == "into" else i.immediate or 0
    if i.op == "into" and not v.eflags() & 0x800:
        return "OF 0"
    deliver.deliver(v, vector, software=True)
    return f"gate {vector:02x}"


def _int1(v: Vcpu, _i: Instruction, _p: Platform) -> str:
    deliver.deliver(v, 1)
    return "gate 01"


# Near transfers: only where a translator leaves one to the monitor ---------------------------------------------------


def _branch(v: Vcpu, i: Instruction, target: int) -> None:
    v.eip = target & (0xFFFFFFFF if i.operand_bits == 32 else 0xFFFF)


def _near_target(v: Vcpu, i: Instruction) -> int:
    return i.target if i.target is not None else read_rm(v, i, i.operand_bits // 8)


def _jmp(v: Vcpu, i: Instruction, _p: Platform) -> str:
    _branch(v, i, _near_target(v, i))
    return f"to {v.eip:08x}"


def _call(v: Vcpu, i: Instruction, _p: Platform) -> str:
    target, behind = _near_target(v, i), v.eip
    push(v, behind, i.operand_bits // 8)
    _branch(v, i, target)
    return f"to {v.eip:08x}"


def _ret(v: Vcpu, i: Instruction, _p: Platform) -> str:
    size = i.operand_bits // 8
    target = peek(v, size)
    drop(v, size + ((i.immediate or 0) if i.opcode == 0xC2 else 0))
    _branch(v, i, target)
    return f"to {v.eip:08x}"


# Ports ---------------------------------------------------------------------------------------------------------------


def _port_and_size(v: Vcpu, i: Instruction) -> tuple[int, int]:
    size = 1 if not i.opcode & 1 else i.operand_bits // 8
    port = i.immediate or 0 if i.opcode in (0xE4, 0xE5, 0xE6, 0xE7) else v.gpr[EDX] & 0xFFFF
    check_ports(v, port, size)
    return port, size


def _in(v: Vcpu, i: Instruction, platform: Platform) -> str:
    port, size = _port_and_size(v, i)
    value = platform.port_in(port, size)
    set_register(v, EAX, size, value)
    return f"{value:x} from port {port:x}"


def _out(v: Vcpu, i: Instruction, platform: Platform) -> str:
    port, size = _port_and_size(v, i)
    value = v.gpr[EAX] & (1 << 8 * size) - 1
    platform.port_out(port, size, value)
    return f"{value:x} to port {port:x}"


def _string_io(v: Vcpu, i: Instruction, platform: Platform) -> str:
    """One iteration of INS or OUTS; with REP, EIP stays until the counter has run out."""
    size = 1 if not i.opcode & 1 else i.operand_bits // 8
    port = v.gpr[EDX] & 0xFFFF
    check_ports(v, port, size)
    mask = 0xFFFFFFFF if i.address_bits == 32 else 0xFFFF
    repeated = i.prefixes & (REP | REPNE)
    if repeated and not v.gpr[ECX] & mask:
        return "counter 0"
    index = EDI if i.op == "ins" else ESI
    if i.op == "ins":
        address = address_in(v, ES, v.gpr[EDI] & mask)
        v.translate(address, True, v.cpl == 3)
        v.write(address, platform.port_in(port, size).to_bytes(size, "little"), v.cpl == 3)
    else:
        override = i.segment_override
        address = address_in(v, DS if override is None else override, v.gpr[ESI] & mask)
        platform.port_out(port, size, int.from_bytes(v.read(address, size, v.cpl == 3), "little"))
    step = -size if v.eflags() & DF else size
    v.gpr[index] = v.gpr[index] & ~mask & 0xFFFFFFFF | v.gpr[index] + step & mask
    if repeated:
        v.gpr[ECX] = v.gpr[ECX] & ~mask & 0xFFFFFFFF | v.gpr[ECX] - 1 & mask
        if v.gpr[ECX] & mask:
            v.eip = v.eip - len(i.code) & 0xFFFFFFFF
    return f"port {port:x}"


OPERATIONS: dict[str, Operation] = {
    "cli": _cli, "sti": _sti, "pushf": _pushf, "popf": _popf, "hlt": _hlt,
    "mov from cr": _mov_from_cr, "mov to cr": _mov_to_cr, "mov from dr": _mov_from_dr, "mov to dr": _mov_to_dr,
    "clts": _clts, "lmsw": _lmsw, "smsw": _smsw, "sgdt": _sgdt, "sidt": _sidt, "lgdt": _lgdt, "lidt": _lidt,
    "sldt": _sldt, "str": _str, "lldt": _lldt, "ltr": _ltr, "invlpg": _invlpg, "invd": _nothing, "wbinvd": _nothing,
    "cpuid": _cpuid, "rdtsc": _rdtsc, "rdmsr": _rdmsr, "wrmsr": _wrmsr,
    "push seg": _push_seg, "pop seg": _pop_seg, "mov from seg": _mov_from_seg, "mov to seg": _mov_to_seg,
    "les": _load_far_pointer, "lds": _load_far_pointer, "lss": _load_far_pointer, "lfs": _load_far_pointer,
    "lgs": _load_far_pointer, "lar": _lar, "lsl": _lsl, "verr": _verify, "verw": _verify,
    "jmp far": _jmp_far, "call far": _call_far, "ret far": _ret_far, "iret": _iret,
    "int": _int, "int3": _int, "into": _int, "int1": _int1,
    "jmp": _jmp, "call": _call, "ret": _ret,
    "in": _in, "out": _out, "ins": _string_io, "outs": _string_io,
}  # fmt: skip

SEGMENT_LOADS = frozenset(("mov to seg", "pop seg", "les", "lds", "lss", "lfs", "lgs"))

PRIVILEGED = frozenset(
    ("hlt", "mov from cr", "mov to cr", "mov from dr", "mov to dr", "clts", "lmsw", "lgdt", "lidt", "lldt", "ltr",
     "invlpg", "invd", "wbinvd", "rdmsr", "wrmsr")
)  # fmt: skip
"""#GP(0) outside ring 0."""
