"""The same driver, the same packets: vilab's vmxnet3 and QEMU's. What leaves, what arrives and what it says of it.

::

    Driver ──> Bench: vilab's card ──> frames
    Driver ──> QEMU, whose processor finds HLT only (qtest) ──datagrams──> frames
"""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.devices.qemu import QemuPorts, qemu
from tests.devices.test_vmxnet3_receive import GROUP, OTHER_GROUP
from tests.devices.test_vmxnet3_transmit import HERE, THERE, plain
from tests.devices.vmxnet3_driver import (
    ADDRESS,
    ALL_MULTI,
    BCAST,
    CMD,
    DID_LO,
    F_CSUM,
    F_VLAN,
    ICR,
    LINK,
    MACH,
    MACL,
    MCAST,
    PEER,
    PERM_HI,
    PERM_LO,
    PROMISC,
    QUIESCE,
    RESET,
    SLOT,
    UCAST,
    WINDOW,
    Bench,
    Driver,
    Received,
)
from vilab.network.ethernet import tagged
from vilab.network.packets import Ipv4, Udp, checksum

SECONDS = 20
MARKER = b"\xff" * 6 + PEER + b"\x88\xb5" + b"marker".ljust(46, b"!")


class QemuCard(QemuPorts):
    """QEMU with a vmxnet3 whose cable is a pair of datagram sockets."""

    window = WINDOW

    def __init__(self, firmware: Path) -> None:
        """``firmware``: where one may be put."""
        firmware.write_bytes(b"\xf4" * 65536)
        self.said: list[str] = []
        self._socket, reserve = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self._socket, reserve):
            each.bind(("127.0.0.1", 0))
        self._socket.settimeout(SECONDS)
        self._there = reserve.getsockname()
        reserve.close()
        port = self._socket.getsockname()[1]
        netdev = (
            f"dgram,id=n,local.type=inet,local.host=127.0.0.1,local.port={self._there[1]},"
            f"remote.type=inet,remote.host=127.0.0.1,remote.port={port}"
        )
        device = f"vmxnet3,netdev=n,mac={ADDRESS.hex(':')},addr={SLOT:#x},romfile="
        self._process = subprocess.Popen(
            [qemu(), "-machine", "pc", "-bios", str(firmware), "-m", "64", "-nodefaults", "-display", "none",
             "-netdev", netdev, "-device", device, "-qtest", "stdio", "-qtest-log", "none"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        for register, value in ((0x10, WINDOW), (0x14, WINDOW + 0x1000), (0x18, WINDOW + 0x2000), (4, 6)):
            self.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | register)
            self.write_port(0xCFC, 4 if register != 4 else 2, value)

    def _ask(self, command: str) -> str:
        """What QEMU prints for its user stands between the answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        while not (line := self._process.stdout.readline()).startswith("OK"):
            assert line, f"QEMU ended at {command!r}: {self._process.stderr and self._process.stderr.read()}"
            self.said.append(line)
        return line[2:].strip()

    def config(self, register: int) -> int:
        self.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | register)
        return self.read_port(0xCFC, 4)

    def load(self, address: int) -> int:
        return self.read_mmio(address)

    def store(self, address: int, value: int) -> None:
        self.write_mmio(address, 4, value)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return bytes.fromhex(self._ask(f"read {gpa:#x} {size_bytes:#x}")[2:]) if size_bytes else b""

    def write(self, gpa: int, data: bytes) -> None:
        if data:
            self._ask(f"write {gpa:#x} {len(data):#x} 0x{data.hex()}")

    def settle(self) -> None:
        """Everything happens within ``store``."""

    def take(self, count: int) -> list[bytes]:
        """Frames that have left."""
        return [self._socket.recv(1 << 16) for _ in range(count)]

    def arrive(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self._socket.sendto(frame, self._there)

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.communicate()


class OurCard(Bench):
    """The same face for vilab's."""

    def config(self, register: int) -> int:
        self.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | register)
        return self.pc.read_port(0xCFC, 4)

    def take(self, count: int) -> list[bytes]:
        self.settle()
        assert len(self.port.sent) == count
        sent, self.port.sent = self.port.sent, []
        return sent

    def arrive(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self.card.receive(frame)


Card = QemuCard | OurCard


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QemuCard]:
    card = QemuCard(tmp_path_factory.mktemp("qemu") / "hlt.rom")
    yield card
    card.close()


@pytest.fixture
def cards(theirs: QemuCard) -> tuple[Card, Card]:
    return theirs, OurCard()


def started(card: Card, **options: Any) -> Driver:
    driver = Driver(card)
    driver.put(CMD, RESET)
    assert driver.start(**options) == 0
    return driver


def until_marker(card: Card, driver: Driver, frames: Sequence[bytes]) -> list[Received]:
    """What comes of these frames; a broadcast behind them that is always taken ends it."""
    card.arrive([*frames, MARKER])
    got, end = list[Received](), time.monotonic() + SECONDS
    while not got or got[-1].frame != MARKER:
        assert time.monotonic() < end, got
        got += driver.received()
    return got[:-1]


def test_identity_and_answers_are_the_same(cards: tuple[Card, Card]) -> None:
    def answers(card: Card) -> list[int]:
        driver = started(card)
        config = [card.config(0), card.config(8) >> 8, card.config(0x2C)]
        commands = [driver.command(number) for number in (PERM_LO, PERM_HI, DID_LO)]
        commands.append(driver.command(LINK) & 1)  # the speeds differ: QEMU says 1000, VMware's header 10,000
        return [*config, *commands, driver.get(MACL), driver.get(MACH), driver.get(0x08), driver.get(0x00) & 1]

    theirs, ours = (answers(card) for card in cards)
    assert ours == theirs


