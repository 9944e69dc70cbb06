"""Units translated ahead of their first run: fewer exits, the same guest."""

from __future__ import annotations

import pytest

from tests.vmm.images import ENTRY, code_image
from vilab.events import EventLog, UnitTranslated
from vilab.vmm.vm import VirtualMachine

# mov edi,50; again: call f; inc esi; call g; dec edi; jnz again; mov eax,esi; ret; f: add esi,2; ret; g: call f; ret
CALLS = bytes.fromhex("bf32000000 e80d000000 46 e80b000000 4f 75f2 89f0 c3 90 83c602 c3 e8f7ffffff c3")
DIRECTORY, TABLE, FAR = 0x5000, 0x6000, 0x103000
ACCESSED = 0x20


def made(image: object, ahead: int, log: EventLog | None = None) -> VirtualMachine:
    options = {"superblocks": True, "ahead": ahead}
    return VirtualMachine(image, "bt", 4 << 20, log=log, engine_options=options)  # type: ignore[arg-type]


def finished(vm: VirtualMachine) -> VirtualMachine:
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "returned", ended
    return vm


def test_calls_and_returns_find_their_fragments_without_exits() -> None:
    exits = []
    for ahead in (0, 2, 8):
        vm = finished(made(code_image(CALLS), ahead))
        assert vm.engine.vcpu.gpr[0] == 50 * 5
        exits.append(vm.engine.exits["chain"] + vm.engine.exits["ret_miss"])
    assert exits[0] > exits[1] >= exits[2]


@pytest.mark.parametrize("ahead", [1, 2, 8])
def test_a_stepped_run_logs_the_same(ahead: int) -> None:
    logs = []
    for stepped in (False, True):
        log, seen = EventLog(), []
        log.listen(seen.append)
        vm = made(code_image(CALLS), ahead, log)
        if stepped:
            while vm.engine.step_instruction():
                pass
        else:
            vm.engine.run()
        logs.append(seen)
    assert logs[0] == logs[1]
    assert any(isinstance(event, UnitTranslated) for event in logs[0])


def paged_image(is_used: bool) -> object:
    """Paging on; then, unless EDI is 0, over a call of a page far away."""
    head = bytes.fromhex("b800500000 0f22d8 0f20c0 0d00000080 0f22c0 b8")
    behind = ENTRY + len(head) + 6
    jump = FAR - (behind + 14)
    code = (
        head + behind.to_bytes(4, "little") + bytes.fromhex("ffe0 bf01000000 85ff 7505")
        + b"\xe8" + jump.to_bytes(4, "little", signed=True) + bytes.fromhex("40 c3")
    )  # fmt: skip
    entries = [(page << 12 | 3) for page in range(1024)]
    if is_used:
        entries[FAR >> 12] |= ACCESSED
    table = b"".join(entry.to_bytes(4, "little") for entry in entries)
    return code_image(code, more=((DIRECTORY, (TABLE | 3).to_bytes(4, "little")), (TABLE, table), (FAR, b"\xc3")))


@pytest.mark.parametrize("is_used", [False, True])
def test_what_the_guest_has_not_used_is_left_alone(is_used: bool) -> None:
    log, seen = EventLog(), []
    log.listen(seen.append)
    vm = finished(made(paged_image(is_used), 4, log))
    entry = vm.pmap.read_u32(TABLE + 4 * (FAR >> 12))
    assert bool(entry & ACCESSED) is is_used
    translated = {event.eip for event in seen if isinstance(event, UnitTranslated)}
    assert (FAR in translated) is is_used


def units_of(vm: VirtualMachine) -> int:
    return vm.engine.statistics()["translation"]["units"]  # type: ignore[index,return-value,call-overload]


def test_jumps_into_the_middle_of_a_fragment_find_it_there() -> None:
    # mov edi,40; again: test edi,1; jz even; inc esi; even: add esi,2; dec edi; jnz again; mov eax,esi; ret
    code = bytes.fromhex("bf28000000 f7c701000000 7401 46 83c602 4f 75f1 89f0 c3")
    vm = finished(made(code_image(code), 0))
    assert vm.engine.vcpu.gpr[0] == 20 + 80
    assert units_of(vm) == 1
    assert vm.engine.exits["chain"] == 0


def test_a_fragment_is_not_entered_in_an_interrupt_shadow() -> None:
    # mov edi,2; sti; behind: inc esi; dec edi; jnz behind; mov eax,esi; cli; ret
    code = bytes.fromhex("bf02000000 fb 46 4f 75fc 89f0 fa c3")
    vm = finished(made(code_image(code), 0))
    assert vm.engine.vcpu.gpr[0] == 2
    assert any(ENTRY + 6 in units for units in vm.engine.cache.units.values())  # type: ignore[attr-defined]
    assert vm.engine.exits["chain"] == 1


def test_a_jump_into_a_fragment_that_changes_leads_to_the_new_one() -> None:
    # mov edi,3; again: mov eax,1; add esi,eax; mov byte [again+1],5; dec edi; jnz again; mov eax,esi; ret
    again = ENTRY + 5
    code = (
        bytes.fromhex("bf03000000 b801000000 01c6 c605") + (again + 1).to_bytes(4, "little")
        + bytes.fromhex("05 4f 75ef 89f0 c3")
    )  # fmt: skip
    vm = finished(made(code_image(code), 4))
    assert vm.engine.vcpu.gpr[0] == 1 + 5 + 5
