"""The teaching kernel's network driver and stack on a PC and a card that others wrote: QEMU's Am79C970A.

Frames are judged by tshark, what the kernel does with bad ones by a model of our own (network_peer.py).
"""

from __future__ import annotations

import io
import re
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.guests import qemu
from tests.guests.hostile_frames import Hostile
from tests.guests.network_peer import BROADCAST, Judge, Peer, datagram_of, dotted, ethernet
from tests.tools import require_tool
from vilab.guests import BUNDLED
from vilab.guests.build import PREBUILT, bundled_program_names

KERNEL = PREBUILT / "kernel-network.elf"
GUEST = bytes.fromhex("525400123405")
GUEST_IP, PEER_IP = dotted("10.0.0.5"), dotted("10.0.0.9")
PEER = bytes.fromhex("005056000009")
PROMPT = "shell> "
MOST_BYTES = 1 << 16
LONG = bytes(range(256)) * 5 + bytes(192)


class Guest:
    """The kernel in QEMU. ``said``: what came over its serial line."""

    def __init__(self, netdev: str, append: str = "", *extra: str) -> None:
        card = ["-netdev", f"{netdev},id=n", "-device", f"pcnet,netdev=n,mac={GUEST.hex(':')},romfile="]
        command = [*qemu.command(KERNEL, append, "16M"), *card, *extra]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._limit = threading.Timer(qemu.SECONDS, self.process.kill)
        self._limit.start()
        self._output = bytearray()

    @property
    def said(self) -> str:
        return self._output.decode(errors="replace").replace("\r", "")

    def type(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.process.stdin.flush()

    def until(self, text: str) -> None:
        assert isinstance(self.process.stdout, io.BufferedReader)
        while text not in self.said:
            piece = self.process.stdout.read1()
            assert piece, self.said
            self._output += piece

    def end(self) -> str:
        """Until it has switched itself off; what went to standard error."""
        out, errors = self.process.communicate()
        self._output += out
        assert self.process.returncode == 0, errors.decode()
        return errors.decode()

    def close(self) -> None:
        self._limit.cancel()
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@contextmanager
def on_user_network(append: str, *extra: str) -> Iterator[Guest]:
    guest = Guest("user", append, *extra)
    try:
        yield guest
    finally:
        guest.close()


class Wire:
    """The other end of the card's cable, as frames."""

    def __init__(self, folder: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"{folder}/peer")
        self._socket.settimeout(qemu.SECONDS)
        self._guest = f"{folder}/guest"
        self.netdev = f"dgram,local.type=unix,local.path={self._guest},remote.type=unix,remote.path={folder}/peer"

    def send(self, frame: bytes) -> None:
        self._socket.sendto(frame, self._guest)

    def receive(self) -> bytes:
        return self._socket.recv(MOST_BYTES)

    def take(self, frames: int) -> list[bytes]:
        return [self.receive() for _ in range(frames)]

    def serve(self, answer: Callable[[bytes], list[bytes]], until: Callable[[], bool]) -> None:
        """Answers what comes until that is true, asked after each frame."""
        while not until():
            for frame in answer(self.receive()):
                self.send(frame)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def on_a_wire(*extra: str, append: str = "") -> Iterator[tuple[Guest, Wire]]:
    with tempfile.TemporaryDirectory(prefix="wire") as folder:
        wire = Wire(folder)
        guest = Guest(wire.netdev, append, *extra)
        try:
            yield guest, wire
        finally:
            guest.close()
            wire.close()


def dumping(path: Path) -> list[str]:
    return ["-object", f"filter-dump,id=dump,netdev=n,file={path}"]


def tshark(capture: Path, wanted: str, *fields: str) -> list[list[str]]:
    command = [require_tool("tshark", "the Debian package tshark"), "-r", str(capture), "-Y", wanted, "-T", "fields"]
    for option in ("ip.check_checksum:TRUE", "udp.check_checksum:TRUE"):
        command += ["-o", option]
    for field in ("frame.number", *fields):
        command += ["-e", field]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line.split("\t")[1:] for line in done.stdout.splitlines()]


def nothing_is_wrong_with(capture: Path) -> None:
    bad = "||".join(f'{layer}.checksum.status=="Bad"' for layer in ("ip", "udp", "icmp"))
    assert tshark(capture, f"_ws.malformed || _ws.expert.severity==error || {bad}") == []
    for layer in ("ip", "udp", "icmp"):
        from_guest = f"eth.src=={GUEST.hex(':')} && {layer}"
        assert tshark(capture, from_guest) == tshark(capture, f'{from_guest} && {layer}.checksum.status=="Good"')


