"""Machines on volumes that hosts reach over iSCSI: CHAP, a target that goes away, hosts in different processes."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.storage_helpers import (
    DISK_BYTES,
    MB,
    QUANTUM,
    SECOND,
    disk_files,
    files_on,
    register,
    run_until,
    start,
    to_prompt,
    type_line,
)
from tests.host.storage_process import CHAP, WEB, wall_host
from tests.storage.iscsi_helpers import PORTAL, TARGET
from tests.storage.vmfs_judges import is_clean
from tests.storage.vmfs_over_iscsi import IQN
from tests.vmm.disk_guest import filling
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.registered import power_on_file
from vilab.host.vmx_disks import DiskSettings
from vilab.storage.block import MemoryDisk
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.iscsi.client import Link, MemoryLink
from vilab.storage.iscsi.session import Portal
from vilab.storage.iscsi.target import IscsiTarget
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.request import data_in_bytes
from vilab.storage.scsi.state import Identity
from vilab.storage.scsi.target import Target

LUN_BYTES = 320 * MB
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def target(image: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``vilab iscsi-target`` with CHAP, in a process of its own; and its port."""
    words = ["--portal", f"127.0.0.1:{port}", "--iqn", IQN, "--lun", str(image)]
    command = [sys.executable, "-m", "vilab.cli", "iscsi-target", *words, "--chap", f"{CHAP.user}:{CHAP.secret}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().split("127.0.0.1:")[1].split()[0].rstrip(",.;")
        finally:
            process.kill()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "lun.img"
    with path.open("wb") as file:
        file.truncate(LUN_BYTES)
    return path


def new_host(folder: Path, name: str = "esx1") -> Host:
    (folder / name).mkdir()
    return Host(40, name, swap_directory=folder / name, quantum_ns=QUANTUM)


@pytest.mark.interop
def test_a_machine_on_a_volume_over_iscsi_waits_for_the_target_and_goes_on(tmp_path: Path, image: Path) -> None:
    host = new_host(tmp_path)
    with target(image) as (process, port):
        wrong = Credentials(CHAP.user, "anothersecret")
        host.storage.add_portal(f"127.0.0.1:{port}", IQN, wrong)
        (problem,) = host.storage.rescan().problems
        assert "the CHAP name or secret is not accepted" in problem
        host.close()
        host = new_host(tmp_path / "esx1")
        assert host.storage.add_portal(f"127.0.0.1:{port}", None, CHAP) == [IQN]
        (lun,) = host.storage.rescan().luns
        host.storage.create_vmfs(lun, "san1")
        web = start(host, register(host, WEB), "mkfs", "put a b")
        web.console.type("fill big 100000 1")
        web.console.type("sync")
        host.run_for(QUANTUM)
        process.kill()
        process.wait()
        host.run_for(5 * SECOND)
        said = web.console.said
        assert host.storage.mounted("san1").state == "away"
        assert not said.endswith("shell> ")
    with target(image, int(port)):
        to_prompt(host, web, len(said))
        type_line(host, web, "put c d")
        assert files_on(web.disks.devices()["scsi0:0"]) == {"a": b"b\n", "big": filling(100_000, 1), "c": b"d\n"}
        host.power_off(web)
        assert disk_files(host, "[san1] web/web.vmdk").keys() == {"a", "big", "c"}
        host.close()
    is_clean(image)


@pytest.mark.interop
def test_a_killed_process_loses_its_machine_to_another(tmp_path: Path, image: Path) -> None:
    with target(image) as (_, port):
        host = wall_host(port, tmp_path / "one", "esx1")
        host.storage.create_vmfs(next(iter(host.storage.luns)), "san1")
        host.power_off(start(host, register(host, WEB), "mkfs"))
        command = [sys.executable, "-m", "tests.host.storage_process", port, str(tmp_path / "two"), "esx2", "put a b"]
        with subprocess.Popen(command, text=True, cwd=ROOT, stdout=subprocess.PIPE) as other:
            try:
                assert other.stdout is not None
                while not select.select([other.stdout], [], [], 0)[0]:
                    host.wait(SECOND // 2)  # the other one has to see that this one is alive
                assert other.stdout.readline() == "done\n"
                with pytest.raises(AdminError, match="powered on already, on host esx2"):
                    power_on_file(host, WEB)
            finally:
                other.kill()
        web = start(host, WEB)
        assert type_line(host, web, "cat a") == "b\n"
        host.close()
    is_clean(image)


# --- in one process: two portals of one target ------------------------------------------------------------------------


class Portals:
    """A target with two portals, whose cables can be pulled."""

    def __init__(self) -> None:
        self.raw = MemoryDisk(DISK_BYTES)
        scsi = Target()
        scsi.add(0, PagedDisk(LUN_BYTES), Identity("iscsi-lun0"))
        scsi.add(1, self.raw, Identity("iscsi-lun1"))
        self.portals = [PORTAL, Portal("192.0.2.2:3260", 2)]
        self.node = IscsiTarget(TARGET, scsi, self.portals)
        self.pulled: set[str] = set()

    def dial(self, portal: str) -> Link:
        if portal in self.pulled:
            raise OSError("no route to host")
        found = next(each for each in self.portals if each.address == portal)
        return PulledLink(self, MemoryLink(self.node, found), portal)


class PulledLink:
    def __init__(self, portals: Portals, link: MemoryLink, portal: str) -> None:
        self.portals, self.link, self.portal = portals, link, portal

    def send(self, data: bytes) -> None:
        self._check()
        self.link.send(data)

    def receive(self) -> bytes:
        self._check()
        return self.link.receive()

    def _check(self) -> None:
        if self.portal in self.portals.pulled:
            raise OSError("the cable was pulled")

    def close(self) -> None:
        self.link.close()


def test_two_portals_of_a_target_are_two_paths(tmp_path: Path) -> None:
    host, san = new_host(tmp_path), Portals()
    assert host.storage.add_portal(PORTAL.address, None, dial=san.dial) == [TARGET]
    found = host.storage.rescan()
    assert (len(found.luns), found.problems) == (2, ())
    lun = host.storage.adapters.find("vmhba40:1:0")
    assert lun.states == {"vmhba40:0:0": "active", "vmhba40:1:0": "standby"}
    host.storage.create_vmfs("vmhba40:0:0", "san1")
    web = start(host, register(host, WEB), "mkfs", "put a b")
    for number, pulled in enumerate(({PORTAL.address}, {san.portals[1].address}, {PORTAL.address})):
        web.console.type(f"fill f{number} 100000 {number}")
        web.console.type("sync")
        host.run_for(QUANTUM)
        san.pulled = pulled
        before = len(web.console.said)
        run_until(host, lambda before=before: web.console.said[before:].endswith("shell> "))  # type: ignore[misc]
    assert lun.active == "vmhba40:1:0"
    wanted = {"a": b"b\n"} | {f"f{n}": filling(100_000, n) for n in range(3)}
    assert files_on(web.disks.devices()["scsi0:0"]) == wanted
    san.pulled = set()
    host.close()


def test_every_command_of_a_guest_goes_through_a_physical_mapping_over_iscsi(tmp_path: Path) -> None:
    host, san = new_host(tmp_path), Portals()
    host.storage.add_portal(PORTAL.address, TARGET, dial=san.dial)
    host.storage.rescan()
    raw = next(name for name, lun in host.storage.luns.items() if lun.size_bytes == DISK_BYTES)
    host.storage.create_rdm("[local] db/raw.vmdk", raw, physical=True)
    register(host, "[local] db/db.vmx", DiskSettings("scsi0:0", "raw.vmdk"))
    db = start(host, "[local] db/db.vmx", "mkfs", "fill a 100000 1", "sync")
    assert files_on(san.raw) == {"a": filling(100_000, 1)}
    said = len(db.console.said)
    db.console.type("put b c")
    san.pulled = {PORTAL.address}
    host.run_for(3 * SECOND)
    san.pulled = set()
    to_prompt(host, db, said)
    assert files_on(san.raw) == {"a": filling(100_000, 1), "b": b"c\n"}
    host.close()


@pytest.mark.parametrize(
    ("cdb", "size"),
    [
        ("12000000ff00", 255), ("25" + "00" * 9, 8), ("9e10" + "00" * 8 + "00000020" + "0000", 32),
        ("28000000000000000800", 4096), ("080000000000", 256 * 512), ("88" + "00" * 9 + "00000001" + "0000", 512),
        ("2a000000000000000800", 0), ("c1" + "00" * 9, 65536), ("", 65536),
    ],
)  # fmt: skip
def test_how_much_a_command_may_bring_back(cdb: str, size: int) -> None:
    assert data_in_bytes(bytes.fromhex(cdb)) == size


def test_portals_that_cannot_be_are_named(tmp_path: Path) -> None:
    host = new_host(tmp_path)
    with pytest.raises(AdminError, match="cannot be reached"):
        host.storage.add_portal("127.0.0.1:1")
    host.storage.add_portal("127.0.0.1:1", TARGET)
    (problem,) = host.storage.rescan().problems
    assert "cannot be reached" in problem
    host.close()
