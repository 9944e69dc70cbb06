"""A TAP device: the Linux underneath and a small host of this network talk to each other through switches.

::

    network namespace of its own                      vilab
    TAP device: 10.9.0.1, ping ── Tap ── physical switch ── wire ── vmnic0 ── vSwitch ── cable ── Peer 10.9.0.2

The tests with a real device are skipped where none can be made, also where tools are required: it is a right that they
need, not a package. Their twin runs everywhere, on a pair of sockets that keep frames apart as the device does.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.network.ends import mac, numbered
from tests.network.namespace import Namespace, tap_or_skip
from tests.network.test_peer import Cord
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network import tap as tap_module
from vilab.network.cable import VirtualCable
from vilab.network.ethernet import BROADCAST
from vilab.network.packets import ip_of
from vilab.network.peer import Peer
from vilab.network.physical_nic import PhysicalNic
from vilab.network.physical_port import Access, Trunk
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.policies import Policies, TeamingPolicy
from vilab.network.tap import Tap, open_tap
from vilab.network.teams import Teams
from vilab.network.virtual_switch import VirtualSwitch
from vilab.network.wire import Wire

LINUX_IP, MACHINE_IP = ip_of("10.9.0.1"), ip_of("10.9.0.2")


class Network:
    """Everything of the picture from the physical switch on; ``file`` is what Linux is behind."""

    def __init__(self, file: int, vlan: int = 10, linux_vlan: int = 10) -> None:
        self.clock, log = VirtualClock(), EventLog()
        clock = self.clock
        self.switch = PhysicalSwitch("sw", clock, {"linux": Access(linux_vlan), "host": Trunk()})
        self.tap = Tap(self.switch.port("linux"), file)
        wire = Wire(clock)
        self.switch.connect("host", wire.b)
        teams = Teams("host1/vSwitch0", clock, log)
        self.virtual = teams.switch = VirtualSwitch("vSwitch0", clock, log, teams)
        self.virtual.set_policies(Policies(teaming=TeamingPolicy(active=("vmnic0",))))
        self.virtual.add_port_group("vms", vlan)
        self.virtual.add_uplink(PhysicalNic("vmnic0", mac(0xF0), wire.a, clock))
        port = self.virtual.connect("vms", "vm1", address=mac(2))
        self.machine = Peer(VirtualCable(port, clock, clock), mac(2), MACHINE_IP)

    def turn(self, wait_s: float = 0.001) -> None:
        """Wait for Linux a little; then this network does what is to be done."""
        select.select([self.tap], [], [], wait_s)
        self.tap.poll()
        self.clock.run_for(1_000_000)

    def serve(self, command: list[str], timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command of Linux, and this network beside it."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            until = time.monotonic() + timeout_s
            while process.poll() is None:
                self.turn()
                if time.monotonic() > until:
                    process.kill()
                    break
            output, _ = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, output)


# --- the twin: no device, no rights -----------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    """Two files; each read and write is a whole frame, as with the device."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    files = first.detach(), second.detach()
    yield files
    for file in files:
        with contextlib.suppress(OSError):
            os.close(file)


def test_two_hosts_reach_each_other_through_a_file_and_two_switches(pair: tuple[int, int]) -> None:
    network = Network(pair[0])
    cord = Cord()
    far = Tap(cord, pair[1])
    linux = Peer(cord, mac(1), LINUX_IP)  # takes the place of the tap at the cord,
    cord.transmit = far.receive  # type: ignore[method-assign]  # which carries frames to the file instead
    far.port = _Into(linux)
    for sequence in range(3):
        linux.ping(MACHINE_IP, sequence)
        for _ in range(5):
            network.turn(0)
            far.poll()
    assert [reply.sequence for reply in linux.replies] == [0, 1, 2]
    network.machine.ping(LINUX_IP)
    for _ in range(5):
        network.turn(0)
        far.poll()
    assert len(network.machine.replies) == 1
    assert network.tap.statistics.frames_in == far.statistics.frames_out
    assert (network.tap.statistics.dropped, far.statistics.dropped) == (0, 0)


class _Into(Cord):
    """A port behind which there is one host."""

    def __init__(self, host: Peer) -> None:
        super().__init__()
        self._host = host

    def transmit(self, frame: bytes) -> None:
        self._host.receive(frame)


