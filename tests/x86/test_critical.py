"""The critical and the privileged instructions on the bare processor: in ring 0, and in ring 1 with nobody to help.

Ring 1 is entered with a far return, through a table of a monitor's that lies elsewhere; the guest's own descriptors are
copied into it, so that what goes wrong goes wrong by privilege and not for want of a descriptor.
"""

from __future__ import annotations

import contextlib

import pytest
import unicorn
from unicorn import x86_const as u

from vilab.x86.control import CR0_ET, CR0_MP, CR0_NE, CR0_PE, CR0_TS
from vilab.x86.critical import CATEGORIES, CRITICAL, TRAP_BY_THEMSELVES, After, CriticalInstruction
from vilab.x86.critical_environment import CODE, GDT, IDT, MEMORY_BYTES, critical_environment
from vilab.x86.decode import Kind, decode, disassemble
from vilab.x86.descriptors import LDT, TSS32_BUSY, Segment, flat_segment
from vilab.x86.flags import IF, ONE, ZF
from vilab.x86.privileged import IOPL, PRIVILEGED, PRIVILEGED_OPS, PrivilegedInstruction, traps

MONITOR_GDT, MONITOR_IDT, MONITOR_TSS, MONITOR_STACK, STUB = 0x30_0000, 0x30_2000, 0x30_3000, 0x31_0000, 0x30_8000
RING_1_CODE, RING_1_DATA, MONITOR_LDT_SELECTOR, MONITOR_TSS_SELECTOR = 0x101, 0x109, 0x110, 0x118
GPR = (u.UC_X86_REG_EAX, u.UC_X86_REG_ECX, u.UC_X86_REG_EDX, u.UC_X86_REG_EBX,
       u.UC_X86_REG_ESP, u.UC_X86_REG_EBP, u.UC_X86_REG_ESI, u.UC_X86_REG_EDI)  # fmt: skip
SELECTORS = (u.UC_X86_REG_ES, u.UC_X86_REG_CS, u.UC_X86_REG_SS, u.UC_X86_REG_DS, u.UC_X86_REG_FS, u.UC_X86_REG_GS)


