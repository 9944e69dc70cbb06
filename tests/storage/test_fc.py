"""The fabric: who sees whom by zones and masking, what a pulled cable ends, and that LUNs are the same disks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.san import PORTS, San
from vilab.errors import AdminError
from vilab.storage.block import BlockError, ReservationLost
from vilab.storage.luns.fc_events import FcLinkChanged, FcLogin, FcPortAttached, FcStateChange, LunMasked
from vilab.storage.luns.fc_names import numbered, show_port_id, wwn
from vilab.storage.scsi.lun_disk import LunDisk
from vilab.storage.scsi.lun_identity import INQUIRY, REPORT_LUNS, TEST_UNIT_READY, ask, luns_of, name_of
from vilab.storage.scsi.sense import Status, parse_sense


def test_names_are_read_as_people_write_them():
    assert wwn("21:00:00:E0:8B:19:AB:31") == wwn("210000e08b19ab31") == "21:00:00:e0:8b:19:ab:31"
    for bad in ("", "21:00", "21:00:00:e0:8b:19:ab:3g", "21:00:00:e0:8b:19:ab:31:00"):
        with pytest.raises(AdminError, match="no world wide name"):
            wwn(bad)


def test_a_rescan_finds_a_path_for_each_port_and_lun_and_names_them_as_esx_does():
    san = San(disks=2)
    names = [path.name for path in san.hosts[0].paths()]
    assert names == [f"vmhba{a}:{t}:{n}" for a in (1, 2) for t in (0, 1) for n in (0, 1)]
    again = san.hosts[0].paths()
    assert [path.name for path in again] == names
    attached = san.log.of(FcPortAttached)
    assert len({(event.port_id >> 16, event.port_id) for event in attached}) == 6
    assert show_port_id(san.fabrics[1].targets_of(san.hosts[0].wwpns[1])[0].identifier) == "020000"


def test_every_path_leads_to_the_same_bytes_and_the_same_name():
    san = San()
    disks = [LunDisk(path.submit) for path in san.hosts[0].paths()]
    assert len(disks) == 4
    assert len({disk.identity for disk in disks}) == 1
    disks[0].write(8192, b"\x5a" * 4096)
    for disk in disks:
        assert disk.read(8192, 4096) == b"\x5a" * 4096
    assert san.disks[0].content[8192:12288] == b"\x5a" * 4096


def test_zones_decide_who_sees_whom():
    san = San(hosts=2)
    first, second = (host.wwpns[0] for host in san.hosts)
    san.fabrics[0].set_zones({"one": [first, PORTS["A0"]], "two": [second, PORTS["B0"]]})
    seen = [[path.target for path in host.adapters[0].rescan()] for host in san.hosts]
    assert seen == [[PORTS["A0"]], [PORTS["B0"]]]
    with pytest.raises(BlockError, match="not to be reached"):
        san.fabrics[0].send(first, PORTS["B0"], 0, TEST_UNIT_READY)
    san.fabrics[0].set_zones({})
    assert san.hosts[0].adapters[0].rescan() == []
    san.fabrics[0].set_zones(None)
    assert len(san.hosts[0].adapters[0].rescan()) == 2


def test_masking_gives_each_host_its_own_numbers_and_nothing_else():
    san = San(hosts=2, disks=3)
    one, two = (host.wwpns[0] for host in san.hosts)
    for host_lun in (0, 1):
        san.array.hide(one, host_lun)
    san.array.hide(one, 2)
    san.array.present(one, 2, 7)
    assert san.hosts[1].wwpns[0] == two
    path = san.hosts[0].adapters[0].rescan()[0]
    assert path.name == "vmhba1:0:7"
    disk = LunDisk(path.submit)
    disk.write(0, b"\x77" * 512)
    assert san.disks[2].content[:512] == b"\x77" * 512
    fabric = san.fabrics[0]
    masked = fabric.send(one, PORTS["A0"], 2, TEST_UNIT_READY)
    sense = parse_sense(masked.sense_bytes)
    assert sense is not None
    assert sense.code == 0x2500
    assert fabric.send(one, PORTS["A0"], 2, INQUIRY).data_in[0] == 0x7F
    with pytest.raises(BlockError, match="not logged in"):
        fabric.send(two, PORTS["A0"], 0, REPORT_LUNS)
    fabric.login(two, PORTS["A0"])
    assert luns_of(fabric.send(two, PORTS["A0"], 0, REPORT_LUNS).data_in) == [0, 1, 2]
    assert luns_of(fabric.send(one, PORTS["A0"], 0, REPORT_LUNS).data_in) == [7]
    assert [event.lun for event in san.log.of(LunMasked) if event.array_lun is None] == [0, 1, 2]
    for wrong in (lambda: san.array.present(one, 9, 1), lambda: san.array.present(one, 1, 7),
                  lambda: san.array.present(one, 1, 256), lambda: san.array.hide(one, 3)):  # fmt: skip
        with pytest.raises(AdminError):
            wrong()


def test_a_new_lun_is_announced_by_a_unit_attention():
    san = San(disks=2)
    wwpn = san.hosts[0].wwpns[0]
    san.array.hide(wwpn, 1)
    path = san.hosts[0].adapters[0].rescan()[0]
    ask(path.submit, TEST_UNIT_READY)
    san.array.present(wwpn, 1, 5)
    status, _, sense = path.submit(TEST_UNIT_READY)
    parsed = parse_sense(sense)
    assert status == Status.CHECK_CONDITION
    assert parsed is not None
    assert parsed.code == 0x3F0E
    assert [p.lun for p in san.hosts[0].adapters[0].rescan()] == [0, 5, 0, 5]


def test_a_pulled_cable_ends_the_session_and_with_it_the_reservation():
    san = San(hosts=2)
    mine, theirs = (host.adapters[0].rescan()[0] for host in san.hosts)
    disk, other = (LunDisk(path.submit) for path in (mine, theirs))
    disk.reserve()
    with pytest.raises(BlockError, match="another host has reserved"):
        other.read(0, 512)
    told: list[str] = []
    san.hosts[0].adapters[0].on_change = lambda: told.append("changed")
    san.fabrics[0].link(san.hosts[0].wwpns[0], False)
    assert not mine.connected
    with pytest.raises(BlockError, match="not to be reached"):
        disk.read(0, 512)
    assert other.read(0, 512) == bytes(512), "the array has noticed"
    assert san.hosts[0].adapters[0].rescan() == []
    san.fabrics[0].link(san.hosts[0].wwpns[0], True)
    assert told == ["changed"] * 4, "two ports went, two came"
    assert san.hosts[0].adapters[0].rescan()[0] is mine
    with pytest.raises(ReservationLost, match="29/00"):
        disk.write(0, bytes(512))
    assert disk.read(0, 512) == bytes(512)
    assert [event.up for event in san.log.of(FcLinkChanged)] == [False, True]
    ended = [event for event in san.log.of(FcLogin) if not event.up]
    assert len(ended) == 2
    assert {event.reachable for event in san.log.of(FcStateChange)} == {True, False}


def test_a_name_is_given_once_and_a_switch_is_full_some_time():
    san = San()
    fabric = san.fabrics[0]
    with pytest.raises(AdminError, match="unique"):
        fabric.attach(PORTS["A0"], PORTS["A0"], san.array, "target")
    for number in range(256 - len(fabric.state.ports)):
        fabric.attach(numbered(1000 + number), numbered(1), san.hosts[0].adapters[0], "initiator")
    with pytest.raises(AdminError, match="full"):
        fabric.attach(numbered(5000), numbered(1), san.hosts[0].adapters[0], "initiator")


@given(st.binary(max_size=300))
def test_what_a_target_says_of_itself_may_be_anything(noise: bytes):
    assert all(0 <= lun < 1 << 14 for lun in luns_of(noise))
    name = name_of(b"\x00\x83" + noise)
    assert name is None or name.startswith(("naa.", "t10."))
