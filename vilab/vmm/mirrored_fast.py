"""The callouts that a kernel makes all the time, done with no more than they need.

::

    CLI, STI, RDTSC        in machine code (``native_callouts``), once the engine has entered them into its table
    PUSH CS                there, too, where the processor itself could store
    MOV CR3                here
    IRET within ring 0     there, too, if CS and its descriptor are what they were, and the place is known
    MOV, POP of a segment  there, too, from a register or the stack, if selector and descriptor are what they were when
                           it was last loaded the full way; the hidden part then becomes what it became

Anything out of the ordinary goes the full way (``emulate``), and so does everything while somebody listens. The results
are the same to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.machine import native_callouts
from vilab.machine.registers import CS, DS, ES, ESP, FS, GS, SS
from vilab.vmm.operands import read_rm
from vilab.vmm.vcpu import BIG, HiddenSegment
from vilab.x86.decode import OPSIZE, Instruction
from vilab.x86.flags import IF, IOPL, NT, TF, VM

if TYPE_CHECKING:
    from vilab.vmm.mirrored_vcpu import MirroredVcpu

POPS = {b"\x07": ES, b"\x1f": DS, b"\x0f\xa1": FS, b"\x0f\xa9": GS}
NATIVE = {
    b"\xfa": native_callouts.CLI, b"\xfb": native_callouts.STI, b"\x0f\x31": native_callouts.RDTSC,
    b"\x0e": native_callouts.PUSH_CS, b"\xcf": native_callouts.IRET,
    **{code: native_callouts.POP_OF + index for code, index in POPS.items()},
    **{
        bytes((0x8E, 0xC0 | index << 3 | register)): native_callouts.MOV_OF + 8 * index + register
        for index in POPS.values() for register in range(8)
    },
}  # fmt: skip
LINEAR = 0xFFFFFFFF
IRET_FLAGS = 0x254DD5 | IOPL | IF
"""What IRET in ring 0 takes from the stack: all but VM, and VIF and VIP, which have to be 0 here."""
ODD_FLAGS = TF | NT | VM | 3 << 19
EVERYTHING_ELSE = ~(IRET_FLAGS | 3 << 19) & LINEAR
POPPED = {int.from_bytes(code): index for code, index in POPS.items()}
DATA_SEGMENTS = frozenset(POPPED.values())


def loaded_segment(i: Instruction) -> int | None:
    """The data segment that MOV or POP loads; SS is another matter."""
    if i.op == "pop seg":
        return POPPED.get(i.opcode)
    return i.reg if i.op == "mov to seg" and i.reg in DATA_SEGMENTS else None


class FastCallouts:
    """For one vCPU. ``descriptors``: what a selector led to, and the hidden part it became, by segment register."""

    def __init__(self, v: MirroredVcpu) -> None:
        self._v = v
        self.descriptors: dict[tuple[int, int], tuple[bytes, HiddenSegment]] = {}

    def forget(self) -> None:
        self.descriptors.clear()
        self._v.forget_segments()

    def do(self, i: Instruction) -> bool:
        """True: the instruction at EIP, in ring 0, is done. False: nothing has happened. Raises ``GuestFault``."""
        if i.prefixes & OPSIZE:
            return False
        if i.op == "iret":
            return self._iret()
        if i.op == "mov to cr":
            return i.reg == 3 and self._load_directory(i)
        index = loaded_segment(i)
        return index is not None and self._load(i, index)

    def _load_directory(self, i: Instruction) -> bool:
        v = self._v
        v.eip = i.end
        v.set_cr(3, v.gpr[i.rm] & LINEAR)
        return True

    def _descriptor(self, selector: int) -> bytes | None:
        """From the GDT; ``None`` where the checks have to be made."""
        base, limit = self._v.gdtr
        if selector & 4 or (selector & 0xFFF8) + 7 > limit:
            return None
        return self._v.read(base + (selector & 0xFFF8) & LINEAR, 8) if selector & 0xFFFC else b""

    def keep(self, index: int) -> int | None:
        """A segment register has been loaded with all checks. Linear address of its descriptor, if it has one."""
        v = self._v
        hidden = v.segment(index)
        raw = self._descriptor(hidden[0])
        if raw is None:
            return None
        self.descriptors[index, hidden[0]] = raw, hidden
        at = v.gdtr[0] + (hidden[0] & 0xFFF8) & LINEAR
        if index != CS:
            v.tell_segment(index, hidden, raw, at)
        else:
            v.code_from = hidden, int.from_bytes(raw, "little", signed=True), at
            v.tell_descriptor()
        return at if raw else None

    def _is_same(self, index: int, selector: int) -> bool:
        """Would a full load of this selector change nothing?"""
        seen = self.descriptors.get((index, selector))
        return seen is not None and seen[1] == self._v.segment(index) and seen[0] == self._descriptor(selector)

    def _load(self, i: Instruction, index: int) -> bool:
        v = self._v
        if i.op == "mov to seg":
            if not self._is_same(index, read_rm(v, i, 2)):
                return False
        else:
            stack = v.segment(SS)
            esp = v.gpr[ESP]
            if not stack[3] & BIG:
                return False
            if not self._is_same(index, int.from_bytes(v.read(stack[1] + esp, 4)[:2], "little")):
                return False
            v.gpr[ESP] = esp + 4 & LINEAR
        v.eip = i.end
        return True

    def _iret(self) -> bool:
        v = self._v
        stack = v.segment(SS)
        if not stack[3] & BIG or v.eflags() & NT:
            return False
        esp = v.gpr[ESP]
        frame = v.read(stack[1] + esp, 12)
        flags = int.from_bytes(frame[8:], "little")
        selector = int.from_bytes(frame[4:6], "little")
        if flags & ODD_FLAGS or not self._is_same(CS, selector):
            return False
        v.gpr[ESP] = esp + 12 & LINEAR
        v.eip = int.from_bytes(frame[:4], "little")
        v.set_eflags(v.eflags() & EVERYTHING_ELSE | flags & IRET_FLAGS)
        return True
