"""Segment registers loaded and read, with selectors of every kind; LAR, LSL, VERR, VERW, ARPL."""

from __future__ import annotations

from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Digits
from vilab.vmm.differential_code.operands import WORK
from vilab.vmm.differential_code.place import Place, u32
from vilab.x86 import encode as e
from vilab.x86.encode import EAX, EBX, EDX, ESI, ESP

_KERNEL_SELECTORS = (
    g.KERNEL_DS, g.KERNEL_DS, g.USER_DS, 0, g.SHIFTED_DS, g.USER_SHIFTED, g.READ_ONLY, g.EXPAND_DOWN, g.FRESH, g.ABSENT,
    g.EXECUTE_ONLY, g.KERNEL_CS, g.CONFORMING, g.TASK, 0x3, 0x04, 0x0F, 0x1C, 0x24, 0x13, 0xFFF8, 0xF8, g.CALL_GATE,
)  # fmt: skip
_USER_SELECTORS = (
    g.USER_DS, g.USER_DS, 0, g.USER_SHIFTED, 0x20, g.KERNEL_DS, 0x0F, g.CONFORMING | 3, g.ABSENT | 3, 0xFB,
)  # fmt: skip


def selectors(p: Place) -> tuple[int, ...]:
    return _USER_SELECTORS if p.user else _KERNEL_SELECTORS


def flat_data(p: Place) -> int:
    return g.USER_DS if p.user else g.KERNEL_DS


def load_segment(d: Digits, p: Place) -> bytes:
    value, kind = d.of(selectors(p)), d.below(5)
    index = d.of((4, 5, 0, 4, 5, 3))
    back = b"" if index > 3 or d.one_in(8) else e.mov_reg_imm(EAX, flat_data(p)) + bytes((0x8E, 0xC0 | index << 3))
    if kind < 2:
        return e.mov_reg_imm(EAX, value) + bytes((0x8E, 0xC0 | index << 3)) + back
    push = b"\x68" + u32(value)
    if kind == 2:
        pop = {0: b"\x07", 3: b"\x1f", 4: b"\x0f\xa1", 5: b"\x0f\xa9"}[index]
        return push + pop + back
    if kind == 3:
        return push + bytes((0x8E, 0x04 | index << 3, 0x24)) + b"\x58" + back  # mov seg, [esp]; pop eax
    at = g.DATA_USER + 0x320
    opcode = {0: b"\xc4", 3: b"\xc5", 4: b"\x0f\xb4", 5: b"\x0f\xb5"}[index]
    return b"\xc7\x05" + u32(at + 4) + u32(value) + opcode + bytes((0x05 | d.of(WORK[:3]) << 3,)) + u32(at) + back


def load_stack_segment(d: Digits, p: Place) -> bytes:
    """SS, and back to the flat one soon."""
    flat = e.mov_reg_imm(EAX, flat_data(p)) + b"\x8e\xd0"
    if p.user:
        return flat + b"\x90"
    value = d.of((g.KERNEL_DS, g.SMALL_STACK, g.SHIFTED_DS, 0x04, 0, g.USER_DS, g.ABSENT, g.FRESH))
    inner = (b"\x50\x58", b"\x9c\x9d", b"\xe8\0\0\0\0\x59", b"\x0e\x59", b"\xfa\xfb", b"\x55\x89\xe5\xc9", b"\x60\x61")
    top = g.KERNEL_STACK - (g.SHIFT if value in (g.SHIFTED_DS,) else 0)
    load = e.mov_reg_imm(EAX, value) + b"\x8e\xd0" if d.below(2) else b"\x68" + u32(value) + b"\x17"
    code = load + (e.mov_reg_imm(ESP, top) if d.below(3) else b"") + inner[d.below(len(inner))]
    return code + flat + (e.mov_reg_imm(ESP, g.KERNEL_STACK) if d.below(3) else b"")


def read_segment(d: Digits, _p: Place) -> bytes:
    kind = d.below(4)
    if kind == 0:
        return bytes((0x8C, 0xC0 | d.below(6) << 3 | d.of(WORK)))
    if kind == 1:
        return bytes((0x8C, 0x05 | d.below(6) << 3)) + u32(g.DATA_USER + 0x330)
    push = (b"\x0e", b"\x16", b"\x1e", b"\x06", b"\x0f\xa0", b"\x0f\xa8")[d.below(6)]
    if kind == 2:
        return push + b"\x5a"
    return b"\x66" + push + b"\x66\x5a"


def inspect(d: Digits, p: Place) -> bytes:
    """LAR LSL VERR VERW ARPL."""
    code = e.mov_reg_imm(EDX, d.of(selectors(p)))
    kind = d.below(5)
    if kind < 2:
        return code + bytes((0x0F, 2 + kind, 0xC0 | d.of((EAX, EBX, ESI)) << 3 | EDX))
    if kind < 4:
        return code + bytes((0x0F, 0x00, 0xE2 if kind == 2 else 0xEA))
    return code + b"\x89\x15" + u32(g.DATA_USER + 0x340) + b"\x0f\x02\x0d" + u32(g.DATA_USER + 0x340)
