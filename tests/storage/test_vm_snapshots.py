"""Snapshots of a whole machine: several disks as one, trees, its state beside, and a list as ESX writes it."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.vm_model import NODES, SIZE, Machine, content
from tests.storage.vmdk_judges import dissect_reads, qemu_agrees, qemu_info
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.storage.disks import vmsd, vmsn
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vm_snapshots import VmSnapshots
from vilab.storage.storage_events import (
    GrainsAllocated,
    SnapshotCommitted,
    VmSnapshotDeleted,
    VmSnapshotReverted,
    VmSnapshotTaken,
)

BASES = ("vmfs", "monolithicSparse", "twoGbMaxExtentSparse")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path, log=EventLog(keep=True))
    made.make()
    return made


def scribble(vm: VmSnapshots, seed: int) -> list[bytes]:
    """Write here and there on every disk; what they hold now."""
    lot = random.Random(seed)
    for node in NODES:
        for _ in range(4):
            at, sectors = lot.randrange(300), lot.choice((1, 8, 20))
            vm.chain(node).write(at * 512, lot.randbytes(sectors * 512))
    return content(vm)


def whole(path: Path) -> bytes:
    with open_chain(path) as chain:
        return chain.read(0, SIZE)


def test_a_snapshot_holds_all_disks_and_the_state_of_one_moment(machine: Machine):
    with machine.open() as vm:
        then = scribble(vm, 1)
        state = {"vm": b"registers", "memory": bytes(range(256)) * 300}
        taken = vm.take('before "the" update\nof May', "a|b", state, created_us=1_175_000_000_123_456)
        later = scribble(vm, 2)
        assert later != then
        assert machine.disks() == {"scsi0:0": "vm-000001.vmdk", "scsi0:1": "vm_1-000001.vmdk"}
    assert [whole(machine.folder / disk.file) for disk in taken.disks] == then
    with machine.open() as vm:
        assert vm.snapshots == (taken,)
        assert content(vm) == later
        assert vm.revert(taken.uid) == state
        assert content(vm) == then
        assert vm.list.current == taken.uid
    assert machine.names() == [
        "vm-000002-delta.vmdk", "vm-000002.vmdk", "vm-Snapshot1.vmsn", "vm-flat.vmdk", "vm.vmdk",
        "vm_1-000002-delta.vmdk", "vm_1-000002.vmdk", "vm_1-flat.vmdk", "vm_1.vmdk",
    ]  # fmt: skip
    assert [event.uid for event in machine.log.of(VmSnapshotTaken)] == [1]  # type: ignore[union-attr]
    assert [event.uid for event in machine.log.of(VmSnapshotReverted)] == [1]  # type: ignore[union-attr]


def test_a_tree_with_two_branches_is_read_by_others_and_pruned(machine: Machine):
    with machine.open() as vm:
        held = {}
        held[1] = scribble(vm, 1)
        vm.take("installed")
        held[2] = scribble(vm, 2)
        vm.take("updated")
        scribble(vm, 3)
        vm.revert(1)
        held[3] = scribble(vm, 4)
        vm.take("other way")
        held[4] = scribble(vm, 5)
        vm.take("further")
        now = scribble(vm, 6)
        assert vm.list.describe().splitlines() == [
            "1  installed", "  2  updated", "  3  other way", "    4  further", "      *  you are here",
        ]  # fmt: skip
        files = {s.uid: [d.file for d in s.disks] for s in vm.snapshots}
    for uid, names in files.items():
        for name, expected in zip(names, held[uid], strict=True):
            qemu_agrees(machine.folder / name, expected)
            assert dissect_reads(machine.folder / name) == expected[: SIZE // 8192 * 8192]
    assert len(qemu_info(machine.folder / machine.disks()["scsi0:0"])) == 4
    with machine.open() as vm:
        vm.delete(1)  # two branches stand on its disks: they stay, without a name
        assert content(vm) == now
        assert [s.parent for s in vm.snapshots] == [None, None, 3]
        vm.delete(3)
        assert content(vm) == now
        vm.delete(2)
        assert content(vm) == now
        assert [disk.file for disk in vm.list.find(4).disks] == ["vm.vmdk", "vm_1.vmdk"], "all merged into the bases"
        vm.revert(4)
        assert content(vm) == held[4]
        vm.delete_all()
        assert content(vm) == held[4]
        assert vm.snapshots == ()
        assert vm.list.current is None
    assert machine.names() == ["vm-flat.vmdk", "vm.vmdk", "vm_1-flat.vmdk", "vm_1.vmdk"]
    assert machine.disks() == {"scsi0:0": "vm.vmdk", "scsi0:1": "vm_1.vmdk"}
    qemu_agrees(machine.folder / "vm.vmdk", held[4][0])
    assert len(machine.log.of(VmSnapshotDeleted)) == 4  # type: ignore[union-attr]
    assert machine.log.of(SnapshotCommitted)  # type: ignore[union-attr]


def test_the_machine_writes_while_snapshots_are_merged(machine: Machine):
    with machine.open() as vm:
        for seed in range(3):
            scribble(vm, seed)
            vm.take(f"s{seed}")
        now, steps = scribble(vm, 9), 0
        for steps, _ in enumerate(vm.delete_steps(None, subtree=True), 1):
            assert content(vm) == now
            now = scribble(vm, 100 + steps)
            for refused in (lambda: vm.take("now"), lambda: vm.revert(1), vm.delete_all, vm.consolidate):
                with pytest.raises(AdminError, match="being merged"):
                    refused()
        assert content(vm) == now
        assert steps >= 6
    assert machine.names() == ["vm-flat.vmdk", "vm.vmdk", "vm_1-flat.vmdk", "vm_1.vmdk"]


def test_a_subtree_goes_with_its_files(machine: Machine):
    with machine.open() as vm:
        first = scribble(vm, 1)
        vm.take("1", state={"vm": b"x"})
        scribble(vm, 2)
        vm.take("2", state={"vm": b"y"})
        scribble(vm, 3)
        vm.take("3")
        vm.revert(1)
        vm.delete(2, subtree=True)
        assert [s.uid for s in vm.snapshots] == [1]
        assert content(vm) == first
    assert not any(name.startswith(("vm-000001", "vm-000002", "vm-Snapshot2")) for name in machine.names())


def test_what_cannot_be_done_leaves_everything_as_it_was(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    with machine.open() as vm:
        scribble(vm, 1)
        vm.take("1", state={"vm": b"x" * 1000})
        now = scribble(vm, 2)
        before, listed = machine.names(), vm.list

        def unchanged() -> bool:
            return (machine.names(), vm.list, content(vm)) == (before, listed, now)

        for refused in (lambda: vm.revert(7), lambda: vm.delete(7)):
            with pytest.raises(AdminError, match="no snapshot 7"):
                refused()
        made: list[Path] = []
        make_child = SnapshotDisk.make_child

        def no_space(self: SnapshotDisk, path: Path, helper: bool = False) -> None:
            if made:
                raise AdminError("No space is left.")
            make_child(self, path, helper)
            made.append(path)

        monkeypatch.setattr(SnapshotDisk, "make_child", no_space)
        with pytest.raises(AdminError, match="No space"):
            vm.take("2", state={"vm": b"y"})
        assert made
        assert unchanged()
        monkeypatch.undo()
        state = machine.folder / "vm-Snapshot1.vmsn"
        good = state.read_bytes()
        state.write_bytes(good[:-1] + b"?")
        with pytest.raises(AdminError, match="has changed"):
            vm.revert(1)
        assert unchanged()
        state.write_bytes(good)
        with pytest.raises(AdminError, match="in use"):
            machine.open()
        vm.config["scsi0:2"] = "new.vmdk"
        with pytest.raises(AdminError, match="Attach or detach"):
            vm.revert(1)
        del vm.config["scsi0:2"]
        for number in range(2, 33):
            vm.take(str(number))
        with pytest.raises(AdminError, match="32 in a row"):
            vm.take("one too many")
        vm.delete_all()
        assert content(vm) == now


def test_growing_disks_say_where(machine: Machine):
    with machine.open() as vm:
        vm.take("1")
        assert machine.log is not None
        machine.log.events.clear()
        vm.chain("scsi0:0").write(10 * 512, bytes(4 * 512))
        vm.chain("scsi0:0").write(12 * 512, b"\x01" * (4 * 512))
        vm.chain("scsi0:0").write(10 * 512, bytes(4 * 512))
        grown = machine.log.of(GrainsAllocated)
        assert [(e.file, e.first_sector, e.sectors) for e in grown] == [
            ("vm-000001-delta.vmdk", 10, 4),
            ("vm-000001-delta.vmdk", 14, 2),
        ]
        vm.chain("scsi0:0").flush()
        data = (machine.folder / "vm-000001-delta.vmdk").read_bytes()
        at = grown[1].file_sector * 512
        assert data[at : at + 1024] == b"\x01" * 1024


def test_events_carry_the_time_of_the_clock(tmp_path: Path):
    machine = Machine(tmp_path)
    machine.make()
    log = EventLog(keep=True)
    with VmSnapshots(tmp_path, "vm", machine.disks(), machine.configure, log=log) as vm:
        vm.clock.advance(5_000)
        vm.take("1")
        vm.chain("scsi0:0").write(0, bytes(512))
        vm.clock.advance(5_000)
        vm.delete(1)
    assert {event.at_ns for event in log.events} == {5_000, 10_000}


# --- any sequence -----------------------------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "write", "take", "take", "revert", "delete", "delete subtree", "delete all", "reopen"]
        ),
        st.integers(0, 1000),
    ),
    max_size=16,
)


@settings(max_examples=40, deadline=None)
@given(base=st.sampled_from(BASES), operations=OPERATIONS)
def test_any_sequence_of_operations_on_a_tree_reads_as_the_model(base: str, operations: list[tuple[str, int]]):
    folder = Path(tempfile.mkdtemp(prefix="vilab-"))
    try:
        machine = Machine(folder)
        machine.make(base)
        vm = machine.open()
        held: dict[int, list[bytes]] = {}
        now = content(vm)
        for what, number in operations:
            uids = sorted(held)
            uid = uids[number % len(uids)] if uids else 0
            if what == "write":
                now = scribble(vm, number)
            elif what == "take":
                held[vm.take(str(number), state={"vm": b"%d" % number}).uid] = now
            elif what == "revert" and uids:
                vm.revert(uid)
                now = held[uid]
            elif what == "delete" and uids:
                vm.delete(uid)
                del held[uid]
            elif what == "delete subtree" and uids:
                vm.delete(uid, subtree=True)
                held = {s.uid: held[s.uid] for s in vm.snapshots}
            elif what == "delete all":
                vm.delete_all()
                held.clear()
            elif what == "reopen":
                vm.close()
                vm = machine.open()
            assert content(vm) == now
            assert {s.uid for s in vm.snapshots} == set(held)
        vm.close()
        with machine.open() as vm:
            assert content(vm) == now
            named = {disk.file for s in vm.snapshots for disk in s.disks}
        for snapshot in vm.snapshots:
            assert [whole(folder / disk.file) for disk in snapshot.disks] == held[snapshot.uid]
        states = {name for name in machine.names() if name.endswith(".vmsn")}
        assert states == {f"vm-Snapshot{uid}.vmsn" for uid in held}
        assert named <= set(machine.names())
        if not held:
            assert not any("-0000" in name for name in machine.names())
    finally:
        shutil.rmtree(folder)


def value_or_sentence(read: Callable[[], object]) -> object:
    """What was read, or the one line in which it was refused."""
    try:
        return read()
    except AdminError as error:
        return str(error).splitlines()[0] if "\n" not in str(error) else pytest.fail(f"several lines: {error}")


# --- the list and the state, as files ---------------------------------------------------------------------------------

AS_ESX_WRITES = b""".encoding = "UTF-8"
snapshot.lastUID = "2"
snapshot.numSnapshots = "2"
snapshot.current = "2"
snapshot0.uid = "1"
snapshot0.filename = "vm-Snapshot1.vmsn"
snapshot0.displayName = "before |22May|22"
snapshot0.description = "one|0Atwo"
snapshot0.createTimeHigh = "273612"
snapshot0.createTimeLow = "-1190311024"
snapshot0.numDisks = "1"
snapshot0.disk0.fileName = "vm.vmdk"
snapshot0.disk0.node = "scsi0:0"
snapshot1.uid = "2"
snapshot1.filename = "vm-Snapshot2.vmsn"
snapshot1.parent = "1"
snapshot1.displayName = "after"
snapshot1.type = "1"
snapshot1.createTimeHigh = "273612"
snapshot1.createTimeLow = "1190311024"
snapshot1.numDisks = "1"
snapshot1.disk0.fileName = "vm-000001.vmdk"
snapshot1.disk0.node = "scsi0:0"
"""


def test_a_list_as_esx_writes_it():
    listed = vmsd.parse(AS_ESX_WRITES)
    first, second = listed.snapshots
    assert (first.name, first.description, first.parent, second.parent) == ('before "May"', "one\ntwo", None, 1)
    assert first.created_us == (273612 << 32) + (1 << 32) - 1190311024
    assert second.disks == (vmsd.DiskAt("scsi0:0", "vm-000001.vmdk"),)
    assert second.other == (("type", "1"),)
    assert listed.depth(2) == 2
    assert set(vmsd.write(listed).splitlines()) == set(AS_ESX_WRITES.splitlines())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FILES = TEXTS.filter(vmsd.is_plain_name)
UIDS = st.lists(st.integers(1, 99), unique=True, max_size=6)


@st.composite
def lists(draw: st.DrawFn) -> vmsd.SnapshotList:
    uids = draw(UIDS)
    snapshots = []
    for number, uid in enumerate(uids):
        nodes = draw(st.lists(st.sampled_from(["scsi0:0", "scsi0:1", "ide1:0"]), unique=True))
        disks = tuple(vmsd.DiskAt(node, draw(FILES)) for node in nodes)
        parent = draw(st.sampled_from([None, *uids[:number]]))
        state = draw(st.just("") | FILES)
        created = draw(st.integers(0, (1 << 64) - 1))
        snapshots.append(vmsd.Snapshot(uid, draw(TEXTS), disks, state, parent, draw(TEXTS), created))
    changes = draw(st.lists(st.builds(vmsd.Change, st.just("scsi0:0"), FILES, FILES), max_size=2))
    current = draw(st.sampled_from([None, *uids]))
    doomed, merged = (tuple(draw(st.lists(FILES, max_size=3))) for _ in range(2))
    return vmsd.SnapshotList(tuple(snapshots), current, 99, draw(st.booleans()), tuple(changes), merged, doomed)


@given(lists())
def test_what_is_written_is_parsed_to_the_same_value(listed: vmsd.SnapshotList):
    assert vmsd.parse(vmsd.write(listed)) == listed


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_list_is_a_value_or_a_sentence(data: st.DataObject):
    content = bytearray(AS_ESX_WRITES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        piece = data.draw(
            st.binary(max_size=30)
            | st.sampled_from(
                [b"999999999999", b"-1", b"../x", b"/etc/passwd", b'"', b"\n", b"|00", b"|2F", b"2", b"0"]
            )
        )
        content[at : at + data.draw(st.integers(0, 20))] = piece
    listed = value_or_sentence(lambda: vmsd.parse(bytes(content)))
    if isinstance(listed, vmsd.SnapshotList):
        assert vmsd.parse(vmsd.write(listed)) == listed
        assert all(vmsd.is_plain_name(disk.file) for s in listed.snapshots for disk in s.disks)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'parent = "1"', b'parent = "2"', "its own ancestor"),
        (b'parent = "1"', b'parent = "7"', "not in the list"),
        (b'snapshot1.uid = "2"', b'snapshot1.uid = "1"', "same uid"),
        (b'current = "2"', b'current = "5"', "not in the list"),
        (b'numSnapshots = "2"', b'numSnapshots = "999999"', "not a number from 0 to 1000"),
        (b'numSnapshots = "2"', b'numSnapshots = "3"', "snapshot2.uid is missing"),
        (b'"vm.vmdk"', b'"../vm.vmdk"', "no file of the virtual machine's folder"),
        (b'"vm.vmdk"', b'"a|2Fb"', "no file of the virtual machine's folder"),
        (b'"vm-Snapshot1.vmsn"', b'".."', "no file of the virtual machine's folder"),
        (b"scsi0:0", b"floppy0", "scsi0:0, for instance"),
        (b"UTF-8", b"EBCDIC", "encoding"),
    ],
)
def test_a_list_that_cannot_be_is_refused(old: bytes, new: bytes, why: str, machine: Machine):
    path = machine.folder / "vm.vmsd"
    path.write_bytes(AS_ESX_WRITES.replace(old, new, 1))
    with pytest.raises(AdminError, match=why):
        machine.open()
    assert path.read_bytes() == AS_ESX_WRITES.replace(old, new, 1)
    assert machine.names() == ["vm-flat.vmdk", "vm.vmdk", "vm_1-flat.vmdk", "vm_1.vmdk"]


@settings(deadline=None)
@given(at=st.integers(0, 2000), value=st.integers(0, 255), cut=st.integers(0, 2000) | st.none())
def test_a_damaged_state_is_refused_or_the_same(at: int, value: int, cut: int | None):
    folder = Path(tempfile.mkdtemp(prefix="vilab-"))
    try:
        path, parts = folder / "x.vmsn", {"vm": b"a" * 700, "memory": bytes(900)}
        vmsn.write(path, 3, parts)
        content = bytearray(path.read_bytes())
        content[at % len(content)] = value
        path.write_bytes(content[:cut])
        found = value_or_sentence(lambda: vmsn.read(path, 3))
        assert found == parts or isinstance(found, str)
        with pytest.raises(AdminError):
            vmsn.read(path, 4)
        with pytest.raises(AdminError, match="File exists"):
            vmsn.write(path, 3, parts)
    finally:
        shutil.rmtree(folder)


class Stubborn(Machine):
    """Its configuration cannot be written for a while."""

    full = False

    def configure(self, disks: Mapping[str, str]) -> None:
        if self.full:
            raise AdminError("The datastore is full.")
        super().configure(disks)


@pytest.mark.parametrize("what", ["take", "revert"])
def test_where_the_configuration_cannot_be_written_the_disks_follow_the_list(what: str, tmp_path: Path):
    machine = Stubborn(tmp_path)
    machine.make()
    with machine.open() as vm:
        first = scribble(vm, 1)
        vm.take("first")
        scribble(vm, 2)
        machine.full = True
        with pytest.raises(AdminError, match="full"):
            vm.take("second") if what == "take" else vm.revert(1)
        frozen = scribble(vm, 3)
        with pytest.raises(AdminError, match="full"):
            vm.take("third")
        assert content(vm) == frozen
        machine.full = False
        uid = vm.take("fourth").uid
        scribble(vm, 4)
        vm.revert(uid)
        assert content(vm) == frozen
        vm.revert(1)
        assert content(vm) == first
    with machine.open() as vm:
        assert content(vm) == first
        vm.delete_all()
        assert content(vm) == first
    with machine.open() as vm:
        assert content(vm) == first


def test_what_could_not_be_configured_is_when_it_is_opened_again(tmp_path: Path):
    machine = Stubborn(tmp_path)
    machine.make()
    with machine.open() as vm:
        machine.full = True
        with pytest.raises(AdminError, match="full"):
            vm.take("first")
        held = scribble(vm, 3)
    machine.full = False
    with machine.open() as vm:
        assert content(vm) == held
    assert machine.disks() == {"scsi0:0": "vm-000001.vmdk", "scsi0:1": "vm_1-000001.vmdk"}
