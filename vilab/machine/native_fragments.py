"""IRET to the next instruction without Python, where an INT3 in the translation cache stands for it.

Kernels serialize the processor so after they have changed code: tens of thousands of times in a boot. Behind
``native_time`` the function here takes such an INT3, if the engine has said that it is one, and does what the engine
would::

    sites[EIP & fff] == EIP << 32 | guest's EIP behind ?
        the stack's EIP is that one, its CS and the descriptor are what they were, its flags are plain,
        and no interrupt waits for IF ──> ESP, flags; on behind the INT3
        anything else ──> Cpu._on_interrupt (Python)

Stack and descriptor are looked up as the processor would, through the shadow tables that CR3 points to. It works on
cells of its own::

    cell  name        meaning
    0     SITES       host address of 4,096 entries
    1     FLAGS_AT    host address of the monitor's word with the guest's IF
    2     SELECTOR    the guest's CS
    3     DESCRIPTOR  what CS was loaded from,
    4     LOADED_FROM and the linear address of that
    5     MEMORY      host address of the machine's memory,
    6     SIZE_OF     and its length in bytes
    7     PYTHON      host address of the callback for everything else
    8     IRETS       how many were dealt with here
"""

from __future__ import annotations

from typing import Any

from vilab.machine import llvm, native_time, time_cells
from vilab.machine import native_parts as parts
from vilab.machine.context import Layout

SITES, FLAGS_AT, SELECTOR, DESCRIPTOR, LOADED_FROM, MEMORY, SIZE_OF, PYTHON, IRETS = range(9)
CELLS = 9
SITE_ENTRIES = 1 << 12
IF, NT = 0x200, 1 << 14
ODD = 0x37100
"""TF IOPL NT RF VM: with one of them on the stack IRET goes to Python."""
TAKEN = 0x3C0000
"""AC VIF VIP ID: what goes to the processor's EFLAGS as it is."""
ALWAYS = IF | 2
"""In the processor's EFLAGS; the guest's own IF is the monitor's word."""

