"""The small kernel-mode surroundings that the snippets of ``critical`` run in. Paging is off: addresses are physical.

::

    00100000  code        the snippet                     GDT   0060  flat code, ring 0
    00101000  landing     where far transfers arrive            0068  flat data, ring 0
    00101010  handler     of gate 80                            0070  flat data, ring 0: the stack at the start
    00102000  pointer     0060:00101000, for call and jmp       0080  TSS, busy
    00110000  stack       grows down from here            IDT   80    interrupt gate to 0060:00101010
    00396000  TSS
    00397000  IDT         2 KB, only gate 80 is present
    00398000  GDT         17 entries
"""

from __future__ import annotations

import msgspec

from vilab.x86 import descriptors as d
from vilab.x86.control import CR0_ET, CR0_MP, CR0_PE
from vilab.x86.flags import IF, ONE

CODE = 0x0010_0000
LANDING = 0x0010_1000
GATE_HANDLER = 0x0010_1010
FAR_POINTER = 0x0010_2000
STACK = 0x0011_0000
TSS = 0x0039_6000
IDT = 0x0039_7000
GDT = 0x0039_8000
MEMORY_BYTES = 4 << 20
"""Guest memory that the environment needs."""

CODE_SELECTOR = 0x60
DATA_SELECTOR = 0x68
STACK_SELECTOR = 0x70
TSS_SELECTOR = 0x80
SYSTEM_CALL_VECTOR = 0x80

STACK_ROOM = 16
"""Bytes above ESP at the start: scratch for what stores to [esp]."""


class CriticalEnvironment(msgspec.Struct, frozen=True):
    """State of a guest's kernel before a snippet.

    memory : (guest physical address, bytes). gdtr, idtr : (base, limit). selectors : ES CS SS DS FS GS.
    cr0 : protected mode without paging and without NE, as old kernels have it: a monitor's own CR0 has NE.
    """

    memory: tuple[tuple[int, bytes], ...]
    gdtr: tuple[int, int]
    idtr: tuple[int, int]
    ldtr: int
    tr: int
    selectors: tuple[int, ...]
    cr0: int
    esp: int
    eip: int

    def descriptor(self, selector: int) -> int:
        """The descriptor that a selector of the GDT names, as a 64-bit number."""
        table = dict(self.memory)[self.gdtr[0]]
        at = selector & ~7
        return int.from_bytes(table[at : at + 8], "little")

    def gate(self, vector: int) -> d.Gate:
        table = dict(self.memory)[self.idtr[0]]
        return d.Gate.parse(table[vector * 8 : vector * 8 + 8])

    def hidden(self, selector: int) -> tuple[int, int, int, int]:
        """(selector, base, limit, flags) as a segment register holds it; flags as in the descriptor's second dword."""
        if selector & ~3 == 0:
            return (selector, 0, 0, 0)
        segment = d.Segment.parse(self.descriptor(selector))
        return (selector, segment.base, segment.limit, segment.hidden_flags)

    def segments(self) -> tuple[tuple[int, int, int, int], ...]:
        """ES CS SS DS FS GS LDTR TR with their hidden parts."""
        return tuple(self.hidden(selector) for selector in (*self.selectors, self.ldtr, self.tr))

    @property
    def stops(self) -> tuple[int, int]:
        """Where, besides the snippet's end, a run is over."""
        return (LANDING, GATE_HANDLER)

    @staticmethod
    def eflags(interrupts: bool) -> int:
        """EFLAGS at the start: ZF 0, IOPL 0."""
        return ONE | (IF if interrupts else 0)


def critical_environment() -> CriticalEnvironment:
    """Descriptor tables, task segment, far pointer and registers. The snippet itself goes to ``CODE``."""
    gdt = bytearray(TSS_SELECTOR + 8)
    for selector, descriptor in (
        (CODE_SELECTOR, d.flat_segment(code=True)),
        (DATA_SELECTOR, d.flat_segment(code=False)),
        (STACK_SELECTOR, d.flat_segment(code=False)),
        (TSS_SELECTOR, d.Segment(TSS, d.TSS32_BYTES - 1, d.TSS32_BUSY, system=True, big=False, granular=False)),
    ):
        gdt[selector : selector + 8] = descriptor.to_bytes()
    idt = bytearray(0x800)
    gate = d.Gate(CODE_SELECTOR, GATE_HANDLER, d.INTERRUPT_GATE32, dpl=3)
    idt[SYSTEM_CALL_VECTOR * 8 : SYSTEM_CALL_VECTOR * 8 + 8] = gate.to_bytes()
    pointer = LANDING.to_bytes(4, "little") + CODE_SELECTOR.to_bytes(2, "little")
    nops = b"\x90" * 32
    return CriticalEnvironment(
        memory=(
            (LANDING, nops),
            (FAR_POINTER, pointer),
            (TSS, d.build_tss(esp0=STACK, ss0=STACK_SELECTOR)),
            (IDT, bytes(idt)),
            (GDT, bytes(gdt)),
        ),
        gdtr=(GDT, len(gdt) - 1),
        idtr=(IDT, len(idt) - 1),
        ldtr=0,
        tr=TSS_SELECTOR,
        selectors=(DATA_SELECTOR, CODE_SELECTOR, STACK_SELECTOR, DATA_SELECTOR, DATA_SELECTOR, DATA_SELECTOR),
        cr0=CR0_PE | CR0_MP | CR0_ET,
        esp=STACK - STACK_ROOM,
        eip=CODE,
    )
