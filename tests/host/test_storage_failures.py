"""Failures at every step of a power-on and a power-off, and commands that wait for a disk that is away."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.host.storage_helpers import (
    DISK_BYTES,
    QUANTUM,
    SECOND,
    disk_files,
    files_on,
    register,
    start,
    to_prompt,
    type_line,
)
from tests.vmm.disk_guest import DiskGuest, filling, session
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.host_files import HostFiles
from vilab.host.hosted_disk import HostedDisk
from vilab.host.registered import power_on_file
from vilab.host.software_initiator import Pause
from vilab.host.storage import StorageOptions
from vilab.host.vmx_disks import DiskSettings
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError, MemoryDisk
from vilab.storage.disk_file import DiskFile
from vilab.storage.timed import AWAY_RETRY_NS
from vilab.vmm.vm import VmState

WEB = "[local] web/web.vmx"


class Trouble:
    """Lets the file operation number ``at`` of a host fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.at = 0, -1
        for name in ("open", "create", "replace", "remove"):
            monkeypatch.setattr(HostFiles, name, self._failing(getattr(HostFiles, name)))

    def _failing(self, method):  # type: ignore[no-untyped-def]
        def call(files: HostFiles, path: Path, *more: object, **named: object) -> object:
            self.count += 1
            if self.count == self.at:
                raise BlockError("medium", f"{path} is not to be had.")
            return method(files, path, *more, **named)

        return call


def test_whichever_step_of_a_power_on_fails_everything_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(40, swap_directory=tmp_path, quantum_ns=QUANTUM)
    for name in ("web", "log", "tmp"):
        host.storage.create_disk(f"[local] web/{name}.vmdk", DISK_BYTES)
    register(
        host, WEB, DiskSettings("scsi0:0", "web.vmdk"), DiskSettings("scsi0:1", "log.vmdk", "independent-persistent"),
        DiskSettings("scsi1:0", "tmp.vmdk", "independent-nonpersistent"),
    )  # fmt: skip
    host.power_off(power_on_file(host, WEB))
    before, free = host.storage.read_file(WEB), host.memory.free_pages
    names = host.storage.mounted("local").datastore.names("web")
    trouble = Trouble(monkeypatch)
    failures, at = 0, 1
    while True:
        trouble.count, trouble.at = 0, at
        try:
            web = power_on_file(host, WEB)
        except AdminError as error:
            failures += "is not to be had" in str(error)
        else:
            break
        trouble.at = -1
        assert (host.vms, host.memory.free_pages) == ({}, free)
        assert host.storage.mounted("local").users == []
        assert host.storage.read_file("[local] web/web.vmx.lck") == b""
        left = set(host.storage.mounted("local").datastore.names("web")) - set(names)
        assert all("-REDO_" in name for name in left), left  # swept by the next
        at += 1
    assert failures == at - 1 > 10
    trouble.at = -1
    host.power_off(web)
    assert host.storage.read_file(WEB) == before
    assert host.storage.mounted("local").datastore.names("web") == names
    host.close()


def test_a_power_off_that_cannot_give_everything_back_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(40, swap_directory=tmp_path, quantum_ns=QUANTUM)
    web = start(host, register(host, WEB), "mkfs", "put a b")
    with monkeypatch.context() as patched:

        def refuse(_file: DiskFile, _size: int) -> None:
            raise BlockError("medium", "The disk of this computer is broken.")

        patched.setattr(DiskFile, "resize", refuse)
        host.power_off(web)
    assert "The disk of this computer is broken." in web.stopped
    assert type_line(host, start(host, WEB), "cat a") == "b\n"
    host.close()


def test_a_machines_moment_does_not_go_on_beside_disks_that_were_written_later(tmp_path: Path) -> None:
    host = Host(40, swap_directory=tmp_path, quantum_ns=QUANTUM)
    web = start(host, register(host, WEB), "mkfs", "put a b")
    moment = web.snapshot()
    with pytest.raises(AdminError, match="powered on already"):
        host.resume(moment, "other")
    type_line(host, web, "put c d")
    host.power_off(web)
    with pytest.raises(AdminError, match="were written to since"):
        host.resume(moment)
    assert disk_files(host, "[local] web/web.vmdk") == {"a": b"b\n", "c": b"d\n"}
    host.close()


def test_a_buslogic_adapter_has_the_disks(tmp_path: Path) -> None:
    host = Host(40, swap_directory=tmp_path, quantum_ns=QUANTUM)
    web = power_on_file(host, register(host, WEB, controller="buslogic"))
    (adapter,) = web.vm.pc.adapters.values()
    assert "BusLogic" in type(adapter).__name__ or "Bt958" in type(adapter).__name__
    assert [target for target in range(16) if web.vm.buses[0].present(target)] == [0]
    host.close()


