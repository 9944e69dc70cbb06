"""Exercises of lesson 03: where a unit ends, and code that replaces what the guest may not do. Judges: the
translator at work on the teaching kernel, and the processor.

``check_units``        the student's rule against every unit that a run has made
``check_translation``  the student's in-cache code inside the translator, in step with the same guest on bare metal
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from vilab.course import exercise_steps as steps
from vilab.course.exercise_guest import BASE, GuestMachine
from vilab.course.exercise_student import call, whole_number
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.errors import GuestFault, VilabError
from vilab.events import EventLog, UnitTranslated
from vilab.guests import load
from vilab.machine.registers import DS
from vilab.vmm.engine_bt import TranslationEngine
from vilab.vmm.in_cache import FLAGS_AT
from vilab.vmm.records import StepRecord
from vilab.vmm.translator import UNIT_INSTRUCTIONS, Mode, Translator
from vilab.vmm.vcpu import VcpuState
from vilab.vmm.vm import VirtualMachine
from vilab.x86.assemble import AssemblyError, assemble
from vilab.x86.decode import Instruction, Kind, disassemble

# Units ---------------------------------------------------------------------------------------------------------------


class Line(msgspec.Struct, frozen=True):
    """One instruction of the guest's code: ``c0101234  jne 0xc0101200``."""

    address: int
    size: int
    mnemonic: str
    operands: str

    def __repr__(self) -> str:
        return f"{self.address:08x}  {self.mnemonic} {self.operands}".rstrip()


SMALL_GUESTS = ("isprime", "straight25")
ODD_CODE = (
    "mov ecx, 3; again: dec eax; loop again; jecxz done; nop; done: hlt",
    "mov eax, 5; push eax; pop ecx; cli; sti; pushf; popf; mov eax, cr3; mov cr3, eax; rep movsb; nop; nop; nop; hlt",
    "xor eax, eax; int 0x80", "inc eax; ud2", "inc eax; call next; next: pop eax; hlt",
    "mov eax, offset_of; jmp eax; offset_of: hlt", "push cs; push there; retf; there: hlt",
)  # fmt: skip
"""What small guests do not have."""
KERNEL_UNTIL_NS = 40_000_000
SHOWN_BYTES = 15 * (UNIT_INSTRUCTIONS + 4)


@cache
def _units(guest: str) -> tuple[tuple[tuple[Line, ...], int], ...]:
    """(instructions from the unit's start on, how many of them the translator took), for every unit of a run."""
    log = EventLog(keep=True)
    if guest in ODD_CODE:
        vm: VirtualMachine = GuestMachine(assemble(guest, BASE).code, "bt", log=log)
        list(steps.walk(vm, 30))
    else:
        vm = VirtualMachine(load(guest, memory_bytes=16 << 20), "bt", 16 << 20, log=log)
        vm.engine.run(KERNEL_UNTIL_NS)
    found = []
    for event in log.of(UnitTranslated):
        code = event.guest_code
        for size in range(SHOWN_BYTES, 0, -16):  # what stands behind it, as far as it is mapped now
            try:
                code += vm.engine.vcpu.read(event.eip + len(code), size)
                break
            except GuestFault:
                continue
        lines = tuple(
            Line(i.address, i.size, i.mnemonic, i.operands)
            for i in disassemble(code, event.eip)[: UNIT_INSTRUCTIONS + 4]
        )
        found.append((lines, len(event.lines)))
    vm.close()
    return tuple(found)


def check_units(unit_size: Callable[[Sequence[Line]], int], guests: Sequence[str] = SMALL_GUESTS) -> Feedback:
    """``unit_size(lines)``: how many of these instructions belong to the unit that begins with the first.

    Asked for every unit that the translator makes of each guest. Raises ``WrongAnswer`` where it made another.
    """
    count = 0
    for guest in guests:
        for lines, size in _units(guest):
            words = f"unit_size(the code at {lines[0].address:08x})"
            said = whole_number(call(unit_size, lines, said=words), words)
            if said != size:
                raise WrongAnswer(
                    f"{words} returned {said}; the translator's unit has {size} instruction{'s' * (size != 1)}.",
                    _listing(lines, said, size),
                )
            count += 1
    return right(f"{count} units, each as the translator has made it.")


def _listing(lines: Sequence[Line], said: int, size: int) -> tuple[str, ...]:
    rows = []
    for number, line in enumerate(lines[: max(said, size) + 1], 1):
        ends = [who for who, at in (("your unit ends", said), ("the translator's unit ends", size)) if at == number]
        rows.append((str(number), repr(line), " and ".join(ends) and f"<- {' and '.join(ends)}"))
    return columns(rows)


# In-cache code -------------------------------------------------------------------------------------------------------

TRANSLATED = frozenset(("cli", "sti"))
MOST_BYTES = 48
Translate = Callable[[str, int, int], str]


