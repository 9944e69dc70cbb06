"""Stock Debian with an 82545EM: its e1000 driver finds the card, and talks through it to a little peer in the test.

::

    guest 10.0.0.2 ── e1000 ── 82545EM ── port ── Peer 10.0.0.1: answers ARP and echo requests, takes TCP on any port
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.devices.e1000_bench import checksums_are_right, words_sum
from tests.devices.recording_port import RecordingPort
from tests.vmm.network_session import GUEST_ADDRESS, NetworkSession
from vilab.devices.network_events import FrameFetched

pytestmark = pytest.mark.interop

PEER_ADDRESS = bytes.fromhex("0050560000fe")
PEER_IP, GUEST_IP = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
ICMP, TCP = 1, 6
FIN, SYN, ACK = 1, 2, 16


class Peer:
    """``taken``: what came over TCP. ``wrong``: packets with a wrong checksum. Answers have the question's tag."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.wrong = 0
        self.ended = False
        self.asked: list[bytes] = []
        self._fragments: dict[bytes, dict[int, bytes]] = {}

    def answer(self, frame: bytes) -> list[bytes]:
        if frame[12:14] == b"\x81\x00":
            return [each[:12] + frame[12:16] + each[12:] for each in self.answer(frame[:12] + frame[16:])]
        head, kind = frame[:14], frame[12:14]
        if kind == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] == PEER_IP:
            self.asked.append(frame)
            return [
                frame[6:12]
                + PEER_ADDRESS
                + b"\x08\x06"
                + frame[14:20]
                + b"\0\2"
                + PEER_ADDRESS
                + PEER_IP
                + frame[22:32]
            ]
        if kind != b"\x08\x00" or head[:6] != PEER_ADDRESS:
            return []
        packet = frame[14 : 14 + int.from_bytes(frame[16:18], "big")]
        if packet[9] == ICMP:
            whole = self._whole(packet)
            return [] if whole is None else self._echo(whole)
        if packet[9] == TCP:
            self.wrong += not checksums_are_right(packet)
            return self._tcp(packet)
        return []

    def _whole(self, packet: bytes) -> bytes | None:
        """ICMP, put together from fragments."""
        flags = int.from_bytes(packet[6:8], "big")
        parts = self._fragments.setdefault(packet[4:6], {})
        parts[(flags & 0x1FFF) * 8] = packet[20:]
        if not flags & 0x2000:
            parts[-1] = b""
        data = b"".join(parts[at] for at in sorted(parts))
        ends = {at + len(part) for at, part in parts.items() if at >= 0}
        if -1 not in parts or len([at for at in parts if at > 0 and at not in ends]) or 0 not in parts:
            return None
        del self._fragments[packet[4:6]]
        return data

    def _echo(self, message: bytes) -> list[bytes]:
        if message[0] != 8:
            return []
        self.wrong += words_sum(message) != 0xFFFF
        reply = b"\0\0\0\0" + message[4:]
        reply = reply[:2] + (~words_sum(reply) & 0xFFFF).to_bytes(2, "big") + reply[4:]
        size = 1480
        return [
            _frame(ICMP, reply[at : at + size], (0x2000 if at + size < len(reply) else 0) | at // 8)
            for at in range(0, len(reply), size)
        ]

    def _tcp(self, packet: bytes) -> list[bytes]:
        source, destination, sequence, acknowledged, offset, flags = struct.unpack_from(">HHIIBB", packet, 20)
        data = packet[20 + (offset >> 4) * 4 :]
        self._window = 0 if flags & SYN else 65535  # closed at first, so that much is ready when it opens
        if flags & SYN:
            self._expected = sequence + 1 & 0xFFFF_FFFF
            options = struct.pack(">BBHBBBB", 2, 4, 1460, 3, 3, 4, 1)
            return [self._segment(destination, source, 1000, SYN | ACK, options)]
        asks = bool(data) or sequence != self._expected
        if sequence == self._expected:
            self.taken += data
            self._expected = sequence + len(data) & 0xFFFF_FFFF
            if flags & FIN:
                self.ended = True
                self._expected = self._expected + 1 & 0xFFFF_FFFF
                return [self._segment(destination, source, 1001, ACK | FIN)]
        return [self._segment(destination, source, acknowledged, ACK)] if asks else []

    def _segment(self, source: int, destination: int, sequence: int, flags: int, options: bytes = b"") -> bytes:
        header = struct.pack(
            ">HHIIBBHHH",
            source,
            destination,
            sequence,
            self._expected,
            (20 + len(options)) << 2,
            flags,
            self._window,
            0,
            0,
        )
        segment = header + options
        pseudo = PEER_IP + GUEST_IP + struct.pack(">HH", TCP, len(segment))
        checksum = ~words_sum(pseudo + segment) & 0xFFFF
        return _frame(TCP, segment[:16] + checksum.to_bytes(2, "big") + segment[18:])


def _frame(protocol: int, payload: bytes, fragment: int = 0) -> bytes:
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 77, fragment, 64, protocol, 0, PEER_IP, GUEST_IP)
    header = header[:10] + (~words_sum(header) & 0xFFFF).to_bytes(2, "big") + header[12:]
    return (GUEST_ADDRESS + PEER_ADDRESS + b"\x08\x00" + header + payload).ljust(60, b"\0")


