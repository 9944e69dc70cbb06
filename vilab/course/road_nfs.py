"""The same on a file server: no reservation, no heartbeat region; a lock file that is written again and again.

::

    VmLocks of esx1 ── NFS calls ──┐
                                   ├── MemoryServer /export: db-flat.vmdk, .lck-3409000000000000
    VmLocks of esx2 ── NFS calls ──┘

Each host has a clock of its own: a host that is switched off is one whose clock stands still.
"""

from __future__ import annotations

import msgspec

from vilab.clock import VirtualClock
from vilab.course.feedback import columns
from vilab.course.lock_runs import NAMES
from vilab.events import Event, EventLog
from vilab.storage.nfs import events
from vilab.storage.nfs.datastore import NfsDatastore
from vilab.storage.nfs.layout import NFS
from vilab.storage.nfs.link import Dial, Link
from vilab.storage.nfs.lock import Owner
from vilab.storage.nfs.locks import LockedError, VmLocks
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.nfs.mount import Address, mount
from vilab.view.lock_frame import SECOND_NS

DISK = "db-flat.vmdk"


class CountingLink:
    """A stream whose bytes are counted."""

    def __init__(self, link: Link, host: NfsHost) -> None:
        self.link, self.host = link, host

    def send(self, data: bytes) -> None:
        self.host.sent_bytes += len(data)
        self.link.send(data)

    def receive(self, timeout_s: float) -> bytes:
        data = self.link.receive(timeout_s)
        self.host.received_bytes += len(data)
        return data

    def close(self) -> None:
        self.link.close()


class NfsHost:
    """A host with the datastore mounted."""

    def __init__(self, server: MemoryServer, name: str) -> None:
        self.name, self.clock, self.log = name, VirtualClock(), EventLog(keep=True)
        self.sent_bytes = self.received_bytes = 0
        client = mount(Address("filer", server.export, NFS, NFS), lambda port: self._counted(server.dial(port)))
        self.datastore = NfsDatastore("nfs1", client, self.clock, self.log)
        self.locks = VmLocks(self.datastore, Owner(name, name.encode().ljust(16, b".")))

    def _counted(self, dial: Dial) -> Dial:
        return lambda timeout_s: CountingLink(dial(timeout_s), self)

    def on_until(self, at_ns: int) -> None:
        """Go on until then, with whatever is due meanwhile."""
        while self.clock.next_ns() <= at_ns:
            self.clock.skip_to_next()
            self.clock.run_due()
        self.clock.advance(max(0, at_ns - self.clock.now_ns))


class NfsStory(msgspec.Struct):
    """``lines``: (second, host, words). ``names``: what the folder holds while the machine is on."""

    lines: list[tuple[float, str, str]] = []
    names: tuple[str, ...] = ()
    calls: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    takeover_s: float = 0.0

    def describe(self) -> str:
        rows = [(f"{second:5.1f} s", host, words) for second, host, words in self.lines]
        table = "\n".join(columns(rows))
        return (
            f"on the export: {', '.join(self.names)}\n\n{table}\n\n{self.calls} calls, {self.sent_bytes:,} bytes to "
            f"the server, {self.received_bytes:,} bytes back for one lock"
        )


def nfs_story(dies_s: float = 25.0, asks_s: float = 28.0, step_s: float = 10.0) -> NfsStory:
    """db is on at esx1, which loses its power; esx2 asks for it every ``step_s`` until it has it."""
    server = MemoryServer()
    server.volume.make(server.volume.ROOT, DISK, 1, 0o600)
    story = NfsStory()
    one, other = (NfsHost(server, name) for name in NAMES)
    before = server.calls, one.sent_bytes, one.received_bytes
    one.locks.take([DISK])
    story.calls, story.sent_bytes = server.calls - before[0], one.sent_bytes - before[1]
    story.received_bytes = one.received_bytes - before[2]
    story.names = tuple(sorted(one.datastore.names()))
    one.on_until(int(dies_s * SECOND_NS))
    _tell(story, one)
    story.lines.append((dies_s, one.name, "has no power any more"))
    at_s = asks_s
    while not other.locks.held:
        other.on_until(int(at_s * SECOND_NS))
        try:
            other.locks.take([DISK])
        except LockedError:
            at_s += step_s
    story.takeover_s = other.clock.now_ns / SECOND_NS - asks_s
    _tell(story, other)
    return story


def _tell(story: NfsStory, host: NfsHost) -> None:
    for event in host.log.events:
        words = _words(event)
        if words:
            story.lines.append((event.at_ns / SECOND_NS, host.name, words))


def _words(event: Event) -> str:
    if isinstance(event, events.NfsLockTaken):
        return f"has {event.lock}, generation {event.generation}"
    if isinstance(event, events.NfsLockRenewed):
        return f"writes its record again, heartbeat {event.heartbeat}"
    if isinstance(event, events.NfsLockRefused):
        return f"is refused: {event.holder} has it, {event.missed} of 3 renewals seen to be missed"
    if isinstance(event, events.NfsLockBroken):
        return f"breaks the lock of {event.holder}"
    return ""