class Bare:
    """A processor with the environment in its memory, in ring 0 or de-privileged to ring 1."""

    def __init__(self, ring: int, code: bytes, interrupts: bool = True) -> None:
        self.environment = environment = critical_environment()
        self.ring = ring
        self.fault: int | None = None
        self.cpu = cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        cpu.mem_map(0, MEMORY_BYTES)
        for address, data in environment.memory:
            cpu.mem_write(address, data)
        cpu.mem_write(CODE, code)  # before anything runs: the processor looks ahead and keeps what it has seen
        self.code = code
        cpu.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)
        if ring == 0:
            self._load_tables(environment.gdtr, environment.idtr, environment.cr0)
            cpu.reg_write(u.UC_X86_REG_TR, (environment.tr, *environment.hidden(environment.tr)[1:]))
            for register, selector in zip(SELECTORS, environment.selectors, strict=True):
                cpu.reg_write(register, selector)
        else:
            self._enter_ring_1()
        cpu.reg_write(u.UC_X86_REG_ESP, environment.esp)
        cpu.reg_write(u.UC_X86_REG_EFLAGS, environment.eflags(interrupts or ring == 1))

    def _load_tables(self, gdtr: tuple[int, int], idtr: tuple[int, int], cr0: int) -> None:
        self.cpu.reg_write(u.UC_X86_REG_GDTR, (0, gdtr[0], gdtr[1], 0))
        self.cpu.reg_write(u.UC_X86_REG_IDTR, (0, idtr[0], idtr[1], 0))
        self.cpu.reg_write(u.UC_X86_REG_CR0, cr0)

    def _enter_ring_1(self) -> None:
        cpu, environment = self.cpu, self.environment
        table = bytearray(dict(environment.memory)[GDT].ljust(0x120, b"\0"))
        for selector, descriptor in (
            (RING_1_CODE, flat_segment(code=True, dpl=1)),
            (RING_1_DATA, flat_segment(code=False, dpl=1)),
            (MONITOR_LDT_SELECTOR, Segment(0x30_4000, 0xFF, LDT, system=True, big=False, granular=False)),
            (MONITOR_TSS_SELECTOR, Segment(MONITOR_TSS, 0x67, TSS32_BUSY, system=True, big=False, granular=False)),
        ):
            table[selector & ~7 : (selector & ~7) + 8] = descriptor.to_bytes()
        cpu.mem_write(MONITOR_GDT, bytes(table))
        self._load_tables(
            (MONITOR_GDT, len(table) - 1), (MONITOR_IDT, 0x7FF), CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_TS
        )
        cpu.reg_write(u.UC_X86_REG_TR, (MONITOR_TSS_SELECTOR, MONITOR_TSS, 0x67, 0x8B00))
        cpu.reg_write(u.UC_X86_REG_LDTR, (MONITOR_LDT_SELECTOR, 0x30_4000, 0xFF, 0x8200))
        for register, selector in zip(SELECTORS, environment.selectors, strict=True):
            cpu.reg_write(register, selector)
        frame = (CODE, RING_1_CODE, environment.esp, RING_1_DATA)
        cpu.mem_write(MONITOR_STACK, b"".join(word.to_bytes(4, "little") for word in frame))
        cpu.reg_write(u.UC_X86_REG_ESP, MONITOR_STACK)
        cpu.mem_write(STUB, b"\xcb")
        cpu.emu_start(STUB, 0, count=1)
        assert cpu.reg_read(u.UC_X86_REG_CS) & 3 == 1
        assert self.fault is None

    def _interrupt(self, cpu: unicorn.Uc, number: int, data: object) -> None:
        """Nothing goes through the IDT by itself; in ring 0 the test looks the gate up as the processor would."""
        eip = cpu.reg_read(u.UC_X86_REG_EIP)
        if self.ring == 0 and number == 0x80:
            gate = self.environment.gate(number)
            if gate.is_gate and gate.present:
                cpu.reg_write(u.UC_X86_REG_EIP, gate.offset)
                cpu.emu_stop()
                return
        self.fault = 13 if number == 0x80 else number
        self.fault_eip = eip
        cpu.emu_stop()

    def run(self) -> None:
        """Exactly the instructions of the code, or up to a fault."""
        with contextlib.suppress(unicorn.UcError):
            self.cpu.emu_start(CODE, 0, count=len(disassemble(self.code, CODE)))

    def after(self) -> After:
        read = self.cpu.reg_read
        esp = read(u.UC_X86_REG_ESP)
        return After(
            gpr=tuple(read(register) for register in GPR),
            eip=read(u.UC_X86_REG_EIP),
            eflags=read(u.UC_X86_REG_EFLAGS),
            selectors=tuple(read(register) for register in SELECTORS),
            stack=bytes(self.cpu.mem_read(esp, 8)),
            fault=self.fault,
        )


def run(row: CriticalInstruction, ring: int) -> tuple[str, str]:
    """(answer, expected)"""
    machine = Bare(ring, row.snippet, row.interrupts)
    machine.run()
    return row.answer(machine.after()), row.expected(machine.environment)


@pytest.mark.parametrize("row", CRITICAL, ids=lambda row: row.name)
def test_in_ring_0_every_answer_is_right(row: CriticalInstruction) -> None:
    answer, expected = run(row, 0)
    assert answer == expected


@pytest.mark.parametrize("row", CRITICAL, ids=lambda row: row.name)
def test_in_ring_1_with_nobody_to_help_every_answer_is_wrong(row: CriticalInstruction) -> None:
    answer, expected = run(row, 1)
    assert answer != expected


@pytest.mark.parametrize("row", CRITICAL, ids=lambda row: row.name)
def test_only_the_five_that_are_named_trap(row: CriticalInstruction) -> None:
    machine = Bare(1, row.snippet, row.interrupts)
    machine.run()
    assert (machine.fault is not None) == (row.name in TRAP_BY_THEMSELVES)


