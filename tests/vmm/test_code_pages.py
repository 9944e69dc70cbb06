"""Translations go when the guest's mappings do."""

from __future__ import annotations

import pytest

from tests.vmm.images import MEMORY_BYTES, code_image
from vilab.vmm.engine_bt import TranslationEngine
from vilab.vmm.vm import VirtualMachine

DIRECTORY, TABLE, ONE, OTHER, GVA = 0x200000, 0x201000, 0x202000, 0x203000, 0x0080_1000
CODE = bytes.fromhex("40 c3") + bytes(0xFE) + bytes.fromhex("48 c3")


@pytest.fixture
def engine() -> TranslationEngine:
    engine = VirtualMachine(code_image("90"), "bt", MEMORY_BYTES).engine
    assert isinstance(engine, TranslationEngine)
    pmap = engine.vm.pmap
    pmap.write(DIRECTORY, bytes(8) + (TABLE | 7).to_bytes(4, "little"))
    for page in (ONE, OTHER):
        pmap.write(page, CODE)
    lead_to(engine, ONE)
    engine.vcpu.set_cr(0, 0x80000011)
    engine.vcpu.set_cr(3, DIRECTORY)
    return engine


def lead_to(engine: TranslationEngine, *pages: int) -> None:
    """The guest edits its table: pages from ``GVA`` on."""
    engine.vm.pmap.write(TABLE + 4, b"".join((page | 0x27).to_bytes(4, "little") for page in pages))


def test_a_unit_is_dropped_when_invlpg_says_that_its_page_is_another_one(engine: TranslationEngine):
    unit = engine.unit_for(GVA)
    engine.page_invalidated(GVA)
    assert unit.valid
    lead_to(engine, OTHER)
    engine.page_invalidated(GVA)
    assert not unit.valid


def test_also_when_other_code_was_translated_there_before_invlpg(engine: TranslationEngine):
    unit = engine.unit_for(GVA)
    lead_to(engine, OTHER)
    newer = engine.unit_for(GVA + 0x100)
    engine.page_invalidated(GVA)
    assert not unit.valid
    assert newer.valid


def test_a_page_behind_two_addresses_loses_only_the_units_of_the_one_that_moved(engine: TranslationEngine):
    lead_to(engine, ONE, ONE)
    unit, same = engine.unit_for(GVA), engine.unit_for(GVA + 0x1000)
    lead_to(engine, OTHER, ONE)
    engine.page_invalidated(GVA)
    assert not unit.valid
    assert same.valid


def test_a_store_to_a_page_behind_two_addresses_reaches_the_units_of_both(engine: TranslationEngine):
    lead_to(engine, ONE, ONE)
    units = engine.unit_for(GVA), engine.unit_for(GVA + 0x1000)
    elsewhere = engine.unit_for(GVA + 0x100)
    engine.vm.pmap.write(ONE, b"\x90")
    assert not any(unit.valid for unit in units)
    assert elsewhere.valid
