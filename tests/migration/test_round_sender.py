"""A round's order, and pages of a running machine that are not copied: what leaves later is as when it was hashed."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.migration.page_guests import Guest
from tests.migration.test_agent_tcp import accepted, drive
from vilab.addresses import PAGE_BYTES
from vilab.migration import agent_requests as ask
from vilab.migration.agent_port import AgentPort
from vilab.migration.agent_session import AgentSession, Received
from vilab.migration.agent_tcp import TcpListener
from vilab.migration.host_calls import BATCH_PAGES, Departure
from vilab.migration.messages import MigrationMessage, Pages
from vilab.migration.options import MigrationOptions
from vilab.migration.page_source import store_pages
from vilab.migration.round_sender import RoundSender
from vilab.migration.state_digest import MemoryDigest

SECRET = b"a secret of 32 bytes, never used"
NUMBERS = st.sets(st.integers(0, 300), max_size=120).map(sorted)


def order_of(pages: list[int], number: int = 1, **options: Any) -> list[int]:
    guest = Guest(1)
    sender = RoundSender(
        guest.pmap, MemoryDigest(guest.pmap), "s", lambda _message, _body: None, MigrationOptions(**options)
    )
    sender.number = number - 1
    sender.open(np.array(pages, np.int64), 0, 0)
    return sender._todo.tolist()


@given(NUMBERS, st.sampled_from([1, 2, 16, 512]), st.integers(1, 3))
def test_runs_stay_together_and_no_page_is_left_out(pages, run, number):
    order = order_of(pages, number, order_run_pages=run)
    assert sorted(order) == pages
    runs = [page // run for page in order]
    began = [n for n in range(len(order)) if n == 0 or runs[n] != runs[n - 1]]
    assert len(began) == len(set(runs))
    assert all(a < b for n, (a, b) in enumerate(pairwise(order)) if n + 1 not in began)


def test_the_order_of_runs_is_another_in_each_round_and_the_same_each_time():
    pages = list(range(256))
    first = order_of(pages, 1, order_run_pages=16)
    assert first == order_of(pages, 1, order_run_pages=16) != pages
    assert first != order_of(pages, 2, order_run_pages=16)
    assert order_of(pages, 1, order_run_pages=16, order_seed=None) == pages


class Agent:
    """As much of one as a departure needs."""

    host = SimpleNamespace(name="esx1")
    tls_calling = None

    def session(self, initiator: bool) -> AgentSession:
        return AgentSession("esx1", SECRET, MigrationMessage, initiator=initiator)


@pytest.mark.parametrize("written", [False, True])
def test_what_the_guest_writes_after_its_page_was_sent_does_not_change_what_arrives(written):
    """The socket does not take it all at once, nor does the other host: it would find a wrong checksum."""
    pages = 4 * BATCH_PAGES
    source, destination = Guest(pages), Guest(pages)
    content = np.random.default_rng(4).integers(1, 255, pages * PAGE_BYTES, np.uint8)
    for ppn in range(pages):
        source.pmap.write(ppn * PAGE_BYTES, content[ppn * PAGE_BYTES : (ppn + 1) * PAGE_BYTES].tobytes())
    listener = TcpListener("esx2", "127.0.0.1")
    request = ask.Move(1, "web", f"127.0.0.1:{listener.port}")
    departure = Departure(Agent(), SimpleNamespace(name="web", stunned=False), request, None)  # type: ignore[arg-type]
    link = accepted(listener)
    listener.close()
    got: list[Received] = []
    ends: list[str] = []
    there = MemoryDigest(destination.pmap)

    def heard(one: Received) -> None:
        got.append(one)
        store_pages(destination.pmap, one.message.batch, one.body)
        there.moved(one.message.batch, one.hashes)

    port = AgentPort(AgentSession("esx2", SECRET, MigrationMessage, initiator=False), link, heard, ends.append)
    drive(departure.link, link, until=lambda: departure.port.session.established)
    here = MemoryDigest(source.pmap)
    sender = RoundSender(
        source.pmap, here, "s", lambda message, body: departure.port.send(message, body, unchanging=True),
        departure._options,
    )  # fmt: skip
    sender.open(np.arange(pages), 0, 0)
    rooms: list[int] = []

    def pump(room_bytes: int) -> None:
        rooms.append(room_bytes)
        while room_bytes > 0 and sender.left_pages and not departure.link.waiting_bytes:
            sender._send_batch(SimpleNamespace(is_dirty=lambda batch: np.zeros(len(batch), np.bool_)))  # type: ignore[arg-type]

    departure.source = SimpleNamespace(pump=pump, over=True)  # type: ignore[assignment]
    departure.pump()
    assert departure.link.waiting_bytes, "or the test says nothing"
    if written:
        source.memory.bytes[:] = 0x55
    departure.pump()
    assert rooms[0] > 0 == rooms[1], "nothing is added to what waits"
    drive(departure.link, link, until=lambda: bool(ends) or not departure.link.waiting_bytes)
    sent = pages - sender.left_pages
    drive(departure.link, link, until=lambda: bool(ends) or sum(one.message.batch.pages for one in got) == sent)
    assert not ends
    assert sent >= BATCH_PAGES
    for one in got:
        assert isinstance(one.message, Pages)
        for ppn in np.frombuffer(one.message.batch.raw, "<u4").tolist():
            at = ppn * PAGE_BYTES
            assert destination.pmap.page(ppn) == content[at : at + PAGE_BYTES].tobytes()
    assert here.hashes() == there.hashes()
    departure.port.close(), port.close()
