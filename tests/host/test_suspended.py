"""A suspended machine is a file of its folder: it goes on from there, or is as after a power cut, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.host.storage_helpers import (
    QUANTUM,
    SECOND,
    disk_files,
    files_on,
    register,
    run_until,
    start,
    to_prompt,
    type_line,
)
from tests.host.suspended_site import WEB, digest, names, new_host
from tests.vmm.disk_guest import filling
from vilab.costs import DEFAULT_COSTS
from vilab.errors import AdminError
from vilab.host.cpu_features import CpuFeatures
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.powering_on import PoweringOn
from vilab.host.registered import power_on_file
from vilab.host.suspended import Suspended, suspend_file
from vilab.host.suspension import Suspension, suspension_of
from vilab.host.vm_home import VmHome
from vilab.host.vmx import Vmx, parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.memory.page_state import PageState
from vilab.storage.disks import vmsn
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.still_held import StillHeld
from vilab.vmm.vm import QuietConsole

FILES = {"web.vmx", "web.vmx.lck", "web.vmdk", "web-flat.vmdk", "web.vmsd.lock"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = new_host(tmp_path, memory_mb=64)
    yield made
    made.memory.check()
    made.close()


def change(host: Host, **lines: str) -> None:
    """Lines of the configuration; ``vilab_engine`` is ``vilab.engine``."""
    home = VmHome(host.storage, WEB)
    config = home.read()
    for key, value in lines.items():
        config.set(key.replace("_", "."), value)
    home.write(config)


def resume(host: Host, discard: bool = False) -> HostedVm:
    return power_on_file(host, WEB, console=QuietConsole(), discard_suspended=discard)


def state_file(folder: Path) -> Path:
    return folder / "ds1" / "web" / "web.vmss"


def suspended(host: Host, *lines: str, **settings: str) -> dict[str, bytes]:
    """A machine that has done this, suspended. What it was."""
    register(host, WEB)
    change(host, **settings)
    vm = start(host, WEB, *lines)
    was = digest(vm)
    suspend_file(host, vm)
    return was


def rewrite(folder: Path, **fields: object) -> None:
    """The state's file, with these fields of ``Suspended`` changed."""
    number = suspension_of(parse((folder / "ds1" / "web" / "web.vmx").read_bytes())).number
    parts = vmsn.read(state_file(folder), number, kind=vmsn.SUSPENDED)
    said = msgspec.msgpack.decode(parts["suspended"], type=Suspended)
    parts["suspended"] = msgspec.msgpack.encode(msgspec.structs.replace(said, **fields))
    state_file(folder).unlink()
    vmsn.write(state_file(folder), number, parts, kind=vmsn.SUSPENDED)


def refused(host: Host, folder: Path, sentence: str) -> None:
    """Nothing has changed, nothing is open, and the sentence says what can be done."""
    before = {path: path.read_bytes() for path in (folder / "ds1" / "web").iterdir()}
    free = host.memory.free_pages
    with pytest.raises(AdminError, match=sentence) as error:
        resume(host)
    assert str(error.value).startswith("[ds1] web/web.vmx was not resumed from web.vmss: ")
    assert str(error.value).endswith("power it on and discard its suspended state.")
    assert {path: path.read_bytes() for path in (folder / "ds1" / "web").iterdir()} == before
    assert (host.memory.free_pages, host.vms, host.storage.mounted("ds1").users) == (free, {}, [])


