"""The guest behind what is typed: a kernel of a few lines and a program of a few lines, with everything else in place.

::

    linear                          physical   ring  what
    08048000  program               00200000   3     what stands behind ``program:``
    0804f000  its stack, grows down 00201000   3
    c0101000  page directory        00101000   0     CR3 = 00101000; tables behind it
    c0104000  kernel                00104000   0     what stands before ``program:``
    c0106000  default handlers      00106000   0     one HLT for each vector
    c0390fa0  kernel stack          00390000   0     grows down from the end of its page
    c0396000  TSS                   00396000   0
    c0397000  IDT                   00397000   0
    c0398000  GDT                   00398000   0     60 code, 68 data, 73 and 7b the same for ring 3, 80 the TSS

Whatever the text leaves out is there: a label ``gate_80`` makes the handler of vector 80h, open to ring 3; every other
vector leads to a HLT. The run starts at ``program:`` in ring 3 if there is one, with interrupts on, else at the first
line in ring 0; reaching the end of the kernel's lines, or returning from them, ends it.
"""

from __future__ import annotations

import re

import msgspec

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.guests.image import LoadedImage
from vilab.vmm.engine_svm import SvmEngine
from vilab.vmm.shadow_faults import ShadowFaults
from vilab.vmm.vcpu import HiddenSegment, VcpuState
from vilab.vmm.vm import VirtualMachine
from vilab.vmm.walk import walk
from vilab.x86 import descriptors as d
from vilab.x86 import paging as pg
from vilab.x86.assemble import Assembly, AssemblyError, assemble
from vilab.x86.control import CR0_ET, CR0_PE, CR0_PG
from vilab.x86.flags import IF, ONE

KERNEL_BASE = 0xC000_0000
PROGRAM, PROGRAM_STACK = 0x0804_8000, 0x0804_F000
KERNEL, HANDLERS, KERNEL_STACK = 0xC010_4000, 0xC010_6000, 0xC039_0FA0
STACK_PAGE = 0xC039_0000
TSS, IDT, GDT = 0xC039_6000, 0xC039_7000, 0xC039_8000
DIRECTORY, KERNEL_TABLE, PROGRAM_TABLE = 0x0010_1000, 0x0010_2000, 0x0010_3000
PROGRAM_FRAME, PROGRAM_STACK_FRAME = 0x0020_0000, 0x0020_1000
MEMORY_BYTES = 4 << 20
PAGE = 0x1000
MOST_CODE_BYTES = 0x1000

CODE, DATA, PROGRAM_CODE, PROGRAM_DATA, TASK = 0x60, 0x68, 0x73, 0x7B, 0x80
CR0 = CR0_PE | CR0_ET | CR0_PG

ENTRY_FLAGS = pg.PRESENT | pg.WRITABLE | pg.ACCESSED | pg.DIRTY

_PROGRAM_LINE = re.compile(r"^[ \t]*program:", re.MULTILINE)
_GATE = re.compile(r"^gate_([0-9a-fA-F]{1,2})$")


class TypedCode(msgspec.Struct, frozen=True):
    """What became of a text. ``program``: ``None`` where the text has no ``program:``. ``gates``: vector -> handler."""

    text: str
    kernel: Assembly
    program: Assembly | None
    gates: dict[int, int]

    @property
    def end(self) -> int:
        """The address behind the kernel's last line: reaching it ends the run."""
        return KERNEL + len(self.kernel.code)


def assemble_typed(text: str) -> TypedCode:
    """Both parts of a text. ``AdminError`` with the line of the text where it cannot be understood."""
    found = _PROGRAM_LINE.search(text)
    head, tail = (text[: found.start()], text[found.start() :]) if found else (text, "")
    kernel = _assemble(head, KERNEL, 0)
    program = _assemble(tail, PROGRAM, head.count("\n")) if found else None
    if not kernel.code and (program is None or not program.code):
        raise AdminError("There is nothing to run: type at least one instruction, for instance cli.")
    for part, name in ((kernel, "kernel"), (program, "program")):
        if part is not None and len(part.code) > MOST_CODE_BYTES:
            raise AdminError(f"The {name} does not fit its page: it has {len(part.code)} bytes of {MOST_CODE_BYTES}.")
    gates = {int(match[1], 16): at for label, at in kernel.labels.items() if (match := _GATE.match(label))}
    return TypedCode(text, kernel, program, gates)


def _assemble(text: str, address: int, lines_before: int) -> Assembly:
    try:
        return assemble(text, address)
    except AssemblyError as error:
        raise AdminError(f"Line {error.line + lines_before}: {error.problem}.") from None


class SmallGuest(VirtualMachine):
    """A virtual machine with that guest, standing before its first instruction."""

    def __init__(self, code: TypedCode, engine: str, log: EventLog | None = None, **options: object) -> None:
        self._code = code
        super().__init__(_image(code), engine, MEMORY_BYTES, log=log, engine_options=options)

    def initial_state(self) -> VcpuState:
        state = super().initial_state()
        in_program = self._code.program is not None
        code, data = (PROGRAM_CODE, PROGRAM_DATA) if in_program else (CODE, DATA)
        hidden = _hidden(data)
        state.segments = [hidden, _hidden(code), hidden, hidden, hidden, hidden, (0, 0, 0, 0), _hidden(TASK)]
        state.cpl = 3 if in_program else 0
        state.eip = PROGRAM if in_program else KERNEL
        state.gpr[4] = PROGRAM_STACK if in_program else KERNEL_STACK - 4  # the return address is there
        state.eflags = ONE | IF
        state.cr0, state.cr3 = CR0, DIRECTORY
        state.gdtr, state.idtr = (GDT, TASK + 7), (IDT, 0x7FF)
        return state


