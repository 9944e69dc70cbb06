"""The callouts that a kernel makes all the time, done with no more than they need.

::

    CLI, STI, RDTSC        in machine code (``native_callouts``), once the engine has entered them into its table
    IRET within ring 0     same CS as before, and its descriptor is what it was: only EIP, ESP and flags change
    PUSH CS                one dword on the stack
    MOV, POP of a segment  same selector, same descriptor, same hidden part as after the last full load: nothing to do

Anything out of the ordinary goes the full way (``emulate``), and so does everything while somebody listens. The results
are the same to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.machine import native_callouts
from vilab.machine.cpu import CS, ESP, SS
from vilab.vmm.vcpu import BIG, HiddenSegment
from vilab.x86.decode import OPSIZE, Instruction
from vilab.x86.flags import IF, IOPL, NT, TF, VM

if TYPE_CHECKING:
    from vilab.vmm.mirrored_vcpu import MirroredVcpu

NATIVE = {b"\xfa": native_callouts.CLI, b"\xfb": native_callouts.STI, b"\x0f\x31": native_callouts.RDTSC}
LINEAR = 0xFFFFFFFF
IRET_FLAGS = 0x254DD5 | IOPL | IF
"""What IRET in ring 0 takes from the stack: all but VM, and VIF and VIP, which have to be 0 here."""
ODD_FLAGS = TF | NT | VM | 3 << 19
EVERYTHING_ELSE = ~IRET_FLAGS & LINEAR


class FastCallouts:
    """For one vCPU. ``descriptors``: what a selector led to, and the hidden part it became, by segment register."""

    def __init__(self, v: MirroredVcpu) -> None:
        self._v = v
        self.descriptors: dict[tuple[int, int], tuple[bytes, HiddenSegment]] = {}

    def forget(self) -> None:
        self.descriptors.clear()

    def do(self, i: Instruction) -> bool:
        """True: the instruction at EIP, in ring 0, is done. False: nothing has happened. Raises ``GuestFault``."""
        op = i.op
        if i.prefixes & OPSIZE:
            return False
        if op == "iret":
            return self._iret()
        if i.code == b"\x0e":
            return self._push_cs(i)
        return False

    def _descriptor(self, selector: int) -> bytes | None:
        """From the GDT; ``None`` where the checks have to be made."""
        base, limit = self._v.gdtr
        if selector & 4 or not selector & 0xFFFC or (selector & 0xFFF8) + 7 > limit:
            return None
        return self._v.read(base + (selector & 0xFFF8) & LINEAR, 8)

    def keep(self, index: int) -> None:
        """A segment register has been loaded with all checks."""
        hidden = self._v.segment(index)
        raw = self._descriptor(hidden[0])
        if raw is not None:
            self.descriptors[index, hidden[0]] = raw, hidden

    def is_same(self, index: int, selector: int) -> bool:
        """Would a full load of this selector change nothing?"""
        seen = self.descriptors.get((index, selector))
        return (
            seen is not None
            and seen[1] == self._v.segment(index)
            and seen[0] == self._descriptor(selector)
        )  # fmt: skip

    def _iret(self) -> bool:
        v = self._v
        stack = v.segment(SS)
        if not stack[3] & BIG or v.eflags() & NT:
            return False
        esp = v.gpr[ESP]
        frame = v.read(stack[1] + esp, 12)
        flags = int.from_bytes(frame[8:], "little")
        selector = int.from_bytes(frame[4:6], "little")
        if flags & ODD_FLAGS or not self.is_same(CS, selector):
            return False
        v.gpr[ESP] = esp + 12 & LINEAR
        v.eip = int.from_bytes(frame[:4], "little")
        v.set_eflags(v.eflags() & EVERYTHING_ELSE & ~(3 << 19) | flags & IRET_FLAGS)
        return True

    def _push_cs(self, i: Instruction) -> bool:
        v = self._v
        stack = v.segment(SS)
        if not stack[3] & BIG:
            return False
        esp = v.gpr[ESP] - 4 & LINEAR
        v.write(stack[1] + esp, v.segment(CS)[0].to_bytes(4, "little"))
        v.gpr[ESP] = esp
        v.eip = i.end
        return True
