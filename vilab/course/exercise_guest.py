"""The small guest that exercises run their code in: flat, without paging, with segments for all four rings.

::

    00100000  code          what is tried                GDT   08 10  code and data, ring 0
    00110000  stack         grows down                         18 20  ring 1
    00111000  scratch                                          28 30  ring 2
    00112000  handlers      one HLT for each vector            38 40  ring 3
    00120000  GDT  00121000 IDT  00122000 TSS                  48     task segment

All addresses move together (``base``): a guest may keep its tables wherever it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vilab.events import EventLog
from vilab.guests.image import LoadedImage
from vilab.vmm.engine import Engine
from vilab.vmm.packed_code import PAPER_RETURN_ENTRIES
from vilab.vmm.records import GPR_NAMES
from vilab.vmm.vcpu import HiddenSegment, VcpuState
from vilab.vmm.vm import VirtualMachine
from vilab.x86 import descriptors as d
from vilab.x86.flags import ONE

BASE = 0x0010_0000
STACK, SCRATCH, HANDLERS, GDT, IDT, TSS = 0x10000, 0x11000, 0x12000, 0x20000, 0x21000, 0x22000
"""Offsets from ``base``."""
TASK_SELECTOR = 0x48
HANDLER_BYTES = 4
HLT = b"\xf4"
MEMORY_BYTES = 4 << 20

EngineMaker = Callable[[VirtualMachine], Engine]


def code_selector(ring: int) -> int:
    return 0x08 + 0x10 * ring | ring


def data_selector(ring: int) -> int:
    return 0x10 + 0x10 * ring | ring


def vector_of(handler: int, base: int = BASE) -> int | None:
    """Which exception has led to this EIP, ``None`` where it is no handler."""
    vector, rest = divmod(handler - base - HANDLERS, HANDLER_BYTES)
    return vector if 0 <= vector < 256 and rest < 2 else None


def _segments() -> dict[int, d.Segment]:
    table = {}
    for ring in range(4):
        table[code_selector(ring) & ~3] = d.flat_segment(code=True, dpl=ring)
        table[data_selector(ring) & ~3] = d.flat_segment(code=False, dpl=ring)
    return table


def _task(base: int) -> d.Segment:
    return d.Segment(base + TSS, d.TSS32_BYTES - 1, d.TSS32_BUSY, system=True, big=False, granular=False)


def image(code: bytes, base: int = BASE, extra: Sequence[tuple[int, bytes]] = ()) -> LoadedImage:
    """Code, tables and handlers as an image. ``extra``: more (gpa, bytes)."""
    gdt = bytearray(TASK_SELECTOR + 8)
    for selector, segment in {**_segments(), TASK_SELECTOR: _task(base)}.items():
        gdt[selector : selector + 8] = segment.to_bytes()
    idt = b"".join(
        d.Gate(code_selector(0), base + HANDLERS + HANDLER_BYTES * vector, d.INTERRUPT_GATE32, dpl=3).to_bytes()
        for vector in range(256)
    )
    tss = d.build_tss(
        **{f"esp{ring}": base + STACK - 0x1000 * (ring + 1) for ring in range(3)},
        **{f"ss{ring}": data_selector(ring) for ring in range(3)},
    )
    handlers = b"\xf4\x90\x90\x90" * 256
    segments = (
        (base, code + HLT * 16), (base + HANDLERS, handlers), (base + GDT, bytes(gdt)), (base + IDT, idt),
        (base + TSS, tss), *extra,
    )  # fmt: skip
    return LoadedImage(
        name="exercise", kind="flat", segments=segments, zeroed=(), entry=base, gpr={}, esp=base + STACK - 64,
        gdt_base=base + GDT, gdt_limit=len(gdt) - 1, cs=code_selector(0), ds=data_selector(0),
    )  # fmt: skip


def start_state(state: VcpuState, cpl: int, eflags: int, gpr: Mapping[str, int], base: int = BASE) -> VcpuState:
    """``state`` (of ring 0, as the image says) changed to one in the middle of things, in any ring."""
    table = _segments()

    def hidden(selector: int) -> HiddenSegment:
        segment = table[selector & ~3]
        return selector, segment.base, segment.limit, segment.hidden_flags

    data, code = hidden(data_selector(cpl)), hidden(code_selector(cpl))
    task = _task(base)
    tr = (TASK_SELECTOR, task.base, task.limit, task.hidden_flags)
    state.segments = [data, code, data, data, data, data, (0, 0, 0, 0), tr]
    state.cpl, state.eflags, state.eip = cpl, eflags | ONE, base
    state.idtr = (base + IDT, 0x7FF)
    for name, value in gpr.items():
        state.gpr[GPR_NAMES.index(name)] = value
    return state


class GuestMachine(VirtualMachine):
    """A virtual machine with that guest, standing before its first instruction.

    Parameters
    ----------
    make_engine : an engine of the checker's own instead of the one that ``engine`` names.
    """

    def __init__(
        self, code: bytes, engine: str = "bare", *, cpl: int = 0, eflags: int = ONE,
        gpr: Mapping[str, int] | None = None, base: int = BASE, extra: Sequence[tuple[int, bytes]] = (),
        log: EventLog | None = None, make_engine: EngineMaker | None = None, memory_bytes: int = MEMORY_BYTES,
    ) -> None:  # fmt: skip
        self._begin = (cpl, eflags, {"esp": base + STACK - 64, **(gpr or {})}, base)
        self._maker = make_engine
        options: dict[str, object] = {"return_entries": PAPER_RETURN_ENTRIES} if engine == "bt" else {}
        super().__init__(image(code, base, extra), engine, memory_bytes, log=log, engine_options=options)

    def _make_engine(self, name: str, options: dict[str, object]) -> Engine:
        return self._maker(self) if self._maker is not None else super()._make_engine(name, options)

    def initial_state(self) -> VcpuState:
        cpl, eflags, gpr, base = self._begin
        return start_state(super().initial_state(), cpl, eflags, gpr, base)
