"""Reservations of both kinds: who gets through, who holds, what becomes of it when somebody leaves."""

from __future__ import annotations

import struct

import pytest

from tests.storage.scsi_helpers import A, B, Bench, cdb, conflicts, good, refused
from vilab.storage.scsi.cdb import decode
from vilab.storage.scsi.commands import COMMANDS, Command
from vilab.storage.scsi.request import Response, data_out_bytes
from vilab.storage.scsi.reservation import MAX_REGISTRATIONS
from vilab.storage.scsi.sense import SenseKey, Status
from vilab.storage.scsi.state import Nexus
from vilab.storage.scsi.target import TaskFunction

KEY_A, KEY_B = 0x1111_2222_3333_4444, 0x5555_6666_7777_8888
TYPES = (1, 3, 5, 6, 7, 8)
OUT = "PERSISTENT RESERVE OUT: "


def out(bench: Bench, nexus: Nexus, action: str, key: int = 0, new: int = 0, type: int = 0, flags: int = 0) -> Response:
    data = struct.pack(">QQIB3x", key, new, 0, flags)
    return bench.target.execute(nexus, 0, cdb(OUT + action, type=type, parameter_bytes=24), data)


def both_registered() -> Bench:
    bench = Bench()
    good(out(bench, A, "REGISTER", 0, KEY_A))
    good(out(bench, B, "REGISTER AND IGNORE EXISTING KEY", 99, KEY_B))
    return bench


def keys(bench: Bench) -> list[int]:
    data = good(bench.a("PERSISTENT RESERVE IN: READ KEYS", allocation=4096))
    assert int.from_bytes(data[4:8], "big") == len(data) - 8
    return [int.from_bytes(data[at : at + 8], "big") for at in range(8, len(data), 8)]


def reservation(bench: Bench) -> tuple[int, int] | None:
    """Key and type, or ``None``."""
    data = good(bench.a("PERSISTENT RESERVE IN: READ RESERVATION", allocation=4096))
    if len(data) == 8:
        return None
    assert data[4:8] == bytes((0, 0, 0, 16))
    return int.from_bytes(data[8:16], "big"), data[21]


def shown(kind: int, key: int) -> tuple[int, int]:
    return (0 if kind in (7, 8) else key), kind


def generation(bench: Bench) -> int:
    return int.from_bytes(good(bench.a("PERSISTENT RESERVE IN: READ KEYS", allocation=4))[:4], "big")


def access(bench: Bench, nexus: Nexus) -> tuple[bool, bool]:
    """May it read, may it write?"""
    read = bench.target.execute(nexus, 0, cdb("READ(10)", lba=0, blocks=1))
    write = bench.target.execute(nexus, 0, cdb("WRITE(10)", lba=0, blocks=1), bytes(512))
    assert {read.status, write.status} <= {Status.GOOD, Status.RESERVATION_CONFLICT}
    return read.status == Status.GOOD, write.status == Status.GOOD


def test_registering_changing_and_leaving() -> None:
    bench = Bench()
    assert keys(bench) == []
    assert conflicts(out(bench, A, "REGISTER", 5, KEY_A))
    good(out(bench, A, "REGISTER", 0, KEY_A))
    assert conflicts(out(bench, A, "REGISTER", 5, KEY_B))
    good(out(bench, A, "REGISTER", KEY_A, KEY_B))
    assert keys(bench) == [KEY_B]
    good(out(bench, A, "REGISTER AND IGNORE EXISTING KEY", 77, KEY_A))
    assert keys(bench) == [KEY_A]
    assert generation(bench) == 3
    good(out(bench, A, "REGISTER", KEY_A, 0))
    assert keys(bench) == []
    assert generation(bench) == 4


def test_the_list_of_keys_is_cut_but_its_length_is_not() -> None:
    bench = both_registered()
    data = good(bench.a("PERSISTENT RESERVE IN: READ KEYS", allocation=16))
    assert len(data) == 16
    assert int.from_bytes(data[4:8], "big") == 16


