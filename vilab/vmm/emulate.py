"""What each privileged or critical instruction means, once, for every engine.

An engine that cannot let the processor run an instruction calls ``execute``: it checks privilege by the guest's own
CPL, does what the instruction does to the guest's state, and moves EIP on. Engines differ only in how control gets
here (a trap, a callout, a #VMEXIT).

::

    execute ──> OPERATIONS[op] ──> emulate_system     flags, control registers, tables, time
                                   emulate_segments   segment registers
                                   emulate_transfers  far and near transfers, INT, IRET
                                   emulate_ports      IN, OUT
"""

from __future__ import annotations

from vilab.errors import GuestFault
from vilab.vmm import emulate_ports, emulate_segments, emulate_system, emulate_transfers, real_mode
from vilab.vmm.operands import Operation, Platform
from vilab.vmm.vcpu import Vcpu
from vilab.x86.decode import Instruction

OPERATIONS: dict[str, Operation] = {
    **emulate_system.OPERATIONS,
    **emulate_segments.OPERATIONS,
    **emulate_transfers.OPERATIONS,
    **emulate_ports.OPERATIONS,
}

SEGMENT_LOADS = frozenset(("mov to seg", "pop seg", "les", "lds", "lss", "lfs", "lgs"))

PRIVILEGED = frozenset(
    ("hlt", "mov from cr", "mov to cr", "mov from dr", "mov to dr", "clts", "lmsw", "lgdt", "lidt", "lldt", "ltr",
     "invlpg", "invd", "wbinvd", "rdmsr", "wrmsr")
)  # fmt: skip
"""#GP(0) outside ring 0."""

PROTECTED_ONLY = frozenset(("lar", "lsl", "verr", "verw", "sldt", "str", "lldt", "ltr"))
"""#UD in real mode."""


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
    if i.op in PROTECTED_ONLY and real_mode.is_real(v):
        raise GuestFault(6, why=f"{i.op} does not exist in real mode")
    if i.op in PRIVILEGED and v.cpl != 0:
        raise GuestFault(13, 0, why=f"{i.op} is for ring 0")
    before = v.eip
    v.eip = before + len(i.code) & 0xFFFFFFFF
    try:
        return operation(v, i, platform)
    except GuestFault:
        v.eip = before
        raise
