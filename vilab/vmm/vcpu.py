"""One virtual CPU: what the guest set, wherever that is kept.

Under hardware assist and on the bare machine the processor itself holds it (``native_vcpu``). Deprivileged, there are
two truths (``deprivileged_vcpu``).
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from vilab.errors import GuestFault
from vilab.machine.cpu import Cpu
from vilab.machine.fpu import AT_POWER_ON
from vilab.machine.registers import CS, SS
from vilab.memory.pmap import Pmap
from vilab.vmm.records import Registers
from vilab.vmm.walk import walk
from vilab.x86.flags import IF, IOPL, TF

HiddenSegment = tuple[int, int, int, int]
"""(selector, base, limit, flags), flags as in the descriptor's second dword."""

LDTR, TR = 6, 7
VIRTUAL_FLAGS = IF | IOPL
CR4_OSFXSR = 1 << 9
"""Without it SSE instructions are undefined: the one bit of CR4 that the CPU must have as the guest has it."""
CR0_TRANSLATION = 1 << 31 | 1 << 16 | 1
"""PG WP PE: when one of them changes, the TLB is emptied."""
CR4_TRANSLATION = 1 << 5 | 1 << 4
"""PAE PSE: likewise (Intel SDM volume 3, section 4.10.4.1)."""
CR4_PGE = 1 << 7
DPL_SHIFT = 13
BIG = 1 << 22
"""Of a segment: 32-bit code, or a stack that uses all of ESP."""
TSS_BUSY = 1 << 9

NULL_SEGMENT: HiddenSegment = (0, 0, 0, 0)


class MmuListener(Protocol):
    """Whoever caches the guest's address translations."""

    def address_space_loaded(self) -> None:
        """CR3 was loaded: what is not global is looked up again."""
        ...

    def address_space_changed(self) -> None:
        """A bit of CR0 or CR4 has changed that translation depends on: forget everything."""
        ...

    def global_pages_changed(self) -> None:
        """CR4.PGE has changed: like the TLB, forget global translations, too."""
        ...

    def page_invalidated(self, gva: int) -> None:
        """INVLPG."""
        ...


class VcpuState(msgspec.Struct):
    """Everything architectural about a vCPU.

    ``segments``: ES CS SS DS FS GS LDTR TR with hidden parts. ``fpu``: floating-point and SSE registers, 512 bytes as
    FXSAVE stores them.
    """

    gpr: list[int]
    eip: int
    eflags: int
    cpl: int
    segments: list[HiddenSegment]
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    gdtr: tuple[int, int]
    idtr: tuple[int, int]
    msrs: dict[int, int]
    debug: list[int]
    fpu: bytes = AT_POWER_ON


