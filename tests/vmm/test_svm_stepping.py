"""A stepped run is the run: same events, same time, same registers. For every engine that gets things right."""

from __future__ import annotations

import pytest

from tests.vmm.images import ENTRY, code_image
from vilab.events import EventLog, InterruptDelivered
from vilab.vmm.vm import VirtualMachine

RIGHT = ("bare", "bt", "svm")

IDT, IDT_POINTER, HANDLER, SEEN = 0x3000, 0x2FF0, ENTRY + 0x400, 0x8000
TIMER_VECTOR = 0x20

# Initialize both PICs (vectors 20h and 28h), unmask IRQ 0 only, PIT counter 0 every 60 ticks (50 us).
SET_UP = (
    "b011 e620 e6a0 b020 e621 b028 e6a1 b004 e621 b002 e6a1 b001 e621 e6a1 b0fe e621 b0ff e6a1"
    "b034 e643 b03c e640 b000 e640"
    f"0f011d {IDT_POINTER.to_bytes(4, 'little').hex()}"
    f"bf {SEEN.to_bytes(4, 'little').hex()}"
    "31f6 31d2 fb"
)
# One long block in which reads of a port and counting alternate, 300 times over; then interrupts off, and back.
READ_AND_COUNT = "e480 46 89f3 01d8 46 e480 46 46 01f0 46" * 12
LOOP = "42 81fa2c010000"
# The handler notes where it came from and what had been counted: mov eax,[esp+8]; stosd; mov eax,esi; stosd; EOI; iret.
HANDLE = "50 8b442404 ab 89f0 ab b020 e620 58 cf"


def timer_image():
    body = bytes.fromhex(READ_AND_COUNT + LOOP)
    back = -(len(body) + 6)  # jl, to the block's begin
    code = bytes.fromhex(SET_UP) + body + b"\x0f\x8c" + back.to_bytes(4, "little", signed=True) + bytes.fromhex("fa c3")
    gate = (HANDLER & 0xFFFF | 8 << 16 | 0x8E00 << 32 | (HANDLER >> 16) << 48).to_bytes(8, "little")
    pointer = (0x7FF).to_bytes(2, "little") + IDT.to_bytes(4, "little")
    assert len(code) < HANDLER - ENTRY
    return code_image(
        code, more=((HANDLER, bytes.fromhex(HANDLE)), (IDT + 8 * TIMER_VECTOR, gate), (IDT_POINTER, pointer))
    )


def run(vm: VirtualMachine) -> None:
    vm.engine.run(until_ns=1_000_000_000)


def step(vm: VirtualMachine) -> None:
    while vm.engine.step_instruction():
        pass


def in_slices(vm: VirtualMachine) -> None:
    at_ns = 0
    while vm.engine.ended is None:
        at_ns += 3_331
        vm.engine.run(until_ns=at_ns)


def outcome(engine: str, how, image) -> tuple[object, ...]:
    log = EventLog(keep=True)
    vm = VirtualMachine(image, engine, 4 << 20, log=log)
    how(vm)
    seen = vm.pmap.read(SEEN, 4096)
    return vm.engine.ended, log.events, vm.engine.statistics(), seen, vm.engine.guest_registers()


@pytest.mark.parametrize("engine", RIGHT)
@pytest.mark.parametrize("how", [step, in_slices])
def test_interrupts_among_port_accesses_come_at_the_same_instruction(engine: str, how):
    expected = outcome(engine, run, timer_image())
    assert expected[0].reason == "returned"  # type: ignore[attr-defined]
    assert sum(isinstance(event, InterruptDelivered) for event in expected[1]) > 5  # type: ignore[attr-defined]
    found = outcome(engine, how, timer_image())
    assert found[3] == expected[3]
    assert found == expected


@pytest.mark.parametrize("engine", RIGHT)
@pytest.mark.parametrize("how", [step, in_slices])
def test_powering_off_in_the_middle_of_a_block_ends_time_there(engine: str, how):
    # mov dx,604h; mov ax,2000h; out dx,ax; then 3 INCs, an IN and a HLT that belong to the same block.
    image = code_image("66ba0406 66b80020 66ef 40 40 40 e480 f4", stop=False)
    expected, found = outcome(engine, run, image), outcome(engine, how, image)
    assert expected[0].reason == "powered_off"  # type: ignore[attr-defined]
    assert found[:3] == expected[:3]
    assert expected[2]["executed_bytes"] == 10  # type: ignore[index]
    assert "in" not in expected[2]["exits"]  # type: ignore[index]
