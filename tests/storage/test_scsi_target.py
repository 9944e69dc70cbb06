"""Targets: nexuses, unit attentions, tasks and what ends them, state as a value, the trace."""

from __future__ import annotations

import msgspec
import pytest

from tests.storage.scsi_helpers import A, B, Bench, cdb, good, refused
from vilab.errors import AdminError, VmmBug
from vilab.events import EventDigest, encode
from vilab.storage.block import MemoryDisk
from vilab.storage.scsi.request import ScsiCommand, TaskManaged
from vilab.storage.scsi.sense import SenseKey, Status
from vilab.storage.scsi.state import (
    Identity,
    Nexus,
    TargetState,
    decode_target_state,
    decode_unit_state,
    encode_state,
)
from vilab.storage.scsi.target import Target, TaskAnswer, TaskFunction

C = Nexus("iqn.2006-06.org.example:c,i,0x400000000003")
WRITE = cdb("WRITE(10)", lba=0, blocks=1)


def attention(bench: Bench, nexus: Nexus, code: int) -> None:
    """The nexus hears this, once."""
    raw = cdb("TEST UNIT READY")
    refused(bench.target.execute(nexus, 0, raw), code, SenseKey.UNIT_ATTENTION)
    good(bench.target.execute(nexus, 0, raw))


def test_a_new_nexus_hears_of_power_on_with_its_first_command() -> None:
    bench = Bench()
    bench.target.connect(C)
    attention(bench, C, 0x2900)
    bench.target.disconnect(C)
    bench.target.connect(C)
    bench.target.connect(C)
    attention(bench, C, 0x2900)


def test_a_unit_attention_waits_through_inquiry_and_ends_with_request_sense() -> None:
    bench = Bench()
    bench.target.connect(C)
    good(bench.target.execute(C, 0, cdb("INQUIRY", allocation=36)))
    good(bench.target.execute(C, 0, cdb("REPORT LUNS", allocation=64)))
    data = good(bench.target.execute(C, 0, cdb("REQUEST SENSE", allocation=18)))
    assert (data[2], data[12], data[13]) == (6, 0x29, 0)
    data = good(bench.target.execute(C, 0, cdb("REQUEST SENSE", desc=1, allocation=255)))
    assert (data[0], data[1]) == (0x72, 0)
    good(bench.target.execute(C, 0, cdb("TEST UNIT READY")))


def test_the_list_of_luns_and_the_capacity_may_change() -> None:
    bench = Bench()
    bench.target.add(1, MemoryDisk(512), Identity("second"))
    attention(bench, A, 0x3F0E)
    refused(bench.target.execute(A, 1, cdb("TEST UNIT READY")), 0x2900, SenseKey.UNIT_ATTENTION)
    bench.hear()
    bench.target.remove(1)
    attention(bench, B, 0x3F0E)
    good(bench.a("REPORT LUNS", allocation=64))  # who has looked at the list need not be told of it
    good(bench.a("TEST UNIT READY"))
    refused(bench.target.execute(A, 1, cdb("TEST UNIT READY")), 0x2500)
    bench.unit.capacity_changed()
    attention(bench, A, 0x2A09)
    with pytest.raises(AdminError, match="serial-0001"):
        bench.target.add(0, MemoryDisk(512), Identity("third"))
    with pytest.raises(AdminError, match="no LUN 5"):
        bench.target.remove(5)
    with pytest.raises(AdminError, match="16383"):
        bench.target.add(1 << 14, MemoryDisk(512), Identity("third"))


def test_a_task_says_how_much_data_it_waits_for() -> None:
    bench = Bench()
    for raw, size in (
        (WRITE, 512),
        (cdb("WRITE(6)", lba=0, blocks=0), 256 * 512),
        (cdb("COMPARE AND WRITE", lba=0, blocks=2), 2048),
        (cdb("WRITE SAME(16)", lba=0, blocks=99), 512),
        (cdb("WRITE SAME(16)", lba=0, blocks=99, ndob=1), 0),
        (cdb("VERIFY(10)", lba=0, blocks=2), 0),
        (cdb("VERIFY(10)", lba=0, blocks=2, bytchk=1), 1024),
        (cdb("VERIFY(10)", lba=0, blocks=2, bytchk=3), 512),
        (cdb("UNMAP", parameter_bytes=24), 24),
        (cdb("READ(10)", lba=0, blocks=2), 0),
        (cdb("WRITE(16)", lba=0, blocks=0xFFFF_FFFF), 0),
        (b"\xff" * 16, 0),
    ):
        assert bench.target.begin(A, 0, 1, raw).data_out_bytes == size
    assert bench.target.begin(A, 44, 1, WRITE).data_out_bytes == 0


