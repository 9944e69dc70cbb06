"""A link through the hosts' VMkernel ports: its bytes are frames that take turns with everybody else's on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.migration.two_hosts import TwoHosts
from tests.network.captures import captured, tshark
from vilab.course.vmotion_lab import VMotionLab
from vilab.errors import AdminError
from vilab.host.host_network import FIRST_SWITCH
from vilab.migration.agent_link import LinkSettings, MemoryLink
from vilab.migration.migration_events import MigrationEnded, RoundSent
from vilab.migration.options import MigrationOptions
from vilab.migration.segment_stream import SEGMENT_BYTES, WINDOW_BYTES
from vilab.migration.vmkernel_link import LINGER_NS, VMOTION_PORT, VmkernelEnd, VmkernelLink
from vilab.migration.vmotion import Migration
from vilab.network.packets import SYN, Tcp
from vilab.network.peer import Peer
from vilab.network.policies import Overrides, ShapingOverride
from vilab.network.wire import WireEnd
from vilab.protocols import ReadableBytes

MBIT, MS = 100, 1_000_000
RATE = MBIT * 125_000
SLOT_NS = (1514 + 24) * 8 * 10
"""A full frame at 100 Mbit/s, with preamble, FCS and gap."""


class Ear:
    def __init__(self, end: VmkernelEnd) -> None:
        self.end, self.data, self.ends = end, bytearray(), list[str]()
        self.last_ns = 0
        end.on_data, end.on_end = self._data, self.ends.append

    def _data(self, data: ReadableBytes) -> None:
        self.data += data
        self.last_ns = self.end.clock.now_ns


class Site(VMotionLab):
    """Two hosts without machines, and ``neighbour``: somebody at esx1's vSwitch whose frames go out over vmnic0 too."""

    def __init__(self) -> None:
        super().__init__(mbit=MBIT)
        self.esx1, self.esx2 = self.hosts.values()
        self.neighbour = self.esx1.network.add_vmkernel_port(
            "vmk9", "VM Network", bytes.fromhex("005056609901"), bytes((10, 0, 0, 50))
        )
        self.came_ns: list[int] = []
        self.sink = self.client.peer
        self.sink.services[9] = lambda _datagram: self.came_ns.append(self.clock.now_ns)
        self.neighbour.ping(self.sink.ip)
        self.clock.run_for(5 * MS)
        self.made: list[VmkernelLink] = []

    def link(self, window_bytes: int = WINDOW_BYTES) -> tuple[VmkernelLink, Ear, Ear]:
        link = VmkernelLink(self.esx1, self.esx2, RATE, window_bytes)
        self.made.append(link)
        return link, Ear(link.a), Ear(link.b)

    def uplink(self, host: str = "esx1") -> WireEnd:
        port = self.hosts[host].network.nics["vmnic0"].port
        assert isinstance(port, WireEnd)
        return port

    def says(self, size_bytes: int = 1000) -> None:
        """The neighbour sends a datagram of so many bytes."""
        self.neighbour.send_udp(self.sink.ip, 9, 99, bytes(size_bytes))

    def shape(self, kbps: int) -> None:
        shaping = ShapingOverride(enabled=True, average_kbps=kbps, peak_kbps=kbps, burst_kb=2)
        for host in self.hosts.values():
            host.network.switches.switch(FIRST_SWITCH).set_port_group("VMotion", overrides=Overrides(shaping=shaping))


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def text(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def test_what_is_sent_arrives_in_both_directions_in_order(site: Site) -> None:
    link, a, b = site.link()
    parts, back = [text(size, size) for size in (1, 100_000, 0, 1460, 7)], text(30_000)
    link.a.send(parts)
    link.b.send([back])
    site.clock.run_for(100 * MS)
    assert b.data == b"".join(parts)
    assert a.data == back
    assert link.a.sent_bytes == len(b.data)
    assert link.a.stream.again == link.b.stream.again == 0


def test_it_is_never_faster_than_the_wire_and_not_slower_than_it_must_be(site: Site) -> None:
    link, _, ear = site.link()
    link.a.send([b"hello"])
    site.clock.run_for(5 * MS)
    began_ns, octets = site.clock.now_ns, site.uplink().statistics.octets
    frames = 400
    link.a.send([text(frames * SEGMENT_BYTES)])
    assert link.a.waiting_bytes > 0
    site.clock.run_for(100 * MS)
    assert len(ear.data) == 5 + frames * SEGMENT_BYTES
    assert site.uplink().statistics.octets - octets >= frames * 1514, "with every header"
    assert frames * SLOT_NS <= ear.last_ns - began_ns <= frames * SLOT_NS * 1.01 + MS


def test_a_frame_of_a_guest_waits_behind_the_window_and_no_longer(site: Site) -> None:
    link, _, ear = site.link()
    site.says()
    site.clock.run_for(5 * MS)
    alone_ns = site.came_ns.pop() - (site.clock.now_ns - 5 * MS)
    link.a.send([text(4_000_000)])
    site.clock.run_for(20 * MS)
    waits = []
    for _ in range(20):
        site.clock.run_for(5 * MS)
        at_ns = site.clock.now_ns
        site.says()
        site.clock.run_for(9 * MS)
        waits.append(site.came_ns.pop() - at_ns - alone_ns)
    assert len(ear.data) < 4_000_000, "it was busy all the time"
    window_ns = -(-WINDOW_BYTES // SEGMENT_BYTES) * SLOT_NS
    assert max(waits) <= window_ns
    assert min(waits) > window_ns // 2


def test_both_get_their_turn_and_the_wire_does_not_rest(site: Site) -> None:
    """100 frames of the neighbour's, and 400 of the link's: together they take as long as 500."""
    link, _, ear = site.link()
    link.a.send([b"hello"])
    site.clock.run_for(5 * MS)
    began_ns = site.clock.now_ns
    link.a.send([text(400 * SEGMENT_BYTES)])
    for number in range(100):
        site.clock.at(began_ns + number * 200_000, lambda: site.says(1472))
    site.clock.run_for(40 * MS)
    assert len(site.came_ns) == 100
    meanwhile = len(ear.data) // SEGMENT_BYTES
    site.clock.run_for(200 * MS)
    assert len(ear.data) == 5 + 400 * SEGMENT_BYTES
    assert link.a.stream.again == 0
    both_ns = max(ear.last_ns, site.came_ns[-1]) - began_ns
    assert 500 * SLOT_NS <= both_ns <= 500 * SLOT_NS * 1.01 + MS
    assert 50 < meanwhile < 300, "neither has waited for the other to be done"


def test_who_has_a_wire_of_its_own_waits_for_nobody(site: Site) -> None:
    link, _, _ = site.link()
    link.b.send([text(1_000_000)])
    site.clock.run_for(5 * MS)
    at_ns = site.clock.now_ns
    site.says()
    site.clock.run_for(9 * MS)
    assert site.came_ns[-1] - at_ns < MS, "the other direction's frames are answers, and few"


def test_the_port_groups_shaper_holds_the_migration_back_and_not_the_guest(site: Site) -> None:
    site.shape(50_000)
    link, _, ear = site.link()
    began_ns = site.clock.now_ns
    link.a.send([text(500_000)])
    site.clock.run_for(40 * MS)
    at_ns = site.clock.now_ns
    site.says()
    site.clock.run_for(200 * MS)
    assert site.came_ns[-1] - at_ns < MS
    assert len(ear.data) == 500_000
    assert ear.last_ns - began_ns >= (500_000 - WINDOW_BYTES) * 8 * 1_000_000_000 // 50_000_000


def test_a_flood_that_fills_the_queue_costs_time_and_no_byte(site: Site) -> None:
    link, _, ear = site.link()
    link.a.send([text(1_000_000)])
    site.clock.run_for(10 * MS)
    for number in range(600):
        site.clock.at(site.clock.now_ns + number * 50_000, lambda: site.says(1472))
    site.clock.run_for(30 * MS)
    assert site.uplink().statistics.dropped > 100
    site.clock.run_for(2000 * MS)
    assert bytes(ear.data) == text(1_000_000)
    assert link.a.stream.again > 0


def test_a_cable_that_is_plugged_in_again_has_lost_nothing(site: Site) -> None:
    link, _, ear = site.link()
    link.a.send([text(1_000_000)])
    site.clock.run_for(20 * MS)
    wire = site.uplink("esx2")._wire
    wire.pull()
    site.clock.run_for(500 * MS)
    got = len(ear.data)
    assert got < 1_000_000
    wire.plug_in()
    site.clock.run_for(2000 * MS)
    assert bytes(ear.data) == text(1_000_000)


def test_a_cable_that_stays_out_is_a_sentence_once(site: Site) -> None:
    link, a, b = site.link()
    link.a.send([text(100_000)])
    site.clock.run_for(2 * MS)
    site.uplink("esx2")._wire.pull()
    site.clock.run_for(30_000 * MS)
    assert len(a.ends) == 1
    assert "esx1 has heard nothing of 10.1.0.2" in a.ends[0]
    assert not link.a.open
    assert not any(peer.connections for peer in ports(site) if peer.ip == bytes((10, 1, 0, 1)))
    assert b.ends == [], "who only listens hears nothing"


def ports(site: Site) -> list[Peer]:
    return [host.network.vmkernel["vmk0"] for host in site.hosts.values()]


def test_who_closes_is_heard_to_the_end_and_nothing_of_it_is_left(site: Site) -> None:
    link, a, b = site.link()
    link.a.send([text(200_000)])
    link.a.close()
    link.a.send([b"too late"])
    site.clock.run_for(100 * MS)
    assert b.data == text(200_000)
    assert b.ends == ["Host esx1 has closed the link to host esx2."]
    assert a.ends == []
    link.b.send([b"not heard"])
    site.clock.run_for(LINGER_NS + MS)
    assert a.data == b""
    assert [peer.connections for peer in ports(site)] == [{}, {}]
    sent = site.uplink().statistics.frames
    site.clock.run_for(10_000 * MS)
    assert site.uplink().statistics.frames == sent, "nobody sends any more"


def test_a_cut_is_heard_on_both_sides_and_what_is_under_way_is_lost(site: Site) -> None:
    link, a, b = site.link()
    link.a.send([text(500_000)])
    site.clock.run_for(5 * MS)
    got = len(b.data)
    link.cut()
    site.clock.run_for(1000 * MS)
    assert a.ends == b.ends == ["The link between host esx1 and host esx2 was cut."]
    assert len(b.data) == got


def test_two_links_at_a_time_are_apart_and_share_the_wire(site: Site) -> None:
    one, _, ear = site.link()
    two, _, other = site.link()
    one.a.send([text(300_000, 1)])
    two.a.send([text(300_000, 2)])
    site.clock.run_for(200 * MS)
    assert (bytes(ear.data), bytes(other.data)) == (text(300_000, 1), text(300_000, 2))
    assert abs(ear.last_ns - other.last_ns) < 15 * MS


def test_a_segment_of_no_connection_is_refused_as_before(site: Site) -> None:
    here, there = ports(site)
    resets: list[Tcp] = []
    here.connections[(there.ip, VMOTION_PORT, 5000)] = resets.append
    here.send_tcp(there.ip, Tcp(5000, VMOTION_PORT, 7, 0, SYN))
    site.clock.run_for(5 * MS)
    assert [(each.flags & 4, each.acknowledgement) for each in resets] == [(4, 8)]


def test_a_host_that_has_forgotten_the_connection_ends_it(site: Site) -> None:
    link, a, _ = site.link()
    ports(site)[1].connections.clear()
    link.a.send([b"are you there?"])
    site.clock.run_for(5 * MS)
    assert a.ends == ["Host esx2 knows nothing of the connection with host esx1."]


def test_a_host_without_a_port_is_a_sentence(site: Site) -> None:
    site.esx2.network.enable_vmotion("")
    with pytest.raises(AdminError, match="esx2 has no VMkernel port"):
        site.link()


@pytest.mark.interop
def test_tshark_sees_a_stream_of_tcp_and_nothing_wrong(site: Site, tmp_path: Path) -> None:
    frames: list[bytes] = []
    (port,) = site.esx1.network.switches.switch(FIRST_SWITCH).ports_of("VMotion")
    port.tap(lambda _at_ns, frame: frames.append(frame))
    link, _, ear = site.link()
    link.a.send([text(40_000)])
    link.b.send([text(9000, 2)])
    link.a.close()
    site.clock.run_for(100 * MS)
    assert len(ear.data) == 40_000
    read = tshark(
        captured(tmp_path, frames), "tcp.dstport", "tcp.len", "tcp.checksum.status",
        "tcp.analysis.retransmission", "tcp.analysis.lost_segment", "tcp.analysis.out_of_order", "frame.len",
    )  # fmt: skip
    tcp = [line for line in read if line[0]]
    assert sum(int(line[1]) for line in tcp if line[0] == str(VMOTION_PORT)) == 40_000
    assert {line[2] for line in tcp} == {"1"}
    assert {tuple(line[3:6]) for line in tcp} == {("", "", "")}
    assert max(int(line[6]) for line in tcp) == 1514


# --- migrations -------------------------------------------------------------------------------------------------------


def move_over_the_wire(lab: VMotionLab) -> None:
    lab.power_on()
    lab.serve("writer 300 40 4 2")
    here, there = lab.hosts.values()
    Migration(here, here.vms["web"], there, link=VmkernelLink(here, there, RATE)).run()


def test_a_machine_moves_over_the_guests_wire_and_the_same_run_is_the_same() -> None:
    told = []
    for _ in range(2):
        lab = VMotionLab(mbit=MBIT)
        move_over_the_wire(lab)
        told.append(lab.events((RoundSent, MigrationEnded)))
        lab.run_for(100)
        assert lab.host_of().name == "esx2"
        assert "wrong" not in lab.vm().console.said
        lab.close()
    assert told[0] == told[1]
    ended = told[0][-1]
    assert isinstance(ended, MigrationEnded)
    assert ended.ok
    assert ended.duration_ns >= ended.sent_bytes * 8 * 10 * 1538 // 1460, "not faster than frames of that size go"


def test_a_cable_that_is_pulled_while_it_moves_leaves_the_machine_where_it_was(site: Site) -> None:
    site.power_on()
    here, there = site.hosts.values()
    options = MigrationOptions(patience_ns=1000 * MS)
    migration = Migration(here, here.vms["web"], there, options=options, link=VmkernelLink(here, there, RATE))
    for _ in range(20):
        migration.step()
    site.uplink("esx2")._wire.pull()
    for _ in migration.steps():
        pass
    assert migration.source.phase == "failed"
    assert migration.source.why
    assert site.host_of().name == "esx1"
    assert not site.vm().stunned


def test_without_a_link_of_its_own_a_migration_has_the_one_it_always_had(tmp_path: Path) -> None:
    lab = TwoHosts(tmp_path)
    web = lab.power_on()
    octets = lab.esx1.network.nics["vmnic0"].statistics.octets_out
    migration = Migration(lab.esx1, web, lab.esx2, LinkSettings(RATE, 100_000))
    assert isinstance(migration.link, MemoryLink)
    migration.run()
    assert lab.esx1.network.nics["vmnic0"].statistics.octets_out == octets
    assert migration.source.sent_bytes > 100_000, "and not by a frame"
    lab.close()
