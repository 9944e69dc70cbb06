"""What stands around an 82545EM in its tests: memory that ends, a port that remembers, a driver of a few lines.

::

    0x10000 receive ring      0x20000 transmit ring      0x40000 buffers of the receiver      0x90000 data to be sent
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from tests.devices.helpers import FakeConsole, run_to
from tests.devices.recording_port import RecordingPort
from tests.devices.scsi_bench import MEMORY_BYTES, Memory
from vilab.clock import VirtualClock
from vilab.devices import e1000_registers as regs
from vilab.devices.e1000_82545em import E1000
from vilab.devices.pc import Pc, PcState
from vilab.events import EventLog

SLOT = 24
ADDRESS = bytes.fromhex("005056000001")
PEER = bytes.fromhex("005056000002")
RX_RING, TX_RING, RX_BUFFERS, TX_DATA = 0x10000, 0x20000, 0x40000, 0x90000
BUFFER_BYTES = 2048
ON_ITS_WAY = b"on its way"
"""What the port has in its record: it has to come back."""
EOP, IFCS, IC, TSE, RS, DEXT, VLE, IDE = 1, 2, 4, 4, 8, 0x20, 0x40, 0x80
RECEIVE_USUAL = regs.RCTL_EN | regs.RCTL_BAM | regs.RCTL_SECRC

__all__ = ["MEMORY_BYTES", "Bench", "Memory"]


def legacy(gpa: int, size: int, command: int = EOP | IFCS | RS, cso: int = 0, css: int = 0, special: int = 0) -> bytes:
    return struct.pack("<QHBBBBH", gpa, size, cso, command, 0, css, special)


def data(gpa: int, size: int, command: int = EOP | IFCS | RS, options: int = 0, special: int = 0) -> bytes:
    return struct.pack("<QIBBH", gpa, size | 1 << 20 | (command | DEXT) << 24, 0, options, special)


def context(
    ip: tuple[int, int, int], tcp: tuple[int, int, int], command: int, payload: int = 0, header: int = 0, mss: int = 0
) -> bytes:
    return struct.pack("<BBHBBHIBBH", *ip, *tcp, payload | (command | DEXT) << 24, 0, header, mss)


class Received(msgspec.Struct, frozen=True):
    """A receive descriptor, and the bytes in its buffer."""

    data: bytes
    checksum: int
    status: int
    errors: int
    special: int


class Bench:
    """A PC with one card, up and running unless ``start`` is false; its windows are where the firmware puts them."""

    io, window = 0x1C00, 0xE880_0000

    def __init__(self, memory: Memory | None = None, start: bool = True, port: RecordingPort | None = None) -> None:
        self.clock, self.log = VirtualClock(), EventLog(keep=True)
        self.memory, self.port = memory or Memory(), port or RecordingPort(arriving=ON_ITS_WAY)
        self.pc = Pc(
            self.clock, self.log, FakeConsole(), MEMORY_BYTES, memory=self.memory,
            cards=[("e1000", self.port, ADDRESS, b"")],
        )  # fmt: skip
        self.pc.assign_pci()
        card = self.pc.cards[SLOT]
        assert isinstance(card, E1000)
        self.card = card
        self.taken = 0
        if start:
            self.start()

    @property
    def line(self) -> bool:
        return bool(self.pc.isa_bridge.asserted[SLOT - 1 & 3])

    def read(self, register: int) -> int:
        return self.pc.read_mmio(self.window + register, 4)

    def write(self, register: int, value: int) -> None:
        self.pc.write_mmio(self.window + register, 4, value)

    def wait(self, ns: int) -> None:
        run_to(self.clock, self.clock.now_ns + ns)

    def settle(self) -> None:
        self.wait(100_000_000)

    def start(self, rx: int = 64, tx: int = 64, rctl: int = RECEIVE_USUAL, buffer: int = BUFFER_BYTES) -> None:
        """Link up, both rings, all receive descriptors but one the device's."""
        self.write(regs.CTRL, regs.CTRL_SLU | regs.CTRL_FD)
        for at, ring, size in ((regs.RDBAL, RX_RING, rx), (regs.TDBAL, TX_RING, tx)):
            for offset, value in ((0, ring), (4, 0), (8, size * 16), (0x10, 0), (0x18, 0)):
                self.write(at + offset, value)
        for number in range(rx):
            self.memory.write(RX_RING + 16 * number, struct.pack("<QQ", RX_BUFFERS + buffer * number, 0))
        self.taken = 0
        self.write(regs.RCTL, rctl)
        self.write(regs.RDT, rx - 1)
        self.write(regs.TCTL, regs.TCTL_EN | regs.TCTL_PSP)
        self.read(regs.ICR)

    def send(self, *descriptors: bytes, settle: bool = True) -> None:
        """Put descriptors into the ring behind those that are there."""
        tail, size = self.read(regs.TDT), self.read(regs.TDBAL + 8) // 16
        for each in descriptors:
            self.memory.write(TX_RING + 16 * tail, each)
            tail = (tail + 1) % size
        self.write(regs.TDT, tail)
        if settle:
            self.settle()

    def send_frame(self, frame: bytes, settle: bool = True) -> None:
        self.memory.write(TX_DATA, frame)
        self.send(legacy(TX_DATA, len(frame)), settle=settle)

    def arrive(self, *frames: bytes, settle: bool = True) -> None:
        for frame in frames:
            self.card.receive(frame)
        if settle:
            self.settle()

    def received(self, give_back: bool = True) -> list[Received]:
        """What the driver finds in its ring; the descriptors are the device's again."""
        found, size = [], self.read(regs.RDBAL + 8) // 16
        while True:
            at = RX_RING + 16 * self.taken
            address, length, checksum, status, errors, special = struct.unpack("<QHHBBH", self.memory.read(at, 16))
            if not status & 1:
                return found
            content = self.memory.read(address, length) if length else b""
            found.append(Received(content, checksum, status, errors, special))
            self.memory.write(at + 8, bytes(8))
            if give_back:
                self.write(regs.RDT, self.taken)
            self.taken = (self.taken + 1) % size

    def moved(self) -> Bench:
        """The same machine elsewhere: memory, time and the whole state as bytes."""
        other = Bench(self.memory, start=False, port=RecordingPort(link_up=self.port.link_up))
        other.clock.forget_all(self.clock.now_ns)
        other.pc.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(self.pc.save_state()), type=PcState))
        assert other.port.arriving == self.port.arriving
        other.taken = self.taken
        return other


