"""Hardware assist: what exits, what it says, and that the guest notices nothing."""

from __future__ import annotations

import msgspec
import pytest

from tests.vmm.images import ENTRY, MEMORY_BYTES, STACK, bundled, code_image, machine
from tests.vmm.test_svm_stepping import timer_image
from vilab.costs import DEFAULT_COSTS
from vilab.errors import AdminError
from vilab.events import Emulated, Event, EventLog, ExceptionDelivered, Halted, InterruptDelivered, VmExit, encode
from vilab.vmm import svm_exits, vmcb
from vilab.vmm.engine_svm import SvmEngine
from vilab.vmm.svm_intercepts import NOT_FROM_HERE, NOT_OFFERED
from vilab.vmm.vm import VirtualMachine, VmState

SESSION = (
    b"isprime 49\nforkwait 5\nsyscall-loop 20\ntoucher 8 2\ncow\nworkers 2 2000\ncalls\nfault\ndivzero\npoweroff\n"
)
EXIT_CYCLES = DEFAULT_COSTS.vm_exit + DEFAULT_COSTS.vm_entry


def svm(vm: VirtualMachine) -> SvmEngine:
    assert isinstance(vm.engine, SvmEngine)
    return vm.engine


def ran(code: str, **options: object) -> tuple[VirtualMachine, EventLog]:
    log = EventLog(keep=True)
    vm = machine(code, "svm", log, **options)
    vm.engine.run(until_ns=100_000_000)
    return vm, log


def exits_of(log: EventLog) -> list[VmExit]:
    """All but nested page faults."""
    return [e for e in log.of(VmExit) if e.exit_code != svm_exits.NPF]


def session(engine: str, **options: object) -> tuple[VirtualMachine, bytes]:
    vm, console = bundled("shell", engine, SESSION, **options)
    ended = vm.engine.run(until_ns=60_000_000_000)
    assert ended is not None
    assert ended.reason == "powered_off"
    return vm, bytes(console.output)


@pytest.fixture(scope="module")
def bare_output() -> bytes:
    return session("bare")[1]


# What exits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        ("0fa2", "cpuid", 0x72),
        ("0f31", "rdtsc", 0x6E),
        ("0f08", "invd", 0x76),
        ("0f09", "wbinvd", 0x89),
        ("b910000000 0f32", "msr", 0x7C),
        ("b91b000000 b80008e0fe 31d2 0f30", "msr", 0x7C),
        ("0f21c3", "dr0 read", 0x20),
        ("0f23fb", "dr7 write", 0x37),
        ("e480", "in", 0x7B),
        ("e680", "out", 0x7B),
    ],
)
def test_an_instruction_exits_once_and_is_carried_out(code: str, reason: str, exit_code: int):
    vm, log = ran(code + "c3")
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason == "returned"
    (event,) = exits_of(log)
    raw = bytes.fromhex(code)
    assert (event.reason, event.exit_code, event.cycles) == (reason, exit_code, EXIT_CYCLES)
    assert raw.endswith(event.code)
    assert event.eip == ENTRY + len(raw) - len(event.code)
    assert event.cpl == 0
    assert vm.engine.exits[reason] == 1
    if exit_code != svm_exits.IOIO:
        assert [e.code for e in log.of(Emulated)] == [event.code]


@pytest.mark.parametrize(
    "code",
    ["fa", "fb", "9c58", "6a02 9d", "0f20d8", "0f20c0 0f22c0", "0f010d00200000", "0f01e0", "8cc8", "0f0100", "0f06"],
)
def test_what_made_the_monitor_work_in_ring_1_does_not_exit(code: str):
    vm, log = ran(code.replace("0f0100", "0f010500200000") + "c3")
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason == "returned"
    assert exits_of(log) == []


def test_port_exits_say_which_access_it_was():
    _, log = ran("66ba8000 ec 66ef c3")
    first, second = exits_of(log)
    assert (first.info1, first.info2) == (0x00800111, ENTRY + 5)
    assert (second.info1, second.info2) == (0x00800120, ENTRY + 7)


def test_rdmsr_and_wrmsr_differ_in_exitinfo1():
    _, log = ran("b91b000000 b80008e0fe 31d2 0f30 0f32 c3")
    assert [e.info1 for e in exits_of(log)] == [1, 0]


def test_every_exit_costs_a_world_switch_each_way():
    vm, log = ran("0fa2 0fa2 0fa2 c3")
    first, second, third = exits_of(log)
    assert second.at_ns - first.at_ns == third.at_ns - second.at_ns == DEFAULT_COSTS.ns(EXIT_CYCLES)
    faults = vm.engine.exits["npf"]
    assert vm.engine.now_ns() == vm.cpu.executed_bytes + (3 + faults) * DEFAULT_COSTS.ns(EXIT_CYCLES)