def test_the_storage_tells_what_it_has(tmp_path: Path) -> None:
    host = Host(40, swap_directory=tmp_path, quantum_ns=QUANTUM, storage=StorageOptions(directory=tmp_path))
    assert host.storage.describe().startswith("no LUNs\n\nlocal            local  active")
    power_on_file(host, register(host, WEB))
    assert host.storage.describe().endswith("web")
    with pytest.raises(AdminError, match="esx1 has no datastore 'san'; it has local"):
        host.storage.remove("san")
    with pytest.raises(AdminError, match="cannot be the name of a datastore"):
        host.storage.add_local("a/b", tmp_path)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(AdminError, match="too many to be read at once"):
        host.storage.read_file("[local] large")
    (tmp_path / "web" / "big.vmx").write_bytes(b"#\n" * 600_000)
    with pytest.raises(AdminError, match="that is no configuration file"):
        power_on_file(host, "[local] web/big.vmx")
    host.close()


# --- commands that wait -----------------------------------------------------------------------------------------------


class AwayDisk(MemoryDisk):
    """``away``: neither read nor written now."""

    def __init__(self, content: ReadableBytes | int) -> None:
        super().__init__(content)
        self.away, self.asked = False, 0

    def _check(self) -> None:
        self.asked += 1
        if self.away:
            raise BlockError("away", "The server does not answer.")

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self._check()
        return super().read(offset_bytes, size_bytes)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        self._check()
        super().write(offset_bytes, data)

    def flush(self) -> None:
        self._check()


def waiting_guest() -> tuple[AwayDisk, DiskGuest, set[int]]:
    """A guest whose write waits; and the adapter's slot and that."""
    disk = AwayDisk(DISK_BYTES)
    session(disk, "mkfs")
    guest = DiskGuest("", "fill a 60000 1", "sync", "poweroff", disks=[disk])
    adapter = guest.vm.pc.adapters[16]
    guest.run_until(lambda: any(c.cdb[0] == 0x2A for c in adapter.save_state().commands), step_ns=777_777)
    disk.away, disk.asked = True, 0
    begun = {c.tag for c in adapter.save_state().commands}
    guest.run_until(lambda: disk.asked >= 4)
    assert {c.tag for c in adapter.save_state().commands} == begun
    return disk, guest, begun


def test_a_command_waits_for_its_disk_a_second_at_a_time_and_then_goes_on() -> None:
    disk, guest, _ = waiting_guest()
    before = guest.vm.clock.now_ns
    guest.run_until(lambda: guest.vm.clock.now_ns > before + 3 * AWAY_RETRY_NS)
    disk.away = False
    guest.run()
    assert "does not answer" not in guest.output

    assert files_on(disk) == {"a": filling(60_000, 1)}


def test_a_machine_is_suspended_while_a_command_waits_and_goes_on_elsewhere() -> None:

    disk, guest, _ = waiting_guest()
    carried = msgspec.msgpack.decode(msgspec.msgpack.encode(guest.vm.save_state()), type=VmState)
    moved = AwayDisk(bytes(disk.content))
    other = DiskGuest(disks=[moved])
    other.vm.load_state(carried)
    other.vm.engine.run()
    assert files_on(moved) == {"a": filling(60_000, 1)}


def test_a_guest_that_does_not_wait_so_long_gives_the_command_up() -> None:
    disk, guest, _ = waiting_guest()
    guest.run_until(lambda: "does not answer" in guest.output)
    asked = disk.asked
    guest.run()
    assert asked <= disk.asked <= asked + 1
    assert disk.asked < 20


def test_a_disk_that_was_taken_away_is_not_touched_again() -> None:
    disk = AwayDisk(DISK_BYTES)
    hosted = HostedDisk(disk, lambda sentence: None)
    hosted.write(0, b"x" * 512)
    hosted.lost = "It is esx2's now."
    for use in (
        lambda: hosted.read(0, 512), lambda: hosted.write(0, bytes(512)), hosted.flush, lambda: hosted.unmap(0, 512),
    ):  # fmt: skip
        with pytest.raises(BlockError, match="esx2's now"):
            use()
    assert disk.asked == 1


def test_a_portal_that_has_made_everybody_wait_is_left_alone_for_a_while() -> None:
    now = [100.0]
    pause = Pause(lambda: now[0])
    pause.failed(99.9, "refused at once")
    pause.check()
    pause.failed(95.0, "silent for 5 s")
    for at in (100.1, 119.9):
        now[0] = at
        with pytest.raises(BlockError, match="silent for 5 s"):
            pause.check()
    now[0] = 120.1
    pause.check()


def test_time_that_passes_for_nobody(tmp_path: Path) -> None:
    """A host without storage of its own runs as before: its clock is where its machines are."""
    host = Host(40, swap_directory=tmp_path, quantum_ns=QUANTUM)
    web = start(host, register(host, WEB))
    host.run_for(SECOND)
    assert host.clock.now_ns == host.now_ns
    host.wait(10 * SECOND)
    assert host.clock.now_ns == host.now_ns + 10 * SECOND
    host.run_for(SECOND)
    assert host.clock.now_ns == host.now_ns + 9 * SECOND
    assert web.runs
    to_prompt(host, web)
    host.close()
