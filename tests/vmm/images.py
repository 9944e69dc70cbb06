"""Small guests made in a test: bytes of code at 1 MB, flat segments, paging off."""

from __future__ import annotations

from vilab.events import EventLog
from vilab.guests.image import LoadedImage, flat_gdt
from vilab.guests.load import load
from vilab.vmm.vm import QuietConsole, VirtualMachine

ENTRY = 0x100000
STACK = 0x90000
GDT = 0x1000
MEMORY_BYTES = 4 << 20


def code_image(code: str | bytes, stop: bool = True, more: tuple[tuple[int, bytes], ...] = ()) -> LoadedImage:
    """A guest that starts at its first byte. ``code`` may be hex with spaces; with ``stop`` it may end in RET."""
    raw = bytes.fromhex(code) if isinstance(code, str) else code
    gdt = flat_gdt(8)
    halt = ENTRY + 0x800
    segments = ((ENTRY, raw), (GDT, gdt), (halt, b"\xf4"), (STACK, halt.to_bytes(4, "little")), *more)
    return LoadedImage(
        name="test", kind="function", segments=segments, zeroed=(), entry=ENTRY, gpr={}, esp=STACK, gdt_base=GDT,
        gdt_limit=len(gdt) - 1, cs=8, ds=16, stop_eip=halt if stop else None, returns_register="eax" if stop else None,
    )  # fmt: skip


HANDLER, IDT = 0x100400, 0x3000
_SET_UP = (
    "0f011d00280000"  # lidt
    "b011e620 b020e621 b004e621 b001e621 b0fee621"  # PIC: vectors from 0x20, only IRQ 0
    "b030e643 b010e640 b000e640"  # PIT: once, after 16 ticks, 13.4 us
)


def timer_image(code: str, handler: str) -> LoadedImage:
    """A guest with a handler for IRQ 0, which comes once; interrupts are still off when ``code`` begins."""
    gate = (HANDLER & 0xFFFF | 8 << 16).to_bytes(4, "little") + (HANDLER & 0xFFFF0000 | 0x8E00).to_bytes(4, "little")
    table = bytes(0x20 * 8) + gate
    more = (
        (IDT, table), (0x2800, (len(table) - 1).to_bytes(2, "little") + IDT.to_bytes(4, "little")),
        (HANDLER, bytes.fromhex(handler)),
    )  # fmt: skip
    return code_image(bytes.fromhex(_SET_UP + code), more=more)


def machine(code: str | bytes, engine: str, log: EventLog | None = None, **options: object) -> VirtualMachine:
    return VirtualMachine(code_image(code), engine, MEMORY_BYTES, log=log, **options)  # type: ignore[arg-type]


def bundled(
    name: str, engine: str, typed: bytes = b"", append: str = "", log: EventLog | None = None, memory_mb: int = 8,
    **options: object,
) -> tuple[VirtualMachine, QuietConsole]:  # fmt: skip
    """A bundled program with something typed on its serial line."""
    console = QuietConsole(typed)
    image = load(name, memory_bytes=memory_mb << 20, append=append, paravirtual=engine == "para")
    vm = VirtualMachine(image, engine, memory_mb << 20, console=console, log=log, **options)  # type: ignore[arg-type]
    return vm, console
