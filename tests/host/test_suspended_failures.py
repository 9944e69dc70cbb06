"""Every change to the datastore fails once while a machine is suspended or resumed; the power fails at every change;
the state's file is damaged. The machine runs on, or is suspended and can be resumed, or it is as after a power cut."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.storage_helpers import disk_files, register, start, to_prompt, type_line
from tests.host.suspended_site import WEB, Faults, digest, names, new_host, troubled_host
from tests.storage.power_cut import Platter, Step
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.suspended import suspend_file
from vilab.host.suspension import suspension_of
from vilab.host.vm_home import VmHome
from vilab.host.vmx import parse
from vilab.host.vmx_disks import DiskSettings
from vilab.storage.disks import vmsn
from vilab.vmm.vm import QuietConsole

FILES = {"web.vmx", "web.vmx.lck", "web.vmdk", "web-flat.vmdk", "web.vmsd.lock"}
WAYS = [(False, False), (True, False), (False, True), (True, True)]
"""Before or after the change, once or from then on."""


@pytest.fixture
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The power of this computer is not cut: what was synced is known by the record alone."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _number: None)


def resume(host: Host, discard: bool = False) -> HostedVm:
    return power_on_file(host, WEB, console=QuietConsole(), discard_suspended=discard)


def sentence_of(action: Callable[[], object]) -> str:
    """Why it was refused; empty: it was not."""
    try:
        action()
    except AdminError as error:
        return str(error)
    return ""


def is_suspended(host: Host) -> bool:
    return suspension_of(VmHome(host.storage, WEB).read()) is not None


# --- changes that fail ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_nobody_waits")
@pytest.mark.parametrize(("after", "lasting"), WAYS)
def test_a_change_that_fails_leaves_it_running_or_suspended(tmp_path: Path, after: bool, lasting: bool) -> None:
    faults = Faults()
    host = troubled_host(tmp_path, [], faults)
    vm, failed = start(host, register(host, WEB), "mkfs", "put a b"), 0
    for number in range(100):
        type_line(host, vm, f"write n {number}")
        was, console = digest(vm), vm.console
        faults.begin(number, after, lasting)
        sentence = sentence_of(lambda vm=vm: suspend_file(host, vm))
        if sentence:
            faults.begin(None)
            assert sentence.startswith("web was not suspended: ")
            assert sentence.endswith("No space left on device. It runs on.")
            assert vm.runs
            assert not is_suspended(host)
            assert digest(vm) == was
            assert lasting or names(tmp_path) == FILES
            failed += 1
            continue
        complete = faults.count <= number
        faults.begin(None)
        assert is_suspended(host)
        vm = power_on_file(host, WEB, console=console)
        assert digest(vm) == was
        assert names(tmp_path) == FILES
        if complete:
            break
    assert complete
    assert failed >= 8
    assert type_line(host, vm, "cat n") == f"{number}\n"
    host.close()


@pytest.mark.usefixtures("_nobody_waits")
@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize(("after", "lasting"), WAYS)
def test_a_change_that_fails_leaves_it_suspended_or_going_on(
    tmp_path: Path, after: bool, lasting: bool, discard: bool
) -> None:
    faults = Faults()
    host = troubled_host(tmp_path, [], faults)
    vm = start(host, register(host, WEB), "mkfs", "put a b", "write late words")
    was = digest(vm)
    suspend_file(host, vm)
    failed = 0
    for number in range(100):
        faults.begin(number, after, lasting)
        try:
            vm = resume(host, discard)
        except AdminError:
            faults.begin(None)
            assert is_suspended(host)
            assert not host.vms
            assert digest(resume(host)) == was
            suspend_file(host, host.vms["web"])
            failed += 1
            continue
        complete = faults.count <= number
        faults.begin(None)
        assert not is_suspended(host)
        assert vm.runs
        assert not vm.stunned
        assert (digest(vm) == was) == (not discard)
        if complete:
            break
        if discard:
            host.power_off(vm)
            vm = start(host, WEB, "write late words")
            was = digest(vm)
        suspend_file(host, vm)
    assert complete
    assert failed >= 3
    assert names(tmp_path) == FILES
    if discard:
        to_prompt(host, vm)
    else:
        vm.console.output += b"shell> "
    assert type_line(host, vm, "cat a") == "b\n"
    host.close()


THEIRS = vmsn.SUSPENDED.mark + b"another host's"


def lost_at(folder: Path, number: int) -> bool:
    """Change ``number`` is refused, because another host has the machine by then. False: there are not so many."""
    folder.mkdir()
    faults = Faults()
    host = troubled_host(folder, [], faults)
    vm = start(host, register(host, WEB), "mkfs")
    disks, web, found = vm.disks, folder / "ds1" / "web", list[bytes]()

    def lose() -> None:
        if not found:
            (web / "web.vmss").write_bytes(THEIRS)
            found.append((web / "web.vmx").read_bytes())
            disks.lose("web was stopped: another host has taken over the lock of web.vmx.lck.")

    faults.on_fault = lose
    faults.begin(number)
    sentence = sentence_of(lambda: suspend_file(host, vm))
    faults.begin(None)
    if found and sentence:
        assert "It runs on" not in sentence
        assert not vm.runs
    if found:
        assert (web / "web.vmss").read_bytes() == THEIRS
        assert (web / "web.vmx").read_bytes() == found[0]
    host.close()
    return bool(found)


@pytest.mark.usefixtures("_nobody_waits")
def test_a_machine_that_loses_its_files_meanwhile_is_not_suspended_and_removes_nothing(tmp_path: Path) -> None:
    number = 0
    while lost_at(tmp_path / str(number), number):
        number += 1
    assert number > 8


# --- the power fails --------------------------------------------------------------------------------------------------


class Folder(Platter):
    """Of ``ds1``, with folders in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certain = {path: bytearray(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}

    def lay_out(self, files: dict[Path, bytearray], at: Path) -> Path:
        shutil.rmtree(at, ignore_errors=True)
        (at / "ds1" / "web").mkdir(parents=True)
        for path, content in files.items():
            (at / "ds1" / path.relative_to(self.folder)).write_bytes(content)
        return at


RUNS, SUSPENDING, SUSPENDED, RESUMING, RUNS_AGAIN, FLUSHED = range(6)


@pytest.mark.usefixtures("_nobody_waits")
@pytest.mark.parametrize("kind", ["vmfs", "monolithicSparse"])
def test_a_power_cut_at_any_change(tmp_path: Path, kind: str) -> None:
    steps: list[Step] = []
    host = troubled_host(tmp_path, steps, Faults())
    host.storage.create_disk("[ds1] web/web.vmdk", 2 << 20, kind)
    vm = start(host, register(host, WEB, DiskSettings("scsi0:0", "web.vmdk")), "mkfs", "put a b", "write late words")
    for path in (tmp_path / "ds1" / "web").glob("*.vswp"):
        path.unlink()  # of no importance
    folder, first = Folder(tmp_path / "ds1"), len(steps)
    folder.marked = RUNS

    def mark(number: int) -> None:
        steps.append(Step("mark", Path(), number))

    was = digest(vm)
    mark(SUSPENDING)
    suspend_file(host, vm)
    mark(SUSPENDED)
    console = QuietConsole()
    mark(RESUMING)
    vm = power_on_file(host, WEB, console=console)
    mark(RUNS_AGAIN)
    console.output += b"shell> "
    type_line(host, vm, "put c d")
    mark(FLUSHED)
    host.cut_power()
    lot, seen, number = random.Random(kind), {True: 0, False: 0}, 0
    for step in steps[first:]:
        folder.apply(step)
        for files in folder.outcomes(lot, 1):
            at = folder.lay_out(files, tmp_path / "cut")
            number += 1
            other = new_host(at, f"esx{number}")
            found = resume(other)
            resumed = digest(found) == was
            seen[resumed] += 1
            if folder.marked == SUSPENDED:
                assert resumed
            if folder.marked in (RUNS, RUNS_AGAIN, FLUSHED):
                assert not resumed
            assert resumed or found.vm.clock.now_ns == 0
            assert names(at) | {"web-flat.vmdk"} == FILES
            other.power_off(found)
            files_there = disk_files(other, "[ds1] web/web.vmdk")
            assert files_there["a"] == b"b\n"
            assert folder.marked != FLUSHED or files_there["c"] == b"d\n"
            other.close()
    assert min(seen.values()) > 5


# --- damaged files ----------------------------------------------------------------------------------------------------


class Suspended:
    """A suspended machine; the file of another one; ``refused`` puts other bytes in the place of its state."""

    def __init__(self, folder: Path) -> None:
        self.host, self.path = new_host(folder), folder / "ds1" / "web" / "web.vmss"
        other = start(self.host, register(self.host, "[ds1] db/db.vmx"))
        suspend_file(self.host, other)
        vm = start(self.host, register(self.host, WEB), "mkfs")
        self.was = digest(vm)
        suspend_file(self.host, vm)
        self.config = folder / "ds1" / "web" / "web.vmx"
        self.number = suspension_of(parse(self.config.read_bytes())).number
        self.good, self.foreign = self.path.read_bytes(), (folder / "ds1" / "db" / "db.vmss").read_bytes()
        self.parts = vmsn.read(self.path, self.number, kind=vmsn.SUSPENDED)
        self.said = self.config.read_bytes()
        self.free = self.host.memory.free_pages

    def container(self, parts: dict[str, bytes]) -> bytes:
        self.path.unlink(missing_ok=True)
        vmsn.write(self.path, self.number, parts, kind=vmsn.SUSPENDED)
        return self.path.read_bytes()

    def attempt(self, content: bytes) -> str:
        """Why it was refused; empty, if it was resumed."""
        self.path.write_bytes(content)
        self.config.write_bytes(self.said)
        sentence = sentence_of(lambda: self.host.power_off(resume(self.host)))
        if sentence:
            assert self.path.read_bytes() == content
            assert self.config.read_bytes() == self.said
        assert self.host.memory.free_pages == self.free
        assert not self.host.vms
        return sentence


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suspended]:
    made = Suspended(tmp_path_factory.mktemp("damaged"))
    yield made
    assert made.attempt(made.good) == ""
    made.path.write_bytes(made.good)
    made.config.write_bytes(made.said)
    assert digest(resume(made.host)) == made.was
    made.host.memory.check()
    made.host.close()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_and_stays_as_it_is(machine: Suspended, data: st.DataObject) -> None:
    content = bytearray(machine.good)
    match data.draw(st.sampled_from(["flip", "cut", "mixed", "random", "inserted", "zeros"])):
        case "flip":
            for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4, unique=True)):
                content[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case "mixed":
            at = data.draw(st.integers(1, 20000))
            content[:at] = machine.foreign[:at]
        case "random":
            content = bytearray(data.draw(st.binary(max_size=400)))
        case "inserted":
            at = data.draw(st.integers(0, 2000))
            content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        case "zeros":
            at = data.draw(st.integers(0, len(content) - 4096))
            content[at : at + 4096] = bytes(4096)
    sentence = machine.attempt(bytes(content))
    assert sentence.startswith("[ds1] web/web.vmx was not resumed from web.vmss: ") or content == machine.good


def test_the_file_of_another_machine_is_refused(machine: Suspended) -> None:
    assert "it belongs to suspension" in machine.attempt(machine.foreign)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_parts_that_fit_their_digests_and_not_each_other(machine: Suspended, data: st.DataObject) -> None:
    """Refused, or resumed: what nobody notices is a machine with other content. Nothing else comes of it."""
    parts = dict(machine.parts)
    name = data.draw(st.sampled_from(sorted(parts)))
    match data.draw(st.sampled_from(["missing", "other", "cut", "flip", "value"])):
        case "missing":
            del parts[name]
        case "other":
            parts[name] = data.draw(st.sampled_from([parts[each] for each in sorted(parts)]))
        case "cut":
            parts[name] = parts[name][: data.draw(st.integers(0, len(parts[name])))]
        case "flip":
            changed = bytearray(parts[name])
            if changed:
                changed[data.draw(st.integers(0, min(len(changed), 4000) - 1))] ^= data.draw(st.integers(1, 255))
            parts[name] = bytes(changed)
        case "value":
            parts[name] = msgspec.msgpack.encode(data.draw(st.sampled_from([None, 1, {}, [], {"vm": 1}, b"x"])))
    sentence = machine.attempt(machine.container(parts))
    assert not sentence or "web" in sentence
