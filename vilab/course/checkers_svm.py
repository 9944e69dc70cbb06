"""Exercise of lesson 04: what exits. The judge is the processor in guest mode.

::

    intercepts(codes) ──> five words ──> a real VMCB ──> VMRUN ──> each kind of event, one after another
                                                                      exit? wanted?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vilab.course import exercise_steps as steps
from vilab.course.exercise_guest import BASE, SCRATCH, GuestMachine
from vilab.course.exercise_student import call, whole_number
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.events import EventLog, VmExit
from vilab.vmm import svm_exits, vmcb
from vilab.vmm.engine_svm import SvmEngine
from vilab.vmm.records import StepRecord
from vilab.vmm.vm import VirtualMachine
from vilab.vmm.vmcb_build import refused_because
from vilab.x86.assemble import assemble

EVENTS: Mapping[int, str] = {
    0x00: "mov eax, cr0", 0x03: "mov eax, cr3", 0x10: "mov cr0, edx", 0x13: "mov cr3, eax", 0x27: "mov eax, dr7",
    0x37: "mov dr7, esi", 0x40: "div ebp", 0x46: "ud2", 0x66: "sidt [ebx]", 0x67: "sgdt [ebx]", 0x69: "str ax",
    0x6A: "lidt [ebx]", 0x6E: "rdtsc", 0x70: "pushf", 0x71: "popf", 0x72: "cpuid", 0x75: "int 0x80",
    0x78: "hlt", 0x79: "invlpg [ebx]",
}  # fmt: skip
"""Exit code -> an instruction that causes it."""

Intercepts = Callable[[Sequence[int]], Mapping[str, int]]

FIRST_WANTED = ((0x80, 0x72, 0x78), (0x80, 0x13, 0x72, 0x78, 0x6E))
OTHER_WANTED = (
    (0x80, 0x00, 0x03, 0x10, 0x13, 0x27, 0x37), (0x80, 0x40, 0x46, 0x75), (0x80, 0x66, 0x67, 0x69, 0x6A, 0x70, 0x71),
    (0x79, 0x6E), tuple(EVENTS),
)  # fmt: skip


class WordsEngine(SvmEngine):
    """Hardware assist with intercept words that somebody else has filled."""

    def __init__(self, vm: VirtualMachine, words: Mapping[str, int]) -> None:
        super().__init__(vm)
        self._words = dict(words)
        self.intercepts = tuple(
            entry.reason
            for entry in svm_exits.INTERCEPTS.values()
            if words[vmcb.INTERCEPT_FIELDS[entry.word]] >> entry.bit & 1
        )

    def control_area(self) -> vmcb.Values:
        return super().control_area() | self._words


def _run_event(text: str, words: Mapping[str, int]) -> StepRecord:
    """One instruction in guest mode with these words."""
    gpr = {"ebx": BASE + SCRATCH, "edx": 0x11, "esi": 0x400}
    vm = GuestMachine(
        assemble(text, BASE).code,
        "svm",
        gpr=gpr,
        log=EventLog(keep=True),
        make_engine=lambda vm: WordsEngine(vm, words),
    )
    record = next(steps.walk(vm, 1))
    vm.close()
    return record


def check_intercepts(intercepts: Intercepts, wanted: Sequence[Sequence[int]] = FIRST_WANTED) -> Feedback:
    """``intercepts(codes)``: the five words of a VMCB, by field name, such that just these exits happen.

    Every event of ``EVENTS`` is tried in guest mode. Raises ``WrongAnswer`` where one exits that should not, or does
    not that should, or where the processor would refuse the block.
    """
    for codes in wanted:
        words_text = f"intercepts([{', '.join(f'0x{code:02x}' for code in codes)}])"
        words = _words(call(intercepts, list(codes), said=words_text), words_text)
        refused = refused_because({**words, "efer": vmcb.EFER_SVME, "guest_asid": 1, "cr0": 0x11})
        if refused:
            raise WrongAnswer(
                f"With what {words_text} returned, VMRUN refuses the VMCB: {'; '.join(refused)}.", _shown(words)
            )
        _nothing_else(words, codes, words_text)
        for code, text in EVENTS.items():
            record = _run_event(text, words)
            exits = [e.exit_code for e in record.events if isinstance(e, VmExit) and e.exit_code != svm_exits.NPF]
            if exits != ([code] if code in codes else []):
                entry = svm_exits.EXITS[code]
                field = vmcb.INTERCEPT_FIELDS[entry.word]
                raise WrongAnswer(
                    f"{words_text}: {text} ({entry.reason}, exit code 0x{code:02x}) "
                    + ("is wanted and does not exit." if code in codes else "exits and is not wanted."),
                    (*steps.lines([record]), *_shown(words),
                     f"0x{code:02x} = 32 * {entry.word} + {entry.bit}: bit {entry.bit} of {field}."),
                )  # fmt: skip
    return right(
        f"{len(wanted)} VMCBs, {len(EVENTS)} kinds of events in each: those that are wanted exit, and no other."
    )


def _nothing_else(words: Mapping[str, int], codes: Sequence[int], words_text: str) -> None:
    """Bits for what is not tried."""
    for entry in svm_exits.INTERCEPTS.values():
        bit = words[vmcb.INTERCEPT_FIELDS[entry.word]] >> entry.bit & 1
        if bit and entry.code not in codes and entry.code not in (*EVENTS, svm_exits.VMRUN):
            raise WrongAnswer(
                f"{words_text} asks for exit code 0x{entry.code:02x} ({entry.reason}), which is not wanted.",
                _shown(words),
            )


def _words(value: object, words_text: str) -> dict[str, int]:
    if not isinstance(value, Mapping) or set(value) != set(vmcb.INTERCEPT_FIELDS):
        names = ", ".join(vmcb.INTERCEPT_FIELDS)
        raise WrongAnswer(f"{words_text} returned {str(value)[:80]}; a dictionary of five words is wanted: {names}.")
    words = {name: whole_number(value[name], f"{words_text}[{name!r}]") for name in vmcb.INTERCEPT_FIELDS}
    for name, word in words.items():
        if not 0 <= word < 1 << 32:
            raise WrongAnswer(f"{words_text}: {name} is {word:#x}, which is no 32-bit word.")
    return words


def _shown(words: Mapping[str, int]) -> tuple[str, ...]:
    return columns([(name, f"{word:08x}", f"{word:032b}") for name, word in words.items()])
