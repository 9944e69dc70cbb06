"""Guest instructions, counted one by one: for runs that end after so many.

::

    instruction about to run ──> hook: COUNT at COUNT_LIMIT? ──yes──> stop before it
                                       └─ no ──> COUNT + 1, LAST = its address
    done by somebody else    ──> count_instruction;  not the guest's after all ──> uncount_instruction

The hook is ``native``'s, on ``count_cells``; nobody pays for it who has not asked for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from unicorn import UC_HOOK_CODE

from vilab.machine import native
from vilab.machine.executed_bytes import ExecutedBytes
from vilab.machine.exits import UNLIMITED


class CountedInstructions(ExecutedBytes):
    """Part of the processor."""

    _hook: Callable[..., int]
    _on_code: Any

    def _make_count_cells(self) -> None:
        self.count_cells: native.Cells = np.zeros(native.CELLS, dtype=np.int64)

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

    def instructions_left(self) -> int:
        """How many may still be counted; a large number if nobody counts."""
        if not self._cells[native.COUNT_AT]:
            return UNLIMITED
        return int(self.count_cells[native.COUNT_LIMIT] - self.count_cells[native.COUNT])

    def set_instruction_limit(self, limit: int) -> None:
        """Stop before instruction number ``limit`` + 1 from now on."""
        self.count_cells[native.COUNT_LIMIT] = limit

    def set_instructions(self, count: int) -> None:
        """A checkpoint is being restored."""
        self.count_cells[native.COUNT] = count

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

    def count_code(self, size_bytes: int, times: int = 1) -> None:
        """Somebody else has done an instruction that the processor was about to execute (repeated so many times)."""
        self._cells[native.EXECUTED] += size_bytes * times
        if self._cells[native.COUNT_AT]:
            self.count_cells[native.COUNT] += times - 1

    @property
    def counted_at(self) -> int:
        """Linear address of the instruction that was counted last; -1 after ``uncount_instruction``."""
        return int(self.count_cells[native.LAST])
