"""A tunnel whose other process ends and comes again: the link says so, and joins by itself."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.network.ends import Listener, mac
from tests.network.test_peer import Cord
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.host_network import HostNetwork
from vilab.network.ethernet import RARP
from vilab.network.physical_events import UplinkMoved
from vilab.network.tunnel import TunnelLink, TunnelListener
from vilab.network.tunnel_rejoin import LONGEST_BACK_OFF_NS, SILENCE_NS, RejoiningTunnel
from vilab.network.wire import Wire

MS = 1_000_000


class Other:
    """The other process: it listens, ends, and listens at the same port again."""

    def __init__(self) -> None:
        self.listener = TunnelListener()
        self.address = self.listener.address
        self.link: TunnelLink | None = None
        self.cord = Cord()

    def poll(self) -> None:
        if self.listener.fileno() < 0:
            return
        connection = self.listener.accept()
        if connection is not None:
            self.link = TunnelLink(self.cord, connection)
        if self.link is not None:
            self.link.poll()

    def end(self) -> None:
        self.listener.close()
        if self.link is not None:
            self.link.close()
        self.link = None

    def come_again(self) -> None:
        self.listener, self.cord = TunnelListener(*self.address), Cord()


class Near:
    """A tunnel by a clock of its own."""

    def __init__(self, other: Other) -> None:
        self.other, self.now_ns, self.carrier, self.cord = other, 0, [], Cord()
        self.tunnel = RejoiningTunnel(self.cord, *other.address, self.carrier_changed, lambda: self.now_ns)

    carrier: list[bool]

    def carrier_changed(self, up: bool) -> None:
        self.carrier.append(up)

    def turn(self, step_ns: int = 10 * MS) -> None:
        self.now_ns += step_ns
        self.tunnel.poll()

    def until(self, there: Callable[[], bool], other: bool = True, step_ns: int = 10 * MS) -> int:
        """So long it took, by its clock."""
        begun_ns = self.now_ns
        for _ in range(5000):
            if there():
                return self.now_ns - begun_ns
            self.turn(step_ns)
            if other:
                self.other.poll()
            time.sleep(0.0002)
        raise AssertionError("it does not come to that")


@pytest.fixture
def near() -> Iterator[Near]:
    other = Other()
    made = Near(other)
    yield made
    made.tunnel.close()
    other.end()


def test_the_link_is_down_while_the_other_process_is_away_and_up_when_it_comes_again(near: Near) -> None:
    tunnel, other = near.tunnel, near.other
    for number in range(1, 4):
        near.until(lambda number=number: tunnel.joined == number)  # type: ignore[misc]
        assert near.carrier == [True, False] * (number - 1) + [True]
        assert tunnel.fileno() >= 0
        assert tunnel.link is not None
        tunnel.link.receive(bytes([number]) * 60)
        near.until(lambda: len(other.cord.sent) == 1)
        assert other.cord.sent == [bytes([number]) * 60]
        other.end()
        near.until(lambda: not tunnel.link_up, other=False)
        for _ in range(50):
            near.turn()
        assert near.carrier == [True, False] * number
        other.come_again()


def test_it_is_called_less_and_less_often_and_at_once_again_after_it_was_there(
    near: Near, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnel, other = near.tunnel, near.other
    near.until(lambda: tunnel.joined == 1)
    other.end()
    near.until(lambda: tunnel.link is None, other=False)
    calls: list[int] = []
    call = tunnel._call

    def counted(now_ns: int) -> None:
        calls.append(now_ns)
        call(now_ns)

    monkeypatch.setattr(tunnel, "_call", counted)
    for _ in range(3000):
        near.turn()
    assert 8 < len(calls) < 14
    gaps = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert gaps == sorted(gaps)
    assert gaps[-1] <= LONGEST_BACK_OFF_NS + 30 * MS
    other.come_again()
    assert near.until(lambda: tunnel.joined == 2) <= LONGEST_BACK_OFF_NS + 100 * MS
    other.end()
    near.until(lambda: tunnel.link is None, other=False)
    other.come_again()
    assert near.until(lambda: tunnel.joined == 3) <= 200 * MS


def test_who_answers_and_never_says_hello_is_no_link(near: Near) -> None:
    """Its listener is there, and nobody accepts: the system answers for it."""
    tunnel, other = near.tunnel, near.other
    near.until(lambda: tunnel.joined == 1)
    other.end()
    near.until(lambda: tunnel.link is None, other=False)
    other.come_again()
    near.until(lambda: tunnel.link is not None, other=False)
    assert near.until(lambda: tunnel.link is None, other=False) >= SILENCE_NS - 20 * MS
    assert near.carrier == [True, False]
    near.until(lambda: tunnel.joined == 2)


def test_another_program_at_its_port_is_no_link(near: Near) -> None:
    tunnel, other = near.tunnel, near.other
    near.until(lambda: tunnel.joined == 1)
    other.end()
    near.until(lambda: tunnel.link is None, other=False)
    with socket.create_server(other.address) as stranger:
        near.until(lambda: tunnel.link is not None, other=False)
        connection = stranger.accept()[0]
        connection.sendall(b"SSH-2.0-OpenSSH_9.7\r\n")
        near.until(lambda: tunnel.link is None, other=False)
        connection.close()
    assert near.carrier == [True, False]
    other.come_again()
    near.until(lambda: tunnel.joined == 2)


def test_it_does_not_talk_to_itself() -> None:
    """Nobody listens at the port from which it happens to call."""
    other = Other()
    near = Near(other)
    near.until(lambda: near.tunnel.joined == 1)
    other.end()
    near.until(lambda: near.tunnel.link is None, other=False)
    with socket.socket() as itself:
        itself.bind(("127.0.0.1", 0))
        address = itself.getsockname()
        itself.connect(address)  # which succeeds
        near.tunnel._look(itself, near.now_ns)
        assert near.tunnel.link is None
    near.tunnel.close()


def test_nobody_there_at_the_beginning_is_said() -> None:
    other = Other()
    other.end()
    with pytest.raises(AdminError, match="no tunnel"):
        Near(other)


def test_nothing_is_called_any_more_when_it_is_closed(near: Near) -> None:
    other = near.other
    near.until(lambda: near.tunnel.joined == 1)
    other.end()
    other.come_again()
    near.tunnel.close()
    for _ in range(100):
        near.turn()
        other.poll()
    assert other.link is None
    assert near.carrier == [True, False]


def test_a_team_uses_the_other_card_meanwhile_and_switches_are_told() -> None:
    """vSwitch0 with two cards, each a tunnel; a machine's port leaves over the first one."""
    clock, log = VirtualClock(), EventLog(keep=True)
    network = HostNetwork("esx1", clock, log)
    others = [Other(), Other()]
    now_ns = [0]
    tunnels = []
    for number, other in enumerate(others):
        wire = Wire(clock)
        wire.b.link_changed(False)
        tunnels.append(RejoiningTunnel(wire.b, *other.address, wire.b.link_changed, lambda: now_ns[0]))
        network.add_nic(f"vmnic{number}", wire.a, mac(number + 1), "vSwitch0")
    Listener(network.switches.connect("VM Network", "web eth0", address=mac(9)), clock)
    network.add_vmkernel_port("vmk0", "VM Network", mac(8), bytes((10, 0, 0, 1)))

    def settle() -> None:
        for _ in range(200):
            now_ns[0] += 10 * MS
            for tunnel, other in zip(tunnels, others, strict=True):
                other.poll()
                tunnel.poll()
            clock.run_for(MS)
            time.sleep(0.0002)

    def told(other: Other) -> set[bytes]:
        """Whose place it has heard of by RARP."""
        return {frame[6:12] for frame in other.cord.sent if frame[12:14] == RARP.to_bytes(2, "big")}

    def card() -> str | None:
        return [event.to_nic for event in log.of(UplinkMoved) if event.mac == mac(9)][-1]

    assert not network.nics["vmnic0"].link_up, "nobody has said hello"
    settle()
    assert [nic.link_up for nic in network.nics.values()] == [True, True]
    used = card()
    lost = int(used == "vmnic1")
    assert mac(9) in told(others[lost])
    others[1 - lost].cord.sent.clear()
    others[lost].end()
    settle()
    assert [nic.link_up for nic in network.nics.values()] == [bool(lost), not lost]
    assert card() == f"vmnic{1 - lost}"
    assert told(others[1 - lost]) >= {mac(9)}, "its traffic has moved to the other card"
    others[lost].come_again()
    settle()
    assert [nic.link_up for nic in network.nics.values()] == [True, True]
    assert card() == used
    assert mac(9) in told(others[lost]), "and back, with word of it"
    assert list(network.nics) == ["vmnic0", "vmnic1"]
    for tunnel, other in zip(tunnels, others, strict=True):
        tunnel.close()
        other.end()
