"""Hostile guests reach nothing but themselves, whatever runs them, and the run ends with a sentence or at its time."""

from __future__ import annotations

import random

import pytest

from vilab.errors import VmmBug
from vilab.vmm import differential_paging_guest as g
from vilab.vmm.differential_paging import Mmu, named
from vilab.vmm.differential_paging_code import Step, assemble, u32
from vilab.vmm.engine_bt import TranslationEngine
from vilab.vmm.hostile import SNIPPETS, hostile_program
from vilab.vmm.hostile_watch import PATTERN, Breach, HostileMachine, run_hostile
from vilab.vmm.monitor import GDT

MMUS: list[Mmu] = [
    ("bt", {"cache_bytes": 1 << 17}), ("bt", {"trace": "lazy", "cache_bytes": 1 << 15}),
    ("bt", {"placement": "mirrored"}), ("trap", {}), ("svm", {}), ("svm", {"paging": "shadow"}),
]  # fmt: skip


@pytest.mark.parametrize("mmu", MMUS, ids=map(named, MMUS))
def test_hostile_guests_reach_nothing(mmu: Mmu):
    result = run_hostile(60, seed=1, mmus=[mmu])
    assert result["guests"] == 60
    assert not result["broken"][named(mmu)], result["reports"]
    assert {"triple_fault", "halted", "time"} <= set(result["endings"][named(mmu)])


def steps(*codes: bytes) -> bytes:
    return assemble([Step(False, code, lambda _: None, "") for code in codes], 1)


def test_a_return_through_the_monitors_pages_ends_with_a_sentence():
    """RET with ESP in the translation cache: the processor may look there, the guest has nothing there."""
    machine = HostileMachine(("bt", {}))
    assert machine.run(steps(b"\xbc" + u32(0xF0400100) + b"\xc3")) == "conflict"
    ended = machine.vm.engine.ended
    assert ended is not None
    assert "f0400100" in ended.sentence


def test_a_large_page_above_4_gb_ends_with_a_sentence_under_hardware_assist():
    """PSE-36: bits 20 to 13 of the entry are bits 39 to 32 of the address."""
    machine = HostileMachine(("svm", {}))
    entry = b"\xc7\x05" + u32((g.DIRECTORIES[0] << 12) + 4 * g.FIRST) + u32(0x87 | 1 << 13)
    pse = bytes.fromhex("0f20e0 83c810 0f22e0")
    assert machine.run(steps(entry, pse, b"\xc7\x05" + u32(g.FIRST << 22) + u32(1))) == "unsupported"
    with pytest.raises(VmmBug, match="beyond"):
        machine.vm.engine.nested.fill(1 << 32, True)  # type: ignore[attr-defined]


# The watch must be able to see ---------------------------------------------------------------------------------------


def test_a_monitor_that_lets_its_tables_be_written_is_caught():
    machine = HostileMachine(("bt", {}))
    engine = machine.vm.engine
    assert isinstance(engine, TranslationEngine)
    table = engine.shadow._monitor_tables[GDT >> 22]
    machine.vm.machine_memory.words[table + (GDT >> 12 & 0x3FF)] |= 2
    with pytest.raises(Breach, match="changed page"):
        machine.run(steps(b"\xc7\x05" + u32(GDT + 8) + u32(0xBAD)))


def test_a_monitor_that_maps_another_guests_frame_is_caught():
    machine = HostileMachine(("svm", {}))
    pmap = machine.vm.pmap
    pmap.mpn_of[0x40] = pmap.mpn_of[0] + g.MEMORY_PAGES
    with pytest.raises(Breach):
        machine.run(steps(b"\xa1" + u32(0x40000)))


def test_a_guest_that_has_read_another_guests_frame_is_caught():
    machine = HostileMachine(("bt", {}))
    with pytest.raises(Breach, match="has read"):
        machine.run(steps(b"\xc7\x05" + u32(0x40000) + u32(PATTERN)))


def test_every_kind_of_snippet_is_drawn():
    drawn = {snippet for seed in range(40) for snippet in [random.Random(seed).choice(SNIPPETS)]}
    assert len(drawn) > len(set(SNIPPETS)) * 2 // 3
    assert hostile_program(random.Random("1 2")) == hostile_program(random.Random("1 2"))
