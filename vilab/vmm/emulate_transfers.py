"""Jumps, calls and returns across segments and rings, INT n and IRET; near ones where a translator leaves them to us.

Source: Intel SDM volume 2, per instruction; the transfers themselves are in ``far`` and ``deliver``.
"""

from __future__ import annotations

from vilab.machine.registers import CS
from vilab.vmm import deliver, far
from vilab.vmm.operands import (
    Operation,
    Platform,
    drop,
    linear,
    peek,
    push,
    read_rm,
)
from vilab.vmm.vcpu import Vcpu
from vilab.x86.decode import Instruction


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


OPERATIONS: dict[str, Operation] = {
    "jmp far": _jmp_far, "call far": _call_far, "ret far": _ret_far, "iret": _iret,
    "int": _int, "int3": _int, "into": _int, "int1": _int1,
    "jmp": _jmp, "call": _call, "ret": _ret,
}  # fmt: skip
