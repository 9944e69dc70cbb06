"""The translation cache: fragments one after another in machine memory, and what the monitor knows about them.

::

    CACHE                     top                                         bottom           end
      | CCF | CCF | CCF | ... |                   free                      | stubs, preludes |
        ^ one mark a byte: nonzero where the translation of a guest instruction begins (``READS_TIME``: of RDTSC)
"""

from __future__ import annotations

import numpy as np

from vilab.machine.cpu import Cpu
from vilab.machine.time_cells import READS_TIME
from vilab.vmm.monitor import CACHE, Monitor
from vilab.vmm.translator import STUB, Mode
from vilab.vmm.unit import Callout, Continuation, Miss, Unit
from vilab.x86.decode import Instruction

STUB_BYTES = 8
ROOM_FOR_INSTRUCTION = 85
"""No instruction becomes longer code than this."""


class TranslationCache:
    """Memory, marks and maps of the cache.

    Parameters
    ----------
    size_bytes : of machine memory to give it, a multiple of 4096, at most 32 MB.
    most_instructions : of one fragment.
    """

    def __init__(self, cpu: Cpu, monitor: Monitor, size_bytes: int, most_instructions: int = 12) -> None:
        self._cpu = cpu
        self._room_bytes = ROOM_FOR_INSTRUCTION * most_instructions
        self.size_bytes = size_bytes
        first = monitor.map(CACHE, size_bytes >> 12)
        self._to_mpa = (first << 12) - CACHE
        self.marks = np.zeros(size_bytes, dtype=np.uint8)
        self._marks = memoryview(self.marks)  # type: ignore[arg-type]
        self.end = CACHE + size_bytes
        self.flushes = 0
        self._reset()

    def _reset(self) -> None:
        self.top = CACHE
        self.bottom = self.end
        self.units: dict[Mode, dict[int, Unit]] = {}
        self.inside: dict[Mode, dict[int, tuple[Unit, int]]] = {}
        """Where else than at their start fragments can be entered: guest address -> fragment, place in it."""
        self.exits: dict[int, Continuation | Callout | Miss] = {}
        self.guest_at: dict[int, int] = {}
        self.unit_at: dict[int, Unit] = {}
        self.shadows: set[int] = set()
        self.stores: dict[int, Instruction | None] = {}
        """Plain stores that have hit a traced page, by their place here; ``None``: another instruction."""

    def flush(self) -> int:
        """Forget everything; the number of units that were lost."""
        lost = sum(len(units) for units in self.units.values())
        self.flushes += 1
        self.marks[:] = 0
        self._reset()
        return lost

    def has_room(self) -> bool:
        return self.bottom - self.top > self._room_bytes

    def contains(self, address: int) -> bool:
        return CACHE <= address < self.end

    def write(self, address: int, code: bytes, is_fresh: bool = False) -> None:
        """Put code into the cache; what the processor knew of the old is forgotten.

        ``is_fresh``: what stands there has been written since the processor last ran.
        """
        self._cpu.memory.write(address + self._to_mpa, code)
        if not is_fresh and (self.top > address or address >= self.bottom or self.flushes):
            self._cpu.code_changed(address, len(code))

    def read(self, address: int, size_bytes: int) -> bytes:
        return self._cpu.memory.read(address + self._to_mpa, size_bytes)

    def new_stub(self) -> int:
        """A stub of its own, away from the fragments."""
        self.bottom -= STUB_BYTES
        self.write(self.bottom, STUB, is_fresh=not self.flushes)
        return self.bottom

    def new_code(self, size_bytes: int) -> int:
        """Room for a prelude."""
        self.bottom -= size_bytes
        return self.bottom

    def add(self, unit: Unit, code: bytes, callouts: dict[int, Callout], mode: Mode) -> None:
        """Enter a fragment whose bytes were made for ``unit.start``, which is ``top`` (or a stub just below it)."""
        self.write(unit.start, code)
        self.top = unit.end
        self.units.setdefault(mode, {})[unit.eip] = unit
        self.exits.update(callouts)
        for continuation in unit.continuations:
            self.exits[continuation.stub] = continuation
        marks = self._marks
        for _, _, _, address, _ in unit.lines:
            marks[address - CACHE] = 1
        self.guest_at.update([(line[3], line[0]) for line in unit.lines])
        self.unit_at.update(dict.fromkeys([line[3] for line in unit.lines], unit))
        for address, callout in callouts.items():
            if callout.instruction.op == "rdtsc":
                marks[address - CACHE] = READS_TIME
        self.shadows.update(unit.shadows)

    def add_inside(self, unit: Unit, inside: dict[int, tuple[Unit, int]]) -> None:
        """Let a fragment be entered at every instruction but those in an interrupt shadow."""
        inside.update([(line[0], (unit, line[3])) for line in unit.lines])
        for address in unit.shadows:
            inside.pop(self.guest_at[address], None)

    def unmark(self, address: int) -> None:
        """A stub comes back where a fragment was: no guest instruction begins there any more."""
        self._marks[address - CACHE] = 0
        self.guest_at.pop(address, None)

    def is_boundary(self, address: int) -> bool:
        """Does the translation of a guest instruction begin here?"""
        return address in self.guest_at

    def line_start(self, address: int) -> int | None:
        """The start of the translated instruction that ``address`` lies in; ``None`` in stubs and preludes."""
        at = address - CACHE
        if not 0 <= at < self.size_bytes or address >= self.bottom:
            return None
        marks = bytes(self._marks[max(0, at - 64) : at + 1])
        found = max(marks.rfind(1), marks.rfind(READS_TIME))
        return None if found < 0 else address - min(at, 64) + found
