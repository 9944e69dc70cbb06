"""Far transfers: JMP, CALL, RET and IRET across segments and rings.

Source: Intel SDM volume 2, JMP, CALL, RET, IRET; volume 3, section 5.8.
"""

from __future__ import annotations

from vilab.errors import GuestFault, GuestStopped
from vilab.machine.registers import CS, DS, ES, FS, GS, SS
from vilab.vmm import real_mode, segments
from vilab.vmm.deliver import Pusher, inner_stack
from vilab.vmm.vcpu import TR, HiddenSegment, Vcpu
from vilab.x86.descriptors import CALL_GATE16, CALL_GATE32, TASK_GATE, TSS16, TSS16_BUSY, TSS32, TSS32_BUSY
from vilab.x86.flags import IF, IOPL, NT, VIF, VIP, VM

ESP = 4


def code_segment(v: Vcpu, selector: int) -> tuple[HiddenSegment, int]:
    """A checked target of a far JMP or CALL: (hidden part with CPL in its selector, CPL), or #GP, #NP."""
    if selector & 0xFFFC == 0:
        raise GuestFault(13, 0, why="far transfer to a null selector")
    low, high, address = segments.fetch(v, selector)
    error, cpl, dpl = selector & 0xFFFC, v.cpl, segments.dpl_of(high)
    if not high & segments.S_BIT or not high & segments.CODE:
        raise GuestFault(13, error, why="far transfer to what is not code")
    if high & segments.CONFORMING:
        if dpl > cpl:
            raise GuestFault(13, error, why="conforming segment less privileged")
    elif selector & 3 > cpl or dpl != cpl:
        raise GuestFault(13, error, why=f"code of ring {dpl} from ring {cpl}")
    if not high & segments.PRESENT:
        raise GuestFault(11, error, why="code segment not present")
    high = segments.mark_accessed(v, high, address)
    return segments.hidden(selector & ~3 | cpl, low, high), cpl


def _gate(v: Vcpu, selector: int) -> tuple[int, int, int, int] | None:
    """(selector, offset, parameter count, wide) if the selector names a call gate; ``None`` for a segment."""
    if selector & 0xFFFC == 0:
        return None
    low, high, _ = segments.fetch(v, selector)
    if high & segments.S_BIT:
        return None
    kind = segments.type_of(high)
    if kind not in (CALL_GATE16, CALL_GATE32):
        if kind in (TSS16, TASK_GATE, TSS32):
            raise GuestStopped("The guest made a hardware task switch, which is not supported.")
        raise GuestFault(13, selector & 0xFFFC, why="far transfer through a descriptor of the wrong type")
    if segments.dpl_of(high) < max(v.cpl, selector & 3):
        raise GuestFault(13, selector & 0xFFFC, why="call gate not for this ring")
    if not high & segments.PRESENT:
        raise GuestFault(11, selector & 0xFFFC, why="call gate not present")
    wide = int(kind == CALL_GATE32)
    return low >> 16, low & 0xFFFF | (high & 0xFFFF0000 if wide else 0), high & 31, wide


def far_jump(v: Vcpu, selector: int, offset: int) -> None:
    if real_mode.is_real(v):
        real_mode.far_jump(v, selector, offset)
        return
    gate = _gate(v, selector)
    if gate is not None:
        selector, offset = gate[0] & ~3, gate[1]
    code, cpl = code_segment(v, selector)
    v.set_segment(CS, *code)
    v.eip = offset
    v.set_mode(cpl, v.eflags())


def far_call(v: Vcpu, selector: int, offset: int, wide: bool, return_eip: int) -> None:
    if real_mode.is_real(v):
        real_mode.far_call(v, selector, offset, wide, return_eip)
        return
    gate = _gate(v, selector)
    if gate is not None:
        selector, offset, wide = gate[0], gate[1], bool(gate[3])
        low, high, address = segments.fetch(v, selector)
        dpl = segments.dpl_of(high)
        if not high & segments.S_BIT or not high & segments.CODE or dpl > v.cpl:
            raise GuestFault(13, selector & 0xFFFC, why="call gate to what is not code, or less privileged")
        if not high & segments.PRESENT:
            raise GuestFault(11, selector & 0xFFFC, why="code segment not present")
        if not high & segments.CONFORMING and dpl < v.cpl:
            _call_inner(v, (selector, low, high, address), offset, wide, return_eip, gate[2])
            return
        selector &= ~3
    code, cpl = code_segment(v, selector)
    old_cs, stack = v.segment(CS)[0], v.segment(SS)
    pusher = Pusher(v, stack[1], v.gpr[ESP], bool(stack[3] & segments.BIG), wide, cpl == 3)
    pusher.push(old_cs)
    pusher.push(return_eip)
    v.gpr[ESP] = pusher.commit()
    v.set_segment(CS, *code)
    v.eip = offset
    v.set_mode(cpl, v.eflags())


