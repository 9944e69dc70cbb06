"""To other segments and rings: far jumps, calls and returns, IRET, and what enters a handler."""

from __future__ import annotations

from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Digits
from vilab.vmm.differential_code.place import Place, u16, u32
from vilab.x86 import encode as e
from vilab.x86.encode import EAX


def far(d: Digits, p: Place) -> bytes:
    target = p.next
    flat = g.USER_CS if p.user else g.KERNEL_CS
    odd = d.of((flat, flat, 0, g.ABSENT_CODE, g.KERNEL_DS, g.CONFORMING, g.RING1_CS, g.TASK | 3, 0x14, 0x8))
    match d.below(8):
        case 0:
            return b"\xea" + u32(target) + u16(odd)
        case 1:
            return b"\x9a" + u32(target) + u16(odd)
        case 2:
            return b"\x68" + u32(odd) + b"\x68" + u32(target) + (b"\xcb", b"\xca\x04\x00")[d.below(2)]
        case 3:
            return b"\x9a\0\0\0\0" + u16(g.CALL_GATE | (3 if p.user else 0))
        case 4:
            return b"\x9c\x68" + u32(odd) + b"\x68" + u32(target) + b"\xcf"
        case 5:
            at = g.DATA_USER + 0x370
            store = b"\xc7\x05" + u32(at) + u32(target) + b"\xc7\x05" + u32(at + 4) + u32(odd)
            return store + b"\xff" + bytes((0x2D - d.below(2) * 0x10,)) + u32(at)
        case 6 if not p.user:
            # Through a segment with another base, and back.
            start = p.at + 7 - g.SHIFT
            inner = (
                b"\x40",
                b"\x0e\x58",
                b"\xe8\0\0\0\0\x58",
                b"\x9c\x9d",
                b"\x8c\xc8",
                b"\x2e\xa1" + u32(g.DATA_USER - g.SHIFT),
            )
            back = b"\xea" + u32(target) + u16(flat)
            return b"\xea" + u32(start) + u16(g.SHIFTED_CS) + inner[d.below(6)] + back
        case _:
            return b"\x0e\x68" + u32(target) + b"\xcb"


def enter_ring(d: Digits, p: Place) -> bytes:
    """From ring 0 by IRET to the user program (or ring 1); INT 80h comes back. In ring 3: INT 80h."""
    if p.user:
        return b"\xcd\x80"
    value = 2 | d.of((0x200, 0, 0x200, 0x3200, 0x200, 0x100, 0x3000))
    resume = b"\xc7\x05" + u32(g.KRESUME) + u32(p.next)
    if d.one_in(5):
        frame = (g.RING1_DS, g.KERNEL_STACK - 0x400, value, g.RING1_CS, p.next)
    else:
        frame = (g.USER_DS, g.USER_STACK, value, g.USER_CS, p.other[d.below(len(p.other))])
    code = b"".join(b"\x68" + u32(word) for word in frame)
    if d.one_in(6):
        # Data segments of ring 0 become null on the way.
        return resume + code + b"\xcf"
    return resume + e.mov_reg_imm(EAX, g.USER_DS) + b"\x8e\xd8\x8e\xc0" + code + b"\xcf"


def interrupt(d: Digits, _p: Place) -> bytes:
    kind = d.below(7)
    if kind < 3:
        return (b"\xcc", b"\xcd\x81", b"\xce")[kind]
    if kind == 3:
        return bytes((0xCD, d.of((0x82, 0x85, 0x86, 0x20, 0x90, 3, 0x31, 0xFF))))
    if kind == 4:
        return b"\xb0\x7f\x04\x01\xce"  # overflow, then INTO
    if kind == 5:
        at = g.DATA_USER + 0x360
        code = b"\xc7\x05" + u32(at) + u32(0) + b"\xc7\x05" + u32(at + 4) + u32(5)
        return code + b"\x62\x05" + u32(at)  # bound eax, [at]
    return b"\xdb\xe3\xd9\xe8" + b"\xdd\x1d" + u32(g.DATA_USER + 0x368)  # fninit; fld1; fstp
