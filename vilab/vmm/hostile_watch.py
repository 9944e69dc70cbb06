"""Runs hostile guests, and says what they have reached that is not theirs.

::

    machine memory   | monitor: tables, cache, words ... | this guest's frames | another guest's |
    compared           whenever the processor has run      -                     at the end, and looked for elsewhere

The processor must never change the monitor's frames, but for one page of words (under AMD-V: the VMCB and what the
processor saves) and Accessed and Dirty bits in tables. So they are copied when it starts or goes on, and compared when
it comes back. At the end every shadow or nested entry is looked at: it
may lead to this guest's frames, to the monitor's own part, or to where there is no memory.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vilab.errors import GuestStopped
from vilab.guests.image import LoadedImage
from vilab.vmm import differential_paging_guest as g
from vilab.vmm.differential_paging import Mmu, named
from vilab.vmm.hostile import hostile_program
from vilab.vmm.vm import VirtualMachine
from vilab.x86 import paging as pg

OTHERS_PAGES = 64
PATTERN = 0xC0FFEE42
RUN_NS = 300_000
MOST_SECONDS = 20.0


class Breach(Exception):
    """A guest has reached what is not its own."""


class Hung(BaseException):
    """The run goes on and virtual time does not. Passes through handlers of ordinary errors."""


class HostileMachine:
    """A virtual machine with another one's frames behind its own, used again and again."""

    def __init__(self, mmu: Mmu) -> None:
        engine, options = mmu
        image = LoadedImage(
            name="hostile", kind="flat", segments=(), zeroed=(), entry=g.PROGRAM, gpr={}, esp=g.KERNEL_STACK,
            gdt_base=g.GDT, gdt_limit=0x2F, cs=g.KERNEL_CS, ds=g.KERNEL_SS,
        )  # fmt: skip
        size = g.MEMORY_BYTES + (OTHERS_PAGES << 12)
        self.vm = vm = VirtualMachine(image, engine, size, engine_options=dict(options))
        pmap = vm.pmap
        others = pmap.mpn_of[g.MEMORY_PAGES :]
        del pmap.mpn_of[g.MEMORY_PAGES :]
        pmap.pages, pmap.size_bytes = g.MEMORY_PAGES, g.MEMORY_BYTES
        memory = vm.machine_memory.bytes
        start = pmap.mpn_of[0] << 12
        self._guest = memory[start : start + g.MEMORY_BYTES]
        self._others = memory[others[0] << 12 : (others[0] + OTHERS_PAGES) << 12]
        self._others.view(np.uint32)[:] = PATTERN
        self._monitor = memory[vm.monitor_frames.start << 12 : vm.monitor_frames.stop << 12]
        self._seen = self._monitor[:0].copy()
        self._fresh = vm.save_state(memory=False)
        self._fresh.engine.vcpu = g.start_state()
        self._may_change = self._pages_that_may_change()
        self._until_s = 0.0
        self._watch()

    def _pages_that_may_change(self) -> list[int]:
        engine: Any = self.vm.engine
        first = self.vm.monitor_frames.start
        if hasattr(engine, "monitor"):
            return [engine.monitor.words_mpn - first]
        # The processor writes exit information into the VMCB, and saves its own state.
        return [(engine.vmcb_mpa >> 12) - first, (engine._host_save_mpa >> 12) - first]

    # Watching ----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        engine, cpu = self.vm.engine, self.vm.cpu
        for name in ("on_exception", "on_in", "on_out", "on_cpuid", "on_mmio_read", "on_mmio_write"):
            setattr(engine, name, self._watched(getattr(engine, name)))
        run = cpu.run

        def watched_run() -> Any:
            self.remember()
            try:
                return run()
            finally:
                self.compare()

        cpu.run = watched_run  # type: ignore[method-assign]

    def _watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.compare()
            try:
                return method(*arguments)
            finally:
                self.remember()

        return call

    def remember(self) -> None:
        used = self.vm.engine.frames.used << 12  # type: ignore[attr-defined]
        self._seen = self._monitor[:used].copy()

    def compare(self) -> None:
        if time.perf_counter() > self._until_s:
            raise Hung(f"no end after {MOST_SECONDS} s, at {self.vm.engine.now_ns()} ns")
        shadow = getattr(self.vm.engine, "shadow", None)
        if shadow is not None and self.vm.cpu.cr(3) != shadow.root_mpn << 12:
            raise Breach(f"the processor walks tables at {self.vm.cpu.cr(3):08x}, which are not the monitor's")
        now = self._monitor[: len(self._seen)]
        if not np.array_equal(now, self._seen):
            for page in np.unique(np.flatnonzero(now != self._seen) >> 12):
                if page not in self._may_change and not self._only_marks(page):
                    raise Breach(
                        f"the processor has changed page {page} of the monitor's, at {self.vm.engine.vcpu.eip:x}"
                    )

    def _only_marks(self, page: int) -> bool:
        """A table that the processor walks, in which it has set Accessed or Dirty."""
        engine: Any = self.vm.engine
        number = page + self.vm.monitor_frames.start
        if hasattr(engine, "shadow"):
            shadow = engine.shadow
            tables = (*shadow._roots.values(), *shadow._tables.values())
            is_table = number in {table.at >> 10 for table in tables}
        else:
            root = engine.nested.root_mpn
            words = self.vm.machine_memory.words
            is_table = number == root or number in {pde >> 12 for pde in words[root << 10 : (root + 1) << 10] if pde}
        one, other = (m[page << 12 : (page + 1) << 12].view(np.uint32) for m in (self._monitor, self._seen))
        return is_table and not bool(((one ^ other) & ~np.uint32(pg.ACCESSED | pg.DIRTY)).any())

    # Running -----------------------------------------------------------------------------------------------------

    def run(self, program: bytes) -> str:
        """Why the guest ended. Raises ``Breach``, ``Hung``, and whatever the monitor fails with."""
        vm = self.vm
        self._guest[:] = np.frombuffer(g.empty_world(), dtype=np.uint8)
        self._guest[g.PROGRAM : g.PROGRAM + len(program)] = np.frombuffer(program, dtype=np.uint8)
        vm.cpu.forget_code()
        vm.load_state(self._fresh, memory=False)
        self._until_s = time.perf_counter() + MOST_SECONDS
        self._seen = self._monitor[:0].copy()
        try:
            ended = vm.engine.run(until_ns=vm.clock.now_ns + RUN_NS)
            reason = "time" if ended is None else ended.reason
            if ended is not None and not ended.sentence.strip():
                raise Breach(f"the run has ended with {reason}, and no sentence")
        except GuestStopped as stopped:
            reason = "stopped"
            if not str(stopped).strip():
                raise
        self.examine()
        return reason

    # Afterwards --------------------------------------------------------------------------------------------------

    def examine(self) -> None:
        """The other guest's frames, and every entry of the tables that the processor walks."""
        if not bool((self._others.view(np.uint32) == PATTERN).all()):
            raise Breach("another guest's frame was changed")
        found = np.flatnonzero(self._guest.view(np.uint32) == PATTERN)
        if len(found) or PATTERN in [value & 0xFFFFFFFF for value in self.vm.engine.vcpu.gpr]:
            raise Breach("the guest has read another guest's frame")
        used = self.vm.engine.frames.used << 12  # type: ignore[attr-defined]
        if bool(self._monitor[used:].any()):
            raise Breach("a frame that the monitor has not handed out was written to")
        engine: Any = self.vm.engine
        if hasattr(engine, "shadow"):
            self._examine_shadow(engine)
        if hasattr(engine, "nested"):
            self._examine_nested(engine.nested)

    def _examine_shadow(self, engine: Any) -> None:
        words, monitor = self.vm.machine_memory.words, self.vm.monitor_frames
        own = {at >> 10 for at in engine.shadow._monitor_tables.values()}
        for root in engine.shadow._roots.values():
            for index in range(pg.ENTRIES):
                pde = words[root.at + index]
                if not pde & pg.PRESENT:
                    continue
                if pde >> 12 not in monitor or pde & pg.LARGE:
                    raise Breach(f"directory entry {index:x} of {root} leads to {pde:08x}")
                if pde >> 12 in own and pde & pg.USER:
                    raise Breach(f"directory entry {index:x} of {root} shows the monitor to ring 3")
                table = np.array(words[(pde >> 12) << 10 : ((pde >> 12) + 1) << 10], dtype=np.uint32)
                self._examine_table(engine, index, table, pde >> 12 in own)

    def _examine_table(self, engine: Any, index: int, table: Any, is_monitors: bool) -> None:
        pmap, memory = self.vm.pmap, self.vm.machine_memory
        first, monitor = pmap.mpn_of[0], self.vm.monitor_frames
        present = table[table & pg.PRESENT != 0]
        frames = present >> 12
        if is_monitors:
            bad = (frames < monitor.start) | (frames >= monitor.stop) | (present & pg.USER != 0)
            writable = present & pg.WRITABLE != 0
            bad |= writable & (frames != engine.monitor.words_mpn)
        else:
            in_memory = frames < memory.frames
            bad = in_memory & ((frames < first) | (frames >= first + pmap.pages))
            if not engine._open:
                traced = np.array([first + ppn for ppn in engine.shadow.traced], dtype=np.uint32)
                bad |= (present & pg.WRITABLE != 0) & np.isin(frames, traced)
        if bool(bad.any()):
            raise Breach(f"in table {index:x} of the shadow there is {int(present[bad][0]):08x}")

    def _examine_nested(self, nested: Any) -> None:
        first = self.vm.pmap.mpn_of[0]
        for entry in nested.entries():
            if entry.is_memory and not first <= entry.mpn < first + self.vm.pmap.pages:
                raise Breach(f"the nested tables lead to frame {entry.mpn:x}")


