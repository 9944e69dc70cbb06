"""Translation in mirrors: right for every guest of these tests, and its own corners."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vmm.images import bundled, machine
from tests.vmm.test_differential import _run, calm_choices
from tests.vmm.test_engines import SESSION
from tests.vmm.test_stock_guests import MEMORY_BYTES, MOST_NS, SLICE_NS
from vilab.errors import AdminError
from vilab.events import EventLog, UnitInvalidated, UnitTranslated, encode
from vilab.guests.load import load
from vilab.vmm import differential, differential_machine
from vilab.vmm.differential import Case, Machine, differences, run_differential
from vilab.vmm.engine_mirrored import MirroredEngine
from vilab.vmm.mirror import BIASES
from vilab.vmm.stepping import Stepper
from vilab.vmm.vm import QuietConsole, VirtualMachine, VmState

MIRRORED = {"placement": "mirrored"}
OPTIONS = ({"cache_bytes": 1 << 20} | MIRRORED, {"cache_bytes": 1 << 14} | MIRRORED, {"smc": "flush"} | MIRRORED)


@pytest.fixture
def mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the differential test's ``bt`` be mirrored."""
    monkeypatch.setattr(differential, "BT_OPTIONS", OPTIONS)
    monkeypatch.setattr(differential_machine, "BT_OPTIONS", OPTIONS)


def engine_of(vm: VirtualMachine) -> MirroredEngine:
    assert isinstance(vm.engine, MirroredEngine)
    return vm.engine


def test_an_unknown_placement_is_refused():
    with pytest.raises(AdminError, match="packed and mirrored"):
        machine("c3", "bt", engine_options={"placement": "sideways"})


def test_a_cache_of_one_page_is_refused():
    with pytest.raises(AdminError, match="at least two pages"):
        machine("c3", "bt", engine_options=MIRRORED | {"cache_bytes": 4096})


# The judge -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mirrored")
def test_random_programs_end_as_on_the_bare_processor():
    result = run_differential(500, seed=4)
    assert result["same"] > 470
    assert not result["different"], result["reports"][0]


@cache
def _machine(option: int, native_hook: bool = True) -> Machine:
    return Machine("bt", OPTIONS[option], log=EventLog(keep=True), native_hook=native_hook)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    kernel=calm_choices, user=calm_choices, setting=st.integers(0, (1 << 64) - 1), limit=st.integers(1, 400),
    option=st.integers(0, 2), at_ns=st.integers(1, 5000),
)  # fmt: skip
def test_a_run_logs_the_same_stepped_again_and_with_the_other_hook(kernel, user, setting, limit, option, at_ns):
    case = Case(kernel, user, setting, limit, 0, option)
    first = _run(_machine(option), case, at_ns)
    for other in (
        _run(_machine(option), case, at_ns),
        _run(_machine(option), case, at_ns, stepped=True),
        _run(_machine(option, native_hook=False), case, at_ns),
    ):
        assert differences(first[0], other[0]) == []
        assert first[1:3] == other[1:3]
        assert first[3] == other[3]


# Whole guests --------------------------------------------------------------------------------------------------------


def session(engine: str, **options: object) -> tuple[VirtualMachine, str]:
    vm, console = bundled("shell", engine, SESSION, **options)
    ended = vm.engine.run(until_ns=60_000_000_000)
    assert ended is not None
    assert ended.reason == "powered_off"
    return vm, console.output.decode()


@pytest.fixture(scope="module")
def bare_session() -> str:
    return session("bare")[1]


@pytest.mark.parametrize("options", [{}, {"cache_bytes": 16 << 10}, {"smc": "flush"}, {"trace": "lazy"}])
def test_the_teaching_kernel_says_what_it_says_on_the_bare_machine(options: dict[str, object], bare_session: str):
    assert session("bt", engine_options=MIRRORED | options)[1] == bare_session


def test_without_native_code_and_with_a_listener_all_figures_are_the_same():
    figures = []
    for more in ({}, {"native_hook": False}, {"log": EventLog(keep=True)}):
        vm, console = bundled("forkwait", "bt", append="3", engine_options=MIRRORED, **more)
        vm.engine.run(until_ns=10_000_000_000)
        figures.append((vm.engine.statistics(), bytes(console.output)))
    assert figures[0] == figures[1] == figures[2]


