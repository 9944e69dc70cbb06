"""A machine of a host process is suspended, its folder moves to another datastore, and another host goes on with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.host_processes import HostProcess, Terminal
from tests.migration.storage_processes import SHELL, Records, Site, judge
from vilab.errors import AdminError
from vilab.migration.agent_requests import Copying, Progress

OLD, NEW = "[ds1] web/web.vmx", "[ds2] web/web.vmx"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def vilab_agent(site: Site, host: HostProcess, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vilab.cli", "agent", host.address, "--secret", str(site.secret), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_suspended_machine_goes_on_elsewhere_and_from_another_datastore(site: Site) -> None:
    here, there = site.start("esx1"), site.start("esx2")
    here.client.power_on(OLD)
    records = Records(here)
    records.terminal.run("mkfs")
    records.type(5)
    records.terminal.until(f"(?s)({'it is on the disk.*' * 5})shell> $")
    assert here.client.suspend("web") == "web is suspended; its state is in [ds1] web/web.vmss."
    assert here.names() == {}
    assert {"web.vmss", "web.vmx"} < site.names("ds1")

    said = vilab_agent(site, there, "relocate", OLD, "ds2")
    assert (said.returncode, said.stdout.startswith("web is in [ds2] web/web.vmx now: ")) == (0, True), said
    assert site.names("ds1") == set()
    assert "web.vmss" in site.names("ds2")

    there.client.power_on(NEW)
    assert "web.vmss" not in site.names("ds2")
    terminal = Terminal(there, "web", SHELL)
    assert "record 4" in terminal.run("cat r4"), "the volume was mounted before it was suspended"
    assert "it is on the disk" in terminal.run("put r5 record 5")
    said = vilab_agent(site, there, "suspend", "web")
    assert (said.returncode, said.stdout) == (0, "web is suspended; its state is in [ds2] web/web.vmss.\n"), said
    here.client.power_on(NEW)
    assert "it is on the disk" in Terminal(here, "web", SHELL).run("put r6 record 6")
    here.client.power_off("web")
    assert judge(site, "ds2", 7, 7) == 7
    assert site.close() == {"esx1": 0, "esx2": 0}


def test_what_cannot_be_done_is_said_and_nothing_is_touched(site: Site) -> None:
    here, there = site.start("esx1"), site.start("esx2")
    here.client.power_on(OLD)
    with pytest.raises(AdminError, match="There is no virtual machine db on esx1"):
        here.client.suspend("db")
    with pytest.raises(AdminError, match=r"web was not moved to ds2: it is on, on esx1\. Power it off"):
        here.client.relocate(OLD, "ds2")
    with pytest.raises(AdminError, match=r"web was not moved to ds2: .*powered on already, on host esx1"):
        there.client.relocate(OLD, "ds2")
    with pytest.raises(AdminError, match="ds3"):
        there.client.relocate(OLD, "ds3")
    here.client.suspend("web")
    with pytest.raises(AdminError, match="There is no virtual machine web on esx1"):
        here.client.suspend("web")
    there.client.power_on(OLD, discard_suspended=True)
    Records(there)  # it begins anew


def test_progress_of_a_cold_migration_is_told(site: Site) -> None:
    here = site.start("esx1")
    heard: list[Progress] = []
    here.client.relocate(OLD, "ds2", heard.append)
    assert all(isinstance(each, Copying) and 0 <= each.percent <= 100 for each in heard)
    assert site.names("ds1") == set()


def test_a_machine_that_is_on_is_cloned_and_both_run(site: Site) -> None:
    here, there = site.start("esx1"), site.start("esx2")
    here.client.power_on(OLD)
    records = Records(here)
    records.terminal.run("mkfs")
    records.type(3)
    records.terminal.until(f"(?s)({'it is on the disk.*' * 3})shell> $")
    said = vilab_agent(site, here, "clone", "web", "copy", "ds2")
    assert (said.returncode, said.stdout.startswith("copy is in [ds2] copy/copy.vmx, off: ")) == (0, True), said
    with pytest.raises(AdminError, match="copy"):
        here.client.clone(OLD, "copy", "ds2")
    assert "it is on the disk" in records.terminal.run("put r3 record 3"), "the original goes on"
    there.client.power_on("[ds2] copy/copy.vmx")
    other = Terminal(there, "copy", SHELL)
    other.until_prompt()
    assert "record 2" in other.run("cat r2")
    assert "record 3" not in other.run("cat r3")
    assert (here.names(), there.names()) == ({"web": ""}, {"copy": ""})
