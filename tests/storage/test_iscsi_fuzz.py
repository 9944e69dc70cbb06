"""Hostile peers: whatever comes, a target ends at most that connection, holds no more than it says, and goes on."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.iscsi_helpers import PORTAL, TARGET, USER, Node, Wire, initiator_name, read10, write10
from vilab.storage.iscsi.client import MemoryLink
from vilab.storage.iscsi.disk import IscsiDisk
from vilab.storage.iscsi.initiator import Initiator
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.layout import FINAL, HEADER, IMMEDIATE, NO_TAG, READ, WRITE, Opcode
from vilab.storage.iscsi.session import Limits

LIMITS = Limits(
    connections=8, sessions=6, commands=8, immediate=2, data_bytes=8192, first_burst_bytes=4096, burst_bytes=8192,
    data_out_bytes=65536, output_bytes=65536,
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(0, 12),
    st.sampled_from((NO_TAG, NO_TAG - 1, 1 << 31, 512, 1024, 4096, 0x100, 0x101)),
    st.integers(0, NO_TAG),
)
CDBS = st.one_of(
    st.builds(read10, st.integers(0, 3000), st.integers(0, 300)),
    st.builds(write10, st.integers(0, 3000), st.integers(0, 300)),
    st.binary(min_size=16, max_size=16),
    st.sampled_from(
        [b"\x16" + bytes(5), b"\x17" + bytes(5), bytes(6), b"\x12\0\0\0\xff\0", b"\x89" + bytes(12) + b"\x02"]
    ),
)
FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Victim:
    """One target, an honest initiator, and a hostile connection."""

    def __init__(self) -> None:
        self.node = Node(limits=LIMITS)
        self.honest: IscsiDisk = self.node.lun("honest")
        self.wire = self.connect()

    def connect(self) -> Wire:
        wire = Wire(self.node, name="hostile")
        wire.enter(InitialR2T="No", MaxRecvDataSegmentLength=512)
        return wire

    def send(self, data: bytes) -> None:
        wire = self.wire
        if wire.connection.closing:
            wire.connection.lost()
            wire = self.wire = self.connect()
        wire.connection.receive(data)
        assert wire.connection.held_bytes <= LIMITS.session_bytes
        wire.connection.take_output()
        while wire.connection.stalled:
            wire.connection.run()
            wire.connection.take_output()
        assert len(self.node.scsi.tasks) <= LIMITS.commands + LIMITS.immediate
        assert len(self.node.iscsi.sessions) <= 2

    def check(self) -> None:
        """The honest one still reads what it writes (a reset or a reservation may get in between)."""
        self.wire.connection.lost()
        self.honest.conflict_retries = 2
        self.honest.write(0, b"honest" + bytes(506))
        assert self.honest.read(0, 512)[:6] == b"honest"
        self.honest.session.close()
        assert not self.node.scsi.tasks
        assert not self.node.iscsi.sessions
        assert not self.node.scsi.nexuses


@st.composite
def pdus(draw: st.DrawFn) -> bytes:
    """A request that is nearly right."""
    opcode = draw(st.one_of(st.sampled_from((1, 1, 1, 5, 5, 0, 2, 3, 4, 6, 16)), st.integers(0, 63)))
    data = draw(st.sampled_from((b"", b"", b"x" * 512, b"x" * 4096, b"SendTargets=\0", b"a=b\0" * 100)))
    length = draw(st.one_of(st.just(len(data)), st.just(len(data)), st.integers(0, 1 << 24)))
    words = [draw(NUMBERS) for _ in range(8)]
    header = HEADER.pack(
        opcode | draw(st.sampled_from((0, IMMEDIATE, IMMEDIATE))), draw(st.one_of(st.integers(0, 255), st.sampled_from(
            (FINAL | WRITE, WRITE, FINAL | READ, FINAL)))), draw(st.integers(0, 255)), 0,
        length % (1 << 24) | (draw(st.integers(0, 3)) << 24 if length > 4096 else 0),
        draw(st.sampled_from((bytes(8), bytes(8), b"\0\1" + bytes(6), b"\xff" * 8))), *words,
    )  # fmt: skip
    if opcode == Opcode.SCSI_COMMAND:
        header = header[:32] + draw(CDBS).ljust(16, b"\0")
    return header + data + bytes(-len(data) % 4)


@FUZZ
@given(st.lists(pdus(), max_size=25))
def test_requests_that_are_nearly_right(requests: list[bytes]) -> None:
    victim = Victim()
    for request in requests:
        victim.send(request)
    victim.check()


@FUZZ
@given(st.lists(st.binary(max_size=300), max_size=12))
def test_noise(pieces: list[bytes]) -> None:
    victim = Victim()
    for piece in pieces:
        victim.send(piece)
    victim.check()


@pytest.mark.parametrize("seed", range(12))
def test_a_real_conversation_with_bytes_changed_or_cut(seed: int) -> None:
    """What our initiator says while it works, mutated: bits flipped, PDUs cut, repeated, left out."""
    rng = random.Random(seed)
    recorded = _conversation()
    victim = Victim()
    for _ in range(60):
        data = bytearray(rng.choice(recorded))
        for _ in range(rng.choice((0, 1, 1, 2, 8))):
            at = rng.randrange(min(len(data), rng.choice((48, 64, len(data)))))
            data[at] = rng.choice((0, 1, 0xFF, rng.randrange(256)))
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        victim.send(bytes(data))
    victim.check()


def _conversation() -> list[bytes]:
    node = Node(limits=LIMITS)
    said: list[bytes] = []
    link = MemoryLink(node.iscsi, PORTAL)
    send = link.send
    link.send = lambda data: (said.append(data), send(data))[1]  # type: ignore[method-assign]
    session = node.session("hostile", isid=b"\x80\0\0\0\0\x01")
    session._connect = lambda: link
    disk = IscsiDisk(session, 0)
    disk.write(0, bytes(100 * 512))
    disk.read(512, 50 * 512)
    disk.unmap(0, 4096)
    disk.reserve()
    disk.release()
    session.ping()
    session.targets()
    session.close()
    return said


LOGIN_KEYS = st.sampled_from(
    ["InitiatorName", "TargetName", "SessionType", "AuthMethod", "CHAP_A", "CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C",
     "HeaderDigest", "MaxBurstLength", "InitialR2T", "X", "=", ""]
)  # fmt: skip
LOGIN_VALUES = st.sampled_from(
    [TARGET, initiator_name("a"), "CHAP,None", "CHAP", "None", "5", "0x00", "0xzz", "Discovery", "Yes", "", "9" * 300,
     "\0\0", "é", "512"]
)  # fmt: skip
LOGIN_STEPS = st.tuples(
    st.lists(st.tuples(LOGIN_KEYS, LOGIN_VALUES), max_size=6),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(0, 3)),
    st.sampled_from((0, 0, 1, 77)),
    st.booleans(),
)


@FUZZ
@given(st.lists(LOGIN_STEPS, max_size=12))
def test_logins_that_are_nearly_right(steps: list[tuple[list[tuple[str, str]], int, int | None, int, bool]]) -> None:
    """With CHAP in front: nobody gets into the full feature phase, whatever is said in whatever order."""
    node = Node(USER, limits=LIMITS)
    wire = Wire(node)
    for pairs, stage, next_stage, tsih, more in steps:
        if wire.connection.closing:
            wire.connection.lost()
            wire = Wire(node)
        wire.login(pairs, stage, next_stage, tsih, more=more)
        assert wire.connection.session is None
        assert not node.iscsi.sessions
    with node.lun(credentials=USER) as disk:
        disk.write(0, bytes(512))


def test_a_flood_of_login_keys_costs_little() -> None:
    node = Node(limits=LIMITS)
    tracemalloc.start()
    try:
        for keys in (b"a=\0" * 2700, b"InitiatorName=" + b"x" * 8000 + b"\0", b"\0" * 8190, b"=" * 8192):
            wire = Wire(node)
            for _ in range(20):
                header = HEADER.pack(0x43, 0x44, 0, 0, len(keys), bytes(8), 1, 0, 1, 0, 0, 0, 0, 0)
                answers = wire.raw(header + keys + bytes(-len(keys) % 4))
                assert len(answers) <= 1
            assert wire.connection.closing
            wire.connection.lost()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert not node.iscsi.connections


def test_writes_that_never_send_their_data_are_bounded() -> None:
    """Every command of the window announces 1 MB and sends a first burst; the memory is that of the bursts."""
    victim = Victim()
    wire = victim.wire
    for number in range(200):
        immediate = number % 3 == 0
        wire.command(write10(0, 2048), WRITE | FINAL, 1 << 20, bytes(4096), immediate=immediate)
        assert wire.connection.held_bytes <= (LIMITS.commands + LIMITS.immediate) * 4096
    victim.check()


def test_bytes_one_by_one_do_not_add_up() -> None:
    victim = Victim()
    header = HEADER.pack(Opcode.NOP_OUT | IMMEDIATE, FINAL, 0, 0, 8192, bytes(8), 1, NO_TAG, 1, 0, 0, 0, 0, 0)
    for byte in (header + bytes(8192)) * 2:
        victim.send(bytes((byte,)))
    assert not victim.wire.connection.closing
    victim.check()


# the initiator --------------------------------------------------------------------------------------------------------


@FUZZ
@given(st.data())
def test_a_hostile_target_ends_the_session_and_nothing_else(data: st.DataObject) -> None:
    """Real answers, mutated, and answers that are nearly right: ``receive`` raises nothing, memory stays small."""
    node = Node(limits=LIMITS)
    link = MemoryLink(node.iscsi, PORTAL)
    initiator = Initiator(InitiatorConfig(initiator_name("a"), TARGET))
    initiator.start()
    mutate = data.draw(st.booleans())
    for _ in range(8):
        output = initiator.take_output()
        if output and not link._connection.closing:
            link.send(output)
        answer = bytearray(link._connection.take_output())
        if mutate and answer and data.draw(st.booleans()):
            answer[data.draw(st.integers(0, len(answer) - 1))] = data.draw(st.integers(0, 255))
        initiator.receive(bytes(answer))
        if initiator.logged_in and not initiator.closed:
            initiator.submit(0, read10(0, 4), data_in_bytes=2048)
            initiator.submit(0, write10(0, 20), bytes(20 * 512))
            opcode = data.draw(st.sampled_from((0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3F, 0x17)))
            body = data.draw(st.sampled_from((b"", bytes(512), b"a=b\0")))
            header = HEADER.pack(
                opcode, data.draw(st.integers(0, 255)), data.draw(st.sampled_from((0, 1))),
                data.draw(st.integers(0, 64)), len(body), bytes(8), *[data.draw(NUMBERS) for _ in range(8)],
            )  # fmt: skip
            initiator.receive(header + body)
    assert not initiator.closed or initiator.error is not None or opcode == Opcode.LOGOUT_RESPONSE
    assert len(initiator.take_output()) < 1 << 20
