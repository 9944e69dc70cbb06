"""Hostile guests: floods, frames that are none, forged addresses. Nobody else sees or pays for it."""

from __future__ import annotations

import os
import random
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.network.switches import Outside, address, card, new_switch
from vilab.events import Event, EventLog
from vilab.network.ethernet import BROADCAST, MAX_VLAN, frame_of, is_group, tagged
from vilab.network.network_events import FrameDropped

FLOOD_FRAMES = int(os.environ.get("VILAB_FLOOD_FRAMES", "20000"))
"""A million takes half a minute."""
GROWTH_BYTES = 4_000_000


class Counter:
    """A card that keeps nothing."""

    def __init__(self) -> None:
        self.frames = 0

    def receive(self, frame: bytes) -> None:
        self.frames += 1

    def link_changed(self, up: bool) -> None: ...

    def wants_multicast(self, destination: bytes) -> bool:
        return False


class SilentLog(EventLog):
    """Nobody listens: whoever makes an event all the same is found out."""

    def emit(self, event: Event) -> None:
        raise AssertionError(f"made for nobody: {event}")


def test_a_flood_from_one_machine_fills_nothing_and_shows_the_others_nothing() -> None:
    """Random sources and destinations, every VLAN: what fills the table of a switch that learns."""
    switch = new_switch(SilentLog(), v10=10, v20=20, vgt=4095, est=0)
    outside = Outside("vmnic0")
    outside.frames = _Nowhere()
    switch.add_uplink(outside)
    attacker, trunk = switch.connect("v10", "attacker", address=address(1)), switch.connect("vgt", "trunk")
    victims = []
    for number, group in enumerate(("v10", "v20", "est"), 11):
        port = switch.connect(group, group, address=address(number))
        victim = Counter()
        port.plug(victim)
        port.listen(address(number), True)
        victims.append(victim)
    talker = switch.connect("v10", "talker", address=address(20))
    draw = random.Random(1)
    for port in (attacker, trunk):
        port.plug(Counter())
        port.listen(address(port.number), False)

    def flood(frames: int) -> None:
        for _ in range(frames):
            noise = draw.randbytes(12)
            frame = bytes((noise[0] & 0xFE,)) + noise[1:] + b"\x88\xb5" + bytes(46)
            attacker.transmit(frame)
            trunk.transmit(tagged(frame, draw.randint(1, MAX_VLAN)))

    flood(2000)
    for vlan in range(1, MAX_VLAN + 1):
        trunk.transmit(tagged(frame_of(BROADCAST, address(99), 0x88B5, bytes(46)), vlan))
    seen = [v.frames for v in victims]
    assert seen == [1, 1, 0]
    tracemalloc.start()
    before_bytes = tracemalloc.get_traced_memory()[0]
    flood(FLOOD_FRAMES // 2)
    grown_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
    tracemalloc.stop()
    assert grown_bytes < GROWTH_BYTES
    assert [v.frames for v in victims] == seen
    talker.transmit(frame_of(address(11), address(20), 0x88B5, bytes(46)))
    assert victims[0].frames == seen[0] + 1


class _Nowhere(list[bytes]):
    def append(self, frame: bytes) -> None:
        pass


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["est", "v10", "vgt", "uplink"]),
    st.one_of(
        st.binary(max_size=80),
        st.builds(
            lambda size, first: first.ljust(size, b"\x81")[:size], st.integers(0, 70_000), st.binary(max_size=40)
        ),
        st.builds(lambda head, rest: head + b"\x81\x00" * 4 + rest, st.binary(min_size=12, max_size=12), st.binary()),
    ),
)
def test_no_frame_does_harm(entry: str, frame: bytes) -> None:
    log = EventLog(keep=True)
    switch = new_switch(log, est=0, v10=10, vgt=4095)
    outside = Outside("vmnic0")
    switch.add_uplink(outside)
    cards = {group: card(switch, group, n) for n, group in enumerate(("est", "v10", "vgt"), 1)}
    for _ in range(2):
        if entry == "uplink":
            outside.on_receive(frame)
        else:
            cards[entry].send(frame)
    taken = [f for c in cards.values() for f in c.frames] + outside.frames
    if len(frame) < 14 or len(frame) > 1518:
        assert not taken
    if not taken:
        assert [len(e.reason.split()) for e in log.of(FrameDropped)] in ([2, 2], [1, 1])
    if entry == "v10":
        assert all(f[12:16] == b"\x81\0\0\x0a" or f[15] == 10 for f in outside.frames)
        assert not cards["est"].frames


@given(st.lists(st.binary(min_size=6, max_size=6), min_size=1, max_size=5), st.booleans())
def test_an_address_that_a_driver_makes_up_takes_nothing_from_others(addresses: list[bytes], promiscuous: bool) -> None:
    """Not broadcast, not a group, and no frame that is not for it, as promiscuous mode is not accepted."""
    switch = new_switch(net=0)
    outside = Outside("vmnic0")
    switch.add_uplink(outside)
    a, b, liar = (card(switch, "net", n) for n in (1, 2, 3))
    for made_up in addresses:
        liar.port.listen(made_up, promiscuous)
    for to in (b.address, BROADCAST, bytes.fromhex("01005e000001"), address(9)):
        a.send(frame_of(to, a.address, 0x88B5, bytes(46)))
    assert len(b.frames) == 2
    assert len(outside.frames) == 3 - (addresses[-1] == address(9))
    group = is_group(addresses[-1])
    assert len(liar.frames) == 1 + (not group and addresses[-1] in (b.address, address(9)))


def test_nothing_is_made_for_a_log_that_nobody_reads() -> None:
    switch = new_switch(SilentLog(), net=10)
    switch.add_uplink(Outside("vmnic0"))
    a, b = card(switch, "net", 1), card(switch, "net", 2)
    for frame in (b"", frame_of(b.address, a.address, 0, b""), frame_of(BROADCAST, a.address, 0, b""), bytes(2000)):
        for _ in range(2):
            a.send(frame)
    switch.disconnect(b.port)
