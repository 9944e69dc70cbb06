"""The processor: Unicorn behind one class and a handful of exits. No other file knows Unicorn.

The processor runs until something needs attention. Then its registers are copied into ``Cpu``'s own view of them, one
of the ``ExitHandler``'s methods is called, what that changed is copied back, and the processor goes on, or stops::

        run() ──> executing ──exception, INT n, #VMEXIT──> handler.on_exception(number) ──True──> executing
                      │                                                                └─False─> run() returns STOPPED
                      ├── IN, OUT, CPUID ──> handler.on_in / on_out / on_cpuid ──> executing
                      ├── HLT in ring 0 ──────────────────────────────────────────> run() returns HALTED
                      └── the block hook: limit reached, interrupt deliverable ───> run() returns LIMIT, INTERRUPT

Time is code: ``executed_bytes`` counts the bytes of every instruction executed since power-on, exactly, wherever
blocks begin and end and whether or not the run is stepped. (The count of a repeated string instruction: its length
once an iteration, and once more when its counter has run out.)

What this processor does not do: deliver anything through the IDT (the handler does, see ``vmm/emulate.py``), check
segment limits on data, fault on IN and OUT.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from unicorn import (
    UC_ARCH_X86,
    UC_ERR_FETCH_PROT,
    UC_ERR_FETCH_UNMAPPED,
    UC_HOOK_BLOCK,
    UC_HOOK_CODE,
    UC_HOOK_INSN,
    UC_HOOK_INSN_INVALID,
    UC_MODE_32,
    Uc,
    UcError,
)
from unicorn import x86_const as reg
from unicorn.unicorn_py3.unicorn import uclib

from vilab.errors import GuestFault, GuestStopped, VmmBug
from vilab.machine import native, native_mmio, time_cells
from vilab.machine.access_place import AccessPlace
from vilab.machine.context import CC_OP_EFLAGS, find_layout
from vilab.machine.memory import MachineMemory
from vilab.machine.native_exits import NativeExits, address_of
from vilab.machine.registers import (
    ARITHMETIC_FLAGS,
    ECX,
    EFLAGS_DF,
    EFLAGS_TF,
    HF_CPL,
    HF_CS32,
    HF_TF,
    RegisterFile,
)
from vilab.x86.decode import decode

VMEXIT_BASE = 0x100
"""A #VMEXIT arrives in ``on_exception`` as this plus the exit code of the VMCB."""

UNLIMITED = (1 << 62) - 1

_REMOVE_CACHE = 0x48000009
"""A request to ``uc_ctl``: to write, with two arguments."""
_REP_PREFIXES = frozenset((0xF2, 0xF3))
_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
_STRING = frozenset((0x6C, 0x6D, 0x6E, 0x6F, 0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF))
_PORT_IN_BYTE = frozenset((0xE4, 0xE5, 0xE6, 0xE7))
_SHIFTS = frozenset((0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3))
CC_OP_FIRST = 2
"""The first operation of the lazy flags: a byte, then a word, a dword, a qword, then those of the next."""
_MEMORY_FAULTS = frozenset((14, 0x14E, 0x500))
"""#PF, its #VMEXIT, and that of a nested page fault."""
_UNWOUND = frozenset((0, 5, 10, 11, 12, 13, 14, 17, 0x500))
"""Faults that come in the middle of an instruction: the processor goes back to what it was at its start."""
_COMPARING = frozenset((0xA6, 0xA7, 0xAE, 0xAF))


class Stop(enum.Enum):
    """Why ``run`` or ``step`` returned."""

    LIMIT = "limit"
    INTERRUPT = "interrupt"
    HALTED = "halted"
    STOPPED = "stopped"
    STEPPED = "stepped"
    COUNTED = "counted"


