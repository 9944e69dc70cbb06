"""Flags, control registers, descriptors and page-table entries; the processor is the judge where it can be."""

from __future__ import annotations

import pytest
import unicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from unicorn import x86_const as u

from vilab.x86 import control, flags, paging
from vilab.x86 import descriptors as d

CODE, GDT, STACK = 0x1000, 0x4000, 0x8000


# Flags


def test_flags_describe_themselves() -> None:
    assert flags.describe(0x246) == "0x00000246 PF ZF IF IOPL 0"
    assert flags.describe(0x3002) == "0x00003002 IOPL 3"
    assert flags.iopl(0x2000) == 2


def test_the_named_bits_are_all_that_is_defined() -> None:
    total = flags.IOPL
    for _, mask, _ in flags.BITS:
        assert mask & (mask - 1) == 0
        assert not total & mask
        total |= mask
    assert total == flags.DEFINED


def popf_on_the_processor(ring: int, iopl: int, popped: int) -> tuple[int, int]:
    """(EFLAGS before, EFLAGS after) POPFD of ``popped``; IF and DF are clear before."""
    cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    cpu.mem_map(0, 0x10000)
    table = b"".join(
        descriptor.to_bytes(8, "little")
        for descriptor in (0, *(d.flat_segment(code, dpl).pack() for dpl in range(4) for code in (True, False)))
    )
    cpu.mem_write(GDT, table)
    cpu.mem_write(CODE, b"\xcf\x9d\x90")
    code, data = 8 + ring * 16 | ring, 16 + ring * 16 | ring
    before = flags.ONE | iopl << flags.IOPL_SHIFT
    frame = (CODE + 1, code, before, STACK, data) if ring else (CODE + 1, code, before)
    at = 0x7000 if ring else STACK - 12
    cpu.mem_write(at, b"".join(word.to_bytes(4, "little") for word in frame))
    cpu.mem_write(STACK, popped.to_bytes(4, "little"))
    cpu.reg_write(u.UC_X86_REG_GDTR, (0, GDT, len(table) - 1, 0))
    cpu.reg_write(u.UC_X86_REG_CS, 8)
    cpu.reg_write(u.UC_X86_REG_SS, 16)
    cpu.reg_write(u.UC_X86_REG_ESP, at)
    cpu.emu_start(CODE, 0, count=2)
    return before, cpu.reg_read(u.UC_X86_REG_EFLAGS)


SAFE = flags.STATUS | flags.IF | flags.DF | flags.IOPL | flags.NT | flags.AC | flags.ID
"""Without TF, which would raise #DB."""


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0, 1, 3]), st.integers(0, 3), st.integers(0, flags.DEFINED).map(lambda value: value & SAFE))
def test_popf_does_what_the_processor_does_in_every_ring(ring: int, iopl: int, popped: int) -> None:
    before, after = popf_on_the_processor(ring, iopl, popped)
    assert flags.after_popf(before, popped, ring) == after


def test_popf_in_ring_1_keeps_if() -> None:
    assert flags.after_popf(flags.ONE | flags.IF, flags.ONE, cpl=1) == flags.ONE | flags.IF
    assert flags.after_popf(flags.ONE | flags.IF, flags.ONE, cpl=0) == flags.ONE


def test_16_bit_popf_leaves_the_upper_half() -> None:
    assert flags.after_popf(flags.ONE | flags.AC, flags.ONE, 0, bits=16) == flags.ONE | flags.AC


# Control registers


def test_control_registers_describe_themselves() -> None:
    assert control.describe("CR0", 0x8001_0033) == "CR0 0x80010033 PE MP ET NE WP PG"
    assert control.describe("CR4", 0x90) == "CR4 0x00000090 PSE PGE"
    assert control.describe("EFER", control.EFER_SVME) == "EFER 0x00001000 SVME"


@pytest.mark.parametrize("bits", control.REGISTERS.values(), ids=control.REGISTERS.keys())
def test_control_bits_are_single_and_distinct(bits: control.Bits) -> None:
    masks = [mask for _, mask, _ in bits]
    assert all(mask & (mask - 1) == 0 for mask in masks)
    assert len(set(masks)) == len(masks)


