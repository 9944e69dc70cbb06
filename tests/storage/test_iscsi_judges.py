"""Other people's programs: libiscsi's test suite and qemu-img on our target, our initiator on tgt."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.iscsi_helpers import TARGETS_OWN, USER, initiator_name
from tests.tools import missing, require_tool
from vilab.errors import AdminError
from vilab.storage.block import ReservationConflict, ReservationLost
from vilab.storage.iscsi.bench import IQN, Tgt, need, serve_ours, serve_tgt
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.iscsi.client import IscsiSession, SocketLink, discover
from vilab.storage.iscsi.disk import IscsiDisk
from vilab.storage.iscsi.errors import LoginRefusedError
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.layout import TaskCode

pytestmark = pytest.mark.interop

DISK_BYTES = 64 << 20
SKIPPED_BY_TGT = 81
LIBISCSI = "the Debian package libiscsi-bin"
SUMMARY = re.compile(r"^ *(suites|tests|asserts) +(\d+) +(\d+) +(\S+) +(\d+)", re.MULTILINE)


def sparse(path: Path, size_bytes: int = DISK_BYTES) -> Path:
    path.touch()
    os.truncate(path, size_bytes)
    return path


def run(*command: object, timeout: int = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout)


def suites() -> list[str]:
    """The names of all suites: ``SCSI.Read10``, ``iSCSI.iSCSITMF``, ..."""
    listed = run(require_tool("iscsi-test-cu", LIBISCSI), "-l").stdout
    return sorted({f"{family}.{suite}" for family, suite in re.findall(r"^(SCSI|iSCSI)\.(\w+)", listed, re.MULTILINE)})


WITH_PAUSES = ("SCSI.Reserve6", "iSCSI.iSCSIcmdsn", "iSCSI.iSCSITMF")
"""These wait for seconds, for answers that must not come."""


def pass_suites(names: list[str], file: Path) -> tuple[int, int]:
    """Each suite by itself, with a second path to the LUN for those that want one: they come first, as one of their
    tests (1.19) compares a block, number 256, that it has not set to zeros before. Tests run, and lines that skip.
    """
    tool = require_tool("iscsi-test-cu", LIBISCSI)
    tests = skipped = 0
    with serve_ours(str(sparse(file))) as address:
        url = f"iscsi://{address}/{IQN}/0"
        for name in sorted(names, key=lambda name: "Multipath" not in name):
            paths = (url, url) if "Multipath" in name else (url,)
            done = run("timeout", 25, tool, "-d", "-n", "-t", name, *paths)
            found = {kind: (int(total), int(failed)) for kind, total, _, _, failed in SUMMARY.findall(done.stdout)}
            assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}{done.stderr[-500:]}"
            assert found["tests"][1] == 0, f"{name}: {done.stdout[-2000:]}"
            tests += found["tests"][0]
            skipped += (done.stdout + done.stderr).count("[SKIPPED]")
    return tests, skipped


def test_libiscsi_passes_every_test_and_skips_no_more_than_with_tgt(tmp_path: Path) -> None:
    names = suites()
    assert len(names) == 51
    slow = [name for name in names if name in WITH_PAUSES]
    with ThreadPoolExecutor() as threads:
        parts = (slow, tmp_path / "slow.raw"), ([name for name in names if name not in slow], tmp_path / "lun.raw")
        found = list(threads.map(pass_suites, *zip(*parts, strict=True)))
    assert sum(tests for tests, _ in found) == 230
    assert sum(skipped for _, skipped in found) <= SKIPPED_BY_TGT


def test_qemu_img_converts_and_compares_over_iscsi(tmp_path: Path) -> None:
    tool = require_tool("qemu-img", "the Debian package qemu-utils")
    if "iscsi" not in run(tool, "--help").stdout.split("Supported formats:")[-1]:
        missing("QEMU's iSCSI driver", "the Debian package qemu-block-extra")
    source = tmp_path / "source.raw"
    rng = random.Random(3)
    source.write_bytes(b"".join(rng.choice((bytes(65536), rng.randbytes(65536))) for _ in range(256)))
    vmdk = tmp_path / "disk.vmdk"
    made = run(tool, "create", "-f", "vmdk", vmdk, source.stat().st_size)
    assert made.returncode == 0, made.stderr
    raw = sparse(tmp_path / "lun.raw", source.stat().st_size)
    with serve_ours(str(raw), f"5={vmdk}", chap="user:secretsecret") as address:
        for lun in (0, 5):
            url = f"iscsi://user%secretsecret@{address}/{IQN}/{lun}"
            done = run(tool, "convert", "-n", "-f", "raw", "-O", "raw", source, url)
            assert done.returncode == 0, done.stderr
            compared = run(tool, "compare", "-f", "raw", "-F", "raw", source, url)
            assert compared.returncode == 0, compared.stdout + compared.stderr
            copied = tmp_path / f"back{lun}.raw"
            assert run(tool, "convert", "-f", "raw", "-O", "raw", url, copied).returncode == 0
            assert copied.read_bytes() == source.read_bytes()
        refused = run(tool, "info", f"iscsi://user%wrongwrongwrong@{address}/{IQN}/0")
        assert refused.returncode != 0
    assert raw.read_bytes() == source.read_bytes()
    assert run(tool, "compare", "-f", "vmdk", "-F", "raw", vmdk, source).returncode == 0


def test_iscsi_ls_finds_the_target(tmp_path: Path) -> None:
    tool = require_tool("iscsi-ls", LIBISCSI)
    with serve_ours(f"3={sparse(tmp_path / 'lun.raw')}") as address:
        listed = run(tool, "-s", f"iscsi://{address}").stdout
    assert f"Target:{IQN} Portal:{address},1" in listed
    assert "Lun:3    Type:DIRECT_ACCESS (Size:63M)" in listed


# tgt ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tgt(tmp_path: Path) -> Iterator[Tgt]:
    try:
        need("tgtd", "tgt")
        need("tgtadm", "tgt")
    except AdminError:
        missing("The command tgtd", "the Debian package tgt")
    with serve_tgt(sparse(tmp_path / "tgt.raw")) as server:
        yield server


def disk_on(
    tgt: Tgt, name: str = "a", credentials: Credentials | None = None, mutual: Credentials | None = None,
    digests: bool = False,
) -> IscsiDisk:  # fmt: skip
    host, port = tgt.address.split(":")
    config = InitiatorConfig(initiator_name(name), IQN, credentials, mutual, digests, digests)
    return IscsiDisk(IscsiSession(lambda: SocketLink(host, int(port)), config), 1, conflict_retries=0)


def exercise(disk: IscsiDisk, file: Path) -> None:
    rng = random.Random(7)
    data = rng.randbytes((3 << 20) + 512)
    disk.write(1024, data)
    assert disk.read(1024, len(data)) == data
    disk.unmap(1024, 4096)
    assert disk.read(1024, 8192) == bytes(4096) + data[4096:8192]
    disk.flush()
    disk.session.ping()
    with file.open("rb") as stream:
        stream.seek(1024 + 4096)
        assert stream.read(len(data) - 4096) == data[4096:]


def test_our_initiator_works_with_tgt(tgt: Tgt, tmp_path: Path) -> None:
    host, port = tgt.address.split(":")
    found = discover(lambda: SocketLink(host, int(port)), InitiatorConfig(initiator_name("a")))
    assert found == [(IQN, [f"{tgt.address},1"])]
    with disk_on(tgt) as disk:
        assert (disk.size_bytes, disk.read_only) == (DISK_BYTES, False)
        exercise(disk, tmp_path / "tgt.raw")
    for key in ("HeaderDigest", "DataDigest"):
        tgt.admin("--op", "update", "--mode", "target", "--tid", 1, "-n", key, "-v", "CRC32C")
    with disk_on(tgt, digests=True) as disk:
        agreed = disk.session.open().agreed
        assert (agreed.header_digest, agreed.data_digest) == (True, True)
        exercise(disk, tmp_path / "tgt.raw")


def test_chap_in_both_directions_with_tgt(tgt: Tgt, tmp_path: Path) -> None:
    def account(credentials: Credentials, *more: str) -> None:
        tgt.admin("--op", "new", "--mode", "account", "--user", credentials.user, "--password", credentials.secret)
        tgt.admin("--op", "bind", "--mode", "account", "--tid", 1, "--user", credentials.user, *more)

    account(USER)
    for wrong in (None, Credentials(USER.user, "not the secret"), Credentials("nobody", USER.secret)):
        with pytest.raises(LoginRefusedError):
            disk_on(tgt, credentials=wrong)
    with disk_on(tgt, credentials=USER) as disk:
        exercise(disk, tmp_path / "tgt.raw")
    account(TARGETS_OWN, "--outgoing")
    with disk_on(tgt, credentials=USER, mutual=TARGETS_OWN) as disk:
        exercise(disk, tmp_path / "tgt.raw")
    with pytest.raises(LoginRefusedError, match="has not proved who it is"):
        disk_on(tgt, credentials=USER, mutual=Credentials(TARGETS_OWN.user, "not the secret"))


def test_reservations_between_two_initiators_on_tgt(tgt: Tgt) -> None:
    one, two = disk_on(tgt), disk_on(tgt, "b")
    one.reserve()
    with pytest.raises(ReservationConflict):
        two.write(0, bytes(512))
    one.write(0, b"1" * 512)
    one.release()
    assert two.read(0, 512) == b"1" * 512
    one.reserve()
    two.session.manage(TaskCode.LOGICAL_UNIT_RESET, 1)
    with pytest.raises(ReservationLost):
        one.write(0, b"2" * 512)
    one.reserve()
    one.session.break_off()
    two.conflict_retries = 80  # until tgt has noticed
    two.write(0, b"3" * 512)
    with pytest.raises(ReservationLost):
        one.read(0, 512)
    assert one.read(0, 512) == b"3" * 512
    one.close()
    two.close()