# --- as if it had never been ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_a_machine_goes_on_as_it_was_at_any_moment(host: Host, tmp_path: Path, engine: str) -> None:
    """Among others with commands under way in its disk."""
    register(host, WEB)
    change(host, vilab_engine=engine)
    vm, lot, busy = start(host, WEB, "mkfs"), random.Random(engine), 0
    vm.console.type("fill big 110000 3")
    for _ in range(12):
        console = vm.console
        host.run_for(lot.randrange(1_000, 6_000_000))
        busy += vm.vm.pc.scsi_busy()
        was, clock_ns = digest(vm), vm.vm.clock.now_ns
        assert suspend_file(host, vm) == "[ds1] web/web.vmss"
        assert vm.stopped == "web was suspended on esx1 to web.vmss: power it on to go on."
        assert names(tmp_path) == FILES | {"web.vmss"}
        assert (host.vms, host.storage.mounted("ds1").users) == ({}, [])
        vm = power_on_file(host, WEB, console=console)
        assert digest(vm) == was
        assert vm.vm.clock.now_ns == clock_ns
        assert names(tmp_path) == FILES
        assert b"checkpoint" not in host.storage.read_file(WEB)
    assert busy
    to_prompt(host, vm)
    type_line(host, vm, "sync")
    host.power_off(vm)
    assert disk_files(host, "[ds1] web/web.vmdk") == {"big": filling(110_000, 3)}


def test_what_it_says_is_what_a_machine_says_that_was_never_suspended(host: Host, tmp_path: Path) -> None:
    lines = ["mkfs", "put a b", "isprime 1000003", "cat a", "fill c 60000 4", "ls"]
    once = start(host, register(host, "[ds1] never/never.vmx"), *lines).console.said
    vm = start(host, register(host, WEB))
    console = vm.console
    for line in lines:
        console.type(line)
        host.run_for(700_000)
        suspend_file(host, vm)
        vm = power_on_file(host, WEB, console=console)
        to_prompt(host, vm)
    assert console.said == once


def test_what_was_not_written_back_is_in_its_memory(host: Host) -> None:
    suspended(host, "mkfs", "put a b", "write unsynced words")
    assert disk_files(host, "[ds1] web/web.vmdk") == {"a": b"b\n"}
    vm = resume(host)
    vm.console.type("")
    to_prompt(host, vm)
    assert type_line(host, vm, "cat unsynced") == "words\n"


def test_memory_that_was_paged_out_or_ballooned_comes_along(host: Host) -> None:
    register(host, WEB)
    change(host, vilab_image="kernel-memory", memsize="16", vilab_append="hz=10", vilab_ramdiskMB="8")
    vm = power_on_file(host, WEB, console=QuietConsole())
    host.run_for(SECOND)
    host.memory.set_balloon(vm.client, 200)
    host.run_for(2 * SECOND)
    assert host.memory.page_out(vm.client, 50) > 20
    was = digest(vm)
    assert vm.client.pmap.count(PageState.BALLOONED) == 200
    assert vm.client.pmap.count(PageState.SWAPPED) > 20
    suspend_file(host, vm)
    change(host, sched_mem_shares="high")
    vm = resume(host)
    assert digest(vm) == was
    assert vm.client.config.shares == "high"
    host.run_for(SECOND)
    assert vm.runs


def test_pages_of_zeros_take_no_room(host: Host, tmp_path: Path) -> None:
    suspended(host, memsize="32")
    assert state_file(tmp_path).stat().st_size < 1 << 20


