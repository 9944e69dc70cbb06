"""What a processor can do, as two hosts compare it before a machine moves.

::

    leaf 0             EBX EDX ECX     the vendor
    leaf 1             EAX             family, model, stepping
                       EDX, ECX        a bit for each feature
    leaf 40000010      EAX             time-stamp counts a millisecond

A machine has found out once what its processor can do, and uses it without asking again: all that it was shown has to
be there where it goes. A mask hides bits of a host; in VI3 it is what makes hosts with NX or SSE3 and hosts without
alike. Where the bits come from: ``vmm.cpuid``. Source: AMD CPUID Specification (25481), function 1.
"""

from __future__ import annotations

import msgspec

from vilab.costs import CostModel
from vilab.vmm import cpuid as leaves
from vilab.vmm.cpuid import HYPERVISOR, TIMING_LEAF, Leaf, cpuid
from vilab.vmm.vm import VirtualMachine

EDX_NAMES = {
    0: "FPU", 3: "PSE", 4: "TSC", 5: "MSR", 6: "PAE", 8: "CX8", 9: "APIC", 11: "SEP", 12: "MTRR", 13: "PGE",
    15: "CMOV", 16: "PAT", 23: "MMX", 24: "FXSR", 25: "SSE", 26: "SSE2",
}  # fmt: skip
ECX_NAMES = {0: "SSE3", 9: "SSSE3", 19: "SSE4.1", 31: "HYPERVISOR"}


class CpuFeatures(msgspec.Struct, frozen=True):
    """``edx``, ``ecx``: of leaf 1. ``tsc_khz``: as the hypervisor's leaf has it; 0 where there is none."""

    vendor: str
    signature: int
    edx: int
    ecx: int
    tsc_khz: int

    def missing(self, wanted: CpuFeatures) -> tuple[str, ...]:
        """Names of what ``wanted`` has and this one has not. APIC is left out: its bit follows MSR 1Bh."""
        edx, ecx = wanted.edx & ~self.edx & ~leaves.APIC, wanted.ecx & ~self.ecx
        return tuple(_names("EDX", edx, EDX_NAMES) + _names("ECX", ecx, ECX_NAMES))


class CpuMask(msgspec.Struct, frozen=True):
    """Bits of leaf 1 that a host hides, or has not."""

    edx: int = 0
    ecx: int = 0


NO_MASK = CpuMask()


def _names(register: str, bits: int, names: dict[int, str]) -> list[str]:
    return [names.get(bit, f"{register} bit {bit}") for bit in range(32) if bits >> bit & 1]


def _features(zero: Leaf, one: Leaf, timing: Leaf) -> CpuFeatures:
    vendor = b"".join(zero[at].to_bytes(4, "little") for at in (1, 3, 2)).decode("latin-1")
    return CpuFeatures(vendor, one[0], one[3], one[2], timing[0])


def host_features(costs: CostModel, mask: CpuMask = NO_MASK) -> CpuFeatures:
    """What a host's monitor shows, whatever the engine."""
    zero, one, timing = (
        cpuid(leaf, apic=True, apic_id=0, hypervisor=True, tsc_khz=1000 * costs.tsc_per_us, bus_khz=0)
        for leaf in (0, 1, TIMING_LEAF)
    )
    shown = _features(zero, one, timing)
    return msgspec.structs.replace(shown, edx=shown.edx & ~mask.edx, ecx=shown.ecx & ~(mask.ecx & ~HYPERVISOR))


def vm_features(vm: VirtualMachine) -> CpuFeatures:
    """What this machine's guest is shown."""
    return _features(vm.cpuid(0, 0), vm.cpuid(1, 0), vm.cpuid(TIMING_LEAF, 0))
