"""Three cards in a stock Debian, and frames that are lost: what is counted, and what the lesson says of it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from vilab.clock import VirtualClock
from vilab.course import card_figures, card_views
from vilab.course.card_breaks import Burst
from vilab.course.card_figures import NOT_HERE, Costs, Happened, Measured, measured, one_ping
from vilab.course.card_sink import FIRST_SEQUENCE, Sink
from vilab.course.one_packet import OnePacket
from vilab.course.predictions_cards import least, stream_questions
from vilab.devices.pcnet_registers import REGISTERS
from vilab.errors import AdminError
from vilab.network.cable import VirtualCable
from vilab.network.packets import ACK, FIN, PSH, RST, SYN, TCP, Ipv4, Tcp, parse_ipv4, parse_tcp
from vilab.network.small_network import GROUP, SmallNetwork

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "15-virtual-nics.ipynb"
CLIENT, CLIENT_IP = bytes.fromhex("005056000042"), bytes((10, 0, 0, 66))


# The sink ---------------------------------------------------------------------------------------------------------


class Client:
    """Sends segments by hand; ``heard`` has those that came back."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        network = SmallNetwork(self.clock)
        port = network.switch.connect(GROUP, "sink", address=card_figures.SINK_ADDRESS)
        self.sink = Sink(VirtualCable(port, self.clock, self.clock), card_figures.SINK_ADDRESS, card_figures.SINK)
        self.port = network.connect("client", CLIENT)
        self.port.plug(self)
        self.heard: list[Tcp] = []

    def receive(self, frame: bytes) -> None:
        if frame[12:14] == b"\x08\x06":
            answer = bytes.fromhex("0001080006040002") + CLIENT + CLIENT_IP + frame[22:32]
            self.port.transmit(frame[6:12] + CLIENT + b"\x08\x06" + answer)
            return
        packet = parse_ipv4(frame[14:])
        self.heard.append(parse_tcp(packet.payload, packet.source, packet.destination))

    def link_changed(self, up: bool) -> None: ...

    def wants_multicast(self, destination: bytes) -> bool:
        return False

    def say(self, sequence: int, flags: int, data: bytes = b"") -> Tcp | None:
        """One segment; the answer to it."""
        before = len(self.heard)
        segment = Tcp(4000, 9, sequence, 0, flags, data=data).encode(CLIENT_IP, card_figures.SINK)
        packet = Ipv4(CLIENT_IP, card_figures.SINK, TCP, segment).encode()
        self.port.transmit(card_figures.SINK_ADDRESS + CLIENT + b"\x08\x00" + packet)
        self.clock.run_to(self.clock.now_ns + 1_000_000)
        assert len(self.heard) <= before + 1
        return self.heard[-1] if len(self.heard) > before else None


def test_the_sink_takes_a_stream_in_order_and_says_so() -> None:
    client = Client()
    hello = client.say(100, SYN)
    assert hello is not None
    assert (hello.flags, hello.sequence, hello.acknowledgement) == (SYN | ACK, FIRST_SEQUENCE, 101)
    assert client.say(101, ACK, b"a" * 10) is None  # the first of two
    second = client.say(111, ACK, b"b" * 10)
    assert second is not None
    assert second.acknowledgement == 121
    lost = client.say(200, ACK, b"too early")
    assert lost is not None
    assert lost.acknowledgement == 121
    pushed = client.say(121, ACK | PSH, b"c")
    assert pushed is not None
    assert pushed.acknowledgement == 122
    end = client.say(122, FIN | ACK)
    assert end is not None
    assert end.flags & FIN
    assert end.acknowledgement == 123
    assert client.sink.taken_bytes == 21


def test_a_segment_of_no_stream_is_refused() -> None:
    refused = Client().say(5, ACK, b"who are you")
    assert refused is not None
    assert refused.flags & RST


# Counting ---------------------------------------------------------------------------------------------------------


def test_a_ping_is_cut_to_what_belongs_to_it() -> None:
    def happened(text: str) -> list[Happened]:
        names = {"d": "dma", "w": "write", "r": "read", "o": "frame", "i": "frame", "p": "pic"}
        return [Happened(names[each], {"o": "out", "i": "in"}.get(each, each), 0) for each in text]

    kept = one_ping(happened("ddpwwddodpwdidrwpdddd"))
    assert "".join({"frame": "f"}.get(each.kind, each.kind[0]) for each in kept) == "wwddfdpwdfdrwp"


