"""Where a gva leads: judged by the accesses that the processor then does, under every engine and policy."""

from __future__ import annotations

import random
import re
from functools import lru_cache

import pytest

from vilab.course.runs import Run, run_program, run_typed
from vilab.events import HiddenFault, TraceFault, TrueFault
from vilab.vmm import translation_path as tp
from vilab.vmm.records import StepRecord

WAYS = {
    "bare": ("bare", {}), "all": ("bt", {"trace": "all"}), "lazy": ("bt", {"trace": "lazy"}),
    "prevalidate": ("bt", {"trace": "prevalidate"}), "trap": ("trap", {}), "svm": ("svm", {}),
    "svm shadow": ("svm", {"paging": "shadow"}),
}  # fmt: skip
FIRST, PAGES = 0x0804_A000, 4
ENTRIES, DIRECTORY_ENTRY = 0xC010_3128, 0xC010_1080
FRAMES = (0x0020_2000, 0x0020_3000, 0x0020_4000, 0x0010_3000)
"""Data, and the table itself: a page of the guest's may be mapped twice."""
ABSOLUTE = re.compile(r"\[(0x[0-9a-f]+)\]")
SKIP = ("gate_0e:", "add esp, 4", "add dword ptr [esp], 6", "iretd")
"""What the guest does about a true fault: both kinds of access have 6 bytes."""
BITS = (0, 0x01, 0x05, 0x07, 0x07, 0x27, 0x67, 0x25, 0x03)


def guest(seed: int, synchronised: bool) -> str:
    """Random edits of four pages, and random accesses to them. ``synchronised``: INVLPG behind every edit."""
    r = random.Random(seed)
    lines = ["mov eax, cr0", "or eax, 0x10000", "mov cr0, eax"] if seed % 2 else []
    for _ in range(40):
        page = r.randrange(PAGES)
        gva = FIRST + 0x1000 * page
        kind = r.randrange(10)
        edits = []
        if kind < 3:
            edits = [f"mov dword ptr [{ENTRIES + 4 * page:#x}], {r.choice(FRAMES) | r.choice(BITS):#x}"]
        elif kind == 3:
            edits = [f"mov dword ptr [{DIRECTORY_ENTRY:#x}], {0x103000 | r.choice((0x27, 0x25, 0x07)):#x}"]
        elif kind == 4:
            lines += ["mov ebx, cr3", "mov cr3, ebx"]
        elif kind == 5:
            lines.append(f"invlpg [{gva:#x}]")
        else:
            lines.append(f"mov ecx, [{gva:#x}]" if r.randrange(2) else f"mov [{gva:#x}], ecx")
        lines += edits
        if edits and synchronised:
            lines += [f"invlpg [{FIRST + 0x1000 * each:#x}]" for each in range(PAGES)]
    return "\n".join((*lines, "ret", *SKIP))


def access(record: StepRecord) -> tuple[int, bool] | None:
    """(gva, is it a store) of a plain MOV with an absolute operand."""
    found = ABSOLUTE.search(record.operands)
    if record.mnemonic != "mov" or not found:
        return None
    return int(found[1], 16), record.operands.index("[") < 12 and record.operands.strip()[0] in "d["


def first_fault(record: StepRecord, gva: int) -> str:
    """What the access came to first; nested faults name a gpa, and there is nothing else that they could be for."""
    for event in record.events:
        mine = getattr(event, "gva", None)
        if mine is None or (mine >> 12 != gva >> 12 and mine >= FIRST >> 12 << 12):
            continue
        if isinstance(event, HiddenFault):
            return tp.HIDDEN
        if isinstance(event, TraceFault):
            return tp.TRACE
        if isinstance(event, TrueFault):
            return tp.TRUE
    return tp.NOTHING


def compare(run: Run) -> dict[str, int]:
    """Before every access: what is expected; behind it: what happened. How often each came up."""
    seen: dict[str, int] = {}
    for index, record in enumerate(run.records):
        found = access(record)
        if found is None:
            continue
        gva, write = found
        run.seek(index)
        expected = tp.path(run.vm, gva).expect(write, record.cpl == 3)
        assert expected == first_fault(record, gva), (index, record.mnemonic, record.operands)
        seen[expected] = seen.get(expected, 0) + 1
        run.seek(index + 1)
        behind = tp.path(run.vm, gva)
        if expected != tp.TRUE and behind.mpa is not None:
            value = run.vm.machine_memory.words[behind.mpa >> 2]
            if not write:
                name = record.operands.split(",")[0]
                assert value == record.guest.gpr[{"eax": 0, "ecx": 1, "edx": 2, "ebx": 3}[name]], index
    return seen


