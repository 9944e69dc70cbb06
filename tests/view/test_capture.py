"""A capture decoded in place and as a file. The judge: tshark."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.network.captures import captured, tshark
from vilab.course.switch_runs import conversation
from vilab.network.ethernet import BROADCAST, IPV4, frame_of, tagged
from vilab.network.packets import ICMP, PORT_UNREACHABLE, SYN, TCP, UDP, UNREACHABLE, Icmp, Ipv4, Tcp, Udp, ip_of
from vilab.network.pcap import packets_of
from vilab.view.capture import FIELDS_AT, CapturePlayback, CaptureTrack
from vilab.view.frame_bytes_layers import brief, fields, sentence
from vilab.view.switch_lab import SwitchLab

A, B = ip_of("10.0.0.1"), ip_of("10.0.0.2")
MAC = bytes.fromhex("005056a13c07")


def ip_frame(protocol: int, payload: bytes, options: bytes = b"") -> bytes:
    return frame_of(BROADCAST, MAC, IPV4, Ipv4(A, B, protocol, payload, options=options).encode())


SAMPLES = {
    "udp": ip_frame(UDP, Udp(1024, 53, b"hello").encode(A, B)),
    "tcp": ip_frame(TCP, Tcp(1024, 80, 7, 0, SYN, 8192, options=b"\2\4\5\xb4", data=b"x" * 40).encode(A, B)),
    "options": ip_frame(UDP, Udp(1, 2, b"").encode(A, B), options=b"\1\1\1\0"),
    "two tags": tagged(tagged(ip_frame(UDP, Udp(1, 2, b"abc").encode(A, B)), 20, 5), 10),
}


@pytest.fixture(scope="module")
def lab() -> SwitchLab:
    return conversation()


@given(st.binary(min_size=0, max_size=200))
def test_the_fields_of_any_frame_cover_it_without_a_gap(frame: bytes) -> None:
    assert b"".join(field.data for field in fields(frame)) == frame
    at = 0
    for field in fields(frame):
        assert field.at == at
        at = field.end
    if len(frame) >= 14:
        assert brief(frame)
        assert sentence(frame)


@given(st.sampled_from([*SAMPLES.values()]), st.data())
def test_a_damaged_packet_is_shown_as_far_as_it_goes(frame: bytes, data: st.DataObject) -> None:
    damaged = bytearray(frame)
    damaged[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(damaged[: data.draw(st.integers(14, len(damaged)))])
    assert b"".join(field.data for field in fields(cut)) == cut
    assert brief(cut)
    assert sentence(cut)


@pytest.mark.interop
@pytest.mark.parametrize("name", SAMPLES)
def test_ports_and_addresses_are_what_tshark_reads(name: str, tmp_path: Path) -> None:
    frame = SAMPLES[name]
    found = {(f.layer, f.name): f.words.replace(",", "") for f in fields(frame)}
    layer = "TCP" if name == "tcp" else "UDP"
    low = layer.lower()
    [row] = tshark(captured(tmp_path, [frame]), "ip.src", "ip.dst", f"{low}.srcport", f"{low}.dstport", "ip.len")
    assert row == [
        found[("IPv4", "source IP")], found[("IPv4", "destination IP")], found[(layer, "source port")],
        found[(layer, "destination port")], found[("IPv4", "total length")],
    ]  # fmt: skip


@pytest.mark.interop
@pytest.mark.parametrize("port", ["web1", "vmnic0"])
def test_the_file_is_read_by_tshark_and_agrees_with_the_list(lab: SwitchLab, port: str, tmp_path: Path) -> None:
    path = tmp_path / "port.pcap"
    path.write_bytes(lab.pcap(port))
    read = tshark(path, "frame.len", "eth.src", "vlan.id", "_ws.malformed")
    track = CaptureTrack(lab.captures[port], port, "?")
    [panel] = track.picture(0).panels
    shown = [[row.cells[5].text, row.cells[2].text, row.cells[4].text.replace("–", ""), ""] for row in panel.rows]
    assert read == shown


def test_the_link_in_the_page_is_the_file_that_the_writer_makes(lab: SwitchLab) -> None:
    playback = CapturePlayback(CaptureTrack(lab.captures["web1"], "web1", "?"), lab.pcap("web1"))
    file = playback.frame()["file"]
    head, _, data = file["url"].partition("base64,")
    assert head == "data:application/vnd.tcpdump.pcap;"
    assert base64.b64decode(data) == lab.pcap("web1")
    packets = list(packets_of(io.BytesIO(lab.pcap("web1"))))
    assert [(p.at_ns, p.frame) for p in packets] == [(p.at_ns, p.frame) for p in lab.captures["web1"]]
    assert file["name"] == "web1.pcap"


def test_every_octet_of_a_short_frame_is_in_the_picture_once(lab: SwitchLab) -> None:
    track = CaptureTrack(lab.captures["vmnic0"], "vmnic0", "?")
    for position, packet in enumerate(track.packets):
        drawn = track.picture(position).stage.under
        found = re.findall(r'<text x="([\d.]+)" y="[\d.]+" class="m" >([0-9a-f]{2})</text>', drawn)
        octets = [octet for x, octet in found if float(x) < FIELDS_AT]
        assert bytes.fromhex("".join(octets)) == packet.frame[:128]


def test_the_cursor_has_a_row_for_each_field_with_words_for_those_who_listen(lab: SwitchLab) -> None:
    track = CaptureTrack(lab.captures["vmnic0"], "vmnic0", "?")
    picture = track.picture(4)
    assert picture.stage.rows == len(fields(track.packets[4].frame))
    assert 'aria-label="802.1Q tag: VLAN 10, priority 0"' in picture.stage.under


def test_an_icmp_error_has_no_sequence_number() -> None:
    error = Icmp(UNREACHABLE, PORT_UNREACHABLE, bytes(4), SAMPLES["udp"][14:42]).encode()
    frame = ip_frame(ICMP, error)
    assert "sequence" not in {field.name for field in fields(frame)}
    assert sentence(frame) == "ICMP unreachable, 10.0.0.1 to 10.0.0.2"
    assert sentence(ip_frame(ICMP, Icmp(8, 0, b"\0\1\0\7", b"").encode())) == "Echo request 7, 10.0.0.1 to 10.0.0.2"
