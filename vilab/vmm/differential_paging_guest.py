"""The world in which random programs edit page tables: a kernel small enough to be out of their way.

::

    linear = physical        what                          linear = physical         what
    01000   1  GDT                                         10000  16  the program    U, read-only
    02000   1  IDT                                         30000   4  records of exceptions
    03000   1  TSS                                         40000  16  frames to play with, S W
    04000   1  handlers                                    60000   8  free entries of the kernel's own table
    05000   1  variables                                  440000  16  frames to play with, 4 MB further up, S W
    09000   1  kernel stack                             10000000   4 MB windows, empty at first:
    0a000   1  user stack    U W                        12000000   entries 40 to 47, pages 40 to 4f of each
    0b000   2  tables for the first and second 4 MB

Three of the frames are directories, which agree on the kernel's two tables; four are tables; the rest holds data and a
little code. Windows and pages have the same numbers, so that a directory that stands in for a table makes sense. Frame
numbers are offsets into 4 MB too, so that a large page leads to the same frames.

Every exception is recorded, and the program goes on at EBP. ``int 80h`` leads from ring 3 to ring 0, at EBP too.
"""

from __future__ import annotations

import struct
from functools import cache

from vilab.vmm.vcpu import HiddenSegment, VcpuState
from vilab.x86 import paging as pg
from vilab.x86.descriptors import INTERRUPT_GATE32, TSS32, Gate, Segment, build_tss

MEMORY_PAGES = 0x480
MEMORY_BYTES = MEMORY_PAGES << 12

GDT, IDT, TSS, HANDLERS, VARIABLES, KERNEL_TABLE, SECOND_TABLE = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0xB000, 0xC000
KERNEL_STACK, USER_STACK = 0xA000, 0xB000
PROGRAM, PROGRAM_BYTES = 0x10000, 0x10000
RECORDS, RECORD_BYTES, MOST_RECORDS = 0x30000, 64, 255
NEXT_RECORD, ROUNDS = VARIABLES, VARIABLES + 4

FIRST, PAGES = 0x40, 16
"""Number of the first window, of the first page in each, and of the first frame to play with."""
WINDOWS = 8
KERNEL_FREE, KERNEL_FREE_PAGES = 0x60, 8
UPPER = 0x400
LOW_FRAMES = range(FIRST, FIRST + PAGES)
HIGH_FRAMES = range(UPPER + FIRST, UPPER + FIRST + PAGES)
DATA_FRAMES = (*range(0x40, 0x48), *range(0x440, 0x448))
DIRECTORIES = (0x48, 0x49, 0x448)
TABLES = (0x4A, 0x4B, 0x4C, 0x44A)
EMPTY_FRAMES = (0, UPPER)
"""Where a large entry leads that is taken for a small one."""
FRAMES = (*LOW_FRAMES, *HIGH_FRAMES, *EMPTY_FRAMES, KERNEL_TABLE >> 12, SECOND_TABLE >> 12)
"""All that a program may write to."""

KERNEL_CS, KERNEL_SS, USER_CS, FLAT_DS, TASK = 0x08, 0x10, 0x1B, 0x23, 0x28
RETURN_VECTOR = 0x80
HALF_FAULTS = frozenset((8, 10, 11, 12, 13, 14, 17))
STUB_BYTES = 10
COMMON = HANDLERS + 0x400
CODE, DATA = 0xB, 0x3

STUBS = tuple(bytes((a, b, c, 0xC3)) for a, b, c in ((0x41, 0x41, 0x41), (0x40, 0x41, 0x90), (0x49, 0x42, 0x49)))
"""Functions of four bytes: they change ECX a little."""
ACROSS = bytes.fromhex("41 b8"), bytes.fromhex("c3112233c3")
"""inc ecx; mov eax, 332211c3h; ret: at the end of a page and at the beginning of the next. Also inc ecx; ret."""


