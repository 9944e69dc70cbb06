"""What becomes of an instruction that keeps storing to a traced page: the figures of lesson 3's section on adaptation.

::

    EDITS guest         again: mov eax, [entry]
                               mov [entry], eax      <- the page holds a page table: it is traced
                               dec ecx; jnz again

    step   4 ...  28    7 x trace fault              it traps: 2,030 cycles each
    step  32            trace fault, then translated anew: guilty
    step  36 ... 400    92 x callout: simulate       it does not trap any more
"""

from __future__ import annotations

from collections import Counter

from vilab.course.feedback import columns as aligned
from vilab.course.runs import Run, run_typed
from vilab.course.small_guest import KERNEL_BASE, KERNEL_TABLE
from vilab.events import CalloutTaken, Event, TraceFault, UnitRetranslated
from vilab.view.predict import Prediction

ENTRY = KERNEL_BASE + KERNEL_TABLE + 4 * 0x104
"""Of the kernel's own page table: what maps the code that is running."""

EDITS = 100
ELSEWHERE = KERNEL_BASE + 0x391000


def edits(count: int = EDITS, others: int = 0, **options: object) -> Run:
    """A kernel that writes an entry of its page table ``count`` times, and with the same instruction something else
    ``others`` times, under binary translation."""
    text = f"mov ebx, {ENTRY:#x}\nmov ecx, {count}\nagain: mov eax, [ebx]\nstore: mov [ebx], eax\ndec ecx\njnz again\n"
    if others:
        text += f"cmp ebx, {ELSEWHERE:#x}\nje done\nmov ebx, {ELSEWHERE:#x}\nmov ecx, {others}\njmp again\ndone:"
    run = run_typed(text, "bt", 4 * (count + others) + 40, **options)
    run.seek(run.total)
    return run


def _words(event: Event) -> str:
    match event:
        case TraceFault():
            return "trace fault"
        case UnitRetranslated():
            return f"translated anew: {event.why}"
        case CalloutTaken(reason="simulate"):
            return "callout: simulate"
        case _:
            return ""


def fate(run: Run) -> str:
    """The way of the store from step to step; what repeats is counted."""
    told: list[tuple[str, int, int, int]] = []
    for record in run.records:
        for event in record.events:
            words = _words(event)
            if not words:
                continue
            if told and told[-1][0] == words:
                told[-1] = (words, told[-1][1] + 1, told[-1][2], record.index)
            else:
                told.append((words, 1, record.index, record.index))
    rows = [("steps", "", "")]
    rows += [(f"{a}-{b}" if a != b else f"{a}", f"{count} x", words) for words, count, a, b in told]
    return "\n".join(aligned(rows))


def totals(run: Run) -> Counter[str]:
    """Trace faults, retranslations and simulated stores of a run."""
    return Counter(words for record in run.records for event in record.events if (words := _words(event)))


def cycles(run: Run) -> int:
    """What they cost: a trap for a trace fault, a callout for a simulated store, as this machine charges them."""
    costs = run.vm.costs
    found = totals(run)
    return found["trace fault"] * costs.trace_fault + found["callout: simulate"] * costs.callout


def thresholds(*guilty_after: int, count: int = EDITS) -> str:
    """The same guest with translators that lose their patience sooner or later; 0: never."""
    rows = [("guilty after", "trace faults", "simulated", "cycles")]
    for number in guilty_after:
        run = edits(count, guilty_after=number)
        found = totals(run)
        simulated, spent = found["callout: simulate"], cycles(run)
        rows.append((str(number) if number else "never", f"{found['trace fault']}", f"{simulated}", f"{spent:,}"))
    return "\n".join(aligned(rows))


def how_many_faults(count: int = EDITS) -> Prediction:
    """Before the loop runs: how often will its store trap?"""
    found: list[int] = []

    def right() -> int:
        found.append(totals(edits(count))["trace fault"])
        faults = found[0]
        return 0 if faults == count else 1 if faults > 1 else 2 if faults else 3

    return Prediction(
        f"A loop of the kernel writes the same entry of its page table {count} times. The page is traced: the VMM has "
        "to know. How many of these stores trap?",
        (f"All {count}.", "The first few.", "The first one.", "None: the translator has seen what is coming."),
        right,
        lambda: f"{found[0]} traps. Then the store was translated anew, into a callout.",
    )
