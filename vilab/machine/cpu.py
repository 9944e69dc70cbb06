"""The processor: Unicorn behind one class and a handful of exits. No other room knows Unicorn.

The processor runs until something needs attention. Then its registers are copied into ``Cpu``'s own view of them, one
of the ``ExitHandler``'s methods is called, what that changed is copied back, and the processor goes on, or stops::

        run() ──> executing ──exception, INT n, #VMEXIT──> handler.on_exception(number) ──True──> executing
                      │                                                                └─False─> run() returns STOPPED
                      ├── IN, OUT, CPUID ──> handler.on_in / on_out / on_cpuid ──> executing
                      ├── HLT in ring 0 ──────────────────────────────────────────> run() returns HALTED
                      └── the block hook: limit reached, interrupt deliverable ───> run() returns LIMIT, INTERRUPT

::

    Cpu ──┬── RegisterFile            registers          the record that is copied out and in
          ├── ExecutedBytes           executed_bytes     time, and how far it may go
          ├── AccessHooks             access_hooks       IN, OUT, CPUID, registers of devices in memory
          ├── CountedInstructions     counted_instructions, flag_repairs
          ├── SingleSteps             single_steps
          ├── CodeMemory              code_memory        code that has changed
          └── NativeExits             native_exits       exits that never come to Python

Time is code: ``executed_bytes`` counts the bytes of every instruction executed since power-on, exactly, wherever
blocks begin and end and whether or not the run is stepped. (The count of a repeated string instruction: its length
once an iteration, and once more when its counter has run out.)

What this processor does not do: deliver anything through the IDT (the handler does, see ``vmm/emulate.py``), check
segment limits on data, fault on IN and OUT.
"""

from __future__ import annotations

import ctypes
from typing import Any

from unicorn import (
    UC_ARCH_X86,
    UC_ERR_FETCH_PROT,
    UC_ERR_FETCH_UNMAPPED,
    UC_HOOK_BLOCK,
    UC_HOOK_INSN,
    UC_HOOK_INSN_INVALID,
    UC_MODE_32,
    Uc,
    UcError,
)
from unicorn import x86_const as reg
from unicorn.unicorn_py3.unicorn import uclib

from vilab.errors import GuestStopped, VmmBug
from vilab.machine import native, native_mmio, time_cells
from vilab.machine.access_hooks import AccessHooks
from vilab.machine.code_memory import CodeMemory
from vilab.machine.context import CC_OP_EFLAGS, find_layout
from vilab.machine.exits import ExitHandler, Stop
from vilab.machine.flag_repairs import MEMORY_FAULTS, FlagRepairs
from vilab.machine.memory import MachineMemory
from vilab.machine.native_exits import NativeExits, address_of
from vilab.machine.registers import EFLAGS_TF, HF_TF, RegisterFile
from vilab.machine.single_steps import SingleSteps


class Cpu(NativeExits, SingleSteps, AccessHooks, FlagRepairs, CodeMemory):
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

        self._context, self._spare, self._at_power_on = (self._new_context() for _ in range(3))
        RegisterFile.__init__(self, uc, self._context, at)
        self._make_cells()
        self._make_count_cells()
        self._make_time_cells()
        self._make_access_state(self._ram_bytes)
        self._stepping = False
        self._stop_asked = False
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

    def close(self) -> None:
        """Free the processor. The memory it ran on stays."""
        for context in (self._context, self._spare, self._at_power_on):
            uclib.uc_context_free(context)
        self.handler = None

    @property
    def running(self) -> bool:
        """Are we inside ``run``, in a handler's method?"""
        return self._in_run

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
            self._flags_of_counted_run()
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

    # Hooks: called by Unicorn. An error must not pass through it, so it is kept and raised by ``run``. ----------

    def _on_interrupt(self, uc: int, number: int, _user_data: Any) -> None:
        self._save(uc, self._context)
        if self._cells[native.COUNT_AT]:
            self._take_flags_apart(number)
        if number in MEMORY_FAULTS and self.d[self.D_CC_OP] != CC_OP_EFLAGS and not self.is_software_interrupt:
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

    def _on_invalid(self, uc: int, _user_data: Any) -> bool:
        # INT 6 comes this way too, with EIP still on it.
        self._save(uc, self._context)
        if self.is_software_interrupt:
            self.q[self.Q_EIP] = self.q[(self._d_error + 2) // 2]
            self._restore(uc, self._context)
        self._on_interrupt(uc, 6, None)
        return True
