"""The callouts that a stock kernel makes all the time, done with no more than they need.

::

    IRET to the next instruction   in machine code (``native_fragments``), once the engine has done it the full way
    MOV, POP of a segment          same selector, same descriptor as after an earlier load: the same hidden part

Anything out of the ordinary goes the full way (``emulate``). The results are the same to the bit, and so is the time,
whether or not somebody listens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.errors import GuestFault
from vilab.machine.native_fragments import DESCRIPTOR, IRETS, LOADED_FROM, SELECTOR, SITE_ENTRIES
from vilab.machine.registers import DS, ES, ESP, FS, GS
from vilab.vmm.operands import read_rm
from vilab.vmm.walk import walk
from vilab.x86.decode import OPSIZE, Instruction

if TYPE_CHECKING:
    from vilab.vmm.packed_code import PackedCode
    from vilab.vmm.unit import Unit
    from vilab.vmm.vcpu import HiddenSegment

POPPED = {0x07: ES, 0x1F: DS, 0x0FA1: FS, 0x0FA9: GS}
DATA_SEGMENTS = frozenset(POPPED.values())
SEGMENT_LOADS = frozenset(("mov to seg", "pop seg"))
MOST_LOADS = 256
"""More different ones, and they are all forgotten."""
NO_SITES = memoryview(bytes(8 * SITE_ENTRIES)).cast("Q")


class FragmentCallouts:
    """For one engine. ``enabled``: otherwise everything goes the full way."""

    def __init__(self, engine: PackedCode, enabled: bool) -> None:
        self._engine = engine
        self._enabled = enabled
        self._native = engine.cpu.prepare_native_fragments(engine.monitor.flag_address - 1) if enabled else None
        self._sites: dict[Unit, list[int]] = {}
        self._loads: dict[tuple[int, int, bytes], HiddenSegment] = {}  # (register, selector, descriptor), in ring 0

    def forget(self) -> None:
        """Modes, tables or translations are others now."""
        self._sites.clear()
        if self._native is not None:
            self._native[1][:] = NO_SITES

    def drop(self, unit: Unit) -> None:
        """The fragment must not go on behind its callouts."""
        for index in self._sites.pop(unit, ()):
            if self._native is not None:
                self._native[1][index] = 0

    def take_count(self) -> int:
        """IRETs that native code has done since this was asked last."""
        if self._native is None:
            return 0
        count: int = self._native[0][IRETS]
        self._native[0][IRETS] = 0
        return count

    def saw_code_segment(self, selector: int, low: int, high: int, at: int) -> None:
        """CS could have been loaded with this descriptor, and nothing would have changed."""
        if not self._enabled:
            return
        self._show(at)
        if self._native is not None:
            cells = self._native[0]
            cells[SELECTOR], cells[DESCRIPTOR], cells[LOADED_FROM] = selector, high << 32 | low, at

    def returned(self, unit: Unit, eip: int) -> None:
        """A plain IRET in ``unit`` has led to the instruction behind it, ``eip``, where the processor goes on."""
        if self._native is None:
            return
        place = self._engine.cpu.eip
        index = place & SITE_ENTRIES - 1
        self._native[1][index] = place << 32 | eip
        self._sites.setdefault(unit, []).append(index)

    def load_segment(self, i: Instruction) -> bool:
        """MOV or POP of a data segment at the guest's EIP, in ring 0 with a flat stack. True: done.

        False: nothing has happened. Raises ``GuestFault`` where the full way will, too.
        """
        engine = self._engine
        v, cpu = engine.vcpu, engine.cpu
        popped = i.op == "pop seg"
        index = POPPED.get(i.opcode, -1) if popped else i.reg
        if not self._enabled or i.prefixes & OPSIZE or index not in DATA_SEGMENTS:
            return False
        selector = int.from_bytes(v.read(v.gpr[ESP], 4)[:2], "little") if popped else read_rm(v, i, 2)
        descriptor = self._descriptor(selector)
        hidden = None if descriptor is None else self._loads.get((index, selector, descriptor))
        if hidden is None:
            return False
        if cpu.segment(index) != hidden:
            cpu.set_segment(index, *hidden)
            cpu.update_mode(1)
        if popped:
            v.gpr[ESP] = v.gpr[ESP] + 4 & 0xFFFFFFFF
        v.eip = i.end
        return True

    def loaded_segment(self, i: Instruction) -> None:
        """It has just been done the full way, in ring 0."""
        index = POPPED.get(i.opcode, -1) if i.op == "pop seg" else i.reg
        if not self._enabled or index not in DATA_SEGMENTS:
            return
        hidden = self._engine.cpu.segment(index)
        if len(self._loads) >= MOST_LOADS:
            self._loads.clear()
        descriptor = self._descriptor(hidden[0])
        if descriptor is not None:
            self._loads[index, hidden[0], descriptor] = hidden

    def _descriptor(self, selector: int) -> bytes | None:
        """From the GDT, nothing for the null selector; ``None`` for whatever else there is."""
        v = self._engine.vcpu
        base, limit = v.gdtr
        if not selector & 0xFFFC:
            return b""
        if selector & 4 or (selector & 0xFFF8) + 7 > limit:
            return None
        return v.read(base + (selector & 0xFFF8) & 0xFFFFFFFF, 8)

    def _show(self, gva: int) -> None:
        """Let the shadow tables have a page that the processor itself would never touch: native code looks there.

        Whether or not there is native code: a page that is there already causes no hidden fault later.
        """
        engine = self._engine
        v, shadow = engine.vcpu, engine.shadow
        if shadow.is_monitor(gva) or shadow.has(gva):
            return
        try:
            mapping = walk(v.pmap, v.cr0, v.cr3, v.cr4, gva, write=False, user=False)
        except GuestFault:
            return
        shadow.fill(gva, mapping, engine.machine_page(mapping.gpa, False), False)
