"""The checkers: they accept what is right however it is written, and answer a mistake with the step that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.exercises import answers
from vilab.course import checkers_chaining as chaining
from vilab.course import checkers_critical as critical
from vilab.course import checkers_nested as nested
from vilab.course import checkers_rings as rings
from vilab.course import checkers_shadow as shadow
from vilab.course import checkers_svm as svm
from vilab.course import checkers_translation as translation
from vilab.course.feedback import Feedback, WrongAnswer
from vilab.x86.flags import IOPL, after_popf

ALL_RINGS = (0, 1, 2, 3)
EVERY_INSTRUCTION = rings.INSTRUCTIONS + rings.MORE_INSTRUCTIONS


def wrong(check: Callable[..., Feedback], *arguments: Any, **options: Any) -> Feedback:
    """The feedback to an answer that has to be refused."""
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments, **options)
    return caught.value.feedback


RIGHT: dict[str, Callable[[], Feedback]] = {
    "traps": lambda: rings.check_traps(answers.traps, ALL_RINGS, (0, 1, 2, 3), EVERY_INSTRUCTION),
    "emulate": lambda: rings.check_emulate(answers.emulate, (rings.KERNEL, *rings.OTHER_PROGRAMS)),
    "popf": lambda: critical.check_popf(lambda e, p, c: after_popf(e, p, c), ALL_RINGS, ALL_RINGS, seed=3),
    "pill": lambda: critical.check_pill(
        answers.PILL, ("trap",), ("bare", "bt", "svm"), (critical.PLAIN, *critical.OTHERS)
    ),
    "units": lambda: translation.check_units(
        answers.unit_size, (*translation.SMALL_GUESTS, "shell", *translation.ODD_CODE)
    ),
    "translation": lambda: translation.check_translation(
        answers.translate, translation.FIRST_GUESTS + translation.OTHER_GUESTS
    ),
    "callouts": lambda: chaining.check_callouts(answers.callouts, chaining.FIRST_GUESTS + chaining.OTHER_GUESTS),
    "intercepts": lambda: svm.check_intercepts(answers.intercepts, svm.FIRST_WANTED + svm.OTHER_WANTED),
    "shadow entry": lambda: shadow.check_shadow_entry(answers.shadow_entry, tuple(shadow.GUESTS)),
    "kind of fault": lambda: shadow.check_kind_of_fault(answers.kind_of_fault, tuple(shadow.GUESTS)),
    "nested walk": lambda: nested.check_nested_walk(answers.nested_walk, ("shell", "large pages"), None),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_passes_all_cases(name: str) -> None:
    feedback = RIGHT[name]()
    assert feedback.right
    assert not feedback.trace


# Lesson 01 -----------------------------------------------------------------------------------------------------------


def test_who_believes_that_popf_traps_sees_it_run() -> None:
    feedback = wrong(rings.check_traps, lambda i, cpl, iopl: answers.traps("cli" if i == "popf" else i, cpl, iopl))
    assert "'popf', 1, 0" in feedback.sentence
    assert "runs it without a trap" in feedback.sentence
    assert any("popfd" in line and "native" in line for line in feedback.trace)


def test_who_forgets_that_cli_asks_for_iopl_sees_the_trap() -> None:
    feedback = wrong(rings.check_traps, lambda i, cpl, iopl: i != "cli" and answers.traps(i, cpl, iopl))
    assert "raises #GP" in feedback.sentence
    assert any("#GP to the guest's handler" in line for line in feedback.trace)


def without_moving_eip(guest: rings.Guest, instruction: Any) -> None:
    eip = guest.eip
    answers.emulate(guest, instruction)
    guest.eip = eip


def test_an_instruction_that_would_trap_for_ever_is_named() -> None:
    feedback = wrong(rings.check_emulate, without_moving_eip)
    assert "mov cr3, eax" in feedback.sentence
    assert "trap again for ever" in feedback.sentence
    assert any(line.startswith("EIP") for line in feedback.trace)


def test_a_guest_that_should_sleep_is_shown_awake() -> None:
    def never_sleeps(guest: rings.Guest, instruction: Any) -> str | None:
        answer = answers.emulate(guest, instruction)
        guest.halted = False
        return answer

    assert "halted on the bare machine" in wrong(rings.check_emulate, never_sleeps).sentence


def test_emulating_for_ring_3_passes_the_kernel_only() -> None:
    def for_everybody(guest: rings.Guest, instruction: Any) -> str | None:
        cpl, guest.cpl = guest.cpl, 0
        answer = answers.emulate(guest, instruction)
        guest.cpl = cpl
        return answer

    assert rings.check_emulate(for_everybody).right
    feedback = wrong(rings.check_emulate, for_everybody, rings.OTHER_PROGRAMS)
    assert "#GP handler" in feedback.sentence


def test_a_lost_arithmetic_flag_is_named() -> None:
    def clears_zf(guest: rings.Guest, instruction: Any) -> str | None:
        answer = answers.emulate(guest, instruction)
        guest.eflags &= ~0x40
        return answer

    assert "ZF" in wrong(rings.check_emulate, clears_zf, rings.OTHER_PROGRAMS).sentence


@pytest.mark.parametrize(
    "spoil",
    [
        lambda guest: setattr(guest, "cr3", None),
        lambda guest: guest.gpr.pop("edi"),
        lambda guest: setattr(guest, "eip", "x"),
    ],
)
def test_a_guest_that_was_broken_is_a_sentence(spoil: Callable[[rings.Guest], None]) -> None:
    assert "emulate(guest, 'mov cr3, eax')" in wrong(rings.check_emulate, lambda guest, _: spoil(guest)).sentence


# Lesson 02 -----------------------------------------------------------------------------------------------------------


def test_popf_that_forgets_iopl_is_shown_what_the_next_pushf_reads() -> None:
    feedback = wrong(critical.check_popf, lambda e, p, c: after_popf(e, p, c) & ~IOPL | p & IOPL)
    assert "IOPL differ" in feedback.sentence
    assert "next pushf" in feedback.trace[-1]


def test_popf_that_looks_at_cpl_only_passes_the_visible_cases() -> None:
    def cpl_only(eflags: int, popped: int, cpl: int) -> int:
        return after_popf(eflags & ~IOPL, popped, cpl) | (0 if cpl == 0 else eflags & IOPL)

    assert critical.check_popf(cpl_only).right
    assert "IF differ" in wrong(critical.check_popf, cpl_only, ALL_RINGS, ALL_RINGS).sentence


@pytest.mark.parametrize("pill", [
    "sidt [esp - 8]; mov eax, [esp - 6]; shr eax, 31; hlt", "smsw ax; shr eax, 5; and eax, 1; hlt",
])  # fmt: skip
def test_a_pill_that_trusts_a_number_fails_in_another_guest(pill: str) -> None:
    assert critical.check_pill(pill).right
    feedback = wrong(critical.check_pill, pill, surroundings=critical.OTHERS)
    assert "on the bare machine" in feedback.sentence
    assert any(line.startswith("EAX") for line in feedback.trace)


@pytest.mark.parametrize(("pill", "says"), [
    ("mvo eax, 1", "cannot be assembled"), ("jmp $", "still running"), ("ud2", "did not end in its own hlt"),
    ("", "did not end in its own hlt"), ("jmp 0xf0000000", "did not end in its own hlt"),
    (7, "assembly text"),
    ("mov eax, 1; hlt", "0 was wanted"),
])  # fmt: skip
def test_a_pill_that_is_no_pill_is_a_sentence(pill: Any, says: str) -> None:
    assert says in wrong(critical.check_pill, pill).sentence


# Lesson 03 -----------------------------------------------------------------------------------------------------------


def test_a_unit_without_end_is_shown_where_the_translators_ends() -> None:
    feedback = wrong(translation.check_units, lambda lines: len(lines))
    assert any("<- the translator's unit ends" in line for line in feedback.trace)


def test_a_unit_that_ends_at_every_privileged_instruction_fails_on_the_kernel() -> None:
    def ends_early(lines: Any) -> int:
        early = [at for at, line in enumerate(lines, 1) if line.mnemonic in ("cli", "sti", "out", "in", "lgdt")]
        return min([answers.unit_size(lines), *early])

    assert translation.check_units(ends_early).right
    wrong(translation.check_units, ends_early, ("shell",))


def changed(start: str, text: str) -> Callable[[str, int, int], str]:
    """The right translation, but for one kind of instruction."""
    return lambda instruction, at, cs: (
        text.format(at=at, cs=cs) if instruction.startswith(start) else answers.translate(instruction, at, cs)
    )


@pytest.mark.parametrize(("start", "text", "says"), [
    ("cli", "and dword ptr ss:[{at}], 0xfffffdff", "EFLAGS"), ("sti", "mov eax, 0x200; mov ss:[{at}], eax", "EAX"),
    ("push", "push cs", "stack top"), ("mov", "mov eax, {cs}", "ECX"), ("cli", "nop", "EFLAGS"),
    ("cli", "cli", "EIP"), ("cli", "jmp $", "without jumps"), ("cli", "int3", "without jumps"), ("cli", "", "bytes"),
    ("cli", "mov dword ptr ss:[0xf0400000], 0", "EIP"), ("cli", "clr", "cannot be assembled"),
])  # fmt: skip
def test_in_cache_code_that_the_guest_would_notice(start: str, text: str, says: str) -> None:
    assert says in wrong(translation.check_translation, changed(start, text)).sentence


def test_in_cache_code_that_trusts_ds_fails_where_ds_is_not_flat() -> None:
    through_ds = changed("cli", "mov dword ptr [{at}], 0")
    assert translation.check_translation(through_ds).right
    wrong(translation.check_translation, through_ds, translation.OTHER_GUESTS)


def test_a_table_of_returns_without_collisions_fails_on_two_in_one_slot() -> None:
    def never_collides(transfers: Any) -> list[bool]:
        keys = [(t.how, t.to) if t.how != "direct" else (t.unit, t.to) for t in transfers]
        return [key not in keys[:at] for at, key in enumerate(keys)]

    assert chaining.check_callouts(never_collides).right
    feedback = wrong(chaining.check_callouts, never_collides, [chaining.TWO_RETURNS_ONE_SLOT])
    assert "ret_miss" in feedback.sentence
    assert sum("ret_miss" in line for line in feedback.trace) >= 2


@pytest.mark.parametrize("answer", [None, 3, [True], "yes"])
def test_callouts_of_the_wrong_shape_are_a_sentence(answer: object) -> None:
    assert "is wanted" in wrong(chaining.check_callouts, lambda _: answer).sentence


# Lesson 04 -----------------------------------------------------------------------------------------------------------


def test_a_vmcb_without_vmrun_is_refused() -> None:
    def forgets(codes: Any) -> dict[str, int]:
        words = answers.intercepts(codes)
        return words if 0x80 in codes else words | {"intercept_misc2": words["intercept_misc2"] & ~1}

    assert svm.check_intercepts(forgets).right
    assert "VMRUN itself" in wrong(svm.check_intercepts, forgets, svm.OTHER_WANTED).sentence


def test_a_missing_intercept_bit_is_shown_by_the_instruction_that_does_not_exit() -> None:
    feedback = wrong(svm.check_intercepts, lambda codes: answers.intercepts([c for c in codes if c != 0x72]))
    assert "cpuid" in feedback.sentence
    assert "does not exit" in feedback.sentence
    assert feedback.trace[-1] == "0x72 = 32 * 3 + 18: bit 18 of intercept_misc1."


@pytest.mark.parametrize("answer", [None, {}, {"intercept_cr": 1}, dict.fromkeys(answers.intercepts([]), 1 << 32)])
def test_words_of_the_wrong_shape_are_a_sentence(answer: object) -> None:
    wrong(svm.check_intercepts, lambda _: answer)


def test_a_flat_walk_is_shown_the_two_dimensional_one() -> None:
    def flat(gva: int, cr3: int, ncr3: int, read: Callable[[int], int]) -> int:
        entry = read((read(cr3 + (gva >> 22) * 4) & ~0xFFF) + (gva >> 12 & 0x3FF) * 4)
        return entry & ~0xFFF | gva & 0xFFF

    feedback = wrong(nested.check_nested_walk, flat)
    assert sum("nested" in line for line in feedback.trace) == 6
    assert sum("guest's" in line for line in feedback.trace) == 2


def test_a_walk_that_knows_no_large_pages_passes_the_visible_cases() -> None:
    def small_only(gva: int, cr3: int, ncr3: int, read: Callable[[int], int]) -> int | str:
        return answers.nested_walk(gva, cr3, ncr3, lambda mpa: read(mpa) & ~0x80)

    assert nested.check_nested_walk(small_only).right
    wrong(nested.check_nested_walk, small_only, ["large pages"])


@pytest.mark.parametrize("read_what", [1 << 40, -4, "x", None, 1.5])
def test_reading_no_machine_memory_is_a_sentence(read_what: Any) -> None:
    assert "read(" in wrong(nested.check_nested_walk, lambda _gva, _cr3, _ncr3, read: read(read_what)).sentence


def test_the_places_of_the_nested_walk_are_where_the_memory_map_has_them() -> None:
    """Another judge: the same dword by way of the guest's tables and of the pmap."""
    from vilab.guests import load
    from vilab.vmm.vm import VirtualMachine

    vm = VirtualMachine(load("shell", memory_bytes=16 << 20), "svm", 16 << 20)
    vm.engine.run(25_000_000)
    tables = nested._tables("shell")
    there = [place for place in tables.places if isinstance(place.answer, int)]
    assert len(there) >= 10
    for place in there:
        assert isinstance(place.answer, int)
        if place.gva & 0xFFF <= 0xFFC:
            assert tables.memory[place.answer : place.answer + 4] == vm.engine.vcpu.read(place.gva, 4)
    vm.close()


