"""The world that random programs run in: tables, handlers, stacks and pages of every kind, in 256 KB.

::

    linear   pages  what                              linear   pages  what
    01000    1      GDT                               10000    2      user code       U W
    02000    1      IDT                               12000    1      not present
    03000    1      TSS, LDT                          13000    1      user stack      U W
    04000    3      page tables; not mapped here      14000    1      data            U W
    07000    1      exception handlers                15000    1      data            S W
    08000    2      kernel stack                      16000    1      data            U, read-only
    0a000    1      what the handlers recorded        17000    1      data            S, read-only
    0c000    2      kernel code     S W               18000    1      not present
    0e000    1      not present                       19000    1      data            U W
    0f000    1      data            U W               20000    8      recovery tables
                                                      28000    2      two functions, seen at 34000 one at a time
    30000    2      kernel code again    32000  1     user code again   34000  1  page 28 or 29
    7a5c3000 3      the page tables, so far away that no stray store finds them

Every vector has a handler. It records what happened and goes on: after a fault at the next *slot* of the program
(``recovery tables``: for each byte of a code page, where the next slot begins), after a trap or an interrupt where it
was. ``int 80h`` returns from ring 3 to the kernel at ``KRESUME``. When 40 events are recorded the guest halts.
"""

from __future__ import annotations

import struct
from functools import cache

from vilab.vmm.vcpu import HiddenSegment
from vilab.x86 import encode as e
from vilab.x86.descriptors import CALL_GATE32, INTERRUPT_GATE32, LDT, TRAP_GATE32, TSS32, Gate, Segment, build_tss
from vilab.x86.encode import EAX, ECX, EDI, EDX

PAGES = 64
MEMORY_BYTES = PAGES << 12

GDT, IDT, TSS, LDT_AT, DIRECTORY, TABLE, WINDOW_TABLE = 0x1000, 0x2000, 0x3000, 0x3800, 0x4000, 0x5000, 0x6000
HANDLERS, KERNEL_STACK, VARIABLES = 0x7000, 0x9800, 0xA000
KERNEL_CODE, USER_CODE, CODE_BYTES = 0xC000, 0x10000, 0x2000
USER_STACK = 0x13800
LOW_DATA, DATA_USER, DATA_KERNEL, READ_USER, READ_KERNEL, HOLE, DATA_LAST = (
    0xF000, 0x14000, 0x15000, 0x16000, 0x17000, 0x18000, 0x19000
)  # fmt: skip
KERNEL_RECOVERY, USER_RECOVERY = 0x20000, 0x24000
FUNCTIONS, KERNEL_ALIAS, USER_ALIAS, REMAPPED = 0x28000, 0x30000, 0x32000, 0x34000
WINDOW = 0x7A5C3000
REMAPPED_ENTRY = WINDOW + 0x2000 + (REMAPPED >> 12) * 4

LOG_NEXT, KRESUME, KERNEL_PROGRESS, USER_PROGRESS, TRAPS = (VARIABLES + 4 * i for i in range(5))
LOG = VARIABLES + 0x100
RECORD_BYTES, RECORDS = 32, 40

IRQ, VECTOR_BASE = 5, 0x20
RETURN_VECTOR = 0x80

KERNEL_CS, KERNEL_DS, USER_CS, USER_DS, TASK, LOCAL = 0x08, 0x10, 0x1B, 0x23, 0x28, 0x30
SHIFTED_CS, SHIFTED_DS, SMALL_STACK, RING1_CS, RING1_DS = 0x38, 0x40, 0x48, 0x51, 0x59
ABSENT, CONFORMING, CALL_GATE, USER_SHIFTED, EXECUTE_ONLY, READ_ONLY, EXPAND_DOWN, IDLE_TASK, FRESH, ABSENT_CODE = (
    0x60, 0x68, 0x70, 0x7B, 0x80, 0x88, 0x90, 0x98, 0xA0, 0xA8
)  # fmt: skip
SHIFT = 0x1000
"""Base of the shifted segments."""