@given(st.integers(0, 0xFFFF), st.booleans())
@settings(max_examples=30, deadline=None)
def test_lmsw_does_what_the_processor_does(value: int, task_switched: bool) -> None:
    cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    cpu.mem_map(0, 0x2000)
    cpu.mem_write(CODE, b"\x0f\x01\xf0")
    before = control.CR0_PE | control.CR0_ET | (control.CR0_TS if task_switched else 0)
    cpu.reg_write(u.UC_X86_REG_CR0, before)
    cpu.reg_write(u.UC_X86_REG_EAX, value)
    cpu.emu_start(CODE, 0, count=1)
    assert control.after_lmsw(before, value) == cpu.reg_read(u.UC_X86_REG_CR0)


def test_cr0_refuses_paging_without_protection() -> None:
    assert control.cr0_refused(control.CR0_PG)
    assert control.cr0_refused(control.CR0_NW | control.CR0_PE)
    assert control.cr0_refused(control.CR0_PG | control.CR0_PE) == ""


# Descriptors


@given(st.integers(0, 2**64 - 1))
def test_segments_survive_parsing_and_packing(raw: int) -> None:
    assert d.Segment.parse(raw).pack() == raw
    assert d.Segment.parse(raw.to_bytes(8, "little")) == d.Segment.parse(raw)


@given(st.integers(0, 2**64 - 1))
def test_32_bit_gates_survive_parsing_and_packing(raw: int) -> None:
    always_zero = 1 << 44 | 0xE0 << 32
    raw = raw & ~always_zero & ~(0xF << 40) | d.INTERRUPT_GATE32 << 40
    gate = d.Gate.parse(raw)
    assert gate.pack() == raw
    assert gate.wide
    assert gate.clears_if


def test_a_flat_code_segment() -> None:
    segment = d.flat_segment(code=True)
    assert segment.pack() == 0x00CF_9B00_0000_FFFF
    assert segment.hidden_flags == 0x00CF_9B00
    assert segment.flat
    assert segment.kind == "code RA"
    assert repr(segment) == "<Segment 0x00cf9b000000ffff code RA base 00000000 limit ffffffff dpl 0>"
    assert d.flat_segment(code=False, dpl=3).pack() == 0x00CF_F300_0000_FFFF


def test_a_limit_that_granularity_cannot_express_is_refused() -> None:
    with pytest.raises(ValueError, match="4 KB pages"):
        d.Segment(0, 0x12345, 3).pack()
    with pytest.raises(ValueError, match="needs G"):
        d.Segment(0, 0x10_0000, 3, granular=False).pack()


DATA = d.Segment(0, 0xFFF, d.DATA_W_A, granular=False)
DOWN = d.Segment(0, 0xFFF, d.DATA_W_A | 4, granular=False)


@pytest.mark.parametrize(
    ("segment", "offset", "size", "inside"),
    [
        (DATA, 0xFFC, 4, True), (DATA, 0xFFD, 4, False), (DATA, 0, 1, True), (DOWN, 0xFFF, 1, False),
        (DOWN, 0x1000, 4, True), (DOWN, 0xFFFF_FFFC, 4, True), (DOWN, 0xFFFF_FFFD, 4, False),
    ],
)  # fmt: skip
def test_limits(segment: d.Segment, offset: int, size: int, inside: bool) -> None:
    assert segment.contains(offset, size) is inside


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 15), st.booleans(), st.integers(0, 3), st.booleans(), st.integers(0, 0xFFFFF))
def test_lar_lsl_verr_verw_are_those_of_the_processor(
    kind: int, system: bool, dpl: int, granular: bool, limit: int
) -> None:
    """In ring 0 with RPL 0: access rights, limit, readable, writable, and which system types are answered at all."""
    limit = limit << 12 | 0xFFF if granular else limit
    segment = d.Segment(0x1234_5678, limit, kind, dpl, system, granular=granular)
    cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    cpu.mem_map(0, 0x10000)
    cpu.mem_write(GDT, bytes(8) + segment.to_bytes())
    cpu.reg_write(u.UC_X86_REG_GDTR, (0, GDT, 15, 0))
    cpu.reg_write(u.UC_X86_REG_ECX, 8)

    places = iter(range(CODE, GDT, 16))

    def ask(code: str) -> tuple[bool, int]:
        at = next(places)
        cpu.mem_write(at, bytes.fromhex(code))
        cpu.emu_start(at, 0, count=1)
        return bool(cpu.reg_read(u.UC_X86_REG_EFLAGS) & flags.ZF), cpu.reg_read(u.UC_X86_REG_EAX)

    answered, rights = ask("0f02c1")
    assert answered == (not system or kind in d.LAR_TYPES)
    if answered:
        assert rights == segment.access_rights
    answered, bytes_ = ask("0f03c1")
    assert answered == (not system or kind in d.LSL_TYPES)
    if answered:
        assert bytes_ == segment.limit
    assert ask("0f00e1")[0] == segment.readable
    assert ask("0f00e9")[0] == segment.writable


