"""Mirrors: copies of the guest's code pages, at the same offset a fixed distance away.

::

    guest's linear space                       monitor's, supervisor's, read-only
    g          8b 44 24 08 fa 74 0e ...        g + bias   8b 44 24 08 cc 74 0e cc cc cc ...
               |           |                              |           |        |
               |           CLI                            the same    callout  not discovered yet
    marks                                                 1  2  2  2  3  1  2  0  0  0

With the bias added to the base of CS the processor runs the mirror while EIP holds the guest's own values: calls,
returns and jumps of every kind are right as they stand, and so is every address that the guest can see. An INT3 (cc) is
where the monitor comes in. The page behind the last mirror is a page of INT3s, so that the processor never fetches from
a missing page.

The bias is chosen so that the guest has nothing where mirrors lie. If it wants a place later, the mirrors move: all are
dropped, and discovered again somewhere else.

MODEL: the page tables let ring 1 read the mirrors. A guest's kernel that reads a linear address which its own tables do
not map, and where a mirror happens to lie, reads the mirror instead of getting a page fault; so it is for a guest
without paging where there is no memory. (Stores fault, as everything does from ring 3, and then the guest's tables
decide.)
"""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING, Any

import msgspec

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.vmm.monitor import WINDOW_END, WORDS

if TYPE_CHECKING:
    from vilab.machine.cpu import Cpu
    from vilab.machine.memory import MachineMemory
    from vilab.vmm.monitor import MonitorFrames
    from vilab.vmm.shadow_paging import ShadowTables

UNKNOWN, START, INSIDE, CALLOUT = range(4)
"""Marks, one for each byte of a mirror."""
INT3 = 0xCC
ALL_INT3 = bytes((INT3,)) * PAGE_BYTES
LINEAR = 0xFFFFFFFF
LARGE_SHIFT = 22
DEVICES = 0xFEC00000
"""From here on there are devices and firmware."""
BIASES = tuple(
    sign * distance << 28 for distance in (2, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) for sign in (1, -1)
)
"""Distances that are tried, in this order."""
MARKED = re.compile(b"[^\0]")


class MirrorPage(msgspec.Struct):
    """One mirror: its machine frame and a mark a byte."""

    mpn: int
    marks: bytearray


