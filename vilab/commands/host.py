"""``vilab host`` and ``vilab agent``: an ESX host as a process, and what can be asked of it.

::

    vilab host --name esx1 --listen 127.0.0.1:9021 --secret dc.key --iscsi 127.0.0.1:3260 --memory 256
    vilab host --name esx2 --listen 127.0.0.1:9022 --secret dc.key --iscsi 127.0.0.1:3260 --memory 256
    vilab agent 127.0.0.1:9021 --secret dc.key power-on '[san1] web/web.vmx'
    vilab agent 127.0.0.1:9021 --secret dc.key move web 127.0.0.1:9022
    vilab agent 127.0.0.1:9022 --secret dc.key console web
    vilab agent 127.0.0.1:9022 --secret dc.key storage web san2 --method snapshot

``--datastore NAME=PLACE``: a folder of this computer, or ``nfs://server/export``; VMFS volumes behind ``--iscsi`` are
mounted under their labels. ``--uplink vmnic0=HOST:PORT``: a physical card of vSwitch0, whose cable is a TCP connection
to another process (``vilab.network.tunnel``); while that one is away the card has no link, and it is called again.

MODEL: machines move over the agents' own connection. The VMkernel port for VMotion, vmk0, stands for it: it has the
address at which the agent is called, or that of ``--vmotion``.

SIGTERM and SIGINT power every machine off and leave every datastore.
"""

from __future__ import annotations

import hashlib
import ipaddress
import signal
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.host_network import FIRST_SWITCH
from vilab.host.storage import StorageOptions
from vilab.migration.agent_client import AgentClient
from vilab.migration.agent_requests import Copying, Moving, Progress
from vilab.migration.agent_tls import tls_context
from vilab.migration.host_agent import HostAgent
from vilab.migration.host_calls import parse_address
from vilab.migration.storage_vmotion import MethodName
from vilab.network.tunnel_rejoin import RejoiningTunnel
from vilab.network.wire import Wire

SHORTEST_SECRET_BYTES = 16
LOCALLY_ADMINISTERED = b"\x02\x56"
VMKERNEL_GROUP, VMKERNEL_PORT = "VMkernel", "vmk0"
USUAL_PREFIX = 24


def read_secret(path: Path) -> bytes:
    """The datacenter's. Raises ``AdminError``: it cannot be read, or could be guessed."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise AdminError(f"The secret of the datacenter cannot be read from {path}: {error.strerror}.") from None
    if len(secret) < SHORTEST_SECRET_BYTES:
        raise AdminError(
            f"{path} has {len(secret)} bytes, which could be guessed: a secret has {SHORTEST_SECRET_BYTES} at least; "
            f"make one with: head -c 32 /dev/urandom | base64 > {path}"
        )
    return secret


def tls_pair(files: Sequence[Path] | None) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """For who calls, and for calling."""
    if files is None:
        return None, None
    certificate, key, trusted = files
    called = tls_context(certificate, key, trusted, listens=True)
    return called, tls_context(certificate, key, trusted, listens=False)


def serve(
    name: str, listen: str, secret: Path, memory_mb: int, datacenter: str, datastores: Sequence[str],
    portals: Sequence[str], uplinks: Sequence[str], power_on: Sequence[str], tls: Sequence[Path] | None,
    vmotion: str = "",
) -> int:  # fmt: skip
    """Until it is told to end."""
    called, calling = tls_pair(tls)
    key = read_secret(secret)
    host = Host(memory_mb, name, storage=StorageOptions(keeps="wall"))
    try:
        agent = HostAgent(
            host, key, *parse_address(listen), datacenter=datacenter, tls_called=called, tls_calling=calling
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        for text in datastores:
            add_datastore(host, text)
        for portal in portals:
            host.storage.add_portal(portal)
        if portals:
            for problem in host.storage.rescan().problems:
                print(f"vilab: {problem}", file=sys.stderr)
        for text in uplinks:
            add_uplink(agent, text)
        add_vmotion_port(host, vmotion or agent.listener.address)
        for home in power_on:
            agent.power_on(home)
    except BaseException:
        host.close()
        raise
    print(f"{name} listens at {agent.address}.", flush=True)
    agent.run()
    return 0


def add_datastore(host: Host, text: str) -> None:
    """``NAME=FOLDER`` or ``NAME=nfs://...``. Raises ``AdminError``."""
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise AdminError(f"{text!r} is no datastore; one looks like san1=/srv/san1 or nfs1=nfs://server/export.")
    if place.startswith("nfs://"):
        host.storage.add_nfs(name, place)
    else:
        host.storage.add_local(name, Path(place))


