"""Post-copy with a real guest that checks its memory: it runs on pages that come while it touches them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vilab.guests.load import load
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.memory.client import MemoryConfig
from vilab.memory.page_state import PageState
from vilab.migration.post_copy_destination import PostCopyDestination
from vilab.migration.post_copy_source import PostCopySource
from vilab.vmm.vm import MONITOR_WINDOW, QuietConsole

PUSH_BYTES = 40 * 4096


class Moved:
    """``vm1`` stands still on esx1; ``new`` goes on from its state on esx2, without any of its memory.

    ``cut_after``: so many waits later the connection is gone.
    """

    def __init__(self, folder: Path, engine: str, cut_after: int | None = None) -> None:
        self.hosts = []
        for name in ("esx1", "esx2"):
            (folder / name).mkdir()
            self.hosts.append(Host(96, swap_directory=folder / name, name=name, quantum_ns=50_000_000))
        reserved = MONITOR_WINDOW if engine == "bt" else None
        image = load("kernel-memory", memory_bytes=16 << 20, append="hz=10", reserved=reserved)
        console = QuietConsole(b"checksum 1000 6\n")
        vm = self.hosts[0].power_on("vm1", image, MemoryConfig(16), engine=engine, console=console)
        while "round 1 ok" not in vm.console.said:
            self.hosts[0].run_for(100_000_000)
        self.new: HostedVm = self.hosts[1].resume(vm.snapshot())
        self.to_new: deque = deque()
        self.to_there: deque = deque()
        self.cut_after, self.waits = cut_after, 0
        pmap = vm.client.pmap
        self.source = PostCopySource(
            "vm1", "esx1", "esx2", "s", pmap, np.flatnonzero(pmap.states != PageState.UNTOUCHED),
            lambda message, body: self.to_new.append((message, b"".join(body))),
        )  # fmt: skip
        self.destination = PostCopyDestination(
            "vm1", "esx1", "esx2", "s", self.new.client.pmap, self.hosts[1].memory,
            lambda message, _: self.to_there.append(message), self.wait, self.new.stop,
        )  # fmt: skip
        self.source.begin()
        self.destination.begin(self.to_new.popleft()[0], pmap.save_state())
        self.new.client.pmap.supply = self.destination

    def wait(self) -> None:
        self.waits += 1
        if self.waits == self.cut_after:
            for side in (self.source, self.destination):
                side.lost("The cable was pulled.")
            return
        self.exchange()

    def exchange(self, push_bytes: int = 0) -> None:
        while self.to_there:
            self.source.received(self.to_there.popleft())
        self.source.pump(push_bytes)
        while self.to_new:
            self.destination.received(*self.to_new.popleft())

    def run(self, push_bytes: int) -> Iterator[None]:
        for _ in range(60):
            self.hosts[1].run_for(100_000_000)
            self.exchange(push_bytes)
            if self.new.stopped or (self.destination.over and self.source.over):
                break
            yield


@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_a_guest_that_checks_its_memory_finds_it_right_while_it_comes(tmp_path: Path, engine: str) -> None:
    moved = Moved(tmp_path, engine)
    assert moved.new.client.pmap.count(PageState.PRIVATE) == 0
    for _ in moved.run(PUSH_BYTES):
        assert not moved.new.stopped
    assert (moved.source.phase, moved.destination.phase) == ("moved", "complete")
    figures = moved.destination.figures
    assert figures.asked_pages > 100
    assert figures.pushed_pages > 100
    moved.hosts[1].run_for(3_000_000_000)
    assert len(re.findall(r"round \d+ ok", moved.new.console.said)) >= 2
    assert "wrong" not in moved.new.console.said
    moved.hosts[1].memory.check()
    for host in moved.hosts:
        host.close()


def test_a_guest_whose_pages_do_not_come_is_off_with_the_reason(tmp_path: Path) -> None:
    moved = Moved(tmp_path, "svm", cut_after=50)
    for _ in moved.run(0):
        pass
    assert (moved.source.phase, moved.destination.phase) == ("failed", "failed")
    assert moved.new.stopped == moved.destination.why
    assert "vm1 was powered off on esx2" in moved.new.stopped
    assert "The cable was pulled." in moved.source.why
    said = moved.new.console.said
    moved.hosts[1].run_for(1_000_000_000)
    assert moved.new.console.said == said
    moved.hosts[1].memory.check()
    for host in moved.hosts:
        host.close()
