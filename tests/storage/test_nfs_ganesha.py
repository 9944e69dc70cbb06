"""The client and the datastore against nfs-ganesha, with libnfs-utils and qemu-img looking on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.nfs_server import Ganesha, ganesha
from tests.storage.vmdk_judges import patchwork, qemu_agrees
from tests.tools import require_file, require_tool
from vilab.clock import VirtualClock
from vilab.storage.nfs_datastore import NfsDatastore

NFS_DRIVER = Path("/usr/lib/x86_64-linux-gnu/qemu/block-nfs.so")

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ganesha]:
    with ganesha(tmp_path_factory.mktemp("nfs")) as running:
        yield running


def test_what_is_written_is_read_by_others_and_the_other_way_round(server: Ganesha, tmp_path: Path) -> None:
    client = server.mount()
    content = bytes(range(256)) * 9000 + b"end"
    handle = client.create("big.bin")
    client.write(handle, 0, content)
    client.commit(handle)
    assert client.read(handle, 0, len(content) + 10) == content
    server.nfs("nfs-cp", server.url("big.bin"), str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == content
    (tmp_path / "up").write_bytes(content[::-1])
    server.nfs("nfs-cp", str(tmp_path / "up"), server.url("up.bin"))
    handle, about = client.lookup("up.bin")
    assert about.size_bytes == len(content)
    assert client.read(handle, 0, about.size_bytes) == content[::-1]
    assert {"big.bin", "up.bin"} <= server.names()
    assert set(client.list("")) == server.names()


def test_a_chain_of_disks_on_the_server_is_what_qemu_reads(server: Ganesha) -> None:
    store = NfsDatastore("nfs1", server.mount(), VirtualClock())
    store.make_folder("vm1")
    size = 6 << 20
    store.create_disk("vm1/vm1.vmdk", size)
    content = bytearray(size)
    lot = random.Random(7)
    with store.open_disk("vm1/vm1.vmdk") as disk:
        for _ in range(3):
            for _ in range(30):
                at, sectors = lot.randrange(size // 512), lot.choice((1, 8, 100))
                data = lot.randbytes(min(sectors * 512, size - at * 512))
                disk.chain.write(at * 512, data)
                content[at * 512 : at * 512 + len(data)] = data
            assert disk.chain.read(0, size) == content
            top = disk.snapshot()
        disk.chain.write(4096, b"top!" * 128)
        content[4096:4608] = b"top!" * 128
        disk.chain.flush()
        top = disk.top
    assert top.name == "vm1-000003.vmdk"
    qemu_agrees(server.folder / top, bytes(content))


def test_a_disk_in_one_file_is_what_qemu_reads_over_nfs(server: Ganesha) -> None:
    # qemu does not find the extents of a disk in several files over nfs://
    store = NfsDatastore("nfs1", server.mount(), VirtualClock())
    content = patchwork(3 << 20)
    store.create_disk("one.vmdk", len(content), "monolithicSparse")
    with store.open_disk("one.vmdk") as disk:
        disk.chain.write(0, content)
    expected = server.work / "expected.raw"
    expected.write_bytes(content)
    qemu_img = require_tool("qemu-img", "the Debian package qemu-utils")
    require_file(NFS_DRIVER, "the Debian package qemu-block-extra")
    words = ("compare", "-f", "vmdk", "-F", "raw", "nfs://127.0.0.1/export/one.vmdk", str(expected))
    compared = server.run(qemu_img, *words)
    assert compared.returncode == 0, compared.stdout + compared.stderr
