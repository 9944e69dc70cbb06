"""Who calls a host process and is not of its datacenter gets one sentence; its machines run on meanwhile.

Also: whoever is silent is not listened to for ever, and a host that is shut down in the middle of a move leaves the
machine on one of both.
"""

from __future__ import annotations

import http.client
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.cutting_proxy import Proxy
from tests.migration.host_processes import SECRET, HostProcess, Site, Terminal, refusal
from vilab.errors import AdminError
from vilab.migration.agent_client import AgentClient
from vilab.migration.agent_frames import HANDSHAKE_BYTES, Greeting, Handshake, encode_greeting, encode_handshake
from vilab.migration.agent_requests import Move, Refused

pytestmark = pytest.mark.timeout(180)
SHELL = b"shell> "


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    for name in ("web", "busy"):
        made.register(name, 2, memsize="8", vilab_image="kernel-disk", vilab_engine="svm")
    made.open()
    made.start("esx1")
    made.start("esx2")
    yield made
    made.close()


@pytest.fixture
def host(site: Site) -> Iterator[HostProcess]:
    """With a machine that goes on whatever happens."""
    esx1 = site.hosts["esx1"]
    if "web" not in esx1.names():
        esx1.client.power_on("[san1] web/web.vmx")
    Terminal(esx1, "web", SHELL).until_prompt()
    yield esx1
    assert esx1.names()["web"] == ""
    assert "help" in Terminal(esx1, "web", SHELL).run("help")
    assert esx1.complaints.read_text() == ""


def test_another_secret_is_refused(host: HostProcess) -> None:
    why = refusal(AgentClient, host.address, b"some other secret of 32 bytes...")
    assert "could not show that it knows the secret of datacenter datacenter" in why
    assert why.count(". ") == 0


def test_another_datacenter_is_refused(host: HostProcess) -> None:
    why = refusal(lambda: AgentClient(host.address, SECRET, datacenter="lab"))
    assert "connect hosts of one datacenter" in why


def hear(host: HostProcess, said: bytes) -> bytes:
    """All that comes back until the host hangs up."""
    name, _, port = host.address.rpartition(":")
    with socket.create_connection((name, int(port)), 20) as connection:
        connection.sendall(said)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def test_an_old_version_is_told_who_has_to_be_updated(host: HostProcess) -> None:
    hello = encode_greeting(Greeting(b"n" * 32, "old", "datacenter"))
    heard = hear(host, encode_handshake(Handshake.HELLO, hello, (0, 0)))
    assert heard[8] == Handshake.REFUSAL
    assert b"update host old" in heard[HANDSHAKE_BYTES:]


def test_a_browser_is_hung_up_on(host: HostProcess) -> None:
    name, _, port = host.address.rpartition(":")
    client = http.client.HTTPConnection(name, int(port), timeout=20)
    with pytest.raises((http.client.HTTPException, OSError)):
        client.request("GET", "/")
        client.getresponse()
    client.close()


def test_who_has_nothing_to_do_leaves_the_processor_to_others(site: Site, host: HostProcess) -> None:
    """Neither an empty host nor one whose guest waits for a line: in a second, what a busy one uses in half of it."""
    before = [each.processor_s() for each in (host, site.hosts["esx2"])]
    time.sleep(1.0)
    used_s = [each.processor_s() for each in (host, site.hosts["esx2"])]
    assert used_s[0] - before[0] < 0.5
    assert used_s[1] - before[1] < 0.2


def test_nobody_is_waited_for_who_does_not_say_who_it_is(host: HostProcess) -> None:
    """Neither who calls, nor who is called."""
    name, _, port = host.address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_connection((name, int(port)), 20) as caller:
        why = refusal(host.client.move, "web", f"127.0.0.1:{silent.getsockname()[1]}")
        heard = b"".join(iter(lambda: caller.recv(4096), b""))
    assert "has not said for 10 s who it is" in why
    assert b"was not told by whom" in heard


def test_what_is_asked_in_vain_is_said_in_a_sentence(site: Site, host: HostProcess) -> None:
    client = host.client
    assert "no virtual machine db on esx1" in refusal(client.power_off, "db")
    assert "is no address of an agent" in refusal(client.move, "web", "esx2")
    assert "is esx1 itself: say the address of another host" in refusal(client.move, "web", host.address)
    assert "rule" in refusal(client.move, "web", site.hosts["esx2"].address, "some rule").lower()
    assert "is an answer" in refusal(client.ask, Refused(99, "no"))
    dead = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{dead.getsockname()[1]}"
    dead.close()
    assert "look whether an agent listens there" in refusal(client.move, "web", address)


def test_a_move_to_another_secret_leaves_the_machine_where_it_is(site: Site, host: HostProcess, tmp_path: Path) -> None:
    secret = tmp_path / "other.key"
    secret.write_bytes(b"what another datacenter knows......")
    command = site.command("esx9", 32)
    command[command.index("--secret") + 1] = str(secret)
    stranger = HostProcess("esx9", command, tmp_path)
    try:
        assert "knows the secret" in refusal(host.client.move, "web", stranger.address)
    finally:
        assert stranger.end() == 0


def test_it_is_not_powered_off_on_its_way(site: Site, host: HostProcess) -> None:
    with Proxy(site.hosts["esx2"].address, "out", 5000, "stall") as proxy:
        other = AgentClient(host.address, SECRET, "other")
        other._port.send(Move(1, "web", proxy.address))
        while not proxy.done:
            time.sleep(0.01)
        assert "on its way" in refusal(host.client.power_off, "web")
        assert "on its way" in refusal(host.client.move, "web", site.hosts["esx2"].address)
        other.close()


@pytest.mark.parametrize("which", ["source", "destination"])
def test_a_host_that_is_shut_down_on_the_way_leaves_it_on_one(site: Site, which: str) -> None:
    source, destination = (site.start(f"{which}{number}") for number in (1, 2))
    source.client.power_on("[san1] busy/busy.vmx")
    terminal = Terminal(source, "busy", SHELL)
    terminal.until_prompt()
    victim, other = (source, destination) if which == "source" else (destination, source)
    with Proxy(destination.address, "out", 100_000, lambda: victim.signal(signal.SIGTERM)) as proxy:
        try:
            said = source.client.move("busy", proxy.address)
        except AdminError as error:
            said = str(error)
        assert victim.process.wait(30) == 0
    assert said
    if "busy" not in other.names():
        other.client.power_on("[san1] busy/busy.vmx")
    assert "help" in Terminal(other, "busy", SHELL).run("help")
    other.client.power_off("busy")
    assert other.end() == 0
    assert victim.complaints.read_text() == other.complaints.read_text() == ""
