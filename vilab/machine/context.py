"""Where each register lies in the processor's saved context, found by provocation.

Unicorn can copy its processor's whole state out and back in half a microsecond, which is the fastest way to read or
change many registers. The copy has no published layout, and it moves between builds. So nothing is written down here:
at start-up a scratch processor is given known values, its context is saved before and after, and the place that
changed from the one value to the other is the register. A probe that finds no place or several is an error.

::

    context  | header | gpr 0..7 ... | eip | eflags | lazy flags | hflags | segments | ... | error code | ...
                         8 bytes each                                24 bytes each: selector u32, -, base u64,
                                                                     limit u32, flags u32
"""

from __future__ import annotations

import ctypes
import functools
import struct
from typing import TYPE_CHECKING

import msgspec
from unicorn import UC_ARCH_X86, UC_HOOK_INTR, UC_MODE_32, Uc
from unicorn import x86_const as reg

from vilab.errors import VmmBug

if TYPE_CHECKING:
    from collections.abc import Callable


class Layout(msgspec.Struct, frozen=True):
    """Byte offsets into the context.

    ``segments`` is the first of six 24-byte records: ES CS SS DS FS GS. Behind ``error_code`` (4 bytes) follow a flag
    that is 1 after INT n (4 bytes) and the address behind that instruction (8 bytes).
    """

    gpr: int
    eip: int
    eflags: int
    cc_src: int
    cc_op: int
    df: int
    hflags: int
    segments: int
    ldtr: int
    tr: int
    gdtr: int
    idtr: int
    cr: int
    error_code: int
    old_exception: int


SEGMENT_BYTES = 24
SELECTOR, BASE, LIMIT, FLAGS = 0, 8, 16, 20
"""Offsets inside a segment record."""

CC_OP_EFLAGS = 1
"""The lazy-flags operation that says: the arithmetic flags are in ``cc_src`` as they are."""

_SAMPLE_GDT = 0x3000


def _descriptor(base: int, kind: int) -> bytes:
    return struct.pack("<HHBBBB", 0xFFFF, base & 0xFFFF, base >> 16 & 0xFF, kind, 0xCF, base >> 24 & 0xFF)


class _Probe:
    """A scratch processor with its context."""

    def __init__(self) -> None:
        self.uc = Uc(UC_ARCH_X86, UC_MODE_32)
        self.uc.mem_map(0, 0x10000)
        self.uc.hook_add(UC_HOOK_INTR, lambda uc, *_: uc.emu_stop())

    def context(self) -> bytes:
        saved = self.uc.context_save()
        return ctypes.string_at(saved.context, saved.size)

    def run(self, code: bytes, count: int) -> None:
        self.uc.mem_write(0x1000, code)
        self.uc.ctl_remove_cache(0x1000, 0x1000 + 64)
        self.uc.emu_start(0x1000, 0, count=count)


def _changed(before: bytes, after: bytes, form: str, old: int | None, new: int, what: str) -> int:
    """The only aligned place that went from ``old`` (any other value, if None) to ``new``."""
    size = struct.calcsize(form)
    places = [
        at
        for at in range(0, len(after) - size + 1, size)
        if (value := struct.unpack_from(form, after, at)[0]) == new
        and (was := struct.unpack_from(form, before, at)[0]) != value
        and (old is None or was == old)
    ]
    if len(places) != 1:
        raise VmmBug(f"The processor's context has {len(places)} places that could be {what}: is this Unicorn 2.1.4?")
    return places[0]


