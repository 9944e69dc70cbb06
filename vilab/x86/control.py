"""Control registers and the extended feature register, bit by bit.

::

    CR0   31  30  29 ... 18 ... 16 ...  5   4   3   2   1   0
         |PG |CD |NW |   |AM|   |WP|   |NE |ET |TS |EM |MP |PE |     SMSW shows the low 16 bits at any CPL

    CR2  the linear address of the last page fault
    CR3  31              12            4   3
         | page directory  |         |PCD|PWT|

    CR4  ... 18      11   10         9     8    7   6   5   4   3   2   1   0
         |OSXSAVE|UMIP|OSXMMEXCPT|OSFXSR|PCE|PGE|MCE|PAE|PSE|DE |TSD|PVI|VME|

    EFER (MSR 0xc0000080)   14    13    12   11  10   8   0
                          |FFXSR|LMSLE|SVME|NXE|LMA|LME|SCE|

Source: Intel SDM volume 3, section 2.5; AMD APM volume 2, section 3.1.
"""

from __future__ import annotations

CR0_PE = 1 << 0
CR0_MP = 1 << 1
CR0_EM = 1 << 2
CR0_TS = 1 << 3
CR0_ET = 1 << 4
CR0_NE = 1 << 5
CR0_WP = 1 << 16
CR0_AM = 1 << 18
CR0_NW = 1 << 29
CR0_CD = 1 << 30
CR0_PG = 1 << 31

CR0_RESET = CR0_CD | CR0_NW | CR0_ET
CR0_DEFINED = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG
CR0_LMSW = CR0_PE | CR0_MP | CR0_EM | CR0_TS
"""What LMSW can write; it can set PE and never clear it."""

CR3_PWT = 1 << 3
CR3_PCD = 1 << 4
CR3_BASE = 0xFFFF_F000

CR4_VME = 1 << 0
CR4_PVI = 1 << 1
CR4_TSD = 1 << 2
CR4_DE = 1 << 3
CR4_PSE = 1 << 4
CR4_PAE = 1 << 5
CR4_MCE = 1 << 6
CR4_PGE = 1 << 7
CR4_PCE = 1 << 8
CR4_OSFXSR = 1 << 9
CR4_OSXMMEXCPT = 1 << 10
CR4_UMIP = 1 << 11
CR4_OSXSAVE = 1 << 18
CR4_SMEP = 1 << 20
CR4_SMAP = 1 << 21

EFER = 0xC000_0080
"""The number of the MSR."""
EFER_SCE = 1 << 0
EFER_LME = 1 << 8
EFER_LMA = 1 << 10
EFER_NXE = 1 << 11
EFER_SVME = 1 << 12
EFER_LMSLE = 1 << 13
EFER_FFXSR = 1 << 14

Bits = tuple[tuple[str, int, str], ...]

CR0_BITS: Bits = (
    ("PE", CR0_PE, "protected mode"), ("MP", CR0_MP, "WAIT honours TS"), ("EM", CR0_EM, "no FPU: emulate it"),
    ("TS", CR0_TS, "task switched: the next FPU use raises #NM"), ("ET", CR0_ET, "always 1"),
    ("NE", CR0_NE, "FPU errors as #MF"), ("WP", CR0_WP, "ring 0 obeys read-only pages"),
    ("AM", CR0_AM, "alignment checks"), ("NW", CR0_NW, "not write-through"), ("CD", CR0_CD, "caches off"),
    ("PG", CR0_PG, "paging"),
)  # fmt: skip
CR3_BITS: Bits = (("PWT", CR3_PWT, "write-through"), ("PCD", CR3_PCD, "cache off"))
CR4_BITS: Bits = (
    ("VME", CR4_VME, "virtual-8086 extensions"), ("PVI", CR4_PVI, "protected-mode virtual interrupts"),
    ("TSD", CR4_TSD, "RDTSC only in ring 0"), ("DE", CR4_DE, "debug extensions"), ("PSE", CR4_PSE, "4 MB pages"),
    ("PAE", CR4_PAE, "64-bit page-table entries"), ("MCE", CR4_MCE, "machine check"), ("PGE", CR4_PGE, "global pages"),
    ("PCE", CR4_PCE, "RDPMC in every ring"), ("OSFXSR", CR4_OSFXSR, "SSE is saved"),
    ("OSXMMEXCPT", CR4_OSXMMEXCPT, "SSE errors as #XM"),
    ("UMIP", CR4_UMIP, "SGDT, SIDT, SLDT, SMSW and STR only in ring 0"), ("OSXSAVE", CR4_OSXSAVE, "XSAVE in use"),
    ("SMEP", CR4_SMEP, "ring 0 runs no user pages"), ("SMAP", CR4_SMAP, "ring 0 reads no user pages"),
)  # fmt: skip
EFER_BITS: Bits = (
    ("SCE", EFER_SCE, "SYSCALL"), ("LME", EFER_LME, "long mode enable"), ("LMA", EFER_LMA, "long mode active"),
    ("NXE", EFER_NXE, "no-execute pages"), ("SVME", EFER_SVME, "VMRUN and its kin"),
    ("LMSLE", EFER_LMSLE, "long-mode segment limits"), ("FFXSR", EFER_FFXSR, "fast FXSAVE"),
)  # fmt: skip

REGISTERS: dict[str, Bits] = {"CR0": CR0_BITS, "CR3": CR3_BITS, "CR4": CR4_BITS, "EFER": EFER_BITS}


def describe(register: str, value: int) -> str:
    """``CR0 0x80000011 PE ET PG``; ``register`` is a key of ``REGISTERS``."""
    return " ".join([register, f"0x{value:08x}", *(name for name, mask, _ in REGISTERS[register] if value & mask)])


def after_lmsw(cr0: int, value: int) -> int:
    """CR0 after LMSW of ``value``: its four bits, but PE never goes back to 0. SDM volume 2, "LMSW"."""
    return cr0 & ~(CR0_MP | CR0_EM | CR0_TS) | value & CR0_LMSW


def cr0_refused(value: int) -> str:
    """Why MOV CR0 of ``value`` raises #GP(0), or empty. SDM volume 3, section 2.5."""
    if value & CR0_PG and not value & CR0_PE:
        return "PG without PE"
    if value & CR0_NW and not value & CR0_CD:
        return "NW without CD"
    return ""
