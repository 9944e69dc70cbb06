"""A driver for vmxnet3 in a few lines, and what it can drive: vilab's card, and QEMU's.

It writes its structures with offsets of its own, from the header of Linux's driver, and keeps the driver's rules: the
generation bit of a packet's first descriptor is turned last, and TXPROD is written when *deferred* reaches *threshold*.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tests.devices.helpers import FakeConsole, run_to
from tests.devices.recording_port import RecordingPort
from tests.devices.scsi_bench import MEMORY_BYTES, Memory
from vilab.clock import VirtualClock
from vilab.devices.pc import Pc
from vilab.devices.vmxnet3 import Vmxnet3
from vilab.events import EventLog

SLOT = 24
WINDOW = 0xE880_0000
ADDRESS = bytes.fromhex("005056000001")
PEER = bytes.fromhex("0050560000fe")

SHARED, QUEUES, GROUPS, TX, TX_DATA, TX_DONE = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x8000
RX1, RX2, RX_DONE, RX_DATA, EXTRA = 0x9000, 0xA000, 0xB000, 0xC000, 0xF000
TX_BUFFERS, RX1_BUFFERS, RX2_BUFFERS = 0x10000, 0x40000, 0x80000
TX_ENTRIES, RX1_ENTRIES, RX2_ENTRIES = 64, 64, 32
DONE_ENTRIES = RX1_ENTRIES + RX2_ENTRIES
HEAD_BYTES, PAGE = 1536, 4096

VRRS, UVRS, DSAL, DSAH, CMD, MACL, MACH, ICR, ECR = range(0, 0x48, 8)
ACTIVATE, QUIESCE, RESET, RX_MODE, MAC_FILTERS, VLAN_FILTERS = range(0xCAFE0000, 0xCAFE0006)
FEATURE, SET_COALESCE = 0xCAFE0009, 0xCAFE000E
QUEUE_STATUS, STATS, LINK, PERM_LO, PERM_HI, DID_LO, DID_HI, EXTRA_INFO, CONF_INTR = range(0xF00D0000, 0xF00D0009)
TXDATA_SIZE, GET_COALESCE = 0xF00D000A, 0xF00D000B
UCAST, MCAST, BCAST, ALL_MULTI, PROMISC = 1, 2, 4, 8, 16
F_CSUM, F_VLAN = 1, 4
LINK_UP = 10_000 << 16 | 1


class Machine(Protocol):
    """What the driver needs of a machine. ``sent``: frames that have left it so far."""

    window: int

    def load(self, address: int) -> int: ...

    def store(self, address: int, value: int) -> None: ...

    def read(self, gpa: int, size_bytes: int) -> bytes: ...

    def write(self, gpa: int, data: bytes) -> None: ...

    def settle(self) -> None: ...


class Bench:
    """A PC of vilab's with one card."""

    window = WINDOW

    def __init__(self, memory: Memory | None = None, port: RecordingPort | None = None) -> None:
        self.clock, self.log = VirtualClock(), EventLog(keep=True)
        self.memory, self.port = memory or Memory(), port or RecordingPort()
        self.pc = Pc(
            self.clock, self.log, FakeConsole(), MEMORY_BYTES, memory=self.memory,
            cards=[("vmxnet3", self.port, ADDRESS, b"")],
        )  # fmt: skip
        self.pc.assign_pci()
        card = self.pc.cards[SLOT]
        assert isinstance(card, Vmxnet3)
        self.card = card
        self.wait(1000)

    @property
    def line(self) -> bool:
        return bool(self.pc.isa_bridge.asserted[SLOT - 1 & 3])

    def load(self, address: int) -> int:
        return self.pc.read_mmio(address, 4)

    def store(self, address: int, value: int) -> None:
        """With what is due before the processor's next block of code."""
        self.pc.write_mmio(address, 4, value)
        run_to(self.clock, self.clock.now_ns)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return self.memory.read(gpa, size_bytes)

    def write(self, gpa: int, data: bytes) -> None:
        self.memory.write(gpa, data)

    def wait(self, ns: int) -> None:
        run_to(self.clock, self.clock.now_ns + ns)

    def settle(self) -> None:
        self.wait(2_000_000)


class Received(NamedTuple):
    """A frame as the driver gets it. ``bits``: the fourth word of its last completion without the generation."""

    frame: bytes
    tag: int | None
    bits: int
    unchecked: bool
    error: bool
    rings: tuple[int, ...]