def udp_to_finish(data: bytes) -> bytes:
    udp = Udp(1, 2, data).encode(HERE, THERE)
    pseudo = checksum(HERE + THERE + struct.pack(">BBH", 0, 17, len(udp))) ^ 0xFFFF
    packet = Ipv4(HERE, THERE, 17, udp[:6] + struct.pack(">H", pseudo) + udp[8:])
    return PEER + ADDRESS + b"\x08\x00" + packet.encode()


def test_the_same_frames_leave_and_are_completed_and_counted_alike(cards: tuple[Card, Card]) -> None:
    def outcome(card: Card) -> tuple[object, ...]:
        driver = started(card)
        before = driver.counters()
        frames, done = [], []
        for number in range(150):
            size = 60 + number * 97 % 1400
            kind = number % 5
            if kind == 0:
                driver.send(plain(size, number))
            elif kind == 1:
                driver.send(plain(size, number), [14, 20])
            elif kind == 2:
                driver.send(plain(size, number), [20], tag=number)
            elif kind == 3:
                driver.send(udp_to_finish(bytes(range(number)) * 8), [42], 2, 34, 40)
            else:
                driver.send((b"\xff" * 6 if number & 1 else GROUP) + plain(size, number)[6:])
            frames += card.take(1)
            done += driver.completed()
        after = driver.counters()
        return frames, done, [new - old for new, old in zip(after, before, strict=True)][2:], driver.kicks > 0

    theirs, ours = (outcome(card) for card in cards)
    assert ours == theirs


MODES = [UCAST, MCAST, ALL_MULTI, UCAST | MCAST, PROMISC, UCAST | ALL_MULTI]


@pytest.mark.parametrize("mode", MODES)
def test_the_same_frames_are_taken(cards: tuple[Card, Card], mode: int) -> None:
    destinations = ADDRESS, PEER, GROUP, OTHER_GROUP, b"\xff" * 6
    frames = [destination + plain(100, number)[6:] for number, destination in enumerate(destinations)]
    frames += [tagged(frame, vlan) for frame in frames for vlan in (0, 5, 6, 4094)]

    def outcome(card: Card) -> list[Received]:
        driver = started(card, mode=mode | BCAST, features=0)
        driver.mode(mode | BCAST, [GROUP], [0, 5])
        return until_marker(card, driver, frames)

    theirs, ours = (outcome(card) for card in cards)
    assert [each.frame for each in ours] == [each.frame for each in theirs]


def test_tags_are_taken_out_alike(cards: tuple[Card, Card]) -> None:
    frames = [tagged(ADDRESS + plain(size)[6:], vlan, priority)
              for size, vlan, priority in ((60, 0, 3), (200, 5, 0), (1514, 4094, 7))]  # fmt: skip

    def outcome(card: Card) -> list[tuple[bytes, int | None]]:
        driver = started(card, features=F_VLAN | F_CSUM)
        driver.mode(UCAST | BCAST, [], [0, 5, 4094])
        return [(each.frame, each.tag) for each in until_marker(card, driver, frames)]

    theirs, ours = (outcome(card) for card in cards)
    assert ours == theirs
    assert [tag for _, tag in ours] == [3 << 13, 5, 7 << 13 | 4094]


@pytest.mark.parametrize("mtu", [1500, 4000, 9000])
def test_large_frames_are_laid_into_the_same_buffers(cards: tuple[Card, Card], mtu: int) -> None:
    frames = [ADDRESS + plain(size, size)[6:] for size in (60, 1514, 1536, 1537, 4014, 5632, 5633, 9014)
              if size <= mtu + 14]  # fmt: skip

    def outcome(card: Card) -> list[tuple[bytes, tuple[int, ...]]]:
        shared = Driver(card).shared(mtu=mtu)
        struct.pack_into("<H", shared, 60, 18)  # QEMU makes frames of one buffer each if nothing is said
        driver = started(card, shared=bytes(shared), bodies_after_head=1)
        return [(len(each.frame), each.rings) for frame in frames for each in until_marker(card, driver, [frame])]

    theirs, ours = (outcome(card) for card in cards)
    assert ours == theirs


def test_a_quiet_card_takes_nothing(cards: tuple[Card, Card]) -> None:
    for card in cards:
        driver = started(card)
        driver.command(QUIESCE)
        driver.data(0x600, 1)
        assert driver.completed() == []


@pytest.mark.parametrize("auto_mask", [True, False])
def test_interrupts_come_and_mask_themselves_alike(cards: tuple[Card, Card], auto_mask: bool) -> None:
    def outcome(card: Card) -> list[tuple[int, ...]]:
        driver = started(card, shared=bytes(Driver(card).shared(auto_mask=auto_mask)))
        seen = []
        for _ in range(3):
            until_marker(card, driver, [])
            seen.append((driver.get(ICR), driver.get(ICR), card.load(WINDOW)))  # QEMU masks when ICR is read
            driver.data(0, 1)
            until_marker(card, driver, [])
            seen.append((card.load(WINDOW), driver.get(ICR)))
            driver.data(0, 0)
            seen.append((driver.get(ICR), driver.get(ICR), card.load(WINDOW)))
            driver.data(0, 0)
        return seen

    theirs, ours = (outcome(card) for card in cards)
    assert ours == theirs
