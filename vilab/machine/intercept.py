"""Making single instructions exit on a processor without a VMCB.

This processor answers RDTSC from the host's clock, and SGDT, SIDT and SMSW in every ring. It has one way to say
otherwise: the intercepts of AMD-V, which it keeps in two places of its context, a bit of ``hflags`` (guest mode) and a
word of intercepts, with those of control registers right behind it. With only these in there, guest mode differs from
none in nothing else. Where the word lies is found by provocation, as in ``context``: a scratch processor executes
VMRUN with a known word, and the context is searched for it.

VMCB fields by their offsets in AMD's manual, volume 2, appendix B.
"""

from __future__ import annotations

import ctypes
import functools
import struct

from unicorn import UC_ARCH_X86, UC_HOOK_INTR, UC_MODE_32, Uc
from unicorn import x86_const as reg

from vilab.errors import VmmBug

RDTSC = 1 << 14
RDTSCP = 1 << 39
EXIT_RDTSC, EXIT_RDTSCP = 0x6E, 0x87
IDTR_READ, GDTR_READ = 1 << 6, 1 << 7
TR_WRITE = 1 << 13
CR0_READ = 1 << 0
"""Of the second word, which has one bit for reads of each control register."""
EXIT_CR0_READ, EXIT_IDTR_READ, EXIT_GDTR_READ = 0x00, 0x66, 0x67
HF_GUEST = 1 << 21

_VMCB, _HOST_SAVE, _GUEST, _ENTRY = 0x8000, 0x9000, 0x4000, 0x1000
_CPUID = 1 << 18
_PATTERN = _CPUID | RDTSC | 0x31 << 32  # VMRUN's own bit, and two more that make it unlike anything else
_CR_PATTERN = 0x00C5
_CODE, _DATA = 0xC9B, 0xC93


@functools.cache
def find_intercept_word() -> int:
    """Byte offset in the context of the 64-bit word of intercepts (exit codes 60h to 9fh).

    The 16 bits behind it are those for reads of control registers.

    Raises
    ------
    VmmBug : it was not found in exactly one place.
    """
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.ctl_set_cpu_model(reg.UC_CPU_X86_QEMU64)
    uc.mem_map(0, 0x10000)
    block = bytearray(4096)
    struct.pack_into("<H", block, 0x000, _CR_PATTERN)
    struct.pack_into("<Q", block, 0x00C, _PATTERN)
    struct.pack_into("<I", block, 0x058, 1)
    for at, attributes in ((0x400, _DATA), (0x410, _CODE), (0x420, _DATA), (0x430, _DATA)):
        struct.pack_into("<HHIQ", block, at, 8, attributes, 0xFFFFFFFF, 0)
    for at, value in ((0x4D0, 1 << 12), (0x558, 0x11), (0x570, 2), (0x578, _GUEST), (0x5D8, 0x7000)):
        struct.pack_into("<Q", block, at, value)
    uc.mem_write(_VMCB, bytes(block))
    uc.mem_write(_GUEST, b"\x0f\xa2")
    uc.mem_write(_ENTRY, bytes.fromhex("0f01d8"))
    uc.reg_write(reg.UC_X86_REG_MSR, (0xC0000080, 1 << 12))
    uc.reg_write(reg.UC_X86_REG_MSR, (0xC0010117, _HOST_SAVE))
    uc.reg_write(reg.UC_X86_REG_EAX, _VMCB)
    seen: list[bytes] = []

    def on_exit(uc: Uc, _number: int, _user_data: object) -> None:
        saved = uc.context_save()
        seen.append(ctypes.string_at(saved.context, saved.size))
        uc.emu_stop()

    uc.hook_add(UC_HOOK_INTR, on_exit)
    uc.emu_start(_ENTRY, 0, count=4)
    places = [
        at for at in range(0, len(seen[0]) - 7, 4) if struct.unpack_from("<Q", seen[0], at)[0] == _PATTERN
    ] if seen else []  # fmt: skip
    places = [at for at in places if struct.unpack_from("<H", seen[0], at + 8)[0] == _CR_PATTERN]
    if len(places) != 1:
        raise VmmBug(f"The processor's context has {len(places)} places that could be its intercepts.")
    return places[0]
