"""Delivering interrupts and exceptions through the guest's IDT.

::

    vector ──> IDT gate ──> handler's code segment ──> same ring: push on the current stack
                                                   └─> inner ring: SS:ESP from the TSS, old SS and ESP pushed first

    stack after:   [SS  ESP]  EFLAGS  CS  EIP  [error code]   <- ESP

In real mode there are no gates: see ``real_mode``.

This processor delivers nothing by itself, so the bare machine uses this file too: as its microcode.
Source: Intel SDM volume 3, sections 6.12 to 6.14, table 6-5.
"""

from __future__ import annotations

from vilab.errors import VECTORS_WITH_ERROR_CODE, GuestFault, GuestStopped
from vilab.machine.registers import CS, SS
from vilab.vmm import real_mode, segments
from vilab.vmm.vcpu import TR, Vcpu
from vilab.x86.descriptors import TASK_GATE, TSS16, TSS16_BUSY
from vilab.x86.flags import IF, NT, RF, TF, VM

CONTRIBUTORY = frozenset((0, 10, 11, 12, 13))
DOUBLE_FAULT = 8
ESP = 4


class Pusher:
    """Pushes onto a stack that is not the current one yet; nothing is written before ``commit``."""

    def __init__(self, v: Vcpu, base: int, esp: int, big: bool, wide: bool, user: bool) -> None:
        self._v, self._base, self._user = v, base, user
        self._mask = 0xFFFFFFFF if big else 0xFFFF
        self._esp, self._top = esp, esp & self._mask
        self._size = 4 if wide else 2
        self._items: list[bytes] = []

    def push(self, value: int) -> None:
        self._items.append((value & (1 << 8 * self._size) - 1).to_bytes(self._size, "little"))

    def commit(self) -> int:
        """Write everything; the new ESP. Raises #PF with nothing written."""
        data = b"".join(reversed(self._items))
        top = self._top - len(data) & self._mask
        if top + len(data) > self._mask + 1:  # wraps round the segment's end: one by one
            at = self._top
            for item in self._items:
                at = at - self._size & self._mask
                self._v.write(self._base + at, item, self._user)
        else:
            self._v.write(self._base + top, data, self._user)
        return self._esp & ~self._mask & 0xFFFFFFFF | top


def inner_stack(v: Vcpu, ring: int, ext: int) -> tuple[int, int]:
    """(SS, ESP) for an inner ring, from the TSS."""
    selector, base, limit, flags = v.segment(TR)
    if not flags & segments.PRESENT:
        raise GuestFault(10, selector & 0xFFFC | ext, why="no task register loaded")
    if segments.type_of(flags) in (TSS16, TSS16_BUSY):
        at, size = 2 + 4 * ring, 2
    else:
        at, size = 4 + 8 * ring, 4
    if at + size + 1 > limit:
        raise GuestFault(10, selector & 0xFFFC | ext, why="TSS too short for a stack of that ring")
    raw = v.read(base + at, size + 2)
    return int.from_bytes(raw[size:], "little"), int.from_bytes(raw[:size], "little")