def run_hostile(
    guests: int, seed: int, mmus: Sequence[Mmu], seconds: float | None = None, reports: int = 10
) -> dict[str, Any]:
    """Run that many hostile guests under each. Returns ``guests``, ``endings`` and ``broken`` (by MMU), ``reports``."""
    endings = {named(mmu): Counter[str]() for mmu in mmus}
    broken = dict.fromkeys(map(named, mmus), 0)
    machines: dict[str, HostileMachine] = {}
    told: list[str] = []
    started, done = time.perf_counter(), 0
    for number in range(guests):
        if seconds is not None and time.perf_counter() - started > seconds:
            break
        done += 1
        for mmu in mmus:
            name = named(mmu)
            if name not in machines:
                machines[name] = HostileMachine(mmu)
            program = hostile_program(random.Random(f"{seed} {number}"))
            try:
                endings[name][machines[name].run(program)] += 1
            except (Exception, Hung) as error:  # whatever it is, it must not be
                broken[name] += 1
                machines.pop(name).vm.close()
                if len(told) < reports:
                    told.append(f"{name}, guest {number}: {type(error).__name__}: {error}")
    for machine in machines.values():
        machine.vm.close()
    return {"guests": done, "endings": {k: dict(v) for k, v in endings.items()}, "broken": broken, "reports": told}
