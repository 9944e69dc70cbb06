"""What page tables mean by the manual, without a processor; and what a guest owes the processor's TLB.

::

    access ──> could the TLB hold something else for this page? ──yes──> Stale: the program must invalidate first
                    └─ no ──> walk the tables, set A and D ──> frame, or #PF

A program whose accesses are never stale has one outcome on every processor, whatever that keeps in its TLB. Something
else may be kept when a present, accessed entry was changed and neither INVLPG nor a load of CR3 came in between;
whether the processor has really used the entry makes no difference, since it may look ahead (Intel SDM volume 3,
section 4.10.4.3).

MODEL: by the manual, a read-modify-write instruction asks for write access at once. The processor underneath loads
first, and stores then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

from vilab.errors import GuestFault
from vilab.vmm import differential_paging_guest as g
from vilab.x86 import paging as pg

WP, PG = 1 << 16, 1 << 31
PSE, PGE = 1 << 4, 1 << 7
NOBODY = 0xFFFFFFFF
LARGE_ABOVE_4_GB = 0xFF << 13
"""Bits 39 to 32 of the address of a large page, on processors with PSE-36."""

INDEXES = (0, *range(g.FIRST, g.FIRST + g.WINDOWS))
WATCHED = {
    index: range(index << 10 | g.FIRST, (index << 10 | g.FIRST) + g.PAGES + 1) if index
    else range(g.KERNEL_FREE, g.KERNEL_FREE + g.KERNEL_FREE_PAGES)
    for index in INDEXES
}  # fmt: skip
"""Directory index -> linear pages that programs touch."""


class Stale(Exception):
    """The outcome of an access would depend on the TLB."""

    def __init__(self, gva: int) -> None:
        super().__init__(f"{gva:08x} needs INVLPG")
        self.gva = gva


class Forbidden(Exception):
    """The program would damage the world that it runs in, or do what this model cannot follow."""


class Translation(NamedTuple):
    """What the TLB may hold for a page."""

    frame: int
    writable: bool
    user: bool
    dirty: bool
    large: bool
    is_global: bool


class Model:
    """The frames that programs write to, the control registers, and what is stale."""

    def __init__(self) -> None:
        world = g.empty_world()
        self.frames = {frame: bytearray(world[frame << 12 : (frame + 1) << 12]) for frame in g.FRAMES}
        self.cr0, self.cr3, self.cr4 = WP | PG | 0x11, g.DIRECTORIES[0] << 12, 0
        self.faults: list[tuple[int, int, int]] = []
        """(vector, error code, linear address) in order."""
        self._stale: dict[int, set[Translation]] = {}
        self._stale_directory: dict[int, set[int]] = {}

    def saved(self) -> tuple[object, ...]:
        """For ``restore``."""
        frames = {number: bytes(frame) for number, frame in self.frames.items()}
        stale = {page: set(seen) for page, seen in self._stale.items()}
        directory = {index: set(seen) for index, seen in self._stale_directory.items()}
        return frames, self.cr0, self.cr3, self.cr4, len(self.faults), stale, directory

    def restore(self, saved: tuple[object, ...]) -> None:
        frames, self.cr0, self.cr3, self.cr4, faults, self._stale, self._stale_directory = saved  # type: ignore[assignment]
        self.frames = {number: bytearray(frame) for number, frame in frames.items()}  # type: ignore[attr-defined]
        del self.faults[int(faults) :]  # type: ignore[call-overload]

    # Entries -----------------------------------------------------------------------------------------------------

    def _entry(self, mpa: int) -> int:
        frame = self.frames.get(mpa >> 12)
        if frame is None:
            if mpa >> 12 >= g.MEMORY_PAGES:
                return NOBODY
            raise Forbidden(f"a page table at {mpa:08x}")
        offset = mpa & 0xFFF
        return int.from_bytes(frame[offset : offset + 4], "little")

    def _set_bits(self, mpa: int, entry: int, bits: int) -> None:
        frame = self.frames.get(mpa >> 12)
        if frame is not None and entry & bits != bits:
            offset = mpa & 0xFFF
            frame[offset : offset + 4] = (entry | bits).to_bytes(4, "little")

    def walk(self, gva: int, write: bool, user: bool) -> int:
        """Physical address, with Accessed and Dirty set. Raises ``GuestFault``."""
        if not self.cr0 & PG:
            return gva
        kind = (pg.ERROR_WRITE if write else 0) | (pg.ERROR_USER if user else 0)
        pde_at = self.cr3 & pg.FRAME_MASK | gva >> 20 & 0xFFC
        pde = self._entry(pde_at)
        if not pde & pg.PRESENT:
            raise GuestFault(14, kind, gva)
        if pde & pg.LARGE and self.cr4 & PSE:
            _below_4_gb(pde)
            if pde & pg.LARGE_RESERVED:
                raise GuestFault(14, kind | pg.ERROR_PRESENT | pg.ERROR_RESERVED, gva)
            at, last, both = pde_at, pde, pde
            address = pde & pg.LARGE_FRAME_MASK | gva & (pg.LARGE_BYTES - 1)
        else:
            self._set_bits(pde_at, pde, pg.ACCESSED)
            at = pde & pg.FRAME_MASK | gva >> 10 & 0xFFC
            last = self._entry(at)
            if not last & pg.PRESENT:
                raise GuestFault(14, kind, gva)
            both = self._entry(pde_at) & last
            address = last & pg.FRAME_MASK | gva & 0xFFF
        if (user and not both & pg.USER) or (write and not both & pg.WRITABLE and (user or self.cr0 & WP)):
            raise GuestFault(14, kind | pg.ERROR_PRESENT, gva)
        self._set_bits(at, self._entry(at), pg.ACCESSED | (pg.DIRTY if write else 0))
        return address

    # What the TLB may hold -----------------------------------------------------------------------------------------

    def _directory_entry(self, index: int) -> int:
        return self._entry(self.cr3 & pg.FRAME_MASK | index << 2)

    def _pointer(self, index: int) -> int | None:
        """What may be kept of a directory entry that leads to a table."""
        pde = self._directory_entry(index)
        if ~pde & (pg.PRESENT | pg.ACCESSED) or (pde & pg.LARGE and self.cr4 & PSE):
            return None
        return pde & (pg.FRAME_MASK | pg.WRITABLE | pg.USER)

    def translation(self, page: int) -> Translation | None:
        """What may be kept of a page as the tables are now."""
        need = pg.PRESENT | pg.ACCESSED
        pde = self._directory_entry(page >> 10)
        if ~pde & need:
            return None
        large = bool(pde & pg.LARGE and self.cr4 & PSE)
        if large:
            _below_4_gb(pde)
            if pde & pg.LARGE_RESERVED:
                return None
            last, frame, both = pde, (pde & pg.LARGE_FRAME_MASK) >> 12 | page & 0x3FF, pde
        else:
            last = self._entry(pde & pg.FRAME_MASK | page << 2 & 0xFFC)
            if ~last & need:
                return None
            frame, both = last >> 12, pde & last
        return Translation(
            frame, bool(both & pg.WRITABLE), bool(both & pg.USER), bool(last & pg.DIRTY), large, bool(last & pg.GLOBAL)
        )

    def _leading_through(self, parts: list[tuple[int, int]]) -> list[int]:
        """Watched pages whose translation may depend on these bytes of memory."""
        touched: dict[int, range] = {}
        for mpa, count in parts:
            touched[mpa >> 12] = range((mpa & 0xFFF) >> 2, ((mpa & 0xFFF) + count + 3) >> 2)
        pages: list[int] = []
        in_directory = touched.get(self.cr3 >> 12, ())
        for index in INDEXES:
            if index in in_directory:
                pages += WATCHED[index]
                continue
            for slot in touched.get(self._directory_entry(index) >> 12, ()):
                if index << 10 | slot in WATCHED[index]:
                    pages.append(index << 10 | slot)
        return pages

    @contextmanager
    def _changing(self, parts: list[tuple[int, int]]) -> Iterator[None]:
        pages = self._leading_through(parts) if self.cr0 & PG else []
        if not pages:
            yield
            return
        pointers = [(index, self._pointer(index)) for index in {page >> 10 for page in pages}]
        before = [(page, self.translation(page)) for page in pages]
        yield
        for page, was in before:
            if self.translation(page) != was and was is not None:
                self._stale.setdefault(page, set()).add(was)
        for index, pointer in pointers:
            if self._pointer(index) != pointer and pointer is not None:
                self._stale_directory.setdefault(index, set()).add(pointer)

    def _look_out(self, gva: int, write: bool) -> None:
        page = gva >> 12
        for pointer in self._stale_directory.get(page >> 10, ()):
            if pointer != self._pointer(page >> 10):
                raise Stale(gva)
        for was in self._stale.get(page, ()):
            now = self.translation(page)
            if now is None or was[:3] != now[:3] or was[5] != now[5] or (write and was.dirty and not now.dirty):
                raise Stale(gva)

    def invalidate(self, gva: int) -> None:
        """INVLPG. It reaches all of a large page; of the other directory entries the model makes no use."""
        page = gva >> 12
        self._stale.pop(page, None)
        self._stale_directory.pop(page >> 10, None)
        for other, seen in self._stale.items():
            if other >> 10 == page >> 10:
                seen.difference_update([was for was in seen if was.large])

    def load_cr3(self, value: int) -> None:
        kept: dict[int, set[Translation]] = {}
        if self.cr4 & PGE and self.cr0 & PG:
            for page in chain.from_iterable(WATCHED.values()):
                seen = {was for was in self._stale.get(page, ()) if was.is_global}
                now = self.translation(page)
                if now is not None and now.is_global:
                    seen.add(now)
                if seen:
                    kept[page] = seen
        self.cr3 = value
        self._stale, self._stale_directory = kept, {}

    def toggle_cr0(self, bit: int) -> None:
        self.cr0 ^= bit
        if bit == PG:
            self._forget()

    def toggle_cr4(self, bit: int) -> None:
        self.cr4 ^= bit
        self._forget()

    def _forget(self) -> None:
        self._stale, self._stale_directory = {}, {}

    # Accesses ----------------------------------------------------------------------------------------------------

    def _touch(self, gva: int, size: int, write: bool, user: bool) -> list[tuple[int, int]]:
        """(physical address, bytes) of each page's part."""
        gva &= 0xFFFFFFFF
        first = min(size, 0x1000 - (gva & 0xFFF))
        parts = [(gva, first)]
        if first < size:
            parts.append((gva + first & 0xFFFFFFFF, size - first))
        if self.cr0 & PG:
            for at, _ in parts:
                self._look_out(at, write)
        return [(self.walk(at, write, user), count) for at, count in parts]

    def read(self, gva: int, size: int, user: bool = False) -> bytes:
        """Raises ``GuestFault``, ``Stale``, ``Forbidden``."""
        out = b""
        for mpa, count in self._touch(gva, size, False, user):
            frame = self.frames.get(mpa >> 12)
            if frame is not None:
                out += frame[mpa & 0xFFF : (mpa & 0xFFF) + count]
            elif mpa >> 12 >= g.MEMORY_PAGES:
                out += b"\xff" * count
            else:
                raise Forbidden(f"a read of {mpa:08x}")
        return out

    def write(self, gva: int, data: bytes, user: bool = False) -> None:
        parts = self._touch(gva, len(data), True, user)
        with self._changing(parts):
            at = 0
            for mpa, count in parts:
                frame = self.frames.get(mpa >> 12)
                if frame is not None:
                    _protect(mpa >> 12, mpa & 0xFFF, count)
                    frame[mpa & 0xFFF : (mpa & 0xFFF) + count] = data[at : at + count]
                elif mpa >> 12 < g.MEMORY_PAGES:
                    raise Forbidden(f"a write to {mpa:08x}")
                at += count

    def execute(self, gva: int, user: bool) -> None:
        """Run a little function. Only what every processor fetches alike is allowed."""
        at = gva
        for count in range(12):
            try:
                opcode = self.read(at, 1, user)[0]
                if opcode == 0xB8:
                    self.read(at, 5, user)
            except GuestFault as fault:
                if count:
                    raise Forbidden("a later instruction cannot be fetched") from fault
                raise
            if opcode == 0xC3:
                return
            if opcode not in (0x40, 0x41, 0x42, 0x49, 0x90, 0xB8):
                raise Forbidden(f"code {opcode:02x}")
            at += 5 if opcode == 0xB8 else 1
        raise Forbidden("a long function")


def _below_4_gb(pde: int) -> None:
    if pde & LARGE_ABOVE_4_GB:
        raise Forbidden("a large page above 4 GB, where the virtual machine has nothing and the processor stops")


def _protect(frame: int, offset: int, count: int) -> None:
    """The kernel's own entries stay as they are."""
    if frame in g.DIRECTORIES:
        allowed = offset >= 8
    elif frame == g.KERNEL_TABLE >> 12:
        allowed = offset >= g.KERNEL_FREE * 4 and offset + count <= (g.KERNEL_FREE + g.KERNEL_FREE_PAGES) * 4
    else:
        allowed = frame != g.SECOND_TABLE >> 12
    if not allowed:
        raise Forbidden(f"a write to frame {frame:x} at {offset:03x}")
