"""What the virtual CPU says of itself: one processor for all engines, of the i686 class and without surprises.

::

    leaf 1, EDX   bit  0 FPU   3 PSE   4 TSC   5 MSR   8 CX8   9 APIC   13 PGE   15 CMOV   23 MMX   24 FXSR
                       25 SSE  26 SSE2                 no PAE, no SEP, no MTRR, no PAT
            ECX   bit 31: a hypervisor is present (not on the bare machine)
            EBX   bits 31-24: APIC ID

    leaf 40000000     highest hypervisor leaf, and "VMwareVMware" in EBX, ECX, EDX
    leaf 40000010     EAX: time-stamp counts a millisecond, EBX: bus clocks a millisecond

APIC is what MSR 1Bh says: the bit goes away when the guest switches its local APIC off.
Source: AMD CPUID Specification (25481); VMware Knowledge Base 1009458 for the hypervisor leaves.
"""

from __future__ import annotations

FPU, PSE, TSC, MSR, CX8, APIC, PGE, CMOV = 1 << 0, 1 << 3, 1 << 4, 1 << 5, 1 << 8, 1 << 9, 1 << 13, 1 << 15
MMX, FXSR, SSE, SSE2 = 1 << 23, 1 << 24, 1 << 25, 1 << 26
FEATURES = FPU | PSE | TSC | MSR | CX8 | PGE | CMOV | MMX | FXSR | SSE | SSE2
HYPERVISOR = 1 << 31
SIGNATURE = 0x00000F61
HYPERVISOR_LEAF, TIMING_LEAF = 0x4000_0000, 0x4000_0010

Leaf = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX."""


def _text(text: str) -> tuple[int, int, int]:
    raw = text.encode()
    return tuple(int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8))  # type: ignore[return-value]


def cpuid(leaf: int, *, apic: bool, apic_id: int, hypervisor: bool, tsc_khz: int, bus_khz: int) -> Leaf:
    """One leaf; there is none with subleaves. ``hypervisor``: a VMM is underneath and says so."""
    if leaf == 0:
        ebx, edx, ecx = _text("AuthenticAMD")
        return 1, ebx, ecx, edx
    if leaf == 1:
        return (
            SIGNATURE,
            apic_id << 24 | 1 << 16,
            HYPERVISOR if hypervisor else 0,
            FEATURES | (APIC if apic else 0),
        )
    if leaf == 0x8000_0000:
        return 0x8000_0000, 0, 0, 0
    if hypervisor and leaf == HYPERVISOR_LEAF:
        return (TIMING_LEAF, *_text("VMwareVMware"))
    if hypervisor and leaf == TIMING_LEAF:
        return tsc_khz, bus_khz, 0, 0
    return 0, 0, 0, 0
