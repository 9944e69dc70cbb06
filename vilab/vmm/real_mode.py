"""Real mode: what segments, far transfers and interrupts are without protection.

::

    selector ──× 16──> base        (limit and attributes stay what they were)

    vector ──× 4──> interrupt vector table, at IDTR's base (0 after reset)
                    +--------+---------+
                    | offset | segment |  ──> CS:IP       pushed before: FLAGS, CS, IP; then IF, TF, AC, RF <- 0
                    +--------+---------+

A segment register loaded in protected mode keeps its hidden part until real mode loads it: a base that is not
16 times the selector (as after reset), a limit of 4 GB ("unreal" mode), 32-bit code.

MODEL: limits are not checked, as everywhere on this processor. Address line 20 is always on.
Source: Intel SDM volume 3, sections 21.1 and 21.3; volume 2, INT, IRET, JMP, CALL, RET.
"""

from __future__ import annotations

from vilab.errors import GuestFault
from vilab.machine.registers import CS, ESP, SS
from vilab.vmm.vcpu import Vcpu
from vilab.x86.flags import AC, ID, IF, IOPL, NT, ONE, RF, STATUS, TF
from vilab.x86.flags import DF as DIRECTION

CR0_PE = 1
BIG = 1 << 22
VECTOR_BYTES = 4


def is_real(v: Vcpu) -> bool:
    """Is the guest in real mode?"""
    return not v.cr0 & CR0_PE


def load_segment(v: Vcpu, index: int, selector: int) -> None:
    """Any segment register, CS too."""
    _load(v, index, selector)
    v.set_mode(v.cpl, v.eflags())


def deliver(v: Vcpu, vector: int) -> None:
    """Enter the handler for a vector; EIP must already be what is to be pushed. Error codes do not exist here.

    Raises
    ------
    GuestFault : the vector is beyond the table's limit.
    """
    base, limit = v.idtr
    if VECTOR_BYTES * vector + 3 > limit:
        raise GuestFault(13, 8 * vector + 2, why=f"vector {vector} is beyond the interrupt vector table")
    raw = v.read(base + VECTOR_BYTES * vector, VECTOR_BYTES)
    eflags = v.eflags()
    _push(v, (eflags, v.selector(CS), v.eip), 2, 0xFFFF)
    v.eip = int.from_bytes(raw[:2], "little")
    _load(v, CS, int.from_bytes(raw[2:], "little"))
    v.set_mode(v.cpl, eflags & ~(IF | TF | AC | RF))


def far_jump(v: Vcpu, selector: int, offset: int) -> None:
    load_segment(v, CS, selector)
    v.eip = offset


def far_call(v: Vcpu, selector: int, offset: int, wide: bool, return_eip: int) -> None:
    _push(v, (v.selector(CS), return_eip), 4 if wide else 2, _stack_mask(v))
    far_jump(v, selector, offset)


def far_return(v: Vcpu, wide: bool, extra_bytes: int) -> None:
    """RETF, with the bytes that it drops from the stack."""
    eip, selector = _pop(v, 2, 4 if wide else 2, _stack_mask(v), extra_bytes)
    far_jump(v, selector & 0xFFFF, eip)


def interrupt_return(v: Vcpu, wide: bool) -> None:
    """IRET."""
    eip, selector, popped = _pop(v, 3, 4 if wide else 2, 0xFFFF)
    changeable = STATUS | DIRECTION | TF | IF | IOPL | NT | RF | AC | ID
    if not wide:
        changeable &= 0xFFFF
    v.eip = eip
    _load(v, CS, selector & 0xFFFF)
    v.set_mode(v.cpl, v.eflags() & ~changeable | popped & changeable | ONE)


def _load(v: Vcpu, index: int, selector: int) -> None:
    _, _, limit, flags = v.segment(index)
    v.set_segment(index, selector, selector << 4, limit, flags)


def _stack_mask(v: Vcpu) -> int:
    return 0xFFFFFFFF if v.segment(SS)[3] & BIG else 0xFFFF


def _push(v: Vcpu, values: tuple[int, ...], size: int, mask: int) -> None:
    base, esp = v.segment(SS)[1], v.gpr[ESP]
    for value in values:
        esp = esp - size
        v.write(base + (esp & mask), (value & (1 << 8 * size) - 1).to_bytes(size, "little"))
    v.gpr[ESP] = v.gpr[ESP] & ~mask & 0xFFFFFFFF | esp & mask


def _pop(v: Vcpu, count: int, size: int, mask: int, extra_bytes: int = 0) -> list[int]:
    base, esp = v.segment(SS)[1], v.gpr[ESP]
    values = [
        int.from_bytes(v.read(base + (esp + size * n & mask), size), "little") for n in range(count)
    ]  # fmt: skip
    v.gpr[ESP] = esp & ~mask & 0xFFFFFFFF | esp + size * count + extra_bytes & mask
    return values
