"""The floating-point image against FXSAVE and FXRSTOR of the processor itself."""

from __future__ import annotations

from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
from unicorn import x86_const as reg

from vilab.machine import fpu

FILL = "dbe3 d9e8 d9eb d9ee d9e0 ddd8 660f6ec0 660f6ecb"  # fninit; 1; pi; 0; fchs; pop; movd xmm0, eax; xmm1, ebx
KEPT = ((0, 12), (16, 18), (24, 28), (32, 288))
"""All but FCS, FDS and what is reserved."""


def processor() -> Uc:
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.mem_map(0, 0x10000)
    uc.reg_write(reg.UC_X86_REG_CR4, 0x200)
    uc.reg_write(reg.UC_X86_REG_EAX, 0x12345678)
    uc.reg_write(reg.UC_X86_REG_EBX, 0x9ABCDEF0)
    return uc


def execute(uc: Uc, code: str, count: int) -> None:
    raw = bytes.fromhex(code)
    uc.mem_write(0x1000, raw)
    uc.ctl_remove_cache(0x1000, 0x1000 + len(raw))
    uc.emu_start(0x1000, 0, count=count)


def stored(uc: Uc) -> bytes:
    execute(uc, "0fae0500200000", 1)
    return bytes(uc.mem_read(0x2000, 512))


def test_the_image_is_what_fxsave_stores():
    uc = processor()
    execute(uc, FILL, 8)
    image, judge = fpu.read(uc), stored(uc)
    assert image[32:48] != bytes(16)
    for start, end in KEPT:
        assert image[start:end] == judge[start:end], start


def test_another_processor_takes_it_over():
    uc, other = processor(), processor()
    execute(uc, FILL, 8)
    image = fpu.read(uc)
    fpu.write(other, image)
    assert fpu.read(other) == image
    assert stored(other) == stored(uc)
    execute(other, "dec1 db1d00300000", 2)  # faddp; fistp: 1 + pi
    assert other.mem_read(0x3000, 4) == b"\x04\0\0\0"
