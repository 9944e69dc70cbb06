"""What the translator emits, read back by capstone."""

import capstone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.x86 import encode as e

NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
ALU = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
CONDITIONS = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
AT = 0x10000

regs = st.integers(0, 7)
indices = regs.filter(lambda r: r != e.ESP)
addresses = st.integers(0x10_0000, 0xFFFF_FFFF)
values = st.integers(0x10, 0x7FFF_FFFF)
signed = st.integers(-(2**31), 2**31 - 1)


def read(code: bytes, address: int = AT) -> str:
    """All of ``code`` as capstone reads it; fails where bytes are left over."""
    lines = list(capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32).disasm_lite(code, address))
    assert sum(size for _, size, _, _ in lines) == len(code)
    return "; ".join(f"{mnemonic} {operands}".rstrip() for _, _, mnemonic, operands in lines)


@given(regs, addresses, values)
def test_monitor_words_are_reached_through_ss(reg: int, address: int, value: int) -> None:
    name, where = NAMES[reg], f"dword ptr ss:[{address:#x}]"
    assert read(e.store_reg(address, reg)) == f"mov {where}, {name}"
    assert read(e.load_reg(reg, address)) == f"mov {name}, {where}"
    assert read(e.store_imm(address, value)) == f"mov {where}, {value:#x}"
    assert read(e.store_byte_imm(address, 0x5A)) == f"mov byte ptr ss:[{address:#x}], 0x5a"
    assert read(e.load_zero_extended_word(reg, address)) == f"movzx {name}, word ptr ss:[{address:#x}]"
    assert read(e.push_mem(address)) == f"push {where}"
    assert read(e.pop_mem(address)) == f"pop {where}"
    assert read(e.xchg_mem(address, reg)) == f"xchg {where}, {name}"
    assert read(e.bt_mem(address, 9)) == f"bt {where}, 9"
    assert read(e.jmp_mem(address)) == f"jmp {where}"


@given(regs, indices, st.integers(0x10_0000, 0x7FFF_FFFF))
def test_tables_are_indexed_by_four(reg: int, index: int, address: int) -> None:
    cell = f"dword ptr ss:[{NAMES[index]}*4 + {address:#x}]"
    assert read(e.load_table(reg, address, index)) == f"mov {NAMES[reg]}, {cell}"
    assert read(e.jmp_table(address, index)) == f"jmp {cell}"


@given(st.integers(0, 7), regs, regs, addresses, values)
def test_alu_forms(operation: int, reg: int, other: int, address: int, value: int) -> None:
    op, name, where = ALU[operation], NAMES[reg], f"dword ptr ss:[{address:#x}]"
    assert read(e.alu_mem_imm(operation, address, value)) == f"{op} {where}, {value:#x}"
    assert read(e.alu_byte_mem_imm(operation, address, 0x40)) == f"{op} byte ptr ss:[{address:#x}], 0x40"
    assert read(e.alu_mem_reg(operation, address, reg)) == f"{op} {where}, {name}"
    assert read(e.alu_reg_mem(operation, reg, address)) == f"{op} {name}, {where}"
    assert read(e.alu_reg_imm(operation, reg, value)) == f"{op} {name}, {value:#x}"
    assert read(e.alu_reg(operation, reg, other)) == f"{op} {name}, {NAMES[other]}"
    assert read(e.alu_stack_imm(operation, 8, value)) == f"{op} dword ptr [esp + 8], {value:#x}"
    assert read(e.alu_stack_reg(operation, 8, reg)) == f"{op} dword ptr [esp + 8], {name}"


def spell(displacement: int) -> str:
    if displacement == 0:
        return "esp"
    size = abs(displacement)
    number = f"{size:#x}" if size > 9 else str(size)
    return f"esp {'-' if displacement < 0 else '+'} {number}"


@given(regs, signed, values)
def test_the_stack_is_reached_through_esp(reg: int, displacement: int, value: int) -> None:
    name, cell = NAMES[reg], f"[{spell(displacement)}]"
    assert read(e.load_stack(reg, displacement)) == f"mov {name}, dword ptr {cell}"
    assert read(e.store_stack(displacement, reg)) == f"mov dword ptr {cell}, {name}"
    assert read(e.store_stack_imm(displacement, value)) == f"mov dword ptr {cell}, {value:#x}"
    assert read(e.load_stack_byte(reg, displacement)) == f"movzx {name}, byte ptr {cell}"
    assert read(e.pop_stack(displacement)) == f"pop dword ptr {cell}"
    assert read(e.push_stack(displacement)) == f"push dword ptr {cell}"
    assert read(e.push_reg(reg)) == f"push {name}"
    assert read(e.pop_reg(reg)) == f"pop {name}"
    assert read(e.push_imm(value)) == f"push {value:#x}"


