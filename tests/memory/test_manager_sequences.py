"""Whatever is done to pages in whatever order: every guest reads what it wrote, and the books balance."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Ppn
from vilab.errors import AdminError
from vilab.machine.memory import MachineMemory
from vilab.memory.balloon_protocol import Capability, Command, Status
from vilab.memory.client import MemoryClient, MemoryConfig
from vilab.memory.dirty_log import DirtyLog
from vilab.memory.dirty_log import Pages as PageNumbers
from vilab.memory.manager import MemoryManager
from vilab.memory.page_state import PageState

MB = 1 << 20
PAGES = 256
MACHINE_MB = 3
ZERO = bytes(PAGE_BYTES)
CONTENTS = [ZERO, b"\x11" * PAGE_BYTES, b"\x22" * PAGE_BYTES, bytes(range(256)) * 16]
GUESTS = st.integers(0, 2)
PPNS = st.integers(0, PAGES - 1)


class Listener:
    """What a monitor keeps of a pmap: a mapping for each page that was resolved, and whether it may be written."""

    def __init__(self, client: MemoryClient) -> None:
        self.pmap = client.pmap
        self.mapped: dict[int, tuple[int, bool]] = {}
        client.pmap.listeners.append(self)

    def access(self, ppn: int, write: bool) -> int:
        at = self.mapped.get(ppn)
        if at is None or (write and not at[1]):
            mpn = self.pmap.resolve(ppn, write)
            assert mpn is not None
            at = self.mapped[ppn] = (mpn, write)
        return at[0]

    def page_unmapped(self, ppn: Ppn) -> None:
        self.mapped.pop(ppn, None)

    def page_watched(self, ppn: Ppn) -> None:
        self.mapped.pop(ppn, None)

    def page_write_protected(self, ppn: Ppn) -> None:
        if ppn in self.mapped:
            self.mapped[ppn] = (self.mapped[ppn][0], False)

    def all_write_protected(self) -> None:
        self.mapped = {ppn: (mpn, False) for ppn, (mpn, _) in self.mapped.items()}

    def harvest(self) -> np.ndarray:
        return np.zeros(0, np.int64)

    def stop_harvest(self) -> None:
        return

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        return


class Pages(RuleBasedStateMachine):
    """Three guests of 1 MB on a machine of 3 MB, less the monitors'."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.manager = MemoryManager(MachineMemory(MACHINE_MB * MB), self.folder, seed=5)
        self.clients: list[MemoryClient] = []
        self.listeners: list[Listener] = []
        self.expected: list[dict[int, bytes]] = []
        self.logs: dict[int, DirtyLog] = {}
        self.copies: dict[int, list[bytes]] = {}

    @initialize()
    def power_on(self) -> None:
        for number in range(3):
            self.add(f"vm{number}")

    def add(self, name: str) -> None:
        client = self.manager.admit(name, MemoryConfig(1), 16 * PAGE_BYTES)
        client.balloon.max_percent = 100
        client.balloon.call(Command.START, Capability.BASIC, 0, client.pmap)
        self.clients.append(client)
        self.listeners.append(Listener(client))
        self.expected.append({})

    @rule(guest=GUESTS, ppn=PPNS, content=st.sampled_from(CONTENTS))
    def guest_writes(self, guest: int, ppn: int, content: bytes) -> None:
        mpn = self.listeners[guest].access(ppn, True)
        self.manager.memory.write(mpn << PAGE_SHIFT, content)
        self.expected[guest][ppn] = content

    @rule(guest=GUESTS, first=PPNS, count=st.integers(1, 64), content=st.sampled_from(CONTENTS))
    def guest_fills(self, guest: int, first: int, count: int, content: bytes) -> None:
        for ppn in range(first, min(first + count, PAGES)):
            self.guest_writes(guest, ppn, content)

    @rule(guest=GUESTS, ppn=PPNS)
    def guest_reads(self, guest: int, ppn: int) -> None:
        mpn = self.listeners[guest].access(ppn, False)
        found = self.manager.memory.read(mpn << PAGE_SHIFT, PAGE_BYTES)
        assert found == self.expected[guest].get(ppn, ZERO)

    @rule(guest=GUESTS, ppn=PPNS, value=st.integers(0, 0xFFFFFFFF))
    def walker_sets_a_bit(self, guest: int, ppn: int, value: int) -> None:
        self.clients[guest].pmap.write_u32(ppn << PAGE_SHIFT, value)
        page = self.expected[guest].get(ppn, ZERO)
        self.expected[guest][ppn] = value.to_bytes(4, "little") + page[4:]
        assert self.clients[guest].pmap.read_u32(ppn << PAGE_SHIFT) == value

    @rule(guest=GUESTS, ppn=PPNS, data=st.binary(min_size=1, max_size=40), offset=st.integers(0, PAGE_BYTES - 40))
    def device_writes(self, guest: int, ppn: int, data: bytes, offset: int) -> None:
        self.clients[guest].pmap.write((ppn << PAGE_SHIFT) + offset, data)
        page = self.expected[guest].get(ppn, ZERO)
        self.expected[guest][ppn] = page[:offset] + data + page[offset + len(data) :]

    @rule()
    def scan(self) -> None:
        self.manager.scanner.scan_all()

    @rule(guest=GUESTS, pages=st.integers(1, 80))
    def page_out(self, guest: int, pages: int) -> None:
        self.manager.reclaimer.page_out(self.clients[guest], pages)

    @rule(guest=GUESTS, ppn=PPNS)
    def balloon_takes(self, guest: int, ppn: int) -> None:
        client = self.clients[guest]
        was = client.pmap.state_of(ppn)
        status, _, _ = client.balloon.call(Command.LOCK, ppn, 0, client.pmap)
        if status == Status.OK:
            assert was is not PageState.BALLOONED
            self.expected[guest].pop(ppn, None)

    @rule(guest=GUESTS, ppn=PPNS)
    def balloon_gives(self, guest: int, ppn: int) -> None:
        client = self.clients[guest]
        client.balloon.call(Command.UNLOCK, ppn, 0, client.pmap)

    @rule(guest=GUESTS)
    def driver_starts_again(self, guest: int) -> None:
        client = self.clients[guest]
        client.balloon.call(Command.START, Capability.BASIC, 0, client.pmap)

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        for client in self.clients:
            self.manager.vm_ran(client, seconds * 1_000_000_000)
        self.manager.tick(self.manager.now_ns + seconds * 1_000_000_000)

    @rule(guest=GUESTS)
    @precondition(lambda self: self.clients)
    def suspend_and_resume(self, guest: int) -> None:
        client = self.clients[guest]
        self.logs.pop(guest, None)
        content, pages, balloon = client.pmap.content(), client.pmap.save_state(), client.balloon.save_state()
        self.manager.power_off(client)
        again = self.manager.admit(client.name, MemoryConfig(1), 16 * PAGE_BYTES)
        self.clients[guest], self.listeners[guest] = again, Listener(again)
        again.pmap.restore(content)
        self.manager.restore(again, pages, balloon)
        assert again.pmap.content() == content

    @rule(guest=GUESTS)
    def a_round_of_copying(self, guest: int) -> None:
        """Who copies only what was noted since the last round has a true copy."""
        pmap = self.clients[guest].pmap
        if guest not in self.logs:
            self.logs[guest] = DirtyLog(pmap)
            self.logs[guest].restart()
            self.copies[guest] = [pmap.page(ppn) for ppn in range(PAGES)]
            return
        self.check_copy(guest, self.logs[guest].restart())

    def check_copy(self, guest: int, dirty: PageNumbers) -> None:
        copy, pmap = self.copies[guest], self.clients[guest].pmap
        for ppn in dirty.tolist():
            copy[ppn] = pmap.page(ppn)
        assert b"".join(copy) == pmap.content()

    @rule(guest=GUESTS)
    def copying_ends(self, guest: int) -> None:
        if guest in self.logs:
            self.check_copy(guest, self.logs.pop(guest).stop())

    @rule(frames=st.integers(17, 200))
    def another_monitor_wants_a_piece(self, frames: int) -> None:
        try:
            other = self.manager.admit("other", MemoryConfig(1), frames * PAGE_BYTES)
        except AdminError:
            return
        self.manager.check()
        start = other.overhead.start << PAGE_SHIFT
        assert not any(self.manager.memory.read(start, frames * PAGE_BYTES))
        self.manager.power_off(other)

    @invariant()
    def books_balance(self) -> None:
        self.manager.check()

    @invariant()
    def nothing_is_lost(self) -> None:
        for client, expected in zip(self.clients, self.expected, strict=True):
            for ppn, content in expected.items():
                assert client.pmap.page(ppn) == content

    @invariant()
    def no_mapping_is_stale(self) -> None:
        for listener in self.listeners:
            for ppn, (mpn, writable) in listener.mapped.items():
                assert listener.pmap.mpn_of[ppn] == mpn
                assert not writable or listener.pmap.writable(ppn)

    def teardown(self) -> None:
        for client in self.clients:
            self.manager.power_off(client)
        assert self.manager.free_pages == self.manager.total_pages
        shutil.rmtree(self.folder)


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