@pytest.mark.parametrize("kind", TYPES)
def test_reserve_and_release(kind: int) -> None:
    bench = both_registered()
    before = generation(bench)
    good(out(bench, A, "RESERVE", KEY_A, type=kind))
    good(out(bench, A, "RESERVE", KEY_A, type=kind))
    assert reservation(bench) == shown(kind, KEY_A)
    assert conflicts(out(bench, A, "RESERVE", KEY_A, type=TYPES[TYPES.index(kind) - 1]))
    assert conflicts(out(bench, A, "RELEASE", KEY_B, type=kind))
    refused(out(bench, A, "RELEASE", KEY_A, type=TYPES[TYPES.index(kind) - 1]), 0x2604)
    good(out(bench, A, "RELEASE", KEY_A, type=kind))
    assert reservation(bench) is None
    good(out(bench, A, "RELEASE", KEY_A, type=kind))
    assert generation(bench) == before
    if kind in (5, 6, 7, 8):
        refused(bench.b("TEST UNIT READY"), 0x2A04, SenseKey.UNIT_ATTENTION)
    good(bench.b("TEST UNIT READY"))


def test_only_a_registrant_reserves_and_only_a_type_there_is() -> None:
    bench = both_registered()
    assert conflicts(out(bench, Nexus("c"), "RESERVE", 0, type=1))
    assert conflicts(out(bench, A, "RESERVE", KEY_B, type=1))
    for kind in set(range(16)) - set(TYPES):
        refused(out(bench, A, "RESERVE", KEY_A, type=kind), 0x2400)
    assert reservation(bench) is None


@pytest.mark.parametrize(
    ("kind", "registered", "unregistered"),
    [
        (1, (True, False), (True, False)),
        (3, (False, False), (False, False)),
        (5, (True, True), (True, False)),
        (6, (True, True), (False, False)),
        (7, (True, True), (True, False)),
        (8, (True, True), (False, False)),
    ],
)
def test_who_may_read_and_write(kind: int, registered: tuple[bool, bool], unregistered: tuple[bool, bool]) -> None:
    bench = both_registered()
    good(out(bench, A, "RESERVE", KEY_A, type=kind))
    assert access(bench, A) == (True, True)
    assert access(bench, B) == registered
    good(out(bench, B, "REGISTER", KEY_B, 0))
    assert access(bench, B) == unregistered


@pytest.mark.parametrize("kind", TYPES)
def test_what_happens_when_the_holder_unregisters(kind: int) -> None:
    bench = both_registered()
    good(out(bench, A, "RESERVE", KEY_A, type=kind))
    good(out(bench, A, "REGISTER", KEY_A, 0))
    if kind in (7, 8):
        assert reservation(bench) == (0, kind)
        good(out(bench, B, "REGISTER", KEY_B, 0))
        assert reservation(bench) is None
        return
    assert reservation(bench) is None
    if kind in (5, 6):
        refused(bench.b("TEST UNIT READY"), 0x2A04, SenseKey.UNIT_ATTENTION)
    good(bench.b("TEST UNIT READY"))


def test_clear_ends_everything_and_tells_the_others() -> None:
    bench = both_registered()
    good(out(bench, A, "RESERVE", KEY_A, type=3))
    assert conflicts(out(bench, B, "CLEAR", KEY_A))
    good(out(bench, B, "CLEAR", KEY_B))
    refused(bench.a("TEST UNIT READY"), 0x2A03, SenseKey.UNIT_ATTENTION)
    assert keys(bench) == []
    assert reservation(bench) is None


@pytest.mark.parametrize("kind", [1, 3, 5, 6])
def test_preempting_the_holder_takes_its_reservation(kind: int) -> None:
    bench = both_registered()
    good(out(bench, A, "RESERVE", KEY_A, type=1))
    good(out(bench, B, "PREEMPT", KEY_B, KEY_A, type=kind))
    refused(bench.a("TEST UNIT READY"), 0x2A05, SenseKey.UNIT_ATTENTION)
    assert keys(bench) == [KEY_B]
    assert reservation(bench) == (KEY_B, kind)


