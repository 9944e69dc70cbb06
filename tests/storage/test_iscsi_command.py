"""``vilab iscsi-target`` as a program: its line, its end, its sentences; several hosts at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.storage.iscsi_helpers import Node, initiator_name
from vilab.cli import main
from vilab.commands.iscsi_target import number_luns, parse_portal
from vilab.errors import AdminError
from vilab.storage.block import BlockError
from vilab.storage.disks.vmdk_create import create
from vilab.storage.iscsi import server as iscsi_server
from vilab.storage.iscsi.bench import IQN, serve_ours
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.iscsi.client import IscsiSession, SocketLink, discover
from vilab.storage.iscsi.disk import IscsiDisk, open_lun
from vilab.storage.iscsi.errors import IscsiError, LoginRefusedError
from vilab.storage.iscsi.initiator import Initiator
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.layout import HEADER


def image(path: Path, size_bytes: int = 1 << 20) -> Path:
    path.touch()
    os.truncate(path, size_bytes)
    return path


def link(address: str, timeout_s: float = 20.0) -> SocketLink:
    host, port = address.rsplit(":", 1)
    return SocketLink(host, int(port), timeout_s)


def disk(address: str, name: str = "a", lun: int = 0, credentials: Credentials | None = None) -> IscsiDisk:
    return open_lun(address, IQN, lun, initiator_name(name), credentials)


def test_it_serves_files_until_it_is_told_to_stop(tmp_path: Path) -> None:
    raw, vmdk = image(tmp_path / "a.raw"), tmp_path / "b.vmdk"
    create(vmdk, 2048, "monolithicSparse")
    with serve_ours(str(raw), f"7={vmdk}", chap="user:secretsecret") as address:
        user = Credentials("user", "secretsecret")
        found = discover(lambda: link(address), InitiatorConfig(initiator_name("a"), credentials=user))
        assert found == [(IQN, [f"{address},1"])]
        for lun in (0, 7):
            with disk(address, lun=lun, credentials=user) as one:
                one.write(4096, b"x" * 512)
                assert one.read(4096, 512) == b"x" * 512
        with pytest.raises(LoginRefusedError):
            disk(address)
        staying = disk(address, credentials=user)
        staying.write(0, b"y" * 512)
    assert raw.read_bytes()[4096:4608] == b"x" * 512
    assert raw.read_bytes()[:512] == b"y" * 512
    staying.session._attempts = 1
    with pytest.raises(IscsiError):
        staying.read(0, 512)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_with_status_0(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "vilab.cli", "iscsi-target", "--portal", "127.0.0.1:0", "--iqn", IQN]
    server = subprocess.Popen(
        [*command, "--lun", str(image(tmp_path / "a.raw"))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith(f"{IQN} listens at 127.0.0.1:")
    server.send_signal(number)
    output, complaints = server.communicate(timeout=30)
    assert (server.returncode, output, complaints) == (0, "", "")


def test_a_session_on_the_way_is_asked_to_leave(tmp_path: Path) -> None:
    with serve_ours(str(image(tmp_path / "a.raw"))) as address:
        session = disk(address).session
        initiator = session.open()
        waiting = threading.Thread(target=lambda: _hear(session))
        waiting.start()
    waiting.join(30)
    assert not waiting.is_alive()
    assert initiator.logout_requested


def _hear(session: IscsiSession) -> None:
    session._pump(lambda: session.open().logout_requested if session.alive else True)
    session.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--portal", "nowhere"], "'nowhere' is no portal"),
        (["--portal", "127.0.0.1:70000"], "is no portal"),
        (["--portal", "192.0.2.77:3260"], "cannot be opened"),
        (["--iqn", "storage"], "'storage' is no iSCSI name"),
        (["--chap", "user"], "USER:SECRET"),
        (["--lun", "missing.raw"], "missing.raw cannot be read"),
        (["--lun", "99999=a.raw"], "There is no LUN 99999"),
        (["--lun", "0=a.raw"], "given to"),
        (["--lun", "empty.raw"], "is empty"),
        (["--mutual-chap", "t:secretsecret"], "must ask for proof"),
        (["--chap", "user:short"], "secret of user has 5 bytes; at least 12"),
        (["--chap", "user:elevenbytes"], "secret of user has 11 bytes"),
        (["--chap", "user:secretsecret", "--mutual-chap", "t:short"], "secret of t has 5 bytes"),
        (["--chap", "user:secretsecret", "--mutual-chap", "t:secretsecret"], "must differ"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "a.raw")
    image(tmp_path / "empty.raw", 0)
    usual = ["--portal", "127.0.0.1:0", "--iqn", IQN, "--lun", "0=a.raw"]
    assert main(["iscsi-target", *usual, *arguments]) == 2
    output, complaints = capsys.readouterr()
    assert sentence in complaints
    assert (output, complaints.count("\n")) == ("", 1)


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        portal = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["iscsi-target", "--portal", portal, "--iqn", IQN, "--lun", str(image(tmp_path / "a"))]) == 2
    assert f"Portal {portal} cannot be opened" in capsys.readouterr().err


def test_one_file_is_served_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = str(image(tmp_path / "a.raw"))
    with serve_ours(raw):
        assert main(["iscsi-target", "--portal", "127.0.0.1:0", "--iqn", IQN, "--lun", raw]) == 2
    assert "a.raw" in capsys.readouterr().err


def test_numbers_of_luns() -> None:
    found = number_luns(["a", "2=b", "c=d", "0=e", "f"])
    assert {lun: str(path) for lun, path in found.items()} == {0: "e", 1: "a", 2: "b", 3: "c=d", 4: "f"}
    assert parse_portal("[::1]:3260") == ("::1", 3260)
    with pytest.raises(AdminError):
        parse_portal(":3260")


def test_read_only(tmp_path: Path) -> None:
    raw = image(tmp_path / "a.raw")
    with serve_ours(str(raw), extra=("--read-only",)) as address, disk(address) as one:
        assert one.read_only
        with pytest.raises(AdminError, match="27/00"):
            one.write(0, bytes(512))


def test_hostile_connections_do_not_disturb_the_others(tmp_path: Path) -> None:
    """Noise, half PDUs, hang-ups and a peer that never reads, beside four hosts that work."""
    errors: list[BaseException] = []

    def work(address: str, number: int) -> None:
        rng = random.Random(number)
        try:
            with disk(address, f"host{number}") as one:
                for _ in range(30):
                    data = rng.randbytes(8192)
                    one.write(number << 16, data)
                    assert one.read(number << 16, 8192) == data
        except BaseException as error:
            errors.append(error)

    with serve_ours(str(image(tmp_path / "a.raw"))) as address:
        host, port = address.split(":")
        workers = [threading.Thread(target=work, args=(address, number)) for number in range(4)]
        for worker in workers:
            worker.start()
        rng = random.Random(1)
        stuck = [socket.create_connection((host, int(port))) for _ in range(3)]
        for sock in stuck:
            sock.sendall(HEADER.pack(0x43, 0x87, 0, 0, 8192, bytes(8), *[1] * 8) + bytes(100))
        for _ in range(40):
            with socket.create_connection((host, int(port))) as sock:
                sock.sendall(rng.randbytes(rng.randrange(1, 5000)))
        for worker in workers:
            worker.join(60)
        for sock in stuck:
            sock.close()
    assert not errors
    assert not any(worker.is_alive() for worker in workers)


def test_a_host_that_vanishes_loses_its_reservation(tmp_path: Path) -> None:
    with serve_ours(str(image(tmp_path / "a.raw"))) as address:
        one, two = disk(address), disk(address, "b")
        one.reserve()
        assert two.submit(bytes(6))[0] == 0x18
        one.session.break_off()
        two.write(0, b"2" * 512)
        two.close()


def peak_bytes(address: str) -> int:
    """Of the process that listens there: the most memory it has ever had."""
    port = f":{int(address.rsplit(':', 1)[1]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = (row[9] for row in rows if row[1].endswith(port) and row[3] == "0A")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(fd) == f"socket:[{inode}]" for fd in (process / "fd").iterdir()):
                (line,) = (x for x in (process / "status").read_text().splitlines() if x.startswith("VmHWM"))
                return int(line.split()[1]) << 10
    raise AssertionError("nobody listens there")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="counts memory as Linux does")
def test_a_peer_that_never_reads_costs_a_bounded_amount_of_memory(tmp_path: Path) -> None:
    """Three peers ask for 100 times 16 MB each and take none of it."""
    with serve_ours(str(image(tmp_path / "a.raw", 64 << 20))) as address:
        before = peak_bytes(address)
        links = []
        for name in "xyz":
            initiator = Initiator(InitiatorConfig(initiator_name(name), IQN))
            initiator.start()
            links.append(link(address))
            while not initiator.logged_in:
                links[-1].send(initiator.take_output())
                initiator.receive(links[-1].receive())
            for _ in range(100):
                initiator.submit(0, b"\x28" + bytes(6) + b"\x80\0\0", data_in_bytes=1 << 24)
            links[-1].send(initiator.take_output())
        with disk(address) as one:
            one.write(0, b"x" * 512)
            assert one.read(0, 512) == b"x" * 512
        grown = peak_bytes(address) - before
        for stuck in links:
            stuck.close()
    assert grown < 3 * 5 * (16 << 20)


def test_two_portals_are_two_ways_to_one_disk(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vilab.cli", "iscsi-target", "--iqn", IQN, "--lun", str(image(tmp_path / "a.raw"))]
    server = subprocess.Popen(
        [*command, "--portal", "127.0.0.1:0", "--portal", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        first, second = re.findall(r"127\.0\.0\.1:\d+", server.stdout.readline())
        found = discover(lambda: link(first), InitiatorConfig(initiator_name("a")))
        assert found == [(IQN, [f"{first},1", f"{second},2"])]
        with disk(first) as one, disk(second) as two:
            assert one.identity.name == two.identity.name
            one.reserve()
            assert two.submit(bytes(6))[0] == 0x18  # another nexus, though the same initiator
    finally:
        server.terminate()
        assert server.wait(30) == 0


def test_a_login_may_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iscsi_server, "LOGIN_S", 0.05)

    async def connect() -> bytes:
        server = iscsi_server.IscsiServer(Node().iscsi)
        portal = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*portal.address.split(":"))
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()
            await server.stop()

    assert asyncio.run(connect()) == b""


def test_a_disk_that_cannot_be_flushed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()

    def flush() -> None:
        raise BlockError("medium", "The disk is gone.")

    monkeypatch.setattr(node.disk, "flush", flush)

    async def stop() -> None:
        server = iscsi_server.IscsiServer(node.iscsi)
        await server.start("127.0.0.1", 0)
        await server.stop()

    with pytest.raises(BlockError, match="gone"):
        asyncio.run(stop())
