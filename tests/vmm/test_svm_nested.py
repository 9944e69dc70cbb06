"""Nested page tables: filled by faults, emptied by the pmap, and what the processor does with them."""

from __future__ import annotations

import pytest

from tests.vmm.images import ENTRY, MEMORY_BYTES, bundled, code_image, machine
from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Ppn
from vilab.events import EventLog, HiddenFault, VmExit
from vilab.memory.pmap import Pmap
from vilab.vmm import svm_exits
from vilab.vmm.engine_svm import SvmEngine
from vilab.vmm.nested_paging import NestedEntry
from vilab.vmm.vm import VirtualMachine

PAGE = 0x200000
TEST_PORT = 0x80
READ, WRITE = svm_exits.NPF_USER, svm_exits.NPF_USER | svm_exits.NPF_WRITE

# Add 1 to [PAGE]; write the sum to port 80h, where the test acts; again, 4 times.
COUNT_IN_MEMORY = f"b904000000 ff05{PAGE.to_bytes(4, 'little').hex()} a1{PAGE.to_bytes(4, 'little').hex()} e680 e2f1 c3"


def svm(vm: VirtualMachine) -> SvmEngine:
    assert isinstance(vm.engine, SvmEngine)
    return vm.engine


def entries(vm: VirtualMachine) -> dict[int, NestedEntry]:
    return {entry.ppn: entry for entry in svm(vm).nested.entries()}


class Acting:
    """Runs a guest and calls ``act`` at its n-th access to port 80h (from 1)."""

    def __init__(self, code: str, acts: dict[int, object]) -> None:
        self.log = EventLog(keep=True)
        self.vm = machine(code, "svm", self.log)
        self.seen: list[int] = []
        engine, port_out = self.vm.engine, self.vm.engine.port_out

        def out(port: int, size_bytes: int, value: int) -> None:
            if port == TEST_PORT:
                self.seen.append(value)
                act = acts.get(len(self.seen))
                if act is not None:
                    act(self.vm)  # type: ignore[operator]
            port_out(port, size_bytes, value)

        engine.port_out = out  # type: ignore[method-assign]
        engine.run()

    def faults(self, ppn: int) -> list[int]:
        """Error codes of the nested faults on a page."""
        return [e.error_code for e in self.log.of(HiddenFault) if e.ppn == ppn]


def test_a_page_is_entered_when_it_is_first_touched_and_not_again():
    run = Acting(COUNT_IN_MEMORY, {})
    assert run.seen == [1, 2, 3, 4]
    assert run.faults(PAGE >> PAGE_SHIFT) == [READ, WRITE | svm_exits.NPF_PRESENT]
    assert run.faults(ENTRY >> PAGE_SHIFT) == [svm_exits.NPF_USER | svm_exits.NPF_FETCH]
    exits = [e for e in run.log.of(VmExit) if e.exit_code == svm_exits.NPF]
    assert [e.info2 >> PAGE_SHIFT for e in exits] == [e.ppn for e in run.log.of(HiddenFault)]
    assert svm(run.vm).hidden_faults == svm(run.vm).exits["npf"] == len(exits)


def test_an_entry_says_where_the_page_is_and_whether_it_was_written():
    run = Acting(COUNT_IN_MEMORY, {})
    found = entries(run.vm)
    data, code = found[PAGE >> PAGE_SHIFT], found[ENTRY >> PAGE_SHIFT]
    assert (data.writable, data.dirty, data.is_memory) == (True, True, True)
    assert (code.writable, code.dirty, code.is_memory) == (False, False, True)
    assert data.mpn == run.vm.pmap.mpn_of[PAGE >> PAGE_SHIFT]
    assert data.mpn != data.ppn


def test_a_page_that_is_written_first_faults_once():
    address = PAGE.to_bytes(4, "little").hex()
    assert Acting(f"a3{address} a1{address} c3", {}).faults(PAGE >> PAGE_SHIFT) == [WRITE]


def test_a_page_that_is_read_first_faults_once_more_when_it_is_written():
    address = PAGE.to_bytes(4, "little").hex()
    run = Acting(f"a1{address} a1{address} a3{address} a3{address} c3", {})
    assert run.faults(PAGE >> PAGE_SHIFT) == [READ, WRITE | svm_exits.NPF_PRESENT]


def test_after_write_protection_the_next_store_asks_again():
    ppn = Ppn(PAGE >> PAGE_SHIFT)

    def protect(vm: VirtualMachine) -> None:
        for listener in vm.pmap.listeners:
            listener.page_write_protected(ppn)

    run = Acting(COUNT_IN_MEMORY, {2: protect})
    assert run.seen == [1, 2, 3, 4]
    again = WRITE | svm_exits.NPF_PRESENT
    assert run.faults(ppn) == [READ, again, again]
    assert svm(run.vm).tlb_flushes == 1


