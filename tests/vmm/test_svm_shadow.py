"""AMD-V with shadow page tables: the same guests and output, and an exit for all that has to do with page tables."""

from __future__ import annotations

from typing import Any

import pytest

from tests.vmm.images import ENTRY, MEMORY_BYTES, STACK, bundled, code_image
from vilab.errors import AdminError
from vilab.events import EventLog, VmExit
from vilab.guests.image import LoadedImage, flat_gdt
from vilab.machine.registers import TR
from vilab.vmm import differential_paging_guest as g
from vilab.vmm import suspend
from vilab.vmm.checkpoint import Checkpoints
from vilab.vmm.differential_paging import Mmu, PagingMachine, PagingOutcome, differences, named
from vilab.vmm.differential_paging_code import Step, assemble
from vilab.vmm.svm_memory import SvmVcpu
from vilab.vmm.svm_shadow import SvmShadowEngine, SvmShadowVcpu
from vilab.vmm.vm import QuietConsole, VirtualMachine
from vilab.x86.descriptors import TSS32, Segment, build_tss

SESSION = b"isprime 49\nforkwait 8\ntoucher 12 3\ncow\nworkers 3 2000\nfault\ndivzero\npoweroff\n"
POLICIES = ("all", "lazy", "prevalidate")


def shell(engine: str, **options: Any) -> tuple[str, Any]:
    vm, console = bundled("shell", engine, SESSION, engine_options=options)
    ended = vm.engine.run(until_ns=60_000_000_000)
    assert ended is not None
    assert ended.reason == "powered_off"
    return console.output.decode(), vm.engine


@pytest.mark.parametrize("trace", POLICIES)
def test_the_serial_output_is_that_of_the_bare_machine(trace: str):
    output, engine = shell("svm", paging="shadow", trace=trace)
    assert output == shell("bare")[0]
    assert isinstance(engine, SvmShadowEngine)
    exits = engine.exits
    assert exits["npf"] == 0
    assert exits["cr3 write"] > 10
    assert exits["exception 0e"] >= engine.hidden_faults + engine.trace_faults
    assert (engine.trace_faults > 0) == (trace == "all")


def test_true_faults_are_as_many_as_under_nested_paging():
    assert shell("svm", paging="shadow")[1].true_faults == shell("svm")[1].true_faults


def test_a_state_goes_on_with_empty_shadow_tables():
    vm, console = bundled("shell", "svm", SESSION, engine_options={"paging": "shadow"})
    vm.engine.run(until_ns=3_000_000)
    vm.load_state(vm.save_state())
    vm.engine.run(until_ns=60_000_000_000)
    assert console.output.decode() == shell("svm", paging="shadow")[0]


def test_the_guest_reads_its_own_control_registers():
    vm, _ = bundled("shell", "svm", SESSION, engine_options={"paging": "shadow"})
    vm.engine.run(until_ns=5_000_000)
    engine = vm.engine
    assert isinstance(engine, SvmShadowEngine)
    assert engine.vcpu.cr3 != vm.cpu.cr(3) == engine.shadow.root_mpn << 12


def test_no_other_paging():
    with pytest.raises(AdminError, match="nested and shadow"):
        bundled("isprime", "svm", engine_options={"paging": "paravirtual"})


@pytest.mark.parametrize("trace", POLICIES)
def test_a_stepped_run_is_the_run(trace: str):
    seen = []
    for stepped in (False, True):
        log = EventLog(keep=True)
        vm, _ = bundled("forkwait", "svm", append="1 2", log=log, engine_options={"paging": "shadow", "trace": trace})
        if stepped:
            while vm.engine.step_instruction():
                pass
        else:
            vm.engine.run(until_ns=60_000_000_000)
        seen.append((log.events, vm.engine.statistics()))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("trace", POLICIES)
def test_going_back_logs_the_same_again(trace: str):
    log, options = EventLog(keep=True), {"paging": "shadow", "trace": trace}
    vm, _ = bundled("forkwait", "svm", append="20 4", log=log, engine_options=options)
    checkpoints = Checkpoints(vm)
    vm.engine.run(until_ns=31_000_000)
    taken = checkpoints.take()
    vm.engine.run(until_ns=60_000_000_000)
    events, statistics = list(log.events), vm.engine.statistics()
    checkpoints.restore(taken)
    assert 100 < len(log.events) < len(events) - 100
    vm.engine.run(until_ns=60_000_000_000)
    assert (log.events, vm.engine.statistics()) == (events, statistics)


def test_suspended_it_goes_on_in_another_machine():
    options = {"paging": "shadow", "trace": "lazy"}
    vm, console = bundled("shell", "svm", SESSION, engine_options=options)
    vm.engine.run(until_ns=31_500_000)
    file, said, untyped = suspend.encode(vm, options), bytes(console.output), console._typed
    assert not untyped
    resumed = suspend.decode(file).resume(other := QuietConsole())
    assert isinstance(resumed.engine, SvmShadowEngine)
    assert resumed.engine.shadow.policy.name == "lazy"
    resumed.engine.run(until_ns=60_000_000_000)
    vm.engine.run(until_ns=60_000_000_000)
    assert said + other.output == console.output
    assert len(other.output) > 50


