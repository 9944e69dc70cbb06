"""Registers of the local APIC, the interrupt controller beside each processor, in memory at FEE00000.

::

    0xfee00020 RW ID            this APIC's number 31-24
    0xfee00030 R  VERSION       0x14, highest LVT entry 23-16 (5)
    0xfee00080 RW TPR           task priority: class 7-4, sub-class 3-0
    0xfee00090 R  APR           arbitration priority: 0, there is no bus to arbitrate for
    0xfee000a0 R  PPR           processor priority: what an interrupt must exceed
    0xfee000b0 W  EOI           end of the interrupt of highest priority in service
    0xfee000d0 RW LDR           logical number 31-24
    0xfee000e0 RW DFR           model of logical numbers 31-28: 15 flat, 0 cluster
    0xfee000f0 RW SVR           spurious vector 7-0, enable 8, focus 9
    0xfee00100 R  ISR           in service, 256 bits in eight registers 16 bytes apart, to 0x170
    0xfee00180 R  TMR           level triggered, likewise, to 0x1f0
    0xfee00200 R  IRR           requested, likewise, to 0x270
    0xfee00280 RW ESR           errors since the last write: illegal vector sent 5, received 6, illegal register 7
    0xfee00300 RW ICR_LOW       vector 7-0, mode 10-8, logical 11, assert 14, level 15, shorthand 19-18; writing sends
    0xfee00310 RW ICR_HIGH      destination 31-24
    0xfee00320 RW LVT_TIMER     vector 7-0, mask 16, periodic 17
    0xfee00330 RW LVT_THERMAL   vector 7-0, mode 10-8, mask 16; never happens here
    0xfee00340 RW LVT_COUNTER   vector 7-0, mode 10-8, mask 16; there are no performance counters
    0xfee00350 RW LVT_LINT0     vector 7-0, mode 10-8 (7 = ExtINT: the PIC gives the vector), polarity 13, mask 16
    0xfee00360 RW LVT_LINT1     the same; nothing is wired to it
    0xfee00370 RW LVT_ERROR     vector 7-0, mask 16
    0xfee00380 RW INITIAL       timer's initial count; writing starts it, 0 stops it
    0xfee00390 R  CURRENT       timer's current count
    0xfee003e0 RW DIVIDE        timer's divider, bits 3, 1, 0: 000 = 2, 001 = 4 ... 110 = 128, 111 = 1

Registers are 32 bits wide, one every 16 bytes, and are accessed as a whole.
"""

from __future__ import annotations

from vilab.devices.registers import Register

_SDM = "Intel SDM volume 3, chapter 10"
BASE = 0xFEE0_0000

REGISTERS = tuple(
    Register(BASE + offset, access, name, meaning, _SDM)
    for offset, access, name, meaning in (
        (0x020, "RW", "ID", "this APIC's number 31-24"),
        (0x030, "R", "VERSION", "0x14, highest LVT entry 23-16 (5)"),
        (0x080, "RW", "TPR", "task priority: class 7-4, sub-class 3-0"),
        (0x090, "R", "APR", "arbitration priority: 0, there is no bus to arbitrate for"),
        (0x0A0, "R", "PPR", "processor priority: what an interrupt must exceed"),
        (0x0B0, "W", "EOI", "end of the interrupt of highest priority in service"),
        (0x0D0, "RW", "LDR", "logical number 31-24"),
        (0x0E0, "RW", "DFR", "model of logical numbers 31-28: 15 flat, 0 cluster"),
        (0x0F0, "RW", "SVR", "spurious vector 7-0, enable 8, focus 9"),
        (0x100, "R", "ISR", "in service, 256 bits in eight registers 16 bytes apart, to 0x170"),
        (0x180, "R", "TMR", "level triggered, likewise, to 0x1f0"),
        (0x200, "R", "IRR", "requested, likewise, to 0x270"),
        (0x280, "RW", "ESR",
         "errors since the last write: illegal vector sent 5, received 6, illegal register 7"),
        (0x300, "RW", "ICR_LOW",
         "vector 7-0, mode 10-8, logical 11, assert 14, level 15, shorthand 19-18; writing sends"),
        (0x310, "RW", "ICR_HIGH", "destination 31-24"),
        (0x320, "RW", "LVT_TIMER", "vector 7-0, mask 16, periodic 17"),
        (0x330, "RW", "LVT_THERMAL", "vector 7-0, mode 10-8, mask 16; never happens here"),
        (0x340, "RW", "LVT_COUNTER", "vector 7-0, mode 10-8, mask 16; there are no performance counters"),
        (0x350, "RW", "LVT_LINT0",
         "vector 7-0, mode 10-8 (7 = ExtINT: the PIC gives the vector), polarity 13, mask 16"),
        (0x360, "RW", "LVT_LINT1", "the same; nothing is wired to it"),
        (0x370, "RW", "LVT_ERROR", "vector 7-0, mask 16"),
        (0x380, "RW", "INITIAL", "timer's initial count; writing starts it, 0 stops it"),
        (0x390, "R", "CURRENT", "timer's current count"),
        (0x3E0, "RW", "DIVIDE", "timer's divider, bits 3, 1, 0: 000 = 2, 001 = 4 ... 110 = 128, 111 = 1"),
    )
)  # fmt: skip

ID, VERSION, TPR, APR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0x90, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR_LOW, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVT_TIMER, LVT_THERMAL, LVT_COUNTER, LVT_LINT0, LVT_LINT1, LVT_ERROR = range(0x320, 0x380, 0x10)
INITIAL, CURRENT, DIVIDE = 0x380, 0x390, 0x3E0

VERSION_VALUE = 0x0005_0014
SVR_ENABLE = 1 << 8
SVR_WRITABLE = 0x3FF
MASKED = 1 << 16
PERIODIC = 1 << 17
LEVEL = 1 << 15
ASSERT = 1 << 14
LOGICAL = 1 << 11
MODE_SHIFT = 8
FIXED, LOWEST, SMI, NMI, INIT, START_UP, EXTINT = 0, 1, 2, 4, 5, 6, 7
ERROR_SENT, ERROR_RECEIVED, ERROR_REGISTER = 1 << 5, 1 << 6, 1 << 7
FIRST_VECTOR = 16
LVT_WRITABLE = {
    LVT_TIMER: 0x300FF, LVT_THERMAL: 0x107FF, LVT_COUNTER: 0x107FF, LVT_LINT0: 0x1A7FF, LVT_LINT1: 0x1A7FF,
    LVT_ERROR: 0x100FF,
}  # fmt: skip

BASE_ENABLE, BASE_BSP = 1 << 11, 1 << 8
"""Bits of MSR 1Bh beside the address."""
BASE_ADDRESS = 0xFFFF_F000