@lru_cache
def all_seen(way: str) -> dict[str, int]:
    engine, options = WAYS[way]
    total: dict[str, int] = {}
    for seed in range(6):
        run = run_typed(guest(seed, way in ("bare", "svm")), engine, **options)
        for what, count in compare(run).items():
            total[what] = total.get(what, 0) + count
        run.vm.close()
    return total


@pytest.mark.parametrize("way", WAYS)
def test_what_is_expected_is_what_the_access_comes_to(way: str) -> None:
    seen = all_seen(way)
    assert seen[tp.NOTHING] > 5
    assert seen[tp.TRUE] > 2
    assert (seen.get(tp.HIDDEN, 0) > 5) == (way != "bare")
    assert (seen.get(tp.TRACE, 0) > 5) == (way in ("all", "trap", "svm shadow"))


def test_looking_leaves_no_trace() -> None:
    for engine in ("bare", "bt", "svm"):
        run = run_typed(guest(3, True), engine)
        for position in range(0, run.total + 1, 7):
            run.seek(position)
            before = bytes(run.vm.machine_memory.view)
            for gva in (FIRST, FIRST + 0x1000, 0xC010_4000, 0x0000_0000, 0xFFFF_FFFF):
                tp.path(run.vm, gva).describe()
            assert bytes(run.vm.machine_memory.view) == before


def test_a_real_kernels_stack_leads_to_the_frame_of_the_pmap() -> None:
    for engine in ("bare", "bt", "svm"):
        run = run_program("cow", engine, limit=20, written="interrupts: on")
        run.seek(20)
        path = tp.path(run.vm, run.records[-1].guest.gpr[4])
        assert path.mpa == path.meant
        assert path.guest.entries[0].table == run.start.cr3 & ~0xFFF
        assert len(path.reads) == (8 if engine == "svm" else 2)
        run.vm.close()


def test_without_paging_a_gva_is_its_gpa() -> None:
    run = run_program("isprime", "bt", limit=3)
    path = tp.path(run.vm, run.start.eip)
    assert path.guest.entries == ()
    assert path.gpa == run.start.eip
    assert path.meant is not None
    assert path.expect(False, False) == tp.HIDDEN  # the VMM reads the code to translate it; the CPU never comes here


def test_an_edit_without_invlpg_is_stale_under_lazy_and_gone_under_all() -> None:
    text = f"mov eax, [{FIRST:#x}]\nmov dword ptr [{ENTRIES:#x}], 0x00204007\n"
    text = f"mov dword ptr [{ENTRIES:#x}], 0x00202007\n" + text
    found = {}
    for way in ("all", "lazy", "prevalidate"):
        run = run_typed(text, "bt", trace=way)
        run.seek(3)
        found[way] = tp.path(run.vm, FIRST)
    assert not found["all"].stale
    assert found["all"].mpa is None
    for way in ("lazy", "prevalidate"):
        assert found[way].stale
        assert found[way].gpa == 0x0020_4000
        assert found[way].mpa is not None
        assert found[way].mpa != found[way].meant


def test_every_entry_says_where_it_lies_and_what_it_says() -> None:
    run = run_typed(f"mov dword ptr [{ENTRIES:#x}], 0x00202007\nmov [{FIRST:#x}], eax", "bt")
    run.seek(2)
    path = tp.path(run.vm, FIRST | 0x123)
    directory, table = path.guest.entries
    assert (directory.table, directory.index, directory.at) == (0x0010_1000, 0x20, 0x0010_1080)
    assert (table.table, table.index, table.value, table.bits) == (0x0010_3000, 0x4A, 0x0020_2067, "P RW U A D")
    assert path.gpa == 0x0020_2123
    assert path.shadow is not None
    assert path.shadow.entries[1].value & 0xFFF == 0x067
    assert path.mpa == path.meant
    assert path.describe().splitlines()[-1] == f"gva 0804a123 -> gpa 00202123 -> mpa {path.mpa:08x}"