class ExitHandler(Protocol):
    """What the processor calls. Registers may be read and changed in ``on_exception`` only."""

    def on_exception(self, number: int) -> bool:
        """Exception, INT n (``is_software``: EIP is behind it) or #VMEXIT. True: go on; False: stop."""
        ...

    def on_in(self, port: int, size_bytes: int) -> int: ...

    def on_out(self, port: int, size_bytes: int, value: int) -> None: ...

    def on_cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int] | None:
        """EAX, EBX, ECX, EDX; ``None``: the processor's own answer."""
        ...

    def on_mmio_read(self, mpa: int, size_bytes: int) -> int: ...

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        """The bytes of an instruction that has just been executed, or was to be. Raises ``GuestFault``."""
        ...

    def on_mmio_write(self, mpa: int, size_bytes: int, value: int) -> None: ...


class Cpu(NativeExits, RegisterFile):
    """One physical processor on one machine's memory.

    After ``run``, ``step`` and inside ``on_exception`` the registers are in ``gpr`` (eight unsigned values),
    ``eip``, ``segment_*`` and so on; changes to them reach the processor when it goes on.

    Parameters
    ----------
    memory : mapped at machine address 0; everything above it goes to the handler's ``on_mmio_*``.
    native_hook : False runs the block hook in Python (for tests of the fallback).
    block_hook : False leaves it out, and with it time and preemption (to measure what it costs).
    rom_bytes : so much of the memory's end lies at the end of the 4 GB instead. MODEL: it can be written.
    """

    def __init__(
        self, memory: MachineMemory, native_hook: bool = True, block_hook: bool = True, rom_bytes: int = 0
    ) -> None:
        self.memory = memory
        self._ram_bytes = memory.size_bytes - rom_bytes
        self.handler: ExitHandler | None = None
        self.layout = at = find_layout()
        uc = self._uc = Uc(UC_ARCH_X86, UC_MODE_32)
        uc.ctl_set_cpu_model(reg.UC_CPU_X86_QEMU64)
        uc.ctl_exits_enabled(True)  # else reaching address 0, "until", would end the run
        self._handle = uc._uch
        uc.mem_map_ptr(0, self._ram_bytes, 7, memory.host_address)
        if rom_bytes:
            uc.mem_map_ptr((1 << 32) - rom_bytes, rom_bytes, 7, memory.host_address + self._ram_bytes)
        self._alive: list[Any] = []
        self._failure: BaseException | None = None

        self._context, self._spare, self._at_power_on = (self._new_context() for _ in range(3))
        RegisterFile.__init__(self, uc, self._context, at)
        self._spare_cs_base = ctypes.c_uint64.from_address((self._spare.value or 0) + 8 * self._q_cs_base)
        self.code_moves = False
        """Does code run whose CS has a base of its own, in real mode for instance?"""

        self.cells: native.Cells = np.zeros(native.CELLS, dtype=np.int64)
        self.cells[native.LIMIT] = UNLIMITED
        self._cells = memoryview(self.cells)  # type: ignore[arg-type]
        self.count_cells: native.Cells = np.zeros(native.CELLS, dtype=np.int64)
        self._make_time_cells()
        self._register_cells: native.Cells = np.full(native_mmio.CELLS + 1, -1, dtype=np.int64)
        self._register = memoryview(self._register_cells)  # type: ignore[arg-type]
        self._stepping = False
        self._stop_asked = False
        self._in_port_hook = self._in_mmio_hook = False
        self._access_pc = 0
        self._place = AccessPlace(self._handle.value or 0)
        self._stopped_at: tuple[int, int] | None = None
        self._native = native_hook
        self._install_hooks(block_hook)
        self.load()
        self._save(self._handle, self._at_power_on)

    # Set-up ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise VmmBug(f"The processor refused a request: {UcError(status)}.")

    def _new_context(self) -> ctypes.c_void_p:
        context = ctypes.c_void_p()
        self._check(uclib.uc_context_alloc(self._handle, ctypes.byref(context)))
        return context

    def _hook(self, kind: int, callback: Any, user_data: Any = None, *extra: Any) -> int:
        handle = ctypes.c_size_t()
        self._alive.append(callback)
        function = (
            ctypes.cast(callback, ctypes.c_void_p) if not isinstance(callback, int) else ctypes.c_void_p(callback)
        )
        self._check(
            uclib.uc_hook_add(
                self._handle, ctypes.byref(handle), ctypes.c_int(kind), function, user_data,
                ctypes.c_uint64(1), ctypes.c_uint64(0), *extra,
            )
        )  # fmt: skip
        return int(handle.value)

    def _install_hooks(self, block_hook: bool) -> None:
        void, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
        hook = ctypes.CFUNCTYPE
        self._install_interrupt_hook(hook(None, void, u32, void)(self._on_interrupt))
        self._hook(UC_HOOK_INSN_INVALID, hook(ctypes.c_bool, void, void)(self._on_invalid))
        insn = ctypes.c_int
        on_in = hook(u32, void, u32, ctypes.c_int, void)(self._on_in)
        self._hook(UC_HOOK_INSN, on_in, None, insn(reg.UC_X86_INS_IN))
        on_out = hook(None, void, u32, ctypes.c_int, u32, void)(self._on_out)
        self._hook(UC_HOOK_INSN, on_out, None, insn(reg.UC_X86_INS_OUT))
        self._hook(UC_HOOK_INSN, hook(ctypes.c_int, void, void)(self._on_cpuid), None, insn(reg.UC_X86_INS_CPUID))

        reads = hook(u64, void, u64, ctypes.c_uint, void)(self._on_mmio_read)
        writes = hook(None, void, u64, ctypes.c_uint, u64, void)(self._on_mmio_write)
        self._alive += [reads, writes]
        self._register_cells[native_mmio.CELLS] = address_of(reads)
        native_reads = native_mmio.compile_hook() if self._native else None
        self._mmio_base = self._ram_bytes
        self._check(
            uclib.uc_mmio_map(
                self._handle,
                u64(self._mmio_base),
                ctypes.c_size_t((1 << 32) - self.memory.size_bytes),
                reads if native_reads is None else void(native_reads),
                void(self._register_cells.ctypes.data),
                writes,
                None,
            )
        )
        compiled = None
        if self._native:
            compiled = native.compile_hooks(
                address_of(uclib.uc_reg_read), address_of(uclib.uc_emu_stop), reg.UC_X86_REG_EFLAGS
            )
        if compiled is None:
            block = hook(None, void, u64, u32, void)
            on_block: Any = block(native.block_hook_in_python(self.cells, self._read_eflags, uclib.uc_emu_stop))
            self._on_code: Any = block(native.code_hook_in_python(self.count_cells, uclib.uc_emu_stop))
        else:
            on_block, self._on_code = compiled
        self.is_native = compiled is not None
        if block_hook:
            self._hook(UC_HOOK_BLOCK, on_block, void(self.cells.ctypes.data))

    def count_instructions(self, limit: int, tc_base: int = 0, marks_address: int = 0, tc_bytes: int = 0) -> None:
        """Count guest instructions from now on (slower: a hook on each), and stop before number ``limit`` + 1.

        Must be asked for before the first ``run``. Inside the translation cache, given by its linear range and the
        host address of one mark a byte, only marked addresses count.
        """
        cells = self.count_cells
        cells[native.COUNT_LIMIT] = limit
        cells[native.TC_BASE], cells[native.TC_SPAN], cells[native.TC_MARKS] = tc_base, tc_bytes, marks_address
        self._hook(UC_HOOK_CODE, self._on_code, ctypes.c_void_p(cells.ctypes.data))
        self._cells[native.COUNT_AT] = cells.ctypes.data

    @property
    def instructions(self) -> int:
        """Guest instructions since ``count_instructions``."""
        return int(self.count_cells[native.COUNT])

    def set_instruction_limit(self, limit: int) -> None:
        """Stop before instruction number ``limit`` + 1 from now on."""
        self.count_cells[native.COUNT_LIMIT] = limit

    def set_instructions(self, count: int) -> None:
        """A checkpoint is being restored."""
        self.count_cells[native.COUNT] = count

    def forget_code(self) -> None:
        """Forget all code that was executed: memory has been replaced (0.5 ms)."""
        self._uc.ctl_flush_tb()

    def count_instruction(self) -> bool:
        """One of the guest's is about to be done by somebody else. False: the limit has been reached."""
        if self._cells[native.COUNT_AT]:
            if self.count_cells[native.COUNT] >= self.count_cells[native.COUNT_LIMIT]:
                return False
            self.count_cells[native.COUNT] += 1
            self.count_cells[native.LAST] = self.pc
        return True

    def uncount_instruction(self) -> None:
        """The last one was not the guest's."""
        self.count_cells[native.LAST] = -1
        if self.count_cells[native.COUNT]:
            self.count_cells[native.COUNT] -= 1

    @property
    def counted_at(self) -> int:
        """Linear address of the instruction that was counted last; -1 after ``uncount_instruction``."""
        return int(self.count_cells[native.LAST])

    def close(self) -> None:
        """Free the processor. The memory it ran on stays."""
        for context in (self._context, self._spare, self._at_power_on):
            uclib.uc_context_free(context)
        self.handler = None

    # Memory and caches -----------------------------------------------------------------------------------------

    def code_changed(self, address: int, size_bytes: int) -> None:
        """Bytes at a linear address that may have been executed were changed behind the processor's back.

        The processor looks the address up with the rights of its current ring, and does nothing where ring 3 may not
        look; so it is asked in ring 0.
        """
        mode = self.d[self.D_HFLAGS]
        self.d[self.D_HFLAGS] = mode & ~HF_CPL
        self.store()
        self._forget_code(address, size_bytes)
        self.d[self.D_HFLAGS] = mode

    def _forget_code(self, address: int, size_bytes: int) -> None:
        end = ctypes.c_uint64(address + size_bytes)
        uclib.uc_ctl(self._handle, ctypes.c_int(_REMOVE_CACHE), ctypes.c_uint64(address), end)

    def code_changed_at(self, mpa: int, size_bytes: int) -> None:
        """Bytes of machine memory that may have been executed were changed behind the processor's back (about 10 us).

        The processor can be asked only by linear address, which says nothing about a machine address while the guest
        has paging on. So it becomes for a moment what it was at power-on, with paging off.
        """
        self._save(self._handle, self._spare)
        self._restore(self._handle, self._at_power_on)
        self.flush_tlb()
        self._forget_code(mpa, size_bytes)
        self.flush_tlb()
        self._restore(self._handle, self._spare)

    # Time ------------------------------------------------------------------------------------------------------

    @property
    def executed_bytes(self) -> int:
        """Bytes of code executed since power-on, as of now, also in the middle of a block."""
        cells = self._cells
        executed: int = cells[native.EXECUTED]
        size: int = cells[native.SIZE]
        if size:
            behind = self._mid_block_pc() - cells[native.BLOCK]
            if 0 <= behind < size:
                executed -= size - behind
        return executed

    def current_eip(self) -> int:
        """EIP of the instruction that called ``on_in``, ``on_out`` or ``on_mmio_*``."""
        if self._access_pc:
            self._place.bring_eip(self._access_pc)
            self._access_pc = 0
        value = ctypes.c_uint64()
        uclib.uc_reg_read(self._handle, reg.UC_X86_REG_EIP, ctypes.byref(value))
        return value.value & 0xFFFFFFFF

    def _mid_block_pc(self) -> int:
        # Code that runs directly may have loaded CS since the view was filled.
        base = self.q[self._q_cs_base]
        block, size = self._cells[native.BLOCK], self._cells[native.SIZE]
        pc: int = self.current_eip() + base & 0xFFFFFFFF
        if self.code_moves or not block <= pc < block + size:
            self.code_moves = True
            self._save(self._handle, self._spare)
            pc = self.current_eip() + self._spare_cs_base.value & 0xFFFFFFFF
        return pc

    def set_executed_bytes(self, executed_bytes: int) -> None:
        """A state record is being loaded: its time is this."""
        self._cells[native.EXECUTED] = executed_bytes
        self._cells[native.SIZE] = 0

    @property
    def in_port_hook(self) -> bool:
        """Are we inside ``on_in``, ``on_out`` or ``on_mmio_*``, in the middle of a block?"""
        return self._in_port_hook or self._in_mmio_hook

    def look(self) -> None:
        """In a port or MMIO hook: bring the view up to date, EIP on the instruction. For reading only."""
        eip = self.current_eip()
        self.load()
        self.q[self.Q_EIP] = eip

    def set_registers_in_hook(self, values: Sequence[int]) -> None:
        """In a port hook: EAX, EBX, ECX, EDX, ESI and EDI for the instructions behind this one (3 us each)."""
        for register, value in zip(_HOOK_REGISTERS, values, strict=True):
            self._uc.reg_write(register, value)

    def registers_in_hook(self) -> list[int]:
        """In a port hook: EAX, EBX, ECX, EDX, ESI and EDI."""
        return [int(self._uc.reg_read(register)) for register in _HOOK_REGISTERS]

    def _access_instruction_bytes(self) -> int:
        if self._in_mmio_hook:
            return decode(self.handler.read_code(self.pc, 15), self.pc).size  # type: ignore[union-attr]
        code = self.handler.read_code(self.pc, 1)  # type: ignore[union-attr]
        length = 1
        while code[0] in _PREFIXES:
            code = self.handler.read_code(self.pc + length, 1)  # type: ignore[union-attr]
            length += 1
        return length + (code[0] in _PORT_IN_BYTE)

    @property
    def block_start(self) -> int:
        """Linear address where the block begins that was entered last."""
        return int(self._cells[native.BLOCK])

    @property
    def running(self) -> bool:
        """Are we inside ``run``, in a handler's method?"""
        return self._in_run

    def set_limit(self, executed_bytes: int) -> None:
        """The processor stops before a block that would take ``executed_bytes`` beyond this."""
        self._cells[native.LIMIT] = executed_bytes

    def lower_limit(self, by_bytes: int) -> None:
        """Bring the limit nearer."""
        self._cells[native.LIMIT] -= by_bytes

    def set_interrupt_pending(self, pending: bool, flag_address: int = 0) -> None:
        """Stop as soon as an interrupt could be taken: when EFLAGS.IF (or bit 1 of the byte at an address) is set."""
        self._cells[native.FLAG_AT] = flag_address
        self._cells[native.PENDING] = int(pending)

    def count_code(self, size_bytes: int, times: int = 1) -> None:
        """Somebody else has done an instruction that the processor was about to execute (repeated so many times)."""
        self._cells[native.EXECUTED] += size_bytes * times
        if self._cells[native.COUNT_AT]:
            self.count_cells[native.COUNT] += times - 1

    def instructions_left(self) -> int:
        """How many may still be counted; a large number if nobody counts."""
        if not self._cells[native.COUNT_AT]:
            return UNLIMITED
        return int(self.count_cells[native.COUNT_LIMIT] - self.count_cells[native.COUNT])

    def _refund(self) -> None:
        cells = self._cells
        size = cells[native.SIZE]
        if size:
            behind = (self.q[self.Q_EIP] + self.q[self._q_cs_base] & 0xFFFFFFFF) - cells[native.BLOCK]
            if 0 <= behind < size:
                cells[native.EXECUTED] -= size - behind
            cells[native.SIZE] = 0

    # Running ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask the processor to stop soon. Only from inside a handler's method.

        From ``on_in``, ``on_out`` and ``on_mmio_*`` it may execute a few more instructions of the same block. Those do
        not count, and cause no exits.
        """
        self._stop_asked = True
        self.time[time_cells.ON] = 0
        if self.in_port_hook and self._stopped_at is None:
            self.look()
            self._stopped_at = self.executed_bytes + self._access_instruction_bytes(), self.instructions
        uclib.uc_emu_stop(self._handle)

    def run(self) -> Stop:
        """Execute from the view's registers until something needs the caller."""
        cells = self._cells
        cells[native.STOPPED] = 0
        cells[native.SIZE] = 0
        self.count_cells[native.STOPPED] = 0
        self._stop_asked = False
        self._stopped_at = None
        self.store()
        self._in_run = True
        status = uclib.uc_emu_start(
            self._handle,
            ctypes.c_uint64(self.q[self.Q_EIP]),
            ctypes.c_uint64(0),
            ctypes.c_uint64(0),
            ctypes.c_size_t(0),
        )
        self.load()
        if cells[native.COUNT_AT]:
            # What the instruction hook has left in EFLAGS is still there, mixed with what is true.
            self.q[self.Q_EFLAGS] &= ~(ARITHMETIC_FLAGS | EFLAGS_DF)
            self.q[self.Q_EFLAGS] = self.eflags()
        self._in_run = False
        self._refund()
        stopped_at = self._where_stopped()
        if stopped_at is not None:
            cells[native.EXECUTED], self.count_cells[native.COUNT] = stopped_at
        self._raise_failure()
        if status in (UC_ERR_FETCH_PROT, UC_ERR_FETCH_UNMAPPED):
            if cells[native.COUNT_AT] and self.instructions >= self.count_cells[native.COUNT_LIMIT]:
                return Stop.COUNTED
            self._fetched_from_nowhere()
            return Stop.STOPPED
        if status:
            raise GuestStopped(
                f"The processor cannot go on at {self.eip:08x}: {UcError(status)}. "
                "The address is outside memory, or in a device's range."
            )
        if stopped_at is not None:
            return Stop.STOPPED
        if cells[native.STOPPED]:
            return Stop.LIMIT if cells[native.STOPPED] == native.STOPPED_BY_LIMIT else Stop.INTERRUPT
        if self.count_cells[native.STOPPED]:
            return Stop.COUNTED
        return Stop.STOPPED if self._stop_asked else Stop.HALTED

    def _fetched_from_nowhere(self) -> None:
        # Where there is no memory the bus reads all ones, and ff ff is undefined.
        self.d[self._d_error + 1] = 0
        self.count_cells[native.COUNT] += 1
        assert self.handler is not None
        self.handler.on_exception(6)

    def _where_stopped(self) -> tuple[int, int] | None:
        """Bytes and instructions at the port access that asked to stop."""
        return self._stopped_at

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def step(self, trapping: bool = False) -> Stop:
        """Execute one instruction (one iteration of a repeated one), or take the exit that it causes.

        Returns STEPPED when the instruction ran through; otherwise as ``run``. ``trapping``: a TF of the guest's that
        is not in EFLAGS is set; with TF the processor does not come back to a repeated instruction that is done.
        """
        limit, pending = self._cells[native.LIMIT], self._cells[native.PENDING]
        self._cells[native.LIMIT], self._cells[native.PENDING] = UNLIMITED, 0
        pc, counter, eflags = self.pc, self.gpr[ECX], self.q[self.Q_EFLAGS]
        self._stepping = True
        self.d[self.D_HFLAGS] |= HF_TF
        try:
            reason = self.run()
        finally:
            stepped, self._stepping = not self._stepping, False
            self.d[self.D_HFLAGS] &= ~HF_TF
            self._cells[native.LIMIT], self._cells[native.PENDING] = limit, pending
        if not stepped:
            return reason
        if counter != self.gpr[ECX] and not self.gpr[ECX] & 0xFFFF and not trapping and not eflags & EFLAGS_TF:
            self._come_back_to_repeat(pc)
        return Stop.STEPPED

    def _come_back_to_repeat(self, pc: int) -> None:
        # Unstepped, the processor comes back to a repeated instruction once more to find its counter empty.
        length = self.pc - pc
        if not 1 < length < 16:
            return
        code = self.handler.read_code(pc, length)  # type: ignore[union-attr]
        opcode = next((byte for byte in code if byte not in _PREFIXES), 0)
        if opcode not in _STRING or not _REP_PREFIXES & set(code):
            return
        if opcode in _COMPARING and bool(self.eflags() & 0x40) != (0xF3 in code):
            return
        sixteen = (0x67 in code[: code.index(opcode)]) == bool(self.d[self.D_HFLAGS] & HF_CS32)
        if sixteen or not self.gpr[ECX] & 0xFFFFFFFF:
            self.q[self.Q_EIP] = self.q[self.Q_EIP] - length & 0xFFFFFFFF

    # Hooks: called by Unicorn. An error must not pass through it, so it is kept and raised by ``run``. ----------

    def _on_interrupt(self, uc: int, number: int, _user_data: Any) -> None:
        self._save(uc, self._context)
        if self._cells[native.COUNT_AT]:
            self._take_flags_apart(number)
        if number in _MEMORY_FAULTS and self.d[self.D_CC_OP] != CC_OP_EFLAGS and not self.is_software_interrupt:
            self._flags_of_faulting_store()
        self._i[self._d_old] = -1
        if self._stopped_at is not None and not self._stepping:
            self._restore(uc, self._context)
            uclib.uc_emu_stop(uc)
            return
        if number != 1 or not (self._stepping or self.q[self.Q_EFLAGS] & EFLAGS_TF):
            self._refund()
        go_on = False
        try:
            if number == 1:
                self._cells[native.SIZE] = 0
            if self._stepping:
                self.d[self.D_HFLAGS] &= ~HF_TF
                if number == 1:
                    # The block was this one instruction, and it is done, also where EIP stands still (REP).
                    self._cells[native.SIZE] = 0
                    self._stepping = False
                else:
                    assert self.handler is not None
                    self.handler.on_exception(number)
            else:
                go_on = self.handler.on_exception(number)  # type: ignore[union-attr]
        except BaseException as failure:
            self._failure = failure
        # A #VMEXIT does not clear the mark of an earlier INT n, and EIP would be set behind that one.
        self.d[self._d_error + 1] = 0
        self._restore(uc, self._context)
        if not go_on:
            self._stop_asked = True
            uclib.uc_emu_stop(uc)

    def _take_flags_apart(self, number: int) -> None:
        # Before it calls the instruction hook, the processor puts its flags together in ``cc_src``. Where it has to go
        # back to the start of an instruction afterwards, it takes that for the operand that was there before. What the
        # flags say of the result tells which it is. (At the start of a block it does so only behind a store that has
        # changed its own block; and there the hook may not have been called at all, if there is nothing to fetch.)
        operation, source = self.d[self.D_CC_OP], self.q[self.Q_CC_SRC]
        unwound = (number in _UNWOUND and not self.is_software_interrupt) or number >= VMEXIT_BASE
        hooked = self.pc != self._cells[native.BLOCK] or self.counted_at == self.pc
        if unwound and hooked and not source & ~ARITHMETIC_FLAGS:
            bits = (8, 16, 32, 64)[operation - CC_OP_FIRST & 3]
            result = self.q[self.Q_CC_SRC - 1] & (1 << bits) - 1
            zero, sign, even = result == 0, result >> bits - 1, not (result & 0xFF).bit_count() & 1
            if source & 0xC4 == zero << 6 | sign << 7 | even << 2:
                self.d[self.D_CC_OP] = CC_OP_EFLAGS
        self.q[self.Q_EFLAGS] &= ~(ARITHMETIC_FLAGS | EFLAGS_DF)

    def _flags_of_faulting_store(self) -> None:
        # RCL, RCR and SETcc put the flags together in ``cc_src`` before they touch memory. Where that faults, the
        # processor takes them for an operand afterwards.
        if self.q[self.Q_CC_SRC] & ~ARITHMETIC_FLAGS:
            return
        read, at = self.handler.read_code, self.pc  # type: ignore[union-attr]
        try:
            while (opcode := read(at, 1)[0]) in _PREFIXES and at < self.pc + 15:
                at += 1
            if (opcode in _SHIFTS and read(at + 1, 1)[0] >> 4 & 3 == 1) or (
                opcode == 0x0F and read(at + 1, 1)[0] >> 4 == 9
            ):
                self.d[self.D_CC_OP] = CC_OP_EFLAGS
        except GuestFault:
            return

    def _on_invalid(self, uc: int, _user_data: Any) -> bool:
        # INT 6 comes this way too, with EIP still on it.
        self._save(uc, self._context)
        if self.is_software_interrupt:
            self.q[self.Q_EIP] = self.q[(self._d_error + 2) // 2]
            self._restore(uc, self._context)
        self._on_interrupt(uc, 6, None)
        return True

    def _on_in(self, _uc: int, port: int, size: int, _user_data: Any) -> int:
        if self._stopped_at is not None:
            return 0xFFFFFFFF
        self._in_port_hook = True
        try:
            return self.handler.on_in(port, size) & 0xFFFFFFFF  # type: ignore[union-attr]
        except BaseException as failure:
            self._failure = failure
            self.stop()
            return 0
        finally:
            self._in_port_hook = False

    def _on_out(self, _uc: int, port: int, size: int, value: int, _user_data: Any) -> None:
        if self._stopped_at is not None:
            return
        self._in_port_hook = True
        try:
            self.handler.on_out(port, size, value)  # type: ignore[union-attr]
        except BaseException as failure:
            self._failure = failure
            self.stop()
        finally:
            self._in_port_hook = False

    def _on_cpuid(self, _uc: int, _user_data: Any) -> int:
        try:
            read, write = self._uc.reg_read, self._uc.reg_write
            answer = self.handler.on_cpuid(  # type: ignore[union-attr]
                read(reg.UC_X86_REG_EAX), read(reg.UC_X86_REG_ECX)
            )
            if answer is None:
                return 0
            for register, value in zip(_CPUID_REGISTERS, answer, strict=True):
                write(register, value)
        except BaseException as failure:
            self._failure = failure
            self.stop()
        return 1

    def answer_loads(self, mpa: int | None, value: int) -> None:
        """Answer 32-bit loads from a register above memory with this, and tell nobody; ``None``: from none."""
        self._register[native_mmio.AT] = -1 if mpa is None else mpa - self._mmio_base
        self._register[native_mmio.VALUE] = value

    def _on_mmio_read(self, _uc: int, offset: int, size: int, _user_data: Any) -> int:
        if offset == self._register[native_mmio.AT] and size == native_mmio.WIDTH_BYTES:
            return self._register[native_mmio.VALUE]
        if self._stopped_at is not None:
            return 0
        self._in_mmio_hook, self._access_pc = True, self._place.take()
        try:
            return self.handler.on_mmio_read(self._mmio_base + offset, size)  # type: ignore[union-attr]
        except BaseException as failure:
            self._failure = failure
            self.stop()
            return 0
        finally:
            self._in_mmio_hook, self._access_pc = False, 0

    def _on_mmio_write(self, _uc: int, offset: int, size: int, value: int, _user_data: Any) -> None:
        if self._stopped_at is not None:
            return
        self._in_mmio_hook, self._access_pc = True, self._place.take()
        try:
            self.handler.on_mmio_write(self._mmio_base + offset, size, value)  # type: ignore[union-attr]
        except BaseException as failure:
            self._failure = failure
            self.stop()
        finally:
            self._in_mmio_hook, self._access_pc = False, 0


_HOOK_REGISTERS = (reg.UC_X86_REG_EAX, reg.UC_X86_REG_EBX, reg.UC_X86_REG_ECX, reg.UC_X86_REG_EDX,
                   reg.UC_X86_REG_ESI, reg.UC_X86_REG_EDI)  # fmt: skip
_CPUID_REGISTERS = (reg.UC_X86_REG_EAX, reg.UC_X86_REG_EBX, reg.UC_X86_REG_ECX, reg.UC_X86_REG_EDX)
