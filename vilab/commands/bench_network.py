"""How fast networks are: what ``vilab bench network`` measures.

=================  ========================================================  =========================================
entry              value                                                     baseline
=================  ========================================================  =========================================
switch_frames      frames of 64 octets a second from one port of a virtual   a loop that copies each frame and hands
                   switch to another, in one VLAN, counted                   it to the same receiver
switch_dpkt        the same                                                  ``dpkt`` parsing the same frames
switch_flood       the same, a million frames with made-up sources and       (none)
                   destinations; ``reached_others``, ``growth_bytes``
tcp_vlance         MB a second of processor time from one stock Linux to     ``tcp_vlance``
tcp_e1000          another through the switch; ``exits_per_mb`` of both
tcp_vmxnet3        guests, ``virtual_mb_per_s`` in their own time
hosted_*           the hosted product, its optimisations one by one, and     ``hosted_none``
                   bare metal: time for each packet that is sent
=================  ========================================================  =========================================

The guests of tcp are one pair with a card of each kind, under AMD-V with nested paging; the kinds take turns.
"""

from __future__ import annotations

import gc
import importlib.util
import random
import statistics
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.hosted_figures import entries
from vilab.network.ethernet import IPV4, frame_of
from vilab.network.teams import Teams
from vilab.network.virtual_switch import VirtualSwitch
from vilab.vmm.bench_measure import Figure, clock, paired

Entry = dict[str, Any]
VLAN = 105
FRAME_DATA_BYTES = 46
"""With header and FCS: 64 octets, the shortest that may be on a wire."""


class Amount(msgspec.Struct, frozen=True):
    """How much is measured. ``tcp_files``: how often busybox (2 MB) goes over."""

    pairs: int
    frames: int
    flood: int
    tcp_rounds: int
    tcp_files: int
    packets: int
    """To and from the hosted product."""


FULL, QUICK = Amount(7, 200_000, 1_000_000, 3, 5, 400), Amount(1, 2000, 2000, 1, 1, 60)


class _Counter:
    """A card that counts."""

    def __init__(self) -> None:
        self.frames = 0

    def receive(self, frame: bytes) -> None:
        self.frames += 1

    def link_changed(self, up: bool) -> None: ...

    def wants_multicast(self, destination: bytes) -> bool:
        return False


def _address(number: int) -> bytes:
    return bytes.fromhex("00505600") + number.to_bytes(2, "big")


def _switch() -> VirtualSwitch:
    made, log = VirtualClock(), EventLog()
    teams = Teams("bench/vSwitch0", made, log)
    switch = teams.switch = VirtualSwitch("vSwitch0", made, log, teams)
    switch.add_port_group("Production", VLAN)
    switch.add_port_group("elsewhere", VLAN + 1)
    return switch


def _connect(switch: VirtualSwitch, number: int, group: str = "Production") -> tuple[Callable[[bytes], None], _Counter]:
    port, card = switch.connect(group, f"vm{number}", address=_address(number)), _Counter()
    port.plug(card)
    port.listen(_address(number), False)
    return port.transmit, card


def _rate(frames: int, send: Callable[[bytes], object], frame: bytes) -> Callable[[], float]:
    def measure() -> float:
        begun = clock()
        for _ in range(frames):
            send(frame)
        return frames / (clock() - begun)

    return measure


def _shortest() -> bytes:
    return frame_of(_address(2), _address(1), IPV4, bytes(FRAME_DATA_BYTES))


def _frames(amount: Amount, baseline: Callable[[_Counter], Callable[[bytes], object]]) -> Entry:
    switch = _switch()
    transmit, _ = _connect(switch, 1)
    _, card = _connect(switch, 2)
    frame, other = _shortest(), _Counter()
    found = paired(
        _rate(amount.frames, transmit, frame), _rate(amount.frames, baseline(other), frame), "frames/s", amount.pairs
    )
    counted = switch.vlans[VLAN].forwarded.frames
    rounds = found.median_of * amount.frames
    return _entry(found) | {"delivered": card.frames, "counted": counted, "sent": rounds}


def _copy_loop(receiver: _Counter) -> Callable[[bytes], object]:
    def copy(frame: bytes) -> None:
        receiver.receive(bytes(bytearray(frame)))

    return copy


def _dpkt(_: _Counter) -> Callable[[bytes], object]:
    if importlib.util.find_spec("dpkt") is None:
        raise AdminError("dpkt is not there to compare with: pip install dpkt, or the project's extra `test`.")
    from dpkt.ethernet import Ethernet

    parse: Callable[[bytes], object] = Ethernet
    return parse


