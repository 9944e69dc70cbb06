"""Messages in any order, from a peer that is authentic and means it ill, or has another version: nothing goes wrong.

The destination never has a machine that is not whole; the source never gives one away that has not arrived.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.migration.file_copies import NUMBER, WEB, Pair, Site, can_power_on, files, make
from vilab.migration import file_copy_messages as say
from vilab.migration.file_copy_destination import FileCopyDestination

SLOW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True, scope="module")
def _nobody_waits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, lambda _number: None)
        yield


Sent = tuple[msgspec.Struct, bytes]


def recorded(site: Site) -> list[Sent]:
    """What the source says in a copy that goes well, and what is in it."""
    make(site["esx1"], disk_bytes=128 << 10)
    pair, said = Pair(site["esx1"], site["esx2"]), list[Sent]()
    take = pair.destination.received
    pair.destination.received = lambda message, body: (  # type: ignore[method-assign]
        said.append((message, bytes(body))), take(message, body),
    )[0]  # fmt: skip
    assert pair.run().phase == "moved"
    return said


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[Sent]:
    return recorded(Site(tmp_path_factory.mktemp("said")))


@SLOW
@given(data=st.data())
def test_the_destination_has_a_whole_machine_or_none(said: list[Sent], data: st.DataObject) -> None:
    """The source's own messages: left out, said twice, in another place, or with other bytes."""
    order = list(range(len(said)))
    for _ in range(data.draw(st.integers(0, 2))):
        at, kind = data.draw(st.integers(0, len(order) - 1)), data.draw(st.sampled_from(["drop", "twice", "swap"]))
        if kind == "drop" and len(order) > 1:
            del order[at]
        elif kind == "twice":
            order.insert(at, order[at])
        else:
            other = data.draw(st.integers(0, len(order) - 1))
            order[at], order[other] = order[other], order[at]
    flipped = data.draw(st.none() | st.sampled_from(order))
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), hosts=2)
        heard: list[msgspec.Struct] = []
        there = FileCopyDestination(site["esx2"], "esx1", lambda message, _body: heard.append(message))
        for number in order:
            message, body = said[number]
            if number == flipped and body and not isinstance(message, say.CopyOffer):
                body = bytes((body[0] ^ 1,)) + body[1:]
            there.received(message, memoryview(body))
            while there.pump():
                pass
        arrived = any(isinstance(each, say.CopyDecided) and each.decision == "moved" for each in heard)
        assert arrived == (can_power_on(site["esx2"]) == "")
        if order == list(range(len(said))) and flipped is None:
            assert arrived
        if arrived:
            bodies = files(site["esx2"])
            assert all(len(bodies[file.name]) == file.size_bytes for file in said[0][0].files)  # type: ignore[attr-defined]
        there.lost("It is over.")
        assert there.over
        if not arrived:
            assert not files(site["esx2"]) or there.phase == "undecided"
        site.close()


ANSWERS = st.sampled_from(
    [
        say.CopyAccepted(NUMBER), say.CopyWhole(NUMBER), say.CopyBusy(NUMBER), say.CopyGaveUp(NUMBER, "No."),
        say.CopyDecided(NUMBER, "moved"), say.CopyDecided(NUMBER, "withdrawn"), say.CopyDecided(NUMBER, "unknown"),
        say.CopySettled(NUMBER, WEB), say.FileTaken(NUMBER, 0, bytes(32)), say.CopyCommit(NUMBER),
        say.CopyAccepted("another"),
    ]
)  # fmt: skip


@SLOW
@given(answers=st.lists(ANSWERS, max_size=6), steps=st.integers(0, 12))
def test_the_source_gives_nothing_away_that_was_not_taken(answers: list[say.CopyMessage], steps: int) -> None:
    """It never gets as far as ``leaving`` by answers without the files' digests."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), hosts=2)
        before = make(site["esx1"], disk_bytes=128 << 10)
        pair = Pair(site["esx1"], site["esx2"])
        sent: list[msgspec.Struct] = []
        pair.source._send = lambda message, _body: sent.append(message)
        pair.source.start()
        for answer in itertools.chain(answers):
            pair.source.received(answer)
            for _ in range(steps):
                pair.source.pump(1 << 20)
        assert not any(isinstance(message, say.CopyCommit) for message in sent)
        pair.source.lost("It is over.")
        assert pair.source.over
        assert files(site["esx1"]) == before
        assert can_power_on(site["esx1"]) == ""
        site.close()


TEXT = st.text(max_size=12) | st.sampled_from(["", "..", "a/b", "web.vmx", "web.vmx.lck", "web.vmx.leaving", ".lck-1"])


@SLOW
@given(names=st.lists(TEXT, min_size=1, max_size=3), where=TEXT | st.sampled_from(["[local] web/web.vmx", "[local] /"]))
def test_an_offer_with_any_names_writes_nothing_outside(said: list[Sent], names: list[str], where: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), hosts=2)
        outside = sorted(path for path in Path(folder).rglob("*"))
        offer, config = said[0]
        assert isinstance(offer, say.CopyOffer)
        offered = tuple(say.FileOffered(name, 10, 10) for name in names)
        there = FileCopyDestination(site["esx2"], "esx1", lambda _message, _body: None)
        there.received(msgspec.structs.replace(offer, files=offered, where=where), memoryview(config))
        now = sorted(path for path in Path(folder).rglob("*") if "esx2/local/web" not in str(path))
        assert now == outside
        there.lost("It is over.")
        assert sorted(path for path in Path(folder).rglob("*")) == outside
        site.close()