def test_without_debian_the_lesson_goes_on_with_pcnet_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_here() -> None:
        raise AdminError("not here")

    monkeypatch.setattr(card_figures, "ThreeCards", not_here)
    alone = card_figures.measured.__wrapped__()
    assert alone.note == NOT_HERE
    assert list(alone.pings) == list(alone.large) == list(alone.small) == ["vlance"]
    assert sum(each.kind in ("read", "write") for each in alone.pings["vlance"]) == 10
    assert alone.large["vlance"].frames_out == 256
    monkeypatch.setattr(card_views, "measured", lambda: alone)
    assert NOT_HERE in card_views.ping_table()
    assert NOT_HERE in card_views.stream_table()
    view = card_views.beside("?", ask=True)
    assert view.playback.asked is None
    assert card_views.walk(view, view.playback.track.total).endswith("vlance is done, 14 exits.")


def costs(card: str, accesses: int, pic: int) -> Costs:
    return Costs(card, card_figures.MB, accesses, 0, pic, 10, 0, 1, 1, 1, 0, {})


def test_the_answer_to_the_question_is_in_the_counts() -> None:
    found = Measured({}, {"vlance": costs("vlance", 9, 9), "e1000": costs("e1000", 1, 1)}, {
        "vlance": costs("vlance", 1, 1), "e1000": costs("e1000", 2, 0)})  # fmt: skip
    ask = stream_questions(lambda: found)
    first = ask(0)
    assert first is not None
    assert first.options[first.right()].startswith("e1000")
    assert ask(2) is None
    assert least(found.large).card == "e1000"


@pytest.mark.interop
@pytest.mark.timeout(300)
def test_stock_debian_with_three_cards() -> None:
    found = measured()
    assert not found.note
    pings = {kind: sum(each.kind in ("read", "write") for each in ping) for kind, ping in found.pings.items()}
    assert pings["vmxnet3"] < pings["e1000"] < pings["vlance"]
    large, small = found.large, found.small
    assert all(each.sent_bytes == card_figures.MB for each in large.values())
    # Segmentation: as many frames, few packets. PCnet has none.
    assert large["vlance"].requests == large["vlance"].frames_out
    for kind in ("e1000", "vmxnet3"):
        assert large[kind].requests * 5 < large[kind].frames_out
    # The deferred doorbell; the interrupts that were waited with.
    assert small["vmxnet3"].registers.get("TXPROD", 0) * 5 < small["e1000"].registers["TDT"]
    assert large["e1000"].interrupts < large["vmxnet3"].interrupts
    assert least(small).card == "vmxnet3"
    eager = card_figures.stream_after("e1000", "rmmod e1000", "modprobe e1000 InterruptThrottleRate=0")
    assert eager.interrupts > large["e1000"].interrupts
    assert eager.for_the_card > large["e1000"].for_the_card


def test_the_lesson_quotes_what_its_own_cell_has_counted() -> None:
    """The table in the text is the stored output of the cell above it."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    printed = next(c for c in cells if c.cell_type == "code" and "stream_table()" in c.source).outputs[0].text
    quoted = next(c.source for c in cells if "| exits for a megabyte |" in c.source)
    counted = [line.split()[-5:] for line in printed.splitlines()[1:]]
    rows = [line for line in quoted.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(counted) == 6
    for row, (_, registers, pic, together, _) in zip(rows, counted, strict=True):
        assert [cell.strip(" *") for cell in row.split("|")[2:5]] == [registers, pic, together]


# Broken -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("burst", "stored", "missed"), [
    (Burst(8), 8, 0),
    (Burst(12), 8, 4),
    (Burst(12, gap_us=200), 12, 0),
    (Burst(12, owned=3), 3, 9),
    (Burst(12, gap_us=200, masked=True), 8, 4),
])  # fmt: skip
def test_frames_without_a_descriptor_are_missed_and_counted(burst: Burst, stored: int, missed: int) -> None:
    assert (burst.stored, burst.missed) == (stored, missed)
    assert burst.counter == missed
    if not burst.masked:
        assert burst.answers == stored
    else:
        assert burst.interrupts == burst.answers == 0


def test_questions_about_lost_frames_are_judged_by_a_run() -> None:
    ask = card_views.bursts("?", ask=True).playback.ask
    assert ask is not None
    asked = {at: question for at in range(len(card_views.BREAKS)) if (question := ask(at))}
    assert {at: question.options[question.right()] for at, question in asked.items()} == {1: "1 to 4.", 4: "1 to 4."}


def test_the_registers_are_the_datasheets_with_a_pings_accesses() -> None:
    run = OnePacket()
    lines = [line.split()[:4] for line in card_views.registers(run).splitlines()[1:]]
    assert lines == [
        ["0x0010", "RW", "RDP", "5"], ["0x0012", "RW", "RAP", "5"], ["0x0010[00]", "RW", "STATUS", "5"],
    ]  # fmt: skip
    assert len(card_views.registers(every=True).splitlines()) == len(REGISTERS) + 1
