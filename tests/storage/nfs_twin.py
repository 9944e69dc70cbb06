"""A file server in the same process, and hosts that mount it: always there, and as bad as a test wants it."""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.storage.nfs.client import NfsClient
from vilab.storage.nfs.datastore import NfsDatastore
from vilab.storage.nfs.health import HeartbeatSettings
from vilab.storage.nfs.lock import Owner
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.nfs.mount import Address, mount

S = 1_000_000_000


def client_of(server: MemoryServer) -> NfsClient:
    return mount(Address("twin", "/export"), server.dial)


class Host:
    """An ESX host with the server's export for a datastore, and a clock of its own."""

    def __init__(self, name: str, client: NfsClient, settings: HeartbeatSettings | None = None) -> None:
        self.owner = Owner(name, name.encode().ljust(16, b"\0"))
        self.clock = VirtualClock()
        self.log = EventLog(keep=True)
        self.store = NfsDatastore("nfs1", client, self.clock, self.log, settings)

    def pass_time(self, seconds: float) -> None:
        """Everything that is due in the meantime happens when it is due."""
        end_ns = self.clock.now_ns + int(seconds * S)
        while self.clock.next_ns() <= end_ns:
            self.clock.skip_to_next()
            self.clock.run_due()
        self.clock.now_ns = end_ns


def host_on(server: MemoryServer, name: str = "esx1") -> Host:
    return Host(name, client_of(server))
