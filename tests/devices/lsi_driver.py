"""A small driver for the 53C1030, as the specification tells a host to do it; independent of the adapter's own code."""

from __future__ import annotations

import struct

from tests.devices.scsi_bench import MEMORY_BYTES, Bench

DOORBELL, INT_STATUS, INT_MASK, REQUEST, REPLY = 0x00, 0x30, 0x34, 0x40, 0x44
FRAMES, REPLIES, SENSE, DATA = 0x10000, 0x20000, 0x30000, 0x40000
FRAME_BYTES, REPLY_BYTES = 128, 80
NOTHING = 0xFFFFFFFF


class Driver:
    """``frames``: as many request frames and reply frames as are used in turn."""

    def __init__(self, bench: Bench, frames: int = 16, start: bool = True) -> None:
        self.bench, self.frames, self.next_frame = bench, frames, 0
        if start:
            self.start()

    def read(self, register: int) -> int:
        return self.bench.pc.read_mmio(self.bench.window + register, 4)

    def write(self, register: int, value: int) -> None:
        self.bench.pc.write_mmio(self.bench.window + register, 4, value)

    @property
    def state(self) -> int:
        return self.read(DOORBELL) >> 28

    def handshake(self, message: bytes) -> bytes:
        """Through the doorbell; the reply."""
        self.write(INT_STATUS, 0)
        self.write(DOORBELL, 0x42 << 24 | len(message) // 4 << 16)
        self._wait_for_doorbell()
        assert self.read(DOORBELL) >> 27 & 1
        self.write(INT_STATUS, 0)
        for at in range(0, len(message), 4):
            self.write(DOORBELL, int.from_bytes(message[at : at + 4], "little"))
        reply = self._word() + self._word()
        while len(reply) < 4 * reply[2]:
            reply += self._word()
        self._wait_for_doorbell()
        self.write(INT_STATUS, 0)
        assert not self.read(DOORBELL) >> 27 & 1
        assert not self.read(INT_STATUS) & 1
        return reply

    def _wait_for_doorbell(self) -> None:
        for _ in range(100):
            if self.read(INT_STATUS) & 1:
                return
            self.bench.wait(1000)
        raise AssertionError("the doorbell is quiet")

    def _word(self) -> bytes:
        self._wait_for_doorbell()
        word = self.read(DOORBELL) & 0xFFFF
        self.write(INT_STATUS, 0)
        return word.to_bytes(2, "little")

    def start(self) -> None:
        """IOCInit, empty reply frames, interrupts on, PortEnable."""
        reply = self.handshake(struct.pack("<BBBBBBBBIHHII", 4, 0, 0, 2, 0, 16, 1, 0, 0x55, REPLY_BYTES, 0, 0, 0))
        assert reply[14:16] == bytes(2)
        assert self.state == 2
        for index in range(self.frames):
            self.write(REPLY, REPLIES + index * REPLY_BYTES)
        self.write(INT_MASK, 1)
        assert self.handshake(struct.pack("<BBBBBBBBI", 0, 0, 0, 6, 0, 0, 0, 0, 0x56))[14:16] == bytes(2)

    def post(self, message: bytes) -> int:
        """A request frame; its address."""
        gpa = FRAMES + self.next_frame * FRAME_BYTES
        self.next_frame = (self.next_frame + 1) % self.frames
        self.bench.memory.write(gpa, message.ljust(FRAME_BYTES, b"\0"))
        self.write(REQUEST, gpa)
        return gpa

    def replies(self) -> list[int | bytes]:
        """Everything that REPLY gives: a context, or a reply frame (which goes back to the adapter)."""
        found: list[int | bytes] = []
        while (value := self.read(REPLY)) != NOTHING:
            if value >> 31:
                gpa = value << 1 & 0xFFFFFFFF
                found.append(self.bench.memory.read(gpa, 4 * self.bench.memory.read(gpa + 2, 1)[0]))
                self.write(REPLY, gpa)
            else:
                found.append(value)
        return found

    def next_reply(self) -> int | bytes:
        self.bench.wait_for_line()
        (reply,) = self.replies()
        return reply

    def ask_or_context(self, message: bytes) -> int | bytes:
        """The answer to a message, whatever it is."""
        self.post(message)
        return self.next_reply()

    def ask(self, message: bytes) -> bytes:
        """A message whose answer needs a frame."""
        reply = self.ask_or_context(message)
        assert isinstance(reply, bytes)
        return reply


def simple(gpa: int, size: int, *, write: bool = False, last: bool = True) -> bytes:
    """A simple element; ``last``: of the list."""
    flags = 0x10 | (0x04 if write else 0) | (0xC1 if last else 0)
    return struct.pack("<II", flags << 24 | size, gpa)


def chain(gpa: int, size: int, next_offset: int = 0) -> bytes:
    return struct.pack("<HBBI", size, next_offset, 0x30, gpa)


def scsi_io(
    cdb: bytes,
    sgl: bytes = b"",
    size: int = 0,
    *,
    target: int = 0,
    lun: int = 0,
    write: bool = False,
    context: int = 0x1234,
    chain_offset: int = 0,
    sense_gpa: int = SENSE,
) -> bytes:
    """A SCSI IO request."""
    direction = 0 if not size else 1 if write else 2
    return struct.pack(
        "<BBBBBBBBI8sI16sII", target, 0, chain_offset, 0, len(cdb), 96, 0, 0, context, bytes((0, lun)) + bytes(6),
        direction << 24, cdb, size, sense_gpa,
    ) + sgl  # fmt: skip


def task(kind: int, target: int = 0, context: int = 0, lun: int = 0) -> bytes:
    return struct.pack(
        "<BBBBBBBBI8s28sI", target, 0, 0, 1, 0, kind, 0, 0, 0x777, bytes((0, lun)) + bytes(6), b"", context
    )


def config(action: int, type_: int, number: int, address: int = 0, gpa: int = DATA, size: int = 256) -> bytes:
    write = action in (2, 4)
    head = struct.pack("<BBBBIIQ4sI", action, 0, 0, 4, 0, 0x99, 0, bytes((0, 0, number, type_)), address)
    return head + simple(gpa, size, write=write)


def status_of(reply: bytes) -> int:
    """The IOC status."""
    return int.from_bytes(reply[14:16], "little")


assert DATA + 0x40000 < MEMORY_BYTES
