"""Storage VMotion asked of a host process: progress, refusals, a client that hangs up, a machine that goes off."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.host_processes import SECRET, HostProcess, refusal
from tests.migration.storage_processes import Mover, Records, Site, judge
from vilab.cli import main
from vilab.migration.agent_client import AgentClient
from vilab.migration.agent_requests import MoveStorage
from vilab.migration.storage_vmotion import MethodName

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made = Site(tmp_path, disk_mb=16)
    try:
        yield made
    finally:
        made.close()


def where(host: HostProcess) -> str:
    (machine,) = host.client.machines()
    return machine.home


def until_at(host: HostProcess, datastore: str) -> None:
    end_s = time.monotonic() + 60
    while where(host) != f"[{datastore}] web/web.vmx":
        assert time.monotonic() < end_s, where(host)
        time.sleep(0.05)


def test_a_move_that_is_asked_for_says_where_it_stands_and_goes_on_when_nobody_listens(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    host = site.start("esx1")
    why = refusal(host.client.move_storage, "web", "ds2")
    assert why == "There is no virtual machine web on esx1 that is powered on."
    host.client.power_on("[ds1] web/web.vmx")
    records = Records(host)
    records.terminal.run("mkfs")
    records.type(100)
    assert "esx1 has no datastore 'ds9'" in refusal(host.client.move_storage, "web", "ds9")
    assert "it is there already" in refusal(host.client.move_storage, "web", "ds1")
    assert "'vmotion' is no method" in refusal(host.client.move_storage, "web", "ds2", "vmotion")

    mover = Mover(host, "ds2", "changed blocks")
    again = Mover(host, "ds2", "changed blocks")
    for each in (mover, again):
        each.join(60)
    assert mover.said.startswith("web is on ds2 now: ")
    assert mover.phases
    assert re.search("web is being moved to ds2; wait|it is there already", again.refused)
    assert where(host) == "[ds2] web/web.vmx"

    hangs_up = AgentClient(host.address, SECRET)
    hangs_up._port.send(MoveStorage(1, "web", "ds1", "snapshot"))
    while "web.vmx.copying" not in site.names("ds2"):
        hangs_up._link.poll()
        time.sleep(0.01)
    hangs_up.close()
    until_at(host, "ds1")

    command = ["agent", host.address, "--secret", str(site.secret), "storage", "web", "ds2"]
    assert main([*command, "--method", "snapshot"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("web is on ds2 now: ")
    assert "other files:   0 %, 0.0 MB" in said.err or "round 1: " in said.err
    assert main(command) == 2
    assert "it is there already" in capsys.readouterr().err

    on_disk = records.on_disk
    host.client.power_off("web")
    assert judge(site, "ds2", on_disk, records.typed) > 0
    assert site.close() == {"esx1": 0}
    assert host.complaints.read_text() == ""


def in_the_middle(site: Site, host: HostProcess, method: MethodName, at: str) -> tuple[Mover, str]:
    """A move under way, and where the machine is meanwhile."""
    while True:
        to = "ds2" if at == "ds1" else "ds1"
        mover = Mover(host, to, method)
        while mover.is_alive() and "web.vmx.moving" not in site.names(to):
            time.sleep(0.001)
        if mover.is_alive():
            return mover, at
        mover.join()
        assert mover.said, mover.refused  # it was quicker than we
        at = to


@pytest.mark.parametrize(("method", "ends"), [("snapshot", "machine"), ("changed blocks", "host")])
def test_a_machine_that_goes_off_or_a_host_that_is_ended_stays_where_it_is(
    site: Site, method: MethodName, ends: str
) -> None:
    host, at = site.start("esx1"), "ds1"
    host.client.power_on("[ds1] web/web.vmx")
    records = Records(host)
    records.terminal.run("mkfs")
    records.type(20)
    for _ in range(5):
        mover, at = in_the_middle(site, host, method, at)
        on_disk = records.on_disk
        if ends == "host":
            assert site.close() == {"esx1": 0}
        else:
            host.client.power_off("web")
        mover.join(60)
        if mover.refused:
            break
        at = "ds2" if at == "ds1" else "ds1"
        host = host if ends == "machine" else site.start("esx1")
        host.client.power_on(f"[{at}] web/web.vmx")
        records.terminal.host, records.terminal.said = host, b""
        records.first, records.typed = (judge(site, at, on_disk, records.typed),) * 2
    why = "the machine went off." if ends == "machine" else "esx1 is being shut down."
    (other,) = {"ds1", "ds2"} - {at}
    assert mover.refused == f"web was not moved to {other}: {why}"
    judge(site, at, on_disk, records.typed)
    assert host.complaints.read_text() == ""
