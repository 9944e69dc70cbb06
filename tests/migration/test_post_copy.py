"""Post-copy: the machine runs before its memory is there, sees nothing of it, and is off if the rest cannot come."""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.migration.page_guests import Guest
from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError, GuestStopped, VmmBug
from vilab.memory.managed_pmap import PmapState
from vilab.memory.page_state import PageState
from vilab.migration import post_copy_messages as say
from vilab.migration.page_stream import PageBatch, encode
from vilab.migration.post_copy_destination import PostCopyDestination
from vilab.migration.post_copy_source import PostCopySource

PAGES = 12
MESSAGES = say.PostBegin | say.PostPages | say.PostNeed | say.PostAllHere | say.PostFailed


def numbers(*ppns: int) -> bytes:
    return np.array(ppns, "<u4").tobytes()


class Machines:
    """A machine at the source, with its memory from ``content``; a link that delivers when it is told to.

    ``here``: pages that pre-copy has brought, and nobody wrote since; ``old``: some that were written since.
    """

    def __init__(
        self, content: dict[int, bytes], here: set[int] = frozenset(), old: set[int] = frozenset(), batch_pages: int = 2
    ) -> None:
        self.there, self.new = Guest(PAGES), Guest(PAGES, list(range(3 * PAGES))[::-1])
        for ppn, page in content.items():
            self.there.fill(ppn, page)
        for ppn in here:
            self.new.fill(ppn, content.get(ppn, b""))
        for ppn in old - here:
            self.new.fill(ppn, b"old")
        self.to_new: deque = deque()
        self.to_there: deque = deque()
        self.said: list = []
        self.stopped: list[str] = []
        self.cut = False
        self.now_ns = self.turns = 0
        missing = np.array(sorted(set(range(PAGES)) - here), np.int64)
        self.source = PostCopySource(
            "vm", "esx1", "esx2", "s1", self.there.pmap, missing, self.send_to_new, batch_pages=batch_pages
        )
        self.destination = PostCopyDestination(
            "vm", "esx1", "esx2", "s1", self.new.pmap, self.new, self.send_to_there, self.wait, self.stopped.append,
            lambda: self.now_ns,
        )  # fmt: skip
        self.states = self.there.pmap.save_state()
        self.frozen = self.there.pmap.content()

    def begin(self) -> PmapState:
        self.source.begin()
        message, _ = self.to_new.popleft()
        wanted = self.destination.begin(message, self.states)
        self.new.pmap.supply = self.destination
        return wanted

    # The link -----------------------------------------------------------------------------------------------------

    def send_to_new(self, message, body) -> None:
        if not self.cut:
            self.to_new.append((self.travel(message), b"".join(body)))

    def send_to_there(self, message, body) -> None:
        assert not body
        if not self.cut:
            self.said.append(message)
            self.to_there.append(self.travel(message))

    def travel(self, message):
        return msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=MESSAGES)

    def deliver(self) -> bool:
        """The oldest message of each direction. False: there is none."""
        some = bool(self.to_new or self.to_there)
        if self.to_there:
            self.source.received(self.to_there.popleft())
        if self.to_new:
            self.destination.received(*self.to_new.popleft())
        return some

    def wait(self) -> None:
        self.now_ns += 1000
        self.turns += 1
        assert self.turns < 1000, "somebody waits for ever"
        if self.cut:
            self.lost()
            return
        self.source.pump(0)
        if not self.deliver():
            self.source.pump(1)

    def lost(self) -> None:
        self.cut = True
        self.to_new.clear(), self.to_there.clear()
        for side in (self.source, self.destination):
            side.lost("The cable was pulled.")

    def finish(self) -> None:
        for _ in range(1000):
            self.source.pump(1 << 20)
            if not self.deliver():
                return


CONTENT = st.dictionaries(st.integers(0, PAGES - 1), st.sampled_from([b"", b"a", b"b" * 4096, b"\0" * 4095 + b"c"]))
PPN = st.integers(0, PAGES - 1)
STEP = st.one_of(
    st.tuples(st.just("read"), PPN),
    st.tuples(st.just("write"), PPN, st.integers(0, PAGE_BYTES - 1)),
    st.tuples(st.just("look"), PPN),
    st.tuples(st.just("watch"), PPN),
    st.tuples(st.just("balloon"), PPN),
    st.tuples(st.just("unlock"), PPN),
    st.tuples(st.just("swap out"), PPN),
    st.tuples(st.just("push")),
    st.tuples(st.just("deliver")),
)