def move_page(vm: VirtualMachine) -> None:
    """What sharing, swapping and migration do: another frame with other content (100) takes the page's place."""
    ppn = Ppn(PAGE >> PAGE_SHIFT)
    for listener in vm.pmap.listeners:
        listener.page_unmapped(ppn)
    vm.pmap.mpn_of[ppn] = vm.monitor_frames[-1]
    vm.machine_memory.write(vm.monitor_frames[-1] << PAGE_SHIFT, (100).to_bytes(4, "little"))


def test_after_unmapping_the_guest_sees_the_new_frame():
    run = Acting(COUNT_IN_MEMORY, {2: move_page})
    assert run.seen == [1, 2, 101, 102]


def test_without_the_flush_the_old_frame_would_still_be_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SvmEngine, "_flush_tlb", lambda self: None)
    monkeypatch.setattr(SvmEngine, "page_unmapped", lambda self, ppn: None)  # forgetting code flushes, too
    run = Acting(COUNT_IN_MEMORY, {2: move_page})
    assert run.seen == [1, 2, 3, 4]


@pytest.mark.parametrize("address", [MEMORY_BYTES, 0x3000000, 0x40000000, 0xF0000000, 0xFFFFF000])
def test_where_there_is_no_memory_reads_give_ones_and_writes_are_lost(address: int):
    at = address.to_bytes(4, "little").hex()
    vm = machine(f"c705{at}78563412 a1{at} f7d0 c3", "svm")
    ended = vm.engine.run()
    assert ended is not None
    assert "EAX = 0" in ended.sentence  # the complement of what was read
    entry = entries(vm)[address >> PAGE_SHIFT]
    assert not entry.is_memory
    assert entry.mpn << PAGE_SHIFT >= vm.machine_memory.size_bytes


def test_the_guests_own_page_tables_become_writable_at_once_since_walking_them_sets_bits():
    log = EventLog(keep=True)
    vm, _ = bundled("shell", "svm", log=log)
    vm.engine.run(until_ns=1_000_000)
    directory = vm.engine.vcpu.cr3 >> PAGE_SHIFT
    faults = [e.error_code for e in log.of(HiddenFault) if e.ppn == directory]
    assert len(faults) == 1
    assert faults[0] & svm_exits.NPF_WRITE


def test_the_guest_changes_its_tables_and_cr3_without_any_exit():
    log = EventLog(keep=True)
    vm, console = bundled("shell", "svm", b"forkwait 5\npoweroff\n", log=log)
    vm.engine.run(until_ns=10_000_000_000)
    assert b"5 processes" in console.output
    assert set(vm.engine.exits) == {"npf", "hlt", "in", "out", "interrupt", "intr"} - (
        set() if vm.engine.exits["intr"] else {"intr"}
    )


def test_clearing_forgets_every_page_and_keeps_the_frames():
    vm = machine(COUNT_IN_MEMORY, "svm")
    vm.engine.run()
    nested, used = svm(vm).nested, svm(vm).frames.used
    assert list(nested.entries())
    nested.clear()
    assert not list(nested.entries())
    assert nested.entry(PAGE) == 0
    nested.fill(PAGE, False)
    assert svm(vm).frames.used == used


def test_code_that_somebody_else_has_written_is_not_executed_as_it_was():
    # mov al,1; out 80h; loop: the immediate is changed from outside, as DMA would.
    def patch(vm: VirtualMachine) -> None:
        pmap: Pmap = vm.pmap
        pmap.write(ENTRY + 6, b"\x07")

    run = Acting("b904000000 b001 e680 e2fa c3", {2: patch})
    assert run.seen == [1, 1, 7, 7]


def test_all_of_memory_can_be_touched_with_one_table_for_each_4_mb():
    # mov edi,0; loop: add [edi],eax with eax 0; add edi,4096; until the end of memory.
    code = f"31c0 bf00000000 0107 81c700100000 81ff{MEMORY_BYTES.to_bytes(4, 'little').hex()} 75f0 c3"
    vm = VirtualMachine(code_image(code), "svm", MEMORY_BYTES)
    vm.engine.run()
    assert vm.engine.ended is not None
    memory = [entry for entry in svm(vm).nested.entries() if entry.is_memory]
    assert len(memory) == MEMORY_BYTES // PAGE_BYTES
    assert [vm.pmap.mpn_of[entry.ppn] for entry in memory] == [entry.mpn for entry in memory]
