"""Accesses above memory: which instruction makes them, stopping at them, and a register that is read natively."""

from __future__ import annotations

import pytest

from tests.machine.test_cpu import CODE, Recorder, flatten
from vilab.machine.access_place import find_place
from vilab.machine.cpu import Cpu
from vilab.machine.exits import Stop
from vilab.machine.memory import MachineMemory
from vilab.machine.registers import EBX, ECX

LOAD = "8b1d3000e0fe"  # mov ebx, [fee00030]
STORE = "891d3000e0fe"


class Watching(Recorder):
    """Notes where each access stands, and can stop or fail there."""

    stop_at = -1
    fails = False

    def note(self) -> None:
        eip = self.cpu.current_eip()
        self.seen.append((eip, self.cpu.executed_bytes))
        if eip == self.stop_at:
            if self.fails:
                raise ZeroDivisionError("as a device with a defect would")
            self.cpu.stop()

    def on_mmio_read(self, mpa: int, size_bytes: int) -> int:
        self.note()
        return 0x77

    def on_mmio_write(self, mpa: int, size_bytes: int, value: int) -> None:
        self.note()


def processor(code: str, native_hook: bool) -> tuple[Cpu, Watching]:
    memory = MachineMemory(1 << 20)
    memory.write(CODE, bytes.fromhex(code))
    cpu, handler = Cpu(memory, native_hook), Watching()
    handler.cpu, cpu.handler = cpu, handler
    flatten(cpu)
    return cpu, handler


def test_the_place_is_found_on_this_computer() -> None:
    assert find_place() is not None


@pytest.mark.parametrize("native_hook", [True, False])
def test_each_access_of_a_block_knows_its_instruction_and_its_time(native_hook: bool) -> None:
    cpu, handler = processor(f"90 {LOAD} 4190 {STORE} {LOAD} 41 f4", native_hook)
    assert cpu.run() is Stop.HALTED
    assert handler.seen == [(CODE + at, at) for at in (1, 9, 15)]
    assert (cpu.gpr[EBX], cpu.gpr[ECX]) == (0x77, 2)


def test_the_same_when_stepped() -> None:
    cpu, handler = processor(f"90 {LOAD} 4190 {STORE} {LOAD} 41 f4", True)
    while cpu.step() is Stop.STEPPED:
        pass
    assert handler.seen == [(CODE + at, at) for at in (1, 9, 15)]


@pytest.mark.parametrize("native_hook", [True, False])
def test_behind_an_access_that_stops_nothing_counts_and_nobody_is_asked(native_hook: bool) -> None:
    cpu, handler = processor(f"90 {LOAD} 41 {STORE} {LOAD} f4", native_hook)
    handler.stop_at = CODE + 1
    assert cpu.run() is Stop.STOPPED
    assert handler.seen == [(CODE + 1, 1)]
    assert cpu.executed_bytes == 7


def test_a_failure_in_a_device_comes_out_of_run() -> None:
    cpu, handler = processor(f"90 {LOAD} 41 {LOAD} f4", True)
    handler.stop_at, handler.fails = CODE + 1, True
    with pytest.raises(ZeroDivisionError):
        cpu.run()
    assert len(handler.seen) == 1


@pytest.mark.parametrize("native_hook", [True, False])
def test_a_register_that_is_answered_asks_nobody(native_hook: bool) -> None:
    cpu, handler = processor(f"{LOAD} 668b0d3000e0fe f4", native_hook)
    cpu.answer_loads(0xFEE00030, 0x0700_0000)
    assert cpu.run() is Stop.HALTED
    assert cpu.gpr[EBX] == 0x0700_0000
    assert [eip for eip, _ in handler.seen] == [CODE + 6]  # 16 bits wide: not that register
    cpu.answer_loads(None, 0)
    cpu.eip = CODE
    cpu.run()
    assert [eip for eip, _ in handler.seen] == [CODE + 6, CODE, CODE + 6]


def test_page_tables_above_memory_belong_to_no_instruction() -> None:
    """The page walker reads them: the place is the start of a block, and a fault that follows is where it should be."""
    cpu, handler = processor(f"{LOAD} 90 0f22d8 0f22c1 90 90 f4", True)
    handler.go_on = False
    cpu.gpr[0], cpu.gpr[ECX] = 0xFEE00000, 0x80000011
    assert cpu.run() is Stop.STOPPED
    assert handler.seen[0] == (CODE, 0)
    (kind, number, eip, _, _) = handler.seen[-1]
    assert (kind, number, eip) == ("exception", 14, CODE + 13)
