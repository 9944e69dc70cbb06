"""Two sides of the agent protocol that mean well: whatever pieces the stream comes in, everything arrives."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tests.migration.agent_hosts import SECRET, Messages, Pages, Stunned, joined, met, pair, plain, session, talk
from vilab.errors import AdminError, VmmBug
from vilab.migration.agent_frames import MAX_BODY_BYTES, MAX_MESSAGE_BYTES
from vilab.migration.agent_session import AgentSession, ProtocolError
from vilab.migration.agent_stream import SMALL_BYTES
from vilab.protocols import ReadableBytes

BODIES = st.lists(st.binary(max_size=6000), max_size=4)
SAID = st.lists(st.tuples(st.integers(0, 1 << 40), BODIES), max_size=6)


def test_two_hosts_with_one_secret_meet() -> None:
    a, b = met()
    assert a.established
    assert b.established
    assert (a.peer, b.peer, a.version, b.version) == ("esx2", "esx1", 2, 2)


def test_messages_and_bodies_arrive_in_order_on_both_ways() -> None:
    a, b = met()
    a.send(Pages(1), [b"x" * 4096, memoryview(b"y" * 50_000)])
    a.send(Stunned("ready"))
    b.send(Stunned("thanks"), [bytearray(b"z")])
    assert talk(a, b) == (
        [(Stunned("thanks"), b"z")],
        [(Pages(1), b"x" * 4096 + b"y" * 50_000), (Stunned("ready"), b"")],
        [],
    )


def test_what_is_sent_early_leaves_only_when_the_other_side_is_known() -> None:
    a, b = pair()
    a.send(Stunned("early"), [b"body"])
    b.send(Stunned("also early"))
    a.start()
    hello = joined(a.output())
    assert b"early" not in hello
    welcome = (b.feed(hello), joined(b.output()))[1]
    assert b"early" not in welcome
    assert a.feed(welcome) == []
    assert talk(a, b) == ([(Stunned("also early"), b"")], [(Stunned("early"), b"body")], [])


@given(SAID, st.lists(st.integers(1, 9000), min_size=1, max_size=12), st.booleans())
def test_any_pieces_of_the_stream_give_the_same_messages(
    said: list[tuple[int, list[bytes]]], sizes: list[int], into_room: bool
) -> None:
    a, b = met()
    for first, body in said:
        a.send(Pages(first), body)
    stream, got, at, turn = memoryview(joined(a.output())), [], 0, 0
    while at < len(stream):
        piece = stream[at : at + sizes[turn % len(sizes)]]
        if into_room:
            room = b.room()
            piece = piece[: len(room)]
            room[: len(piece)] = piece
            got += plain(b.received(len(piece)))
        else:
            got += plain(b.feed(piece))
        at, turn = at + len(piece), turn + 1
    assert got == [(Pages(first), b"".join(body)) for first, body in said]
    assert b.held_bytes == 0
    b.end()


def test_a_handshake_of_single_bytes_is_a_handshake() -> None:
    a, b = pair()
    a.start()
    for hears, says in ((b, a), (a, b), (b, a)):
        for byte in joined(says.output()):
            assert hears.feed(bytes([byte])) == []
    assert a.established
    assert b.established


def test_big_parts_of_a_body_are_sent_as_they_are_and_many_small_ones_as_one() -> None:
    a, b = met()
    big: list[ReadableBytes] = [bytearray(b"b" * 3 * SMALL_BYTES), b"c" * SMALL_BYTES]
    a.send(Pages(0), [*big, b""])
    output = a.output()
    assert [id(part) for part in output[1:3]] == [id(part) for part in big]
    small = [bytes([n]) * 100 for n in range(100)]
    a.send(Pages(1), [*small, *big])
    output += a.output()
    assert len(output) == 4 + 3
    got = [one for part in output for one in plain(b.feed(part))]
    assert got == [(Pages(0), b"".join(big)), (Pages(1), b"".join([*small, *big]))]


def test_parts_of_any_shape_are_bytes() -> None:
    a, b = met()
    numbers = memoryview(bytes(range(240))).cast("I").cast("B").cast("I", [6, 10])
    a.send(Pages(0), [numbers, memoryview(bytes(80_000)).cast("Q")])
    assert talk(a, b)[1] == [(Pages(0), bytes(range(240)) + bytes(80_000))]


def test_a_body_stays_as_it_is_while_somebody_has_it() -> None:
    """Its memory is used again only when nobody has it any more."""
    a, b = met()
    kept = []
    for number in range(12):
        a.send(Pages(number), [bytes([number]) * 100_000])
        for part in a.output():
            kept += b.feed(part)
    assert [bytes(one.body) for one in kept] == [bytes([number]) * 100_000 for number in range(12)]
    del kept
    held = b.buffer_bytes
    for number in range(40):
        a.send(Pages(number), [bytes(100_000)])
        for part in a.output():
            b.feed(part)
    assert b.buffer_bytes == held


def test_what_came_whole_before_the_damage_is_in_the_error() -> None:
    a, b = met()
    a.send(Stunned("whole"), [b"body"])
    a.send(Stunned("broken"))
    stream = bytearray(joined(a.output()))
    stream[-1] ^= 1
    with pytest.raises(ProtocolError, match="changed on its way") as caught:
        b.feed(stream)
    assert plain(caught.value.before) == [(Stunned("whole"), b"body")]
    for again in (lambda: b.feed(b""), b.room, lambda: b.received(0), b.end, lambda: b.send(Stunned("no"))):
        with pytest.raises(ProtocolError, match="changed on its way") as later:
            again()
        assert later.value.before == []
    assert not b.established


def test_the_last_word_of_a_session_is_heard_by_the_other_side() -> None:
    a, b = met()
    b.refuse("there is no memory for another machine on host esx2.")
    _, _, errors = talk(a, b)
    assert errors == [
        "Host esx2 ended the connection with host esx1: there is no memory for another machine on host esx2."
    ]
    assert str(b.error) == errors[0]


def test_versions_are_negotiated_to_the_newest_of_both() -> None:
    a, b = session("esx1", True, versions=(1, 4)), session("esx2", False, versions=(2, 3))
    a.start()
    assert talk(a, b) == ([], [], [])
    assert (a.version, b.version) == (3, 3)


@pytest.mark.parametrize(
    ("ours", "theirs", "older"), [((1, 1), (2, 3), "esx1"), ((4, 5), (2, 3), "esx2")], ids=["newer", "older"]
)
def test_hosts_without_a_common_version_say_which_one_is_to_be_updated(
    ours: tuple[int, int], theirs: tuple[int, int], older: str
) -> None:
    a, b = session("esx1", True, versions=ours), session("esx2", False, versions=theirs)
    a.start()
    got_a, got_b, errors = talk(a, b)
    assert (got_a, got_b) == ([], [])
    assert len(errors) == 2
    for error in errors:
        assert f"versions {ours[0]} to {ours[1]}" in error
        assert f"{theirs[0]} to {theirs[1]}: update host {older}." in error


def test_an_end_between_frames_is_none_of_the_protocols_business() -> None:
    a, b = met()
    a.end()
    b.end()
    a.send(Stunned("last"))
    assert talk(a, b)[1] == [(Stunned("last"), b"")]
    b.end()


def test_our_own_mistakes_are_not_sent() -> None:
    class Other(msgspec.Struct, tag=True):
        pass

    class Derived(Pages, tag=True):
        pass

    a, b = met()
    with pytest.raises(VmmBug, match="Other"):
        a.send(Other())
    with pytest.raises(VmmBug, match="Derived"):
        a.send(Derived(1))
    with pytest.raises(VmmBug, match="longer than"):
        a.send(Pages(0), [bytes(MAX_BODY_BYTES), b"1"])
    with pytest.raises(VmmBug, match="does not fit"):
        a.send(Pages(0, bytes(MAX_MESSAGE_BYTES)))
    with pytest.raises(VmmBug, match="twice"):
        a.start()
    with pytest.raises(VmmBug, match="twice"):
        b.start()
    assert a.output() == b.output() == []


@pytest.mark.parametrize("name", ["", "esx\n1", "x" * 256, "é" * 128, "\ud800"])
def test_a_host_has_a_name_that_can_be_said(name: str) -> None:
    with pytest.raises(AdminError, match="give it 1 to 255 printable characters"):
        session(name, True)


def test_a_datacenter_has_a_secret() -> None:
    with pytest.raises(AdminError, match="Host esx1 has no secret for datacenter lab"):
        session("esx1", True, secret=b"", datacenter="lab")


def test_the_longest_names_fit() -> None:
    a, b = (session(c * 255, c == "a", datacenter="d" * 255) for c in "ab")
    a.start()
    assert talk(a, b) == ([], [], [])
    assert a.peer == "b" * 255


def mac(key: bytes, label: str, data: bytes = b"") -> bytes:
    """HMAC by its definition (RFC 2104)."""
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    return hashlib.sha256(outer + hashlib.sha256(inner + label.encode() + b"\0" + data).digest()).digest()


def tag(key: bytes, data: bytes) -> bytes:
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    return hashlib.sha256(outer + hashlib.sha256(inner + data).digest()).digest()


def test_a_peer_that_was_written_from_the_datasheet_understands_and_is_understood() -> None:
    """Both sides of all other tests are the same code: it could leave out what it likes."""
    b = session("esx2", False, datacenter="lab")
    greeting = bytes(range(32)) + b"\4esx1" + b"\3lab"
    hello = b"vilabagt" + bytes([1, 2, 2, 0]) + struct.pack(">H", len(greeting)) + greeting
    assert b.feed(hello) == []
    welcome = joined(b.output())
    assert welcome[:14] == b"vilabagt" + bytes([2, 2, 2, 2]) + struct.pack(">H", len(welcome) - 14)
    assert welcome[46:-32] == b"\4esx2" + b"\3lab"
    root = mac(SECRET, "vilab agent", b"lab")
    assert welcome[-32:] == mac(root, "proof of the responder", hello + welcome[:-32])
    proof = b"vilabagt" + bytes([3, 2, 2, 0, 0, 32])
    proof += mac(root, "proof of the initiator", hello + welcome + proof)
    assert b.feed(proof) == []
    keys = mac(root, "session", hello + welcome + proof)

    def frame(role: str, sequence: int, message: bytes, body: bytes) -> bytes:
        key = mac(keys, f"frames of the {role}")
        seed = int.from_bytes(mac(keys, f"bodies of the {role}")[:8], "big")
        head = struct.pack(">QHHII", sequence, 1, 0, len(message), len(body))
        head += tag(key, head)[:12]
        hashes = b""
        for at in range(0, len(body), 4096):
            hashes += xxhash.xxh3_128_intdigest(body[at : at + 4096], seed).to_bytes(16, "big")
        return head + body + message + tag(key, head + message + hashes)[:16]

    packed = [msgspec.msgpack.encode({"type": "Stunned", "why": why}) for why in ("one", "two")]
    body = bytes(range(256)) * 40
    assert plain(b.feed(frame("initiator", 0, packed[0], body) + frame("initiator", 1, packed[1], b""))) == [
        (Stunned("one"), body), (Stunned("two"), b""),
    ]  # fmt: skip
    b.send(Stunned("one"))
    b.send(Stunned("two"), [body[:5000], body[5000:8192], body[8192:]])
    assert joined(b.output()) == frame("responder", 0, packed[0], b"") + frame("responder", 1, packed[1], body)


class Inner(msgspec.Struct):
    known: int


class Outer(msgspec.Struct, tag="Outer"):
    """Does not say itself that it refuses unknown fields."""

    inner: Inner
    several: dict[str, list[Inner]] = {}


class NewInner(msgspec.Struct):
    known: int
    unknown: int = 0


class NewOuter(msgspec.Struct, tag="Outer"):
    inner: NewInner


class ListOuter(msgspec.Struct, tag="Outer"):
    inner: Inner
    several: dict[str, list[NewInner]]


class NewestOuter(msgspec.Struct, tag="Outer"):
    inner: Inner
    unknown: str = "?"


@pytest.mark.parametrize(
    "message",
    [NewOuter(NewInner(1)), ListOuter(Inner(1), {"x": [NewInner(1)]}), NewestOuter(Inner(1))],
    ids=["nested", "in a list", "in the message"],
)  # fmt: skip
def test_an_unknown_field_is_refused_however_deep(message: msgspec.Struct) -> None:
    a = AgentSession("esx1", b"secret", type(message), initiator=True)
    b = AgentSession("esx2", b"secret", Outer, initiator=False)
    a.start()
    a.send(message)
    got_a, got_b, errors = talk(a, b)
    assert (got_a, got_b) == ([], [])
    assert "Host esx2 ended the connection with host esx1: host esx1 sends" in errors[0]
    assert "unknown" in errors[0]


def test_what_is_known_passes_the_same_check() -> None:
    a = AgentSession("esx1", b"secret", Outer, initiator=True)
    b = AgentSession("esx2", b"secret", Outer, initiator=False)
    said = Outer(Inner(1), {"x": [Inner(2), Inner(3)]})
    a.start()
    a.send(said)
    assert talk(a, b) == ([], [(said, b"")], [])


@pytest.mark.parametrize("bad", [Inner, int, Messages | None, Pages | dict], ids=str)
def test_messages_are_tagged_records(bad: Any) -> None:
    with pytest.raises(VmmBug, match="is no message"):
        AgentSession("esx1", b"secret", bad, initiator=True)


def test_the_same_nonces_give_the_same_bytes() -> None:
    """Nothing depends on a clock: a recording can be played in a lesson."""

    def stream() -> list[bytes]:
        a, b = session("esx1", True, nonce=b"a"), session("esx2", False, nonce=b"b")
        said: list[bytes] = []

        def record(_way: str, data: bytes) -> bytes:
            said.append(data)
            return data

        a.start()
        a.send(Stunned("now"), [b"body"])
        assert talk(a, b, record)[1] == [(Stunned("now"), b"body")]
        return said

    assert stream() == stream()
