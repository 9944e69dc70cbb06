"""Exercises of lesson 15: the transmit half of a driver, and the filter for groups. The judge of both is the card.

::

    15a   transmit(card, given, frame) ──stores, CSR0──> Am79C970A ──> a port, where every frame has to come out
    15b   hash_bit(address), filter_for(groups) ──> CSR8 to CSR11 of an Am79C970A ──> is a frame to that group stored?
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from vilab.clock import VirtualClock
from vilab.course.exercise_student import call, whole_number
from vilab.course.feedback import Feedback, WrongAnswer, right
from vilab.devices import pcnet_registers as r
from vilab.devices.network_events import FrameStored
from vilab.devices.pci_adapter import FIRMWARE_NS
from vilab.devices.pci_function import COMMAND, COMMAND_MASTER
from vilab.devices.pcnet_am79c970a import PcnetAm79c970a
from vilab.devices.pcnet_rings import PCNET_PCI, descriptor_bytes
from vilab.events import EventLog
from vilab.protocols import NetworkInterface

OWN, STP, ENP, ONES = 1 << 31, 1 << 25, 1 << 24, 0xF000
TDMD, IENA = r.TDMD, r.IENA
RING = 4
ADDRESS, OTHER = bytes.fromhex("005056000005"), bytes.fromhex("005056c00001")
_DESCRIPTOR_BYTES = descriptor_bytes(PCNET_PCI)
_SEND_RING, _RECEIVE_RING, _BUFFERS, _BUFFER_BYTES, _MEMORY_BYTES = 0x1000, 0x2000, 0x4000, 0x800, 0x10000
_SOON_NS = 4 * FIRMWARE_NS
_POLL_NS = 5_000_000


class _Memory:
    size_bytes = _MEMORY_BYTES

    def __init__(self) -> None:
        self.content = bytearray(_MEMORY_BYTES)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return bytes(self.content[gpa : gpa + size_bytes])

    def write(self, gpa: int, data: bytes) -> None:
        self.content[gpa : gpa + len(data)] = data


class _Port:
    """What comes out."""

    link_up = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def plug(self, interface: NetworkInterface) -> None:
        """It never sends by itself."""

    def transmit(self, frame: bytes) -> None:
        self.sent.append(frame)

    def listen(self, address: bytes, promiscuous: bool) -> None:
        """Everything is delivered."""

    def save_state(self) -> bytes:
        return b""

    def load_state(self, state: bytes) -> None:
        """There is none."""


class _Pin:
    def set_level(self, high: bool) -> None:
        """Nobody is interrupted."""


class _Bench:
    """A card that is stopped, with memory of its own, one receive buffer and a ring to send."""

    def __init__(self) -> None:
        self.clock, self.log, self.memory, self.port = VirtualClock(), EventLog(keep=True), _Memory(), _Port()
        self.chip = PcnetAm79c970a(self.clock, self.log, _Pin(), self.memory, self.port, ADDRESS, 0)
        self.chip.config[COMMAND] |= COMMAND_MASTER
        self.set_csr(r.STYLE, PCNET_PCI)
        for base, place, length, counter, count in (
            (r.BADX, _SEND_RING, r.XMTRL, r.XMTRC, RING), (r.BADR, _RECEIVE_RING, r.RCVRL, r.RCVRC, 1),
        ):  # fmt: skip
            self.set_csr(base, place)
            self.set_csr(base + 1, 0)
            self.set_csr(length, -count & 0xFFFF)
            self.set_csr(counter, -count & 0xFFFF)

    def set_csr(self, number: int, value: int) -> None:
        self.chip.write_bar(0, 0x12, 2, number)
        self.chip.write_bar(0, 0x10, 2, value)

    def csr(self, number: int) -> int:
        self.chip.write_bar(0, 0x12, 2, number)
        return self.chip.read_bar(0, 0x10, 2)

    def pass_time(self, ns: int) -> None:
        self.clock.run_to(self.clock.now_ns + ns)

    def store(self, gpa: int, value: int) -> None:
        self.memory.write(gpa, (value & 0xFFFF_FFFF).to_bytes(4, "little"))


# 15a -------------------------------------------------------------------------------------------------------------


class Card:
    """What a driver has: memory, and the card's registers. Every store is watched.

    ``descriptor(n)``, ``buffer(n)``: where those of the send ring are, n from 0 to ``RING`` - 1.
    """

    def __init__(self) -> None:
        self._bench = bench = _Bench()
        for n in range(RING):
            bench.store(self.descriptor(n), self.buffer(n))
        bench.set_csr(0, r.STRT | IENA)
        self._stored: list[str] = []
        self._wrong = ""

    @staticmethod
    def descriptor(n: int) -> int:
        return _SEND_RING + _DESCRIPTOR_BYTES * n

    @staticmethod
    def buffer(n: int) -> int:
        return _BUFFERS + _BUFFER_BYTES * n

    def load(self, address: int) -> int:
        """A dword of memory."""
        return int.from_bytes(self._bench.memory.read(address, 4), "little")

    def store(self, address: int, value: int) -> None:
        """A dword into memory."""
        self._watch(address, 4, f"store({address:08x}, {value & 0xFFFFFFFF:08x})")
        self._bench.store(address, value)

    def copy(self, address: int, data: bytes) -> None:
        """Bytes into memory."""
        self._watch(address, len(data), f"copy({address:08x}, {len(data)} bytes)")
        self._bench.memory.write(address, bytes(data))

    def csr(self, number: int) -> int:
        """Read a control and status register."""
        return self._bench.csr(number)

    def set_csr(self, number: int, value: int) -> None:
        """Write one."""
        self._stored.append(f"set_csr({number}, {value:04x})")
        self._bench.set_csr(number, value)

    def _watch(self, address: int, size_bytes: int, words: str) -> None:
        self._stored.append(words)
        end = address + size_bytes
        for n in range(RING):
            places = ((self.descriptor(n), _DESCRIPTOR_BYTES), (self.buffer(n), _BUFFER_BYTES))
            mine = any(first < end and address < first + room for first, room in places)
            if mine and self._owned(n) and not self._wrong:
                self._wrong = f"{words} changes descriptor {n} or its buffer while OWN says that it is the card's."
        if not (address >= _SEND_RING and end <= self.descriptor(RING)) and not (
            address >= _BUFFERS and end <= self.buffer(RING)
        ):
            self._wrong = self._wrong or f"{words} is neither in the send ring nor in one of its buffers."

    def _owned(self, n: int) -> bool:
        return bool(self.load(self.descriptor(n) + 4) & OWN)


Transmit = Callable[[Card, int, bytes], object]


def check_transmit(transmit: Transmit, frames: int = 12, seed: int = 5) -> Feedback:
    """``transmit(card, given, frame)``: put a frame into descriptor ``given % RING`` and ring the bell; ``given + 1``,
    or ``given`` if that descriptor is still the card's."""
    card, rng = Card(), random.Random(seed)
    given, full = 0, 0
    due: list[bytes] = []
    for number in range(frames):
        body = rng.randbytes(rng.randrange(46, 1501))
        frame = OTHER + ADDRESS + b"\x08\x00" + body
        free = not card._owned(given % RING)
        before, card._stored = card._stored, []
        words = f"transmit(card, {given}, a frame of {len(frame)} bytes)"
        found = whole_number(call(transmit, card, given, frame, said=words), words)
        _judge_stores(card, words, free)
        if found != given + free:
            state = "free" if free else "still the card's"
            raise WrongAnswer(f"{words} returned {found}; descriptor {given % RING} was {state}.", card._stored)
        if free:
            due.append(frame)
            _judge_given(card, words, given % RING)
        full += not free
        given = found
        if not free or rng.random() < 0.2 or number == frames - 1:
            card._stored = card._stored or before
            _judge_sent(card, words, due)
    return right(f"{len(due)} frames came out of the port as they were given; {full} times the ring was full.")


