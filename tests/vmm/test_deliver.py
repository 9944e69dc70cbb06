"""Entering the guest's handlers, and what follows when that faults too."""

from __future__ import annotations

import pytest

from tests.vmm.images import MEMORY_BYTES, code_image
from vilab.errors import GuestFault, GuestStopped
from vilab.vmm import deliver
from vilab.vmm.deprivileged_vcpu import DeprivilegedVcpu
from vilab.vmm.vm import VirtualMachine

IDT, HANDLER, DIRECTORY = 0x3000, 0x100400, 0x200000
INTERRUPT, TRAP = 0x8E00, 0x8F00
ESP = 4


def gate(kind: int, selector: int = 8, dpl: int = 0) -> bytes:
    low = HANDLER & 0xFFFF | selector << 16
    return low.to_bytes(4, "little") + (HANDLER & 0xFFFF0000 | kind | dpl << 13).to_bytes(4, "little")


@pytest.fixture
def v() -> DeprivilegedVcpu:
    """In ring 0 with flat segments, an IDT of 256 interrupt gates, interrupts on."""
    vm = VirtualMachine(code_image("90", more=((IDT, gate(INTERRUPT) * 256),)), "bt", MEMORY_BYTES)
    vcpu = vm.engine.vcpu
    assert isinstance(vcpu, DeprivilegedVcpu)
    vcpu.idtr = (IDT, 0x7FF)
    vcpu.set_eflags(0x202)
    return vcpu


def stack(v: DeprivilegedVcpu, count: int) -> list[int]:
    return [v.read_u32(v.gpr[ESP] + 4 * i) for i in range(count)]


def test_the_frame_in_the_same_ring(v: DeprivilegedVcpu):
    eip, esp = v.eip, v.gpr[ESP]
    deliver.deliver(v, 13, 0x18)
    assert stack(v, 4) == [0x18, eip, 8, 0x202]
    assert v.gpr[ESP] == esp - 16
    assert v.eip == HANDLER


@pytest.mark.parametrize(("kind", "enabled"), [(INTERRUPT, 0), (TRAP, 0x200)])
def test_only_an_interrupt_gate_turns_interrupts_off(v: DeprivilegedVcpu, kind: int, enabled: int):
    v.write(IDT + 8 * 0x30, gate(kind))
    deliver.deliver(v, 0x30)
    assert v.eflags() & 0x200 == enabled


@pytest.mark.parametrize(
    ("limit", "bytes_of_gate", "vector", "error"),
    [
        (0x17F, gate(INTERRUPT), 13, 0x30 * 8 + 2),  # beyond the IDT
        (0x7FF, gate(0x8C00), 13, 0x30 * 8 + 2),  # a call gate
        (0x7FF, gate(0x0E00), 11, 0x30 * 8 + 2),  # not present
        (0x7FF, gate(INTERRUPT, selector=0), 13, 0),  # to a null selector
        (0x7FF, gate(INTERRUPT, selector=0x10), 13, 0x10),  # to data
        (0x7FF, gate(INTERRUPT, selector=0xF0), 13, 0xF0),  # beyond the GDT
    ],
)
def test_what_is_wrong_with_a_gate_is_in_the_error_code(
    v: DeprivilegedVcpu, limit: int, bytes_of_gate: bytes, vector: int, error: int
):
    v.idtr = (IDT, limit)
    v.write(IDT + 8 * 0x30, bytes_of_gate)
    before = v.eip, v.gpr[ESP]
    for software in (True, False):
        with pytest.raises(GuestFault) as raised:
            deliver.deliver(v, 0x30, software=software)
        assert (raised.value.vector, raised.value.error_code) == (vector, error | (not software))
        assert (v.eip, v.gpr[ESP]) == before


def test_a_page_fault_on_the_way_to_the_page_fault_handler_leaves_the_second_address(v: DeprivilegedVcpu):
    # One 4 MB page at 0; the stack lies beyond it, so neither #PF nor #DF finds one.
    v.pmap.write(DIRECTORY, (0x87).to_bytes(4, "little"))
    v.set_cr(4, 0x10)
    v.set_cr(3, DIRECTORY)
    v.set_cr(0, 0x80000011)
    v.gpr[ESP] = 0x00901000
    with pytest.raises(GuestStopped, match="Triple fault"):
        deliver.inject(v, GuestFault(14, 2, 0x00812345))
    assert v.cr2 >> 12 == 0x900
