"""The same guest under every engine: the same output, the same answer, the same log every time."""

from __future__ import annotations

import pytest

from tests.vmm.images import bundled, code_image, machine
from vilab.errors import AdminError
from vilab.events import EventLog, encode
from vilab.vmm.vm import ENGINES, MONITOR_WINDOW, VirtualMachine

RIGHT = ("bare", "bt", "svm")
SESSION = (
    b"help\nisprime 49\nisprime 53\nforkwait 8\nsyscall-loop 50\ntoucher 12 3\ncow\nworkers 3 2000\ncalls\nfault\n"
    b"divzero\npoweroff\n"
)


def output(engine: str, typed: bytes = SESSION) -> str:
    vm, console = bundled("shell", engine, typed)
    ended = vm.engine.run(until_ns=60_000_000_000)
    assert ended is not None
    assert ended.reason == "powered_off"
    return console.output.decode()


@pytest.fixture(scope="module")
def bare_output() -> str:
    return output("bare")


def test_the_kernel_runs_all_its_programs(bare_output: str):
    for line in ("isPrime(49) = 0", "isPrime(53) = 1", "8 processes created and ended", "killed: page fault",
                 "killed: divide error", "parent still has 16"):  # fmt: skip
        assert line in bare_output


@pytest.mark.parametrize("engine", ["bt", "svm"])
def test_the_serial_output_is_that_of_the_bare_machine(engine: str, bare_output: str):
    assert output(engine) == bare_output


def test_under_translation_with_a_tiny_cache_the_output_is_the_same(bare_output: str):
    vm, console = bundled("shell", "bt", SESSION, engine_options={"cache_bytes": 8 << 10})
    vm.engine.run(until_ns=60_000_000_000)
    assert console.output.decode() == bare_output
    assert vm.engine.cache.flushes > 3  # type: ignore[attr-defined]


def test_trap_and_emulate_stops_where_popf_dropped_the_interrupt_flag():
    vm, console = bundled("shell", "trap")
    ended = vm.engine.run(until_ns=10_000_000_000)
    assert ended is not None
    assert ended.reason == "halted"
    assert not ended.good
    assert "ring 1" in console.output.decode()
    assert "timer: 3 ticks" not in console.output.decode()


def test_without_a_vmm_the_first_trap_is_the_end():
    vm, console = bundled("shell", "deprivileged")
    ended = vm.engine.run(until_ns=10_000_000_000)
    assert ended is not None
    assert ended.reason == "trapped"
    assert "no VMM to help" in ended.sentence
    assert console.output == b""


@pytest.mark.parametrize("engine", ENGINES)
def test_isprime_retires_51_instructions_whoever_runs_it(engine: str):
    vm, _ = bundled("isprime", engine, memory_mb=4, count_instructions=1000)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "returned"
    assert "EAX = 0" in ended.sentence
    assert vm.cpu.instructions == 51


@pytest.mark.parametrize("engine", RIGHT)
@pytest.mark.parametrize("count", [1, 1000, 54321])
def test_a_limit_of_instructions_is_exact(engine: str, count: int):
    vm, _ = bundled("shell", engine, count_instructions=count)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "limit"
    assert vm.cpu.instructions == count


@pytest.mark.parametrize("engine", ENGINES)
def test_two_runs_log_the_same_bytes(engine: str):
    logs = []
    for _ in range(2):
        log = EventLog(keep=True)
        vm, _ = bundled("forkwait", engine, append="3", log=log)
        vm.engine.run(until_ns=10_000_000_000)
        logs.append([encode(event) for event in log.events])
    assert len(logs[0]) > 2
    assert logs[0] == logs[1]


@pytest.mark.parametrize("engine", ["bare", "trap", "bt", "svm"])
def test_listening_does_not_change_the_run(engine: str):
    figures = []
    for log in (None, EventLog(keep=True)):
        vm, console = bundled("forkwait", engine, append="3", log=log)
        vm.engine.run(until_ns=10_000_000_000)
        figures.append((vm.engine.statistics(), bytes(console.output)))
    assert figures[0] == figures[1]


