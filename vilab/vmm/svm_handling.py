"""What is done at each #VMEXIT of a guest: who deals with it, its books, and the way back.

::

    on_exception ──┬── #VMEXIT ──> _leave: count, VMCB, log, charge ──┬── nested page fault ──> fill the entry
                   │                                                  ├── the guest's own exception ──> inject
                   │                                                  ├── what CPUID does not offer ──> #UD
                   │                                                  └── instruction ──> emulate.execute
                   └── exception, INT n: no exit on hardware ──> the guest's IDT

Exits for devices are in ``svm_devices``: this processor serves those in the middle of the guest.

MODEL: a #VMEXIT arrives while the processor is still in guest mode, and going on continues the guest without another
VMRUN. Both ways are charged (``costs.vm_exit + costs.vm_entry``). The processor does not write the state save area; the
exit code and its two words are written here on every exit, the rest when somebody asks (``read_vmcb``).
MODEL: EXITINFO1 of a nested page fault lacks bits 32 and 33 (final address or table walk): the processor drops them.
MODEL: INVD exits here with the code of WBINVD, and gets its own back.
MODEL: LTR is done here, as the processor's own work (no exit, no cost): the processor would take a null selector, and
give up, all of it, where it uses such a task register.
MODEL: exceptions and INT n of the guest come here too, since this processor delivers nothing. ``deliver`` takes them
through the guest's IDT, as the processor's own work: no exit, no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.addresses import PAGE_SHIFT
from vilab.errors import VECTORS_WITH_ERROR_CODE, GuestFault, GuestStopped, VmmBug
from vilab.events import Emulated, HiddenFault, VmExit
from vilab.machine.exits import VMEXIT_BASE
from vilab.machine.registers import HF_INHIBIT_IRQ
from vilab.vmm import emulate, vmcb
from vilab.vmm import svm_exits as codes
from vilab.vmm.nested_paging import NestedTables
from vilab.vmm.svm_guest_code import SvmGuestCode
from vilab.vmm.svm_intercepts import NOT_OFFERED
from vilab.vmm.svm_memory import TLB_CONTROL
from vilab.x86.decode import Instruction
from vilab.x86.flags import TF

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine


class SvmHandling(SvmGuestCode):
    """Part of ``SvmEngine``."""

    nested: NestedTables
    _block: memoryview
    _exit_words: memoryview
    """Of the VMCB: EXITCODE, EXITINFO1, EXITINFO2."""
    _cycles: int

    def __init__(self, vm: VirtualMachine) -> None:
        super().__init__(vm)
        self._entering = False
        self._counting: int | None = None
        self._fetching_again: tuple[int, int] | None = None

    def on_exception(self, number: int) -> bool:
        self.pay_port_accesses()
        if number >= VMEXIT_BASE:
            self._vmexit(number - VMEXIT_BASE)
        elif self.cpu.is_software_interrupt:
            self.deliver_software(number)
        else:
            self.inject(
                self._exception(number, self.cpu.error_code, self.cpu.cr(2)), counted=number != 14 or self.was_counted()
            )
        return self.ended is None and not self.halted and not self._entering

    @staticmethod
    def _exception(vector: int, error_code: int, address: int) -> GuestFault:
        error = error_code & 0xFFFF if vector in VECTORS_WITH_ERROR_CODE else None
        return GuestFault(vector, error, address if vector == 14 else None)

    def _vmexit(self, code: int) -> None:
        if self._entering:
            return
        if code == codes.HLT and self.vcpu.eip == self.stop_eip:
            self.cpu.uncount_instruction()
            self.returned()
            return
        # The processor writes EXITINFO2 itself, for page faults; EXITINFO1 comes with the exit.
        paging = code in (codes.NPF, codes.EXCEPTION_BASE + 14)
        info1, info2 = self.cpu.error_code & 0xFFFFFFFF, self._exit_words[2] if paging else 0
        instruction = None if paging else self.instruction()
        if instruction is not None and instruction.op == "invd":
            code = codes.INVD
        if instruction is not None and code == codes.TR_WRITE and "tr write" not in self.intercepts:
            self.as_processor(instruction)
            return
        self._leave(code, info1, info2, b"" if instruction is None else instruction.code)
        if code == codes.NPF:
            self._nested_fault(info2, info1)
        elif codes.EXCEPTION_BASE <= code < codes.INTR:
            self.exception_exit(code - codes.EXCEPTION_BASE, info1, info2)
        elif codes.EXITS[code].reason in NOT_OFFERED:
            self.inject(GuestFault(6, why=f"CPUID offers no {codes.EXITS[code].reason.upper()}"))
        elif instruction is None:
            self._fetch_again(code)
        else:
            self._emulate(instruction)

    def _fetch_again(self, code: int) -> None:
        """The processor has fetched by its TLB what the guest's tables do not lead to any more. Without, it faults."""
        now = self.vcpu.eip, self.cpu.executed_bytes
        if now == self._fetching_again:
            raise VmmBug(f"The instruction at {now[0]:08x} exited with code {code:x}, but it cannot be read.")
        self._fetching_again = now
        self.cpu.uncount_instruction()
        self.cpu.flush_tlb()

    def exception_exit(self, vector: int, error_code: int, address: int) -> None:
        """An exception that is intercepted: the guest's own."""
        self.inject(self._exception(vector, error_code, address), counted=vector != 14 or self.was_counted())

    def _leave(self, code: int, info1: int, info2: int, instruction: bytes) -> None:
        """The book-keeping of one #VMEXIT and of the VMRUN that follows it."""
        known = codes.EXITS.get(code)
        if known is None:
            raise VmmBug(f"The processor left guest mode with exit code {code:x}, which no table has.")
        self.exits[known.reason] += 1
        words = self._exit_words
        words[0], words[1], words[2] = code, info1, info2
        self._block[TLB_CONTROL] = vmcb.TLB_KEEP
        if self.log.active:
            v = self.vcpu
            self.log.emit(
                VmExit(self.now_ns(), v.eip, v.cpl, code, known.reason, info1, info2, instruction, self._cycles)
            )
        self.charge(self._cycles)

    def _emulate(self, instruction: Instruction) -> None:
        """Do it for the guest; a fault of its own is the guest's."""
        eip, traced = self.vcpu.eip, bool(self.vcpu.eflags() & TF)
        effect = self._execute(instruction)
        if effect is not None and self.log.active:
            self.log.emit(Emulated(self.now_ns(), eip, instruction.code, effect))
        if effect is not None and traced and not self.halted and self.ended is None:
            self.inject(GuestFault(1))  # the guest's own trap flag, for the instruction that is done now

    def as_processor(self, instruction: Instruction) -> None:
        """Do what the processor should do by itself, and cannot be trusted with: no exit, no cost."""
        traced = bool(self.vcpu.eflags() & TF)
        if self._execute(instruction) is not None:
            self.cpu.count_code(instruction.size)
            if traced:
                self.inject(GuestFault(1))

    def _execute(self, instruction: Instruction) -> str | None:
        """What it has done; ``None``: it has faulted, or the run is over."""
        try:
            effect = emulate.execute(self.vcpu, instruction, self)
        except GuestFault as fault:
            self.inject(fault)
            return None
        except GuestStopped as stopped:
            self.end("unsupported", str(stopped), good=False)
            return None
        self.cpu.d[self.cpu.D_HFLAGS] &= ~HF_INHIBIT_IRQ  # a shadow of STI covers one instruction, and this was it
        return effect

    def _nested_fault(self, gpa: int, error_code: int) -> None:
        if self._counting is not None and self.was_counted():
            self.cpu.uncount_instruction()
        if gpa >> 32:
            self.end(
                "unsupported",
                f"The guest's page tables lead to physical address {gpa:x}, above 4 GB, which this virtual machine "
                "does not have (PSE-36).",
                good=False,
            )
            return
        mpa = self.nested.fill(gpa, bool(error_code & codes.NPF_WRITE))
        self.hidden_faults += 1
        if self.log.active:
            # The processor says which gpa was missing, not for which gva; so it is the gpa that is logged.
            self.log.emit(HiddenFault(self.now_ns(), gpa, error_code, gpa >> PAGE_SHIFT, mpa >> PAGE_SHIFT))

    def inject(self, fault: GuestFault, software: bool = False, counted: bool = True) -> None:
        if fault.vector == 1:
            self.pay_port_accesses()  # as for every exception; when stepped, this one does not come by ``on_exception``
        super().inject(fault, software, counted)

    def end(self, reason: str, sentence: str, good: bool = True) -> None:
        if reason == "triple_fault" and self.ended is None:
            self._leave(codes.SHUTDOWN, 0, 0, b"")
        super().end(reason, sentence, good)
