"""Real mode and 16-bit code under each engine: what must hold whatever runs."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from tests.guests import assemble
from tests.vmm import real_mode_machine
from tests.vmm.real_mode_machine import Machine, differences
from tests.vmm.real_mode_programs import Case
from vilab.events import Event, EventLog, InstructionRetired, TrapTaken, encode
from vilab.guests.boot_sector import SECTOR_BYTES, SIGNATURE, SIGNATURE_AT
from vilab.guests.load import load
from vilab.vmm.vm import VirtualMachine, VmState

ENGINES = ("bare", "trap", "bt", "svm")
DEPRIVILEGED = ("trap", "bt")
MEMORY_BYTES = 4 << 20
SOURCE = Path(__file__).parents[1] / "guests" / "boot_sector.S"


@pytest.fixture
def boot(tmp_path: Path):
    """A machine that starts a boot sector, given as hex."""

    def make(code: str | bytes, engine: str, log: EventLog | None = None) -> VirtualMachine:
        raw = bytes.fromhex(code) if isinstance(code, str) else code
        if len(raw) != SECTOR_BYTES:
            raw = raw.ljust(SIGNATURE_AT, b"\0") + SIGNATURE
        path = tmp_path / "disk.img"
        path.write_bytes(raw)
        return VirtualMachine(load(str(path), memory_bytes=MEMORY_BYTES), engine, MEMORY_BYTES, log=log)

    return make


@pytest.fixture(scope="module")
def sector(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return assemble.flat(SOURCE, tmp_path_factory.mktemp("sector"), 0x7C00)


# What the guest sees -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_guest_sees_real_mode_and_not_what_runs_it(boot, engine: str):
    # smsw ax; mov cx, cs; pushf; pop dx; mov ebx, cr0; cli; hlt
    vm = boot("0f01e0 8cc9 9c 5a 0f20c3 fa f4", engine)
    vm.engine.run()
    v = vm.engine.vcpu
    assert [v.gpr[n] & 0xFFFF for n in (0, 1, 2)] == [0x10, 0, 0x2]
    assert v.gpr[3] == 0x10
    assert v.eflags() & 0x20000 == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_halting_with_interrupts_off_ends_the_run(boot, engine: str):
    ended = boot("fa f4", engine).engine.run()
    assert (ended.reason, ended.good) == ("halted", False)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_vector_beyond_the_table_is_the_end(boot, engine: str):
    # lidt with limit 0, then int 0x20: #GP, #DF, shutdown
    ended = boot("0f011e087c cd20 f4 0000 00000000", engine).engine.run()
    assert ended.reason == "triple_fault"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_base_from_protected_mode_stays_until_the_register_is_loaded(sector: bytes, boot, engine: str):
    vm = boot(sector, engine)
    vm.engine.run(until_ns=1_000_000_000)
    selector, base, limit, _ = vm.engine.vcpu.segment(4)
    assert (selector, base, limit) == (0x18, 0, 0xFFFFFFFF)


@pytest.mark.parametrize("engine", ENGINES)
def test_single_steps_trap_after_each_instruction(boot, engine: str):
    # vector 1 -> 0000:7c40, which counts in BP; TF on by POPF: nop, mov ax, pushf+pop cx, TF off
    code = bytes.fromhex(
        "31c0 8ed8 c7060400407c c70606000000 31ed 680201 9d 90 b81200 9c 59 680200 9d fa f4"
    )  # fmt: skip
    vm = boot(code.ljust(0x40, b"\0") + bytes.fromhex("45 cf"), engine)
    vm.engine.run()
    v = vm.engine.vcpu
    assert v.gpr[5] == 6  # nop, mov, pushf, pop, push, popf
    assert v.gpr[1] & 0x100


# How it is run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", DEPRIVILEGED)
def test_a_deprivileged_guest_in_real_mode_is_in_virtual_8086_mode(boot, engine: str):
    vm = boot("90 eb fd", engine)
    vm.engine.run(until_ns=1000)
    cpu = vm.engine.cpu_registers()
    assert cpu.cpl == 3
    assert cpu.eflags >> 12 & 0x23 == 0x20
    assert cpu.cr0 & 1
    assert vm.engine.guest_registers().cpl == 0
    assert vm.engine.how_next() == ("native", 3)


@pytest.mark.parametrize("engine", DEPRIVILEGED)
def test_what_traps_in_real_mode_is_logged(boot, engine: str):
    log = EventLog(keep=True)
    vm = boot("fb fa 9c 0f01e0 f4", engine, log)
    vm.engine.run()
    traps = [event.code.hex() for event in log.events if isinstance(event, TrapTaken)]
    assert traps == ["fb", "fa", "9c", "0f01e0", "f4"]


def test_32_bit_code_of_the_same_guest_is_translated(sector: bytes, boot):
    vm = boot(sector, "bt")
    vm.engine.run(until_ns=1_000_000_000)
    assert 1 <= vm.engine.units_translated <= 3


@pytest.mark.parametrize("engine", DEPRIVILEGED)
def test_a_store_from_real_mode_into_translated_code_is_noticed(boot, engine: str, tmp_path: Path):
    text = """
        .intel_syntax noprefix
        .code16
        .globl _start
