"""A failover as a capture that tshark reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.network.captures import captured, tshark
from tests.network.site import OUTSIDE_IP, Site
from tests.network.test_teaming import policy, team_of
from vilab.network.policies import Balancing, TeamingPolicy


def test_tshark_reads_a_failover_and_finds_nothing_malformed(tmp_path: Path) -> None:
    """Beacons, ARP, ping, RARP, in VLAN 105, as the core switch has seen them."""
    wanted = TeamingPolicy(active=("vmnic0", "vmnic1", "vmnic2"), detection="beacon")
    site = Site(wanted, cards=3, vlan=105)
    site.core.configure("outside", site.core.port("monitor").settings)
    machine = site.peer(1)
    machine.ping(OUTSIDE_IP)
    site.run(1.2)
    site.upstream[0].pull()
    site.run(4)
    site.wires[2].pull()
    site.run(1)
    frames = site.monitor.frames
    read = tshark(
        captured(tmp_path, frames), "eth.src", "vlan.id", "vlan.etype", "arp.opcode", "arp.src.hw_mac", "_ws.malformed"
    )
    assert len(read) == len(frames)
    assert {row[1] for row in read} == {"105"}
    assert {row[5] for row in read} == {""}
    kinds = Counter((row[2], row[3]) for row in read)
    assert kinds[("0x8035", "3")] == 1 + 2, "connected, moved, and the last two cards cannot tell"
    assert kinds[("0x0806", "1")] == 1
    assert {row[4] for row in read if row[2] == "0x8035"} == {"02:00:00:00:00:01"}
    beacons = Counter(row[0][-2:] for row in read if row[2] == "0x8922")
    assert beacons["f1"] > beacons["f2"] > beacons["f0"] == 2, "one after the other is not heard any more"


@given(
    st.lists(st.tuples(st.binary(min_size=14, max_size=90), st.integers(0, 2), st.booleans()), max_size=20),
    st.sampled_from(["port_id", "mac_hash", "ip_hash", "explicit"]),
)  # fmt: skip
def test_no_frame_ends_a_team(frames: list[tuple[bytes, int, bool]], balancing: Balancing) -> None:
    _, team, _ = team_of(policy(3, balancing))
    for frame, card, out in frames:
        if out:
            assert team.uplink_for(card, frame) in team.nics.values()
        else:
            team.accepts(team.nics[f"vmnic{card}"], card, frame)