def _call_inner(
    v: Vcpu, code: tuple[int, int, int, int], offset: int, wide: bool, return_eip: int, parameters: int
) -> None:
    selector, low, high, address = code
    ring, size = segments.dpl_of(high), 4 if wide else 2
    ss, esp = inner_stack(v, ring, 0)
    stack = segments.stack_segment(v, ss, ring, 10)
    old = v.segment(SS)
    copied = v.read(old[1] + v.gpr[ESP], parameters * size) if parameters else b""
    pusher = Pusher(v, stack[1], esp, bool(stack[3] & segments.BIG), wide, False)
    pusher.push(old[0])
    pusher.push(v.gpr[ESP])
    for at in range(len(copied) - size, -1, -size):
        pusher.push(int.from_bytes(copied[at : at + size], "little"))
    pusher.push(v.segment(CS)[0])
    pusher.push(return_eip)
    v.gpr[ESP] = pusher.commit()
    high = segments.mark_accessed(v, high, address)
    v.set_segment(SS, *stack)
    v.set_segment(CS, *segments.hidden(selector & ~3 | ring, low, high))
    v.eip = offset
    v.set_mode(ring, v.eflags())


def far_return(v: Vcpu, wide: bool, extra_bytes: int) -> None:
    """RETF, with the bytes that it drops from both stacks."""
    if real_mode.is_real(v):
        real_mode.far_return(v, wide, extra_bytes)
        return
    _return(v, wide, extra_bytes, iret=False)


def interrupt_return(v: Vcpu, wide: bool) -> None:
    """IRET; in protected mode to the same or an outer ring."""
    if real_mode.is_real(v):
        real_mode.interrupt_return(v, wide)
        return
    if v.eflags() & NT:
        _return_from_task(v)
    _return(v, wide, 0, iret=True)


def _return_from_task(v: Vcpu) -> None:
    """IRET with NT: back to the task that the TSS names."""
    link = int.from_bytes(v.read(v.segment(TR)[1], 2), "little")
    if not link & 4 and link & 0xFFFC:
        try:
            _, high, _ = segments.fetch(v, link)
        except GuestFault:
            high = 0
        if not high & segments.S_BIT and segments.type_of(high) in (TSS16_BUSY, TSS32_BUSY):
            raise GuestStopped("The guest returned from a nested hardware task, which is not supported.")
    raise GuestFault(10, link & 0xFFFC, why="the nested task's link leads to no busy TSS")


def _return(v: Vcpu, wide: bool, extra_bytes: int, iret: bool) -> None:
    size, cpl = 4 if wide else 2, v.cpl
    stack = v.segment(SS)
    big = bool(stack[3] & segments.BIG)
    mask = 0xFFFFFFFF if big else 0xFFFF
    esp = v.gpr[ESP]
    at = [esp]

    def pop() -> int:
        value = int.from_bytes(v.read(stack[1] + (at[0] & mask), size, cpl == 3), "little")
        at[0] += size
        return value

    eip, selector = pop(), pop() & 0xFFFF
    eflags = v.eflags()
    if iret:
        popped = pop()
        if wide and popped & VM and cpl == 0:
            raise GuestStopped("The guest entered virtual-8086 mode, which is not supported.")
        changeable = 0x254DD5 if wide else 0x4DD5  # ID AC RF NT TF DF and the arithmetic flags
        if cpl == 0:
            changeable |= IOPL | (VIF | VIP if wide else 0)
        if cpl <= eflags >> 12 & 3:
            changeable |= IF
        eflags = eflags & ~changeable | popped & changeable
    if selector & 0xFFFC == 0:
        raise GuestFault(13, 0, why="return to a null selector")
    low, high, address = segments.fetch(v, selector)
    rpl, dpl = selector & 3, segments.dpl_of(high)
    error = selector & 0xFFFC
    if not high & segments.S_BIT or not high & segments.CODE or rpl < cpl:
        raise GuestFault(13, error, why="return to what is not code, or to an inner ring")
    if dpl > rpl if high & segments.CONFORMING else dpl != rpl:
        raise GuestFault(13, error, why="return to code of another ring than its selector says")
    if not high & segments.PRESENT:
        raise GuestFault(11, error, why="code segment not present")
    at[0] += extra_bytes
    outer = rpl > cpl
    if outer:
        new_esp, ss = pop(), pop() & 0xFFFF
        new_stack = segments.stack_segment(v, ss, rpl, 13)
    high = segments.mark_accessed(v, high, address)
    v.set_segment(CS, *segments.hidden(selector, low, high))
    v.eip = eip
    if outer:
        v.set_segment(SS, *new_stack)
        if new_stack[3] & segments.BIG:
            v.gpr[ESP] = new_esp + extra_bytes & 0xFFFFFFFF
        else:
            v.gpr[ESP] = v.gpr[ESP] & 0xFFFF0000 | new_esp + extra_bytes & 0xFFFF
        _drop_inner_segments(v, rpl)
    else:
        v.gpr[ESP] = esp & ~mask & 0xFFFFFFFF | at[0] & mask
    v.set_mode(rpl, eflags)


def _drop_inner_segments(v: Vcpu, cpl: int) -> None:
    """Data segments that the outer ring may not have become null."""
    for index in (ES, FS, GS, DS):
        selector, _, _, flags = v.segment(index)
        if index in (FS, GS) and not selector & 0xFFFC:
            continue
        conforming = flags & segments.CODE and flags & segments.CONFORMING
        if not conforming and segments.dpl_of(flags) < cpl:
            v.set_segment(index, 0, 0, 0, 0)
