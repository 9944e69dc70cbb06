"""Hosts on one volume over our own iSCSI target: sessions that end, reservations that go with them, hosts killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.vmfs_over_iscsi import IQN, run, target
from tests.storage.vmfs_soak import new_image
from vilab.storage.iscsi.disk import IscsiDisk, open_lun
from vilab.storage.vmfs.errors import ReservationConflict, ReservationLost
from vilab.storage.vmfs.iscsi_lun import over
from vilab.storage.vmfs.scsi_lun import ScsiLun

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


def test_hosts_are_killed_and_nothing_that_was_promised_is_lost(tmp_path: Path) -> None:
    counts = run(tmp_path, processes=3, kills=6, seed=6)
    assert counts["kills"] == 6
    assert counts["changes"] > 10


@pytest.fixture
def port(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "lun.img"
    new_image(image, 1)
    with target(image) as at:
        yield at


def host(port: str, name: str) -> tuple[IscsiDisk, ScsiLun]:
    disk = open_lun(f"127.0.0.1:{port}", IQN, 0, f"iqn.2006-06.example:{name}")
    return disk, ScsiLun(over(disk))


def test_a_reservation_keeps_the_other_out_and_goes_with_its_session(port: str) -> None:
    (disk, one), (_, two) = host(port, "one"), host(port, "two")
    one.reserve()
    with pytest.raises(ReservationConflict):
        two.reserve()
    with pytest.raises(ReservationConflict):
        two.write(1 << 24, bytes(512))
    disk.session.close()
    two.reserve()
    two.write(1 << 24, b"t" * 512)
    two.release()


def test_who_loses_its_session_learns_that_its_reservation_is_gone(port: str) -> None:
    disk, one = host(port, "one")
    one.reserve()
    disk.session.break_off()
    with pytest.raises(ReservationLost):
        one.write(1 << 24, bytes(512))
    one.write(1 << 24, b"o" * 512)
    assert one.read(1 << 24, 512) == b"o" * 512


def test_without_a_reservation_a_lost_session_is_not_noticed(port: str) -> None:
    disk, one = host(port, "one")
    one.write(1 << 24, b"a" * 512)
    disk.session.break_off()
    assert one.read(1 << 24, 512) == b"a" * 512
