"""The labs of lesson 16: who is on the switch, and what is done there.

::

    conversation()   web1 pings web2, then gw: five machines in three VLANs, two uplinks     first picture, captures
                     web1 and web2 are guests with a kernel and a driver, the others small hosts without a processor
    office()         web1, web2, db1, spy: to be wired by hand
    LOADS            six machines, one of them loud: where their frames leave the host
    SHAPED           an average of 1 Mbit/s, bursts at 3
"""

from __future__ import annotations

from vilab.course.switch_guests import GuestLab
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


def conversation() -> GuestLab:
    """web1 pings web2, and then gw. Its recorder has the steps."""
    lab = GuestLab(FIVE, ("web1", "web2"), [GATEWAY], (10, 20, 105))
    for name in ("web2", "gw"):
        assert lab.answered("web1", name)
    lab.close()
    return lab


def office(uplinks: int = 2) -> Bench:
    """A new switch to be wired: with three uplinks, beacons can tell which of them is cut off."""
    return Bench(SwitchLab(OFFICE, [GATEWAY], uplinks))