def test_two_runs_log_the_same_bytes():
    logs = []
    for _ in range(2):
        log = EventLog(keep=True)
        vm, _ = bundled("forkwait", "bt", append="3", log=log, engine_options=MIRRORED)
        vm.engine.run(until_ns=10_000_000_000)
        logs.append([encode(event) for event in log.events])
    assert len(logs[0]) > 100
    assert logs[0] == logs[1]


def test_isprime_retires_51_instructions():
    vm, _ = bundled("isprime", "bt", memory_mb=4, count_instructions=1000, engine_options=MIRRORED)
    ended = vm.engine.run()
    assert ended is not None
    assert "EAX = 0" in ended.sentence
    assert vm.cpu.instructions == 51


@pytest.mark.parametrize("at_ns", [300_000, 31_000_000])
def test_a_state_record_carries_the_whole_machine(at_ns: int):
    typed = b"forkwait 3\npoweroff\n"
    vm, console = bundled("shell", "bt", typed, engine_options=MIRRORED)
    vm.engine.run(until_ns=at_ns)
    raw = msgspec.msgpack.encode(vm.save_state())
    other, other_console = bundled("shell", "bt", typed)  # the other placement takes over
    other.load_state(msgspec.msgpack.decode(raw, type=VmState))
    assert msgspec.msgpack.encode(other.save_state()) == raw
    other.engine.run(until_ns=60_000_000_000)
    expected, expected_console = bundled("shell", "bt", typed, engine_options=MIRRORED)
    expected.engine.run(until_ns=60_000_000_000)
    assert console.output + other_console.output == expected_console.output


def test_going_back_and_on_again_is_the_same():
    def make(log: EventLog) -> VirtualMachine:
        return bundled("forkwait", "bt", append="1", log=log, engine_options=MIRRORED)[0]

    stepper = Stepper(make, limit=900)
    stepper.seek(900)
    there = stepper.vm.engine.guest_registers()
    stepper.seek(130)
    assert stepper.vm.engine.guest_registers() == stepper.records[129].guest
    stepper.seek(900)  # raises if any step differs from what was recorded
    assert stepper.vm.engine.guest_registers() == there
    assert all(record.tc_address == record.eip + BIASES[0] for record in stepper.records if record.cpl == 0)


def _said(path: Path, append: str, words: bytes) -> str:
    console = QuietConsole()
    image = load(str(path), memory_bytes=MEMORY_BYTES, append=append)
    vm = VirtualMachine(image, "bt", MEMORY_BYTES, console=console, engine_options=MIRRORED)
    now_ns = 0
    while words not in console.output and now_ns < MOST_NS and vm.engine.ended is None:
        now_ns += SLICE_NS
        vm.engine.run(until_ns=now_ns)
    assert vm.engine.ended is None or vm.engine.ended.good, vm.engine.ended
    vm.close()
    return console.output.decode("latin-1")


def test_gnu_mach_gets_as_far_as_it_can_without_servers(gnumach_image: Path):
    assert "No bootstrap code loaded with the kernel" in _said(gnumach_image, "console=com0", b"No bootstrap code")


def test_memtest86_tests_memory(memtest86_image: Path):
    assert "Status: Testing" in _said(memtest86_image, "console=ttyS0,115200", b"Status: Testing")


# Its own corners -----------------------------------------------------------------------------------------------------


def run(code: str, log: EventLog | None = None) -> VirtualMachine:
    """The function ``code`` at 1 MB, to its RET."""
    vm = machine(code, "bt", log=log, engine_options=MIRRORED)
    ended = vm.engine.run(until_ns=1_000_000_000)
    assert ended is not None
    assert ended.reason == "returned", ended
    return vm


def eax(vm: VirtualMachine) -> int:
    return vm.cpu.gpr[0] & 0xFFFFFFFF


def test_a_return_address_on_the_stack_is_the_guests():
    assert eax(run("e800000000 58 c3")) == 0x100005


def test_eip_is_the_guests_and_the_base_of_cs_is_the_mirrors():
    vm = run("9090 c3")
    assert vm.cpu.segment_base(1) == BIASES[0]
    assert engine_of(vm).mirror.read(0x100000, 3) == bytes.fromhex("9090c3")


def test_pushf_runs_as_it_is_and_shows_the_virtual_interrupt_flag():
    vm = run("fb 9c 5b fa 9c 58 c3")  # sti; pushf; pop ebx; cli; pushf; pop eax; ret
    assert vm.cpu.gpr[3] & 0x200
    assert not eax(vm) & 0x200
    assert vm.engine.exits["pushf"] == 0


