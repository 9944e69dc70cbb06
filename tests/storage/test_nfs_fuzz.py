"""Damaged and hostile bytes from the server, and to it: a sentence, within bounds, and nothing else."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.nfs_twin import client_of
from vilab.storage.nfs.client import NfsClient
from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.link import Connection, Dial, LinkLost, LinkSilent
from vilab.storage.nfs.memory_server import MemoryLink, MemoryServer
from vilab.storage.nfs.rpc import LAST_FRAGMENT, Records, auth_sys, open_reply
from vilab.storage.nfs.xdr import XdrReader, u32, u64

DAMAGE = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.floats(0, 1), st.integers(1, 255)),
        st.tuples(st.just("word"), st.floats(0, 1), st.sampled_from([0, 1, 2, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x10_0000])),
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
        st.tuples(st.just("more"), st.floats(0, 1), st.integers(1, 64)),
    ),
    min_size=1,
    max_size=3,
)


def damaged(data: bytes, damage: list[tuple[str, float, int]], frame: bool) -> bytes:
    """``frame``: the record's length is damaged too; else it is put right, so that the inside gets to be read."""
    body = bytearray(data if frame else data[4:])
    for what, place, value in damage:
        at = int(place * max(0, len(body) - 1))
        if what == "flip" and body:
            body[at] ^= value
        elif what == "word":
            at -= at % 4
            body[at : at + 4] = u32(value)
        elif what == "cut":
            del body[at:]
        elif what == "more":
            body[at:at] = bytes(value * 4)
    return bytes(body) if frame else u32(LAST_FRAGMENT | len(body)) + bytes(body)


class Liar(MemoryLink):
    """Damages the replies, from the ``after``-th on."""

    def __init__(self, server: MemoryServer, damage: list[tuple[str, float, int]], frame: bool, after: int) -> None:
        super().__init__(server)
        self.damage, self.frame, self.after = damage, frame, after

    def receive(self, timeout_s: float) -> bytes:
        data = super().receive(timeout_s)
        self.after -= 1
        if self.after >= 0:
            return data
        found = damaged(data, self.damage, self.frame)
        if not found:
            raise LinkLost("closed")
        return found


def everything(client: NfsClient) -> None:
    """Each kind of call once."""
    client.learn_sizes()
    client.mkdir("vm")
    handle = client.create("vm/a")
    client.write(handle, 0, b"x" * 5000)
    client.commit(handle)
    client.read(handle, 0, 6000)
    client.truncate(handle, 10)
    client.link(handle, "vm/b")
    client.rename("vm/b", "vm/c")
    client.list("vm")
    client.remove("vm/c")
    client.volume()


@settings(max_examples=400, deadline=None)
@given(DAMAGE, st.booleans(), st.integers(0, 25))
def test_damaged_replies_are_errors_of_the_server(
    damage: list[tuple[str, float, int]], frame: bool, after: int
) -> None:
    server = MemoryServer()
    root = client_of(server).root

    def dial(_timeout_s: float) -> Liar:
        return Liar(server, damage, frame, after)

    calls = server.calls
    client = NfsClient(Connection(dial, auth_sys()), root)
    with contextlib.suppress(NfsError):
        everything(client)
    assert server.calls - calls < 200


@given(st.binary(max_size=400))
def test_any_bytes_are_a_reply_or_a_sentence(data: bytes) -> None:
    with contextlib.suppress(NfsError):
        open_reply(data)
    with contextlib.suppress(NfsError):
        Records().feed(data)


@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(1, 9))
def test_records_come_out_as_they_went_in_however_they_are_cut(messages: list[bytes], step: int) -> None:
    stream = b""
    for number, message in enumerate(messages):
        cut = number % (len(message) + 1)
        stream += u32(cut) + message[:cut] + u32(LAST_FRAGMENT | len(message) - cut) + message[cut:]
    records = Records()
    found = [message for at in range(0, len(stream), step) for message in records.feed(stream[at : at + step])]
    assert found == messages


def test_a_message_without_end_takes_no_memory() -> None:
    records = Records()
    tracemalloc.start()
    with pytest.raises(NfsError, match=r"no file server: it announces a message of 2147483647 bytes"):
        records.feed(u32(0x7FFF_FFFF) + bytes(100))
    records = Records()
    with pytest.raises(NfsError, match="fragments"):
        for _ in range(5000):
            records.feed(u32(0))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_list_without_end_is_given_up() -> None:
    """READDIRPLUS that never says "end", with a cookie that goes on."""
    server = MemoryServer()
    root = client_of(server).root

    class Endless(MemoryLink):
        cookie = 0

        def receive(self, timeout_s: float) -> bytes:
            reply = super().receive(timeout_s)
            self.cookie += 1
            name = u32(8) + b"%08d" % self.cookie
            entry = u32(1) + u64(1) + name + u64(self.cookie) + u32(0) + u32(0)
            body = reply[4:28] + u32(0) + u32(0) + bytes(8) + entry + u32(0) + u32(0)
            return u32(LAST_FRAGMENT | len(body)) + body

    client = NfsClient(Connection(lambda _: Endless(server), auth_sys()), root)
    with pytest.raises(NfsError, match="list has no end"):
        client.list("")


def test_a_server_that_only_talks_is_not_listened_to_for_longer_than_the_time_given() -> None:
    seconds = 0.0

    def now_s() -> float:
        nonlocal seconds
        seconds += 0.01
        return seconds

    class Chatter:
        def send(self, data: bytes) -> None:
            pass

        def receive(self, timeout_s: float) -> bytes:
            assert timeout_s > 0
            return u32(LAST_FRAGMENT | 8) + struct.pack(">II", 12345, 1)  # a reply to nobody

        def close(self) -> None:
            pass

    connection = Connection(lambda _: Chatter(), auth_sys(), now_s=now_s)
    with pytest.raises(NfsError, match="does not answer"):
        connection.call(1, b"")
    assert seconds < 20


@given(st.binary(max_size=300))
def test_the_server_in_memory_survives_any_call(data: bytes) -> None:
    server = MemoryServer()
    server.answer(data)
    for procedure in range(22):
        head = struct.pack(">6I", 7, 0, 2, 100003, 3, procedure) + auth_sys() + bytes(8)
        reply = XdrReader(server.answer(head + data)[4:])
        assert reply.u32() == 7
    assert len(server.volume.inodes) == 1


def test_dials_that_fail_and_streams_that_are_silent_are_two_things() -> None:
    def nobody(_timeout_s: float) -> MemoryLink:
        raise LinkLost("Connection refused")

    dial: Dial = nobody
    with pytest.raises(NfsError, match="not to be reached: Connection refused"):
        Connection(dial, auth_sys()).call(0, b"")
    server = MemoryServer()
    server.frozen = True
    with pytest.raises(LinkSilent):
        MemoryLink(server).receive(1)
    with pytest.raises(NfsError, match="does not answer"):
        Connection(server.dial(), auth_sys()).call(0, b"")