# Lesson 05 -----------------------------------------------------------------------------------------------------------


def spoilt(**other: Any) -> Callable[..., int]:
    """The right shadow entry, of arguments that were changed first."""

    def entry(pde: int, pte: int, pmap: Any, traced: Any) -> int:
        given = {"pde": pde, "pte": pte, "pmap": pmap, "traced": traced}
        return answers.shadow_entry(**{name: other.get(name, lambda value: value)(given[name]) for name in given})

    return entry


@pytest.mark.parametrize(("answer", "guest", "says"), [
    (spoilt(pmap=lambda pmap: {ppn: ppn for ppn in pmap}), "tour", "the pmap has frame"),
    (spoilt(pte=lambda pte: pte | 0x40), "tour", "allows something else"),
    (spoilt(traced=lambda traced: frozenset()), "rights", "allows something else"),
    (spoilt(pde=lambda pde: pde | 7), "rights", "allows something else"),
    (spoilt(pte=lambda pte: pte | 0x20), "rights", "only a fault can tell"),
    (lambda *_: None, "tour", "a whole number is wanted"),
])  # fmt: skip
def test_a_shadow_entry_that_forgets_something_is_shown_the_monitors(answer: Any, guest: str, says: str) -> None:
    feedback = wrong(shadow.check_shadow_entry, answer, (guest,))
    assert says in feedback.sentence
    if answer(1, 1, {0: 0}, frozenset()) is not None:
        assert any(line.startswith("shadow's") for line in feedback.trace)