@pytest.mark.parametrize("engine", RIGHT)
@pytest.mark.parametrize("at_ns", [300_000, 2_500_000, 31_000_000])
def test_a_state_record_carries_the_whole_machine(engine: str, at_ns: int):
    import msgspec

    from vilab.vmm.vm import VmState

    typed = b"forkwait 3\npoweroff\n"
    vm, console = bundled("shell", engine, typed)
    vm.engine.run(until_ns=at_ns)
    raw = msgspec.msgpack.encode(vm.save_state())
    before = bytes(console.output)
    other, other_console = bundled("shell", engine, typed)
    other.load_state(msgspec.msgpack.decode(raw, type=VmState))
    assert msgspec.msgpack.encode(other.save_state()) == raw
    other.engine.run(until_ns=60_000_000_000)
    expected, expected_console = bundled("shell", engine, typed)
    expected.engine.run(until_ns=60_000_000_000)
    assert before + other_console.output == expected_console.output


# Ends ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", RIGHT)
def test_an_undefined_opcode_without_an_idt_is_a_triple_fault(engine: str):
    vm = machine("0f0b", engine)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "triple_fault"
    assert "#UD" in ended.sentence
    assert not ended.good


@pytest.mark.parametrize("engine", RIGHT)
def test_halting_with_interrupts_off_is_the_end(engine: str):
    ended = machine("fa f4", engine).engine.run()
    assert ended is not None
    assert ended.reason == "halted"
    assert "interrupts off" in ended.sentence


@pytest.mark.parametrize("engine", RIGHT)
def test_an_endless_guest_can_be_stopped_at_a_time(engine: str):
    vm = machine("ebfe", engine)
    assert vm.engine.run(until_ns=5_000_000) is None
    assert vm.engine.now_ns() >= 5_000_000


@pytest.mark.parametrize("engine", RIGHT)
def test_jumping_out_of_memory_executes_all_ones_which_are_undefined(engine: str):
    ended = machine("b800000040 ffe0", engine).engine.run(until_ns=1_000_000_000)
    assert ended is not None
    assert ended.reason == "triple_fault"
    assert ended.sentence.startswith("Triple fault at 40000000: #UD")


def test_an_unknown_engine_is_refused():
    with pytest.raises(AdminError, match="no engine 'xen'"):
        VirtualMachine(code_image("f4"), "xen")


def test_a_guest_that_uses_the_monitors_range_is_told_so():
    # Page tables at 0x200000 that map f0000000 onto page 0, then a store there.
    directory = bytearray(4096)
    directory[0:4] = (0x83).to_bytes(4, "little")
    directory[4 * 0x3C0 : 4 * 0x3C0 + 4] = (0x83).to_bytes(4, "little")
    image = code_image(
        "b800002000 0f22d8 0f20e0 0c10 0f22e0 0f20c0 0d00000080 0f22c0 a3001000f0 c3",
        more=((0x200000, bytes(directory)),),
    )
    vm = VirtualMachine(image, "bt", 4 << 20)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "conflict"
    assert f"{MONITOR_WINDOW[0]:08x}" in ended.sentence


@pytest.mark.parametrize("engine", ["bare", "trap", "bt", "svm"])
def test_the_time_stamp_counter_is_virtual_and_the_same_every_time(engine: str):
    seen = []
    for _ in range(2):
        vm = machine("90 0f31 89c3 90 90 90 90 0f31 29d8 c3", engine)  # rdtsc; mov ebx, eax; nops; rdtsc; sub eax, ebx
        vm.engine.run()
        seen.append((vm.engine.vcpu.gpr[0], vm.engine.vcpu.gpr[3]))
    assert seen[0] == seen[1]
    assert 8 <= seen[0][0] < 10_000


@pytest.mark.parametrize("engine", RIGHT)
def test_halting_with_every_interrupt_masked_is_the_end(engine: str):
    ended = machine("fb f4", engine).engine.run(until_ns=10_000_000_000)
    assert ended is not None
    assert "every interrupt masked" in ended.sentence