# The task register ---------------------------------------------------------------------------------------------------

TABLE, OLD_TASK, NEW_TASK, RING_3, INNER = 0x4000, 0x5000, 0x6000, ENTRY + 0x200, ENTRY + 0x300
LOAD_TABLE, LOAD_TASK = "0f011500280000", "66b81800 0f00d8"
TO_RING_3 = "6a2b 6800000800 6a02 6a23 6800021000 cf"  # IRET to RING_3


def tasks(code: str, ring_3: str = "f4", inner: str = "f4", esp0: int = STACK - 0x400) -> LoadedImage:
    """A guest with a table of its own: 18 a TSS, 20 and 28 of ring 3, 30 a gate to ``inner``, 38 another TSS."""

    def tss(base: int) -> bytes:
        return Segment(base, 0x67, TSS32, system=True, big=False, granular=False).to_bytes()

    gate = (INNER & 0xFFFF | 8 << 16).to_bytes(4, "little") + (INNER & 0xFFFF0000 | 0xEC00).to_bytes(4, "little")
    user = bytes.fromhex("ffff000000fbcf00 ffff000000f3cf00")
    table = flat_gdt(8)[:24] + tss(OLD_TASK) + user + gate + tss(NEW_TASK)
    more = (
        (TABLE, table), (0x2800, (len(table) - 1).to_bytes(2, "little") + TABLE.to_bytes(4, "little")),
        (OLD_TASK, build_tss(esp0=esp0, ss0=16, io_map=0x68)),
        (NEW_TASK + 0x1C, (0x12345000).to_bytes(4, "little") + ENTRY.to_bytes(4, "little")),
        (RING_3, bytes.fromhex(ring_3)), (INNER, bytes.fromhex(inner)),
    )  # fmt: skip
    return code_image(LOAD_TABLE + code, more=more)


def run_tasks(image: LoadedImage, engine: str = "svm", **options: object) -> VirtualMachine:
    vm = VirtualMachine(image, engine, MEMORY_BYTES, engine_options=options)
    vm.engine.run(until_ns=100_000_000)
    return vm


@pytest.mark.parametrize(
    "switch", ["ea000000003800", "9a000000003800", "6683250050000000 66c705005000003800 9c 810c2400400000 9d cf"]
)
def test_a_task_switch_does_not_take_the_guest_off_its_shadow_tables(switch: str):
    """The TSS has a CR3, which the processor would load by itself."""
    vm = run_tasks(tasks(LOAD_TASK + switch), paging="shadow")
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason in ("unsupported", "triple_fault")  # IRET: 38 leads to a TSS that is not busy
    assert vm.cpu.cr(3) == vm.engine.shadow.root_mpn << 12  # type: ignore[attr-defined]


def test_without_the_dark_the_processor_would_load_cr3(monkeypatch: pytest.MonkeyPatch):
    """The test above can fail."""
    monkeypatch.setattr(SvmShadowVcpu, "set_segment", SvmVcpu.set_segment)
    monkeypatch.setattr(SvmShadowVcpu, "segment", SvmVcpu.segment)
    assert run_tasks(tasks(LOAD_TASK + "ea000000003800"), paging="shadow").cpu.cr(3) == 0x12345000


CALL_INNER = "9a000000003300"


@pytest.mark.parametrize("in_the_dark", [False, True])
def test_a_gate_leads_to_the_stack_that_the_tss_names(in_the_dark: bool):
    """And back, with all that was pushed on the way; the guest may have a use for the address that TR leads to."""
    touch = "a16800c0ff" if in_the_dark else ""
    # Ring 3: call the gate, then hlt, which faults there: nothing else is left to compare but the stack at STACK-400.
    image = tasks(touch + LOAD_TASK + TO_RING_3, CALL_INNER + "40 f4", "50 8cc8 89e3 58 40 cb")
    judge, vm = run_tasks(image, "bare"), run_tasks(image, paging="shadow")
    states = [m.engine.vcpu.save_state() for m in (judge, vm)]
    for state in states:
        state.debug = []  # the bare machine's are the processor's own, and it has set none of its bits yet
    assert states[1] == states[0]
    assert vm.pmap.read(STACK - 0x400 - 32, 32) == judge.pmap.read(STACK - 0x400 - 32, 32) != bytes(32)
    assert vm.cpu.segment(TR)[1] == vm.engine.vcpu.dark  # type: ignore[attr-defined]
    assert (vm.engine.vcpu.dark == 0x3FF << 22) != in_the_dark  # type: ignore[attr-defined]


@pytest.mark.parametrize("paging", ["nested", "shadow"])
@pytest.mark.parametrize("load", ["", "31c0 0f00d8"])
def test_a_gate_without_a_task_register_is_a_fault_and_not_the_processors_end(load: str, paging: str):
    vm = run_tasks(tasks(load + TO_RING_3, CALL_INNER), paging=paging)
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason == "triple_fault"
    assert ("null task register" if load else "#TS") in vm.engine.ended.sentence
    assert vm.engine.exits["tr write"] == 0
    assert "tr write" not in {e for e in vm.engine.exits if vm.engine.exits[e]}


