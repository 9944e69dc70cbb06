"""What a loader produces: bytes at guest physical addresses, and the state in which the processor starts.

::

    segments   (gpa, bytes)     to be written
    zeroed     (gpa, bytes)     to be zero (fresh guest memory is)
    entry      EIP              32-bit protected mode, paging off, interrupts off: CR0 = 0x11, EFLAGS = 2
    gpr, esp                    general registers; those not named are 0
    gdt_base, gdt_limit         flat code and data of 4 GB, already among the segments
    cs, ds                      selectors into it; DS also goes into ES, SS, FS, GS
    stop_eip                    where a called image returns to: reaching it ends the run

In real mode (``real_mode``) there is no GDT: ``cs`` and ``ds`` are segments of 16 bytes, ``entry`` is IP, CR0 = 0x10,
and the interrupt vectors are at address 0.
"""

from __future__ import annotations

import struct

import msgspec

CR0_AT_ENTRY = 0x11  # PE | ET
CR0_IN_REAL_MODE = 0x10  # ET
EFLAGS_AT_ENTRY = 0x2

FLAT_CODE = 0x00CF9B000000FFFF  # base 0, limit 4 GB, ring 0, execute/read, accessed (Intel SDM volume 3, figure 3-8)
FLAT_DATA = 0x00CF93000000FFFF  # the same, read/write


class LoadedImage(msgspec.Struct, frozen=True):
    """A guest, ready to be put into memory. Addresses in ``segments`` and ``zeroed`` are guest physical.

    ``kind`` is one of ``multiboot``, ``elf``, ``linux``, ``flat``, ``function``, ``boot sector``, ``bios``.
    ``returns_register`` names the register that holds the answer when ``stop_eip`` is reached, ``None`` where nothing
    returns. ``built_for``: ``machine``, ``hypercalls`` (a paravirtual kernel), or both. ``rom``: what the processor
    also sees at the end of its 4 GB, whole pages. ``cs_base``: where CS begins, if not at 16 times its selector.
    """

    name: str
    kind: str
    segments: tuple[tuple[int, bytes], ...]
    zeroed: tuple[tuple[int, int], ...]
    entry: int
    gpr: dict[str, int]
    esp: int
    gdt_base: int
    gdt_limit: int
    cs: int
    ds: int
    stop_eip: int | None = None
    returns_register: str | None = None
    built_for: tuple[str, ...] = ("machine",)
    real_mode: bool = False
    rom: bytes = b""
    cs_base: int | None = None

    def end_bytes(self) -> int:
        """The first guest physical address above everything that the image occupies."""
        ends = [gpa + len(data) for gpa, data in self.segments] + [gpa + size for gpa, size in self.zeroed]
        return max(ends, default=0)


def flat_gdt(first_selector: int) -> bytes:
    """A GDT with flat code at ``first_selector`` and flat data behind it; null entries before."""
    entries = [0] * (first_selector // 8) + [FLAT_CODE, FLAT_DATA]
    return struct.pack(f"<{len(entries)}Q", *entries)