class Guest:
    """A booted guest, its peer, and the port between them."""

    def __init__(self, engine: str) -> None:
        self.peer = Peer()
        self.port = RecordingPort(self.peer.answer)
        self.session = NetworkSession.boot_with(engine, ["e1000"], [self.port])

    def up(self) -> None:
        self.session.succeed("ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up")
        self.wait_for_carrier(True)

    def wait_for_carrier(self, up: bool) -> None:
        """The driver has a look every two seconds, and sooner if it is told to."""
        for _ in range(4):
            if self.session.run("cat /sys/class/net/eth0/carrier") == str(int(up)):
                return
            self.session.run("sleep 0.6")
        raise AssertionError(f"the driver does not see that its cable is {'in' if up else 'out'}")

    def fetched_while(self, line: str) -> list[FrameFetched]:
        """What the card fetches to send while a command runs."""
        log, fetched = self.session.vm.log, list[FrameFetched]()
        log.listen(lambda event: fetched.append(event) if isinstance(event, FrameFetched) else None)
        self.session.succeed(line)
        log.listeners.clear()
        log.active = False
        return fetched

    def ping(self, options: str = "") -> None:
        said = self.session.succeed(f"ping -c 2 -i 0.1 {options} 10.0.0.1")
        assert "2 packets received, 0% packet loss" in said, said


both_engines = pytest.mark.parametrize("guest", ["svm", "bt"], indirect=True, scope="module")
svm_only = pytest.mark.parametrize("guest", ["svm"], indirect=True, scope="module")
"""The driver's code is the same, and translating it takes its time."""


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    guest = Guest(request.param)
    guest.up()
    yield guest
    said = guest.session.run("dmesg")
    assert "Tx Unit Hang" not in said
    assert "WARNING" not in said
    assert "Call Trace" not in said
    guest.session.close()


@both_engines
def test_the_driver_finds_the_card_and_its_address(guest: Guest) -> None:
    said = guest.session.run("dmesg | grep e1000; cat /proc/interrupts")
    assert "Intel(R) PRO/1000 Network Connection" in said
    assert "00:50:56:00:00:01" in said
    assert "Link is Up 1000 Mbps Full Duplex" in said
    assert "XT-PIC      eth0" in said


@both_engines
def test_pings_of_all_sizes_are_answered(guest: Guest) -> None:
    for options in ("", "-s 1400", "-s 5000"):
        guest.ping(options)
    assert guest.peer.asked
    assert guest.peer.wrong == 0


@both_engines
def test_promiscuous_mode_reaches_the_port(guest: Guest) -> None:
    guest.session.succeed("ip link set eth0 promisc on")
    assert guest.port.listens[-1] == (GUEST_ADDRESS, True)
    guest.session.succeed("ip link set eth0 promisc off")
    assert guest.port.listens[-1] == (GUEST_ADDRESS, False)


@svm_only
def test_a_stream_is_segmented_by_the_card(guest: Guest) -> None:
    """What comes is what was sent, in frames of the usual size, though the driver has handed over larger packets."""
    guest.peer.taken.clear()
    sent = guest.fetched_while("seq 1 4000 | nc 10.0.0.1 5000")
    assert bytes(guest.peer.taken) == b"".join(b"%d\n" % n for n in range(1, 4001))
    assert guest.peer.wrong == 0
    assert max(event.segments for event in sent) > 1
    assert max(map(len, guest.port.sent)) <= 1514


@svm_only
def test_a_machine_that_is_saved_and_loaded_under_way_loses_no_ping(guest: Guest) -> None:
    line = "ping -q -c 50 -i 0.01 10.0.0.1"
    guest.session.type(line)
    for ns in (30_000_000, 1_003_000, 2_000_700, 7_000_011, 113_000_000):
        guest.session.slice(ns)
        guest.session.vm.load_state(guest.session.vm.save_state())
    assert "50 packets received, 0% packet loss" in guest.session.answer(line)


@svm_only
def test_frames_are_as_long_as_the_mtu_says(guest: Guest) -> None:
    guest.session.succeed("ip link set eth0 mtu 4000")
    guest.wait_for_carrier(True)
    guest.ping("-s 3500")
    assert max(map(len, guest.port.sent)) == 14 + 20 + 8 + 3500
    guest.session.succeed("ip link set eth0 mtu 1500")


@svm_only
def test_vlan_tags_are_the_cards_work(guest: Guest) -> None:
    guest.wait_for_carrier(True)
    guest.session.succeed("modprobe 8021q; vconfig add eth0 5")
    guest.session.succeed("ip addr flush dev eth0; ip addr add 10.0.0.2/24 dev eth0.5; ip link set eth0.5 up")
    before = len(guest.port.sent)
    sent = guest.fetched_while("ping -c 2 -i 0.1 10.0.0.1")
    to_peer = [frame for frame in guest.port.sent[before:] if frame[:6] == PEER_ADDRESS]
    assert {frame[12:16] for frame in to_peer} == {b"\x81\x00\x00\x05"}
    assert {event.frame for event in sent} >= set(to_peer)
    guest.session.succeed("vconfig rem eth0.5; ip addr add 10.0.0.2/24 dev eth0")


@svm_only
def test_a_pulled_cable_is_noticed(guest: Guest) -> None:
    guest.wait_for_carrier(True)
    guest.port.pull(False)
    guest.wait_for_carrier(False)
    guest.port.pull(True)
    guest.wait_for_carrier(True)
    guest.ping()


@svm_only
def test_the_module_can_be_unloaded_and_loaded_again(guest: Guest) -> None:
    guest.session.succeed("rmmod e1000; test ! -e /sys/class/net/eth0")
    guest.session.succeed("modprobe e1000")
    guest.up()
    guest.ping()
