"""What it costs to send a migration over the guests' own wire: the same move over three networks.

::

    own        esx1 ── vmnic0 ══ sw1 ══ client          VMotion's port group has a switch and a card of its own
                    └─ vmnic1 ══ sw2 ══ esx2
    shared     esx1 ── vmnic0 ══ sw1 ══ client, esx2    both go through vmnic0: frame after frame, as they come
    limited    the same, and a traffic shaper at VMotion's port group leaves a part of the wire to others

``mail`` stays on esx1 and answers a client behind sw1; ``web``, which writes, moves from esx1 to esx2 meanwhile. Every
byte of the migration is in a frame of a VMkernel port (``migration.vmkernel_link``); nothing is said here about who
waits for whom. The shaper is that of the port group, as an administrator of VI3 sets it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import msgspec

from vilab.course.feedback import columns
from vilab.course.vmotion_lab import MEGABIT, MS, VMotionLab
from vilab.errors import AdminError
from vilab.host.host_network import FIRST_SWITCH
from vilab.migration.migration_events import MigrationEnded, RoundSent
from vilab.migration.rate_control import MBIT
from vilab.migration.segment_stream import WINDOW_BYTES
from vilab.migration.vmkernel_link import VmkernelLink
from vilab.migration.vmotion import Migration
from vilab.network.physical_port import Trunk
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.policies import Overrides, ShapingOverride
from vilab.network.wire import Wire

NETWORKS = {"own": "a wire of its own", "shared": "the guests' wire", "limited": "with a shaper"}
MOVES, STAYS = "web", "mail"
MOVES_MB, STAYS_MB = 16, 8
PAGES, WRITER = 1500, "writer {pages} 200 8 4"
WIRE_MBIT, LIMIT_PERCENT, BURST_KB = 100, 75, 16
EVERY_NS, ASKED_BYTES = 2 * MS, 1400
GROUP = "VMotion"
BEFORE_MS = 200
WARM_NS = 50 * MS
"""The first answers wait for ARP and for caches, and are not counted."""


class Beside(msgspec.Struct, frozen=True):
    """One move, and what ``mail`` has done meanwhile.

    Attributes
    ----------
    replies_ns : how long each answer took that was asked for during the move, ascending. asked : how many were.
    quiet_ns : the same of the time before it. wire_mbit : of the wires; limit_percent : of it, 0 without a shaper.
    again : segments that were sent twice.
    """

    network: str
    wire_mbit: int
    limit_percent: int
    duration_ns: int
    downtime_ns: int
    rounds: int
    sent_bytes: int
    asked: int
    replies_ns: tuple[int, ...]
    quiet_ns: tuple[int, ...]
    again: int

    @property
    def lost(self) -> int:
        return self.asked - len(self.replies_ns)

    @property
    def answered_mbit(self) -> float:
        """What ``mail`` has answered a second during the move, in Mbit/s of its data."""
        return len(self.replies_ns) * ASKED_BYTES / MBIT * 1e9 / self.duration_ns


def percentile(times: Sequence[int], percent: float) -> int:
    """The least one that so many percent do not exceed; ``times`` ascend. 0 of none."""
    return times[max(math.ceil(len(times) * percent / 100), 1) - 1] if times else 0


def give_own_network(lab: VMotionLab) -> None:
    """Each host gets a second card, a switch and a VMkernel port for VMotion alone; sw2 joins them."""
    switch = PhysicalSwitch("sw2", lab.clock, {f"port{n}": Trunk() for n in range(1, len(lab.hosts) + 1)})
    for number, host in enumerate(lab.hosts.values(), 1):
        wire, network = Wire(lab.clock, lab.mbit * MEGABIT), host.network
        switch.connect(f"port{number}", wire.b)
        own = network.add_switch("vSwitch1")
        network.add_nic("vmnic1", wire.a, bytes((0, 0x1B, 0x21, 0, 1, number)), own.name)
        own.add_port_group("VMotion 2")
        address = bytes((0, 0x50, 0x56, 0x60, 1, number))
        network.add_vmkernel_port("vmk1", "VMotion 2", address, bytes((10, 2, 0, number)))
        network.enable_vmotion("vmk1")


def limit(lab: VMotionLab, percent: int) -> None:
    """VMotion's port group may send so much of the wire, on each host. ``AdminError`` for what is no part of it."""
    if not 0 < percent <= 100:
        raise AdminError(f"A shaper at {percent} % of a wire is none: give it 1 to 100 %.")
    kbps = lab.mbit * 10 * percent
    shaping = ShapingOverride(enabled=True, average_kbps=kbps, peak_kbps=kbps, burst_kb=BURST_KB)
    for host in lab.hosts.values():
        host.network.switches.switch(FIRST_SWITCH).set_port_group(GROUP, overrides=Overrides(shaping=shaping))


