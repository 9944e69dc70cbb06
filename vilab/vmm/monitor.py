"""The monitor's own place in a deprivileged guest's linear address space.

::

    F0000000   words          1 page    the only part that guest code may write, and nothing the monitor trusts
    F0010000   GDT           64 KB      a copy of the guest's, made harmless, with the monitor's own entries last
    F0020000   IDT            1 page    where the CPU's IDTR points
    F0021000   TSS            1 page
    F0022000   LDT           64 KB      a copy of the guest's
    F0040000   return table up to 256 KB where translated returns look up their target (256 or 65,536 entries)
    F0080000   jump table   256 KB      the same for indirect jumps and calls (65,536 entries)
    F0400000   translation cache        what runs in ring 1 under binary translation
    F3000000

Everything is supervisor's: ring 3 sees none of it. Everything but the words is read-only. Segment limits would be the
classic fence (Adams and Agesen, section 3.2), but this processor does not check them on data, so page tables are the
only protection.
"""

from __future__ import annotations

from vilab.addresses import PAGE_SHIFT
from vilab.errors import VmmBug
from vilab.machine.cpu import Cpu
from vilab.machine.memory import MachineMemory
from vilab.vmm.deprivileged_vcpu import DeprivilegedVcpu
from vilab.vmm.shadow_paging import ShadowTables
from vilab.vmm.vcpu import LDTR, TR
from vilab.x86.descriptors import LDT as LDT_TYPE
from vilab.x86.descriptors import TSS32_BUSY, TSS32_BYTES, Segment

WORDS = 0xF000_0000
GDT = 0xF001_0000
IDT = 0xF002_0000
TSS = 0xF002_1000
LDT = 0xF002_2000
RETURN_TABLE = 0xF004_0000
JUMP_TABLE = 0xF008_0000
CACHE = 0xF040_0000
WINDOW_END = 0xF300_0000

TABLE_BYTES = 0x10000
LDT_SELECTOR = 0xFFE0
TSS_SELECTOR = 0xFFF0
"""The monitor's own selectors, at the end of the copied GDT."""

# The monitor's words, as dword indexes.
WORD_FLAGS = 0
"""IF and IOPL of the guest; bit 1 of the second byte is IF."""
WORD_SPILL = 1
"""ECX, while translated code needs a register."""
WORD_TARGET = 2
"""Where an indirect jump wants to go."""
WORD_POPPED = 3
"""What POPF has popped."""

SYSTEM_SEGMENT = 1 << 44
CODE_OR_DATA_ACCESSED = 1 << 40
PRESENT = 1 << 47


class MonitorFrames:
    """Machine frames of the monitor's, handed out in order."""

    def __init__(self, frames: range) -> None:
        self._frames = frames
        self.used = 0
        """How many have been handed out."""

    def run(self, count: int) -> int:
        """The first of ``count`` adjacent frames."""
        first = self._frames.start + self.used
        self.used += count
        if self.used > len(self._frames):
            raise VmmBug("The monitor has used up its own machine memory.")
        return first


