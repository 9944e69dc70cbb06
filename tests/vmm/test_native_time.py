"""Reading the time-stamp counter without Python changes nothing but speed. The judge is the same run in Python."""

from __future__ import annotations

import pytest

from tests.vmm.images import code_image, machine
from vilab.costs import CostModel
from vilab.events import EventLog
from vilab.machine import native_time
from vilab.vmm.vm import VirtualMachine

pytest.importorskip("llvmlite")

# again: pause; rdtsc; add esi,eax; adc ebp,edx; dec edi; jnz again; mov eax,esi; ret
SUM_OF_TIMES = bytes.fromhex("bf 2c010000") + bytes.fromhex("f390 0f31 01c6 11d5 4f 75f5 89f0 c3")
READS = 300


def ticking(vm: VirtualMachine, every_ns: int) -> list[int]:
    """Something wants to know the time so often."""
    seen: list[int] = []

    def tick() -> None:
        seen.append(vm.clock.now_ns)
        vm.clock.at(vm.clock.now_ns + every_ns, tick)

    tick()
    return seen


def outcome(vm: VirtualMachine, every_ns: int) -> tuple[object, ...]:
    seen = ticking(vm, every_ns)
    ended = vm.engine.run()
    return ended, list(vm.engine.vcpu.gpr), vm.engine.vcpu.eflags(), vm.engine.statistics(), seen


@pytest.mark.parametrize("engine", ["bt", "bare"])
@pytest.mark.parametrize("every_ns", [777, 5_000, 1_000_000])
def test_times_that_the_guest_reads_are_those_of_the_slow_way(every_ns: int, engine: str) -> None:
    fast = machine(SUM_OF_TIMES, engine)
    slow = machine(SUM_OF_TIMES, engine, native_hook=False)
    assert fast.cpu.is_native
    found = outcome(fast, every_ns)
    assert found == outcome(slow, every_ns)
    assert fast.engine.exits["rdtsc"] == READS


# again: in al, 0x61; rdtsc; rep rdtsc (a prefix); add esi,eax; cs rdtsc; adc esi,eax; dec edi; jnz again; ...
BETWEEN_ACCESSES = bytes.fromhex("bf 2c010000") + bytes.fromhex("e461 0f31 f30f31 01c6 2e0f31 11c6 4f 75f1 89f0 c3")


@pytest.mark.parametrize("engine", ["bt", "bare"])
def test_port_accesses_and_prefixes_do_not_matter(engine: str) -> None:
    fast, slow = machine(BETWEEN_ACCESSES, engine), machine(BETWEEN_ACCESSES, engine, native_hook=False)
    found = outcome(fast, 777)
    assert found == outcome(slow, 777)
    assert fast.engine.exits["rdtsc"] == 3 * READS


@pytest.mark.parametrize("engine", ["bt", "bare"])
def test_python_is_not_asked(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    vm = machine(SUM_OF_TIMES, engine)
    calls: list[int] = []
    on_exception = vm.engine.on_exception
    monkeypatch.setattr(vm.engine, "on_exception", lambda number: calls.append(number) or on_exception(number))
    vm.engine.run()
    assert vm.engine.exits["rdtsc"] == READS
    assert len(calls) < 20


def test_every_read_is_logged_when_somebody_listens() -> None:
    log, kinds = EventLog(), []
    log.listen(lambda event: kinds.append((type(event).__name__, getattr(event, "reason", ""))))
    vm = machine(SUM_OF_TIMES, "bt", log=log)
    vm.engine.run()
    assert kinds.count(("CalloutTaken", "rdtsc")) == READS


def test_another_price_of_code_is_left_to_python() -> None:
    vm = VirtualMachine(code_image(SUM_OF_TIMES), "bt", 4 << 20, costs=CostModel(code_ns_per_byte=3))
    vm.engine.run()
    assert vm.cpu.time[native_time.READS] == 0
    assert vm.engine.exits["rdtsc"] == READS


def test_a_breakpoint_of_the_guest_is_not_taken_for_a_read() -> None:
    # The guest's INT3 has no handler: a triple fault, as on the bare machine.
    code = bytes.fromhex("0f31 cc c3")
    ends = [machine(code, engine).engine.run() for engine in ("bare", "bt")]
    assert [end.reason for end in ends if end] == ["triple_fault", "triple_fault"]
