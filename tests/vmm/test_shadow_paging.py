"""Shadow entries allow what the guest's tables allow, and never more, whatever was accessed before."""

from __future__ import annotations

from itertools import product

import pytest

from tests.vmm.images import MEMORY_BYTES, code_image
from vilab.errors import GuestFault
from vilab.vmm.deprivileged import DeprivilegedEngine
from vilab.vmm.vm import VirtualMachine
from vilab.vmm.walk import walk
from vilab.x86 import paging as pg

DIRECTORY, TABLE, PAGE, GVA = 0x200000, 0x201000, 0x202000, 0x0080_1000
ACCESSES = list(product((False, True), (False, True)))  # (write, user)
FLAGS = [w | u for w, u in product((0, pg.WRITABLE), (0, pg.USER))]


@pytest.fixture(scope="module")
def engine() -> DeprivilegedEngine:
    engine = VirtualMachine(code_image("90"), "bt", MEMORY_BYTES).engine
    assert isinstance(engine, DeprivilegedEngine)
    return engine


def paging(engine: DeprivilegedEngine, pde: int, pte: int, wp: bool) -> None:
    pmap = engine.vm.pmap
    pmap.write(DIRECTORY, bytes(8) + pde.to_bytes(4, "little"))
    pmap.write(TABLE, bytes(4) + pte.to_bytes(4, "little"))
    engine.vcpu.set_cr(4, 0x10)
    engine.vcpu.set_cr(0, 0x80000011 | wp << 16)
    engine.vcpu.set_cr(3, DIRECTORY)


def allowed(engine: DeprivilegedEngine, write: bool, user: bool, gva: int = GVA) -> bool:
    v = engine.vcpu
    try:
        walk(v.pmap, v.cr0, v.cr3, v.cr4, gva, write=write, user=user, set_bits=False)
    except GuestFault:
        return False
    return True


def shadowed(engine: DeprivilegedEngine, write: bool, user: bool, gva: int = GVA) -> bool:
    """Would the processor, with CR0.WP set, find the access allowed by the shadow tables?"""
    words = engine.cpu.memory.words
    directory = words[engine.shadow.root_mpn << 10 | gva >> 22]
    entry = words[directory >> 12 << 10 | gva >> 12 & 0x3FF] if directory & pg.PRESENT else 0
    need = pg.PRESENT | (pg.WRITABLE if write else 0) | (pg.USER if user else 0)
    return directory & entry & need == need


def access(engine: DeprivilegedEngine, write: bool, user: bool, gva: int = GVA) -> None:
    v = engine.vcpu
    v._cpl = 3 if user else 0
    error = (pg.ERROR_WRITE if write else 0) | (pg.ERROR_USER if user else 0)
    engine.page_fault(gva, error)
    v._cpl = 0


@pytest.mark.parametrize("wp", [False, True])
def test_every_order_of_two_accesses(engine: DeprivilegedEngine, wp: bool):
    for first, second in product(FLAGS, FLAGS):
        paging(engine, TABLE | first | pg.PRESENT, PAGE | second | pg.PRESENT, wp)
        possible = [a for a in ACCESSES if allowed(engine, *a)]
        for order in product(possible, possible):
            paging(engine, TABLE | first | pg.PRESENT, PAGE | second | pg.PRESENT, wp)
            for write, user in order:
                if not shadowed(engine, write, user):
                    access(engine, write, user)
                where = f"pde {first:x} pte {second:x} wp {wp} order {order}"
                assert shadowed(engine, write, user), where
                for other in ACCESSES:
                    assert allowed(engine, *other) or not shadowed(engine, *other), f"{where}: {other}"


def test_a_read_does_not_make_a_clean_page_writable(engine: DeprivilegedEngine):
    paging(engine, TABLE | 7, PAGE | 7, True)
    access(engine, False, True)
    assert not shadowed(engine, True, True)
    assert not engine.vm.pmap.read_u32(TABLE + 4) & pg.DIRTY
    access(engine, True, True)
    assert shadowed(engine, True, True)
    assert engine.vm.pmap.read_u32(TABLE + 4) & pg.DIRTY


def test_a_large_page_comes_and_goes_as_a_whole(engine: DeprivilegedEngine):
    paging(engine, pg.LARGE | 7, 0, True)
    access(engine, False, True, GVA)
    assert shadowed(engine, False, True, GVA + 0x5000)
    engine.vm.pmap.write(DIRECTORY + 8, bytes(4))
    engine.page_invalidated(GVA)
    assert not shadowed(engine, False, True)
    assert not shadowed(engine, False, True, GVA + 0x5000)


def test_a_traced_page_is_read_only_through_every_mapping(engine: DeprivilegedEngine):
    paging(engine, TABLE | 7, PAGE | 7, True)
    engine.vm.pmap.write_u32(TABLE + 8, PAGE | 7)
    for gva in (GVA, GVA + 0x1000):
        access(engine, True, False, gva)
        assert shadowed(engine, True, False, gva)
    engine.shadow.trace(PAGE >> 12)
    for gva in (GVA, GVA + 0x1000):
        assert shadowed(engine, False, False, gva)
        assert not shadowed(engine, True, False, gva)
    engine.shadow.untrace(PAGE >> 12)


def test_a_page_that_the_pmap_takes_away_is_gone(engine: DeprivilegedEngine):
    paging(engine, TABLE | 7, PAGE | 7, True)
    access(engine, True, True)
    for listener in engine.vm.pmap.listeners:
        listener.page_unmapped(PAGE >> 12)  # type: ignore[arg-type]
    assert not shadowed(engine, False, False)
