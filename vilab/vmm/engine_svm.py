"""Hardware assist: AMD-V. The guest has a ring 0 of its own, and the VMM is below it.

::

    host, ring 0            guest mode, rings 0-3                                   VMM
    ┌───────────────┐
    │ clgi          │        guest kernel, CPL 0 ── intercepted instruction ─┐
    │ vmload [vmcb] │        guest user,   CPL 3 ── nested page fault ───────┤
    │ vmrun  [vmcb] │──────>   ^   its own CR3, GDT, IDT: exceptions,        └#VMEXIT──> handle, move EIP ─┐
    └───────────────┘          │   INT n and IRET never leave it                                            │
                               └──────────────────────────────────────────────────────────────── VMRUN ─────┘

The processor does VMRUN, guest mode, intercepts and the nested walk itself. What it leaves out is done here, and
counted as the hardware would:

MODEL: a #VMEXIT arrives while the processor is still in guest mode, and going on continues the guest without another
VMRUN. Both ways are charged (``costs.vm_exit + costs.vm_entry``). The processor does not write the state save area; the
exit code and its two words are written here on every exit, the rest when somebody asks (``read_vmcb``).
MODEL: EXITINFO1 of a nested page fault lacks bits 32 and 33 (final address or table walk): the processor drops them.
MODEL: INVD exits here with the code of WBINVD, and gets its own back.
MODEL: LTR is done here, as the processor's own work (no exit, no cost): the processor would take a null selector, and
give up, all of it, where it uses such a task register.
MODEL: IN and OUT ignore the I/O permission map and never exit. They are counted, logged and charged as the IOIO exits
that they are on hardware (the map in the VMCB says: every port).
MODEL: an access to a device's registers in memory does not exit either, but is served in the middle of the guest, and
counted as ``mmio``, logged and charged as the nested page fault that it is on hardware.
MODEL: exceptions and INT n of the guest come here too, since this processor delivers nothing. ``deliver`` takes them
through the guest's IDT, as the processor's own work: no exit, no cost.
MODEL: a device's interrupt is the VMM's doing, so a running guest has to be stopped for it: charged as an INTR exit
and an entry with EVENTINJ. A halted guest has exited already.
MODEL: one TLB without ASIDs. TLB_CONTROL is set when nested entries have become less, and the processor's TLB is
flushed at once instead of at the next VMRUN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import VECTORS_WITH_ERROR_CODE, AdminError, GuestFault, GuestStopped, VmmBug
from vilab.events import Emulated, HiddenFault, VmExit
from vilab.machine.exits import UNLIMITED, VMEXIT_BASE
from vilab.machine.registers import HF_INHIBIT_IRQ
from vilab.vmm import emulate, vmcb
from vilab.vmm import svm_exits as codes
from vilab.vmm.engine_state import EngineState
from vilab.vmm.monitor import MonitorFrames
from vilab.vmm.nested_paging import NestedTables
from vilab.vmm.own_reads import OwnReads
from vilab.vmm.records import Registers
from vilab.vmm.svm_exits import exit_reason
from vilab.vmm.vcpu import TR, NativeVcpu, VcpuState, cpu_registers
from vilab.vmm.vmcb_build import refused_because, save_area
from vilab.vmm.walk import walk
from vilab.x86 import paging as pg
from vilab.x86.decode import Instruction, Truncated, decode
from vilab.x86.flags import TF

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.vmm.vm import VirtualMachine

ENTRY_CODE = bytes.fromhex("0f01dd 0f01da 0f01d8")
"""clgi; vmload; vmrun, all with the VMCB's address in EAX."""

ALWAYS = (
    "intr", "nmi", "smi", "init", "rdtsc", "rdpmc", "cpuid", "invd", "hlt", "invlpga", "ioio", "msr", "shutdown",
    "vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi", "skinit", "rdtscp", "wbinvd", "monitor", "mwait", "xsetbv",
    *(f"dr{number} {way}" for number in range(8) for way in ("read", "write")),
)  # fmt: skip
"""What a VMM must see so that the guest can neither leave its machine nor tell the time by itself."""

