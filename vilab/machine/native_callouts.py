"""What a guest's kernel calls out for all the time, without Python, where an INT3 in its mirrored code stands for it.

A kernel switches interrupts off and on hundreds of thousands of times while it boots. Behind ``native_time`` the
function here takes such an INT3, if the engine has said which instruction is there, and does what the engine would::

    table[EIP & ffff] == EIP << 8 | what ?
        CLI, STI    IF <- 0, IF <- 1
        RDTSC       EDX:EAX <- time
        PUSH CS     one dword on the stack, if the shadow tables let the processor store there
        IRET        EIP, EFLAGS, ESP popped, if CS and its descriptor are what they were and the place is known
        MOV, POP    of DS, ES, FS, GS: the hidden part that the same selector and the same descriptor gave before
        anything else, or none of those ──> Cpu._on_interrupt (Python)

Stack and descriptor are looked up as the processor would, through the shadow tables that CR3 points to. It works on
cells of its own::

    cell  name        meaning
    0     RING_0      nonzero: the guest is in ring 0, in its mirrors
    1     CS_BASE     the CPU's base of CS that the entries of the tables were made for
    2     SHADOW      bytes executed when an STI was done: there no interrupt is taken yet
    3     TABLE       host address of the table's 65,536 entries
    4     PYTHON      host address of the callback for everything else
    5     MEMORY      host address of the machine's memory,
    6     SIZE_OF     and its length in bytes
    7     SELECTOR    the guest's CS
    8     DESCRIPTOR  what CS was loaded from; 0: unknown
    9     LOADED_FROM and the linear address of that
    10    LANDINGS    host address of 4,096 entries: EIP + 1 of a place that IRET may lead to
    11    SEGMENTS    host address of four slots for each segment register: what a selector has become
    12    DONE        how many of each kind were dealt with here: CLI, STI, RDTSC, PUSH CS, IRET, MOV, POP

    slot  KEY         selector + 1; 0: nothing is known
          BASE, LIMIT hidden part; LIMIT has the flags in its upper half
          RAW, AT     the descriptor, and its linear address; 0 for a null selector, which has none

An STI while an interrupt waits goes to Python, for what follows is the engine's business.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vilab.machine import llvm, native_time, time_cells
from vilab.machine import native_parts as parts
from vilab.machine.context import BASE, FLAGS, SEGMENT_BYTES, Layout
from vilab.machine.context import LIMIT as CACHED_LIMIT

(RING_0, CS_BASE, SHADOW, TABLE, PYTHON, MEMORY, SIZE_OF, SELECTOR, DESCRIPTOR, LOADED_FROM, LANDINGS, SEGMENTS,
 DONE) = range(13)  # fmt: skip
CLI, STI, RDTSC, PUSH_CS, IRET, MOV_SEG, POP_SEG = range(7)
KINDS = ("cli", "sti", "rdtsc", "push seg", "iret", "mov to seg", "pop seg")
CELLS = DONE + len(KINDS)
KEY, SLOT_BASE, SLOT_LIMIT, SLOT_RAW, SLOT_AT = range(5)
SLOT_CELLS, SLOTS = 8, 4
SEGMENT_CELLS = 6 * SLOTS * SLOT_CELLS
POP_OF, MOV_OF = 8, 64
"""In the table: POP is ``POP_OF`` + the segment register's number, MOV ``MOV_OF`` + 8 times that + the register's."""
FS = 4
ENTRIES, LANDING_ENTRIES = 1 << 16, 1 << 12
SIZES = CELLS, ENTRIES, LANDING_ENTRIES, SEGMENT_CELLS
IF = 0x200
MORE_OF_RDTSC = 1
"""RDTSC has a second byte behind the INT3."""
SS = 2
BIG = 1 << 22
NT = 1 << 14
IRET_TAKES = 0x257FD5
"""What IRET in ring 0 takes from the stack: ID AC RF NT IOPL OF DF IF TF and the arithmetic flags."""
IRET_ODD = 0x1A4100
"""TF NT VM VIF VIP: with one of them on the stack IRET goes to Python."""
IRET_KEEPS = ~0x3F7FD5


class Tables(NamedTuple):
    """All in signed 64-bit cells; ``SIZES`` says how many."""

    cells: memoryview
    table: memoryview
    landings: memoryview
    segments: memoryview


_IR = """
define void @on_callout(i8* %uc, i32 %number, i8* %time_b) {{
entry:
  %time = bitcast i8* %time_b to i64*
  %more_pp = getelementptr i64, i64* %time, i64 {MORE_AT}
  %more_i = load i64, i64* %more_pp
  %more = inttoptr i64 %more_i to i64*
  %on = load i64, i64* %time
  %is_on = icmp eq i64 %on, {OF_MIRRORS}
  %is_breakpoint = icmp eq i32 %number, {breakpoint}
  %maybe = and i1 %is_on, %is_breakpoint
  br i1 %maybe, label %look, label %python
look:
  %ring_p = getelementptr i64, i64* %more, i64 {RING_0}
  %ring = load i64, i64* %ring_p
  %in_ring_0 = icmp ne i64 %ring, 0
  br i1 %in_ring_0, label %save, label %python
save:
  %context_p = getelementptr i64, i64* %time, i64 {CONTEXT}
  %context_i = load i64, i64* %context_p
  %context = inttoptr i64 %context_i to i8*
  %save_f = inttoptr i64 {save} to i32 (i8*, i8*)*
  %saved = call i32 %save_f(i8* %uc, i8* %context)
  %eip_b = getelementptr i8, i8* %context, i64 {eip}
  %eip_p = bitcast i8* %eip_b to i64*
  %eip = load i64, i64* %eip_p
  %cs_b = getelementptr i8, i8* %context, i64 {cs_base}
  %cs_p = bitcast i8* %cs_b to i64*
  %cs = load i64, i64* %cs_p
  %base_p = getelementptr i64, i64* %more, i64 {CS_BASE}
  %base = load i64, i64* %base_p
  %same_base = icmp eq i64 %base, %cs
  br i1 %same_base, label %search, label %python
search:
  %at = sub i64 %eip, 1
  %index = and i64 %at, 65535
  %table_p = getelementptr i64, i64* %more, i64 {TABLE}
  %table_i = load i64, i64* %table_p
  %table = inttoptr i64 %table_i to i64*
  %entry_p = getelementptr i64, i64* %table, i64 %index
  %entry_v = load i64, i64* %entry_p
  %entry_eip = lshr i64 %entry_v, 8
  %known = icmp eq i64 %entry_eip, %at
  %what = and i64 %entry_v, 255
  br i1 %known, label %which, label %python
which:
  %cells_pp = getelementptr i64, i64* %time, i64 {CELLS_AT}
  %cells_i = load i64, i64* %cells_pp
  %cells = inttoptr i64 %cells_i to i64*
  %esp_b = getelementptr i8, i8* %context, i64 {esp}
  %esp_p = bitcast i8* %esp_b to i64*
  %esp = load i64, i64* %esp_p
  %ss_b = getelementptr i8, i8* %context, i64 {ss_base}
  %ss_p = bitcast i8* %ss_b to i64*
  %ss = load i64, i64* %ss_p
  %ss_flags_b = getelementptr i8, i8* %context, i64 {ss_flags}
  %ss_flags_p = bitcast i8* %ss_flags_b to i32*
  %ss_flags = load i32, i32* %ss_flags_p
  %ss_big = and i32 %ss_flags, {BIG}
  %big = icmp ne i32 %ss_big, 0
  %flags_b = getelementptr i8, i8* %context, i64 {eflags}
  %flags_p = bitcast i8* %flags_b to i64*
  %flags_found = load i64, i64* %flags_p
  %flags = and i64 %flags_found, {lazy_flags_gone}
  %is_segment = icmp uge i64 %what, {POP_OF}
  %is_mov = icmp uge i64 %what, {MOV_OF}
  %segment_kind = select i1 %is_mov, i64 {MOV_SEG}, i64 {POP_SEG}
  %kind = select i1 %is_segment, i64 %segment_kind, i64 %what
  %low_bits = and i64 %what, 7
  %mov_shifted = lshr i64 %what, 3
  %mov_segment = and i64 %mov_shifted, 7
  %segment = select i1 %is_mov, i64 %mov_segment, i64 %low_bits
  %long_pop = icmp uge i64 %segment, {FS}
  %two_bytes = or i1 %is_mov, %long_pop
  %segment_more = select i1 %two_bytes, i64 1, i64 0
  %records_b = getelementptr i8, i8* %context, i64 {segment_records}
  %record_offset = mul i64 %segment, {SEGMENT_BYTES}
  %record_b = getelementptr i8, i8* %records_b, i64 %record_offset
  %record_p = bitcast i8* %record_b to i64*
  switch i64 %kind, label %do [ i64 {MOV_SEG}, label %can_mov
                                i64 {POP_SEG}, label %can_pop
                                i64 {STI}, label %can_sti
                                i64 {PUSH_CS}, label %can_push
                                i64 {IRET}, label %can_iret ]
can_sti:
  %pending_p = getelementptr i64, i64* %cells, i64 {PENDING}
  %pending = load i64, i64* %pending_p
  %waits = icmp ne i64 %pending, 0
  br i1 %waits, label %python, label %do
can_push:
  br i1 %big, label %find_push, label %python
find_push:
  %esp_pushed_sum = sub i64 %esp, 4
  %esp_pushed = and i64 %esp_pushed_sum, 4294967295
  %push_sum = add i64 %ss, %esp_pushed
  %push_at = and i64 %push_sum, 4294967295
  %push_host = call i64 @find(i8* %context, i64* %more, i64 %push_at, i64 4, i64 {WRITE_NEEDS}, i64 {USER})
  %push_found = icmp ne i64 %push_host, 0
  br i1 %push_found, label %do, label %python
can_iret:
  %nt = and i64 %flags_found, {NT}
  %no_task = icmp eq i64 %nt, 0
  %usual = and i1 %no_task, %big
  br i1 %usual, label %find_frame, label %python
find_frame:
  %frame_sum = add i64 %ss, %esp
  %frame_at = and i64 %frame_sum, 4294967295
  %frame_host = call i64 @find(i8* %context, i64* %more, i64 %frame_at, i64 12, i64 {PRESENT}, i64 0)
  %frame_found = icmp ne i64 %frame_host, 0
  br i1 %frame_found, label %read_frame, label %python
read_frame:
  %frame_p = inttoptr i64 %frame_host to i32*
  %new_eip_32 = load i32, i32* %frame_p
  %new_eip = zext i32 %new_eip_32 to i64
  %frame_cs_p = getelementptr i32, i32* %frame_p, i64 1
  %frame_cs_32 = load i32, i32* %frame_cs_p
  %frame_cs_low = and i32 %frame_cs_32, 65535
  %frame_cs = zext i32 %frame_cs_low to i64
  %frame_flags_p = getelementptr i32, i32* %frame_p, i64 2
  %frame_flags_32 = load i32, i32* %frame_flags_p
  %frame_flags = zext i32 %frame_flags_32 to i64
  %odd = and i64 %frame_flags, {IRET_ODD}
  %plain = icmp eq i64 %odd, 0
  %selector_p = getelementptr i64, i64* %more, i64 {SELECTOR}
  %selector = load i64, i64* %selector_p
  %same_selector = icmp eq i64 %selector, %frame_cs
  %descriptor_p = getelementptr i64, i64* %more, i64 {DESCRIPTOR}
  %descriptor = load i64, i64* %descriptor_p
  %is_known = icmp ne i64 %descriptor, 0
  %landings_p = getelementptr i64, i64* %more, i64 {LANDINGS}
  %landings_i = load i64, i64* %landings_p
  %landings = inttoptr i64 %landings_i to i64*
  %landing_index = and i64 %new_eip, {LANDING_MASK}
  %landing_p = getelementptr i64, i64* %landings, i64 %landing_index
  %landing = load i64, i64* %landing_p
  %landing_eip = sub i64 %landing, 1
  %lands = icmp eq i64 %landing_eip, %new_eip
  %so_far = and i1 %plain, %same_selector
  %further = and i1 %is_known, %lands
  %all = and i1 %so_far, %further
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
  %unchanged = icmp eq i64 %raw, %descriptor
  br i1 %unchanged, label %do, label %python
can_mov:
  %registers_b = getelementptr i8, i8* %context, i64 {eax}
  %registers_p = bitcast i8* %registers_b to i64*
  %register_p = getelementptr i64, i64* %registers_p, i64 %low_bits
  %register = load i64, i64* %register_p
  br label %find_slot
can_pop:
  br i1 %big, label %find_top, label %python
find_top:
  %top_sum = add i64 %ss, %esp
  %top_at = and i64 %top_sum, 4294967295
  %top_host = call i64 @find(i8* %context, i64* %more, i64 %top_at, i64 4, i64 {PRESENT}, i64 0)
  %top_found = icmp ne i64 %top_host, 0
  br i1 %top_found, label %read_top, label %python
read_top:
  %top_p = inttoptr i64 %top_host to i32*
  %top_32 = load i32, i32* %top_p, align 1
  %top = zext i32 %top_32 to i64
  %esp_up_sum = add i64 %esp, 4
  %esp_up = and i64 %esp_up_sum, 4294967295
  br label %find_slot
find_slot:
  %loaded_wide = phi i64 [ %register, %can_mov ], [ %top, %read_top ]
  %esp_segment = phi i64 [ %esp, %can_mov ], [ %esp_up, %read_top ]
  %loaded = and i64 %loaded_wide, 65535
  %slots_pp = getelementptr i64, i64* %more, i64 {SEGMENTS}
  %slots_i = load i64, i64* %slots_pp
  %slots = inttoptr i64 %slots_i to i64*
  %loaded_number = lshr i64 %loaded, 3
  %slot_of = and i64 %loaded_number, {SLOT_MASK}
  %slot_first = mul i64 %segment, {SLOTS}
  %slot_number = add i64 %slot_first, %slot_of
  %slot_offset = mul i64 %slot_number, {SLOT_CELLS}
  %slot = getelementptr i64, i64* %slots, i64 %slot_offset
  %key = load i64, i64* %slot
  %key_wanted = add i64 %loaded, 1
  %same_key = icmp eq i64 %key, %key_wanted
  %slot_base_p = getelementptr i64, i64* %slot, i64 {SLOT_BASE}
  %slot_base = load i64, i64* %slot_base_p
  %slot_limit_p = getelementptr i64, i64* %slot, i64 {SLOT_LIMIT}
  %slot_limit = load i64, i64* %slot_limit_p
  %record_base_p = getelementptr i64, i64* %record_p, i64 {record_base}
  %record_base_v = load i64, i64* %record_base_p
  %same_segment_base = icmp eq i64 %record_base_v, %slot_base
  %may_move = icmp uge i64 %segment, {FS}
  %mode_kept = or i1 %same_segment_base, %may_move
  %hit = and i1 %same_key, %mode_kept
  br i1 %hit, label %which_descriptor, label %python
which_descriptor:
  %slot_at_p = getelementptr i64, i64* %slot, i64 {SLOT_AT}
  %slot_at = load i64, i64* %slot_at_p
  %is_null = icmp eq i64 %slot_at, 0
  br i1 %is_null, label %do, label %find_segment
find_segment:
  %segment_host = call i64 @find(i8* %context, i64* %more, i64 %slot_at, i64 8, i64 {PRESENT}, i64 0)
  %segment_found = icmp ne i64 %segment_host, 0
  br i1 %segment_found, label %compare_segment, label %python
compare_segment:
  %segment_raw_p = inttoptr i64 %segment_host to i64*
  %segment_raw = load i64, i64* %segment_raw_p, align 1
  %slot_raw_p = getelementptr i64, i64* %slot, i64 {SLOT_RAW}
  %slot_raw = load i64, i64* %slot_raw_p
  %segment_unchanged = icmp eq i64 %segment_raw, %slot_raw
  br i1 %segment_unchanged, label %do, label %python
do:
  %push_to = phi i64 [ 0, %which ], [ 0, %can_sti ], [ %push_host, %find_push ], [ 0, %compare ],
                     [ 0, %which_descriptor ], [ 0, %compare_segment ]
  %esp_new = phi i64 [ 0, %which ], [ 0, %can_sti ], [ %esp_pushed, %find_push ], [ 0, %compare ],
                     [ %esp_segment, %which_descriptor ], [ %esp_segment, %compare_segment ]
  %eip_iret = phi i64 [ 0, %which ], [ 0, %can_sti ], [ 0, %find_push ], [ %new_eip, %compare ],
                      [ 0, %which_descriptor ], [ 0, %compare_segment ]
  %flags_popped = phi i64 [ 0, %which ], [ 0, %can_sti ], [ 0, %find_push ], [ %frame_flags, %compare ],
                          [ 0, %which_descriptor ], [ 0, %compare_segment ]
  %hidden_base = phi i64 [ 0, %which ], [ 0, %can_sti ], [ 0, %find_push ], [ 0, %compare ],
                         [ %slot_base, %which_descriptor ], [ %slot_base, %compare_segment ]
  %hidden_limit = phi i64 [ 0, %which ], [ 0, %can_sti ], [ 0, %find_push ], [ 0, %compare ],
                          [ %slot_limit, %which_descriptor ], [ %slot_limit, %compare_segment ]
  %new_selector = phi i64 [ 0, %which ], [ 0, %can_sti ], [ 0, %find_push ], [ 0, %compare ],
                          [ %loaded, %which_descriptor ], [ %loaded, %compare_segment ]
  %sum = add i64 %eip, %cs
  %linear = and i64 %sum, 4294967295
  %executed = call i64 @settle(i8* %context, i64* %time, i64 %linear)
  %counts = getelementptr i64, i64* %more, i64 {DONE}
  %count_p = getelementptr i64, i64* %counts, i64 %kind
  %count_before = load i64, i64* %count_p
  %count = add i64 %count_before, 1
  store i64 %count, i64* %count_p
  switch i64 %kind, label %cli [ i64 {MOV_SEG}, label %load_segment
                                 i64 {POP_SEG}, label %load_segment
                                 i64 {STI}, label %sti
                                 i64 {RDTSC}, label %rdtsc
                                 i64 {PUSH_CS}, label %push_cs
                                 i64 {IRET}, label %iret ]
cli:
  %flags_off = and i64 %flags, {not_if}
  br label %done_so
sti:
  %flags_on = or i64 %flags, {IF}
  %shadow_p = getelementptr i64, i64* %more, i64 {SHADOW}
  %shadow = load i64, i64* %shadow_p
  %before_this = sub i64 %executed, 1
  %shadowed = icmp eq i64 %shadow, %before_this
  %new_shadow = select i1 %shadowed, i64 %shadow, i64 %executed
  store i64 %new_shadow, i64* %shadow_p
  br label %done_so
rdtsc:
  %eip_sum = add i64 %eip, {MORE_OF_RDTSC}
  %eip_behind = and i64 %eip_sum, 4294967295
  store i64 %eip_behind, i64* %eip_p
  call void @read_time(i8* %context, i64* %time, i64 %executed)
  br label %done_so
push_cs:
  %own_p = getelementptr i64, i64* %more, i64 {SELECTOR}
  %own = load i64, i64* %own_p
  %own_32 = trunc i64 %own to i32
  %push_p = inttoptr i64 %push_to to i32*
  store i32 %own_32, i32* %push_p, align 1
  store i64 %esp_new, i64* %esp_p
  br label %done_so
load_segment:
  %segment_eip_sum = add i64 %eip, %segment_more
  %segment_eip = and i64 %segment_eip_sum, 4294967295
  store i64 %segment_eip, i64* %eip_p
  store i64 %esp_new, i64* %esp_p
  %new_selector_32 = trunc i64 %new_selector to i32
  %record_selector_p = bitcast i64* %record_p to i32*
  store i32 %new_selector_32, i32* %record_selector_p
  %hidden_base_p = getelementptr i64, i64* %record_p, i64 {record_base}
  store i64 %hidden_base, i64* %hidden_base_p
  %hidden_limit_p = getelementptr i64, i64* %record_p, i64 {record_limit}
  store i64 %hidden_limit, i64* %hidden_limit_p
  br label %done_so
iret:
  store i64 %eip_iret, i64* %eip_p
  %esp_popped_sum = add i64 %esp, 12
  %esp_popped = and i64 %esp_popped_sum, 4294967295
  store i64 %esp_popped, i64* %esp_p
  %taken = and i64 %flags_popped, {IRET_TAKES}
  call void @take_flags(i8* %context, i64 %taken)
  %kept = and i64 %flags, {IRET_KEEPS}
  %taken_rest = and i64 %taken, {lazy_flags_gone}
  %flags_iret = or i64 %kept, %taken_rest
  br label %done_so
done_so:
  %new_flags = phi i64 [ %flags_off, %cli ], [ %flags_on, %sti ], [ %flags, %rdtsc ], [ %flags, %push_cs ],
                       [ %flags, %load_segment ], [ %flags_iret, %iret ]
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


def compile_hook(save: int, restore: int, at: Layout) -> int | None:
    """Machine-code address of the function; ``None`` where llvmlite is missing.

    Parameters
    ----------
    save, restore : addresses of ``uc_context_save`` and ``uc_context_restore`` in this process.
    at : where the registers are in the context.
    """
    global _engine
    if _engine is None:
        own = ("RING_0", "CS_BASE", "SHADOW", "TABLE", "PYTHON", "MEMORY", "SIZE_OF", "SELECTOR", "DESCRIPTOR",
               "LOADED_FROM", "LANDINGS", "SEGMENTS", "DONE", "STI", "RDTSC", "PUSH_CS", "IRET", "MOV_SEG", "POP_SEG",
               "POP_OF", "MOV_OF", "SLOTS", "SLOT_CELLS", "SLOT_BASE", "SLOT_LIMIT", "SLOT_RAW", "SLOT_AT", "FS",
               "SEGMENT_BYTES", "IF", "MORE_OF_RDTSC", "BIG", "NT", "IRET_TAKES", "IRET_ODD", "IRET_KEEPS")  # fmt: skip
        ss, cs = at.segments + SS * SEGMENT_BYTES, at.segments + native_time.CS * SEGMENT_BYTES
        _engine = llvm.compile_module(
            parts.FIND + parts.SETTLE + parts.READ_TIME + parts.TAKE_FLAGS + _IR, save=save, restore=restore,
            breakpoint=native_time.BREAKPOINT, cs_base=cs + BASE, ss_base=ss + BASE, ss_flags=ss + FLAGS,
            segment_records=at.segments, record_base=BASE // 8, record_limit=CACHED_LIMIT // 8, SLOT_MASK=SLOTS - 1,
            lazy_flags_gone=native_time.LAZY_FLAGS_GONE, not_if=~IF, LANDING_MASK=LANDING_ENTRIES - 1,
            WRITE_NEEDS=parts.PRESENT | parts.WRITABLE, MORE_AT=time_cells.MORE_AT, OF_MIRRORS=time_cells.OF_MIRRORS,
            **parts.words(at), **{name: globals()[name] for name in own},
        )  # fmt: skip
    return None if _engine is None else int(_engine.get_function_address("on_callout"))
