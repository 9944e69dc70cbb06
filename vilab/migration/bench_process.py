"""A host as a process of a benchmark: ``python -m vilab.migration.bench_process``, with a ``HostSpec`` on its input.

::

    benchmark ──spec──> standard input            standard output ──> the address of its agent, then every event of a
              ──agent protocol──> its agent                           migration, a line of JSON each

Beside what ``vilab host`` does it has a port for VMotion, and says what happens.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from vilab.clock import VirtualClock
from vilab.events import Event, EventLog, encode
from vilab.host.host import Host
from vilab.host.host_network import FIRST_SWITCH
from vilab.host.storage import StorageOptions
from vilab.migration import migration_events as events
from vilab.migration.host_agent import HostAgent

PORT, GROUP = "vmk0", "VMotion"
VMWARE = b"\x00\x50\x56\x60\x00"
TOLD = (events.RoundSent, events.MachineStunned, events.StateSent, events.MigrationEnded)
Told = events.RoundSent | events.MachineStunned | events.StateSent | events.MigrationEnded
DATASTORE = "ds1"


class HostSpec(msgspec.Struct, frozen=True):
    """``number``: 1 to 250, of its VMkernel port's addresses. ``folder``: the datastore ``ds1``."""

    name: str
    number: int
    memory_mb: int
    folder: str
    secret: bytes


def make_host(spec: HostSpec, log: EventLog, clock: VirtualClock | None = None) -> Host:
    """A host with one datastore, which can take part in VMotion. ``clock``: it shares one, and keeps its time; without
    one its storage keeps the wall's."""
    storage = StorageOptions(keeps="wall") if clock is None else None
    host = Host(spec.memory_mb, spec.name, storage=storage, log=log, clock=clock)
    host.storage.add_local(DATASTORE, Path(spec.folder))
    network = host.network
    network.switches.switch(FIRST_SWITCH).add_port_group(GROUP)
    network.add_vmkernel_port(PORT, GROUP, VMWARE + bytes((spec.number,)), bytes((10, 1, 0, spec.number)))
    network.enable_vmotion(PORT)
    return host


def main() -> None:
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=HostSpec)
    log = EventLog()
    agent = HostAgent(make_host(spec, log), spec.secret)

    def tell(event: Event) -> None:
        if isinstance(event, TOLD):
            say(encode(event))

    log.listen(tell)
    say(agent.address.encode())
    agent.run()


def say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