@cache
def beside(
    network: str = "shared", limit_percent: int = LIMIT_PERCENT, wire_mbit: int = WIRE_MBIT,
    window_bytes: int = WINDOW_BYTES, pages: int = PAGES,
) -> Beside:  # fmt: skip
    """Done once, with a new lab. ``pages``: that the machine which moves has filled. ``AdminError`` for no network."""
    if network not in NETWORKS:
        raise AdminError(f"There is no network {network!r} to move over; there are {', '.join(NETWORKS)}.")
    lab = VMotionLab(mbit=wire_mbit)
    try:
        if network == "own":
            give_own_network(lab)
        elif network == "limited":
            limit(lab, limit_percent)
        return _move(lab, network, limit_percent if network == "limited" else 0, window_bytes, pages)
    finally:
        lab.close()


def _move(lab: VMotionLab, network: str, limit_percent: int, window_bytes: int, pages: int) -> Beside:
    lab.power_on(MOVES, memory_mb=MOVES_MB)
    lab.power_on(STAYS, memory_mb=STAYS_MB)
    lab.serve(WRITER.format(pages=pages), MOVES)
    lab.serve("", STAYS)
    client = lab.client
    client.every_ns, client.size_bytes = EVERY_NS, ASKED_BYTES
    lab.ask(STAYS)
    lab.run_for(BEFORE_MS)
    began, began_ns = len(client.sent_ns), lab.clock.now_ns
    here, there = lab.host_of(MOVES), lab.hosts["esx2"]
    link = VmkernelLink(here, there, lab.mbit * MBIT, window_bytes)
    Migration(here, here.vms[MOVES], there, link=link).run()
    ended = len(client.sent_ns)
    lab.heard()
    took = {number: came - client.sent_ns[number] for number, came in client.came_ns.items()}
    first_ns = began_ns - BEFORE_MS * MS + WARM_NS
    end = next(event for event in lab.events(MigrationEnded) if isinstance(event, MigrationEnded))
    return Beside(
        network, lab.mbit, limit_percent, end.duration_ns, end.downtime_ns, len(lab.events(RoundSent)) - 1,
        end.sent_bytes, ended - began,
        tuple(sorted(each for number, each in took.items() if began <= number < ended)),
        tuple(sorted(each for number, each in took.items() if number < began and client.sent_ns[number] >= first_ns)),
        link.a.stream.again,
    )  # fmt: skip


def beside_text(runs: Sequence[Beside]) -> str:
    """A line each, and before them the answers while nothing moves."""
    rows: list[tuple[str, ...]] = [
        ("web moves over", "took", "stood still", "rounds", "mail answers in", "99 % within", "lost", "Mbit/s"),
        ("(nothing moves)", "", "", "", _us(percentile(runs[0].quiet_ns, 50)), _us(percentile(runs[0].quiet_ns, 99))),
    ]
    for run in runs:
        name = NETWORKS[run.network] + (f" at {run.limit_percent} %" if run.limit_percent else "")
        rows.append((
            name, f"{run.duration_ns / MS:,.0f} ms", f"{run.downtime_ns / MS:.0f} ms", str(run.rounds),
            _us(percentile(run.replies_ns, 50)), _us(percentile(run.replies_ns, 99)), str(run.lost),
            f"{run.answered_mbit:.1f}",
        ))  # fmt: skip
    return "\n".join(columns(rows))


def _us(ns: int) -> str:
    return f"{ns / 1000:,.0f} µs"
