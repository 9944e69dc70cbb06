"""A machine is suspended on one host and goes on on another one that sees its datastore: VMFS, a file server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.storage_helpers import PROMPT, SECOND, register, run_until, start, to_prompt, type_line
from tests.host.suspended_site import digest
from tests.migration.storage_moves import Site
from tests.migration.two_hosts import TwoHosts
from vilab.errors import AdminError
from vilab.host.host import Host, run_together
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.suspended import suspend_file
from vilab.migration.agent_link import LinkSettings
from vilab.migration.options import MigrationOptions
from vilab.migration.storage_vmotion import StorageVmotion
from vilab.migration.termination import FixedRounds
from vilab.migration.vmotion import Migration
from vilab.network.packets import ip_of
from vilab.vmm.vm import QuietConsole

SAN, NFS = "[san1] web/web.vmx", "[nfs1] web/web.vmx"
MAC = bytes.fromhex("005056010203")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[TwoHosts]:
    made = TwoHosts(tmp_path)
    yield made
    for host in made.hosts:
        host.memory.check()
    made.close()


def names(host: Host, datastore: str) -> list[str]:
    return host.storage.mounted(datastore).datastore.names("web")


def resume(host: Host, where: str, vm: HostedVm) -> HostedVm:
    return power_on_file(host, where, console=vm.console)


@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_it_goes_on_on_another_host_with_its_time_and_its_console(lab: TwoHosts, engine: str) -> None:
    web = lab.power_on(engine=engine)
    to_prompt(lab.esx1, web)
    type_line(lab.esx1, web, "mkfs")
    expected = type_line(lab.esx1, web, "forkwait 300")
    here, there, moves, begun = lab.esx1, lab.esx2, 0, len(web.console.said)
    web.console.type("forkwait 300")
    run_together([here, there], 2_000_000)
    while not web.console.said[begun:].endswith(PROMPT):
        was, clock_ns = digest(web), web.vm.clock.now_ns
        suspend_file(here, web)
        assert web.stopped == f"web was suspended on {here.name} to web.vmss: power it on to go on."
        run_together([here, there], 3 * SECOND)  # which do not pass for the guest
        web = resume(there, SAN, web)
        assert digest(web) == was
        assert web.vm.clock.now_ns == clock_ns == there.now_ns - web.started_ns
        assert "web.vmss" not in names(there, "san1")
        here, there, moves = there, here, moves + 1
        run_together([here, there], 6_000_000)
    assert moves >= 2
    assert web.console.said[begun:].partition("\n")[2].removesuffix(PROMPT) == expected
    assert type_line(here, web, "put a b").endswith("it is on the disk\n")


def test_a_host_that_dies_as_soon_as_it_is_suspended(lab: TwoHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration says so, and the locks are held by nobody who lives."""
    web = lab.power_on()
    to_prompt(lab.esx1, web)
    was = digest(web)
    monkeypatch.setattr(lab.esx1, "power_off", lambda _hosted: None)
    suspend_file(lab.esx1, web)
    monkeypatch.undo()
    lab.esx1.cut_power()
    lab.hosts.remove(lab.esx1)
    again = resume(lab.esx2, SAN, web)
    assert digest(again) == was
    again.console.type("isprime 7")
    run_until(lab.esx2, lambda: again.console.said.endswith(f"isPrime(7) = 1\n{PROMPT}"))


def test_a_machine_on_a_file_server(tmp_path: Path) -> None:
    site = Site(tmp_path, nfs=True)
    one, two = site.host(), site.host()
    web = start(one, register(one, NFS), "mkfs", "put a b", "write late words")
    was = digest(web)
    suspend_file(one, web)
    assert [name for name in names(one, "nfs1") if name.startswith((".lck-", ".vilab-"))] == []
    again = resume(two, NFS, web)
    assert digest(again) == was
    assert type_line(two, again, "cat late") == "words\n"
    with pytest.raises(AdminError, match="esx2"):
        resume(one, NFS, web)
    site.close()


def test_a_host_that_has_lost_its_locks_suspends_nothing(tmp_path: Path) -> None:
    """esx1 stands still for a while, and wants to suspend the machine when esx2 has taken over."""
    site = Site(tmp_path, nfs=True)
    one, two = site.host(), site.host()
    web = start(one, register(one, NFS), "mkfs", "put a b")
    one.storage.mounted("nfs1")._held[0].abandon()
    again = power_on_file(two, NFS, console=QuietConsole(), patience_ns=60 * SECOND)
    to_prompt(two, again)
    before, files = two.storage.read_file(NFS), names(two, "nfs1")
    with pytest.raises(AdminError, match=r"web was not suspended: .*lost the lock of .* to host esx2"):
        suspend_file(one, web)
    assert two.storage.read_file(NFS) == before
    assert names(two, "nfs1") == files
    assert type_line(two, again, "cat a") == "b\n"
    site.close()


