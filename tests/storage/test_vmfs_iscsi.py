"""Hosts on one volume over our own iSCSI target: sessions that end, reservations that go with them, hosts killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.vmfs_over_iscsi import lun, run, target
from tests.storage.vmfs_soak import new_image
from vilab.storage.block import ReservationConflict, ReservationLost

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


def test_a_reservation_keeps_the_other_out_and_goes_with_its_session(port: str) -> None:
    one, two = lun(port, "one"), lun(port, "two")
    one.reserve()
    with pytest.raises(ReservationConflict):
        two.reserve()
    with pytest.raises(ReservationConflict):
        two.write(1 << 24, bytes(512))
    one.session.close()
    two.reserve()
    two.write(1 << 24, b"t" * 512)
    two.release()


def test_who_loses_its_session_learns_that_its_reservation_is_gone(port: str) -> None:
    one = lun(port, "one")
    one.reserve()
    one.session.break_off()
    with pytest.raises(ReservationLost):
        one.write(1 << 24, bytes(512))
    one.write(1 << 24, b"o" * 512)
    assert one.read(1 << 24, 512) == b"o" * 512


def test_without_a_reservation_a_lost_session_is_not_noticed(port: str) -> None:
    one = lun(port, "one")
    one.write(1 << 24, b"a" * 512)
    one.session.break_off()
    assert one.read(1 << 24, 512) == b"a" * 512
