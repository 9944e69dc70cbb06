"""What stands around a PCnet card in its tests: memory that ends, a port that remembers, and a driver.

::

    0x1000  initialization block      0x2000  receive ring      0x4000  transmit ring      0x8000  buffers
"""

from __future__ import annotations

import struct

from tests.devices.helpers import FakeConsole, run_to
from tests.devices.recording_port import RecordingPort
from tests.devices.scsi_bench import MEMORY_BYTES, Memory
from vilab.clock import VirtualClock
from vilab.devices.network_events import FrameRefused
from vilab.devices.pc import Pc
from vilab.events import EventLog

SLOT = 24
ADDRESS = bytes.fromhex("005056000001")
OTHER = bytes.fromhex("005056000002")
BROADCAST = b"\xff" * 6
BLOCK, RECEIVE_RING, TRANSMIT_RING, BUFFERS = 0x1000, 0x2000, 0x4000, 0x8000
BUFFER_BYTES = 1536
OWN, ERR, STP, ENP = 1 << 31, 1 << 30, 1 << 25, 1 << 24


def frame(destination: bytes = ADDRESS, size_bytes: int = 60, kind: int = 0x0800) -> bytes:
    """Its data are different at each place."""
    data = bytes(at * 7 + 3 & 0xFF for at in range(size_bytes - 14))
    return destination + OTHER + kind.to_bytes(2, "big") + data


class Bench:
    """A PC with one card; its windows are where the firmware puts them."""

    def __init__(self, memory: Memory | None = None, port: RecordingPort | None = None) -> None:
        self.clock, self.log = VirtualClock(), EventLog(keep=True)
        self.memory, self.port = memory or Memory(), port or RecordingPort()
        self.pc = Pc(
            self.clock, self.log, FakeConsole(), MEMORY_BYTES, memory=self.memory,
            cards=[("vlance", self.port, ADDRESS, b"")],
        )  # fmt: skip
        self.pc.assign_pci()
        self.card = self.pc.cards[SLOT]
        self.config_write(4, 7)
        self.io, self.window = (self.card.get(0x10 + 4 * at, 4) & ~0xF for at in range(2))

    def config_write(self, offset: int, value: int, size_bytes: int = 2) -> None:
        self.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | offset & ~3)
        self.pc.write_port(0xCFC + (offset & 3), size_bytes, value)

    @property
    def line(self) -> bool:
        """Is the card's interrupt pin held?"""
        return bool(self.pc.isa_bridge.asserted[SLOT - 1 & 3])

    def wait(self, ns: int = 20_000) -> None:
        """Longer than the card's processor takes, shorter than it waits to look at the ring by itself."""
        run_to(self.clock, self.clock.now_ns + ns)


class Driver:
    """Registers through the I/O window in word mode; rings in the form that ``style`` says."""

    def __init__(self, bench: Bench, style: int = 2) -> None:
        self.bench, self.pc, self.memory = bench, bench.pc, bench.memory
        self.style = style
        self.size = 8 if style == 0 else 16

    def read(self, offset: int, size_bytes: int = 2) -> int:
        return self.pc.read_port(self.bench.io + offset, size_bytes)

    def write(self, offset: int, value: int, size_bytes: int = 2) -> None:
        self.pc.write_port(self.bench.io + offset, size_bytes, value)

    def csr(self, number: int) -> int:
        self.write(0x12, number)
        return self.read(0x10)

    def set_csr(self, number: int, value: int) -> None:
        self.write(0x12, number)
        self.write(0x10, value)

    def bcr(self, number: int) -> int:
        self.write(0x12, number)
        return self.read(0x16)

    def set_bcr(self, number: int, value: int) -> None:
        self.write(0x12, number)
        self.write(0x16, value)

    # --- rings ----------------------------------------------------------------

    def block(
        self, mode: int = 0, receive: int = 2, transmit: int = 2, groups: int = 0, address: bytes = ADDRESS
    ) -> bytes:
        """``receive``, ``transmit``: logarithms of how many descriptors there are."""
        if self.style == 0:
            rings = RECEIVE_RING | receive << 29, TRANSMIT_RING | transmit << 29
            return struct.pack("<H6sQII", mode, address, groups, *rings)
        lengths = receive << 4 | transmit << 12
        return struct.pack("<HH6s2xQII", mode, lengths, address, groups, RECEIVE_RING, TRANSMIT_RING)

    def start(self, mode: int = 0, receive: int = 2, transmit: int = 2, groups: int = 0, command: int = 0x43) -> None:
        """Reset, initialize, start; every receive descriptor has a buffer."""
        self.read(0x14)
        self.set_bcr(20, self.style)
        self.memory.write(BLOCK, self.block(mode, receive, transmit, groups))
        for at in range(1 << receive):
            self.put(RECEIVE_RING, at, OWN, BUFFERS + at * BUFFER_BYTES, BUFFER_BYTES)
        for at in range(1 << transmit):
            self.put(TRANSMIT_RING, at, 0, 0, 1)
        self.set_csr(1, BLOCK)
        self.set_csr(2, 0)
        self.set_csr(0, command)
        self.bench.wait()

    def put(self, ring: int, at: int, status: int, buffer: int, size_bytes: int) -> None:
        """``status`` at the bits of the 32-bit form."""
        count = -size_bytes & 0xFFF | 0xF000
        if self.style == 0:
            raw = struct.pack("<HHHH", buffer & 0xFFFF, status >> 16 & 0xFF00 | buffer >> 16 & 0xFF, count, 0)
        else:
            words = [buffer, status | count, 0, 0x1234]
            if self.style == 3:
                words[0], words[2] = words[2], words[0]
            raw = struct.pack("<IIII", *words)
        self.memory.write(ring + at * self.size, raw)

    def get(self, ring: int, at: int) -> tuple[int, int]:
        """(status at the bits of the 32-bit form, message)."""
        raw = self.memory.read(ring + at * self.size, self.size)
        if self.style == 0:
            _, status, _, message = struct.unpack("<HHHH", raw)
            return (status & 0xFF00) << 16, message
        words = struct.unpack("<IIII", raw)
        assert words[3] == 0x1234
        return words[1] & 0xFFFF_0000, words[0 if self.style == 3 else 2]

    def send(self, at: int, *parts: bytes, status: int = 0, of: int = 4) -> None:
        """A frame in as many descriptors as parts, the first one is given away last."""
        gpa = BUFFERS + 0x4000
        for index, part in reversed(list(enumerate(parts))):
            ends = (STP if index == 0 else 0) | (ENP if index == len(parts) - 1 else 0)
            place = gpa + (at + index) % of * BUFFER_BYTES
            self.memory.write(place, part)
            self.put(TRANSMIT_RING, (at + index) % of, OWN | ends | status, place, len(part))
        self.set_csr(0, 0x48)
        self.bench.wait()

    def received(self, at: int) -> bytes:
        """What is in a receive buffer, with the FCS; its descriptor has to be the whole frame's."""
        status, message = self.get(RECEIVE_RING, at)
        assert status & (OWN | ERR | STP | ENP) == STP | ENP, hex(status)
        return self.memory.read(BUFFERS + at * BUFFER_BYTES, message & 0xFFF)


def started(bench: Bench, style: int = 2, **how: int) -> Driver:
    driver = Driver(bench, style)
    driver.start(**how)
    return driver


def refusals(bench: Bench) -> list[tuple[bool, str]]:
    """Was it received, and why was it refused?"""
    return [(event.received, event.why) for event in bench.log.of(FrameRefused)]
