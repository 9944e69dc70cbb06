"""Locks of a host that may be dead, asked for again and again: nobody waits, and as much is known as if one had."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.storage.test_nfs_locks import FILES, locks_of
from tests.storage.test_nfs_locks import server as server
from tests.storage.test_vmfs_hosts import beats
from tests.storage.vmfs_disks import Volume
from vilab.storage.block import BlockError
from vilab.storage.nfs.locks import LockedError
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.still_held import StillHeld
from vilab.storage.vmfs import journal
from vilab.storage.vmfs.errors import FileInUse, HostFenced
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.time import SECOND_NS

SECOND = SECOND_NS


def asks(volume: Volume, host: Host, action: Callable[[], object], every_ns: int = SECOND) -> list[StillHeld]:
    """It is asked for until it is there, or refused. Each ``StillHeld`` on the way."""
    said: list[StillHeld] = []
    while True:
        before_ns = volume.clock.now_ns
        try:
            with host.member.stepwise():
                action()
            return said
        except StillHeld as held:
            said.append(held)
            assert volume.clock.now_ns == before_ns, "it has waited"
        volume.time.wait(every_ns)


def test_a_dead_owner_is_watched_without_waiting() -> None:
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")
    file = a.create("/vm.vmx")
    file.write(0, b"kept")
    said = asks(volume, b, lambda: b.open_to_write("/vm.vmx"))
    assert len(said) == 16
    assert said[0].again_ns == SECOND
    assert "has been silent for 0 s; after 16 s it counts as dead" in str(said[0])
    assert "has been silent for 15 s" in str(said[-1])
    assert b.open_files
    with pytest.raises(HostFenced, match="broken its locks"):
        file.write(0, b"late")
    b.create("/next").close()  # every lock of it is free now, and it is not watched any more
    assert not b.member.watched


def test_a_live_owner_is_known_at_its_next_renewal() -> None:
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")
    a.create("/vm.vmx")
    beats(volume, a)
    with pytest.raises(FileInUse, match=r"alive \(heartbeat slot 0\)"):
        asks(volume, b, lambda: b.open_to_write("/vm.vmx"))
    assert volume.clock.now_ns <= 4 * SECOND
    assert not b.member.watched


@pytest.mark.parametrize("every_s", [0.1, 1, 5])
def test_how_often_one_asks_does_not_matter(every_s: float) -> None:
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")
    a.create("/vm.vmx")
    asks(volume, b, lambda: b.open_to_write("/vm.vmx"), round(every_s * SECOND))
    assert 16 * SECOND <= volume.clock.now_ns <= 20 * SECOND


@pytest.mark.parametrize("away_s", [15.9, 60, 3600])
def test_silence_while_nobody_has_looked_says_nothing(away_s: float) -> None:
    """The volume was away, for its owner too; or who asks has stood still, and the owner as well."""
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")
    file = a.create("/vm.vmx")

    def action() -> None:
        b.open_to_write("/vm.vmx")

    with b.member.stepwise(), pytest.raises(StillHeld):
        action()
    b.member.clock.wait(round(away_s * SECOND))
    for _ in range(8):
        with b.member.stepwise(), pytest.raises(StillHeld):
            action()
        volume.time.wait(SECOND)
    a.beat()
    file.write(0, b"alive")
    with b.member.stepwise(), pytest.raises(FileInUse):
        action()


def test_what_a_dead_host_had_begun_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")

    def refuse(*_: object) -> None:
        raise BlockError("medium", "a bad sector")

    with monkeypatch.context() as broken:
        broken.setattr(journal, "apply", refuse)
        with pytest.raises(BlockError, match="a bad sector"):
            a.mkdir("/a")
    assert len(asks(volume, b, lambda: b.list("/"))) == 16
    assert [entry.name for entry in b.list("/") if not entry.name.startswith(".")] == ["a"]


def test_a_live_host_that_never_ends_its_change_is_not_asked_about_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")

    def refuse(*_: object) -> None:
        raise BlockError("medium", "a bad sector")

    with monkeypatch.context() as broken:
        broken.setattr(journal, "apply", refuse)
        with pytest.raises(BlockError, match="a bad sector"):
            a.mkdir("/a")

    def beat() -> None:
        a.member.renew()
        volume.clock.at(volume.clock.now_ns + 3 * SECOND, beat)

    a.member.unsettled = None
    volume.clock.at(volume.clock.now_ns + 3 * SECOND, beat)
    with pytest.raises(FileInUse, match=r"in the middle of another host.s change for 3\d s, and that host is alive"):
        asks(volume, b, lambda: b.list("/"))


def test_a_lun_that_somebody_has_reserved_is_asked_for_again_for_so_long() -> None:
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")
    b.create("/vm.vmx").close()
    for _ in range(2):
        with a.member.reserved():
            begun_ns = volume.clock.now_ns
            asked = 0
            while True:
                with b.member.stepwise(), pytest.raises(BlockError, match="reserved by another host") as refused:
                    b.open_to_write("/vm.vmx")
                if not isinstance(refused.value, StillHeld):
                    break
                asked += 1
                volume.time.wait(SECOND)
            assert 25 < asked < 31
            assert 30 * SECOND <= volume.clock.now_ns - begun_ns <= 32 * SECOND
        volume.time.wait(100 * SECOND)
    assert asks(volume, b, lambda: b.open_to_write("/vm.vmx")) == []


def test_on_a_file_server_a_renewal_is_seen(server: MemoryServer) -> None:
    one, first = locks_of(server, "esx1")
    two, second = locks_of(server, "esx2")
    first.take(FILES)

    def ask() -> bool:
        with pytest.raises(LockedError) as refused:
            second.take(FILES)
        return refused.value.alive

    assert not ask()
    two.pass_time(1)
    assert not ask()
    one.pass_time(10)
    assert ask()
    assert not ask()
    one.pass_time(10)
    two.pass_time(3600)
    assert not ask(), "an hour ago it lived"
