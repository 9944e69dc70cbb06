"""What a crossing costs in the hosted product and in ESX: primitives, in nanoseconds, each with its source.

Nothing here is the result of a workload: every figure of a run is how often something happened times one of these. Take
others with ``msgspec.structs.replace(WORLD_COSTS, switch_ns=2_000)`` and run again.

Source: Sugerman, Venkitachalam, Lim, *Virtualizing I/O Devices on VMware Workstation's Hosted Virtual Machine Monitor*,
USENIX ATC 2001, tables 1 (before their optimizations) and 2 (after), a 733 MHz Pentium III. Where table 2 has a
primitive, it is taken: that table could be checked against the published text. What only table 1 has is quoted from
memory. The rest is a MODEL.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from vilab.costs import DEFAULT_COSTS

Certainty = Literal["table 2, checked", "table 1, from memory", "MODEL"]

_BUS_NS = DEFAULT_COSTS.ns(DEFAULT_COSTS.port_access)
_ENTRY_NS = DEFAULT_COSTS.ns(DEFAULT_COSTS.native.page_fault)


class WorldCosts(msgspec.Struct, frozen=True):
    """Nanoseconds an event. ``COST_TABLE`` says of each what it is and where it is from.

    look_ns : no cost, but how often the VMApp has its turn where nothing else brings it there.
    """

    switch_ns: int = 3_725
    port_in_vmm_ns: int = 1_360
    status_in_vmm_ns: int = 910
    address_as_memory_ns: int = 0
    status_in_vmapp_ns: int = 3_100
    send_in_vmapp_ns: int = 3_000
    write_ns: int = 22_700
    read_ns: int = 22_700
    select_ns: int = 3_000
    host_interrupt_ns: int = 2 * _BUS_NS + _ENTRY_NS
    vmkernel_frame_ns: int = 5_000
    look_ns: int = 1_000_000


class CostRow(msgspec.Struct, frozen=True):
    """One line of the table. ``field``: of ``WorldCosts``."""

    field: str
    name: str
    source: Certainty
    why: str = ""


COST_TABLE = (
    CostRow(
        "switch_ns", "world switch, one way", "table 1, from memory",
        "half of 7.45 µs, which an IN or OUT takes that goes to the VMApp and back",
    ),
    CostRow("port_in_vmm_ns", "IN or OUT in the VMM, as in 2.0", "table 1, from memory"),
    CostRow("status_in_vmm_ns", "data register in the VMM", "table 2, checked", "IN/OUTs to the Lance status register"),
    CostRow(
        "address_as_memory_ns", "address register as memory", "MODEL",
        "a handful of instructions: what leaving the translation cache costs here, and no more",
    ),
    CostRow("status_in_vmapp_ns", "data register in the VMApp", "table 1, from memory"),
    CostRow("send_in_vmapp_ns", "Lance transmit path", "table 2, checked", "table 1 has 5.2 µs"),
    CostRow("write_ns", "write() to the VMNet", "table 2, checked", "table 1 has 13.8 µs"),
    CostRow("read_ns", "read() from the VMNet", "table 2, checked"),
    CostRow("select_ns", "select() on the VMNet", "MODEL", "a system call that asks a driver"),
    CostRow(
        "host_interrupt_ns", "the host's interrupt handler", "MODEL",
        "an exception's way in and out and two accesses to a card, Adams and Agesen 2006, figure 4",
    ),
    CostRow("vmkernel_frame_ns", "a frame through the vmkernel", "MODEL", "as the virtual cable of this package"),
)  # fmt: skip

WORLD_COSTS = WorldCosts()


def cost_text(costs: WorldCosts = WORLD_COSTS) -> str:
    """The table, a line each."""
    lines = [
        f"{row.name:34} {getattr(costs, row.field) / 1000:6.2f} µs  {row.source:21} {row.why}".rstrip()
        for row in COST_TABLE
    ]
    return "\n".join(lines)
