"""Exits that machine code deals with: who of it is asked, and on which cells.

::

    exception ──> native_time ──┬──> native_callouts    mirrored translations  ──> Python
                                └──> native_fragments   packed translations    ──> Python

Each is the callback of the one before it for what that does not know. Without llvmlite there are none, and everything
comes to Python.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from unicorn import UC_HOOK_EDGE_GENERATED, UC_HOOK_INTR
from unicorn.unicorn_py3.unicorn import uclib

from vilab.machine import native, native_blocks, native_callouts, native_fragments, native_time, time_cells
from vilab.machine.context import Layout
from vilab.machine.memory import MachineMemory


class NativeExits:
    """Part of the processor."""

    memory: MachineMemory
    layout: Layout
    cells: native.Cells
    is_native: bool
    stop: Callable[[], None]
    _cells: memoryview
    _context: ctypes.c_void_p
    _native: bool
    _alive: list[Any]
    _hook: Callable[..., int]

    def _make_time_cells(self) -> None:
        self._time_array: native.Cells = np.zeros(time_cells.CELLS, dtype=np.int64)
        self.time: memoryview = memoryview(self._time_array)  # type: ignore[arg-type]
        """The ``time_cells``."""

    def _install_interrupt_hook(self, in_python: Any) -> None:
        compiled = None
        if self._native:
            save, restore = address_of(uclib.uc_context_save), address_of(uclib.uc_context_restore)
            compiled = native_time.compile_hook(save, restore, address_of(uclib.uc_vmem_read), self.layout)
        if compiled is None:
            self._hook(UC_HOOK_INTR, in_python)
            return
        self._alive.append(in_python)
        cells = self.time
        cells[time_cells.CONTEXT] = self._context.value or 0
        cells[time_cells.CELLS_AT] = self.cells.ctypes.data
        cells[time_cells.PYTHON] = address_of(in_python)
        self._hook(UC_HOOK_INTR, compiled, ctypes.c_void_p(self._time_array.ctypes.data))

    def read_time_natively(self, cost_ns: int, tsc_per_us: int, tc_base: int, tc_bytes: int, marks_at: int) -> None:
        """Let ``native_time`` deal with the marked INT3 of the translation cache until the next stop."""
        cells = self.time
        cells[time_cells.COST_NS], cells[time_cells.TSC_PER_US] = cost_ns, tsc_per_us
        cells[time_cells.TC_BASE], cells[time_cells.TC_SPAN] = tc_base, tc_bytes
        cells[time_cells.TC_MARKS] = marks_at
        cells[time_cells.ON] = time_cells.OF_CACHE

    def read_own_time_natively(self, on: bool, cost_ns: int | None, tsc_per_us: int) -> None:
        """Let ``native_time`` answer RDTSC where it exits, until the next stop; not in counted runs.

        ``cost_ns``: of its #VMEXIT; ``None``: there is no VMCB, and the instruction is the processor's own work.
        """
        cells = self.time
        cells[time_cells.COST_NS], cells[time_cells.TSC_PER_US] = cost_ns or 0, tsc_per_us
        mode = time_cells.OF_PROCESSOR if cost_ns is None else time_cells.OF_MONITOR
        cells[time_cells.ON] = mode if on and not self._cells[native.COUNT_AT] else 0

    def prepare_native_callouts(self) -> native_callouts.Tables | None:
        """What ``native_callouts`` works on; from now on it is asked. ``None`` without native code."""
        if not self.time[time_cells.PYTHON]:
            return None
        save, restore = address_of(uclib.uc_context_save), address_of(uclib.uc_context_restore)
        compiled = native_callouts.compile_hook(save, restore, self.layout)
        if compiled is None:
            return None
        arrays = [np.zeros(size, dtype=np.int64) for size in native_callouts.SIZES]
        cells, table, landings, segments = arrays
        self._alive += arrays
        cells[native_callouts.TABLE] = table.ctypes.data
        cells[native_callouts.LANDINGS] = landings.ctypes.data
        cells[native_callouts.SEGMENTS] = segments.ctypes.data
        cells[native_callouts.MEMORY] = self.memory.host_address
        cells[native_callouts.SIZE_OF] = self.memory.size_bytes
        cells[native_callouts.PYTHON] = self.time[time_cells.PYTHON]
        self.time[time_cells.MORE_AT] = cells.ctypes.data
        self.time[time_cells.PYTHON] = compiled
        return native_callouts.Tables(*(memoryview(array).cast("B").cast("q") for array in arrays))  # type: ignore[arg-type]

    def prepare_native_fragments(self, flags_at: int) -> tuple[memoryview, memoryview] | None:
        """Cells and sites of ``native_fragments``, which from now on is asked; ``None`` without native code.

        ``flags_at``: host address of the monitor's word with the guest's IF.
        """
        if not self.time[time_cells.PYTHON]:
            return None
        compiled = native_fragments.compile_hook(address_of(uclib.uc_context_restore), self.layout)
        if compiled is None:
            return None
        sizes = (native_fragments.CELLS, native_fragments.SITE_ENTRIES)
        cells, sites = arrays = [np.zeros(size, dtype=np.uint64) for size in sizes]
        self._alive += arrays
        cells[native_fragments.SITES] = sites.ctypes.data
        cells[native_fragments.FLAGS_AT] = flags_at
        cells[native_fragments.MEMORY] = self.memory.host_address
        cells[native_fragments.SIZE_OF] = self.memory.size_bytes
        cells[native_fragments.PYTHON] = self.time[time_cells.PYTHON]
        self.time[time_cells.MORE_AT] = cells.ctypes.data
        self.time[time_cells.PYTHON] = compiled
        first, second = (memoryview(array).cast("B").cast("Q") for array in arrays)  # type: ignore[arg-type]
        return first, second

    def watch_new_blocks(self) -> memoryview:
        """The table of ``native_blocks``: the processor stops before a block that begins at an unwelcome byte."""
        marks = np.zeros(native_blocks.PAGES, dtype=np.int64)
        cells = np.zeros(2, dtype=np.int64)
        self._alive += [marks, cells]
        table = memoryview(marks).cast("B").cast("q")  # type: ignore[arg-type]
        kind = ctypes.CFUNCTYPE(None, *(ctypes.c_void_p,) * 4)
        compiled = native_blocks.compile_hook() if self.is_native else None
        if compiled is None:
            self._hook(UC_HOOK_EDGE_GENERATED, kind(native_blocks.hook_in_python(table, self.stop)))
            return table
        found = kind(lambda *_: self.stop())
        self._alive.append(found)
        cells[native_blocks.FOUND], cells[native_blocks.MARKS] = address_of(found), marks.ctypes.data
        self._hook(UC_HOOK_EDGE_GENERATED, compiled, ctypes.c_void_p(cells.ctypes.data))
        return table

    def call_out_natively(self, cost_ns: int, tsc_per_us: int) -> None:
        """Let ``native_callouts`` deal with what it knows until the next stop."""
        cells = self.time
        cells[time_cells.COST_NS], cells[time_cells.TSC_PER_US] = cost_ns, tsc_per_us
        cells[time_cells.ON] = time_cells.OF_MIRRORS

    def take_native_reads(self) -> int:
        """How many there were since this was asked last; from now on there are none."""
        cells = self.time
        reads: int = cells[time_cells.READS]
        cells[time_cells.READS] = cells[time_cells.ON] = 0
        return reads


def address_of(function: Any) -> int:
    """Where a function of the C library lies in this process."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0
