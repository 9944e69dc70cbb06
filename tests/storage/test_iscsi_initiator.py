"""The initiator with our own target, joined in memory: a LUN as a disk, and what becomes of it when sessions break."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.iscsi_helpers import DISK_BYTES, PORTAL, TARGET, Node, initiator_name
from vilab.errors import AdminError, VmmBug
from vilab.storage.block import BlockError, MemoryDisk, ReservationConflict, ReservationLost
from vilab.storage.iscsi.client import IscsiSession, Link, MemoryLink
from vilab.storage.iscsi.disk import IscsiDisk
from vilab.storage.iscsi.errors import IscsiError, LoginRefusedError, SessionLostError
from vilab.storage.iscsi.initiator import Initiator
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.layout import TaskCode, TaskResult
from vilab.storage.iscsi.session import Limits
from vilab.storage.scsi.sense import SenseKey, Status, parse_sense
from vilab.storage.scsi.state import Identity


@settings(max_examples=40, deadline=None)
@given(
    st.booleans(), st.booleans(), st.integers(512, 20_000), st.integers(0, 2**32),
    st.sampled_from((Limits(), Limits(data_bytes=700, burst_bytes=1500, first_burst_bytes=512, outstanding_r2t=1))),
)  # fmt: skip
def test_it_reads_what_was_written(header: bool, data: bool, data_bytes: int, seed: int, limits: Limits) -> None:
    node, model, rng = Node(limits=limits), bytearray(DISK_BYTES), random.Random(seed)
    with node.lun(header_digest=header, data_digest=data, data_bytes=data_bytes) as disk:
        for _ in range(12):
            first = rng.randrange(DISK_BYTES // 512)
            size = 512 * rng.randint(0, min(300, DISK_BYTES // 512 - first))
            at = slice(first * 512, first * 512 + size)
            match rng.randrange(3):
                case 0:
                    assert disk.read(at.start, size) == model[at]
                case 1:
                    model[at] = rng.randbytes(size)
                    disk.write(at.start, memoryview(model)[at])
                case 2:
                    model[at] = bytes(size)
                    disk.unmap(at.start, size)
        disk.flush()
        agreed = node.iscsi.sessions[1].connection.agreed  # type: ignore[union-attr]
        assert (agreed.header_digest, agreed.data_digest, agreed.peer_max_data_bytes) == (header, data, data_bytes)
    assert node.disk.content == model
    assert not node.iscsi.sessions


def test_what_the_disk_says_of_itself() -> None:
    node = Node()
    node.scsi.add(7, MemoryDisk(4096, read_only=True), Identity("serial-0007"), thin=False)
    disk = node.lun()
    assert (disk.size_bytes, disk.sector_bytes, disk.read_only) == (DISK_BYTES, 512, False)
    assert disk.identity.name == "naa." + Identity("serial-0001").naa.hex()
    other = IscsiDisk(disk.session, 7)
    assert (other.size_bytes, other.read_only) == (4096, True)
    assert other.identity.name == "naa." + Identity("serial-0007").naa.hex()
    with pytest.raises(BlockError) as caught:
        other.write(0, bytes(512))
    assert caught.value.kind == "read_only"
    with pytest.raises(VmmBug):
        disk.read(1, 512)
    with pytest.raises(BlockError, match=r"no disk at LUN 3 of"):
        IscsiDisk(disk.session, 3)


def test_raw_commands_are_answered_with_whatever_came() -> None:
    node = Node()
    disk, other = node.lun(), node.lun("b")
    assert disk.submit(b"\x16" + bytes(5))[0] == Status.GOOD
    assert disk.reserved
    assert other.submit(bytes(6)) == (Status.RESERVATION_CONFLICT, b"", b"")
    assert disk.submit(b"\x17" + bytes(5))[0] == Status.GOOD
    assert not disk.reserved
    other.session.manage(TaskCode.LOGICAL_UNIT_RESET)
    sense = parse_sense(disk.submit(bytes(6))[2])
    assert sense is not None
    assert (sense.key, sense.code) == (SenseKey.UNIT_ATTENTION, 0x2903)
    assert disk.attentions[-1] == 0x2903
    with pytest.raises(AdminError, match="at most 16 bytes"):
        disk.submit(bytes(20))


def test_a_reserved_disk_is_tried_again_and_then_given_up() -> None:
    node = Node()
    disk, other = node.lun(), node.lun("b")
    disk.reserve()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            disk.release()

    other._sleep = sleep
    other.write(0, b"b" * 512)
    assert len(pauses) == 5
    disk.reserve()
    other.conflict_retries = 3
    with pytest.raises(ReservationConflict, match="another host has reserved"):
        other.read(0, 512)
    assert len(pauses) == 8


class Faulty:
    """A link that breaks when ``fails`` says so: before a message reaches the target, or before its answer is seen."""

    def __init__(self, link: Link, fails: list[str]) -> None:
        self.link, self.fails = link, fails

    def send(self, data: bytes) -> None:
        if self.fails and self.fails[0] == "send":
            self.fails.pop(0)
            raise ConnectionResetError("broken")
        self.link.send(data)

    def receive(self) -> bytes:
        if self.fails and self.fails[0] in ("receive", "end"):
            if self.fails.pop(0) == "end":
                return b""
            raise TimeoutError("silent")
        return self.link.receive()

    def close(self) -> None:
        self.link.close()


def faulty(node: Node, fails: list[str]) -> IscsiDisk:
    config = InitiatorConfig(initiator_name("a"), TARGET)
    session = IscsiSession(lambda: Faulty(MemoryLink(node.iscsi, PORTAL), fails), config, sleep=lambda _: None)
    return IscsiDisk(session, 0, sleep=lambda _: None)


@pytest.mark.parametrize("fault", ["send", "receive", "end"])
def test_a_lost_connection_is_made_again_and_the_work_goes_on(fault: str) -> None:
    node, fails = Node(), list[str]()
    disk = faulty(node, fails)
    for _ in range(3):
        fails.append(fault)
        disk.write(512, b"x" * 1024)
        fails.append(fault)
        assert disk.read(512, 1024) == b"x" * 1024
    assert disk.session.logins == 7
    assert disk.attentions.count(0x2900) == 7
    assert len(node.iscsi.sessions) == 1


@pytest.mark.parametrize("fault", ["send", "receive", "end"])
def test_nothing_is_repeated_that_was_done_under_a_reservation(fault: str) -> None:
    node, fails = Node(), list[str]()
    disk = faulty(node, fails)
    disk.reserve()
    fails.append(fault)
    with pytest.raises(ReservationLost, match="is lost: "):
        disk.write(0, bytes(512))
    assert not disk.reserved
    disk.write(0, bytes(512))
    disk.reserve()
    fails.append(fault)
    with pytest.raises(SessionLostError):
        disk.submit(bytes(6))
    assert not disk.reserved


def test_a_reservation_lost_unnoticed_is_noticed_before_anything_is_sent() -> None:
    node = Node()
    disk, other = node.lun(), node.lun("b")
    third = IscsiDisk(disk.session, 0, sleep=lambda _: None)
    third.reserve()
    disk.session.break_off()
    disk.read(0, 512)  # logs in again, and had no reservation of its own
    before = bytes(node.disk.content)
    with pytest.raises(ReservationLost):
        third.write(0, b"x" * 512)
    assert node.disk.content == before
    third.reserve()
    other.session.manage(TaskCode.LOGICAL_UNIT_RESET)
    with pytest.raises(ReservationLost):
        third.write(0, b"x" * 512)
    assert node.disk.content == before


def test_a_target_that_stays_away_is_given_up_after_some_attempts() -> None:
    pauses: list[float] = []

    def connect() -> Link:
        raise ConnectionRefusedError(111, "Connection refused")

    session = IscsiSession(connect, InitiatorConfig(initiator_name("a"), TARGET), attempts=4, sleep=pauses.append)
    with pytest.raises(IscsiError, match=r"tried 4 times: Connection refused\."):
        session.ping()
    assert pauses == [0.05, 0.1, 0.2]


def test_a_refusal_that_lasts_is_not_tried_again_one_that_may_pass_is() -> None:
    node = Node(limits=Limits(sessions=1))
    first = node.session("a")
    first.open()
    pauses: list[float] = []
    session = IscsiSession(
        lambda: MemoryLink(node.iscsi, PORTAL), InitiatorConfig(initiator_name("b"), TARGET), sleep=pauses.append
    )
    with pytest.raises(IscsiError, match="no room for another session"):
        session.open()
    assert len(pauses) == 5
    session.config = InitiatorConfig(initiator_name("b"), TARGET + "x")
    with pytest.raises(LoginRefusedError, match="no such target"):
        session.open()
    assert len(pauses) == 5
    first.close()


def test_the_target_goes_and_comes_back() -> None:
    node = Node()
    disk = node.lun()
    disk.write(0, b"1" * 512)
    node.iscsi.ask_for_logout(1)
    disk.session.ping()
    assert not disk.session.alive  # it was asked to leave
    assert disk.read(0, 512) == b"1" * 512
    assert disk.session.logins == 2
    node.iscsi.end_all("restart")
    assert disk.read(0, 512) == b"1" * 512
    assert disk.session.logins == 3


def test_many_commands_under_way_and_one_aborted() -> None:
    node = Node(limits=Limits(commands=4))
    link = MemoryLink(node.iscsi, PORTAL)
    initiator = Initiator(InitiatorConfig(initiator_name("a"), TARGET))
    initiator.start()
    commands = [initiator.submit(0, bytes(6)) for _ in range(20)]
    while not initiator.logged_in:
        link.send(initiator.take_output())
        initiator.receive(link.receive())
    doomed = initiator.submit(0, b"\x2a" + bytes(7) + b"\x08\0", b"x" * 4096)
    late = initiator.submit(0, b"\x28" + bytes(7) + b"\x08\0", data_in_bytes=4096)
    management = initiator.manage(TaskCode.ABORT_TASK, 0, doomed)
    while not (late.done and management.done):
        output = initiator.take_output()
        if output:
            link.send(output)
        initiator.receive(link.receive())
    assert commands[0].response is not None
    assert commands[0].response.sense is not None  # 29/00
    assert all(c.response is not None and c.response.status == Status.GOOD for c in commands[1:])
    assert doomed.response is None
    assert management.result == TaskResult.NO_TASK  # it had not been sent yet
    assert late.response is not None
    assert not any(late.response.data_in)
    assert not any(node.disk.content)


def test_pings_keep_a_session_and_tell_when_it_is_gone() -> None:
    node = Node()
    session = node.session()
    session.ping()
    node.iscsi.end_all("gone")
    with pytest.raises(SessionLostError):
        session.ping()
    session.ping()
    assert session.logins == 2