def test_a_full_file_drops_frames_and_a_closed_one_is_silent(pair: tuple[int, int]) -> None:
    tap = Tap(Cord(), pair[0])
    for number in range(5000):
        tap.receive(numbered(number, BROADCAST, mac(1), 1514))
    assert tap.statistics.dropped > 0
    assert tap.statistics.frames_out + tap.statistics.dropped == 5000
    tap.close()
    tap.close()
    tap.receive(numbered(0, BROADCAST, mac(1)))
    assert (tap.poll(), tap.fileno()) == (0, -1)


def test_a_poll_ends_even_if_frames_keep_coming(pair: tuple[int, int]) -> None:
    cord = Cord()
    tap, far = Tap(cord, pair[0]), Tap(Cord(), pair[1])
    for number in range(20):
        far.receive(numbered(number, BROADCAST, mac(1)))
    assert [tap.poll(max_frames=8) for _ in range(4)] == [8, 8, 4, 0]
    assert len(cord.sent) == 20


@pytest.mark.parametrize("name", ["", "a" * 16, "../x", "a b", "é"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(AdminError, match="no name for a TAP device"):
        open_tap(name)


def test_without_the_right_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "CAP_NET_ADMIN", 63)  # a capability that nobody has
    with pytest.raises(AdminError, match=r"CAP_NET_ADMIN|/dev/net/tun"):
        open_tap("vilabtap")


# --- the real device --------------------------------------------------------------------------------------------------


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    tap_or_skip()
    with Namespace(f"vilab{os.getpid()}") as it:
        yield it


@pytest.mark.interop
def test_linux_pings_a_machine_behind_both_switches(namespace: Namespace) -> None:
    network = Network(namespace.file)
    run = network.serve(namespace.inside("ping", "-c", "3", "-i", "0.2", "-W", "5", "10.9.0.2"))
    assert "3 packets transmitted, 3 received, 0% packet loss" in run.stdout, run.stdout
    assert network.machine.statistics.echoes_answered == 3
    large = network.serve(namespace.inside("ping", "-c", "1", "-s", "1472", "-W", "5", "10.9.0.2"))
    assert " 0% packet loss" in large.stdout, large.stdout
    neighbour = subprocess.run(["ip", "-n", namespace.name, "neigh"], capture_output=True, text=True, check=True)
    assert f"10.9.0.2 dev {namespace.device} lladdr 02:00:00:00:00:02" in neighbour.stdout


@pytest.mark.interop
def test_a_machine_pings_linux(namespace: Namespace) -> None:
    network = Network(namespace.file)
    network.machine.ping(LINUX_IP, sequence=7)
    for _ in range(200):
        network.turn(0.005)
        if network.machine.replies:
            break
    assert [reply.sequence for reply in network.machine.replies] == [7]


@pytest.mark.interop
def test_in_another_vlan_nobody_answers(namespace: Namespace) -> None:
    network = Network(namespace.file, vlan=20)
    run = network.serve(namespace.inside("ping", "-c", "2", "-i", "0.2", "-W", "1", "10.9.0.2"))
    assert "100% packet loss" in run.stdout, run.stdout
    assert network.machine.statistics.frames_in == 0
    assert network.switch.port("linux").statistics.frames_in > 0, "Linux has asked"


@pytest.mark.interop
def test_linux_hears_that_a_port_is_closed_and_that_tcp_is_refused(namespace: Namespace) -> None:
    network = Network(namespace.file)
    program = (
        "import socket\n"
        "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.settimeout(5); udp.connect(('10.9.0.2', 7))\n"
        "udp.send(b'again'); print(udp.recv(100))\n"
        "udp.connect(('10.9.0.2', 9)); udp.send(b'nobody')\n"
        "for attempt in (lambda: udp.recv(1), lambda: socket.create_connection(('10.9.0.2', 80), 5)):\n"
        "    try: attempt()\n"
        "    except OSError as error: print(type(error).__name__)\n"
    )
    run = network.serve(namespace.inside(shutil.which("python3") or "python3", "-c", program))
    assert run.stdout.splitlines() == ["b'again'", "ConnectionRefusedError", "ConnectionRefusedError"]
