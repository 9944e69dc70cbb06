"""What a configuration file says of disks, and how a path in a datastore is written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.vmx_files import files
from vilab.errors import AdminError
from vilab.host.datastore_path import DatastorePath, is_datastore_path, parse_path
from vilab.host.vmx import Vmx, new_vmx, parse, write
from vilab.host.vmx_disks import MODES, AdapterSettings, DiskSettings, adapters_of, add_disk, set_file

ESX = b"""#!/usr/bin/vmware
scsi0.present = "true"
scsi0.sharedBus = "none"
scsi0.virtualDev = "buslogic"
memsize = "256"
scsi0:0.present = "true"
scsi0:0.fileName = "web.vmdk"
scsi0:0.deviceType = "scsi-hardDisk"
scsi0:1.fileName = "gone.vmdk"
SCSI0:2.PRESENT = "TRUE"
scsi0:2.name = "data"
scsi0:2.filename = "/vmfs/volumes/ds 2/web/data.vmdk"
scsi0:2.mode = "independent-persistent"
scsi1.present = "TRUE"
scsi1:3.present = "TRUE"
scsi1:3.fileName = "[ds 2] web/raw.vmdk"
scsi1:3.mode = "independent-nonpersistent"
scsi0:0.redo = ""
"""


def test_a_file_as_esx_writes_it() -> None:
    config = parse(ESX, "web.vmx")
    assert adapters_of(config) == (
        AdapterSettings(
            0, "buslogic",
            (
                DiskSettings("scsi0:0", "web.vmdk"),
                DiskSettings("scsi0:2", "/vmfs/volumes/ds 2/web/data.vmdk", "independent-persistent"),
            ),
        ),
        AdapterSettings(
            1, "lsilogic", (DiskSettings("scsi1:3", "[ds 2] web/raw.vmdk", "independent-nonpersistent"),)
        ),
    )  # fmt: skip
    assert write(config) == ESX
    set_file(config, "scsi0:2", "data-000001.vmdk")
    expected = ESX.replace(b'"/vmfs/volumes/ds 2/web/data.vmdk"', b'"data-000001.vmdk"')
    assert write(config) == expected


NODES = st.builds("scsi{}:{}".format, st.integers(0, 3), st.integers(0, 15).filter(lambda n: n != 7))
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)
DISKS = st.builds(DiskSettings, NODES, NAMES, st.sampled_from(MODES))


@given(files(), st.lists(DISKS, max_size=6, unique_by=lambda disk: disk.node))
def test_disks_that_are_added_are_there_and_all_other_lines_stay(config: Vmx, disks: list[DiskSettings]) -> None:
    with contextlib.suppress(AdminError):
        if adapters_of(config):
            return  # some are there already
        before = [line.text for line in config.lines]
        for disk in disks:
            add_disk(config, disk)
        again = parse(write(config), config.name)
        found = {disk.node: disk for adapter in adapters_of(again) for disk in adapter.disks}
        assert found == {disk.node: disk for disk in disks}
        kept = {line.text.strip() for line in again.lines}
        changed = {f"scsi{n}" for n in range(4)}
        assert all(text.strip() in kept for text in before if text.strip().partition(".")[0].lower() not in changed)


@given(files())
def test_whatever_a_file_says_there_are_adapters_or_a_sentence(config: Vmx) -> None:
    data = write(config)
    with contextlib.suppress(AdminError):
        for adapter in adapters_of(config):
            assert all(disk.target != 7 and disk.file_name for disk in adapter.disks)
    assert write(config) == data


@given(st.sampled_from(["scsi0", "scsi3", "scsi0:0", "scsi9:1", "scsi0:7", "scsi1:16", "scsi0:15"]), NAMES, NAMES)
def test_odd_values_are_settings_or_a_sentence_with_the_line(node: str, first: str, second: str) -> None:
    config = new_vmx("x.vmx")
    config.set("scsi0.present", "TRUE")
    for key, value in (("present", first), ("fileName", second), ("mode", first), ("virtualDev", second)):
        config.set(f"{node}.{key}", value)
    with contextlib.suppress(AdminError):
        adapters_of(config)


def test_paths_in_datastores() -> None:
    assert parse_path("[ds 1] web/web.vmx") == DatastorePath("ds 1", "web/web.vmx")
    assert parse_path("[ds]web.vmx") == parse_path("/vmfs/volumes/ds/./web.vmx") == DatastorePath("ds", "web.vmx")
    path = parse_path("[ds] a/b/c.vmdk")
    assert (path.folder, path.name, str(path)) == ("a/b", "c.vmdk", "[ds] a/b/c.vmdk")
    assert not is_datastore_path("web.vmx")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("web.vmx", "is no path in a datastore"), ("[ds] ../x", "leads down from its root"), ("[] x", "is no path"),
        ("[ds]", "names a datastore, and no file"), ("/vmfs/volumes/ds/../../etc", "leads down from its root"),
        ("[ds] a\\b", "leads down from its root"),
    ],
)  # fmt: skip
def test_paths_that_cannot_be(text: str, sentence: str) -> None:
    with pytest.raises(AdminError, match=sentence):
        parse_path(text)