def do(machines: Machines, model: dict[int, bytes], step: tuple) -> None:
    """What the guest and its host do, and what the guest must find."""
    pmap = machines.new.pmap
    match step:
        case ("read", ppn):
            assert pmap.read(ppn * PAGE_BYTES, PAGE_BYTES) == model[ppn]
        case ("write", ppn, at):
            pmap.write(ppn * PAGE_BYTES + at, b"w")
            model[ppn] = model[ppn][:at] + b"w" + model[ppn][at + 1 :]
        case ("look", ppn):
            assert pmap.page(ppn) == model[ppn]
        case ("watch", ppn):
            pmap.watch(ppn)
        case ("balloon", ppn) if pmap.state_of(ppn) is not PageState.SWAPPED:
            machines.new.balloon(ppn)
            model[ppn] = bytes(PAGE_BYTES)
        case ("unlock", ppn) if pmap.state_of(ppn) is PageState.BALLOONED:
            pmap.mark(ppn, PageState.UNTOUCHED)
        case ("swap out", ppn) if pmap.state_of(ppn) is PageState.PRIVATE:
            machines.new.swap_out(ppn)
        case ("push",):
            machines.source.pump(1)
        case ("deliver",):
            machines.deliver()


def model_of(machines: Machines) -> dict[int, bytes]:
    return {ppn: machines.frozen[ppn * PAGE_BYTES : (ppn + 1) * PAGE_BYTES] for ppn in range(PAGES)}


@given(CONTENT, st.sets(PPN), st.sets(PPN), st.lists(STEP, max_size=40), st.integers(1, 5))
@settings(max_examples=200)
def test_the_guest_finds_its_memory_whatever_comes_when(content, here, old, steps, batch_pages):
    machines = Machines(content, here, old, batch_pages)
    machines.begin()
    model = model_of(machines)
    for step in steps:
        do(machines, model, step)
    machines.finish()
    assert (machines.source.phase, machines.destination.phase) == ("moved", "complete")
    assert machines.new.pmap.on_written is None
    assert machines.destination.missing_pages == machines.destination.asked_pages == 0
    assert machines.new.pmap.content() == b"".join(model[ppn] for ppn in range(PAGES))
    assert machines.there.pmap.content() == machines.frozen
    assert machines.stopped == []
    figures = machines.destination.figures
    assert figures.asked_pages + figures.pushed_pages <= PAGES - len(here)


@given(CONTENT, st.sets(PPN), st.lists(STEP, max_size=25), st.integers(0, 25))
@settings(max_examples=200)
def test_a_cut_leaves_one_whole_machine_or_none_and_says_why(content, here, steps, cut_at):
    machines = Machines(content, here)
    machines.begin()
    model, stopped = model_of(machines), ""
    for number, step in enumerate(steps):
        if number == cut_at:
            machines.lost()
        try:
            do(machines, model, step)
        except GuestStopped as error:
            stopped = str(error)
            break
    assert stopped in ("", machines.destination.why)
    machines.lost()
    assert machines.source.phase in ("moved", "failed")
    if machines.destination.phase == "complete":
        assert machines.stopped == []
        assert machines.new.pmap.content() == b"".join(model[ppn] for ppn in range(PAGES))
    else:
        assert machines.source.phase == "failed"
        assert machines.stopped == [machines.destination.why]
        assert "vm was powered off on esx2" in machines.stopped[0]
        assert "The cable was pulled." in machines.stopped[0]
        assert "vm is off on esx1" in machines.source.why
        with pytest.raises(GuestStopped):
            for ppn in range(PAGES):
                machines.new.pmap.resolve(ppn, False)


FULL = {ppn: bytes([65 + ppn]) * 10 for ppn in range(PAGES)}


def test_a_page_is_missing_then_asked_for_then_here():
    machines = Machines(FULL)
    machines.begin()
    destination = machines.destination
    assert destination.missing_pages == PAGES
    seen = []
    wait = machines.wait

    def watching() -> None:
        seen.append((destination.missing_pages, destination.asked_pages))
        wait()

    destination._wait = watching
    assert machines.new.pmap.read(7 * PAGE_BYTES, 3) == b"HHH"
    assert seen[0] == (PAGES, 1)
    assert (destination.missing_pages, destination.asked_pages) == (PAGES - 1, 0)
    assert [message.ppns for message in machines.said] == [numbers(7)]
    assert destination.figures.waits == 1
    assert destination.figures.waited_ns == 1000 * len(seen)
    assert destination.figures.asked_pages == 1
    assert machines.new.pmap.read(7 * PAGE_BYTES, 3) == b"HHH"
    assert destination.figures.waits == 1


def test_what_is_asked_for_goes_before_what_is_pushed_and_its_neighbours_next():
    machines = Machines(FULL)
    machines.begin()
    machines.source.received(say.PostNeed("s1", numbers(7)))
    machines.source.pump(1)
    machines.source.pump(1)
    sent = [np.frombuffer(message.batch.raw, "<u4").tolist() for message, _ in machines.to_new]
    assert sent == [[7], [6, 8], [5, 9]]
    assert (machines.source.asked_pages, machines.source.pushed_pages, machines.source.left_pages) == (1, 4, 7)