@functools.cache
def find_layout() -> Layout:
    """Probe a scratch processor (about 20 ms, once a process).

    Raises
    ------
    VmmBug : a register could not be found in exactly one place.
    """
    probe = _Probe()
    uc = probe.uc

    def written(register: int, old: int, new: int, form: str, what: str, seen: Callable[[int], int] = int) -> int:
        uc.reg_write(register, old)
        before = probe.context()
        uc.reg_write(register, new)
        return _changed(before, probe.context(), form, seen(old), seen(new), what)

    names = (reg.UC_X86_REG_EAX, reg.UC_X86_REG_ECX, reg.UC_X86_REG_EDX, reg.UC_X86_REG_EBX,
             reg.UC_X86_REG_ESP, reg.UC_X86_REG_EBP, reg.UC_X86_REG_ESI, reg.UC_X86_REG_EDI)  # fmt: skip
    gprs = [written(name, 0x11000 + i, 0x5A5A000 + i, "<Q", f"register {i}") for i, name in enumerate(names)]
    if gprs != list(range(gprs[0], gprs[0] + 64, 8)):
        raise VmmBug("The general registers do not lie side by side in the processor's context.")

    eflags = written(reg.UC_X86_REG_EFLAGS, 0x2, 0x4202, "<Q", "EFLAGS")
    cc_src = written(reg.UC_X86_REG_EFLAGS, 0x0002 | 0x44, 0x0002 | 0x81, "<Q", "the arithmetic flags",
                     lambda v: v & 0xC5)  # fmt: skip
    uc.reg_write(reg.UC_X86_REG_EFLAGS, 0x2)
    plain = probe.context()
    uc.reg_write(reg.UC_X86_REG_EFLAGS, 0x402)
    df = _changed(plain, probe.context(), "<i", 1, -1, "the direction flag")
    probe.run(bytes.fromhex("01c0f4"), 1)
    lazy = probe.context()
    uc.reg_write(reg.UC_X86_REG_EFLAGS, 0x2)
    after = probe.context()
    cc_op = next(
        (at for at in range(cc_src, cc_src + 32, 4)
         if struct.unpack_from("<I", after, at)[0] == CC_OP_EFLAGS and lazy[at : at + 4] != after[at : at + 4]), -1
    )  # fmt: skip
    if cc_op < 0:
        raise VmmBug("The processor's context has no place for the lazy flags' operation: is this Unicorn 2.1.4?")
    eip = written(reg.UC_X86_REG_EIP, 0x1234, 0x765430, "<Q", "EIP")

    cr2 = written(reg.UC_X86_REG_CR2, 0x111, 0x7654000, "<Q", "CR2")
    cr3 = written(reg.UC_X86_REG_CR3, 0x1000, 0x2000, "<Q", "CR3")
    if cr3 - cr2 != 8:
        raise VmmBug("The control registers do not lie side by side in the processor's context.")
    before = probe.context()
    uc.reg_write(reg.UC_X86_REG_CR0, uc.reg_read(reg.UC_X86_REG_CR0) | 8)  # TS, which hflags repeats as bit 11
    after = probe.context()
    hflags = _changed(before, after, "<I", None, struct.unpack_from("<I", before, df + 4)[0] | 0x800, "hflags")

    bases = [0x1110000 * (i + 1) for i in range(6)]
    gdt = b"\0" * 8 + b"".join(_descriptor(base, 0x93) for base in bases)
    gdt += _descriptor(0x7770000, 0x82) + _descriptor(0x8880000, 0x89) + _descriptor(bases[1], 0x9B)
    uc.mem_write(_SAMPLE_GDT, gdt)
    before = probe.context()
    uc.reg_write(reg.UC_X86_REG_GDTR, (0, _SAMPLE_GDT, 0x7F, 0))
    gdtr = _changed(before, probe.context(), "<Q", None, _SAMPLE_GDT, "GDTR") - BASE
    before = probe.context()
    uc.reg_write(reg.UC_X86_REG_IDTR, (0, 0x6543000, 0x7FF, 0))
    idtr = _changed(before, probe.context(), "<Q", None, 0x6543000, "IDTR") - BASE

    def loaded(code: str, base: int, what: str) -> int:
        before = probe.context()
        probe.run(bytes.fromhex(code), 2)
        return _changed(before, probe.context(), "<Q", None, base, what) - BASE

    es = loaded("b8080000008ec0", bases[0], "ES")
    for index, opcode, name in ((3, "d8", "DS"), (4, "e0", "FS"), (5, "e8", "GS")):
        at = loaded(f"b8{8 * (index + 1):02x}0000008e{opcode}", bases[index], name)
        if at != es + SEGMENT_BYTES * index:
            raise VmmBug(f"{name} is not where it should be in the processor's context.")
    ldtr = loaded("b8380000000f00d0", 0x7770000, "LDTR")
    tr = loaded("b8400000000f00d8", 0x8880000, "TR")

    before = probe.context()
    # mov ds, ax with 0x9630, beyond the table: #GP(9630). No pointer of this process has such an upper half.
    probe.run(bytes.fromhex("b8309601008ed8"), 2)
    after = probe.context()
    error_code = _changed(before, after, "<i", None, 0x9630, "the error code")
    old_exception = _changed(before, after, "<i", -1, 13, "the earlier exception")
    # Beside the error code: whether it was INT n, and the address behind that instruction.
    probe.run(bytes.fromhex("cd80"), 1)
    software = struct.unpack_from("<IQ", probe.context(), error_code + 4)
    if after[error_code + 4] or software != (1, 0x1002):
        raise VmmBug("INT n leaves no mark beside the error code in the processor's context.")
    return Layout(gprs[0], eip, eflags, cc_src, cc_op, df, hflags, es, ldtr, tr, gdtr, idtr, cr2 - 16,
                  error_code, old_exception)  # fmt: skip
