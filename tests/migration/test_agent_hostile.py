"""The agent protocol on streams that somebody has changed, cut, mixed, played again or invented.

Each ends with one sentence for a person, and of the damaged stream nothing is delivered from the damage on.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.migration.agent_hosts import SECRET, Got, Messages, Pages, Stunned, joined, met, pair, plain, session, talk
from vilab.errors import AdminError
from vilab.migration.agent_frames import (
    HEADER_BYTES,
    MAGIC,
    MAX_BODY_BYTES,
    MAX_HANDSHAKE_BYTES,
    MAX_MESSAGE_BYTES,
    FrameHeader,
    Handshake,
    Kind,
    encode_handshake,
    encode_header,
)
from vilab.migration.agent_intake import STAGING_BYTES
from vilab.migration.agent_session import AgentSession, ProtocolError

TO_B: list[tuple[msgspec.Struct, bytes]] = [(Pages(1, b"ppns"), b"page" * 20), (Stunned("now"), b""), (Pages(2), b"z")]
TO_A: list[tuple[msgspec.Struct, bytes]] = [(Stunned("thanks"), b""), (Pages(3), b"abc")]


def is_a_sentence(text: str, *names: str) -> None:
    assert text[0].isupper(), text
    assert text.endswith("."), text
    assert not text.endswith(".."), text
    assert text.isprintable(), text
    assert len(text) < 900, text
    for name in names:
        assert f"host {name}" in text.replace("Host", "host"), text


def conversation() -> tuple[AgentSession, AgentSession]:
    """The same bytes every time."""
    a, b = session("esx1", True, nonce=b"nonce of a"), session("esx2", False, nonce=b"nonce of b")
    a.start()
    for side, said in ((a, TO_B), (b, TO_A)):
        for message, body in said:
            side.send(message, [body])
    return a, b


def recorded() -> dict[str, bytes]:
    """All that goes each way."""
    streams = {"a>b": b"", "b>a": b""}

    def record(way: str, data: bytes) -> bytes:
        streams[way] += data
        return data

    a, b = conversation()
    assert talk(a, b, record) == (TO_A, TO_B, [])
    return streams


def handshake_bytes(way: str) -> int:
    """How many of them are the handshake."""
    a, b = session("esx1", True, nonce=b"nonce of a"), session("esx2", False, nonce=b"nonce of b")
    count = {"a>b": 0, "b>a": 0}

    def measure(to: str, data: bytes) -> bytes:
        count[to] += len(data)
        return data

    a.start()
    talk(a, b, measure)
    return count[way]


def frame_ends(stream: bytes, way: str) -> list[int]:
    """Where each frame ends, read by the layout in the datasheet."""
    at, ends = handshake_bytes(way), []
    while at < len(stream):
        message = int.from_bytes(stream[at + 12 : at + 16], "big")
        body = int.from_bytes(stream[at + 16 : at + 20], "big")
        at += 32 + body + message + 16
        ends.append(at)
    assert at == len(stream)
    return ends


def changed_at(way: str, at: int, mask: int) -> tuple[list[Got], list[Got], list[str]]:
    """A conversation with some bits of one byte flipped; sides that wait for more are told that no more comes."""
    seen = 0

    def flip(to: str, data: bytes) -> bytes:
        nonlocal seen
        if to != way:
            return data
        changed = bytearray(data)
        if seen <= at < seen + len(data):
            changed[at - seen] ^= mask
        seen += len(data)
        return bytes(changed)

    a, b = conversation()
    got_a, got_b, errors = talk(a, b, flip)
    assert seen > at
    for side in (a, b):
        if side.error is None:
            try:
                side.end()
            except ProtocolError as error:
                errors.append(str(error))
    return got_a, got_b, errors


# --- changed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["a>b", "b>a"])
def test_every_flipped_bit_of_the_handshake_ends_it_before_anything_is_said(way: str) -> None:
    for at in range(handshake_bytes(way)):
        for bit in range(8):
            got_a, got_b, errors = changed_at(way, at, 1 << bit)
            assert (got_a, got_b) == ([], []), (at, bit)
            assert errors, (at, bit)
            for error in errors:
                is_a_sentence(error)


@pytest.mark.parametrize("way", ["a>b", "b>a"])
def test_a_flipped_bit_of_the_stream_stops_it_there(way: str) -> None:
    """Each byte of each frame, one bit of it: in all eight places over the stream."""
    stream, said = recorded()[way], {"a>b": TO_B, "b>a": TO_A}[way]
    ends = frame_ends(stream, way)
    for at in range(handshake_bytes(way), len(stream)):
        got_a, got_b, errors = changed_at(way, at, 1 << at % 8)
        got = got_b if way == "a>b" else got_a
        assert got == said[: sum(end <= at for end in ends)], at
        assert errors, at
        for error in errors:
            is_a_sentence(error, "esx1", "esx2")


@pytest.mark.parametrize("way", ["a>b", "b>a"])
def test_a_stream_that_is_cut_anywhere_is_never_taken_for_a_whole_one(way: str) -> None:
    stream, said = recorded()[way], {"a>b": TO_B, "b>a": TO_A}[way]
    ends = frame_ends(stream, way)
    for length in range(len(stream)):
        left = length

        def cut(to: str, data: bytes) -> bytes:
            nonlocal left
            if to != way:
                return data
            data, left = data[:left], left - min(left, len(data))
            return data

        a, b = conversation()
        got_a, got_b, errors = talk(a, b, cut)
        side, got = (b, got_b) if way == "a>b" else (a, got_a)
        assert errors == [], length
        assert got == said[: sum(end <= length for end in ends)], length
        if length in (handshake_bytes(way), *ends):
            side.end()  # between frames: whether all was said, messages have to tell
        else:
            with pytest.raises(ProtocolError, match="ended") as caught:
                side.end()
            is_a_sentence(str(caught.value), "esx2" if side is b else "esx1")


def frames() -> tuple[AgentSession, list[bytes]]:
    """A session that has begun, and five frames for it."""
    a, b = met()
    made = []
    for number in range(5):
        a.send(Pages(number), [bytes([number]) * 10])
        made.append(joined(a.output()))
    return b, made


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("second", range(5))
def test_frames_in_another_order_are_refused(first: int, second: int) -> None:
    b, made = frames()
    if first == second:  # the same one twice
        made.insert(first, made[first])
    else:
        made[first], made[second] = made[second], made[first]
    with pytest.raises(ProtocolError, match="is due: frames were lost, repeated or reordered") as caught:
        b.feed(b"".join(made))
    before = min(first, second) + (first == second)
    assert [one.message.first for one in caught.value.before] == list(range(before))
    is_a_sentence(str(caught.value), "esx1", "esx2")


@pytest.mark.parametrize("lost", range(4))
def test_a_frame_that_is_missing_is_missed(lost: int) -> None:
    b, made = frames()
    del made[lost]
    with pytest.raises(ProtocolError, match=f"sends frame {lost + 1} where {lost} is due"):
        b.feed(b"".join(made))


EDIT = st.tuples(st.integers(0, 3000), st.integers(0, 80), st.binary(max_size=80))


@given(st.lists(EDIT, min_size=1, max_size=3), st.integers(1, 500))
def test_whatever_is_done_to_a_stream_what_is_delivered_was_sent_before_it(
    edits: list[tuple[int, int, bytes]], piece: int
) -> None:
    a, b = met()
    said, stream, ends = [], b"", []
    for number in range(6):
        body = bytes([number]) * number * 90
        a.send(Pages(number, b"p" * number), [body])
        said.append((Pages(number, b"p" * number), body))
        stream += joined(a.output())
        ends.append(len(stream))
    changed = stream
    for at, remove, insert in edits:
        changed = changed[:at] + insert + changed[at + remove :]
    same = next(
        (n for n, (x, y) in enumerate(zip(stream, changed, strict=False)) if x != y), min(len(stream), len(changed))
    )
    got: list[Got] = []
    try:
        for at in range(0, len(changed), piece):
            got += plain(b.feed(changed[at : at + piece]))
        b.end()
    except ProtocolError as error:
        got += plain(error.before)
        is_a_sentence(str(error), "esx1", "esx2")
    else:
        assert changed == stream or len(changed) == same
        assert len(changed) in (0, *ends)
    assert got == said[: sum(end <= same for end in ends)]


# --- another one's ----------------------------------------------------------------------------------------------------


def test_a_recorded_session_cannot_be_played_to_the_one_who_was_called() -> None:
    streams = recorded()
    b = session("esx2", False)
    with pytest.raises(ProtocolError, match="could not show that it knows the secret") as caught:
        b.feed(streams["a>b"])
    assert caught.value.before == []
    is_a_sentence(str(caught.value), "esx1", "esx2")


def test_a_recorded_session_cannot_be_played_to_the_one_who_calls() -> None:
    streams = recorded()
    a = session("esx1", True)
    a.start()
    with pytest.raises(ProtocolError, match="could not show that it knows the secret") as caught:
        a.feed(streams["b>a"])
    assert caught.value.before == []


def test_frames_of_an_older_session_do_not_belong_to_a_new_one() -> None:
    old_a, _old_b = met()
    old_a.send(Stunned("old"))
    _a, b = met()
    with pytest.raises(ProtocolError, match="does not belong to this session"):
        b.feed(joined(old_a.output()))


def test_a_mirror_is_no_host() -> None:
    a = session("esx1", True)
    a.start()
    with pytest.raises(ProtocolError, match="sends back what host esx1 has said itself") as caught:
        a.feed(joined(a.output()))
    is_a_sentence(str(caught.value), "esx1")


def test_frames_that_come_back_are_refused() -> None:
    for side in (0, 1):
        host = met()[side]
        host.send(Stunned("now"), [b"body"])
        with pytest.raises(ProtocolError, match=f"sends back what host {host.name} has said itself") as caught:
            host.feed(joined(host.output()))
        assert caught.value.before == []


def test_our_own_proof_is_not_the_other_ones() -> None:
    """A stranger says hello with the nonce of his own, and answers with the proof that he was given."""
    a, b = session("esx1", True), session("esx2", False)
    a.start()
    b.feed(joined(a.output()))
    welcome = joined(b.output())
    with pytest.raises(ProtocolError, match="could not show that it knows the secret") as caught:
        b.feed(encode_handshake(Handshake.PROOF, welcome[-32:], (2, 2)))
    is_a_sentence(str(caught.value), "esx1", "esx2")
    with pytest.raises(ProtocolError, match="sends back what host esx2 has said itself"):
        again = session("esx2", False)
        again.feed(joined_hello())
        again.feed(joined(again.output()))


def joined_hello() -> bytes:
    a = session("esx1", True)
    a.start()
    return joined(a.output())


def test_a_host_is_not_talked_into_proving_things_to_itself() -> None:
    """A stranger in the middle calls the host that has called him, and passes on what it says."""
    calls, is_called = session("esx1", True), session("esx1", False)
    calls.start()
    got_a, got_b, errors = talk(calls, is_called)
    assert (got_a, got_b) == ([], [])
    assert "same name" in errors[0]
    for error in errors:
        is_a_sentence(error, "esx1")


def test_a_conversation_can_not_be_joined_with_another_one() -> None:
    """Two sessions of the same hosts at the same time: what is said in one is nothing in the other."""
    (a, b), (a2, b2) = met(), met()
    a.send(Stunned("one"))
    a2.send(Stunned("two"))
    with pytest.raises(ProtocolError, match="does not belong to this session"):
        b2.feed(joined(a.output()))
    assert plain(b.feed(b"")) == []


def test_the_wrong_secret_is_named_on_both_sides() -> None:
    a, b = session("esx1", True), session("esx2", False, secret=b"another secret")
    a.start()
    a.send(Stunned("never"))
    b.send(Stunned("never"))
    got_a, got_b, errors = talk(a, b)
    assert (got_a, got_b) == ([], [])
    assert (
        errors
        == [
            "Host esx1 ended the connection with host esx2: host esx2 could not show that it knows the secret of "
            "datacenter datacenter: compare the secrets of both hosts."
        ]
        * 2
    )


def test_who_does_not_know_the_secret_cannot_go_on_by_leaving_it_out() -> None:
    _a, b = pair()
    b.feed(joined_hello())
    for kind in (Handshake.HELLO, Handshake.WELCOME):
        other = session("esx2", False)
        other.feed(joined_hello())
        with pytest.raises(ProtocolError):
            other.feed(encode_handshake(kind, b"x" * 80, (2, 2)))
    with pytest.raises(ProtocolError, match="does not speak"):
        b.feed(bytes(32))
    for proof in (b"", b"x", bytes(32), bytes(33)):
        other = session("esx2", False)
        other.feed(joined_hello())
        with pytest.raises(ProtocolError, match="could not show"):
            other.feed(encode_handshake(Handshake.PROOF, proof, (2, 2)))


def test_another_datacenter_is_named_even_if_its_secret_is_the_same() -> None:
    a, b = session("esx1", True, datacenter="Graz"), session("esx2", False, datacenter="Linz")
    a.start()
    got_a, got_b, errors = talk(a, b)
    assert (got_a, got_b) == ([], [])
    assert errors == [
        "Host esx2 ended the connection with host esx1: host esx1 belongs to datacenter Graz and host esx2 to Linz: "
        "connect hosts of one datacenter.",
        "The other side ended the connection with host esx1: host esx1 belongs to datacenter Graz and host esx2 to "
        "Linz: connect hosts of one datacenter.",
    ]


def greeting(rest: bytes) -> bytes:
    return encode_handshake(Handshake.HELLO, b"n" * 32 + rest, (2, 2))


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (greeting(b"\4esx1\x0adatacenter?"), "says more in its hello than a hello has"),
        (greeting(b"\4esx1\x0bdatacenter"), "sends a greeting that is too short"),
        (greeting(b"\4esx1"), "sends a greeting that is too short"),
        (greeting(b"\0\x0adatacenter"), "sends a greeting that is too short"),
        (encode_handshake(Handshake.HELLO, b"n" * 20, (2, 2)), "sends a greeting that is too short"),
        (greeting(b"\4es\n1\x0adatacenter"), "sends a name that cannot be printed"),
        (greeting(b"\4es\xff1\x0adatacenter"), "sends a name that is no text"),
    ],
)
def test_a_greeting_that_is_none_is_refused(hello: bytes, why: str) -> None:
    b = session("esx2", False)
    with pytest.raises(ProtocolError, match=why) as caught:
        b.feed(hello)
    is_a_sentence(str(caught.value), "esx2")


def test_two_hosts_that_draw_the_same_nonce_do_not_talk() -> None:
    a, b = session("esx1", True, nonce=b"same"), session("esx2", False, nonce=b"same")
    a.start()
    got_a, got_b, errors = talk(a, b)
    assert (got_a, got_b) == ([], [])
    assert "sends back what host esx2 has said itself" in errors[0]


def test_a_version_that_was_not_offered_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a host that knows the secret, and has proved all it says."""
    a, b = session("esx1", True, versions=(1, 3)), session("esx2", False, versions=(1, 4))
    proven = b._side._proven

    def older(kind: Handshake, payload: bytes) -> bytes:
        b._side.version = 2
        return proven(kind, payload)

    monkeypatch.setattr(b._side, "_proven", older)
    a.start()
    assert "has chosen version 2 of the agent protocol, which is not the newest of both" in talk(a, b)[2][0]


