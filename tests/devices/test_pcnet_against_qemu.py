"""The same register script on QEMU's PCnet, whose frames come back in loopback: registers, descriptors, buffers.

QEMU's processor stands still, and with it every clock: a demand is served at once there, after ``FIRMWARE_NS`` here.

Where the two differ, the data sheet was asked, and the comparison keeps off that corner:

* TXSTRT in CSR4 is not there in QEMU.
* PAM, LAFM and BAM say by which filter a frame has come; with PROM QEMU leaves them out.
* OFLO comes with every BUFF in QEMU, and in the data sheet only when the FIFO is full as well.
* A frame in more than three receive buffers is an overflow in QEMU.
* The FCS itself: QEMU's octets are not those of IEEE 802.3; ours are compared with zlib's elsewhere.
* CSR8 to CSR15: QEMU takes them at any time, the data sheet when the card is stopped or suspended.
* TXON stays in QEMU when the card is stopped, and goes with the next reset only.
* TDMD stays in QEMU until it finds a frame, in the data sheet until the descriptor was looked at.
* SPND: a card that is stopped cannot be suspended, in QEMU it can.
* BABL: QEMU has no limit of 1,518 octets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.devices.pcnet_bench import (
    ADDRESS,
    BROADCAST,
    BUFFER_BYTES,
    BUFFERS,
    ENP,
    OTHER,
    OWN,
    RECEIVE_RING,
    SLOT,
    STP,
    TRANSMIT_RING,
    Bench,
    Driver,
    frame,
)
from tests.devices.qemu import QemuPorts
from vilab.devices import pcnet_registers as r
from vilab.devices.pcnet_rings import BAM, LAFM, PAM

pytestmark = pytest.mark.interop

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
END, OFLO = 0x10000, 1 << 28
"""How much of both memories is cleared; a bit of receive descriptors."""


class QemuMemory:
    def __init__(self, qemu: QemuPorts) -> None:
        self._qemu = qemu

    def write(self, gpa: int, data: bytes) -> None:
        self._qemu._ask(f"write {gpa:#x} {len(data):#x} 0x{data.hex()}")

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return bytes.fromhex(self._qemu._ask(f"read {gpa:#x} {size_bytes:#x}").removeprefix("0x"))


class Theirs(Driver):
    """The driver of the bench on the other card."""

    def __init__(self, bench: Bench, qemu: QemuPorts, style: int) -> None:
        super().__init__(bench, style)
        self.pc, self.memory = qemu, QemuMemory(qemu)  # type: ignore[assignment]


@pytest.fixture(scope="module")
def qemu() -> Iterator[QemuPorts]:
    with QemuPorts("-device", f"pcnet,addr={SLOT:#x},mac={ADDRESS.hex(':')}") as ports:
        bench = Bench()
        for offset, value in ((0x10, bench.io), (0x14, bench.window), (4, 7)):
            ports.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | offset)
            ports.write_port(0xCFC, 4, value)
        yield ports


class Both:
    def __init__(self, qemu: QemuPorts, style: int, mode: int, groups: int) -> None:
        self.bench, self.mode = Bench(), mode
        self.ours, self.theirs = Driver(self.bench, style), Theirs(self.bench, qemu, style)
        for driver in (self.ours, self.theirs):
            driver.memory.write(0, bytes(END))
            driver.start(mode=mode, groups=groups)

    def each(self) -> tuple[Driver, Driver]:
        return self.ours, self.theirs

    def compare(self) -> None:
        assert self.ours.csr(0) == self.theirs.csr(0)
        for number, compared in ((4, ~r.TXSTRT), (5, 0xFFFF), (15, 0xFFFF), (112, 0xFFFF)):
            assert (self.ours.csr(number) ^ self.theirs.csr(number)) & compared == 0, number
        for ring in (RECEIVE_RING, TRANSMIT_RING):
            ours, theirs = ([driver.get(ring, at) for at in range(4)] for driver in self.each())
            assert self.seen(ours) == self.seen(theirs)
        for at in range(4):
            status, message = self.ours.get(RECEIVE_RING, at)
            if status & (OWN | STP | ENP) == STP | ENP:
                place, size = BUFFERS + at * BUFFER_BYTES, (message & 0xFFF) - 4
                assert self.ours.memory.read(place, size) == self.theirs.memory.read(place, size)

    def seen(self, descriptors: list[tuple[int, int]]) -> list[tuple[int, int]]:
        hidden = OFLO | (PAM | LAFM | BAM if self.mode & r.PROM else 0)
        return [(status & ~hidden, message) for status, message in descriptors]


def test_registers_after_a_reset(qemu: QemuPorts) -> None:
    bench = Bench()
    ours, theirs = Driver(bench), Theirs(bench, qemu, 2)
    for driver in (ours, theirs):
        driver.read(0x14)
    assert [ours.read(at, 1) for at in range(16)] == [theirs.read(at, 1) for at in range(16)]
    for number in (0, 1, 2, 3, 4, 5, *range(8, 16), 88, 89, 100, 112):
        assert ours.csr(number) == theirs.csr(number), number
    for number in range(32):
        assert ours.bcr(number) == theirs.bcr(number), number


kinds = st.sampled_from((ADDRESS, OTHER, BROADCAST, bytes.fromhex("01005e000001"), bytes.fromhex("333300000001")))
frames = st.tuples(
    st.just("frame"),
    kinds,
    st.lists(st.integers(1, 504), min_size=1, max_size=3).filter(lambda parts: sum(parts) >= 60),
)
steps = st.lists(
    st.one_of(
        frames,
        st.tuples(st.just("refill"), st.sampled_from((640, BUFFER_BYTES)), st.none()),
        st.tuples(st.just("clear"), st.sampled_from((0x7F40, 0x0240, 0x0440, 0x1000)), st.none()),
        st.tuples(st.just("csr4"), st.sampled_from((0x0115, 0x0915, 0x091D)), st.none()),
    ),
    max_size=8,
)


@SETTINGS
@given(
    st.sampled_from((0, 2, 3)),
    st.sampled_from((0x8000, 0, 0x4000, 0x2000, 0x6000)),
    st.integers(0, (1 << 64) - 1),
    steps,
)
def test_loopback(
    qemu: QemuPorts, style: int, more_mode: int, groups: int, actions: list[tuple[Any, Any, Any]]
) -> None:
    both = Both(qemu, style, 0x44 | more_mode, groups)
    both.compare()
    at = 0
    for what, first, second in actions:
        if what == "frame":
            whole = frame(first, sum(second))
            parts, begin = [], 0
            for size in second:
                parts.append(whole[begin : begin + size])
                begin += size
            for driver in both.each():
                driver.send(at, *parts)
            at = (at + len(parts)) % 4
        else:
            for driver in both.each():
                if what == "refill":
                    for index in range(4):
                        driver.put(RECEIVE_RING, index, OWN, BUFFERS + index * BUFFER_BYTES, first)
                else:
                    driver.set_csr(0 if what == "clear" else 4, first)
        both.compare()


commands = st.one_of(
    st.tuples(st.just(0), st.sampled_from((0x01, 0x02, 0x03, 0x43, 0x04, 0x40, 0x48, 0x7F40, 0x0100, 0x0140))),
    st.tuples(st.just(3), st.sampled_from((0, 0x0100, 0x5F00, 0x5F40, 0x0200))),
    st.tuples(st.just(4), st.sampled_from((0x0115, 0x0915))),
    st.tuples(st.just(5), st.sampled_from((0, 1))),
    st.tuples(st.just(15), st.sampled_from((0, 1, 2, 3, 0x8000))),
    st.tuples(st.just(20), st.sampled_from((0, 1, 2, 3))),
    st.tuples(st.just(8), st.integers(0, 0xFFFF)),
    st.tuples(st.just(14), st.integers(0, 0xFFFF)),
)


@SETTINGS
@given(st.sampled_from((0, 2, 3)), st.lists(commands, max_size=20))
def test_commands(qemu: QemuPorts, style: int, written: list[tuple[int, int]]) -> None:
    both = Both(qemu, style, 0, 0)
    for number, value in written:
        state = both.bench.card.save_state()
        if (number in (8, 14, 15) and not state.changeable) or (number == 5 and state.csr[0] & r.STOP):
            continue
        for driver in both.each():
            (driver.set_bcr if number == 20 else driver.set_csr)(number, value)
        both.bench.wait()
        for each in (0, 3, 4, 5, 8, 14, 15):
            ours, theirs = both.ours.csr(each), both.theirs.csr(each)
            if each == 0:
                ours, theirs = ours & ~r.TDMD, theirs & ~(r.TDMD | r.TXON & ~ours)
            assert ours == theirs, (each, number, hex(value))
        assert both.ours.bcr(20) == both.theirs.bcr(20)
