"""A place for Storage VMotion: a host with datastores, whose memory is in order at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.storage_moves import Site
from vilab.host.host import Host


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for host in made.hosts:
        host.memory.check()
    made.close()


@pytest.fixture
def host(site: Site) -> Host:
    return site.host()
