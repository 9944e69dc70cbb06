"""Two hosts as processes, a guest that has filled its memory, and one move of it.

::

    benchmark ──agent protocol──> host process esx1 ══ loopback TCP, pages ══> host process esx2
        ^                              │ events                                     │
        └───────── standard output ────┴────────────────────────────────────────────┘

The guest is the teaching kernel with one of its programs that fill pages, no two alike, and write to some of them.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import msgspec

from vilab.errors import AdminError, VmmBug
from vilab.migration import migration_events as events
from vilab.migration.agent_client import AgentClient
from vilab.migration.bench_migration import NAME, vmx
from vilab.migration.bench_process import DATASTORE, HostSpec, Told
from vilab.migration.page_stream import Kind

PROMPT = b"shell> "
KERNEL_MB = 12
"""So much of a guest is not the program's: kernel, tables, and some that is free."""
HOST_MB = 64
"""A host has so much beside the guest's memory: the monitor's, and what is always free."""
FILL_LIMIT_S, POLL_S = 240.0, 0.1
READ = msgspec.json.Decoder(Told)


class Moved(msgspec.Struct, frozen=True):
    """What one move was: its rounds, and how it has ended. The downtime is the source's: until it has heard that the
    machine runs. ``processor_s``: of the source's process, and of the destination's."""

    rounds: tuple[events.RoundSent, ...]
    ended: events.MigrationEnded
    processor_s: tuple[float, float]

    @property
    def downtime_ms(self) -> float:
        return self.ended.downtime_ns / 1e6

    @property
    def total_ms(self) -> float:
        return self.ended.duration_ns / 1e6

    @property
    def processor_rate(self) -> float:
        """Bytes a second of processor time of the busier process, for all of the move."""
        return self.ended.sent_bytes / max(self.processor_s)

    @property
    def first_round_rate(self) -> float:
        """Bytes a second, from the first page until the other host has said that it has all of them."""
        first = self.rounds[0]
        return first.sent_bytes * 1e9 / first.duration_ns


class HostProcess:
    """One host. ``lines``: what it has said so far."""

    def __init__(self, spec: HostSpec) -> None:
        self.name, self.events = spec.name, list[Told]()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vilab.migration.bench_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(spec) + b"\n")
        self._process.stdin.close()
        self._output = self._process.stdout
        self.address = self._output.readline().decode().strip()
        if not self.address:
            raise VmmBug(
                f"The process of host {self.name} ended with status {self._process.wait()} before it listened."
            )
        try:
            self.agent = AgentClient(self.address, spec.secret)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        threading.Thread(target=self._listen, daemon=True).start()

    def processor_s(self) -> float:
        """Time on the processor since it began."""
        threads = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def _listen(self) -> None:
        for line in self._output:
            self.events.append(READ.decode(line))

    def close(self) -> None:
        with contextlib.suppress(AdminError):
            self.agent.quit()
        self.agent.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


class HostPair:
    """``esx1`` and ``esx2`` with one datastore, and at most one guest, which is moved back and forth.

    Parameters
    ----------
    guest_mb : of its memory. ``image``, ``append``: what it runs, and its command line.
    folder : an empty one, of the datastore.
    """

    def __init__(self, guest_mb: int, folder: Path, image: str = "kernel-writer", append: str = "") -> None:
        self.guest_mb = guest_mb
        home = folder / NAME
        home.mkdir()
        (home / f"{NAME}.vmx").write_text(vmx(guest_mb, image, append=append))
        secret = secrets.token_bytes(32)
        self.hosts: list[HostProcess] = []
        try:
            for number in (1, 2):
                spec = HostSpec(f"esx{number}", number, guest_mb + HOST_MB, str(folder), secret)
                self.hosts.append(HostProcess(spec))
        except BaseException:
            self.close()
            raise
        self.at = 0

    def __enter__(self) -> HostPair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for host in self.hosts:
            host.close()

    @property
    def most_pages(self) -> int:
        """That the guest's program can fill."""
        return (self.guest_mb - KERNEL_MB) << 8

    def power_on(self, program: str, ready: bytes = b"pages filled", prompt: bytes = PROMPT) -> None:
        """The guest, and a program that has said ``ready`` when this returns."""
        agent = self.hosts[self.at].agent
        agent.power_on(f"[{DATASTORE}] {NAME}/{NAME}.vmx")
        self._until(prompt)
        agent.type(NAME, program.encode() + b"\n")
        self._until(ready)

    def _until(self, what: bytes, limit_s: float = FILL_LIMIT_S) -> None:
        agent, until = self.hosts[self.at].agent, time.monotonic() + limit_s
        while what not in (said := agent.read(NAME)[0]):
            if time.monotonic() > until:
                raise AdminError(f"The guest did not come to {what.decode()!r} in {limit_s:g} s; it said {said!r}.")
            time.sleep(POLL_S)

    def power_off(self) -> None:
        self.hosts[self.at].agent.power_off(NAME)

    def move(self, kind: Kind = "zero", rule: str = "nelson") -> Moved:
        """To the other host. Raises ``AdminError``: it did not arrive."""
        source, destination = self.hosts[self.at], self.hosts[1 - self.at]
        begun, before = len(source.events), (source.processor_s(), destination.processor_s())
        source.agent.move(NAME, destination.address, rule, kind=kind)
        self.at = 1 - self.at
        until = time.monotonic() + 5
        while not any(isinstance(each, events.MigrationEnded) for each in source.events[begun:]):
            if time.monotonic() > until:
                raise VmmBug(f"Host {source.name} did not say how the migration has ended.")
            time.sleep(0.005)
        found = source.events[begun:]
        (ended,) = (each for each in found if isinstance(each, events.MigrationEnded))
        spent = source.processor_s() - before[0], destination.processor_s() - before[1]
        return Moved(tuple(each for each in found if isinstance(each, events.RoundSent)), ended, spent)
