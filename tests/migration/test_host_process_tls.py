"""A machine moves between host processes over TLS; who has no certificate that they trust is not even listened to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.host_processes import SECRET, Site, Terminal, refusal
from tests.migration.test_agent_tcp import Certificates
from vilab.migration.agent_client import AgentClient

pytestmark = pytest.mark.timeout(120)


def test_a_machine_moves_over_tls(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    site = Site(tmp_path)
    try:
        where = site.register("web", 2, memsize="8", vilab_image="kernel-disk", vilab_engine="svm")
        site.open()
        for name in ("esx1", "esx2"):
            files = made.of(name), tmp_path / f"{name}.key", made.trusted
            site.start(name, 32, "--tls", *map(str, files)).tls = made.context("esx2" if name == "esx1" else "esx1")
        here, there = site.hosts.values()
        here.client.power_on(where)
        terminal = Terminal(here, "web", b"shell> ")
        terminal.until_prompt()
        for source, destination in ((here, there), (there, here)):
            assert "web runs on" in source.client.move("web", destination.address)
            terminal.host = destination
            assert "help" in terminal.run("help")
        strange = made.context("stranger", made.of("esx1"))
        assert "certificates" in refusal(lambda: AgentClient(here.address, SECRET, tls=strange))
        assert "look" in refusal(AgentClient, here.address, SECRET)
        assert here.names() == {"web": ""}
        assert site.close() == {"esx1": 0, "esx2": 0}
    finally:
        site.close()
