"""A machine with the teaching kernel on one of the products, sending to a peer or receiving from it, and its account.

::

    netsend 10.0.0.9 5001 COUNT BYTES    guest ──> peer          a sample at each frame that the card has taken
    netsink 5001 COUNT                   guest <── peer          a sample at each frame that the card was given

    per packet = (last sample - first sample) / frames between them        the boot and the first few are left out

The same guest image, driver and emulated card in all of them; under ``native`` the engine is the bare processor.

MODEL: it cannot be suspended: frames between guest and wire, and the account, are in no record.

MODEL: one nanosecond a byte of guest code (vilab/clock), whatever the product. The paper's guest had a processor of its
own, of 733 MHz.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import Event, EventLog, Halted, InterruptDelivered
from vilab.guests.load import load
from vilab.host.hosted_product import ALL, COMBINING, NONE, PORTS, HostedProduct, Optimizations
from vilab.host.network_product import EsxProduct, GuestPort, NativeProduct, Product
from vilab.host.world_costs import WORLD_COSTS, WorldCosts
from vilab.host.world_switch import Key
from vilab.network.packets import ip_of
from vilab.network.peer import Datagram, Peer
from vilab.vmm.network import AttachedCard
from vilab.vmm.vm import QuietConsole, VirtualMachine

MEMORY_BYTES = 16 << 20
GUEST, PEER = bytes.fromhex("005056000005"), bytes.fromhex("005056000009")
GUEST_IP, PEER_IP = ip_of("10.0.0.5"), ip_of("10.0.0.9")
PORT = 5001
MOST_BYTES = 1472
ACK_EACH = 2
"""The peer answers every second datagram with an empty one, as a TCP acknowledges: the paper's workload is TCP."""
WARM_UP = 12
"""Frames before the first sample that counts: rings and queues are filled."""
SLICE_NS = 1_000_000
MOST_SLICES = 60_000
HEADERS_BYTES = 42
"""Ethernet, IP, UDP."""

ProductName = Literal["none", "ports", "combining", "flag", "esx", "native"]
HOSTED: dict[ProductName, Optimizations] = {"none": NONE, "ports": PORTS, "combining": COMBINING, "flag": ALL}
PRODUCTS: tuple[ProductName, ...] = (*HOSTED, "esx", "native")


class Sample(msgspec.Struct, frozen=True):
    """The account at one frame. ``frames``: how many there were so far. ``wire_ns``: when the wire is free again.
    ``idle_ns``: the guest was halted, and nobody else busy."""

    frames: int
    at_ns: int
    wire_ns: int
    idle_ns: int
    counts: dict[Key, int]
    accesses: dict[tuple[str, str, str], int]


class HostedMachine:
    """One machine, ready to run.

    Parameters
    ----------
    product : one of ``PRODUCTS``. options : other optimizations than the product's name says.
    lines : for the guest's shell.
    """

    def __init__(
        self, product: ProductName = "none", *lines: str, costs: WorldCosts = WORLD_COSTS, log: EventLog | None = None,
        options: Optimizations | None = None,
    ) -> None:  # fmt: skip
        if product not in PRODUCTS:
            raise AdminError(f"There is no product {product!r}; there are {', '.join(PRODUCTS)}.")
        self.log = log if log is not None else EventLog()
        self.console = QuietConsole("".join(f"{line}\n" for line in lines).encode())
        port, clock = GuestPort(), VirtualClock()
        self.vm = VirtualMachine(
            load("kernel-network", memory_bytes=MEMORY_BYTES), "bare" if product == "native" else "bt", MEMORY_BYTES,
            console=self.console, log=self.log, clock=clock, cards=(AttachedCard("vlance", port, GUEST),),
        )  # fmt: skip
        self.product: Product
        if product == "native":
            self.product = NativeProduct(self.vm, port, costs)
        elif product == "esx":
            self.product = EsxProduct(self.vm, port, costs)
        else:
            self.product = HostedProduct(self.vm, port, costs, options or HOSTED[product])
        self.peer = Peer(self.product.nic, PEER, PEER_IP)
        self.samples: list[Sample] = []
        self._sampled = 0
        self._receives = False
        self._idle_ns = 0
        self._halted: tuple[int, int] | None = None
        self.log.listen(self._hear)

    # --- running ------------------------------------------------------------------------------------------------------

    def send(self, count: int, size_bytes: int = MOST_BYTES, answer_each: int = ACK_EACH) -> None:
        """The guest sends datagrams as fast as it can. ``answer_each``: the peer answers each so manieth, 0: none."""
        got = 0

        def sink(_: Datagram) -> bytes | None:
            nonlocal got
            got += 1
            return b"" if answer_each and got % answer_each == 0 else None

        self.peer.services[PORT] = sink
        self.type(f"netsend 10.0.0.9 {PORT} {count} {size_bytes}")
        self.run_until(lambda: got >= count)
        self.vm.close()

    def receive(self, count: int, size_bytes: int = MOST_BYTES, pace_ns: int | None = None) -> int:
        """The peer sends datagrams, one each ``pace_ns`` (by default as fast as the wire takes them); how many the
        guest's program got."""
        self._receives = True
        self.type(f"netsink {PORT} {count} 20")
        self.run_until(lambda: f"netsink: port {PORT}\n" in self.console.said)
        clock, nic = self.vm.clock, self.product.nic
        body = bytes(4) + bytes(at % 256 for at in range(4, size_bytes))
        pace_ns = pace_ns or nic.back.time_ns(size_bytes + HEADERS_BYTES + 24)

        def next_one(number: int = 0) -> None:
            data = number.to_bytes(4, "big") + bytes((number + at) % 256 for at in range(4, size_bytes))
            self.peer.send_udp(GUEST_IP, PORT, 40000, data[: len(body)])
            if number + 1 < count:
                clock.at(clock.now_ns + pace_ns, lambda: next_one(number + 1))

        next_one()
        self.run_until(lambda: " missing between them\n" in self.console.said)
        said = self.console.said.rpartition("netsink: ")[2]
        self.vm.close()
        return int(said.split()[0])

    def type(self, line: str) -> None:
        self.run_until(lambda: self.console.said.endswith("shell> "))
        self.console.type(line)

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Raises ``AdminError``: the guest has ended, or does not come to that."""
        for _ in range(MOST_SLICES):
            if condition():
                return
            ended = self.vm.engine.run(self.vm.engine.now_ns() + SLICE_NS)
            if ended is not None:
                raise AdminError(f"The guest has ended before its time: {ended.sentence}")
        raise AdminError(f"The guest does not come to its end. It has said: {self.console.said[-200:]}")

    # --- the account --------------------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        engine, worlds = self.vm.engine, self.product.worlds
        if isinstance(event, Halted):
            engine.pay_port_accesses()
            self._halted = engine.now_ns(), worlds.charged_ns
            self.product.idle()
        elif isinstance(event, InterruptDelivered) and self._halted is not None:
            since_ns, charged_ns = self._halted
            self._idle_ns += max(0, event.at_ns - since_ns - (worlds.charged_ns - charged_ns))
            self._halted = None
        frames = self.product.frames_in if self._receives else self.product.frames_out
        if frames != self._sampled:
            self._sampled = frames
            self.samples.append(self.sample())

    def sample(self) -> Sample:
        worlds, nic = self.product.worlds, self.product.nic
        wire_ns = worlds.at_ns if self._receives else nic.out.free_ns
        return Sample(
            self._sampled, worlds.at_ns, wire_ns, self._idle_ns, dict(worlds.counts), dict(self.product.accesses)
        )
