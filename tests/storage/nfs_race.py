"""Several hosts after one lock, a step of one of them at a time, in an order that a test chooses.

::

    host 0   try_take ─ CREATE ─ WRITE ─ LINK ─ ...          every call to the server is a step
    host 1        try_take ─ LOOKUP ─ READ ─ ...
    order    0, 0, 1, time, poll 1, 0, 1, 1, kill 0, time, ...

Each host runs in a thread of its own that only moves when it is its turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.storage.nfs_twin import S
from vilab.clock import VirtualClock
from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.link import Dial, Link
from vilab.storage.nfs.lock import NfsLock, Owner
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.nfs.mount import Address, mount


class Killed(BaseException):
    """The host is switched off."""


class SteppedLink:
    """Nothing reaches the server before it is the host's turn."""

    def __init__(self, link: Link, wait: Callable[[int], None]) -> None:
        self.link, self.wait = link, wait
        self.close = link.close
        self.next_procedure = 0

    def send(self, data: bytes) -> None:
        self.next_procedure = int.from_bytes(data[24:28], "big")
        self.link.send(data)

    def receive(self, timeout_s: float) -> bytes:
        self.wait(self.next_procedure)
        return self.link.receive(timeout_s)


class Racer:
    """One host. ``plan``: what it does when it owns the lock, a word at a time: ``renew``, ``release``."""

    def __init__(self, server: MemoryServer, number: int, plan: list[str]) -> None:
        self.number, self.plan = number, plan
        self.clock = VirtualClock()
        self.clock.now_ns = number * 7 * S  # clocks of different hosts have nothing in common
        self.turn, self.moved = threading.Semaphore(0), threading.Semaphore(0)
        self.started = self.killed = self.done = self.releasing = False
        self.acts = self.next_procedure = 0
        self.failure: BaseException | None = None
        client = mount(Address("twin", "/export"), lambda port: self.stepped(server.dial(port)))
        self.lock = NfsLock(client, "vm.vmdk", Owner(f"esx{number}", bytes([number]) * 16), self.clock)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.started = True
        self.thread.start()

    def stepped(self, dial: Dial) -> Dial:
        return lambda timeout_s: SteppedLink(dial(timeout_s), self.wait)

    def wait(self, procedure: int) -> None:
        self.next_procedure = procedure
        if self.started:
            if self.killed:
                raise Killed
            self.moved.release()
            self.turn.acquire()
            if self.killed:
                raise Killed

    def step(self) -> None:
        """Go on to just before the next call."""
        if not self.done:
            self.turn.release()
            self.moved.acquire()

    def poll(self) -> None:
        """Go on until what it is doing is done."""
        before = self.acts
        while self.acts == before and not self.done:
            self.step()

    def step_before(self, procedure: int) -> None:
        """Go on until that is what comes next."""
        self.step()
        while self.next_procedure != procedure and not self.done:
            self.step()

    def kill(self) -> None:
        self.killed = True
        self.step()

    def run(self) -> None:
        try:
            self.turn.acquire()
            while not self.killed:
                self.wait(0)
                self.act()
                self.acts += 1
        except Killed:
            pass
        except BaseException as error:
            self.failure = error
        self.done = True
        self.moved.release()

    def act(self) -> None:
        try:
            if self.lock.state in ("free", "lost"):
                if self.lock.state == "lost":
                    self.lock.release()
                self.lock.try_take()
            elif self.plan and self.plan.pop(0) == "release":
                self.releasing = True
                self.lock.release()
                self.releasing = False
            else:
                self.lock.renew()
        except NfsError as error:
            if error.kind not in ("stale", "missing"):
                raise

    @property
    def writes(self) -> bool:
        """Could it write to the disk at this moment?"""
        return not self.killed and self.lock.trusted


def race(order: list[int | str], plans: list[list[str]]) -> tuple[MemoryServer, int]:
    """Run it; at no moment may two hosts write. A host that was killed starts anew.

    Returns the server as it is left, and how often the lock was taken over.
    """
    server = MemoryServer()
    mount(Address("twin", "/export"), server.dial).create("vm.vmdk")
    hosts = [Racer(server, number, list(plan)) for number, plan in enumerate(plans, 1)]
    everybody = list(hosts)
    generations: set[int] = set()
    try:
        for what in order:
            if isinstance(what, int):
                hosts[what % len(hosts)].step()
            elif what == "time":
                # The one thing that must not take long: see MODEL in nfs_lock.
                if not any(host.releasing for host in hosts):
                    for host in hosts:
                        host.clock.advance(5 * S)
            elif what.startswith("poll"):
                hosts[int(what[4:]) % len(hosts)].poll()
            else:
                number = int(what[4:]) % len(hosts)
                hosts[number].kill()
                hosts[number] = Racer(server, len(everybody) + 1, list(plans[number]))
                everybody.append(hosts[number])
            writers = [host.number for host in hosts if host.writes]
            assert len(writers) <= 1, f"hosts {writers} both own the disk"
            generations |= {host.lock.record.generation for host in hosts if host.writes and host.lock.record}
            failed = [host.failure for host in everybody if host.failure is not None]
            assert not failed, failed
    finally:
        for host in everybody:
            host.kill()
            host.thread.join(10)
    return server, len(generations - {0})
