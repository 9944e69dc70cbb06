"""The account of a run, for one packet: how often what happened, and what that comes to at given costs.

::

    between two samples, for each frame        elapsed = code + exits + counts x costs + idle
                                               └───── rest ─────┘
    at other costs                             need    = rest + counts x costs
                                               elapsed = max(need, what the wire takes)

    VMM time   = elapsed - the VMApp's and the host kernel's       as the paper's tables 1 and 2 have it

``rest`` is the guest and the VMM around it: code, translations, traps, virtual interrupts.
"""

from __future__ import annotations

import msgspec

from vilab.errors import AdminError
from vilab.host.host_nic import FAST_ETHERNET
from vilab.host.hosted_machine import ACK_EACH, HEADERS_BYTES, MOST_BYTES, WARM_UP, HostedMachine, ProductName
from vilab.host.world_costs import WORLD_COSTS, WorldCosts
from vilab.host.world_switch import Key
from vilab.network.wire import FCS_BYTES, GAP_BYTES, PREAMBLE_BYTES

AT_THE_WIRE = 1.02
"""A packet that takes no more than this times its time on the wire goes as fast as the wire."""
COOL_DOWN = 8
"""Frames at the end that do not count: the guest's program has finished."""

REST, PORTS_IN_VMM, SWITCHES_FOR_IO, OTHER_SWITCHES = (
    "guest and VMM", "accesses in the VMM", "world switches for I/O", "other world switches",
)  # fmt: skip
LANCE, HOST_KERNEL, VMKERNEL, IDLE = "Lance", "host kernel", "vmkernel", "idle"
CATEGORIES = (REST, PORTS_IN_VMM, SWITCHES_FOR_IO, OTHER_SWITCHES, LANCE, HOST_KERNEL, VMKERNEL, IDLE)
FOR_IO = ("I/O", "backlog")
"""Why worlds were switched, where the guest's own access was the reason."""
_FIELDS = {
    "port_in_vmm_ns": PORTS_IN_VMM, "status_in_vmm_ns": PORTS_IN_VMM, "address_as_memory_ns": PORTS_IN_VMM,
    "status_in_vmapp_ns": LANCE, "send_in_vmapp_ns": LANCE, "write_ns": HOST_KERNEL, "read_ns": HOST_KERNEL,
    "select_ns": HOST_KERNEL, "host_interrupt_ns": HOST_KERNEL, "vmkernel_frame_ns": VMKERNEL,
}  # fmt: skip


def category(key: Key) -> str:
    """Where an event's time belongs."""
    field, why = key
    if field == "switch_ns":
        return SWITCHES_FOR_IO if why in FOR_IO else OTHER_SWITCHES
    return _FIELDS[field]


