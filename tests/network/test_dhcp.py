"""DHCP: messages as tshark reads them, the server's answers, leases in virtual time."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.network.captures import captured, tshark
from tests.network.ends import mac
from tests.network.test_peer import Cord
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.network import dhcp_message as dhcp
from vilab.network import packets
from vilab.network.dhcp import OFFER_NS, DhcpServer, DhcpSettings
from vilab.network.dhcp_message import DhcpError, DhcpMessage, parse_dhcp
from vilab.network.ethernet import BROADCAST, IPV4, frame_of
from vilab.network.packets import ANY_IP, BROADCAST_IP, Ipv4, Udp, ip_of
from vilab.network.peer import Peer

SERVER = ip_of("10.0.0.1")
SECOND = 1_000_000_000


class Bench:
    """A server, and somebody who sends it messages by hand."""

    def __init__(self, last: str = "10.0.0.12", **settings: object) -> None:
        self.clock, self.cord = VirtualClock(), Cord()
        self.peer = Peer(self.cord, mac(0xD), SERVER)
        whole = DhcpSettings(first=ip_of("10.0.0.10"), last=ip_of(last), **settings)  # type: ignore[arg-type]
        self.server = DhcpServer(self.peer, self.clock, whole)

    def ask(
        self, kind: int, client: int, options: dict[int, bytes] | None = None, ip: bytes = ANY_IP, flags: int = 0,
    ) -> DhcpMessage | None:  # fmt: skip
        """The answer, if there is one."""
        message = DhcpMessage(
            op=dhcp.REQUEST, transaction=0x1234, mac=mac(client), client_ip=ip, flags=flags,
            options={dhcp.KIND: bytes([kind]), **(options or {})},
        )  # fmt: skip
        to = SERVER if ip != ANY_IP else BROADCAST_IP
        datagram = Udp(68, 67, message.encode()).encode(ip, to)
        frame = frame_of(
            mac(0xD) if ip != ANY_IP else BROADCAST, mac(client), IPV4, Ipv4(ip, to, 17, datagram).encode()
        )
        already = len(self.cord.sent)
        self.peer.receive(frame)
        answers = self.cord.sent[already:]
        assert len(answers) <= 1
        if not answers:
            return None
        packet = packets.parse_ipv4(answers[0][14:])
        return parse_dhcp(packets.parse_udp(packet.payload, packet.source, packet.destination).data)

    def get(self, client: int) -> bytes:
        """The whole conversation; the address."""
        offer = self.ask(dhcp.DISCOVER, client)
        assert offer is not None
        ack = self.take(client, offer.your_ip)
        assert ack is not None
        assert (offer.kind, ack.kind, ack.your_ip) == (dhcp.OFFER, dhcp.ACK, offer.your_ip)
        return ack.your_ip

    def take(self, client: int, ip: bytes) -> DhcpMessage | None:
        return self.ask(dhcp.DHCP_REQUEST, client, {dhcp.SERVER: SERVER, dhcp.REQUESTED_IP: ip})


def test_each_client_gets_an_address_of_its_own_and_the_same_one_again() -> None:
    bench = Bench()
    got = [bench.get(client) for client in (1, 2, 3)]
    assert got == [ip_of(f"10.0.0.{number}") for number in (10, 11, 12)]
    assert bench.ask(dhcp.DISCOVER, 4) is None, "there are three"
    assert bench.server.state.statistics.exhausted == 1
    assert bench.get(2) == got[1]
    assert bench.server.lease_of(mac(2)) == got[1]


def test_a_lease_ends_in_virtual_time_and_its_address_is_given_to_somebody_else() -> None:
    bench = Bench(lease_s=3600)
    for client in (1, 2, 3):
        bench.get(client)
        bench.clock.advance(SECOND)
    bench.clock.advance(3596 * SECOND)
    assert bench.ask(dhcp.DISCOVER, 4) is None
    bench.clock.advance(SECOND)
    assert bench.server.lease_of(mac(1)) is None
    assert bench.get(4) == ip_of("10.0.0.10")
    refused = bench.ask(dhcp.DHCP_REQUEST, 1, {dhcp.REQUESTED_IP: ip_of("10.0.0.11")})
    assert refused is None, "somebody else's, and this client is not known any more"


def test_a_client_renews_with_the_address_that_it_has() -> None:
    bench = Bench(lease_s=100)
    ip = bench.get(1)
    bench.clock.advance(90 * SECOND)
    ack = bench.ask(dhcp.DHCP_REQUEST, 1, ip=ip)
    assert ack is not None
    assert (ack.kind, ack.your_ip) == (dhcp.ACK, ip)
    assert (bench.cord.sent[-1][:6], packets.parse_ipv4(bench.cord.sent[-1][14:]).destination) == (mac(1), ip)
    bench.clock.advance(90 * SECOND)
    assert bench.server.lease_of(mac(1)) == ip


def test_another_address_than_the_offered_one_is_refused_to_everybody() -> None:
    bench = Bench()
    bench.ask(dhcp.DISCOVER, 1)
    nak = bench.take(1, ip_of("10.0.0.12"))
    assert nak is not None
    assert (nak.kind, nak.your_ip) == (dhcp.NAK, ANY_IP)
    assert bench.cord.sent[-1][:6] == BROADCAST


def test_a_client_that_comes_from_another_network_hears_so_and_an_unknown_one_nothing() -> None:
    bench = Bench()
    away = bench.ask(dhcp.DHCP_REQUEST, 1, {dhcp.REQUESTED_IP: ip_of("192.168.1.5")})
    assert away is not None
    assert away.kind == dhcp.NAK
    assert bench.ask(dhcp.DHCP_REQUEST, 1, {dhcp.REQUESTED_IP: ip_of("10.0.0.10")}) is None


def test_an_offer_that_nobody_takes_is_free_again() -> None:
    bench = Bench(last="10.0.0.10")
    bench.ask(dhcp.DISCOVER, 1)
    assert bench.ask(dhcp.DISCOVER, 2) is None
    other = {dhcp.SERVER: ip_of("10.0.0.99"), dhcp.REQUESTED_IP: ip_of("10.0.0.50")}
    assert bench.ask(dhcp.DHCP_REQUEST, 1, other) is None
    assert bench.get(2) == ip_of("10.0.0.10"), "the first one has taken another server's"
    bench.ask(dhcp.DHCP_REQUEST, 2, other)
    assert bench.server.lease_of(mac(2)) == ip_of("10.0.0.10"), "what was taken is not given up by that"
    bench = Bench(last="10.0.0.10")
    bench.ask(dhcp.DISCOVER, 1)
    bench.clock.advance(OFFER_NS)
    assert bench.get(2) == ip_of("10.0.0.10")


def test_a_released_address_is_free_and_a_declined_one_is_not() -> None:
    bench = Bench(last="10.0.0.11", lease_s=100)
    ip = bench.get(1)
    bench.ask(dhcp.RELEASE, 2, ip=ip)
    assert bench.server.lease_of(mac(1)) == ip, "it is not the other one's to give back"
    bench.ask(dhcp.RELEASE, 1, ip=ip)
    assert bench.server.lease_of(mac(1)) is None
    second = bench.get(2)
    assert second == ip_of("10.0.0.11")
    bench.ask(dhcp.DECLINE, 2, {dhcp.SERVER: SERVER, dhcp.REQUESTED_IP: second})
    bench.clock.advance(SECOND)
    assert bench.get(2) == ip
    assert bench.ask(dhcp.DISCOVER, 3) is None
    bench.clock.advance(99 * SECOND)
    assert bench.get(3) == second


def test_what_a_client_asks_for_it_gets_if_it_is_free() -> None:
    bench = Bench()
    offer = bench.ask(dhcp.DISCOVER, 1, {dhcp.REQUESTED_IP: ip_of("10.0.0.12")})
    assert offer is not None
    assert offer.your_ip == ip_of("10.0.0.12")
    offer = bench.ask(dhcp.DISCOVER, 2, {dhcp.REQUESTED_IP: ip_of("10.0.0.12")})
    assert offer is not None
    assert offer.your_ip == ip_of("10.0.0.10")


def test_an_answer_goes_to_everybody_only_if_the_client_says_so() -> None:
    bench = Bench()
    bench.ask(dhcp.DISCOVER, 1)
    assert bench.cord.sent[-1][:6] == mac(1)
    bench.ask(dhcp.DISCOVER, 1, flags=dhcp.BROADCAST_FLAG)
    assert bench.cord.sent[-1][:6] == BROADCAST


def test_a_boot_rom_hears_of_its_file_and_ipxe_of_another_one() -> None:
    bench = Bench(boot_file="undionly.kpxe", ipxe_file="boot.ipxe", next_server=ip_of("10.0.0.2"))
    rom = bench.ask(dhcp.DISCOVER, 1)
    ipxe = bench.ask(dhcp.DISCOVER, 1, {dhcp.USER_CLASS: b"iPXE"})
    assert rom is not None
    assert ipxe is not None
    assert (rom.boot_file, ipxe.boot_file, rom.next_server) == (b"undionly.kpxe", b"boot.ipxe", ip_of("10.0.0.2"))


def test_tshark_reads_the_answer_as_it_is_meant(tmp_path: Path) -> None:
    bench = Bench(
        router=ip_of("10.0.0.254"), dns=(ip_of("10.0.0.3"), ip_of("10.0.0.4")), domain="lab.example", lease_s=7200,
        boot_file="pxelinux.0",
    )  # fmt: skip
    bench.ask(dhcp.DISCOVER, 1, {dhcp.CLIENT_ID: b"\1" + mac(1)})
    bench.take(1, ip_of("10.0.0.11"))
    path = captured(tmp_path, bench.cord.sent)
    read = tshark(
        path, "dhcp.option.dhcp", "dhcp.ip.your", "dhcp.id", "dhcp.option.dhcp_server_id", "dhcp.option.subnet_mask",
        "dhcp.option.router", "dhcp.option.domain_name_server", "dhcp.option.domain_name",
        "dhcp.option.ip_address_lease_time", "dhcp.option.renewal_time_value", "dhcp.option.rebinding_time_value",
        "dhcp.file", "dhcp.ip.server", "udp.checksum.status", "_ws.malformed",
    )  # fmt: skip
    assert read[0] == [
        "2", "10.0.0.10", "0x00001234", "10.0.0.1", "255.255.255.0", "10.0.0.254", "10.0.0.3,10.0.0.4", "lab.example",
        "7200", "3600", "6300", "pxelinux.0", "10.0.0.1", "1", "",
    ]  # fmt: skip
    assert read[1][:2] == ["6", "0.0.0.0"]
    assert read[1][-1] == ""
    types, end = tshark(path, "dhcp.option.type", "dhcp.option.end")[0]
    assert types.split(",")[:10] == ["53", "54", "51", "58", "59", "1", "3", "6", "15", "61"]
    assert end == "255"


OPTIONS = st.dictionaries(
    st.integers(1, 254).filter(lambda code: code != dhcp.OVERLOAD), st.binary(max_size=300), max_size=6
)
NAMES = st.binary(max_size=60).map(lambda name: name.replace(b"\0", b"."))


@given(OPTIONS, NAMES, NAMES, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFF))
def test_a_message_is_read_back(
    options: dict[int, bytes], server_name: bytes, boot_file: bytes, number: int, flags: int
) -> None:
    message = DhcpMessage(
        op=dhcp.REPLY, transaction=number, mac=mac(1), options=options, flags=flags, server_name=server_name,
        boot_file=boot_file, your_ip=ip_of("1.2.3.4"),
    )  # fmt: skip
    assert parse_dhcp(message.encode()) == message


def test_options_go_on_in_the_fields_of_names_if_the_message_says_so() -> None:
    base = DhcpMessage(
        op=dhcp.REQUEST, transaction=1, mac=mac(1), options={dhcp.OVERLOAD: b"\3", dhcp.HOST_NAME: b"a"},
        boot_file=bytes([dhcp.HOST_NAME, 1]) + b"b" + bytes([dhcp.END]), server_name=bytes([dhcp.DOMAIN, 1]) + b"c",
    )  # fmt: skip
    read = parse_dhcp(base.encode())
    assert read.options == {dhcp.HOST_NAME: b"ab", dhcp.DOMAIN: b"c"}
    assert (read.boot_file, read.server_name) == (b"", b"")


@given(st.binary(max_size=400), st.integers(0, 3))
def test_any_bytes_are_a_message_or_refused_and_end_no_server(data: bytes, how: int) -> None:
    head = DhcpMessage(op=dhcp.REQUEST, transaction=1, mac=mac(1)).encode()[:240]
    bench = Bench()
    for raw in (data, head[: 60 * how + 60] + data, head + data):
        with contextlib.suppress(DhcpError):
            parse_dhcp(raw)
        bench.peer.receive(
            frame_of(
                BROADCAST,
                mac(1),
                IPV4,
                Ipv4(ANY_IP, BROADCAST_IP, 17, Udp(68, 67, raw).encode(ANY_IP, BROADCAST_IP)).encode(),
            )
        )
    assert len(bench.cord.sent) <= 3


STEP = st.tuples(
    st.sampled_from([dhcp.DISCOVER, dhcp.DHCP_REQUEST, dhcp.DECLINE, dhcp.RELEASE]), st.integers(1, 5),
    st.integers(9, 13), st.booleans(), st.sampled_from([0, 1, 31, 61]),
)  # fmt: skip


@given(st.lists(STEP, max_size=40))
def test_no_address_is_leased_to_two_clients_at_a_time(steps: list[tuple[int, int, int, bool, int]]) -> None:
    """Judge: what clients believe by the answers that they got."""
    bench = Bench(lease_s=60)
    believed: dict[int, tuple[bytes, int]] = {}
    for kind, client, last, named, pause_s in steps:
        bench.clock.advance(pause_s * SECOND)
        now_ns, ip = bench.clock.now_ns, ip_of(f"10.0.0.{last}")
        options = {dhcp.REQUESTED_IP: ip}
        if named or kind == dhcp.DECLINE:
            options[dhcp.SERVER] = SERVER
        if kind == dhcp.RELEASE:
            if believed.get(client, (b"", 0))[0] == ip:
                del believed[client]
            bench.ask(kind, client, ip=ip)
            continue
        if kind == dhcp.DECLINE and believed.get(client, (b"", 0))[0] == ip:
            del believed[client]
        answer = bench.ask(kind, client, options)
        if answer is not None and answer.kind == dhcp.ACK:
            assert bench.server.lease_of(mac(client)) == answer.your_ip
            believed[client] = (answer.your_ip, now_ns + 60 * SECOND)
        elif answer is not None and answer.kind == dhcp.NAK:
            believed.pop(client, None)
        held = [it for it, until_ns in believed.values() if until_ns > now_ns]
        assert len(set(held)) == len(held)
        assert all(10 <= it[3] <= 12 for it in held)


def test_state_goes_on_elsewhere() -> None:
    bench = Bench()
    ip = bench.get(1)
    other = Bench()
    other.get(2)
    other.server.load_state(bench.server.save_state())
    assert other.server.lease_of(mac(1)) == ip
    assert other.server.state == bench.server.state


@pytest.mark.parametrize(
    "settings",
    [
        {"last": "10.0.1.5"}, {"last": "10.0.0.9"}, {"lease_s": 5}, {"boot_file": "f" * 128},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(AdminError):
        Bench(**settings)  # type: ignore[arg-type]
