"""The VMCB's table, judged by the processor that executes VMRUN on it, and by Linux' own header."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools import require_file
from vilab.machine.cpu import Cpu
from vilab.machine.exits import VMEXIT_BASE
from vilab.machine.memory import MachineMemory
from vilab.vmm import svm_exits, vmcb
from vilab.vmm.engine_svm import ENTRY_CODE
from vilab.vmm.vmcb_build import refused_because
from vilab.x86.decode import decode

BLOCK, HOST_SAVE, ENTRY, MAPS, ROOT, TABLE = (n << 12 for n in range(0x10, 0x16))
GUEST, CODE = 0x100000, 0x8000

DATA, TEXT = (0x10, 0xC93, 0xFFFFFFFF, 0), (0x08, 0xC9B, 0xFFFFFFFF, 0)
PLAIN: vmcb.Values = {
    "guest_asid": 1, "tlb_control": vmcb.TLB_FLUSH_ALL, "np_enable": 1, "n_cr3": ROOT, "msrpm_base_pa": MAPS,
    "iopm_base_pa": MAPS,
    "es": DATA, "cs": TEXT, "ss": DATA, "ds": DATA, "fs": DATA, "gs": DATA, "efer": vmcb.EFER_SVME, "cr0": 0x11,
    "rflags": 2, "rip": CODE, "rsp": 0x7000, "dr6": 0xFFFF0FF0, "dr7": 0x400,
}  # fmt: skip


class Machine:
    """A processor, 1 MB of guest memory mapped by a nested table, and nothing that handles an exit."""

    def __init__(self, values: vmcb.Values, code: bytes = b"", intercepts: tuple[str, ...] = ()) -> None:
        self.memory = memory = MachineMemory(4 << 20)
        self.cpu = cpu = Cpu(memory)
        cpu.handler = self  # type: ignore[assignment]
        self.exits: list[int] = []
        block = bytearray(vmcb.VMCB_BYTES)
        vmcb.put(block, PLAIN | values | svm_exits.intercept_words(("vmrun", *intercepts)))
        memory.write(BLOCK, block)
        memory.write(MAPS, b"\xff" * 4096)
        memory.write(ENTRY, ENTRY_CODE)
        memory.write(ROOT, (TABLE | 7).to_bytes(4, "little"))
        for page in range(256):
            memory.write(TABLE + 4 * page, (GUEST + (page << 12) | 7).to_bytes(4, "little"))
        memory.write(GUEST + CODE, code)
        cpu.set_msr(vmcb.MSR_EFER, vmcb.EFER_SVME)
        cpu.set_msr(vmcb.MSR_VM_HSAVE_PA, HOST_SAVE)
        cpu.gpr[0], cpu.eip = BLOCK, ENTRY

    def on_exception(self, number: int) -> bool:
        self.exits.append(number)
        return False


def test_fields_do_not_overlap_and_stay_in_their_area():
    end = 0
    for field in vmcb.FIELDS:
        assert field.offset >= end, field.name
        end = field.offset + field.size_bytes
    assert all(f.offset + f.size_bytes <= vmcb.SAVE_AREA for f in vmcb.CONTROL_AREA)
    assert all(f.offset >= vmcb.SAVE_AREA for f in vmcb.STATE_SAVE_AREA)
    assert end <= vmcb.VMCB_BYTES


@settings(deadline=None)
@given(st.data())
def test_what_is_put_can_be_parsed(data: st.DataObject):
    values: vmcb.Values = {}
    for field in vmcb.FIELDS:
        if field.is_segment:
            parts = (st.integers(0, (1 << bits) - 1) for bits in (16, 12, 32, 64))
            values[field.name] = data.draw(st.tuples(*parts))  # type: ignore[assignment]
        else:
            values[field.name] = data.draw(st.integers(0, (1 << 8 * field.size_bytes) - 1))
    block = bytearray(vmcb.VMCB_BYTES)
    vmcb.put(block, values)
    assert vmcb.parse(bytes(block)) == values


@given(st.integers(0, 0xFFF))
def test_attributes_are_the_descriptors_bits_without_the_gap(bits: int):
    flags = vmcb.flags_of(bits)
    assert flags & ~0x00F0FF00 == 0
    assert vmcb.attributes(flags) == bits


def test_vmrun_puts_every_field_where_the_table_says():
    segments = {name: (8 * (n + 1), 0xC93, 0xFFFFF000 + n, 0) for n, name in enumerate(("es", "ss", "ds", "fs", "gs"))}
    values: vmcb.Values = segments | {
        "cs": (0x48, 0xC9B, 0xFFFF5FFF, 0), "gdtr": (0, 0, 0x1234, 0x11110000), "idtr": (0, 0, 0x2345, 0x22220000),
        "ldtr": (0x60, 0x082, 0x77, 0x33330000), "tr": (0x68, 0x08B, 0x88, 0x44440000), "cr0": 0x10033,
        "cr2": 0x55555000, "cr3": 0x66666000, "cr4": 0x210, "rax": 0x77777777, "rsp": 0x88888888, "rflags": 0x4C6,
    }  # fmt: skip
    machine = Machine(values, bytes.fromhex("0fa2"), ("cpuid",))
    cpu = machine.cpu
    cpu.run()
    assert machine.exits == [VMEXIT_BASE + 0x72]
    assert cpu.in_guest_mode
    assert cpu.eip == CODE
    assert (cpu.gpr[0], cpu.gpr[4]) == (0x77777777, 0x88888888)
    assert [cpu.cr(n) for n in (0, 2, 3, 4)] == [0x10033, 0x55555000, 0x66666000, 0x210]
    assert cpu.eflags() == 0x4C6
    assert cpu.table("gdtr") == (0x11110000, 0x1234)
    assert cpu.table("idtr") == (0x22220000, 0x2345)
    for index, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")):
        selector, base, limit, flags = cpu.segment(index)
        assert (selector, vmcb.attributes(flags), limit, base) == values[name], name


def test_vmrun_takes_the_ring_from_the_field_cpl():
    user = (0x1B, 0xCFB, 0xFFFFFFFF, 0)
    stack = (0x23, 0xCF3, 0xFFFFFFFF, 0)
    machine = Machine({"cpl": 3, "cs": user, "ss": stack}, bytes.fromhex("0fa2"), ("cpuid",))
    machine.cpu.run()
    assert machine.cpu.cpl == 3


INTERCEPTED = (
    ("0f20c3", "cr0 read"), ("0f20db", "cr3 read"), ("0f20e3", "cr4 read"), ("0f22db", "cr3 write"),
    ("0f22c3", "cr0 write"), ("0f22e3", "cr4 write"), ("0f21c3", "dr0 read"), ("0f21fb", "dr7 read"),
    ("0f23cb", "dr1 write"), ("0f23fb", "dr7 write"), ("0f3f", "exception 06"), ("0f31", "rdtsc"), ("0f33", "rdpmc"),
    ("9c", "pushf"), ("9d", "popf"), ("0fa2", "cpuid"), ("cf", "iret"), ("cd80", "int n"),
    ("f4", "hlt"), ("0f013b", "invlpg"), ("0f01df", "invlpga"), ("0f32", "msr"), ("0f30", "msr"), ("0f01d8", "vmrun"),
    ("0f01d9", "vmmcall"), ("0f01da", "vmload"), ("0f01db", "vmsave"), ("0f01dc", "stgi"), ("0f01dd", "clgi"),
    ("0f01de", "skinit"), ("0f09", "wbinvd"), ("0f0103", "gdtr read"), ("0f010b", "idtr read"), ("0f00c3", "ldtr read"),
    ("0f00cb", "tr read"), ("0f0113", "gdtr write"), ("0f011b", "idtr write"), ("0f00d3", "ldtr write"),
    ("0f00db", "tr write"),
)  # fmt: skip


@pytest.mark.parametrize(("code", "reason"), INTERCEPTED)
def test_the_processor_exits_with_the_code_that_the_bit_stands_for(code: str, reason: str):
    exit_ = svm_exits.INTERCEPTS[reason]
    machine = Machine({}, bytes.fromhex(code), (reason,))
    machine.cpu.run()
    assert machine.exits == [VMEXIT_BASE + exit_.code]
    assert exit_.code == 32 * exit_.word + exit_.bit
    if not reason.startswith("exception"):
        assert svm_exits.exit_reason(decode(bytes.fromhex(code) + b"\x90" * 4, CODE)) == reason


def test_invd_exits_as_wbinvd_on_this_processor():
    """What ``SvmEngine`` puts right. On hardware INVD has bit 22 of word 3, and code 76h."""
    machine = Machine({}, bytes.fromhex("0f08 f4"), ("invd", "hlt"))
    machine.cpu.run()
    assert machine.exits == [VMEXIT_BASE + svm_exits.HLT]
    machine = Machine({}, bytes.fromhex("0f08 f4"), ("wbinvd", "hlt"))
    machine.cpu.run()
    assert machine.exits == [VMEXIT_BASE + 0x89]


def test_the_processor_has_one_tlb_so_that_entering_must_flush_it():
    """ENTRY is mapped one to one in the host. The guest has zeros there, ADD [EAX],AL, and beyond them a HLT."""
    exits = []
    for control in (vmcb.TLB_FLUSH_ALL, vmcb.TLB_KEEP):
        machine = Machine({"rip": ENTRY, "tlb_control": control, "rax": 0x5000}, intercepts=("hlt",))
        machine.memory.write(GUEST + ENTRY + 0x40, b"\xf4")
        machine.cpu.run()
        exits += machine.exits
    assert exits == [VMEXIT_BASE + svm_exits.HLT, VMEXIT_BASE + svm_exits.VMRUN]


def test_without_its_bit_an_instruction_runs():
    machine = Machine({}, bytes.fromhex("9c 0f20db 0f0113 f4"), ("hlt",))
    machine.cpu.run()
    assert machine.exits == [VMEXIT_BASE + svm_exits.HLT]
    assert machine.cpu.eip == CODE + 7


def test_exit_codes_are_those_of_linux():
    header = require_file(Path("/usr/include/x86_64-linux-gnu/asm/svm.h"), "the Debian package linux-libc-dev")
    theirs = {
        name.lower().replace("_", ""): int(code, 16)
        for name, code in re.findall(r"#define SVM_EXIT_(\w+)\s+(0x\w+)", header.read_text())
    }
    special = {"int n": "swint", "mwait armed": "mwaitcond", "cr0 selective write": "cr0selwrite"}
    compared = 0
    for entry in svm_exits.EXITS.values():
        words = entry.reason.split()
        if words[0][:2] in ("cr", "dr") and len(words) == 2:
            name = words[1] + words[0]
        else:
            name = special.get(entry.reason, "".join(words)).replace("_", "")
        if name in theirs:
            assert entry.code == theirs[name], entry.reason
            compared += 1
    assert theirs["excpbase"] == svm_exits.EXCEPTION_BASE
    assert compared > 60


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"efer": 0}, "SVME"),
        ({"cr0": 0x20000011}, "CR0.NW"),
        ({"cr0": 1 << 32 | 0x11}, "above 31"),
        ({"dr7": 1 << 40}, "DR7"),
        ({"intercept_misc2": 0}, "VMRUN itself"),
        ({"guest_asid": 0}, "ASID 0"),
    ],
)
def test_an_inconsistent_block_is_refused_with_a_reason(change: vmcb.Values, why: str):
    good = PLAIN | svm_exits.intercept_words(("vmrun",))
    assert refused_because(good) == []
    reasons = refused_because(good | change)
    assert len(reasons) == 1
    assert why in reasons[0]


def test_the_table_as_text_shows_offsets_and_values():
    text = vmcb.render({"rip": 0xC0101234, "cs": (8, 0xC9B, 0xFFFFFFFF, 0)})
    assert re.search(r"^070h +8 +exitcode ", text, re.M)
    assert re.search(r"^578h +8 +rip +c0101234", text, re.M)
    assert re.search(r"^410h +16 +cs +0008 c9b ffffffff 00000000", text, re.M)


@pytest.mark.parametrize(
    ("code", "port", "size", "info"),
    [
        ("ec", 0x3F8, 1, 0x03F80111),
        ("ee", 0x3F8, 1, 0x03F80110),
        ("66ef", 0x604, 2, 0x06040120),
        ("e580", 0x80, 4, 0x00800141),
        ("f36c", 0x1F0, 1, 0x01F0011D),
        ("676e", 0x1F0, 1, 0x01F00094),
    ],
)
def test_exitinfo1_of_a_port_access(code: str, port: int, size: int, info: int):
    # Bits by hand from APM volume 2, figure 15-2: port 31-16, A32 8, A16 7, SZ32 6, SZ16 5, SZ8 4, REP 3, STR 2, IN 0.
    assert svm_exits.ioio_info(port, size, decode(bytes.fromhex(code), 0)) == info
