"""What keeps a machine from moving: every precondition alone, and with every other one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from vilab.host.cpu_features import CpuFeatures
from vilab.memory.client import MemoryConfig
from vilab.migration.compatibility import PRECONDITIONS, check, unmet
from vilab.migration.descriptions import (
    CardBacking,
    DatastoreSeen,
    DiskBacking,
    HostDescription,
    NetworkSeen,
    VmDescription,
    VmkernelPort,
)
from vilab.network.packets import ip_of
from vilab.network.policies import SecurityPolicy
from vilab.vmm.cpuid import SSE, SSE2

CPU = CpuFeatures("AuthenticAMD", 0xF61, 0x0780_A139, 1 << 31, 1_000_000)
SAN, FILER = DatastoreSeen("san1", "vmfs", "vmfs:1", "naa.60"), DatastoreSeen("nfs1", "nfs", "nfs:filer/export")
PRODUCTION = NetworkSeen("Production", "vSwitch0", 105, ("vmnic0",), 1500, 40)
OPEN = SecurityPolicy(promiscuous=True)


def host(name: str, last: int) -> HostDescription:
    return HostDescription(
        name, (DatastoreSeen("local", "local", f"local:{name}"), SAN, FILER),
        (PRODUCTION, NetworkSeen("Backup", "vSwitch1", 0, ("vmnic1",), 1500, 40, OPEN)),
        (VmkernelPort("vmk0", ip_of(f"10.9.0.{last}"), 24, True), VmkernelPort("vmk1", ip_of("10.8.0.1"), 24)),
        CPU, 100_000, 100_000, luns=("naa.1", "naa.60"), machines=("db",),
    )  # fmt: skip


SOURCE, DESTINATION = host("esx1", 1), host("esx2", 2)
WEB = VmDescription(
    "web", "[san1] web/web.vmx", "vmfs:1", MemoryConfig(64, 32), 1000, "svm", {"paging": "nested"}, CPU,
    (CardBacking(0, "Production"), CardBacking(1, "Backup", promiscuous=True), CardBacking(2, "nowhere", False)),
    (
        DiskBacking("scsi0:0", "web.vmdk", "vmfs:1"),
        DiskBacking("scsi0:1", "raw.vmdk", "vmfs:1", "independent-persistent", "virtual", "naa.1"),
        DiskBacking("scsi0:2", "[nfs1] web/log.vmdk", "nfs:filer/export"),
    ),
    ramdisk_bytes=1 << 20,
)  # fmt: skip

Scene = tuple[VmDescription, HostDescription, HostDescription]
Change = Callable[[Scene], Scene]


def vm(**fields: Any) -> Change:
    return lambda scene: (msgspec.structs.replace(scene[0], **fields), *scene[1:])


def there(**fields: Any) -> Change:
    return lambda scene: (*scene[:2], msgspec.structs.replace(scene[2], **fields))


def here(**fields: Any) -> Change:
    return lambda scene: (scene[0], msgspec.structs.replace(scene[1], **fields), scene[2])


def each(field: str, key: str, value: str, where: int = 2, /, **fields: Any) -> Change:
    """One of the datastores, networks, disks or cards is another one; with ``gone`` it is missing."""

    def change(scene: Scene) -> Scene:
        parts = list(scene)
        old = getattr(parts[where], field)
        if "gone" in fields:
            new = tuple(one for one in old if str(getattr(one, key)) != value)
        else:
            new = tuple(msgspec.structs.replace(o, **fields) if str(getattr(o, key)) == value else o for o in old)
        assert new != old
        parts[where] = msgspec.structs.replace(parts[where], **{field: new})
        return tuple(parts)  # type: ignore[return-value]

    return change


UNMET: dict[str, tuple[str, Change, str]] = {
    "off": (
        "not_running", vm(why_off="web was powered off."),
        "web does not run on esx1 (web was powered off), so that there is nothing to move: power it on on esx2.",
    ),
    "merging": (
        "not_running", vm(merging=True),
        "Snapshots of web are being merged on esx1, or its folder is being moved or cloned, and esx2 could not go on "
        "with that: wait until it has been done.",
    ),
    "same host": (
        "same_host", there(name="esx1"), "web runs on esx1, and esx1 is the same host: choose another one.",
    ),
    "name": (
        "name_taken", there(machines=("db", "web")),
        "esx2 has a virtual machine web already, and the one of esx1 has the same name: give one of them another.",
    ),
    "busy source": (
        "busy", here(migrations=2),
        "esx1 takes part in 2 migrations, and 2 at a time is the most: move web between it and esx2 when one of them "
        "is over.",
    ),
    "busy destination": (
        "busy", there(migrations=3),
        "esx2 takes part in 3 migrations, and 2 at a time is the most: move web between it and esx1 when one of them "
        "is over.",
    ),
    "no VMkernel port": (
        "vmotion_ports", there(vmkernel=()),
        "esx2 has no VMkernel port for VMotion, and without one web cannot move between it and esx1: add one, and "
        "enable it for VMotion.",
    ),
    "VMkernel port not enabled": (
        "vmotion_ports", each("vmkernel", "name", "vmk0", 1, vmotion=False),
        "esx1 has no VMkernel port for VMotion, and without one web cannot move between it and esx2: enable vmk0 or "
        "vmk1 for VMotion.",
    ),
    "VMotion networks": (
        "vmotion_ports", each("vmkernel", "name", "vmk0", 1, ip=ip_of("10.7.0.1")),
        "vmk0 of esx1 (10.7.0.1/24) and vmk0 of esx2 (10.9.0.2/24), the VMkernel ports for VMotion, are in different "
        "networks: give one of them another address.",
    ),
    "no file": (
        "no_shared_files", vm(home="", datastore="", disks=()),
        "web has no configuration file on esx1: without one that esx2 sees too, nothing says whose it is. Register it "
        "on a datastore that both have, and power it on from there.",
    ),
    "file of the computer": (
        "no_shared_files", vm(home="/srv/web.vmx", datastore="", disks=()),
        "/srv/web.vmx is a file of the computer that esx1 runs on, in no datastore that esx2 could have: move web to a "
        "datastore that both have.",
    ),
    "datastore": (
        "datastores", each("datastores", "name", "san1", gone=True),
        "[san1] web/web.vmx and scsi0:0 (web.vmdk) and scsi0:1 (raw.vmdk) of web are on datastore san1 of esx1 "
        "(naa.60), which esx2 does not have: connect it there and rescan, or move the files to a datastore that both "
        "have.",
    ),
    "other datastore of that name": (
        "datastores", each("datastores", "name", "nfs1", identity="nfs:filer/other"),
        "scsi0:2 ([nfs1] web/log.vmdk) of web is on datastore nfs1 of esx1, which esx2 does not have: connect it there "
        "and rescan, or move the files to a datastore that both have.",
    ),
    "datastore under another name": (
        "datastores", each("datastores", "name", "nfs1", name="nfs2"),
        "scsi0:2 ([nfs1] web/log.vmdk) of web is on datastore nfs1 of esx1, which is called nfs2 on esx2: give it the "
        "same name on both.",
    ),
    "datastore away": (
        "datastores", each("datastores", "name", "nfs1", state="inactive"),
        "scsi0:2 ([nfs1] web/log.vmdk) of web is on datastore nfs1, which esx1 and esx2 share and which is inactive on "
        "esx2: look at its paths or its server there.",
    ),
    "nonpersistent": (
        "disk_backings", each("disks", "node", "scsi0:2", 0, mode="independent-nonpersistent"),
        "scsi0:2 of web ([nfs1] web/log.vmdk) is independent-nonpersistent: what the guest has written to it is thrown "
        "away on esx1, and esx2 would not have it. Power web off and make the disk persistent.",
    ),
    "physical": (
        "disk_backings", each("disks", "node", "scsi0:1", 0, mapping="physical"),
        "scsi0:1 of web (raw.vmdk) is LUN naa.1 of esx1 in physical compatibility mode: commands that are under way in "
        "it cannot go along to esx2. Power web off to move it.",
    ),
    "LUN": (
        "disk_backings", there(luns=("naa.60",)),
        "scsi0:1 of web (raw.vmdk) stands for LUN naa.1 of esx1, which esx2 does not see: present it to esx2, and "
        "rescan there.",
    ),
    "local disk": (
        "disk_backings", each("disks", "node", "scsi0:0", 0, datastore="", file_name="/srv/web.vmdk"),
        "scsi0:0 of web (/srv/web.vmdk) is a file of the computer that esx1 runs on, which esx2 cannot open: move it "
        "to a datastore that both have.",
    ),
    "port group": (
        "port_groups", each("networks", "name", "Production", gone=True),
        "eth0 of web is in port group 'Production' of esx1, and esx2 has none of that name: add it there, or "
        "disconnect it.",
    ),
    "VLAN": (
        "port_groups", each("networks", "name", "Production", vlan=106),
        "eth0 of web is in port group 'Production', which is in VLAN 105 on esx1 and in VLAN 106 on esx2: give it the "
        "same one on both.",
    ),
    "MTU": (
        "port_groups", each("networks", "name", "Production", 1, mtu_bytes=9000),
        "eth0 of web is in port group 'Production', whose switch takes frames of 9000 bytes on esx1 and of 1500 on "
        "esx2: set the same MTU on vSwitch0 there.",
    ),
    "ports": (
        "port_groups", each("networks", "name", "Production", free_ports=0),
        "eth0 of web is in port group 'Production' of esx1, and vSwitch0 on esx2 has 0 free ports for 1: power "
        "something off there, or make it larger.",
    ),
    "promiscuous": (
        "port_groups", each("networks", "name", "Backup", security=SecurityPolicy()),
        "eth1 of web on esx1 hears every frame, and promiscuous mode is rejected in port group 'Backup' of esx2: set "
        "the same security policy there.",
    ),
    "uplinks": (
        "card_backings", each("networks", "name", "Backup", 1, uplinks=()),
        "eth1 of web in port group 'Backup': vSwitch1 of esx1 has no physical card, so that nobody in it can be "
        "reached from esx2. Add one, or disconnect the cable.",
    ),
    "engine": (
        "engine", there(engines=("bt", "trap")),
        "web runs in the engine svm on esx1, and esx2 has bt, trap: power it on with one that both have.",
    ),
    "vendor": (
        "cpu", lambda s: there(cpu=msgspec.structs.replace(s[2].cpu, vendor="GenuineIntel"))(s),
        "web runs on a processor of AuthenticAMD on esx1, and esx2 has one of GenuineIntel: choose a host with a "
        "processor of the same vendor.",
    ),
    "features": (
        "cpu", lambda s: there(cpu=msgspec.structs.replace(s[2].cpu, edx=s[2].cpu.edx & ~(SSE | SSE2)))(s),
        "The guest of web was shown SSE and SSE2 on esx1, which the processor of esx2 does not have: power it off, "
        "hide them from the machine, and power it on again.",
    ),
    "time-stamp counter": (
        "cpu", lambda s: there(cpu=msgspec.structs.replace(s[2].cpu, tsc_khz=2_000_000))(s),
        "The time-stamp counter of web counts 1000000 in a millisecond on esx1, the one of esx2 2000000: its guest's "
        "time would run at another rate. Power it off to move it.",
    ),
    "memory": (
        "memory_reservation", there(unreserved_pages=9000),
        "web of esx1 has no room on esx2: its reservation of 32 MB and its overhead of 3.9 MB (1000 pages) need "
        "35.9 MB (9192 pages) of machine memory, of which 35.2 MB (9000 pages) are unreserved, 192 pages too little: "
        "lower its reservation or power off another virtual machine.",
    ),
}  # fmt: skip


def test_without_anything_unmet_it_may_move() -> None:
    assert check(WEB, SOURCE, DESTINATION) == []


@pytest.mark.parametrize("name", UNMET)
def test_each_alone_gives_its_own_sentence(name: str) -> None:
    precondition, change, sentence = UNMET[name]
    (found,) = unmet(*change((WEB, SOURCE, DESTINATION)))
    assert (found.precondition, found.sentence) == (precondition, sentence)


def test_every_precondition_is_in_the_table() -> None:
    assert {precondition for precondition, _, _ in UNMET.values()} == {each.__name__ for each in PRECONDITIONS}
    for precondition, _, sentence in UNMET.values():
        assert "esx1" in sentence, sentence
        assert "esx2" in sentence or precondition == "same_host", sentence


TOGETHER = {
    frozenset(("no file", "file of the computer")), frozenset(("datastore under another name", "datastore away")),
    frozenset(("other datastore of that name", "datastore under another name")),
    frozenset(("other datastore of that name", "datastore away")), frozenset(("no VMkernel port", "VMotion networks")),
    frozenset(("VMkernel port not enabled", "VMotion networks")), frozenset(("physical", "LUN")),
    frozenset(("port group", "VLAN")), frozenset(("port group", "MTU")), frozenset(("port group", "ports")),
    frozenset(("same host", "name")),
}  # fmt: skip
"""Of these one is the other one's reason, or says it too."""