class Vcpu:
    """What both kinds share: memory as the guest sees it, and the state record.

    ``is_writing`` tells listeners of the pmap its own stores (pushes, mostly) from those of devices and of the host.
    """

    is_writing = False

    def __init__(self, cpu: Cpu, pmap: Pmap) -> None:
        self.cpu = cpu
        self.pmap = pmap
        self.gpr = cpu.gpr
        self.mmu: MmuListener | None = None
        self.msrs: dict[int, int] = {}
        self.debug = [0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400]

    # To be defined by the two kinds.
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    gdtr: tuple[int, int]
    idtr: tuple[int, int]

    @property
    def eip(self) -> int:
        return self.cpu.q[self.cpu.Q_EIP] & 0xFFFFFFFF  # the processor may have extended its sign

    @eip.setter
    def eip(self, value: int) -> None:
        self.cpu.q[self.cpu.Q_EIP] = value

    @property
    def cpl(self) -> int:
        raise NotImplementedError

    def eflags(self) -> int:
        raise NotImplementedError

    def set_eflags(self, value: int) -> None:
        raise NotImplementedError

    def segment(self, index: int) -> HiddenSegment:
        raise NotImplementedError

    def set_segment(self, index: int, selector: int, base: int, limit: int, flags: int) -> None:
        """Load a segment register with its hidden part, unchecked."""
        raise NotImplementedError

    def set_mode(self, cpl: int, eflags: int) -> None:
        """Last step of every change of ring, CS or SS: the ring and all flags."""
        raise NotImplementedError

    def set_cr(self, number: int, value: int) -> None:
        raise NotImplementedError

    def selector(self, index: int) -> int:
        return self.segment(index)[0]

    @property
    def pc(self) -> int:
        """EIP as a linear address."""
        return (self.eip + self.segment(CS)[1]) & 0xFFFFFFFF

    @property
    def traps_each(self) -> bool:
        """Does the guest want a trap after the next instruction?"""
        return bool(self.eflags() & TF)

    @property
    def code_bits(self) -> int:
        """32, or 16 where CS says so: how instructions are decoded."""
        return 32 if self.segment(CS)[3] & BIG else 16

    # Memory through the guest's page tables.

    def translate(self, gva: int, write: bool, user: bool) -> int:
        """gpa, with Accessed and Dirty set. Raises ``GuestFault`` (#PF)."""
        return walk(self.pmap, self.cr0, self.cr3, self.cr4, gva, write=write, user=user).gpa

    def read(self, gva: int, size_bytes: int, user: bool = False) -> bytes:
        """Memory at a linear address, with the rights of a supervisor or of ring 3."""
        gva &= 0xFFFFFFFF
        first = min(size_bytes, 0x1000 - (gva & 0xFFF))
        data = self.pmap.read(self.translate(gva, False, user), first)
        return data if first == size_bytes else data + self.read(gva + first, size_bytes - first, user)

    def write(self, gva: int, data: bytes, user: bool = False) -> None:
        """Nothing is written if any part of it would fault."""
        gva &= 0xFFFFFFFF
        first = min(len(data), 0x1000 - (gva & 0xFFF))
        gpa = self.translate(gva, True, user)
        if first != len(data):
            self.write(gva + first, data[first:], user)
        self.write_page(gpa, data[:first])

    def write_page(self, gpa: int, data: bytes) -> None:
        """What has been translated already, within a page."""
        self.is_writing = True
        try:
            self.pmap.write(gpa, data)
        finally:
            self.is_writing = False

    def read_u32(self, gva: int, user: bool = False) -> int:
        return int.from_bytes(self.read(gva, 4, user), "little")

    def fetch(self) -> bytes:
        """Up to 15 bytes at CS:EIP; fewer where the next page is not mapped. Raises #PF if none is."""
        pc, user = self.pc, self.cpl == 3
        room = 0x1000 - (pc & 0xFFF)
        if room >= 15:
            return self.read(pc, 15, user)
        data = self.read(pc, room, user)
        try:
            return data + self.read(pc + room, 15 - room, user)
        except GuestFault:
            return data

    # The state record.

    def save_state(self) -> VcpuState:
        return VcpuState(
            gpr=list(self.gpr), eip=self.eip, eflags=self.eflags(), cpl=self.cpl,
            segments=[self.segment(i) for i in range(8)],
            cr0=self.cr0, cr2=self.cr2, cr3=self.cr3, cr4=self.cr4, gdtr=self.gdtr, idtr=self.idtr,
            msrs=dict(self.msrs), debug=list(self.debug), fpu=self.cpu.fpu(),
        )  # fmt: skip

    def load_state(self, state: VcpuState) -> None:
        self.set_cr(0, state.cr0)
        self.set_cr(4, state.cr4)
        self.set_cr(3, state.cr3)
        self.cr2 = state.cr2
        self.gdtr, self.idtr = state.gdtr, state.idtr
        for index, segment in enumerate(state.segments):
            self.set_segment(index, *segment)
        self.set_mode(state.cpl, state.eflags)
        for index, value in enumerate(state.gpr):
            self.gpr[index] = value
        self.eip = state.eip
        self.msrs, self.debug = dict(state.msrs), list(state.debug)
        self.cpu.set_fpu(state.fpu)

    def registers(self) -> Registers:
        """What the guest set, for views."""
        return Registers(
            gpr=tuple(self.gpr), eip=self.eip, eflags=self.eflags(), cpl=self.cpl,
            selectors=tuple(self.segment(i)[0] for i in range(6)), cr0=self.cr0, cr2=self.cr2, cr3=self.cr3,
            cr4=self.cr4, gdtr_base=self.gdtr[0], gdtr_limit=self.gdtr[1], idtr_base=self.idtr[0],
            idtr_limit=self.idtr[1], ldtr=self.segment(LDTR)[0], tr=self.segment(TR)[0], stack_top=self._stack_top(),
        )  # fmt: skip

    def _stack_top(self) -> int | None:
        try:
            top = self.gpr[4] + self.segment(SS)[1] & 0xFFFFFFFF
            if top & 0xFFF > 0xFFC:
                return int.from_bytes(self.read(top, 4), "little")
            look = walk(self.pmap, self.cr0, self.cr3, self.cr4, top, write=False, user=False, set_bits=False)
            return int.from_bytes(self.pmap.read(look.gpa, 4), "little")
        except GuestFault:
            return None


def cpu_registers(cpu: Cpu, eip: int, stack_top: int | None, nested_cr3: int | None = None) -> Registers:
    """What the CPU holds, for views. ``eip`` is given because a translated guest's is in the cache."""
    gdtr, idtr = cpu.table("gdtr"), cpu.table("idtr")
    return Registers(
        gpr=tuple(cpu.gpr), eip=eip, eflags=cpu.eflags(), cpl=cpu.cpl,
        selectors=tuple(cpu.selector(i) for i in range(6)), cr0=cpu.cr(0), cr2=cpu.cr(2), cr3=cpu.cr(3),
        cr4=cpu.cr(4), gdtr_base=gdtr[0], gdtr_limit=gdtr[1],
        idtr_base=idtr[0], idtr_limit=idtr[1], ldtr=cpu.selector(LDTR), tr=cpu.selector(TR), stack_top=stack_top,
        nested_cr3=nested_cr3,
    )  # fmt: skip