@pytest.mark.parametrize(
    ("by", "function", "dies", "told"),
    [
        (A, TaskFunction.ABORT_TASK, True, None),
        (B, TaskFunction.ABORT_TASK, False, None),
        (A, TaskFunction.ABORT_TASK_SET, True, None),
        (B, TaskFunction.ABORT_TASK_SET, False, None),
        (A, TaskFunction.CLEAR_TASK_SET, True, None),
        (B, TaskFunction.CLEAR_TASK_SET, True, 0x2F00),
        (B, TaskFunction.LOGICAL_UNIT_RESET, True, 0x2903),
        (B, TaskFunction.TARGET_RESET, True, 0x2902),
        (A, TaskFunction.NEXUS_RESET, True, 0x2907),
        (B, TaskFunction.NEXUS_RESET, False, None),
    ],
)
def test_what_ends_a_write_that_waits_for_its_data(
    by: Nexus, function: TaskFunction, dies: bool, told: int | None
) -> None:
    bench = Bench()
    task = bench.target.begin(A, 0, 7, WRITE)
    answer = bench.target.manage(by, function, lun=0, tag=7)
    assert answer == (TaskAnswer.NO_TASK if function is TaskFunction.ABORT_TASK and by == B else TaskAnswer.COMPLETE)
    if told is not None:
        attention(bench, A, told)
    response = bench.target.finish(task, b"\xff" * 512)
    assert (response is None) == dies
    assert bench.disk.content[:512] == (bytes(512) if dies else b"\xff" * 512)
    assert bench.target.tasks == []


def test_abort_reaches_neither_another_tag_nor_another_lun() -> None:
    bench = Bench()
    bench.target.add(1, MemoryDisk(512), Identity("second"))
    bench.hear()
    task = bench.target.begin(A, 0, 7, WRITE)
    assert bench.target.manage(A, TaskFunction.ABORT_TASK, lun=0, tag=8) == TaskAnswer.NO_TASK
    assert bench.target.manage(A, TaskFunction.ABORT_TASK, lun=1, tag=7) == TaskAnswer.NO_TASK
    assert bench.target.manage(A, TaskFunction.QUERY_TASK, lun=0, tag=7) == TaskAnswer.SUCCEEDED
    assert bench.target.manage(A, TaskFunction.LOGICAL_UNIT_RESET, lun=1) == TaskAnswer.COMPLETE
    assert bench.target.manage(A, TaskFunction.LOGICAL_UNIT_RESET, lun=9) == TaskAnswer.NO_UNIT
    assert bench.target.manage(A, TaskFunction.ABORT_TASK) == TaskAnswer.NO_UNIT
    assert bench.target.finish(task, bytes(512)) is not None
    with pytest.raises(VmmBug, match="finished before"):
        bench.target.finish(task, bytes(512))


def test_a_lost_nexus_takes_its_commands_along() -> None:
    bench = Bench()
    of_a, of_b = bench.target.begin(A, 0, 1, WRITE), bench.target.begin(B, 0, 1, WRITE)
    bench.target.disconnect(A)
    bench.target.disconnect(A)
    assert bench.target.finish(of_a, b"\xff" * 512) is None
    assert bench.target.finish(of_b, bytes(512)) is not None


def test_equal_tasks_are_two() -> None:
    bench = Bench()
    first, second = bench.target.begin(A, 0, 1, WRITE), bench.target.begin(A, 0, 1, WRITE)
    assert bench.target.finish(second, bytes(512)) is not None
    assert bench.target.tasks[0] is first


def test_a_stopped_unit_is_not_ready_until_it_is_started() -> None:
    bench = Bench()
    good(bench.a("START STOP UNIT", start=0))
    for name in ("TEST UNIT READY", "READ(10)", "READ CAPACITY(10)"):
        refused(bench.a(name), 0x0402, SenseKey.NOT_READY)
    assert good(bench.a("REQUEST SENSE", allocation=18))[2] == 2
    good(bench.a("INQUIRY", allocation=36))
    good(bench.a("START STOP UNIT", start=0, power=1))
    good(bench.a("START STOP UNIT", start=1))
    good(bench.a("TEST UNIT READY"))
    refused(bench.a("START STOP UNIT", loej=1), 0x2400)
    refused(bench.a("START STOP UNIT", power=5), 0x2400)


def test_prevent_is_kept_for_each_nexus_until_it_is_gone() -> None:
    bench = Bench()
    good(bench.a("PREVENT ALLOW MEDIUM REMOVAL", prevent=1))
    good(bench.b("PREVENT ALLOW MEDIUM REMOVAL", prevent=1))
    good(bench.b("PREVENT ALLOW MEDIUM REMOVAL", prevent=0))
    assert bench.unit.state.preventing == [A]
    bench.target.disconnect(A)
    assert bench.unit.state.preventing == []