HALF_FAULTS = frozenset((8, 10, 11, 12, 13, 14, 17))
CODE, DATA = 0xB, 0x3
"""Descriptor types, accessed."""


def _segment(kind: int, dpl: int = 0, base: int = 0, big: bool = True, present: bool = True) -> bytes:
    limit = 0xFFFFFFFF if big else 0xFFFF
    return Segment(base, limit, kind, dpl, present=present, big=big, granular=big).to_bytes()


def _system(kind: int, base: int, limit: int) -> bytes:
    return Segment(base, limit, kind, 0, system=True, big=False, granular=False).to_bytes()


@cache
def gdt() -> bytes:
    """The descriptors behind the selectors above, in order."""
    gate = Gate(selector=KERNEL_CS, offset=GATE_TARGET, type=CALL_GATE32, dpl=3, count=1)
    return b"".join((
        bytes(8), _segment(CODE), _segment(DATA), _segment(CODE, 3), _segment(DATA, 3),
        _system(TSS32 | 2, TSS, 0x67), _system(LDT, LDT_AT, 0x1F), _segment(CODE, base=SHIFT),
        _segment(DATA, base=SHIFT), _segment(DATA, big=False), _segment(CODE, 1), _segment(DATA, 1),
        _segment(DATA, present=False), _segment(CODE | 4), gate.to_bytes(), _segment(DATA, 3, SHIFT), _segment(9),
        _segment(1), _segment(DATA | 4), _system(TSS32, TSS, 0x67), _segment(DATA & ~1),
        _segment(CODE, present=False),
    ))  # fmt: skip


LDT_ENTRIES = _segment(DATA) + _segment(DATA, 3) + _segment(CODE) + _segment(DATA, base=SHIFT)

STUB_BYTES = 10
COMMON = HANDLERS + 256 * STUB_BYTES
GATE_TARGET = HANDLERS + 0xE00
RING1_HANDLER = HANDLERS + 0xF00
# Above what PUSHA and PUSH DS have pushed.
_VECTOR, _ERROR, _EIP, _CS, _FLAGS, _ESP = 0x24, 0x28, 0x2C, 0x30, 0x34, 0x38