def test_a_machine_in_no_datastore_and_one_without_a_disk(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "web.vmx"
    path.write_text('displayName = "web"\nmemsize = "16"\nvilab.image = "kernel-memory"\n')
    vm = power_on_file(host, path, console=QuietConsole())
    host.run_for(SECOND)
    was = digest(vm)
    assert suspend_file(host, vm) == str(tmp_path / "web.vmss")
    vm = power_on_file(host, path, console=QuietConsole())
    assert digest(vm) == was
    assert not (tmp_path / "web.vmss").exists()


def test_snapshots_of_before_are_there_afterwards(host: Host) -> None:
    register(host, WEB)
    vm = start(host, WEB, "mkfs", "put a b")
    taken = host.snapshots(vm).take("one")
    type_line(host, vm, "put c d")
    was = digest(vm)
    suspend_file(host, vm)
    vm = resume(host)
    assert digest(vm) == was
    host.snapshots(vm).revert(taken.uid)
    vm.console.type("")
    to_prompt(host, vm)
    assert type_line(host, vm, "ls").count("inode") == 1


def test_twice_in_a_row_and_powered_off_in_between(host: Host) -> None:
    suspended(host, "mkfs", "put a b")
    host.power_off(resume(host))
    vm = start(host, WEB)
    assert type_line(host, vm, "cat a") == "b\n"
    suspend_file(host, vm)
    suspend_file(host, resume(host))
    assert resume(host).runs


# --- refused: it runs on ----------------------------------------------------------------------------------------------


def test_a_machine_that_cannot_be_suspended_runs_on(host: Host, tmp_path: Path) -> None:
    register(host, WEB)
    vm = start(host, WEB, "mkfs", "put a b")
    before = host.storage.read_file(WEB)

    def cannot(sentence: str) -> None:
        with pytest.raises(AdminError, match=f"^web was not suspended: {sentence}"):
            suspend_file(host, vm)
        assert vm.runs
        assert host.storage.read_file(WEB) == before
        assert names(tmp_path) == FILES

    vm.stunned = True
    cannot("it is being moved to another host")
    vm.stunned = False
    host.departures.add("web")
    cannot("it is being moved to another host")
    host.departures.clear()
    vm.disks.snapshots.held = "web is being moved to nfs1; wait."
    cannot("web is being moved to nfs1; wait.")
    vm.disks.snapshots.held = ""
    vm.merge = iter([1, 2])
    cannot("its snapshots are being merged")
    vm.merge = None
    assert type_line(host, vm, "cat a") == "b\n"
    host.power_off(vm)
    with pytest.raises(AdminError, match=r"it does not run on esx1. web was powered off"):
        suspend_file(host, vm)


def test_a_disk_that_forgets_what_was_written_keeps_a_machine_from_being_suspended(host: Host, tmp_path: Path) -> None:
    host.storage.create_disk("[ds1] web/web.vmdk", 2 << 20)
    register(host, WEB, DiskSettings("scsi0:0", "web.vmdk", "independent-nonpersistent"))
    vm = start(host, WEB)
    with pytest.raises(AdminError, match=r"^web was not suspended: what it has written to scsi0:0 .* It runs on.$"):
        suspend_file(host, vm)
    assert vm.runs
    assert "web.vmss" not in names(tmp_path)


def test_a_machine_without_a_file_is_not_suspended_to_one(host: Host) -> None:
    register(host, WEB)
    change(host, scsi0_present="FALSE")
    (clone,) = host.clone(start(host, WEB), "web2")
    with pytest.raises(AdminError, match="web2 was not suspended: it was not powered on from a file"):
        suspend_file(host, clone)
    assert clone.runs


# --- refused: it stays suspended --------------------------------------------------------------------------------------


def test_a_disk_that_was_written_to_since_is_never_resumed_silently(host: Host, tmp_path: Path) -> None:
    suspended(host, "mkfs", "put a b", "write unsynced words")
    with open_chain(tmp_path / "ds1" / "web" / "web.vmdk", writable=True) as chain:
        chain.write(0, chain.read(0, 512))
    refused(host, tmp_path, "its disk scsi0:0 was written to since, and its memory no longer fits it")
    refused(host, tmp_path, "was written to since")
    vm = power_on_file(host, WEB, console=QuietConsole(), discard_suspended=True)
    to_prompt(host, vm)
    assert names(tmp_path) == FILES
    assert type_line(host, vm, "ls").startswith("a: 2 bytes")
    assert files_on(vm.disks.devices()["scsi0:0"]) == {"a": b"b\n"}
    host.power_off(vm)
    assert "kernel" in start(host, WEB).console.said  # anew, and nothing is remembered


def test_hardware_that_is_not_that_of_then(host: Host, tmp_path: Path) -> None:
    was = suspended(host, ethernet0_present="TRUE")
    config = host.storage.read_file(WEB)

    def otherwise(sentence: str, **lines: str) -> None:
        change(host, **lines)
        refused(host, tmp_path, sentence)
        host.storage.write_file(WEB, config)

    otherwise("web had 8 MB of memory then and has 12 MB now", memsize="12")
    otherwise("its network cards, or their addresses, are not those", ethernet0_virtualDev="e1000")
    otherwise("its network cards, or their addresses", ethernet0_generatedAddress="00:0c:29:00:00:01")
    otherwise("its network cards, or their addresses", ethernet1_present="TRUE")
    otherwise("the state does not fit this vilab", scsi0_virtualDev="buslogic")
    host.storage.create_disk("[ds1] web/other.vmdk", 2 << 20)
    otherwise("its disk scsi0:0 was written to since", **{"scsi0:0_fileName": "other.vmdk"})
    changed = parse(config)
    add_disk(changed, DiskSettings("scsi0:1", "other.vmdk"))
    host.storage.write_file(WEB, write(changed))
    refused(host, tmp_path, "its disks are not those of then: scsi0:1 is new")
    host.storage.write_file(WEB, config)
    change(host, **{"scsi0:0_present": "FALSE"})
    refused(host, tmp_path, "its disks are not those of then: scsi0:0 is not there any more")
    host.storage.write_file(WEB, config)
    change(host, vilab_image="no such", sched_mem_minsize="4", vilab_engine="bt")  # are for the next start
    vm = resume(host)
    assert digest(vm) == was
    assert vm.vm.engine.name == "svm"
    assert vm.client.config.reservation_mb == 4


def test_a_processor_that_cannot_do_what_the_guest_was_shown(host: Host, tmp_path: Path) -> None:
    was = suspended(host)
    number = suspension_of(VmHome(host.storage, WEB).read()).number
    kept = state_file(tmp_path).read_bytes()
    parts = vmsn.read(state_file(tmp_path), number, kind=vmsn.SUSPENDED)
    cpu = msgspec.msgpack.decode(parts["suspended"], type=Suspended).cpu
    assert isinstance(cpu, CpuFeatures)
    rewrite(tmp_path, cpu=msgspec.structs.replace(cpu, edx=cpu.edx | 1 << 6, ecx=cpu.ecx | 1))
    refused(host, tmp_path, "its guest was shown PAE and SSE3 on esx1, which the processor of esx1 does not have")
    rewrite(tmp_path, cpu=msgspec.structs.replace(cpu, vendor="GenuineIntel"))
    refused(host, tmp_path, "it ran on a processor of GenuineIntel on esx1, and esx1 has one of AuthenticAMD")
    rewrite(tmp_path, engine="jit")
    refused(host, tmp_path, "it runs in the engine jit, and esx1 has deprivileged, trap, bt, para, svm, bare")
    state_file(tmp_path).write_bytes(kept)
    costs = msgspec.structs.replace(DEFAULT_COSTS, tsc_per_us=2 * DEFAULT_COSTS.tsc_per_us)
    (tmp_path / "esx2").mkdir()
    other = Host(40, "esx2", swap_directory=tmp_path / "esx2", quantum_ns=QUANTUM, costs=costs)
    other.storage.add_local("ds1", tmp_path / "ds1")
    refused(other, tmp_path, "its time-stamp counter counted 1000000 in a millisecond on esx1, the one of esx2 counts")
    other.close()
    assert digest(resume(host)) == was


def test_a_host_that_refuses_leaves_it_suspended(host: Host, tmp_path: Path) -> None:
    was = suspended(host)
    before = host.storage.read_file(WEB)
    small = new_host(tmp_path, "esx2", memory_mb=4)
    with pytest.raises(AdminError, match="web cannot be powered on"):
        resume(small)
    with pytest.raises(AdminError, match="web cannot be powered on"):
        resume(small, discard=True)
    small.close()
    assert host.storage.read_file(WEB) == before
    assert digest(resume(host)) == was


# --- the file and the line that names it ------------------------------------------------------------------------------


def test_a_state_that_is_not_there_or_was_not_written_by_vilab(host: Host, tmp_path: Path) -> None:
    was = suspended(host)
    path, config = state_file(tmp_path), host.storage.read_file(WEB)
    kept = path.read_bytes()
    path.unlink()
    refused(host, tmp_path, "that file is not there")
    path.write_bytes(b"\xd2\xbe\xd2\xbe" + bytes(5000))  # as VMware's begin
    refused(host, tmp_path, "is no suspended machine of vilab, or damaged: it does not begin with its mark")
    host.storage.write_file(WEB, config.replace(b"vilab.checkpoint.number", b"vilab.other.number"))
    refused(host, tmp_path, "vilab.checkpoint.number does not say which suspension it is")
    host.storage.write_file(WEB, config)
    for name in ("../web/web.vmss", "[ds1] web/web.vmss", "web.vmdk", "/etc/x.vmss"):
        change(host, checkpoint_vmState=name)
        with pytest.raises(AdminError, match=r"checkpoint.vmState is .*; it has to be the name of a .vmss file in"):
            resume(host)
    host.storage.write_file(WEB, config)
    path.write_bytes(kept)
    assert digest(resume(host)) == was


def test_another_machines_state_or_an_older_one_is_refused(host: Host, tmp_path: Path) -> None:
    suspended(host)
    older = state_file(tmp_path).read_bytes()
    suspend_file(host, resume(host))
    state_file(tmp_path).write_bytes(older)
    refused(host, tmp_path, "it belongs to suspension")


def test_discarding_leaves_the_file_of_another_product_alone(host: Host, tmp_path: Path) -> None:
    host.power_off(power_on_file(host, register(host, WEB)))
    foreign = b"\xd2\xbe\xd2\xbe" + bytes(5000)
    state_file(tmp_path).write_bytes(foreign)
    change(host, checkpoint_vmState="web.vmss")
    refused(host, tmp_path, "so that vilab has not written it")
    host.power_off(resume(host, discard=True))
    assert state_file(tmp_path).read_bytes() == foreign
    assert suspension_of(VmHome(host.storage, WEB).read()) is None


def test_what_is_left_over_goes_with_the_next_start(host: Host, tmp_path: Path) -> None:
    suspended(host)
    kept = state_file(tmp_path).read_bytes()
    host.power_off(resume(host))
    state_file(tmp_path).write_bytes(kept)
    state_file(tmp_path).with_name(".vilab-web.vmss").write_bytes(kept[:1000])
    vm = start(host, WEB)
    assert names(tmp_path) == FILES
    assert vm.vm.clock.now_ns
    run_until(host, lambda: vm.runs)


def test_an_empty_line_as_esx_leaves_it_says_nothing_and_stays(host: Host) -> None:
    register(host, WEB)
    change(host, checkpoint_vmState="")
    start(host, WEB)
    assert b'checkpoint.vmState = ""' in host.storage.read_file(WEB)
    assert suspension_of(parse(b'checkpoint.vmState = "a.vmss"\nvilab.checkpoint.number = "0000001f"\n')) == Suspension(
        "a.vmss", 31
    )


def test_until_its_configuration_says_so_it_stands_still(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is held by a host that may be dead: what is powered on step by step asks again, and time passes."""
    register(host, WEB)
    web = start(host, WEB)
    was, clock_ns = digest(web), web.vm.clock.now_ns
    suspend_file(host, web)

    def held(_home: VmHome, _config: Vmx) -> None:
        raise StillHeld("web.vmx is held by esx2, which may be dead.")

    monkeypatch.setattr(VmHome, "write", held)
    steps = PoweringOn(host, WEB, QuietConsole())
    for _ in range(3):
        assert steps.step() is None
        host.run_for(SECOND)
        assert suspension_of(VmHome(host.storage, WEB).read()) is not None
    monkeypatch.undo()
    vm = steps.step()
    assert vm is not None
    assert digest(vm) == was
    host.run_for(SECOND)
    assert vm.vm.clock.now_ns == clock_ns + SECOND


def test_who_gives_up_powering_it_on_leaves_it_suspended(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    was = suspended(host)

    def held(_home: VmHome, _config: Vmx) -> None:
        raise StillHeld("web.vmx is held by esx2, which may be dead.")

    monkeypatch.setattr(VmHome, "write", held)
    steps = PoweringOn(host, WEB, QuietConsole())
    assert steps.step() is None
    steps.give_up()
    monkeypatch.undo()
    assert not host.vms
    assert digest(resume(host)) == was