_start: mov     bp, 2
again:  lgdt    cs:[gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        data32 ljmp 0x10, offset long_pm
        .code32
long_pm: mov    ecx, 1
value = . - 4
        ljmp    8, offset back
        .code16
back:   and     al, 0xfe
        mov     cr0, eax
        ljmp    0, offset there
there:  add     dx, cx
        mov     byte ptr cs:[value], 0x20
        dec     bp
        jnz     again
        cli
        hlt
gdtr:   .word   23
        .long   gdt
        .balign 8
gdt:    .quad   0, 0x00009b000000ffff, 0x00cf9b000000ffff
"""
    vm = boot(assemble.flat(text, tmp_path, 0x7C00), engine)
    vm.engine.run()
    assert vm.engine.vcpu.gpr[2] == 0x80 + 1 + 0x20


@pytest.mark.parametrize("engine", DEPRIVILEGED)
@pytest.mark.parametrize("mode", ["real", "protected"])
def test_16_bit_code_cannot_enter_the_monitors_window(boot, engine: str, mode: str, tmp_path: Path):
    text = f"""
        .intel_syntax noprefix
        .code16
        .globl _start
_start: lgdt    cs:[gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        ljmp    8, offset there
there:  .if {int(mode == "real")}
        and     al, 0xfe
        mov     cr0, eax
        .endif
        mov     ebx, 0xf0010000
        jmp     ebx
gdtr:   .word   15
        .long   gdt
        .balign 8
gdt:    .quad   0, 0x00009b000000ffff
"""
    ended = boot(assemble.flat(text, tmp_path, 0x7C00), engine).engine.run()
    assert ended.reason == "conflict"


@pytest.mark.parametrize("engine", DEPRIVILEGED)
def test_real_mode_cannot_write_to_the_monitors_window(boot, engine: str):
    # mov ebx, 0xf0010000; mov [ebx], eax: no limit is checked, so only the page tables stand in the way
    vm = boot("66bb000001f0 67668903 f4", engine)
    gdt = vm.engine.monitor._gdt_mpn << 12
    before = vm.machine_memory.read(gdt, 0x10000)
    assert vm.engine.run().reason == "conflict"
    assert vm.machine_memory.read(gdt, 0x10000) == before


# Time, steps, state --------------------------------------------------------------------------------------------------


def logged(events: list[Event]) -> list[bytes]:
    return [encode(event) for event in events if not isinstance(event, InstructionRetired)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stepped_run_logs_the_same_events(sector: bytes, boot, engine: str):
    whole, steps = EventLog(keep=True), EventLog(keep=True)
    boot(sector, engine, whole).engine.run(until_ns=1_000_000_000)
    vm = boot(sector, engine, steps)
    while vm.engine.step_instruction():
        pass
    assert logged(steps.events) == logged(whole.events)
    assert len(whole.events) > 100


@pytest.mark.parametrize("engine", ENGINES)
def test_two_runs_log_the_same_events(sector: bytes, boot, engine: str):
    logs = [EventLog(keep=True), EventLog(keep=True)]
    for log in logs:
        boot(sector, engine, log).engine.run(until_ns=1_000_000_000)
    assert logged(logs[0].events) == logged(logs[1].events)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_busy_loop_is_preempted_by_a_timer_at_its_time(boot, engine: str):
    vm = boot("90 eb fd", engine)
    for at_ns in (10_000, 10_001, 50_000, 1_000_003):
        vm.engine.run(until_ns=at_ns)
        assert at_ns <= vm.engine.now_ns() <= at_ns + 2


@pytest.mark.parametrize("engine", ["bare", "bt", "svm"])
def test_a_state_saved_anywhere_goes_on_the_same(tmp_path: Path, engine: str):
    world = real_mode_machine.world(tmp_path)
    rng, one, other = random.Random(3), Machine(engine, world), Machine(engine, world)
    for _ in range(12):
        case = Case(rng.getrandbits(32), 200)
        one.load(case)
        expected = one.run(case)
        one.load(case)
        at = rng.randrange(1, 200)
        one.run(msgspec.structs.replace(case, limit=at))
        other.load(case)
        sent = one.ports.sent
        state = VmState(
            engine, one.vm.engine.save_state(), one.ports.save_state(), one.vm.pmap.read(0, one.vm.memory_bytes)
        )  # type: ignore[arg-type]
        other.vm.load_state(state)
        other.vm.cpu.set_instructions(at)
        found = other.run(case)
        found["sent"] = (*sent, *found["sent"])
        assert not differences(expected, found), f"{case} saved after {at}"
