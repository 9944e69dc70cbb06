"""Stores that keep hitting traced pages become callouts, and plain instructions again when they stop."""

from __future__ import annotations

import pytest

from tests.vmm.images import MEMORY_BYTES, code_image
from vilab.events import CalloutTaken, EventLog, TraceFault, UnitRetranslated
from vilab.vmm.adaptive import GUILTY_AFTER_TRAPS, INNOCENT_AFTER_STORES, Adaptive
from vilab.vmm.vm import VirtualMachine

DIRECTORY, TABLE = 0x200000, 0x201000
BUILD = (
    # directory[0] = TABLE, table[i] = i << 12 | 67h for the first 4 MB, then paging on
    "c70500002000 67102000"
    "31c9 89c8 c1e00c 83c867 89048d00102000 41 81f900040000 72e8"
    "b800002000 0f22d8 0f20c0 0d00000080 0f22c0"
)
EDITS = "bf00182000 b9{count} 8b07 8907 49 75fb"
AWAY = "bf00003000 b9{count} 8907 49 75fb"
END = "fa f4"


def words(count: int) -> str:
    return count.to_bytes(4, "little").hex()


def run(code: str, **options: object) -> VirtualMachine:
    vm = VirtualMachine(
        code_image(code), "bt", MEMORY_BYTES, log=EventLog(keep=True), engine_options={"trace": "all", **options}
    )
    vm.engine.run()
    return vm


def faults_at_the_edited_entry(vm: VirtualMachine) -> int:
    return sum(1 for event in vm.log.events if isinstance(event, TraceFault) and event.gva == TABLE + 0x800)


@pytest.mark.parametrize("superblocks", [False, True])
def test_traps_stop_after_the_threshold(superblocks: bool):
    vm = run(BUILD + EDITS.format(count=words(100)) + END, superblocks=superblocks)
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason == "halted"
    assert faults_at_the_edited_entry(vm) == GUILTY_AFTER_TRAPS
    assert vm.engine.exits["simulate"] == 100 - GUILTY_AFTER_TRAPS
    assert [e.why for e in vm.log.events if isinstance(e, UnitRetranslated)] == ["guilty"]


def test_without_adaptation_each_store_traps():
    vm = run(BUILD + EDITS.format(count=words(100)) + END, guilty_after=0)
    assert faults_at_the_edited_entry(vm) == 100
    assert vm.engine.exits["simulate"] == 0


def test_what_is_stored_is_the_same_either_way():
    edit = f"bf00182000 b9{words(64)} 8907 83c704 83c001 49 75f5"
    memory = [
        run(BUILD + "b800500000" + edit + END, guilty_after=after).pmap.read(TABLE, 0x1000) for after in (0, 1, 3)
    ]
    assert memory[0] == memory[1] == memory[2]


def test_an_instruction_that_stops_hitting_runs_as_it_is_again():
    # One loop, entered twice: first with edi on the table, then for long with edi elsewhere.
    loop = f"bb02000000 bf00182000 b9{words(20)} 8907 49 75fb bf00003000 b9{words(INNOCENT_AFTER_STORES + 50)}"
    back = "4b 75"
    at = len(bytes.fromhex(loop.replace(" ", "")))
    store_at = bytes.fromhex(loop.replace(" ", "")).index(bytes.fromhex("8907"))
    code = loop + back + ((store_at - (at + 3)) & 0xFF).to_bytes(1, "little").hex()
    vm = run(BUILD + "8b0500182000" + code + END)
    assert [e.why for e in vm.log.events if isinstance(e, UnitRetranslated)][:2] == ["guilty", "innocent"]
    after = [e for e in vm.log.events if isinstance(e, CalloutTaken) and e.reason == "simulate"]
    assert len(after) == vm.engine.exits["simulate"] == 20 - GUILTY_AFTER_TRAPS + INNOCENT_AFTER_STORES


def test_the_policy_by_itself():
    policy = Adaptive(guilty_after=2, innocent_after=3)
    assert [policy.trapped(1), policy.trapped(1), policy.is_guilty(1)] == [False, True, True]
    assert [policy.stored(1, hit) for hit in (False, False, True, False, False, False)] == [False] * 5 + [True]
    assert not policy.is_guilty(1)
