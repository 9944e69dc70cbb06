"""The deprivileged engines, each with 16-bit code and real mode.

::

    TrapEngine          + SixteenBitEngine  =  TrapEngine16
    TranslationEngine   + SixteenBitEngine  =  TranslationEngine16
"""

from __future__ import annotations

from vilab.vmm.engine_bt import TranslatedVcpu, TranslationEngine
from vilab.vmm.engine_trap import TrapEngine
from vilab.vmm.sixteen_bit import SixteenBitEngine
from vilab.vmm.sixteen_bit_vcpu import SixteenBitVcpu


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
