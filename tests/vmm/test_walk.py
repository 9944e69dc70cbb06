"""The walk of the guest's tables, judged by the processor: the same fault, the same Accessed and Dirty bits."""

from __future__ import annotations

from itertools import product

import pytest

from tests.vmm.images import MEMORY_BYTES, code_image
from vilab.errors import GuestFault
from vilab.vmm.vcpu import VcpuState
from vilab.vmm.vm import VirtualMachine
from vilab.vmm.walk import walk
from vilab.x86 import paging as pg

DIRECTORY, TABLE, PAGE = 0x200000, 0x201000, 0x202000
GVA = 0x0080_1234
CODE = 0x100000
READ, WRITE = bytes.fromhex("8b0d34128000"), bytes.fromhex("890d34128000")  # mov ecx, [GVA]; mov [GVA], ecx
FLAGS = [p | w | u for p, w, u in product((0, pg.PRESENT), (0, pg.WRITABLE), (0, pg.USER))]


class Recorder:
    """The processor's exits: which fault, with what error code, at what address."""

    def __init__(self, vm: VirtualMachine) -> None:
        self.cpu = vm.cpu
        self.fault: tuple[int, int, int] | None = None

    def on_exception(self, number: int) -> bool:
        self.fault = number, self.cpu.error_code & 0xFFFF, self.cpu.cr(2)
        return False

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        return self.cpu.memory.read(linear, size_bytes)


@pytest.fixture(scope="module")
def bare() -> VirtualMachine:
    vm = VirtualMachine(code_image("90"), "bare", MEMORY_BYTES)
    vm.cpu.handler = Recorder(vm)  # type: ignore[assignment]
    return vm


def state(vm: VirtualMachine, cr0: int, user: bool) -> VcpuState:
    ring = 3 if user else 0
    data = (0x10 | ring, 0, 0xFFFFFFFF, 0x00CF9300 | ring << 13)
    start = vm.initial_state()
    start.segments = [data, (8 | ring, 0, 0xFFFFFFFF, 0x00CF9B00 | ring << 13), data, data, data, data,
                      *start.segments[6:]]  # fmt: skip
    start.cpl, start.cr0, start.cr3, start.cr4, start.eip = ring, cr0, DIRECTORY, 0x10, CODE
    return start


def judged(vm: VirtualMachine, pde: int, pte: int, write: bool, user: bool, wp: bool) -> None:
    pmap, recorder = vm.pmap, vm.cpu.handler
    assert isinstance(recorder, Recorder)

    def lay_out() -> None:
        pmap.write(DIRECTORY, (0xE7).to_bytes(4, "little") + bytes(4) + pde.to_bytes(4, "little"))
        pmap.write(TABLE, bytes(4) + pte.to_bytes(4, "little"))

    cr0 = 0x80000011 | wp << 16
    lay_out()
    pmap.write(CODE, WRITE if write else READ)
    vm.cpu.forget_code()
    vm.cpu.flush_tlb()
    vm.engine.vcpu.load_state(state(vm, cr0, user))
    recorder.fault = None
    vm.cpu.step()
    entries = pmap.read_u32(DIRECTORY + 8), pmap.read_u32(TABLE + 4)

    lay_out()
    fault = None
    try:
        walk(pmap, cr0, DIRECTORY, 0x10, GVA, write=write, user=user)
    except GuestFault as raised:
        fault = raised.vector, raised.error_code, raised.address
    where = f"pde {pde:08x} pte {pte:08x} write {write} user {user} wp {wp}"
    assert fault == recorder.fault, where
    assert (pmap.read_u32(DIRECTORY + 8), pmap.read_u32(TABLE + 4)) == entries, where


@pytest.mark.parametrize("wp", [False, True])
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("write", [False, True])
def test_every_pair_of_rights(bare: VirtualMachine, write: bool, user: bool, wp: bool):
    for first, second in product(FLAGS, FLAGS):
        judged(bare, TABLE | first, PAGE | second, write, user, wp)


@pytest.mark.parametrize("wp", [False, True])
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("write", [False, True])
def test_large_pages(bare: VirtualMachine, write: bool, user: bool, wp: bool):
    for flags in FLAGS:
        judged(bare, pg.LARGE | flags, 0, write, user, wp)


@pytest.mark.parametrize("write", [False, True])
def test_a_reserved_bit_in_a_large_entry(bare: VirtualMachine, write: bool):
    judged(bare, 1 << 21 | pg.LARGE | pg.PRESENT | pg.WRITABLE, 0, write, False, True)
