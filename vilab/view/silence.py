"""The critical instruction that runs without a trap: what it should have answered, and what it did.

::

    before the step                the instruction               after the step
    what the guest set  -------->  what it should give  <---+
    what the CPU holds  -------->  what it gives        <---+--- equal? right : wrong, and nobody noticed

Only what the two truths and the top of the stack show is judged. LAR, LSL, VERR and VERW answer in ZF, and whether
ring 0 would have had another answer is in the guest's descriptor table: for these a ``descriptor`` function is asked.
Source of the list: Robin and Irvine, USENIX Security 2000, table 1.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.events import CalloutTaken, TrapTaken, VmExit
from vilab.view.words import NBSP, hex4, hex8, instruction, short_name
from vilab.vmm.records import GPR_NAMES, SEGMENT_NAMES, Registers, StepRecord
from vilab.x86 import flags

ReadDescriptor = Callable[[int], int | None]
"""Selector to the eight bytes of its descriptor as a number; ``None`` where there is none or nobody can look."""

ASKS_PROTECTION = frozenset(("lar", "lsl", "verr", "verw"))


class Finding(msgspec.Struct, frozen=True):
    """One critical instruction, judged.

    what : the thing it is about: ``IF``, ``GDTR base``.
    due, got : what ring 0 would have answered and what came, as they are written: ``0``, ``c0398000``.
    due_word, got_word : the whole word behind it, where there is one (the flags on the stack).
    where : what has been filled: ``top of stack``, ``EAX``.
    why : half a sentence for the picture.
    dropped : it was asked to change something, and did not.
    """

    right: bool
    what: str
    due: str
    got: str
    due_word: str = ""
    got_word: str = ""
    where: str = ""
    why: str = ""
    dropped: bool = False


def ran_silently(record: StepRecord) -> bool:
    """Did the bare CPU execute it in a ring that the guest does not know of, without telling the VMM?"""
    if record.how != "native" or record.cpl == record.cpu_cpl:
        return False
    return not any(isinstance(event, (TrapTaken, VmExit, CalloutTaken)) for event in record.events)


def judge(
    record: StepRecord, guest: Registers, cpu: Registers, descriptor: ReadDescriptor | None = None
) -> Finding | None:
    """``None`` for an instruction that is not critical, or whose answer cannot be seen.

    ``guest`` and ``cpu`` are the two truths before the step.
    """
    name = short_name(record.mnemonic)
    if name == "pushf":
        return _pushed_flags(record, guest)
    if record.cpl != 0:
        return None
    silent = ran_silently(record)
    if name == "popf":
        return _popped_flags(record, guest, cpu, silent)
    if name in ASKS_PROTECTION:
        return _protection(record, guest, silent, descriptor)
    pair = _register_read(record, name, guest, cpu)
    if pair is None:
        return None
    what, where, due, got = pair
    if not silent:
        got = due
    return Finding(due == got, what, due, got, where=where, why=f"{what} is the CPU's own.")


def _pushed_flags(record: StepRecord, guest: Registers) -> Finding | None:
    got = record.cpu.stack_top
    if got is None:
        return None
    due = (got & ~(flags.IF | flags.IOPL)) | (guest.eflags & (flags.IF | flags.IOPL))
    if (got ^ due) & flags.IF:
        what, due_bit, got_bit = "IF", _bit(due, flags.IF), _bit(got, flags.IF)
    elif (got ^ due) & flags.IOPL:
        what, due_bit, got_bit = "IOPL", str(flags.iopl(due)), str(flags.iopl(got))
    else:
        what, due_bit, got_bit = "IF", _bit(due, flags.IF), _bit(got, flags.IF)
    why = f"{what} on the stack is the CPU's."
    return Finding(got == due, what, due_bit, got_bit, hex8(due), hex8(got), "top of stack", why)


def _popped_flags(record: StepRecord, guest: Registers, cpu: Registers, silent: bool) -> Finding | None:
    word = cpu.stack_top
    if word is None:
        return None
    wanted = word & flags.IF
    kept = guest.eflags & flags.IF if silent else record.guest.eflags & flags.IF
    return Finding(
        wanted == kept, "IF", _bit(wanted, flags.IF), _bit(kept, flags.IF), hex8(word), "", "IF",
        "The change of IF is dropped.", dropped=True,
    )  # fmt: skip


def _protection(
    record: StepRecord, guest: Registers, silent: bool, descriptor: ReadDescriptor | None
) -> Finding | None:
    got = _bit(record.cpu.eflags, flags.ZF)
    if not silent:
        return Finding(True, "ZF", got, got, where="ZF")
    selector = _operand_value(record, guest)
    entry = descriptor(selector) if descriptor and selector is not None else None
    if entry is None:
        return None
    access = entry >> 40 & 0xFF
    segment, dpl = bool(access & 0x10), access >> 5 & 3
    if not segment or got == "1" or dpl >= record.cpu_cpl:
        return None  # a system descriptor has rules of its own; a success at ring 1 is a success at ring 0
    code, second = bool(access & 8), bool(access & 2)
    readable, writable = (second, False) if code else (True, second)
    due = {"lar": True, "lsl": True, "verr": readable, "verw": writable}[short_name(record.mnemonic)]
    return Finding(
        not due, "ZF", str(int(due)), got, where="ZF", why=f"The CPU compared DPL {dpl} with CPL {record.cpu_cpl}."
    )


def _register_read(record: StepRecord, name: str, guest: Registers, cpu: Registers) -> tuple[str, str, str, str] | None:
    target = record.operands.split(",")[0].strip()
    where = target.upper() if target in GPR_NAMES or len(target) == 2 else "memory"
    if name == "sgdt":
        return "GDTR base", "memory", hex8(guest.gdtr_base), hex8(cpu.gdtr_base)
    if name == "sidt":
        return "IDTR base", "memory", hex8(guest.idtr_base), hex8(cpu.idtr_base)
    if name == "sldt":
        return "LDTR", where, hex4(guest.ldtr), hex4(cpu.ldtr)
    if name == "str":
        return "TR", where, hex4(guest.tr), hex4(cpu.tr)
    if name == "smsw":
        return "CR0", where, hex4(guest.cr0 & 0xFFFF), hex4(cpu.cr0 & 0xFFFF)
    source = record.operands.split(",")[-1].strip()
    if source in SEGMENT_NAMES and name in ("push", "mov"):
        index = SEGMENT_NAMES.index(source)
        pushed = "top of stack" if name == "push" else where
        return source.upper(), pushed, hex4(guest.selectors[index]), hex4(cpu.selectors[index])
    return None


def _operand_value(record: StepRecord, guest: Registers) -> int | None:
    """The selector in the last operand, where that is a register."""
    source = record.operands.split(",")[-1].strip()
    full = source if source in GPR_NAMES else f"e{source}"
    return guest.gpr[GPR_NAMES.index(full)] & 0xFFFF if full in GPR_NAMES else None


def _bit(word: int, mask: int) -> str:
    return "1" if word & mask else "0"


def sentence(record: StepRecord, finding: Finding) -> str:
    """What a wrong answer means, in one or two sentences."""
    name = instruction(record.mnemonic, record.operands)
    ring = f"At ring {record.cpu_cpl}, `{name}` runs on the bare CPU: no trap."
    if finding.dropped:
        return (
            f"{ring} It was to set IF to {finding.due}, and the CPU drops the change, silently: "
            f"the guest goes on with **IF{NBSP}={NBSP}{finding.got}**."
        )
    if finding.got_word:
        return (
            f"{ring} It pushes `{finding.got_word}`, so the kernel reads **{finding.what}{NBSP}={NBSP}{finding.got}** "
            f"where it had set {finding.due}."
        )
    place = "" if finding.where in ("memory", "ZF") else f" in {finding.where}"
    return (
        f"{ring} The guest reads **{finding.what}{NBSP}={NBSP}{finding.got}**{place}; "
        f"ring 0 would have read {finding.due}."
    )