def test_asked_pages_go_even_if_there_is_no_room_and_no_others():
    machines = Machines(FULL)
    machines.begin()
    machines.source.pump(0)
    assert not machines.to_new
    machines.source.received(say.PostNeed("s1", numbers(3)))
    machines.source.pump(0)
    assert len(machines.to_new) == 1


def test_a_page_that_was_asked_for_while_it_was_on_its_way_is_sent_once():
    machines = Machines(FULL, batch_pages=PAGES)
    machines.begin()
    machines.source.pump(1)
    assert machines.new.pmap.read(4 * PAGE_BYTES, 1) == b"E"
    machines.finish()
    assert machines.destination.figures.dropped_pages == 0
    assert machines.source.phase == "moved"
    assert (machines.source.asked_pages, machines.source.pushed_pages) == (0, PAGES)


def test_pages_that_are_asked_for_twice_are_sent_once():
    machines = Machines(FULL)
    machines.begin()
    for _ in range(2):
        machines.source.received(say.PostNeed("s1", numbers(3, 5, 3)))
        machines.source.pump(0)
    ((message, _),) = machines.to_new
    assert message.batch.raw == numbers(3, 5)
    machines.finish()
    assert (machines.source.phase, machines.destination.phase) == ("moved", "complete")


def test_a_page_that_was_shared_as_soon_as_it_was_here_stays_so_for_who_only_reads():
    machines = Machines({**FULL, 4: b"equal", 5: b"equal"})
    machines.begin()
    machines.new.pmap.read(5 * PAGE_BYTES, 1)
    wait = machines.wait

    def sharing() -> None:
        wait()
        if machines.new.pmap.frame(4) is not None:
            machines.new.share(5, 4)

    machines.destination._wait = sharing
    assert machines.new.pmap.read(4 * PAGE_BYTES, 5) == b"equal"
    assert machines.new.pmap.state_of(4) is PageState.SHARED
    machines.new.pmap.write(4 * PAGE_BYTES, b"E")
    assert machines.new.pmap.read(5 * PAGE_BYTES, 5) == b"equal"


def test_a_machine_that_is_complete_needs_nothing_of_the_source_and_listens_to_nothing():
    machines = Machines(FULL)
    machines.begin()
    machines.finish()
    machines.new.pmap.write(4 * PAGE_BYTES, b"mine")
    late = [say.PostPages("s1", PageBatch(zero=numbers(4))), say.PostFailed("s1", "Too late."), say.PostNeed("s1", b"")]
    for message in late:
        machines.destination.received(message)
    machines.destination.give_up("Too late.")
    assert (machines.destination.phase, machines.stopped) == ("complete", [])
    assert machines.new.pmap.read(4 * PAGE_BYTES, 5) == b"mineE"
    assert machines.destination.figures.dropped_pages == 0


def test_a_page_that_comes_twice_does_not_undo_what_the_guest_wrote():
    machines = Machines(FULL)
    machines.begin()
    machines.new.pmap.write(4 * PAGE_BYTES, b"new")
    batch, parts = encode([4], lambda ppn: FULL[ppn].ljust(PAGE_BYTES, b"\0"))
    machines.destination.received(say.PostPages("s1", batch), b"".join(parts))
    machines.destination.received(say.PostPages("s1", PageBatch(zero=numbers(4))))
    assert machines.new.pmap.read(4 * PAGE_BYTES, 4) == b"newE"
    assert machines.destination.figures.dropped_pages == 2
    assert machines.destination.phase == "running"


def test_a_page_that_the_balloon_took_and_gave_back_is_zero_whatever_arrives():
    machines = Machines(FULL)
    machines.begin()
    machines.new.balloon(4)
    machines.new.pmap.mark(4, PageState.UNTOUCHED)
    machines.finish()
    assert machines.new.pmap.page(4) == bytes(PAGE_BYTES)
    assert machines.destination.figures.dropped_pages == 1


def test_a_machine_that_gives_up_all_that_is_missing_is_complete():
    machines = Machines(FULL, here=set(range(PAGES)) - {4})
    machines.begin()
    machines.new.balloon(4)
    assert machines.destination.phase == "complete"
    machines.deliver()
    assert machines.source.phase == "moved"
    assert machines.source.left_pages == 1


def test_nothing_missing_is_complete_at_once():
    machines = Machines(FULL, here=set(range(PAGES)))
    machines.begin()
    assert machines.destination.phase == "complete"
    machines.finish()
    assert machines.source.phase == "moved"
    machines.lost()
    assert (machines.source.phase, machines.destination.phase, machines.stopped) == ("moved", "complete", [])


