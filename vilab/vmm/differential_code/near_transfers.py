"""Jumps, loops, calls and returns inside a segment."""

from __future__ import annotations

from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Digits
from vilab.vmm.differential_code.place import Place, address, u16, u32
from vilab.x86 import encode as e
from vilab.x86.encode import EAX, EBP, EBX, ECX, EDX, ESI


def jump_if(d: Digits, p: Place) -> bytes:
    condition, short = d.below(16), d.one_in(3)
    target = p.target(d)
    if short:
        return bytes((0x70 | condition, target - p.at - 2 & 0xFF))
    if d.one_in(10):
        return b"\x66\x0f" + bytes((0x80 | condition,)) + u16(target - p.at - 5)
    return e.jcc(condition, p.at, target)


def jump(d: Digits, p: Place) -> bytes:
    target = p.target(d)
    kind = d.below(8)
    if kind == 0:
        return bytes((0xEB, target - p.at - 2 & 0xFF))
    if kind == 1:
        return b"\x66\xe9" + u16(target - p.at - 4)
    if kind < 4:
        return e.jmp(p.at, target)
    if kind == 4:
        reg = d.of((EAX, ECX, EDX, EBX, ESI, EBP))
        return e.mov_reg_imm(reg, target) + (b"\x66" if d.one_in(8) else b"") + bytes((0xFF, 0xE0 | reg))
    if kind == 5:
        return b"\x68" + u32(target) + b"\xff\x24\x24"  # jmp [esp]
    if kind == 6:
        at = g.DATA_USER + 0x300
        return b"\xc7\x05" + u32(at) + u32(target) + b"\xff\x25" + u32(at)
    at = address(d, p)
    return b"\xff\x25" + u32(at)


def loop(d: Digits, p: Place) -> bytes:
    """A LOOP of its own, and sometimes one to another slot."""
    count = e.mov_reg_imm(ECX, 1 + d.below(6))
    if d.below(3):
        body = (b"\x40", b"\x01\xc3", b"\x90\x42", b"\x50\x58", b"\x9c\x9d")[d.below(5)]
        return count + body + bytes((d.of((0xE2, 0xE2, 0xE1, 0xE0)), -len(body) - 2 & 0xFF))
    prefix = b"\x67" if d.one_in(6) else b""
    at = p.at + len(count) + len(prefix)
    return count + prefix + bytes((d.of((0xE3, 0xE2, 0xE1, 0xE0)), p.target(d) - at - 2 & 0xFF))


def call(d: Digits, p: Place) -> bytes:
    target, kind = p.target(d), d.below(9)
    if kind < 2:
        return e.call(p.at, target)
    if kind == 2:
        return e.call(p.at, p.at + 5) + b"\x58"  # call next; pop eax
    if kind == 3:
        return e.mov_reg_imm(EDX, target) + b"\xff\xd2"
    if kind == 4:
        at = g.DATA_USER + 0x304
        return b"\xc7\x05" + u32(at) + u32(target) + b"\xff\x15" + u32(at)
    if kind == 5:
        return b"\x68" + u32(target) + b"\xff\x14\x24"  # call [esp]
    if kind == 6:
        return b"\x66\xe8" + u16(target - p.at - 4)
    if kind == 7:
        return b"\xff\x15" + u32(address(d, p))
    # A real function: call over it, and it returns.
    body = (b"\x40\xc3", b"\x42\xc2\x00\x00", b"\x9c\x9d\xc3", b"\xff\x04\x24\xff\x0c\x24\xc3")[d.below(4)]
    return e.jmp_short(0, 2 + len(body)) + body + e.call(p.at + 2 + len(body), p.at + 2)


def ret(d: Digits, p: Place) -> bytes:
    target, kind = p.target(d), d.below(6)
    if kind == 0:
        return b"\xc3"
    if kind < 3:
        return b"\x68" + u32(target) + b"\xc3"
    if kind == 3:
        return b"\x68" + u32(target) + b"\xc2" + u16(4 * d.below(3))
    if kind == 4:
        return b"\x66\x68" + u16(target) + b"\x66\xc3"
    return b"\x68" + u32(target) + b"\xf3\xc3"