class Account(msgspec.Struct, frozen=True):
    """One packet, on average. ``measured_ns``: what passed from one to the next, on the wire; ``frames``: over
    how many.

    ``accesses``: (address or data, read or write, done in) -> how often. ``got``: datagrams that the reader had of
    those ``offered``, where the guest receives.
    """

    product: ProductName
    size_bytes: int
    frames: int
    measured_ns: float
    rest_ns: float
    idle_ns: float
    counts: dict[Key, float]
    accesses: dict[tuple[str, str, str], float]
    offered: int = 0
    got: int = 0

    @property
    def line_ns(self) -> int:
        """What the wire takes for it, with the gap to the next."""
        octets = PREAMBLE_BYTES + self.size_bytes + HEADERS_BYTES + FCS_BYTES + GAP_BYTES
        return -(-octets * 8 * 1_000_000_000 // FAST_ETHERNET)

    @property
    def bound_by_processor(self) -> bool:
        """Or else by the wire."""
        return self.measured_ns > AT_THE_WIRE * self.line_ns

    @property
    def measured_mbit_s(self) -> float:
        return self.size_bytes * 8000 / self.measured_ns

    def switches(self, *whys: str) -> float:
        """World switches a packet, one way each; all, or for these reasons."""
        return sum(n for (field, why), n in self.counts.items() if field == "switch_ns" and (not whys or why in whys))

    def data_accesses(self, done_in: str | None = None) -> float:
        return sum(n for (what, _, place), n in self.accesses.items() if what == "data" and done_in in (None, place))

    def need_ns(self, costs: WorldCosts = WORLD_COSTS) -> float:
        """What the processor has to do for a packet: counts times costs, and the rest."""
        return self.rest_ns + sum(n * float(getattr(costs, field)) for (field, _), n in self.counts.items())

    def split(self, costs: WorldCosts = WORLD_COSTS) -> dict[str, float]:
        """Nanoseconds of each category. What the wire takes longer is idle."""
        made = dict.fromkeys(CATEGORIES, 0.0)
        made[REST] = self.rest_ns
        for key, n in self.counts.items():
            made[category(key)] += n * float(getattr(costs, key[0]))
        if self.product == "esx":
            made[VMKERNEL] += made[HOST_KERNEL]
            made[HOST_KERNEL] = 0.0
        made[IDLE] = max(0.0, self.line_ns - self.need_ns(costs))
        return made

    def mbit_s(self, costs: WorldCosts = WORLD_COSTS) -> float:
        return self.size_bytes * 8000 / max(self.need_ns(costs), self.line_ns)

    def io_share(self, costs: WorldCosts = WORLD_COSTS) -> float:
        """World switches for I/O, of VMM time: the paper's 26.8 % and 0.5 %."""
        split = self.split(costs)
        vmm_ns = sum(split.values()) - split[LANCE] - split[HOST_KERNEL] - split[VMKERNEL]
        return split[SWITCHES_FOR_IO] / vmm_ns


def account_of(machine: HostedMachine, product: ProductName, size_bytes: int, costs: WorldCosts) -> Account:
    """From the samples of a run that is over. Raises ``AdminError``: there are too few."""
    samples = machine.samples
    first = next((s for s in samples if s.frames >= WARM_UP), None)
    last_frame = samples[-1].frames - COOL_DOWN if samples else 0
    last = next((s for s in reversed(samples) if s.frames <= last_frame), None)
    if first is None or last is None or last.frames - first.frames < 20:
        raise AdminError(f"{machine.product.frames_out} packets are too few for an average: 60 are enough.")
    frames = last.frames - first.frames
    counts = {key: (n - first.counts.get(key, 0)) / frames for key, n in last.counts.items()}
    accesses = {key: (n - first.accesses.get(key, 0)) / frames for key, n in last.accesses.items()}
    elapsed_ns, idle_ns = (last.at_ns - first.at_ns) / frames, (last.idle_ns - first.idle_ns) / frames
    measured_ns = (last.wire_ns - first.wire_ns) / frames
    spent_ns = sum(n * float(getattr(costs, field)) for (field, _), n in counts.items())
    return Account(
        product, size_bytes, frames, measured_ns, elapsed_ns - idle_ns - spent_ns, idle_ns,
        {key: n for key, n in counts.items() if n}, {key: n for key, n in accesses.items() if n},
    )  # fmt: skip


def sending(
    product: ProductName, packets: int = 200, size_bytes: int = MOST_BYTES, costs: WorldCosts = WORLD_COSTS,
    answer_each: int = ACK_EACH,
) -> Account:  # fmt: skip
    """The guest sends; the peer answers each ``answer_each``-th datagram."""
    machine = HostedMachine(product, costs=costs)
    machine.send(packets, size_bytes, answer_each)
    kept = [sample for sample in machine.samples if sample.frames <= packets]
    machine.samples = kept
    return account_of(machine, product, size_bytes, costs)


def receiving(
    product: ProductName, packets: int = 200, size_bytes: int = MOST_BYTES, costs: WorldCosts = WORLD_COSTS,
    pace_ns: int | None = None,
) -> Account:  # fmt: skip
    """The peer sends, one datagram each ``pace_ns``, or as fast as the wire takes them."""
    machine = HostedMachine(product, costs=costs)
    got = machine.receive(packets, size_bytes, pace_ns)
    made = account_of(machine, product, size_bytes, costs)
    return msgspec.structs.replace(made, offered=packets, got=got)
