"""A register in memory that is read without Python.

A small kernel asks its local APIC for its number in every function that wants to know on which processor it is:
millions of loads in an idle loop. A register whose value changes only when somebody writes it is like memory. So the
function that Unicorn calls on a load above memory is a few machine instructions that know one such register, and leave
all others to Python::

    load ──> the register at AT, 32 bits wide? ──yes──> VALUE
                  └─ no ──> Cpu._on_mmio_read (Python)

    cell  name    meaning
    0     AT      offset of the register from the end of memory; -1: there is none
    1     VALUE   what it reads

Without llvmlite ``Cpu`` looks at the same cells.
"""

from __future__ import annotations

from typing import Any

from vilab.machine import llvm

AT, VALUE = range(2)
CELLS = 2
WIDTH_BYTES = 4

_IR = """
define i64 @on_load(i8* %uc, i64 %offset, i32 %size, i64* %cells) {{
entry:
  %at = load i64, i64* %cells
  %here = icmp eq i64 %at, %offset
  %whole = icmp eq i32 %size, {WIDTH_BYTES}
  %known = and i1 %here, %whole
  br i1 %known, label %answer, label %python
answer:
  %value_p = getelementptr i64, i64* %cells, i64 {VALUE}
  %value = load i64, i64* %value_p
  ret i64 %value
python:
  %python_p = getelementptr i64, i64* %cells, i64 {CELLS}
  %python_i = load i64, i64* %python_p
  %python_f = inttoptr i64 %python_i to i64 (i8*, i64, i32, i8*)*
  %given = call i64 %python_f(i8* %uc, i64 %offset, i32 %size, i8* null)
  ret i64 %given
}}
"""

_engine: Any = None


def compile_hook() -> int | None:
    """Machine-code address of the function; ``None`` without llvmlite. Behind the cells it wants Python's address."""
    global _engine
    if _engine is None:
        _engine = llvm.compile_module(_IR, WIDTH_BYTES=WIDTH_BYTES, VALUE=VALUE, CELLS=CELLS)
    return None if _engine is None else int(_engine.get_function_address("on_load"))
