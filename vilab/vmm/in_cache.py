"""Code that stands in a fragment where the guest's own would be wrong: it does the same without the monitor.

The monitor's words (``monitor.WORDS``) are reached through SS, which is flat wherever such code is used. All of it
keeps flags and registers.

Where a table leads, a *prelude* compares the whole address before the fragment is entered::

    returns[low byte] ──> pop ecx; lea ecx,[ecx-G]; jecxz hit; lea ecx,[ecx+G]; int3     (miss: the monitor looks it up)
                     hit: mov ecx,ss:[spill]; jmp fragment of G
"""

from __future__ import annotations

from vilab.vmm import monitor
from vilab.x86 import encode as e
from vilab.x86.decode import Instruction
from vilab.x86.flags import IF

WORDS = monitor.WORDS
FLAGS_AT = WORDS + 4 * monitor.WORD_FLAGS
SPILL_AT = WORDS + 4 * monitor.WORD_SPILL
TARGET_AT = WORDS + 4 * monitor.WORD_TARGET
POPPED_AT = WORDS + 4 * monitor.WORD_POPPED

ECX, ESP = 1, 4
TF_AND_IOPL = 0x31  # in the second byte of EFLAGS
TEST_BYTE = b"\x36\xf6\x05"
JNZ = 5


def pushf(tc: int) -> bytes:
    """The CPU's IF is 1 and its IOPL 0: only IF may have to be cleared on the stack."""
    head = e.pushfd() + e.store_reg(SPILL_AT, ECX) + e.load_reg(ECX, FLAGS_AT)
    correct = e.load_stack(ECX) + e.lea(ECX, ECX, -IF) + e.store_stack(0, ECX)
    skip = e.jecxz(0, 4) + e.jmp_short(0, 2 + len(correct))
    return head + skip + correct + e.load_reg(ECX, SPILL_AT)


def popf(tc: int) -> bytes:
    """Flags with TF or IOPL are the monitor's business. The others are popped a second time, from the monitor's word,
    so that nothing is written to the guest's stack."""
    test = TEST_BYTE + (POPPED_AT + 1).to_bytes(4, "little")
    off, on = e.store_imm(FLAGS_AT, 0), e.store_imm(FLAGS_AT, IF)
    over_on = e.jmp_short(0, 2 + len(on))
    flag = test + bytes((IF >> 8,)) + e.jcc_short(JNZ, 0, 2 + len(off) + len(over_on)) + off + over_on + on
    rest = e.store_reg(SPILL_AT, ESP) + e.mov_reg_imm(ESP, POPPED_AT) + e.popfd() + e.load_reg(ESP, SPILL_AT)
    fast = flag + rest + e.jmp_short(0, 2 + 1)
    return e.pop_mem(POPPED_AT) + test + bytes((TF_AND_IOPL,)) + e.jcc_short(JNZ, 0, 2 + len(fast)) + fast + b"\xcc"


def from_flat(i: Instruction, cs_base: int) -> bytes:
    """The CPU's CS is flat, the guest's is not: an operand in CS is reached through SS, its base added.

    MODEL: not with 16-bit addresses, nor for the implicit operands of string
    instructions and XLAT.
    """
    operand = i.memory
    if operand is None or operand.bits == 16:
        return i.code
    displacement = (operand.displacement + cs_base & 0xFFFFFFFF).to_bytes(4, "little")
    opcode_end = i.modrm_at if i.modrm >= 0 else i.immediate_at
    head = i.code[:opcode_end].replace(b"\x2e", b"\x36", 1)
    if i.modrm < 0:
        return head + displacement
    modrm = bytes((i.modrm & 0x3F | (0 if operand.base < 0 else 0x80),))
    sib = i.code[i.modrm_at + 1 : i.modrm_at + 2] if i.modrm & 7 == 4 else b""
    return head + modrm + sib + displacement + i.code[i.immediate_at :]


def load_operand(i: Instruction) -> bytes:
    """``mov ecx, r/m`` with the operand of an indirect JMP or CALL: prefixes and address bytes as they are."""
    head = i.code[: i.modrm_at - 1]
    return head + bytes((0x8B, i.modrm & 0xC7 | ECX << 3)) + i.code[i.modrm_at + 1 :]


def return_prelude(eip: int, at: int, fragment: int | None) -> tuple[bytes, int]:
    """Code before the fragment for a return to ``eip``, and the address of its miss; no ``fragment``: it follows."""
    compare = e.pop_reg(ECX) + e.lea(ECX, ECX, _signed(-eip))
    return _prelude(compare, eip, at, fragment)


def jump_prelude(eip: int, at: int, fragment: int | None) -> tuple[bytes, int]:
    """The same for an indirect jump, whose target is in the monitor's word."""
    compare = e.load_reg(ECX, TARGET_AT) + e.lea(ECX, ECX, _signed(-eip))
    return _prelude(compare, eip, at, fragment)


def _prelude(compare: bytes, eip: int, at: int, fragment: int | None) -> tuple[bytes, int]:
    undo = e.lea(ECX, ECX, _signed(eip))
    code = compare + e.jecxz(0, 2 + len(undo) + 1) + undo
    miss = at + len(code)
    code += b"\xcc" + e.load_reg(ECX, SPILL_AT)
    return code if fragment is None else code + e.jmp(at + len(code), fragment), miss


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
