"""Fragments in the packed cache: which guest address has one, made where there is none, chained, dropped.

::

    unit_for(EIP) ──> known? ──no──> translate ──> what it surely leads to, translated ahead ──> chained at once
    drop_unit     ──> whatever leads to it becomes a continuation or a miss again
    flush_cache   ──> all of them
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.errors import AdminError, GuestFault, GuestStopped
from vilab.events import CacheFlushed, FragmentChained, UnitTranslated
from vilab.vmm.adaptive import GUILTY_AFTER_TRAPS, Adaptive
from vilab.vmm.code_pages import CodePages
from vilab.vmm.deprivileged_vcpu import DeprivilegedVcpu
from vilab.vmm.fragment_callouts import FragmentCallouts
from vilab.vmm.in_cache import return_prelude
from vilab.vmm.monitor import CACHE, JUMP_TABLE, RETURN_TABLE, WORD_FLAGS
from vilab.vmm.translated_vcpu import TranslatedVcpu
from vilab.vmm.translating import TranslatingEngine
from vilab.vmm.translation_cache import TranslationCache
from vilab.vmm.translator import STUB, SUPERBLOCK_INSTRUCTIONS, UNIT_INSTRUCTIONS, Mode, Translator
from vilab.vmm.unit import IDENT, Continuation, Miss, Unit
from vilab.vmm.vcpu import BIG
from vilab.x86 import encode as e
from vilab.x86.flags import IOPL, TF

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

DEFAULT_CACHE_BYTES = 8 << 20
PAPER_RETURN_ENTRIES = 256
RETURNS, JUMPS = 0, 1


class PackedCode(TranslatingEngine):
    """Part of ``TranslationEngine``; its parameters are those.

    ``_done``: an instruction was carried out by the monitor, and a single-step trap may follow. ``_settled``: the
    guest's EIP is known though the processor stands somewhere in the cache. ``_shadow_bytes``: how many bytes had been
    executed when an interrupt shadow began.
    """

    name = "bt"

    def __init__(
        self,
        vm: VirtualMachine,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        return_entries: int = 65536,
        smc: str = "precise",
        trace: str = "all",
        superblocks: bool = False,
        ahead: int = 0,
        guilty_after: int = GUILTY_AFTER_TRAPS,
    ) -> None:
        super().__init__(vm, smc, trace)
        self.vcpu: TranslatedVcpu
        if return_entries not in (PAPER_RETURN_ENTRIES, 65536):
            raise AdminError(f"The return table has 256 entries (as in the paper) or 65536, not {return_entries}.")
        self._return_mask = return_entries - 1
        pages = max(return_entries >> 10, 1)
        first = self.monitor.map(RETURN_TABLE, pages) << 10
        self.returns = memoryview(vm.machine_memory.words)[first : first + return_entries]
        self.jumps = memoryview(vm.machine_memory.words)[(m := self.monitor.map(JUMP_TABLE, 64) << 10) : m + 65536]
        self.words = memoryview(vm.machine_memory.words)[(m := self.monitor.words_mpn << 10) : m + 1024]
        most = SUPERBLOCK_INSTRUCTIONS if superblocks else UNIT_INSTRUCTIONS
        self.cache = TranslationCache(vm.cpu, self.monitor, cache_bytes, most)
        self.adaptive = Adaptive(guilty_after)
        self._superblocks = superblocks
        self._ahead = ahead if superblocks else 0
        self._is_ahead = False
        self.translator = Translator(
            self._fetch, self.cache.new_stub, return_entries, self.adaptive.misses, superblocks
        )
        self.pages = CodePages(self)
        self._fast = FragmentCallouts(self, superblocks)
        self._mode = self._mode_of_key = Mode(0, 0, True)
        self._mode_key: tuple[int, ...] = ()
        self._choose_maps()
        self._fault_at: int | None = None
        self._settled = self._done = False
        self._shadow_bytes = -1
        self._make_tables()

    def make_vcpu(self) -> DeprivilegedVcpu:
        return TranslatedVcpu(self.cpu, self.vm.pmap, self.monitor.flag_word)

    def count_instructions(self, limit: int) -> None:
        self.cpu.count_instructions(limit, CACHE, self.cache.marks.ctypes.data, self.cache.size_bytes)

    def _make_tables(self) -> None:
        """Both tables lead to a miss until something is known."""
        for table, view in ((RETURNS, self.returns), (JUMPS, self.jumps)):
            stub = self.cache.new_stub()
            self.cache.exits[stub] = Miss(table, popped=False)
            view[:] = memoryview(stub.to_bytes(4, "little") * len(view)).cast("I")
        self._misses = (self.returns[0], self.jumps[0])

    def _clear_tables(self) -> None:
        for view, miss in zip((self.returns, self.jumps), self._misses, strict=True):
            view[:] = memoryview(miss.to_bytes(4, "little") * len(view)).cast("I")

    def flush_cache(self, why: str) -> None:
        """Empty it. The processor must not be inside a fragment that is still needed."""
        lost = self.cache.flush()
        self.pages.forget()
        self.adaptive.forget()
        self._fast.forget()
        self._make_tables()
        self._choose_maps()
        if self.log.active:
            self.log.emit(CacheFlushed(self.now_ns(), lost, why))

    def _mode_now(self) -> Mode:
        v = self.vcpu
        cs, ss = v.code_and_stack()
        kept = self.words[WORD_FLAGS] & (IOPL | TF)
        key = cs[0], cs[1], ss[1], ss[3] & BIG, v.cpl, kept
        if key != self._mode_key:
            flat = ss[1] == 0 and bool(ss[3] & BIG)
            self._mode_key = key
            self._mode_of_key = Mode(cs[0], cs[1], flat and v.cpl == 0 and not kept, flat)
        return self._mode_of_key

    def _choose_mode(self) -> None:
        """Raises ``GuestStopped`` for 16-bit code."""
        v = self.vcpu
        if not v.code_and_stack()[0][3] & BIG:
            raise GuestStopped(f"The guest runs 16-bit code at {v.eip:08x}, which the translator does not support.")
        mode = self._mode_now()
        if mode is not self._mode:
            if mode != self._mode:
                self._clear_tables()
                self._fast.forget()
            self._mode = mode
            self._choose_maps()

    def _choose_maps(self) -> None:
        self._units = self.cache.units.setdefault(self._mode, {})
        self._inside = self.cache.inside.setdefault(self._mode, {})

    def _fetch(self, linear: int, size_bytes: int) -> bytes:
        if self._is_ahead:
            return self.pages.read_ahead(linear, size_bytes)
        return self.vcpu.read(linear, size_bytes)

    def unit_for(self, eip: int, falls_from: Continuation | None = None, returned_to: bool = False) -> Unit:
        """The fragment for a guest address, translated if need be. Raises ``GuestFault`` if it cannot be fetched.

        ``falls_from``: the exit whose place it may take. ``returned_to``: by a RET that did not find it; in superblocks
        the prelude that the next one needs stands right before the fragment.
        """
        unit = self._units.get(eip)
        if unit is not None:
            return unit
        if not self.cache.has_room():
            self.flush_cache("full")
            falls_from = None
        unit = self._new_unit(eip, falls_from, returned_to)
        if self._ahead:
            self._is_ahead = True
            try:
                self._translate_ahead(unit)
            finally:
                self._is_ahead = False
        return unit

    def _new_unit(self, eip: int, falls_from: Continuation | None, returned_to: bool) -> Unit:
        cache = self.cache
        at = cache.top
        if falls_from is not None and falls_from.stub + len(STUB) == at:
            at = falls_from.stub
        else:
            falls_from = None
        prelude, miss = return_prelude(eip, at, None) if returned_to and self._superblocks else (b"", 0)
        unit, code, callouts = self.translator.translate(eip, at + len(prelude), self._mode)
        if prelude:
            cache.write(at, prelude)
            cache.exits[miss] = Miss(RETURNS, popped=True)
            unit.preludes[RETURNS] = at
        if falls_from is not None:
            del cache.exits[at]
            if len(code) < len(STUB):  # the stub may have to come back
                code = code.ljust(len(STUB), b"\xcc")
                unit.end = unit.start + len(STUB)
            unit.falls_from = falls_from
            falls_from.to = unit
        cache.add(unit, code, callouts, self._mode)
        self.pages.add(unit, self._mode.cs_base)
        count = len(unit.lines)
        self.units_translated += 1
        self.guest_instructions += count
        self.ident += [line[2] for line in unit.lines].count(IDENT)
        if self.log.active:
            self.log.emit(UnitTranslated(self.now_ns(), eip, unit.source, unit.start, code, tuple(unit.lines)))
        self.charge(self.costs.translate_instruction * count)
        if self._superblocks:
            cache.add_inside(unit, self._inside)
            for exit_ in unit.continuations:
                self._chain_to_known(exit_, is_fresh=True)
        return unit

    def _translate_ahead(self, first: Unit) -> None:
        """Where ``first`` is sure to lead if it runs to its end: what it calls, and where that returns to.

        Only code whose pages the guest has used: a translation leaves no Accessed bit of its own.
        """
        work, left = [first], self._ahead
        while work and left:
            unit = work.pop()
            if unit.calls and unit.end_eip not in self._units and (made := self._new_ahead(unit.end_eip, True)):
                left -= 1
                work.append(made)
                index = made.eip & self._return_mask
                if self.returns[index] == self._misses[RETURNS]:
                    self.returns[index] = made.preludes[RETURNS]
            exit_ = unit.continuations[-1] if left and unit.continuations else None
            if exit_ is None or exit_.to is not None or exit_.kind not in ("call", "jump"):
                continue
            if self._chain_to_known(exit_, is_fresh=True) is None and (made := self._new_ahead(exit_.target, False)):
                left -= 1
                work.append(made)
                self._chain_to_known(exit_, is_fresh=True)

    def _new_ahead(self, eip: int, returned_to: bool) -> Unit | None:
        if eip == self.stop_eip or not self.cache.has_room():
            return None
        try:
            return self._new_unit(eip, None, returned_to)
        except GuestFault:
            return None

    def _aim(self) -> bool:
        """Point the CPU at the code for the guest's EIP. False: the run is over."""
        v = self.vcpu
        if v.cpl != 3 and self.cache.guest_at.get(self.cpu.eip, -1) == v.eip:
            unit = self.cache.unit_at[self.cpu.eip]
            if unit.valid and unit.mode == self._mode == self._mode_now():
                return True  # it stands on the translation of that instruction already
        while self.ended is None:
            if v.cpl == 3:
                self.cpu.eip = v.eip
                return True
            if v.eip == self.stop_eip:
                self.returned()
                return False
            try:
                self._choose_mode()
                self.cpu.eip = self.unit_for(v.eip).start
                return True
            except GuestFault as fault:
                self.inject(fault, counted=False)
            except GuestStopped as stopped:
                self.end("unsupported", str(stopped), good=False)
        return False

    def _resume(self) -> None:
        """The guest's EIP was changed: aim the CPU at it. Not before a single-step trap or an interrupt that is due."""
        if self.ended is None and not self.vcpu.single_steps and not self._interrupt_comes_first():
            self._aim()

    def drop_unit(self, unit: Unit) -> None:
        """Make a unit unreachable. Code that is inside it may run to the end of its current instruction."""
        unit.valid = False
        self.invalidated += 1
        self._fast.drop(unit)
        for exit_ in unit.incoming:
            if exit_.unit.valid or exit_.unit is unit:
                self.unlink(exit_)
        unit.incoming.clear()
        for continuation in unit.continuations:
            if continuation.to is not None and continuation in continuation.to.incoming:
                continuation.to.incoming.remove(continuation)
        if unit.falls_from is not None and unit.falls_from.unit.valid:
            self.cache.unmark(unit.start)
            self.unlink(unit.falls_from)
        for table, at in unit.preludes.items():
            view, index = (
                (self.returns, unit.eip & self._return_mask) if table == RETURNS else (self.jumps, unit.eip & 0xFFFF)
            )
            if view[index] == at:
                view[index] = self._misses[table]
        for units in self.cache.units.values():
            if units.get(unit.eip) is unit:
                del units[unit.eip]

    def _chain_to_known(self, exit_: Continuation, is_fresh: bool) -> int | None:
        """Chain an exit to the code for its target, if there is some, be it in the middle of a fragment.

        Returns the place; ``None``: it has to be translated. Superblocks only.
        """
        unit = self._units.get(exit_.target)
        if unit is not None:
            place = unit.start
        else:
            found = self._inside.get(exit_.target)
            if found is None or not found[0].valid or found[0].forwarded is not None:
                return None
            unit, place = found
        self._chain(exit_, unit, "jump", place, is_fresh)
        return place

    def _chain(self, exit_: Continuation, unit: Unit, how: str, place: int, is_fresh: bool = False) -> None:
        """``place``: where in the unit. ``is_fresh``: the exit's fragment has not run yet."""
        if exit_.to is None:
            self._patch(exit_, unit, place, is_fresh)
        self.chained += 1
        if self.log.active:
            self.log.emit(FragmentChained(self.now_ns(), exit_.patch_at, place, exit_.target, how))

    def _patch(self, exit_: Continuation, unit: Unit, place: int, is_fresh: bool) -> None:
        if exit_.condition >= 0:
            code = e.jcc(exit_.condition, exit_.patch_at, place)
        else:
            code = e.jmp(exit_.patch_at, place)
            self.cache.exits.pop(exit_.stub, None)
        self.cache.write(exit_.patch_at, code, is_fresh)
        exit_.to = unit
        unit.incoming.append(exit_)

    def unlink(self, exit_: Continuation) -> None:
        """Turn a chained exit back into a continuation."""
        if exit_.condition >= 0:
            self.cache.write(exit_.patch_at, e.jcc(exit_.condition, exit_.patch_at, exit_.stub))
        else:
            self.cache.write(exit_.stub, STUB)
            self.cache.exits[exit_.stub] = exit_
        exit_.to = None