class StudentTranslator(Translator):
    """The translator, with the student's code for CLI, STI and what reads CS into a register or onto the stack."""

    def __init__(self, base: Translator, translate: Translate) -> None:
        super().__init__(base._fetch, base._new_stub)
        self._students = translate

    def _in_cache(self, i: Instruction, tc: int, mode: Mode) -> bytes | None:
        reads_cs = (i.op == "push seg" and i.opcode == 0x0E) or (
            i.op == "mov from seg" and i.reg == 1 and i.modrm >= 0xC0
        )
        if i.op not in TRANSLATED and not reads_cs:
            return super()._in_cache(i, tc, mode)
        words = f"translate({i.text!r}, 0x{FLAGS_AT:x}, 0x{mode.cs:x})"
        text = call(self._students, i.text, FLAGS_AT, mode.cs, said=words)
        if not isinstance(text, str):
            raise WrongAnswer(f"{words} returned {text!r}; assembly text is wanted.")
        try:
            code = assemble(text, tc).code
        except AssemblyError as error:
            raise WrongAnswer(f"What {words} returned cannot be assembled: {error}.") from None
        self._refuse(words, code, tc)
        return code

    @staticmethod
    def _refuse(words: str, code: bytes, tc: int) -> None:
        if not 0 < len(code) <= MOST_BYTES:
            raise WrongAnswer(f"{words} makes {len(code)} bytes of code; 1 to {MOST_BYTES} are wanted.")
        instructions = disassemble(code, tc)
        for i in instructions:
            if i.kind not in (Kind.IDENT, Kind.SENSITIVE):
                raise WrongAnswer(f"{words} contains {i.text}: this code has to run straight through, without jumps.")
        if sum(i.size for i in instructions) != len(code):
            raise WrongAnswer(f"{words} ends in the middle of an instruction.")


class TranslationGuest(msgspec.Struct, frozen=True):
    """``data_base``: where the guest's DS begins. Kernels with a DS of their own are rare, and exist."""

    text: str
    data_base: int = 0
    eflags: int = 0


FIRST_GUESTS = (
    TranslationGuest("cli; pushf; pop eax; sti; pushf; pop ebx; cli; hlt"),
    TranslationGuest("push cs; pop eax; mov ecx, cs; hlt"),
)
OTHER_GUESTS = (
    TranslationGuest("mov eax, 5; cmp eax, 5; cli; setz bl; stc; sti; setc bh; cmp eax, 9; cli; setl cl; sti; hlt"),
    TranslationGuest("mov eax, 0x1111; mov ecx, 0x2222; mov edx, 0x3333; mov ebx, 0x4444; cli; sti; push cs; hlt"),
    TranslationGuest("stc; mov esi, cs; mov edi, cs; mov ebp, cs; setc al; push cs; pop edx; hlt", eflags=0x200),
    TranslationGuest("cli; pushf; pop eax; sti; pushf; pop ebx; mov dword ptr [0x500], ebx; hlt", data_base=0x11000),
)
"""Flags and registers that must live, and a DS that is not flat."""


class _Machine(GuestMachine):
    def __init__(self, guest: TranslationGuest, translate: Translate | None) -> None:
        self._data_base = guest.data_base

        def make(vm: VirtualMachine) -> TranslationEngine:
            assert translate is not None
            engine = TranslationEngine(vm)
            engine.translator = StudentTranslator(engine.translator, translate)
            return engine

        super().__init__(
            assemble(guest.text, BASE).code, "bare" if translate is None else "bt", eflags=guest.eflags,
            log=EventLog(keep=True), make_engine=None if translate is None else make,
        )  # fmt: skip

    def initial_state(self) -> VcpuState:
        state = super().initial_state()
        selector, _, limit, flags = state.segments[DS]
        state.segments[DS] = (selector, self._data_base, limit, flags)
        return state


@cache
def _bare(guest: TranslationGuest) -> tuple[StepRecord, ...]:
    vm = _Machine(guest, None)
    records = tuple(steps.walk(vm, 100))
    vm.close()
    return records


def check_translation(translate: Translate, guests: Sequence[TranslationGuest] = FIRST_GUESTS) -> Feedback:
    """``translate(instruction, flags_at, cs)``: assembly text that runs in ring 1, in the cache, in its place.

    Each guest runs translated so and, beside it, on the bare machine. Raises ``WrongAnswer`` at the first step after
    which the guest sees a difference.
    """
    count = 0
    for guest in guests:
        expected = _bare(guest)
        count += len(expected)
        _compare(guest, translate, expected)
    return right(f"{count} steps of {len(guests)} guests, each as on the bare machine.")


def _compare(guest: TranslationGuest, translate: Translate, expected: Sequence[StepRecord]) -> None:
    vm = _Machine(guest, translate)
    done: list[StepRecord] = []
    try:
        before = vm.engine.guest_registers()
        for record, theirs in zip(steps.walk(vm, len(expected)), expected, strict=False):
            done.append(record)
            names = steps.differences(record.guest, theirs.guest)
            if names:
                states = {"before": before, "translated": record.guest, "bare machine": theirs.guest}
                raise WrongAnswer(
                    f"After {record.mnemonic} {record.operands}".rstrip()
                    + f" at {record.eip:08x} the guest sees a difference in {', '.join(names)}.",
                    (*steps.lines(done), *steps.table(states, names), *_cache_listing(vm, record.eip)),
                )
            before = record.guest
        if len(done) < len(expected):
            raise WrongAnswer("The translated guest stops here; on the bare machine it goes on.", steps.lines(done))
    except WrongAnswer:
        raise
    except VilabError as error:
        raise WrongAnswer(f"The translated guest came to an end: {error}", steps.lines(done)) from None
    finally:
        vm.close()


def _cache_listing(vm: VirtualMachine, eip: int) -> tuple[str, ...]:
    """What runs in the place of the guest's instruction at ``eip``."""
    for unit in reversed(vm.log.of(UnitTranslated)):
        for start, size, kind, at, tc_size in unit.lines:
            if start == eip and kind == "in_cache":
                source = disassemble(unit.guest_code[eip - unit.eip : eip - unit.eip + size], eip)[0].text
                there = disassemble(unit.tc_code[at - unit.tc_address : at - unit.tc_address + tc_size], at)
                rows = [
                    (f"{eip:08x}" * (not n), source * (not n), f"{i.address:08x}", i.text) for n, i in enumerate(there)
                ]
                return columns([("guest", "", "cache", ""), *rows])
    return ()