@pytest.mark.parametrize("code", ["0f01d8", "0f01d9", "0f01da", "0f01dd", "0f01c8", "0f01f9", "0f33"])
def test_what_cpuid_does_not_offer_is_undefined(code: str):
    vm, _ = ran(code)
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason == "triple_fault"
    assert "#UD" in vm.engine.ended.sentence
    assert vm.engine.exits["shutdown"] == 1


def test_a_triple_fault_is_the_shutdown_exit():
    _, log = ran("0f0b")
    assert [e.exit_code for e in exits_of(log)] == [svm_exits.SHUTDOWN]


# What does not -------------------------------------------------------------------------------------------------------


def test_system_calls_and_faults_stay_in_the_guest(bare_output: bytes):
    log = EventLog(keep=True)
    vm, output = session("svm", log=log)
    assert output == bare_output
    assert sum(e.vector == 0x80 for e in log.of(ExceptionDelivered)) > 100
    assert vm.engine.true_faults > 10
    assert {e.exit_code for e in log.of(VmExit)} <= {svm_exits.NPF, svm_exits.HLT, svm_exits.IOIO, svm_exits.INTR}
    counted = dict.fromkeys(("npf", "hlt", "in", "out", "intr"), 0)
    for event in log.of(VmExit):
        counted[event.reason] += 1
    assert counted == {reason: vm.engine.exits[reason] for reason in counted}


def test_a_device_stops_a_guest_that_runs():
    log = EventLog(keep=True)
    vm = VirtualMachine(timer_image(), "svm", MEMORY_BYTES, log=log)
    vm.engine.run(until_ns=1_000_000_000)
    assert vm.engine.exits["interrupt"] > 5
    assert vm.engine.exits["intr"] == vm.engine.exits["interrupt"]
    before: Event | None = None
    for event in log.events:
        if isinstance(event, InterruptDelivered):
            assert isinstance(before, VmExit)
            assert (before.exit_code, before.eip, before.code) == (svm_exits.INTR, event.eip, b"")
        before = event


def test_a_halted_guest_has_exited_already():
    vm, _ = bundled("shell", "svm", b"poweroff\n")
    vm.engine.run(until_ns=10_000_000_000)
    assert vm.engine.exits["interrupt"] > 2
    assert vm.engine.exits["intr"] == 0


def test_a_halted_guest_wakes_where_it_left():
    log = EventLog(keep=True)
    vm, _ = bundled("shell", "svm", b"poweroff\n", log=log)
    vm.engine.run(until_ns=10_000_000_000)
    (first, *_) = log.of(Halted)
    woken = next(e for e in log.of(InterruptDelivered) if e.at_ns >= first.at_ns)
    assert woken.eip == first.eip
    halting = next(e for e in log.of(VmExit) if e.exit_code == svm_exits.HLT)
    assert halting.eip + 1 == first.eip


# More intercepts -----------------------------------------------------------------------------------------------------

EVERYTHING = tuple(
    entry.reason
    for entry in svm_exits.INTERCEPTS.values()
    if entry.reason not in NOT_FROM_HERE | NOT_OFFERED
    and not entry.reason.startswith(("cr1", "cr8", "cr9", "dr1", "dr8"))
)


def test_with_everything_intercepted_the_guest_is_the_same(bare_output: bytes):
    vm, output = session("svm", engine_options={"intercepts": EVERYTHING})
    assert output == bare_output
    reasons = set(vm.engine.exits)
    assert {"cr3 write", "cr0 write", "int n", "iret", "invlpg", "exception 0e", "gdtr write", "tr write"} <= reasons
    assert vm.engine.exits["int n"] > 100


def test_a_page_fault_exit_has_error_code_and_address_and_is_given_back(bare_output: bytes):
    log = EventLog(keep=True)
    _, output = session("svm", engine_options={"intercepts": ("exception 0e",)}, log=log)
    assert output == bare_output
    exits = [e for e in log.of(VmExit) if e.exit_code == svm_exits.EXCEPTION_BASE + 14]
    assert any((e.info1, e.info2, e.cpl) == (6, 0, 3) for e in exits)  # the program fault: a user's write to address 0
    assert len(exits) == len([e for e in log.of(ExceptionDelivered) if e.vector == 14])


def test_an_intercepted_invlpg_flushes(bare_output: bytes):
    assert session("svm", engine_options={"intercepts": ("invlpg", "cr3 write")})[1] == bare_output


def test_an_unknown_intercept_is_refused():
    with pytest.raises(AdminError, match="no intercept 'cr3'"):
        machine("c3", "svm", engine_options={"intercepts": ("cr3",)})
    with pytest.raises(AdminError, match="no intercept 'pause'"):
        machine("c3", "svm", engine_options={"intercepts": ("pause",)})