def test_the_table_is_complete_and_in_order() -> None:
    """6 + 12, as in Robin and Irvine."""
    assert [row.group for row in CRITICAL] == ["3B"] * 6 + ["3C"] * 12
    assert len({row.name for row in CRITICAL}) == 18
    assert {row.category for row in CRITICAL} == set(CATEGORIES.values())


@pytest.mark.parametrize("row", CRITICAL, ids=lambda row: row.name)
def test_the_last_instruction_of_a_snippet_is_the_critical_one(row: CriticalInstruction) -> None:
    *before, last = row.instructions(CODE)
    assert last.kind in (Kind.SENSITIVE, Kind.FAR)
    assert all(instruction.kind is Kind.IDENT for instruction in before)
    assert row.text.splitlines()[-1] == last.text


def test_a_snippet_may_stand_anywhere() -> None:
    for row in CRITICAL:
        assert [i.text for i in row.instructions(0)] == [i.text for i in row.instructions(0x1234_5000)]


def test_answers_follow_what_is_left() -> None:
    """No row says the same whatever happens."""
    quiet = After(gpr=(0,) * 8, eip=0, eflags=ONE, selectors=(0,) * 6, stack=bytes(8))
    loud = After(gpr=(0xFFFF_FFFF,) * 8, eip=1, eflags=ONE | IF | ZF, selectors=(0xFFFF,) * 6, stack=b"\xff" * 8)
    for row in CRITICAL:
        assert row.answer(quiet) != row.answer(loud)
        assert row.answer(After(quiet.gpr, 0, ONE, quiet.selectors, quiet.stack, fault=13)) == "#GP"


# Privileged

PORTS = frozenset(("in", "out", "ins", "outs"))
"""This processor never refuses port access; a monitor has to look itself."""


@pytest.mark.parametrize("row", [row for row in PRIVILEGED if row.name not in PORTS], ids=lambda row: row.name)
def test_privileged_instructions_fault_in_ring_1_on_themselves(row: PrivilegedInstruction) -> None:
    machine = Bare(1, row.example)
    machine.run()
    assert machine.fault == 13
    assert machine.fault_eip == CODE


@pytest.mark.parametrize("row", [row for row in PRIVILEGED if row.name in PORTS], ids=lambda row: row.name)
def test_port_access_never_faults_on_this_processor(row: PrivilegedInstruction) -> None:
    """Hardware would: IOPL is 0. Should this ever fail, the monitor's own look at IOPL can go."""
    machine = Bare(1, row.example)
    machine.run()
    assert machine.fault is None


@pytest.mark.parametrize("row", PRIVILEGED, ids=lambda row: row.name)
def test_the_decoder_knows_privileged_instructions_by_the_same_name(row: PrivilegedInstruction) -> None:
    instruction = decode(row.example, 0)
    assert (instruction.kind, instruction.op, instruction.size) == (Kind.SENSITIVE, row.name, len(row.example))


def test_iopl_decides_for_those_that_it_concerns() -> None:
    assert [traps("cli", 1, iopl) for iopl in (0, 1, 3)] == [True, False, False]
    assert [traps("lgdt", cpl, 3) for cpl in (0, 1, 3)] == [False, True, True]
    assert not traps("popf", 3, 0)
    assert {row.name for row in PRIVILEGED if row.needs == IOPL} == {"cli", "sti", "in", "out", "ins", "outs"}


def test_nothing_critical_is_privileged() -> None:
    ops = {row.instructions()[-1].op for row in CRITICAL}
    assert ops.isdisjoint(PRIVILEGED_OPS)


def test_the_environment_describes_itself() -> None:
    environment = critical_environment()
    assert environment.gdtr == (GDT, len(dict(environment.memory)[GDT]) - 1)
    assert environment.idtr[0] == IDT
    assert all(address + len(data) <= MEMORY_BYTES for address, data in environment.memory)
    assert environment.segments()[1] == (0x60, 0, 0xFFFF_FFFF, 0x00CF9B00)
    assert environment.segments()[6] == (0, 0, 0, 0)
