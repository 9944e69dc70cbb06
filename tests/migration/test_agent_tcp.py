"""The end of a link over TCP on the loopback interface: nothing blocks, nothing is lost, each end has its sentence."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import tools
from tests.migration.agent_hosts import SECRET, Got, Pages, Stunned, session
from vilab.errors import AdminError
from vilab.migration.agent_port import AgentPort
from vilab.migration.agent_session import AgentSession
from vilab.migration.agent_tcp import TcpLink, TcpListener, connect
from vilab.migration.agent_tls import tls_context
from vilab.protocols import ReadableBytes

PATIENCE_S = 20.0
Pair = tuple[TcpLink, TcpLink]


def drive(*links: TcpLink, until: Callable[[], bool]) -> None:
    """Poll them until it is so. A test that waits in vain fails."""
    deadline = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < deadline, "nothing more happens"
        if sum(link.poll() for link in links):
            continue
        reads = [link for link in links if link.open]
        if reads and not until():
            select.select(reads, [link for link in reads if link.wants_write], [], 0.05)


def accepted(listener: TcpListener) -> TcpLink:
    select.select([listener], [], [], PATIENCE_S)
    link = listener.accept()
    assert link is not None
    return link


@contextlib.contextmanager
def joined(a_tls: ssl.SSLContext | None = None, b_tls: ssl.SSLContext | None = None) -> Iterator[Pair]:
    """``a`` has called ``b``."""
    listener = TcpListener("esx2", "127.0.0.1", tls=b_tls)
    a = connect("esx1", "127.0.0.1", listener.port, a_tls)
    b = accepted(listener)
    listener.close()
    try:
        yield a, b
    finally:
        a.close()
        b.close()


class Ear:
    def __init__(self, link: TcpLink) -> None:
        self.data = bytearray()
        self.ends: list[str] = []
        link.on_data, link.on_end = self._data, self.ends.append

    def _data(self, data: ReadableBytes) -> None:
        self.data += data


class Certificates:
    """Of two hosts that trust each other, and of one that nobody trusts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        openssl = tools.require_tool("openssl", "the Debian package openssl")
        for name in ("esx1", "esx2", "stranger"):
            subprocess.run(
                [
                    openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "30", "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", self.of(name),
                ],
                check=True, capture_output=True,
            )  # fmt: skip
        self.trusted = folder / "trusted.crt"
        self.trusted.write_bytes(self.of("esx1").read_bytes() + self.of("esx2").read_bytes())

    def of(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def context(self, name: str, trusts: Path | None = None, *, listens: bool = False) -> ssl.SSLContext:
        return tls_context(self.of(name), self.folder / f"{name}.key", trusts or self.trusted, listens=listens)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    contexts: tuple[ssl.SSLContext, ...] = ()
    if request.param == "tls":
        made: Certificates = request.getfixturevalue("certificates")
        contexts = made.context("esx1"), made.context("esx2", listens=True)
    with joined(*contexts) as links:
        yield links


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_bytes_arrive_in_order_on_both_ways(pair: Pair) -> None:
    a, b = pair
    ear_a, ear_b = Ear(a), Ear(b)
    a.send([b"one ", memoryview(b"two "), bytearray(b"three"), b""])
    b.send([b"back"])
    drive(a, b, until=lambda: len(ear_b.data) == 13 and len(ear_a.data) == 4)
    assert ear_b.data == b"one two three"
    assert ear_a.data == b"back"
    assert (a.sent_bytes, b.sent_bytes, a.waiting_bytes) == (13, 4, 0)


def test_more_than_the_sockets_take_waits_and_arrives(pair: Pair) -> None:
    """The other side reads nothing at first: sending does not block, and what waits is counted."""
    a, b = pair
    ear = Ear(b)
    drive(a, b, until=lambda: a.up and b.up)
    block = bytes(range(256)) * 4096
    for number in range(40):
        a.send([bytes([number]), block])
    said = b"".join(bytes([number]) + block for number in range(40))
    assert 0 < a.waiting_bytes <= len(said)
    assert a.waiting_bytes + a.sent_bytes == len(said)
    assert a.wants_write
    drive(a, b, until=lambda: len(ear.data) == len(said))
    assert ear.data == said
    assert (a.waiting_bytes, a.wants_write) == (0, False)


def test_many_small_parts_are_sent(pair: Pair) -> None:
    a, b = pair
    ear = Ear(b)
    parts = [bytes([n % 256]) * (n % 7) for n in range(5000)]
    a.send(parts)
    drive(a, b, until=lambda: len(ear.data) == sum(map(len, parts)))
    assert ear.data == b"".join(parts)


@pytest.mark.parametrize("how", ["at once", "settled", "pages settled"])
def test_what_its_owner_changes_after_sending_it_is_not_changed(pair: Pair, how: str) -> None:
    a, b = pair
    ear = Ear(b)
    page = bytearray(b"a" * (24 << 20))
    if how == "at once":
        a.send([page])
    elif how == "pages settled":
        a.send([memoryview(page)[at : at + 4096] for at in range(0, len(page), 4096)], unchanging=True)
        a.settle()
    else:
        a.send([memoryview(page)], unchanging=True)
        a.settle()
    assert a.waiting_bytes
    page[:] = bytes(len(page))
    drive(a, b, until=lambda: len(ear.data) == len(page))
    assert ear.data == b"a" * len(page)


def test_what_does_not_change_is_not_copied() -> None:
    with joined() as (a, b):
        ear = Ear(b)
        drive(a, b, until=lambda: a.up and b.up)
        page = bytearray(24 << 20)
        a.send([page], unchanging=True)
        assert a.waiting_bytes
        page[-1] = 7  # a promise broken, to see that it is the same memory
        drive(a, b, until=lambda: len(ear.data) == len(page))
        assert ear.data[-1] == 7


def test_bytes_are_received_where_they_are_wanted(pair: Pair) -> None:
    a, b = pair
    place = bytearray(100_000)
    filled = 0

    def received(count: int) -> None:
        nonlocal filled
        filled += count

    b.room, b.on_received = lambda: memoryview(place)[filled:], received
    said = bytes(range(250)) * 400
    a.send([said])
    drive(a, b, until=lambda: filled == len(said))
    assert place == said


# --- ends -------------------------------------------------------------------------------------------------------------


def test_who_closes_is_heard_to_the_end(pair: Pair) -> None:
    a, b = pair
    ear_a, ear_b = Ear(a), Ear(b)
    b.send([b"unread"])
    drive(a, b, until=lambda: len(ear_a.data) == 6)
    b.send([b"still unread"])
    a.send([b"last word"])
    a.close()
    a.close()
    a.send([b"no more"])
    assert a.poll() == 0
    drive(b, until=lambda: bool(ear_b.ends))
    assert ear_b.data == b"last word"
    assert ear_b.ends[0].startswith("The connection of host esx2 with 127.0.0.1:")
    assert ear_b.ends[0].endswith("was closed by the other side: look what has become of its agent.")
    assert not ear_a.ends
    assert not b.open
    assert b.poll() == 0
    assert len(ear_b.ends) == 1


def test_a_reset_is_a_sentence() -> None:
    listener = TcpListener("esx2", "127.0.0.1")
    raw = socket.create_connection(("127.0.0.1", listener.port))
    b = accepted(listener)
    listener.close()
    ear = Ear(b)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raw.close()
    drive(b, until=lambda: bool(ear.ends))
    assert "was lost (Connection reset by peer): look what has become of its agent." in ear.ends[0]


def test_the_last_word_is_heard_although_nothing_can_be_sent_any_more() -> None:
    """The other side says why and goes, while this one is in the middle of sending a lot."""
    with joined() as (a, b):
        ear = Ear(a)
        drive(a, b, until=lambda: a.up and b.up)
        a.send([bytes(32 << 20)])
        b.send([b"no memory left"])
        b.close()
        drive(a, until=lambda: bool(ear.ends))
        assert ear.data == b"no memory left"
        assert len(ear.ends) == 1
        assert a.waiting_bytes == 0


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    a = connect("esx1", "127.0.0.1", port)
    ear = Ear(a)
    a.send([b"hello?"])
    drive(a, until=lambda: bool(ear.ends))
    assert ear.ends == [
        f"The connection of host esx1 with 127.0.0.1:{port} could not be made (Connection refused): "
        "look whether an agent listens there."
    ]


def test_addresses_that_are_none() -> None:
    with pytest.raises(AdminError, match="Host esx1 cannot call the agent at no host here:1: "):
        connect("esx1", "no host here", 1)
    with pytest.raises(AdminError, match=r"Host esx1 cannot call the agent at 127\.0\.0\.1:70000: a port is a number"):
        connect("esx1", "127.0.0.1", 70000)
    listener = TcpListener("esx1", "127.0.0.1")
    assert listener.accept() is None
    with pytest.raises(AdminError, match=r"The agent of host esx2 cannot listen on 127\.0\.0\.1:\d+: Address already"):
        TcpListener("esx2", "127.0.0.1", listener.port)
    listener.close()
    assert listener.accept() is None


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_what_is_said_over_tls_cannot_be_read(certificates: Certificates) -> None:
    said = b"a page of a guest with a password in it"
    wires = [socket.socketpair(), socket.socketpair()]
    a = TcpLink(wires[0][0], "esx1", "esx2", certificates.context("esx1"))
    b = TcpLink(wires[1][0], "esx2", "esx1", certificates.context("esx2", listens=True), listened=True)
    ear, seen = Ear(b), bytearray()
    taps = wires[0][1], wires[1][1]
    for tap in taps:
        tap.setblocking(False)
    a.send([said])
    deadline = time.monotonic() + PATIENCE_S
    while ear.data != said and time.monotonic() < deadline:
        a.poll()
        b.poll()
        for tap, other in (taps, taps[::-1]):
            with contextlib.suppress(BlockingIOError):
                data = tap.recv(65536)
                seen += data
                other.sendall(data)
    assert ear.data == said
    assert len(seen) > len(said)
    assert said not in seen
    for link in (a, b):
        link.close()
    for tap in taps:
        tap.close()


@pytest.mark.parametrize("stranger", ["calls", "is called"])
def test_a_certificate_that_is_not_trusted_is_refused(certificates: Certificates, stranger: str) -> None:
    names = ("stranger", "esx2") if stranger == "calls" else ("esx1", "stranger")
    with joined(certificates.context(names[0]), certificates.context(names[1], listens=True)) as (a, b):
        ear_a, ear_b = Ear(a), Ear(b)
        a.send([b"never"])
        drive(a, b, until=lambda: bool(ear_a.ends) and bool(ear_b.ends))
        assert not ear_a.data
        assert not ear_b.data
        refuses = ear_b.ends[0] if stranger == "calls" else ear_a.ends[0]
        assert "self-signed certificate" in refuses
        assert "look at the certificates that both sides have and trust." in refuses


def test_one_side_without_tls(certificates: Certificates) -> None:
    for contexts in ((None, certificates.context("esx2", listens=True)), (certificates.context("esx1"), None)):
        with joined(*contexts) as (a, b):
            ends: list[str] = []
            AgentPort(session("esx2", False), b, lambda _one: None, ends.append)
            AgentPort(session("esx1", True), a, lambda _one: None, ends.append)
            drive(a, b, until=lambda ends=ends: len(ends) == 2)  # type: ignore[misc]
            assert any("TLS" in end for end in ends)
            assert all(end.endswith(".") and "\n" not in end for end in ends)


def test_certificates_that_are_none(certificates: Certificates, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.crt"
    nonsense.write_text("no certificate")
    good, key = certificates.of("esx1"), certificates.folder / "esx1.key"
    other = certificates.folder / "esx2.key"
    for files, why in (
        ((tmp_path / "none.crt", key, good), "There is no file .*none.crt for TLS: make a certificate"),
        ((nonsense, key, good), "nonsense.crt and .*esx1.key are no certificate with its key"),
        ((good, other, good), "are no certificate with its key"),
        ((good, key, nonsense), "nonsense.crt has no certificates of other hosts"),
    ):
        with pytest.raises(AdminError, match=why):
            tls_context(*files, listens=True)


# --- agents -----------------------------------------------------------------------------------------------------------


class Agents:
    def __init__(self, a: TcpLink, b: TcpLink, b_secret: bytes = b"") -> None:
        self.links = a, b
        self.got: tuple[list[Got], list[Got]] = ([], [])
        self.ended: tuple[list[str], list[str]] = ([], [])
        self.a = self._port(session("esx1", True), 0)
        self.b = self._port(session("esx2", False, b_secret or SECRET), 1)

    def _port(self, side: AgentSession, at: int) -> AgentPort:
        got = self.got[at]
        return AgentPort(
            side, self.links[at], lambda one: got.append((one.message, bytes(one.body))), self.ended[at].append
        )

    def drive(self, until: Callable[[], bool]) -> None:
        drive(*self.links, until=until)


def test_agents_talk_over_tcp(pair: Pair) -> None:
    agents = Agents(*pair)
    page = bytes(range(256)) * 16
    bodies = [page * n for n in (0, 1, 2, 3, 500, 1, 700, 0, 9)]
    for number, body in enumerate(bodies):
        agents.a.send(Pages(number), [memoryview(body)[at : at + 4096] for at in range(0, len(body), 4096)])
        agents.b.send(Stunned(str(number)))
    agents.drive(lambda: len(agents.got[0]) == len(agents.got[1]) == len(bodies))
    assert agents.got[1] == [(Pages(number), body) for number, body in enumerate(bodies)]
    assert agents.got[0] == [(Stunned(str(number)), b"") for number in range(len(bodies))]
    assert agents.ended == ([], [])


def test_a_wrong_secret_is_said_on_both_sides(pair: Pair) -> None:
    agents = Agents(*pair, b_secret=b"another one")
    agents.a.send(Stunned("never"))
    agents.drive(lambda: all(map(bool, agents.ended)))
    assert agents.got == ([], [])
    assert agents.ended[0] == agents.ended[1]
    assert "compare the secrets of both hosts" in agents.ended[0][0]
    assert not any(end.open for end in (*pair, agents.a, agents.b))


def test_a_peer_that_dies_in_the_middle_of_a_body_is_noticed() -> None:
    with joined() as (a, b):
        agents = Agents(a, b)
        agents.drive(lambda: agents.a.session.established and agents.b.session.established)
        agents.a.send(Pages(1), [bytes(8 << 20)])
        agents.drive(lambda: agents.b.session.held_bytes > 100_000)
        a._socket.close()
        a.open = False
        drive(b, until=lambda: bool(agents.ended[1]))
        assert agents.got[1] == []
        assert agents.ended[1][0].startswith(
            "Host esx2 ended the connection with host esx1: the stream ended in the middle of a frame, "
            "look whether host esx1 is still up (The connection of host esx2 with 127.0.0.1:"
        )


@pytest.mark.parametrize(
    "stranger", [b"GET / HTTP/1.0\r\n\r\n", bytes(100), b"\x16\x03\x01\x02\0\x01\0", b"SSH-2.0-x\r\n"]
)
def test_a_stranger_who_calls_is_sent_away(stranger: bytes) -> None:
    listener = TcpListener("esx2", "127.0.0.1")
    with socket.create_connection(("127.0.0.1", listener.port)) as raw:
        link = accepted(listener)
        listener.close()
        ended: list[str] = []
        AgentPort(session("esx2", False), link, lambda _one: None, ended.append)
        raw.sendall(stranger)
        drive(link, until=lambda: bool(ended))
        assert ended[0].startswith("Host esx2 ended the connection with the other side: the other side ")
        raw.settimeout(PATIENCE_S)
        answer = b""
        while piece := raw.recv(1000):
            answer += piece
        assert b"look whether its address and port" in answer


def test_a_caller_who_says_nothing_holds_nothing_up() -> None:
    listener = TcpListener("esx2", "127.0.0.1")
    with socket.create_connection(("127.0.0.1", listener.port)) as silent:
        quiet = accepted(listener)
        AgentPort(session("esx2", False), quiet, lambda _one: None, lambda _why: None)
        silent.sendall(b"vilab")
        a = connect("esx1", "127.0.0.1", listener.port)
        b = accepted(listener)
        listener.close()
        agents = Agents(a, b)
        drive(quiet, a, b, until=lambda: agents.a.session.established and agents.b.session.established)
        assert quiet.open
        for link in (quiet, a, b):
            link.close()