def counters(said: str) -> dict[str, int]:
    listing = said.rpartition("netstat\n")[2]
    return {name: int(value) for name, value in re.findall(r"^([a-z_]+) (\d+)$", listing, re.MULTILINE)}


@pytest.mark.interop
def test_it_pings_qemus_gateway_and_its_datagrams_reach_the_host(tmp_path: Path) -> None:
    capture = tmp_path / "user.pcap"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 0))
        host.settimeout(qemu.SECONDS)
        with on_user_network("ip=10.0.2.15 gateway=10.0.2.2", *dumping(capture)) as guest:
            lines = ("ping 10.0.2.2 3 56 5", "ping 10.0.2.2 1 1472", f"netsend 10.0.2.2 {host.getsockname()[1]} 5 300")
            guest.type(*lines, "netstat", "poweroff")
            received = [host.recv(2000) for _ in range(5)]
            guest.end()
    assert received == [bytes((0, 0, 0, n)) + bytes((n + i) % 256 for i in range(4, 300)) for n in range(5)]
    assert f"network: 10.0.2.15, card {GUEST.hex(':')}\n" in guest.said
    assert [f"ping: {n}: 56 bytes from 10.0.2.2, hops left 255\n" in guest.said for n in (1, 2, 3)] == [True] * 3
    assert guest.said.count("ping: 1: 1472 bytes from 10.0.2.2") == 1
    assert "gateway 10.0.2.2\n" in guest.said
    assert counters(guest.said) == {"sent": 10, "arp_learned": 1, "ping_came_back": 4}
    nothing_is_wrong_with(capture)
    assert len(tshark(capture, "icmp.resp_to")) == 4


@pytest.mark.interop
def test_another_network_is_reached_through_the_gateway_and_not_without_one() -> None:
    with on_user_network("ip=10.0.2.15 gateway=10.0.2.2") as guest:
        guest.type("netsend 192.0.2.1 9 2 10", "poweroff")
        guest.end()
    assert "netsend: 2 datagrams of 10 bytes to 192.0.2.1 port 9\n" in guest.said
    with on_user_network("ip=10.0.2.15") as guest:
        guest.type("netsend 192.0.2.1 9 2 10", "ping 10.0.2.255", "ping 127.0.0.1", "ping nonsense", "poweroff")
        guest.end()
    assert guest.said.count("no way there: another network, and no gateway\n") == 4


@pytest.mark.interop
def test_a_peer_is_answered_and_answers(tmp_path: Path) -> None:
    capture, peer = tmp_path / "wire.pcap", Peer(PEER, PEER_IP)
    came: list[bytes] = []
    with on_a_wire(*dumping(capture)) as (guest, wire):
        guest.type("udpecho 40009 3")
        guest.until("udpecho: port 40009\n")
        wire.send(peer.question(GUEST_IP))
        came.append(wire.receive())
        for number, size in enumerate((0, 1, 1472)):
            wire.send(peer.datagram(GUEST, GUEST_IP, 40009, LONG if size == 1472 else b"x" * size))
            came.append(wire.receive())
            wire.send(peer.echo(GUEST, GUEST_IP, number, b"y" * size))
            came.append(wire.receive())
        guest.until("udpecho: 3:")
        guest.type("ping 10.0.0.9 2 100 5", "netsend 10.0.0.9 5001 30 1000")
        wire.serve(peer.answer, lambda: len(peer.datagrams) == 30)
        guest.type("netstat", "poweroff")  # not before all has come: QEMU takes with it what still waits
        guest.end()
    judge = Judge(GUEST, GUEST_IP)
    assert came[0] == judge.judge(peer.question(GUEST_IP))[1]
    echoed = [found for found in map(datagram_of, came) if found]
    assert [(each.source_port, each.port, len(each.data)) for each in echoed] == [
        (40009, 40000, n) for n in (0, 1, 1472)
    ]
    assert echoed[2].data == LONG
    assert "ping: 2 of 2 answered\n" in guest.said
    assert [each.data[:4] for each in peer.datagrams] == [bytes((0, 0, 0, n)) for n in range(30)]
    found = counters(guest.said)
    assert (found["icmp_answered"], found["ping_came_back"], found["udp_delivered"]) == (3, 2, 3)
    nothing_is_wrong_with(capture)
    assert len(tshark(capture, "icmp.resp_to")) == 5