_ON_BREAKPOINT = """
define void @on_breakpoint(i8* %uc, i32 %number, i8* %time_b) {{
entry:
  %time = bitcast i8* %time_b to i64*
  %more_pp = getelementptr i64, i64* %time, i64 {MORE_AT}
  %more_i = load i64, i64* %more_pp
  %more = inttoptr i64 %more_i to i64*
  %on = load i64, i64* %time
  %is_on = icmp eq i64 %on, {OF_CACHE}
  %is_breakpoint = icmp eq i32 %number, {breakpoint}
  %maybe = and i1 %is_on, %is_breakpoint
  br i1 %maybe, label %search, label %python
search:
  ; native_time has saved the context
  %context_p = getelementptr i64, i64* %time, i64 {CONTEXT}
  %context_i = load i64, i64* %context_p
  %context = inttoptr i64 %context_i to i8*
  %eip_b = getelementptr i8, i8* %context, i64 {eip}
  %eip_p = bitcast i8* %eip_b to i64*
  %eip = load i64, i64* %eip_p
  %index = and i64 %eip, {SITE_MASK}
  %sites_p = getelementptr i64, i64* %more, i64 {SITES}
  %sites_i = load i64, i64* %sites_p
  %sites = inttoptr i64 %sites_i to i64*
  %site_p = getelementptr i64, i64* %sites, i64 %index
  %site = load i64, i64* %site_p
  %site_eip = lshr i64 %site, 32
  %known = icmp eq i64 %site_eip, %eip
  br i1 %known, label %state, label %python
state:
  %hflags_b = getelementptr i8, i8* %context, i64 {hflags}
  %hflags_p = bitcast i8* %hflags_b to i32*
  %hflags = load i32, i32* %hflags_p
  %ring = and i32 %hflags, {RINGS}
  %in_ring_1 = icmp eq i32 %ring, {RING_1}
  %flags_b = getelementptr i8, i8* %context, i64 {eflags}
  %flags_p = bitcast i8* %flags_b to i64*
  %flags = load i64, i64* %flags_p
  %nt = and i64 %flags, {NT}
  %no_task = icmp eq i64 %nt, 0
  %usual = and i1 %in_ring_1, %no_task
  br i1 %usual, label %find_frame, label %python
find_frame:
  %esp_b = getelementptr i8, i8* %context, i64 {esp}
  %esp_p = bitcast i8* %esp_b to i64*
  %esp_found = load i64, i64* %esp_p
  %esp = and i64 %esp_found, 4294967295
  %frame_host = call i64 @find(i8* %context, i64* %more, i64 %esp, i64 12, i64 {PRESENT}, i64 0)
  %frame_found = icmp ne i64 %frame_host, 0
  br i1 %frame_found, label %read_frame, label %python
read_frame:
  %frame_p = inttoptr i64 %frame_host to i32*
  %new_eip_32 = load i32, i32* %frame_p, align 1
  %new_eip = zext i32 %new_eip_32 to i64
  %behind = and i64 %site, 4294967295
  %to_behind = icmp eq i64 %new_eip, %behind
  %frame_cs_p = getelementptr i32, i32* %frame_p, i64 1
  %frame_cs_32 = load i32, i32* %frame_cs_p, align 1
  %frame_cs_low = and i32 %frame_cs_32, 65535
  %frame_cs = zext i32 %frame_cs_low to i64
  %selector_p = getelementptr i64, i64* %more, i64 {SELECTOR}
  %selector = load i64, i64* %selector_p
  %same_selector = icmp eq i64 %selector, %frame_cs
  %frame_flags_p = getelementptr i32, i32* %frame_p, i64 2
  %frame_flags_32 = load i32, i32* %frame_flags_p, align 1
  %frame_flags = zext i32 %frame_flags_32 to i64
  %odd = and i64 %frame_flags, {ODD}
  %plain = icmp eq i64 %odd, 0
  %cells_pp = getelementptr i64, i64* %time, i64 {CELLS_AT}
  %cells_i = load i64, i64* %cells_pp
  %cells = inttoptr i64 %cells_i to i64*
  %pending_p = getelementptr i64, i64* %cells, i64 {PENDING}
  %pending = load i64, i64* %pending_p
  %nobody_waits = icmp eq i64 %pending, 0
  %good_place = and i1 %to_behind, %same_selector
  %good_flags = and i1 %plain, %nobody_waits
  %all = and i1 %good_place, %good_flags
  br i1 %all, label %find_descriptor, label %python
find_descriptor:
  %loaded_from_p = getelementptr i64, i64* %more, i64 {LOADED_FROM}
  %loaded_from = load i64, i64* %loaded_from_p
  %gdt_host = call i64 @find(i8* %context, i64* %more, i64 %loaded_from, i64 8, i64 {PRESENT}, i64 0)
  %gdt_found = icmp ne i64 %gdt_host, 0
  br i1 %gdt_found, label %compare, label %python
compare:
  %raw_p = inttoptr i64 %gdt_host to i64*
  %raw = load i64, i64* %raw_p, align 1
  %descriptor_p = getelementptr i64, i64* %more, i64 {DESCRIPTOR}
  %descriptor = load i64, i64* %descriptor_p
  %unchanged = icmp eq i64 %raw, %descriptor
  br i1 %unchanged, label %do, label %python
do:
  %executed = call i64 @settle(i8* %context, i64* %time, i64 %eip)
  %count_p = getelementptr i64, i64* %more, i64 {IRETS}
  %count_before = load i64, i64* %count_p
  %count = add i64 %count_before, 1
  store i64 %count, i64* %count_p
  %esp_popped_sum = add i64 %esp, 12
  %esp_popped = and i64 %esp_popped_sum, 4294967295
  store i64 %esp_popped, i64* %esp_p
  %word_pp = getelementptr i64, i64* %more, i64 {FLAGS_AT}
  %word_i = load i64, i64* %word_pp
  %word_p = inttoptr i64 %word_i to i32*
  %if_32 = and i32 %frame_flags_32, {IF}
  store i32 %if_32, i32* %word_p
  call void @take_flags(i8* %context, i64 %frame_flags)
  %taken = and i64 %frame_flags, {TAKEN}
  %new_flags = or i64 %taken, {ALWAYS}
  store i64 %new_flags, i64* %flags_p
  %restore = inttoptr i64 {restore} to i32 (i8*, i8*)*
  %restored = call i32 %restore(i8* %uc, i8* %context)
  ret void
python:
  %python_p = getelementptr i64, i64* %more, i64 {PYTHON}
  %python_i = load i64, i64* %python_p
  %python_f = inttoptr i64 %python_i to void (i8*, i32, i8*)*
  call void %python_f(i8* %uc, i32 %number, i8* null)
  ret void
}}
"""

_engine: Any = None


def compile_hook(restore: int, at: Layout) -> int | None:
    """Machine-code address of the function; ``None`` where llvmlite is missing.

    Parameters
    ----------
    restore : address of ``uc_context_restore`` in this process.
    at : where the registers are in the context.
    """
    global _engine
    if _engine is None:
        own = ("SITES", "FLAGS_AT", "SELECTOR", "DESCRIPTOR", "LOADED_FROM", "MEMORY", "SIZE_OF", "PYTHON", "IRETS",
               "IF", "NT", "ODD", "TAKEN", "ALWAYS")  # fmt: skip
        _engine = llvm.compile_module(
            parts.FIND + parts.SETTLE + parts.TAKE_FLAGS + _ON_BREAKPOINT, restore=restore,
            breakpoint=native_time.BREAKPOINT, SITE_MASK=SITE_ENTRIES - 1, RING_1=native_time.RING_1,
            RINGS=native_time.RINGS, MORE_AT=time_cells.MORE_AT, OF_CACHE=time_cells.OF_CACHE, **parts.words(at),
            **{name: globals()[name] for name in own},
        )  # fmt: skip
    return None if _engine is None else int(_engine.get_function_address("on_breakpoint"))
