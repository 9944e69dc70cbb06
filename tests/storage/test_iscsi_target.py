"""The full feature phase of the target, PDU by PDU."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.iscsi_helpers import TARGET, Node, Pdu, Wire, read10, write10
from vilab.storage.iscsi.events import IscsiPdu
from vilab.storage.iscsi.layout import (
    FINAL,
    HEADER,
    IMMEDIATE,
    NO_TAG,
    OVERFLOW,
    READ,
    UNDERFLOW,
    WITH_STATUS,
    WRITE,
    Opcode,
    RejectReason,
    TaskCode,
    TaskResult,
)
from vilab.storage.iscsi.session import Limits
from vilab.storage.iscsi.text import decode_text
from vilab.storage.scsi.sense import parse_sense

SMALL = {"MaxRecvDataSegmentLength": 512, "MaxBurstLength": 1024, "FirstBurstLength": 512, "MaxOutstandingR2T": 2}


def entered(node: Node | None = None, name: str = "a", **offered: object) -> Wire:
    wire = Wire(node or Node(), name=name)
    wire.enter(**offered)
    return wire


def sense_code(answers: list[Pdu]) -> int:
    (answer,) = answers
    assert (answer.opcode, answer.byte3) == (Opcode.SCSI_RESPONSE, 2)
    sense = parse_sense(answer.data[2:])
    assert sense is not None
    return sense.code


def good(answers: list[Pdu]) -> Pdu:
    (answer,) = answers
    assert (answer.opcode, answer.byte2, answer.byte3) == (Opcode.SCSI_RESPONSE, 0, 0), answer
    return answer


# data in --------------------------------------------------------------------------------------------------------------


def test_a_read_comes_in_bursts_of_pdus_with_the_status_in_the_last() -> None:
    node = Node()
    node.disk.content[:2560] = bytes(range(256)) * 10
    wire = entered(node, **SMALL)
    answers = wire.command(read10(0, 5), FINAL | READ, 2560)
    assert [(a.opcode, a.flags) for a in answers] == [
        (Opcode.DATA_IN, 0), (Opcode.DATA_IN, FINAL), (Opcode.DATA_IN, 0), (Opcode.DATA_IN, FINAL),
        (Opcode.DATA_IN, FINAL | WITH_STATUS),
    ]  # fmt: skip
    assert [(a.data_sn, a.offset) for a in answers] == [(n, 512 * n) for n in range(5)]
    assert b"".join(a.data for a in answers) == node.disk.content[:2560]
    assert {a.itt for a in answers} == {wire.tag}


@pytest.mark.parametrize(
    ("edtl", "flags", "residual"), [(1024, 0, 0), (512, OVERFLOW, 512), (4096, UNDERFLOW, 3072), (700, OVERFLOW, 324)]
)
def test_residuals_of_a_read(edtl: int, flags: int, residual: int) -> None:
    answer = entered().command(read10(0, 2), FINAL | READ, edtl)[-1]
    assert (answer.flags, answer.residual) == (FINAL | WITH_STATUS | flags, residual)
    assert len(answer.data) == min(edtl, 1024)


def test_a_read_that_announces_no_data_gets_none() -> None:
    answer = good(entered().command(read10(0, 2), FINAL | READ, 0))
    assert (answer.flags, answer.residual) == (FINAL | OVERFLOW, 1024)


def test_a_refused_read_has_sense_and_no_data() -> None:
    wire = entered()
    answers = wire.command(read10(1 << 20, 2), FINAL | READ, 1024)
    assert sense_code(answers) == 0x2100
    assert (answers[0].flags, answers[0].residual) == (FINAL | UNDERFLOW, 1024)


def test_numbers_of_status_and_commands_go_up() -> None:
    wire = entered()
    first, second = (wire.command(bytes(6))[0] for _ in range(2))
    assert second.stat_sn == first.stat_sn + 1
    assert second.exp_cmd_sn == first.exp_cmd_sn + 1 == wire.cmd_sn
    assert second.max_cmd_sn - second.exp_cmd_sn == 127


def test_a_lun_that_is_not_there() -> None:
    wire = entered()
    assert sense_code(wire.command(read10(0, 1), FINAL | READ, 512, lun=3)) == 0x2500
    wire.send(Opcode.SCSI_COMMAND, FINAL | READ, 1, 512, wire.cmd_sn, lun=300, cdb=read10(0, 1))


# data out -------------------------------------------------------------------------------------------------------------


def test_r2ts_ask_for_what_did_not_come_unasked() -> None:
    node = Node()
    wire = entered(node, **SMALL, InitialR2T="No")
    data = bytes(range(256)) * 16
    first = wire.command(write10(0, 8), WRITE, 4096, data[:256])
    assert first == []
    r2ts = wire.data_out(data[256:512], 256)
    assert [(r.opcode, r.offset, r.length, r.r2t_sn) for r in r2ts] == [
        (Opcode.R2T, 512, 1024, 0), (Opcode.R2T, 1536, 1024, 1)
    ]  # fmt: skip
    assert len({r.ttt for r in r2ts}) == 2
    assert wire.data_out(data[512:1024], 512, r2ts[0].ttt, final=False) == []
    (third,) = wire.data_out(data[1024:1536], 1024, r2ts[0].ttt, 1)
    assert (third.offset, third.length, third.r2t_sn) == (2560, 1024, 2)
    (fourth,) = wire.data_out(data[1536:2560], 1536, r2ts[1].ttt)
    assert (fourth.offset, fourth.length) == (3584, 512)
    assert not any(node.disk.content)
    assert wire.data_out(data[2560:3584], 2560, third.ttt) == []
    good(wire.data_out(data[3584:], 3584, fourth.ttt))
    assert node.disk.content[:4096] == data


def test_a_write_with_all_data_in_its_command() -> None:
    node = Node()
    answer = good(entered(node).command(write10(3, 1), FINAL | WRITE, 512, b"x" * 512))
    assert (answer.flags, answer.residual) == (FINAL, 0)
    assert node.disk.content[1536:2048] == b"x" * 512


@pytest.mark.parametrize(("edtl", "flags", "residual"), [(512, OVERFLOW, 512), (2048, UNDERFLOW, 1024)])
def test_residuals_of_a_write(edtl: int, flags: int, residual: int) -> None:
    node = Node()
    answer = good(entered(node).command(write10(0, 2), FINAL | WRITE, edtl, b"x" * edtl))
    assert (answer.flags, answer.residual) == (FINAL | flags, residual)
    assert node.disk.content.count(b"x") == min(edtl, 1024)


UNEXPECTED, AMOUNT = 0x0C0C, 0x0C0D


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"data_sn": 1}, AMOUNT), ({"offset": 512}, AMOUNT), ({"size": 2048}, AMOUNT), ({"size": 512}, AMOUNT),
        ({"ttt": 12345}, UNEXPECTED), ({"ttt": NO_TAG}, UNEXPECTED), ({"size": 0}, AMOUNT),
    ],
)  # fmt: skip
def test_data_that_break_the_rules_end_the_command_and_nothing_is_written(change: dict[str, int], code: int) -> None:
    node = Node()
    wire = entered(node)
    (r2t,) = wire.command(write10(0, 2), FINAL | WRITE, 1024)
    said = {"size": 1024, "offset": 0, "ttt": r2t.ttt, "data_sn": 0} | change
    assert sense_code(wire.data_out(b"x" * said["size"], said["offset"], said["ttt"], said["data_sn"])) == code
    assert not any(node.disk.content)
    assert wire.data_out(b"x" * 1024, 0, r2t.ttt) == []  # late: silently dropped
    assert not node.scsi.tasks
    good(wire.command(bytes(6)))


def test_unsolicited_data_only_where_they_were_agreed_upon() -> None:
    wire = entered(ImmediateData="No")
    assert sense_code(wire.command(write10(0, 1), FINAL | WRITE, 512, bytes(512))) == UNEXPECTED
    assert sense_code(wire.command(write10(0, 1), WRITE, 512)) == UNEXPECTED
    assert sense_code(wire.command(read10(0, 1), FINAL | READ, 512, bytes(512))) == UNEXPECTED
    wire = entered(**SMALL, InitialR2T="No")
    assert sense_code(wire.command(write10(0, 4), FINAL | WRITE, 2048, bytes(1024))) == AMOUNT
    assert wire.command(write10(0, 4), WRITE, 2048, bytes(256)) == []
    assert sense_code(wire.data_out(bytes(512), 256)) == AMOUNT


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_write_in_any_lawful_pieces_arrives(data: st.DataObject) -> None:
    node = Node()
    blocks = data.draw(st.integers(1, 40))
    size = blocks * 512
    content = data.draw(st.binary(min_size=16, max_size=16)) * (size // 16)
    first_burst = data.draw(st.integers(512, 8192))
    wire = entered(
        node, InitialR2T="No", FirstBurstLength=first_burst, MaxBurstLength=data.draw(st.integers(8192, 16384)),
        MaxOutstandingR2T=data.draw(st.integers(1, 4)), HeaderDigest=data.draw(st.sampled_from(("None", "CRC32C"))),
        DataDigest=data.draw(st.sampled_from(("None", "CRC32C"))),
    )  # fmt: skip
    at = data.draw(st.integers(0, min(size, first_burst)))
    more = data.draw(st.booleans()) and at < min(size, first_burst)
    answers = wire.command(write10(7, blocks), WRITE | (0 if more else FINAL), size, content[:at])
    if more:
        end = data.draw(st.integers(at, min(size, first_burst)))
        answers = wire.data_out(content[at:end], at)
    waiting = answers
    while waiting and waiting[0].opcode is Opcode.R2T:
        r2t, *waiting = waiting
        offset, end, number = r2t.offset, r2t.offset + r2t.length, 0
        while offset < end:
            stop = min(end, offset + data.draw(st.integers(1, 20)) * 500)
            waiting = waiting + wire.data_out(content[offset:stop], offset, r2t.ttt, number, stop == end)
            offset, number = stop, number + 1
    good(waiting)
    assert node.disk.content[7 * 512 : 7 * 512 + size] == content


# task management ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", [TaskCode.ABORT_TASK, TaskCode.ABORT_TASK_SET, TaskCode.CLEAR_TASK_SET, TaskCode.LOGICAL_UNIT_RESET,
             TaskCode.TARGET_WARM_RESET, TaskCode.NEXUS_RESET],
)  # fmt: skip
def test_an_aborted_write_is_really_dropped(code: TaskCode) -> None:
    node = Node()
    wire = entered(node)
    (r2t,) = wire.command(write10(0, 2), FINAL | WRITE, 1024)
    assert wire.manage(code, wire.tag) == TaskResult.COMPLETE
    assert wire.connection.held_bytes == 0
    assert wire.data_out(b"x" * 1024, 0, r2t.ttt) == []
    assert not any(node.disk.content)


def test_another_initiators_reset_drops_the_data_too() -> None:
    node = Node()
    one, two = entered(node), entered(node, "b")
    one.command(write10(0, 2), FINAL | WRITE, 1024, b"x" * 512)
    assert one.connection.held_bytes == 512
    assert two.manage(TaskCode.LOGICAL_UNIT_RESET) == TaskResult.COMPLETE
    assert one.connection.held_bytes == 0
    assert sense_code(one.command(bytes(6))) == 0x2903
    assert sense_code(two.command(bytes(6))) == 0x2903
    good(two.command(bytes(6)))


def test_results_of_task_management() -> None:
    wire = entered()
    wire.command(write10(0, 2), FINAL | WRITE, 1024)
    assert wire.manage(TaskCode.QUERY_TASK, wire.tag) == TaskResult.SUCCEEDED
    assert wire.manage(TaskCode.QUERY_TASK, 0x7777) == TaskResult.NO_TASK
    assert wire.manage(TaskCode.ABORT_TASK, 0x7777) == TaskResult.NO_TASK
    assert wire.manage(TaskCode.ABORT_TASK_SET, lun=9) == TaskResult.NO_UNIT
    assert wire.manage(TaskCode.TASK_REASSIGN) == TaskResult.REASSIGN_NOT_SUPPORTED
    assert wire.manage(TaskCode.CLEAR_ACA) == TaskResult.NOT_SUPPORTED
    assert wire.manage(99) == TaskResult.NOT_SUPPORTED


def test_a_cold_reset_ends_all_sessions() -> None:
    node = Node()
    one, two = entered(node), entered(node, "b")
    assert one.manage(TaskCode.TARGET_COLD_RESET) == TaskResult.COMPLETE
    assert one.connection.closing
    assert two.connection.closing
    assert not node.iscsi.sessions


# the window -----------------------------------------------------------------------------------------------------------


def test_commands_outside_the_window_are_ignored() -> None:
    wire = entered()
    for number in (wire.cmd_sn - 1, wire.cmd_sn + 128, wire.cmd_sn - (1 << 31), wire.cmd_sn + (1 << 31) - 1):
        assert wire.command(bytes(6), cmd_sn=number & 0xFFFF_FFFF) == []
    good(wire.command(bytes(6)))


def test_commands_are_carried_out_in_the_order_of_their_numbers() -> None:
    wire = entered()
    first = wire.cmd_sn
    assert wire.command(bytes(6), cmd_sn=first + 2, tag=12) == []
    assert wire.command(bytes(6), cmd_sn=first + 1, tag=11) == []
    assert wire.command(bytes(6), cmd_sn=first + 1, tag=99) == []  # the same number again
    assert [a.itt for a in wire.command(bytes(6), cmd_sn=first, tag=10)] == [10, 11, 12]
    wire.cmd_sn = first + 3
    good(wire.command(bytes(6)))


def test_a_command_that_waits_for_its_turn_can_be_aborted() -> None:
    wire = entered()
    first = wire.cmd_sn
    wire.command(bytes(6), cmd_sn=first + 1, tag=11)
    assert wire.manage(TaskCode.ABORT_TASK, 11) == TaskResult.COMPLETE
    assert [a.itt for a in wire.command(bytes(6), cmd_sn=first, tag=10)] == [10]
    wire.cmd_sn = first + 2
    good(wire.command(bytes(6)))


def test_an_immediate_command_takes_no_number() -> None:
    wire = entered()
    before = wire.cmd_sn
    assert good(wire.command(bytes(6), immediate=True)).exp_cmd_sn == before


def test_numbers_wrap_around() -> None:
    wire = Wire(Node())
    wire.cmd_sn = 0xFFFF_FFFE
    wire.enter()
    for _ in range(4):
        good(wire.command(bytes(6)))
    assert wire.cmd_sn == 3


def test_the_window_closes_while_writes_wait_for_data() -> None:
    node = Node(limits=Limits(commands=4, immediate=2))
    wire = entered(node)
    tags = []
    for _ in range(4):
        (r2t,) = wire.command(write10(0, 1), FINAL | WRITE, 512)
        tags.append((wire.tag, r2t.ttt))
    assert (r2t.max_cmd_sn + 1) & 0xFFFF_FFFF == r2t.exp_cmd_sn
    assert wire.command(bytes(6)) == []  # the window is closed
    wire.cmd_sn -= 1
    for _ in range(2):
        (r2t,) = wire.command(write10(0, 1), FINAL | WRITE, 512, immediate=True)
    assert r2t.opcode is Opcode.R2T
    (refused,) = wire.command(write10(0, 1), FINAL | WRITE, 512, immediate=True)
    assert (refused.opcode, refused.byte2) == (Opcode.REJECT, RejectReason.TOO_MANY_IMMEDIATE)
    for tag, ttt in tags[:3]:
        wire.tag = tag
        answer = good(wire.data_out(bytes(512), 0, ttt))
    assert answer.max_cmd_sn == answer.exp_cmd_sn
    good(wire.command(bytes(6)))


def test_a_window_that_opens_again_by_itself_is_told() -> None:
    node = Node(limits=Limits(commands=1))
    one, two = entered(node), entered(node, "b")
    (r2t,) = one.command(write10(0, 1), FINAL | WRITE, 512)
    assert r2t.max_cmd_sn == one.cmd_sn - 1
    assert two.manage(TaskCode.CLEAR_TASK_SET) == TaskResult.COMPLETE
    (told,) = one.read()
    assert (told.opcode, told.itt, told.ttt) == (Opcode.NOP_IN, NO_TAG, NO_TAG)
    assert told.max_cmd_sn == told.exp_cmd_sn == one.cmd_sn
    assert sense_code(one.command(bytes(6))) == 0x2F00


def test_r2ts_wait_for_room() -> None:
    """Two writes of 1 MB, room for one: the second is asked for its data when the first is done."""
    node = Node(limits=Limits(data_out_bytes=1 << 20, outstanding_r2t=1), size_bytes=2 << 20)
    wire = entered(node, MaxBurstLength=1 << 20)
    (first,) = wire.command(write10(0, 2048), FINAL | WRITE, 1 << 20)
    one = wire.tag
    assert wire.command(write10(2048, 2048), FINAL | WRITE, 1 << 20) == []
    two, wire.tag = wire.tag, one
    for at in range(0, 1 << 20, 1 << 17):
        answers = wire.data_out(b"1" * (1 << 17), at, first.ttt, at >> 17, at == (1 << 20) - (1 << 17))
    second, done = answers
    assert (second.opcode, second.itt, done.opcode, done.itt) == (Opcode.R2T, two, Opcode.SCSI_RESPONSE, one)
    assert node.disk.content[: 1 << 20] == b"1" * (1 << 20)


# the rest -------------------------------------------------------------------------------------------------------------


def test_nop_is_answered_with_its_data() -> None:
    wire = entered()
    (answer,) = wire.send(Opcode.NOP_OUT | IMMEDIATE, FINAL, 5, NO_TAG, wire.cmd_sn, data=b"ping!")
    assert (answer.opcode, answer.itt, answer.ttt, answer.data) == (Opcode.NOP_IN, 5, NO_TAG, b"ping!")
    assert wire.send(Opcode.NOP_OUT | IMMEDIATE, FINAL, NO_TAG, 3, wire.cmd_sn) == []


def test_text_in_a_normal_session() -> None:
    wire = entered()
    for value, expected in (("", 1), (TARGET, 1), ("iqn.other", 0)):
        (answer,) = wire.send(
            Opcode.TEXT_REQUEST | IMMEDIATE, FINAL, 5, NO_TAG, wire.cmd_sn, data=f"SendTargets={value}\0".encode()
        )
        assert answer.text.get("TargetName") == (TARGET if expected else None)
    (answer,) = wire.send(
        Opcode.TEXT_REQUEST | IMMEDIATE, FINAL, 5, NO_TAG, wire.cmd_sn,
        data=b"SendTargets=All\0MaxBurstLength=512\0X-a=1\0MaxRecvDataSegmentLength=512\0",
    )  # fmt: skip
    assert decode_text(answer.data) == [
        ("SendTargets", "Reject"),
        ("MaxBurstLength", "Reject"),
        ("X-a", "NotUnderstood"),
    ]
    assert len(wire.command(read10(0, 2), FINAL | READ, 1024)) == 2


def test_a_text_request_in_pieces() -> None:
    wire = entered()
    (more,) = wire.send(Opcode.TEXT_REQUEST | IMMEDIATE, 0x40, 5, NO_TAG, wire.cmd_sn, data=b"SendTar")
    assert (more.flags, more.data) == (0, b"")
    assert more.ttt != NO_TAG
    (answer,) = wire.send(Opcode.TEXT_REQUEST | IMMEDIATE, FINAL, 5, more.ttt, wire.cmd_sn, data=b"gets=\0")
    assert answer.text["TargetName"] == TARGET


@pytest.mark.parametrize(
    ("opcode", "reason"),
    [(0x10, RejectReason.SNACK), (0x1E, RejectReason.NOT_SUPPORTED), (0x21, RejectReason.NOT_SUPPORTED)],
)
def test_what_is_no_request_is_rejected_and_the_session_goes_on(opcode: int, reason: int) -> None:
    wire = entered()
    (answer,) = wire.send(opcode, FINAL, 5, 6, wire.cmd_sn)
    assert (answer.opcode, answer.byte2) == (Opcode.REJECT, reason)
    assert answer.data[0] == opcode
    assert len(answer.data) == 48
    good(wire.command(bytes(6)))


def test_a_discovery_session_has_no_commands() -> None:
    wire = Wire(Node())
    wire.login([("InitiatorName", "iqn.2006-06.org.example:a"), ("SessionType", "Discovery")])
    for opcode in (Opcode.SCSI_COMMAND, Opcode.TASK_REQUEST):
        (answer,) = wire.send(opcode | IMMEDIATE, FINAL | READ, 5, 512, wire.cmd_sn)
        assert (answer.opcode, answer.byte2) == (Opcode.REJECT, RejectReason.PROTOCOL_ERROR)


def test_logging_out() -> None:
    node = Node()
    wire = entered(node)
    wire.command(b"\x16" + bytes(5))
    (refused,) = wire.send(Opcode.LOGOUT_REQUEST | IMMEDIATE, FINAL | 2, 5, 0, wire.cmd_sn)
    assert refused.byte2 == 2
    (other,) = wire.send(Opcode.LOGOUT_REQUEST | IMMEDIATE, FINAL | 1, 5, 9 << 16, wire.cmd_sn)
    assert other.byte2 == 1
    assert node.iscsi.sessions
    (answer,) = wire.send(Opcode.LOGOUT_REQUEST | IMMEDIATE, FINAL, 6, 0, wire.cmd_sn)
    assert (answer.opcode, answer.byte2, answer.itt) == (Opcode.LOGOUT_RESPONSE, 0, 6)
    assert wire.connection.closing
    assert not node.iscsi.sessions
    assert not node.scsi.nexuses
    assert node.scsi.units[0].state.reserved_by is None


def test_a_broken_data_digest_ends_the_connection_and_nothing_is_written() -> None:
    node = Node()
    wire = entered(node, HeaderDigest="CRC32C,None", DataDigest="CRC32C,None")
    good(wire.command(write10(0, 1), FINAL | WRITE, 512, b"a" * 512))
    wire.writer.add = _corrupting(wire)  # type: ignore[method-assign]
    (answer,) = wire.command(write10(0, 1), FINAL | WRITE, 512, b"b" * 512)
    assert (answer.opcode, answer.byte2) == (Opcode.REJECT, RejectReason.DATA_DIGEST)
    assert wire.connection.closing
    assert node.disk.content[:512] == b"a" * 512


def _corrupting(wire: Wire):  # type: ignore[no-untyped-def]
    writer = wire.writer
    add = type(writer).add

    def corrupt(header: bytes, data: bytes = b"") -> None:
        add(writer, header, data)
        writer.pieces[-1] = bytes(4)

    return corrupt


def test_the_target_asks_for_a_logout() -> None:
    node = Node()
    wire = entered(node)
    node.iscsi.ask_for_logout(3)
    (message,) = wire.read()
    assert (message.opcode, message.event >> 24, message.words[6]) == (Opcode.ASYNC_MESSAGE, 1, 3)
    node.iscsi.end_all("shut down")
    assert wire.connection.closing


def test_a_peer_that_does_not_take_its_data_is_not_read_from() -> None:
    """64 reads of 1 MB in one go: no more than the limit and one answer is ever held."""
    node = Node(limits=Limits(output_bytes=1 << 17))
    wire = entered(node, MaxRecvDataSegmentLength=262144)
    for _ in range(64):
        wire.writer.add(*_read_command(wire))
    wire.connection.receive(wire.writer.take())
    most = 0
    taken = 0
    while True:
        most = max(most, wire.connection.held_bytes)
        taken += len(wire.connection.take_output())
        if not wire.connection.stalled:
            break
        wire.connection.run()
    assert taken > 64 << 20
    assert most < (1 << 20) + (1 << 18) + 64 * 48


def _read_command(wire: Wire) -> tuple[bytes, bytes]:
    header = HEADER.pack(Opcode.SCSI_COMMAND, FINAL | READ, 0, 0, 0, bytes(8), 1, 1 << 20, wire.cmd_sn, 0, 0, 0, 0, 0)
    wire.cmd_sn += 1
    return header[:32] + read10(0, 2048).ljust(16, b"\0"), b""


def test_every_pdu_is_an_event_in_words() -> None:
    node = Node(keep=True)
    wire = entered(node)
    wire.command(read10(5, 1), FINAL | READ, 512)
    lines = [e.describe() for e in node.scsi.log.events if isinstance(e, IscsiPdu)]
    assert lines[0].startswith("target gets LOGIN_REQUEST immediate")
    assert "READ(10) lba=0x5 blocks=1" in lines[-2]
    assert lines[-1].startswith("target sends DATA_IN flags=0x81 data=512")