# --- the network ------------------------------------------------------------------------------------------------------


def with_card(lab: TwoHosts) -> HostedVm:
    where = register(lab.esx1, SAN)
    lab.change(
        where, **{
            "vilab.image": "kernel-network", "vilab.append": "ip=10.0.0.1", "memsize": "16",
            "ethernet0.present": "TRUE", "ethernet0.addressType": "static", "ethernet0.address": MAC.hex(":"),
        },
    )  # fmt: skip
    web = power_on_file(lab.esx1, where, console=QuietConsole())
    to_prompt(lab.esx1, web)
    return web


def test_a_card_keeps_its_address_and_is_announced(lab: TwoHosts) -> None:
    web, table, peers = with_card(lab), lab.switch.state.table, []
    for number, host in enumerate(lab.hosts, 1):
        address = bytes((0, 0x50, 0x56, 0x70, 0, number))
        peers.append(host.network.add_vmkernel_port("vmk1", "VM Network", address, ip_of(f"10.0.0.{100 + number}")))

    def ping(host: Host, text: str) -> None:
        before = [peer.statistics.echoes_answered for peer in peers]
        web.console.type(f"ping {text}")
        run_until(host, lambda: web.console.said.endswith(PROMPT), others=tuple({*lab.hosts} - {host}))
        run_together(lab.hosts, SECOND)
        assert sum(peer.statistics.echoes_answered for peer in peers) > sum(before)

    ping(lab.esx1, "10.0.0.102")
    run_together(lab.hosts, SECOND)
    assert table.find(1, MAC, lab.clock.now_ns) == "port1"
    suspend_file(lab.esx1, web)
    web = resume(lab.esx2, SAN, web)
    lab.clock.run_to(lab.clock.now_ns + 1_000_000)
    assert table.find(1, MAC, lab.clock.now_ns) == "port2"  # and the guest has sent nothing yet
    assert [card.address for card in web.cables.settings] == [MAC]
    ping(lab.esx2, "10.0.0.101")


def test_a_card_that_was_disconnected_stays_so(lab: TwoHosts) -> None:
    web = with_card(lab)
    web.cables.set_link(0, False)
    was = digest(web)
    suspend_file(lab.esx1, web)
    web = resume(lab.esx2, SAN, web)
    assert not web.cables.ports[0].state.connected
    assert digest(web) == was
    web.cables.set_link(0, True)
    assert web.cables.ports[0].link_up


def test_a_host_without_its_port_group_does_not_resume_it(lab: TwoHosts) -> None:
    web = with_card(lab)
    lab.esx2.network.switches.switch("vSwitch0").remove_port_group("VM Network")
    was = digest(web)
    suspend_file(lab.esx1, web)
    before = lab.esx2.storage.read_file(SAN)
    with pytest.raises(AdminError, match=r"web.vmx was not resumed from web.vmss: .*no port group 'VM Network'"):
        resume(lab.esx2, SAN, web)
    assert lab.esx2.storage.read_file(SAN) == before
    assert digest(resume(lab.esx1, SAN, web)) == was


# --- beside other things ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("post_copy", [False, True])
def test_while_it_is_moved_to_another_host_it_is_not_suspended(lab: TwoHosts, post_copy: bool) -> None:
    web = lab.power_on(image="kernel-writer", memory_mb=16)
    to_prompt(lab.esx1, web)
    web.console.type("writer-muncher 1500 400 20")
    lab.esx1.run_for(200_000_000)
    options, refused = MigrationOptions(policy=FixedRounds(1), post_copy=post_copy), {"esx1": 0, "esx2": 0}
    migration = Migration(lab.esx1, web, lab.esx2, LinkSettings(12_500_000, 100_000), options)
    for _ in migration.steps():
        for host in (each for each in lab.hosts if each.vms and not migration.destination.over):
            with pytest.raises(AdminError, match="it is being moved to another host"):
                suspend_file(host, host.vms["web"])
            refused[host.name] += 1
    assert refused["esx1"]
    assert bool(refused["esx2"]) == post_copy
    (web,) = lab.esx2.vms.values()
    was = digest(web)
    suspend_file(lab.esx2, web)
    web = resume(lab.esx1, SAN, web)
    assert digest(web) == was
    assert "wrong" not in to_prompt(lab.esx1, web)


def test_while_its_folder_is_moved_it_is_not_suspended(tmp_path: Path) -> None:
    site = Site(tmp_path)
    host = site.host()
    web = start(host, register(host, "[local] web/web.vmx"), "mkfs")
    move = StorageVmotion(host, web, "ds2")
    with pytest.raises(AdminError, match=r"^web was not suspended: .*moved"):
        suspend_file(host, web)
    while web.merge is not None:
        web.merge_step()
    assert move.state == "moved"
    was = digest(web)
    assert suspend_file(host, web) == "[ds2] web/web.vmss"
    assert digest(resume(host, "[ds2] web/web.vmx", web)) == was
    site.close()