@pytest.mark.interop
def test_a_frame_sent_takes_three_accesses_of_the_data_register_each_after_the_address_register() -> None:
    peer = Peer(PEER, PEER_IP)
    with on_a_wire("-trace", "pcnet_ioport_read", "-trace", "pcnet_ioport_write") as (guest, wire):
        guest.type("netsend 10.0.0.9 5001 40 64")
        wire.serve(peer.answer, lambda: len(peer.datagrams) == 40)
        guest.type("poweroff")
        errors = guest.end()
    found = re.findall(r"^pcnet_ioport_(\w+) .*addr=0x(\w+)(?: data=0x(\w+))? size=2$", errors, re.MULTILINE)
    steps = [(kind, int(at, 16), int(data or "0", 16)) for kind, at, data in found]
    select, send_now, why, known = ("write", 0x12, 0), ("write", 0x10, 0x48), ("read", 0x10, 0), ("write", 0x10, 0x240)
    assert steps[-6 * 39 :] == [select, send_now, select, why, select, known] * 39


@pytest.mark.interop
@pytest.mark.parametrize("seed", range(2))
def test_thousands_of_hostile_frames_are_counted_and_answered_as_the_model_says(seed: int) -> None:
    hostile, judge, peer = Hostile(seed, GUEST, GUEST_IP), Judge(GUEST, GUEST_IP), Peer(PEER, PEER_IP)
    expected, answers, got = Counter[str](), list[bytes](), list[bytes]()

    def send(frame: bytes) -> None:
        outcome, answer = judge.judge(frame)
        expected[outcome] += 1
        if answer is not None:
            answers.append(answer)
        wire.send(frame)

    with on_a_wire() as (guest, wire):
        guest.until(PROMPT)
        for _ in range(1000):
            for _ in range(3):  # fewer than the card has buffers, then wait
                send(hostile.next())
            send(peer.echo(GUEST, GUEST_IP, len(got) % 65536))
            while len(got) < len(answers):
                got.append(wire.receive())
        guest.type("netstat", "calls", "poweroff")
        guest.end()
    assert got == answers
    found = counters(guest.said)
    assert found.pop("sent") == len(answers)
    assert found == {name: count for name, count in expected.items() if count}
    assert len(found) >= 14
    assert "calls: 23 checks, 0 wrong\n" in guest.said


@pytest.mark.interop
def test_giant_frames_and_a_flood_of_neighbours_leave_it_as_it_was() -> None:
    peer = Peer(PEER, PEER_IP)
    with on_a_wire() as (guest, wire):
        guest.until(PROMPT)
        for number in range(100):
            wire.send(ethernet(GUEST, PEER, 0x0800, b"\x45" * (1501 + 25 * number)))
            stranger = Peer(bytes((0, 0x50, 0x56, 1, 1, number)), GUEST_IP[:3] + bytes((100 + number,)))
            for frame in (stranger.question(GUEST_IP), peer.echo(GUEST, GUEST_IP, number)):
                wire.send(frame)
                assert wire.receive()[:6] == frame[6:12]
        guest.type("netstat", "ping 10.0.0.9 1", "poweroff")
        wire.serve(peer.answer, lambda: "hops left 64" in guest.said or peer.number == 101)
        guest.end()
    found = counters(guest.said.partition("ping 10.0.0.9")[0])
    assert (found["arp_answered"], found["icmp_answered"], found["frame_bad"]) == (100, 100, 1)
    assert found["damaged"] >= 99
    assert "ping: 1 of 1 answered\n" in guest.said


@pytest.mark.interop
def test_nobody_answers_for_an_address_and_three_questions_have_been_asked() -> None:
    with on_a_wire() as (guest, wire):
        guest.type("ping 10.0.0.77", "poweroff")
        came = wire.take(3)
        guest.end()
    assert "ping: nobody there has this address\n" in guest.said
    assert [(frame[:6], frame[38:42]) for frame in came] == [(BROADCAST, dotted("10.0.0.77"))] * 3


@pytest.mark.interop
def test_without_a_card_every_call_is_refused() -> None:
    output = qemu.run(KERNEL, typed="ping 10.0.0.1\nudpecho\nnetsend 10.0.0.1\nnetstat\ncalls\nls\npoweroff\n")
    for program in ("ping", "udpecho", "netsend", "netstat"):
        assert f"{program}: there is no network card\n" in output
    assert "calls: 23 checks, 0 wrong\n" in output
    assert "pcnet:" not in output


def test_every_program_of_it_has_a_name_to_run_it_by() -> None:
    names = bundled_program_names("network")
    assert not {name for name in names if name not in BUNDLED}
    assert names[: len(bundled_program_names("disk"))] == bundled_program_names("disk")
    own = set(names) - set(bundled_program_names("disk"))
    assert {name for name in names if BUNDLED[name].file == KERNEL.name} == own
    assert set(bundled_program_names("network-para")) == own | set(bundled_program_names("disk-para"))