@pytest.mark.parametrize("kind", [7, 8])
def test_preempting_all_registrants_by_key_0(kind: int) -> None:
    bench = both_registered()
    good(out(bench, A, "RESERVE", KEY_A, type=kind))
    good(out(bench, B, "PREEMPT", KEY_B, 0, type=1))
    assert bench.unit.state.next_attention(A) == 0x2A05
    assert keys(bench) == [KEY_B]
    assert reservation(bench) == (KEY_B, 1)


@pytest.mark.parametrize("kind", [0, *TYPES])
def test_preempting_who_does_not_hold_removes_the_registration_only(kind: int) -> None:
    bench = both_registered()
    if kind:
        good(out(bench, A, "RESERVE", KEY_A, type=kind))
    good(out(bench, A, "PREEMPT", KEY_A, KEY_B, type=kind or 1))
    assert bench.unit.state.next_attention(B) == 0x2A05
    assert keys(bench) == [KEY_A]
    assert reservation(bench) == (shown(kind, KEY_A) if kind else None)


def test_preempting_nobody() -> None:
    bench = both_registered()
    assert conflicts(out(bench, A, "PREEMPT", KEY_A, 0xDEAD, type=1))
    assert conflicts(out(bench, A, "PREEMPT", KEY_B, KEY_B, type=1))
    refused(out(bench, A, "PREEMPT", KEY_A, 0, type=1), 0x2600)
    assert keys(bench) == [KEY_A, KEY_B]


def test_preempt_and_abort_ends_the_commands_of_the_victim() -> None:
    bench = both_registered()
    good(out(bench, A, "RESERVE", KEY_A, type=1))
    raw = cdb("WRITE(10)", lba=0, blocks=1)
    of_a, of_b = bench.target.begin(A, 0, 1, raw), bench.target.begin(B, 0, 2, cdb("READ(10)", lba=0, blocks=1))
    good(out(bench, B, "PREEMPT AND ABORT", KEY_B, KEY_A, type=3))
    assert bench.target.finish(of_a, b"\xff" * 512) is None
    assert bench.disk.content[:512] == bytes(512)
    response = bench.target.finish(of_b)
    assert response is not None
    good(response)


def test_bad_parameters_change_nothing() -> None:
    bench = both_registered()
    before = (keys(bench), generation(bench))
    for flags in (8, 4, 1):
        refused(out(bench, A, "REGISTER", KEY_A, 1, flags=flags), 0x2600)
    for size in (0, 8, 23, 25, 1 << 31):
        raw = cdb(OUT + "REGISTER", parameter_bytes=size)
        refused(bench.target.execute(A, 0, raw, bytes(24)), 0x1A00)
    refused(bench.target.execute(A, 0, cdb(OUT + "REGISTER", parameter_bytes=24), bytes(23)), 0x1A00)
    raw = cdb(OUT + "RESERVE", scope=1, type=1, parameter_bytes=24)
    refused(bench.target.execute(A, 0, raw, struct.pack(">QQ8x", KEY_A, 0)), 0x2400)
    assert (keys(bench), generation(bench)) == before


def test_in_knows_four_service_actions_and_out_seven() -> None:
    bench = both_registered()
    for action in range(0x20):
        response = bench.target.execute(A, 0, bytes((0x5E, action, 0, 0, 0, 0, 0, 1, 0, 0)))
        good(response) if action < 4 else refused(response, 0x2400)
        if action > 6:
            refused(bench.target.execute(A, 0, bytes((0x5F, action, 0, 0, 0, 0, 0, 0, 24, 0)), bytes(24)), 0x2400)


def test_capabilities_name_all_six_types_and_no_more_than_is_there() -> None:
    data = good(Bench().a("PERSISTENT RESERVE IN: REPORT CAPABILITIES", allocation=255))
    assert data == bytes((0, 8, 0, 0x90, 0xEA, 0x01, 0, 0))
    assert sum(bin(b).count("1") for b in data[4:6]) == len(TYPES)


