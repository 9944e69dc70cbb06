"""What a paravirtual kernel may ask for: the monitor's side of ``guests/kernel/hypercall.h``.

::

    EAX = number, EBX ECX = arguments     int 0x82     EAX = answer, negative: refused, and nothing was done

Most calls stand for instructions that only ring 0 may execute. What such an instruction means is written down once, in
``emulate``; a call does just that, and a fault that the instruction would have raised becomes a refusal.

MODEL: Xen's hypercalls (Barham and others, SOSP 2003, table 1) are the pattern; numbers, registers and the shared page
are our own.
"""

from __future__ import annotations

import msgspec

from vilab.errors import AdminError
from vilab.guests.image import LoadedImage

VECTOR = 0x82

NO_SUCH_CALL, BAD_ADDRESS, REFUSED = -1, -2, -3
"""Answers: the number stands for nothing; memory that is not there; the instruction would have faulted."""

MOST_UPDATES = 512
MOST_BYTES = 4096

# The monitor's words that the kernel shares, as dword indexes into the page at F0000000. (Index 0: the flags.)
WORD_PENDING, WORD_CR2, WORD_RING, WORD_CR0 = 0x10, 0x11, 0x12, 0x13


class Hypercall(msgspec.Struct, frozen=True):
    """``code``: the instructions whose meaning it has, operands in EBX and ECX; empty: it has one of its own."""

    number: int
    name: str
    code: bytes
    meaning: str


_ALL = (
    ("events", "", "take interrupts that wait"),
    ("iret", "cf", "IRET, after a pop of EAX"),
    ("cr0", "0f22c3", "mov cr0, ebx"),
    ("cr3", "0f22db", "mov cr3, ebx"),
    ("invalidate", "0f013b", "invlpg [ebx]"),
    ("gdt", "0f0113", "lgdt [ebx]"),
    ("idt", "0f011b", "lidt [ebx]"),
    ("task", "0f00db", "ltr bx"),
    ("stack", "", "ESP for entries from ring 3"),
    ("segments", "8edb 8ec1", "mov ds, bx; mov es, cx"),
    ("mmu update", "", "new values for page-table entries, many at once"),
    ("halt", "f4", "hlt"),
    ("enable and halt", "fb f4", "sti; hlt, in one"),
    ("console", "", "text to the serial line"),
)
HYPERCALLS: tuple[Hypercall, ...] = tuple(
    Hypercall(number, name, bytes.fromhex(code), meaning) for number, (name, code, meaning) in enumerate(_ALL)
)
"""By number."""


def check_built_for(image: LoadedImage, engine: str) -> None:
    """A kernel built for a machine finds none under ``para``, and one that is built for hypercalls needs an answer.

    Raises ``AdminError``.
    """
    if engine == "para" and "hypercalls" not in image.built_for:
        raise AdminError(
            f"{image.name} is not built for hypercalls, and --engine para offers a kernel nothing else; "
            "run it with --engine bt or svm, or build it with -DPARA."
        )
    if engine != "para" and "machine" not in image.built_for:
        raise AdminError(
            f"{image.name} is a paravirtual kernel: it makes hypercalls, and --engine {engine} answers none; "
            "run it with --engine para."
        )
