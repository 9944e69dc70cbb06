"""Memory that is code: stores into it, copies over it, and another page in its place."""

from __future__ import annotations

from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Digits
from vilab.vmm.differential_code.place import Place, code_byte, u32
from vilab.x86 import encode as e
from vilab.x86.encode import EAX, ECX, EDX

_PATCHES = (0x90, 0x40, 0x42, 0x4A, 0xF8, 0xF9, 0xF5, 0xFC, 0x98, 0x99, 0x9F, 0xC3, 0xCC, 0x0F, 0x48, 0x41)


def modify(d: Digits, p: Place) -> bytes:
    at, kind = code_byte(d, p), d.below(7)
    if kind < 3:
        return b"\xc6\x05" + u32(at) + bytes((d.of(_PATCHES),))
    if kind == 3:
        patch = bytes(d.of(_PATCHES) for _ in range(4))
        return b"\xc7\x05" + u32(at) + patch
    if kind == 4:
        return b"\xfe\x05" + u32(at)
    if kind == 5:
        # The immediate of an instruction just behind.
        code = b"\x80\x35" + u32(p.at + 8) + bytes((d.below(256),))
        return code + b"\xb0" + bytes((d.below(256),))
    reg = d.of((EAX, ECX, EDX))
    return bytes((0x89, 0x05 | reg << 3)) + u32(at)


def modify_ahead(d: Digits, p: Place) -> bytes:
    """Run a piece of code, change it, run it again."""
    body = bytes((0x40, d.of((0x42, 0x4A, 0xF9)), 0xC3))
    start = 2
    code = e.jmp_short(0, 2 + len(body)) + body
    code += e.call(p.at + len(code), p.at + start)
    code += b"\xc6\x05" + u32(p.at + start + d.below(2)) + bytes((d.of((0x41, 0x90, 0x48, 0xF8, 0xC3)),))
    return code + e.call(p.at + len(code), p.at + start)


def copy_code(d: Digits, p: Place) -> bytes:
    """Copy a later slot's first bytes over another place, with REP MOVS."""
    source = p.target(d)
    code = b"\xbe" + u32(source) + b"\xbf" + u32(code_byte(d, p)) + e.mov_reg_imm(ECX, 1 + d.below(6))
    return code + b"\xfc\xeb\x00\xf3\xa4"


def remap(d: Digits, _p: Place) -> bytes:
    """Another page where code was called, with INVLPG or CR3; called before and after."""
    called = e.mov_reg_imm(EDX, g.REMAPPED) + b"\xff\xd2"
    entry = (g.FUNCTIONS + 0x1000 * d.below(2)) | (7, 7, 7, 5, 3, 6)[d.below(6)] | 0x60
    change = b"\xc7\x05" + u32(g.REMAPPED_ENTRY) + u32(entry)
    # The privileged instruction also comes first, so that outside ring 0 the entry is not changed and then not flushed.
    if d.below(2):
        before = after = b"\x0f\x01\x3d" + u32(g.REMAPPED)
    else:
        before, after = b"\x0f\x20\xd9", b"\x0f\x22\xd9"
    return (called if d.below(3) else b"") + before + change + after + (called if d.below(3) else b"")
