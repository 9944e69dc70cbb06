"""Plain stores done by the monitor: what a guest does to a traced page, most of the time.

::

    MOV r/m, r    MOV r/m, imm    MOV moffs, a    XCHG r/m, r    STOS    MOVS

None of them touches the flags, so nothing else has to be known. Any other instruction that stores to a traced page is
let through once by a single step. Of a repeated STOS or MOVS as many iterations are done as the page has room for.
Source: Intel SDM volume 2, per instruction.
"""

from __future__ import annotations

from vilab.vmm.operands import address_in, linear, set_register
from vilab.vmm.vcpu import Vcpu
from vilab.x86.decode import ADDRSIZE, DS, ES, OPSIZE, REP, REPNE, Instruction
from vilab.x86.flags import DF

EAX, ECX, ESI, EDI = 0, 1, 6, 7
MOVE = frozenset((0x88, 0x89, 0xC6, 0xC7))
TO_OFFSET = frozenset((0xA2, 0xA3))
EXCHANGE = frozenset((0x86, 0x87))
MOVS = frozenset((0xA4, 0xA5))
STOS = frozenset((0xAA, 0xAB))
STORES = MOVE | TO_OFFSET | EXCHANGE | MOVS | STOS


def can_simulate(i: Instruction) -> bool:
    """Is it one of the plain stores, to memory, with 32-bit addresses?"""
    if i.opcode not in STORES or i.prefixes & (ADDRSIZE | REPNE) or i.bits != 32:
        return False
    if i.opcode in MOVS or i.opcode in STOS or i.opcode in TO_OFFSET:
        return not i.prefixes & REP or i.opcode not in TO_OFFSET
    return 0 <= i.modrm < 0xC0 and not i.prefixes & REP and (i.opcode < 0xC6 or i.reg == 0)


def store_address(v: Vcpu, i: Instruction) -> int:
    """Linear address of the store."""
    if i.opcode in MOVS or i.opcode in STOS:
        return address_in(v, ES, v.gpr[EDI])
    return linear(v, i)


def simulate(v: Vcpu, i: Instruction, gva: int = -1, gpa: int = 0, most: int = 1) -> int:
    """Do it.

    Parameters
    ----------
    gva, gpa : where the processor found that a store is not allowed, and what the guest's tables say of that address.
    most : so many iterations of a repeated instruction at most.

    Returns
    -------
    0: the instruction is done. More: so many iterations of a repeated one are done, and EIP stays on it.

    Raises
    ------
    GuestFault : as the processor would; nothing has been changed.
    """
    size = 1 if not i.opcode & 1 else 2 if i.prefixes & OPSIZE else 4
    user = v.cpl == 3
    opcode = i.opcode
    if opcode in MOVS or opcode in STOS:
        return _string(v, i, size, user, most, gva, gpa)
    at = linear(v, i)
    if opcode in EXCHANGE:
        old = int.from_bytes(v.read(at, size, user), "little")
        v.write(at, _register(v, i.reg, size).to_bytes(size, "little"), user)
        _set_register(v, i.reg, size, old)
        return 0
    if opcode in TO_OFFSET:
        value = v.gpr[EAX]
    elif opcode >= 0xC6:
        value = int.from_bytes(i.code[i.immediate_at : i.immediate_at + size], "little")
    else:
        value = _register(v, i.reg, size)
    data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    if at == gva and at & 0xFFF <= 0x1000 - size:
        v.pmap.write(gpa, data)
    else:
        v.write(at, data, user)
    return 0


def _string(v: Vcpu, i: Instruction, size: int, user: bool, most: int, gva: int, gpa: int) -> int:
    repeated = bool(i.prefixes & REP)
    if repeated and not v.gpr[ECX] & 0xFFFFFFFF:
        return 0
    down = v.eflags() & DF
    to = address_in(v, ES, v.gpr[EDI])
    times = 1
    if repeated and not down and to == gva:
        # As far as the page goes that is stored to.
        times = max(1, min(v.gpr[ECX] & 0xFFFFFFFF, most, (0x1000 - (to & 0xFFF)) // size))
    if i.opcode in MOVS:
        override = i.segment_override
        source = address_in(v, DS if override is None else override, v.gpr[ESI])
        if times > 1:
            times = max(1, min(times, (0x1000 - (source & 0xFFF)) // size))
            if v.translate(source, False, user) >> 12 == gpa >> 12:
                times = 1  # it may read what it has just written
        data = v.read(source, size * times, user)
    else:
        data = (v.gpr[EAX] & (1 << 8 * size) - 1).to_bytes(size, "little") * times
    if to == gva and to & 0xFFF <= 0x1000 - len(data):
        v.write_page(gpa, data)
    else:
        v.write(to, data, user)
    step = -size if down else size * times
    v.gpr[EDI] = v.gpr[EDI] + step & 0xFFFFFFFF
    if i.opcode in MOVS:
        v.gpr[ESI] = v.gpr[ESI] + step & 0xFFFFFFFF
    if not repeated:
        return 0
    v.gpr[ECX] = v.gpr[ECX] - times & 0xFFFFFFFF
    return times


def _register(v: Vcpu, index: int, size: int) -> int:
    if size == 1:
        return v.gpr[index & 3] >> (8 if index >= 4 else 0) & 0xFF
    return v.gpr[index] & (1 << 8 * size) - 1


def _set_register(v: Vcpu, index: int, size: int, value: int) -> None:
    if size == 1 and index >= 4:
        v.gpr[index & 3] = v.gpr[index & 3] & ~0xFF00 | value << 8
    else:
        set_register(v, index, size, value)