class _Code:
    """Machine code with forward jumps to names."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._out = bytearray()
        self._names: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def add(self, *parts: bytes | str) -> None:
        for part in parts:
            self._out += bytes.fromhex(part) if isinstance(part, str) else part

    def label(self, name: str) -> None:
        self._names[name] = len(self._out)

    def jump(self, name: str, condition: int | None = None) -> None:
        self._out += b"\xe9" if condition is None else bytes((0x0F, 0x80 | condition))
        self._jumps.append((len(self._out), name))
        self._out += bytes(4)

    def done(self) -> bytes:
        for at, name in self._jumps:
            struct.pack_into("<i", self._out, at, self._names[name] - at - 4)
        return bytes(self._out)


BELOW, ABOVE_OR_EQUAL, EQUAL, NOT_EQUAL = 2, 3, 4, 5


def _dword(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _common() -> bytes:
    """Record, decide where to go on, return."""
    c = _Code(COMMON)
    c.add("60 1e b810000000 8ed8 fc")  # pusha; push ds; mov eax,10h; mov ds,eax; cld
    c.add("8b3d", _dword(LOG_NEXT), "81ff", _dword(LOG + RECORDS * RECORD_BYTES))
    c.jump("stop", ABOVE_OR_EQUAL)
    c.add("0fb6442424 8907")  # movzx eax, vector; mov [edi], eax
    for place, offset in ((4, _ERROR), (8, _EIP), (12, _CS), (16, _FLAGS), (28, _ESP)):
        c.add(e.load_stack(ECX, offset), bytes((0x89, 0x4F, place)))
    c.add(e.lea(ECX, 4, _ESP), "894f14 0f20d1 894f18")  # lea ecx, above; store; mov ecx, cr2; store
    c.add(e.lea(EDI, EDI, RECORD_BYTES), "893d", _dword(LOG_NEXT))
    c.add("3c", bytes((RETURN_VECTOR,)))
    c.jump("resume", EQUAL)
    c.add("3c20")
    c.jump("event", ABOVE_OR_EQUAL)
    c.add("3c01")
    c.jump("debug", EQUAL)
    c.add("3c05")
    c.jump("other", ABOVE_OR_EQUAL)
    c.add("3c02")
    c.jump("done", ABOVE_OR_EQUAL)
    c.label("other")
    for name, base in (("kernel", KERNEL_CODE), ("user", USER_CODE)):
        c.add(e.load_stack(EDX, _EIP), "81ea", _dword(base), "81fa", _dword(CODE_BYTES))
        c.jump(name, BELOW)
    # Somewhere else: back into the program, where it was last.
    c.add("f644243003")  # test byte [cs], 3
    c.jump("lost user", NOT_EQUAL)
    c.add("8b15", _dword(KERNEL_PROGRESS), e.store_stack_imm(_CS, KERNEL_CS))
    c.jump("kernel")
    c.label("lost user")
    c.add("8b15", _dword(USER_PROGRESS))
    c.label("user")
    c.add("0fb71455", _dword(USER_RECOVERY), "8915", _dword(USER_PROGRESS), "81c2", _dword(USER_CODE))
    c.jump("recover")
    c.label("kernel")
    c.add("0fb71455", _dword(KERNEL_RECOVERY), "8915", _dword(KERNEL_PROGRESS), "81c2", _dword(KERNEL_CODE))
    c.label("recover")
    c.add(e.store_stack(_EIP, EDX))
    c.jump("done")
    c.label("event")
    c.add("3c30")
    c.jump("done", ABOVE_OR_EQUAL)
    c.add("b020 e620 e6a0")  # end of interrupt, both chips
    c.jump("done")
    c.label("debug")
    c.add("ff05", _dword(TRAPS), "f605", _dword(TRAPS), "07")
    c.jump("done", NOT_EQUAL)
    c.add("80642435fe")  # and byte [flags + 1], ~TF
    c.label("done")
    c.add("1f 61 83c408 cf")  # pop ds; popa; add esp,8; iret
    c.label("resume")
    c.add("1f 61", e.mov_reg_imm(4, KERNEL_STACK), "2eff25", _dword(KRESUME))
    c.label("stop")
    c.add("fa f4")
    c.jump("stop")
    return c.done()


def _handlers() -> bytes:
    page = bytearray(0x1000)
    for vector in range(256):
        at = vector * STUB_BYTES
        stub = (b"" if vector in HALF_FAULTS else b"\x6a\0") + bytes((0x6A, vector))
        stub += e.jmp(HANDLERS + at + len(stub), COMMON)
        page[at : at + len(stub)] = stub
    common = _common()
    page[COMMON - HANDLERS : COMMON - HANDLERS + len(common)] = common
    page[GATE_TARGET - HANDLERS : GATE_TARGET - HANDLERS + 6] = bytes.fromhex("40 1e 1f ca0400")  # inc eax; retf 4
    page[RING1_HANDLER - HANDLERS : RING1_HANDLER - HANDLERS + 2] = bytes.fromhex("41cf")  # inc ecx; iret
    return bytes(page)


OPEN_VECTORS = frozenset((3, 4, RETURN_VECTOR, 0x81, 0x85, 0x86))
"""INT n from ring 3 may use these."""


def _idt() -> bytes:
    out = bytearray()
    for vector in range(256):
        kind = TRAP_GATE32 if vector in (13, 14, 0x86) else INTERRUPT_GATE32
        selector, offset = KERNEL_CS, HANDLERS + vector * STUB_BYTES
        if vector == 0x85:
            selector, offset = RING1_CS & ~3, RING1_HANDLER
        dpl = 3 if vector in OPEN_VECTORS else 0
        out += Gate(selector=selector, offset=offset, type=kind, dpl=dpl, present=vector != 0x82).to_bytes()
    return bytes(out)


P, W, U, A, D = 1, 2, 4, 0x20, 0x40


def _tables() -> tuple[bytes, bytes, bytes]:
    """Directory, table for the low 4 MB, table for the window."""
    directory = bytearray(0x1000)
    struct.pack_into("<I", directory, 0, TABLE | P | W | U)
    struct.pack_into("<I", directory, (WINDOW >> 22) * 4, WINDOW_TABLE | P | W)
    low = bytearray(0x1000)
    flags = dict.fromkeys((1, 2, 3, 7, 8, 9, 0xA, 0xC, 0xD, 0x15, *range(0x20, 0x2A)), P | W)
    flags |= dict.fromkeys((0xF, 0x10, 0x11, 0x13, 0x14, 0x19), P | W | U)
    flags |= {0x16: P | U, 0x17: P}
    for page, bits in flags.items():
        struct.pack_into("<I", low, page * 4, page << 12 | bits)
    for alias, page, bits in ((0x30, 0xC, P | W), (0x31, 0xD, P | W), (0x32, 0x10, P | W | U), (0x34, 0x28, P | W | U)):
        struct.pack_into("<I", low, alias * 4, page << 12 | bits)
    window = bytearray(0x1000)
    for i, page in enumerate((DIRECTORY, WINDOW_TABLE, TABLE)):
        struct.pack_into("<I", window, ((WINDOW >> 12 & 0x3FF) + i) * 4, page | P | W)
    return bytes(directory), bytes(low), bytes(window)


@cache
def empty_world() -> bytes:
    """Memory before a program is put into it."""
    memory = bytearray(MEMORY_BYTES)

    def put(at: int, data: bytes) -> None:
        memory[at : at + len(data)] = data

    put(GDT, gdt())
    put(IDT, _idt())
    put(TSS, build_tss(esp0=KERNEL_STACK - 0x40, ss0=KERNEL_DS, esp1=KERNEL_STACK - 0x800, ss1=RING1_DS, io_map=0x68))
    put(LDT_AT, LDT_ENTRIES)
    for at, table in zip((DIRECTORY, TABLE, WINDOW_TABLE), _tables(), strict=True):
        put(at, table)
    put(HANDLERS, _handlers())
    put(LOG_NEXT, _dword(LOG))
    for at, size in ((LOW_DATA, 0x1000), (DATA_USER, 0x4000), (DATA_LAST, 0x1000)):
        put(at, bytes((i * 37 + (i >> 8) * 11) & 0xFF for i in range(size)))
    put(FUNCTIONS, bytes.fromhex("83c007 91 c3".replace(" ", "")).ljust(0x1000, b"\x42"))
    put(FUNCTIONS + 0x1000, bytes.fromhex("35 55aa0000 c3".replace(" ", "")).ljust(0x1000, b"\x4a"))
    return bytes(memory)


def recovery_table(slots: list[int], size_bytes: int = CODE_BYTES) -> bytes:
    """For each offset in a code area the offset of the first slot behind it; ``slots`` rise, the last is the end."""
    out = bytearray()
    before = 0
    for slot in slots:
        out += struct.pack("<H", slot) * (slot - before)
        before = slot
    out += struct.pack("<H", slots[-1]) * (size_bytes - before)
    return bytes(out)


def start_segments() -> list[HiddenSegment]:
    """ES CS SS DS FS GS LDTR TR as the program finds them."""
    table = gdt()

    def hidden(selector: int) -> HiddenSegment:
        low, high = struct.unpack_from("<II", table, selector & ~7)
        limit = low & 0xFFFF | high & 0xF0000
        limit = limit << 12 | 0xFFF if high & 1 << 23 else limit
        return selector, low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000, limit, high

    data, code = hidden(KERNEL_DS), hidden(KERNEL_CS)
    return [data, code, data, data, data, data, hidden(LOCAL), hidden(TASK)]


__all__ = [name for name in dir() if name.isupper()] + ["EAX", "empty_world", "gdt", "recovery_table", "start_segments"]
