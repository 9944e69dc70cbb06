"""Filling in a VMCB: the state save area from a vCPU's record, and what VMRUN checks before it enters."""

from __future__ import annotations

from collections.abc import Mapping

from vilab.vmm import vmcb
from vilab.vmm.vcpu import VcpuState
from vilab.vmm.vmcb import EFER_SVME, SegmentValue

SEGMENT_FIELDS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
"""In the order of ``VcpuState.segments``."""

PAT_AT_RESET = 0x0007_0406_0007_0406


def save_area(state: VcpuState) -> vmcb.Values:
    """The state save area for a vCPU."""
    values: vmcb.Values = {
        name: (selector, vmcb.attributes(flags), limit, base)
        for name, (selector, base, limit, flags) in zip(SEGMENT_FIELDS, state.segments, strict=True)
    }
    for name, (base, limit) in (("gdtr", state.gdtr), ("idtr", state.idtr)):
        values[name] = (0, 0, limit, base)
    return values | {
        "cpl": state.cpl, "efer": vmcb.EFER_SVME, "cr0": state.cr0, "cr2": state.cr2, "cr3": state.cr3,
        "cr4": state.cr4, "dr6": state.debug[6], "dr7": state.debug[7], "rflags": state.eflags, "rip": state.eip,
        "rax": state.gpr[0], "rsp": state.gpr[4], "g_pat": PAT_AT_RESET,
    }  # fmt: skip


def refused_because(values: Mapping[str, int | SegmentValue]) -> list[str]:
    """Why a processor would answer VMRUN with exit code -1; empty: it would not. APM volume 2, section 15.5.1.

    CR0.PG without CR0.PE is allowed: paged real mode, section 15.19.
    """

    def number(name: str) -> int:
        value = values.get(name, 0)
        assert isinstance(value, int)
        return value

    found = []
    cr0 = number("cr0")
    if not number("efer") & EFER_SVME:
        found.append("EFER.SVME of the guest is 0")
    if cr0 >> 29 & 3 == 1:
        found.append("CR0.CD is 0 and CR0.NW is 1")
    if cr0 >> 32:
        found.append("CR0 has bits above 31")
    if (number("dr6") | number("dr7")) >> 32:
        found.append("DR6 or DR7 has bits above 31")
    if not number("intercept_misc2") & 1:
        found.append("VMRUN itself is not intercepted")
    if not number("guest_asid"):
        found.append("the guest has ASID 0, which is the host's")
    return found
