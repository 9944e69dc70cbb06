"""What a guest finds around its processor: ports, registers in memory, backdoor, CPUID, MSRs, time-stamp counter.

::

    processor's hooks ──┐
                        ├──> on_in, on_out, on_mmio_*, on_cpuid ──> clock up to date ──> device ──> limit anew
    emulated IN, OUT ───┘
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from vilab.addresses import PAGE_BYTES, PAGE_OFFSET_MASK
from vilab.devices import backdoor, balloon_port
from vilab.devices.lapic_registers import ID as LAPIC_ID
from vilab.devices.lapic_timer import BUS_HZ
from vilab.machine.registers import EBX, ECX, EDX
from vilab.vmm import msrs
from vilab.vmm.engine_time import EngineTime
from vilab.vmm.walk import walk

if TYPE_CHECKING:
    from vilab.vmm.vcpu import Vcpu
    from vilab.vmm.vm import VirtualMachine


class EnginePlatform(EngineTime):
    """Part of every engine."""

    has_backdoor = True
    """Is there a VMM underneath that the guest may know of?"""
    vcpu: Vcpu

    def __init__(self, vm: VirtualMachine) -> None:
        super().__init__(vm)
        self.log = vm.log
        self.exits: Counter[str] = Counter()
        self._in_port_access = False

    def end(self, reason: str, sentence: str, good: bool = True) -> None:
        """The run is over."""
        raise NotImplementedError

    def on_in(self, port: int, size_bytes: int) -> int:
        self.exits["in"] += 1
        self.charge_port_access(self.port_cost())
        return self.port_in(port, size_bytes)

    def on_out(self, port: int, size_bytes: int, value: int) -> None:
        self.exits["out"] += 1
        self.charge_port_access(self.port_cost())
        self.port_out(port, size_bytes, value)

    def port_cost(self) -> int:
        """Cycles for the access itself; the bare machine's bus is slow, a VMM answers from memory."""
        return self.costs.port_access

    def on_cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int] | None:
        return self.cpuid(leaf, subleaf)

    def on_mmio_read(self, mpa: int, size_bytes: int) -> int:
        """A load from where the machine has no memory. ``mpa``: the gpa itself, if that is above all memory."""
        self.exits["mmio"] += 1
        self.charge_port_access(self.port_cost())
        self.sync_clock()
        self._in_port_access = True
        value = self.vm.pc.read_mmio(mpa, size_bytes)
        self._in_port_access = False
        self.set_limit()
        return value

    def on_mmio_write(self, mpa: int, size_bytes: int, value: int) -> None:
        self.exits["mmio"] += 1
        self.charge_port_access(self.port_cost())
        self.sync_clock()
        self._in_port_access = True
        self.vm.pc.write_mmio(mpa, size_bytes, value)
        self._in_port_access = False
        self.set_limit()
        self.publish_apic_id()

    def publish_apic_id(self) -> None:
        """MODEL: the local APIC's ID register is read as memory is, without exit, event or cost.

        Kernels read it millions of times, and it changes only when the guest itself writes it.
        """
        lapic = self.vm.lapic
        self.cpu.answer_loads(lapic.base + LAPIC_ID if lapic.enabled else None, lapic.number << 24)

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        """As a supervisor sees it, and without leaving Accessed bits in the guest's tables."""
        v, out = self.vcpu, b""
        while len(out) < size_bytes:
            gva = linear + len(out) & 0xFFFFFFFF
            look = walk(v.pmap, v.cr0, v.cr3, v.cr4, gva, write=False, user=False, set_bits=False)
            out += v.pmap.look(look.gpa, min(size_bytes - len(out), PAGE_BYTES - (gva & PAGE_OFFSET_MASK)))
        return out

    def port_in(self, port: int, size_bytes: int) -> int:
        self.sync_clock()
        if port == backdoor.PORT and size_bytes == 4 and self.has_backdoor:
            return self._backdoor()
        if port == balloon_port.PORT and size_bytes == 4 and self.has_backdoor:
            return self._balloon()
        self._in_port_access = True
        value = self.vm.pc.read_port(port, size_bytes)
        self._in_port_access = False
        self.set_limit()
        return value

    def port_out(self, port: int, size_bytes: int, value: int) -> None:
        self.sync_clock()
        self._in_port_access = True
        self.vm.pc.write_port(port, size_bytes, value)
        self._in_port_access = False
        self.set_limit()
        if self.vm.pc.power.request is not None:
            off = self.vm.pc.power.request == "off"
            self.end(
                "powered_off" if off else "reset",
                "The guest has powered off." if off else "The guest has reset the machine.",
            )

    def _backdoor(self) -> int:
        """``in eax, dx`` from the backdoor's port: the other registers are arguments and answers too."""
        in_hook = self.cpu.in_port_hook
        if in_hook:
            eax, ebx, ecx, edx, esi, edi = self.cpu.registers_in_hook()
        else:
            eax, ecx, edx, ebx, _, _, esi, edi = (value & 0xFFFFFFFF for value in self.vcpu.gpr)
        if eax != backdoor.MAGIC:
            return self.vm.pc.read_port(backdoor.PORT, 4)
        self.exits["backdoor"] += 1
        tsc_hz = 1_000_000 * self.costs.tsc_per_us
        answer = backdoor.call(eax, ebx, ecx, edx, tsc_hz, BUS_HZ)
        if in_hook:
            self.cpu.set_registers_in_hook((answer.eax, answer.ebx, answer.ecx, answer.edx, esi, edi))
        else:
            gpr = self.vcpu.gpr
            gpr[EBX], gpr[ECX], gpr[EDX] = answer.ebx, answer.ecx, answer.edx
        if self.log.active:
            given = (answer.eax, answer.ebx, answer.ecx, answer.edx)
            self.log.emit(backdoor.BackdoorCalled(self.clock.now_ns, ecx & 0xFFFF, ebx, given))
        return answer.eax

    def _balloon(self) -> int:
        """``in eax, dx`` from the balloon's port: the driver speaks to the host's memory manager."""
        in_hook, host = self.cpu.in_port_hook, self.vm.grant.balloon
        if in_hook:
            eax, ebx, ecx, edx, esi, edi = self.cpu.registers_in_hook()
        else:
            eax, ecx, edx, ebx, _, _, esi, edi = (value & 0xFFFFFFFF for value in self.vcpu.gpr)
        if eax != balloon_port.MAGIC or host is None:
            return self.vm.pc.read_port(balloon_port.PORT, 4)
        self.exits["balloon"] += 1
        status, first, capabilities = host.call(ecx, ebx, esi, self.vm.pmap)
        if in_hook:
            self.cpu.set_registers_in_hook((status, first, capabilities, edx, esi, edi))
        else:
            self.vcpu.gpr[EBX], self.vcpu.gpr[ECX] = first, capabilities
        if self.log.active:
            answer = (status, first, capabilities)
            self.log.emit(balloon_port.BalloonCalled(self.clock.now_ns, ecx, ebx, esi, answer))
        return status

    def read_msr(self, index: int) -> int | None:
        """``None``: there is no such register."""
        if index == msrs.TSC:
            return self.tsc()
        return self.vm.lapic.read_apic_base() if index == msrs.APIC_BASE else None

    def write_msr(self, index: int, value: int) -> bool:
        """False: there is no such register, or it does not take the value."""
        if index == msrs.APIC_BASE:
            self.sync_clock()
            taken = self.vm.lapic.write_apic_base(value)
            self.publish_apic_id()
            return taken
        return index == msrs.TSC

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        return self.vm.cpuid(leaf, subleaf)

    def tsc(self) -> int:
        return self.now_ns() * self.costs.tsc_per_us // 1000
