"""What emulated instructions read and write: operands, the stack, and what is around the vCPU.

MODEL: data accesses are checked neither for segment limits nor for null segments: the processor underneath does not
either, and all engines must do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vilab.errors import VmmBug
from vilab.machine.registers import SS
from vilab.vmm import deliver, segments
from vilab.vmm.vcpu import Vcpu
from vilab.x86.decode import Instruction
from vilab.x86.flags import ZF

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
SEGMENT_NAMES = ("ES", "CS", "SS", "DS", "FS", "GS")


class Platform(Protocol):
    """What is around the vCPU."""

    def port_in(self, port: int, size_bytes: int) -> int: ...

    def port_out(self, port: int, size_bytes: int, value: int) -> None: ...

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]: ...

    def read_msr(self, index: int) -> int | None:
        """``None``: there is no such register."""
        ...

    def write_msr(self, index: int, value: int) -> bool:
        """False: there is no such register, or it does not take the value."""
        ...

    def tsc(self) -> int:
        """The time-stamp counter, from virtual time."""
        ...

    def halt(self) -> None:
        """The guest has executed HLT."""
        ...


Operation = Callable[[Vcpu, Instruction, Platform], str]
"""Does it, EIP excepted (already behind the instruction when called), and says what it did in a few words."""


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


def store_selector(v: Vcpu, i: Instruction, selector: int) -> str:
    """SLDT, STR, MOV from a segment register: a register gets the whole operand size, memory 16 bits."""
    write_rm(v, i, i.operand_bits // 8 if i.modrm >= 0xC0 else 2, selector)
    return f"{selector:04x}"