def test_self_test_passes_and_other_diagnostics_are_refused() -> None:
    bench = Bench()
    good(bench.a("SEND DIAGNOSTIC", self_test=1))
    refused(bench.a("SEND DIAGNOSTIC", code=1), 0x2400)
    refused(bench.a("SEND DIAGNOSTIC", bytes(4), parameter_bytes=4), 0x2400)


def busy_target() -> Bench:
    bench = Bench()
    bench.target.connect(C)
    good(bench.a("PERSISTENT RESERVE OUT: REGISTER", bytes(8) + b"\1" * 8 + bytes(8), parameter_bytes=24))
    good(bench.a("PERSISTENT RESERVE OUT: RESERVE", b"\1" * 8 + bytes(16), type=5, parameter_bytes=24))
    good(bench.a("PREVENT ALLOW MEDIUM REMOVAL", prevent=1))
    page = bytes((0, 0, 0, 0, 0x0A, 0x0A, 0x04)) + bytes(9)
    good(bench.a("MODE SELECT(6)", page, pf=1, parameter_bytes=16))
    good(bench.a("START STOP UNIT", start=0))
    bench.target.begin(B, 0, 12, WRITE)
    return bench


def test_state_goes_to_bytes_and_back_and_decides_the_same() -> None:
    bench = busy_target()
    state = bench.target.save_state()
    data = encode_state(state)
    assert decode_target_state(data) == state
    assert encode_state(decode_target_state(data)) == data
    assert decode_unit_state(encode_state(state.units[0])) == state.units[0]
    other = Bench()
    other.target.load_state(decode_target_state(data))
    assert other.target.save_state() == state
    other.disk.content[:] = bench.disk.content
    for name in ("TEST UNIT READY", "TEST UNIT READY", "READ(10)", "MODE SENSE(6)", "REQUEST SENSE"):
        for nexus in (A, B, C):
            fields = {"page": 0x3F, "allocation": 255} if name == "MODE SENSE(6)" else {}
            raw = cdb(name, **fields)
            assert bench.target.execute(nexus, 0, raw) == other.target.execute(nexus, 0, raw)
    response = other.target.finish(other.target.tasks[0], bytes(512))
    assert response is not None
    assert response.status == Status.RESERVATION_CONFLICT


def test_a_saved_state_is_a_copy() -> None:
    bench = busy_target()
    state = bench.target.save_state()
    before = encode_state(state)
    bench.target.manage(A, TaskFunction.TARGET_RESET)
    assert encode_state(state) == before
    bench.target.load_state(state)
    bench.target.manage(A, TaskFunction.TARGET_RESET)
    assert encode_state(state) == before


def test_the_state_of_another_set_of_luns_is_refused() -> None:
    with pytest.raises(AdminError, match="same disks"):
        Bench().target.load_state(TargetState())


def test_the_trace_has_every_command_in_words() -> None:
    bench = Bench(keep=True)
    bench.a("READ(10)", lba=16, blocks=8)
    bench.a("READ(10)", lba=1 << 31, blocks=8, fua=1)
    bench.a("WRITE(10)", bytes(512), lba=0, blocks=1)
    bench.target.execute(A, 3, b"\xee")
    bench.target.manage(B, TaskFunction.LOGICAL_UNIT_RESET, lun=0)
    assert [e.describe() for e in bench.log.of(ScsiCommand)] == [
        "LUN 0: READ(10) lba=0x10 blocks=8 -> GOOD, 4096 bytes in",
        "LUN 0: READ(10) lba=0x80000000 blocks=8 FUA -> CHECK CONDITION, "
        "ILLEGAL REQUEST 21/00: block address out of range",
        "LUN 0: WRITE(10) lba=0x0 blocks=1 -> GOOD, 512 bytes out",
        "LUN 3: unknown command ee -> CHECK CONDITION, ILLEGAL REQUEST 25/00: logical unit not supported",
    ]
    managed = bench.log.of(TaskManaged)
    assert [(e.nexus, e.lun, e.function, e.aborted) for e in managed] == [(str(B), 0, "logical unit reset", 0)]
    first = bench.log.of(ScsiCommand)[0]
    assert msgspec.json.decode(encode(first), type=ScsiCommand) == first


def test_equal_runs_log_equal_bytes() -> None:
    digests = []
    for _ in range(2):
        bench = Bench()
        digest = EventDigest()
        bench.log.listen(digest)
        for raw in (WRITE, b"", b"\xff", cdb("INQUIRY", allocation=96)):
            bench.target.execute(A, 0, raw, bytes(512))
        assert digest.count == 4
        digests.append(digest.hexdigest())
    assert digests[0] == digests[1]


def test_a_target_without_units_answers() -> None:
    target = Target()
    assert good(target.execute(A, 0, cdb("REPORT LUNS", allocation=64))) == bytes(8)
    target.connect(A)
    target.disconnect(A)
