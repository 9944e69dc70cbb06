"""The register file's layout is found by provocation; what was found must behave as those registers."""

from __future__ import annotations

import struct

import pytest
from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
from unicorn import x86_const as reg

from vilab.errors import VmmBug
from vilab.machine import context
from vilab.machine.context import Layout, find_layout


def test_every_register_found_holds_what_unicorn_says():
    at = find_layout()
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.reg_write(reg.UC_X86_REG_EDI, 0xABCD0123)
    uc.reg_write(reg.UC_X86_REG_EIP, 0x4321)
    uc.reg_write(reg.UC_X86_REG_CR3, 0x7000)
    uc.reg_write(reg.UC_X86_REG_IDTR, (0, 0x12340000, 0x3FF, 0))
    probe = context._Probe.__new__(context._Probe)
    probe.uc = uc
    raw = probe.context()
    assert struct.unpack_from("<Q", raw, at.gpr + 8 * 7)[0] == 0xABCD0123
    assert struct.unpack_from("<Q", raw, at.eip)[0] == 0x4321
    assert struct.unpack_from("<Q", raw, at.cr + 8 * 3)[0] == 0x7000
    assert struct.unpack_from("<Q", raw, at.idtr + context.BASE)[0] == 0x12340000
    assert struct.unpack_from("<I", raw, at.idtr + context.LIMIT)[0] == 0x3FF


def test_no_two_registers_share_a_place():
    values = [getattr(find_layout(), name) for name in Layout.__struct_fields__]
    assert len(set(values)) == len(values)


def test_an_ambiguous_place_is_refused():
    before = bytes(32)
    after = struct.pack("<QQQQ", 5, 0, 5, 0)
    with pytest.raises(VmmBug, match="2 places that could be EIP"):
        context._changed(before, after, "<Q", 0, 5, "EIP")