def test_each_with_every_other_one_gives_the_sentences_of_both() -> None:
    pairs = 0
    for one, other in itertools.combinations(UNMET, 2):
        wanted = Counter(UNMET[name][0] for name in (one, other))
        no_disks = {"no file", "file of the computer"} & {one, other}
        if frozenset((one, other)) in TOGETHER or (no_disks and {UNMET[n][0] for n in (one, other)} & ON_DISKS):
            continue
        for first, second in ((one, other), (other, one)):
            scene = UNMET[second][1](UNMET[first][1]((WEB, SOURCE, DESTINATION)))
            assert Counter(each.precondition for each in unmet(*scene)) == wanted, (first, second)
        if "same host" not in (one, other):
            sentences = {UNMET[name][2] for name in (one, other)}
            if frozenset((one, other)) not in REWORDED:
                assert set(check(*scene)) == sentences, (one, other)
        pairs += 1
    assert pairs > 350


ON_DISKS = {"datastores", "disk_backings"}
REWORDED = {frozenset(("datastore", "local disk"))}
"""The files on the datastore are fewer."""


def test_what_is_left_of_those_that_go_together() -> None:
    scene = (WEB, SOURCE, DESTINATION)

    def sentences(one: str, other: str) -> list[str]:
        return check(*UNMET[other][1](UNMET[one][1](scene)))

    (physical,) = sentences("LUN", "physical")
    assert "in physical compatibility mode, which esx2 does not even see:" in physical
    for name in ("VLAN", "MTU"):
        assert sentences(name, "port group") == [UNMET["port group"][2]]
    assert sentences("VMotion networks", "no VMkernel port") == [UNMET["no VMkernel port"][2]]
    assert sentences("name", "same host") == [UNMET["same host"][2]]


