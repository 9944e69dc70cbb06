"""What hosts say of themselves and of their machines: values that can be sent, and real hosts that are described."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.storage_helpers import DISK_BYTES, register
from tests.migration.two_hosts import TwoHosts
from vilab.host.cpu_features import CpuFeatures, CpuMask
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.mounted import MountedLocal, MountedNfs
from vilab.host.registered import power_on_file
from vilab.host.vmx_disks import DiskSettings
from vilab.memory.client import MemoryConfig
from vilab.migration.compatibility import check
from vilab.migration.descriptions import (
    CardBacking,
    DatastoreSeen,
    DiskBacking,
    HostDescription,
    NetworkSeen,
    VmDescription,
    VmkernelPort,
    describe_host,
    describe_vm,
    identity_of,
)
from vilab.network.packets import ip_of
from vilab.storage.datastore import LocalDatastore
from vilab.storage.luns.fc_names import numbered
from vilab.storage.nfs.lock import Owner
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.state import Identity
from vilab.vmm.cpuid import SSE2
from vilab.vmm.vm import QuietConsole

# --- as values --------------------------------------------------------------------------------------------------------

texts = st.text(max_size=8)
numbers = st.integers(0, (1 << 63) - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
ips = st.binary(min_size=4, max_size=4)
features = st.builds(CpuFeatures, texts, numbers, numbers, numbers, numbers)
vms = st.builds(
    VmDescription, texts, texts, texts, st.builds(MemoryConfig, numbers, numbers, st.none() | numbers), numbers, texts,
    st.dictionaries(texts, st.booleans() | numbers | texts | finite), features,
    st.lists(st.builds(CardBacking, numbers, texts, st.booleans(), st.booleans()), max_size=3).map(tuple),
    st.lists(st.builds(DiskBacking, texts, texts, texts), max_size=3).map(tuple), numbers,
    st.sampled_from(("quiet", "terminal")), st.booleans(), texts,
)  # fmt: skip
descriptions = st.builds(
    HostDescription, texts, st.lists(st.builds(DatastoreSeen, texts, texts, texts), max_size=3).map(tuple),
    st.lists(st.builds(NetworkSeen, texts, texts, numbers, st.just(("vmnic0",))), max_size=3).map(tuple),
    st.lists(st.builds(VmkernelPort, texts, ips, st.integers(0, 32), st.booleans()), max_size=3).map(tuple),
    features, numbers, numbers, st.lists(texts, max_size=3).map(tuple), st.lists(texts, max_size=3).map(tuple),
)  # fmt: skip


@given(vms, descriptions)
def test_descriptions_survive_the_way(machine: VmDescription, one: HostDescription) -> None:
    for codec in (msgspec.msgpack, msgspec.json):
        assert codec.decode(codec.encode(machine), type=VmDescription) == machine
        assert codec.decode(codec.encode(one), type=HostDescription) == one


@pytest.mark.parametrize(
    "change",
    [
        {"vmkernel": [["vmk0", b"\n\0\0\1", 33, True]]}, {"vmkernel": [["vmk0", b"\n\0\1", 24, True]]},
        {"migrations": -1}, {"machines": 3}, {"cpu": {}},
    ],
)  # fmt: skip
def test_what_is_no_description_is_refused_where_it_is_decoded(change: dict[str, Any]) -> None:
    good = msgspec.msgpack.encode(HostDescription("esx1", (), (), (), CpuFeatures("AuthenticAMD", 0, 0, 0, 0), 0, 0))
    fields = msgspec.msgpack.decode(good)
    ports = [dict(zip(("name", "ip", "prefix", "vmotion"), port, strict=True)) for port in change.get("vmkernel", [])]
    fields |= change | ({"vmkernel": ports} if ports else {})
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=HostDescription)


@given(vms, descriptions, descriptions)
def test_whatever_another_host_says_the_answer_is_sentences(
    machine: VmDescription, one: HostDescription, other: HostDescription
) -> None:
    for sentence in check(machine, one, other):
        assert sentence.endswith(".")


# --- real hosts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[TwoHosts]:
    made = TwoHosts(tmp_path, joined=False)
    for number, one in enumerate(made.hosts, 1):
        address = bytes((0, 0x50, 0x56, 0x70, 0, number))
        one.network.add_vmkernel_port("vmk0", "VM Network", address, ip_of(f"10.9.0.{number}"))
        one.network.enable_vmotion("vmk0")
    yield made
    made.close()


def state(one: Host) -> tuple[object, ...]:
    """What a check could have touched."""
    folder = one.storage.mounted("san1").datastore
    return (
        one.network.describe(), one.memory.free_pages, one.memory.unreserved_pages(), tuple(one.vms),
        tuple(one.arrivals), one.clock.now_ns, *(folder.names(name) for name in folder.names() if "." not in name),
    )  # fmt: skip


def sentences_of(pair: TwoHosts, hosted: HostedVm, mask: CpuMask | None = None) -> list[str]:
    before = [state(one) for one in pair.hosts]
    machine, one = describe_vm(hosted), describe_host(pair.esx1)
    other = describe_host(pair.esx2) if mask is None else describe_host(pair.esx2, mask)
    for value in (machine, one, other):
        data = msgspec.msgpack.encode(value)
        assert len(data) < 8192
        assert msgspec.msgpack.decode(data, type=type(value)) == value
    found = check(machine, one, other)
    assert [state(one) for one in pair.hosts] == before
    return found


@pytest.mark.parametrize("engine", ["bt", "svm"])
def test_two_hosts_on_one_volume_agree(pair: TwoHosts, engine: str) -> None:
    web = pair.power_on(engine=engine)
    assert sentences_of(pair, web) == []
    pair.esx2.network.enable_vmotion("")
    (sentence,) = sentences_of(pair, web)
    assert sentence.startswith("esx2 has no VMkernel port for VMotion")
    assert sentence.endswith("enable vmk0 for VMotion.")


def test_a_masked_processor_lacks_what_the_guest_was_shown(pair: TwoHosts) -> None:
    web = pair.power_on()
    (sentence,) = sentences_of(pair, web, CpuMask(edx=SSE2))
    assert "was shown SSE2 on esx1, which the processor of esx2 does not have" in sentence


def test_a_machine_that_is_off_or_merges_or_has_no_file(pair: TwoHosts) -> None:
    web = pair.power_on()
    web.merge = iter([1, 2])
    assert "are being merged on esx1" in sentences_of(pair, web)[0]
    web.merge = None
    pair.esx1.power_off(web)
    found = sentences_of(pair, web)
    assert found[0].startswith("web does not run on esx1 (web was powered off)")
    from vilab.guests.load import load

    bare = pair.esx1.power_on("bare", load("kernel-disk", memory_bytes=8 << 20), MemoryConfig(8))
    (sentence,) = sentences_of(pair, bare)
    assert "bare has no configuration file on esx1" in sentence


def test_disks_of_every_kind(pair: TwoHosts) -> None:
    pair.array.create_lun(1, PagedDisk(DISK_BYTES), Identity("raw"))
    pair.array.present(numbered(1), 1, 1)
    pair.esx1.storage.rescan()
    (raw,) = [name for name, lun in pair.esx1.storage.luns.items() if lun.size_bytes == DISK_BYTES]
    pair.esx1.storage.create_disk("[san1] db/a.vmdk", DISK_BYTES)
    pair.esx1.storage.create_disk("[local] db/b.vmdk", DISK_BYTES)
    pair.esx1.storage.create_disk("[san1] db/d.vmdk", DISK_BYTES)
    pair.esx1.storage.create_rdm("[san1] db/c.vmdk", raw)
    where = register(
        pair.esx1, "[san1] db/db.vmx", DiskSettings("scsi0:0", "a.vmdk"),
        DiskSettings("scsi0:1", "[local] db/b.vmdk", "independent-persistent"),
        DiskSettings("scsi0:2", "c.vmdk"), DiskSettings("scsi0:3", "d.vmdk", "independent-nonpersistent"),
    )  # fmt: skip
    db = power_on_file(pair.esx1, where, console=QuietConsole())
    disks = {disk.node: disk for disk in describe_vm(db).disks}
    assert (disks["scsi0:2"].mapping, disks["scsi0:2"].lun) == ("virtual", raw)
    assert disks["scsi0:0"].datastore == describe_vm(db).datastore != disks["scsi0:1"].datastore
    local, lun, nonpersistent = sentences_of(pair, db)
    assert "scsi0:1 ([local] db/b.vmdk) of db is on datastore local of esx1" in local
    assert f"stands for LUN {raw} of esx1, which esx2 does not see" in lun
    assert "independent-nonpersistent" in nonpersistent
    assert pair.esx1.snapshots(db).merging is False
    pair.array.present(numbered(2), 1, 1)
    pair.esx2.storage.rescan()
    assert len(sentences_of(pair, db)) == 2


def test_the_mapping_below_a_redo_log_is_found(pair: TwoHosts) -> None:
    pair.array.create_lun(1, PagedDisk(DISK_BYTES), Identity("raw"))
    for number in (1, 2):
        pair.array.present(numbered(number), 1, 1)
        pair.hosts[number - 1].storage.rescan()
    (raw,) = [name for name, lun in pair.esx1.storage.luns.items() if lun.size_bytes == DISK_BYTES]
    pair.esx1.storage.create_rdm("[san1] db/c.vmdk", raw)
    where = register(pair.esx1, "[san1] db/db.vmx", DiskSettings("scsi0:0", "c.vmdk"))
    db = power_on_file(pair.esx1, where, console=QuietConsole())
    pair.esx1.snapshots(db).take("s1", memory=False)
    (disk,) = describe_vm(db).disks
    assert (disk.file_name, disk.mapping, disk.lun) == ("c-000001.vmdk", "virtual", raw)


def test_a_physical_mapping_stays(pair: TwoHosts) -> None:
    pair.array.create_lun(1, PagedDisk(DISK_BYTES), Identity("raw"))
    pair.array.present(numbered(1), 1, 1)
    pair.esx1.storage.rescan()
    (raw,) = [name for name, lun in pair.esx1.storage.luns.items() if lun.size_bytes == DISK_BYTES]
    pair.esx1.storage.create_rdm("[san1] db/c.vmdk", raw, physical=True)
    where = register(pair.esx1, "[san1] db/db.vmx", DiskSettings("scsi0:0", "c.vmdk"))
    db = power_on_file(pair.esx1, where, console=QuietConsole())
    (sentence,) = sentences_of(pair, db)
    assert "in physical compatibility mode, which esx2 does not even see" in sentence


def test_cards_are_described_with_what_their_ports_are(pair: TwoHosts) -> None:
    register(pair.esx1, "[san1] web/web.vmx")
    pair.change(
        "[san1] web/web.vmx",
        **{"ethernet0.present": "TRUE", "ethernet1.present": "TRUE", "ethernet1.startConnected": "FALSE"},
    )
    web = power_on_file(pair.esx1, "[san1] web/web.vmx", console=QuietConsole())
    assert describe_vm(web).cards == (CardBacking(0, "VM Network"), CardBacking(1, "VM Network", False))
    found = sentences_of(pair, web)
    assert len(found) == 2
    assert all("has no physical card" in sentence for sentence in found)
    web.cables.set_link(0, False)
    assert sentences_of(pair, web) == []


def test_the_same_datastore_has_one_identity(tmp_path: Path) -> None:
    def nfs(url: str) -> str:
        one = Host(4, swap_directory=tmp_path)
        one.storage.add_nfs("nfs1", url, MemoryServer().dial)
        mounted = one.storage.mounted("nfs1")
        assert isinstance(mounted, MountedNfs)
        assert mounted.owner == Owner(one.name, one.storage.uuid)
        found = identity_of(mounted)
        one.close()
        return found

    assert nfs("nfs://Filer/export?nfsport=2049&mountport=635") == nfs("nfs://filer/export?mountport=7&nfsport=8")
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    (tmp_path / "link").symlink_to(folders[0])
    one, other, linked = (
        identity_of(MountedLocal(LocalDatastore(folder, "local"), {})) for folder in (*folders, tmp_path / "link")
    )
    assert one == linked != other
