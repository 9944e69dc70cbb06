"""Ring 1 without a VMM, and ring 1 with one that emulates whatever traps.

::

    guest kernel, ring 1 ── privileged instruction ──#GP──> VMM: emulate.execute ──> next instruction
                         └─ critical instruction ─────────> runs on the real machine; nobody is asked

Robin and Irvine, USENIX Security 2000: eighteen mnemonics of the second kind make the x86 of that time impossible to
virtualize in this way.
"""

from __future__ import annotations

from vilab.errors import VECTOR_NAMES, VECTORS_WITH_ERROR_CODE, GuestFault, GuestStopped
from vilab.events import Emulated, TrapTaken
from vilab.machine.registers import CS, HF_INHIBIT_IRQ
from vilab.vmm import deprivileged, emulate
from vilab.x86.decode import Instruction, Kind, Truncated, decode

SEGMENT_FAULTS = frozenset((10, 11, 12, 13))
ANY_RING = frozenset(("rdtsc",))
"""Emulated for ring 3 too: they trap only because the VMM wants them to."""


class TrapEngine(deprivileged.DeprivilegedEngine):
    """Trap and emulate: right for what traps, wrong for what does not."""

    name = "trap"
    helps = True

    def on_exception(self, number: int) -> bool:
        if self.cpu.is_software_interrupt:
            self._software_interrupt(number)
        elif number == 14 and self.fetched_ahead(self.cpu.cr(2), self.cpu.error_code):
            return False
        elif number == 14:
            self.exits["#PF"] += 1
            self.page_fault(self.cpu.cr(2), self.cpu.error_code)
        else:
            self._trap(number)
        if self.vcpu.cpl != 3:
            self._refresh_tables()
        return self.ended is None and not self.halted

    def _refresh_tables(self) -> None:
        try:
            self.monitor.copy_tables(self.vcpu)
        except GuestFault:
            self.monitor.forget_tables()

    def _software_interrupt(self, number: int) -> None:
        v = self.vcpu
        behind = v.eip
        self.exits[f"int {number:02x}"] += 1
        start = behind - self._software_length(behind, number) & 0xFFFFFFFF
        code = v.read(v.segment(CS)[1] + start, behind - start, v.cpl == 3)
        self._log_trap(start, number, 0, code, f"gate DPL 0 < CPL {self.cpu.cpl}")
        if not self.helps:
            self._nobody(start, f"int 0x{number:02x}")
            return
        self.charge(self.costs.trap)
        self.deliver_software(number)

    def _trap(self, number: int) -> None:
        v = self.vcpu
        if v.eip == self.stop_eip and v.cpl != 3:
            self.cpu.uncount_instruction()
            self.returned()
            return
        error = self.cpu.error_code & 0xFFFF if number in VECTORS_WITH_ERROR_CODE else None
        fault = GuestFault(number, error)
        instruction = self.instruction()
        op = instruction.op if instruction is not None else ""
        mine = number in SEGMENT_FAULTS and op in emulate.OPERATIONS and (v.cpl != 3 or op in ANY_RING)
        self.exits[op if mine else VECTOR_NAMES.get(number, str(number))] += 1
        if instruction is None or not (mine or v.cpl == 3 or number in (6, 13)):
            self.inject(fault)
            return
        if v.cpl != 3:
            self._log_trap(v.eip, number, error or 0, instruction.code, self._why(instruction))
        if not self.helps and v.cpl != 3:
            self._nobody(v.eip, instruction.text)
            return
        if not mine:
            # Of two reasons to fault the processor looked at the ring first; in ring 0 there is only the other one.
            undefined = number == 13 and v.cpl != 3 and instruction.kind is Kind.UNDEFINED
            self.inject(GuestFault(6) if undefined else fault)
            return
        self.charge(self.costs.trap)
        self.emulate_instruction(instruction)

    def emulate_instruction(self, instruction: Instruction) -> None:
        """Do it for the guest; a fault of its own is the guest's."""
        v = self.vcpu
        eip, cpl = v.eip, v.cpl
        shadowed = self.in_interrupt_shadow()
        try:
            effect = emulate.execute(v, instruction, self)
        except GuestFault as fault:
            self.inject(fault)
            return
        except GuestStopped as stopped:
            self.end("unsupported", str(stopped), good=False)
            return
        self.cpu.d[self.cpu.D_HFLAGS] &= ~HF_INHIBIT_IRQ
        if instruction.inhibits_interrupts and not shadowed:
            self.enter_interrupt_shadow()
        if self.log.active:
            self.log.emit(Emulated(self.now_ns(), eip, instruction.code, effect))
        if v.cpl != cpl:
            self.ring_changed()

    def instruction(self) -> Instruction | None:
        """The one at CS:EIP, ``None`` where it cannot be read."""
        v = self.vcpu
        try:
            return decode(v.fetch(), v.eip, v.code_bits)
        except (GuestFault, Truncated):
            return None

    def _why(self, i: Instruction) -> str:
        if i.op in ("cli", "sti", "in", "out", "ins", "outs"):
            return f"CPL {self.cpu.cpl} > IOPL 0"
        if i.op in emulate.PRIVILEGED:
            return f"CPL {self.cpu.cpl}"
        return "segment of ring 0" if i.op in emulate.OPERATIONS else "undefined opcode"

    def _log_trap(self, eip: int, vector: int, error: int, code: bytes, why: str) -> None:
        if self.log.active:
            self.log.emit(
                TrapTaken(self.now_ns(), eip, self.vcpu.cpl, vector, error, code, why, self.helps, self.costs.trap)
            )

    def _nobody(self, eip: int, text: str) -> None:
        self.vcpu.eip = eip
        whose = "program" if self.vcpu.cpl == 3 else "kernel"
        self.end(
            "trapped",
            f"{text} at {eip:08x} trapped in ring {self.cpu.cpl}, and there is no VMM to help: "
            f"the guest's {whose} is dead.",
            good=False,
        )

    # Ports: on a real machine these trap too (CPL 1 > IOPL 0). This processor asks its hook instead, at the same place.

    def on_in(self, port: int, size_bytes: int) -> int:
        return self.port_in(port, size_bytes) if self._port_trap("in") else 0

    def on_out(self, port: int, size_bytes: int, value: int) -> None:
        if self._port_trap("out"):
            self.port_out(port, size_bytes, value)

    def _port_trap(self, reason: str) -> bool:
        self.exits[reason] += 1
        if self.vcpu.cpl == 3:
            return True
        if self.log.active or not self.helps:
            self.look_in_port_hook()
            eip, instruction = self.vcpu.eip, self.instruction()
            code = b"" if instruction is None else instruction.code
            self._log_trap(eip, 13, 0, code, f"CPL {self.cpu.cpl} > IOPL 0")
        if not self.helps:
            self._nobody(eip, reason)
            return False
        self.charge_port_access(self.costs.trap)
        return True


class NoVmmEngine(TrapEngine):
    """Ring 1 and nothing else: the first trap is the end."""

    name = "deprivileged"
    helps = has_backdoor = False

    def inject(self, fault: GuestFault, software: bool = False, counted: bool = True) -> None:
        """Nobody enters the guest's handlers: the processor's IDT is not the guest's."""
        self._nobody(self.vcpu.eip, VECTOR_NAMES.get(fault.vector, f"exception {fault.vector}"))
