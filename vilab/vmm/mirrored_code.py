"""The mirrors of a guest's kernel: made where it comes, dropped where it changes, moved where they are in the way.

::

    EIP on UNKNOWN ──> discover what can be reached in its page ──> units, traced pages ──> go on
    EIP on INSIDE  ──> drop the page's units (another reading of the same bytes) ──> discover anew
    guest maps something where mirrors lie ──> drop all, choose another bias
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import AdminError, GuestFault, GuestStopped
from vilab.events import CacheFlushed, CalloutTaken, UnitInvalidated, UnitTranslated
from vilab.machine.registers import CS
from vilab.vmm.deprivileged_vcpu import DeprivilegedVcpu
from vilab.vmm.mirror import BIASES, INSIDE, LARGE_SHIFT, LINEAR, UNKNOWN, Mirror
from vilab.vmm.mirror_discovery import Discovery, Piece
from vilab.vmm.mirror_units import MirroredPages, MirroredUnit
from vilab.vmm.mirrored_vcpu import MirroredVcpu
from vilab.vmm.translating import TranslatingEngine
from vilab.vmm.unit import Unit
from vilab.vmm.vcpu import BIG
from vilab.vmm.walk import walk
from vilab.x86.decode import Instruction

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

DEFAULT_CACHE_BYTES = 16 << 20


class MirroredCode(TranslatingEngine):
    """Part of ``MirroredEngine``; its parameters are those."""

    name = "bt"

    def __init__(
        self, vm: VirtualMachine, cache_bytes: int = DEFAULT_CACHE_BYTES, smc: str = "precise", trace: str = "all"
    ) -> None:
        if cache_bytes < 2 * PAGE_BYTES:
            raise AdminError(f"Mirrors need at least two pages, {2 * PAGE_BYTES} bytes, not {cache_bytes}.")
        super().__init__(vm, smc, trace)
        self.vcpu: MirroredVcpu
        self.mirror = Mirror(vm.cpu, vm.machine_memory, self.frames, self.shadow, cache_bytes >> PAGE_SHIFT)
        self.vcpu.bias, self.vcpu.shadow = self.mirror.bias, self.shadow
        self.pages = MirroredPages(self)  # type: ignore[arg-type]
        self._callouts: dict[int, tuple[Instruction, int]] = {}  # by the guest's linear address
        self._native = self.vcpu.native = vm.cpu.prepare_native_callouts()
        self._native_at: dict[int, int] = {}  # a callout's linear address -> its entry in the native table
        self._discovery = Discovery(self.mirror, self.vcpu.read, vm.cpu.is_native)
        self._stores: dict[int, Instruction | None] = {}  # what stands at a linear address that stores to traced pages

    def make_vcpu(self) -> DeprivilegedVcpu:
        return MirroredVcpu(self.cpu, self.vm.pmap, self.monitor.flag_word)

    def _aim(self) -> bool:
        """Let there be code at EIP. False: the run is over."""
        v = self.vcpu
        while self.ended is None:
            if v.cpl == 3:
                return True
            linear = v.pc
            self._watch_landing()
            if self.mirror.mark(linear) != UNKNOWN:
                return True
            if v.eip == self.stop_eip:
                self.returned()
                return False
            try:
                self._discover(linear)
            except GuestFault as fault:
                self.inject(fault, counted=False)
            except GuestStopped as stopped:
                self.end("unsupported", str(stopped), good=False)
        return False

    def _watch_landing(self) -> None:
        """EIP has changed. Into the middle of an instruction? Then its page is discovered anew."""
        v = self.vcpu
        if v.cpl == 3 or self.mirror.mark(v.pc) != INSIDE:
            return
        vpn = v.pc >> PAGE_SHIFT
        for unit, _, _ in list(self.pages.by_ppn.get(self.pages.by_vpn.get(vpn, -1), ())):
            if unit.valid and any(seen == vpn for seen, _ in unit.pages):
                self.drop_unit(unit)
                if self.log.active:
                    self.log.emit(UnitInvalidated(self.now_ns(), unit.eip, unit.start, "overlap"))

    def _discover(self, linear: int) -> None:
        """The code at CS:EIP, which is at ``linear``, and where it leads within its page. Raises ``GuestFault``."""
        v = self.vcpu
        cs_base = v.segment(CS)[1]
        if not v.segment(CS)[3] & BIG:
            raise GuestStopped(f"The guest runs 16-bit code at {v.eip:08x}, which the translator does not support.")
        vpn = linear >> PAGE_SHIFT
        v.read(linear, 1)
        if vpn not in self.mirror.pages:
            if not self.mirror.has_room():
                self.flush_cache("full")
            if not self._is_free(linear, self.mirror.bias):
                self._move(linear)
                if self.ended is not None:
                    return
        self.mirror.forget_block(linear)
        self.exits["discovery"] += 1
        listening = self.log.active
        if listening:
            place = self.mirror.place(linear)
            self.log.emit(CalloutTaken(self.now_ns(), self.vcpu.eip, place, "discovery", self.costs.callout))
        ppn = self.pages.watch(linear)
        stop = None if self.stop_eip is None else self.stop_eip + cs_base & LINEAR
        pieces = self._discovery.page(linear, cs_base, stop)
        for at, instruction, how in self._discovery.callouts:
            self._callouts[at] = instruction, how
        count, bias = 0, self.mirror.bias
        for piece in pieces:
            unit = MirroredUnit(
                piece.linear - cs_base & LINEAR, piece.linear + bias, piece.source, piece.mirrored_bytes
            )
            self.pages.add_piece(unit, piece, ppn)
            count += piece.instructions
            if listening:
                self._log_unit(unit, piece, cs_base)
        self.units_translated += len(pieces)
        self.guest_instructions += count
        self.ident += count - len(self._discovery.callouts)
        self.charge(self.costs.callout + self.costs.translate_instruction * count)

    def _log_unit(self, unit: MirroredUnit, piece: Piece, cs_base: int) -> None:
        unit.lines = self._discovery.lines(piece, cs_base)
        code = self.mirror.read(piece.linear, piece.mirrored_bytes)
        self.log.emit(UnitTranslated(self.now_ns(), unit.eip, unit.source, unit.start, code, tuple(unit.lines)))

    def flush_cache(self, why: str) -> None:
        """Drop all mirrors."""
        lost = self.mirror.drop_all()
        self.pages.forget()
        self._callouts.clear()
        self._forget_native()
        self._stores.clear()
        if self.log.active:
            self.log.emit(CacheFlushed(self.now_ns(), lost, why))

    def drop_unit(self, unit: Unit) -> None:
        """The guest's bytes have changed: undiscover them."""
        unit.valid = False
        self.invalidated += 1
        self._stores.clear()
        self.vcpu.forget_landings()
        for at in self.mirror.erase(self.mirror.linear(unit.start), unit.end - unit.start):
            del self._callouts[at]
            entry = self._native_at.pop(at, None)
            if entry is not None and self._native is not None:
                self._native.table[entry] = 0

    def _forget_native(self) -> None:
        self._native_at.clear()
        self.vcpu.forget_native()

    def monitor_address_used(self, gva: int) -> None:
        if self.mirror.contains(gva):
            self._move(self.vcpu.pc if self.vcpu.cpl != 3 else None, gva)
        else:
            super().monitor_address_used(gva)

    def _move(self, linear: int | None, wanted: int | None = None) -> None:
        """Mirrors go where the guest has nothing, at best for all code that was discovered so far."""
        chunks = {vpn << PAGE_SHIFT >> LARGE_SHIFT for vpn in self.mirror.pages}
        if linear is not None:
            chunks.add(linear >> LARGE_SHIFT)
        self.flush_cache("moved")
        taken = None if wanted is None else wanted >> LARGE_SHIFT

        def fits(chunk: int, bias: int) -> bool:
            there = (chunk << LARGE_SHIFT) + bias
            return there >> LARGE_SHIFT != taken and self._is_free(chunk << LARGE_SHIFT, bias)

        for bias in BIASES:
            if all(fits(chunk, bias) for chunk in chunks):
                break
        else:
            one = None if linear is None else linear >> LARGE_SHIFT
            bias = next((b for b in BIASES if one is None or fits(one, b)), 0)
            if not bias:
                self.end("conflict", "The guest leaves no room in its linear address space for a mirror of its code; "
                         "run it with --placement packed.", good=False)  # fmt: skip
                return
        self.mirror.bias = self.vcpu.bias = bias
        if self.vcpu.cpl != 3:
            self.vcpu.load_code_and_stack()

    def _is_free(self, linear: int, bias: int) -> bool:
        """Has the guest nothing where the mirror of this page, and the page behind it, would lie?"""
        if not self.mirror.can_lie(linear, bias):
            return False
        v = self.vcpu
        there = (linear & ~(PAGE_BYTES - 1)) + bias
        if not v.cr0 >> 31:
            return there >= self.vm.memory_bytes
        for at in (there, there + PAGE_BYTES):
            try:
                walk(v.pmap, v.cr0, v.cr3, v.cr4, at, write=False, user=False, set_bits=False)
            except GuestFault:
                continue
            return False
        return True
