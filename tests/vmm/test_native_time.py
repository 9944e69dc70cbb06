"""Reading the time-stamp counter without Python changes nothing but speed. The judge is the same run in Python."""

from __future__ import annotations

import pytest

from tests.vmm.images import ENTRY, GDT, STACK, code_image, machine
from vilab.costs import CostModel
from vilab.events import EventLog
from vilab.machine import time_cells
from vilab.vmm.monitor import CACHE
from vilab.vmm.unit import Callout
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


@pytest.mark.parametrize("engine", ["bt", "bare", "svm"])
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


@pytest.mark.parametrize("engine", ["bt", "bare", "svm"])
def test_port_accesses_and_prefixes_do_not_matter(engine: str) -> None:
    fast, slow = machine(BETWEEN_ACCESSES, engine), machine(BETWEEN_ACCESSES, engine, native_hook=False)
    found = outcome(fast, 777)
    assert found == outcome(slow, 777)
    assert fast.engine.exits["rdtsc"] == 3 * READS


@pytest.mark.parametrize("engine", ["bt", "bare", "svm"])
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
    assert vm.cpu.time[time_cells.READS] == 0
    assert vm.engine.exits["rdtsc"] == READS


def test_a_breakpoint_of_the_guest_is_not_taken_for_a_read() -> None:
    # The guest's INT3 has no handler: a triple fault, as on the bare machine.
    code = bytes.fromhex("0f31 cc c3")
    ends = [machine(code, engine).engine.run() for engine in ("bare", "bt")]
    assert [end.reason for end in ends if end] == ["triple_fault", "triple_fault"]


USER_CODE, TSS, AFTER_INT3 = 0x80000, 0x6000, 0x100400
# rdtsc; lgdt [0x2810]; lidt [0x2800]; mov eax,0x28; ltr ax; push 0x23; push 0x70000; push 2; push 0x1b; push EIP; iret
TO_RING_3 = "0f31 0f011510280000 0f011d00280000 b828000000 0f00d8 6a23 6800000700 6a02 6a1b 68"


def _descriptor(base: int, access: int, flags_and_limit: int, limit: int) -> bytes:
    low = base & 0xFFFFFF
    return (
        limit.to_bytes(2, "little") + low.to_bytes(3, "little") + bytes((access, flags_and_limit, base >> 24))
    )  # fmt: skip


def _table_register(base: int, size_bytes: int) -> bytes:
    return (size_bytes - 1).to_bytes(2, "little") + base.to_bytes(4, "little")


def _with_breakpoint_in_ring_3(eip: int) -> VirtualMachine:
    """A kernel that reads the time, and a program whose INT3 stands at ``eip`` through the base of its CS."""
    user_code = _descriptor(USER_CODE - eip & 0xFFFFFFFF, 0xFA, 0xCF, 0xFFFF)
    segments = user_code + _descriptor(0, 0xF2, 0xCF, 0xFFFF) + _descriptor(TSS, 0x89, 0, 103)
    gate = bytes(24) + (AFTER_INT3 & 0xFFFF | 8 << 16).to_bytes(4, "little")
    gate += (AFTER_INT3 & 0xFFFF0000 | 0xEE00).to_bytes(4, "little")
    handler = b"\x58\x68" + (ENTRY + 0x800).to_bytes(4, "little") + b"\xc3"  # pop eax; push end; ret
    more = (
        (GDT + 0x18, segments), (TSS, bytes(4) + STACK.to_bytes(4, "little") + bytes((16,)) + bytes(95)),
        (0x3000, gate), (0x2800, _table_register(0x3000, len(gate))), (0x2810, _table_register(GDT, 48)),
        (USER_CODE, b"\xcc\xcc\xcc"), (AFTER_INT3, handler),
    )  # fmt: skip
    code = bytes.fromhex(TO_RING_3) + eip.to_bytes(4, "little") + b"\xcf"
    return VirtualMachine(code_image(code, more=more), "bt", 4 << 20)


def test_a_breakpoint_of_a_program_at_the_eip_of_a_read_is_not_taken_for_one() -> None:
    first = _with_breakpoint_in_ring_3(USER_CODE)
    first.engine.run()
    exits = first.engine.cache.exits  # type: ignore[attr-defined]
    (place,) = [at for at, exit_ in exits.items() if type(exit_) is Callout and exit_.instruction.op == "rdtsc"]
    vm = _with_breakpoint_in_ring_3(place)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "returned", ended.sentence
    assert vm.engine.cache.marks[place - CACHE] == time_cells.READS_TIME  # type: ignore[attr-defined]
    assert vm.engine.vcpu.gpr[0] == place + 1
    assert vm.engine.exits["rdtsc"] == 1


# xor esi,esi; lidt [0x2800]; pushf; or dword [esp],0x100; popf        TF is set
# nop; rdtsc; nop; pushf; and dword [esp],~0x100; popf; mov eax,esi; ret
TRACED = bytes.fromhex("31f6 0f011d00280000 9c 810c2400010000 9d 90 0f31 90 9c 812424fffeffff 9d 89f0 c3")


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("engine", ["bt", "bare", "svm"])
def test_a_guest_that_traces_itself_stops_behind_a_read_too(engine: str, native: bool) -> None:
    gate = (0x100400 & 0xFFFF | 8 << 16).to_bytes(4, "little") + (0x100000 | 0x8E00).to_bytes(4, "little")
    table = bytes(8) + gate
    more = (
        (0x3000, table), (0x2800, (len(table) - 1).to_bytes(2, "little") + (0x3000).to_bytes(4, "little")),
        (0x100400, bytes.fromhex("46 cf")),
    )  # fmt: skip
    vm = VirtualMachine(code_image(TRACED, more=more), engine, 4 << 20, native_hook=native)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "returned", ended
    # The handler (inc esi; iret) has run behind each of nop, rdtsc, nop, pushf, and, popf.
    assert vm.engine.vcpu.gpr[6] == 6
    assert vm.engine.exits["rdtsc"] == 1
