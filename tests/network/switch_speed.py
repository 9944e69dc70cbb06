"""How many frames a second a virtual switch takes: ``python -m tests.network.switch_speed``. No test."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.network.switches import FirstWithLink, address
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.ethernet import BROADCAST, frame_of, tagged
from vilab.network.virtual_switch import VirtualSwitch

FRAMES, ROUNDS = 100_000, 5


class Counter:
    """A card, or a physical one, that only counts."""

    def __init__(self, name: str) -> None:
        self.name, self.link_up, self.frames = name, True, 0
        self.on_receive: Callable[[bytes], None] = self.receive

    def receive(self, frame: bytes) -> None:
        self.frames += 1

    transmit = receive

    def link_changed(self, up: bool) -> None: ...

    def wants_multicast(self, destination: bytes) -> bool:
        return False


def main() -> None:
    switch = VirtualSwitch("vSwitch0", VirtualClock(), EventLog(), FirstWithLink)
    nic = Counter("vmnic0")
    switch.add_uplink(nic)
    cards, ports = [], []
    for number, vlan in enumerate((10, 10, 4095), 1):
        switch.add_port_group(f"group{number}", vlan)
        port = switch.connect(f"group{number}", f"vm{number}", address=address(number))
        cards.append(Counter(f"vm{number}"))
        port.plug(cards[-1])
        port.listen(address(number), False)
        ports.append(port)

    def frame(to: bytes, source: int) -> bytes:
        return frame_of(to, address(source), 0x0800, bytes(50))

    inside, inward = tagged(frame(address(2), 3), 10), tagged(frame(address(2), 9), 10)
    _measure("VST to VST, one address", ports[0].transmit, frame(address(2), 1), cards[1])
    _measure("VST to VGT, tag on", ports[0].transmit, frame(address(3), 1), cards[2])
    _measure("VGT to VST, tag off", ports[2].transmit, inside, cards[1])
    _measure("VST to the uplink, tag on", ports[0].transmit, frame(address(9), 1), nic)
    _measure("uplink to VST, tag off", nic.on_receive, inward, cards[1])
    _measure("broadcast to two ports and the uplink", ports[0].transmit, frame(BROADCAST, 1), cards[1])


def _measure(what: str, send: Callable[[bytes], None], frame: bytes, receiver: Counter) -> None:
    best_s = float("inf")
    for _ in range(ROUNDS):
        receiver.frames = 0
        begin_s = time.process_time()
        for _ in range(FRAMES):
            send(frame)
        best_s = min(best_s, time.process_time() - begin_s)
        assert receiver.frames == FRAMES
    print(f"{what:40} {FRAMES / best_s:12,.0f} frames/s")


if __name__ == "__main__":
    main()
