"""``vilab host``: an ESX host as a process.

::

    vilab host --name esx1 --listen 127.0.0.1:9021 --secret dc.key --iscsi 127.0.0.1:3260 --memory 256
    vilab host --name esx2 --listen 127.0.0.1:9022 --secret dc.key --iscsi 127.0.0.1:3260 --memory 256
    vilab agent 127.0.0.1:9021 --secret dc.key power-on '[san1] web/web.vmx'
    vilab agent 127.0.0.1:9021 --secret dc.key move web 127.0.0.1:9022
    vilab agent 127.0.0.1:9022 --secret dc.key console web
    vilab agent 127.0.0.1:9022 --secret dc.key storage web san2 --method snapshot
    vilab agent 127.0.0.1:9022 --secret dc.key suspend web
    vilab agent 127.0.0.1:9022 --secret dc.key relocate '[san2] web/web.vmx' san1
    vilab agent 127.0.0.1:9022 --secret dc.key send '[san1] web/web.vmx' 127.0.0.1:9023 local

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
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from vilab.commands.datacenter import read_secret, tls_pair
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.host_network import FIRST_SWITCH
from vilab.host.storage import StorageOptions
from vilab.migration.host_agent import HostAgent
from vilab.migration.host_calls import parse_address
from vilab.network.tunnel_rejoin import RejoiningTunnel
from vilab.network.wire import Wire

LOCALLY_ADMINISTERED = b"\x02\x56"
VMKERNEL_GROUP, VMKERNEL_PORT = "VMkernel", "vmk0"
USUAL_PREFIX = 24


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
        agent.on_defect = say_defect
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


def say_defect(error: Exception) -> None:
    """The machines run on; whoever looks after the host finds here what to report."""
    print(
        "".join(["vilab: a defect of vilab itself:\n", *traceback.format_exception(error)]), file=sys.stderr, flush=True
    )


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