def frame_of(
    destination: bytes = ADDRESS, source: bytes = PEER, size: int = 60, kind: int = 0x88B5, fill: int = 0
) -> bytes:
    body = bytes((fill + n) & 0xFF for n in range(size - 14))
    return destination + source + kind.to_bytes(2, "big") + body


def words_sum(content: bytes) -> int:
    """RFC 1071 as it is written there: word by word, carries brought back."""
    total = 0
    for at in range(0, len(content), 2):
        total += int.from_bytes(content[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ipv4(protocol: int, segment: bytes, *, identification: int = 1, checksum: bool = True, flags: int = 0) -> bytes:
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), identification, flags, 64, protocol, 0,
        bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)),
    )  # fmt: skip
    if checksum:
        header = header[:10] + (~words_sum(header) & 0xFFFF).to_bytes(2, "big") + header[12:]
    return header + segment


def pseudo_header(packet: bytes, with_length: bool = True) -> bytes:
    """For a checksum over an IPv4 packet's TCP or UDP."""
    return packet[12:20] + bytes((0, packet[9])) + (len(packet) - 20 if with_length else 0).to_bytes(2, "big")


def checksums_are_right(packet: bytes) -> bool:
    """Of an IPv4 packet with TCP or UDP and no options."""
    length = int.from_bytes(packet[2:4], "big")
    packet = packet[:length]
    return words_sum(packet[:20]) == 0xFFFF and words_sum(pseudo_header(packet) + packet[20:]) == 0xFFFF


def texts(values: Sequence[int]) -> list[str]:
    return [hex(value) for value in values]