def _judge_stores(card: Card, words: str, free: bool) -> None:
    if card._wrong:
        raise WrongAnswer(f"{words}: {card._wrong}", card._stored)
    if not free and any(not each.startswith("set_csr") for each in card._stored):
        raise WrongAnswer(f"{words}: the descriptor was the card's, and something was stored.", card._stored)


def _judge_given(card: Card, words: str, n: int) -> None:
    if not card._owned(n):
        raise WrongAnswer(f"{words}: the OWN bit of descriptor {n} is not set, so the card waits.", card._stored)
    if not card._bench.chip.save_state().csr[0] & IENA:
        raise WrongAnswer(
            f"{words}: the card may not interrupt any more. A write of CSR0 sets IENA to what it says.", card._stored
        )


def _judge_sent(card: Card, words: str, due: Sequence[bytes]) -> None:
    """Time passes: what was given has to be out."""
    card._bench.pass_time(_SOON_NS)
    sent = card._bench.port.sent
    if len(sent) < len(due):
        card._bench.pass_time(_POLL_NS)
        if len(sent) == len(due) and list(due) == sent:
            raise WrongAnswer(f"{words}: the card found the frame by itself, much later. Nobody rang.", card._stored)
    for number, (is_there, wanted) in enumerate(zip(sent, due, strict=False)):
        if is_there != wanted:
            size = f"{len(is_there)} bytes" + (" with other contents" if len(is_there) == len(wanted) else "")
            raise WrongAnswer(
                f"{words}: frame {number} came out of the port as {size}; it has {len(wanted)}.", card._stored
            )
    if len(sent) != len(due):
        raise WrongAnswer(f"{words}: {len(due)} frames were given, {len(sent)} came out of the port.", card._stored)


