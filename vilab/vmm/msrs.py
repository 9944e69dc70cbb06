"""Which model-specific registers the virtual CPU has. Any other is #GP, as on a real machine.

::

    010  TSC        time-stamp counter; MODEL: a write does not set it, it follows virtual time
    01b  APIC_BASE  local APIC: address 31-12, on 11, first processor 8

There is no EFER (no long mode, no NX, no SYSCALL), no SYSENTER, no MTRR or PAT, and no performance counter: CPUID does
not offer them, and a kernel that probes for a counter finds by #GP that there is none.
MODEL: on the bare machine RDMSR and WRMSR are the processor's own: it has more of them, and takes an unknown one for 0.
Source: Intel SDM volume 4; AMD APM volume 2, appendix A.
"""

from __future__ import annotations

TSC, APIC_BASE = 0x10, 0x1B
NAMES = {TSC: "TSC", APIC_BASE: "APIC_BASE"}
