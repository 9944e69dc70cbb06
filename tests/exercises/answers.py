"""Right and wrong answers to the exercises, written apart from the instructor's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vilab.course.checkers_chaining import Transfer
from vilab.course.checkers_rings import REFLECT, Guest
from vilab.x86.decode import Instruction
from vilab.x86.flags import IF
from vilab.x86.privileged import PRIVILEGED

_ZERO_ONLY = {row.name for row in PRIVILEGED if row.needs == "CPL 0"}


def traps(instruction: str, cpl: int, iopl: int) -> bool:
    word = instruction.split()[0]
    if word in ("cli", "sti"):
        return iopl < cpl
    system = any(f" {register}" in instruction for register in ("cr0", "cr3", "dr7"))
    return bool(cpl) and (word in _ZERO_ONLY or system)


def emulate(guest: Guest, instruction: Instruction) -> str | None:
    if guest.cpl == 3:
        return REFLECT
    match instruction.op:
        case "cli":
            guest.eflags &= ~IF
        case "sti":
            guest.eflags |= IF
        case "hlt":
            guest.halted = True
        case "mov from cr":
            guest.gpr[instruction.operands[:3]] = guest.cr2 if instruction.reg == 2 else guest.cr3
        case "mov to cr":
            value = guest.gpr[instruction.operands[-3:]]
            guest.cr2, guest.cr3 = (value, guest.cr3) if instruction.reg == 2 else (guest.cr2, value)
    guest.eip += instruction.size
    return None


PILL = "cli; pushf; pop eax; shr eax, 9; and eax, 1; hlt"


def unit_size(lines: Sequence[Any]) -> int:
    stays = ("cli", "sti", "hlt", "in", "out", "ins", "outs")
    for at, line in enumerate(lines):
        name = line.mnemonic
        goes = name[0] == "j" or name in ("loop", "call", "ret", "retf", "iretd", "iret", "lcall", "ljmp", "ud2")
        if name not in stays and (goes or (name.startswith("int") and name != "into")):
            return min(at + 1, 12)
    return 12


def translate(instruction: str, flags_at: int, cs: int) -> str:
    if instruction in ("cli", "sti"):
        both = "pushfd; {} dword ptr ss:[{}], {}; popfd"
        return both.format(*(("and", flags_at, -513) if instruction == "cli" else ("or", flags_at, 512)))
    return f"push {cs}" if instruction == "push cs" else f"mov {instruction[4:7]}, {cs}"


def callouts(transfers: Sequence[Transfer]) -> list[bool]:
    asks: list[bool] = []
    for at, transfer in enumerate(transfers):
        before = [t for t in transfers[:at] if t.how == transfer.how]
        if transfer.how == "direct":
            asks.append(transfer not in before)
            continue
        low = 0xFF if transfer.how == "return" else 0xFFFF
        same_slot = [t.to for t in before if t.to & low == transfer.to & low]
        asks.append(not same_slot or same_slot[-1] != transfer.to)
    return asks


def intercepts(codes: Sequence[int]) -> dict[str, int]:
    every = sum(1 << code for code in {*codes, 0x80})
    names = ("intercept_cr", "intercept_dr", "intercept_exceptions", "intercept_misc1", "intercept_misc2")
    return {name: every >> 32 * at & 0xFFFFFFFF for at, name in enumerate(names)}


def nested_walk(gva: int, cr3: int, ncr3: int, read: Callable[[int], int]) -> int | str:
    def host(gpa: int) -> int | None:
        directory = read(ncr3 | gpa >> 22 << 2)
        entry = read(directory & 0xFFFFF000 | gpa >> 10 & 0xFFC) if directory & 1 else 0
        return entry & 0xFFFFF000 | gpa & 0xFFF if entry & 1 else None

    place = host(cr3 | gva >> 22 << 2)
    if place is None:
        return "nested page fault"
    directory = read(place)
    if not directory & 1:
        return "page fault"
    gpa = directory & 0xFFC00000 | gva & 0x3FFFFF
    if not directory & 128:
        place = host(directory & 0xFFFFF000 | gva >> 10 & 0xFFC)
        if place is None:
            return "nested page fault"
        entry = read(place)
        if not entry & 1:
            return "page fault"
        gpa = entry & 0xFFFFF000 | gva & 0xFFF
    place = host(gpa)
    return "nested page fault" if place is None else place


def shadow_entry(pde: int, pte: int, pmap: Mapping[int, int], traced: frozenset[int]) -> int:
    if pte & 0x21 != 0x21:
        return 0
    writable = pde & pte & 2 and pte & 0x40 and pte >> 12 not in traced
    return pmap[pte >> 12] << 12 | (0x63 if writable else 0x21) | pde & pte & 4


def kind_of_fault(error_code: int, pde: int, pte: int, traced: bool) -> str:
    allows = pde & pte
    if not allows & 1 or error_code & 6 & ~allows:
        return "true fault"
    return "trace fault" if traced and error_code & 2 else "hidden fault"
