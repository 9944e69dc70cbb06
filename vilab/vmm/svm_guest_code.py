"""The instruction at which a guest under AMD-V has stopped, as the processor has fetched it.

::

    CS:EIP ──walk of the guest's tables──> bytes ──decode──> Instruction
                       └── not there, or it runs on into a page that is not ──> None

An exit says what the processor wanted, not always by which instruction; so it is read from memory, once for each place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.addresses import PAGE_BYTES
from vilab.errors import GuestFault
from vilab.vmm.own_reads import OwnReads
from vilab.vmm.svm_exits import exit_reason
from vilab.vmm.svm_memory import SvmVcpu
from vilab.vmm.walk import walk
from vilab.x86.decode import Instruction, Truncated, decode

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

MAX_BYTES, DECODED_MOST = 15, 4096


class SvmGuestCode(OwnReads):
    """Part of ``SvmEngine``."""

    vcpu: SvmVcpu
    intercepts: tuple[str, ...]

    def __init__(self, vm: VirtualMachine) -> None:
        super().__init__(vm)
        self._decoded: dict[tuple[int, bytes, int], Instruction] = {}

    def instruction(self) -> Instruction | None:
        """The one at CS:EIP, ``None`` where it cannot be read. Leaves no Accessed bits."""
        cpu = self.cpu
        eip, pc, user, bits = cpu.eip, cpu.pc, cpu.cpl == 3, self.vcpu.code_bits
        room = PAGE_BYTES - (pc & PAGE_BYTES - 1)
        try:
            code = self._look(pc, min(room, MAX_BYTES), user)
            known = self._decoded.get((eip, code, bits))  # the same few exits come again and again
            if known is not None:
                return known
            try:
                instruction = decode(code, eip, bits)
            except Truncated:
                return decode(code + self._look(pc + room & 0xFFFFFFFF, MAX_BYTES - room, user), eip, bits)
        except (GuestFault, Truncated):
            return None
        if len(self._decoded) >= DECODED_MOST:
            self._decoded.clear()
        self._decoded[eip, code, bits] = instruction
        return instruction

    def _look(self, gva: int, size_bytes: int, user: bool) -> bytes:
        """Code as the processor has fetched it."""
        v, pmap = self.vcpu, self.vm.pmap
        at = walk(pmap, v.cr0, v.cr3, v.cr4, gva, write=False, user=user, set_bits=False)
        return pmap.read(at.gpa, size_bytes)

    def how_next(self) -> tuple[str, int]:
        instruction = self.instruction()
        emulated = instruction is not None and exit_reason(instruction) in self.intercepts
        return "emulated" if emulated else "native", self.cpu.cpl
