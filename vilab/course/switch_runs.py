"""The labs of lesson 16: who is on the switch, and what is done there.

::

    conversation()   web1 pings web2, then gw: five machines in three VLANs, two uplinks     first picture, captures
    office()         web1, web2, db1, spy: to be wired by hand
    LOADS            six machines, one of them loud: where their frames leave the host
    SHAPED           an average of 1 Mbit/s, bursts at 3
"""

from __future__ import annotations

from vilab.network.packets import ip_of
from vilab.network.policies import ShapingPolicy
from vilab.view.switch_balance import Load
from vilab.view.switch_bench import Bench
from vilab.view.switch_lab import SwitchLab, Wanted

GATEWAY = Wanted("gw", "00:1a:e3:07:d8:fe", "10.0.0.254", 10)
FIVE = (
    Wanted("web1", "00:50:56:a1:3c:07", "10.0.0.7", 10, order=2),
    Wanted("web2", "00:50:56:a1:3c:19", "10.0.0.19", 10, order=3),
    Wanted("db1", "00:50:56:a1:44:02", "10.0.0.2", 20, order=4),
    Wanted("test1", "00:50:56:a1:51:0e", "10.0.0.14", 20, order=5),
    Wanted("vmk0", "00:50:56:6f:60:d1", "10.0.5.1", 105, order=1),
)
OFFICE = (
    Wanted("web1", "00:50:56:a1:3c:07", "10.0.0.7", 10),
    Wanted("web2", "00:50:56:a1:3c:19", "10.0.0.19", 10),
    Wanted("db1", "00:50:56:a1:44:02", "10.0.0.2", 20),
    Wanted("spy", "00:50:56:a1:66:13", "10.0.0.66", 10),
)
LOADS = (
    Load(Wanted("web1", "00:50:56:a1:3c:08", "10.0.0.7", 10), 8),
    Load(Wanted("web2", "00:50:56:a1:3c:19", "10.0.0.19", 10), 2),
    Load(Wanted("web3", "00:50:56:a1:3c:1a", "10.0.0.20", 10), 2),
    Load(Wanted("db1", "00:50:56:a1:44:02", "10.0.0.2", 10), 2),
    Load(Wanted("db2", "00:50:56:a1:44:04", "10.0.0.3", 10), 2),
    Load(Wanted("mail", "00:50:56:a1:51:0e", "10.0.0.14", 10), 2),
)
SHAPED = ShapingPolicy(enabled=True, average_kbps=1000, peak_kbps=3000, burst_kb=64)


def conversation() -> SwitchLab:
    """web1 pings web2, and 1 ms later gw. Its recorder has the steps."""
    lab = SwitchLab(FIVE, [GATEWAY], trunk=(10, 20, 105))
    peer = lab.stations["web1"].peer
    for sequence, name in enumerate(("web2", "gw"), 1):
        peer.ping(lab.stations[name].ip, sequence)
        lab.run(1_000_000)
    assert [reply.source for reply in peer.replies] == [lab.stations["web2"].ip, ip_of(GATEWAY.ip)]
    return lab


def office(uplinks: int = 2) -> Bench:
    """A new switch to be wired: with three uplinks, beacons can tell which of them is cut off."""
    return Bench(SwitchLab(OFFICE, [GATEWAY], uplinks))