def _flood(amount: Amount) -> Entry:
    """Frames that no machine may send or get: nobody sees them, and nothing grows."""
    switch, draw = _switch(), random.Random(2006)
    transmit, _ = _connect(switch, 1)
    others = [_connect(switch, number, group)[1] for number, group in ((2, "Production"), (3, "elsewhere"))]
    made = [
        frame_of(b"\x02" + draw.randbytes(5), b"\x02" + draw.randbytes(5), IPV4, bytes(FRAME_DATA_BYTES))
        for _ in range(1000)
    ]
    for frame in made:
        transmit(frame)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(amount.flood // 10):
        transmit(made[number % len(made)])
    growth = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    begun = clock()
    for number in range(amount.flood):
        transmit(made[number % len(made)])
    rate = amount.flood / (clock() - begun)
    return _entry(Figure(float(f"{rate:.5g}"), "frames/s", None, None, 1)) | {
        "frames": amount.flood, "reached_others": sum(each.frames for each in others), "growth_bytes": growth,
    }  # fmt: skip


def _entry(figure: Figure) -> Entry:
    found: Entry = msgspec.structs.asdict(figure)
    return found


def _tcp(amount: Amount, kinds: Sequence[str]) -> dict[str, Entry]:
    from vilab.host.network_pair import KINDS, NetworkPair, Transfer

    pair = NetworkPair()
    try:
        done: dict[str, list[Transfer]] = {kind: [] for kind in KINDS if kind in kinds or kind == KINDS[0]}
        for _ in range(amount.tcp_rounds):
            for kind, transfers in done.items():
                transfers.append(pair.transfer(kind, amount.tcp_files))
    finally:
        pair.close()
    base = statistics.median(each.mb_per_processor_s for each in done[KINDS[0]])
    found: dict[str, Entry] = {}
    for kind, transfers in done.items():
        value = statistics.median(each.mb_per_processor_s for each in transfers)
        median = sorted(transfers, key=lambda each: each.mb_per_processor_s)[len(transfers) // 2]
        figure = Figure(float(f"{value:.5g}"), "MB/s", float(f"{base:.5g}"), value / base, len(transfers))
        found[f"tcp_{kind}"] = _entry(figure) | {
            "exits_per_mb": round(median.exits / median.megabytes, 1),
            "virtual_mb_per_s": round(median.megabytes / median.virtual_s, 2),
            "exits": dict(sorted(median.by_reason.items(), key=lambda item: -item[1])[:8]),
        }
    return {name: entry for name, entry in found.items() if name.removeprefix("tcp_") in kinds}


def _hosted(amount: Amount) -> dict[str, Entry]:
    """Microseconds a packet that is sent, beside the product without optimisations."""
    found = entries(amount.packets)
    base = found["hosted_none"]["sending"]["us_per_packet"]
    return {
        name: _entry(Figure(value, "us/packet", base, float(f"{value / base:.4g}"), 1)) | entry
        for name, entry in found.items()
        for value in [entry["sending"]["us_per_packet"]]
    }


SWITCH: dict[str, Callable[[Amount], Entry]] = {
    "switch_frames": lambda amount: _frames(amount, _copy_loop),
    "switch_dpkt": lambda amount: _frames(amount, _dpkt),
    "switch_flood": _flood,
}
TCP = ("tcp_vlance", "tcp_e1000", "tcp_vmxnet3")
ENTRIES = (*SWITCH, *TCP, "hosted")


def bench_network(quick: bool = False, only: Sequence[str] = ()) -> dict[str, Entry]:
    """Measure everything, or what ``only`` names (some minutes for all).

    Raises
    ------
    AdminError : ``only`` names an entry that does not exist, or what it needs is not here.
    """
    for name in only:
        if name not in ENTRIES:
            raise AdminError(f"There is no entry {name!r} in network; there are {', '.join(ENTRIES)}.")
    amount = QUICK if quick else FULL
    figures: dict[str, Entry] = {}
    for name, measure in SWITCH.items():
        if not only or name in only:
            figures[name] = measure(amount)
    kinds = [name.removeprefix("tcp_") for name in TCP if not only or name in only]
    if kinds:
        figures |= _tcp(amount, kinds)
    if not only or "hosted" in only:
        figures |= _hosted(amount)
    return figures
