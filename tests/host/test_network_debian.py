"""Stock Debian guests on a host, with each kind of card: links, pings, TCP from guest to guest, VLANs, modules.

::

    a (binary translation)  eth0 vlance  ── vSwitch1, "trunk0" ── eth0  b (AMD-V)
                            eth1 e1000   ── vSwitch2, "trunk1" ── eth1
                            eth2 vmxnet3 ── vSwitch3, "trunk2" ── eth2       4095: the guests tag themselves

The sums of what was sent and of what has arrived are compared, and who counts what is asked of all: the guests, the
switch, and tshark, which reads a capture of a guest's port.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import tools
from tests.host.network_session import GuestOnHost, card
from vilab.guests import debian
from vilab.guests.debian_network import DRIVERS
from vilab.host.host import Host
from vilab.network.pcap import PcapWriter
from vilab.network.switch_port import SwitchPort

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

KINDS = ("vlance", "e1000", "vmxnet3")
MEGABYTES = int(os.environ.get("VILAB_NETWORK_MEGABYTES", "2"))
RUNS = int(os.environ.get("VILAB_NETWORK_RUNS", "1"))
"""How much goes over, and how often: 10 MB ten times take some minutes."""


class Guests:
    """Two of them, with a card of each kind; cards of a kind are on a switch of their own."""

    def __init__(self) -> None:
        self.host = Host(384)
        for index in range(len(KINDS)):
            self.host.network.add_switch(f"vSwitch{index + 1}").add_port_group(f"trunk{index}", 4095)
        self.a = self._boot("a", 1, "bt")
        self.b = self._boot("b", 2, "svm")

    def _boot(self, name: str, number: int, engine: str) -> GuestOnHost:
        cards = [card(number, kind, index, f"trunk{index}") for index, kind in enumerate(KINDS)]
        guest = GuestOnHost.boot(self.host, name, cards, engine)
        for index in range(len(KINDS)):
            guest.succeed(f"ifconfig eth{index} 10.0.{index}.{number} netmask 255.255.255.0 up")
        return guest


class Lab:
    """One kind of card of both guests."""

    def __init__(self, guests: Guests, kind: str) -> None:
        self.host, self.a, self.b, self.kind = guests.host, guests.a, guests.b, kind
        self.index = KINDS.index(kind)
        self.eth, self.net = f"eth{self.index}", f"10.0.{self.index}"

    def port(self, guest: GuestOnHost) -> SwitchPort:
        return guest.hosted.cables.ports[self.index]

    def up(self, guest: GuestOnHost, more: str = "") -> None:
        number = 1 if guest is self.a else 2
        guest.succeed(f"ifconfig {self.eth} {more} {self.net}.{number} netmask 255.255.255.0 up")


@pytest.fixture(scope="module")
def guests() -> Iterator[Guests]:
    tools.debian()
    made = Guests()
    yield made
    made.host.close()


@pytest.fixture(params=KINDS)
def lab(guests: Guests, request: pytest.FixtureRequest) -> Lab:
    return Lab(guests, request.param)


def ping(guest: GuestOnHost, address: str, options: str = "-c 3") -> int:
    """How many answers came."""
    said = guest.run(f"ping -q -w 20 {options} {address}")
    found = re.search(r"(\d+) packets received", said)
    assert found, said
    return int(found[1])


def test_the_guests_see_a_link_and_each_other(lab: Lab) -> None:
    assert lab.a.succeed(f"cat /sys/class/net/{lab.eth}/carrier").strip() == "1"
    assert lab.a.succeed(f"cat /sys/class/net/{lab.eth}/address").strip() == f"00:50:56:00:01:0{lab.index}"
    said = lab.a.succeed(f"readlink /sys/class/net/{lab.eth}/device/driver")
    assert said.strip().endswith(f"/{DRIVERS[lab.kind]}")
    assert ping(lab.a, f"{lab.net}.2") == 3
    assert ping(lab.b, f"{lab.net}.1", "-c 2 -s 1400") == 2


def test_megabytes_by_tcp(lab: Lab) -> None:
    content = (debian.find().folder / debian.BUSYBOX_FILE).read_bytes()
    times = (MEGABYTES << 20) // len(content) + 1
    wanted = hashlib.md5(content * times).hexdigest()
    lab.a.succeed(f"cat {' '.join(['/bin/busybox'] * times)} >/tmp/all")
    for _ in range(RUNS):
        lab.b.run("nc -l -p 5000 -e dd of=/tmp/got bs=64k 2>/dev/null &")
        lab.a.succeed(f"nc {lab.net}.2 5000 -e dd if=/tmp/all bs=64k 2>/dev/null")
        assert lab.b.run("sleep 1; md5sum /tmp/got").split()[0] == wanted
    for guest in (lab.a, lab.b):
        # A burst that a ring has no room for is counted as missed, and TCP sends it again; nothing else may go wrong.
        guest.succeed(f"cd /sys/class/net/{lab.eth}/statistics")
        assert guest.succeed("cat tx_*errors rx_[cl]*errors | sort -u").strip() == "0"
        guest.succeed("cd /")
        assert guest.run("dmesg | grep -iE 'timed out|unit hang|lost|nobody cared'") == ""
    sent, received = lab.port(lab.a).statistics.sent, lab.port(lab.b).statistics.received
    assert received.unicast == sent.unicast
    assert min(received.octets, sent.octets) > RUNS * MEGABYTES << 20


def test_the_guests_tag_themselves(lab: Lab, tmp_path: Path) -> None:
    """VGT: the tag is on the wire between guest and switch, and both ends of it agree."""
    vlan = f"{lab.eth}.100"
    for number, guest in enumerate((lab.a, lab.b), 1):
        guest.succeed(f"modprobe 8021q; vconfig add {lab.eth} 100")
        guest.succeed(f"ifconfig {vlan} 10.1.{lab.index}.{number} netmask 255.255.255.0 up")
    path = tmp_path / "a.pcap"
    with path.open("wb") as file:
        writer = PcapWriter(file)
        lab.port(lab.a).tap(writer)
        assert ping(lab.a, f"10.1.{lab.index}.2") == 3
        lab.port(lab.a).untap(writer)
    tshark = tools.require_tool("tshark", "the Debian package tshark")
    run = partial(subprocess.run, capture_output=True, text=True, timeout=60, check=True)
    assert run([tshark, "-r", path, "-Y", "icmp", "-T", "fields", "-e", "vlan.id"]).stdout.split() == ["100"] * 6
    assert run([tshark, "-r", path, "-Y", "_ws.malformed"]).stdout == ""
    for guest in (lab.a, lab.b):
        guest.succeed(f"ifconfig {vlan} down; vconfig rem {vlan}")


def test_what_the_driver_asks_for_the_policy_refuses(lab: Lab) -> None:
    port = lab.port(lab.b)
    assert not port.state.promiscuous
    lab.b.succeed(f"ifconfig {lab.eth} promisc")
    assert port.state.promiscuous
    assert not port.sees_all
    lab.b.succeed(f"ifconfig {lab.eth} -promisc")
    assert not port.state.promiscuous


def test_the_driver_goes_and_comes_back(lab: Lab) -> None:
    driver = DRIVERS[lab.kind]
    for _ in range(2):
        lab.b.succeed(f"rmmod {driver}; modprobe {driver}")
        lab.up(lab.b)
        assert ping(lab.b, f"{lab.net}.1", "-c 2") == 2


def test_a_smaller_mtu(lab: Lab) -> None:
    longest: list[int] = []
    for mtu in (1000, 1500):
        for guest in (lab.a, lab.b):
            guest.succeed(f"ifconfig {lab.eth} down; ifconfig {lab.eth} mtu {mtu}")
            lab.up(guest)
        sizes: list[int] = []

        def note(at_ns: int, frame: bytes, sizes: list[int] = sizes) -> None:
            sizes.append(len(frame))

        lab.port(lab.b).tap(note)
        assert ping(lab.b, f"{lab.net}.1", "-c 2 -s 1400") == 2
        lab.port(lab.b).untap(note)
        longest.append(max(sizes))
    assert longest == [14 + 996, 14 + 1428]  # a fragment's length is a multiple of 8 behind its header


def test_a_pulled_cable_is_noticed_and_comes_back(lab: Lab) -> None:
    lab.b.hosted.cables.set_link(lab.index, False)
    lab.b.run("sleep 3")
    assert lab.b.run(f"cat /sys/class/net/{lab.eth}/carrier").strip() == "0"
    lab.b.hosted.cables.set_link(lab.index, True)
    lab.b.run("sleep 3")
    assert lab.b.succeed(f"cat /sys/class/net/{lab.eth}/carrier").strip() == "1"
    assert ping(lab.a, f"{lab.net}.2") == 3
