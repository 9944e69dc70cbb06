"""What moving costs, counted and timed in one process: samples for ``vilab bench migration``.

::

    tracking      the same guest work │ with nothing │ with a log of its writes, begun anew every 100 ms
    sent          the same busy guest, moved in virtual time over the same link: bytes of each kind of compression

The guest's work is a program that writes memory of which it knows every word, and checks it at the end.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.clock import VirtualClock
from vilab.errors import VmmBug
from vilab.events import EventLog
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.memory.dirty_log import DirtyLog
from vilab.memory.managed_pmap import ManagedPmap
from vilab.migration.agent_link import LinkSettings
from vilab.migration.bench_process import DATASTORE, HostSpec, make_host
from vilab.migration.migration_events import RoundSent
from vilab.migration.options import MigrationOptions
from vilab.migration.page_stream import Kind
from vilab.migration.vmotion import Migration
from vilab.vmm.vm import QuietConsole

NAME, PROMPT = "guest", "shell> "
GUEST_MB, HOST_MB = 32, 64
QUANTUM_NS, ROUND_NS = 10_000_000, 100_000_000
BOOT_NS, WORK_NS = 60_000_000_000, 600_000_000_000
PAGES = 2048
WRITER = "writer {pages} 256 64 16 20 {reports}"
"""64 stores a tick into a working set of 1 MB, 16 into other pages; a report is 20 ticks."""
FAST_ETHERNET = LinkSettings(12_500_000, 100_000)


class WriteLog(Protocol):
    """A way to know which pages were written, as a migration uses it."""

    def restart(self) -> npt.NDArray[np.int64]: ...

    def stop(self) -> npt.NDArray[np.int64]: ...


METHODS: dict[str, Callable[[ManagedPmap], WriteLog]] = {
    "traces": DirtyLog,
    "dirty_bits": partial(DirtyLog, method="dirty_bits"),
}
"""Ways to track, by name."""
TRACKED = {"traces": ("traces", "svm"), "traces_bt": ("traces", "bt"), "dirty_bits": ("dirty_bits", "bt")}
"""What is measured: a way, and the engine that the guest runs in. There are no Dirty bits with nested paging (``svm``),
so that both ways are measured in binary translation, which has shadow page tables."""


class Tracked(msgspec.Struct, frozen=True):
    """``cpu_s``: processor time of this process for the guest's work. ``exits``: of the guest in it, by kind.
    ``dirty_pages``: found in all rounds together. ``said``: the guest's last line."""

    cpu_s: float
    exits: dict[str, int]
    rounds: int
    dirty_pages: int
    said: str

    @property
    def all_exits(self) -> int:
        return sum(self.exits.values())


def tracked(method: str | None, reports: int, pages: int = PAGES, engine: str = "svm") -> Tracked:
    """The guest writes so many reports, alone on its host; ``None``: nobody looks what it writes."""
    with tempfile.TemporaryDirectory(prefix="vilab-") as folder:
        host = make_host(HostSpec("esx1", 1, GUEST_MB + HOST_MB, folder, b"-"), EventLog())
        try:
            hosted = _boot(host, Path(folder), engine)
            _type(host, hosted, WRITER.format(pages=pages, reports=reports), "pages filled")
            log = None if method is None else METHODS[method](hosted.client.pmap)
            if log is not None:
                log.restart()
            before, found, rounds, due_ns = hosted.vm.engine.exits.copy(), 0, 0, host.now_ns + ROUND_NS
            started = time.process_time()
            while not _said(hosted).endswith(PROMPT):
                host.run_for(QUANTUM_NS)
                if host.now_ns >= due_ns:
                    rounds, due_ns = rounds + 1, due_ns + ROUND_NS
                    found += len(log.restart()) if log is not None else 0
            seconds = time.process_time() - started
            if log is not None:
                log.stop()
            exits = hosted.vm.engine.exits - before
            last = _said(hosted).removesuffix(PROMPT).rstrip().rpartition("\n")[2]
        finally:
            host.close()
    if not last.endswith("all ok"):
        raise VmmBug(f"The guest found its memory wrong while its writes were tracked: {last}")
    return Tracked(seconds, dict(exits), rounds, found, last)


class Sent(msgspec.Struct, frozen=True):
    """One move in virtual time. ``page_bytes``: of all pages that were sent, as they are in memory."""

    sent_bytes: int
    page_bytes: int
    rounds: int
    downtime_ns: int


def sent(kind: Kind, pages: int = PAGES, rounds_before: int = 20) -> Sent:
    """Bytes on a link of 100 Mbit/s for a guest that goes on writing while it is moved; the same in every run."""
    with tempfile.TemporaryDirectory(prefix="vilab-") as folder:
        clock, log = VirtualClock(), EventLog(keep=True)
        hosts: list[Host] = []
        try:
            for number in (1, 2):
                spec = HostSpec(f"esx{number}", number, GUEST_MB + HOST_MB, folder, b"-")
                hosts.append(make_host(spec, log if number == 1 else EventLog(), clock))
            here, there = hosts
            hosted = _boot(here, Path(folder), "svm")
            _type(here, hosted, WRITER.format(pages=pages, reports=0), "pages filled")
            here.run_for(rounds_before * QUANTUM_NS)
            migration = Migration(here, hosted, there, FAST_ETHERNET, MigrationOptions(kind=kind))
            migration.run()
            rounds = log.of(RoundSent)
            bytes_sent, downtime_ns = migration.progress.sent_bytes, migration.source.downtime_ns
        finally:
            for host in hosts:
                host.close()
    return Sent(bytes_sent, sum(each.sent_pages for each in rounds) << 12, len(rounds), downtime_ns)


def _boot(host: Host, folder: Path, engine: str) -> HostedVm:
    home = folder / NAME
    home.mkdir()
    (home / f"{NAME}.vmx").write_text(vmx(GUEST_MB, "kernel-writer", engine))
    hosted = power_on_file(host, f"[{DATASTORE}] {NAME}/{NAME}.vmx", console=QuietConsole())
    _until(host, hosted, 0, PROMPT, BOOT_NS)
    return hosted


def vmx(memory_mb: int, image: str, engine: str = "svm", append: str = "") -> str:
    """A machine's configuration file."""
    lines = {"displayName": NAME, "memsize": memory_mb, "vilab.image": image, "vilab.engine": engine}
    lines |= {"vilab.append": append} if append else {}
    return '.encoding = "UTF-8"\n' + "".join(f'{key} = "{value}"\n' for key, value in lines.items())


def _said(hosted: HostedVm) -> str:
    return hosted.console.said


def _type(host: Host, hosted: HostedVm, line: str, answer: str) -> None:
    after = len(_said(hosted))
    hosted.console.type(line)
    _until(host, hosted, after, answer, WORK_NS)


def _until(host: Host, hosted: HostedVm, after: int, what: str, most_ns: int) -> None:
    end_ns = host.now_ns + most_ns
    while what not in _said(hosted)[after:]:
        if host.now_ns > end_ns:
            raise VmmBug(f"The guest did not say {what!r}; it said {_said(hosted)[after:]!r}. {hosted.stopped}")
        host.run_for(QUANTUM_NS)
