"""A RAM disk: blocks of 4 KB that go to and from guest memory by themselves, one at a time, with an interrupt each.

::

    0x5690     R  ID            "RDSK" = 0x4b534452; all ones: there is none
    0x5694     R  BLOCKS        how many blocks there are
    0x5698     RW BLOCK         which one
    0x569c     RW ADDRESS       guest physical, a multiple of 4 KB
    0x56a0     W  COMMAND       1: block to memory, 2: memory to block
    0x56a0     R  STATUS        busy 0, done 1 (IRQ 5 is high as long), refused 2
    0x56a4     W  ACKNOWLEDGE   any value: done and refused fall, and the line with them

              COMMAND                  latency over: the bytes move               ACKNOWLEDGE
    idle --------------------> busy ----------------------------------> done ----------------------> idle

Registers are 32 bits wide; a narrower access finds nobody. A command that cannot be (an unknown one, a block that there
is not, an address inside a page, another one still busy) sets *refused* and does nothing.

The disk was written once, long ago: word ``i`` of block ``b`` is ``(1024 b + i) * 0x9E3779B1``, so a guest that reads a
block knows whether it is the right one. What the guest writes takes its place.

MODEL: no paper has this device. It stands for a disk: a transfer takes ``latency_ns``, wherever the block lies.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec
import numpy as np

from vilab.clock import Timer, VirtualClock
from vilab.devices.registers import Register
from vilab.events import Event, EventLog
from vilab.protocols import InterruptLine

_HERE = "vilab"

REGISTERS = (
    Register(0x5690, "R", "ID", '"RDSK" = 0x4b534452; all ones: there is none', _HERE),
    Register(0x5694, "R", "BLOCKS", "how many blocks there are", _HERE),
    Register(0x5698, "RW", "BLOCK", "which one", _HERE),
    Register(0x569C, "RW", "ADDRESS", "guest physical, a multiple of 4 KB", _HERE),
    Register(0x56A0, "W", "COMMAND", "1: block to memory, 2: memory to block", _HERE),
    Register(0x56A0, "R", "STATUS", "busy 0, done 1 (IRQ 5 is high as long), refused 2", _HERE),
    Register(0x56A4, "W", "ACKNOWLEDGE", "any value: done and refused fall, and the line with them", _HERE),
)

ID, BLOCKS, BLOCK, ADDRESS, COMMAND, ACKNOWLEDGE = range(0x5690, 0x56A8, 4)
STATUS = COMMAND
IDENTITY = int.from_bytes(b"RDSK", "little")
READ, WRITE = 1, 2
BUSY, DONE, REFUSED = 0b001, 0b010, 0b100

BLOCK_BYTES = 4096
BLOCK_WORDS = BLOCK_BYTES // 4
LATENCY_NS = 5_000_000
"""About a seek and half a turn of a SCSI disk of 2002. ``latency_ns`` of the state says another time."""

PATTERN_FACTOR = 0x9E3779B1  # odd, so that no two words of a disk are equal; 2^32 / golden ratio


class BlockTransferred(Event, frozen=True, tag=True):
    """A block has moved between the RAM disk and guest memory. ``direction``: as the guest sees it."""

    direction: Literal["read", "write"]
    block: int
    gpa: int


class GuestMemory(Protocol):
    """What a device that moves bytes by itself needs of guest physical memory."""

    def read(self, gpa: int, size_bytes: int) -> bytes: ...

    def write(self, gpa: int, data: bytes) -> None: ...


class RamdiskState(msgspec.Struct):
    """``command``, ``at_block``, ``at_address``: what is under way until ``done_ns``; ``command`` 0 if nothing is.

    ``written``: the blocks that the guest has written. All others are as they were.
    """

    blocks: int
    latency_ns: int = LATENCY_NS
    block: int = 0
    address: int = 0
    status: int = 0
    command: int = 0
    at_block: int = 0
    at_address: int = 0
    done_ns: int = 0
    written: dict[int, bytes] = msgspec.field(default_factory=dict)


def original(block: int) -> bytes:
    """What a block holds before a guest has written it."""
    words = np.arange(BLOCK_WORDS, dtype=np.uint64) + np.uint64(BLOCK_WORDS * block)
    return (words * np.uint64(PATTERN_FACTOR) & np.uint64(0xFFFFFFFF)).astype("<u4").tobytes()


class Ramdisk:
    """The disk.

    Parameters
    ----------
    irq : IRQ 5. memory : where blocks come from and go to. size_bytes : a multiple of ``BLOCK_BYTES``.

    ``reads``, ``writes`` and ``refusals`` count transfers and refused commands; they are statistics, not state.
    """

    ports = (ID, BLOCKS, BLOCK, ADDRESS, COMMAND, ACKNOWLEDGE)

    def __init__(
        self, clock: VirtualClock, log: EventLog, irq: InterruptLine, memory: GuestMemory, size_bytes: int
    ) -> None:
        self._clock = clock
        self._log = log
        self._irq = irq
        self._memory = memory
        self._timer: Timer | None = None
        self._state = RamdiskState(size_bytes // BLOCK_BYTES)
        self.reads = self.writes = self.refusals = 0

    @property
    def blocks(self) -> int:
        return self._state.blocks

    @property
    def latency_ns(self) -> int:
        """How long a transfer takes, from the next command on."""
        return self._state.latency_ns

    @latency_ns.setter
    def latency_ns(self, latency_ns: int) -> None:
        self._state.latency_ns = latency_ns

    def content(self, block: int) -> bytes:
        """The bytes of a block now."""
        written = self._state.written.get(block)
        return original(block) if written is None else written

    def read_port(self, port: int, size_bytes: int) -> int:
        s = self._state
        if size_bytes == 4:
            if port == ID:
                return IDENTITY
            if port == BLOCKS:
                return s.blocks
            if port == BLOCK:
                return s.block
            if port == ADDRESS:
                return s.address
            if port == STATUS:
                return s.status
        return (1 << 8 * size_bytes) - 1

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        s = self._state
        if size_bytes != 4:
            return
        if port == BLOCK:
            s.block = value
        elif port == ADDRESS:
            s.address = value
        elif port == COMMAND:
            self._begin(value)
        elif port == ACKNOWLEDGE:
            s.status &= BUSY
            self._irq.set_level(False)

    def _begin(self, command: int) -> None:
        s = self._state
        if command not in (READ, WRITE) or s.block >= s.blocks or s.address % BLOCK_BYTES or s.status & BUSY:
            s.status |= REFUSED
            self.refusals += 1
            return
        s.command, s.at_block, s.at_address = command, s.block, s.address
        s.status, s.done_ns = s.status | BUSY, self._clock.now_ns + s.latency_ns
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.at(self._state.done_ns, self._finish) if self._state.command else None

    def _finish(self) -> None:
        s = self._state
        self._timer = None
        if s.command == READ:
            self._memory.write(s.at_address, self.content(s.at_block))
            self.reads += 1
        else:
            s.written[s.at_block] = bytes(self._memory.read(s.at_address, BLOCK_BYTES))
            self.writes += 1
        if self._log.active:
            direction: Literal["read", "write"] = "read" if s.command == READ else "write"
            self._log.emit(BlockTransferred(self._clock.now_ns, direction, s.at_block, s.at_address))
        s.command = 0
        s.status = s.status & ~BUSY | DONE
        self._irq.set_level(True)

    def save_state(self) -> RamdiskState:
        """Bytes of a block never change, only which bytes a block has: the copy shares them."""
        return msgspec.structs.replace(self._state, written=dict(self._state.written))

    def load_state(self, state: RamdiskState) -> None:
        """The level of the IRQ line is part of the PIC's state and is not driven again here."""
        self._state = msgspec.structs.replace(state, written=dict(state.written))
        self._schedule()
