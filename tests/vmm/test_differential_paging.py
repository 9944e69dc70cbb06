"""Random programs that edit page tables end the same under every MMU as on the bare processor, and as the manual says.

The programs invalidate what the manual demands and no more (``vilab/vmm/differential_paging_model.py``), so faults,
error codes, CR2, Accessed and Dirty bits and memory must agree exactly: there are no accepted differences.
"""

from __future__ import annotations

import random

import pytest

from vilab.errors import GuestFault
from vilab.vmm import differential_paging_guest as g
from vilab.vmm.differential_paging import (
    MMUS,
    PagingCase,
    PagingDifferential,
    all_mmus,
    named,
    random_paging_case,
    run_paging_differential,
)
from vilab.vmm.differential_paging_code import KINDS, invlpg, proper_steps, step_of
from vilab.vmm.differential_paging_model import PSE, WP, Forbidden, Model, Stale
from vilab.vmm.shadow_paging import ShadowTables
from vilab.vmm.shadow_policy import Lazy, Prevalidate
from vilab.x86 import paging as pg

WINDOW = g.FIRST << 22 | g.FIRST << 12
TABLE_ENTRY, DIRECTORY_ENTRY = (g.TABLES[0] << 12) + 4 * g.FIRST, (g.DIRECTORIES[0] << 12) + 4 * g.FIRST


@pytest.mark.parametrize(("mmus", "cases"), [(MMUS, 500), ([mmu for mmu in all_mmus() if mmu not in MMUS], 60)])
def test_random_page_table_edits_end_as_on_the_bare_processor(mmus, cases):
    result = run_paging_differential(cases, seed=3, mmus=mmus, reports=1)
    assert result["cases"] == cases
    assert result["faults"] > 5 * cases
    assert not any(result["different"].values()), "\n".join(result["reports"])


def test_the_programs_do_everything_that_they_are_meant_to():
    """Faults of every kind, reads, writes and calls that go through, at both levels and across pages."""
    rng, errors, done, left = random.Random(5), set(), set(), 0
    for _ in range(150):
        case = random_paging_case(rng)
        steps, model = proper_steps(case.choices, 1, case.large)
        errors |= {error for vector, error, _ in model.faults if vector == 14}
        model = Model()
        for step in steps:
            try:
                step.act(model)
                done.add((step.text.split()[0], step.user))
            except GuestFault:
                pass
        left += len(steps) > len(case.choices) // 2
    assert errors >= {0, 2, 3, 4, 5, 6, 7}
    assert errors & {9, 0xB, 0xD, 0xF}
    assert done >= {(name, user) for name in ("read", "mov", "call", "rep", "push") for user in (False, True)}
    assert {("invlpg", False), ("toggle", False)} <= done
    assert left > 120


@pytest.mark.parametrize(
    ("trace", "owner", "broken"),
    [("all", ShadowTables, "written"), ("lazy", Lazy, "invalidated"), ("prevalidate", Prevalidate, "_validate")],
)
def test_a_shadow_that_goes_stale_is_found_and_named(trace, owner, broken, monkeypatch: pytest.MonkeyPatch):
    """The judge must be able to fail: a monitor that forgets what it has to do is caught, and the case made small."""
    mmu = ("bt", {"trace": trace})
    test, rng = PagingDifferential([mmu]), random.Random(11)
    monkeypatch.setattr(owner, broken, lambda self, *_: None)
    bad = next(case for _ in range(400) if named(mmu) in test.compare(case := random_paging_case(rng)))
    small = test.shrink(bad, named(mmu))
    assert len(small.choices) <= 12
    report = test.explain(small, named(mmu))
    assert f"bare / bt trace={trace}" in report
    assert "ring 0  mov 4 bytes" in report


# The model -----------------------------------------------------------------------------------------------------------


def _mapped() -> Model:
    m = Model()
    m.write(DIRECTORY_ENTRY, (g.TABLES[0] << 12 | 7).to_bytes(4, "little"))
    m.write(TABLE_ENTRY, (g.DATA_FRAMES[0] << 12 | 7).to_bytes(4, "little"))
    return m


def test_a_present_entry_that_was_used_must_be_invalidated():
    m = _mapped()
    m.read(WINDOW, 4)
    m.write(TABLE_ENTRY, (g.DATA_FRAMES[1] << 12 | 7).to_bytes(4, "little"))
    with pytest.raises(Stale):
        m.read(WINDOW, 4)
    m.invalidate(WINDOW)
    m.read(WINDOW, 4)


def test_an_entry_that_was_not_present_needs_nothing():
    m = Model()
    with pytest.raises(GuestFault):
        m.read(WINDOW, 4)
    m.write(DIRECTORY_ENTRY, (g.TABLES[0] << 12 | 7).to_bytes(4, "little"))
    m.write(TABLE_ENTRY, (g.DATA_FRAMES[0] << 12 | 7).to_bytes(4, "little"))
    m.read(WINDOW, 4)


def test_a_table_reached_through_two_directory_entries_is_stale_at_both():
    m = _mapped()
    m.write(DIRECTORY_ENTRY + 4, (g.TABLES[0] << 12 | 7).to_bytes(4, "little"))
    m.read(WINDOW, 4)
    m.read(WINDOW + pg.LARGE_BYTES, 4)
    m.write(TABLE_ENTRY, bytes(4))
    m.invalidate(WINDOW)
    with pytest.raises(GuestFault):
        m.read(WINDOW, 4)
    with pytest.raises(Stale):
        m.read(WINDOW + pg.LARGE_BYTES, 4)


def test_one_invlpg_reaches_all_of_a_large_page():
    m = Model()
    m.toggle_cr4(PSE)
    m.write(DIRECTORY_ENTRY, (0x87).to_bytes(4, "little"))
    m.read(WINDOW, 4)
    m.read(WINDOW + 0x1000, 4)
    m.write(DIRECTORY_ENTRY, (0x400087).to_bytes(4, "little"))
    with pytest.raises(Stale):
        m.read(WINDOW + 0x1000, 4)
    m.invalidate(WINDOW)
    m.read(WINDOW + 0x1000, 4)


def test_a_supervisor_writes_read_only_pages_unless_told_not_to():
    m = _mapped()
    m.write(TABLE_ENTRY, (g.DATA_FRAMES[0] << 12 | 5).to_bytes(4, "little"))
    with pytest.raises(GuestFault) as caught:
        m.write(WINDOW, b"\0")
    assert caught.value.error_code == 3
    m.toggle_cr0(WP)
    m.write(WINDOW, b"\0")
    assert m.frames[g.TABLES[0]][4 * g.FIRST] & pg.DIRTY


def test_the_kernels_own_entries_are_out_of_bounds():
    with pytest.raises(Forbidden):
        Model().write(g.DIRECTORIES[0] << 12, bytes(4))


def test_steps_are_values_of_their_choice_alone():
    for kind in range(KINDS):
        assert step_of((kind, 12345)).code == step_of((kind, 12345)).code
    assert proper_steps(((0, 1), (8, 2)), 1)[0][-1].text == proper_steps(((0, 1), (8, 2)), 1)[0][-1].text
    assert PagingCase(()).rounds == 1
    assert invlpg(0x1000).code.endswith(b"\x0f\x01\x39")
