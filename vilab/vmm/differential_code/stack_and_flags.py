"""ESP at delicate places, and EFLAGS by way of the stack."""

from __future__ import annotations

from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Digits
from vilab.vmm.differential_code.operands import WORK
from vilab.vmm.differential_code.place import Place, code_byte, u16, u32
from vilab.x86 import encode as e
from vilab.x86.encode import ESP

_FLAG_BITS = (0, 0x200, 0x8D5, 0x400, 0x100, 0x3000, 0x1000, 0x4000, 0x40000, 0x200000, 0x3200, 0x10000, 0x80000)


def stack_again(d: Digits, p: Place) -> bytes:
    """ESP to a sane place, sometimes to the edge of a page or an odd address."""
    top = g.USER_STACK if p.user else g.KERNEL_STACK
    return e.mov_reg_imm(ESP, top + (0, 0, 0, 1, 2, -0x7F8, 0x7F8, -0x800, 0x100)[d.below(9)])


def alter_pointer(d: Digits, p: Place) -> bytes:
    """ESP to a delicate place for one instruction or two, then back."""
    top = g.USER_STACK if p.user else g.KERNEL_STACK
    places = (g.HOLE + 2, g.READ_USER + 0x10, g.DATA_USER + 4, g.DATA_USER, g.HOLE - 2, g.READ_USER, g.READ_KERNEL + 4)
    place = code_byte(d, p) if d.one_in(8) else d.of(places)
    inner = (
        b"\x9c", b"\x9d", b"\x50", b"\x58", b"\x9c\x9d", b"\x60", b"\xc3", b"\xe8\0\0\0\0",
        b"\x0e", b"\x06", b"\x0f\xa1",
    )  # fmt: skip
    code = e.mov_reg_imm(ESP, place) + inner[d.below(len(inner))]
    return code + e.mov_reg_imm(ESP, top)


def flags(d: Digits, p: Place) -> bytes:
    kind = d.below(10)
    if kind < 2:
        return (b"\xfb", b"\xfa")[kind]
    if kind == 2:
        return b"\x9c" + bytes((0x58 | d.of(WORK),))
    if kind == 3:
        return b"\x9c\x9d"
    if kind == 4:
        return (b"\xfb\xfa", b"\xfb\xfb", b"\xfb\x90\xfa", b"\x66\x9c\x66\x9d")[d.below(4)]
    if kind == 5:
        return b"\xfb" + e.jcc(d.below(16), p.at + 1, p.target(d))
    value = 2 | d.of(_FLAG_BITS) | (d.of(_FLAG_BITS) if d.one_in(2) else 0)
    if kind == 6:
        return b"\x66\x68" + u16(value) + b"\x66\x9d"
    return b"\x68" + u32(value) + b"\x9d"


def trap_flag(_d: Digits, _p: Place) -> bytes:
    """Single steps for some instructions: the handler takes TF away."""
    return b"\x9c\x80\x4c\x24\x01\x01\x9d"