def add_uplink(agent: HostAgent, text: str) -> None:
    """``vmnic0=HOST:PORT``. Raises ``AdminError``."""
    name, equals, place = text.partition("=")
    if not (name and equals):
        raise AdminError(f"{text!r} is no uplink; one looks like vmnic0=127.0.0.1:7000.")
    host = agent.host
    wire = Wire(host.clock)
    wire.b.link_changed(False)
    link = RejoiningTunnel(wire.b, *parse_address(place), wire.b.link_changed)
    host.network.add_nic(name, wire.a, own_address(host, len(host.network.nics)), FIRST_SWITCH)
    agent.wires.append(link)


def add_vmotion_port(host: Host, text: str) -> None:
    """``ADDRESS/PREFIX``, or an address. Raises ``AdminError``."""
    address, slash, prefix = text.partition("/")
    try:
        place = ipaddress.IPv4Interface(f"{address}/{prefix if slash else USUAL_PREFIX}")
    except ValueError:
        raise AdminError(
            f"{text!r} is no address for VMotion; say one with --vmotion: it looks like 10.0.0.1/24."
        ) from None
    host.network.switches.switch(FIRST_SWITCH).add_port_group(VMKERNEL_GROUP)
    host.network.add_vmkernel_port(
        VMKERNEL_PORT, VMKERNEL_GROUP, own_address(host, 0x80), place.packed, place.network.prefixlen
    )
    host.network.enable_vmotion(VMKERNEL_PORT)


def own_address(host: Host, number: int) -> bytes:
    """Six bytes, which follow from the host's name."""
    return LOCALLY_ADMINISTERED + hashlib.sha256(host.name.encode()).digest()[:3] + bytes((number,))


def ask(address: str, secret: Path, datacenter: str, tls: Sequence[Path] | None, what: str, words: list[str],
        rule: str, method: MethodName = "changed blocks") -> int:  # fmt: skip
    """One request, and its answer on standard output."""
    client = AgentClient(address, read_secret(secret), datacenter=datacenter, tls=tls_pair(tls)[1])
    try:
        if what == "list":
            for machine in client.machines():
                print(f"{machine.name}\t{machine.memory_mb} MB\t{machine.engine}\t{machine.stopped or machine.home}")
        elif what == "power-on":
            print(client.power_on(words[0]))
        elif what == "power-off":
            print(client.power_off(words[0]))
        elif what == "move":
            print(client.move(words[0], words[1], rule, show_progress))
        elif what == "storage":
            print(client.move_storage(words[0], words[1], method, show_progress))
        elif what == "type":
            client.type(words[0], " ".join(words[1:]).encode() + b"\n")
        elif what == "quit":
            print(client.quit())
        else:
            follow(client, words[0])
    finally:
        client.close()
    return 0


def show_progress(progress: Progress) -> None:
    """A line on standard error."""
    match progress:
        case Moving():
            line = (
                f"round {progress.round}: {progress.percent:3.0f} %, {progress.sent_bytes / 1e6:.1f} MB, "
                f"{progress.bytes_per_s / 1e6:.1f} MB/s ({progress.phase})"
            )
        case Copying():
            line = f"{progress.phase}: {progress.percent:3.0f} %, {progress.copied_bytes / 1e6:.1f} MB"
        case _:
            line = progress.phase
    print(line, file=sys.stderr, flush=True)


def follow(client: AgentClient, name: str) -> None:
    """What a machine says, until it is not there any more, or Ctrl-C."""
    after = 0
    while True:
        said, after = client.read(name, after)
        if said:
            sys.stdout.write(said.decode(errors="replace"))
            sys.stdout.flush()
        else:
            time.sleep(0.1)