class Mirror:
    """All mirrors of one virtual machine.

    Parameters
    ----------
    most_pages : when there are so many, ``has_room`` says no.
    """

    def __init__(
        self, cpu: Cpu, memory: MachineMemory, frames: MonitorFrames, shadow: ShadowTables, most_pages: int
    ) -> None:
        self._cpu, self._memory, self._frames, self._shadow = cpu, memory, frames, shadow
        self._most_pages = most_pages
        self._guard = frames.run(1)
        memory.write(self._guard << PAGE_SHIFT, ALL_INT3)
        self.bias = BIASES[0]
        self.pages: dict[int, MirrorPage] = {}  # by the guest's linear page number
        self._guards: dict[int, None] = {}  # pages behind mirrors that have none
        self._unwelcome = cpu.watch_new_blocks()
        self._free: list[int] = []

    # Where mirrors lie -------------------------------------------------------------------------------------------

    def place(self, linear: int) -> int:
        """Where the mirror of a guest's linear address is."""
        return linear + self.bias

    def linear(self, place: int) -> int:
        return place - self.bias & LINEAR

    def contains(self, gva: int) -> bool:
        """Is the address in one of the 4 MB that mirrors have taken?"""
        return not WORDS <= gva < WINDOW_END and self._shadow.is_monitor(gva)

    def can_lie(self, linear: int, bias: int) -> bool:
        """May the mirror of this address, and the page behind it, lie there for all that the monitor knows?"""
        first = (linear & ~(PAGE_BYTES - 1)) + bias
        last = first + 2 * PAGE_BYTES
        if first < 0 or last > DEVICES:
            return False
        return last <= WORDS or first >= WINDOW_END

    def has_room(self) -> bool:
        return len(self.pages) < self._most_pages

    def mark(self, linear: int) -> int:
        page = self.pages.get(linear >> PAGE_SHIFT)
        return UNKNOWN if page is None else page.marks[linear & PAGE_BYTES - 1]

    def new_page(self, vpn: int) -> MirrorPage:
        """The mirror of a page, all INT3 if it is new."""
        page = self.pages.get(vpn)
        if page is not None:
            return page
        mpn = self._free.pop() if self._free else self._frames.run(1)
        self._memory.write(mpn << PAGE_SHIFT, ALL_INT3)
        page = self.pages[vpn] = MirrorPage(mpn, bytearray(PAGE_BYTES))
        self._watch(vpn, page)
        self._shadow.map_monitor((vpn << PAGE_SHIFT) + self.bias, mpn, False)
        if vpn in self._guards:
            del self._guards[vpn]
            self._cpu.flush_tlb()
        if vpn + 1 not in self.pages and vpn + 1 not in self._guards:
            self._guards[vpn + 1] = None
            self._shadow.map_monitor((vpn + 1 << PAGE_SHIFT) + self.bias, self._guard, False)
        return page

    def _watch(self, vpn: int, page: MirrorPage) -> None:
        """Where no instruction begins none should be reached: the processor is to stop there."""
        self._unwelcome[vpn + (self.bias >> PAGE_SHIFT)] = ctypes.addressof(ctypes.c_char.from_buffer(page.marks))

    def drop_all(self) -> int:
        """No mirrors any more; how many there were."""
        for vpn, page in self.pages.items():
            at = (vpn << PAGE_SHIFT) + self.bias
            self._cpu.code_changed(at, PAGE_BYTES)
            self._shadow.unmap_monitor(at)
            self._unwelcome[at >> PAGE_SHIFT] = 0
            self._free.append(page.mpn)
        for vpn in self._guards:
            at = (vpn << PAGE_SHIFT) + self.bias
            self._cpu.code_changed(at, PAGE_BYTES)
            self._shadow.unmap_monitor(at)
        count = len(self.pages)
        self.pages.clear()
        self._guards.clear()
        return count

    # Contents ----------------------------------------------------------------------------------------------------

    def write(self, linear: int, code: bytes | bytearray, marks: bytes | bytearray) -> None:
        """Put code and marks into mirrors, into two where it crosses a page. They must be there."""
        offset = linear & PAGE_BYTES - 1
        page = self.pages[linear >> PAGE_SHIFT]
        size = min(len(code), PAGE_BYTES - offset)
        at = (page.mpn << PAGE_SHIFT) + offset
        self._memory.view[at : at + size] = code[:size]
        page.marks[offset : offset + size] = marks[:size]
        if size < len(code):
            self.write(linear + size & LINEAR, code[size:], marks[size:])

    def read(self, linear: int, size_bytes: int) -> bytes:
        """What stands in a mirror, in two where it crosses a page."""
        offset = linear & PAGE_BYTES - 1
        here = bytes(self.frame(self.pages[linear >> PAGE_SHIFT])[offset : offset + size_bytes])
        left = size_bytes - len(here)
        return here + self.read(linear + len(here) & LINEAR, left) if left else here

    def frame(self, page: MirrorPage) -> memoryview:
        """The machine memory of a mirror."""
        at = page.mpn << PAGE_SHIFT
        return self._memory.view[at : at + PAGE_BYTES]

    def erase(self, linear: int, size_bytes: int) -> list[int]:
        """Undiscover these bytes; the linear addresses of the callouts among them."""
        found, at = [], linear
        while size_bytes:
            offset = at & PAGE_BYTES - 1
            size = min(size_bytes, PAGE_BYTES - offset)
            marks = self.pages[at >> PAGE_SHIFT].marks
            here = marks.find(CALLOUT, offset, offset + size)
            while here >= 0:
                found.append(at - offset + here)
                here = marks.find(CALLOUT, here + 1, offset + size)
            self.write(at, ALL_INT3[:size], bytes(size))
            self._cpu.code_changed(at + self.bias, size)
            at = at + size & LINEAR
            size_bytes -= size
        return found

    def forget_block(self, linear: int) -> None:
        """The processor may still know an INT3 here that has been replaced."""
        self._cpu.code_changed(linear + self.bias, 1)

    # For checkpoints ---------------------------------------------------------------------------------------------

    def contents(self) -> tuple[Any, ...]:
        return self.bias, self.pages, self._guards, self._free

    def set_contents(self, contents: tuple[Any, ...]) -> None:
        for vpn in self.pages:
            self._unwelcome[vpn + (self.bias >> PAGE_SHIFT)] = 0
        self.bias, self.pages, self._guards, self._free = contents
        for vpn, page in self.pages.items():
            self._watch(vpn, page)
