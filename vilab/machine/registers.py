"""The processor's registers, all of them: a record that is copied out of it and back in.

::

    processor ──load──> context record ──store──> processor
                          │ at offsets that were found by provocation at start-up (``context``)
                          q, d: the same bytes as 64-bit and 32-bit values

    segment register:  selector | base | limit | flags       what a program sees, and the hidden part
    hflags:            ring, code and stack size, SS and DS bases, PE, ...   the processor's digest of its mode

Most accesses are to the record and cost what an array costs. What has consequences in the processor (CR0, CR4, MSRs,
debug registers) goes through it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import ClassVar

from unicorn import Uc
from unicorn import x86_const as reg
from unicorn.unicorn_py3.unicorn import uclib

from vilab.machine import fpu
from vilab.machine.context import BASE, CC_OP_EFLAGS, FLAGS, LIMIT, SEGMENT_BYTES, SELECTOR, Layout
from vilab.machine.intercept import (
    CR0_READ,
    GDTR_READ,
    HF_GUEST,
    IDTR_READ,
    RDTSC,
    RDTSCP,
    TR_WRITE,
    find_intercept_word,
)

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
ES, CS, SS, DS, FS, GS = range(6)
LDTR, TR = 6, 7
"""Indexes for ``Cpu.segment``; 0 to 5 as in the instruction set."""

ARITHMETIC_FLAGS = 0x8D5
EFLAGS_TF, EFLAGS_DF, EFLAGS_VM = 0x100, 0x400, 1 << 17
EFLAGS_RESERVED_ONE = 0x2

# Bits of hflags, the processor's digest of its mode.
HF_CPL = 3
HF_INHIBIT_IRQ = 1 << 3
HF_CS32 = 1 << 4
HF_SS32 = 1 << 5
HF_ADDSEG = 1 << 6
HF_PE = 1 << 7
HF_TF = 1 << 8
HF_MP_EM_TS = 7 << 9

_TLB_FLUSH = 0x4000000B
"""A request to ``uc_ctl``: to write, with no argument."""


class RegisterFile:
    """The registers of one processor.

    Parameters
    ----------
    context : the record, allocated by Unicorn. at : where things are in it.
    """

    def __init__(self, uc: Uc, context: ctypes.c_void_p, at: Layout) -> None:
        self._uc, self._handle, self._context, self.layout = uc, uc._uch, context, at
        self._save = uclib.uc_context_save
        self._restore = uclib.uc_context_restore
        self._in_run = False
        handle = self._handle
        size = uclib.uc_context_size(handle)
        address = context.value
        assert address is not None
        raw = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
        self.q = raw.cast("Q")
        """The context as unsigned 64-bit values; index a register with ``Q_...``."""
        self.d = raw.cast("I")
        self._i = raw.cast("i")
        self.gpr = self.q[at.gpr // 8 : at.gpr // 8 + 8]
        self.Q_EIP = at.eip // 8
        self.Q_EFLAGS = at.eflags // 8
        self.Q_CC_SRC = at.cc_src // 8
        self.D_CC_OP = at.cc_op // 4
        self.D_DF = at.df // 4
        self.D_HFLAGS = at.hflags // 4
        self.Q_CR = at.cr // 8
        self._d_error = at.error_code // 4
        self._d_old = at.old_exception // 4
        records = [at.segments + SEGMENT_BYTES * i for i in range(6)] + [at.ldtr, at.tr]
        self._selector_at = [(r + SELECTOR) // 4 for r in records]
        self._base_at = [(r + BASE) // 8 for r in records]
        self._limit_at = [(r + LIMIT) // 4 for r in records]
        self._flags_at = [(r + FLAGS) // 4 for r in records]
        self._q_cs_base = self._base_at[CS]

    def load(self) -> None:
        """Copy the processor's registers into the view."""
        self._save(self._handle, self._context)

    def store(self) -> None:
        """Copy the view into the processor."""
        self._restore(self._handle, self._context)

    @property
    def eip(self) -> int:
        return self.q[self.Q_EIP]

    @eip.setter
    def eip(self, value: int) -> None:
        self.q[self.Q_EIP] = value

    @property
    def pc(self) -> int:
        """EIP as a linear address."""
        return (self.q[self.Q_EIP] + self.q[self._q_cs_base]) & 0xFFFFFFFF

    @property
    def cpl(self) -> int:
        return self.d[self.D_HFLAGS] & HF_CPL

    @property
    def error_code(self) -> int:
        return self.d[self._d_error]

    @property
    def is_software_interrupt(self) -> bool:
        """Was the exception INT n, INT3 or INTO? Then EIP is behind the instruction."""
        return bool(self.d[self._d_error + 1])

    def _read_eflags(self) -> int:
        value = ctypes.c_uint64()
        uclib.uc_reg_read(self._handle, reg.UC_X86_REG_EFLAGS, ctypes.byref(value))
        return value.value & 0xFFFFFFFF

    def eflags(self) -> int:
        """All flags. Inside an exit they are computed from the processor's lazy form: about 0.5 us.

        The processor takes its flags apart when it starts to execute and puts them together when it stops. So between
        runs EFLAGS is whole; inside one its arithmetic bits and DF are zero, and the lazy fields count.
        """
        if not self._in_run:
            return (self.q[self.Q_EFLAGS] | EFLAGS_RESERVED_ONE) & 0xFFFFFFFF
        raw = self.q[self.Q_EFLAGS]
        if self.d[self.D_CC_OP] == CC_OP_EFLAGS:
            down = EFLAGS_DF if self._i[self.D_DF] < 0 else 0
            return (raw | self.q[self.Q_CC_SRC] & ARITHMETIC_FLAGS | down | EFLAGS_RESERVED_ONE) & 0xFFFFFFFF
        value = ctypes.c_uint64()
        uclib.uc_context_reg_read(self._context, reg.UC_X86_REG_EFLAGS, ctypes.byref(value))
        return value.value & 0xFFFFFFFF

    def set_eflags(self, value: int) -> None:
        self.q[self.Q_CC_SRC] = value & ARITHMETIC_FLAGS
        self.d[self.D_CC_OP] = CC_OP_EFLAGS
        self._i[self.D_DF] = -1 if value & EFLAGS_DF else 1
        kept = ~(ARITHMETIC_FLAGS | EFLAGS_DF) if self._in_run else 0xFFFFFFFF
        self.q[self.Q_EFLAGS] = value & kept | EFLAGS_RESERVED_ONE

    def segment(self, index: int) -> tuple[int, int, int, int]:
        """Selector and hidden part: (selector, base, limit, flags). Flags as in a descriptor's upper half."""
        return (self.d[self._selector_at[index]], self.q[self._base_at[index]],
                self.d[self._limit_at[index]], self.d[self._flags_at[index]])  # fmt: skip

    def selector(self, index: int) -> int:
        return self.d[self._selector_at[index]]

    def segment_base(self, index: int) -> int:
        return self.q[self._base_at[index]]

    def set_segment(self, index: int, selector: int, base: int, limit: int, flags: int) -> None:
        """Load selector and hidden part as they are, unchecked; call ``update_mode`` after the last one."""
        self.d[self._selector_at[index]] = selector
        self.q[self._base_at[index]] = base
        self.d[self._limit_at[index]] = limit
        self.d[self._flags_at[index]] = flags

    def update_mode(self, cpl: int) -> None:
        """Set the ring and recompute the processor's digest of CS, SS and the data segments' bases."""
        d, q = self.d, self.q
        mode = d[self.D_HFLAGS] & ~(HF_CPL | HF_CS32 | HF_SS32 | HF_ADDSEG | HF_INHIBIT_IRQ) | cpl
        if d[self._flags_at[CS]] & 1 << 22:
            mode |= HF_CS32
        if d[self._flags_at[SS]] & 1 << 22:
            mode |= HF_SS32
        base = self._base_at
        virtual_8086 = q[self.Q_EFLAGS] & EFLAGS_VM
        if virtual_8086 or not mode & HF_PE or not mode & HF_CS32 or q[base[DS]] or q[base[ES]] or q[base[SS]]:
            mode |= HF_ADDSEG
        d[self.D_HFLAGS] = mode

    def set_cr0_task_bits(self, cr0: int) -> None:
        """MP, EM and TS of the CPU's CR0, without a TLB flush."""
        at = self.Q_CR
        self.q[at] = self.q[at] & ~0xE | cr0 & 0xE
        self.d[self.D_HFLAGS] = self.d[self.D_HFLAGS] & ~HF_MP_EM_TS | (cr0 & 0xE) << 8

    def cr(self, number: int) -> int:
        # An access across the end of the address space leaves 1_0000_0000 in CR2.
        return self.q[self.Q_CR + number] & 0xFFFFFFFF

    def set_cr2(self, value: int) -> None:
        self.q[self.Q_CR + 2] = value

    _CR: ClassVar[dict[int, int]] = {0: reg.UC_X86_REG_CR0, 3: reg.UC_X86_REG_CR3, 4: reg.UC_X86_REG_CR4}

    def set_cr(self, number: int, value: int) -> None:
        """CR0, CR3 or CR4 with everything that follows from it (TLB, mode)."""
        self.store()
        self._uc.reg_write(self._CR[number], value)
        self.load()

    def set_cr3(self, value: int) -> None:
        """CR3 with nothing but what follows from it: address translations are forgotten."""
        self.q[self.Q_CR + 3] = value
        self.flush_tlb()

    def set_msr(self, index: int, value: int) -> None:
        self.store()
        self._uc.reg_write(reg.UC_X86_REG_MSR, (index, value))
        self.load()

    def msr(self, index: int) -> int:
        return int(self._uc.reg_read(reg.UC_X86_REG_MSR, index))

    def debug_registers(self) -> list[int]:
        """DR0 to DR7, 4 and 5 being other names of 6 and 7."""
        return [int(self._uc.reg_read(reg.UC_X86_REG_DR0 + (i if i < 4 else i | 2))) for i in range(8)]

    def set_debug_registers(self, values: Sequence[int]) -> None:
        self.store()
        for i in (0, 1, 2, 3, 6, 7):
            self._uc.reg_write(reg.UC_X86_REG_DR0 + i, values[i])
        self.load()

    def fpu(self) -> bytes:
        """The floating-point and SSE registers as FXSAVE would store them; see ``fpu``."""
        return fpu.read(self._uc)

    def set_fpu(self, image: bytes) -> None:
        self.store()
        fpu.write(self._uc, image)
        self.load()

    def table(self, which: str) -> tuple[int, int]:
        """(base, limit) of ``"gdtr"`` or ``"idtr"``."""
        at = self.layout.gdtr if which == "gdtr" else self.layout.idtr
        return self.q[(at + BASE) // 8], self.d[(at + LIMIT) // 4]

    def set_table(self, which: str, base: int, limit: int) -> None:
        at = self.layout.gdtr if which == "gdtr" else self.layout.idtr
        self.q[(at + BASE) // 8] = base
        self.d[(at + LIMIT) // 4] = limit

    def intercept_rdtsc(self) -> None:
        """From now on RDTSC and RDTSCP arrive as #VMEXIT, without a VMCB; see ``intercept``."""
        self.d[self.D_HFLAGS] |= HF_GUEST
        word = find_intercept_word()
        self.d[word // 4], self.d[word // 4 + 1] = RDTSC, RDTSCP >> 32

    def intercept_machine_reads(self, on: bool) -> None:
        """SGDT, SIDT and SMSW, which trap in no ring and no mode: do they arrive as #VMEXIT? See ``intercept``.

        On processors of today CR4.UMIP makes them trap outside ring 0; this one has no such bit.
        """
        mode = self.d[self.D_HFLAGS]
        if bool(mode & HF_GUEST) == on:
            return
        word = find_intercept_word() // 4
        self.d[self.D_HFLAGS] = mode ^ HF_GUEST
        self.d[word], self.d[word + 1] = (IDTR_READ | GDTR_READ if on else 0), 0
        self.d[word + 2] = self.d[word + 2] & ~0xFFFF | (CR0_READ if on else 0)

    def intercept_task_register(self) -> None:
        """In guest mode, LTR arrives as #VMEXIT from now on, whatever the VMCB says; see ``intercept``."""
        self.d[find_intercept_word() // 4] |= TR_WRITE

    @property
    def in_guest_mode(self) -> bool:
        return bool(self.d[self.D_HFLAGS] & HF_GUEST)

    def flush_tlb(self) -> None:
        """Forget all address translations: after page-table entries became less permissive."""
        uclib.uc_ctl(self._handle, ctypes.c_int(_TLB_FLUSH))
