"""A Debian guest with network cards that a test talks to, and a port that the test is at the other end of.

::

    guest ── card ── VirtualCable ── TestPort ── frames that the guest has sent, and ``answer`` for what is sent back
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.vmm.disk_session import DiskSession
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.guests import debian
from vilab.network.cable import VirtualCable
from vilab.protocols import NetworkInterface
from vilab.vmm.choices import usual_for
from vilab.vmm.network import AttachedCard
from vilab.vmm.runner import RunOptions, choose
from vilab.vmm.vm import QuietConsole, VirtualMachine

GUEST_ADDRESS = bytes.fromhex("005056000001")


class TestPort:
    """A port with a test behind it.

    ``sent``: frames from the guest. ``answer``: for each of them, frames that come back. ``listens``: what the driver
    has said, newest last.
    """

    __test__ = False

    def __init__(self, answer: Callable[[bytes], Sequence[bytes]] = lambda frame: ()) -> None:
        self.sent: list[bytes] = []
        self.listens: list[tuple[bytes, bool]] = []
        self.answer = answer
        self.link_up = True
        self.interface: NetworkInterface | None = None

    def plug(self, interface: NetworkInterface) -> None:
        self.interface = interface

    def listen(self, address: bytes, promiscuous: bool) -> None:
        self.listens.append((address, promiscuous))

    def transmit(self, frame: bytes) -> None:
        self.sent.append(frame)
        for each in self.answer(frame):
            self.send(each)

    def send(self, frame: bytes) -> None:
        """To the guest."""
        assert self.interface is not None
        self.interface.receive(frame)

    def pull(self, up: bool) -> None:
        """The cable: out, or in again."""
        self.link_up = up
        assert self.interface is not None
        self.interface.link_changed(up)

    def save_state(self) -> bytes:
        return b""

    def load_state(self, state: bytes) -> None:
        assert state == b""


class NetworkSession(DiskSession):
    """``ports``: behind the cards, in their order; the cards are eth0, eth1, ..., their drivers are loaded."""

    ports: list[TestPort]

    @classmethod
    def boot_with(
        cls, engine: str, kinds: Sequence[str], ports: Sequence[TestPort] | None = None, log: EventLog | None = None
    ) -> NetworkSession:
        """Up to the first prompt."""
        chosen = choose(RunOptions(debian.NAME, engine, cards=tuple(kinds)))
        console, clock = QuietConsole(), VirtualClock()
        options = usual_for(chosen.image.kind, engine, {})
        ports = [TestPort() for _ in kinds] if ports is None else list(ports)
        cards = [
            AttachedCard(kind, VirtualCable(port, clock, clock), GUEST_ADDRESS[:5] + bytes([1 + number]))
            for number, (kind, port) in enumerate(zip(kinds, ports, strict=True))
        ]
        vm = VirtualMachine(
            chosen.image, engine, chosen.memory_bytes, console=console, engine_options=options, cards=cards,
            clock=clock, log=log,
        )  # fmt: skip
        session = cls(vm, console, options)
        session.ports = list(ports)
        session._to_prompt()
        session.run("dmesg -n 1")
        return session