def test_missing_pages_have_no_frame_and_the_others_what_the_source_says():
    machines = Machines({1: b"a", 2: b"b", 3: b""}, here={1}, old={2, 5})
    wanted = machines.begin()
    assert list(wanted.states[:4]) == [PageState.UNTOUCHED, PageState.PRIVATE, PageState.UNTOUCHED, PageState.UNTOUCHED]
    assert machines.new.pmap.frame(2) is None
    assert machines.destination.missing_pages == 2  # what was never written is not missing


def test_before_it_has_begun_a_cut_leaves_the_machine_at_the_source():
    machines = Machines(FULL)
    machines.lost()
    assert (machines.source.phase, machines.destination.phase) == ("given up", "given up")
    assert machines.source.why == "vm runs on on esx1. The cable was pulled."
    assert machines.destination.why.startswith("vm did not begin to run on esx2.")
    assert machines.stopped == []
    for side in (machines.source, machines.destination):
        with pytest.raises(VmmBug):
            side.begin(*([] if side is machines.source else [say.PostBegin("s1", b""), machines.states]))


def test_a_person_who_powers_it_off_is_told_to_the_source():
    machines = Machines(FULL)
    machines.begin()
    machines.destination.give_up("It was powered off by hand.")
    machines.deliver()
    assert machines.source.phase == "failed"
    assert "It was powered off by hand." in machines.source.why


@pytest.mark.parametrize(
    ("message", "body", "why"),
    [
        (say.PostPages("s2", PageBatch(zero=numbers(1))), b"", "another migration"),
        (say.PostPages("s1", PageBatch(zero=numbers(PAGES))), b"", "the virtual machine has 0xc pages"),
        (say.PostPages("s1", PageBatch(raw=numbers(1))), b"short", "and 5 came"),
        (say.PostPages("s1", PageBatch(delta=numbers(1), runs_bytes=1)), b"\0", "sent changes of pages"),
        (say.PostAllHere("s1"), b"", "said PostAllHere"),
        (say.PostBegin("s1", b"\0\0"), b"", "said PostBegin"),
        (say.PostFailed("s1", "The disk of esx1 is on fire."), b"", "on fire"),
    ],
)
def test_what_does_not_fit_ends_the_machine_with_the_reason_on_both_sides(message, body, why):
    machines = Machines(FULL)
    machines.begin()
    machines.destination.received(message, body)
    assert machines.destination.phase == "failed"
    assert why in machines.destination.why == machines.stopped[0]
    if not isinstance(message, say.PostFailed):
        machines.deliver()
        assert machines.source.phase == "failed"
        assert why in machines.source.why
    with pytest.raises(GuestStopped, match="powered off on esx2"):
        machines.new.pmap.read(3 * PAGE_BYTES, 1)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (say.PostNeed("s1", numbers(PAGES)), "asks for page 0xc of a machine of 0xc pages"),
        (say.PostNeed("s1", b"123"), "no list of up to"),
        (say.PostNeed("s1", bytes(4 * (say.MOST_ASKED + 1))), "no list of up to"),
        (say.PostNeed("s2", numbers(1)), "another migration"),
        (say.PostBegin("s1", b"\0\0"), "said PostBegin"),
    ],
)
def test_a_destination_that_asks_for_what_cannot_be_ends_it(message, why):
    machines = Machines(FULL)
    machines.begin()
    machines.source.received(message)
    assert machines.source.phase == "failed"
    assert why in machines.source.why
    machines.deliver()
    assert machines.destination.phase == "failed"


@pytest.mark.parametrize("missing", [b"", b"\0", b"\0\0\0", b"\xff\xff"])
def test_missing_pages_of_another_machine_are_refused_before_anything_has_changed(missing):
    machines = Machines(FULL, here={1, 2}, old={3})
    before = machines.new.pmap.content()
    with pytest.raises(AdminError, match="machine that has not 12 pages"):
        machines.destination.begin(say.PostBegin("s1", missing), machines.states)
    with pytest.raises(AdminError, match="11 arrived"):
        machines.destination.begin(say.PostBegin("s1", b"\0\0"), PmapState(bytes(11)))
    assert machines.destination.phase == "ready"
    assert machines.new.pmap.content() == before


def test_a_host_without_memory_for_a_page_that_arrives_stops_the_machine():
    machines = Machines(FULL)
    machines.begin()

    def no_frame(pmap, ppn, for_write):
        raise GuestStopped("the machine has no page left to give it.")

    machines.new.page_needed = no_frame
    machines.source.pump(1)
    machines.deliver()
    assert machines.destination.phase == "failed"
    assert "no page left" in machines.stopped[0]


def test_deltas_cannot_be_asked_for():
    machines = Machines(FULL)
    with pytest.raises(VmmBug):
        PostCopySource("vm", "a", "b", "s", machines.there.pmap, np.arange(2), machines.send_to_new, kind="delta")
