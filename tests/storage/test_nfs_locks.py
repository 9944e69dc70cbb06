"""Lock files: one owner at any moment, whoever dies or sleeps; and what a host does with them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.nfs_race import Racer, race
from tests.storage.nfs_twin import Host, S, client_of, host_on
from vilab.storage.block import BlockError
from vilab.storage.nfs.events import (
    NfsLockBroken,
    NfsLockLost,
    NfsLockRefused,
    NfsLockReleased,
    NfsLockRenewalFailed,
    NfsLockRenewed,
    NfsLockTaken,
)
from vilab.storage.nfs.layout import RENAME, WRITE
from vilab.storage.nfs.link import WINDOW
from vilab.storage.nfs.lock import NfsLock, Owner
from vilab.storage.nfs.lock_record import RECORD_BYTES, LockRecord, lock_name, parse
from vilab.storage.nfs.locks import LockedError, VmLocks
from vilab.storage.nfs.memory_server import MemoryServer

DISK = "vm1/vm1.vmdk"
FILES = ["vm1/vm1.vmx", "vm1/vm1-flat.vmdk"]


@pytest.fixture
def server() -> MemoryServer:
    server = MemoryServer()
    host = host_on(server)
    host.store.make_folder("vm1")
    host.store.create(FILES[0])
    host.store.create_disk(DISK, 1 << 20)
    return server


def locks_of(server: MemoryServer, name: str, lost: list[str] | None = None) -> tuple[Host, VmLocks]:
    host = host_on(server, name)
    return host, VmLocks(host.store, host.owner, on_lost=None if lost is None else lost.append)


def lock_files(server: MemoryServer) -> list[str]:
    return sorted(name for name in client_of(server).list("vm1") if name.startswith(".lck"))


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_name_is_the_files_number_with_its_lowest_byte_first() -> None:
    assert lock_name(0x934) == ".lck-3409000000000000"
    assert lock_name(4295558112) == ".lck-e003090001000000"  # the example of VMware KB 340515


def test_a_record_comes_back_and_a_damaged_one_is_an_unknown_hosts() -> None:
    record = LockRecord("esx1.example.com", bytes(range(16)), bytes(range(16, 32)), 3, 77)
    raw = record.pack()
    assert len(raw) == RECORD_BYTES == 128
    assert parse(raw) == record
    assert raw[0x10:0x18] == b"\x01\0\0\0esx1"  # where ESX has the name
    for at in range(RECORD_BYTES):
        damaged = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        assert parse(damaged).host == "an unknown host"


@given(st.binary(max_size=200))
def test_anything_is_a_record_of_somebody(raw: bytes) -> None:
    assert len(parse(raw).token) == 16


# --- power-on ---------------------------------------------------------------------------------------------------------


def test_power_on_takes_the_locks_and_a_second_host_is_refused(server: MemoryServer) -> None:
    one, first = locks_of(server, "esx1")
    two, second = locks_of(server, "esx2")
    first.take(FILES)
    numbers = [one.store.about(path).fileid for path in FILES]
    assert lock_files(server) == sorted(lock_name(number) for number in numbers)
    with pytest.raises(LockedError, match=r"vm1/vm1-flat.vmdk is locked by host esx1 \(.lck-[0-9a-f]{16}, 0 of 3"):
        second.take(FILES)
    assert not second.held
    first.release()
    assert lock_files(server) == []
    second.take(FILES)
    assert second.held
    assert [event.lock for event in one.log.of(NfsLockTaken)] == [lock_name(number) for number in sorted(numbers)][::-1]
    assert len(one.log.of(NfsLockReleased)) == 2
    assert two.log.of(NfsLockRefused)[0].holder == "esx1"


def test_all_or_none(server: MemoryServer) -> None:
    one, first = locks_of(server, "esx1")
    _, second = locks_of(server, "esx2")
    first.take(FILES[:1])
    with pytest.raises(LockedError, match=r"vm1.vmx is locked by host esx1"):
        second.take(FILES)
    assert len(lock_files(server)) == 1
    with pytest.raises(BlockError, match="no such file"):
        locks_of(server, "esx3")[1].take([*FILES[1:], "vm1/vm9.vmdk"])
    assert len(lock_files(server)) == 1
    one.pass_time(100)
    assert first.held


def test_locks_are_renewed_while_the_clock_runs_and_not_taken_over(server: MemoryServer) -> None:
    one, first = locks_of(server, "esx1")
    two, second = locks_of(server, "esx2")
    first.take(FILES)
    for _ in range(20):
        one.pass_time(10)
        two.pass_time(10)
        with pytest.raises(LockedError) as refused:
            second.take(FILES)
        assert refused.value.missed == 0
    assert [event.heartbeat for event in one.log.of(NfsLockRenewed)][::2] == list(range(2, 22))


def test_three_missed_renewals_and_the_lock_is_taken_over(server: MemoryServer) -> None:
    lost: list[str] = []
    one, first = locks_of(server, "esx1", lost)
    two, second = locks_of(server, "esx2")
    first.take(FILES[1:])
    file = one.store.open(FILES[1], writable=True)
    file.write(0, b"one's")
    file.sync()
    seen = []
    for _ in range(3):
        with pytest.raises(LockedError) as refused:
            second.take(FILES[1:])
        seen.append(refused.value.missed)
        two.pass_time(10)
    assert seen == [0, 1, 2]
    second.take(FILES[1:])  # esx1 has not moved for 30 s of esx2's clock
    (broken,) = two.log.of(NfsLockBroken)
    assert (broken.host, broken.holder, broken.generation) == ("esx2", "esx1", 1)
    assert len(lock_files(server)) == 1
    two.store.open(FILES[1], writable=True).write(0, b"two's")
    one.clock.advance(26 * S)  # esx1 comes back: its timer was due at 10 s
    with pytest.raises(BlockError, match=r"has lost the lock of vm1/vm1-flat.vmdk to host esx2") as refused_write:
        file.write(0, b"late!")
    assert refused_write.value.kind == "read_only"
    assert file.read(0, 5) == b"two's"
    assert lost == [FILES[1]]
    assert one.log.of(NfsLockLost)[0].to_host == "esx2"
    first.release()
    two.pass_time(100)
    assert second.held
    assert len(lock_files(server)) == 1


def test_nobody_misses_a_renewal_while_the_server_is_away(server: MemoryServer) -> None:
    one, first = locks_of(server, "esx1")
    two, second = locks_of(server, "esx2")
    first.take(FILES[1:])
    with pytest.raises(LockedError):
        second.take(FILES[1:])
    server.stop()
    for _ in range(10):
        one.pass_time(10)
        two.pass_time(10)
        with pytest.raises(BlockError, match="not to be reached"):
            second.take(FILES[1:])
    assert [event.failures for event in one.log.of(NfsLockRenewalFailed)] == list(range(1, 11))
    server.restart()
    with pytest.raises(LockedError) as refused:
        second.take(FILES[1:])
    assert refused.value.missed == 1
    file = one.store.open(FILES[1], writable=True)
    file.write(0, b"still")  # asks first: the last renewal is long ago
    assert first.held
    two.pass_time(10)
    with pytest.raises(LockedError) as refused:
        second.take(FILES[1:])
    assert refused.value.missed == 0


def test_an_owner_that_cannot_ask_does_not_write(server: MemoryServer) -> None:
    one, first = locks_of(server, "esx1")
    first.take(FILES[1:])
    file = one.store.open(FILES[1], writable=True)
    one.clock.advance(24 * S)
    file.write(0, b"trusted")
    one.clock.advance(2 * S)
    asked = 0

    def count(procedure: int) -> None:
        nonlocal asked
        asked += procedure == 7

    server.before = count
    file.write(0, b"asked")
    assert asked == 2  # the heartbeat, then the data
    server.frozen = True
    one.clock.advance(26 * S)
    with pytest.raises(BlockError, match="not to be found out whether host esx1 still has the lock") as away:
        file.write(0, b"never")
    assert away.value.kind == "away"
    server.frozen = False
    assert file.read(0, 7) == b"askeded"


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_write_that_lasts_longer_than_the_lock_is_trusted(server: MemoryServer, taken_over: bool) -> None:
    """The server is slow, or the other host quick: the second window of four is under way for 26 s."""
    one, first = locks_of(server, "esx1")
    two, second = locks_of(server, "esx2")
    first.take(FILES[1:])
    file = one.store.open(FILES[1], writable=True)
    one.store.client.write_bytes = 1024
    window = 1024 * WINDOW
    begun = 0

    def slow(procedure: int) -> None:
        nonlocal begun
        begun += procedure == WRITE
        if begun == WINDOW + 1:
            server.before = None
            one.clock.advance(26 * S)
            for _ in range(3 * taken_over):
                with pytest.raises(LockedError):
                    second.take(FILES[1:])
                two.pass_time(10)
            if taken_over:
                second.take(FILES[1:])

    server.before = slow
    content = random.Random(4).randbytes(4 * window)
    if taken_over:
        with pytest.raises(BlockError, match=r"has lost the lock of vm1/vm1-flat\.vmdk to host esx2"):
            file.write(0, content)
        assert two.store.open(FILES[1]).read(0, 4 * window) == content[: 2 * window] + bytes(2 * window)
        with pytest.raises(BlockError, match="has lost the lock"):
            file.write(0, b"again")
    else:
        renewed = len(one.log.of(NfsLockRenewed))
        file.write(0, content)
        assert len(one.log.of(NfsLockRenewed)) == renewed + 1, "asked once, before the third window"
        assert file.read(0, 4 * window) == content


def test_a_lock_file_of_something_else_is_respected_while_it_changes(server: MemoryServer) -> None:
    client = client_of(server)
    number = client.lookup("vm1/vm1-flat.vmdk")[1].fileid
    foreign = client.create(f"vm1/{lock_name(number)}")
    two, second = locks_of(server, "esx2")
    for beat in range(10):
        client.write(foreign, 0, b"ESX's own %d" % beat)
        with pytest.raises(LockedError, match="locked by host an unknown host"):
            second.take(FILES[1:])
        two.pass_time(10)
    for _ in range(2):
        with pytest.raises(LockedError):
            second.take(FILES[1:])
        two.pass_time(10)
    second.take(FILES[1:])
    assert two.log.of(NfsLockBroken)[0].holder == "an unknown host"


def test_a_lock_file_that_somebody_removed_is_lost(server: MemoryServer) -> None:
    one, first = locks_of(server, "esx1")
    first.take(FILES[1:])
    (name,) = lock_files(server)
    client_of(server).remove(f"vm1/{name}")
    one.pass_time(10)
    assert not first.held
    assert one.log.of(NfsLockLost)[0].to_host == "nobody"


def test_what_dead_takers_have_left_is_swept(server: MemoryServer) -> None:
    client = client_of(server)
    number = client.lookup("vm1/vm1-flat.vmdk")[1].fileid
    for tail in ("~" + "00" * 16, "-" + "11" * 16):
        client.create(f"vm1/{lock_name(number)}{tail}")
    locks_of(server, "esx1")[1].take(FILES[1:])
    assert lock_files(server) == [lock_name(number)]


@pytest.mark.parametrize("broken_call", range(24))
def test_a_connection_that_breaks_at_any_call_makes_no_second_owner(server: MemoryServer, broken_call: int) -> None:
    client = client_of(server)
    clock = host_on(server).clock
    left = broken_call

    def count(procedure: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            server.before = None
            server.epoch += 1  # the call is done, its answer is lost

    lock = NfsLock(client, "vm1/vm1-flat.vmdk", Owner("esx1", bytes(16)), clock)
    server.before = count
    try:
        taken = lock.try_take()
    except Exception as error:
        assert getattr(error, "kind", "") in ("uncertain", "away")  # noqa: PT017
        taken = False
    server.before = None
    other = NfsLock(client_of(server), "vm1/vm1-flat.vmdk", Owner("esx2", bytes(16)), clock)
    assert not (other.try_take() and taken)
    assert lock.trusted == taken


# --- races ------------------------------------------------------------------------------------------------------------

ORDER = st.lists(
    st.one_of(
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from(["poll0", "poll1", "poll2"]),
        st.just("time"),
        st.sampled_from(["kill0", "kill1"]),
    ),
    max_size=200,
)
PLAN = st.lists(st.sampled_from(["renew", "release"]), max_size=4)


@settings(max_examples=60, deadline=None)
@given(ORDER, st.lists(PLAN, min_size=3, max_size=3))
def test_at_no_moment_two_hosts_may_write(order: list[int | str], plans: list[list[str]]) -> None:
    newcomer_gets_it(race(order, plans)[0])


SEEDS = [*range(45), 193, 220, 226, 239, 340]
"""The last ones are orders in which a lock that is a little less careful once had two owners."""


@pytest.mark.parametrize("group", range(5))
def test_races_around_the_moment_of_taking_over(group: int) -> None:
    takeovers = 0
    for seed in SEEDS[group * 10 : group * 10 + 10]:
        lot = random.Random(seed)
        order: list[int | str] = []
        for _ in range(12):
            order += around_a_takeover(lot)
        plans = [[lot.choice(("renew", "renew", "release")) for _ in range(200)] for _ in range(3)]
        server, some = race(order, plans)
        takeovers += some
        newcomer_gets_it(server)
    assert takeovers > 2


def around_a_takeover(lot: random.Random) -> list[int | str]:
    """Some sleep until the others are about to break their locks; then all move, a call at a time."""
    awake = lot.sample(range(3), lot.choice((1, 2, 2)))
    order: list[int | str] = []
    for _ in range(3):
        order += [f"poll{number}" for number in awake] + ["time", "time"]
    for _ in range(lot.choice((4, 10, 25))):
        order += [lot.randrange(3)] * lot.choice((1, 1, 2, 4, 9))
        if lot.random() < 0.05:
            order += ["time"] * lot.choice((1, 2, 6))
        if lot.random() < 0.03:
            order.append(f"kill{lot.randrange(3)}")
    return order


@pytest.mark.parametrize("first_renames", [1, 2])
def test_a_taker_that_wakes_up_while_its_own_mark_is_being_replaced(first_renames: int) -> None:
    server = MemoryServer()
    client_of(server).create("vm.vmdk")
    hosts = [Racer(server, number, ["renew"] * 100) for number in (1, 2, 3)]
    owner, sleeper, taker = hosts

    def polls(host: Racer, times: int) -> None:
        for _ in range(times):
            host.poll()
            for each in hosts:
                each.clock.advance(10 * S)

    def one_writes() -> None:
        assert sum(host.writes for host in hosts) <= 1

    try:
        polls(owner, 1)
        polls(sleeper, 3)
        sleeper.step_before(RENAME)  # it has made its mark and seen that it may take over; now it sleeps
        polls(taker, 3)
        taker.step_before(RENAME)
        sleeper.step()  # wakes up: its mark becomes the lock file
        for _ in range(first_renames):
            taker.step()
        for host in (sleeper, sleeper, taker, taker, sleeper, owner, taker):
            before = host.acts
            while host.acts == before:
                host.step()
                one_writes()
        assert taker.writes
        assert (owner.lock.state, sleeper.lock.state) != ("owned", "owned")
    finally:
        for host in hosts:
            host.kill()
            host.thread.join(10)
    newcomer_gets_it(server)


def newcomer_gets_it(server: MemoryServer) -> None:
    host = host_on(server, "esx9")
    lock = NfsLock(host.store.client, "vm.vmdk", host.owner, host.clock)
    for _ in range(10):
        if lock.try_take():
            break
        host.clock.advance(10 * S)
    assert lock.trusted
    left = [name for name in host.store.names() if name.startswith(".lck")]
    assert left == [lock.name]
    lock.release()
    assert list(host.store.names()) == ["vm.vmdk"]