class Driver:
    """``threshold_seen``: what the card wanted when the last packet was handed over."""

    def __init__(self, machine: Machine, version: int = 1) -> None:
        self.machine, self.version = machine, version
        self.kicks = 0
        self._restart()

    def _restart(self) -> None:
        self.tx_next, self.tx_gen, self.tx_done, self.tx_done_gen = 0, 1, 0, 1
        self.rx_done, self.rx_done_gen = 0, 1
        self.fill, self.gen = [RX1_ENTRIES - 1, RX2_ENTRIES - 1], [1, 1]

    # Registers

    def get(self, register: int) -> int:
        return self.machine.load(self.machine.window + 0x1000 + register)

    def put(self, register: int, value: int) -> None:
        self.machine.store(self.machine.window + 0x1000 + register, value)

    def data(self, register: int, value: int) -> None:
        self.machine.store(self.machine.window + register, value)

    def command(self, number: int) -> int:
        self.put(CMD, number)
        return self.get(CMD)

    # Memory

    def u32(self, gpa: int) -> int:
        return int.from_bytes(self.machine.read(gpa, 4), "little")

    def put_u32(self, gpa: int, value: int) -> None:
        self.machine.write(gpa, value.to_bytes(4, "little"))

    # Setting up

    def shared(
        self, features: int = F_CSUM | F_VLAN, mtu: int = 1500, auto_mask: bool = True, tx_queues: int = 1
    ) -> bytearray:
        data = bytearray(720)
        struct.pack_into("<I", data, 0, 0xBABEFEE1)
        struct.pack_into("<IIII", data, 8, 0x01070000, 0x1 | 1 << 2, 1, 1)
        struct.pack_into("<QQQIIIHBB", data, 24, features, 0, QUEUES, 0, 256 * (tx_queues + 1), mtu, 0, tx_queues, 1)
        struct.pack_into("<BBB", data, 80, auto_mask, 1, 0)
        return data

    def tx_queue(self) -> bytearray:
        data = bytearray(256)
        struct.pack_into("<QQQQQIII", data, 16, TX, TX_DATA, TX_DONE, 0, 0, TX_ENTRIES, TX_ENTRIES, TX_ENTRIES)
        return data

    def rx_queue(self, data_bytes: int = 0) -> bytearray:
        data = bytearray(256)
        sizes = RX1_ENTRIES, RX2_ENTRIES, DONE_ENTRIES
        struct.pack_into("<QQQQQIII", data, 16, RX1, RX2, RX_DONE, 0, RX_DATA if data_bytes else 0, *sizes)
        struct.pack_into("<H", data, 16 + 58, data_bytes)
        return data

    def give_buffers(self, bodies_after_head: int = 0, head_bytes: int = HEAD_BYTES) -> None:
        """All but the last entry of each ring, as Linux does."""
        for ring, base, buffers, entries in ((0, RX1, RX1_BUFFERS, RX1_ENTRIES), (1, RX2, RX2_BUFFERS, RX2_ENTRIES)):
            table = b""
            for index in range(entries):
                body = ring == 1 or index % (bodies_after_head + 1) != 0
                word = (PAGE if body else head_bytes) | body << 14 | (index < entries - 1) << 31
                table += struct.pack("<QII", buffers + index * PAGE, word, 0)
            self.machine.write(base, table)

    def start(
        self, mode: int = UCAST | BCAST, shared: bytes | None = None, rx_queue: bytes | None = None,
        bodies_after_head: int = 0, tx_queues: Sequence[bytes] | None = None, mtu: int = 1500,
        features: int = F_CSUM | F_VLAN,
    ) -> int:  # fmt: skip
        """The answer to ACTIVATE_DEV."""
        self.put(VRRS, 1 << self.version - 1)
        self.put(UVRS, 1)
        for gpa, size_bytes in ((TX, 16 * TX_ENTRIES), (TX_DONE, 16 * TX_ENTRIES), (RX_DONE, 16 * DONE_ENTRIES)):
            self.machine.write(gpa, bytes(size_bytes))
        self._restart()
        self.give_buffers(bodies_after_head)
        self.machine.write(SHARED, bytes(shared or self.shared(mtu=mtu, features=features)))
        self.machine.write(QUEUES, b"".join(tx_queues or [bytes(self.tx_queue())]) + bytes(rx_queue or self.rx_queue()))
        self.put(DSAL, SHARED)
        self.put(DSAH, 0)
        answer = self.command(ACTIVATE)
        self.data(0x800, RX1_ENTRIES - 1)
        self.data(0xA00, RX2_ENTRIES - 1)
        self.mode(mode)
        self.data(0, 0)
        return answer

    def mode(self, mode: int, groups: Sequence[bytes] = (), vlans: Sequence[int] = (0,)) -> None:
        table = bytearray(512)
        for vlan in vlans:
            table[vlan // 8] |= 1 << vlan % 8
        self.machine.write(GROUPS, b"".join(groups))
        self.machine.write(SHARED + 120, struct.pack("<IHHQ", mode, 6 * len(groups), 0, GROUPS) + bytes(table))
        for command in (VLAN_FILTERS, RX_MODE, MAC_FILTERS):
            self.put(CMD, command)

    # Transmit

    def send(
        self, frame: bytes, pieces: Sequence[int] = (), om: int = 0, hlen: int = 0, msscof: int = 0,
        tag: int | None = None, worth: int = 1,
    ) -> int:  # fmt: skip
        """One packet; its parts have the sizes ``pieces`` and the rest. Returns the index of its last descriptor."""
        first, at, parts = self.tx_next, 0, list[bytes]()
        for size in pieces:
            parts.append(frame[at : at + size])
            at += size
        parts = [part for part in (*parts, frame[at:]) if part]
        table, gpa, first_gen = list[tuple[int, int, int, int]](), TX_BUFFERS, self.tx_gen
        if first * 0x800 + len(frame) < 0x30000:
            gpa += first * 0x800
        index = first
        for number, part in enumerate(parts):
            index = self.tx_next
            self.machine.write(gpa, part)
            word = len(part) & 0x3FFF | (self.tx_gen ^ (number == 0)) << 14
            more = 0
            if number == 0:
                word |= msscof << 18
                more = hlen | om << 10 | (0 if tag is None else 1 << 15 | tag << 16)
            if number == len(parts) - 1:
                more |= 3 << 12
            table.append((index, gpa, word, more))
            gpa += len(part)
            self.tx_next += 1
            if self.tx_next == TX_ENTRIES:
                self.tx_next, self.tx_gen = 0, self.tx_gen ^ 1
        for index, where, word, more in table:
            self.machine.write(TX + 16 * index, struct.pack("<QII", where, word, more))
        self.put_u32(TX + 16 * first + 8, table[0][2] & ~(1 << 14) | first_gen << 14)
        deferred = self.u32(QUEUES) + worth
        self.put_u32(QUEUES, deferred)
        if deferred >= self.u32(QUEUES + 4):
            self.put_u32(QUEUES, 0)
            self.kicks += 1
            self.data(0x600, self.tx_next)
        return index

    def completed(self) -> list[int]:
        """Indices of last descriptors of packets that are done."""
        found = []
        while True:
            words = struct.unpack("<IIII", self.machine.read(TX_DONE + 16 * self.tx_done, 16))
            if words[3] >> 31 != self.tx_done_gen:
                return found
            found.append(words[0] & 0xFFF)
            self.tx_done += 1
            if self.tx_done == TX_ENTRIES:
                self.tx_done, self.tx_done_gen = 0, self.tx_done_gen ^ 1

    # Receive

    def received(self, data_bytes: int = 0) -> list[Received]:
        """Frames, and their buffers given back."""
        found, data, rings = [], b"", list[int]()
        while True:
            first, _, third, fourth = struct.unpack("<IIII", self.machine.read(RX_DONE + 16 * self.rx_done, 16))
            if fourth >> 31 != self.rx_done_gen:
                assert not data
                return found
            index, ring, size = first & 0xFFF, first >> 16 & 0x3FF, third & 0x3FFF
            assert bool(first & 1 << 15) == (not rings)
            at = RX_DATA + index * data_bytes if ring == 2 else (RX1_BUFFERS, RX2_BUFFERS)[ring] + index * PAGE
            data += self.machine.read(at, size)
            rings.append(ring)
            if first & 1 << 14:
                tag = third >> 16 if third & 1 << 15 else None
                bits, unchecked, error = fourth & 0x7FFFFFFF, bool(first & 1 << 30), bool(third & 1 << 14)
                found.append(Received(data, tag, bits, unchecked, error, tuple(rings)))
                data, rings = b"", []
            self._give_back(ring & 1, index)
            self.rx_done += 1
            if self.rx_done == DONE_ENTRIES:
                self.rx_done, self.rx_done_gen = 0, self.rx_done_gen ^ 1

    def _give_back(self, ring: int, index: int) -> None:
        """Every entry up to the one before ``index``."""
        entries, base = (RX1_ENTRIES, RX2_ENTRIES)[ring], (RX1, RX2)[ring]
        while self.fill[ring] != index:
            at = base + 16 * self.fill[ring] + 8
            self.put_u32(at, self.u32(at) & 0x7FFFFFFF | self.gen[ring] << 31)
            self.fill[ring] += 1
            if self.fill[ring] == entries:
                self.fill[ring], self.gen[ring] = 0, self.gen[ring] ^ 1

    def counters(self, receive: bool = False) -> tuple[int, ...]:
        self.command(STATS)
        return struct.unpack("<10Q", self.machine.read(QUEUES + 256 * receive + 88, 80))

    def status(self, receive: bool = False) -> tuple[int, int]:
        """Stopped, and why."""
        self.command(QUEUE_STATUS)
        return struct.unpack("<II", self.machine.read(QUEUES + 256 * receive + 80, 8))