class Monitor:
    """The window's pages, mapped into the shadow tables, and what the CPU's table registers point to."""

    def __init__(self, cpu: Cpu, memory: MachineMemory, frames: MonitorFrames, shadow: ShadowTables) -> None:
        self._cpu, self._memory, self._frames, self._shadow = cpu, memory, frames, shadow
        self.words_mpn = self.map(WORDS, 1, writable=True)
        self._gdt_mpn = self.map(GDT, TABLE_BYTES >> PAGE_SHIFT)
        self.map(IDT, 1)
        self.map(TSS, 1)
        self._ldt_mpn = self.map(LDT, TABLE_BYTES >> PAGE_SHIFT)
        self.flag_word = self.words_mpn << 10 | WORD_FLAGS
        self.flag_address = memory.host_address + (self.words_mpn << PAGE_SHIFT) + 4 * WORD_FLAGS + 1
        self._gdt_seen: bytes = b""
        self._ldt_seen: bytes = b""
        own = self._own_entries()
        memory.write((self._gdt_mpn << PAGE_SHIFT) + LDT_SELECTOR, own)

    def map(self, gva: int, pages: int, writable: bool = False) -> int:
        """Give part of the window frames; returns the first mpn."""
        first = self._frames.run(pages)
        for page in range(pages):
            self._shadow.map_monitor(gva + (page << PAGE_SHIFT), first + page, writable)
        return first

    @staticmethod
    def _own_entries() -> bytes:
        ldt = Segment(LDT, TABLE_BYTES - 1, LDT_TYPE, system=True, big=False, granular=False)
        tss = Segment(TSS, TSS32_BYTES - 1, TSS32_BUSY, system=True, big=False, granular=False)
        return ldt.to_bytes() + bytes(8) + tss.to_bytes()

    def enter_cpu(self) -> None:
        """Point the CPU's table registers at the window."""
        cpu = self._cpu
        cpu.set_table("gdtr", GDT, TABLE_BYTES - 1)
        cpu.set_table("idtr", IDT, 0x7FF)
        cpu.set_segment(LDTR, LDT_SELECTOR, LDT, 0, 0x8200)
        cpu.set_segment(TR, TSS_SELECTOR, TSS, 0x67, 0x8B00)

    @property
    def tables_seen(self) -> tuple[bytes, bytes]:
        """The guest's GDT and LDT as they were copied last."""
        return self._gdt_seen, self._ldt_seen

    @tables_seen.setter
    def tables_seen(self, seen: tuple[bytes, bytes]) -> None:
        self._gdt_seen, self._ldt_seen = seen
        if self._ldt_seen:
            self._cpu.set_segment(LDTR, LDT_SELECTOR, LDT, len(self._ldt_seen) - 1, 0x8200)

    def copy_tables(self, v: DeprivilegedVcpu) -> None:
        """Bring the copies of the guest's GDT and LDT up to date; called before guest code may load segments itself."""
        base, limit = v.gdtr
        seen = v.read(base, min(limit + 1, LDT_SELECTOR) & ~7) if limit >= 7 else b""
        if seen != self._gdt_seen:
            self._write_table(self._gdt_mpn, seen, len(self._gdt_seen))
            self._gdt_seen = seen
        _, base, limit, flags = v.segment(LDTR)
        seen = v.read(base, min(limit + 1, TABLE_BYTES) & ~7) if flags & 0x8000 and limit >= 7 else b""
        if seen != self._ldt_seen:
            self._write_table(self._ldt_mpn, seen, len(self._ldt_seen))
            self._ldt_seen = seen
            self._cpu.set_segment(LDTR, LDT_SELECTOR, LDT, max(len(seen) - 1, 0), 0x8200)

    def forget_tables(self) -> None:
        """The copies may differ from what was seen last: a state was loaded."""
        self._write_table(self._gdt_mpn, b"", LDT_SELECTOR)
        self._write_table(self._ldt_mpn, b"", TABLE_BYTES)
        self._gdt_seen = self._ldt_seen = b""

    def _write_table(self, mpn: int, seen: bytes, before_bytes: int) -> None:
        entries = [harmless(int.from_bytes(seen[at : at + 8], "little")) for at in range(0, len(seen), 8)]
        data = b"".join(entry.to_bytes(8, "little") for entry in entries)
        self._memory.write(mpn << PAGE_SHIFT, data.ljust(before_bytes, b"\0"))


def harmless(descriptor: int) -> int:
    """A guest's descriptor as the CPU may see it.

    Code and data keep everything, DPL included: a segment of ring 0 cannot be loaded from ring 1, which traps. Accessed
    is set beforehand, for the copy is read-only. System descriptors (gates, TSS, LDT) become ring 0's, so that no gate
    leads anywhere without the monitor.
    """
    if descriptor & SYSTEM_SEGMENT:
        return descriptor | CODE_OR_DATA_ACCESSED
    return descriptor & ~(3 << 45)
