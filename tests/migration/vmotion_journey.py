"""A machine that moves between two hosts again and again, whatever happens on the way; and what has to be true then.

::

    put_note ── a migration, a fault in it ── judge ── put_note ── ...

``judge``: exactly one host runs the machine, and everything that the guest has written is there, on the disk and for
the guest; or it is off, there is a reason in a sentence, its disk is clean, and it can be powered on. Its locks are
one host's: the lock's file names it, and every other host is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.host.storage_helpers import files_on, to_prompt, type_line
from tests.migration.two_hosts import TwoHosts
from vilab.errors import AdminError
from vilab.host.host import Host, run_together
from vilab.host.registered import power_on_file
from vilab.host.storage import StorageOptions
from vilab.host.storage_time import pass_time
from vilab.migration.agent_link import LinkEnd
from vilab.migration.handover import holder_of
from vilab.migration.vmotion import Migration
from vilab.protocols import ReadableBytes
from vilab.storage.luns.fc_hba import HostBusAdapter
from vilab.storage.vmfs.time import Timing
from vilab.vmm.vm import QuietConsole

SECOND = 1_000_000_000
WEB, NODE = "[san1] web/web.vmx", "scsi0:0"
NOTES = 8


class At:
    """At the byte with this number, in this direction, something happens."""

    def __init__(self, end: LinkEnd, byte: int, action: Callable[[bytes, int], bytes]) -> None:
        self.left, self.action, self.done = byte, action, False
        end.faults = self

    def __call__(self, chunk: ReadableBytes) -> bytes:
        data = bytes(chunk)
        at, self.left = self.left, self.left - len(data)
        if self.done or at >= len(data):
            return data
        self.done = True
        return self.action(data, at)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


def adapters_of(hosts: Sequence[Host]) -> list[HostBusAdapter]:
    return [each for host in hosts for each in host.storage.adapters.adapters if isinstance(each, HostBusAdapter)]


class Journey:
    """A machine, two hosts, and what its guest has written down so far.

    ``timing``: of the volume. A dead host's locks are free after ``dead_ns``.
    """

    def __init__(self, folder: Path, timing: Timing | None = None, memory_mb: int = 160) -> None:
        self.timing = timing or Timing()
        self.lab = TwoHosts(folder, memory_mb, storage=StorageOptions(timing=self.timing))
        self.here, self.there = self.lab.esx1, self.lab.esx2
        self.vm = self.lab.power_on()
        to_prompt(self.here, self.vm)
        type_line(self.here, self.vm, "mkfs")
        self.number = 0
        self.notes: dict[str, bytes] = {}
        self.ends: Counter[str] = Counter()

    def close(self) -> None:
        self.lab.close()

    @property
    def living_ns(self) -> int:
        """After so long nobody waits for a dead host's locks any more."""
        return 3 * self.timing.dead_ns

    def put_note(self) -> None:
        """The guest writes, and says that it is on the disk."""
        self.number += 1
        name = f"note{self.number % NOTES}"
        assert "it is on the disk" in type_line(self.here, self.vm, f"put {name} {self.number}")
        self.notes[name] = str(self.number).encode()

    def take_paths(self, hosts: Sequence[Host], for_ns: int) -> None:
        """To the datastore: they are gone, and there again after so long."""
        adapters = adapters_of(hosts)

        def link(up: bool) -> None:
            for adapter in adapters:
                adapter.fabric.link(adapter.wwpn, up)

        link(False)
        self.lab.clock.at(self.lab.clock.now_ns + for_ns, lambda: link(True))

    # --- what has to be true ------------------------------------------------------------------------------------------

    def judge(
        self, migration: Migration, dead: Host | None = None, settle_ns: int = 10_000_000, named: bool = True
    ) -> str:
        """``moved``, ``resumed``, ``elsewhere`` or ``off``; the machine runs on ``here`` afterwards, in any case.

        ``settle_ns``: what is done after that is done. ``named``: the lock's file has to say whose
        it is.
        """
        hosts = [host for host in self.lab.hosts if host is not dead]
        run_together(hosts, settle_ns)
        assert all(not host.arrivals and not host.departures for host in hosts)
        runners = [(host, host.vms["web"]) for host in hosts if "web" in host.vms]
        assert len(runners) <= 1, f"{len(runners)} hosts run it"
        if migration.source.phase in ("failed", "lost") and dead is not self.here:
            assert migration.source.why.rstrip(")").endswith("."), migration.source.why
        if runners:
            host, self.vm = runners[0]
            assert self.vm.runs, self.vm.stopped
            end = {self.there: "moved", self.here: "resumed"}.get(host, "elsewhere")
            before = self.here
            self.here = host
            if host is self.there:
                self.there = before
        else:
            end = "off"
            self.judge_reason(migration, dead)
        self.ends[end] += 1
        if dead is not None:
            self.replace(dead)
        if not runners:
            self.power_on()
        self.judge_disk()
        self.judge_locks(named)
        for host in self.lab.hosts:
            host.memory.check()
        return end

    def judge_reason(self, migration: Migration, dead: Host | None) -> None:
        """Somebody who lives says why the machine does not run; else its own host has died."""
        said = [] if dead is self.here else [migration.source.why, migration.source.hosted.stopped]
        if dead is not self.there:
            arrived = migration.destination.hosted
            said += [migration.destination.why, "" if arrived is None else arrived.stopped]
        sentences = [each for each in said if each]
        assert sentences or dead is not None, "off, and nobody says why"
        assert all(each.rstrip(")").endswith(".") for each in sentences), sentences

    def judge_disk(self) -> None:
        """What the guest was told is on the disk is there, for whoever reads it and for the guest."""
        assert self.vm.disks is not None
        found = files_on(self.vm.disks.devices()[NODE])
        assert {name: text.strip() for name, text in found.items()} == self.notes
        name = f"note{self.number % NOTES}"
        assert type_line(self.here, self.vm, f"cat {name}").encode().strip() == self.notes[name]

    def judge_locks(self, named: bool = True) -> None:
        """They are the host's on which it runs, and everybody else is told so. A host to which the datastore is lost
        mounts it anew first."""
        assert self.vm.disks is not None
        self.mount_anew()
        assert holder_of(self.vm.disks.home) in (self.here.name, *([] if named else [""]))
        for host in self.lab.hosts:
            if host is not self.here:
                with pytest.raises(AdminError, match=f"on host {self.here.name}|in use|locked"):
                    power_on_file(host, WEB)

    def mount_anew(self) -> None:
        for host in self.lab.hosts:
            mounted = host.storage.mounted("san1")
            if mounted is not None and mounted.state == "fenced":
                host.storage.rescan()

    def power_on(self) -> None:
        """It is off: anybody may, once a dead host's locks are free."""
        pass_time(self.lab.clock, self.living_ns)
        self.mount_anew()
        self.vm = power_on_file(self.here, WEB, console=QuietConsole())
        self.judge_clean()
        to_prompt(self.here, self.vm)

    def judge_clean(self) -> None:
        """Before the guest has looked at it: what it has flushed, and a file system that can be read."""
        assert self.vm.disks is not None
        found = files_on(self.vm.disks.devices()[NODE])
        assert {name: text.strip() for name, text in found.items()} == self.notes

    def replace(self, dead: Host) -> None:
        """Another host comes in the place of one that has died."""
        new = self.lab.add()
        self.lab.hosts.remove(dead)
        if dead is self.here:
            self.here = new
        else:
            self.there = new
