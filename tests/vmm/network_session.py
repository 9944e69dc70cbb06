"""A Debian guest with network cards that a test talks to, and a port that the test is at the other end of.

::

    guest ── card ── VirtualCable ── RecordingPort ── what the guest has sent; answers
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.devices.recording_port import RecordingPort
from tests.vmm.disk_session import DiskSession
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.guests import debian
from vilab.network.cable import VirtualCable
from vilab.vmm.choices import usual_for
from vilab.vmm.network import AttachedCard
from vilab.vmm.runner import RunOptions, choose
from vilab.vmm.vm import QuietConsole, VirtualMachine

GUEST_ADDRESS = bytes.fromhex("005056000001")


class NetworkSession(DiskSession):
    """``ports``: behind the cards, in their order; the cards are eth0, eth1, ..., their drivers are loaded."""

    ports: list[RecordingPort]

    @classmethod
    def boot_with(
        cls,
        engine: str,
        kinds: Sequence[str],
        ports: Sequence[RecordingPort] | None = None,
        log: EventLog | None = None,
    ) -> NetworkSession:
        """Up to the first prompt."""
        chosen = choose(RunOptions(debian.NAME, engine, cards=tuple(kinds)))
        console, clock = QuietConsole(), VirtualClock()
        options = usual_for(chosen.image.kind, engine, {})
        ports = [RecordingPort() for _ in kinds] if ports is None else list(ports)
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