def test_two_that_call_are_told_so_and_two_that_are_called_wait() -> None:
    a, b = session("esx1", True), session("esx2", True)
    a.start()
    b.start()
    assert any("says hello where welcome is due" in error for error in talk(a, b)[2])
    assert talk(session("esx1", False), session("esx2", False)) == ([], [], [])


def test_nobody_is_answered_before_he_was_called() -> None:
    a = session("esx1", True)
    with pytest.raises(ProtocolError, match="where nothing is due"):
        a.feed(joined_hello())


# --- strangers --------------------------------------------------------------------------------------------------------


def tls_hello() -> bytes:
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="esx2").do_handshake()
    return out.read()


STRANGERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "http": (lambda: b"GET / HTTP/1.1\r\nHost: esx2\r\n\r\n", "speaks HTTP"),
    "http answer": (lambda: b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP"),
    "tls": (tls_hello, "speaks TLS where none is expected"),
    "ssh": (lambda: b"SSH-2.0-OpenSSH_9.2\r\n", "speaks SSH"),
    "a cable of ours": (lambda: b"vilabnet\0\1\x23\x32", "does not speak the agent protocol"),
    "zeros": (lambda: bytes(64), "does not speak the agent protocol"),
    "a newline": (lambda: b"\n", "does not speak the agent protocol"),
}


