"""Client and datastore against a server in memory that loses its memory, vanishes, freezes and fills up."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.nfs_server import LIBNFS
from tests.storage.nfs_twin import S, client_of, host_on
from tests.tools import require_tool
from vilab.errors import AdminError
from vilab.storage.block import BlockError, Refusal
from vilab.storage.datastore import Datastore, DatastoreFiles
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_create import create
from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.events import (
    NfsDatastoreActive,
    NfsDatastoreInactive,
    NfsHeartbeatMissed,
    NfsWritesRepeated,
)
from vilab.storage.nfs.link import WINDOW
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.nfs.mount import Address, exports, mount, parse_url
from vilab.storage.nfs.rpc import Records
from vilab.storage.nfs.volume import MemoryVolume


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


def test_names_and_bytes(server: MemoryServer) -> None:
    client = client_of(server)
    client.mkdir("vm")
    handle = client.create("vm/a")
    content = random.Random(1).randbytes(300_001)
    client.write(handle, 7, content)
    assert client.read(handle, 0, 1 << 20) == bytes(7) + content
    assert client.read(handle, 300_000, 100) == content[299_993:]
    client.rename("vm/a", "b")
    assert client.lookup("b")[0] == handle
    client.link(handle, "vm/c")
    assert client.getattr(handle).links == 2
    assert set(client.list("")) == {"vm", "b"}
    client.truncate(handle, 10)
    assert client.lookup("vm/c")[1].size_bytes == 10
    client.remove("b")
    client.remove("vm/c")
    client.rmdir("vm")
    assert client.list("") == {}


@pytest.mark.parametrize(
    ("kind", "words", "doing"),
    [
        ("exists", "a was refused .*the name is taken", lambda c, h: c.create("a")),
        ("exists", "the name is taken", lambda c, h: c.link(h, "a")),
        ("missing", r"Opening no was refused .*no such file", lambda c, h: c.lookup("no/b")),
        ("no_space", "the volume is full", lambda c, h: c.write(h, 0, bytes(2 << 20))),
        ("refused", "not a folder", lambda c, h: c.lookup("a/b")),
        ("refused", "not empty", lambda c, h: c.rmdir("full")),
        ("stale", "removed on the server", lambda c, h: (c.remove("a"), c.read(h, 0, 1))),
    ],
)
def test_a_refusal_is_a_sentence(kind: str, words: str, doing) -> None:  # type: ignore[no-untyped-def]
    client = client_of(MemoryServer(MemoryVolume(capacity_bytes=1 << 20)))
    handle = client.create("a")
    client.mkdir("full")
    client.create("full/x")
    with pytest.raises(NfsError, match=words) as refused:
        doing(client, handle)
    assert refused.value.kind == kind


@pytest.mark.parametrize("path", ["../a", "vm/../../a", "a\0b", "x" * 256, "a/" * 40])
def test_a_path_that_leaves_the_export_is_refused_before_anything_is_asked(server: MemoryServer, path: str) -> None:
    client = client_of(server)
    asked = server.calls
    with pytest.raises(AdminError, match="no path on a file server"):
        client.lookup(path)
    assert server.calls == asked


def test_a_stale_folder_is_looked_up_again(server: MemoryServer) -> None:
    one, other = client_of(server), client_of(server)
    one.mkdir("vm")
    one.create("vm/a")
    other.remove("vm/a")
    other.rmdir("vm")
    other.mkdir("vm")
    one.create("vm/b")
    assert set(other.list("vm")) == {"b"}


def test_long_lists_come_in_pieces(server: MemoryServer) -> None:
    client = client_of(server)
    names = {f"file{number}" for number in range(300)}
    for name in names:
        client.create(name)
    client.link(client.lookup("file7")[0], "second name")
    assert set(client.list("")) == names | {"second name"}


# --- a connection that breaks -----------------------------------------------------------------------------------------


def test_reading_goes_on_over_a_new_connection(server: MemoryServer) -> None:
    client = client_of(server)
    handle = client.create("a")
    client.write(handle, 0, b"abc", stable=True)
    server.restart()
    assert client.read(handle, 0, 3) == b"abc"
    server.stop()
    with pytest.raises(NfsError, match="twin is not to be reached: Connection refused") as away:
        client.read(handle, 0, 3)
    assert away.value.kind == "away"
    server.restart()
    assert client.read(handle, 0, 3) == b"abc"


def test_a_change_of_names_is_not_sent_twice(server: MemoryServer) -> None:
    client = client_of(server)
    client.create("a")

    def break_after(procedure: int) -> None:
        if procedure == 12:  # REMOVE is done, its answer does not arrive
            server.before = None
            server.epoch += 1

    server.before = break_after
    with pytest.raises(NfsError, match="may or may not") as broken:
        client.remove("a")
    assert broken.value.kind == "uncertain"
    assert client.list("") == {}


@pytest.mark.parametrize("procedure", [8, 12, 14])
def test_files_find_out_what_became_of_it(server: MemoryServer, procedure: int) -> None:
    host = host_on(server)

    def break_after(asked: int) -> None:
        if asked == procedure:
            server.before = None
            server.epoch += 1

    server.before = break_after
    host.store.files.replace(Path("a"), b"new")
    host.store.rename("a", "b")
    file = host.store.open("b")
    assert file.read(0, 3) == b"new"
    host.store.remove("b")
    assert host.store.names() == []


def test_a_frozen_server_is_waited_for_and_no_longer_than_the_time_given(server: MemoryServer) -> None:
    client = client_of(server)
    handle = client.create("a")
    server.frozen = True
    with pytest.raises(NfsError, match="does not answer") as away:
        client.write(handle, 0, b"old")
    assert away.value.kind == "away"
    server.frozen = False
    client.write(handle, 0, b"new")
    assert client.read(handle, 0, 3) == b"new"  # the old write came first, over the same stream


# --- writes and restarts ----------------------------------------------------------------------------------------------


def test_writes_that_the_server_forgets_are_written_again(server: MemoryServer) -> None:
    host = host_on(server)
    file = host.store.create("a")
    file.write(0, b"flushed.")
    file.sync()
    file.write(4, b"then")
    assert server.restart() == 1
    assert bytes(server.volume.lookup(1, "a").content) == b"flushed."
    assert file.read(0, 8) == b"flusthen"
    file.sync()
    server.restart()
    assert file.read(0, 8) == bytes(server.volume.lookup(1, "a").content) == b"flusthen"
    (event,) = host.log.of(NfsWritesRepeated)
    assert (event.file, event.writes, event.size_bytes) == ("a", 1, 4)


def test_a_server_that_always_forgets_is_given_up(server: MemoryServer) -> None:
    file = host_on(server).store.create("a")
    file.write(0, b"data")

    def forget(procedure: int) -> None:
        if procedure == 21:
            server.volume.lose_memory()
            server.verifier += 1

    server.before = forget
    with pytest.raises(BlockError, match="loses its memory again and again"):
        file.sync()
    server.before = None
    file.sync()
    assert server.volume.lookup(1, "a").durable == b"data"


def test_a_lock_that_is_lost_while_writes_are_repeated_stops_them(server: MemoryServer) -> None:
    host = host_on(server)
    file = host.store.create("a")
    host.store.guards.append(Permits(5))
    for at in range(4):
        file.write(4 * at, b"mine")
    server.restart()
    with pytest.raises(BlockError, match="the lock is not there"):
        file.sync()
    assert bytes(server.volume.lookup(1, "a").content) == b"mine", "one was repeated while the lock was there"


class Permits:
    """A guard of the datastore that says yes so many times."""

    def __init__(self, left: int, kind: Refusal = "read_only") -> None:
        self.left, self.kind = left, kind

    def check(self, path: Path) -> None:
        self.left -= 1
        if self.left < 0:
            raise BlockError(self.kind, "the lock is not there")


@pytest.mark.parametrize("windows", [0, 1, 2, 3])
def test_a_long_write_asks_for_its_lock_before_each_window(server: MemoryServer, windows: int) -> None:
    host = host_on(server)
    file = host.store.create("a")
    host.store.client.write_bytes = 1024
    host.store.guards.append(Permits(windows))
    content = random.Random(windows).randbytes(4 * WINDOW * 1024)
    with pytest.raises(BlockError, match="the lock is not there"):
        file.write(0, content)
    assert bytes(server.volume.lookup(1, "a").content) == content[: windows * WINDOW * 1024]


def test_a_long_write_that_is_stopped_damages_nothing_that_was_written_before(server: MemoryServer) -> None:
    host = host_on(server)
    file = host.store.create("a")
    host.store.client.write_bytes = 1024
    before, content = b"before" * 1000, bytes(range(256)) * 4 * WINDOW * 2
    file.write(0, before)
    host.store.guards.append(Permits(1, "away"))
    with pytest.raises(BlockError, match="the lock is not there") as away:
        file.write(0, content)
    assert away.value.kind == "away"
    host.store.guards.clear()
    file.sync()
    assert server.volume.lookup(1, "a").durable[: len(before)] == before
    file.write(0, content)
    file.sync()
    assert server.volume.lookup(1, "a").durable == content


STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 200_000), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("read"), st.integers(0, 200_000), st.integers(1, 500)),
    st.tuples(st.sampled_from(["sync", "stop", "freeze"]), st.just(0), st.just(0)),
    st.tuples(st.just("restart"), st.integers(0, 1 << 30), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_no_flushed_write_is_lost_and_what_was_written_is_read(steps: list[tuple[str, int, bytes | int]]) -> None:
    server = MemoryServer()
    file = host_on(server).store.create("a")
    model, flushed = bytearray(), b""
    for what, number, more in steps:
        try:
            if what == "write":
                assert isinstance(more, bytes)
                file.write(number, more)
                model.extend(bytes(max(0, number + len(more) - len(model))))
                model[number : number + len(more)] = more
            elif what == "read":
                assert isinstance(more, int)
                assert file.read_some(number, more) == model[number : number + more]
            elif what == "sync":
                file.sync()
                flushed = bytes(model)
        except BlockError as error:
            if error.kind != "away":
                raise
            if what == "write":  # nothing of it may be relied upon: it is written again
                server.restart()
                assert isinstance(more, bytes)
                file.write(number, more)
                model.extend(bytes(max(0, number + len(more) - len(model))))
                model[number : number + len(more)] = more
        if what == "stop":
            server.stop()
        elif what == "freeze":
            server.frozen = server.running
        elif what == "restart":
            lot = random.Random(number)
            server.restart(lambda lot=lot: lot.random() < 0.5)  # type: ignore[misc]
    server.restart()
    # Every byte that has not been written since the flush is as it was flushed.
    on_disk = bytes(server.volume.lookup(1, "a").content).ljust(len(flushed), b"\0")
    assert all(a == b or b != c for a, b, c in zip(on_disk, flushed, model, strict=False))
    file.sync()
    server.restart()
    assert file.read_some(0, len(model) + 1) == model == bytes(server.volume.lookup(1, "a").content)


def test_it_is_a_datastore_like_others(server: MemoryServer) -> None:
    store: Datastore = host_on(server).store
    store.make_folder("vm")
    store.create("vm/a").write(0, b"abc")
    assert store.names("vm") == ["a"]
    assert (store.exists("vm/a"), store.is_folder("vm"), store.is_folder("vm/a"), store.is_folder("no")) == (
        True, True, False, False,
    )  # fmt: skip
    assert store.size_bytes("vm/a") == 3
    assert store.space() == (1 << 30, (1 << 30) - 3)
    with pytest.raises(AdminError, match="not empty"):
        store.remove("vm")
    with pytest.raises(AdminError, match="leads down from its root"):
        store.open("../a")
    store.remove("vm/a")
    store.remove("vm")
    assert store.names() == []
    files = DatastoreFiles(store)
    create(files.at("d.vmdk"), 4096, "vmfs", files=files)
    with SnapshotDisk(files.at("d.vmdk"), files) as disk:
        disk.chain.write(512, b"d" * 512)
        disk.snapshot()
        assert disk.chain.read(0, 1024) == bytes(512) + b"d" * 512
    assert store.names() == ["d-000001-delta.vmdk", "d-000001.vmdk", "d-flat.vmdk", "d.vmdk"]


def test_a_full_volume_is_no_space(server: MemoryServer) -> None:
    server.volume.capacity_bytes = 1000
    file = host_on(server).store.create("a")
    file.write(0, bytes(900))
    with pytest.raises(BlockError, match="the volume is full") as full:
        file.write(900, bytes(101))
    assert full.value.kind == "no_space"
    file.sync()
    assert file.size_bytes == 900


# --- heartbeats -------------------------------------------------------------------------------------------------------


def test_a_server_that_vanishes_makes_the_datastore_inactive_until_it_is_back(server: MemoryServer) -> None:
    host = host_on(server)
    store = host.store
    file = store.create("a")
    file.write(0, b"before")
    file.sync()
    store.health.start()
    host.pass_time(30)
    assert store.state == "active"
    server.stop()
    host.pass_time(23)  # beats at 36 and 45
    assert store.state == "active"
    host.pass_time(2)  # at 54
    assert store.state == "inactive"
    assert [event.failures for event in host.log.of(NfsHeartbeatMissed)] == [1, 2, 3]
    asked = server.calls
    with pytest.raises(BlockError, match=r"nfs1 is inactive: .*Connection refused") as away:
        file.write(0, b"during")
    assert away.value.kind == "away"
    server.restart()
    assert server.calls == asked
    host.pass_time(9)
    assert store.state == "active"
    file.write(0, b"after!")
    file.sync()
    (inactive,), (active,) = host.log.of(NfsDatastoreInactive), host.log.of(NfsDatastoreActive)
    assert active.at_ns - inactive.at_ns == active.away_ns
    assert active.away_ns == 9 * S


def test_what_is_answered_needs_no_heartbeat(server: MemoryServer) -> None:
    host = host_on(server)
    host.store.health.start()
    host.pass_time(8.9)
    host.store.space()
    asked = server.calls
    host.pass_time(1)  # the beat at 9 s finds that it was heard of 0.1 s ago
    assert server.calls == asked
    host.pass_time(9)
    assert server.calls == asked + 1


# --- addresses --------------------------------------------------------------------------------------------------------


def test_addresses() -> None:
    assert parse_url("nfs://10.0.0.7/vol/vms?nfsport=1&mountport=2") == Address("10.0.0.7", "/vol/vms", 1, 2)
    assert parse_url("nfs://server:2050/a%20b") == Address("server", "/a b", 2050, None)
    for wrong in ("http://a/b", "nfs:///b", "nfs://a", "nfs://a/b?nfsport=x", "nfs://a/b?nfsport=70000", "nfs://[a/b"):
        with pytest.raises(AdminError, match="no address of an NFS export"):
            parse_url(wrong)


def test_an_export_that_is_not_there(server: MemoryServer) -> None:
    assert exports(Address("twin", "/"), server.dial) == ["/export"]
    with pytest.raises(NfsError, match="/other of twin was not mounted: the server has no such folder"):
        mount(Address("twin", "/other"), server.dial)
    server.stop()
    with pytest.raises(NfsError, match="port mapper of twin is not to be reached"):
        mount(Address("twin", "/export"), server.dial)


# --- others' clients on our server ------------------------------------------------------------------------------------


@pytest.fixture
def listening(server: MemoryServer) -> Iterator[int]:
    """The server in memory behind a TCP port."""
    door = socket.create_server(("127.0.0.1", 0))

    def talk(stream: socket.socket) -> None:
        records = Records()
        with stream, contextlib.suppress(ConnectionError):
            while data := stream.recv(1 << 16):
                for message in records.feed(data):
                    stream.sendall(server.answer(message))

    def run() -> None:
        while True:
            try:
                stream, _ = door.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(stream,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    yield door.getsockname()[1]
    door.shutdown(socket.SHUT_RDWR)
    door.close()


@pytest.mark.interop
def test_libnfs_copies_to_and_from_the_server_in_memory(server: MemoryServer, listening: int, tmp_path: Path) -> None:
    content = random.Random(3).randbytes(500_001)
    (tmp_path / "up").write_bytes(content)
    url = f"nfs://127.0.0.1/export/file?version=3&nfsport={listening}&mountport={listening}"
    for words in ([str(tmp_path / "up"), url], [url, str(tmp_path / "down")]):
        done = subprocess.run([require_tool("nfs-cp", LIBNFS), *words], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "down").read_bytes() == content == bytes(server.volume.lookup(1, "file").content)
    listed = subprocess.run(
        [require_tool("nfs-ls", LIBNFS), url.replace("/file", "")], capture_output=True, timeout=60, check=True
    )
    assert b"500001 file" in listed.stdout
