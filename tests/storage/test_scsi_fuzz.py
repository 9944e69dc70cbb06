"""Any bytes from an initiator end in a status; what is refused has changed nothing; no answer is longer than asked."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.scsi_helpers import A, B, Bench, cdb
from vilab.storage.scsi.commands import COMMANDS
from vilab.storage.scsi.sense import Status, parse_sense
from vilab.storage.scsi.state import Nexus, decode_target_state, encode_state
from vilab.storage.scsi.target import TaskFunction

SMALL = st.sampled_from([0, 1, 2, 8, 24, 255, 4095, 4096])


@st.composite
def known(draw: st.DrawFn) -> bytes:
    """A command of the table with fields that are often small and at times anything."""
    command = draw(st.sampled_from(COMMANDS))
    fields = {}
    for name, field in command.fields.items():
        value = draw(st.one_of(st.just(0), SMALL, st.integers(0, field.most)))
        fields[name] = min(value, field.most)
    return cdb(command.name, **fields)


CDBS = st.one_of(known(), known(), st.binary(max_size=20), st.builds(bytes, st.lists(st.integers(0, 255), max_size=16)))
DATA = st.one_of(
    st.binary(max_size=64),
    st.builds(lambda b, n: b * n, st.binary(min_size=512, max_size=512), st.integers(0, 4)),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("command"), st.sampled_from([A, B]), st.sampled_from([0, 0, 0, 5]), CDBS, DATA),
        st.tuples(st.just("manage"), st.sampled_from([A, B]), st.sampled_from(list(TaskFunction)), st.none() | SMALL),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_sequence_of_bytes_ends_in_statuses(steps: list[tuple[object, ...]]) -> None:
    bench = Bench()
    for step in steps:
        if step[0] == "manage":
            _, nexus, function, lun = step
            assert isinstance(nexus, Nexus)
            assert isinstance(function, TaskFunction)
            bench.target.manage(nexus, function, lun if isinstance(lun, int) else None, 1)
            continue
        _, nexus, lun, raw, data = step
        assert isinstance(nexus, Nexus)
        assert isinstance(lun, int)
        assert isinstance(raw, bytes)
        assert isinstance(data, bytes)
        before = bytes(bench.disk.content)
        task = bench.target.begin(nexus, lun, 1, raw)
        assert 0 <= task.data_out_bytes <= 32 << 20
        response = bench.target.finish(task, data)
        assert response is not None
        assert response.status in list(Status)
        assert response.describe()
        if response.status != Status.GOOD:
            assert bench.disk.content == before
            assert response.data_in == b""
        if response.status == Status.CHECK_CONDITION:
            sense = parse_sense(response.sense_bytes)
            assert sense is not None
            assert response.sense is not None
            assert (sense.key, sense.code) == (response.sense.key, response.sense.code)
        assert len(bench.disk.content) == len(before)
    state = bench.target.save_state()
    assert decode_target_state(encode_state(state)) == state


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4095), st.integers(1, 64), st.binary(min_size=512, max_size=512), st.data())
def test_what_was_written_by_one_form_is_read_by_every_other(
    lba: int, count: int, block: bytes, data: st.DataObject
) -> None:
    bench = Bench()
    count = min(count, 4096 - lba)
    content = block * count
    write = data.draw(st.sampled_from(["WRITE(6)", "WRITE(10)", "WRITE(12)", "WRITE(16)", "WRITE AND VERIFY(16)"]))
    kind = data.draw(st.sampled_from([bytes, bytearray, memoryview]))
    raw = cdb(write, lba=lba, blocks=count)
    assert bench.target.execute(A, 0, raw, kind(content)).status == Status.GOOD
    for read in ("READ(6)", "READ(10)", "READ(12)", "READ(16)"):
        assert bench.b(read, lba=lba, blocks=count).data_in == content
    assert bench.b("VERIFY(12)", content, lba=lba, blocks=count, bytchk=1).status == Status.GOOD
    assert bench.b("VERIFY(16)", block, lba=lba, blocks=count, bytchk=3).status == Status.GOOD
