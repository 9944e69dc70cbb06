"""The paravirtual engine: the same output without translation, no critical instruction, and calls that are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guests import elf_sections
from tests.vmm.images import ENTRY, MEMORY_BYTES, bundled, code_image, timer_image
from tests.vmm.test_engines import SESSION, output
from vilab.errors import AdminError
from vilab.events import Emulated, EventLog, HypercallTaken, InterruptDelivered, encode
from vilab.guests.bundled import PREBUILT
from vilab.guests.image import LoadedImage
from vilab.guests.load import load
from vilab.vmm import emulate, hypercalls
from vilab.vmm.hypercalls import BAD_ADDRESS, HYPERCALLS, NO_SUCH_CALL, REFUSED, VECTOR
from vilab.vmm.stepping import Stepper
from vilab.vmm.vm import VirtualMachine, VmState
from vilab.x86.decode import Instruction, decode

NUMBER = {call.name: call.number for call in HYPERCALLS}
CRITICAL = frozenset(
    ("sgdt", "sidt", "sldt", "smsw", "pushf", "popf", "lar", "lsl", "verr", "verw", "pop seg", "call far", "jmp far",
     "ret far", "str", "mov from seg", "mov to seg")
)  # fmt: skip
PUSH_CS, PUSH_SS = 0x0E, 0x16


def para(code: str, **more: object) -> LoadedImage:
    return msgspec.structs.replace(code_image(code, **more), built_for=("hypercalls",))  # type: ignore[arg-type]


def call(number: int, first: int = 0, second: int = 0) -> str:
    """mov eax, number; mov ebx, first; mov ecx, second; int 0x82"""
    words = (each.to_bytes(4, "little").hex() for each in (number, first, second))
    return "b8{} bb{} b9{} cd82".format(*words)


def answer(code: str, **more: object) -> int:
    """EAX, signed, after code that returns."""
    vm = VirtualMachine(para(code + "c3", **more), "para", MEMORY_BYTES)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "returned"
    value = vm.engine.vcpu.gpr[0] & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


# The kernel ----------------------------------------------------------------------------------------------------------


def test_the_serial_output_is_that_of_the_bare_machine():
    vm, console = bundled("shell", "para", SESSION)
    ended = vm.engine.run(until_ns=60_000_000_000)
    assert ended is not None
    assert ended.reason == "powered_off"
    assert console.output.decode() == output("bare")


def test_nothing_is_translated_and_the_kernel_asks_instead_of_trapping():
    vm, _ = bundled("forkwait", "para", append="10 4")
    vm.engine.run()
    exits = vm.engine.exits
    assert "translation" not in vm.engine.statistics()
    assert not [reason for reason in exits if reason in emulate.OPERATIONS and reason not in ("in", "out")]
    for name in ("cr3", "iret", "mmu update", "stack", "console", "gdt", "idt", "task"):
        assert exits[f"hypercall {name}"] > 0
    # Batches: fork changes several entries with one call.
    assert vm.engine.updated_entries > exits["hypercall mmu update"]  # type: ignore[attr-defined]


def _instructions(path: Path) -> Iterator[Instruction]:
    """What is in the sections of code; padding and the text at the end of ``.boot`` come out as something, too."""
    for address, code in elf_sections.code(path.read_bytes()):
        at = 0
        while at < len(code):
            found = decode(code[at : at + 15].ljust(15, b"\x90"), address + at)
            yield found
            at += found.size


def _critical(path: Path) -> list[str]:
    return [
        f"{i.address:08x} {i.text}"
        for i in _instructions(path)
        if i.op in CRITICAL
        or (i.op == "push seg" and i.opcode in (PUSH_CS, PUSH_SS))
        or (i.op == "int" and i.immediate not in (VECTOR, 0x80, 0x81))
        or i.op in emulate.PRIVILEGED
        or i.op in ("cli", "sti", "iret")
    ]


@pytest.mark.parametrize(("native", "paravirtual"), [("kernel", "kernel-para"), ("bare-nano", "bare-nano-para")])
def test_no_critical_or_privileged_instruction_is_left_in_it(native: str, paravirtual: str):
    assert _critical(PREBUILT / f"{paravirtual}.elf") == []
    assert len(_critical(PREBUILT / f"{native}.elf")) > 5  # so the search finds what there is


@pytest.mark.parametrize("trace", ["all", "lazy", "prevalidate"])
def test_updates_by_call_count_whatever_the_policy(trace: str):
    typed = b"forkwait 8 3\ncow\nworkers 3 2000\ncalls\npoweroff\n"
    vm, console = bundled("shell", "para", typed, engine_options={"trace": trace})
    vm.engine.run(until_ns=60_000_000_000)
    assert console.output.decode() == output("bare", typed)


@pytest.mark.parametrize("at_ns", [300_000, 2_500_000, 31_000_000])
def test_a_state_record_carries_the_whole_machine(at_ns: int):
    typed = b"forkwait 3\npoweroff\n"
    vm, console = bundled("shell", "para", typed)
    vm.engine.run(until_ns=at_ns)
    raw = msgspec.msgpack.encode(vm.save_state())
    before = bytes(console.output)
    other, other_console = bundled("shell", "para", typed)
    other.load_state(msgspec.msgpack.decode(raw, type=VmState))
    assert msgspec.msgpack.encode(other.save_state()) == raw
    other.engine.run(until_ns=60_000_000_000)
    expected, expected_console = bundled("shell", "para", typed)
    expected.engine.run(until_ns=60_000_000_000)
    assert before + other_console.output == expected_console.output


def test_listening_does_not_change_the_run():
    figures = []
    for log in (None, EventLog(keep=True)):
        vm, console = bundled("forkwait", "para", append="3", log=log)
        vm.engine.run(until_ns=10_000_000_000)
        figures.append((vm.engine.statistics(), bytes(console.output)))
    assert figures[0] == figures[1]


# Interrupts ----------------------------------------------------------------------------------------------------------

SET_FLAG = "c705000000f000020000"  # mov dword ptr [f0000000], IF
STORES = "c7050030200000000000" * 12  # 120 bytes of code, so 120 ns, in 12 steps: mov dword ptr [203000], 0
WAIT = "b9c8000000" + STORES + "49 7585"  # mov ecx, 200; stores; dec ecx; jnz: 25 us


def timed(code: str) -> LoadedImage:
    """``code`` with a timer that fires once after 13 us, and a handler that sets EDX and returns."""
    image = timer_image(code, "ba07000000" + "50" + "b801000000" + "cd82")
    return msgspec.structs.replace(image, built_for=("hypercalls",))


def interrupted(code: str) -> tuple[VirtualMachine, EventLog]:
    image = timed(code)
    log = EventLog(keep=True)
    vm = VirtualMachine(image, "para", MEMORY_BYTES, log=log)
    vm.engine.run(until_ns=1_000_000_000)
    return vm, log


ASKING = STORES + "a1400000f0 85c0 0f847bffffff" + SET_FLAG + "90 90" + call(NUMBER["events"]) + "c3"
"""... mov eax, [f0000040]; test eax, eax; jz back: until PENDING is set."""


def test_an_interrupt_that_comes_while_the_kernel_takes_none_waits_until_it_asks():
    vm, log = interrupted(ASKING)
    assert vm.engine.vcpu.gpr[2] & 0xFFFFFFFF == 7
    (taken,) = log.of(InterruptDelivered)
    (asked,) = [event for event in log.of(HypercallTaken) if event.name == "events"]
    assert taken.eip == asked.eip  # right behind the call, not at the store


def test_an_interrupt_that_comes_while_the_kernel_takes_them_needs_no_call():
    vm, log = interrupted(SET_FLAG + WAIT + "c3")
    assert vm.engine.vcpu.gpr[2] & 0xFFFFFFFF == 7
    assert len(log.of(InterruptDelivered)) == 1
    assert not [event for event in log.of(HypercallTaken) if event.name == "events"]


@pytest.mark.parametrize("code", [ASKING, SET_FLAG + WAIT + "c3"], ids=["asked for", "at once"])
def test_a_stepped_run_logs_the_same_events_as_an_unstepped_one(code: str):
    log = EventLog(keep=True)
    vm = VirtualMachine(timed(code), "para", MEMORY_BYTES, log=log)
    vm.load_state(vm.save_state())
    log.events.clear()
    vm.engine.run(until_ns=1_000_000_000)
    walk = Stepper(lambda log: VirtualMachine(timed(code), "para", MEMORY_BYTES, log=log), limit=10_000)
    walk.seek(walk.total)
    assert log.of(InterruptDelivered)
    assert log.of(HypercallTaken)
    assert [encode(e) for record in walk.records for e in record.events] == [encode(e) for e in log.events]


def test_halting_with_interrupts_on_is_one_call():
    vm, log = interrupted(call(NUMBER["enable and halt"]) + "c3")
    assert vm.engine.vcpu.gpr[2] & 0xFFFFFFFF == 7
    assert len(log.of(InterruptDelivered)) == 1


# Who may run what ----------------------------------------------------------------------------------------------------


def test_a_kernel_that_was_not_built_for_it_is_refused():
    with pytest.raises(AdminError, match=r"not built for hypercalls.*-DPARA"):
        VirtualMachine(code_image("c3"), "para", MEMORY_BYTES)
    with pytest.raises(AdminError, match=r"kernel\.elf is not built for hypercalls"):
        VirtualMachine(load(str(PREBUILT / "kernel.elf"), memory_bytes=8 << 20), "para", 8 << 20)


def test_a_bundled_image_without_a_build_for_it_is_refused():
    with pytest.raises(AdminError, match="bench-ring3 needs ring 0"):
        load("bench-ring3", memory_bytes=MEMORY_BYTES, paravirtual=True)


@pytest.mark.parametrize("engine", ["bare", "trap", "deprivileged", "bt", "svm"])
def test_the_paravirtual_build_is_refused_elsewhere(engine: str):
    image = load(str(PREBUILT / "kernel-para.elf"), memory_bytes=8 << 20)
    with pytest.raises(AdminError, match=f"--engine {engine} answers none; run it with --engine para"):
        VirtualMachine(image, engine, 8 << 20)


def test_a_hypercall_from_ring_3_is_an_int_like_any_other():
    image = load("nano", memory_bytes=MEMORY_BYTES, append="syscall 3", paravirtual=True)
    user = bytes.fromhex("cd80 4f 75fb cd81")  # int 0x80; dec edi; jnz; int 0x81
    segments = tuple((gpa, data.replace(user, b"\xcd\x82" + user[2:])) for gpa, data in image.segments)
    assert segments != image.segments
    log = EventLog(keep=True)
    vm = VirtualMachine(msgspec.structs.replace(image, segments=segments), "para", MEMORY_BYTES, log=log)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "triple_fault"  # its IDT has no gate 82h, and no handler for that
    assert log.of(HypercallTaken)[-1].name == "iret"


def test_a_kernel_that_went_to_ring_3_behind_the_monitors_back_makes_no_calls_there():
    image = load("nano", memory_bytes=MEMORY_BYTES, append="syscall 3", paravirtual=True)
    user, by_call = bytes.fromhex("cd80 4f 75fb cd81"), bytes.fromhex("6a1b 50 50 b801000000 cd82 0f0b")
    by_itself = by_call[:3] + b"\xcf" + b"\x90" * (len(by_call) - 4)  # IRET, which does not trap
    segments = tuple(
        (gpa, data.replace(user, b"\xcd\x82" + user[2:]).replace(by_call, by_itself)) for gpa, data in image.segments
    )
    log = EventLog(keep=True)
    vm = VirtualMachine(msgspec.structs.replace(image, segments=segments), "para", MEMORY_BYTES, log=log)
    vm.engine.run(until_ns=1_000_000_000)
    assert vm.engine.exits["int 82"] > 0
    assert [event.name for event in log.of(HypercallTaken)] == ["gdt", "idt", "task", "cr3", "cr0"]


# Calls ---------------------------------------------------------------------------------------------------------------


def test_a_number_that_stands_for_nothing_is_refused():
    assert answer(call(len(HYPERCALLS))) == NO_SUCH_CALL
    assert answer(call(0xFFFFFFFF)) == NO_SUCH_CALL


@pytest.mark.parametrize(
    ("name", "first", "second", "expected"),
    [
        ("cr3", 0x40000000, 0, BAD_ADDRESS),
        ("cr0", 0x80000000, 0, REFUSED),  # paging without protected mode
        ("task", 0x1234, 0, REFUSED),
        ("task", 0, 0, REFUSED),
        ("segments", 0x10, 0x4444, REFUSED),
        ("stack", 0x9000, 0, REFUSED),  # there is no task register yet
        ("mmu update", ENTRY, 513, REFUSED),
        ("mmu update", ENTRY, 0, 0),
        ("console", ENTRY, 4097, REFUSED),
        ("events", 0, 0, 0),
        ("invalidate", 0xFFFFFFFF, 0, 0),
    ],
)
def test_a_call_is_answered(name: str, first: int, second: int, expected: int):
    assert answer(call(NUMBER[name], first, second)) == expected


def test_a_refused_iret_leaves_the_stack_as_it_was():
    # Two words that are no return frame: selector 0 is null.
    assert answer("6a00 6a00 6a00 6a00" + call(NUMBER["iret"]) + "83c410") == REFUSED


def test_refused_segments_leave_both_registers_alone():
    vm = VirtualMachine(para(call(NUMBER["segments"], 0, 0x4444) + "c3"), "para", MEMORY_BYTES)
    vm.engine.run()
    assert (vm.engine.vcpu.selector(3), vm.engine.vcpu.selector(0)) == (16, 16)


def test_updates_are_done_up_to_the_first_that_names_no_memory():
    table = 0x200000
    entries = ((table, 1), (table + 4, 2), (table + 9, 3), (table + 12, 4))
    batch = b"".join(each.to_bytes(4, "little") for pair in entries for each in pair)
    vm = VirtualMachine(
        para(call(NUMBER["mmu update"], 0x210000, 4) + "c3", more=((0x210000, batch),)), "para", MEMORY_BYTES
    )
    vm.engine.run()
    assert vm.engine.vcpu.gpr[0] == 2
    assert vm.pmap.read(table, 16) == bytes.fromhex("01000000 02000000") + bytes(8)


def test_what_a_call_means_is_what_the_instruction_means():
    """The same state after CR3, INVLPG, LGDT and LIDT by instruction on the bare machine and by call."""
    pointer = ((0x2800, (0x17).to_bytes(2, "little") + (0x1000).to_bytes(4, "little")),)
    bare = VirtualMachine(
        code_image("bb00103000 0f22db bb00280000 0f0113 0f011b c3", more=pointer), "bare", MEMORY_BYTES
    )
    asked = VirtualMachine(
        para(call(NUMBER["cr3"], 0x301000) + call(NUMBER["gdt"], 0x2800) + call(NUMBER["idt"], 0x2800) + "c3",
             more=pointer), "para", MEMORY_BYTES,
    )  # fmt: skip
    states = []
    for vm in (bare, asked):
        vm.engine.run()
        state = vm.engine.vcpu.save_state()
        states.append((state.cr0, state.cr3, state.gdtr, state.idtr))
    assert states[0] == states[1]
    assert states[0][1:] == (0x301000, (0x1000, 0x17), (0x1000, 0x17))


def test_privileged_instructions_that_are_left_trap_and_are_emulated():
    log = EventLog(keep=True)
    vm = VirtualMachine(para("0f20c0 c3"), "para", MEMORY_BYTES, log=log)
    vm.engine.run()
    assert vm.engine.vcpu.gpr[0] == 0x11
    assert [event.effect for event in log.of(Emulated)] == ["CR0 = 00000011"]


INTERESTING = st.sampled_from((0, 1, 4, 8, 0x10, ENTRY, ENTRY + 2, 0x2800, 0x90000, 0x80010013, 0xF0000000, 0xFFFFFFFF))
NUMBERS = st.one_of(st.integers(0, len(HYPERCALLS)), st.integers(0, 0xFFFFFFFF))


VALUES = st.one_of(INTERESTING, st.integers(0, 0xFFFFFFFF))
CALLS = st.builds(call, NUMBERS, VALUES, VALUES)
SHARED_STORES = st.builds(  # mov dword ptr [f0000000 + 4 * word], value
    lambda word, value: (
        "c705" + (0xF0000000 + 4 * word).to_bytes(4, "little").hex() + value.to_bytes(4, "little").hex()
    ),
    st.integers(0, 0x20),
    VALUES,
)


@settings(max_examples=80, deadline=None)
@given(code=st.lists(st.one_of(CALLS, SHARED_STORES), max_size=12))
def test_garbage_gets_an_answer_or_ends_the_guest_never_the_monitor(code: list[str]):
    vm = VirtualMachine(para("".join(code) + "c3"), "para", MEMORY_BYTES)
    ended = vm.engine.run(until_ns=50_000_000)
    assert ended is None or ended.reason in ("returned", "triple_fault", "halted", "conflict")
    vm.save_state()


def test_every_call_has_the_number_that_the_kernel_uses():
    header = (PREBUILT.parent / "kernel" / "hypercall.h").read_text()
    defined = {
        words[1].removeprefix("HYPERCALL_").lower(): int(words[2])
        for words in (line.split() for line in header.splitlines())
        if len(words) > 2 and words[0] == "#define" and words[1].startswith("HYPERCALL_") and words[2].isdigit()
    }
    names = {"enable and halt": "enable_halt", "mmu update": "mmu_update"}
    for each in HYPERCALLS:
        assert defined[names.get(each.name, each.name)] == each.number
    assert defined["most_updates"] == hypercalls.MOST_UPDATES
    assert defined["most_bytes"] == hypercalls.MOST_BYTES
