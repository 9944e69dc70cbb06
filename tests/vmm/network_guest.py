"""A guest with the teaching kernel and a PCnet card, and what is at the other end of the card's cable.

::

    guest 10.0.0.5 ── vlance ── VirtualCable ── RecordingPort ── Peer 10.0.0.9, or whatever ``answer`` is
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.devices.recording_port import RecordingPort
from tests.guests.network_peer import Peer, dotted
from tests.vmm.disk_guest import BOOTED, ENGINES, MEMORY_BYTES
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.guests.load import load
from vilab.network.cable import VirtualCable
from vilab.protocols import BlockDevice
from vilab.storage.scsi.state import Identity
from vilab.vmm.network import AttachedCard
from vilab.vmm.scsi_disks import AttachedDisk, ScsiAdapter
from vilab.vmm.vm import QuietConsole, VirtualMachine

GUEST, GUEST_IP = bytes.fromhex("005056000005"), dotted("10.0.0.5")
PEER, PEER_IP = bytes.fromhex("005056000009"), dotted("10.0.0.9")
PROMPT = "shell> "


class NetworkGuest:
    """``image``: a kernel-network. ``lines``: for its shell. ``peer``: answers unless ``answer`` is given."""

    def __init__(
        self, *lines: str, engine: str = "bare", append: str = "", address: bytes = GUEST, log: EventLog | None = None,
        answer: Callable[[bytes], Sequence[bytes]] | None = None, disks: Sequence[BlockDevice] = (),
        image: str = "kernel-network", memory_bytes: int = MEMORY_BYTES,
    ) -> None:  # fmt: skip
        name, options = ENGINES[engine]
        loaded = load(image, memory_bytes=memory_bytes, append=append, paravirtual=name == "para" and "/" not in image)
        self.console = QuietConsole("".join(f"{line}\n" for line in lines).encode())
        self.peer = Peer(PEER, PEER_IP)
        self.port = RecordingPort(answer or self.peer.answer)
        clock = VirtualClock()
        self.cable = VirtualCable(self.port, clock, clock)
        attached = tuple(AttachedDisk(n, disk, Identity(f"disk{n}")) for n, disk in enumerate(disks))
        self.vm = VirtualMachine(
            loaded, name, memory_bytes, console=self.console, log=log, engine_options=options, clock=clock,
            cards=(AttachedCard("vlance", self.cable, address),),
            adapters=(ScsiAdapter("lsilogic", attached),) if disks else (),
        )  # fmt: skip

    @property
    def output(self) -> str:
        return self.console.said

    def run(self) -> str:
        """Until it has switched itself off; what it said after the boot."""
        ended = self.vm.engine.run()
        assert ended is not None
        assert ended.reason == "powered_off", self.output
        return self.output.partition(BOOTED)[2]

    def slice(self, ns: int) -> bool:
        """Run on for a moment; whether it has switched itself off."""
        ended = self.vm.engine.run(self.vm.engine.now_ns() + ns)
        assert ended is None or ended.reason == "powered_off", (ended, self.output)
        return ended is not None

    def run_until(self, condition: Callable[[], bool], step_ns: int = 100_000, most_steps: int = 100_000) -> None:
        for _ in range(most_steps):
            if condition():
                return
            assert not self.slice(step_ns), self.output
        raise AssertionError(f"it has not come to that: {self.output[-2000:]}")

    def to_prompt(self) -> None:
        self.run_until(lambda: self.output.endswith(PROMPT), 1_000_000)
