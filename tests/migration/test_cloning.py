"""Clones of machines that are off, suspended or running, between local, VMFS and NFS datastores."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.host.storage_helpers import files_on, register, start, type_line
from tests.migration.storage_moves import (
    FILES,
    MB,
    SMALL,
    WEB,
    Site,
    Writer,
    content,
    drive,
    idle,
    names,
    on,
    qemu_finds,
)
from tests.vmm.disk_guest import filling
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings
from vilab.host.vmx_network import cards_of
from vilab.migration.clone_config import clone_config, file_name_of
from vilab.migration.cloning import Clone, clone_now
from vilab.migration.cloning_events import CloneBegan, CloneEnded
from vilab.migration.cold_migration import ColdMigration
from vilab.migration.storage_vmotion import StorageVmotion
from vilab.storage.disks.vmdk import read_descriptor

COPY = "[ds2] copy/copy.vmx"
CLONE = {"copy-flat.vmdk", "copy.vmdk", "copy.vmx", "copy.vmx.lck"}
ORIGINAL = FILES | {"web.vmsd.lock"}


def written(host: Host, where: str = WEB, *disks: DiskSettings) -> tuple[HostedVm, Writer]:
    vm = idle(host, where, *disks)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(60)
    return vm, writer


# --- from a machine that is off ---------------------------------------------------------------------------------------


def test_clones_between_datastores_of_every_kind(tmp_path: Path) -> None:
    site = Site(tmp_path, san=True, nfs=True)
    host = site.host()
    vm, writer = written(host)
    host.power_off(vm)
    at = WEB
    for number, to in enumerate(("san1", "ds2", "nfs1", "san1", "local")):
        clone = clone_now(host, at, f"copy{number}", to, options=SMALL)
        assert (clone.state, clone.why, clone.left) == ("cloned", "", "")
        assert clone.where == f"[{to}] copy{number}/copy{number}.vmx"
        assert on(host, f"[{to}] copy{number}") == {name.replace("copy", f"copy{number}") for name in CLONE}
        assert content(host, clone.where.replace(".vmx", ".vmdk")) == bytes(writer.model)
        if number in (0, 2):
            qemu_finds(host, f"[{to}] copy{number}", f"copy{number}.vmdk", bytes(writer.model), tmp_path / f"j{number}")
        at = clone.where
    assert not any(host.storage.mounted(name).users for name in ("local", "ds2", "san1", "nfs1"))
    assert names(host, "[local] web") == sorted(ORIGINAL)
    assert content(host, "[local] web/web.vmdk") == bytes(writer.model)
    site.close()


def test_a_clone_runs_beside_its_original(site: Site, host: Host) -> None:
    vm = start(host, register(host, WEB), "mkfs", "put a first")
    host.power_off(vm)
    clone_now(host, WEB, "copy", "ds2")
    original, copy = start(host, WEB), start(host, COPY)
    assert (original.name, copy.name) == ("web", "copy")
    type_line(host, copy, "put b clone's")
    type_line(host, original, "put c original's")
    assert type_line(host, copy, "ls").count("inode") == type_line(host, original, "ls").count("inode") == 2
    assert original.client.swap.path != copy.client.swap.path
    assert copy.client.swap.path.parent == site.folder / "ds2" / "copy"
    assert set(names(host, "[ds2] copy")) == CLONE | {"copy.vmsd.lock", copy.client.swap.path.name}
    host.power_off(original)
    host.power_off(copy)


def test_chains_snapshots_and_every_kind_of_disk_become_one_disk_each(site: Site, host: Host) -> None:
    kinds = {"web": "vmfs", "thick": "vmfs", "sparse": "monolithicSparse", "pieces": "twoGbMaxExtentFlat"}
    for name, kind in kinds.items():
        folder = "[local] db" if name == "pieces" else "[local] web"
        host.storage.create_disk(f"{folder}/{name}.vmdk", MB, kind, "thick" if name == "thick" else "thin")
    disks = [
        DiskSettings("scsi0:0", "web.vmdk"),
        DiskSettings("scsi0:2", "thick.vmdk", "independent-persistent"),
        DiskSettings("scsi0:3", "sparse.vmdk"),
        DiskSettings("scsi0:9", "[local] db/pieces.vmdk", "independent-nonpersistent"),
    ]
    vm = idle(host, WEB, *disks)
    writers = [Writer(disk, seed) for seed, disk in enumerate(vm.disks.devices().values())]
    for writer in writers:
        writer.some(20)
    snapshots = vm.disks.snapshots
    assert snapshots is not None
    snapshots.take("one")
    for writer in writers:
        writer.some(20)
    host.power_off(vm)
    clone_now(host, WEB, "copy", "ds2", options=SMALL)
    files = host.storage.mounted("ds2").files
    new = {
        name: read_descriptor(host.storage.place(f"[ds2] copy/{name}.vmdk")[2], files)
        for name in ("copy", "copy_1", "copy_2", "copy_3")
    }
    assert [each.create_type for each in new.values()] == list(kinds.values())
    assert not any(each.has_parent for each in new.values())
    old = [
        read_descriptor(host.storage.place(path)[2], host.storage.mounted("local").files)
        for path in (
            "[local] web/web.vmdk",
            "[local] web/thick.vmdk",
            "[local] web/sparse.vmdk",
            "[local] db/pieces.vmdk",
        )
    ]
    for one, other in zip(old, new.values(), strict=True):
        assert other.cid != one.cid
        assert other.database("ddb.uuid") != one.database("ddb.uuid")
        assert other.database("ddb.geometry.sectors") == one.database("ddb.geometry.sectors")
    assert (new["copy"].database("ddb.thinProvisioned"), new["copy_1"].database("ddb.thinProvisioned")) == ("1", None)
    for number, writer in enumerate(writers[:3]):
        assert content(host, f"[ds2] copy/copy{f'_{number}' if number else ''}.vmdk") == bytes(writer.model)
    assert content(host, "[ds2] copy/copy_3.vmdk") == bytes(MB)  # what was written to it was thrown away
    assert not [name for name in names(host, "[ds2] copy") if name.endswith((".vmsd", ".vmsn")) or "-0000" in name]
    copy = power_on_file(host, COPY)
    assert list(copy.disks.devices()) == [disk.node for disk in disks]


def test_a_suspended_machine_s_clone_is_off_and_the_machine_goes_on(site: Site, host: Host) -> None:
    vm = start(host, register(host, WEB), "mkfs", "put a words", "sync")
    state = host.suspend(vm)
    config = host.storage.read_file(WEB)
    host.storage.write_file(WEB, config + b'checkpoint.vmState = "web.vmss"\n')
    host.storage.write_file("[local] web/web.vmss", b"memory")
    clone_now(host, WEB, "copy", "ds2")
    assert b"checkpoint" not in host.storage.read_file(COPY)
    assert set(names(host, "[ds2] copy")) == CLONE
    again, copy = host.resume(state), start(host, COPY)
    assert type_line(host, again, "cat a") == type_line(host, copy, "cat a") == "words\n"


# --- what the clone has of its own ------------------------------------------------------------------------------------


LINES = b"""uuid.bios = "56 4d 32 11 22 33 44 55-66 77 88 99 aa bb cc dd"
uuid.location = "56 4d 32 11 22 33 44 55-66 77 88 99 aa bb cc dd"
annotation = "mine"
nvram = "web.nvram"
ethernet0.present = "TRUE"
ethernet0.addressType = "generated"
ethernet0.generatedAddress = "00:0c:29:11:22:33"
ethernet0.generatedAddressOffset = "0"
ethernet1.present = "TRUE"
ethernet1.addressType = "static"
ethernet1.address = "00:50:56:01:02:03"
ethernet2.present = "FALSE"
ethernet2.addressType = "vpx"
ethernet2.generatedAddress = "00:50:56:a1:02:03"
"""


def test_names_addresses_and_identifiers_are_new(site: Site, host: Host) -> None:
    register(host, WEB)
    original = host.storage.read_file(WEB) + LINES
    host.storage.write_file(WEB, original)
    host.storage.write_file("[local] web/web.nvram", b"settings" * 9999)
    for name in ("notes.txt", "web.log"):
        host.storage.write_file(f"[local] web/{name}", b"")
    first = clone_now(host, WEB, "copy", "ds2", options=SMALL, identity="one")
    config = parse(host.storage.read_file(COPY), COPY)
    kept = parse(original, WEB)
    changed = {key for key in kept.keys() if config.get(key) != kept.get(key)}  # noqa: SIM118
    assert changed == {
        "displayName", "scsi0:0.fileName", "uuid.bios", "uuid.location", "nvram", "ethernet0.generatedAddress",
        "ethernet0.generatedAddressOffset", "ethernet1.address", "ethernet1.addressType", "ethernet2.addressType",
        "ethernet2.generatedAddress",
    }  # fmt: skip
    assert set(config.keys()) - set(kept.keys()) == {"ethernet1.generatedAddress"}
    assert [config.get(key) for key in ("displayName", "scsi0:0.fileName", "nvram", "annotation")] == [
        "copy", "copy.vmdk", "copy.nvram", "mine"
    ]  # fmt: skip
    assert host.storage.read_file("[ds2] copy/copy.nvram") == b"settings" * 9999
    assert set(names(host, "[ds2] copy")) == CLONE | {"copy.nvram"}
    cards = cards_of(config, "copy")
    assert all(card.address_type == "generated" and card.address.hex().startswith("000c29") for card in cards)
    second = clone_now(host, WEB, "other", "ds2", identity="two")
    configs = [parse(host.storage.read_file(where), where) for where in (WEB, first.where, second.where)]
    addresses = [card.address for each in configs for card in cards_of(each, "same")]
    assert len(set(addresses)) == len(addresses) == 6
    assert len({each.get("uuid.bios") for each in configs}) == len({each.get("uuid.location") for each in configs}) == 3
    assert first.copier.other_files_bytes == 8 * 9999


def test_the_same_identity_makes_the_same_clone_and_no_address_twice() -> None:
    original = parse(LINES, "web.vmx")
    one, again = (clone_config(original, "[a] b/b.vmx", "b", {}, "seed") for _ in range(2))
    assert write(one) == write(again)
    assert write(original) == LINES
    taken = frozenset(card.address for card in cards_of(one, "b"))
    other = clone_config(original, "[a] b/b.vmx", "b", {}, "seed", taken)
    assert not taken & {card.address for card in cards_of(other, "b")}


ODD = [
    "web 2",
    "a/b\\c",
    "50% [off]",
    "...",
    ".hidden",
    "-x",
    'say "so"',
    "ünïcödé",
    "line\nfeed",
    "~",
    "x.vmx",
    "a" * 80,
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_become_machines(site: Site, host: Host, name: str) -> None:
    vm, writer = written(host)
    host.power_off(vm)
    clone = clone_now(host, WEB, name, "ds2", options=SMALL)
    copy = power_on_file(host, clone.where)
    assert (copy.name, Writer(copy.disks.devices()["scsi0:0"]).model) == (name, writer.model)


@given(name=st.text(st.characters(), max_size=90))
def test_any_name_is_a_file_s_or_is_refused(name: str) -> None:
    try:
        found = file_name_of(name)
    except AdminError as error:
        assert "cannot be a machine's name" in str(error)  # noqa: PT017
        return
    assert 0 < len(found.encode()) <= 100
    assert not set(found) & set('/\\"[]\n\0')
    assert not found.startswith(".")
    assert name == found or "%" in found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(), min_size=1, max_size=30))
def test_any_name_makes_a_whole_clone_or_none(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    site = Site(tmp_path_factory.mktemp("site"))
    host = site.host()
    register(host, WEB)
    try:
        clone = clone_now(host, WEB, name, "ds2")
    except AdminError:
        assert host.storage.mounted("ds2").datastore.names() == []
    else:
        assert parse(host.storage.read_file(clone.where), "").get("displayName") == name
        home = VmHome(host.storage, clone.where)
        assert VmDisks(home, host.storage.clock, host.log).close() == []
    left = set(names(host, "[local] web"))
    assert {"web.vmx", "web.vmdk", "web-flat.vmdk"} <= left <= ORIGINAL
    site.close()


# --- from a machine that runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "to"), [("local", "ds2"), ("san1", "nfs1"), ("nfs1", "local")])
def test_the_clone_of_a_running_machine_is_what_there_was_when_it_began(tmp_path: Path, source: str, to: str) -> None:
    site = Site(tmp_path, san=True, nfs=True)
    host = site.host()
    vm, writer = written(host, f"[{source}] web/web.vmx")
    held = bytes(writer.model)
    clone = Clone(host, vm, "copy", to, options=SMALL)
    assert "web-000001.vmdk" in names(host, f"[{source}] web")
    for _ in clone.steps():
        writer.some(3)
    assert (clone.state, clone.why, clone.left, clone.running) == ("cloned", "", "", False)
    assert on(host, f"[{to}] copy") == CLONE
    qemu_finds(host, f"[{to}] copy", "copy.vmdk", held, tmp_path / "judge")
    assert on(host, f"[{source}] web") - {"web.vmsd"} == FILES
    assert writer.agrees()
    writer.some(20)
    assert writer.agrees()
    host.snapshots(vm).take("later", memory=False)  # nothing is held any more
    host.power_off(vm)
    assert content(host, f"[{source}] web/web-000001.vmdk") == bytes(writer.model)
    site.close()


def test_a_clone_of_a_running_writer_holds_a_beginning_of_what_it_has_flushed(tmp_path: Path) -> None:
    """Counters are written to places all over two disks, one after the other and each flushed: the clone has the first
    n of them, whole, for one n."""
    site = Site(tmp_path)
    host = site.host()
    for name in ("web", "log"):
        host.storage.create_disk(f"[local] web/{name}.vmdk", MB)
    vm = idle(host, WEB, DiskSettings("scsi0:0", "web.vmdk"), DiskSettings("scsi0:1", "log.vmdk"))
    disks = list(vm.disks.devices().values())
    places = [(disks[n % 2], (n * 7919) % 2048 * 512) for n in range(600)]
    counter = itertools.count()

    def write_some(times: int) -> None:
        for n in itertools.islice(counter, times):
            disk, offset = places[n]
            disk.write(offset, n.to_bytes(4, "little") * 128)
            disk.flush()

    write_some(100)
    clones: list[tuple[int, Clone]] = []
    for number in range(2):
        began = next(counter)  # this one is never written
        clone = Clone(host, vm, f"copy{number}", "ds2", options=SMALL)
        for _ in clone.steps():
            write_some(7)
        clones.append((began, clone))
    missing = [began for began, _ in clones]
    for began, clone in clones:
        stem = clone.where.removesuffix(".vmx")
        found = [content(host, f"{stem}.vmdk"), content(host, f"{stem}_1.vmdk")]
        wanted = [bytearray(MB), bytearray(MB)]
        for n in range(began):
            if n not in missing:
                offset = places[n][1]
                wanted[n % 2][offset : offset + 512] = n.to_bytes(4, "little") * 128
        assert found == wanted
    site.close()


def test_the_teaching_kernel_writes_on_while_it_is_cloned(site: Site, host: Host) -> None:
    vm = start(host, register(host, WEB), "mkfs", "fill before 60000 1", "sync")
    snapshots = host.snapshots(vm)
    taken = snapshots.take("kept", memory=False)
    type_line(host, vm, "put b second")
    type_line(host, vm, "sync")
    vm.console.type("fill during 100000 2")
    clone = clone_now(host, vm, "copy", "ds2", options=SMALL)
    assert clone.state == "cloned"
    assert [each.uid for each in snapshots.list.snapshots] == [taken.uid]
    host.run_for(5_000_000_000)
    assert type_line(host, vm, "ls").count("inode") == 3
    copy = start(host, COPY)
    found = files_on(copy.disks.devices()["scsi0:0"])
    assert (found["before"], found["b"]) == (filling(60_000, 1), b"second\n")
    type_line(host, copy, "put d clone's")
    snapshots.revert(taken.uid)


def test_while_it_is_cloned_nobody_moves_it_or_changes_its_snapshots(site: Site, host: Host) -> None:
    vm, writer = written(host)
    clone = Clone(host, WEB, "copy", "ds2", options=SMALL)  # by its file: found to be on
    assert clone.source.hosted is vm
    for refused in (
        lambda: StorageVmotion(host, vm, "ds2"),
        lambda: Clone(host, vm, "copy2", "ds2"),
        lambda: ColdMigration(host, WEB, "ds2"),
        lambda: host.snapshots(vm).take("no", memory=False),
        lambda: host.snapshots(vm).delete_all(),
        lambda: host.snapshots(vm).begin_delete(None),
    ):
        with pytest.raises(AdminError, match=r"cloned|merged|is on, on esx1"):
            refused()
    drive(vm, writer.some)
    assert clone.state == "cloned"
    assert [(each.ok, each.left) for each in site.log.of(CloneEnded)] == [(True, "")]
    (began,) = site.log.of(CloneBegan)
    assert (began.source, began.clone, began.running, began.disks) == (WEB, COPY, True, 1)
    StorageVmotion(host, vm, "ds2", options=SMALL)
    drive(vm, writer.some)
    assert writer.agrees()


def test_a_machine_in_memory_says_how_its_disks_are_cloned(site: Site, host: Host) -> None:
    vm, _ = written(host)
    with pytest.raises(AdminError, match=r"web was not cloned: it has disks.*vilab\.migration\.cloning"):
        host.clone(vm, "copy")


def test_progress_grows_to_all_of_it(site: Site, host: Host) -> None:
    vm, _ = written(host)
    clone = Clone(host, vm, "copy", "ds2", options=SMALL)
    told = [each.percent for each in clone.steps()]
    assert told == sorted(told)
    assert (told[0] < 20, told[-1]) == (True, 100)
    assert msgspec.json.decode(msgspec.json.encode(clone.progress))["total_bytes"] == 2 * MB
