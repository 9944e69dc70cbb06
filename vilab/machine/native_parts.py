"""What the functions have in common that deal with an exit in machine code, in LLVM's assembly language.

::

    find(gva, bytes, need, unwanted)   where is that in the host's memory?   CR3 ─> directory ─> table ─> machine memory
    settle(linear)                     the exit is dealt with: no exception any more, what the block did not execute is
                                       given back, the exit's cost is charged
    read_time(executed)                EDX:EAX as RDTSC sets them
    take_flags(flags)                  arithmetic flags and DF, as IRET takes them from the stack

Each stands in the module of who calls it. All work on a saved context; ``time`` is as in ``time_cells``, ``cells`` as
in ``native``. ``find`` looks through the tables as the processor would, and wants two cells of its caller's (``more``):
MEMORY, the host address of the machine's memory, and SIZE_OF, its length in bytes.
"""

from __future__ import annotations

from vilab.machine import native, time_cells
from vilab.machine.context import CC_OP_EFLAGS, Layout

PRESENT, WRITABLE, USER = 1, 2, 4
ARITHMETIC, DF = 0x8D5, 0x400

FIND = """
define i64 @find(i8* %context, i64* %more, i64 %gva, i64 %bytes, i64 %need, i64 %unwanted) {{
entry:
  ; the host address of a linear one, 0 where the shadow tables do not allow the access
  %offset = and i64 %gva, 4095
  %end = add i64 %offset, %bytes
  %in_page = icmp ule i64 %end, 4096
  br i1 %in_page, label %directory, label %no
directory:
  %memory_p = getelementptr i64, i64* %more, i64 {MEMORY}
  %memory = load i64, i64* %memory_p
  %limit_p = getelementptr i64, i64* %more, i64 {SIZE_OF}
  %limit = load i64, i64* %limit_p
  %cr3_b = getelementptr i8, i8* %context, i64 {cr3}
  %cr3_p = bitcast i8* %cr3_b to i64*
  %cr3 = load i64, i64* %cr3_p
  %root = and i64 %cr3, 4294963200
  %pde_index = lshr i64 %gva, 22
  %pde_offset = shl i64 %pde_index, 2
  %pde_at = add i64 %root, %pde_offset
  %pde_host = add i64 %memory, %pde_at
  %pde_p = inttoptr i64 %pde_host to i32*
  %pde = load i32, i32* %pde_p
  %pde_bit = and i32 %pde, {PRESENT}
  %pde_present = icmp ne i32 %pde_bit, 0
  br i1 %pde_present, label %table, label %no
table:
  %pde_64 = zext i32 %pde to i64
  %frame = and i64 %pde_64, 4294963200
  %pte_number = lshr i64 %gva, 12
  %pte_index = and i64 %pte_number, 1023
  %pte_offset = shl i64 %pte_index, 2
  %pte_at = add i64 %frame, %pte_offset
  %pte_host = add i64 %memory, %pte_at
  %pte_p = inttoptr i64 %pte_host to i32*
  %pte = load i32, i32* %pte_p
  %pte_64 = zext i32 %pte to i64
  %looked_at = or i64 %need, %unwanted
  %rights = and i64 %pte_64, %looked_at
  %allowed = icmp eq i64 %rights, %need
  %page = and i64 %pte_64, 4294963200
  %mpa = or i64 %page, %offset
  %mpa_end = add i64 %mpa, %bytes
  %in_memory = icmp ule i64 %mpa_end, %limit
  %good = and i1 %allowed, %in_memory
  %host = add i64 %memory, %mpa
  br i1 %good, label %yes, label %no
yes:
  ret i64 %host
no:
  ret i64 0
}}
"""

