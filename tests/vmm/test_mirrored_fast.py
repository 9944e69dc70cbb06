"""Callouts in machine code: the same results and figures as the full way gives."""

from __future__ import annotations

import pytest

from tests.vmm.images import GDT, machine
from vilab.events import EventLog
from vilab.machine import native_callouts
from vilab.vmm.engine_mirrored import MirroredEngine
from vilab.vmm.vm import VirtualMachine

MIRRORED = {"placement": "mirrored"}
LOADS = (
    "b9e8030000"  # mov ecx, 1000
    "b810000000 8ee0 8ed8 31c0 8ee8"  # mov eax, 10h; mov fs, eax; mov ds, eax; xor eax, eax; mov gs, eax
    "1e 07 6a00 0fa1 6a10 0fa9"  # push ds; pop es; push 0; pop fs; push 10h; pop gs
    "49 75e6 c3"  # dec ecx; jnz; ret
)


def run(code: str, **options: object) -> VirtualMachine:
    vm = machine(code, "bt", engine_options=MIRRORED, **options)
    ended = vm.engine.run(until_ns=1_000_000_000)
    assert ended is not None
    assert ended.reason == "returned", ended
    return vm


def entries(vm: VirtualMachine) -> set[int]:
    """What machine code knows by now: kinds of callouts."""
    engine = vm.engine
    assert isinstance(engine, MirroredEngine)
    native = engine.vcpu.native
    assert native is not None
    return {entry & 0xFF for entry in native.table if entry}


def test_segment_loads_in_machine_code_are_counted_as_the_others():
    vm = run(LOADS)
    assert (vm.engine.exits["mov to seg"], vm.engine.exits["pop seg"]) == (3000, 3000)
    assert {native_callouts.POP_OF + 4, native_callouts.MOV_OF + 8 * 4, native_callouts.MOV_OF + 8 * 3} <= entries(vm)


def test_segment_loads_are_the_same_with_a_listener_and_without_machine_code():
    states = []
    for more in ({}, {"log": EventLog(keep=True)}, {"native_hook": False}):
        vm = run(LOADS, **more)
        states.append((vm.engine.save_state(), vm.engine.statistics()))
    assert states[0] == states[1] == states[2]


@pytest.mark.parametrize("load", ["8ee0", "50 0fa1", "8ee8", "50 0fa9", "8ed8", "50 1f", "8ec0", "50 07"])
def test_a_descriptor_that_has_changed_is_loaded_anew(load: str):
    # Three times mov eax, 10h and the load; before the last one the base in the GDT becomes 200000h.
    store = f"36c605 {(GDT + 0x14).to_bytes(4, 'little').hex()} 20"  # mov byte ss:[GDT + 14h], 20h
    vm = run(f"b810000000 {load} {load} {store} {load} {load} c3")
    segment = {"e0": 4, "a1": 4, "e8": 5, "a9": 5, "d8": 3, "1f": 3, "c0": 0, "07": 0}[load[-2:]]
    assert vm.cpu.segment_base(segment) == 0x200000


def test_a_table_that_has_moved_is_read_where_it_is():
    # In the second GDT the selector's base is 300000h. lgdt [2800h] between the loads.
    vm = machine("b810000000 8ee0 8ee0 0f011500280000 8ee0 8ee0 c3", "bt", engine_options=MIRRORED)
    table = vm.pmap.read(GDT, 0x18)
    vm.pmap.write(0x5000, table[:0x14] + b"\x30" + table[0x15:])
    vm.pmap.write(0x2800, (0x17).to_bytes(2, "little") + (0x5000).to_bytes(4, "little"))
    ended = vm.engine.run(until_ns=1_000_000)
    assert ended is not None
    assert ended.reason == "returned"
    assert vm.cpu.segment_base(4) == 0x300000
