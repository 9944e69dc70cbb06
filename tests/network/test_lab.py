"""A network that runs by itself; a failover as a capture that tshark reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.network.captures import captured, tshark
from tests.network.site import OUTSIDE_IP, Site
from tests.network.test_teaming import policy, team_of
from vilab.clock import VirtualClock
from vilab.errors import VmmBug
from vilab.network.lab import run_for, run_until
from vilab.network.policies import Balancing, TeamingPolicy


def test_each_call_is_made_at_its_own_moment_and_the_clock_ends_where_it_should() -> None:
    clock, seen = VirtualClock(), list[int]()
    for at_ns in (5, 3, 3, 9, 10):
        clock.at(at_ns, lambda: seen.append(clock.now_ns))
    assert run_until(clock, 9) == 3
    assert (seen, clock.now_ns) == ([3, 3, 5, 9], 9)
    run_for(clock, 100)
    assert (seen[-1], clock.now_ns) == (10, 109)


def test_a_network_that_never_comes_to_rest_is_said_to_be_one() -> None:
    clock = VirtualClock()

    def again() -> None:
        clock.at(clock.now_ns + 1, again)

    again()
    with pytest.raises(VmmBug, match="100 steps"):
        run_until(clock, 1_000_000, max_steps=100)


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