# What only shows with shadow tables ----------------------------------------------------------------------------------


def records(mmu: Mmu, *codes: str) -> tuple[PagingOutcome, PagingOutcome]:
    """The world of the paging programs: under the bare machine, and under ``mmu``."""
    program = assemble([Step(False, bytes.fromhex(code), lambda _: None, "") for code in codes], 1)
    return PagingMachine(("bare", {})).run(program), PagingMachine(mmu).run(program)


ALL_SVM: list[Mmu] = [("svm", {}), *(("svm", {"paging": "shadow", "trace": trace}) for trace in POLICIES)]
SHADOWED: list[Mmu] = [("svm", {"paging": "shadow"}), ("bt", {}), ("bt", {"placement": "mirrored"})]
TABLE_ENTRY = (g.KERNEL_TABLE + 4 * 0x3FF).to_bytes(4, "little").hex()


@pytest.mark.parametrize("mmu", SHADOWED, ids=map(named, SHADOWED))
def test_the_guests_trap_flag_holds_for_a_store_to_a_traced_page(mmu: Mmu):
    """An addition to a page-table entry is let through by a step of the monitor's, and traps like any other."""
    bare, other = records(mmu, f"c705{TABLE_ENTRY}00000000", f"9c 810c2400010000 9d 8305{TABLE_ENTRY}00 90 90")
    assert [r[0] for r in bare.records].count(1) >= 3
    assert differences(bare, other) == []


@pytest.mark.parametrize("ne", ["83c820", "83e0df"])
def test_x87_exceptions_come_as_cr0_ne_says(ne: str):
    code = f"0f20c0 {ne} 0f22c0 dbe3 687b030000 d92c24 d9e8 d9ee def9 9b 90"  # 1 / 0, unmasked
    bare, other = records(("svm", {"paging": "shadow"}), code)
    assert (16 in [r[0] for r in bare.records]) == (ne == "83c820")
    assert differences(bare, other) == []


def test_flags_survive_a_hidden_fault_of_setcc():
    """The first store to a page, by an instruction that has put the flags together before."""
    gva = (g.KERNEL_FREE << 12).to_bytes(4, "little").hex()
    bare, other = records(
        ("svm", {"paging": "shadow"}), f"31c0 83f801 0f92 05{gva} 9c 5b 83d100".replace("0f92 05", "0f9205")
    )
    assert differences(bare, other) == []


@pytest.mark.parametrize("mmu", ALL_SVM, ids=map(named, ALL_SVM))
def test_code_that_the_tables_do_not_lead_to_any_more_runs_on_or_faults(mmu: Mmu):
    """CPUID behind the store that takes its own page away: nobody has told the processor yet."""
    entry = (g.KERNEL_TABLE + 4 * (g.PROGRAM >> 12)).to_bytes(4, "little").hex()
    _, other = records(mmu, f"c705{entry}00000000 31c0 0fa2 89c6 0fa2 fa f4")
    stale = mmu[1].get("trace") in ("lazy", "prevalidate")
    assert [r[:2] for r in other.records[:1]] == ([] if stale else [(14, 0)])


# What is shown -------------------------------------------------------------------------------------------------------


def test_the_block_in_memory_shows_the_real_control_registers():
    vm, _ = bundled("shell", "svm", SESSION, engine_options={"paging": "shadow"})
    engine = vm.engine
    assert isinstance(engine, SvmShadowEngine)
    engine.run(until_ns=5_000_000)
    block = engine.read_vmcb()
    assert (block["np_enable"], block["n_cr3"]) == (0, 0)
    assert block["cr3"] == engine.cpu_registers().cr3 == engine.shadow.root_mpn << 12
    assert block["cr0"] == engine.vcpu.cr0 | 0x80010000
    assert engine.cpu_registers().nested_cr3 is None
    assert engine.guest_registers().cr3 == engine.vcpu.cr3


def test_an_access_to_registers_in_memory_is_a_page_fault_exit_at_their_address():
    """The local APIC's registers, mapped at 600000 by a 4 MB page, three ways."""
    code = (
        "0f20e0 83c810 0f22e0 b800800000 0f22d8 0f20c0 0d00000080 0f22c0bff0006000 a1f0006000 c705f000600000010000 ab"
    )
    directory = (0x83).to_bytes(4, "little") + (0xFEC00083).to_bytes(4, "little")
    log = EventLog(keep=True)
    image = code_image(bytes.fromhex(code + "c3"), more=((0x8000, directory),))
    vm = VirtualMachine(image, "svm", MEMORY_BYTES, log=log, engine_options={"paging": "shadow"})
    vm.engine.run()
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason == "returned"
    seen = [(e.reason, e.info1, e.code.hex()[:2]) for e in log.of(VmExit) if e.info2 == 0x6000F0 and e.code]
    assert seen == [("exception 0e", 0, "a1"), ("exception 0e", 2, "c7"), ("exception 0e", 2, "ab")]
    assert vm.engine.exits["mmio"] == 3
