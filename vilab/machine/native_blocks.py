"""Watching where new blocks of code begin.

Unicorn translates a block the first time that it is reached, and then calls a hook, before it runs the block. Who
knows of addresses where no instruction begins can so be told when one is jumped to; and since that is asked once for
each block that is ever made, it costs next to nothing. The hook is a few machine instructions again::

    new block at pc ──> marks[pc >> 12] ──> mark of the byte == UNWELCOME? ──yes──> Python
                                                    └─ no ──> run it

``marks`` has one 64-bit entry for each of the 2^20 linear pages: the host address of that page's 4,096 marks, or 0.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from vilab.machine import llvm

PAGES = 1 << 20
UNWELCOME = 2
FOUND, MARKS = range(2)
"""Cells: host addresses of the callback and of the table of marks."""

_IR = """
define void @on_new_block(i8* %uc, i64* %block, i8* %before, i64* %cells) {{
entry:
  %pc = load i64, i64* %block
  %page = lshr i64 %pc, 12
  %is_linear = icmp ult i64 %page, {PAGES}
  br i1 %is_linear, label %look, label %done
look:
  %marks_p = getelementptr i64, i64* %cells, i64 {MARKS}
  %marks_i = load i64, i64* %marks_p
  %marks = inttoptr i64 %marks_i to i64*
  %page_p = getelementptr i64, i64* %marks, i64 %page
  %page_i = load i64, i64* %page_p
  %known = icmp ne i64 %page_i, 0
  br i1 %known, label %mark, label %done
mark:
  %offset = and i64 %pc, 4095
  %mark_i = add i64 %page_i, %offset
  %mark_p = inttoptr i64 %mark_i to i8*
  %mark_v = load i8, i8* %mark_p
  %unwelcome = icmp eq i8 %mark_v, {UNWELCOME}
  br i1 %unwelcome, label %found, label %done
found:
  %found_p = getelementptr i64, i64* %cells, i64 {FOUND}
  %found_i = load i64, i64* %found_p
  %found_f = inttoptr i64 %found_i to void (i8*, i64*, i8*, i8*)*
  call void %found_f(i8* %uc, i64* %block, i8* %before, i8* null)
  ret void
done:
  ret void
}}
"""

_engine: Any = None


def compile_hook() -> int | None:
    """Machine-code address of the function; ``None`` where llvmlite is missing."""
    global _engine
    if _engine is None:
        _engine = llvm.compile_module(_IR, PAGES=PAGES, UNWELCOME=UNWELCOME, FOUND=FOUND, MARKS=MARKS)
    return None if _engine is None else int(_engine.get_function_address("on_new_block"))


def hook_in_python(marks: memoryview, found: Callable[[], None]) -> Callable[..., None]:
    """The same function in Python (uc, block, the block before, user data)."""

    def on_new_block(_uc: int, block: int, _before: int, _user_data: Any) -> None:
        pc = ctypes.c_uint64.from_address(block).value
        at = marks[pc >> 12] if pc >> 12 < PAGES else 0
        if at and ctypes.c_uint8.from_address(at + (pc & 0xFFF)).value == UNWELCOME:
            found()

    return on_new_block