def deliver(
    v: Vcpu, vector: int, error_code: int | None = None, *, software: bool = False, external: bool = False
) -> None:
    """Enter the guest's handler for a vector; EIP must already be what is to be pushed.

    Parameters
    ----------
    software : INT n, INT3, INTO: the gate's DPL is checked against CPL.
    external : an interrupt from a device: faults on the way carry EXT.

    Raises
    ------
    GuestFault : the delivery itself faulted; nothing was changed.
    GuestStopped : a task gate, which this monitor does not support.
    """
    if real_mode.is_real(v):
        real_mode.deliver(v, vector)
        return
    ext = 0 if software else 1
    base, limit = v.idtr
    in_idt = vector * 8 + 2 | ext
    if vector * 8 + 7 > limit:
        raise GuestFault(13, in_idt, why=f"vector {vector} is beyond the IDT")
    raw = v.read(base + vector * 8, 8)
    low, high = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")
    kind = segments.type_of(high)
    if high & segments.S_BIT or kind not in (5, 6, 7, 14, 15):
        raise GuestFault(13, in_idt, why=f"vector {vector} has no interrupt or trap gate")
    cpl = v.cpl
    if software and segments.dpl_of(high) < cpl:
        raise GuestFault(13, in_idt, why=f"gate {vector:02x} is not for ring {cpl}")
    if not high & segments.PRESENT:
        raise GuestFault(11, in_idt, why=f"gate {vector:02x} not present")
    if kind == TASK_GATE:
        raise GuestStopped(f"The guest's vector {vector} is a task gate, and hardware task switches are not supported.")
    wide = bool(kind & 8)
    selector, offset = low >> 16, low & 0xFFFF | (high & 0xFFFF0000 if wide else 0)
    if selector & 0xFFFC == 0:
        raise GuestFault(13, ext, why=f"gate {vector:02x} leads to a null selector")
    code_low, code_high, code_at = segments.fetch(v, selector, ext=ext)
    error = selector & 0xFFFC | ext
    new_cpl = segments.dpl_of(code_high)
    if not code_high & segments.S_BIT or not code_high & segments.CODE or new_cpl > cpl:
        raise GuestFault(13, error, why="the handler's segment is not code, or less privileged")
    if not code_high & segments.PRESENT:
        raise GuestFault(11, error, why="the handler's segment is not present")
    if code_high & segments.CONFORMING:
        new_cpl = cpl

    eflags = v.eflags()
    old_ss, old_esp = v.segment(SS), v.gpr[ESP]
    stack = old_ss
    if new_cpl < cpl:
        ss, esp = inner_stack(v, new_cpl, ext)
        stack = segments.stack_segment(v, ss, new_cpl, 10, ext)
        pusher = Pusher(v, stack[1], esp, bool(stack[3] & segments.BIG), wide, False)
        pusher.push(old_ss[0])
        pusher.push(old_esp)
    else:
        pusher = Pusher(v, stack[1], old_esp, bool(stack[3] & segments.BIG), wide, cpl == 3)
    pusher.push(eflags)
    pusher.push(v.segment(CS)[0])
    pusher.push(v.eip)
    if error_code is not None:
        pusher.push(error_code)
    esp = pusher.commit()
    code_high = segments.mark_accessed(v, code_high, code_at)

    v.gpr[ESP] = esp
    if new_cpl < cpl:
        v.set_segment(SS, *stack)
    _, code_base, code_limit, code_flags = segments.hidden(selector, code_low, code_high)
    v.set_segment(CS, selector & ~3 | new_cpl, code_base, code_limit, code_flags)
    v.eip = offset
    v.set_mode(new_cpl, eflags & ~(TF | NT | RF | VM | (0 if kind & 1 else IF)))


def inject(v: Vcpu, fault: GuestFault, *, software: bool = False, external: bool = False) -> GuestFault:
    """Deliver an exception; if that faults, the fault that follows, down to the triple fault.

    Returns the exception that was delivered in the end.

    Raises
    ------
    GuestStopped : a triple fault.
    """
    first = fault
    while True:
        if fault.vector == 14 and fault.address is not None:
            v.cr2 = fault.address
        error = fault.error_code if not external and fault.vector in VECTORS_WITH_ERROR_CODE and not software else None
        try:
            deliver(v, fault.vector, error, software=software, external=external)
            return fault
        except GuestFault as second:
            if fault.vector == DOUBLE_FAULT and not software and not external:
                raise GuestStopped(
                    f"Triple fault at {v.eip:08x}: {first} led to {second}, and the double-fault handler "
                    f"could not be entered. A real machine would reset."
                ) from None
            if not (software or external) and _doubles(fault, second):
                if second.vector == 14 and second.address is not None:
                    v.cr2 = second.address
                fault = GuestFault(DOUBLE_FAULT, 0, why=f"{second} while delivering {fault}")
            else:
                fault = second
            software = external = False


def _doubles(first: GuestFault, second: GuestFault) -> bool:
    """SDM volume 3, table 6-5."""
    if first.vector in CONTRIBUTORY:
        return second.vector in CONTRIBUTORY
    return first.vector == 14 and (second.vector in CONTRIBUTORY or second.vector == 14)