def _dword(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _gdt() -> bytes:
    def flat(kind: int, dpl: int) -> bytes:
        return Segment(0, 0xFFFFFFFF, kind, dpl).to_bytes()

    task = Segment(TSS, 0x67, TSS32 | 2, system=True, big=False, granular=False).to_bytes()
    return bytes(8) + flat(CODE, 0) + flat(DATA, 0) + flat(CODE, 3) + flat(DATA, 3) + task


def _handlers() -> tuple[bytes, bytes]:
    """(IDT, code). Above what the handler pushes: EDX 0, EAX 4, vector 8, error 12, EIP 16, CS 20, EFLAGS 24."""
    idt, code = bytearray(), bytearray()
    for vector in (*range(32), RETURN_VECTOR):
        at = HANDLERS + len(code)
        stub = (b"" if vector in HALF_FAULTS else b"\x6a\0") + b"\x68" + _dword(vector)
        if len(idt) < vector * 8:
            idt = idt.ljust(vector * 8, b"\0")
        idt += Gate(selector=KERNEL_CS, offset=at, type=INTERRUPT_GATE32, dpl=3 if vector == RETURN_VECTOR else 0,
                    present=True).to_bytes()  # fmt: skip
        code += stub + b"\xe9" + struct.pack("<i", COMMON - at - len(stub) - 5)
    code = code.ljust(COMMON - HANDLERS, b"\xcc")
    record = bytearray(bytes.fromhex("50 52 a1") + _dword(NEXT_RECORD))  # push eax; push edx; mov eax, next
    record += b"\x3d" + _dword(RECORDS + MOST_RECORDS * RECORD_BYTES) + b"\x72\x02\xfa\xf4"  # full: cli; hlt
    for place, offset in ((0, 8), (4, 12), (8, 16), (12, 20), (16, 24), (20, 0), (24, 4)):
        record += bytes((0x8B, 0x54, 0x24, offset, 0x89, 0x50, place))  # mov edx, [esp+offset]; mov [eax+place], edx
    record += bytes.fromhex("0f20d2 89501c 895820 894824 897028 89782c")  # CR2, EBX, ECX, ESI, EDI
    record += bytes.fromhex("8305") + _dword(NEXT_RECORD) + bytes((RECORD_BYTES,))
    record += bytes.fromhex("817c2408") + _dword(RETURN_VECTOR) + bytes.fromhex("7408")  # je back
    record += bytes.fromhex("896c2410 5a 58 eb07")  # mov [eip], ebp; pop edx; pop eax; jmp done
    record += b"\xbc" + _dword(KERNEL_STACK) + bytes.fromhex("ffe5")  # back: mov esp, stack; jmp ebp
    record += bytes.fromhex("83c408 cf")  # done: add esp, 8; iret
    return bytes(idt), bytes(code + record)


KERNEL = pg.PRESENT | pg.WRITABLE | pg.ACCESSED | pg.DIRTY
TOP_ENTRY = pg.PRESENT | pg.WRITABLE | pg.USER | pg.ACCESSED


def _tables() -> tuple[bytes, bytes]:
    first, second = [0] * 1024, [0] * 1024
    for page in (*range(1, 10), 0xB, 0xC, *range(RECORDS >> 12, (RECORDS >> 12) + 4), *LOW_FRAMES):
        first[page] = page << 12 | KERNEL
    first[USER_STACK - 1 >> 12] = USER_STACK - 0x1000 | KERNEL | pg.USER
    for page in range(PROGRAM >> 12, PROGRAM + PROGRAM_BYTES >> 12):
        first[page] = page << 12 | (KERNEL | pg.USER) & ~pg.WRITABLE
    for page in HIGH_FRAMES:
        second[page - UPPER] = page << 12 | KERNEL
    return struct.pack("<1024I", *first), struct.pack("<1024I", *second)


@cache
def empty_world() -> bytes:
    """Memory before a program is put into it."""
    memory = bytearray(MEMORY_BYTES)

    def put(at: int, data: bytes) -> None:
        memory[at : at + len(data)] = data

    idt, handlers = _handlers()
    put(GDT, _gdt())
    put(IDT, idt)
    put(TSS, build_tss(esp0=KERNEL_STACK, ss0=KERNEL_SS, io_map=0x68))
    put(HANDLERS, handlers)
    put(NEXT_RECORD, _dword(RECORDS))
    first, second = _tables()
    put(KERNEL_TABLE, first)
    put(SECOND_TABLE, second)
    for frame in DATA_FRAMES:
        at = frame << 12
        put(at, bytes((i * 37 + (i >> 8) * 11 + frame) & 0xFF for i in range(4096)))
        for i in range(16):
            put(at + 0x100 + 4 * i, STUBS[(i + frame) % len(STUBS)])
        put(at, ACROSS[1])
        put(at + 0xFFE, ACROSS[0])
    for frame in DIRECTORIES:
        put(frame << 12, _dword(KERNEL_TABLE | TOP_ENTRY) + _dword(SECOND_TABLE | TOP_ENTRY))
    return bytes(memory)


def start_state() -> VcpuState:
    """The vCPU at the first instruction of the program: ring 0, paging on, WP set."""
    table = _gdt()

    def hidden(selector: int) -> HiddenSegment:
        low, high = struct.unpack_from("<II", table, selector & ~7)
        limit = low & 0xFFFF | high & 0xF0000
        limit = limit << 12 | 0xFFF if high & 1 << 23 else limit
        return selector, low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000, limit, high

    data = hidden(FLAT_DS)
    segments = [data, hidden(KERNEL_CS), hidden(KERNEL_SS), data, data, data, (0, 0, 0, 0), hidden(TASK)]
    return VcpuState(
        gpr=[0, 0, 0, 0, KERNEL_STACK, PROGRAM, 0, 0], eip=PROGRAM, eflags=2, cpl=0, segments=segments, cr0=0x80010011,
        cr2=0, cr3=DIRECTORIES[0] << 12, cr4=0, gdtr=(GDT, len(table) - 1), idtr=(IDT, 0x7FF), msrs={},
        debug=[0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400],
    )  # fmt: skip
