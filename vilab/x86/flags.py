"""EFLAGS.

::

     31    22 21  20  19  18 17 16 15 14 13 12 11 10  9  8  7  6  5  4  3  2  1  0
    +--------+---+---+---+--+--+--+--+--+-----+--+--+--+--+--+--+--+--+--+--+--+--+
    |   0    |ID |VIP|VIF|AC|VM|RF| 0|NT|IOPL |OF|DF|IF|TF|SF|ZF| 0|AF| 0|PF| 1|CF|
    +--------+---+---+---+--+--+--+--+--+-----+--+--+--+--+--+--+--+--+--+--+--+--+
      status: CF PF AF ZF SF OF    control: DF    system: the rest

POPF changes IF only where CPL <= IOPL, and IOPL only at CPL 0; otherwise it drops the change and says nothing.
Source: Intel SDM volume 1, section 3.4.3; volume 3, section 2.3.
"""

from __future__ import annotations

CF = 1 << 0
ONE = 1 << 1
"""Always set."""
PF = 1 << 2
AF = 1 << 4
ZF = 1 << 6
SF = 1 << 7
TF = 1 << 8
IF = 1 << 9
DF = 1 << 10
OF = 1 << 11
IOPL_SHIFT = 12
IOPL = 3 << IOPL_SHIFT
NT = 1 << 14
RF = 1 << 16
VM = 1 << 17
AC = 1 << 18
VIF = 1 << 19
VIP = 1 << 20
ID = 1 << 21

STATUS = CF | PF | AF | ZF | SF | OF
"""What arithmetic changes."""
DEFINED = STATUS | TF | IF | DF | IOPL | NT | RF | VM | AC | VIF | VIP | ID
RESET = ONE
"""EFLAGS after reset."""

BITS: tuple[tuple[str, int, str], ...] = (
    ("CF", CF, "carry"), ("PF", PF, "parity"), ("AF", AF, "auxiliary carry"), ("ZF", ZF, "zero"), ("SF", SF, "sign"),
    ("TF", TF, "single step"), ("IF", IF, "interrupts enabled"), ("DF", DF, "string direction is down"),
    ("OF", OF, "overflow"), ("NT", NT, "nested task"), ("RF", RF, "resume"), ("VM", VM, "virtual-8086 mode"),
    ("AC", AC, "alignment check"), ("VIF", VIF, "virtual IF"), ("VIP", VIP, "virtual interrupt pending"),
    ("ID", ID, "CPUID can be used"),
)  # fmt: skip
"""(name, mask, meaning), lowest bit first; IOPL is a number and stands apart."""


def iopl(eflags: int) -> int:
    """The I/O privilege level, 0 to 3."""
    return eflags >> IOPL_SHIFT & 3


def describe(eflags: int) -> str:
    """``0x00000246 PF ZF IF IOPL 0``"""
    names = [name for name, mask, _ in BITS if eflags & mask]
    return " ".join([f"0x{eflags:08x}", *names, f"IOPL {iopl(eflags)}"])


def popf_mask(cpl: int, current: int, bits: int = 32) -> int:
    """Which bits POPF may change at this CPL. RF, VM, VIF and VIP are never among them."""
    mask = STATUS | TF | DF | NT | (AC | ID if bits == 32 else 0)
    if cpl <= iopl(current):
        mask |= IF
    if cpl == 0:
        mask |= IOPL
    return mask


def after_popf(current: int, popped: int, cpl: int, bits: int = 32) -> int:
    """EFLAGS after POPF of ``popped`` at ``cpl``, outside virtual-8086 mode. SDM volume 2, table "Effect of POPF".

    RF is cleared; IF and IOPL keep their values, in silence, where the ring does not allow the change.
    """
    mask = popf_mask(cpl, current, bits)
    kept = current & ~mask & (DEFINED & ~RF)
    return kept | popped & mask | ONE