@given(regs, regs, indices, st.sampled_from((1, 2, 4, 8)), st.integers(0x100, 0x7FFF_FFFF))
def test_register_moves_and_lea(reg: int, base: int, index: int, scale: int, displacement: int) -> None:
    assert read(e.mov_reg_imm(reg, displacement)) == f"mov {NAMES[reg]}, {displacement:#x}"
    assert read(e.mov_reg(reg, base)) == f"mov {NAMES[reg]}, {NAMES[base]}"
    assert read(e.xchg_reg(reg, base)) == f"xchg {NAMES[reg]}, {NAMES[base]}"
    assert read(e.lea(reg, base, displacement)) == f"lea {NAMES[reg]}, [{NAMES[base]} + {displacement:#x}]"
    assert read(e.lea(reg, base, -8)) == f"lea {NAMES[reg]}, [{NAMES[base]} - 8]"
    times = "" if scale == 1 else f"*{scale}"
    expected = f"lea {NAMES[reg]}, [{NAMES[base]} + {NAMES[index]}{times} + {displacement:#x}]"
    assert read(e.lea_scaled(reg, base, index, scale, displacement)) == expected
    assert read(e.jmp_reg(reg)) == f"jmp {NAMES[reg]}"


@pytest.mark.parametrize("source", range(4))
def test_movzx_takes_the_low_byte(source: int) -> None:
    assert read(e.movzx_byte(e.EDI, source)) == f"movzx edi, {'acdb'[source]}l"


@given(st.integers(0, 15), st.integers(0x1000, 0x7FFF_FFFF))
def test_near_jumps_reach_their_target(condition: int, target: int) -> None:
    assert read(e.jmp(AT, target)) == f"jmp {target:#x}"
    assert read(e.call(AT, target)) == f"call {target:#x}"
    assert read(e.jcc(condition, AT, target)) == f"j{CONDITIONS[condition]} {target:#x}"


@given(st.integers(0, 15), st.integers(-126, 129))
def test_short_jumps_reach_their_target(condition: int, distance: int) -> None:
    target = AT + distance
    assert read(e.jmp_short(AT, target)) == f"jmp {target:#x}"
    assert read(e.jcc_short(condition, AT, target)) == f"j{CONDITIONS[condition]} {target:#x}"
    assert read(e.jecxz(AT, target)) == f"jecxz {target:#x}"
    assert read(e.loop(0xE1, AT, target)) == f"loope {target:#x}"


def test_jumps_wrap_at_4_gb() -> None:
    assert read(e.jmp(0xFFFF_FFF0, 0x10), 0xFFFF_FFF0) == "jmp 0x10"
    assert e.jmp_short(0xFFFF_FFF0, 0x10) == b"\xeb\x1e"


@pytest.mark.parametrize("distance", [-127, 130, 1 << 31])
def test_a_short_jump_out_of_reach_is_refused(distance: int) -> None:
    with pytest.raises(ValueError, match="cannot reach"):
        e.jecxz(AT, AT + distance)


def test_esp_is_no_index() -> None:
    with pytest.raises(ValueError, match="ESP"):
        e.jmp_table(0x1000, e.ESP)


def test_esi_has_no_low_byte() -> None:
    with pytest.raises(ValueError, match="low byte"):
        e.movzx_byte(e.EAX, e.ESI)


def test_the_rest() -> None:
    assert read(e.pushfd()) == "pushfd"
    assert read(e.popfd()) == "popfd"
    assert read(e.ret()) == "ret"
    assert read(e.ret_imm(12)) == "ret 0xc"
    assert read(e.int_n(0x80)) == "int 0x80"
    assert read(e.int3()) == "int3"


@pytest.mark.parametrize("size", range(40))
def test_nops_fill_exactly(size: int) -> None:
    code = e.nop(size)
    assert len(code) == size
    lines = list(capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32).disasm_lite(code, 0))
    assert sum(line[1] for line in lines) == size
    assert {line[2] for line in lines} <= {"nop"}