NOT_OFFERED = frozenset(
    ("rdpmc", "invlpga", "vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi", "skinit", "monitor", "mwait",
     "mwait armed", "xsetbv", "rdtscp")
)  # fmt: skip
"""CPUID tells the guest that it has none of these: #UD."""

NOT_FROM_HERE = frozenset(
    ("rsm", "pause", "task switch", "ferr_freeze", "cr0 selective write", "vintr", "icebp", "exception 01")
)
"""Intercepts that this monitor has no handler for; single steps are its own (exception 01)."""

IO_PERMISSION_FRAMES, MSR_PERMISSION_FRAMES = 3, 2

EXIT_CODE, TLB_CONTROL = vmcb.FIELD["exitcode"].offset, vmcb.FIELD["tlb_control"].offset
MAX_BYTES, DECODED_MOST = 15, 4096


class SvmVcpu(NativeVcpu):
    """Knows its own stores (pushes, mostly) from those of devices and of the host.

    MODEL: a store of an emulated instruction or of a delivery into code that has been executed is not noticed.
    """

    is_writing = False

    def write(self, gva: int, data: bytes, user: bool = False) -> None:
        before, self.is_writing = self.is_writing, True
        try:
            super().write(gva, data, user)
        finally:
            self.is_writing = before


class SvmEngine(OwnReads):
    """VMRUN with nested paging.

    Parameters
    ----------
    intercepts : more reasons to exit, by their names in ``svm_exits.INTERCEPTS``: ``("cr3 write", "invlpg", "pushf")``.

    Raises
    ------
    AdminError : no such intercept, or one that is not handled here.
    """

    name = "svm"
    kernel_ring = 0

    def __init__(self, vm: VirtualMachine, intercepts: Sequence[str] = ()) -> None:
        super().__init__(vm)
        for reason in intercepts:
            if reason not in codes.INTERCEPTS or reason in NOT_FROM_HERE:
                raise AdminError(
                    f"There is no intercept {reason!r}; there are, for instance, 'cr3 write', 'invlpg', 'pushf', "
                    "'exception 0e'. The table vilab.vmm.svm_exits.INTERCEPTS has all."
                )
        self.intercepts = (*ALWAYS, *intercepts)
        self.vcpu: SvmVcpu = SvmVcpu(vm.cpu, vm.pmap)
        self.vcpu.mmu = self
        self.frames = MonitorFrames(vm.monitor_frames)
        self._memory = vm.machine_memory
        self.vmcb_mpa = self.frames.run(1) << PAGE_SHIFT
        self._host_save_mpa = self.frames.run(1) << PAGE_SHIFT
        self._entry_mpa = self.frames.run(1) << PAGE_SHIFT
        self._io_map_mpa = self._filled(IO_PERMISSION_FRAMES)
        self._msr_map_mpa = self._filled(MSR_PERMISSION_FRAMES)
        self.tlb_flushes = 0
        self.nested = NestedTables(vm.machine_memory, self.frames, vm.pmap, self._flush_tlb)
        vm.pmap.listeners.append(self)
        self._block = self._memory.view[self.vmcb_mpa : self.vmcb_mpa + vmcb.VMCB_BYTES]
        self._exit_words = self._block[EXIT_CODE : EXIT_CODE + 24].cast("Q")
        self._entering = False
        self._decoded: dict[tuple[int, bytes, int], Instruction] = {}
        self._left_by_hlt = self._stopped_for_it = False
        self._counting: int | None = None
        self._fetching_again: tuple[int, int] | None = None
        self._cycles = self.costs.vm_exit + self.costs.vm_entry

    def exit_cycles_of_read(self) -> int:
        return self._cycles

    def _filled(self, frames: int) -> int:
        """Frames of ones: a permission map that allows nothing."""
        mpa = self.frames.run(frames) << PAGE_SHIFT
        self._memory.write(mpa, b"\xff" * (frames * PAGE_BYTES))
        return mpa

    # Entering ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Build the VMCB and execute VMRUN. The first fetch finds the nested tables empty, and that is far enough."""
        state = self.vm.initial_state()
        values = self.control_area() | self.state_area(state)
        refused = refused_because(values)
        if refused:
            raise VmmBug(f"VMRUN would refuse this VMCB: {'; '.join(refused)}.")
        vmcb.put(self._block, values)
        cpu = self.cpu
        cpu.set_msr(vmcb.MSR_EFER, vmcb.EFER_SVME)
        cpu.set_msr(vmcb.MSR_VM_HSAVE_PA, self._host_save_mpa)
        self._memory.write(self._entry_mpa, ENTRY_CODE)
        for index, value in enumerate(state.gpr):
            cpu.gpr[index] = value
        cpu.set_fpu(state.fpu)
        cpu.gpr[0], cpu.eip = self.vmcb_mpa, self._entry_mpa
        cpu.set_limit(UNLIMITED)
        self._entering = True
        cpu.run()
        self._entering = False
        if not cpu.in_guest_mode:
            raise VmmBug(f"VMRUN has not entered the guest; the processor is at {cpu.eip:08x}.")
        cpu.intercept_task_register()
        self.vcpu.set_segment(TR, *state.segments[TR])
        cpu.set_executed_bytes(0)
        if self._counting is not None:
            cpu.count_instructions(self._counting)

    def count_instructions(self, limit: int) -> None:
        self._counting = limit

    def control_area(self) -> vmcb.Values:
        """What this VMM wants of the processor."""
        return {
            **codes.intercept_words(self.intercepts),
            "iopm_base_pa": self._io_map_mpa,
            "msrpm_base_pa": self._msr_map_mpa,
            "guest_asid": 1,
            "tlb_control": vmcb.TLB_FLUSH_ALL,
            "np_enable": 1,
            "n_cr3": self.nested.root_mpn << PAGE_SHIFT,
        }

    def state_area(self, state: VcpuState) -> vmcb.Values:
        """What VMRUN loads: the guest as it is."""
        return save_area(state)

    # Exits -------------------------------------------------------------------------------------------------------

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

    def halt(self) -> None:
        self._left_by_hlt = True
        super().halt()

    def inject(self, fault: GuestFault, software: bool = False, counted: bool = True) -> None:
        if fault.vector == 1:
            self.pay_port_accesses()  # as for every exception; when stepped, this one does not come by ``on_exception``
        super().inject(fault, software, counted)

    def end(self, reason: str, sentence: str, good: bool = True) -> None:
        if reason == "triple_fault" and self.ended is None:
            self._leave(codes.SHUTDOWN, 0, 0, b"")
        super().end(reason, sentence, good)

    # Ports -------------------------------------------------------------------------------------------------------

    def on_in(self, port: int, size_bytes: int) -> int:
        self._port_exit(port, size_bytes, is_in=True)
        return self.port_in(port, size_bytes)

    def on_out(self, port: int, size_bytes: int, value: int) -> None:
        self._port_exit(port, size_bytes, is_in=False)
        self.port_out(port, size_bytes, value)

    def on_mmio_read(self, mpa: int, size_bytes: int) -> int:
        self._mmio_exit(mpa, 0)
        return super().on_mmio_read(mpa, size_bytes)

    def on_mmio_write(self, mpa: int, size_bytes: int, value: int) -> None:
        self._mmio_exit(mpa, codes.NPF_WRITE)
        super().on_mmio_write(mpa, size_bytes, value)

    def _mmio_exit(self, gpa: int, error_code: int) -> None:
        """On hardware: a nested page fault at an entry that is never filled, and an instruction to emulate."""
        if self.log.active:
            at_ns = self.now_ns()
            self.look_in_port_hook()
            i = self.instruction()
            code = b"" if i is None else i.code
            words, info1 = self._exit_words, error_code | codes.NPF_USER
            words[0], words[1], words[2] = codes.NPF, info1, gpa
            self.log.emit(VmExit(at_ns, self.vcpu.eip, self.vcpu.cpl, codes.NPF, "npf", info1, gpa, code, self._cycles))

    def port_cost(self) -> int:
        return self._cycles

    def _port_exit(self, port: int, size_bytes: int, *, is_in: bool) -> None:
        reason = "in" if is_in else "out"
        self.exits[reason] += 1
        if self.log.active:
            at_ns = self.now_ns()
            self.look_in_port_hook()
            i = self.instruction()
            if i is None:
                raise VmmBug(f"The port access at {self.vcpu.eip:08x} cannot be read.")
            info1, info2 = codes.ioio_info(port, size_bytes, i), self.vcpu.eip + i.size & 0xFFFFFFFF
            words = self._exit_words
            words[0], words[1], words[2] = codes.IOIO, info1, info2
            self.log.emit(
                VmExit(at_ns, self.vcpu.eip, self.vcpu.cpl, codes.IOIO, reason, info1, info2, i.code, self._cycles)
            )
        self.charge_port_access(self._cycles)

    # Interrupts --------------------------------------------------------------------------------------------------

    def before_delivery(self) -> None:
        self._stopped_for_it = not self._left_by_hlt
        self._left_by_hlt = False
        if self._stopped_for_it:
            self.exits["intr"] += 1
            words = self._exit_words
            words[0], words[1], words[2] = codes.INTR, 0, 0
            if self.log.active:
                v = self.vcpu
                self.log.emit(VmExit(self.now_ns(), v.eip, v.cpl, codes.INTR, "intr", 0, 0, b"", self._cycles))

    def interrupt_cost(self) -> int:
        return self._cycles if self._stopped_for_it else 0

    # Reading the guest -------------------------------------------------------------------------------------------

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

    def read_vmcb(self) -> vmcb.Values:
        """The block as hardware would have left it, had the guest exited just now; it is brought up to date first."""
        vmcb.put(self._block, save_area(self.vcpu.save_state()))
        vmcb.put(self._block, {"interrupt_shadow": int(self.in_interrupt_shadow())})
        return vmcb.parse(self._block)

    def cpu_registers(self) -> Registers:
        return cpu_registers(
            self.cpu, self.cpu.eip, self.vcpu.registers().stack_top, nested_cr3=self.nested.root_mpn << PAGE_SHIFT
        )

    # What an intercepted INVLPG or MOV CR does to the TLB (not intercepted, the processor does it) -----------------

    def address_space_loaded(self) -> None:
        """CR3 may be loaded without an exit, so nothing is said of it here either."""

    def address_space_changed(self) -> None:
        """The processor has flushed its TLB when it was given the register."""

    def global_pages_changed(self) -> None:
        return

    def page_invalidated(self, gva: int) -> None:
        self.cpu.flush_tlb()

    # The TLB, and code that has been executed --------------------------------------------------------------------

    def _flush_tlb(self) -> None:
        self.tlb_flushes += 1
        self._block[TLB_CONTROL] = vmcb.TLB_FLUSH_ALL
        self.cpu.flush_tlb()

    def page_unmapped(self, ppn: Ppn) -> None:
        """What was executed from the frame must not be met in it when it is another page's."""
        mpn = self.vm.pmap.frame(ppn)
        if mpn is not None:
            self.cpu.code_changed_at(mpn << PAGE_SHIFT, PAGE_BYTES)

    def page_watched(self, ppn: Ppn) -> None:
        """With its entry goes what tells that the page may have been executed (``page_content_changed``)."""
        self.page_unmapped(ppn)

    def page_write_protected(self, ppn: Ppn) -> None:
        """The nested tables hear of it themselves."""

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        """The processor keeps translations of its own of code that it has executed: they may be of these bytes."""
        entry = self.nested.entry(ppn << PAGE_SHIFT)
        if entry & pg.PRESENT and not self.vcpu.is_writing:
            self.cpu.code_changed_at((entry & pg.FRAME_MASK) + offset, size_bytes)

    # State -------------------------------------------------------------------------------------------------------

    def load_state(self, state: EngineState) -> None:
        """The processor is in guest mode since ``start``; the guest in it becomes another one."""
        self.nested.clear()
        self.cpu.forget_code()
        super().load_state(state)
        self._left_by_hlt = state.halted

    def save_caches(self) -> dict[str, object]:
        return super().save_caches() | {"frames_used": self.frames.used, "tlb_flushes": self.tlb_flushes}

    def load_caches(self, saved: dict[str, Any]) -> None:
        super().load_caches(saved)
        self.frames.used, self.tlb_flushes = saved["frames_used"], saved["tlb_flushes"]

    def statistics(self) -> dict[str, object]:
        found = super().statistics()
        nested = {"pages": sum(1 for _ in self.nested.entries()), "tlb_flushes": self.tlb_flushes}
        return found | {"nested": nested}
