"""The checkers of lessons 08 and 09: right answers written another way pass, each typical mistake is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import pytest

from vilab.course import checkers_memory as memory
from vilab.course import checkers_sharing as sharing
from vilab.course.feedback import Feedback, WrongAnswer


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


# 8a --------------------------------------------------------------------------------------------------------------


def machine_address(gva: int, cr3: int, read: Callable[[int], int], pmap: Mapping[int, int]) -> int | str:
    at = cr3 >> 12 << 12
    for shift in (22, 12):
        entry = read(at | (gva >> shift & 0x3FF) << 2)
        if entry % 2 == 0:
            return "page fault"
        at = entry >> 12 << 12
    return pmap[at >> 12] * 4096 + gva % 4096 if at >> 12 in pmap else "no frame"


def test_a_walk_through_tables_and_pmap_passes_all_guests() -> None:
    assert memory.check_machine_address(machine_address, tuple(memory.GUESTS)).right


def test_cases_lead_to_frames_to_pages_without_one_and_nowhere() -> None:
    for guest in memory.GUESTS:
        kinds = {case.due if isinstance(case.due, str) else "mpa" for case in memory.walked(guest).cases}
        assert kinds == {"mpa", memory.PAGE_FAULT, memory.NO_FRAME}


def test_who_takes_the_guests_physical_address_for_the_machines_sees_the_pmap() -> None:
    identity = {ppn: ppn for ppn in range(1 << 20)}
    feedback = wrong(
        memory.check_machine_address, lambda gva, cr3, read, pmap: machine_address(gva, cr3, read, identity)
    )
    assert any(line.startswith("pmap") for line in feedback.trace)


def test_who_confuses_the_two_faults_is_told() -> None:
    def one_fault(*given: Any) -> int | str:
        found = machine_address(*given)
        return "page fault" if found == "no frame" else found

    assert "it is 'no frame'" in wrong(memory.check_machine_address, one_fault).sentence


# 8b --------------------------------------------------------------------------------------------------------------


def cost(states: Mapping[Any, str], frames: Mapping[Any, int], accesses: Sequence[Any], last_is_free: bool = True,
         reads_are_free: bool = False) -> tuple[int, int, int]:  # fmt: skip
    now, bill = {page: frames.get(page, state) for page, state in states.items()}, [0, 0, 0]
    for page, store in accesses:
        state = now[page]
        if state == "private" or (isinstance(state, int) and not store) or (reads_are_free and not store):
            continue
        alone = isinstance(state, int) and list(now.values()).count(state) == 1
        if not (alone and last_is_free):
            bill[0] += 1
            bill[2 if state == "swapped" else 1] += 1 if state == "swapped" else 4096
        now[page] = "private"
    return bill[0], bill[1], bill[2]


def test_a_right_bill_passes_random_accesses() -> None:
    assert memory.check_cost(cost, memory.FIRST_TRACES + memory.random_traces(seed=1)).right


def test_who_lets_reads_be_free_sees_the_access_that_is_not() -> None:
    feedback = wrong(memory.check_cost, lambda *given: cost(*given, reads_are_free=True))
    assert "on a host it is (1, 4096, 0)" in feedback.sentence
    assert any(line.startswith("read of vm1") for line in feedback.trace)


def test_who_copies_for_the_last_reader_passes_the_visible_cases_only() -> None:
    def copies(*given: Any) -> tuple[int, int, int]:
        return cost(*given, last_is_free=False)

    assert memory.check_cost(copies).right
    assert wrong(memory.check_cost, copies, memory.random_traces()).trace


# 9a --------------------------------------------------------------------------------------------------------------


def consider(table: MutableMapping[Any, Any], vm: int, ppn: int, page: Any, page_hash: Any, rehash: bool = True) -> str:
    key = page_hash(page(vm, ppn))
    shared, owner = table.get(key, (False, None))
    if owner is None or (rehash and not shared and page_hash(page(*owner)) != key):
        table[key] = (False, (vm, ppn))
        return "hint"
    if owner == (vm, ppn):
        return "nothing"
    if page(*owner) != page(vm, ppn):
        return "different"
    table[key] = (True, owner)
    return "shared"


def test_a_search_that_is_right_passes_guests_pages_and_a_poor_hash() -> None:
    assert sharing.check_consider(consider, sharing.FIRST_SEARCHES + sharing.other_searches(seed=2)).right


def test_the_hidden_cases_have_every_outcome() -> None:
    words = {outcome.word for search in sharing.other_searches() for outcome in sharing.outcomes(search)[0]}
    assert words == {sharing.HINT, sharing.SHARED, sharing.DIFFERENT, sharing.NOTHING}


def test_who_trusts_an_old_hint_sees_the_store() -> None:
    feedback = wrong(sharing.check_consider, lambda *given: consider(*given, rehash=False))
    assert any(line.startswith("store to vm 1") for line in feedback.trace)


def test_who_trusts_the_hash_passes_the_visible_cases_only() -> None:
    def trusting(table: Any, vm: int, ppn: int, page: Any, page_hash: Any) -> str:
        found = consider(table, vm, ppn, page, page_hash)
        return "shared" if found == "different" else found

    assert sharing.check_consider(trusting).right
    assert "the host says 'different'" in wrong(sharing.check_consider, trusting, sharing.other_searches()).sentence


# 9b --------------------------------------------------------------------------------------------------------------


def why_different(one: sharing.Clone, other: sharing.Clone, tables: bool = True) -> dict[int, str]:
    found = {ppn: sharing.OTHER for ppn in range(one.pages) if one.page(ppn) != other.page(ppn)}
    for guest in (one, other):
        directory = [guest.read((guest.cr3 & ~0xFFF) + 4 * at) for at in range(768)]
        for pde in directory:
            entries = [guest.read((pde & ~0xFFF) + 4 * at) for at in range(1024)] if pde & 5 == 5 else []
            for ppn in (pte >> 12 for pte in entries if pte & 5 == 5):
                if found.get(ppn) == sharing.OTHER:
                    found[ppn] = sharing.PROGRAM
    for guest in (one, other) if tables else ():
        for ppn in (guest.cr3 >> 12, *(guest.read((guest.cr3 & ~0xFFF) + 4 * at) >> 12 for at in range(768))):
            if ppn in found and ppn:
                found[ppn] = sharing.TABLES
    return found


def test_the_right_reasons_pass_every_pair() -> None:
    assert sharing.check_why_different(why_different, tuple(sharing.PAIRS)).right


def test_who_forgets_the_tables_is_shown_a_directory() -> None:
    feedback = wrong(sharing.check_why_different, lambda a, b: why_different(a, b, tables=False), ("programs",))
    assert "is 'tables'" in feedback.sentence
    assert any(line.startswith("directories") for line in feedback.trace)


@pytest.mark.parametrize(
    ("answer", "says"),
    [(lambda a, b: {}, "not in your answer"), (lambda a, b: 5, "a dict"),
     (lambda a, b: {1: "program"}, "the same in both"),
     (lambda a, b: {"x": "program", **why_different(a, b)}, "page numbers")],
)  # fmt: skip
def test_another_kind_of_answer_is_a_sentence(answer: Any, says: str) -> None:
    assert says in wrong(sharing.check_why_different, answer).sentence