def test_selectors() -> None:
    selector = d.Selector(0x67)
    assert (selector.index, selector.local, selector.rpl, selector.error_code) == (12, True, 3, 0x64)
    assert repr(selector) == "<Selector 0067 ldt[12] rpl 3>"
    assert d.Selector.build(12, 3, local=True) == selector
    assert d.Selector(3).null
    assert not d.Selector(4).null


def test_gates_describe_themselves() -> None:
    gate = d.Gate(0x60, 0xC012_3456, d.INTERRUPT_GATE32, dpl=3)
    assert repr(gate) == "<Gate 0xc012ee0000603456 interrupt gate 32 to 0060:c0123456 dpl 3>"
    assert d.is_system(gate.pack())
    assert not d.is_system(d.flat_segment(code=True).pack())


def test_the_tss_keeps_its_fields_apart() -> None:
    fields = {name: (offset * 7 + 1) & (1 << 8 * size) - 1 for name, offset, size in d.TSS32_FIELDS}
    raw = d.build_tss(**fields)
    assert len(raw) == d.TSS32_BYTES
    assert d.parse_tss(raw) == fields
    assert d.tss_field("esp0") == (4, 4)
    assert d.parse_tss(d.build_tss())["io_map"] == d.TSS32_BYTES


def test_pseudo_descriptors() -> None:
    assert d.pseudo_descriptor(0x12345678, 0x7FF).hex() == "ff0778563412"
    assert d.parse_pseudo_descriptor(bytes.fromhex("ff0778563412")) == (0x12345678, 0x7FF)


# Paging


def test_entries_describe_themselves() -> None:
    assert repr(paging.PTE(0x0030_1067)) == "<PTE 0x00301067 P RW U A D>"
    assert repr(paging.PTE(0)) == "<PTE 0x00000000 not present>"
    assert repr(paging.PDE(0x0400_01E3)) == "<PDE 0x040001e3 P RW A D PS G>"
    assert repr(paging.PTE(0x81)) == "<PTE 0x00000081 P PAT>"


def test_an_address_is_split_into_directory_table_and_offset() -> None:
    linear = 0xC012_3456
    assert (paging.directory_index(linear), paging.table_index(linear)) == (0x300, 0x123)
    assert (paging.directory_index(linear) << 10 | paging.table_index(linear)) << 12 | 0x456 == linear


@given(st.integers(0, 0xFFFFF), st.integers(0, 0xFFF))
def test_entries_keep_frame_and_flags_apart(frame: int, low: int) -> None:
    entry = paging.PTE.build(frame, low)
    assert (entry.frame, entry.value & 0xFFF) == (frame, low)
    assert entry.present == bool(low & 1)


@given(st.integers(0, 1023), st.integers(0, 1023))
def test_a_large_page_in_small_ones(number: int, index: int) -> None:
    large = paging.PDE.build(number << 10, paging.PRESENT | paging.WRITABLE | paging.LARGE | paging.GLOBAL)
    small = large.small(index)
    assert small.value & paging.FRAME_MASK == large.large_base + index * 4096
    assert (small.present, small.writable, small.user, small.global_) == (True, True, False, True)
    assert not small.value & paging.PAT


def test_error_codes_in_words() -> None:
    assert paging.describe_error(0) == "not present, read, as supervisor"
    assert paging.describe_error(7) == "protection, write, in ring 3"
    assert paging.describe_error(0x1D) == "protection, read, in ring 3, reserved bit set, instruction fetch"
