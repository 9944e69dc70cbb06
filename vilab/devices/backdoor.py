"""The backdoor: how a guest that knows VMware talks to the virtual machine monitor.

::

    0x5658     R  BACKDOOR      32 bits: a command in ECX is carried out, if EAX has the magic number
    0x5659     RW BULK          the same for REP INS and REP OUTS; nobody answers here

    before   EAX 564D5868 ("VMXh")   EBX argument   ECX command (low word)   EDX 5658        in eax, dx
    after    EAX ... EDX: the answer

    command  10  GETVERSION     EAX 6, EBX magic, ECX product (2 = ESX)
             45  GETHZ          EBX:EAX time-stamp counts a second, ECX bus clocks a second
             68  GETVCPU_INFO   EAX 0: no x2APIC, nothing special
             91  STEALCLOCK     EAX FFFFFFFF: absent
             any other          EAX FFFFFFFF

On a real machine it is a read of a port at which nobody is, so a program may try it anywhere; under this monitor it
works in ring 3 as well, whatever IOPL says. Without the magic number it is that port.
Source: open-vm-tools, backdoor_def.h; Linux, arch/x86/kernel/cpu/vmware.c.
"""

from __future__ import annotations

import msgspec

from vilab.devices.registers import Register
from vilab.events import Event

_TOOLS = "open-vm-tools, backdoor_def.h"

REGISTERS = (
    Register(0x5658, "R", "BACKDOOR", "32 bits: a command in ECX is carried out, if EAX has the magic number", _TOOLS),
    Register(0x5659, "RW", "BULK", "the same for REP INS and REP OUTS; nobody answers here", _TOOLS),
)

PORT, BULK_PORT = 0x5658, 0x5659
PORTS = frozenset((PORT, BULK_PORT))
MAGIC = 0x564D_5868
GETVERSION, GETHZ, GETVCPU_INFO, STEALCLOCK = 10, 45, 68, 91
VERSION, PRODUCT_ESX = 6, 2
NOTHING = 0xFFFF_FFFF


class BackdoorCalled(Event, frozen=True, tag=True):
    """A guest has asked its monitor. ``answer``: EAX, EBX, ECX, EDX."""

    command: int
    argument: int
    answer: tuple[int, int, int, int]


class Answer(msgspec.Struct, frozen=True):
    """The registers afterwards."""

    eax: int
    ebx: int
    ecx: int
    edx: int


def call(eax: int, ebx: int, ecx: int, edx: int, tsc_hz: int, bus_hz: int) -> Answer:
    """One command. Never fails: what is not understood is answered as such."""
    command = ecx & 0xFFFF
    if command == GETVERSION:
        return Answer(VERSION, MAGIC, PRODUCT_ESX, edx)
    if command == GETHZ:
        return Answer(tsc_hz & 0xFFFF_FFFF, tsc_hz >> 32, bus_hz, edx)
    if command == GETVCPU_INFO:
        return Answer(0, ebx, ecx, edx)
    return Answer(NOTHING, ebx, ecx, edx)
