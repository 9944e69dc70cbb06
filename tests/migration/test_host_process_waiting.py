"""A host process whose neighbour has died: its machines run and its agent answers while the dead one's locks are
watched."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.migration.host_processes import SECRET, HostProcess, Site, Terminal, refusal
from vilab.migration.agent_client import AgentClient
from vilab.migration.agent_requests import Copying, Done, PowerOn, Refused, Request

pytestmark = pytest.mark.timeout(180)
SHELL = b"shell> "
WEB, BUSY = "[san1] web/web.vmx", "[san1] busy/busy.vmx"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    for name in ("web", "busy"):
        made.register(name, 2, memsize="8", vilab_image="kernel-disk", vilab_engine="svm")
    made.open()
    for name in ("esx1", "esx2"):
        made.start(name)
    made.hosts["esx1"].client.power_on(WEB)
    Terminal(made.hosts["esx1"], "web", SHELL).until_prompt()
    made.hosts["esx2"].client.power_on(BUSY)
    Terminal(made.hosts["esx2"], "busy", SHELL).until_prompt()
    yield made
    made.close()


class Asked:
    """A power-on of the machine, asked for and not waited for."""

    def __init__(self, host: HostProcess, home: str) -> None:
        self.client = AgentClient(host.address, SECRET, "impatient")
        self.client._port.send(PowerOn(1, home))
        self.said: list[Request] = []

    def end(self) -> Request | None:
        """``None``: it is not over."""
        self.client._link.poll()
        while self.client._got:
            message = self.client._got.pop(0).message
            assert isinstance(message, Request)
            self.said.append(message)
        over = [each for each in self.said if not isinstance(each, Copying)]
        return over[0] if over else None

    def meanwhile(self, do: Callable[[], None]) -> tuple[int, Request]:
        """How often something else could be done before it was over, and how it has ended."""
        count = 0
        while (end := self.end()) is None:
            do()
            count += 1
        self.client.close()
        return count, end


def test_a_live_neighbour_keeps_its_machine_and_is_named(site: Site) -> None:
    host = site.hosts["esx2"]
    _, end = Asked(host, WEB).meanwhile(lambda: None)
    assert isinstance(end, Refused)
    assert "is powered on already, on host esx1" in end.why
    assert host.names() == {"busy": ""}


def test_machines_run_and_questions_are_answered_while_a_dead_hosts_locks_are_watched(site: Site) -> None:
    dead, host = site.hosts["esx1"], site.hosts["esx2"]
    terminal = Terminal(host, "busy", SHELL)
    terminal.until_prompt()
    dead.kill()
    asked, second = Asked(host, WEB), Asked(host, WEB)
    clock_ns: list[int] = []

    def ask() -> None:
        (busy,) = (machine for machine in host.client.machines() if machine.name == "busy")
        clock_ns.append(busy.now_ns)
        assert "help" in terminal.run("help")

    count, end = asked.meanwhile(ask)
    assert count > 10, "it stood still"
    assert clock_ns == sorted(set(clock_ns)), "its guest stood still"
    _, other = second.meanwhile(ask)
    assert {type(end), type(other)} == {Done, Refused}, "two have powered it on, or nobody has"
    waiting = [each.phase for each in asked.said if isinstance(each, Copying)]
    assert len(waiting) > 8
    assert all("which has been silent for" in each for each in waiting)
    assert host.names() == {"web": "", "busy": ""}
    assert "help" in Terminal(host, "web", SHELL).run("help")
    assert host.complaints.read_text() == ""


def test_who_is_shut_down_meanwhile_says_so_and_leaves_the_machine_alone(site: Site, tmp_path: Path) -> None:
    """And what it has not taken, somebody else has at once."""
    dead, last = site.hosts["esx2"], site.start("esx3")
    dead.kill()
    asked = Asked(last, WEB)
    while not asked.said:
        asked.end()
    last.signal(signal.SIGTERM)
    _, end = asked.meanwhile(lambda: None)
    assert isinstance(end, Refused)
    assert "esx3 is being shut down" in end.why
    assert last.process.wait(30) == 0
    assert last.complaints.read_text() == ""
    assert "no datastore" in refusal(site.start("esx4").client.power_on, "[san9] web/web.vmx")