@pytest.mark.parametrize("initiator", [True, False], ids=["calls", "is called"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_strangers_are_told_apart(stranger: str, initiator: bool) -> None:
    host = session("esx1", initiator)
    if initiator:
        host.start()
        host.output()
    said, what = STRANGERS[stranger]
    with pytest.raises(ProtocolError, match=what) as caught:
        host.feed(said())
    is_a_sentence(str(caught.value), "esx1")
    assert "look whether its address and port are those of an agent" in str(caught.value)


@given(st.binary(max_size=300), st.sampled_from(["idle", "calls", "is called", "met"]), st.booleans())
def test_any_bytes_end_in_nothing_or_a_sentence(data: bytes, state: str, like_ours: bool) -> None:
    host = met()[0] if state == "met" else session("esx1", state != "is called")
    if state == "calls":
        host.start()
    data = MAGIC + data if like_ours else data
    got = []
    try:
        got = host.feed(data)
    except ProtocolError as error:
        is_a_sentence(str(error), "esx1")
        got = error.before
    else:
        assert host.held_bytes == len(data)
    assert got == []


# --- peers that know the secret and speak another language ------------------------------------------------------------


def said_raw(packed: bytes, kind: int = Kind.MESSAGE) -> str:
    """The sentence of a host whose peer sends this as a message, with all tags right."""
    a, b = met()
    assert a._sender is not None
    with pytest.raises(ProtocolError) as caught:
        b.feed(joined(a._sender.frame(kind, packed)))  # type: ignore[arg-type]
    assert caught.value.before == []
    is_a_sentence(str(caught.value), "esx1", "esx2")
    return str(caught.value)


class Unknown(msgspec.Struct, tag=True):
    what: str = "?"


class Choosy(msgspec.Struct, tag=True):
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise AdminError("No number below 0.")


PACKED = {
    "unknown message": (msgspec.msgpack.encode(Unknown()), "Unknown"),
    "unknown field": (msgspec.msgpack.encode({"type": "Stunned", "why": "", "extra": 1}), "extra"),
    "missing field": (msgspec.msgpack.encode({"type": "Stunned"}), "why"),
    "wrong type": (msgspec.msgpack.encode({"type": "Stunned", "why": 5}), "str"),
    "no tag": (msgspec.msgpack.encode({"why": "x"}), "type"),
    "a number": (msgspec.msgpack.encode(7), "int"),
    "nothing": (b"", "truncated"),
    "no text": (b"\x82\xa4type\xa7Stunned\xa3why\xa2\xff\xfe", "utf-8"),
    "two": (msgspec.msgpack.encode(Stunned("a")) * 2, "trailing"),
    "deep": (b"\x82\xa4type\xa7Stunned\xa1x" + b"\x91" * 100_000 + b"\0", "depth|unknown field"),
    "a giant list": (b"\x82\xa4type\xa5Pages\xa5first\xdd\xff\xff\xff\xff", "int"),
    "giant bytes": (b"\x82\xa4type\xa5Pages\xa4ppns\xc6\xff\xff\xff\xff", "truncated"),
}


@pytest.mark.parametrize("what", PACKED)
def test_a_message_that_is_not_known_is_refused(what: str) -> None:
    packed, why = PACKED[what]
    sentence = said_raw(packed)
    assert "host esx1 sends a message that is not known here" in sentence
    assert any(word in sentence for word in why.split("|")), sentence


def test_a_record_that_refuses_its_value_is_refused() -> None:
    a = AgentSession("esx1", SECRET, Choosy, initiator=True)
    b = AgentSession("esx2", SECRET, Choosy, initiator=False)
    a.start()
    talk(a, b)
    assert a._sender is not None
    with pytest.raises(ProtocolError, match=r"sends a message that is not known here \(No number below 0\)"):
        b.feed(joined(a._sender.frame(Kind.MESSAGE, msgspec.msgpack.encode({"type": "Choosy", "number": -1}))))


def test_a_frame_of_an_unknown_kind_is_refused() -> None:
    assert "sends a frame of an unknown kind (3)" in said_raw(b"", kind=3)
    assert "sends a frame of an unknown kind (0)" in said_raw(b"", kind=0)


@pytest.mark.parametrize(
    ("message_bytes", "body_bytes", "what"),
    [
        (MAX_MESSAGE_BYTES + 1, 0, "announces a message of 4194305 bytes"),
        (0xFFFFFFFF, 0xFFFFFFFF, "announces a message of 4294967295 bytes"),
        (1, MAX_BODY_BYTES + 1, "announces a body of 16777217 bytes"),
    ],
)
def test_a_giant_that_is_announced_with_the_right_tag_takes_no_memory(
    message_bytes: int, body_bytes: int, what: str
) -> None:
    a, b = met()
    assert a._sender is not None
    head = encode_header(FrameHeader(0, Kind.MESSAGE, message_bytes, body_bytes))
    with pytest.raises(ProtocolError, match=what):
        b.feed(head + a._sender.keys.header_tag(head))
    assert b.buffer_bytes == STAGING_BYTES


def test_a_giant_that_is_announced_by_a_stranger_is_not_even_waited_for() -> None:
    _a, b = met()
    head = encode_header(FrameHeader(0, Kind.MESSAGE, MAX_MESSAGE_BYTES, MAX_BODY_BYTES))
    with pytest.raises(ProtocolError, match="does not belong to this session"):
        b.feed(head + bytes(HEADER_BYTES - len(head)))
    assert b.buffer_bytes == STAGING_BYTES


def test_a_giant_handshake_is_refused_by_its_header() -> None:
    for size, refused in ((MAX_HANDSHAKE_BYTES, False), (MAX_HANDSHAKE_BYTES + 1, True), (0xFFFF, True)):
        b = session("esx2", False)
        start = MAGIC + bytes([1, 2, 2, 0]) + size.to_bytes(2, "big")
        if refused:
            with pytest.raises(ProtocolError, match=f"announces {size} bytes in the handshake"):
                b.feed(start)
        else:
            assert b.feed(start) == []
        assert b.buffer_bytes == STAGING_BYTES


def test_slow_single_bytes_are_put_together_in_bounded_memory() -> None:
    a, b = met()
    body = bytes(range(256)) * 80
    a.send(Pages(1), [body])
    a.send(Stunned("end"))
    got: list[Got] = []
    for byte in joined(a.output()):
        got += plain(b.feed(bytes([byte])))
        assert b.buffer_bytes <= STAGING_BYTES + (1 << 16)
    assert got == [(Pages(1), body), (Stunned("end"), b"")]


def test_many_who_never_finish_hold_little() -> None:
    a, b = met()
    for _ in range(50):
        a.send(Pages(0), [bytes(MAX_BODY_BYTES // 64)])
        for part in a.output():
            b.feed(part)
    assert b.buffer_bytes <= STAGING_BYTES + 2 * (MAX_BODY_BYTES // 64 + (1 << 16))


# --- last words -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=MAX_HANDSHAKE_BYTES))
def test_the_last_word_of_a_stranger_is_text_that_can_be_shown(word: bytes) -> None:
    a = session("esx1", True)
    a.start()
    with pytest.raises(ProtocolError, match="The other side ended the connection with host esx1") as caught:
        a.feed(encode_handshake(Handshake.REFUSAL, word, (2, 2)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 900
    assert joined(a.output()).count(MAGIC) == 1  # the hello, and no answer to a refusal


def test_a_responder_that_does_not_believe_the_proof_is_heard() -> None:
    """The initiator is established then: its first frame from the other side is none."""
    a, b = pair()
    a.start()
    a.send(Stunned("never"))
    b.feed(joined(a.output()))
    a.feed(joined(b.output()))
    assert a.established
    proof = bytearray(joined(a.output()))
    proof[40] ^= 1
    with pytest.raises(ProtocolError, match="could not show") as caught:
        b.feed(proof)
    with pytest.raises(ProtocolError, match="could not show") as told:
        a.feed(joined(b.output()))
    assert str(told.value) == str(caught.value)
    assert not a.established


def test_a_plain_last_word_is_nothing_once_both_are_sure() -> None:
    a, b = met()
    b.send(Stunned("first"))
    a.feed(joined(b.output()))
    with pytest.raises(ProtocolError, match="does not belong to this session"):
        a.feed(encode_handshake(Handshake.REFUSAL, b"go away" + bytes(40), (2, 2)))
    with pytest.raises(ProtocolError, match="does not belong to this session"):
        b.feed(encode_handshake(Handshake.REFUSAL, b"go away" + bytes(40), (2, 2)))


def test_the_secret_and_its_keys_are_never_on_the_wire() -> None:
    a, b = conversation()
    stream = joined(list(recorded().values()))
    talk(a, b)
    assert SECRET not in stream
    keys = [side.keys for host in (a, b) for side in (host._sender, host._receiver) if side is not None]
    assert (keys[0], keys[1]) == (keys[3], keys[2])
    assert keys[0] != keys[1]
    for key in keys:
        assert key.frame not in stream
        assert key.body_seed.to_bytes(8, "big") not in stream


def test_messages_of_the_other_union_are_unknown() -> None:
    a = AgentSession("esx1", SECRET, Unknown, initiator=True)
    b = AgentSession("esx2", SECRET, Messages, initiator=False)
    a.start()
    a.send(Unknown())
    got_a, got_b, errors = talk(a, b)
    assert (got_a, got_b) == ([], [])
    assert len(errors) == 2
    assert all("sends a message that is not known here" in error for error in errors)
