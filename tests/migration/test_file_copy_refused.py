"""What is refused before anything is touched, and what ends a copy that was begun. Each in a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.migration.file_copies import KB, MB, WEB, Pair, Site, can_power_on, files, home, make, no_network
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.host_network import FIRST_SWITCH
from vilab.host.registered import power_on_file
from vilab.host.vm_home import PowerLock
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.migration import file_copy_messages as say
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.disk_file import DiskFile
from vilab.vmm.vm import QuietConsole


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _number: None)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def change(host: Host, **lines: str) -> None:
    at = home(host)
    config = at.read()
    for key, value in lines.items():
        config.set(key.replace("_", "."), value)
    at.write(config)


def vlan(host: Host) -> None:
    group = host.network.switches.switch(FIRST_SWITCH).groups["VM Network"]
    host.network.switches.switch(FIRST_SWITCH).groups["VM Network"] = msgspec.structs.replace(group, vlan=105)


def fill(host: Host) -> None:
    host.storage.mounted("local").datastore.space = lambda: (10 * MB, 100 * KB)  # type: ignore[method-assign]


def in_the_way(host: Host) -> None:
    host.storage.write_file("[local] web/notes.txt", b"mine")


def a_file(host: Host) -> None:
    host.storage.write_file("[local] web", b"mine")


def nothing(_host: Host) -> None:
    pass


MOVED = "web was not moved to esx2: "
THERE = "[local] web/web.vmx on esx2"
UNMET: dict[str, tuple[Callable[[Host], None], Callable[[Host], None], str, str]] = {
    "no datastore": (
        nothing, nothing, "[ds9] web/web.vmx",
        f"{MOVED}{WEB} of esx1 cannot go to [ds9] web/web.vmx on esx2: esx2 has no datastore 'ds9'; it has local, ds2.",
    ),
    "no folder": (
        nothing, nothing, "[ds2] web.vmx",
        f"{MOVED}{WEB} of esx1 cannot go to [ds2] web.vmx on esx2: a machine needs a folder of its own in a datastore.",
    ),
    "other name": (
        nothing, nothing, "[ds2] web/db.vmx",
        f"{MOVED}{WEB} of esx1 cannot become [ds2] web/db.vmx on esx2: the name of the configuration stays, and a "
        "clone's is the clone's name.",
    ),
    "port group": (
        nothing, no_network, WEB,
        f"{MOVED}eth0 of web is in port group 'VM Network' of esx1, and esx2 has none of that name: add it there, or "
        "disconnect it.",
    ),
    "vlan": (
        nothing, vlan, WEB,
        f"{MOVED}eth0 of web is in port group 'VM Network', which is in VLAN 0 on esx1 and in VLAN 105 on esx2: give "
        "it the same one on both.",
    ),
    "card kind": (
        lambda host: change(host, ethernet0_virtualDev="flexible"), nothing, WEB,
        f"{MOVED}{WEB} of esx1 cannot go to {THERE}: {WEB}, line 7: ethernet0.virtualDev is 'flexible'; it has to be "
        "vlance, e1000, vmxnet3.",
    ),
    "engine": (
        lambda host: change(host, vilab_engine="kvm"), nothing, WEB,
        f"{MOVED}web of esx1 runs in the engine kvm, and esx2 has ",
    ),
    "image": (
        lambda host: change(host, vilab_image="/srv/images/none.elf"), nothing, WEB,
        f"{MOVED}web runs /srv/images/none.elf on esx1, and esx2 has no such file: put it there, or set vilab.image to "
        "one that both have.",
    ),
    "room": (
        nothing, fill, WEB, f"{MOVED}web of esx1 has files of ",
    ),
    "in the way": (
        nothing, in_the_way, WEB,
        f"{MOVED}web of esx1 cannot go to {THERE}: its folder is there already, with notes.txt in it; rename or remove "
        "that.",
    ),
    "a file": (
        nothing, a_file, WEB, f"{MOVED}web of esx1 cannot go to {THERE}: there is a file with the name of its folder.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNMET)
def test_the_destination_refuses_and_nothing_is_touched(site: Site, name: str) -> None:
    at_source, at_destination, to, sentence = UNMET[name]
    make(site["esx1"])
    at_source(site["esx1"])
    at_destination(site["esx2"])
    before, there = files(site["esx1"]), sorted(path for path in (site.folder / "esx2").rglob("*"))
    pair = Pair(site["esx1"], site["esx2"], to=to)
    assert pair.run().phase == "failed"
    assert pair.source.why.startswith(sentence), pair.source.why
    assert pair.destination.why in pair.source.why
    assert files(site["esx1"]) == before
    assert sorted(path for path in (site.folder / "esx2").rglob("*")) == there
    assert can_power_on(site["esx1"]) == "" or name in ("card kind",)


def test_two_things_that_are_unmet_are_both_said(site: Site) -> None:
    make(site["esx1"])
    no_network(site["esx2"])
    in_the_way(site["esx2"])
    pair = Pair(site["esx1"], site["esx2"])
    pair.run()
    assert "has none of that name" in pair.source.why
    assert "notes.txt" in pair.source.why


def refused(pair: Pair) -> str:
    with pytest.raises(AdminError) as caught:
        pair.source.start()
    assert pair.link.a.sent_bytes < 1_000
    return str(caught.value)


def test_the_source_refuses_what_cannot_be_lifted_out_of_its_place(site: Site) -> None:
    host = site["esx1"]
    pair = Pair(host, site["esx2"])
    assert "web.vmx" in refused(pair)
    make(host)
    lock = PowerLock(home(host), "esx1")
    lock.prepare()
    lock.take()
    assert "is powered on already, on host esx1" in refused(pair)
    lock.give_back()
    host.storage.write_file("[local] web/db.vmx", b"")
    assert refused(pair) == "web was not moved to esx2: db.vmx in its folder is another machine's."
    host.storage.mounted("local").datastore.remove("web/db.vmx")
    file = host.storage.mounted("local").datastore.open("web/web.nvram", writable=True)
    file.lock()
    assert "web.nvram is in use" in refused(pair)
    file.close()
    host.storage.create_disk("[ds2] db/db.vmdk", MB)
    config = home(host).read()
    add_disk(config, DiskSettings("scsi0:1", "[ds2] db/db.vmdk"))
    home(host).write(config)
    assert refused(pair) == (
        "web was not moved to esx2: scsi0:1 ([ds2] db/db.vmdk) is not in the machine's folder; put it there first."
    )


def test_a_machine_that_is_on_is_not_lifted_and_cannot_be_powered_on_meanwhile(site: Site) -> None:
    host = site["esx1"]
    make(host)
    running = power_on_file(host, WEB, console=QuietConsole())
    assert "is powered on already, on host esx1" in refused(Pair(host, site["esx2"]))
    host.power_off(running)
    pair = Pair(host, site["esx2"])
    pair.before = lambda _who, message: (
        problems.append(can_power_on(host)) if isinstance(message, say.FileData | say.CopyCommit) else None
    )
    problems: list[str] = []
    assert pair.run().phase == "moved"
    assert len(problems) > 5
    assert all("is powered on already, on host esx1" in problem for problem in problems)


def test_its_own_name_with_the_datastore_before_it_becomes_a_plain_one(site: Site) -> None:
    before = make(site["esx1"], snapshots=0)
    change(site["esx1"], **{"scsi0:0_fileName": "[local] web/web.vmdk"})
    assert Pair(site["esx1"], site["esx2"], to="[ds2] moved/web.vmx").run().phase == "moved"
    assert files(site["esx2"], "[ds2] moved") == before
    assert can_power_on(site["esx2"], "[ds2] moved/web.vmx") == ""


# --- meanwhile --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["content", "longer", "shorter", "another file", "one less"])
def test_a_file_that_is_changed_meanwhile_ends_it(site: Site, what: str) -> None:
    """By a program that asks for no lock."""
    make(site["esx1"])
    folder = site.folder / "esx1" / "local" / "web"

    def disturb(_who: str, message: msgspec.Struct) -> None:
        if what == "content" and isinstance(message, say.FileEnd) and message.file == 3:
            with (folder / "web-flat.vmdk").open("r+b") as file:  # that was read
                file.write(b"changed")
        if not isinstance(message, say.FileTaken) or message.file or what == "content":
            return
        if what == "longer":
            with (folder / "empty").open("ab") as file:
                file.write(bytes(9))
        elif what == "shorter":
            os.truncate(folder / "web.vmss", 100)
        elif what == "another file":
            (folder / "new.log").write_bytes(b"x")
        else:
            (folder / "empty").unlink()

    pair = Pair(site["esx1"], site["esx2"])
    pair.before = disturb
    assert pair.run().phase == "failed"
    assert pair.source.why.startswith("web was not moved to esx2: ")
    assert ("was changed while it was copied to esx2" in pair.source.why) or what == "shorter"
    assert files(site["esx2"]) == {}
    assert "web.vmx" in files(site["esx1"])


def test_a_full_destination_says_so_and_is_empty_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make(site["esx1"])
    room, write = [300 * KB], DiskFile.write

    def limited(self: DiskFile, offset_bytes: int, data: ReadableBytes) -> None:
        if "esx2" in str(self.path):
            room[0] -= memoryview(data).nbytes
            if room[0] < 0:
                raise BlockError("no_space", f"{self.path.name} cannot be written: No space left on device.")
        write(self, offset_bytes, data)

    monkeypatch.setattr(DiskFile, "write", limited)
    for _ in range(2):
        room[0] = 300 * KB
        pair = Pair(site["esx1"], site["esx2"])
        assert pair.run().phase == "failed"
        assert pair.source.why.startswith("web was not moved to esx2: web cannot go from esx1 to esx2: ")
        assert "No space left on device" in pair.source.why
        assert not (site.folder / "esx2" / "local" / "web").exists()
    assert files(site["esx1"]) == before
    monkeypatch.undo()
    assert Pair(site["esx1"], site["esx2"]).run().phase == "moved"


def test_what_the_disk_at_the_destination_made_of_it_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before, write = make(site["esx1"]), DiskFile.write

    def rotten(self: DiskFile, offset_bytes: int, data: ReadableBytes) -> None:
        content = bytearray(data)
        if "esx2" in str(self.path) and self.path.name == "web.nvram":
            content[5000] ^= 4
        write(self, offset_bytes, content)

    monkeypatch.setattr(DiskFile, "write", rotten)
    pair = Pair(site["esx1"], site["esx2"])
    assert pair.run().phase == "failed"
    assert pair.source.why == (
        "web was not moved to esx2: web.nvram of web is not on esx2 what it is on esx1: their digests differ. Try "
        "again, and look at the disks and the memory of both."
    )
    assert files(site["esx1"]) == before
    assert files(site["esx2"]) == {}


def test_somebody_puts_a_configuration_there_meanwhile(site: Site) -> None:
    make(site["esx1"])
    pair = Pair(site["esx1"], site["esx2"])
    there = site.folder / "esx2" / "local" / "web"
    pair.before = lambda _who, message: (
        (there / "web.vmx").write_bytes(b"") and None if isinstance(message, say.CopyCommit) else None
    )
    assert pair.run().phase == "failed"
    assert "there is a web.vmx in its folder on esx2 now" in pair.source.why
    assert can_power_on(site["esx1"]) == ""
    assert "web.vmx.leaving" not in files(site["esx1"])


def test_a_suspended_machine_is_no_original_of_a_clone(site: Site) -> None:
    make(site["esx1"])
    change(site["esx1"], checkpoint_vmState="web.vmss")
    pair = Pair(site["esx1"], site["esx2"], to="[local] web2/web2.vmx", clone_name="web2")
    assert pair.run().phase == "failed"
    assert pair.source.why.startswith("web was not cloned to esx2: ")
    assert "web is suspended" in pair.source.why


def test_two_at_a_time_into_one_folder(site: Site) -> None:
    make(site["esx1"])
    site.host("esx3")
    make(site["esx3"])
    first, second = Pair(site["esx1"], site["esx2"]), Pair(site["esx3"], site["esx2"], number="second")
    first.source.start()
    for _ in range(6):
        first.step()
    assert first.destination.phase == "filling"
    assert second.run().phase == "failed"
    assert "the unfinished copy of [local] web/web.vmx of esx1" in second.source.why
    assert first.go_on().phase == "moved"
