"""A folder goes from one host to another that sees none of its datastores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.file_copies import (
    KB,
    MB,
    NUMBER,
    WEB,
    Pair,
    Site,
    can_power_on,
    files,
    home,
    make,
)
from tests.migration.storage_moves import URL
from vilab.migration import file_copy_events as events
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.nfs.memory_server import MemoryServer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_a_machine_moves_with_its_snapshots_and_nothing_is_left(site: Site) -> None:
    before = make(site["esx1"], snapshots=3)
    mounted, _, place = site["esx1"].storage.place("[local] web/web-000003.vmdk")
    with open_chain(place, files=mounted.files) as chain:
        guest_sees = chain.read(0, chain.size_bytes)
    pair = Pair(site["esx1"], site["esx2"])
    assert pair.run().phase == "moved"
    assert (pair.source.why, pair.source.left, pair.destination.why) == ("", "", "")
    assert files(site["esx2"]) == before
    assert not site["esx1"].storage.mounted("local").datastore.exists("web")
    assert can_power_on(site["esx2"]) == ""
    assert pair.source.progress.percent == 100
    mounted, _, place = site["esx2"].storage.place("[local] web/web-000003.vmdk")
    with open_chain(place, files=mounted.files) as chain:
        assert chain.read(0, chain.size_bytes) == guest_sees
    said = [type(event) for event in site["esx1"].log.events if type(event).__module__ == events.__name__]
    assert said == [events.FileCopyBegan, *[events.FileCopied] * (len(before) - 1), events.FileCopyEnded]


def test_holes_and_zeros_are_not_sent(site: Site) -> None:
    host = site["esx1"]
    make(host, "[local] db/db.vmx", snapshots=0)
    file = host.storage.mounted("local").datastore.open("db/db-flat.vmdk", writable=True)
    file.resize(48 * MB)
    file.write(40 * MB, bytes(3 * MB))
    file.close()
    before = files(host, "[local] db")
    pair = Pair(host, site["esx2"], where="[local] db/db.vmx", to="[ds2] db/db.vmx")
    assert pair.run().phase == "moved"
    assert pair.source.sent_bytes < 2 * MB
    assert files(site["esx2"], "[ds2] db") == before
    stat = (site.folder / "esx2" / "ds2" / "db" / "db-flat.vmdk").stat()
    assert stat.st_blocks * 512 < 2 * MB


def test_one_number_is_forgotten_when_both_have_done_all(site: Site) -> None:
    make(site["esx1"])
    Pair(site["esx1"], site["esx2"]).run()
    assert b"vilab.move" not in files(site["esx2"])["web.vmx"]
    assert NUMBER.encode() not in b"".join(files(site["esx2"]).values())


def test_there_and_back_again(site: Site) -> None:
    before = make(site["esx1"])
    assert Pair(site["esx1"], site["esx2"]).run().phase == "moved"
    assert Pair(site["esx2"], site["esx1"], number="another").run().phase == "moved"
    assert files(site["esx1"]) == before
    assert files(site["esx2"]) == {}


def test_a_clone_has_another_identity_and_the_machine_stays(site: Site) -> None:
    host = site["esx1"]
    make(host)
    (site.folder / "esx1" / "local" / "web" / "web.vmsd").write_text('.encoding = "UTF-8"\n')
    (site.folder / "esx1" / "local" / "web" / "web.nvram").write_bytes(b"what the BIOS keeps")
    config = home(host).read()
    config.set("nvram", "web.nvram")
    config.set("uuid.bios", "56 4d 00 01 02 03 04 05-06 07 08 09 0a 0b 0c 0d")
    home(host).write(config)
    before = files(host)
    pair = Pair(host, site["esx2"], to="[local] web2/web2.vmx", clone_name="web2")
    assert pair.run().phase == "copied"
    assert files(host) == before
    assert can_power_on(host) == ""
    copy = files(site["esx2"], "[local] web2")
    assert set(copy) == {name.replace("web.", "web2.") if not name.endswith(".vmdk") else name for name in before}
    config = home(site["esx2"], "[local] web2/web2.vmx").read()
    assert config.get("displayName") == "web2"
    assert config.get("uuid.bios") not in (None, home(host).read().get("uuid.bios"))
    assert config.get("ethernet0.generatedAddress") != "00:0c:29:01:02:03"
    assert config.get("nvram") == "web2.nvram"
    assert copy["web2.nvram"] == b"what the BIOS keeps"
    assert config.get("vilab.move.number") is None
    assert can_power_on(site["esx2"], "[local] web2/web2.vmx") == ""
    assert {copy[n] for n in copy if n.endswith(".vmdk")} == {before[n] for n in before if n.endswith(".vmdk")}


@pytest.mark.parametrize(("name", "written"), [("../x", "%2e.%2fx"), ("a b\n", "a b%0a"), ("web.vmx", "web.vmx")])
def test_a_clone_may_be_called_anything(site: Site, name: str, written: str) -> None:
    make(site["esx1"])
    there = f"[local] {written}/{written}.vmx"
    assert Pair(site["esx1"], site["esx2"], to=there, clone_name=name).run().phase == "copied"
    assert home(site["esx2"], there).read().get("displayName") == name


def test_what_is_no_name_is_refused(site: Site) -> None:
    make(site["esx1"])
    pair = Pair(site["esx1"], site["esx2"], to="[local] x/x.vmx", clone_name="x" * 81)
    assert pair.run().phase == "failed"
    assert "cannot be a machine's name: it has 1 to 80 characters" in pair.source.why


def test_steps_of_any_size_make_the_same_folder(site: Site) -> None:
    from vilab.migration.file_copy_source import FileCopyOptions

    before = make(site["esx1"])
    options = FileCopyOptions(step_bytes=64 * KB, turn_bytes=64 * KB)
    assert Pair(site["esx1"], site["esx2"], options=options, where=WEB).run().phase == "moved"
    assert files(site["esx2"]) == before


def test_from_a_volume_to_a_file_server_and_back(site: Site) -> None:
    """Locks of VMFS on one side, of NFS on the other."""
    first, second = site["esx1"], site["esx2"]
    image = site.folder / "lun.img"
    with image.open("wb") as file:
        file.truncate(320 * MB)
    path = first.storage.attach_image(image)
    first.storage.rescan()
    first.storage.create_vmfs(path, "san1")
    second.storage.add_nfs("nfs1", URL, MemoryServer().dial, timeout_s=2.0)
    before = make(first, "[san1] web/web.vmx")
    there = "[nfs1] web/web.vmx"
    assert Pair(first, second, where="[san1] web/web.vmx", to=there).run().phase == "moved"
    assert files(first, "[san1] web") == {}
    assert {name: data for name, data in files(second, "[nfs1] web").items() if name[0] != "."} == before
    assert can_power_on(second, there) == ""
    assert Pair(second, first, where=there, to="[san1] web/web.vmx", number="back").run().phase == "moved"
    assert files(first, "[san1] web") == before
    assert files(second, "[nfs1] web") == {}
