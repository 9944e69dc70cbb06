"""A host's network: port groups for machines, VMkernel ports, physical cards; two hosts on one physical switch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.network_session import card
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.guests.load import load
from vilab.host.host import Host, run_together
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.vmx_network import CardSettings
from vilab.memory.client import MemoryConfig
from vilab.network.packets import ip_of
from vilab.network.physical_port import Trunk
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.wire import Wire

MB = 16
SECOND = 1_000_000_000


def kernel(host: Host, name: str, cards: list[CardSettings], typed: str = "", engine: str = "svm") -> HostedVm:
    number = cards[0].address[4]
    image = load("kernel-network", memory_bytes=MB << 20, append=f"ip=10.0.0.{number}")
    hosted = host.power_on(name, image, MemoryConfig(MB), engine=engine, cards=cards)
    hosted.console.type(typed)
    return hosted


def said(hosted: HostedVm) -> str:
    return bytes(hosted.console.output).decode("latin-1")


@pytest.fixture
def site() -> Iterator[tuple[Host, Host, PhysicalSwitch]]:
    """Two hosts, each with two physical cards in one switch."""
    clock = VirtualClock()
    hosts = Host(64, "esx1", clock=clock), Host(64, "esx2", clock=clock)
    names = [f"esx{number}-{nic}" for number in (1, 2) for nic in (0, 1)]
    physical = PhysicalSwitch("sw", clock, {name: Trunk() for name in names})
    for number, host in enumerate(hosts, 1):
        for nic in (0, 1):
            wire = Wire(clock)
            physical.connect(f"esx{number}-{nic}", wire.b)
            host.network.add_nic(f"vmnic{nic}", wire.a, bytes((2, 0, 0, 0, number, nic)), "vSwitch0")
    yield *hosts, physical
    for host in hosts:
        host.close()


def test_guests_of_two_hosts_ping_each_other(site: tuple[Host, Host, PhysicalSwitch]) -> None:
    one, two, physical = site
    first = kernel(one, "a", [card(1, "vlance")], "ping 10.0.0.2\n")
    second = kernel(two, "b", [card(2, "vlance")])
    run_together((one, two), 3 * SECOND)
    assert "ping: 3: 56 bytes from 10.0.0.2" in said(first), said(first)
    assert physical.where(second.cables.settings[0].address) in ("esx2-0", "esx2-1")


def test_a_vmkernel_port_answers_in_its_vlan_only(site: tuple[Host, Host, PhysicalSwitch]) -> None:
    one, two, _ = site
    for host in (one, two):
        host.network.switches.switch("vSwitch0").add_port_group("VMotion", 20)
        host.network.switches.switch("vSwitch0").add_port_group("elsewhere", 21)
    first = one.network.add_vmkernel_port("vmk0", "VMotion", bytes.fromhex("005056700001"), ip_of("10.9.0.1"))
    two.network.add_vmkernel_port("vmk0", "VMotion", bytes.fromhex("005056700002"), ip_of("10.9.0.2"))
    two.network.add_vmkernel_port("vmk1", "elsewhere", bytes.fromhex("005056700003"), ip_of("10.9.0.3"))
    for number, last in enumerate((2, 3)):
        first.ping(ip_of(f"10.9.0.{last}"), number)
        run_together((one, two), 100_000_000)
    assert [reply.sequence for reply in first.replies] == [0]
    with pytest.raises(AdminError, match="VMkernel port vmk0 already"):
        one.network.add_vmkernel_port("vmk0", "VMotion", bytes.fromhex("005056700009"), ip_of("10.9.0.9"))


def test_one_vmkernel_port_is_for_vmotion(site: tuple[Host, Host, PhysicalSwitch]) -> None:
    network = site[0].network
    assert network.vmotion == ""
    with pytest.raises(AdminError, match="esx1 has no VMkernel port 'vmk0' to be enabled for VMotion; it has none"):
        network.enable_vmotion("vmk0")
    for number in (0, 1):
        address = bytes((0, 0x50, 0x56, 0x70, 0, number))
        network.add_vmkernel_port(f"vmk{number}", "VM Network", address, ip_of(f"10.9.0.{number + 1}"))
    network.enable_vmotion("vmk0")
    network.enable_vmotion("vmk1")
    with pytest.raises(AdminError, match="it has vmk0, vmk1"):
        network.enable_vmotion("vmk2")
    assert network.vmotion == "vmk1"
    network.enable_vmotion("")
    assert network.vmotion == ""


def test_a_machine_that_goes_off_gives_its_port_back(site: tuple[Host, Host, PhysicalSwitch]) -> None:
    one, _, _ = site
    switch = one.network.switches.switch("vSwitch0")
    before = len(switch.ports)
    hosted = kernel(one, "a", [card(1, "vlance"), card(1, "e1000", 1)])
    assert len(switch.ports) == before + 2
    one.power_off(hosted)
    assert len(switch.ports) == before


def test_a_port_group_that_is_not_there_is_said_and_nothing_is_connected(
    site: tuple[Host, Host, PhysicalSwitch],
) -> None:
    one, _, _ = site
    switch = one.network.switches.switch("vSwitch0")
    before = len(switch.ports)
    with pytest.raises(AdminError, match="no port group 'nowhere'"):
        kernel(one, "a", [card(1, "vlance"), card(1, "vlance", 1, "nowhere")])
    assert len(switch.ports) == before
    assert not one.vms


def test_a_machine_resumes_with_its_cards_and_a_clone_without_cables(site: tuple[Host, Host, PhysicalSwitch]) -> None:
    one, _, _ = site
    hosted = kernel(one, "a", [card(1, "vlance")])
    one.run_for(SECOND)
    copy = one.clone(hosted, "b")[0]
    assert not copy.cables.ports
    assert hosted.cables.ports
    snapshot = one.suspend(hosted)
    again = one.resume(snapshot)
    gateway = one.network.add_vmkernel_port("vmk0", "VM Network", bytes.fromhex("005056700001"), ip_of("10.0.0.9"))
    again.console.type("ping 10.0.0.9\n")
    one.run_for(3 * SECOND)
    assert gateway.statistics.echoes_answered > 0, said(again)


def test_cards_from_a_file_keep_the_addresses_that_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "web.vmx"
    path.write_text(
        'displayName = "web"\nmemsize = "16"\nvilab.image = "kernel-network"\nethernet0.present = "TRUE"\n'
        'ethernet1.present = "TRUE"\nethernet1.virtualDev = "e1000"\nethernet1.addressType = "static"\n'
        'ethernet1.address = "00:50:56:00:00:07"\nethernet1.startConnected = "FALSE"\n'
    )
    host = Host(64)
    hosted = power_on_file(host, path)
    first, second = hosted.cables.settings
    assert (first.kind, first.network, first.connected) == ("vlance", "VM Network", True)
    assert first.address[:3].hex(":") == "00:0c:29"
    assert (second.kind, second.address.hex(":"), second.connected) == ("e1000", "00:50:56:00:00:07", False)
    assert f'ethernet0.generatedAddress = "{first.address.hex(":")}"' in path.read_text()
    host.power_off(hosted)
    path.write_text(path.read_text().replace('displayName = "web"', 'displayName = "renamed"'))
    assert power_on_file(host, path).cables.settings[0].address == first.address
    host.close()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ('ethernet0.virtualDev = "ne2000"', "vlance, e1000, vmxnet3"),
        ('ethernet0.addressType = "static"', "ethernet0.address is not there"),
        ('ethernet0.addressType = "static"\nethernet0.address = "00:50:56:40:00:00"', "00:50:56:3f:ff:ff"),
        ('ethernet0.generatedAddress = "zz"', "no MAC address"),
        ('ethernet4.present = "TRUE"', "cards are ethernet0 to ethernet3"),
    ],
)
def test_what_no_card_can_have_is_said_with_its_line(tmp_path: Path, lines: str, sentence: str) -> None:
    path = tmp_path / "web.vmx"
    content = f'memsize = "16"\nvilab.image = "kernel-network"\nethernet0.present = "TRUE"\n{lines}\n'
    path.write_text(content)
    host = Host(64)
    with pytest.raises(AdminError, match=sentence):
        power_on_file(host, path)
    assert path.read_text() == content
    assert not host.vms
    host.close()
