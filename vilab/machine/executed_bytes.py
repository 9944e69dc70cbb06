"""The processor's time: how many bytes of code it has executed, as of now, and how far it may go.

::

    block entered: the hook adds its whole length            EXECUTED  ├──────────────────────┤
    in its middle (an access, a fault): EIP says how much                BLOCK     pc         BLOCK + SIZE
    is done; the rest does not count yet, or not at all                  ├─────────┼──── rest ┤

The cells are those of ``native``'s block hook.
"""

from __future__ import annotations

import ctypes

import numpy as np
from unicorn import x86_const as reg
from unicorn.unicorn_py3.unicorn import uclib

from vilab.machine import native
from vilab.machine.access_place import AccessPlace
from vilab.machine.exits import UNLIMITED
from vilab.machine.registers import RegisterFile


class ExecutedBytes(RegisterFile):
    """Part of the processor."""

    _spare: ctypes.c_void_p
    _place: AccessPlace
    _access_pc: int
    """Where the instruction is whose access to a device is being served, if only ``_place`` knows."""

    def _make_cells(self) -> None:
        self.cells: native.Cells = np.zeros(native.CELLS, dtype=np.int64)
        self.cells[native.LIMIT] = UNLIMITED
        self._cells = memoryview(self.cells)  # type: ignore[arg-type]
        self._spare_cs_base = ctypes.c_uint64.from_address((self._spare.value or 0) + 8 * self._q_cs_base)
        self.code_moves = False
        """Does code run whose CS has a base of its own, in real mode for instance?"""

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

    def _refund(self) -> None:
        cells = self._cells
        size = cells[native.SIZE]
        if size:
            behind = (self.q[self.Q_EIP] + self.q[self._q_cs_base] & 0xFFFFFFFF) - cells[native.BLOCK]
            if 0 <= behind < size:
                cells[native.EXECUTED] -= size - behind
            cells[native.SIZE] = 0

    @property
    def block_start(self) -> int:
        """Linear address where the block begins that was entered last."""
        return int(self._cells[native.BLOCK])

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
