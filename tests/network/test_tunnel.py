"""Frames over TCP: the codec on any pieces of a stream, the link over the loopback interface."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.network.ends import mac, number_of, numbered
from tests.network.test_peer import Cord
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.network.ethernet import BROADCAST
from vilab.network.packets import ip_of
from vilab.network.peer import Peer
from vilab.network.physical_port import Access
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.tunnel import MAX_BUFFERED_BYTES, TunnelLink, TunnelListener, connect
from vilab.network.tunnel_codec import HELLO_BYTES, MAX_FRAME_BYTES, TunnelCodec, TunnelError

FRAMES = st.lists(st.binary(min_size=14, max_size=200), max_size=8)


def talking() -> tuple[TunnelCodec, TunnelCodec]:
    """Two sides that have said hello."""
    first, second = TunnelCodec(), TunnelCodec()
    assert first.feed(second.hello()) == []
    assert second.feed(first.hello()) == []
    return first, second


@given(FRAMES, st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_frames_come_out_as_they_went_in_whatever_pieces_the_stream_is_cut_into(
    frames: list[bytes], sizes: list[int]
) -> None:
    sender, _ = talking()
    reader = TunnelCodec()
    stream = sender.hello() + b"".join(sender.encode(frame) or b"" for frame in frames)
    got: list[bytes] = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        got += reader.feed(stream[at : at + size])
        assert reader.held_bytes < 2 + MAX_FRAME_BYTES
        at, turn = at + size, turn + 1
    assert got == frames
    assert reader.held_bytes == 0


@given(st.lists(st.binary(max_size=40), max_size=10), st.booleans())
def test_any_bytes_are_frames_or_the_end_of_the_connection(pieces: list[bytes], greeted: bool) -> None:
    codec = TunnelCodec(max_frame_bytes=60)
    if greeted:
        codec.feed(TunnelCodec().hello())
    with contextlib.suppress(TunnelError):
        for piece in pieces:
            assert all(14 <= len(frame) <= 60 for frame in codec.feed(piece))
            assert codec.held_bytes < 2 + 60


def test_somebody_else_is_noticed_at_the_first_octet() -> None:
    with pytest.raises(TunnelError):
        TunnelCodec().feed(b"G")


def test_another_version_is_refused() -> None:
    hello = bytearray(TunnelCodec().hello())
    hello[9] += 1
    with pytest.raises(TunnelError, match="version 2"):
        TunnelCodec().feed(bytes(hello))


@pytest.mark.parametrize("length", [1, 13, MAX_FRAME_BYTES + 1, 0xFFFF])
def test_a_length_that_no_frame_has_is_refused_before_the_frame_has_come(length: int) -> None:
    codec, _ = talking()
    with pytest.raises(TunnelError, match=str(length)):
        codec.feed(length.to_bytes(2, "big"))


def test_what_the_other_side_does_not_take_is_not_sent() -> None:
    small, large = TunnelCodec(max_frame_bytes=100), TunnelCodec()
    assert large.encode(bytes(60)) is None, "before the hello"
    large.feed(small.hello())
    assert large.encode(bytes(101)) is None
    assert large.encode(bytes(13)) is None
    assert large.encode(bytes(100)) is not None
    assert large.feed(bytes(2)) == [], "I am here"


# --- on sockets -------------------------------------------------------------------------------------------------------


class Pair:
    """Two links over the loopback interface, each with a port."""

    def __init__(self, first: Cord, second: Cord) -> None:
        listener = TunnelListener()
        near = connect(*listener.address)
        select.select([listener], [], [], 5)
        far = listener.accept()
        assert far is not None
        listener.close()
        self.carrier: list[bool] = []
        self.links = [TunnelLink(first, near, self.carrier.append), TunnelLink(second, far)]

    def settle(self, rounds: int = 20) -> None:
        for _ in range(rounds):
            for link in self.links:
                if link.open:
                    select.select([link], [], [], 0.001)
                link.poll()

    def close(self) -> None:
        for link in self.links:
            link.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    it = Pair(Cord(), Cord())
    yield it
    it.close()


def test_frames_go_both_ways_and_the_link_is_down_when_the_other_side_is_gone(pair: Pair) -> None:
    first, second = pair.links
    assert not first.link_up
    pair.settle()
    assert first.link_up
    assert pair.carrier == [True]
    first.receive(numbered(1, BROADCAST, mac(1)))
    second.receive(numbered(2, BROADCAST, mac(2)))
    pair.settle()
    near, far = first.port, second.port
    assert isinstance(near, Cord)
    assert isinstance(far, Cord)
    assert [number_of(f) for f in far.sent] == [1]
    assert [number_of(f) for f in near.sent] == [2]
    second.close()
    pair.settle(3)
    assert (first.open, first.link_up, first.error, pair.carrier) == (False, False, None, [True, False])
    first.receive(numbered(3, BROADCAST, mac(1)))
    assert first.statistics.dropped == 1


def test_a_slow_reader_costs_frames_and_not_memory(pair: Pair) -> None:
    pair.settle()
    first = pair.links[0]
    first._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for number in range(8000):
        first.receive(numbered(number, BROADCAST, mac(1), 1514))
    assert first.statistics.dropped > 0
    assert len(first._out) <= MAX_BUFFERED_BYTES
    pair.settle(500)
    far = pair.links[1].port
    assert isinstance(far, Cord)
    got = [number_of(f) for f in far.sent]
    assert got == sorted(got)
    assert len(got) == first.statistics.frames_out


def test_garbage_ends_the_link_with_a_sentence() -> None:
    near, far = socket.socketpair()
    link = TunnelLink(Cord(), near)
    far.send(b"GET / HTTP/1.1\r\n\r\n")
    link.poll()
    assert (link.open, link.error) == (False, "The other side does not send frames of vilab.")
    assert far.recv(100)[:8] == b"vilabnet"
    assert len(TunnelCodec().hello()) == HELLO_BYTES
    far.close()


def test_two_switches_in_two_processes_worth_of_clocks_are_one_network() -> None:
    clocks = [VirtualClock(), VirtualClock()]
    switches = [PhysicalSwitch(f"sw{n}", clock, {"t": Access(), "h": Access()}) for n, clock in enumerate(clocks)]
    listener = TunnelListener()
    near = connect(*listener.address)
    select.select([listener], [], [], 5)
    far = listener.accept()
    assert far is not None
    listener.close()
    links = [
        TunnelLink(switch.port("t"), connection, switch.port("t").carrier_changed)
        for switch, connection in zip(switches, (near, far), strict=True)
    ]
    peers = [
        Peer(switch.port("h"), mac(n + 1), ip_of(f"10.0.0.{n + 1}")) for n, switch in enumerate(switches)
    ]  # fmt: skip

    def settle() -> None:
        for _ in range(30):
            for link, clock in zip(links, clocks, strict=True):
                if link.open:
                    select.select([link], [], [], 0.001)
                link.poll()
                clock.run_for(1_000_000)

    try:
        settle()
        peers[0].ping(peers[1].ip)
        settle()
        assert [reply.source for reply in peers[0].replies] == [peers[1].ip]
        links[1].close()
        settle()
        assert not switches[0].port("t").link_up
    finally:
        for link in links:
            link.close()


def test_nobody_there_is_said_in_a_sentence() -> None:
    listener = TunnelListener()
    host, port = listener.address
    with pytest.raises(AdminError, match="Nobody can be waited for"):
        TunnelListener(host, port)
    assert listener.accept() is None
    listener.close()
    with pytest.raises(AdminError, match="no tunnel"):
        connect(host, port, timeout_s=1)
