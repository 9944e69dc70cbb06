"""Reading and loading segment registers, and asking about segments (LAR, LSL, VERR, VERW).

Source: Intel SDM volume 2, per instruction; the checks are in ``segments``.
"""

from __future__ import annotations

from vilab.errors import GuestFault
from vilab.machine.registers import CS, DS, ES, FS, GS, SS
from vilab.vmm import segments
from vilab.vmm.operands import (
    SEGMENT_NAMES,
    Operation,
    Platform,
    drop,
    linear,
    peek,
    push,
    read_rm,
    set_register,
    set_zf,
    store_selector,
)
from vilab.vmm.vcpu import Vcpu
from vilab.x86.decode import Instruction

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
    return store_selector(v, i, v.selector(i.reg))


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


OPERATIONS: dict[str, Operation] = {
    "push seg": _push_seg, "pop seg": _pop_seg, "mov from seg": _mov_from_seg, "mov to seg": _mov_to_seg,
    "les": _load_far_pointer, "lds": _load_far_pointer, "lss": _load_far_pointer, "lfs": _load_far_pointer,
    "lgs": _load_far_pointer, "lar": _lar, "lsl": _lsl, "verr": _verify, "verw": _verify,
}  # fmt: skip
