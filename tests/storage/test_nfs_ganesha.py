"""The client and the datastore against nfs-ganesha, with libnfs-utils and qemu-img looking on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.nfs_server import Ganesha, ganesha

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
