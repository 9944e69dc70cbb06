"""All of memory is compared again when the machine stands still: what tracking and checksums cannot know is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.host.storage_helpers import to_prompt, type_line
from tests.migration.two_hosts import TwoHosts
from vilab.errors import AdminError
from vilab.host.hosted_vm import HostedVm
from vilab.migration.options import MigrationOptions
from vilab.migration.page_source import frames_of
from vilab.migration.vmotion import Migration

KERNEL = 0x100
"""The page of its first instructions: nobody writes to it."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[TwoHosts]:
    made = TwoHosts(tmp_path)
    yield made
    made.close()


def flip(hosted: HostedVm) -> None:
    """A byte of memory changes, and nobody is told."""
    pmap = hosted.client.pmap
    (row,) = frames_of(pmap, np.array([KERNEL]))
    pmap.memory.bytes.reshape(-1, 4096)[row, 4095] ^= 1


@pytest.mark.parametrize("where", ["source", "destination"])
@pytest.mark.parametrize("verify", [True, False])
def test_a_byte_that_changes_behind_everybody_s_back(lab: TwoHosts, where: str, verify: bool) -> None:
    web = lab.power_on()
    to_prompt(lab.esx1, web)
    migration = Migration(lab.esx1, web, lab.esx2, options=MigrationOptions(verify=verify))
    steps = migration.steps()
    while not migration.source.rounds:
        next(steps)
    flip(web if where == "source" else lab.esx2.arrivals["web"].hosted)
    for _ in steps:
        pass
    if verify:
        assert migration.source.phase == "failed"
        assert "its memory there and on esx1 are not the same" in migration.source.why
        assert lab.esx1.vms == {"web": web}
        assert not lab.esx2.vms
        assert type_line(lab.esx1, web, "isprime 7") == "isPrime(7) = 1\n"
    else:
        assert migration.source.phase == "moved", "each host goes by what it was told"


def test_verifying_finds_nothing_wrong_with_a_machine_that_is_busy(lab: TwoHosts) -> None:
    web = lab.power_on()
    to_prompt(lab.esx1, web)
    web.console.type("forkwait 300")
    for here, there in ((lab.esx1, lab.esx2), (lab.esx2, lab.esx1)):
        web = Migration(here, web, there, options=MigrationOptions(verify=True, kind="delta")).run()
    with pytest.raises(AdminError, match="does not run on esx2"):
        Migration(lab.esx2, web, lab.esx1)