def test_a_shadow_entry_by_the_table_alone_passes_the_visible_cases_and_no_more() -> None:
    careless = spoilt(pde=lambda pde: pde | 7)
    assert shadow.check_shadow_entry(careless).right
    wrong(shadow.check_shadow_entry, careless, ("rights",))


@pytest.mark.parametrize(("answer", "says"), [
    (lambda error, pde, pte, traced: answers.kind_of_fault(error, pde, 7 if error & 1 else pte, traced), "true fault"),
    (lambda error, pde, pte, traced: answers.kind_of_fault(error, pde, pte, False), "trace fault"),
    (lambda error, pde, pte, traced: answers.kind_of_fault(error | 2, pde, pte, traced), "hidden fault"),
])  # fmt: skip
def test_a_fault_that_is_taken_for_another_is_shown_with_what_came_of_it(answer: Any, says: str) -> None:
    feedback = wrong(shadow.check_kind_of_fault, answer, ("rights", "tour"))
    assert f"was a {says}" in feedback.sentence
    assert feedback.trace[-1].startswith("came of it")


def test_who_believes_the_error_codes_p_bit_is_refused() -> None:
    """P in the error code is the shadow's, and says nothing about the guest's entry."""

    def by_p(error: int, pde: int, pte: int, traced: bool) -> str:
        return shadow.TRUE_FAULT if error & 1 and not traced else answers.kind_of_fault(error, pde, pte, traced)

    wrong(shadow.check_kind_of_fault, by_p, ("rights", "tour"))


def test_another_word_than_the_three_is_a_sentence() -> None:
    assert "is wanted" in wrong(shadow.check_kind_of_fault, lambda *_: "page fault").sentence