def test_the_guest_sees_its_own_cs():
    assert eax(run("0e 58 8cca c3")) == 8
    assert run("0e 58 8cca c3").cpu.gpr[2] & 0xFFFF == 8


def test_an_operand_in_cs_is_the_guests_not_the_mirrors():
    # mov eax, cs:[100000h]: the mirror has an INT3 there, for CLI
    assert eax(run("fa 2ea100001000 c3")) == 0x00A12EFA


def test_a_jump_over_a_prefix_runs_both_readings():
    # mov ecx, 2; again: dec ecx; jz over; lock; over: inc dword [200000h]; test ecx, ecx; jnz again; mov eax, [200000h]
    assert eax(run("b902000000 49 7401 f0 ff0500002000 85c9 75f2 a100002000 c3")) == 2


def test_a_sensitive_instruction_inside_another_one_is_emulated_when_a_jump_leads_there():
    # Past an opcode that is never run: into what would be its immediate, where PUSH CS, POP EAX, RET stand.
    assert eax(run("31c0 85c0 7401 bb 0e58c390 c3")) == 8


def test_both_readings_of_the_same_bytes_one_after_the_other():
    vm = run("bb0e58c390 ebfa")  # mov ebx, 90c3580eh, and a jump into it: push cs; pop eax; ret
    assert vm.cpu.gpr[3] & 0xFFFFFFFF == 0x90C3580E
    assert eax(vm) == 8


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("way", ["6801001000 c3", "b801001000 ffe0", "b801001000 ffd0"])
def test_a_return_or_an_indirect_jump_into_an_instruction_finds_what_is_there(way: str, native: bool):
    # mov ebx, imm32 at 100000h, then the way to 100001h: push cs; pop eax; ret
    vm = machine("bb0e58c390 " + way + " c3", "bt", engine_options=MIRRORED, native_hook=native)
    ended = vm.engine.run(until_ns=1_000_000)
    assert ended is not None
    assert ended.reason == "returned"
    assert vm.cpu.gpr[3] == 0x90C3580E
    assert eax(vm) == 8


def test_an_instruction_across_pages_is_dropped_when_either_page_changes():
    # The instruction mov eax, imm32 stands at 100ffe to 101002; RET behind it.
    code = bytes.fromhex(
        "e8f90f0000 89c3 c605ff0f100055 e8eb0f0000 89c1 c605021010 0066 e8dd0f0000 c3".replace(" ", "")
    )
    body = code.ljust(0xFFE, b"\x90") + bytes.fromhex("b844332211c3")
    log = EventLog(keep=True)
    vm = machine(body, "bt", log=log, engine_options=MIRRORED)
    vm.pmap.write(0x100800, b"\xf4")
    ended = vm.engine.run(until_ns=1_000_000)
    assert ended is not None
    assert ended.reason == "returned"
    assert (vm.cpu.gpr[3], vm.cpu.gpr[1], vm.cpu.gpr[0]) == (0x11223344, 0x11223355, 0x66223355)
    assert sum(isinstance(event, UnitInvalidated) for event in log.events) >= 2


def test_units_are_logged_with_the_mirrors_bytes():
    log = EventLog(keep=True)
    run("fa 90 c3", log)
    unit = next(event for event in log.events if isinstance(event, UnitTranslated))
    assert (unit.guest_code, unit.tc_code) == (b"\xfa\x90\xc3", b"\xcc\x90\xc3")
    assert unit.tc_address == unit.eip + BIASES[0]
    assert [line[2] for line in unit.lines] == ["callout", "ident", "control"]


def test_mirrors_move_when_the_guest_wants_their_place():
    vm = machine("b8efbeadde a300001020 a100001020 c3", "bt", engine_options=MIRRORED)
    # 20100000 is where the mirror of the code lies; there is no memory there, but the guest may store all the same.
    vm.engine.run(until_ns=1_000_000)
    engine = engine_of(vm)
    assert engine.ended is not None
    assert engine.ended.reason == "returned"
    assert engine.mirror.bias != BIASES[0]
    assert eax(vm) == 0xFFFFFFFF


def test_native_callouts_are_counted_as_the_others():
    loop = "b9e8030000 fa fb 0f31 49 75f9 fa c3"  # a thousand times cli; sti; rdtsc
    vm = run(loop)
    assert (vm.engine.exits["cli"], vm.engine.exits["sti"], vm.engine.exits["rdtsc"]) == (1001, 1000, 1000)