def test_a_card_with_another_address_needs_both_policies() -> None:
    changed = each("cards", "number", "1", 0, other_address=True)((WEB, SOURCE, DESTINATION))
    assert check(*changed) == []
    for policy in (
        SecurityPolicy(promiscuous=True, mac_changes=False),
        SecurityPolicy(promiscuous=True, forged_transmits=False),
    ):
        (sentence,) = check(*each("networks", "name", "Backup", security=policy)(changed))
        assert "eth1 of web on esx1 uses another address than its own" in sentence


def test_a_disconnected_card_and_a_feature_that_only_the_destination_has_keep_nobody() -> None:
    richer = msgspec.structs.replace(CPU, edx=0xFFFF_FFFF, ecx=0xFFFF_FFFF)
    assert check(WEB, SOURCE, msgspec.structs.replace(DESTINATION, cpu=richer)) == []
    away = each("cards", "number", "0", 0, connected=False)((WEB, SOURCE, DESTINATION))
    assert check(*each("networks", "name", "Production", gone=True)(away)) == []


def test_swap_space_counts_too() -> None:
    (sentence,) = check(WEB, SOURCE, msgspec.structs.replace(DESTINATION, swap_room_pages=8000))
    assert "its swap file needs 32 MB on datastore of esx2" in sentence