def test_full_status_names_the_initiators_and_the_holder() -> None:
    bench = both_registered()
    good(out(bench, A, "RESERVE", KEY_A, type=5))
    data = good(bench.a("PERSISTENT RESERVE IN: READ FULL STATUS", allocation=4096))
    at, seen = 8, {}
    while at < len(data):
        key, holds, kind, port, size = struct.unpack(">Q4xBB4xHI", data[at : at + 24])
        assert port == 1
        name = data[at + 24 : at + 24 + size]
        assert name[0] == 0x45
        assert int.from_bytes(name[2:4], "big") == size - 4
        assert size % 4 == 0
        seen[name[4:].rstrip(b"\0").decode()] = (key, holds, kind)
        at += 24 + size
    assert seen == {A.initiator: (KEY_A, 1, 5), B.initiator: (KEY_B, 0, 0)}


def test_registrations_outlive_sessions_and_resets() -> None:
    bench = both_registered()
    good(out(bench, A, "RESERVE", KEY_A, type=1))
    bench.target.disconnect(A)
    bench.target.manage(B, TaskFunction.TARGET_RESET)
    bench.target.connect(A)
    bench.hear()
    assert keys(bench) == [KEY_A, KEY_B]
    assert reservation(bench) == (KEY_A, 1)
    assert access(bench, A) == (True, True)


def test_registrations_are_bounded() -> None:
    bench = Bench()
    for number in range(MAX_REGISTRATIONS):
        good(out(bench, Nexus(f"n{number}"), "REGISTER", 0, 1))
    refused(out(bench, Nexus("one more"), "REGISTER", 0, 1), 0x5504)


PASS_RESERVE_6 = {"INQUIRY", "REQUEST SENSE", "REPORT LUNS", "RELEASE(6)", "PREVENT ALLOW MEDIUM REMOVAL"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_reserve_6_keeps_others_out_of_all_but_a_few(command: Command) -> None:
    bench = Bench()
    good(bench.a("RESERVE(6)"))
    name = command.name
    raw = cdb(name)
    response = bench.target.execute(B, 0, raw, bytes(min(data_out_bytes(decode(raw), 512), 1 << 18)))
    assert conflicts(response) == (name not in PASS_RESERVE_6)
    if not name.startswith("PERSISTENT"):
        assert not conflicts(bench.target.execute(A, 0, raw))


def test_reserve_6_ends_by_release_of_its_holder_only() -> None:
    bench = Bench()
    good(bench.a("RESERVE(6)"))
    good(bench.a("RESERVE(6)"))
    assert conflicts(bench.b("RESERVE(6)"))
    good(bench.b("RELEASE(6)"))
    assert conflicts(bench.b("TEST UNIT READY"))
    good(bench.a("RELEASE(6)"))
    good(bench.b("RESERVE(6)"))
    refused(bench.b("RESERVE(6)", extent=1), 0x2400)
    refused(bench.b("RELEASE(6)", third_party=1), 0x2400)


def test_reserve_6_ends_with_the_session_and_with_resets() -> None:
    for end in ("session", TaskFunction.NEXUS_RESET, TaskFunction.LOGICAL_UNIT_RESET, TaskFunction.TARGET_RESET):
        bench = Bench()
        good(bench.a("RESERVE(6)"))
        if isinstance(end, TaskFunction):
            bench.target.manage(A, end, lun=0)
        else:
            bench.target.disconnect(A)
        bench.hear()
        good(bench.b("WRITE(10)", bytes(512), lba=0, blocks=1))


def test_the_old_and_the_new_reservations_exclude_each_other() -> None:
    bench = both_registered()
    assert conflicts(bench.a("RESERVE(6)"))
    bench = Bench()
    good(bench.a("RESERVE(6)"))
    assert conflicts(out(bench, A, "REGISTER", 0, KEY_A))


def test_start_passes_and_stop_does_not() -> None:
    bench = both_registered()
    good(out(bench, A, "RESERVE", KEY_A, type=1))
    good(bench.b("START STOP UNIT", start=1))
    assert conflicts(bench.b("START STOP UNIT", start=0))
    good(bench.b("PREVENT ALLOW MEDIUM REMOVAL", prevent=0))
    assert conflicts(bench.b("PREVENT ALLOW MEDIUM REMOVAL", prevent=1))