# The VMCB and the two truths -----------------------------------------------------------------------------------------


def test_the_block_in_memory_shows_the_last_exit_and_the_guest_as_it_is():
    vm, _ = ran("b944332211 0fa2 bf88776655 fa f4")
    engine = svm(vm)
    values = engine.read_vmcb()
    assert values["exitcode"] == svm_exits.HLT
    assert values["rip"] == vm.engine.vcpu.eip == ENTRY + 14
    assert values["rsp"] == STACK
    assert values["rflags"] == vm.engine.vcpu.eflags()
    assert values["n_cr3"] == engine.nested.root_mpn << 12
    assert values["cs"] == (8, 0xC9B, 0xFFFFFFFF, 0)
    raw = vm.machine_memory.read(engine.vmcb_mpa, vmcb.VMCB_BYTES)
    assert vmcb.parse(raw) == values


def test_the_cpu_holds_what_the_guest_set_and_a_nested_root():
    vm, _ = bundled("shell", "svm")
    vm.engine.run(until_ns=20_000_000)
    guest, cpu = vm.engine.guest_registers(), vm.engine.cpu_registers()
    assert guest.cr0 >> 31
    assert cpu.nested_cr3 == svm(vm).nested.root_mpn << 12
    assert msgspec.structs.replace(cpu, nested_cr3=None) == guest


def test_the_permission_maps_forbid_everything():
    vm = machine("c3", "svm")
    values = svm(vm).read_vmcb()
    for name, size_bytes in (("iopm_base_pa", 12 << 10), ("msrpm_base_pa", 8 << 10)):
        address = values[name]
        assert isinstance(address, int)
        assert vm.machine_memory.read(address, size_bytes) == b"\xff" * size_bytes


def test_the_guest_sees_its_own_efer_and_no_svm():
    # CPUID 80000001 does not exist, so there is no EFER: RDMSR is #GP, though the VMCB's has SVME.
    vm, _ = ran("b800000080 0fa2 2d00000080 7402 f4 90 b9800000c0 0f32 c3")
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason == "triple_fault"
    efer = svm(vm).read_vmcb()["efer"]
    assert isinstance(efer, int)
    assert efer & vmcb.EFER_SVME


def test_what_the_vmm_does_is_called_emulated_when_stepping():
    vm = machine("90 0fa2 90 e480 c3", "svm")
    how = []
    while vm.engine.step_to_instruction():
        how.append(vm.engine.how_next()[0])
        vm.engine.step_raw()
    assert how[:5] == ["native", "emulated", "native", "emulated", "native"]


# State ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_ns", [100_000, 300_000, 30_400_000])
def test_a_machine_that_was_loaded_goes_on_as_the_one_that_was_saved(at_ns: int):
    """Both forget their nested tables there; from then on they log the same bytes."""
    first, _ = bundled("workers", "svm", append="3 3000")
    first.engine.run(until_ns=at_ns)
    raw = msgspec.msgpack.encode(first.save_state())
    logs = []
    other, _ = bundled("workers", "svm", append="3 3000")
    for vm in (first, other):
        vm.load_state(msgspec.msgpack.decode(raw, type=VmState))
        log: list[bytes] = []
        vm.log.listen(lambda event, log=log: log.append(encode(event)))  # type: ignore[misc]
        vm.engine.run(until_ns=60_000_000_000)
        logs.append(log)
        assert vm.engine.ended is not None
        assert vm.engine.ended.good
    assert len(logs[0]) > 100
    assert logs[0] == logs[1]
    assert (first.cpu.executed_bytes, first.engine.now_ns()) == (other.cpu.executed_bytes, other.engine.now_ns())


def test_loading_a_state_enters_guest_mode_with_empty_tables():
    vm, _ = bundled("shell", "svm")
    vm.engine.run(until_ns=2_000_000)
    state = vm.save_state()
    assert list(svm(vm).nested.entries())
    vm.load_state(state)
    assert vm.cpu.in_guest_mode
    assert not list(svm(vm).nested.entries())
    assert vm.engine.run(until_ns=25_000_000) is None
    assert list(svm(vm).nested.entries())


def test_a_counted_instruction_is_counted_once_however_often_it_faults():
    # Six instructions, each of which meets nested faults: the code, the data, the stack, another page of code.
    vm = VirtualMachine(
        code_image("a100002000 890d00103000 50 58 e9ee0f0000", more=((ENTRY + 0x1000, b"\xc3"),)),
        "svm", MEMORY_BYTES, count_instructions=100,
    )  # fmt: skip
    vm.engine.run()
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason == "returned"
    assert vm.engine.exits["npf"] >= 5
    assert vm.cpu.instructions == 6
