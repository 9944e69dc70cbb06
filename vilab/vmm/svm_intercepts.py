"""Which intercepts this monitor sets, offers and refuses. All that there are: ``svm_exits.INTERCEPTS``."""

from __future__ import annotations

from collections.abc import Sequence

from vilab.errors import AdminError
from vilab.vmm import svm_exits as codes

ALWAYS = (
    "intr", "nmi", "smi", "init", "rdtsc", "rdpmc", "cpuid", "invd", "hlt", "invlpga", "ioio", "msr", "shutdown",
    "vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi", "skinit", "rdtscp", "wbinvd", "monitor", "mwait", "xsetbv",
    *(f"dr{number} {way}" for number in range(8) for way in ("read", "write")),
)  # fmt: skip
"""What a VMM must see so that the guest can neither leave its machine nor tell the time by itself."""

NOT_OFFERED = frozenset(
    ("rdpmc", "invlpga", "vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi", "skinit", "monitor", "mwait",
     "mwait armed", "xsetbv", "rdtscp")
)  # fmt: skip
"""CPUID tells the guest that it has none of these: #UD."""

NOT_FROM_HERE = frozenset(
    ("rsm", "pause", "task switch", "ferr_freeze", "cr0 selective write", "vintr", "icebp", "exception 01")
)
"""Intercepts that this monitor has no handler for; single steps are its own (exception 01)."""


def with_those_always_set(reasons: Sequence[str]) -> tuple[str, ...]:
    """Raises ``AdminError``: no such intercept, or one that is not handled here."""
    for reason in reasons:
        if reason not in codes.INTERCEPTS or reason in NOT_FROM_HERE:
            raise AdminError(
                f"There is no intercept {reason!r}; there are, for instance, 'cr3 write', 'invlpg', 'pushf', "
                "'exception 0e'. The table vilab.vmm.svm_exits.INTERCEPTS has all."
            )
    return (*ALWAYS, *reasons)
