"""Hosted against bare metal, as figures that a bench prints: four hosted configurations, ESX, and the native machine.

::

    figures(packets)["sending"]["none"]["world_switches"]     a packet, one way each
    entries(packets)["hosted_none"]["sending"]                the same by product, for a table of entries

Beside ours stand the paper's, where there are any; nothing of ours was fitted to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vilab.host.hosted_account import Account, receiving, sending
from vilab.host.hosted_machine import MOST_BYTES, PRODUCTS
from vilab.host.world_costs import COST_TABLE, WORLD_COSTS, WorldCosts

PAPER_IO_SHARE: dict[str, float] = {"none": 0.268, "flag": 0.005}
PAPER = {
    "io_share_of_vmm_time": PAPER_IO_SHARE,
    "data_accesses_that_send": 1 / 3,
    "none_is_bound_by": "processor",
    "ports_is_bound_by": "wire",
    "flag_is_bound_by": "wire",
    "source": "Sugerman, Venkitachalam, Lim, USENIX ATC 2001: tables 1 (from memory) and 2, sections 3.3 and 6",
}


def figures_of(account: Account, costs: WorldCosts = WORLD_COSTS) -> dict[str, Any]:
    """One configuration. Times in microseconds a packet, switches one way each."""
    whys = sorted({why for field, why in account.counts if field == "switch_ns"})
    made: dict[str, Any] = {
        "mbit_per_s": round(account.measured_mbit_s, 1),
        "us_per_packet": round(account.measured_ns / 1000, 2),
        "bound_by": "processor" if account.bound_by_processor else "wire",
        "world_switches": round(account.switches(), 2),
        "world_switches_why": {why: round(account.switches(why), 2) for why in whys},
        "data_accesses": round(account.data_accesses(), 2),
        "data_accesses_in_vmapp": round(account.data_accesses("VMApp"), 2),
        "io_share_of_vmm_time": round(account.io_share(costs), 4),
        "us_by_category": {name: round(ns / 1000, 2) for name, ns in account.split(costs).items() if ns},
        "counts": {f"{field} {why}".strip(): round(n, 3) for (field, why), n in sorted(account.counts.items())},
        "packets": account.frames,
    }
    if account.offered:
        made |= {"offered": account.offered, "delivered": account.got}
    return made


def figures(packets: int = 200, size_bytes: int = MOST_BYTES, costs: WorldCosts = WORLD_COSTS) -> dict[str, Any]:
    """All configurations, both directions. ``packets``: 60 at least; 200 take some ten seconds in all."""
    ways: dict[str, Callable[..., Account]] = {"sending": sending, "receiving": receiving}
    made: dict[str, Any] = {
        way: {name: figures_of(run(name, packets, size_bytes, costs), costs) for name in PRODUCTS}
        for way, run in ways.items()
    }
    made["size_bytes"] = size_bytes
    made["costs"] = [
        {"name": row.name, "us": getattr(costs, row.field) / 1000, "source": row.source} for row in COST_TABLE
    ]
    made["paper"] = PAPER
    return made


def entries(packets: int = 200, size_bytes: int = MOST_BYTES) -> dict[str, dict[str, Any]]:
    """By product: ``hosted_none``, ``hosted_ports``, ``hosted_combining``, ``hosted_flag``, ``hosted_esx``,
    ``hosted_native``, each with both directions, and with the paper's figures where there are any."""
    made = figures(packets, size_bytes)
    found: dict[str, dict[str, Any]] = {}
    for name in PRODUCTS:
        entry = {way: made[way][name] for way in ("sending", "receiving")}
        share = PAPER_IO_SHARE.get(name)
        found[f"hosted_{name}"] = entry | ({"paper_io_share_of_vmm_time": share} if share is not None else {})
    return found