SETTLE = """
define i64 @settle(i8* %context, i64* %time, i64 %linear) {{
entry:
  ; ``linear``: where the processor stands. Returns the bytes that have been executed.
  %old_b = getelementptr i8, i8* %context, i64 {old_exception}
  %old_p = bitcast i8* %old_b to i32*
  store i32 -1, i32* %old_p
  %software_b = getelementptr i8, i8* %context, i64 {software}
  %software_p = bitcast i8* %software_b to i32*
  store i32 0, i32* %software_p
  %cells_pp = getelementptr i64, i64* %time, i64 {CELLS_AT}
  %cells_i = load i64, i64* %cells_pp
  %cells = inttoptr i64 %cells_i to i64*
  %size_p = getelementptr i64, i64* %cells, i64 {SIZE}
  %size = load i64, i64* %size_p
  %block_p = getelementptr i64, i64* %cells, i64 {BLOCK}
  %block = load i64, i64* %block_p
  %done = sub i64 %linear, %block
  %in_block = icmp ult i64 %done, %size
  %rest = sub i64 %size, %done
  %refund = select i1 %in_block, i64 %rest, i64 0
  store i64 0, i64* %size_p
  %executed_before = load i64, i64* %cells
  %executed = sub i64 %executed_before, %refund
  store i64 %executed, i64* %cells
  %cost_p = getelementptr i64, i64* %time, i64 {COST_NS}
  %cost = load i64, i64* %cost_p
  %offset_p = getelementptr i64, i64* %time, i64 {OFFSET_NS}
  %offset_before = load i64, i64* %offset_p
  %offset_ns = add i64 %offset_before, %cost
  store i64 %offset_ns, i64* %offset_p
  %limit_p = getelementptr i64, i64* %cells, i64 {LIMIT}
  %limit_before = load i64, i64* %limit_p
  %limit = sub i64 %limit_before, %cost
  store i64 %limit, i64* %limit_p
  ret i64 %executed
}}
"""

READ_TIME = """
define void @read_time(i8* %context, i64* %time, i64 %executed) {{
entry:
  ; EDX:EAX, when so many bytes had been executed
  %offset_p = getelementptr i64, i64* %time, i64 {OFFSET_NS}
  %offset_ns = load i64, i64* %offset_p
  %now = add i64 %executed, %offset_ns
  %speed_p = getelementptr i64, i64* %time, i64 {TSC_PER_US}
  %speed = load i64, i64* %speed_p
  %thousands = mul i64 %now, %speed
  %tsc = udiv i64 %thousands, 1000
  %low = and i64 %tsc, 4294967295
  %high = lshr i64 %tsc, 32
  %eax_b = getelementptr i8, i8* %context, i64 {eax}
  %eax_p = bitcast i8* %eax_b to i64*
  store i64 %low, i64* %eax_p
  %edx_b = getelementptr i8, i8* %context, i64 {edx}
  %edx_p = bitcast i8* %edx_b to i64*
  store i64 %high, i64* %edx_p
  ret void
}}
"""

TAKE_FLAGS = """
define void @take_flags(i8* %context, i64 %flags) {{
entry:
  %arithmetic = and i64 %flags, {ARITHMETIC}
  %source_b = getelementptr i8, i8* %context, i64 {cc_src}
  %source_p = bitcast i8* %source_b to i64*
  store i64 %arithmetic, i64* %source_p
  %operation_b = getelementptr i8, i8* %context, i64 {cc_op}
  %operation_p = bitcast i8* %operation_b to i32*
  store i32 {CC_OP_EFLAGS}, i32* %operation_p
  %down_bit = and i64 %flags, {DF}
  %up = icmp eq i64 %down_bit, 0
  %direction = select i1 %up, i32 1, i32 -1
  %direction_b = getelementptr i8, i8* %context, i64 {df}
  %direction_p = bitcast i8* %direction_b to i32*
  store i32 %direction, i32* %direction_p
  ret void
}}
"""


def words(at: Layout) -> dict[str, object]:
    """What the parts have in braces, MEMORY and SIZE_OF excepted, and their callers with them."""
    return {
        "eip": at.eip, "eflags": at.eflags, "hflags": at.hflags, "eax": at.gpr, "edx": at.gpr + 16,
        "esp": at.gpr + 32, "software": at.error_code + 4, "old_exception": at.old_exception, "cc_src": at.cc_src,
        "cc_op": at.cc_op, "df": at.df, "cr3": at.cr + 24, "SIZE": native.SIZE, "BLOCK": native.BLOCK,
        "LIMIT": native.LIMIT, "PENDING": native.PENDING, "CC_OP_EFLAGS": CC_OP_EFLAGS, "ARITHMETIC": ARITHMETIC,
        "DF": DF, "PRESENT": PRESENT, "USER": USER, "CONTEXT": time_cells.CONTEXT, "CELLS_AT": time_cells.CELLS_AT,
        "COST_NS": time_cells.COST_NS, "OFFSET_NS": time_cells.OFFSET_NS, "TSC_PER_US": time_cells.TSC_PER_US,
    }  # fmt: skip
