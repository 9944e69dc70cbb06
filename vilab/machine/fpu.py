"""The floating-point and SSE registers as the 512 bytes that FXSAVE would store.

::

    offset   0    2    4    6    8        12   16       20   24      28      32            160           288    512
             FCW  FSW  FTW  FOP  FIP      FCS  FDP      FDS  MXCSR   mask    ST0 .. ST7    XMM0 .. XMM7  0      |
                       one bit a register: in use

``ST0`` is the top of the stack; ``FTW`` counts the registers as they lie. FOP, FCS and FDS are zero: this processor
does not keep them. Source: Intel SDM volume 1, section 10.5.1, table 10-2.
"""

from __future__ import annotations

import struct

from unicorn import Uc
from unicorn import x86_const as reg

from vilab.errors import VmmBug

IMAGE_BYTES = 512
MXCSR_MASK = 0xFFFF
REGISTERS = range(8)
_HEAD = struct.Struct("<HHBxHIHxxIHxxII")
_ST_AT, _XMM_AT, _STRIDE = 32, 160, 16
_TOP_SHIFT = 11
_EMPTY = 3


def _at_power_on() -> bytes:
    image = bytearray(IMAGE_BYTES)
    _HEAD.pack_into(image, 0, 0x037F, 0, 0, 0, 0, 0, 0, 0, 0x1F80, MXCSR_MASK)
    return bytes(image)


AT_POWER_ON = _at_power_on()
"""Empty, all exceptions masked. MODEL: as FNINIT of the firmware leaves it; the bare chip has FCW 0040h."""


def read(uc: Uc) -> bytes:
    """``IMAGE_BYTES`` from the processor's registers."""
    status, tags = uc.reg_read(reg.UC_X86_REG_FPSW), uc.reg_read(reg.UC_X86_REG_FPTAG)
    in_use = sum((tags >> 2 * i & 3 != _EMPTY) << i for i in REGISTERS)
    image = bytearray(IMAGE_BYTES)
    _HEAD.pack_into(
        image, 0, uc.reg_read(reg.UC_X86_REG_FPCW), status, in_use, 0, uc.reg_read(reg.UC_X86_REG_FIP) & 0xFFFFFFFF, 0,
        uc.reg_read(reg.UC_X86_REG_FDP) & 0xFFFFFFFF, 0, uc.reg_read(reg.UC_X86_REG_MXCSR), MXCSR_MASK,
    )  # fmt: skip
    for i in REGISTERS:
        mantissa, exponent = uc.reg_read(reg.UC_X86_REG_FP0 + _physical(status, i))
        struct.pack_into("<QH", image, _ST_AT + _STRIDE * i, mantissa, exponent)
        at = _XMM_AT + _STRIDE * i
        image[at : at + _STRIDE] = uc.reg_read(reg.UC_X86_REG_XMM0 + i).to_bytes(_STRIDE, "little")
    return bytes(image)


def write(uc: Uc, image: bytes) -> None:
    """Give the processor's registers what ``read`` returned.

    Raises
    ------
    VmmBug : not ``IMAGE_BYTES`` long.
    """
    if len(image) != IMAGE_BYTES:
        raise VmmBug(f"A floating-point state has {IMAGE_BYTES} bytes, not {len(image)}.")
    control, status, in_use, _, fip, _, fdp, _, mxcsr, _ = _HEAD.unpack_from(image)
    uc.reg_write(reg.UC_X86_REG_FPCW, control)
    uc.reg_write(reg.UC_X86_REG_FPSW, status)
    uc.reg_write(reg.UC_X86_REG_FPTAG, sum(0 if in_use >> i & 1 else _EMPTY << 2 * i for i in REGISTERS))
    uc.reg_write(reg.UC_X86_REG_FIP, fip)
    uc.reg_write(reg.UC_X86_REG_FDP, fdp)
    uc.reg_write(reg.UC_X86_REG_MXCSR, mxcsr)
    for i in REGISTERS:
        uc.reg_write(reg.UC_X86_REG_FP0 + _physical(status, i), struct.unpack_from("<QH", image, _ST_AT + _STRIDE * i))
        at = _XMM_AT + _STRIDE * i
        uc.reg_write(reg.UC_X86_REG_XMM0 + i, int.from_bytes(image[at : at + _STRIDE], "little"))


def _physical(status: int, i: int) -> int:
    """Which register ST(i) is."""
    return (status >> _TOP_SHIFT) + i & 7
