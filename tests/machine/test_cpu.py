"""The processor as a class: exits, exact time, exact stops. The judge is Unicorn itself, driven without our class."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unicorn import UC_ARCH_X86, UC_HOOK_INSN, UC_MODE_32, Uc
from unicorn import x86_const as reg

from vilab.machine.cpu import Cpu
from vilab.machine.exits import Stop
from vilab.machine.memory import MachineMemory
from vilab.machine.registers import CS, DS, EAX, EBX, ECX, EDI, ESI, ESP

CODE = 0x1000
FLAT_CODE, FLAT_DATA = 0x00CF9B00, 0x00CF9300


class Recorder:
    """A handler that writes down what it is told."""

    def __init__(self) -> None:
        self.cpu: Cpu
        self.seen: list[tuple[object, ...]] = []
        self.go_on = True
        self.stop_on_out = False

    def on_exception(self, number: int) -> bool:
        self.seen.append(("exception", number, self.cpu.eip, self.cpu.is_software_interrupt, self.cpu.executed_bytes))
        return self.go_on

    def on_in(self, port: int, size_bytes: int) -> int:
        self.seen.append(("in", port, size_bytes, self.cpu.executed_bytes))
        return 0x12345678

    def on_out(self, port: int, size_bytes: int, value: int) -> None:
        self.seen.append(("out", port, size_bytes, value, self.cpu.executed_bytes))
        if self.stop_on_out:
            self.cpu.stop()

    def on_cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        return leaf + 1, 2, 3, 4

    def on_mmio_read(self, mpa: int, size_bytes: int) -> int:
        self.seen.append(("read", mpa, size_bytes))
        return 0xA5A5A5A5

    def on_mmio_write(self, mpa: int, size_bytes: int, value: int) -> None:
        self.seen.append(("write", mpa, size_bytes, value))

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        return self.cpu.memory.read(linear, size_bytes)


def processor(code: str, native_hook: bool = True) -> tuple[Cpu, Recorder]:
    memory = MachineMemory(1 << 20)
    memory.write(CODE, bytes.fromhex(code))
    cpu = Cpu(memory, native_hook)
    handler = Recorder()
    handler.cpu = cpu
    cpu.handler = handler
    flatten(cpu)
    return cpu, handler


def flatten(cpu: Cpu) -> None:
    for index in range(6):
        cpu.set_segment(index, 8 if index == CS else 16, 0, 0xFFFFFFFF, FLAT_CODE if index == CS else FLAT_DATA)
    cpu.update_mode(0)
    cpu.eip, cpu.gpr[ESP] = CODE, 0x8000
    cpu.set_eflags(2)


def test_registers_written_to_the_view_reach_the_processor_and_come_back():
    cpu, _ = processor("01d8 f4")  # add eax, ebx; hlt
    cpu.gpr[EAX], cpu.gpr[EBX] = 0xFFFFFFFF, 1
    assert cpu.run() is Stop.HALTED
    assert (cpu.gpr[EAX] & 0xFFFFFFFF, cpu.eip) == (0, CODE + 3)
    assert cpu.eflags() & 0x8D5 == 0x55  # CF, PF, AF, ZF


def test_int_n_arrives_with_eip_behind_it_and_a_fault_with_eip_on_it():
    cpu, handler = processor("cd80 31c9 f7f1")  # int 0x80; xor ecx, ecx; div ecx
    handler.go_on = False
    cpu.run()
    cpu.run()
    assert [seen[:4] for seen in handler.seen] == [
        ("exception", 0x80, CODE + 2, True),
        ("exception", 0, CODE + 4, False),
    ]


def test_int_6_is_told_from_an_undefined_opcode():
    cpu, handler = processor("cd06 0f0b")
    handler.go_on = False
    cpu.run()
    cpu.run()
    assert [seen[1:4] for seen in handler.seen] == [(6, CODE + 2, True), (6, CODE + 2, False)]


def test_many_faults_in_a_row_stay_themselves():
    # A processor that remembers the earlier exception would make #DF of the second and stop at the third.
    cpu, handler = processor("0f0b " * 5 + "f4")

    def skip(number: int) -> bool:
        handler.seen.append((number,))
        cpu.eip += 2
        return True

    handler.on_exception = skip  # type: ignore[method-assign]
    assert cpu.run() is Stop.HALTED
    assert handler.seen == [(6,)] * 5


def test_a_port_access_sees_the_time_of_its_own_instruction():
    cpu, handler = processor("40 40 e440 40 e640 f4")
    cpu.run()
    assert handler.seen == [("in", 0x40, 1, 2), ("out", 0x40, 1, 0x79, 5)]


def test_memory_beyond_the_machine_goes_to_the_handler():
    cpu, handler = processor("a100001000 a304001000 f4")
    cpu.run()
    assert handler.seen == [("read", 0x100000, 4), ("write", 0x100004, 4, 0xA5A5A5A5)]


def test_cpuid_answers_what_the_handler_says():
    cpu, _ = processor("0fa2 f4")
    cpu.gpr[EAX] = 7
    cpu.run()
    assert cpu.gpr[EAX] == 8
    assert cpu.gpr[EBX] == 2


def test_code_outside_memory_reads_as_all_ones_which_is_undefined():
    cpu, handler = processor("b800002000 ffe0")
    assert cpu.run() is Stop.STOPPED
    assert handler.seen[0][1:4] == (6, 0x200000, False)


def test_an_error_in_the_handler_comes_out_of_run():
    cpu, handler = processor("cd80 f4")

    def fail(_number: int) -> bool:
        raise LookupError("mine")

    handler.on_exception = fail  # type: ignore[method-assign]
    with pytest.raises(LookupError, match="mine"):
        cpu.run()


# Exact time --------------------------------------------------------------------------------------------------------

REPEATS = "b903000000 f3a4 b902000000 f3ae b900000000 f3ab 90 f4"


@pytest.mark.parametrize("code", ["40 40 40 f4", "b90a000000 49 75fd f4", REPEATS, "eb00 eb00 40 9c 9d fa fb 90 f4"])
def test_stepping_counts_the_same_bytes_as_running(code: str):
    whole, _ = processor(code)
    whole.run()
    stepped, _ = processor(code)
    while stepped.step() is not Stop.HALTED:
        pass
    assert stepped.executed_bytes == whole.executed_bytes
    assert list(stepped.gpr) == list(whole.gpr)
    assert stepped.eflags() == whole.eflags()


LOOP = "b900000000 31c0 8b1c8500200000 43 891c8500200000 40 83e00f 4975ec f4"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_a_loop_stopped_at_random_limits_ends_as_if_it_had_run_through(slices: list[int]):
    expected, _ = processor(LOOP)
    expected.gpr[ECX] = 0
    expected.memory.write(CODE + 1, (40).to_bytes(4, "little"))
    expected.run()
    cpu, _ = processor(LOOP)
    cpu.memory.write(CODE + 1, (40).to_bytes(4, "little"))
    limit, turn = 0, 0
    while True:
        limit = max(limit + slices[turn % len(slices)], cpu.executed_bytes + 40)
        turn += 1
        cpu.set_limit(limit)
        reason = cpu.run()
        if reason is Stop.HALTED:
            break
        assert reason is Stop.LIMIT
        assert cpu.executed_bytes <= limit
    assert cpu.executed_bytes == expected.executed_bytes
    assert cpu.memory.read(0x2000, 64) == expected.memory.read(0x2000, 64)
    assert list(cpu.gpr) == list(expected.gpr)


def test_the_hook_in_python_counts_and_stops_like_the_native_one():
    results = []
    for native_hook in (True, False):
        cpu, _ = processor(LOOP, native_hook)
        assert cpu.is_native is native_hook
        cpu.memory.write(CODE + 1, (40).to_bytes(4, "little"))
        stops = []
        for limit in range(50, 700, 50):
            cpu.set_limit(limit)
            reason = cpu.run()
            stops.append((reason, cpu.eip, cpu.executed_bytes))
            if reason is Stop.HALTED:
                break
        results.append(stops)
    assert results[0] == results[1]


@pytest.mark.parametrize("native_hook", [True, False])
def test_a_waiting_interrupt_stops_the_processor_right_after_sti(native_hook: bool):
    cpu, _ = processor("fa 40 40 eb00 40 fb 90 90 f4", native_hook)
    cpu.set_interrupt_pending(True)
    assert cpu.run() is Stop.INTERRUPT
    assert cpu.eip == CODE + 7


def test_a_flag_in_memory_can_stand_for_the_interrupt_flag():
    cpu, _ = processor("c605 01300000 02 eb00 90 f4")  # mov byte [0x3001], 2; jmp +0; nop
    cpu.set_interrupt_pending(True, cpu.memory.host_address + 0x3001)
    assert cpu.run() is Stop.INTERRUPT
    assert cpu.eip == CODE + 9


@pytest.mark.parametrize("native_hook", [True, False])
def test_counting_stops_before_the_instruction_that_would_be_one_too_many(native_hook: bool):
    cpu, _ = processor("40 40 40 40 40 f4", native_hook)
    cpu.count_instructions(3)
    assert cpu.run() is Stop.COUNTED
    assert (cpu.instructions, cpu.eip, cpu.gpr[EAX]) == (3, CODE + 3, 3)


# Against Unicorn without the class -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["40", "4b", "01d8", "29d8", "11c8", "c1e003", "d1f8", "0fafc3", "99", "f7d8", "9c", "58", "50",
             "812424d50c00009d",
             "fc", "fd", "ac", "aa", "a4", "0fb6c0", "0fbec0", "0f94c0", "87d8", "e480"]
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 0xFFFFFFFF), min_size=8, max_size=8),
)  # fmt: skip
def test_a_program_ends_as_on_bare_unicorn(choices: list[str], values: list[int]):
    code = bytes.fromhex("".join(choices)) + b"\xf4"
    values[ESP], values[ESI], values[EDI] = 0x8000, 0x4000, 0x5000
    names = [reg.UC_X86_REG_EAX, reg.UC_X86_REG_ECX, reg.UC_X86_REG_EDX, reg.UC_X86_REG_EBX, reg.UC_X86_REG_ESP,
             reg.UC_X86_REG_EBP, reg.UC_X86_REG_ESI, reg.UC_X86_REG_EDI]  # fmt: skip
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.mem_map(0, 1 << 20)
    uc.mem_write(CODE, code)
    uc.hook_add(UC_HOOK_INSN, lambda *_: 0x12345678, None, 1, 0, reg.UC_X86_INS_IN)
    for name, value in zip(names, values, strict=True):
        uc.reg_write(name, value)
    uc.reg_write(reg.UC_X86_REG_EFLAGS, 2)
    uc.emu_start(CODE, 0)

    cpu, _ = processor(code.hex())
    for index, value in enumerate(values):
        cpu.gpr[index] = value
    while cpu.step() is not Stop.HALTED:
        pass
    assert [value & 0xFFFFFFFF for value in cpu.gpr] == [uc.reg_read(name) for name in names]
    assert cpu.eflags() == uc.reg_read(reg.UC_X86_REG_EFLAGS)
    assert cpu.memory.read(0x3F00, 0x4200) == bytes(uc.mem_read(0x3F00, 0x4200))


def test_hidden_parts_of_segments_can_be_set():
    cpu, _ = processor("a100000000 f4")
    cpu.memory.write(0x20000, (0xCAFE).to_bytes(4, "little"))
    cpu.set_segment(DS, 16, 0x20000, 0xFFFFFFFF, FLAT_DATA)
    cpu.update_mode(0)
    cpu.run()
    assert cpu.gpr[EAX] == 0xCAFE
