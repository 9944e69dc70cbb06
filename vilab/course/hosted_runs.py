"""The runs of lesson 17: one guest that sends, and receives, on four hosted configurations, ESX and the bare machine.

::

    account("none", "sending")      one packet on average, over 200
    packet("none")                  the events of one packet, from one send to the next
    table_text()                    all of them in words

The peer answers every second datagram, as TCP would; the one packet that is stepped through has no answer.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from vilab.events import Event, EventLog
from vilab.host.hosted_account import Account, receiving, sending
from vilab.host.hosted_machine import HOSTED, MOST_BYTES, PRODUCTS, HostedMachine, ProductName
from vilab.host.world_costs import WORLD_COSTS, WorldCosts
from vilab.host.world_events import LanceAccessed
from vilab.view.world_time import NAMES

Direction = Literal["sending", "receiving"]
PACKETS, PACKET = 200, 40
"""How many are sent; which one is shown, when rings and queues are filled."""
TABLE_1_NS = 13_800 / 0.087
"""What the paper's unoptimized packet takes: write() to the VMNet is 13.8 µs and 8.7 % of all time."""


@cache
def account(product: ProductName, direction: Direction = "sending", size_bytes: int = MOST_BYTES) -> Account:
    """Counted once."""
    run = sending if direction == "sending" else receiving
    return run(product, PACKETS, size_bytes)


@cache
def packet(product: ProductName, number: int = PACKET) -> tuple[Event, ...]:
    """What happens from the access before a send up to the one before the next."""
    log = EventLog(keep=True)
    HostedMachine(product, log=log).send(number + 20, MOST_BYTES, answer_each=0)
    events = log.events
    sends = [at for at, each in enumerate(events) if isinstance(each, LanceAccessed) and each.sends]
    first, last = (_address_before(events, sends[each]) for each in (number, number + 1))
    return tuple(events[first:last])


def _address_before(events: list[Event], at: int) -> int:
    """The write to the address register that belongs to an access of the data register."""
    return max(i for i in range(at) if isinstance(each := events[i], LanceAccessed) and each.register == "RAP")


def table_text(direction: Direction = "sending", costs: WorldCosts = WORLD_COSTS, size_bytes: int = MOST_BYTES) -> str:
    """A line for each product: counts of the run, and what they come to at these costs."""
    lines = [
        f"{direction:15} world switches  accesses of data  switches for I/O,    a packet  Mbit/s  bound by",
        f"{'':15} a packet        register, VMApp   of VMM time          needs",
    ]
    for name in PRODUCTS:
        a = account(name, direction, size_bytes)
        need_ns = a.need_ns(costs)
        bound = "processor" if need_ns > a.line_ns else "wire"
        share = f"{100 * a.io_share(costs):4.1f} %" if name in HOSTED else "     -"
        app = f"{a.data_accesses('VMApp'):.1f}" if name in HOSTED else "-"
        lines.append(
            f"{NAMES[name][0]:15} {a.switches():8.1f}        {a.data_accesses():5.1f}     {app:>3}     {share:>10}"
            f"          {need_ns / 1000:5.0f} µs   {a.mbit_s(costs):5.1f}   {bound}"
        )
    return "\n".join(lines)


def paper_text() -> str:
    """The paper's figures beside ours, and what its own tables say when they are divided by each other."""
    none, flag = account("none"), account("flag")
    paper_accesses = 1 + 0.040 / 3.1 * 13.8 / 0.087
    rows = [
        ("", "the paper", "here"),
        ("before: a packet takes", f"{TABLE_1_NS / 1000:.0f} µs (1)", f"{none.measured_ns / 1000:.0f} µs"),
        ("before: accesses of the data register a packet", f"{paper_accesses:.1f} (1)", f"{none.data_accesses():.1f}"),
        ("before: world switches for I/O, of VMM time", "26.8 %", f"{100 * none.io_share():.1f} %"),
        ("after: the same", "0.5 %", f"{100 * flag.io_share():.1f} %"),
        ("before: bound by", "processor", "processor" if none.bound_by_processor else "wire"),
        ("after the first: bound by", "wire", "processor" if account("ports").bound_by_processor else "wire"),
    ]
    lines = [f"{what:48} {theirs:>12} {ours:>12}" for what, theirs, ours in rows]
    note = (
        "(1) worked out from table 1, as it is remembered: a share of time by the time each. 26.8 % is from there, too."
    )
    return "\n".join([*lines, note])
