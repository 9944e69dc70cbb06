"""The host's end of a balloon, against drivers that behave and drivers that lie."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.machine.memory import MachineMemory
from vilab.memory import balloon as b
from vilab.memory import memory_events as events
from vilab.memory.balloon import BalloonServer
from vilab.memory.balloon_protocol import Capability, Command, Status
from vilab.memory.frame_table import FrameTable
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.page_state import PageState

PAGES = 16
BATCH = 3
"""The page with the batch, unless a driver lies about that too."""
BASIC, BOTH = Capability.BASIC, b.CAN_DO
WANTED = 0x1E


class Host:
    """Frames on demand, and a balloon."""

    def __init__(self, offered: Capability = BOTH, max_percent: int = 100) -> None:
        self.frames = FrameTable(MachineMemory(64 * 4096), 1)
        self.pmap = ManagedPmap(self.frames.memory, 1, PAGES, self)
        self.server = BalloonServer(1, PAGES, offered, max_percent)
        self.stopped: list[str] = []
        self.log = EventLog(keep=True)
        self.server.connect(self.release, self.stopped.append, self.log, lambda: 5)

    def page_needed(self, pmap: ManagedPmap, ppn: int, for_write: bool) -> None:
        if pmap.state_of(ppn) is PageState.BALLOONED:
            self.server.popped(ppn)
        pmap.give(ppn, self.frames.take_private(1, ppn), PageState.PRIVATE)

    def pages_needed(self, pmap: ManagedPmap, ppns: npt.NDArray[np.int64]) -> int:
        return 0

    def page_touched(self, pmap: ManagedPmap, ppn: int) -> None:
        raise AssertionError

    def peek(self, pmap: ManagedPmap, ppn: int) -> bytes:
        return bytes(4096)

    def release(self, pmap: ManagedPmap, ppn: int, state: PageState) -> None:
        if pmap.frame(ppn) is None:
            pmap.mark(ppn, state)
        else:
            self.frames.leave(pmap.take_away(ppn, state))

    def call(self, command: int, first: int = 0, second: int = 0) -> tuple[int, int, int]:
        return self.server.call(command, first, second, self.pmap)

    def status(self, command: int, first: int = 0, second: int = 0) -> int:
        return self.call(command, first, second)[0]

    def batch(self, lock: bool, ppns: list[int], page: int = BATCH) -> tuple[int, list[int]]:
        """Status of the call, and of each entry as the guest finds it afterwards."""
        self.pmap.write(page << 12, b"".join((ppn << 12 | 0x1F).to_bytes(8, "little") for ppn in ppns))
        status = self.status(Command.BATCHED_LOCK if lock else Command.BATCHED_UNLOCK, page, len(ppns))
        entries = [int.from_bytes(self.pmap.read((page << 12) + 8 * i, 8), "little") for i in range(len(ppns))]
        assert [entry >> 12 for entry in entries] == ppns
        return status, [entry & 0xFFF for entry in entries]


def started(offered: Capability = BOTH, target: int = PAGES, max_percent: int = 100) -> Host:
    host = Host(offered, max_percent)
    host.call(Command.START, WANTED)
    host.server.set_target(target)
    return host


def test_a_driver_gets_of_the_capabilities_that_it_wants_those_that_are_offered():
    for offered, wanted, granted in ((BOTH, 0x1E, 6), (BASIC, 0x1E, 2), (BOTH, 2, 2), (BOTH, 0x3E, 6)):
        host = Host(offered)
        assert not host.server.active
        assert host.call(Command.START, wanted) == (0x0300_0000, 0, granted)
        assert host.server.active


def test_a_driver_that_wants_nothing_is_none():
    host = started()
    host.status(Command.LOCK, 4)
    assert host.call(Command.START, 0)[2] == 0
    assert not host.server.active
    assert host.server.locked_pages == 0
    assert host.status(Command.LOCK, 4) == Status.RESET


def test_before_it_has_started_a_driver_is_told_to():
    host = Host()
    for command in (1, 2, 3, 4, 6, 7):
        assert host.status(command, 5, 1) == Status.RESET
    assert host.status(Command.DOORBELL, 0xFFFFFFFF, 0xFFFFFFFF) == Status.COMMAND_INVALID
    assert host.server.state.lies == 0


def test_the_target_is_at_most_65_percent_of_memory():
    server = BalloonServer(1, 1000)
    server.set_target(640)
    assert server.target_pages == 640
    server.set_target(900)
    assert server.target_pages == server.maximum_pages == 650
    server.set_target(-3)
    assert server.target_pages == 0


def test_a_locked_page_loses_its_frame_and_comes_back_as_zeros():
    host = started()
    host.pmap.write(7 << 12, b"secret")
    free = host.frames.free_frames
    assert host.call(Command.LOCK, 7) == (0, PAGES, Command.LOCK)
    assert host.frames.free_frames == free + 1
    assert host.pmap.state_of(7) is PageState.BALLOONED
    assert host.call(Command.UNLOCK, 7) == (0, PAGES, Command.UNLOCK)
    assert host.pmap.state_of(7) is PageState.UNTOUCHED
    assert host.frames.free_frames == free + 1
    assert host.pmap.read(7 << 12, 6) == bytes(6)
    assert host.server.active


def test_pages_above_the_target_are_not_needed_and_that_is_no_lie():
    host = started(target=2)
    assert host.batch(True, [5, 6, 7, 8]) == (0, [0, 0, 6, 6])
    assert host.status(Command.LOCK, 9) == Status.PPN_NOT_NEEDED
    assert (host.server.locked_pages, host.server.state.lies, host.server.state.not_needed) == (2, 0, 3)


def test_a_batch_is_answered_entry_by_entry():
    host = started()
    assert host.batch(True, [5, 5, PAGES, BATCH, 6, 1 << 40]) == (0, [0, 3, 2, 5, 0, 2])
    assert host.batch(False, [5, 5, 9, PAGES]) == (0, [0, 4, 4, 2])
    assert host.server.locked_pages == 1
    assert host.server.state.lies == 7
    locked, unlocked = host.log.of(events.BalloonLocked)[0], host.log.of(events.BalloonUnlocked)[0]
    assert (locked.pages, locked.refused, locked.locked_pages) == (2, 4, 2)
    assert (unlocked.pages, unlocked.refused, unlocked.locked_pages) == (1, 3, 1)


def test_a_batch_that_is_nowhere_or_too_long_is_refused_as_a_whole():
    host = started()
    before = host.pmap.content()
    assert host.status(Command.BATCHED_LOCK, PAGES, 1) == Status.PPN_INVALID
    assert host.status(Command.BATCHED_LOCK, 0xFFFFFFFF, 1) == Status.PPN_INVALID
    assert host.status(Command.BATCHED_LOCK, BATCH, 513) == Status.FAILED
    assert host.status(Command.BATCHED_UNLOCK, BATCH, 0xFFFFFFFF) == Status.FAILED
    host.status(Command.LOCK, BATCH)
    assert host.status(Command.BATCHED_UNLOCK, BATCH, 1) == Status.PPN_INVALID
    assert host.status(Command.BATCHED_LOCK, 4, 0) == Status.OK
    assert host.pmap.content() == before
    assert host.server.state.lies == 5
    assert host.server.active


def test_what_is_not_granted_does_not_exist():
    host = started(BASIC)
    assert host.status(Command.BATCHED_LOCK, BATCH, 1) == Status.COMMAND_INVALID
    for command in (5, 8, 9, 10, 11, 0xFFFFFFFF):
        assert started().status(command, 0, 1) == Status.COMMAND_INVALID
    host = Host()
    host.call(Command.START, BASIC)
    assert host.status(Command.BATCHED_LOCK, BATCH, 1) == Status.COMMAND_INVALID


def test_a_touched_page_makes_the_driver_start_again():
    host = started()
    host.batch(True, [5, 6, 7])
    host.pmap.write(6 << 12, b"!")
    assert [event.ppn for event in host.log.of(events.BalloonPopped)] == [6]
    assert host.server.locked_pages == 2
    assert not host.server.active
    for command in (1, 2, 3, 6, 7):
        assert host.status(command, 5, 1) == Status.RESET
    assert host.call(Command.START, WANTED)[0] == Status.STARTED
    assert host.log.of(events.BalloonReset)[-1].released_pages == 2
    assert host.server.locked_pages == host.pmap.count(PageState.BALLOONED) == 0
    assert host.status(Command.LOCK, 6) == Status.OK


def test_after_too_many_lies_the_machine_is_stopped_with_one_sentence():
    host = started()
    for _ in range(b.MOST_LIES):
        assert host.status(Command.UNLOCK, 9) == Status.PPN_UNLOCKED
    assert host.stopped == []
    host.status(Command.UNLOCK, 9)
    host.status(Command.UNLOCK, 9)
    assert len(host.stopped) == 1
    assert "it unlocks page 0x9, which it has not locked" in host.stopped[0]
    assert host.status(Command.START, WANTED) == Status.FAILED
    assert not host.server.active


def test_the_state_travels():
    host = started()
    host.batch(True, [5, 6, 7])
    other = BalloonServer(1, PAGES)
    other.load_state(host.server.save_state())
    assert other.state == host.server.state
    host.status(Command.UNLOCK, 5)
    assert other.locked_pages == 3


def test_what_a_balloon_cannot_do_cannot_be_offered():
    for offered in (Capability.BATCHED, BOTH | Capability.BATCHED_2M, Capability(0)):
        with pytest.raises(AdminError):
            BalloonServer(1, PAGES, offered)
    with pytest.raises(AdminError):
        BalloonServer(1, PAGES, BOTH, 101)


class Model:
    """What the server must do, with sets."""

    def __init__(self, maximum: int, offered: Capability) -> None:
        self.offered = offered
        self.inside: set[int] = set()
        self.maximum, self.asked, self.lies = maximum, 0, 0
        self.started = self.reset = self.batched = False

    def one(self, lock: bool, ppn: int, pinned: int = -1) -> int:
        if ppn >= PAGES:
            status = Status.PPN_INVALID
        elif lock and ppn in self.inside:
            status = Status.PPN_LOCKED
        elif lock and ppn == pinned:
            status = Status.PPN_PINNED
        elif lock and len(self.inside) >= min(self.asked, self.maximum):
            return Status.PPN_NOT_NEEDED
        elif lock:
            self.inside.add(ppn)
            return Status.OK
        elif ppn in self.inside:
            self.inside.remove(ppn)
            return Status.OK
        else:
            status = Status.PPN_UNLOCKED
        self.lies += 1
        return status

    def refusal(self, batched: bool) -> int | None:
        if batched and self.offered == BASIC:
            return Status.COMMAND_INVALID
        if not self.started or self.reset:
            return Status.RESET
        return Status.COMMAND_INVALID if batched and not self.batched else None


ppn = st.integers(0, PAGES + 2)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.sampled_from([0, 2, 6, 0x1E])),
        st.tuples(st.just("target"), st.integers(0, PAGES)),
        st.tuples(st.sampled_from(["lock", "lock", "unlock", "touch"]), ppn),
        st.tuples(st.sampled_from(["locks", "unlocks"]), st.lists(ppn, max_size=5)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=300)
@given(moves, st.sampled_from([BASIC, BOTH]), st.sampled_from([30, 100]))
def test_whatever_a_driver_says_pages_and_counts_agree(script: list, offered: Capability, percent: int):
    host = Host(offered, percent)
    model = Model(PAGES * percent // 100, offered)
    host.call(Command.START, WANTED)
    model.started, model.batched = True, offered == BOTH
    for move, argument in script:
        if model.lies > b.MOST_LIES - 8:
            break
        if move == "start":
            host.call(Command.START, argument)
            model.inside, model.reset = set(), False
            model.started, model.batched = bool(argument & 2), bool(argument & 4) and offered == BOTH
        elif move == "target":
            host.server.set_target(argument)
            model.asked = argument
        elif move == "touch":
            if argument < PAGES:
                host.pmap.read(argument << 12, 1)
                model.reset |= argument in model.inside
                model.inside.discard(argument)
        elif move in ("lock", "unlock"):
            refused = model.refusal(False)
            expected = model.one(move == "lock", argument) if refused is None else refused
            assert host.status(Command.LOCK if move == "lock" else Command.UNLOCK, argument) == expected
        elif BATCH not in model.inside:  # a guest that writes its batch touches that page
            refused = model.refusal(True)
            statuses = [model.one(move == "locks", each, BATCH) for each in argument] if refused is None else None
            status, found = host.batch(move == "locks", argument)
            assert status == (refused or Status.OK)
            assert found == ([0x1F] * len(argument) if statuses is None else statuses)
        ballooned = {page for page in range(PAGES) if host.pmap.state_of(page) is PageState.BALLOONED}
        assert ballooned == model.inside
        assert host.server.locked_pages == len(ballooned)
        state = host.server.state
        assert state.lies == model.lies
        owned = sum(int(use) == 2 for use in host.frames.use)
        assert owned == host.pmap.count(PageState.PRIVATE)
        assert host.frames.free_frames == 63 - owned
    assert host.stopped == []
