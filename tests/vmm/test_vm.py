"""A machine's state record: whatever the next instruction could notice is in it, and nothing of before is left."""

from __future__ import annotations

import msgspec
import pytest

from tests.vmm.images import MEMORY_BYTES, machine, timer_image
from vilab.vmm.vm import VirtualMachine, VmState

ENGINES = ("bare", "trap", "bt", "svm")


def travelled(vm: VirtualMachine, other: VirtualMachine) -> VirtualMachine:
    """``other`` becomes ``vm``, by way of bytes."""
    other.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(vm.save_state()), type=VmState))
    return other


def stepped(code: str, engine: str, count: int) -> VirtualMachine:
    vm = machine(code, engine)
    for _ in range(count):
        vm.engine.step_instruction()
    return vm


def answer(vm: VirtualMachine) -> int:
    ended = vm.engine.run(until_ns=1_000_000_000)
    assert ended is not None
    assert ended.reason == "returned", ended.sentence
    return vm.engine.vcpu.gpr[0] & 0xFFFFFFFF


@pytest.mark.parametrize("engine", ENGINES)
def test_the_floating_point_stack_travels(engine: str):
    code = "dbe3 d9e8 d9e8 dec1 90 db1d00200000 a100200000 c3"  # 1 + 1, stored after the journey
    assert answer(travelled(stepped(code, engine, 5), machine(code, engine))) == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_sse_registers_travel(engine: str):
    code = "0f20e0 660d0002 0f22e0 b805000000 660f6ec0 31c0 660f7ec0 c3"  # movd xmm0, 5 ... movd eax, xmm0
    assert answer(travelled(stepped(code, engine, 6), machine(code, engine))) == 5


@pytest.mark.parametrize("engine", ENGINES)
def test_debug_registers_travel(engine: str):
    code = "b878563412 0f23c0 31c0 0f21c0 c3"
    assert answer(travelled(stepped(code, engine, 3), machine(code, engine))) == 0x12345678


@pytest.mark.parametrize("engine", ENGINES)
def test_the_floating_point_state_of_before_is_gone(engine: str):
    used = stepped("dbe3 d9e8 d9e8 90", engine, 4)
    fresh = machine("d9e8 db1d00200000 a100200000 c3", engine)
    state = fresh.save_state()
    assert travelled(fresh, used).save_state() == state
    assert answer(used) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_code_that_was_executed_before_is_gone(engine: str):
    used = machine("b801000000 c3", engine)
    assert answer(used) == 1
    assert answer(travelled(machine("b802000000 c3", engine), used)) == 2


# An interrupt on its way ------------------------------------------------------------------------------------------


def machine_with_timer(code: str, engine: str) -> VirtualMachine:
    """The handler of IRQ 0 answers with EBX."""
    return VirtualMachine(timer_image("31db " + code, "89d8 bc00000900 c3"), engine, MEMORY_BYTES)


def let_the_timer_fire(vm: VirtualMachine) -> None:
    vm.engine.offset_ns += 20_000
    vm.engine.sync_clock()
    vm.clock.run_due()


def after_sti(engine: str) -> VirtualMachine:
    """The timer has fired while interrupts were off; STI has just been executed, INC EBX comes next."""
    vm = machine_with_timer("fb 43 43 43 43 fa c3", engine)
    while vm.pmap.read(vm.engine.vcpu.eip, 1) != b"\xfb":
        vm.engine.step_instruction()
    let_the_timer_fire(vm)
    vm.engine.step_instruction()
    assert vm.engine.pending
    return vm


@pytest.mark.parametrize("engine", ENGINES)
def test_the_instruction_after_sti_comes_before_the_interrupt(engine: str):
    assert answer(after_sti(engine)) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_the_shadow_of_sti_travels(engine: str):
    vm = travelled(after_sti(engine), machine_with_timer("", engine))
    assert vm.engine.in_interrupt_shadow()
    assert answer(vm) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_shadow_of_before_is_gone(engine: str):
    state = machine_with_timer("90 90 c3", engine).save_state()
    used = after_sti(engine)
    used.load_state(state)
    assert not used.engine.in_interrupt_shadow()
    assert used.save_state() == state


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupt_that_was_on_its_way_does_not_block_those_of_the_state_that_is_loaded(engine: str):
    # Unmasking IRQ 0 after the timer has fired raises the PIC's output inside a port access.
    code = "b0ffe621 " + "90" * 4 + " b0fee621 fb 43 43 f4 fa c3"

    def before_unmasking() -> VirtualMachine:
        vm = machine_with_timer(code, engine)
        while vm.pmap.read(vm.engine.vcpu.eip, 4) != b"\x90" * 4:
            vm.engine.step_instruction()
        let_the_timer_fire(vm)
        return vm

    vm = before_unmasking()
    state = vm.save_state()
    while vm.engine.save_state().settle_at_ns is None:
        vm.engine.step_instruction()
    on_its_way = vm.save_state()
    vm.load_state(state)
    assert vm.save_state() == state
    assert answer(vm) == 2
    vm.load_state(on_its_way)
    assert answer(vm) == 2
