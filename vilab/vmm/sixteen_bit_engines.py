"""The deprivileged engines, each with 16-bit code and real mode.

::

    TrapEngine          + SixteenBitEngine  =  TrapEngine16
    TranslationEngine   + SixteenBitEngine  =  TranslationEngine16
    MirroredEngine      + SixteenBitEngine  =  MirroredEngine16
"""

from __future__ import annotations

from vilab.vmm.engine import Engine
from vilab.vmm.engine_bt import TranslationEngine
from vilab.vmm.engine_mirrored import MirroredEngine
from vilab.vmm.engine_trap import TrapEngine
from vilab.vmm.mirrored_vcpu import MirroredVcpu
from vilab.vmm.sixteen_bit import SixteenBitEngine
from vilab.vmm.sixteen_bit_vcpu import SixteenBitVcpu
from vilab.vmm.translated_vcpu import TranslatedVcpu
from vilab.x86.decode import Instruction


class TranslatedVcpu16(SixteenBitVcpu, TranslatedVcpu):
    """Two EIPs in translated code, one in 16-bit code."""


class TrapEngine16(SixteenBitEngine, TrapEngine):
    """Trap and emulate."""

    vcpu: SixteenBitVcpu

    def make_vcpu(self) -> SixteenBitVcpu:
        return SixteenBitVcpu(self.cpu, self.vm.pmap, self.monitor.flag_word)

    def ring_changed(self) -> None:
        super().ring_changed()
        if not self.sixteen and self.vcpu.cpl != 3:
            self._refresh_tables()


class TranslationEngine16(SixteenBitEngine, TranslationEngine):
    """Binary translation; fragments are of 32-bit code only."""

    vcpu: TranslatedVcpu16

    def make_vcpu(self) -> TranslatedVcpu16:
        return TranslatedVcpu16(self.cpu, self.vm.pmap, self.monitor.flag_word)

    def _choose_mode(self) -> None:
        if not self.sixteen:
            super()._choose_mode()

    def _aim(self) -> bool:
        if not self.sixteen:
            return super()._aim()
        self._aim_16()
        return self.ended is None

    def _walk_to_boundary(self) -> bool:
        if not self.sixteen:
            return super()._walk_to_boundary()
        self._settled = False
        return True


class MirroredVcpu16(SixteenBitVcpu, MirroredVcpu):
    """The interrupt flag is the processor's in mirrors, a word of the monitor's in 16-bit code."""


class MirroredEngine16(SixteenBitEngine, MirroredEngine):
    """Binary translation in mirrors; they are of 32-bit code only."""

    vcpu: MirroredVcpu16

    def make_vcpu(self) -> MirroredVcpu16:
        return MirroredVcpu16(self.cpu, self.vm.pmap, self.monitor.flag_word)

    def flag_address(self) -> int:
        return self.monitor.flag_address if self.sixteen else 0

    def on_exception(self, number: int) -> bool:
        v = self.vcpu
        if v.sixteen:
            return super().on_exception(number)
        go_on = MirroredEngine.on_exception(self, number)
        return go_on and not v.sixteen

    def _watch_landing(self) -> None:
        if not self.sixteen:
            super()._watch_landing()

    def _carry_out(self, instruction: Instruction) -> None:
        super()._carry_out(instruction)
        if self.sixteen:
            self.ring_changed()

    def _aim(self) -> bool:
        if not self.sixteen:
            return super()._aim()
        self._aim_16()
        return self.ended is None

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        return Engine.read_code(self, linear, size_bytes) if self.sixteen else super().read_code(linear, size_bytes)
