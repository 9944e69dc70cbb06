"""Two ``vilab host`` processes without a common datastore: a machine is sent, cloned, and looked for after a death."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.cutting_proxy import Proxy
from tests.migration.file_copies import WEB, files, make
from tests.migration.host_processes import MB, SECRET
from tests.migration.quick_host import QuickHost
from vilab.cli import main
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.storage import StorageOptions
from vilab.host.vm_departure import Departure, write_departure
from vilab.host.vm_home import VmHome

THERE = "[store] web/web.vmx"


class Hosts:
    """``esx1``, ``esx2``: processes with a datastore ``store`` each. ``admin`` looks at their folders."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.secret = folder, folder / "dc.key"
        self.secret.write_bytes(SECRET)
        self.running: dict[str, QuickHost] = {}

    def admin(self, name: str) -> Host:
        (self.folder / name).mkdir(exist_ok=True)
        return Host(16, "admin", storage=StorageOptions(directory=self.folder / name))

    def start(self, name: str) -> QuickHost:
        (self.folder / name).mkdir(exist_ok=True)
        line = ["host", "--name", name, "--listen", "127.0.0.1:0", "--secret", str(self.secret), "--memory", "32"]
        self.running[name] = QuickHost(name, [*line, "--datastore", f"store={self.folder / name}"], self.folder)
        return self.running[name]

    def forget(self, name: str) -> None:
        """It has been killed."""
        self.running.pop(name).process.wait(20)
        (self.folder / f"{name}.out").unlink()

    def end(self) -> None:
        for host in self.running.values():
            host.end()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path)
    yield made
    made.end()


def web(hosts: Hosts, disk_mb: int = 2) -> dict[str, bytes]:
    """A machine in the store of ``esx1``."""
    return make(hosts.admin("esx1"), disk_bytes=disk_mb * MB)


def test_a_machine_is_sent_runs_there_and_leaves_a_clone_behind(
    hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    before = web(hosts)
    first, second = hosts.start("esx1"), hosts.start("esx2")
    assert main(["agent", first.address, "--secret", str(hosts.secret), "send", THERE, second.address, "store"]) == 0
    assert f"web has moved to {THERE} on esx2: " in capsys.readouterr().out
    assert files(hosts.admin("esx2")) == before
    assert files(hosts.admin("esx1")) == {}
    clone = "[store] web2/web2.vmx"
    said = second.client.move_folder(THERE, first.address, "store", "web2")
    assert said.startswith(f"web was cloned as web2 to {clone} on esx1: ")
    assert second.client.power_on(THERE) == "web is powered on on esx2."
    assert first.client.power_on(clone) == "web2 is powered on on esx1."
    with pytest.raises(AdminError, match="is powered on already, on host esx2"):
        second.client.move_folder(THERE, first.address, "store")
    first.client.power_off("web2")
    with pytest.raises(AdminError, match="esx2 has no datastore 'none'"):
        first.client.move_folder(clone, second.address, "none")


@pytest.mark.parametrize("back", [False, True])
def test_the_destination_dies_after_everything_but_the_last_word(hosts: Hosts, back: bool) -> None:
    """It is killed when ``web.vmx.leaving`` is there, or as soon afterwards as can be; whichever of the two says so."""
    before = web(hosts)
    first, second = hosts.start("esx1"), hosts.start("esx2")
    note, over = hosts.folder / "esx1" / "web" / "web.vmx.leaving", threading.Event()

    def kill() -> None:
        while not note.exists() and not over.is_set():
            time.sleep(0.0002)
        second.process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    why = ""
    try:
        first.client.move_folder(THERE, second.address, "store")
    except AdminError as error:
        why = str(error)
    over.set()
    killer.join()
    hosts.forget("esx2")
    second = hosts.start("esx2")
    if note.exists():
        assert f"{THERE} stays off on esx1: it was on its way to {THERE} on esx2" in why
        with pytest.raises(AdminError, match="stays off on esx1"):
            first.client.power_on(THERE)
        said = first.client.ask_folder(THERE, finish=not back, address=second.address)
        assert "has moved to" in said or "is here, on esx1" in said
    one_has_it(hosts, before)


@pytest.mark.parametrize("byte", [3_000, 200_000])
def test_a_cut_on_the_way_changes_nothing(hosts: Hosts, byte: int) -> None:
    before = web(hosts)
    first, second = hosts.start("esx1"), hosts.start("esx2")
    with (
        Proxy(second.address, "out", byte, "cut") as proxy,
        pytest.raises(AdminError, match="web was not moved to esx2"),
    ):
        first.client.move_folder(THERE, proxy.address, "store")
    assert files(hosts.admin("esx1")) == before
    until = time.monotonic() + 20
    while files(hosts.admin("esx2")) and time.monotonic() < until:
        time.sleep(0.01)
    assert files(hosts.admin("esx2")) == {}
    assert first.client.move_folder(THERE, second.address, "store").startswith("web has moved to ")


def test_nobody_knows_and_a_person_says_that_it_is_here(hosts: Hosts, capsys: pytest.CaptureFixture[str]) -> None:
    web(hosts)
    second = hosts.start("esx2")
    write_departure(VmHome(hosts.admin("esx1").storage, WEB), Departure("12ab", "esx2", THERE, second.address))
    first = hosts.start("esx1")
    settle = ["agent", first.address, "--secret", str(hosts.secret), "settle", THERE]
    assert main([*settle, "--back"]) != 0
    unknown = f"esx2 has nothing at {THERE} that says how move 12ab from esx1 has ended."
    assert unknown in capsys.readouterr().err
    with pytest.raises(AdminError, match="stays off on esx1"):
        first.client.power_on(THERE)
    assert main([*settle, "--here"]) == 0
    assert f"{THERE} is here. What is at the other host is to be withdrawn yet: " in capsys.readouterr().out
    assert first.client.power_on(THERE) == "web is powered on on esx1."


def one_has_it(hosts: Hosts, before: dict[str, bytes]) -> None:
    on = []
    for name, host in hosts.running.items():
        with contextlib.suppress(AdminError):
            host.client.power_on(THERE)
            on.append(name)
            host.client.power_off("web")
    assert len(on) == 1
    there = files(hosts.admin(on[0]))
    same = {name for name in before if name.endswith((".nvram", "-flat.vmdk"))}
    assert {name: there[name] for name in same} == {name: before[name] for name in same}
