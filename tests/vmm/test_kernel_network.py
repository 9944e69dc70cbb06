"""The teaching kernel's network driver and stack: the same frames under every engine, and what hostile ones do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import msgspec
import pytest

from tests.guests.hostile_frames import Hostile
from tests.guests.network_peer import Judge, Peer, datagram_of
from tests.guests.test_kernel_network import counters
from tests.vmm.disk_guest import DISK_BYTES, ENGINES
from tests.vmm.network_guest import GUEST, GUEST_IP, PEER, PEER_IP, NetworkGuest
from vilab.devices.adapter_events import AdapterRegisterWritten
from vilab.devices.network_events import FrameFetched, FrameStored
from vilab.events import EventLog
from vilab.guests.tinyfs import read_content, read_volume
from vilab.storage.block import MemoryDisk
from vilab.vmm.vm import VmState

LONG = bytes(range(256)) * 5 + bytes(192)

SESSION = (
    "ping 10.0.0.9 3 100 2", "ping 10.0.0.9 1 1472", "netsend 10.0.0.9 5001 40 1472", "netsend 10.0.0.9 5001 20 0",
    "ping 10.0.0.77", "ping 192.0.2.1", "netstat", "poweroff",
)  # fmt: skip


@cache
def on_the_bare_machine() -> tuple[str, tuple[bytes, ...]]:
    guest = NetworkGuest(*SESSION)
    guest.run()
    return guest.output, tuple(guest.port.sent)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_says_the_same_and_sends_the_same_frames(engine: str) -> None:
    guest = NetworkGuest(*SESSION, engine=engine)
    guest.run()
    assert (guest.output, tuple(guest.port.sent)) == on_the_bare_machine()


def test_what_it_sends_is_what_was_asked_for() -> None:
    output, frames = on_the_bare_machine()
    assert "network: 10.0.0.5, card 00:50:56:00:00:05\n" in output
    assert "ping: 3 of 3 answered\n" in output
    assert "ping: nobody there has this address\n" in output
    assert "ping: no way there: another network, and no gateway\n" in output
    sent = [found for found in map(datagram_of, frames) if found]
    long = [bytes((0, 0, 0, n)) + bytes((n + i) % 256 for i in range(4, 1472)) for n in range(40)]
    assert [each.data for each in sent] == long + [b""] * 20
    assert {len(frame) for frame in frames} == {60, 142, 1514}
    assert counters(output) == {"sent": 4 + 60 + 4, "arp_learned": 1, "ping_came_back": 4}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_datagram_comes_back_from_its_echo_and_a_closed_port_says_so(engine: str) -> None:
    guest, judge = NetworkGuest("udpecho 40009 3", engine=engine), Judge(GUEST, GUEST_IP)
    peer = guest.peer
    guest.run_until(lambda: "udpecho: port 40009\n" in guest.output)
    closed = peer.datagram(GUEST, GUEST_IP, 40010, b"nobody")
    guest.cable.receive(closed)
    guest.run_until(lambda: len(guest.port.sent) == 1)
    assert guest.port.sent == [judge.judge(closed)[1]]
    for size in (0, 1, 1472):
        guest.cable.receive(peer.datagram(GUEST, GUEST_IP, 40009, LONG if size > 1 else b"x" * size))
    guest.console.type("netstat")
    guest.console.type("poweroff")
    guest.run()
    echoed = [found for found in map(datagram_of, guest.port.sent[1:]) if found]
    assert [(each.source_port, each.port, len(each.data)) for each in echoed] == [
        (40009, 40000, n) for n in (0, 1, 1472)
    ]
    assert echoed[2].data == LONG
    assert counters(guest.output) == {"sent": 5, "arp_learned": 1, "udp_no_such_port": 1, "udp_delivered": 3}


@pytest.mark.parametrize("engine", ["bare", "bt mirrored", "svm nested"])
def test_a_run_is_the_same_event_for_event(engine: str) -> None:
    def events() -> list[object]:
        log = EventLog(keep=True)
        NetworkGuest("ping 10.0.0.9 2 56 1", "netsend 10.0.0.9 5001 10 100", "poweroff", engine=engine, log=log).run()
        return [each for each in log.events if isinstance(each, FrameFetched | FrameStored | AdapterRegisterWritten)]

    first = events()
    assert len(first) >= 40
    assert first == events()


def test_a_frame_sent_is_one_write_that_sends_and_one_that_acknowledges() -> None:
    log = EventLog(keep=True)
    NetworkGuest("netsend 10.0.0.9 5001 50 64", "poweroff", log=log).run()
    written = [
        each.value for each in log.events if isinstance(each, AdapterRegisterWritten) and each.register == "CSR0"
    ]
    send_now, known = 0x48, 0x240
    assert written.count(send_now) == 51  # and the question whose address that is
    stream = written[-2 * 40 :]
    assert set(stream) == {send_now, known}
    assert stream.count(known) <= stream.count(send_now)  # one interrupt may be for several


@pytest.mark.parametrize(
    ("engine", "rounds"), [("bare", 1000), ("bt mirrored", 150), ("svm nested", 150), ("para", 150)]
)
def test_hostile_frames_are_counted_and_answered_as_the_model_says(engine: str, rounds: int) -> None:
    guest, judge, peer = (
        NetworkGuest(engine=engine, answer=lambda frame: ()),
        Judge(GUEST, GUEST_IP),
        Peer(PEER, PEER_IP),
    )
    hostile = Hostile(7, GUEST, GUEST_IP, least_bytes=60)
    expected, answers = Counter[str](), list[bytes]()
    guest.to_prompt()
    for number in range(rounds):
        for frame in (hostile.next(), hostile.next(), hostile.next(), peer.echo(GUEST, GUEST_IP, number)):
            outcome, answer = judge.judge(frame)
            expected[outcome] += 1
            if answer is not None:
                answers.append(answer)
            guest.cable.receive(frame)
        guest.run_until(lambda: len(guest.port.sent) >= len(answers))
    for line in ("netstat", "calls", "poweroff"):
        guest.console.type(line)
    guest.run()
    assert guest.port.sent == answers
    found = counters(guest.output)
    assert found.pop("sent") == len(answers)
    assert found == {name: count for name, count in expected.items() if count}
    assert "calls: 23 checks, 0 wrong\n" in guest.output


def test_a_burst_that_is_longer_than_its_rings_is_lost_in_part_and_nothing_else() -> None:
    guest, judge = NetworkGuest("netsink 5001 1000 50"), Judge(GUEST, GUEST_IP)
    guest.run_until(lambda: "netsink: port 5001\n" in guest.output)
    for number in range(200):
        data = number.to_bytes(4, "big") + bytes((number + i) % 256 for i in range(4, 400))
        guest.cable.receive(guest.peer.datagram(GUEST, GUEST_IP, 5001, data))
    question = guest.peer.question(GUEST_IP)
    guest.run_until(lambda: guest.output.endswith("shell> "), 10_000_000)
    guest.cable.receive(question)
    for line in ("netstat", "poweroff"):
        guest.console.type(line)
    guest.run()
    found = counters(guest.output)
    came = found["udp_delivered"]
    assert 8 <= came < 200
    assert f"netsink: {came} datagrams, 0 damaged, " in guest.output
    assert found["missed"] >= 1 or found["udp_queue_full"] == 200 - came
    assert guest.port.sent[-1] == judge.judge(question)[1]


def test_disks_and_card_share_an_interrupt_and_both_are_served() -> None:
    disk = MemoryDisk(DISK_BYTES)
    lines = ("mkfs", "together netsend 10.0.0.9 5001 200 900 + fill large 60000 3", "put greeting hello", "sync")
    guest = NetworkGuest(*lines, "ping 10.0.0.9 2 50 1", "poweroff", disks=[disk])
    output = guest.run()
    assert output.count("IRQ 11") + guest.output.partition(output)[0].count("IRQ 11") == 2
    assert [each.data[3] for each in guest.peer.datagrams] == list(range(200))
    assert "ping: 2 of 2 answered\n" in output
    volume = read_volume(disk)
    assert read_content(disk, volume.file("greeting")) == b"hello\n"


def test_an_echo_server_whose_pages_were_swapped_out_answers_with_the_same_bytes() -> None:
    disks = [MemoryDisk(DISK_BYTES), MemoryDisk(16 << 20)]
    append = "swapon=1 init=together udpecho 40009 1 + checksum 1900 1 20 0 7"
    guest = NetworkGuest(append=append, disks=disks, memory_bytes=8 << 20)
    guest.run_until(lambda: "checksum: round 1 ok\n" in guest.output, 5_000_000)
    assert "swap: scsi 1, 4096 blocks from 0 on\n" in guest.output
    assert sum(any(disks[1].content[at : at + 4096]) for at in range(0, 16 << 20, 4096)) > 100
    guest.cable.receive(guest.peer.datagram(GUEST, GUEST_IP, 40009, LONG))
    guest.run()
    assert [found.data for found in map(datagram_of, guest.port.sent) if found] == [LONG]


def test_a_guest_suspended_in_the_middle_of_a_stream_goes_on_elsewhere() -> None:
    lines = ("netsend 10.0.0.9 5001 60 700", "ping 10.0.0.9 3 100 2", "netstat", "poweroff")
    whole = NetworkGuest(*lines)
    whole.run()
    guest = NetworkGuest(*lines)
    guest.run_until(lambda: len(guest.peer.datagrams) >= 20, step_ns=7_777)
    assert len(guest.peer.datagrams) < 60
    carried = msgspec.msgpack.decode(msgspec.msgpack.encode(guest.vm.save_state()), type=VmState)
    other = NetworkGuest()
    other.vm.load_state(carried)
    other.run_until(lambda: len(other.port.sent) > 5)
    other.vm.engine.run()
    assert guest.port.sent + other.port.sent == whole.port.sent
    assert guest.output + other.output == whole.output


def test_a_card_that_has_stopped_is_started_again() -> None:
    memory_error, on = 1 << 11, 1 << 5 | 1 << 4
    guest = NetworkGuest("ping 10.0.0.9 1", "udpecho 40009 1")
    guest.run_until(lambda: "udpecho: port 40009\n" in guest.output)
    card = guest.vm.pc.cards[24]
    state = card.save_state()
    state.csr[0] = state.csr[0] & ~on | memory_error
    card.load_state(state)
    guest.run_until(lambda: "pcnet: the card has stopped, status " in guest.output)
    guest.run_until(lambda: bool(card.save_state().csr[0] & on == on))
    guest.cable.receive(guest.peer.datagram(GUEST, GUEST_IP, 40009, b"still there?"))
    for line in ("ping 10.0.0.9 1", "netstat", "poweroff"):
        guest.console.type(line)
    guest.run()
    assert [found.data for found in map(datagram_of, guest.port.sent) if found] == [b"still there?"]
    assert guest.output.count("ping: 1 of 1 answered\n") == 2
    assert counters(guest.output)["restarts"] == 1


def into(guest: NetworkGuest) -> Callable[[bytes], list[bytes]]:
    """Each frame goes to that guest, and nothing comes back at once."""

    def answer(frame: bytes) -> list[bytes]:
        guest.cable.receive(frame)
        return []

    return answer


def test_between_two_kernels_every_datagram_is_delivered_or_counted_as_lost() -> None:
    other_address = GUEST[:5] + b"\6"
    sender = NetworkGuest(answer=lambda frame: ())
    sink = NetworkGuest("netsink 5001 300 200", "netstat", "poweroff", address=other_address, answer=lambda frame: ())
    sender.port.answer, sink.port.answer = into(sink), into(sender)
    sink.run_until(lambda: "netsink: port 5001\n" in sink.output)
    for line in ("netsend 10.0.0.6 5001 300 1400 1", "ping 10.0.0.6 2 56 1", "poweroff"):
        sender.console.type(line)
    over = {"sender": False, "sink": False}
    while not over["sender"]:
        over["sender"] = sender.slice(50_000)
        over["sink"] = over["sink"] or sink.slice(50_000)
    if not over["sink"]:
        sink.run()
    assert "netsend: 300 datagrams of 1400 bytes to 10.0.0.6 port 5001\n" in sender.output
    found = counters(sink.output)
    came, lost = found["udp_delivered"], found.get("udp_queue_full", 0) + found.get("missed", 0)
    assert came >= 8  # a sender that nobody stops is faster than a program that reads
    assert came + lost == 300
    assert f"netsink: {came} datagrams, 0 damaged, " in sink.output
    assert "ping: 2 of 2 answered\n" in sender.output