# 15b -------------------------------------------------------------------------------------------------------------

FIRST_GROUPS = tuple(bytes.fromhex(text) for text in ("01005e000001", "01005e7ffffa", "333300000001", "0180c2000000"))


def random_groups(seed: int, count: int = 24) -> tuple[bytes, ...]:
    """Addresses of groups: the lowest bit of the first octet is 1."""
    rng = random.Random(seed)
    return tuple(bytes((rng.randrange(256) | 1, *rng.randbytes(5))) for _ in range(count))


def lets_in(logical_filter: int, group: bytes) -> bool:
    """Does a card with this filter store a frame to that group?"""
    bench = _Bench()
    for at in range(4):
        bench.set_csr(r.LADRF + at, logical_filter >> 16 * at & 0xFFFF)
    bench.store(_RECEIVE_RING, _BUFFERS)
    bench.store(_RECEIVE_RING + 4, OWN | ONES | -_BUFFER_BYTES & 0xFFF)
    bench.set_csr(0, r.STRT)
    bench.chip.receive(group + OTHER + b"\x08\x00" + bytes(46))
    return bool(bench.log.of(FrameStored))


def bit_of(group: bytes) -> int:
    """The bit of the filter that lets a group in, by trying all of them."""
    return next(bit for bit in range(64) if lets_in(1 << bit, group))


def check_hash_bit(hash_bit: Callable[[bytes], object], groups: Sequence[bytes] = FIRST_GROUPS) -> Feedback:
    """``hash_bit(address)``: the number of the filter's bit that stands for a group."""
    for group in groups:
        words = f"hash_bit({group.hex(':')})"
        found = whole_number(call(hash_bit, group, said=words), words)
        if not 0 <= found < 64 or not lets_in(1 << found, group):
            raise WrongAnswer(f"{words} gave {found}; the card lets this group in by bit {bit_of(group)}.")
    return right(f"{len(groups)} groups, each let in by a card with that bit and no other.")


def check_filter_for(
    filter_for: Callable[[Sequence[bytes]], object], lists: Sequence[Sequence[bytes]] = (FIRST_GROUPS, ())
) -> Feedback:
    """``filter_for(groups)``: the 64 bits of the filter for all of these groups, and no bit more."""
    for groups in lists:
        words = f"filter_for({len(groups)} groups)"
        found = whole_number(call(filter_for, tuple(groups), said=words), words)
        if not 0 <= found < 1 << 64:
            raise WrongAnswer(f"{words} gave {found:#x}; the filter has 64 bits.")
        for group in groups:
            if not lets_in(found, group):
                raise WrongAnswer(f"{words} gave {found:016x}; with it, the card does not hear {group.hex(':')}.")
        needed = {bit_of(group) for group in groups}
        for bit in range(64):
            if found >> bit & 1 and bit not in needed:
                raise WrongAnswer(f"{words} gave {found:016x}; none of the groups needs bit {bit}.")
    return right(f"{sum(map(len, lists))} groups in {len(lists)} lists: the card hears them, and no bit is too much.")
