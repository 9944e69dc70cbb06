"""What the decoder calls undefined, tried on the processor: it raises #UD there too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import unicorn
from unicorn import x86_const

from vilab.x86.decode import Kind, decode

CODE, DATA, STACK = 0x10_0000, 0x8000, 0x9000
CODE_BYTES = 0x20_0000

# Opcodes with forms that the manuals call undefined and Unicorn runs all the same.
LAX = {
    "8f": "POP with /reg other than 0", "c6": "an XBEGIN-like form", "c7": "an XBEGIN-like form",
    "0f12": "register form after 66", "0f16": "register form after 66", "0f50": "memory form",
    "0f71": "memory form", "0f72": "memory form", "0f73": "memory form", "0f78": "memory form after 66 or F2",
    "0f79": "memory form after 66 or F2", "0fc3": "after a prefix", "0fd6": "memory form after F2 or F3",
    "0f38f0": "register form of MOVBE", "0f38f1": "register form of MOVBE",
}  # fmt: skip


class Processor:
    """A bare processor in ring 0 that says of one instruction whether it raised #UD. Each call uses fresh addresses."""

    def __init__(self) -> None:
        self.cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        self.cpu.mem_map(0, CODE + CODE_BYTES + 0x1000)
        self.undefined = False
        self.cpu.hook_add(unicorn.UC_HOOK_INSN_INVALID, self._invalid)
        self.cpu.hook_add(unicorn.UC_HOOK_INTR, lambda cpu, number, data: cpu.emu_stop())
        self.at = CODE
        self.cpu.mem_write(CODE, b"\x90")
        self.cpu.emu_start(CODE, 0, count=1)
        self.start = self.cpu.context_save()

    def _invalid(self, cpu: unicorn.Uc, data: object) -> bool:
        self.undefined = True
        return False

    def refuses(self, code: bytes) -> bool:
        self.at += 16
        if self.at >= CODE + CODE_BYTES:
            self.at = CODE
            self.cpu.ctl_flush_tb()
        self.cpu.context_restore(self.start)
        self.cpu.mem_write(self.at, code)
        self.cpu.reg_write(x86_const.UC_X86_REG_CR4, 0x600)
        self.cpu.reg_write(x86_const.UC_X86_REG_EAX, DATA)
        self.cpu.reg_write(x86_const.UC_X86_REG_ESP, STACK)
        self.undefined = False
        with contextlib.suppress(unicorn.UcError):  # other faults are no #UD
            self.cpu.emu_start(self.at, 0, count=1)
        return self.undefined


def forms(page: str, prefix: str) -> Iterator[bytes]:
    """Each opcode of a map, with each /reg, once with memory and once with a register."""
    start = bytes.fromhex(prefix) + bytes.fromhex(page)
    skip = b"\x66\x67\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65\x0f" if not page else b"\x38\x3a" if page == "0f" else b""
    for opcode in range(256):
        if opcode in skip:
            continue
        for modrm in (*range(0, 0x40, 8), *range(0xC1, 0x100, 8)) if len(page) < 4 else (0x00, 0xC1):
            yield start + bytes((opcode, modrm)) + bytes(range(0x11, 0x1D))


@pytest.mark.parametrize(
    ("page", "prefix"),
    [("", ""), *((page, prefix) for page in ("0f", "0f38", "0f3a") for prefix in ("", "66", "f2", "f3"))],
)
def test_what_the_decoder_refuses_the_processor_refuses(page: str, prefix: str) -> None:
    processor = Processor()
    assert processor.refuses(bytes.fromhex("0f0b") + bytes(10))
    assert not processor.refuses(b"\x90" * 12)
    refused = 0
    for code in forms(page, prefix):
        instruction = decode(code[:15], 0)
        if instruction.kind is not Kind.UNDEFINED or f"{instruction.opcode:02x}".zfill(len(page) + 2) in LAX:
            continue
        refused += 1
        assert processor.refuses(code[:15]), code.hex()
    assert refused > 0


@pytest.mark.parametrize("modrm", [*range(0, 0x40, 8), *range(0xC0, 0x100)])
def test_floating_point_forms_are_exactly_those_of_the_processor(modrm: int) -> None:
    processor = Processor()
    for opcode in range(0xD8, 0xE0):
        code = bytes((opcode, modrm)) + bytes(8)
        assert processor.refuses(code) == (decode(code, 0).kind is Kind.UNDEFINED), code[:2].hex()