def touch_pages(vm: VirtualMachine) -> None:
    """Enter the pages of code, stacks and tables into the shadow or nested tables, as a guest that has been running
    for a while would have made the VMM do, at no cost in time."""
    engine = vm.engine
    v = engine.vcpu
    pages = [KERNEL, KERNEL + PAGE, HANDLERS, STACK_PAGE]
    if vm.pmap.read(PROGRAM_FRAME, 16) != bytes(16):
        pages += [PROGRAM, PROGRAM_STACK - PAGE]
    if isinstance(engine, SvmEngine) and isinstance(engine, ShadowFaults):
        pages += [TSS, IDT, GDT]  # the CPU itself reads them there
    elif isinstance(engine, SvmEngine):
        for gpa in (DIRECTORY, KERNEL_TABLE, PROGRAM_TABLE, TSS - KERNEL_BASE, IDT - KERNEL_BASE, GDT - KERNEL_BASE):
            engine.nested.fill(gpa, True)
    for gva in pages:
        mapping = walk(v.pmap, v.cr0, v.cr3, v.cr4, gva, write=False, user=False)
        if isinstance(engine, ShadowFaults):
            engine.shadow.fill(gva, mapping, engine.machine_page(mapping.gpa, False), False)
        elif isinstance(engine, SvmEngine):
            engine.nested.fill(mapping.gpa, True)


def _descriptors() -> dict[int, d.Segment]:
    return {
        CODE: d.flat_segment(code=True),
        DATA: d.flat_segment(code=False),
        PROGRAM_CODE & ~7: d.flat_segment(code=True, dpl=3),
        PROGRAM_DATA & ~7: d.flat_segment(code=False, dpl=3),
        TASK: d.Segment(TSS, d.TSS32_BYTES - 1, d.TSS32_BUSY, system=True, big=False, granular=False),
    }


def _hidden(selector: int) -> HiddenSegment:
    segment = _descriptors()[selector & ~7]
    return selector, segment.base, segment.limit, segment.hidden_flags


def _image(code: TypedCode) -> LoadedImage:
    gdt = bytearray(TASK + 8)
    for selector, segment in _descriptors().items():
        gdt[selector : selector + 8] = segment.to_bytes()
    idt = b"".join(_gate(code, vector).to_bytes() for vector in range(256))
    segments = [
        *_page_tables(),
        (KERNEL - KERNEL_BASE, code.kernel.code + b"\xf4"),
        (HANDLERS - KERNEL_BASE, b"\xf4\x90\x90\x90" * 256),
        (KERNEL_STACK - KERNEL_BASE - 4, code.end.to_bytes(4, "little")),
        (TSS - KERNEL_BASE, d.build_tss(esp0=KERNEL_STACK, ss0=DATA)),
        (IDT - KERNEL_BASE, idt),
        (GDT - KERNEL_BASE, bytes(gdt)),
    ]
    if code.program is not None:
        segments.append((PROGRAM_FRAME, code.program.code.ljust(16, b"\x90")))
    return LoadedImage(
        name="The code", kind="flat", segments=tuple(segments), zeroed=(),
        entry=KERNEL if code.program is None else PROGRAM, gpr={}, esp=KERNEL_STACK, gdt_base=GDT,
        gdt_limit=len(gdt) - 1, cs=CODE, ds=DATA, stop_eip=code.end, returns_register="eax",
    )  # fmt: skip


def _gate(code: TypedCode, vector: int) -> d.Gate:
    own = vector in code.gates
    handler = code.gates[vector] if own else HANDLERS + 4 * vector
    return d.Gate(CODE, handler, d.INTERRUPT_GATE32, dpl=3 if own else 0)


def _page_tables() -> list[tuple[int, bytes]]:
    """All of memory at ``KERNEL_BASE`` for the kernel; two pages for the program."""
    directory, kernel, program = bytearray(PAGE), bytearray(PAGE), bytearray(PAGE)

    def enter(table: bytearray, index: int, frame: int, flags: int) -> None:
        table[4 * index : 4 * index + 4] = (frame | flags).to_bytes(4, "little")

    for page in range(MEMORY_BYTES // PAGE):
        enter(kernel, page, page * PAGE, ENTRY_FLAGS)
    enter(program, pg.table_index(PROGRAM), PROGRAM_FRAME, ENTRY_FLAGS | pg.USER)
    enter(program, pg.table_index(PROGRAM_STACK - PAGE), PROGRAM_STACK_FRAME, ENTRY_FLAGS | pg.USER)
    enter(directory, pg.directory_index(KERNEL_BASE), KERNEL_TABLE, ENTRY_FLAGS)
    enter(directory, pg.directory_index(PROGRAM), PROGRAM_TABLE, ENTRY_FLAGS | pg.USER)
    return [(DIRECTORY, bytes(directory)), (KERNEL_TABLE, bytes(kernel)), (PROGRAM_TABLE, bytes(program))]
