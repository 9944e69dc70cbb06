"""Exercise of lesson 03: which transfers between fragments call the monitor. The judge is the monitor's own log.

::

    step     unit      leaves by   to        the monitor's log
    4        00100000  not taken   0010000e  CalloutTaken chain       <- the first time: translate, chain
    9        0010000e  taken       0010000e  CalloutTaken chain
    14       0010000e  taken       0010000e                           <- chained: nobody is asked
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import msgspec

from vilab.course import exercise_steps as steps
from vilab.course.exercise_guest import BASE, MEMORY_BYTES, GuestMachine
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.events import CalloutTaken, EventLog, UnitTranslated
from vilab.guests import load
from vilab.vmm.packed_code import PAPER_RETURN_ENTRIES
from vilab.vmm.records import StepRecord
from vilab.vmm.vm import VirtualMachine
from vilab.x86.assemble import assemble

ASKED = frozenset(("chain", "ret_miss", "indirect_miss"))
MOST_STEPS = 600
SHOWN = 8


class Transfer(msgspec.Struct, frozen=True):
    """Control leaves a unit. ``unit``: the guest address where it begins; ``to``: where control goes.

    ``how`` : ``direct`` (a jump, either side of a conditional one, a call, or the end of 12 instructions),
    ``return`` or ``indirect``.
    """

    unit: int
    how: str
    to: int


class _Recorded(msgspec.Struct, frozen=True):
    transfer: Transfer
    step: StepRecord
    reason: str


def _how(mnemonic: str, operands: str) -> str:
    if mnemonic.startswith("ret"):
        return "return"
    return "direct" if mnemonic not in ("jmp", "call") or operands.startswith("0x") else "indirect"


@cache
def _record(guest: str) -> tuple[_Recorded, ...]:
    """Run a guest under binary translation, step by step, and note each way out of a unit."""
    log = EventLog(keep=True)
    vm: VirtualMachine
    if ";" in guest:
        vm = GuestMachine(assemble(guest, BASE).code, "bt", log=log)
    else:
        name, _, argument = guest.partition(" ")
        vm = VirtualMachine(
            load(name, memory_bytes=MEMORY_BYTES, append=argument), "bt", MEMORY_BYTES, log=log,
            engine_options={"return_entries": PAPER_RETURN_ENTRIES},
        )  # fmt: skip
    records = list(steps.walk(vm, MOST_STEPS))
    ends = {unit.lines[-1][3]: unit.eip for unit in log.of(UnitTranslated)}
    vm.close()
    found = []
    for record, following in pairwise(records):
        if record.tc_address in ends and following.cpl == 0:
            transfer = Transfer(ends[record.tc_address], _how(record.mnemonic, record.operands), following.eip)
            asked = [e.reason for e in record.events if isinstance(e, CalloutTaken) and e.reason in ASKED]
            found.append(_Recorded(transfer, record, asked[0] if asked else ""))
    return tuple(found)


CALLS = "mov ecx, 3; again: call f; call f; dec ecx; jne again; hlt; f: inc eax; ret"
FIRST_GUESTS = ("isprime 49", "straight25", CALLS)
TWO_RETURNS_ONE_SLOT = (
    "mov ecx, 3; again: call f; jmp far_away; align 256; f: inc eax; ret; align 256; "
    "far_away: nop; nop; nop; nop; nop; call f; dec ecx; jne again; hlt"
)
RECURSION = "mov eax, 4; call fib; hlt; fib: cmp eax, 2; jb done; push eax; dec eax; call fib; pop eax; done: ret"
THROUGH_A_REGISTER = (
    "mov esi, 4; mov ebx, one; mov edx, two; again: call ebx; xchg ebx, edx; dec esi; jne again; hlt; "
    "align 256; one: inc eax; ret; align 256; two: inc ecx; ret"
)
OTHER_GUESTS = ("isprime 35", "bench-call-ret 20", TWO_RETURNS_ONE_SLOT, RECURSION, THROUGH_A_REGISTER)


def transfers(guest: str) -> list[Transfer]:
    """The ways out of units that a run of this guest takes, in order: a bundled program, or assembly text."""
    return [recorded.transfer for recorded in _record(guest)]


def check_callouts(
    callouts: Callable[[list[Transfer]], Sequence[bool]], guests: Sequence[str] = FIRST_GUESTS
) -> Feedback:
    """``callouts(transfers)``: for each transfer of a run, in order, does it call the monitor?

    Raises ``WrongAnswer`` at the first that the monitor's log says otherwise.
    """
    count = 0
    for guest in guests:
        recorded = _record(guest)
        words = f"callouts({len(recorded)} transfers of {guest.split(';')[0]})"
        said = call(callouts, [each.transfer for each in recorded], said=words)
        if not isinstance(said, list | tuple) or len(said) != len(recorded):
            raise WrongAnswer(
                f"{words} returned {str(said)[:60]}; a list of {len(recorded)} times True or False is wanted."
            )
        for number, (answer, each) in enumerate(zip(said, recorded, strict=True)):
            if bool(answer) != bool(each.reason):
                there = f"calls the monitor ({each.reason})" if each.reason else "goes straight on"
                raise WrongAnswer(
                    f"Transfer {number} from {each.transfer.unit:08x} to {each.transfer.to:08x} {there}; "
                    f"yours {'calls the monitor' if answer else 'goes straight on'}.",
                    _table(recorded, said, number),
                )
            count += 1
    asked = sum(bool(each.reason) for guest in guests for each in _record(guest))
    return right(f"{count} transfers, {asked} of them by way of the monitor, as in its log.")


def _table(recorded: Sequence[_Recorded], said: Sequence[bool], last: int) -> tuple[str, ...]:
    rows = [("transfer", "step", "unit", "last instruction", "how", "to", "yours", "the monitor's log")]
    same = recorded[last].transfer
    earlier = [
        n for n in range(last) if recorded[n].transfer.to & 0xFF == same.to & 0xFF or recorded[n].transfer == same
    ]
    for n in [*earlier[-SHOWN:], last]:
        t, step = recorded[n].transfer, recorded[n].step
        text = f"{step.mnemonic} {step.operands}".strip()
        yours = "asks" if said[n] else "-"
        rows.append(
            (str(n), str(step.index), f"{t.unit:08x}", text, t.how, f"{t.to:08x}", yours, recorded[n].reason or "-")
        )
    return columns(rows)
