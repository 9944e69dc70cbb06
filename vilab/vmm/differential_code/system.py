"""Control and table registers, caches, CPUID, ports, HLT."""

from __future__ import annotations

from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Digits
from vilab.vmm.differential_code.place import Place, address, u32
from vilab.x86 import encode as e
from vilab.x86.encode import EAX, ECX, EDX


def system(d: Digits, p: Place) -> bytes:
    """System registers, read and written with values that the program survives."""
    kind = d.below(20)
    if p.user and kind in (0, 1, 2, 3, 4):
        kind = 5
    at = g.DATA_USER + 0x350
    reg = d.of((EAX, ECX, EDX))
    match kind:
        case 0:
            return bytes((0x0F, 0x01, 0x05 | d.below(2) << 3)) + u32(at if d.below(4) else address(d, p))
        case 1:
            return bytes((0x0F, 0x00, 0xC0 | d.below(2) << 3 | reg))
        case 2:
            return bytes((0x0F, 0x00, 0x05 | d.below(2) << 3)) + u32(at)
        case 3:
            return bytes((0x0F, 0x01, 0xE0 | reg)) if d.below(2) else b"\x0f\x01\x25" + u32(at)
        case 4:
            table = d.below(2) << 3
            return bytes((0x0F, 0x01, 0x05 | table)) + u32(at) + bytes((0x0F, 0x01, 0x15 | table)) + u32(at)
        case 5 | 6:
            return bytes((0x0F, 0x20, 0xC0 | d.of((0, 2, 3, 4)) << 3 | reg))
        case 7:
            return b"\x0f\x20\xd8\x0f\x22\xd8"
        case 8:
            bit = d.of((0x8, 0x10000, 0x20, 0x4, 0x80000000, 0x8))
            return b"\x0f\x20\xc0\x35" + u32(bit) + b"\x0f\x22\xc0"
        case 9:
            return b"\x0f\x20\xe0\x35" + u32(d.of((0x10, 0x4, 0x200, 0x8))) + b"\x0f\x22\xe0"
        case 10:
            return b"\x0f\x06"
        case 11:
            return e.mov_reg_imm(EAX, d.of((0x1, 0xB, 0x5, 0x9, 0x0)) | 1) + b"\x0f\x01\xf0"
        case 12:
            return b"\x0f\x01\x3d" + u32(address(d, p))
        case 13:
            return (b"\x0f\x08", b"\x0f\x09")[d.below(2)]
        case 14:
            return e.mov_reg_imm(EAX, d.of((0, 1, 2, 0x80000000))) + b"\x0f\xa2"
        case 15:
            return e.mov_reg_imm(EAX, d.of((g.LOCAL, 0, g.KERNEL_DS, g.TASK, 0xFFF8))) + b"\x0f\x00\xd0"
        case 16:
            return e.mov_reg_imm(EAX, d.of((g.IDLE_TASK, g.TASK, g.LOCAL))) + b"\x0f\x00\xd8"
        case 17:
            return e.mov_reg_imm(EAX, d.below(1 << 16)) + bytes((0x0F, 0x22, 0xD0))  # mov cr2, eax
        case 18:
            return (b"\x0f\x0b", b"\x0f\xff\xc0", b"\xf0\x90", b"\x8e\xc8", b"\xc7\xc8\0\0\0\0")[d.below(5)]
        case _:
            return (
                bytes((0xE4 | d.below(4),)) + b"\x80" if d.below(2) else b"\xba\xed\0\0\0" + bytes((0xEC | d.below(4),))
            )


def string_io(d: Digits, p: Place) -> bytes:
    code = b"\xba\x80\0\0\0" + bytes((0xBE | d.below(2),)) + u32(address(d, p)) + b"\xbf" + u32(address(d, p))
    code += e.mov_reg_imm(ECX, d.below(4)) + b"\xfc"
    return code + (b"\xf3", b"")[d.below(2)] + bytes((0x6C | d.below(4),))


def halt(d: Digits, _p: Place) -> bytes:
    return (b"\xfa\x90", b"\xfb\x90", b"\xf4", b"\xfb\xf4")[d.below(4)]
